//! `cargo xtask demo`: the product on the sample company, each step checked. It is an end-to-end test with a narrator.

use crate::options::Options;
use crate::setup;
use crate::shell::{Failure, Result, line};
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use windlass_testkit::operations::write_clean_up;
use windlass_testkit::sample::{BREAKING, FIXED, UPGRADE, write_sample};

pub const HELP: &str = "\
Usage: cargo xtask demo [--yes] [--keep] [--dir DIR]

Makes a sample company repository with its own git history and takes it from discovery to an apply that is killed in
the middle and resumed. Uses Terraform's built-in provider only: nothing outside the directory is touched. Every step
shows its command, and the demo stops with an error where an answer is not what it should be.

  --yes       do not wait for Enter between the chapters
  --keep      leave the repository in place
  --dir DIR   make it there (empty or not existing) and leave it in place

Needs terraform or tofu: fetches OpenTofu, pinned and checked, when there is neither.";

/// How long one command may take before the demo gives up on it.
const PATIENCE: Duration = Duration::from_secs(300);

pub fn run(options: &Options) -> Result<()> {
    let path = setup::everything()?;
    let program = setup::windlass(false)?;
    let (root, keep) = match options.value("--dir") {
        Some(directory) => (PathBuf::from(directory), true),
        None => (std::env::temp_dir().join(format!("windlass-demo-{}", std::process::id())), options.has("--keep")),
    };
    write_sample(&root)?;
    let root = root.canonicalize().map_err(|e| Failure::new(format!("cannot find {}: {e}", root.display())))?;
    let pause = !options.has("--yes") && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let demo = Demo { program, root, path, pause, colour: std::io::stdout().is_terminal() };
    let result = demo.play();
    match &result {
        Ok(()) => demo.farewell(keep),
        Err(_) => eprintln!("\nThe repository is left at {}.", demo.root.display()),
    }
    if result.is_ok() && !keep {
        std::fs::remove_dir_all(&demo.root)
            .map_err(|e| Failure::new(format!("cannot remove {}: {e}", demo.root.display())))?;
    }
    result
}

struct Demo {
    program: PathBuf,
    root: PathBuf,
    path: OsString,
    /// Wait for Enter between chapters.
    pause: bool,
    colour: bool,
}

/// What a command printed, both streams together.
struct Said {
    status: ExitStatus,
    text: String,
}

impl Demo {
    fn play(&self) -> Result<()> {
        self.discover()?;
        self.first_rollout()?;
        self.refusal()?;
        self.fix()?;
        self.nothing_left()?;
        self.crash()?;
        self.operations()
    }

    fn discover(&self) -> Result<()> {
        self.chapter(
            "A repository",
            "One global stack, two regions with four stacks each, linked only by terraform_remote_state.",
        )?;
        self.git(&["log", "--oneline", "--decorate", "--graph", "--all"])?;
        self.step(&["stacks"], 0, &["global/dns", "aws/cassandra", "tokyo", "osaka"])?;
        self.chapter(
            "The graph",
            "Read from the code, with evidence. One edge is gated: osaka does not watch scalardl.",
        )?;
        self.step(&["graph"], 0, &["aws/network[tokyo]", "aws/monitor[osaka]"])?;
        self.step(&["show", "aws/monitor"], 0, &["contains(var.targets, \"scalardl\") ? 1 : 0"])?;
        self.step(&["check"], 0, &[])
    }

    fn first_rollout(&self) -> Result<()> {
        self.chapter(
            "The first roll-out",
            "Nothing exists yet. Stacks whose upstream is not there are previewed with the values it will have.",
        )?;
        self.step(&["review", "--all"], 0, &["global/dns", "preview"])?;
        self.note("Production asks for an approval, so an apply is refused until somebody has given it.");
        self.step(&["apply", "--yes"], 1, &["approv"])?;
        self.step(&["approve", "--reason", "first roll-out"], 0, &[])?;
        self.step(&["apply", "--yes"], 0, &["aws/monitor[tokyo]"])?;
        self.expect_state("aws/monitor", "tokyo", "cassandra-05", false)
    }

    fn refusal(&self) -> Result<()> {
        self.chapter(
            "A change that policy refuses",
            "Somebody wants to save nodes. The policy knows what a quorum is.",
        )?;
        self.git(&["switch", "--quiet", BREAKING])?;
        self.git(&["diff", "--unified=0", "main"])?;
        self.step(&["affected"], 0, &["aws/cassandra[tokyo]", "aws/cassandra/tokyo.tfvars"])?;
        self.step(&["review"], 1, &["would have 2 nodes, it needs at least 3", "aws/cassandra[tokyo]"])?;
        self.note("What is denied cannot be applied either.");
        self.step(&["apply", "--yes"], 1, &["cannot be applied"])
    }

    fn fix(&self) -> Result<()> {
        self.chapter(
            "The fix",
            "A second commit asks for five nodes. Its dependants are previewed with the new addresses.",
        )?;
        self.git(&["switch", "--quiet", FIXED])?;
        self.step(&["review"], 0, &["aws/cassandra[tokyo]", "aws/scalardl[tokyo]", "preview"])?;
        self.chapter(
            "Approval",
            "Its author may not approve it for production alone: that takes somebody of the sre team.",
        )?;
        self.git(&["config", "user.email", "dev@example.com"])?;
        self.step(&["approve", "--reason", "looks good to me"], 1, &["dev@example.com"])?;
        self.git(&["config", "user.email", "sre@example.com"])?;
        self.step(&["approve", "--reason", "capacity agreed"], 0, &[])?;
        self.chapter(
            "Apply",
            "In the order of the edges. A dependant goes on under the same approval when it does what was previewed.",
        )?;
        self.step(&["apply", "--yes"], 0, &["aws/cassandra[tokyo]", "aws/monitor[tokyo]"])?;
        self.expect_state("aws/cassandra", "tokyo", "-05.internal", true)?;
        self.expect_state("aws/monitor", "tokyo", "-05.internal", true)?;
        self.expect_state("aws/cassandra", "osaka", "-05.internal", false)
    }

    fn nothing_left(&self) -> Result<()> {
        self.chapter("The same review again", "The world is what git says.")?;
        self.step(&["review"], 0, &["othing"])?;
        self.git(&["switch", "--quiet", "main"])?;
        self.git(&["merge", "--quiet", "--ff-only", FIXED])
    }

    fn crash(&self) -> Result<()> {
        self.chapter(
            "A crash in the middle",
            "A new release rolls over both regions and takes a while. Windlass is killed (SIGKILL) during it.",
        )?;
        self.git(&["switch", "--quiet", UPGRADE])?;
        self.step(&["review"], 0, &["aws/scalardl[tokyo]", "aws/scalardl[osaka]"])?;
        self.step(&["approve", "--reason", "release 3.11.0"], 0, &[])?;
        let killed = self.start(&["apply", "--yes"])?;
        let killed = self.kill_when(killed, || self.state("aws/scalardl", "tokyo").contains("release 3.11.0"))?;
        if killed.status.success() {
            return Err(Failure::new("the apply ended before it could be killed"));
        }
        self.note("What was under way is on record.");
        self.step(&["runs"], 0, &["apply"])?;
        self.step(&["resume"], 0, &["aws/scalardl[tokyo]"])?;
        self.expect_state("aws/scalardl", "tokyo", "runs release 3.11.0", true)?;
        self.expect_state("aws/scalardl", "osaka", "runs release 3.11.0", true)?;
        self.step(&["review"], 0, &["othing"])?;
        self.step(&["runs"], 0, &["succeeded"])
    }

    fn operations(&self) -> Result<()> {
        self.chapter(
            "What a team does by itself",
            "Operations are declared beside the stacks. These two came with a commit: a clean-up of old files, and its way back.",
        )?;
        self.git(&["switch", "--quiet", "main"])?;
        let exports = self.root.join(".git/exports");
        let io = |error: std::io::Error| Failure::new(format!("cannot prepare {}: {error}", exports.display()));
        std::fs::create_dir_all(&exports).map_err(io)?;
        let old = exports.join("march.csv");
        std::fs::write(&old, "a,b\n").map_err(io)?;
        std::fs::write(exports.join("today.csv"), "c,d\n").map_err(io)?;
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(40 * 86_400);
        std::fs::File::options().write(true).open(&old).and_then(|file| file.set_modified(long_ago)).map_err(io)?;
        write_clean_up(&self.root, &exports)?;
        self.git(&["add", "operations"])?;
        self.git(&["commit", "--quiet", "--message", "operations: clean-up"])?;
        self.step(&["check"], 0, &[])?;
        self.step(&["operations"], 0, &["clean-up", "put-back"])?;
        self.step(&["operations", "clean-up"], 0, &["area", "days"])?;
        self.note("What is given is checked before anything begins.");
        self.step(&["run", "clean-up", "area=elsewhere", "--yes"], 2, &["exports"])?;
        self.step(&["run", "clean-up", "area=exports", "--yes"], 0, &["trash"])?;
        let moved = std::fs::read_dir(exports.join(".trash")).map_err(io)?.next().transpose().map_err(io)?;
        let moved = moved.map(|entry| entry.file_name().to_string_lossy().into_owned()).unwrap_or_default();
        if old.exists() || moved.is_empty() {
            return Err(Failure::new("the old file is not in the trash"));
        }
        self.note("The choices of its way back are asked of a program: the moves that are still in the trash.");
        self.step(&["run", "put-back", "area=exports", &format!("move={moved}"), "--yes"], 0, &[])?;
        if old.exists() { Ok(()) } else { Err(Failure::new("the old file is not back")) }
    }

    fn farewell(&self, keep: bool) {
        let binary = self.program.display();
        println!(
            "\n{}\n\n  cd YOUR-REPOSITORY\n  {binary} stacks      # what is there\n  {binary} graph       # and its order\n  \
             {binary} affected    # what your branch touches\n  {binary} review      # plan it, judge it, one review\n\n\
             None of these changes anything outside the directory .windlass/ of that repository. It needs no Windlass file;\n\
             terraform and the credentials it wants are taken from your PATH and from the variables that a stack's `env` names.",
            self.bold("Now your own repository:")
        );
        if keep {
            println!("\nThe sample stays at {}.", self.root.display());
        }
    }

    fn chapter(&self, title: &str, text: &str) -> Result<()> {
        if self.pause {
            print!("\n[Enter] ");
            let _ = std::io::stdout().flush();
            let mut answer = String::new();
            std::io::stdin()
                .lock()
                .read_line(&mut answer)
                .map_err(|e| Failure::new(format!("cannot read from the terminal: {e}")))?;
        }
        println!("\n{}\n{text}", self.bold(&format!("━━ {title} ")));
        Ok(())
    }

    fn note(&self, text: &str) {
        println!("\n{text}");
    }

    fn bold(&self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Runs git in the sample, shown.
    fn git(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("git");
        command.args(["--no-pager"]).args(arguments).current_dir(&self.root);
        self.echo(&format!("git {}", line(Command::new("git").args(arguments)).trim_start_matches("git ")));
        let status = command.status().map_err(|e| Failure::new(format!("cannot start git: {e}")))?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("git failed ({status})"))) }
    }

    /// Runs windlass in the sample, shown, and checks how it ends and that it says each of `texts`.
    fn step(&self, arguments: &[&str], code: i32, texts: &[&str]) -> Result<()> {
        let said = self.start(arguments)?.finish(|| false)?;
        let command = format!("windlass {}", arguments.join(" "));
        if said.status.code() != Some(code) {
            return Err(Failure::new(format!("`{command}` ended with {}, expected was exit code {code}", said.status)));
        }
        let plain = without_colour(&said.text);
        match texts.iter().find(|text| !plain.contains(**text)) {
            None => Ok(()),
            Some(text) => Err(Failure::new(format!("`{command}` did not say `{text}`"))),
        }
    }

    fn start(&self, arguments: &[&str]) -> Result<Running> {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--color", if self.colour { "always" } else { "never" }]);
        command.current_dir(&self.root).env("PATH", &self.path);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.echo(&line(Command::new("windlass").args(arguments)));
        let mut child = command.spawn().map_err(|e| Failure::new(format!("cannot start windlass: {e}")))?;
        let readers = [
            child.stdout.take().map(|stream| copy(stream, std::io::stdout())),
            child.stderr.take().map(|stream| copy(stream, std::io::stderr())),
        ];
        Ok(Running { child, readers: readers.into_iter().flatten().collect() })
    }

    /// Kills the process itself, nothing else, once `when` holds.
    fn kill_when(&self, running: Running, when: impl Fn() -> bool) -> Result<Said> {
        let id = running.child.id();
        let said = running.finish(when)?;
        self.echo(&format!("kill -KILL {id}"));
        Ok(said)
    }

    fn echo(&self, command: &str) {
        println!("\n{}", self.bold(&format!("$ {command}")));
    }

    fn state(&self, stack: &str, workspace: &str) -> String {
        let file = self.root.join(stack).join("terraform.tfstate.d").join(workspace).join("terraform.tfstate");
        std::fs::read_to_string(file).unwrap_or_default()
    }

    /// Looks into the state itself: what windlass says is one thing, what it did another.
    fn expect_state(&self, stack: &str, workspace: &str, text: &str, there: bool) -> Result<()> {
        let state = self.state(stack, workspace);
        if state.is_empty() || state.contains(text) != there {
            let not = if there { "does not contain" } else { "is empty or contains" };
            return Err(Failure::new(format!("the state of {stack}[{workspace}] {not} `{text}`")));
        }
        Ok(())
    }
}

/// A windlass that was started, its streams shown and kept.
struct Running {
    child: Child,
    readers: Vec<JoinHandle<String>>,
}

impl Running {
    /// Waits for its end; kills it when `stop` holds or the patience has run out.
    fn finish(mut self, stop: impl Fn() -> bool) -> Result<Said> {
        let io = |error: std::io::Error| Failure::new(format!("cannot wait for windlass: {error}"));
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(io)? {
                break status;
            }
            let late = begin.elapsed() > PATIENCE;
            if late || stop() {
                self.child.kill().map_err(io)?;
                let status = self.child.wait().map_err(io)?;
                if late {
                    return Err(Failure::new(format!("windlass did not end within {} seconds", PATIENCE.as_secs())));
                }
                break status;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // What it left behind may hold the streams open after a kill; then what was read so far has to do.
        let end = Instant::now() + Duration::from_secs(if status.code().is_some() { 10 } else { 1 });
        let mut text = String::new();
        for reader in self.readers {
            while !reader.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
            if reader.is_finished() {
                text.push_str(&reader.join().unwrap_or_default());
            }
        }
        Ok(Said { status, text })
    }
}

/// Shows a stream as it comes, and keeps it.
fn copy(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = from.read(&mut buffer) {
            if length == 0 {
                break;
            }
            all.extend_from_slice(&buffer[..length]);
            // A terminal that went away does not stop the demo.
            let _ = to.write_all(&buffer[..length]).and_then(|()| to.flush());
        }
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// Takes out colours: `ESC [ … letter`.
fn without_colour(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.find(|c: char| c.is_ascii_alphabetic()).map_or("", |end| &after[end + 1..]);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(without_colour("a\x1b[1mb\x1b[0;31mc\x1b[0m"), "abc");
        assert_eq!(without_colour("plain"), "plain");
        assert_eq!(without_colour("cut\x1b[3"), "cut");
    }

    #[test]
    fn a_process_is_killed_when_told() {
        let child = Command::new("sleep").arg("60").stdout(Stdio::piped()).spawn().unwrap();
        let said = Running { child, readers: Vec::new() }.finish(|| true).unwrap();
        assert_eq!(said.status.code(), None);
    }
}
