//! `cargo xtask torture`.

use crate::options::Options;
use crate::setup;
use crate::shell::{self, Failure, Result, cargo};

pub const HELP: &str = "\
Usage: cargo xtask torture [--points N]

Kills windlass, terraform, or both at N moments of an apply (a seeded sequence) over the local, http and pg backends, and
checks after each that nothing that was made is lost without being listed, nothing was made twice without being asked for,
and no foreign lock was broken. `cargo xtask test` takes the first few points of the same sequence.

  --points  how many [default: 210]";

pub fn run(options: &Options) -> Result<()> {
    let points = match options.value("--points").map(str::parse::<usize>) {
        None => 210,
        Some(Ok(points)) if points > 0 => points,
        Some(_) => return Err(Failure::usage("`--points` is a number from 1")),
    };
    let path = setup::everything()?;
    setup::postgresql()?;
    let mut command = cargo();
    command.args(["test", "--package", "windlass", "--test", "torture", "--", "--nocapture", "nothing_is_lost"]);
    shell::run(command.env("PATH", path).env("WINDLASS_TORTURE", points.to_string()))
}
