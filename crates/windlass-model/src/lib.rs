//! The vocabulary of Windlass: identifiers, states, diagnostics, and every planner as a pure function.
//!
//! Nothing here knows about async, SQL, HTTP, the clock, files or HCL. Times are microseconds since the Unix epoch in UTC
//! ([`Micros`]) and are always parameters.

pub mod access;
pub mod affected;
pub mod approval;
pub mod audit;
pub mod binding;
pub mod change;
pub mod codes;
pub mod definition;
pub mod diagnostic;
pub mod diff;
pub mod drift;
pub mod effect;
pub mod graph;
pub mod id;
pub mod journal;
pub mod mask;
pub mod operation;
pub mod place;
pub mod planner;
pub mod review;
pub mod risk;
pub mod rollout;
pub mod run;
pub mod sarif;
pub mod schedule;
pub mod secrets;
pub mod stack;
pub mod stack_plan;
pub mod waiver;

/// Microseconds since the Unix epoch, UTC.
pub type Micros = i64;
