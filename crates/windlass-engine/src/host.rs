//! What this process and its machine are called, and whether another process still lives.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::time::Duration;
use windlass_store::{EngineIdentity, ProcessRow};

/// Name and boot id of this machine.
pub fn machine() -> (String, String) {
    let host =
        nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned());
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned());
    (host, boot)
}

/// Identity of an engine in this process; a new one at each call.
pub fn identity() -> EngineIdentity {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let (host, boot) = machine();
    let pid = std::process::id();
    let ticks = start_ticks(pid).unwrap_or(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    EngineIdentity { id: format!("{host}/{boot}/{pid}/{ticks}/{number}"), host, boot, pid: i64::from(pid), ticks }
}

/// Start time of a process in clock ticks since boot (field 22 of `/proc/PID/stat`); `None` when there is no such process.
pub fn start_ticks(pid: u32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses and spaces included.
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace();
    // A zombie has ended; only its parent has not looked yet.
    if fields.next() == Some("Z") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Whether an engine's process is certainly gone. On another host nobody here can tell.
pub fn is_gone(engine: &EngineIdentity) -> bool {
    let (host, boot) = machine();
    engine.host == host
        && (engine.boot != boot || u32::try_from(engine.pid).ok().and_then(start_ticks) != Some(engine.ticks))
}

/// Whether an engine's process lives on this machine.
pub fn is_here(engine: &EngineIdentity) -> bool {
    let (host, boot) = machine();
    engine.host == host && engine.boot == boot && !is_gone(engine)
}

/// Whether a recorded process lives on this machine.
pub fn lives(process: &ProcessRow) -> bool {
    let (host, boot) = machine();
    process.host == host
        && process.boot == boot
        && u32::try_from(process.pid).ok().and_then(start_ticks) == Some(process.ticks)
}

/// Ends the process group of a child that outlived its engine: one interrupt, some time, then a kill. Returns when it is gone.
pub async fn end_group(process: &ProcessRow, grace: Duration) {
    let (host, boot) = machine();
    let Ok(pid) = i32::try_from(process.pid) else { return };
    if process.host != host || process.boot != boot || pid <= 1 {
        return;
    }
    let leader_lives = || u32::try_from(pid).ok().and_then(start_ticks) == Some(process.ticks);
    if leader_lives() {
        // Exactly one interrupt: a second one would make terraform drop its state.
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGINT);
        let until = tokio::time::Instant::now() + grace;
        while leader_lives() && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    } else if start_ticks(process.pid.unsigned_abs() as u32).is_some() {
        // The number was given to another process meanwhile.
        return;
    }
    // Grandchildren may have outlived the leader: their group still has its number.
    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    while leader_lives() && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
