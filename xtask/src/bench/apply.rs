//! Applies of reviewed stacks against the same commands of terraform run bare, and what of it is recording and signing.

use super::discover::remove;
use super::measure::{Usage, measure as measure_command};
use super::review::review;
use super::{Bench, Row, at_most, median, reported};
use crate::shell::{Failure, Result, works};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use windlass_testkit::synthetic::write_tiny;

/// What the whole may cost: checks of the work tree, policies, the engine and the start of the program included.
const WHOLE: f64 = 1.10;
/// Issue 3: events, logs and steps in the database, sealing, opening and digests of plans.
const RECORDING: f64 = 2.0;

/// One round: the bare commands, the apply of the same stacks, and the recording of that apply alone.
struct Round {
    init: Usage,
    bare: Usage,
    ours: Usage,
    recording_ms: f64,
}

/// # Errors
/// Something did not do what it should: nothing is measured then.
pub fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let stacks = if bench.quick { 5 } else { 40 };
    let rounds = bench.rounds.unwrap_or(if bench.quick { 1 } else { 5 });
    let mut measured = Vec::new();
    for number in 1..=rounds {
        let round = one(bench, stacks, number)?;
        eprintln!(
            "  round {number}: init {:.0} ms CPU; bare {:.0} ({:.0} wall); apply {:.0} ({:.0}); recording {:.1}",
            round.init.cpu_ms,
            round.bare.cpu_ms,
            round.bare.wall_ms,
            round.ours.cpu_ms,
            round.ours.wall_ms,
            round.recording_ms
        );
        measured.push(round);
    }
    let middle = |of: fn(&Round) -> f64| median(measured.iter().map(of).collect());
    Ok(vec![
        at_most(
            format!("apply of {stacks}: CPU, ratio to plan + show + apply"),
            WHOLE,
            middle(|r| r.ours.cpu_ms / r.bare.cpu_ms),
            "×",
        ),
        reported(
            format!("apply of {stacks}: CPU, ratio to init + plan + show + apply"),
            middle(|r| r.ours.cpu_ms / (r.init.cpu_ms + r.bare.cpu_ms)),
            "×",
        ),
        at_most(
            format!("apply of {stacks}: CPU of recording and signing, of the bare"),
            RECORDING,
            middle(|r| 100.0 * r.recording_ms / r.bare.cpu_ms),
            " %",
        ),
    ])
}

/// Both sides in fresh copies of the same stacks; which of them is first alternates.
fn one(bench: &Bench, stacks: usize, number: usize) -> Result<Round> {
    let (bare_root, our_root) = (bench.directory.join("apply-bare"), bench.directory.join("apply-ours"));
    for root in [&bare_root, &our_root] {
        remove(root)?;
        write_tiny(root, stacks)?;
    }
    review(bench, &our_root, stacks)?;
    let init = bare(bench, &bare_root, "init")?;
    let (bare, ours) = if number % 2 == 1 {
        let bare = bare(bench, &bare_root, "apply")?;
        (bare, ours(bench, &our_root, stacks)?)
    } else {
        let ours = ours(bench, &our_root, stacks)?;
        (bare(bench, &bare_root, "apply")?, ours)
    };
    let recording_ms = recording(bench, &our_root, &bare_root)?;
    remove(&bare_root)?;
    remove(&our_root)?;
    Ok(Round { init, bare, ours, recording_ms })
}

fn bare(bench: &Bench, root: &Path, phase: &str) -> Result<Usage> {
    let mut command = Command::new(&bench.xtask);
    command.args(["bare-apply".as_ref(), root.as_os_str(), phase.as_ref()]);
    Ok(measure_command(bench, &mut command, &[0])?.0)
}

fn ours(bench: &Bench, root: &Path, stacks: usize) -> Result<Usage> {
    let mut command = Command::new(&bench.windlass);
    command.args(["apply", "--yes", "--json"]).current_dir(root);
    let (usage, answer) = measure_command(bench, &mut command, &[0])?;
    let applied = answer.matches("\"applied\": true").count();
    // Each stack and the run itself.
    if applied < stacks {
        return Err(Failure::new(format!("`windlass apply` applied {applied} of {stacks} stacks:\n{answer}")));
    }
    Ok(usage)
}

/// CPU milliseconds of recording that apply once more, with the plans that the bare commands left.
fn recording(bench: &Bench, ours: &Path, bare: &Path) -> Result<f64> {
    let mut command = Command::new(&bench.record_again);
    command.arg(ours).arg(bare);
    let (_, answer) = measure_command(bench, &mut command, &[0])?;
    let json: serde_json::Value = serde_json::from_str(&answer)
        .map_err(|error| Failure::new(format!("the recording gave no JSON: {error}\n{answer}")))?;
    json["cpu_ms"].as_f64().ok_or_else(|| Failure::new(format!("the recording gave no figure:\n{answer}")))
}

/// `xtask bare-apply DIR init|apply`: what a careful script does with each stack below `DIR/stacks`, as many at a time as there
/// are cores: `init`; or a plan into a file, its rendering as JSON into another, and the apply of exactly that file. Options and
/// settings of terraform's runtime are those that Windlass gives.
pub fn bare_apply(arguments: &[String]) -> Result<()> {
    let [root, phase] = arguments else { return Err(Failure::usage("bare-apply DIR init|apply")) };
    let script =
        Script { tool: if works("terraform", "-version") { "terraform" } else { "tofu" }, init: phase == "init" };
    let read = std::fs::read_dir(Path::new(root).join("stacks"))
        .map_err(|e| Failure::new(format!("cannot read {root}: {e}")))?;
    let mut stacks: Vec<PathBuf> = read.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    stacks.sort();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(stack) = stacks.get(next.fetch_add(1, Ordering::Relaxed)) {
            script.run(stack)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..std::thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<()>>>()
    })?;
    println!("{} stacks", stacks.len());
    Ok(())
}

struct Script {
    tool: &'static str,
    init: bool,
}

impl Script {
    fn run(&self, stack: &Path) -> Result<()> {
        if self.init {
            return self.command(stack, &["init", "-input=false", "-no-color"], &[0], None);
        }
        let plan = ["plan", "-json", "-input=false", "-no-color", "-detailed-exitcode", "-lock-timeout=60s"];
        // 2 means that there are changes.
        self.command(stack, &[&plan[..], &["-out=plan.bin"]].concat(), &[2], None)?;
        self.command(stack, &["show", "-json", "-no-color", "plan.bin"], &[0], Some("plan.json"))?;
        let apply = ["apply", "-json", "-input=false", "-no-color", "-lock-timeout=60s", "plan.bin"];
        self.command(stack, &apply, &[0], Some("apply.out"))
    }

    /// One command; what it prints goes into a file, where one is named.
    fn command(&self, stack: &Path, arguments: &[&str], codes: &[i32], file: Option<&str>) -> Result<()> {
        let failed = |why: String| Failure::new(format!("{} {arguments:?} in {}: {why}", self.tool, stack.display()));
        let out = match file {
            Some(name) => std::fs::File::create(stack.join(name)).map_err(|e| failed(e.to_string()))?.into(),
            None => Stdio::piped(),
        };
        let child = Command::new(self.tool)
            .args(arguments)
            .current_dir(stack)
            .env("TF_DATA_DIR", stack.join(".terraform"))
            .env("TF_CLI_CONFIG_FILE", "/dev/null")
            .env("TF_IN_AUTOMATION", "1")
            .env("TF_INPUT", "0")
            .env("CHECKPOINT_DISABLE", "1")
            .env("GOGC", "400")
            .env("GOMEMLIMIT", "1GiB")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn();
        let output = child.and_then(std::process::Child::wait_with_output).map_err(|e| failed(e.to_string()))?;
        if output.status.code().is_some_and(|code| codes.contains(&code)) {
            return Ok(());
        }
        Err(failed(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr))))
    }
}
