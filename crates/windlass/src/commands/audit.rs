//! `audit`: the record, and the proof that it is whole.

use crate::{Answer, Context, print, print_json, views};
use clap::{Args, Subcommand};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use windlass_app::error::{AppError, AppResult, ErrorKind};
use windlass_model::audit::export::{ExportError, ExportReport, FaultyLine, KeySource, verify_export};
use windlass_model::audit::{Seal, VerifyingKey};
use windlass_model::diagnostic::{Diagnostic, Span};

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Verify that nothing in the record was changed, removed, inserted or reordered; name the first thing that was.
    #[command(after_help = "\
Examples:
  windlass audit verify --export audit.jsonl
  windlass audit verify --export audit.jsonl --key ed25519:O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik=
  zcat audit.jsonl.gz | windlass audit verify --export - --checkpoint kept.json

Exit codes: 0 intact, 1 damaged, 2 not an export, or not a checkpoint of it.")]
    Verify(AuditVerify),
}

#[derive(Debug, Args)]
pub struct AuditVerify {
    /// The exported record; `-` is standard input. Neither a repository nor a database is needed.
    #[arg(long, value_name = "FILE")]
    pub export: PathBuf,
    /// The key that signed the first seal (may be given several times) [default: the one in the file].
    #[arg(long, value_name = "ed25519:KEY")]
    pub key: Vec<VerifyingKey>,
    /// A seal that was kept elsewhere, as JSON (`head` of an earlier answer): the record has to contain it.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
}

pub fn run(cx: &Context, command: &Audit) -> Answer {
    match command {
        Audit::Verify(request) => verify(cx, request),
    }
}

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
    let name = request.export.to_string_lossy();
    let (input, size) = open(cx, &request.export)?;
    let mut progress = views::audit::Progress::new(cx.err, size);
    let result = verify_export(input, &request.key, checkpoint.clone(), |lines, bytes| progress.update(lines, bytes));
    progress.clear();
    let report = result.map_err(|error| not_an_export(&name, &error))?;
    if let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.log != report.header.log) {
        let summary =
            format!("the checkpoint is of the log `{}`, and {name} of `{}`", checkpoint.log, report.header.log);
        return Err(usage(Diagnostic::error("WL822", summary).help("give a checkpoint of the same log")));
    }
    let diagnostics = diagnostics(&name, &report);
    if cx.json {
        print_json(&Verified { intact: report.intact(), report: &report, diagnostics: &diagnostics });
    } else {
        print(&views::audit::verified(cx.out, &report, request.checkpoint.is_some(), &diagnostics));
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
    if report.key_source == KeySource::File {
        let diagnostic = Diagnostic::warning("WL823", "the key was taken from the file itself")
            .detail("Whoever can replace the file can replace its key and sign all of it anew.")
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

fn not_an_export(name: &str, error: &ExportError) -> AppError {
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

fn read_checkpoint(cx: &Context, path: &Path) -> AppResult<Seal> {
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
