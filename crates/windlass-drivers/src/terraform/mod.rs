//! terraform and tofu as machines: found, versioned, invoked in one way, their JSON streams read.

pub mod backend_lock;
pub mod cli_configuration;
pub mod diagnostics;
pub mod events;
pub mod lock_file;
pub mod mirror;
pub mod plan_file;
pub mod preview;
mod stack;
pub mod state_writer;
mod tools;
pub mod transient;
pub mod version;

pub use stack::{Applied, Invocation, Output, Plan, PlanResult, Provided, Sink, StackDirectory, TerraformError};
pub use tools::{Places, ToolBinary, ToolBox, ToolError, tools_in};
