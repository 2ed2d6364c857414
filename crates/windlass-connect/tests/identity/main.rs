//! Providers and issuers as they are met: a certified one, and one that lies.

#![allow(clippy::unwrap_used)]

mod forged;
mod issuer;
mod sign_in;
mod workload;
