//! Backups: one file for both engines, so that a backup of one can be restored into the other.
//!
//! The file is a gzip of lines of JSON: a header; for each table its name with its columns, then a row per line; and at the end how
//! many rows there are of each, with the SHA-256 of all lines before.

use crate::db::Cell;
use crate::transfer::{Counts, Database, Poured, Pump, Sink, TABLES, Table, alone, read, sink};
use crate::{Result, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::time::SystemTime;
use windlass_model::Micros;

/// Version of the layout of the file.
const FORMAT: u32 = 1;

/// Longer lines are not ours, bytes: twice what SQLite can keep in a value.
const LINE: u64 = 2 << 30;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the layout of the file.
    pub windlass_backup: u32,
    /// Version of the schema of the database.
    pub schema: i64,
    /// When it was made.
    pub made: Micros,
    /// The release that made it.
    pub release: String,
}

/// What is in a backup, or was put into a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Content {
    pub header: Header,
    #[serde(flatten)]
    pub poured: Poured,
}

#[derive(Serialize, Deserialize)]
struct TableLine {
    table: String,
    columns: Vec<String>,
    /// The greatest number that was drawn for its rows.
    last: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct EndLine {
    rows: Counts,
    sha256: String,
}

fn header(schema: i64) -> Header {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let release = env!("CARGO_PKG_VERSION").to_owned();
    Header { windlass_backup: FORMAT, schema, made: now.as_micros() as Micros, release }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a backup of a database as it is at one moment; others may go on writing to it. Blocks; `tell` hears of tables and of how many
/// of their rows were read. Sessions and other tickets are not in it.
///
/// # Errors
/// The database cannot be read, or `out` cannot be written.
pub fn backup(database: &Database, out: impl Write, tell: &mut dyn FnMut(&str, u64)) -> Result<Content> {
    let mut file = FileSink {
        out: GzEncoder::new(std::io::BufWriter::new(out), Compression::new(4)),
        hash: Sha256::new(),
        line: Vec::new(),
        header: header(0),
    };
    let poured = read(database, false, Pump::new(&mut file, tell))?;
    let header = file.header;
    let written = file.out.finish().and_then(|mut out| out.flush());
    written.map_err(|error| unwritten(&error))?;
    Ok(Content { header, poured })
}

/// Puts a backup into a database, which has to be empty unless it is to be replaced, and which nobody may use meanwhile. All of it
/// arrives or nothing. Blocks; `tell` as of [`backup`].
///
/// # Errors
/// [`StoreError::Backup`] when the file was cut or altered, [`StoreError::NotEmpty`], [`StoreError::InUse`], [`StoreError::Newer`];
/// the database cannot be written.
pub fn restore(
    input: impl Read,
    database: &Database,
    replace: bool,
    tell: &mut dyn FnMut(&str, u64),
) -> Result<Content> {
    let mut file = FileSource::open(input)?;
    let mut sink = sink(database, replace)?;
    file.pour(Pump::new(&mut *sink, tell))
}

/// Reads a backup to its end, and says what is in it.
///
/// # Errors
/// [`StoreError::Backup`] when the file was cut or altered, [`StoreError::Newer`].
pub fn check(input: impl Read) -> Result<Content> {
    FileSource::open(input)?.pour(Pump::new(&mut Nowhere, &mut |_, _| {}))
}

/// Copies all of a database into another, sessions too; nobody may use either meanwhile. All of it arrives or nothing, and the first
/// stays as it is. Blocks; `tell` as of [`backup`].
///
/// # Errors
/// As of [`backup`] and of [`restore`].
pub fn copy(from: &Database, to: &Database, replace: bool, tell: &mut dyn FnMut(&str, u64)) -> Result<Poured> {
    if from == to {
        return Err(StoreError::Conflict("a database cannot be moved to where it is".into()));
    }
    let _hold = alone(from)?;
    let mut sink = sink(to, replace)?;
    read(from, true, Pump::new(&mut *sink, tell))
}

fn unwritten(error: &std::io::Error) -> StoreError {
    StoreError::Output(error.to_string())
}

struct FileSink<W: Write> {
    out: GzEncoder<std::io::BufWriter<W>>,
    hash: Sha256,
    line: Vec<u8>,
    header: Header,
}

impl<W: Write> FileSink<W> {
    fn put(&mut self, value: &impl Serialize) -> Result<()> {
        self.line.clear();
        // Writing into memory cannot fail, and no map of ours has keys that are no strings.
        serde_json::to_writer(&mut self.line, value).map_err(|error| unwritten(&error.into()))?;
        self.line.push(b'\n');
        self.hash.update(&self.line);
        self.out.write_all(&self.line).map_err(|error| unwritten(&error))
    }
}

impl Serialize for Cell {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Cell::Null => to.serialize_unit(),
            Cell::Int(value) => to.serialize_i64(*value),
            Cell::Bool(value) => to.serialize_i64(i64::from(*value)),
            Cell::Text(value) => to.serialize_str(value),
            // Text never is a list.
            Cell::Bytes(value) => [BASE64.encode(value)].serialize(to),
        }
    }
}

impl<W: Write> Sink for FileSink<W> {
    fn begin(&mut self, schema: i64) -> Result<()> {
        self.header.schema = schema;
        let header = self.header.clone();
        self.put(&header)
    }

    fn table(&mut self, table: &'static Table, columns: &[String], last: Option<i64>) -> Result<()> {
        self.put(&TableLine { table: table.name.to_owned(), columns: columns.to_vec(), last })
    }

    fn row(&mut self, row: &[Cell]) -> Result<()> {
        self.put(&row)
    }

    fn end(&mut self, counts: &Counts) -> Result<()> {
        let sha256 = hex(&self.hash.clone().finalize());
        self.put(&EndLine { rows: counts.clone(), sha256 })
    }
}

/// For a look at a file.
struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _: i64) -> Result<()> {
        Ok(())
    }
    fn table(&mut self, _: &'static Table, _: &[String], _: Option<i64>) -> Result<()> {
        Ok(())
    }
    fn row(&mut self, _: &[Cell]) -> Result<()> {
        Ok(())
    }
    fn end(&mut self, _: &Counts) -> Result<()> {
        Ok(())
    }
}

struct FileSource<R: Read> {
    lines: BufReader<GzDecoder<BufReader<R>>>,
    hash: Sha256,
    line: Vec<u8>,
    header: Header,
}

fn altered(what: &str) -> StoreError {
    StoreError::Backup(format!("{what}; take another copy of it"))
}

impl<R: Read> FileSource<R> {
    fn open(input: R) -> Result<Self> {
        let mut input = BufReader::new(input);
        let begin = input.fill_buf().map_err(|error| StoreError::Backup(error.to_string()))?;
        if begin.is_empty() || !begin.starts_with(&[0x1f, 0x8b][..begin.len().min(2)]) {
            return Err(StoreError::Backup("it is no backup of Windlass".into()));
        }
        let header = header(0);
        let lines = BufReader::new(GzDecoder::new(input));
        let mut source = Self { lines, hash: Sha256::new(), line: Vec::new(), header };
        source.next()?;
        let first: Value = serde_json::from_slice(&source.line).unwrap_or_default();
        match first["windlass_backup"].as_u64() {
            None => return Err(StoreError::Backup("it is no backup of Windlass".into())),
            Some(format) if format > u64::from(FORMAT) => {
                let why = format!("its layout is {format}, but this release knows up to {FORMAT}; use a newer release");
                return Err(StoreError::Backup(why));
            }
            Some(_) => {}
        }
        source.header = serde_json::from_value(first).map_err(|_| altered("its header is damaged"))?;
        let newest = crate::MIGRATIONS_SQLITE.last().map_or(0, |(number, _)| *number);
        if source.header.schema > newest {
            let found = source.header.schema;
            return Err(StoreError::Newer { place: "in the backup".into(), found, known: newest });
        }
        Ok(source)
    }

    /// Reads a line; the one before it goes into the digest.
    fn next(&mut self) -> Result<()> {
        self.hash.update(&self.line);
        self.line.clear();
        let read = (&mut self.lines).take(LINE).read_until(b'\n', &mut self.line);
        read.map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => altered("the end of it is missing"),
            _ => altered(&format!("it is damaged ({error})")),
        })?;
        if self.line.last() == Some(&b'\n') { Ok(()) } else { Err(altered("the end of it is missing")) }
    }

    fn pour(&mut self, mut pump: Pump<'_>) -> Result<Content> {
        pump.begin(self.header.schema)?;
        let mut tables = TABLES.iter();
        let mut width = 0;
        let mut cells = Vec::new();
        loop {
            self.next()?;
            if self.line.first() == Some(&b'[') {
                let values: Vec<Value> =
                    serde_json::from_slice(&self.line).map_err(|_| altered("a row of it is damaged"))?;
                cells.clear();
                for value in values {
                    cells.push(cell(value).ok_or_else(|| altered("a row of it is damaged"))?);
                }
                if cells.len() != width || width == 0 {
                    return Err(altered("a row of it does not fit its table"));
                }
                pump.row(&cells)?;
            } else if let Ok(line) = serde_json::from_slice::<TableLine>(&self.line) {
                // In our order, each once: what refers to others comes after them.
                let found = tables.find(|table| table.name == line.table && table.lasting);
                let table = found.ok_or_else(|| altered("it has a table that does not belong there"))?;
                let plain =
                    |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                if !line.columns.iter().all(plain) {
                    return Err(altered("it has a column that does not belong there"));
                }
                width = line.columns.len();
                pump.table(table, &line.columns, line.last)?;
            } else {
                let end: EndLine =
                    serde_json::from_slice(&self.line).map_err(|_| altered("a line of it is damaged"))?;
                let digest = hex(&self.hash.clone().finalize());
                if end.sha256 != digest || end.rows != pump.counts {
                    return Err(altered("it was altered: its digest is another"));
                }
                break;
            }
        }
        // The checksum of the compressed bytes comes last.
        self.line.clear();
        let rest = (&mut self.lines).take(1).read_to_end(&mut self.line).map_err(|_| altered("its end is damaged"))?;
        let after = self.lines.get_mut().get_mut().fill_buf().map_err(|error| StoreError::Backup(error.to_string()))?;
        if rest > 0 || !after.is_empty() {
            return Err(altered("something was added to its end"));
        }
        Ok(Content { header: self.header.clone(), poured: pump.end()? })
    }
}

fn cell(value: Value) -> Option<Cell> {
    match value {
        Value::Null => Some(Cell::Null),
        Value::Number(number) => number.as_i64().map(Cell::Int),
        Value::String(text) => Some(Cell::Text(text)),
        Value::Array(one) => match <[Value; 1]>::try_from(one) {
            Ok([Value::String(text)]) => BASE64.decode(text).ok().map(Cell::Bytes),
            _ => None,
        },
        Value::Bool(_) | Value::Object(_) => None,
    }
}
