//! `audit`: the record, and the proof that it is whole.

use crate::{Answer, Context, print, print_json, views};
use clap::{Args, Subcommand};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use windlass_app::audit::record::Record;
use windlass_app::audit::{Archive, EventFilter};
use windlass_app::configuration::Configuration;
use windlass_app::error::{AppError, AppResult, ErrorKind, internal};
use windlass_app::project::Checkout;
use windlass_app::settings::StateDirectory;
use windlass_model::Micros;
use windlass_model::audit::export::{ExportError, ExportReport, FaultyLine, KeySource, verify_export};
use windlass_model::audit::{Seal, VerifyingKey};
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::id::RunId;

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Verify that nothing in the record was changed, removed, inserted or reordered; name the first thing that was.
    #[command(after_help = "\
Examples:
  windlass audit verify                                the server that is started in this directory
  windlass audit verify --data /var/lib/windlass --checkpoint kept.json
  windlass audit verify --export audit.jsonl
  windlass audit verify --export audit.jsonl --key ed25519:O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=
  zcat audit.jsonl.gz | windlass audit verify --export - --checkpoint kept.json

Exit codes: 0 intact, 1 damaged, 2 no sealed record, or not a checkpoint of it.")]
    Verify(AuditVerify),
    /// Write the whole record as JSON lines, which can be verified anywhere.
    #[command(after_help = "\
Examples:
  windlass audit export --output audit.jsonl
  windlass audit export --data /var/lib/windlass | gzip > audit.jsonl.gz")]
    Export {
        #[command(flatten)]
        of: AuditOf,
        /// Write to this file instead of standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Search who did what, to what, when and why; newest first.
    #[command(after_help = "\
Examples:
  windlass audit log --since 2d
  windlass audit log --kind review. --actor ana@example.com
  windlass audit log --subject 'token 01k9…' --from 2026-11-01 --to 2026-12-01 --json")]
    Log {
        #[command(flatten)]
        of: AuditOf,
        #[command(flatten)]
        filter: AuditFilter,
    },
    /// Make the key that signs from the next seal on; the seal before says so, signed by the key until then.
    #[command(after_help = "\
Example:
  windlass audit rotate-key --data /var/lib/windlass

Servers that share a database each need a copy of the new key when it has taken over.")]
    RotateKey {
        /// The server's data directory [default: .windlass/server].
        #[arg(long, value_name = "DIR", env = "WINDLASS_DATA")]
        data: Option<PathBuf>,
    },
}

/// Whose record it is.
#[derive(Debug, Args)]
pub struct AuditOf {
    /// Of the server with this data directory [default: .windlass/server].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// In this PostgreSQL, postgres://USER@HOST/DATABASE, instead of a file in the data directory.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Of the server with these settings (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct AuditFilter {
    /// Who did it.
    #[arg(long, value_name = "WHO")]
    pub actor: Option<String>,
    /// To what.
    #[arg(long, value_name = "WHAT")]
    pub subject: Option<String>,
    /// What happened: `run.created`, or all that begin with `run.`.
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// In this run.
    #[arg(long, value_name = "RUN")]
    pub run: Option<RunId>,
    /// In this project.
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    /// From then on: `2026-11-21`, `2026-11-21T09:30:00Z`, or so long ago, `90m`, `2d`.
    #[arg(long, visible_alias = "since", value_name = "TIME", value_parser = moment)]
    pub from: Option<Micros>,
    /// Before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<Micros>,
    /// How many.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: u32,
}

#[derive(Debug, Args)]
pub struct AuditVerify {
    #[command(flatten)]
    pub of: AuditOf,
    /// The exported record; `-` is standard input. Neither a repository nor a database is needed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "database", "config"])]
    pub export: Option<PathBuf>,
    /// The key that signed the first seal (may be given several times) [default: the one that the server remembers; of an
    /// export, the one in the file].
    #[arg(long, value_name = "ed25519:KEY")]
    pub key: Vec<VerifyingKey>,
    /// A seal that was kept elsewhere, as JSON (`head` of an earlier answer): the record has to contain it.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
}

/// Whether a server is asked where there is one: nothing says that a file or a database of this machine is meant.
pub fn is_remote(command: &Audit) -> bool {
    match command {
        Audit::Verify(AuditVerify { of, export, .. }) => export.is_none() && !of.is_named(),
        Audit::Export { of, .. } | Audit::Log { of, .. } => !of.is_named(),
        Audit::RotateKey { .. } => false,
    }
}

impl AuditOf {
    fn is_named(&self) -> bool {
        self.data.is_some() || self.database.is_some() || self.config.is_some()
    }
}

pub fn run(cx: &Context, command: &Audit) -> Answer {
    match command {
        Audit::Verify(request) => verify(cx, request),
        Audit::Export { of, output } => wait(async { export(cx, &archive(cx, of).await?, output.as_deref()).await }),
        Audit::Log { of, filter } => wait(log(cx, of, filter)),
        Audit::RotateKey { data } => {
            let data = data.as_ref().map_or_else(|| server(cx), |data| cx.directory.join(data));
            let key = windlass_app::audit::keys::Keys::of(&data).rotate()?;
            if cx.json {
                print_json(&serde_json::json!({ "key": key }));
            } else {
                print(&format!(
                    "{key}\nIt signs from the next seal on, which a running server makes within seconds.\n"
                ));
            }
            Ok(true)
        }
    }
}

fn wait(work: impl Future<Output = Answer>) -> Answer {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(internal)?.block_on(work)
}

/// Where a server that is started here keeps what it has.
fn server(cx: &Context) -> PathBuf {
    StateDirectory::at(&cx.directory).server()
}

/// The settings of the server whose record is meant; `None` when nothing says that one is.
fn configuration(cx: &Context, of: &AuditOf) -> AppResult<Option<Configuration>> {
    let file = of.config.as_ref().map(|file| cx.directory.join(file));
    let mut configuration = Configuration::read(file.as_deref(), |name| std::env::var_os(name))?;
    configuration.data = of.data.clone().or(configuration.data).map(|data| cx.directory.join(data));
    configuration.database = of.database.clone().or(configuration.database);
    let is_named = configuration.data.is_some() || configuration.database.is_some() || of.config.is_some();
    Ok((is_named || server(cx).join("windlass.db").is_file()).then_some(configuration))
}

/// The record of the server that is named, or is started here.
async fn archive(cx: &Context, of: &AuditOf) -> AppResult<Archive> {
    let Some(configuration) = configuration(cx, of)? else {
        return Err(windlass_app::audit::nothing("no server keeps its record here"));
    };
    let data = configuration.data.unwrap_or_else(|| server(cx));
    Archive::open(configuration.database.as_deref(), &data).await
}

async fn export(cx: &Context, archive: &Archive, output: Option<&Path>) -> Answer {
    let mut record = Record::open(&archive.store).await?;
    let path = output.map(|path| cx.directory.join(path));
    let out: Box<dyn Write> = match &path {
        Some(path) => {
            Box::new(std::fs::File::create(path).map_err(|error| windlass_app::settings::disk(path, &error))?)
        }
        None => Box::new(std::io::stdout().lock()),
    };
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let failed = |error: std::io::Error| match &path {
        Some(path) => windlass_app::settings::disk(path, &error),
        // A reader that went away ends the program quietly, as every filter does.
        None => std::process::exit(0),
    };
    out.write_all(&record.header.line().map_err(internal)?).map_err(failed)?;
    while let Some(entry) = record.next().await? {
        out.write_all(&entry.line()?).map_err(failed)?;
    }
    out.flush().map_err(failed)?;
    archive.store.close().await;
    Ok(true)
}

async fn log(cx: &Context, of: &AuditOf, filter: &AuditFilter) -> Answer {
    let archive = match configuration(cx, of)? {
        Some(_) => archive(cx, of).await?,
        None => Archive::of_checkout(&Checkout::open(&cx.directory)?.root).await?,
    };
    let wanted = EventFilter {
        run: filter.run.clone(),
        actor: filter.actor.clone(),
        subject: filter.subject.clone(),
        kind: filter.kind.clone(),
        from: filter.from,
        to: filter.to,
    };
    let list = archive.search(filter.project.as_deref(), &wanted, filter.limit).await?;
    archive.store.close().await;
    if cx.json {
        print_json(&list);
    } else {
        print(&views::audit::log(cx.out, &list));
    }
    Ok(true)
}

/// A time, in microseconds since 1970.
fn moment(text: &str) -> Result<Micros, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_microsecond());
    }
    let zone = jiff::tz::TimeZone::system();
    if let Ok(at) = text.parse::<jiff::civil::DateTime>() {
        return at.to_zoned(zone).map(|at| at.timestamp().as_microsecond()).map_err(|error| error.to_string());
    }
    let ago = text
        .parse::<jiff::Span>()
        .map_err(|_| "not a time (`2026-11-21`, `2026-11-21T09:30:00Z`) nor a span (`90m`, `2d`)")?;
    let then = jiff::Zoned::now().checked_sub(ago).map_err(|error| error.to_string())?;
    Ok(then.timestamp().as_microsecond())
}

/// What was read, where it is no file.
const DATABASE: &str = "the database";

/// The answer for programs.
#[derive(serde::Serialize)]
struct Verified<'a> {
    intact: bool,
    #[serde(flatten)]
    report: &'a ExportReport,
    diagnostics: &'a [Diagnostic],
}

fn verify(cx: &Context, request: &AuditVerify) -> Answer {
    let checkpoint = request.checkpoint.as_deref().map(|path| read_checkpoint(cx, path)).transpose()?;
    match &request.export {
        Some(export) => {
            let name = export.to_string_lossy();
            let (input, size) = open(cx, export)?;
            let mut progress = views::audit::Progress::new(cx.err, size);
            let result =
                verify_export(input, &request.key, checkpoint.clone(), |lines, bytes| progress.update(lines, bytes));
            progress.clear();
            judge(cx, &name, &result.map_err(|error| not_an_export(&name, &error))?, checkpoint.as_ref(), false)
        }
        None => wait(async {
            let archive = archive(cx, &request.of).await?;
            let mut progress = views::audit::Progress::new(cx.err, None);
            // Before the record: what is remembered later may be of a seal that this reading does not have.
            let trust = archive.keys.trust()?;
            let is_remembered = trust.is_some();
            let record = Record::open(&archive.store).await?;
            let result =
                record.verify(&request.key, checkpoint.clone(), trust, |entries| progress.update(entries, 0)).await;
            progress.clear();
            let report = result?;
            let answer = judge(cx, DATABASE, &report, checkpoint.as_ref(), is_remembered);
            archive.store.close().await;
            answer
        }),
    }
}

/// Tells what was found; `name` is what was read, `checkpoint` was given, `is_remembered` that the server has one of its own.
pub fn judge(
    cx: &Context,
    name: &str,
    report: &ExportReport,
    checkpoint: Option<&Seal>,
    is_remembered: bool,
) -> Answer {
    if let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.log != report.header.log) {
        let summary =
            format!("the checkpoint is of the log `{}`, and {name} of `{}`", checkpoint.log, report.header.log);
        return Err(usage(Diagnostic::error("WL822", summary).help("give a checkpoint of the same log")));
    }
    let diagnostics = diagnostics(name, report);
    if cx.json {
        print_json(&Verified { intact: report.intact(), report, diagnostics: &diagnostics });
    } else {
        print(&views::audit::verified(cx.out, report, is_remembered || checkpoint.is_some(), &diagnostics));
    }
    Ok(report.intact())
}

fn diagnostics(name: &str, report: &ExportReport) -> Vec<Diagnostic> {
    let mut list: Vec<Diagnostic> = report.report.damage.iter().map(|damage| damage.diagnostic(&views::time)).collect();
    list.extend(report.lines.iter().map(|faulty| line_diagnostic(name, faulty)));
    let more = report.damaged_lines - report.lines.len() as u64;
    if more > 0 {
        let summary = format!("{more} more lines are damaged");
        list.push(Diagnostic::error("WL821", summary).help("export the record again, or get the file again"));
    }
    if report.key_source == KeySource::File && !report.report.keys.is_empty() {
        let (itself, it) = match name {
            DATABASE => ("the database itself", "the database"),
            _ => ("the file itself", "the file"),
        };
        let diagnostic = Diagnostic::warning("WL823", format!("the key was taken from {itself}"))
            .detail(format!("Whoever can replace {it} can replace its key and sign all of it anew."))
            .help("give the key that you know to be the server's: --key ed25519:…");
        list.push(diagnostic);
    }
    list
}

fn line_diagnostic(name: &str, faulty: &FaultyLine) -> Diagnostic {
    let line = u32::try_from(faulty.line).unwrap_or(u32::MAX);
    let span = Span { file: name.into(), line, column: 1, end_line: line, end_column: 1 };
    Diagnostic::error("WL821", format!("line {} is damaged: {}", faulty.line, faulty.fault))
        .at(span)
        .help("export the record again, or get the file again")
}

fn usage(diagnostic: Diagnostic) -> AppError {
    AppError::new(ErrorKind::Usage, diagnostic)
}

pub fn not_an_export(name: &str, error: &ExportError) -> AppError {
    let why = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    let help = match error {
        ExportError::Version(_) => "use the Windlass that wrote it, or a newer one",
        _ => "name a file that `windlass audit export` wrote, not compressed",
    };
    usage(Diagnostic::error("WL820", format!("{name} is no exported record: {error}{why}")).help(help))
}

/// The input, and its size in bytes where it has one.
fn open(cx: &Context, path: &Path) -> AppResult<(Box<dyn BufRead>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(std::io::stdin().lock()), None));
    }
    let file = std::fs::File::open(cx.directory.join(path))
        .map_err(|error| not_an_export(&path.to_string_lossy(), &ExportError::Read(error)))?;
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|data| data.len());
    Ok((Box::new(BufReader::with_capacity(1 << 16, file)), size))
}

pub fn read_checkpoint(cx: &Context, path: &Path) -> AppResult<Seal> {
    let refuse = |why: &dyn std::fmt::Display| {
        let summary = format!("{} is no checkpoint: {why}", path.display());
        usage(
            Diagnostic::error("WL822", summary)
                .help("a checkpoint is the `head` of what `windlass audit verify --json` answered"),
        )
    };
    let text = std::fs::read(cx.directory.join(path)).map_err(|error| refuse(&error))?;
    let seal: Seal = serde_json::from_slice(&text).map_err(|error| refuse(&error))?;
    if !seal.is_signed() {
        return Err(refuse(&"its signature does not fit what it says"));
    }
    Ok(seal)
}
