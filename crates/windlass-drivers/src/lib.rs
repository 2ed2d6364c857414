//! What steps do their work with: child processes, terraform and tofu, git, probes.

pub mod git;
mod http;
pub mod probe;
pub mod process;
pub mod terraform;
