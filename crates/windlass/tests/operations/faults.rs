//! Faults of the programs that operations call: each is called through a wrapper on the `PATH`, which notes the call and fails, or
//! kills Windlass, where it is asked to.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A call of a program within a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub step: String,
    /// From 1, over all calls of the step.
    pub call: usize,
    pub program: String,
    /// Whether no call of the step comes after it.
    pub last: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and fails; so do all calls of the step after it.
    FailBefore,
    /// It does its work and says that it failed; calls after it fail.
    FailAfter,
    /// Windlass is killed, and the program does nothing: the step is left half done.
    KillBefore,
    /// It does its work, Windlass is killed, and the step goes on by itself: it is done a second time.
    KillAfter,
}

/// Reads what it has to do with what a shell has built in: nothing of it is a call itself.
const WRAPPER: &str = r#"
[ -n "${WINDLASS_STEP-}" ] || exec "$real" "$@"
printf '%s\t%s\n' "$WINDLASS_STEP" "$name" >>"$directory/calls"
[ -f "$directory/fault" ] || exec "$real" "$@"
{
    IFS= read -r step
    read -r call
    read -r fault
} <"$directory/fault"
[ "$step" = "$WINDLASS_STEP" ] || exec "$real" "$@"
count=0
while IFS= read -r line; do
    case $line in "$step	"*) count=$((count + 1)) ;; esac
done <"$directory/calls"
[ "$count" -ge "$call" ] || exec "$real" "$@"
case $fault in
FailBefore) exit 1 ;;
FailAfter)
    [ "$count" -gt "$call" ] || "$real" "$@"
    exit 1
    ;;
esac
# Programs of a pipe count each other: one of them is it, once.
(set -C && : >"$directory/done") 2>/dev/null || exec "$real" "$@"
read -r windlass <"$directory/windlass"
case $fault in
KillBefore)
    kill -KILL "$windlass"
    exit 1
    ;;
KillAfter)
    status=0
    "$real" "$@" || status=$?
    kill -KILL "$windlass"
    exit "$status"
    ;;
esac
"#;

pub struct Faults {
    directory: PathBuf,
}

impl Faults {
    /// Wraps these programs, which must be on the `PATH` or where Debian keeps those of PostgreSQL and of administrators.
    pub fn new(directory: &Path, programs: &[&str]) -> Self {
        let faults = Self { directory: directory.to_owned() };
        std::fs::create_dir_all(directory.join("bin")).unwrap();
        for name in programs {
            let real = windlass_testkit::cli::program(name).unwrap();
            let (real, home) = (real.display(), directory.display());
            let text = format!("#!/bin/sh\nreal='{real}' name='{name}' directory='{home}'\n{WRAPPER}");
            let file = directory.join("bin").join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        faults
    }

    /// What the `PATH` has to begin with.
    pub fn programs(&self) -> PathBuf {
        self.directory.join("bin")
    }

    /// Who is killed: the process that does this in its shell.
    pub fn victim(&self) -> PathBuf {
        self.directory.join("windlass")
    }

    /// Forgets the calls so far, and any fault.
    pub fn clear(&self) {
        for file in ["calls", "done", "fault"] {
            let _ = std::fs::remove_file(self.directory.join(file));
        }
    }

    /// From now on.
    pub fn inject(&self, point: &Point, fault: Fault) {
        self.clear();
        std::fs::write(self.directory.join("fault"), format!("{}\n{}\n{fault:?}\n", point.step, point.call)).unwrap();
    }

    /// All calls since [`Faults::clear`], in order.
    pub fn points(&self) -> Vec<Point> {
        let calls = std::fs::read_to_string(self.directory.join("calls")).unwrap_or_default();
        let mut points: Vec<Point> = Vec::new();
        for (step, program) in calls.lines().filter_map(|line| line.split_once('\t')) {
            let call = 1 + points.iter().filter(|point| point.step == step).count();
            if let Some(before) = points.iter_mut().rfind(|point| point.step == step) {
                before.last = false;
            }
            points.push(Point { step: step.to_owned(), call, program: program.to_owned(), last: true });
        }
        points
    }
}
