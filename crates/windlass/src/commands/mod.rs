//! One function per command: call the use case, choose the view, say whether the answer is positive.

pub mod access;
pub mod adopt;
pub mod artefacts;
pub mod audit;
pub mod ci;
pub mod database;
pub mod files;
pub mod operations;
pub mod policy;
pub mod policy_decisions;
pub mod policy_library;
pub mod records;
pub mod reload;
pub mod runs;
pub mod schedules;
pub mod serve;
pub mod stacks;
pub mod worker;
