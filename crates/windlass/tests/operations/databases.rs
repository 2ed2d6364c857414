//! Backup with restore check, and the report.

use super::common::*;
use super::story::{Sample, Story};
use super::tree;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use windlass_testkit::operations::Site;
use windlass_testkit::postgres::Postgres;

fn psql(url: &str, text: &str) -> String {
    let output =
        Command::new("psql").args(["-XqAt", "--set=ON_ERROR_STOP=1", "--command", text, url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const SALES: &str = "CREATE TABLE sales (id int PRIMARY KEY, product text, amount int, sold_at date); \
    INSERT INTO sales SELECT n, (ARRAY['tea', 'a cup', 'pot|\"x\"'])[1 + n % 3], n, '2026-10-01'::date + n % 40 FROM generate_series(1, 300) n; \
    CREATE SCHEMA \"odd one\"; CREATE TABLE \"odd one\".\"it's\" (a text); INSERT INTO \"odd one\".\"it's\" VALUES ('x');";

struct Backup {
    url: String,
    name: &'static str,
    /// Of this database.
    directory: PathBuf,
}

impl Backup {
    fn names(&self, end: &str) -> Vec<String> {
        let mut names: Vec<String> = walk(&self.directory).into_iter().filter(|name| name.ends_with(end)).collect();
        names.sort();
        names
    }

    /// Three old backups.
    fn fill(&self) {
        std::fs::create_dir_all(&self.directory).unwrap();
        for (name, days) in [("one", 3), ("two", 2), ("three", 1)] {
            for end in ["dump", "tables"] {
                let file = self.directory.join(format!("{name}.{end}"));
                std::fs::write(&file, name).unwrap();
                let age = format!("--date={days} days ago");
                assert!(Command::new("touch").arg(age).arg(file).status().unwrap().success());
            }
        }
    }
}

impl Sample for Backup {
    fn arguments(&self) -> Vec<String> {
        vec![format!("database={}", self.name), "keep=3".into()]
    }

    fn world(&self) -> String {
        let databases =
            psql(&self.url, "SELECT datname FROM pg_database WHERE datname LIKE 'restore_check%' ORDER BY 1");
        format!("{databases}{}", tree(&self.directory))
    }

    fn done(&self) {
        assert_eq!(psql(&self.url, "SELECT datname FROM pg_database WHERE datname LIKE 'restore_check%'"), "");
        let (dumps, tables) = (self.names(".dump"), self.names(".tables"));
        assert_eq!((dumps.len(), tables.len(), walk(&self.directory).len()), (3, 3, 6), "{dumps:?} {tables:?}");
        assert!(!self.directory.join("one.dump").exists());
        let new = dumps.iter().find(|name| !name.ends_with("/two.dump") && !name.ends_with("/three.dump")).unwrap();
        let list = Command::new("pg_restore").args(["--list", new]).output().unwrap();
        assert!(list.status.success() && String::from_utf8_lossy(&list.stdout).contains("sales"));
    }

    fn back(&self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
        self.fill();
    }

    fn tolerated(&self) -> &[&str] {
        &["rotate"]
    }
}

fn backup() -> (Story, Backup, Postgres, tempfile::TempDir) {
    let name = "shop";
    let server = Postgres::start().unwrap();
    let url = server.database(name);
    psql(&url, SALES);
    let directory = tempfile::tempdir().unwrap();
    let backup = Backup { url, name, directory: directory.path().join(name) };
    backup.fill();
    let site = Site {
        backups: directory.path().to_owned(),
        postgres: server.port(),
        databases: vec![name.into()],
        ..Site::default()
    };
    let story = Story::new("backup-database", &site, &[("BACKUP_PASSWORD", "a-long-password")]);
    (story, backup, server, directory)
}

#[test]
fn a_backup_is_there_and_checked_or_not_at_all() {
    let (story, backup, _server, _directory) = backup();
    story.prove(&backup, usize::MAX, 2);
}

/// A dump that cannot be read back is no backup, whatever `pg_dump` said.
#[test]
fn a_backup_that_does_not_restore_to_the_same_is_none() {
    let (story, backup, _server, _directory) = backup();
    let before = backup.world();
    let real = windlass_testkit::cli::program("pg_dump").unwrap();
    let text = format!("#!/bin/sh\nexec '{}' --exclude-table-data=sales \"$@\"\n", real.display());
    std::fs::write(story.faults.programs().join("pg_dump"), text).unwrap();
    let arguments = ["run", "backup-database", "database=shop", "--yes"];
    expect(&story.env, &arguments, 1, &["compare"]);
    assert_eq!(backup.world(), before);
}

/// What a program waits for until it is ended.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Report {
    story: Story,
    url: String,
}

impl Report {
    /// Names of what the newest run kept.
    fn files(&self) -> Vec<String> {
        let latest = self.story.latest();
        let database = rusqlite::Connection::open(self.story.env.root().join(".windlass/windlass.db")).unwrap();
        let mut names = database
            .prepare("SELECT DISTINCT subject FROM artefacts WHERE run = $1 AND kind = 'file' ORDER BY subject")
            .unwrap();
        let names = names.query_map([latest["run"]["run"].as_str().unwrap()], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    }
}

impl Sample for Report {
    fn arguments(&self) -> Vec<String> {
        vec!["month=2026-10".into()]
    }

    fn world(&self) -> String {
        psql(&self.url, "SELECT count(*), sum(amount) FROM sales")
    }

    fn done(&self) {
        assert_eq!(self.files(), ["write/sales-2026-10.csv", "write/sales-2026-10.md"], "{}", self.story.report());
    }

    fn back(&self) {}
}

fn report(name: &str) -> (Report, Postgres) {
    let server = Postgres::start().unwrap();
    let url = server.database(name);
    psql(&url, SALES);
    let story = Story::new("sales-report", &Site::default(), &[("REPORT_DATABASE", &url)]);
    (Report { story, url }, server)
}

#[test]
fn a_report_is_written_whatever_happens_on_the_way() {
    let (report, _server) = report("reported");
    report.story.prove(&report, usize::MAX, 2);
    // Windlass is killed while the database is thinking.
    let held = hold(&report.url);
    let mut child = start(&report.story.env, &["run", "sales-report", "month=2026-10", "--yes"]);
    waits(&report.url);
    child.kill().unwrap();
    child.wait().unwrap();
    // The server would not notice that its client has gone.
    psql(&report.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
    drop(held);
    report.story.resume(&report, "killed in the query");
}

/// Somebody who has the table for himself.
fn hold(url: &str) -> Held {
    let text = "BEGIN; LOCK TABLE sales; SELECT pg_sleep(600)";
    let mut psql_holds = Command::new("psql");
    psql_holds.args(["-Xq", "--command", text, url]).stdout(Stdio::null()).stderr(Stdio::null());
    let held = Held(psql_holds.spawn().unwrap());
    wait(|| (psql(url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") != "0\n").then_some(()));
    held
}

fn waits(url: &str) {
    wait(|| (psql(url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") != "0\n").then_some(()));
}
