//! The form that a log leaves the server in: JSON lines. The first is a [`Header`], then come the events in order, each seal after
//! the last event that it covers, and at the end the events that no seal covers yet.
//!
//! Each line is an object with one member that says what it is: `{"header": …}`, `{"event": …}`, `{"seal": …}`. What stands in an
//! event's line is its canonical form byte for byte, so that a member that is written twice, which readers understand
//! differently, is found as well.

use super::{AuditEvent, Report, Seal, SealedEvent, Verifier, VerifyingKey};
use crate::Micros;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Read};

/// The version of the format that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// The longest line that is read, in bytes without its line end.
pub const LINE_MAX: usize = 16 << 20;

/// How many damaged lines a verification lists; the others are counted.
pub const FAULTS_MAX: usize = 20;

/// Whether a file is an export of Windlass is seen from `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    #[serde(rename = "windlass-audit")]
    WindlassAudit,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: Format,
    pub version: u32,
    /// The name of the server or project whose log it is, as in its seals.
    pub log: String,
    /// The key of the first seal. Each later one is named by the seal before it.
    pub keys: Vec<VerifyingKey>,
    /// When it was exported.
    pub at: Micros,
}

impl Header {
    pub fn new(log: &str, keys: &[VerifyingKey], at: Micros) -> Self {
        Self { format: Format::WindlassAudit, version: VERSION, log: log.to_owned(), keys: keys.to_vec(), at }
    }

    /// The line, with its end.
    ///
    /// # Errors
    /// See [`Seal::line`].
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        Ok(line("header", &serde_json::to_vec(self)?))
    }
}

impl AuditEvent {
    /// The event's line in an export, with its end.
    pub fn line(&self) -> Vec<u8> {
        [EVENT, &self.canonical(), b"}\n"].concat()
    }
}

impl Seal {
    /// The seal's line in an export, with its end.
    ///
    /// # Errors
    /// Those of serializing; there are none for what is made of text and numbers.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        Ok(line("seal", &serde_json::to_vec(self)?))
    }
}

const EVENT: &[u8] = b"{\"event\":";

fn line(name: &str, content: &[u8]) -> Vec<u8> {
    [format!("{{\"{name}\":").as_bytes(), content, b"}\n"].concat()
}

/// What a line says.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Header(Header),
    Event(Box<AuditEvent>),
    Seal(Box<Seal>),
}

/// What a line holds, when it could be read.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Header(Header),
    Event {
        event: Box<AuditEvent>,
        sealed: SealedEvent,
        /// Whether the line is the canonical form.
        canonical: bool,
    },
    Seal(Box<Seal>),
}

/// Why a line could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    #[error("it is not UTF-8 (byte {0})")]
    Utf8(usize),
    #[error("the file ends in the middle of it")]
    Cut,
    #[error("it is not a line of an export: {0}")]
    Content(String),
    #[error("it is longer than {LINE_MAX} bytes")]
    Oversized,
    #[error("it is a second header: two exports stand in one file")]
    Header,
    #[error("it is not in the canonical form that it was exported in")]
    Form,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    #[error("it is empty")]
    Empty,
    #[error("it does not begin with the header of an export ({0})")]
    NotAnExport(Fault),
    #[error("it is of version {0} of the format, and only version {VERSION} is known here")]
    Version(u64),
}

/// Reads an export line by line; never more than one line is in memory.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    line: Vec<u8>,
    /// Number of the last line, from 1.
    pub number: u64,
    /// How many bytes were read.
    pub bytes: u64,
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Self {
        Self { input, line: Vec::new(), number: 0, bytes: 0 }
    }

    /// The next line's content; none at the end.
    ///
    /// # Errors
    /// When the input cannot be read. A line that cannot be understood is an answer, and reading goes on after it.
    pub fn read(&mut self) -> std::io::Result<Option<Result<Entry, Fault>>> {
        self.line.clear();
        let limit = LINE_MAX as u64 + 1;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.bytes += read as u64;
        let ended = self.line.last() == Some(&b'\n');
        if ended {
            self.line.pop();
        } else if self.line.len() > LINE_MAX {
            self.bytes += skip_line(&mut self.input)?;
            return Ok(Some(Err(Fault::Oversized)));
        }
        Ok(Some(parse(&self.line, ended)))
    }
}

/// Reads up to the end of the line; gives the number of bytes.
fn skip_line(input: &mut impl BufRead) -> std::io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = match input.fill_buf() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (length, done) = (end.map_or(buffer.len(), |at| at + 1), end.is_some() || buffer.is_empty());
        input.consume(length);
        skipped += length as u64;
        if done {
            return Ok(skipped);
        }
    }
}

fn parse(line: &[u8], ended: bool) -> Result<Entry, Fault> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) if !ended && error.error_len().is_none() => return Err(Fault::Cut),
        Err(error) => return Err(Fault::Utf8(error.valid_up_to() + 1)),
    };
    match serde_json::from_str(text) {
        Ok(Line::Header(header)) => Ok(Entry::Header(header)),
        Ok(Line::Seal(seal)) => Ok(Entry::Seal(seal)),
        Ok(Line::Event(event)) => {
            let bytes = event.canonical();
            let written = line.strip_prefix(EVENT).and_then(|rest| rest.strip_suffix(b"}"));
            let sealed = SealedEvent::of_canonical(&event, &bytes);
            Ok(Entry::Event { canonical: written == Some(&bytes), event, sealed })
        }
        Err(error) if error.is_eof() && !ended => Err(Fault::Cut),
        Err(error) => Err(Fault::Content(error.to_string())),
    }
}

/// Where the keys came from that a log was verified with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySource {
    Given,
    /// Of the file itself: whoever can write the file can write them.
    File,
}

/// A line that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultyLine {
    /// From 1.
    pub line: u64,
    pub fault: Fault,
}

/// What the verification of an export found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportReport {
    pub header: Header,
    pub key_source: KeySource,
    #[serde(flatten)]
    pub report: Report,
    /// The first damaged lines, at most [`FAULTS_MAX`].
    pub lines: Vec<FaultyLine>,
    /// How many there are in all.
    pub damaged_lines: u64,
}

impl ExportReport {
    pub fn intact(&self) -> bool {
        self.report.damage.is_none() && self.damaged_lines == 0
    }
}

/// Verifies an export in one pass. Without `keys`, those in the file are trusted. `progress` is told after each line how many
/// lines and bytes were read.
///
/// # Errors
/// [`ExportError`], when it is no export or cannot be read; damage is an answer.
pub fn verify_export(
    input: impl BufRead,
    keys: &[VerifyingKey],
    checkpoint: Option<Seal>,
    mut progress: impl FnMut(u64, u64),
) -> Result<ExportReport, ExportError> {
    let mut reader = Reader::new(input);
    let header = read_header(&mut reader)?;
    let (keys, key_source) = match keys {
        [] => (header.keys.as_slice(), KeySource::File),
        given => (given, KeySource::Given),
    };
    let mut verifier = Verifier::new(&header.log, keys, checkpoint);
    let (mut lines, mut damaged_lines) = (Vec::new(), 0);
    while let Some(entry) = reader.read().map_err(ExportError::Read)? {
        let fault = match entry {
            Ok(Entry::Event { sealed, canonical, .. }) => {
                verifier.event(sealed);
                (!canonical).then_some(Fault::Form)
            }
            Ok(Entry::Seal(seal)) => {
                verifier.seal(*seal);
                None
            }
            Ok(Entry::Header(_)) => Some(Fault::Header),
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            damaged_lines += 1;
            if lines.len() < FAULTS_MAX {
                lines.push(FaultyLine { line: reader.number, fault });
            }
        }
        progress(reader.number, reader.bytes);
    }
    Ok(ExportReport { key_source, report: verifier.finish(), header, lines, damaged_lines })
}

fn read_header<R: BufRead>(reader: &mut Reader<R>) -> Result<Header, ExportError> {
    let header = match reader.read().map_err(ExportError::Read)?.ok_or(ExportError::Empty)? {
        Ok(Entry::Header(header)) => header,
        Ok(_) => return Err(ExportError::NotAnExport(Fault::Content("its first line is no header".into()))),
        Err(fault) => {
            // A header of a later version may have another shape.
            let value: Option<serde_json::Value> = serde_json::from_slice(&reader.line).ok();
            let version = value.as_ref().and_then(|v| v["header"]["version"].as_u64());
            return Err(match version.filter(|version| *version != u64::from(VERSION)) {
                Some(version) => ExportError::Version(version),
                None => ExportError::NotAnExport(fault),
            });
        }
    };
    if header.version != VERSION {
        return Err(ExportError::Version(header.version.into()));
    }
    Ok(header)
}
