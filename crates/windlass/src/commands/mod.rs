//! One function per command: call the use case, choose the view, say whether the answer is positive.

pub mod adopt;
pub mod files;
pub mod policy;
<<<<<<< HEAD
pub mod policy_decisions;
=======
pub mod policy_library;
>>>>>>> c6f01db (policy library: list, init, pages)
pub mod records;
pub mod runs;
pub mod stacks;
