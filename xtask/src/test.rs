//! `cargo xtask test`.

use crate::setup;
use crate::shell::{self, Result, cargo};

const HELP: &str = "\
Usage: cargo xtask test [CARGO TEST ARGUMENTS]

Runs all tests of the workspace, in one debug build with all features. First makes sure of what they work with: git, a
C compiler (for the bundled SQLite), PostgreSQL, MariaDB, terraform or tofu, Podman, for the sample operations etcd,
haproxy, runit, socat, jq and OpenSSL, and for the service Chromium, promtool, Node and Python; installs what is missing
(with apt-get as root or through sudo, OpenTofu pinned and checked by its checksum) or says exactly what to install.
Helm is built with Go where that can be had; without it the chart is not checked, and it says so.

Arguments are handed to cargo: `cargo xtask test -p windlass-model approval`.";

fn cargo_arguments(arguments: &[String]) -> Vec<String> {
    let mut all = vec!["test".to_owned()];
    // Named packages instead of all.
    let chosen = arguments.iter().any(|a| a == "-p" || a == "--package" || a.starts_with("--package="));
    if !chosen {
        all.extend(["--workspace", "--all-features"].map(str::to_owned));
    }
    all.push("--no-fail-fast".into());
    all.extend(arguments.iter().cloned());
    all
}

pub fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().take_while(|a| *a != "--").any(|a| a == "--help" || a == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    let path = setup::everything()?;
    setup::postgresql()?;
    setup::mariadb()?;
    setup::containers()?;
    setup::operations()?;
    let path = setup::service(path)?;
    shell::run(cargo().args(cargo_arguments(arguments)).env("PATH", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_packages_unless_some_are_named() {
        let check = |given: &[&str], want: &str| {
            let given: Vec<String> = given.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(cargo_arguments(&given).join(" "), want);
        };
        check(&[], "test --workspace --all-features --no-fail-fast");
        check(&["graph"], "test --workspace --all-features --no-fail-fast graph");
        check(&["-p", "windlass-model"], "test --no-fail-fast -p windlass-model");
    }
}
