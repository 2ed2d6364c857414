//! `artefacts`: what steps of operations left, in a checkout and on a server alike, and the former's part.

use crate::terminal::clean;
use crate::{Answer, Context, print, print_json, views};
use clap::Args;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind as Io, Read, Write};
use std::path::{Path, PathBuf};
use windlass_app::error::{AppError, AppResult, ErrorKind};
use windlass_app::run_artefacts::{RunArtefact, artefact_list, artefact_read};
use windlass_app::runs;
use windlass_app::service::Service;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  windlass artefacts latest                                       what its steps left
  windlass artefacts latest/dump/out/dump.sql                     saves dump.sql here
  windlass artefacts 01k9…/dump/out/dump.sql --output ledger.sql
  windlass artefacts 01k9…/dump/out/dump.sql --output - | less")]
pub struct ArtefactOptions {
    /// `RUN`, or `RUN/STEP/NAME` to save one, that of the step's last attempt (`RUN/ID` for any); `latest` for the newest run.
    #[arg(value_name = "RUN[/STEP/NAME]")]
    pub target: String,
    /// Save it as this file, also over one that is there; `-` is standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl ArtefactOptions {
    /// The run, and the artefact of it that is meant.
    ///
    /// # Errors
    /// There is nothing to be saved.
    pub fn target(&self) -> AppResult<(&str, Option<&str>)> {
        let (run, name) = self.target.split_once('/').unwrap_or((&self.target, ""));
        if name.is_empty() && self.output.is_some() {
            let diagnostic = Diagnostic::error("WL904", "`--output` is where one artefact goes, and none is named");
            let help = format!("name it as {run}/STEP/NAME; `windlass artefacts {run}` lists them");
            return Err(AppError::new(ErrorKind::Usage, diagnostic.help(help)));
        }
        Ok((run, Some(name).filter(|name| !name.is_empty())))
    }
}

/// How many are read at once.
const PAGE: u32 = 500;

pub async fn run(cx: &Context, service: &Service, options: &ArtefactOptions) -> Answer {
    let (run, name) = options.target()?;
    let record = runs::run_find(service, run).await?;
    let Some(name) = name else {
        let mut all: Vec<RunArtefact> = Vec::new();
        loop {
            let after = all.last().map(|artefact| artefact.id.as_str());
            let page = artefact_list(&service.store, &record, after, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            all.extend(page);
            if is_last {
                return Ok(list(cx, &record.id, &all));
            }
        }
    };
    let (_, content) = artefact_read(&service.store, &record, name).await?;
    save(cx, name, options.output.as_deref(), content.as_slice())
}

/// Prints what there is.
pub fn list(cx: &Context, run: &RunId, artefacts: &[RunArtefact]) -> bool {
    if cx.json {
        print_json(&artefacts);
    } else {
        print(&views::runs::render_artefacts(cx.out, run, artefacts));
    }
    true
}

/// Writes an artefact that is called `name` to where it is to go.
pub fn save(cx: &Context, name: &str, output: Option<&Path>, mut content: impl Read) -> Answer {
    let broken = |error: &std::io::Error| {
        let summary = format!("the artefact broke off: {error}");
        let diagnostic = Diagnostic::error("WL880", summary).help("what was written is not whole: ask for it again");
        AppError::new(ErrorKind::Unavailable, diagnostic)
    };
    if output.is_some_and(|path| path == Path::new("-")) {
        let mut out = std::io::stdout().lock();
        let copied = std::io::copy(&mut content, &mut out).and_then(|_| out.flush());
        return match copied {
            // A reader that went away ends the program quietly, as every filter does.
            Err(error) if error.kind() != Io::BrokenPipe => Err(broken(&error)),
            _ => Ok(true),
        };
    }
    let path = cx.directory.join(match output {
        Some(path) => path,
        None => own_name(name)?,
    });
    let opened = match output {
        Some(_) => File::create(&path),
        None => OpenOptions::new().write(true).create_new(true).open(&path),
    };
    let mut file = opened.map_err(|error| match error.kind() {
        Io::AlreadyExists => not_saved(format!("{} is there already", path.display())),
        _ => windlass_app::settings::disk(&path, &error),
    })?;
    match std::io::copy(&mut content, &mut file) {
        Ok(size) if cx.json => print_json(&serde_json::json!({ "file": path, "size": size })),
        Ok(size) => {
            let path = path.strip_prefix(".").unwrap_or(&path).display().to_string();
            print(&format!("Saved {} ({}) as {}.\n", clean(name), views::size(size), clean(&path)));
        }
        Err(error) => {
            if output.is_none() {
                // The next try is to find nothing of this one.
                let _ = std::fs::remove_file(&path);
            }
            return Err(broken(&error));
        }
    }
    Ok(true)
}

/// What it is saved as where nobody says: the last part of its name.
fn own_name(name: &str) -> AppResult<&Path> {
    match name.rsplit('/').next() {
        Some(own) if !matches!(own, "" | "." | "..") && !own.contains('\0') => Ok(Path::new(own)),
        _ => Err(not_saved(format!("`{name}` is no name of a file"))),
    }
}

fn not_saved(summary: String) -> AppError {
    let diagnostic = Diagnostic::error("WL761", summary).help("say where it goes with `--output FILE`");
    AppError::new(ErrorKind::Usage, diagnostic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_saved_in_the_directory_and_nowhere_else() {
        let check = |name: &str, want: Option<&str>| {
            assert_eq!(own_name(name).ok(), want.map(Path::new), "{name}");
        };
        check("report.csv", Some("report.csv"));
        check("out/report.csv", Some("report.csv"));
        check("../../etc/passwd", Some("passwd"));
        for wrong in ["", "out/", "..", "out/..", ".", "a\0b"] {
            check(wrong, None);
        }
    }
}
