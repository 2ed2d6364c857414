//! Where secrets stand in texts and streams of bytes, also in the encodings in which they travel, and both without them.

mod forms;
mod stream;
#[cfg(test)]
mod tests;

pub use stream::Stream;

use crate::binding::keyed_digest;
use aho_corasick::AhoCorasick;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// What stands in the place of a secret where no two have to be told apart.
pub const SENSITIVE: &str = "(sensitive)";
/// Shorter secrets, bytes, are not looked for: they would be found everywhere.
pub const SHORTEST: usize = 4;
/// Before the keyed digest of a secret inside a value that is stored.
const MARK: &str = "(sensitive ";
/// Hexadecimal digits of the digest in a mark.
const MARK_DIGITS: usize = 16;
/// Bytes of a form that are searched for; the rest is compared where they are found, so that long secrets cost no memory.
const SEARCHED: usize = 24;

/// Finds secrets in texts in time that does not depend on how many there are.
pub struct Mask {
    /// In the order of their bytes, without line ends.
    forms: Vec<Form>,
    /// Over the first bytes of each form; `None` when there is none.
    automaton: Option<AhoCorasick>,
    /// Bytes that forms begin with.
    first: [bool; 256],
    longest: usize,
}

/// One way to write a secret.
struct Form {
    bytes: Box<[u8]>,
    /// The letter before and after may hold bits of the secret.
    base64: bool,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask of {} forms", self.forms.len())
    }
}

impl Default for Mask {
    fn default() -> Self {
        Self::new([])
    }
}

impl Mask {
    /// For texts of at least [`SHORTEST`] bytes; shorter ones are not looked for.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for secret in secrets.into_iter().filter(|secret| secret.len() >= SHORTEST) {
            for (bytes, base64) in forms::forms(secret) {
                let bytes = Squeezed::of(&bytes, &[]).bytes.into_owned();
                if bytes.len() >= SHORTEST {
                    *found.entry(bytes).or_default() |= base64;
                }
            }
        }
        let forms: Vec<Form> = found.into_iter().map(|(bytes, base64)| Form { bytes: bytes.into(), base64 }).collect();
        let heads = forms.iter().map(|form| &form.bytes[..form.bytes.len().min(SEARCHED)]);
        // It fails for more states than 32 bits can number: gigabytes of secrets, which would not have fitted before.
        let automaton = (!forms.is_empty()).then(|| AhoCorasick::new(heads).ok()).flatten();
        let mut first = [false; 256];
        forms.iter().for_each(|form| first[usize::from(form.bytes[0])] = true);
        let longest = forms.iter().map(|form| form.bytes.len()).max().unwrap_or(0);
        Self { forms, automaton, first, longest }
    }

    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Where secrets stand in `bytes`, in order, apart from each other; and whether the last of them ends with the bytes and in
    /// base64, so that a letter that follows belongs to it. A line end within a secret, and what is in `asides`, does not hide it.
    /// Forms are whole texts and what base64 adds are ASCII letters: in a text they begin and end on the borders of characters.
    fn ranges(&self, bytes: &[u8], squeezed: &Squeezed<'_>) -> (Vec<Range<usize>>, bool) {
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut open = false;
        let searched = &*squeezed.bytes;
        // Most of what is looked at holds none, which this says much faster.
        let Some(automaton) = self.automaton.as_ref().filter(|automaton| automaton.is_match(searched)) else {
            return (found, open);
        };
        for hit in automaton.find_overlapping_iter(searched) {
            let form = &self.forms[hit.pattern().as_usize()];
            let last = hit.start() + form.bytes.len();
            if searched.get(hit.start()..last) != Some(&*form.bytes) {
                continue;
            }
            let (mut start, mut end) = (squeezed.at(hit.start()), squeezed.at(last - 1) + 1);
            if form.base64 {
                let letter = |at: usize| bytes.get(at).is_some_and(|b| is_base64(*b));
                start -= usize::from(start > 0 && letter(start - 1));
                open |= end == bytes.len();
                end += usize::from(letter(end));
            }
            found.push(start..end);
        }
        found.sort_by_key(|range| (range.start, range.end));
        let mut apart: Vec<Range<usize>> = Vec::new();
        for range in found {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        (apart, open)
    }

    /// Whether a secret may begin with these bytes and go on after them.
    fn may_begin(&self, bytes: &[u8]) -> bool {
        let from = self.forms.partition_point(|form| *form.bytes < *bytes);
        self.forms[from..].iter().take(2).any(|form| form.bytes.len() > bytes.len() && form.bytes.starts_with(bytes))
    }

    pub fn finds(&self, text: &str) -> bool {
        !self.ranges(text.as_bytes(), &Squeezed::of(text.as_bytes(), &[])).0.is_empty()
    }

    /// The text with each secret replaced by what `with` makes of it; `None` when there is none in it.
    fn replaced(&self, text: &str, with: impl Fn(&str) -> String) -> Option<String> {
        if self.is_empty() || text.len() < SHORTEST {
            return None;
        }
        let (ranges, _) = self.ranges(text.as_bytes(), &Squeezed::of(text.as_bytes(), &[]));
        if ranges.is_empty() {
            return None;
        }
        let (mut out, mut from) = (String::with_capacity(text.len()), 0);
        for range in ranges {
            out.push_str(&text[from..range.start]);
            out.push_str(&with(&text[range.clone()]));
            from = range.end;
        }
        out.push_str(&text[from..]);
        // What stood around a secret may be one together with what replaces it.
        Some(if self.finds(&out) { with(text) } else { out })
    }

    /// A text without the secrets in it.
    pub fn text(&self, text: &str) -> String {
        self.replaced(text, |_| SENSITIVE.to_owned()).unwrap_or_else(|| text.to_owned())
    }

    /// Takes the secrets out of every text in a value, names included.
    pub fn value(&self, value: &mut Value) {
        if self.is_empty() {
            return;
        }
        match value {
            Value::String(text) => {
                if let Some(masked) = self.replaced(text, |_| SENSITIVE.to_owned()) {
                    *text = masked;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(object) => {
                if object.keys().any(|name| self.finds(name)) {
                    let whole = std::mem::take(object);
                    object.extend(whole.into_iter().map(|(name, value)| (self.text(&name), value)));
                }
                object.iter_mut().for_each(|(_, value)| self.value(value));
            }
            _ => {}
        }
    }

    /// A text in whose place of each secret stands a mark with a keyed digest of it.
    pub(crate) fn marked(&self, text: &str, key: &[u8]) -> Option<String> {
        self.replaced(text, |secret| mark(&keyed_digest(key, secret.as_bytes())))
    }
}

/// Bytes without line ends, which may stand anywhere within a secret; of more than one in a row the others stay.
struct Squeezed<'a> {
    bytes: Cow<'a, [u8]>,
    /// For each piece that was left out: how many bytes stand before it, and how many were left out up to its end.
    gaps: Vec<(usize, usize)>,
}

impl<'a> Squeezed<'a> {
    /// What is in `asides` (in order, apart from each other) is left out as well.
    fn of(whole: &'a [u8], asides: &[Range<usize>]) -> Self {
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        if asides.is_empty() && !whole.iter().any(is_end) {
            return Self { bytes: whole.into(), gaps: Vec::new() };
        }
        let mut squeezed = Self { bytes: Vec::with_capacity(whole.len()).into(), gaps: Vec::new() };
        let mut asides = asides.iter().peekable();
        // The line end that was read last.
        let (mut from, mut last) = (0, None);
        while from < whole.len() {
            if let Some(aside) = asides.next_if(|aside| aside.start <= from) {
                squeezed.leave_out(aside.end.saturating_sub(from));
                from = from.max(aside.end);
                continue;
            }
            let until = asides.peek().map_or(whole.len(), |aside| aside.start);
            let end = whole[from..until].iter().position(is_end).map_or(until, |at| from + at);
            if end > from {
                squeezed.bytes.to_mut().extend_from_slice(&whole[from..end]);
                last = None;
            }
            if end < until {
                match (last, whole[end]) {
                    (None, _) | (Some(b'\r'), b'\n') => squeezed.leave_out(1),
                    (_, byte) => squeezed.bytes.to_mut().push(byte),
                }
                last = Some(whole[end]);
            }
            from = (end + usize::from(end < until)).max(from);
        }
        squeezed
    }

    fn leave_out(&mut self, count: usize) {
        let out = self.gaps.last().map_or(0, |(_, out)| *out);
        self.gaps.push((self.bytes.len(), out + count));
    }

    /// Where the byte at `index` stands in the whole.
    fn at(&self, index: usize) -> usize {
        let before = self.gaps.partition_point(|(start, _)| *start <= index);
        index + before.checked_sub(1).map_or(0, |last| self.gaps[last].1)
    }
}

/// What stands for a secret inside a value.
pub(crate) fn mark(digest: &str) -> String {
    format!("{MARK}{})", &digest[..digest.len().min(MARK_DIGITS)])
}

/// The digest of a text that is a mark and nothing else.
pub(crate) fn mark_of(text: &str) -> Option<&str> {
    let digest = text.strip_prefix(MARK)?.strip_suffix(')')?;
    is_mark_digest(digest).then_some(digest)
}

fn is_mark_digest(text: &str) -> bool {
    text.len() == MARK_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The text with its marks as people read them.
pub(crate) fn without_marks(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(MARK) {
        let after = &rest[at + MARK.len()..];
        let marked = after.get(..MARK_DIGITS).is_some_and(is_mark_digest) && after[MARK_DIGITS..].starts_with(')');
        out.push_str(&rest[..at]);
        out.push_str(if marked { SENSITIVE } else { MARK });
        rest = if marked { &after[MARK_DIGITS + 1..] } else { after };
    }
    out.push_str(rest);
    out
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}
