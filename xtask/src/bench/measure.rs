//! One command, measured with everything it starts.

use super::Bench;
use crate::shell::{Failure, Result, line};
use nix::sys::resource::{UsageWho, getrusage};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a command used. CPU is that of the whole tree of processes that were waited for.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub wall_ms: f64,
    pub cpu_ms: f64,
    /// Largest resident set of any one process of the tree.
    pub rss_mib: f64,
}

/// Runs a command under a process of ours that has no other children, and gives what it used and printed.
///
/// # Errors
/// When it cannot be started, or ends with another code than one of `codes`.
pub fn measure(bench: &Bench, command: &mut Command, codes: &[i32]) -> Result<(Usage, String)> {
    let mut measured = Command::new(&bench.xtask);
    measured.arg("measure").arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        measured.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => measured.env(name, value),
            None => measured.env_remove(name),
        };
    }
    measured.env("PATH", &bench.path).stdin(Stdio::null());
    let output =
        measured.output().map_err(|error| Failure::new(format!("cannot start {}: {error}", bench.xtask.display())))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = |why: String| Failure::new(format!("`{}`: {why}\n{stderr}", line(command)));
    // The last line of standard error is ours.
    let report = stderr.lines().next_back().and_then(|report| report.strip_prefix("measured "));
    let numbers: Vec<f64> =
        report.into_iter().flat_map(|r| r.split(' ')).filter_map(|word| word.parse().ok()).collect();
    let [code, wall_ms, cpu_ms, rss_mib] = numbers[..] else { return Err(failed("gave no figures".into())) };
    if !codes.contains(&(code as i32)) {
        return Err(failed(format!("ended with {code}")));
    }
    Ok((Usage { wall_ms, cpu_ms, rss_mib }, stdout))
}

/// `xtask measure PROGRAM ARGUMENTS…`: the process in between. Its own children are this one command and what that starts.
pub fn child(arguments: &[String]) -> Result<()> {
    let Some((program, rest)) = arguments.split_first() else { return Err(Failure::usage("measure what?")) };
    let begin = Instant::now();
    let status =
        Command::new(program).args(rest).status().map_err(|e| Failure::new(format!("cannot start {program}: {e}")))?;
    let wall_ms = begin.elapsed().as_secs_f64() * 1000.0;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| Failure::new(format!("getrusage: {e}")))?;
    let ms = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1000.0 + time.tv_usec() as f64 / 1000.0;
    // Linux counts kibibytes, macOS bytes.
    let rss_mib = usage.max_rss() as f64 / if cfg!(target_os = "macos") { 1_048_576.0 } else { 1024.0 };
    let cpu_ms = ms(usage.user_time()) + ms(usage.system_time());
    eprintln!("\nmeasured {} {wall_ms:.3} {cpu_ms:.3} {rss_mib:.1}", status.code().unwrap_or(-1));
    Ok(())
}

/// The largest memory of a command and all that it starts at one time, MiB, as far as a look every few milliseconds sees it: shared
/// pages are counted once. It costs the command time. `None` where the system does not say.
///
/// # Errors
/// It cannot be started.
pub fn memory_at_once(bench: &Bench, command: &mut Command) -> Result<Option<f64>> {
    command.env("PATH", &bench.path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let shown = line(command);
    let mut child = command.spawn().map_err(|error| Failure::new(format!("cannot start {shown}: {error}")))?;
    let mut most = 0;
    while child.try_wait().is_ok_and(|ended| ended.is_none()) {
        most = most.max(tree(child.id()).into_iter().map(kib).sum::<u64>());
        std::thread::sleep(Duration::from_millis(4));
    }
    Ok((most > 0).then_some(most as f64 / 1024.0))
}

/// A process and all that came of it, on Linux. One that is about to become another program still is its parent, memory and all.
fn tree(pid: u32) -> Vec<u32> {
    let line = |pid: u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| child.parse().ok());
            found.extend(children.filter(|child| line(*child) != line(pid)));
        }
    }
    found
}

/// The share of a process in the memory that it uses, KiB.
fn kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let share = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    share.and_then(|share| share.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
