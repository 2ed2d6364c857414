//! `cargo xtask torture`.

use crate::options::Options;
use crate::setup;
use crate::shell::{self, Failure, Result, cargo};

pub const HELP: &str = "\
Usage: cargo xtask torture [--engine | --replicas | --operations] [--points N]

Kills windlass, terraform, or both at N moments of an apply (a seeded sequence) over the local, http and pg backends, and
checks after each that nothing that was made is lost without being listed, nothing was made twice without being asked for,
and no foreign lock was broken. `cargo xtask test` takes the first few points of the same sequence.

  --engine    instead: a change is reviewed, approved and applied by a server and by a worker on PostgreSQL; server, worker,
              database or the connections to it break before and after N of its commits [default: each]
  --replicas  instead: N changes at once by three servers behind one address, while servers are killed and stopped and the
              database crashes [default: 40]
  --operations
              instead: the sample operations, whose programs fail or kill windlass at N calls of each kind [default: each]
  --points    how many [default: 210]";

pub fn run(options: &Options) -> Result<()> {
    let points = match options.value("--points").map(str::parse::<usize>) {
        None => None,
        Some(Ok(points)) if points > 0 => Some(points),
        Some(_) => return Err(Failure::usage("`--points` is a number from 1")),
    };
    let chosen: Vec<&str> =
        ["--engine", "--replicas", "--operations"].into_iter().filter(|flag| options.has(flag)).collect();
    let (test, name, points) = match chosen[..] {
        [] => ("torture", "nothing_is_lost", points.unwrap_or(210)),
        ["--engine"] => ("writes", "a_change_survives", points.unwrap_or(usize::MAX)),
        ["--replicas"] => ("replicas", "three_servers", points.unwrap_or(40)),
        ["--operations"] => ("operations", "", points.unwrap_or(usize::MAX)),
        _ => return Err(Failure::usage("give one of `--engine`, `--replicas` and `--operations`")),
    };
    let path = setup::everything()?;
    setup::postgresql()?;
    if test == "operations" {
        setup::operations()?;
    }
    let mut command = cargo();
    command.args(["test", "--package", "windlass", "--test", test, "--", "--nocapture", name]);
    shell::run(command.env("PATH", path).env("WINDLASS_TORTURE", points.to_string()))
}
