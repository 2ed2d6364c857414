//! A mask over bytes that arrive in pieces.

use super::{Mask, SENSITIVE, Squeezed, is_base64};
use std::ops::Range;

/// What of a stream is held back until it is certain whether a secret begins in it: less than the longest form of a secret (and
/// the line ends and asides in it), nothing where none can have begun, but for the last letter of an unfinished line.
#[derive(Default)]
pub struct Stream {
    held: Vec<u8>,
    /// So many of them were not looked at.
    fresh: usize,
    /// Parts of what is held that are no part of what was said.
    asides: Vec<Range<usize>>,
    /// So many of the held bytes belong to a secret in whose place a mark was given already.
    covered: usize,
    /// What was given last is a mark: a secret that follows at once needs no other.
    marked: bool,
    /// The secret that was found last is in base64: one letter after `covered` belongs to it.
    open: bool,
}

impl Stream {
    /// Takes the next bytes; [`Stream::give`] looks at them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        self.fresh += bytes.len();
    }

    /// As [`Stream::push`] of something said by somebody else, such as the name of the speaker before each line: a secret goes
    /// on behind it.
    pub fn push_aside(&mut self, bytes: &[u8]) {
        let start = self.held.len();
        self.push(bytes);
        self.asides.push(start..self.held.len());
    }

    /// How many bytes came since the last look at them.
    pub fn fresh(&self) -> usize {
        self.fresh
    }

    /// How many bytes are held back.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Puts what can be given of all that came into `out`. The mask may be another than before: what is still held is looked at
    /// with this one.
    pub fn give(&mut self, mask: &Mask, out: &mut Vec<u8>) {
        self.look(mask, false, out);
    }

    /// The rest: nothing follows.
    pub fn finish(&mut self, mask: &Mask, out: &mut Vec<u8>) {
        self.look(mask, true, out);
        *self = Self::default();
    }

    fn look(&mut self, mask: &Mask, end: bool, out: &mut Vec<u8>) {
        self.fresh = 0;
        if mask.is_empty() && self.covered == 0 {
            out.append(&mut self.held);
            self.asides.clear();
            (self.marked, self.open) = (false, false);
            return;
        }
        if self.open && self.held.len() > self.covered {
            self.covered += usize::from(is_base64(self.held[self.covered]));
            self.open = false;
        }
        let squeezed = Squeezed::of(&self.held, &self.asides);
        let keep = if end { self.held.len() } else { self.decided(mask, &squeezed) };
        let (ranges, open) = mask.ranges(&self.held, &squeezed);
        let (mut at, mut covered, mut marked) = (self.covered.min(keep), self.covered, self.marked);
        for range in ranges.into_iter().take_while(|range| range.start < keep) {
            if !(marked && range.start <= at) {
                out.extend_from_slice(&self.held[at.min(range.start)..range.start]);
                out.extend_from_slice(SENSITIVE.as_bytes());
            }
            covered = covered.max(range.end);
            (at, marked) = (covered.min(keep), true);
        }
        if keep > at {
            out.extend_from_slice(&self.held[at..keep]);
            marked = false;
        }
        (self.marked, self.covered) = (marked, covered.saturating_sub(keep));
        // The last of the ranges is the one that ends with the bytes.
        self.open |= open && covered == self.held.len();
        self.held.drain(..keep);
        self.asides.retain_mut(|aside| {
            *aside = aside.start.saturating_sub(keep)..aside.end.saturating_sub(keep);
            aside.end > 0
        });
    }

    /// How many bytes are before the first place at which a secret can begin that has not ended.
    fn decided(&self, mask: &Mask, squeezed: &Squeezed<'_>) -> usize {
        let searched = &*squeezed.bytes;
        let from = searched.len().saturating_sub(mask.longest.saturating_sub(1));
        let begins = |start: &usize| mask.first[usize::from(searched[*start])] && mask.may_begin(&searched[*start..]);
        let start = (from..searched.len()).find(begins).map_or(self.held.len(), |start| squeezed.at(start));
        // The letter before base64 can hold bits of it.
        start - usize::from(start > 0 && is_base64(self.held[start - 1]))
    }
}
