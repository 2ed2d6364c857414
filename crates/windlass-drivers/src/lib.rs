//! What steps do their work with: child processes, containers, terraform and tofu, git, probes, bundles of policies, objects.

pub mod bundle;
pub mod container;
pub mod git;
pub mod http;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod objects;
pub mod oci;
pub mod probe;
pub mod process;
pub mod request;
pub mod terraform;
