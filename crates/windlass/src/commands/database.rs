//! `backup`, `restore`, `database move`: the record as a whole.

use crate::terminal::Terminal;
use crate::{Answer, Context, print, print_json, views};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use windlass_app::database::{self, Poured};

#[derive(Debug, Args)]
pub struct DatabaseChoice {
    /// `postgres://USER@HOST/DATABASE`, or the path of a SQLite file [default: that of this repository].
    #[arg(long, value_name = "URL", env = "WINDLASS_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
}

#[derive(Debug, Args)]
pub struct RestoreOptions {
    /// The backup; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    database: DatabaseChoice,
    /// Lose what is in the database now.
    #[arg(long, conflicts_with = "check")]
    replace: bool,
    /// Only read the backup to its end and say what is in it; no database is needed.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Copy everything into another database, of the same or the other engine. Stop servers and workers first.
    #[command(after_help = "\
Examples:
  windlass database move --to postgres://windlass@db.example.com/windlass?sslmode=require
  windlass database move --from postgres://windlass@db.example.com/windlass --to windlass.db

The first database stays as it is. Sessions are moved too: nobody has to sign in again.")]
    Move {
        /// The database to read, as `--to` [default: WINDLASS_DATABASE, or the file of this repository].
        #[arg(long, value_name = "URL", env = "WINDLASS_DATABASE", hide_env_values = true)]
        from: Option<String>,
        /// The database to write: `postgres://USER@HOST/DATABASE`, or the path of a SQLite file.
        #[arg(long, value_name = "URL")]
        to: String,
        /// Lose what is in the database that is written.
        #[arg(long)]
        replace: bool,
    },
}

pub fn backup(cx: &Context, output: Option<PathBuf>, choice: &DatabaseChoice) -> Answer {
    let database = database::choose(&cx.directory, choice.database.as_deref())?;
    let output = output.unwrap_or_else(|| {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        format!("windlass-{now}.backup").into()
    });
    let mut progress = Progress::new(cx.err);
    let made = database::backup(&database, named(&output), &mut |table, rows| progress.tell(table, rows))?;
    progress.clear();
    match &made.file {
        // The backup is all there is on standard output.
        None => eprintln!("Backed up {}: {}", made.database, tally(&made.content.poured)),
        Some(_) if cx.json => print_json(&made),
        Some(file) => print(&format!(
            "Backed up {} in {}: {}, {} bytes\n",
            made.database,
            file.display(),
            tally(&made.content.poured),
            made.bytes
        )),
    }
    if made.file.is_some() && !cx.json {
        print(&beside(&made.content.poured));
    }
    Ok(true)
}

pub fn restore(cx: &Context, options: &RestoreOptions) -> Answer {
    if options.check {
        let content = database::check(named(&options.file))?;
        if cx.json {
            print_json(&content);
        } else {
            let made = views::time(content.header.made);
            let release = &content.header.release;
            print(&format!("A whole backup, made {made} by Windlass {release}: {}\n", tally(&content.poured)));
        }
        return Ok(true);
    }
    let database = database::choose(&cx.directory, options.database.database.as_deref())?;
    let mut progress = Progress::new(cx.err);
    let mut tell = |table: &str, rows| progress.tell(table, rows);
    let restored = database::restore(named(&options.file), &database, options.replace, &mut tell)?;
    progress.clear();
    if cx.json {
        print_json(&restored);
    } else {
        let (content, made) = (&restored.content, views::time(restored.content.header.made));
        print(&format!("Restored {} as of {made}: {}\n", restored.database, tally(&content.poured)));
    }
    Ok(true)
}

pub fn run(cx: &Context, command: DatabaseCommand) -> Answer {
    let DatabaseCommand::Move { from, to, replace } = command;
    let from = database::choose(&cx.directory, from.as_deref())?;
    let to = database::choose(&cx.directory, Some(&to))?;
    let mut progress = Progress::new(cx.err);
    let moved = database::relocate(&from, &to, replace, &mut |table, rows| progress.tell(table, rows))?;
    progress.clear();
    if cx.json {
        print_json(&moved);
    } else {
        print(&format!("Moved {} to {}: {}\n", moved.from, moved.to, tally(&moved.poured)));
        print(&beside(&moved.poured));
        print("Start servers and workers with the new database; the old one was left as it was.\n");
    }
    Ok(true)
}

/// A file, unless it is `-`.
fn named(path: &Path) -> Option<&Path> {
    (path != Path::new("-")).then_some(path)
}

fn tally(poured: &Poured) -> String {
    let rows = &poured.rows;
    let count = |name: &str| rows.iter().find(|(table, _)| table == name).map_or(0, |(_, count)| *count);
    let all: u64 = rows.iter().map(|(_, count)| count).sum();
    let parts = [("runs", "run"), ("reviews", "review"), ("events", "event")];
    let parts: Vec<String> = parts.iter().map(|(table, one)| views::count(count(table) as usize, one)).collect();
    format!("{}, {all} rows in all", parts.join(", "))
}

/// What is not in the database, one line for each place.
fn beside(poured: &Poured) -> String {
    let line = |(place, (artefacts, bytes)): (&String, &(u64, u64))| {
        format!("Not in it: {}, {bytes} bytes, in {place}\n", views::count(*artefacts as usize, "artefact"))
    };
    poured.elsewhere.iter().map(line).collect()
}

/// What goes on, on a terminal; programs and files get nothing of it.
struct Progress {
    terminal: Terminal,
    told: Option<Instant>,
}

impl Progress {
    fn new(terminal: Terminal) -> Self {
        Self { terminal, told: None }
    }

    fn tell(&mut self, table: &str, rows: u64) {
        let now = Instant::now();
        if self.terminal.interactive && self.told.is_none_or(|told| now - told >= Duration::from_millis(100)) {
            self.told = Some(now);
            eprint!("\r\x1b[K{table}: {rows} rows");
        }
    }

    fn clear(&self) {
        if self.told.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
