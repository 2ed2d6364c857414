//! Terraform and OpenTofu modules: syntax, files of a directory in Terraform's order of precedence, and what is in them.

pub mod module;
pub mod scan;
pub mod syntax;
