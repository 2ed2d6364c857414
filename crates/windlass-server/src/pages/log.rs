//! The log of a step: what its viewer is drawn from, and stored bytes as the text that the stream and the viewer speak.
//!
//! A log is one stream of bytes that starts at 0 and holds all attempts. `log.js` reads it from
//! `GET /api/v1/runs/{run}/steps/{step}/log/stream?from=OFFSET` (server-sent events: `data`, a [`Chunk`] as JSON with its
//! [`Chunk::next`] as the event's id; `end`, once the step has ended and all was sent) and, for what lies before, from
//! `GET …/log?from=&limit=` with `Accept: application/json`, which answers a [`Part`].

use serde::{Deserialize, Serialize};
use windlass_model::Micros;

/// What the viewer has to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogView {
    pub run: String,
    /// Those that have a log, in order of the plan.
    pub steps: Vec<LogStep>,
    /// Id of the step whose log is opened where the address names none.
    pub chosen: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStep {
    pub id: String,
    pub title: String,
    /// Length by now, bytes.
    pub bytes: u64,
}

/// A piece of a log as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Offset of its first byte.
    pub start: u64,
    /// Offset of the byte after it: where to go on reading.
    pub next: u64,
    /// From 1.
    pub attempt: u32,
    /// When it was recorded, microseconds since 1970, UTC.
    pub at: Micros,
    /// Never cut within a character; bytes that are no UTF-8 are U+FFFD.
    pub text: String,
}

/// A part of a log that was asked for by offsets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub chunks: Vec<Chunk>,
    /// Length of the whole log by now, bytes.
    pub bytes: u64,
}

/// Bytes of one attempt as they were recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored<'a> {
    pub start: u64,
    pub attempt: u32,
    pub at: Micros,
    pub bytes: &'a [u8],
}

/// What is stored, from the byte `from` on, as text. A character whose end is not stored yet is held back, so that
/// reading goes on at the last chunk's [`Chunk::next`]; with `ended` nothing more will come, and nothing is held back.
pub fn chunks<'a>(stored: impl IntoIterator<Item = Stored<'a>>, from: u64, ended: bool) -> Vec<Chunk> {
    let mut out = Vec::new();
    // Bytes of a character that has not ended.
    let mut held: Option<(u64, u32, Micros, Vec<u8>)> = None;
    for piece in stored {
        let skipped = usize::try_from(from.saturating_sub(piece.start)).unwrap_or(usize::MAX);
        let Some(bytes) = piece.bytes.get(skipped..).filter(|bytes| !bytes.is_empty()) else { continue };
        let mut start = piece.start + skipped as u64;
        let mut joined = Vec::new();
        if let Some((held_start, attempt, at, mut kept)) = held.take() {
            if attempt == piece.attempt && held_start + kept.len() as u64 == start {
                kept.extend_from_slice(bytes);
                (start, joined) = (held_start, kept);
            } else {
                out.push(chunk(held_start, attempt, at, &kept));
            }
        }
        let bytes = if joined.is_empty() { bytes } else { &joined };
        let (whole, rest) = bytes.split_at(bytes.len() - unfinished(bytes));
        if !whole.is_empty() {
            out.push(chunk(start, piece.attempt, piece.at, whole));
        }
        if !rest.is_empty() {
            held = Some((start + whole.len() as u64, piece.attempt, piece.at, rest.to_vec()));
        }
    }
    if let Some((start, attempt, at, kept)) = held.filter(|_| ended) {
        out.push(chunk(start, attempt, at, &kept));
    }
    out
}

fn chunk(start: u64, attempt: u32, at: Micros, bytes: &[u8]) -> Chunk {
    Chunk { start, next: start + bytes.len() as u64, attempt, at, text: String::from_utf8_lossy(bytes).into_owned() }
}

/// How many bytes at the end begin a character and do not end it: 0 to 3.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text from 0, read in two goes that meet at the last offset of the first.
    fn read(pieces: &[(u32, &[u8])]) -> String {
        let mut stored = Vec::new();
        let mut start = 0;
        for (attempt, bytes) in pieces {
            stored.push(Stored { start, attempt: *attempt, at: 5, bytes });
            start += bytes.len() as u64;
        }
        let whole = chunks(stored.iter().copied(), 0, true);
        for cut in 0..=stored.len() {
            let mut parts = chunks(stored[..cut].iter().copied(), 0, false);
            let next = parts.last().map_or(0, |chunk| chunk.next);
            parts.extend(chunks(stored.iter().copied(), next, true));
            for pair in parts.windows(2) {
                assert_eq!(pair[0].next, pair[1].start, "no gap and nothing twice");
            }
            let text = |chunks: &[Chunk]| chunks.iter().map(|c| c.text.as_str()).collect::<String>();
            assert_eq!(text(&parts), text(&whole));
        }
        assert_eq!(whole.last().map_or(0, |chunk| chunk.next), start);
        whole.iter().map(|chunk| format!("{}:{}|", chunk.attempt, chunk.text)).collect()
    }

    #[test]
    fn characters_are_never_cut() {
        #[track_caller]
        fn check(pieces: &[(u32, &[u8])], want: &str) {
            assert_eq!(read(pieces), want);
        }
        check(&[], "");
        check(&[(1, b"abc"), (1, b"def")], "1:abc|1:def|");
        check(&[(1, b"a\xe2"), (1, b"\x82"), (1, b"\xac!")], "1:a|1:€!|");
        check(&[(1, b"\xf0\x9f\x98"), (1, b"\x80")], "1:😀|");
        // No UTF-8: each becomes a mark, and nothing is held for ever.
        check(&[(1, b"\xff\xfe"), (1, b"x")], "1:\u{fffd}\u{fffd}|1:x|");
        check(&[(1, b"a\xe2\x82"), (1, b"b")], "1:a|1:\u{fffd}b|");
        check(&[(1, b"\x80\x80\x80\x80\x80")], "1:\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}|");
        // An attempt that was killed within a character does not run into the next.
        check(&[(1, b"a\xe2"), (2, b"\x82\xac")], "1:a|1:\u{fffd}|2:\u{fffd}\u{fffd}|");
        check(&[(1, b"end\xe2")], "1:end|1:\u{fffd}|");
    }

    #[test]
    fn reading_begins_at_any_byte() {
        let text = "aé€😀z".as_bytes();
        let stored = |cut: usize| {
            [
                Stored { start: 0, attempt: 1, at: 5, bytes: &text[..cut] },
                Stored { start: cut as u64, attempt: 1, at: 6, bytes: &text[cut..] },
            ]
        };
        for cut in 0..=text.len() {
            for from in 0..=text.len() {
                let got: String = chunks(stored(cut), from as u64, true).into_iter().map(|c| c.text).collect();
                assert_eq!(got, String::from_utf8_lossy(&text[from..]), "cut at {cut}, from {from}");
            }
        }
    }

    #[test]
    fn what_is_sent_is_what_the_script_reads() {
        let stored = Stored { start: 7, attempt: 2, at: 5, bytes: b"\x1b[31mred\x1b[0m\n" };
        let json = serde_json::to_string(&chunks([stored], 0, true)).unwrap();
        assert_eq!(json, r#"[{"start":7,"next":20,"attempt":2,"at":5,"text":"\u001b[31mred\u001b[0m\n"}]"#);
    }

    #[test]
    fn the_script_makes_lines_of_it() {
        let test = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/log.test.js");
        let node = std::process::Command::new("node")
            .args(["--test", "--test-reporter=tap", test])
            .env_remove("NODE_OPTIONS")
            .output();
        let node = node.expect("node has to be on the PATH: it runs the tests of the scripts");
        let told = String::from_utf8_lossy(&node.stdout);
        assert!(node.status.success(), "{told}");
        let passed = told.lines().find_map(|line| line.strip_prefix("# pass ")).and_then(|n| n.parse::<u32>().ok());
        assert!(passed.is_some_and(|n| n >= 11), "not all tests ran: {told}");
    }
}
