//! The world outside that speaks a protocol: identity providers, and channels for messages.
//!
//! Everything here blocks its thread: an asynchronous caller uses one that may block. Times are parameters.

mod claims;
mod client;
mod discovery;
mod error;
pub mod forge;
mod http;
pub mod notify;
pub mod oidc;
mod token;
pub mod workload;

pub use error::IdentityError;
