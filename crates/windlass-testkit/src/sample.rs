//! The sample company: a small repository with its own git history, made of Terraform's built-in provider alone, so that
//! everything can be planned and applied without network and without touching anything outside of it.
//!
//! `main` holds one global stack and, for two regions, network → cassandra → scalardl → monitor. The branches:
//!
//! | branch | what it does |
//! |---|---|
//! | [`BREAKING`] | shrinks a cluster below what the policy allows |
//! | [`FIXED`] | the same and a second commit that mends it |
//! | [`UPGRADE`] | on top of `FIXED`: a new release in both regions, whose roll-out takes [`UPGRADE_SECONDS`] |

use crate::git::Git;
use crate::{TestkitError, write_file};
use std::path::{Path, PathBuf};

/// Branch whose change the policy denies.
pub const BREAKING: &str = "feature/resize";
/// Branch that mends it.
pub const FIXED: &str = "feature/resize-fixed";
/// Branch whose apply is slow enough to be killed in the middle.
pub const UPGRADE: &str = "feature/upgrade";
/// How long the release step of [`UPGRADE`] sleeps in each region, in seconds.
pub const UPGRADE_SECONDS: u64 = 8;
/// All instances, in an order in which they can be applied.
pub const INSTANCES: [&str; 9] = [
    "global/dns",
    "aws/network[osaka]",
    "aws/network[tokyo]",
    "aws/cassandra[osaka]",
    "aws/cassandra[tokyo]",
    "aws/scalardl[osaka]",
    "aws/scalardl[tokyo]",
    "aws/monitor[osaka]",
    "aws/monitor[tokyo]",
];

/// Who wrote the commits, and whom the checkout acts as. They differ, so that an approval is by somebody other than the author.
const AUTHOR: (&str, &str) = ("Dev Team", "dev@example.com");
const OPERATOR: (&str, &str) = ("SRE Team", "sre@example.com");

/// What was made.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The work tree, with `main` checked out.
    pub root: PathBuf,
}

/// Files of one commit: path and content.
type Files = &'static [(&'static str, &'static str)];

macro_rules! files {
    ($directory:literal: $($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../sample/", $directory, "/", $path)))),*]
    };
}

const MAIN: Files = files![
    "main":
    ".gitignore",
    "README.md",
    "aws/cassandra/main.tf",
    "aws/cassandra/osaka.tfvars",
    "aws/cassandra/outputs.tf",
    "aws/cassandra/remote.tf",
    "aws/cassandra/tokyo.tfvars",
    "aws/cassandra/variables.tf",
    "aws/monitor/labels.tftpl",
    "aws/monitor/main.tf",
    "aws/monitor/osaka.tfvars",
    "aws/monitor/remote.tf",
    "aws/monitor/tokyo.tfvars",
    "aws/monitor/variables.tf",
    "aws/network/main.tf",
    "aws/network/osaka.tfvars",
    "aws/network/outputs.tf",
    "aws/network/remote.tf",
    "aws/network/tokyo.tfvars",
    "aws/network/variables.tf",
    "aws/scalardl/main.tf",
    "aws/scalardl/osaka.tfvars",
    "aws/scalardl/outputs.tf",
    "aws/scalardl/remote.tf",
    "aws/scalardl/tokyo.tfvars",
    "aws/scalardl/variables.tf",
    "global/dns/main.tf",
    "modules/cluster/main.tf",
    "modules/cluster/outputs.tf",
    "modules/cluster/templates/release.tftpl",
    "modules/cluster/variables.tf",
    "modules/node/main.tf",
    "modules/node/templates/node.conf.tftpl",
    "modules/subnets/main.tf",
    "policy/clusters.rego",
    "policy/exposure.rego",
    "windlass.hcl",
];
const RESIZE: Files = files!["resize": "aws/cassandra/tokyo.tfvars"];
const RESIZE_FIXED: Files = files!["resize-fixed": "aws/cassandra/tokyo.tfvars"];
const UPGRADE_FILES: Files = files!["upgrade": "aws/scalardl/variables.tf"];

/// Makes the sample in `root`, which must be empty or not exist. Commits have fixed authors and dates, so their ids are the
/// same on every machine.
///
/// # Errors
/// When `root` holds something, a file cannot be written, or git is missing or fails.
pub fn write_sample(root: &Path) -> Result<Sample, TestkitError> {
    crate::make_empty(root)?;
    let git = Git::init(root)?;
    git.config("user.name", OPERATOR.0)?;
    git.config("user.email", OPERATOR.1)?;
    let commit = |files: Files, message: &str, minute: u32| -> Result<(), TestkitError> {
        for (path, content) in files {
            write_file(&root.join(path), content)?;
        }
        git.run(&["add", "--all"])?;
        git.commit(AUTHOR, &format!("2026-01-05T09:{minute:02}:00Z"), message)
    };
    commit(MAIN, "Stacks of two regions", 0)?;
    git.run(&["switch", "--quiet", "--create", BREAKING])?;
    commit(RESIZE, "cassandra: save two nodes in tokyo", 10)?;
    git.run(&["switch", "--quiet", "--create", FIXED])?;
    commit(RESIZE_FIXED, "cassandra: five nodes in tokyo", 20)?;
    git.run(&["switch", "--quiet", "--create", UPGRADE])?;
    commit(UPGRADE_FILES, "scalardl: release 3.11.0", 30)?;
    git.run(&["switch", "--quiet", "main"])?;
    Ok(Sample { root: root.to_owned() })
}
