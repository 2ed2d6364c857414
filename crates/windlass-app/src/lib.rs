//! Use cases, one module each. A use case checks, then changes the record in one transaction; the engine does the work.

// The futures of a step lie deep in one another.
#![recursion_limit = "256"]

pub mod access;
pub mod actor;
pub mod adopt;
pub mod affected;
pub mod apply;
pub mod artefacts;
pub mod asked;
pub mod audit;
pub mod bundles;
pub mod caller;
pub mod changes;
pub mod check;
pub mod ci;
pub mod configuration;
pub mod database;
pub mod decisions;
pub mod destroy;
pub mod doctor;
pub mod drift;
pub mod error;
pub mod format;
pub mod health;
pub mod history;
pub mod housekeeping;
pub mod installation;
pub mod locks;
pub mod logins;
pub mod notifications;
pub mod operations;
pub mod plans;
pub mod policy;
pub mod policy_check;
pub mod policy_library;
pub mod project;
pub mod recover;
pub mod replay;
pub mod repositories;
pub mod requests;
pub mod review;
pub mod rollback;
pub mod run_artefacts;
pub mod runs;
pub mod schedules;
pub mod secrets;
pub mod service;
pub mod sessions;
pub mod settings;
pub mod steps;
pub mod tokens;
pub mod traces;
pub mod triggers;
mod unmoved;
pub mod waivers;

pub use windlass_engine::Progress;
