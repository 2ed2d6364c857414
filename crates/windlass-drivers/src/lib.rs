//! What steps do their work with: child processes, terraform and tofu, git.

pub mod git;
pub mod process;
pub mod terraform;
