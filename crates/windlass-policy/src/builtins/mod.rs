//! Builtins that the embedded engine lacks, or answers differently from OPA: one file per family.
//!
//! The engine calls them as extensions, which have a fixed number of operands and whose errors always end the evaluation. What
//! OPA makes undefined by default is therefore answered with undefined here, and the form `f(a, out)` has to be rewritten to
//! `out = f(a)` by whoever loads a module, for each name of [`names`].

mod collections;
mod crypto;
mod documents;
mod engine_own;
mod escapes;
mod globs;
mod jwt;
mod net;
mod operators;
mod paths;
mod patterns;
mod refused;
mod strings;
mod verbs;

use regorus::{Engine, Value};

/// What becomes of a builtin that fails on its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failures {
    /// The evaluation ends with the error; OPA's `--strict-builtin-errors`, and what a gate wants.
    EndEvaluation,
    /// The expression is undefined; OPA's default.
    AreUndefined,
}

/// Why a builtin has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BuiltinError {
    #[error("operand {place} must be {wanted} but got {found}")]
    Operand { place: usize, wanted: &'static str, found: &'static str },
    #[error("{0}")]
    Failed(String),
    /// Whatever the mode: a policy that needs this cannot be judged here.
    #[error("{0}")]
    Refused(&'static str),
}

impl BuiltinError {
    fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }
}

type Answer = Result<Value, BuiltinError>;
/// Gets exactly as many operands as it was declared with, none of them undefined.
type Function = fn(&[Value]) -> Answer;
/// Name, number of operands, implementation.
type Builtin = (&'static str, u8, Function);

const FAMILIES: [&[Builtin]; 13] = [
    collections::FUNCTIONS,
    crypto::FUNCTIONS,
    documents::FUNCTIONS,
    engine_own::FUNCTIONS,
    escapes::FUNCTIONS,
    globs::FUNCTIONS,
    jwt::FUNCTIONS,
    paths::FUNCTIONS,
    net::FUNCTIONS,
    operators::FUNCTIONS,
    patterns::FUNCTIONS,
    refused::FUNCTIONS,
    strings::FUNCTIONS,
];

fn all() -> impl Iterator<Item = &'static Builtin> {
    FAMILIES.into_iter().flatten()
}

/// Every builtin of this module with the number of its operands, the result not counted.
pub fn names() -> impl Iterator<Item = (&'static str, u8)> {
    all().map(|(name, arity, _)| (*name, *arity))
}

/// Why a policy must not use this builtin here; such ones are refused at load.
pub fn refusal(name: &str) -> Option<&'static str> {
    refused::REASONS.iter().find(|(refused, _)| *refused == name).map(|(_, reason)| *reason)
}

/// Adds all of them to an engine, before its first evaluation. A name is added only once: a second call changes nothing.
pub fn register(engine: &mut Engine, failures: Failures) {
    for (name, arity, function) in all() {
        let extension = move |operands: Vec<Value>| -> anyhow::Result<Value> {
            match function(&operands) {
                Ok(value) => Ok(value),
                Err(BuiltinError::Operand { .. } | BuiltinError::Failed(_)) if failures == Failures::AreUndefined => {
                    Ok(Value::Undefined)
                }
                Err(error) => Err(anyhow::Error::msg(format!("{name}: {error}"))),
            }
        };
        // The only error is that the name is there already.
        let _ = engine.add_extension((*name).to_owned(), *arity, Box::new(extension));
    }
}

/// The word that OPA uses for the type of a value.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Set(_) => "set",
        Value::Object(_) => "object",
        Value::Undefined => "undefined",
    }
}

/// The error for operand `index` (from 0), which is not what was wanted.
fn wrong(operands: &[Value], index: usize, wanted: &'static str) -> BuiltinError {
    BuiltinError::Operand { place: index + 1, wanted, found: type_name(&operands[index]) }
}

fn text(operands: &[Value], index: usize) -> Result<&str, BuiltinError> {
    match &operands[index] {
        Value::String(text) => Ok(text),
        _ => Err(wrong(operands, index, "string")),
    }
}

fn array(operands: &[Value], index: usize) -> Result<&[Value], BuiltinError> {
    match &operands[index] {
        Value::Array(items) => Ok(items.as_slice()),
        _ => Err(wrong(operands, index, "array")),
    }
}

/// The elements of an array, or of a set in its order.
fn elements(operands: &[Value], index: usize) -> Result<Vec<&Value>, BuiltinError> {
    match &operands[index] {
        Value::Array(items) => Ok(items.iter().collect()),
        Value::Set(items) => Ok(items.iter_sorted().collect()),
        _ => Err(wrong(operands, index, "one of {array, set}")),
    }
}

#[cfg(test)]
mod globs_tests;
#[cfg(test)]
mod jwt_tests;
#[cfg(test)]
mod tests;
