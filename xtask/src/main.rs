//! Everything a developer runs, one command each. `cargo xtask help` lists them.

mod bench;
mod check;
mod conformance;
mod demo;
mod licences;
mod options;
mod setup;
mod shell;
mod test;
mod torture;

use options::Options;
use shell::{Failure, Result};
use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  demo    show the whole product on a sample company, from a change to its apply, and check every step
  test    set up what is missing and run all tests
  torture kill an apply, servers, workers, databases and operations at hundreds of moments, and check that nothing is lost
  check   format, lints, documentation, licences, crate graph: what has to be clean before a commit
  bench   measure against the named baselines and print the ratios
  conformance
          run the Open Policy Agent project's own cases through our policies, and check that nothing differs silently

`cargo xtask COMMAND --help` says more.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_str() {
        "demo" => with_options(demo::HELP, &["--yes", "--keep"], &["--dir"], rest, demo::run),
        "test" => test::run(&rest),
        "torture" => {
            with_options(torture::HELP, &["--engine", "--replicas", "--operations"], &["--points"], rest, torture::run)
        }
        "check" => with_options(check::HELP, &[], &[], rest, check::run),
        "bench" => {
            let values = ["--only", "--rounds", "--open", "--pushes", "--stacks"];
            with_options(bench::HELP, &["--quick"], &values, rest, bench::run)
        }
        "conformance" => conformance::command(rest),
        // Not for people: what the benchmarks start as processes of their own.
        "measure" => bench::measure::child(&rest),
        "parse-json" => bench::plan::parse_json(&rest),
        "read-all" => bench::discover::read_all(&rest),
        "bare-apply" => bench::apply::bare_apply(&rest),
        "bare-loop" => bench::review::bare_loop(&rest),
        "help" | "--help" | "-h" | "" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(Failure::usage(format!("there is no command `{other}`\n\n{HELP}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nxtask: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Reads the options and answers `--help`.
fn with_options(
    help: &str,
    flags: &[&'static str],
    values: &[&'static str],
    arguments: Vec<String>,
    command: fn(&Options) -> Result<()>,
) -> Result<()> {
    let options = Options::parse(arguments, flags, values).map_err(|why| Failure::usage(format!("{why}\n\n{help}")))?;
    if options.has("--help") {
        println!("{help}");
        return Ok(());
    }
    command(&options)
}
