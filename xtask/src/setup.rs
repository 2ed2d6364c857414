//! What the demo and the tests need on the machine: found, or installed, or named exactly.

use crate::shell::{Failure, Result, read, run, target, works};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// OpenTofu for machines with neither terraform nor tofu: pinned, and checked before anything of it runs.
const OPENTOFU: &str = "1.10.6";
const OPENTOFU_SHA256: [(&str, &str); 2] = [
    ("linux_amd64", "15b7bed76420b50da3e121769c43341df8cd57d751ca14e6dbe9c850124c6dac"),
    ("linux_arm64", "a32f653d686a8cad9b9be82101eb5b5e834fbfa8d095842fa1820c5d27fad967"),
];

/// Programs, how each shows that it works, and the Debian package it comes in.
const GIT: (&str, &str, &str) = ("git", "--version", "git");
const COMPILER: (&str, &str, &str) = ("cc", "--version", "build-essential");
const CURL: (&str, &str, &str) = ("curl", "--version", "curl");
const UNZIP: (&str, &str, &str) = ("unzip", "-v", "unzip");

/// Makes sure of git, a C compiler (for the bundled SQLite) and terraform or tofu. Gives the `PATH` to run with.
pub fn everything() -> Result<OsString> {
    programs(&[GIT, COMPILER])?;
    terraform()
}

/// Makes sure of PostgreSQL's server, which some tests start: on the `PATH`, or where Debian keeps it.
pub fn postgresql() -> Result<()> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    if works("initdb", "--version") || debian.into_iter().any(|version| version.path().join("bin/initdb").is_file()) {
        return Ok(());
    }
    programs(&[("initdb", "--version", "postgresql")])
}

/// Makes sure of MariaDB's server, which some tests start.
pub fn mariadb() -> Result<()> {
    // Debian keeps it where the `PATH` of most users does not lead.
    if works("/usr/sbin/mariadbd", "--version") {
        return Ok(());
    }
    programs(&[("mariadbd", "--version", "mariadb-server")])
}

/// Makes sure of Podman and of what its images are made of in tests: nothing is fetched from a registry.
pub fn containers() -> Result<()> {
    programs(&[
        ("podman", "--version", "podman"),
        ("runc", "--version", "runc"),
        ("busybox", "--help", "busybox-static"),
    ])
}

/// Makes sure of what the sample operations work on and with.
pub fn operations() -> Result<()> {
    // Debian keeps it where the `PATH` of most users does not lead.
    if !works("/usr/sbin/haproxy", "-v") {
        programs(&[("haproxy", "-v", "haproxy")])?;
    }
    programs(&[
        ("etcd", "--version", "etcd-server"),
        ("etcdctl", "--help", "etcd-client"),
        // Which comes with `runsv` and `sv`.
        ("chpst", "true", "runit"),
        ("socat", "-V", "socat"),
        ("jq", "--version", "jq"),
        ("openssl", "version", "openssl"),
    ])
}

/// Makes sure of a browser, of the checker of alert rules, and of Node with npm, with which tests run an identity provider and
/// steer the browser; of Helm where it can be had; and of Python, with which they run what speaks as S3 does. Gives the `PATH` to
/// run with.
pub fn service(path: OsString) -> Result<OsString> {
    programs(&[
        ("chromium", "--version", "chromium"),
        ("promtool", "--version", "prometheus"),
        ("npm", "--version", "npm"),
        ("python3", "--version", "python3-venv"),
    ])?;
    Ok(helm(&node(path)?))
}

/// Built from its module, since Debian has no package of it.
const HELM: &str = "v3.22.0";
/// The first Go (1.x) that fetches a newer one where a module asks for it.
const GO_OLDEST: u32 = 21;

/// `path` with a Helm on it. Where there can be none it is said, and the tests of the chart leave themselves out.
fn helm(path: &OsStr) -> OsString {
    if works("helm", "version") {
        return path.to_owned();
    }
    let directory = target().join("tools").join(format!("helm-{HELM}"));
    if !directory.join("helm").is_file()
        && let Err(failure) = build_helm(&directory)
    {
        eprintln!("The Helm chart is not checked: {failure}.");
        return path.to_owned();
    }
    let directories = std::iter::once(directory).chain(std::env::split_paths(path));
    std::env::join_paths(directories).unwrap_or_else(|_| path.to_owned())
}

fn build_helm(directory: &Path) -> Result<()> {
    programs(&[("go", "version", "golang")])?;
    let version = read(Command::new("go").args(["env", "GOVERSION"]))?;
    let minor = version.trim().strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < GO_OLDEST) {
        let version = version.trim();
        return Err(Failure::new(format!(
            "Helm is not here, and to build it takes Go 1.{GO_OLDEST} or newer, not {version}"
        )));
    }
    eprintln!("Helm is missing: building {HELM} from its module.");
    let mut go = Command::new("go");
    go.args(["install", &format!("helm.sh/helm/v3/cmd/helm@{HELM}")]);
    run(go.env("GOBIN", directory).env("GOTOOLCHAIN", "auto"))
}

/// The oldest release of Node that the packages of the tests work with, and the one that is fetched where it is older.
const NODE_OLDEST: u32 = 20;
const NODE: &str = "22.12.0";

/// `path` with a Node on it that is new enough.
fn node(path: OsString) -> Result<OsString> {
    let version = read(Command::new("node").arg("--version")).unwrap_or_default();
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= NODE_OLDEST) {
        return Ok(path);
    }
    let directory = target().join("tools").join(format!("node-{NODE}"));
    let programs = directory.join("node_modules/node/bin");
    if !programs.join("node").is_file() {
        eprintln!("Node is missing or older than {NODE_OLDEST}: fetching {NODE} from npm.");
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-save", "--prefix"]).arg(&directory);
        run(npm.arg(format!("node@{NODE}"))).map_err(|_| {
            Failure::new(format!("please install Node {NODE_OLDEST} or newer with npm (https://nodejs.org)"))
        })?;
    }
    let directories = std::iter::once(programs).chain(std::env::split_paths(&path));
    std::env::join_paths(directories).map_err(|error| Failure::new(format!("cannot put Node on the PATH: {error}")))
}

fn programs(needed: &[(&str, &str, &str)]) -> Result<()> {
    let missing: Vec<_> = needed.iter().filter(|(program, argument, _)| !works(program, argument)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, _, package)| *package).collect();
    let names: Vec<&str> = missing.iter().map(|(program, ..)| *program).collect();
    let by_hand = || {
        Failure::new(format!(
            "please install {} (on Debian or Ubuntu: apt-get install {})",
            names.join(", "),
            packages.join(" ")
        ))
    };
    if !works("apt-get", "--version") {
        return Err(by_hand());
    }
    // As root, or where sudo asks for no password; a password prompt in the middle of a script helps nobody.
    let prefix: &[&str] = if nix::unistd::geteuid().is_root() {
        &[]
    } else if Command::new("sudo").args(["-n", "true"]).output().is_ok_and(|output| output.status.success()) {
        &["sudo", "-n"]
    } else {
        return Err(by_hand());
    };
    let apt = |arguments: &[&str]| {
        let mut words = prefix.iter().chain(&["apt-get"]).chain(arguments);
        let mut command = Command::new(words.next().unwrap_or(&"apt-get"));
        run(command.args(words).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // An index that is out of date may still know the package.
    let _ = apt(&["update", "-qq"]);
    let mut install = vec!["install", "--yes", "--no-install-recommends", "-qq"];
    install.extend(&packages);
    apt(&install).map_err(|_| by_hand())
}

/// `PATH` with terraform or tofu on it.
fn terraform() -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if works("terraform", "-version") || works("tofu", "-version") {
        return Ok(path);
    }
    let directory = target().join("tools").join(format!("opentofu-{OPENTOFU}"));
    if !directory.join("tofu").is_file() {
        fetch_opentofu(&directory)?;
    }
    let mut directories = vec![directory];
    directories.extend(std::env::split_paths(&path));
    std::env::join_paths(directories).map_err(|error| Failure::new(format!("cannot put OpenTofu on the PATH: {error}")))
}

fn fetch_opentofu(directory: &Path) -> Result<()> {
    let by_hand = |why: &str| {
        Failure::new(format!(
            "neither terraform nor tofu is on the PATH, and {why}.\nInstall one of them, any version from 1.6:\n  \
             OpenTofu:  https://opentofu.org/docs/intro/install/ (Homebrew: brew install opentofu)\n  \
             Terraform: https://developer.hashicorp.com/terraform/install\nand run this again."
        ))
    };
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let platform = format!("{}_{architecture}", std::env::consts::OS);
    let Some((_, sha256)) = OPENTOFU_SHA256.iter().find(|(name, _)| *name == platform) else {
        return Err(by_hand(&format!("there is no pinned OpenTofu for {platform}")));
    };
    programs(&[CURL, UNZIP])?;
    let io = |error: std::io::Error| Failure::new(format!("cannot keep OpenTofu in {}: {error}", directory.display()));
    std::fs::create_dir_all(directory).map_err(io)?;
    let archive = directory.join("tofu.zip");
    let url =
        format!("https://github.com/opentofu/opentofu/releases/download/v{OPENTOFU}/tofu_{OPENTOFU}_{platform}.zip");
    eprintln!("Neither terraform nor tofu is on the PATH: fetching OpenTofu {OPENTOFU}.");
    let mut curl = Command::new("curl");
    curl.args([
        "--fail",
        "--location",
        "--silent",
        "--show-error",
        "--retry",
        "3",
        "--proto",
        "=https",
        "--max-time",
        "300",
    ]);
    run(curl.arg("--output").arg(&archive).arg(&url))
        .map_err(|_| by_hand("OpenTofu could not be fetched (no network?)"))?;
    if let Err(failure) = verify(&archive, sha256) {
        // Nothing that failed the check stays where a later run could take it for good.
        std::fs::remove_file(&archive).map_err(io)?;
        return Err(failure);
    }
    run(Command::new("unzip").arg("-oq").arg(&archive).arg("tofu").arg("-d").arg(directory))?;
    std::fs::remove_file(&archive).map_err(io)
}

fn verify(archive: &Path, sha256: &str) -> Result<()> {
    let found = read(Command::new("sha256sum").arg(archive))?;
    let found = found.split_whitespace().next().unwrap_or_default();
    if found == sha256 {
        return Ok(());
    }
    Err(Failure::new(format!("OpenTofu {OPENTOFU} has the SHA-256 {found}, expected is {sha256}: not used")))
}

/// Builds the `windlass` binary and gives its path.
pub fn windlass(release: bool) -> Result<PathBuf> {
    let mut build = crate::shell::cargo();
    build.args(["build", "--package", "windlass"]);
    if release {
        build.arg("--release");
    }
    run(&mut build)?;
    Ok(target().join(if release { "release" } else { "debug" }).join("windlass"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_used_only_with_its_checksum() {
        let file = std::env::temp_dir().join(format!("xtask-verify-{}", std::process::id()));
        std::fs::write(&file, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(verify(&file, abc).is_ok());
        assert!(verify(&file, OPENTOFU_SHA256[0].1).is_err_and(|failure| failure.message.contains("not used")));
        std::fs::remove_file(&file).unwrap();
    }
}
