//! Changes of a forge: what a server asks GitHub for, and how soon it takes up what is pushed, while very many changes are open.
//!
//! The server is the program itself. The forge is the one of the tests, with a real repository; it counts what it is asked for, and
//! when.

use super::measure::measure as measure_command;
use super::{Bench, Row, at_most, reported};
use crate::shell::{Failure, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use windlass_testkit::cli::CliEnv;
use windlass_testkit::forge::state::{ACCOUNT, REPOSITORY, TOKEN};
use windlass_testkit::forge::{Forge, Heard};

const SECRET: &str = "told-to-the-forge-and-to-us";
/// Between two pushes: fifty a minute.
const PACE: Duration = Duration::from_millis(1_200);
/// Of so many pushes the deliveries of one are lost.
const LOST: usize = 10;
/// How many requests GitHub takes in an hour from one account.
const BUDGET: f64 = 5_000.0;
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// The branch that touches every stack.
const WIDE: &str = "wide";

struct Sizes {
    open: usize,
    stacks: usize,
    pushes: usize,
    rest: Duration,
}

pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let of = |given: Option<usize>, quick: usize, full: usize| given.unwrap_or(if bench.quick { quick } else { full });
    let open = of(bench.open, 60, 1_000);
    let sizes = Sizes {
        open,
        stacks: of(bench.stacks, 6, 300),
        pushes: of(bench.pushes, 12, 200).min(open),
        // Changes are listed every two minutes; of a few changes that shows nothing.
        rest: Duration::from_secs(if bench.quick && bench.open.is_none() { 10 } else { 250 }),
    };
    let mut world = World::new(bench, sizes)?;
    let mut rows = world.known()?;
    rows.extend(world.rest()?);
    rows.extend(world.pushed()?);
    rows.extend(world.wide(bench)?);
    Ok(rows)
}

struct World {
    forge: Forge,
    env: CliEnv,
    sizes: Sizes,
    server: Option<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// A push that is watched.
struct Push {
    number: u64,
    commit: String,
    at: Instant,
    is_lost: bool,
}

/// What a push came to, ms from when it was there.
struct Came {
    taken: f64,
    pending: f64,
    done: f64,
    is_lost: bool,
}

impl World {
    /// A repository with its stacks, and the changes, each of one stack.
    fn new(bench: &Bench, sizes: Sizes) -> Result<Self> {
        let (forge, mut env) = (Forge::github()?, CliEnv::new(&bench.windlass)?);
        env.set("PATH", &bench.path);
        let (main, first) = forge.with(|state| {
            let main = state.main()?.clone();
            let first = main.commit("refs/heads/main").unwrap_or_default();
            state.person("anna");
            Ok::<_, windlass_testkit::TestkitError>((main, first))
        })?;
        let mut stream = String::new();
        let names: Vec<String> = (0..sizes.stacks).map(|n| format!("stacks/s{n:03}/main.tf")).collect();
        let texts = |version: &str| -> Vec<(&str, String)> {
            names.iter().map(|name| (name.as_str(), stack(&env, name, version))).collect()
        };
        let definitions = "project \"infra\" {\n  environment \"production\" {\n    match = [\"stacks/**\"]\n  }\n}\n";
        commit(&mut stream, "main", &first, &[texts("1"), vec![("windlass.hcl", definitions.to_owned())]].concat());
        for n in 1..=sizes.open {
            let name = &names[n % sizes.stacks];
            let text = stack(&env, name, &format!("of-{n}"));
            commit(&mut stream, &format!("c-{n}"), "refs/heads/main", &[(name, text)]);
        }
        commit(&mut stream, WIDE, "refs/heads/main", &texts("2"));
        git(main.path(), &["fast-import", "--quiet"], &stream)?;
        git(main.path(), &["pack-refs", "--all"], "")?;
        // Terraform makes an empty file where it locks a state that is not there, and cannot read that in another plan.
        let empty =
            r#"{"version":4,"terraform_version":"1.0.0","serial":1,"lineage":"bench","outputs":{},"resources":[]}"#;
        for name in &names {
            write(&state_of(&env, name), empty)?;
        }
        forge.pushed("anna")?;
        for n in 1..=sizes.open {
            let branch = format!("c-{n}");
            forge.with(|state| state.open("anna", &format!("Change {n}"), REPOSITORY, &branch, "main"))?;
        }
        git(main.path(), &["pack-refs", "--all"], "")?;
        Ok(Self { forge, env, sizes, server: None })
    }

    /// Starts the server, which its webhook tells of everything from now on.
    fn start(&mut self) -> Result<()> {
        let home = self.env.home();
        let file = |name: &str, text: &str| write(&home.join(name), text).map(|()| home.join(name));
        let (token, secret) = (file("token", TOKEN)?, file("secret", SECRET)?);
        let url = self.forge.with(|state| state.main().map(|main| main.path().display().to_string()))?;
        let text = format!(
            "webhook_secrets = [{secret:?}]\n[[repository]]\nname = \"infra\"\nurl = {url:?}\nbranch = \"main\"\n\
             [repository.forge]\nkind = \"github\"\napi = \"{}\"\nrepository = \"{REPOSITORY}\"\ntoken_file = {token:?}\n",
            self.forge.url("/api/v3")
        );
        let configuration = file("windlass.toml", &text)?;
        let log = std::fs::File::create(home.join("server.log"))
            .map_err(|error| Failure::new(format!("cannot write the log: {error}")))?;
        let mut command = self.env.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.args([Path::new("--config"), &configuration, Path::new("--data"), &home.join("data")]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| Failure::new(format!("cannot start the server: {error}")))?;
        let stdout = child.stdout.take();
        self.server = Some(child);
        let mut lines =
            stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(|line| line.ok());
        let url = lines.find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned));
        let url = url.ok_or_else(|| self.failed("it does not say where it listens"))?;
        self.forge.deliveries().send_to(&format!("{url}/webhooks"), SECRET);
        Ok(())
    }

    fn failed(&self, why: &str) -> Failure {
        let log = std::fs::read_to_string(self.env.home().join("server.log")).unwrap_or_default();
        let from = log.len().saturating_sub(4_000);
        Failure::new(format!("the server: {why}\n{}", log.get(from..).unwrap_or_default()))
    }

    /// Waits for something of the forge.
    fn until<T>(&self, what: &str, mut is: impl FnMut(&Forge) -> Result<Option<T>>) -> Result<T> {
        let begin = Instant::now();
        loop {
            if let Some(found) = is(&self.forge)? {
                return Ok(found);
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.failed(&format!("{what} within an hour")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the forge was asked for nothing for so long.
    fn quiet(&self, time: Duration) -> Result<()> {
        let (mut known, mut since) = (self.forge.asked(), Instant::now());
        self.until("it is quiet", |forge| {
            let now = forge.asked();
            if now != known {
                (known, since) = (now, Instant::now());
            }
            Ok((since.elapsed() >= time).then_some(()))
        })
    }

    /// Waits for the next list, and what that finds: our own words touched the changes, and so does who speaks in the same moment.
    fn listed(&self) -> Result<()> {
        if self.sizes.rest > Duration::from_secs(120) {
            std::thread::sleep(Duration::from_secs(122));
        }
        self.quiet(Duration::from_secs(5))
    }

    /// A server that has never heard of any of the changes.
    fn known(&mut self) -> Result<Vec<Row>> {
        let begin = Instant::now();
        self.start()?;
        let open = self.sizes.open;
        self.until("all changes are planned", |forge| Ok((ready(forge)?.len() >= open).then_some(())))?;
        let seconds = begin.elapsed().as_secs_f64();
        // What was touched shortly before the last is listed twice.
        self.listed()?;
        self.listed()?;
        let heard = self.forge.heard();
        told("taking up", &heard);
        Ok(vec![
            reported(format!("{open} changes nobody knew of: until each is planned and told"), seconds, " s"),
            reported("calls for each of them", heard.len() as f64 / open as f64, ""),
        ])
    }

    /// The same changes, while nothing happens; and a plain client that asks for each once a minute.
    fn rest(&self) -> Result<Vec<Row>> {
        let Sizes { open, rest, .. } = self.sizes;
        let (from, begin, before) = (self.forge.asked(), Instant::now(), self.cpu()?);
        std::thread::sleep(rest);
        let minutes = begin.elapsed().as_secs_f64() / 60.0;
        let percent = (self.cpu()? - before) / (minutes * 60.0) * 100.0;
        let memory = self.memory()?;
        let heard = self.forge.heard().split_off(from);
        told("at rest", &heard);
        let ours = heard.len() as f64 / minutes;
        let from = self.forge.asked();
        for number in 1..=open {
            plain(&self.forge, "GET", &format!("pulls/{number}"), "")?;
        }
        let plain = (self.forge.asked() - from) as f64;
        let name = format!("{open} open changes at rest");
        Ok(vec![
            at_most(format!("{name}: calls a minute"), 1.0, ours, ""),
            reported("a plain client that asks for each once a minute: calls a minute", plain, ""),
            at_most(format!("{name}: calls, ratio to the plain client"), 0.01, ours / plain, "×"),
            at_most(format!("{name}: CPU of the server and its git"), 5.0, percent, " %"),
            reported(format!("{name}: memory of the server"), memory, " MiB"),
        ])
    }

    /// Fifty pushes a minute, each to another change, of some of which no delivery comes.
    fn pushed(&self) -> Result<Vec<Row>> {
        let Sizes { open, stacks, pushes: count, .. } = self.sizes;
        let (from, begin, before) = (self.forge.asked(), Instant::now(), self.cpu()?);
        let mut pushes = Vec::new();
        for n in 0..count {
            let due = PACE * u32::try_from(n).unwrap_or(u32::MAX);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
            // The last is heard of, and by it of the one before.
            let is_lost = n % LOST == LOST - 2;
            let (number, name) = (n as u64 + 1, format!("stacks/s{:03}/main.tf", (n + 1) % stacks));
            let text = stack(&self.env, &name, &format!("again-{number}"));
            let push = self.forge.with(|state| {
                if is_lost {
                    // That the branch moved, and that the change did.
                    self.forge.deliveries().lose(2);
                }
                let commit = state.push("anna", REPOSITORY, &format!("c-{number}"), None, &[(&name, Some(&text))])?;
                Ok::<_, windlass_testkit::TestkitError>(Push { number, commit, at: Instant::now(), is_lost })
            })?;
            pushes.push(push);
        }
        let lasted = begin.elapsed();
        self.until("every push is planned", |forge| {
            let ready = ready(forge)?;
            Ok(pushes.iter().all(|push| ready.contains(&push.commit)).then_some(()))
        })?;
        let percent = (self.cpu()? - before) / begin.elapsed().as_secs_f64() * 100.0;
        let last = self.forge.asked();
        self.listed()?;
        let heard = self.forge.heard().split_off(from);
        told("pushes", &heard);
        eprintln!("  after the last was planned: {} calls", self.forge.asked() - last);
        let came = came(&pushes, &heard).ok_or_else(|| self.failed("a push was never looked at"))?;
        let (lost, whole): (Vec<Came>, Vec<Came>) = came.into_iter().partition(|came| came.is_lost);
        let calls = heard.len() as f64 / count as f64;
        let least = self.least(&pushes[0])?;
        eprintln!(
            "  {count} pushes in {:.0} s; CPU of the server, its git and terraform {percent:.0} %",
            lasted.as_secs_f64()
        );
        let mut rows = Vec::new();
        let name = format!("50 pushes a minute, {open} open");
        for (what, of, limit) in [
            ("taken up", (|came| came.taken) as fn(&Came) -> f64, Some(1_000.0)),
            ("`pending` at the forge", |came| came.pending, None),
            ("planned and told", |came| came.done, None),
        ] {
            for share in [0.5, 0.95, 0.99, 1.0] {
                let label = if share == 1.0 { "max".to_owned() } else { format!("p{:.0}", share * 100.0) };
                let name = format!("{name}: {what}, {label}");
                let value = at(&whole, of, share);
                rows.push(match limit.filter(|_| share == 0.95) {
                    Some(limit) => at_most(name, limit, value, " ms"),
                    None => reported(name, value, " ms"),
                });
            }
        }
        if !lost.is_empty() {
            rows.push(reported(
                format!("{name}: taken up where no delivery came, max"),
                at(&lost, |c| c.taken, 1.0),
                " ms",
            ));
        }
        rows.extend([
            reported("the least calls that tell of one push", least, ""),
            at_most("calls for a push, lists and what they find included", 12.0, calls, ""),
            at_most("calls for a push, ratio to the least", 3.0, calls / least, "×"),
            reported("pushes in an hour that 5,000 calls are enough for", BUDGET / calls, ""),
            reported(
                "of 5,000 calls an hour, as long as 50 pushes a minute go on",
                calls * 3_000.0 / BUDGET * 100.0,
                " %",
            ),
        ]);
        Ok(rows)
    }

    /// What a client does at least that is told of a push and of what comes of it, and sees to it that it speaks of what is there: reads the
    /// change, sets a status, changes one comment and sets the status that stays. Those calls are made.
    fn least(&self, push: &Push) -> Result<f64> {
        let comment = self.forge.with(|state| {
            let change = state.change(push.number).ok()?;
            change.comments.iter().find(|comment| comment.author == ACCOUNT).map(|comment| comment.id)
        });
        let comment = comment.ok_or_else(|| self.failed("it made no comment"))?;
        let from = self.forge.asked();
        let status = |word: &str| format!("{{\"state\":\"{word}\",\"context\":\"plain\",\"description\":\"plain\"}}");
        plain(&self.forge, "GET", &format!("pulls/{}", push.number), "")?;
        plain(&self.forge, "POST", &format!("statuses/{}", push.commit), &status("pending"))?;
        plain(&self.forge, "PATCH", &format!("issues/comments/{comment}"), "{\"body\":\"planned\"}")?;
        plain(&self.forge, "POST", &format!("statuses/{}", push.commit), &status("success"))?;
        Ok((self.forge.asked() - from) as f64)
    }

    /// One change that touches every stack.
    fn wide(&self, bench: &Bench) -> Result<Vec<Row>> {
        let stacks = self.sizes.stacks;
        let (from, before, begin) = (self.forge.asked(), self.cpu()?, Instant::now());
        let number = self.forge.with(|state| state.open("anna", "Everything", REPOSITORY, WIDE, "main"))?;
        let comment = self.until("the wide change is planned", |forge| {
            let ready = ready(forge)?;
            Ok(forge.with(|state| {
                let change = state.change(number).ok()?;
                let comment = change.comments.iter().find(|comment| comment.author == ACCOUNT)?;
                ready.contains(&change.commit).then(|| comment.body.clone())
            }))
        })?;
        let (seconds, cpu) = (begin.elapsed().as_secs_f64(), self.cpu()? - before);
        self.quiet(Duration::from_secs(5))?;
        let heard = self.forge.heard().split_off(from);
        told("the wide change", &heard);
        let last = format!("stacks/s{:03}", stacks - 1);
        if !comment.contains("stacks/s000") && !comment.contains(&last) {
            return Err(Failure::new(format!("the comment names none of the stacks:\n{comment}")));
        }
        let root = bench.directory.join("wide");
        for n in 0..stacks {
            let name = format!("stacks/s{n:03}/main.tf");
            write(&root.join(&name), &stack(&self.env, &name, "2"))?;
        }
        let mut command = Command::new(&bench.xtask);
        let (bare, _) = measure_command(bench, command.arg("bare-loop").arg(&root), &[0])?;
        super::discover::remove(&root)?;
        eprintln!("  {seconds:.1} s, CPU {cpu:.1} s; bare {:.1} s, CPU {:.1} s", bare.wall_ms / 1e3, bare.cpu_ms / 1e3);
        let name = format!("one change of {stacks} stacks");
        Ok(vec![
            reported(format!("{name}: until its comment is complete"), seconds, " s"),
            reported(
                format!("{name}: the same, ratio to a loop of init + plan + show"),
                seconds * 1e3 / bare.wall_ms,
                "×",
            ),
            at_most(
                format!("{name}: CPU of the server and all it starts, the same ratio"),
                1.2,
                cpu * 1e3 / bare.cpu_ms,
                "×",
            ),
            at_most(
                format!("{name}: its comment, of the 65,536 letters that GitHub takes"),
                65_536.0,
                comment.chars().count() as f64,
                "",
            ),
            at_most(format!("{name}: calls"), 12.0, heard.len() as f64, ""),
        ])
    }

    /// Seconds of CPU that the server used, and what it started and waited for.
    fn cpu(&self) -> Result<f64> {
        let stat = self.process("stat")?;
        // The name of the program is between parentheses, and may have spaces in it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: Option<Vec<f64>> = (11..15).map(|n| fields.get(n)?.parse().ok()).collect();
        // USER_HZ of Linux.
        Ok(ticks.ok_or_else(|| Failure::new("/proc says nothing of the server"))?.iter().sum::<f64>() / 100.0)
    }

    /// What the server has in memory, MiB.
    fn memory(&self) -> Result<f64> {
        let status = self.process("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        Ok(kib.ok_or_else(|| Failure::new("/proc says nothing of the server"))? / 1024.0)
    }

    fn process(&self, file: &str) -> Result<String> {
        let id = self.server.as_ref().map(Child::id).unwrap_or_default();
        std::fs::read_to_string(format!("/proc/{id}/{file}"))
            .map_err(|error| self.failed(&format!("it has ended: {error}")))
    }
}

/// Commits of which it is said that they can be applied. None of them is one that cannot be planned.
fn ready(forge: &Forge) -> Result<BTreeSet<String>> {
    forge.with(|state| {
        let mut ready = BTreeSet::new();
        for status in state.statuses.iter().filter(|status| status.name == "windlass") {
            if matches!(status.state.as_str(), "error" | "failure") {
                return Err(Failure::new(format!("the server says of a change: {}", status.text)));
            }
            if status.text.starts_with("Ready") {
                ready.insert(status.commit.clone());
            }
        }
        Ok(ready)
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let written = folder.and_then(|()| std::fs::write(path, text));
    written.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

fn state_of(env: &CliEnv, name: &str) -> PathBuf {
    env.home().join("states").join(name.replace('/', "-"))
}

/// A stack whose state is beside the server.
fn stack(env: &CliEnv, name: &str, version: &str) -> String {
    let state = state_of(env, name);
    format!(
        "terraform {{\n  backend \"local\" {{\n    path = {:?}\n  }}\n}}\nresource \"terraform_data\" \"it\" {{\n  input = \"{version}\"\n}}\n",
        state.display().to_string()
    )
}

/// Adds a commit on a branch to what git imports.
fn commit(stream: &mut String, branch: &str, from: &str, files: &[(&str, String)]) {
    let message = format!("{branch}\n");
    let _ = writeln!(stream, "commit refs/heads/{branch}\ncommitter anna <anna@example.com> 1790000000 +0000");
    let _ = writeln!(stream, "data {}\n{message}from {from}", message.len());
    for (path, text) in files {
        let _ = writeln!(stream, "M 100644 inline {path}\ndata {}\n{text}", text.len());
    }
    stream.push('\n');
}

fn git(repository: &Path, arguments: &[&str], input: &str) -> Result<()> {
    let failed = |why: String| Failure::new(format!("git {arguments:?}: {why}"));
    let mut child = Command::new("git")
        .args(arguments)
        .current_dir(repository)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|error| failed(error.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())) }
}

/// One request as anybody's script makes it.
fn plain(forge: &Forge, method: &str, path: &str, body: &str) -> Result<()> {
    let url = forge.url("");
    let place = url.trim_start_matches("http://");
    let failed = |why: String| Failure::new(format!("{method} {path}: {why}"));
    let mut stream = TcpStream::connect(place).map_err(|error| failed(error.to_string()))?;
    let asked = write!(
        stream,
        "{method} /api/v3/repos/{REPOSITORY}/{path} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: plain\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut answer = String::new();
    asked.and_then(|()| stream.read_to_string(&mut answer)).map_err(|error| failed(error.to_string()))?;
    let line = answer.lines().next().unwrap_or_default();
    if line.starts_with("HTTP/1.1 2") { Ok(()) } else { Err(failed(line.to_owned())) }
}

/// What a request asked for.
fn kind(heard: &Heard) -> &'static str {
    let path = heard.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches("/api/v3/repos/").split('/').skip(2).collect();
    match (heard.method.as_str(), parts.as_slice()) {
        ("GET", ["pulls"]) => "list the changes",
        ("GET", ["pulls", _]) => "read a change",
        ("GET", ["pulls", _, "reviews"]) => "read its reviews",
        ("GET", ["issues", _, "comments"]) => "read its comments",
        ("POST", ["statuses", _]) => "set a status",
        ("POST" | "PATCH", ["issues", .., "comments"] | ["issues", "comments", _]) => "write the comment",
        _ => "other",
    }
}

/// Says how often what was asked for.
fn told(what: &str, heard: &[Heard]) {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for one in heard {
        *kinds.entry(kind(one)).or_default() += 1;
    }
    let list: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    eprintln!("  {what}: {} calls: {}", heard.len(), list.join(", "));
}

/// What each push came to; `None` where one was never looked at.
fn came(pushes: &[Push], heard: &[Heard]) -> Option<Vec<Came>> {
    let ms = |push: &Push, heard: &Heard| heard.at.duration_since(push.at).as_secs_f64() * 1e3;
    let one = |push: &Push| {
        let after = || heard.iter().filter(|heard| heard.at >= push.at);
        let read = after().find(|heard| heard.change == Some(push.number) && kind(heard) == "read a change")?;
        let of_commit = || after().filter(|heard| kind(heard) == "set a status" && heard.path.contains(&push.commit));
        let (pending, done) = (of_commit().next()?, of_commit().next_back()?);
        Some(Came { taken: ms(push, read), pending: ms(push, pending), done: ms(push, done), is_lost: push.is_lost })
    };
    pushes.iter().map(one).collect()
}

/// The value below which such a share of them is.
fn at(came: &[Came], of: fn(&Came) -> f64, share: f64) -> f64 {
    let mut values: Vec<f64> = came.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
