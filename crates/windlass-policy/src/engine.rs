//! The embedded engine behind one door: modules and data go in, and are refused here when the engine would answer something else
//! than OPA without saying so; values of rules come out.

use crate::refuse;
use crate::rules::{self, Rule};
use regorus::{Engine, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};

/// The version of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    V0,
    V1,
}

/// How modules are evaluated.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the modules are written in; any, when it is not said.
    pub dialect: Option<Dialect>,
    /// A builtin that fails ends the evaluation, instead of making its expression undefined as OPA does by default. A gate
    /// wants this: otherwise the failure quietly drops a denial.
    pub strict_builtin_errors: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { dialect: None, strict_builtin_errors: true }
    }
}

/// Lines of a file that were and were not evaluated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    pub file: Arc<str>,
    pub covered: BTreeSet<u32>,
    pub missed: BTreeSet<u32>,
}

fn extension(function: impl regorus::Extension + 'static) -> Box<dyn regorus::Extension> {
    Box::new(function)
}

/// Loaded modules and data.
#[derive(Clone)]
pub struct Rego {
    engine: Engine,
    /// The rules that Conftest knows by name, of all modules.
    pub rules: Vec<Rule>,
}

impl Rego {
    /// Loads modules (path, text), all of them together: what one may be called depends on the others.
    ///
    /// # Errors
    /// Everything that is wrong: syntax, constructs that are refused.
    pub fn load(modules: &[(Arc<str>, String)], options: &Options) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut engine = Engine::new();
        engine.set_strict_builtin_errors(options.strict_builtin_errors);
        let mut found = Vec::new();
        let all_names: BTreeSet<String> = modules.iter().flat_map(|(_, text)| rules::names(text)).collect();
        for (path, text) in modules {
            let refused = refuse::check(path, text, &all_names);
            if !refused.is_empty() {
                diagnostics.extend(refused);
                continue;
            }
            match add(&mut engine, path, text, options.dialect) {
                Ok(()) => found.extend(rules::find(path, text)),
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
        }
        if diagnostics.is_empty() { Ok(Self { engine, rules: found }) } else { Err(diagnostics) }
    }

    /// Adds a document to `data`.
    ///
    /// # Errors
    /// It is no object, or contradicts another one.
    pub fn add_data(&mut self, value: &serde_json::Value) -> Result<(), String> {
        self.engine.add_data(Value::from(value.clone())).map_err(|error| error.to_string())
    }

    pub fn set_input(&mut self, input: Value) {
        self.engine.set_input(input);
    }

    /// The value of a rule, e.g. `data.main.deny`.
    ///
    /// # Errors
    /// It could not be evaluated; the engine's sentence.
    pub fn eval_rule(&mut self, path: &str) -> Result<Value, String> {
        self.engine.eval_rule(path.to_owned()).map_err(|error| error.to_string())
    }

    /// Makes a function of the host known to all modules.
    ///
    /// # Errors
    /// There is one of this name already.
    pub fn add_function(
        &mut self,
        name: &str,
        arity: u8,
        function: impl Fn(&[Value]) -> Result<Value, String> + Clone + Send + Sync + 'static,
    ) -> Result<(), String> {
        let extension = extension(move |arguments: Vec<Value>| match function(&arguments) {
            Ok(value) => Ok(value),
            Err(why) => Err(std::io::Error::other(why))?,
        });
        self.engine.add_extension(name.to_owned(), arity, extension).map_err(|error| error.to_string())
    }

    /// Whether `print` is gathered, for [`Rego::take_prints`].
    pub fn gather_prints(&mut self, gather: bool) {
        self.engine.set_gather_prints(gather);
    }

    /// What was printed since the last call, a line each.
    pub fn take_prints(&mut self) -> Vec<String> {
        self.engine.take_prints().unwrap_or_default()
    }

    /// Whether evaluated lines are noted.
    pub fn cover(&mut self, cover: bool) {
        self.engine.set_enable_coverage(cover);
    }

    /// Lines that were and were not evaluated so far, per file; lines count from 1.
    ///
    /// # Errors
    /// The engine's sentence.
    pub fn coverage(&self) -> Result<Vec<Coverage>, String> {
        let report = self.engine.get_coverage_report().map_err(|error| error.to_string())?;
        let files = report.files.into_iter();
        Ok(files
            .map(|file| Coverage { file: file.path.into(), covered: file.covered, missed: file.not_covered })
            .collect())
    }

    /// The answers of a query, each with the values of its variables; no answer means undefined.
    ///
    /// # Errors
    /// It could not be evaluated; the engine's sentence.
    pub fn eval_query(&mut self, query: &str) -> Result<Vec<BTreeMap<String, Value>>, String> {
        let results = self.engine.eval_query(query.to_owned(), false).map_err(|error| error.to_string())?;
        let mut rows = Vec::new();
        for result in results.result {
            if result.expressions.iter().any(|e| matches!(e.value, Value::Undefined | Value::Bool(false))) {
                continue;
            }
            let mut row = BTreeMap::new();
            if let Ok(bindings) = result.bindings.as_object() {
                for (name, value) in bindings.iter() {
                    if let Ok(name) = name.as_string() {
                        row.insert(name.to_string(), value.clone());
                    }
                }
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

/// Parses as Rego v1, else as v0; when both fail, v1's complaint is told unless the file says it is older.
fn add(engine: &mut Engine, path: &Arc<str>, text: &str, dialect: Option<Dialect>) -> Result<(), Box<Diagnostic>> {
    let mut attempt = |v0: bool| {
        let mut trial = engine.clone();
        trial.set_rego_v0(v0);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            trial.add_policy(path.to_string(), text.to_owned())
        }));
        match result {
            Ok(Ok(_)) => {
                trial.set_rego_v0(false);
                *engine = trial;
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the parser panicked".to_owned()),
        }
    };
    let Err(first) = attempt(dialect == Some(Dialect::V0)) else { return Ok(()) };
    if dialect.is_none() && attempt(true).is_ok() {
        return Ok(());
    }
    // The engine's message holds `--> path:line:column` and an excerpt.
    let line = first
        .split(&**path)
        .nth(1)
        .and_then(|rest| rest.trim_start_matches(':').split(':').next()?.trim().parse::<u32>().ok())
        .unwrap_or(1);
    let message = first
        .lines()
        .map(str::trim)
        .rfind(|l| l.starts_with("error:"))
        .map_or(first.as_str(), |l| l.trim_start_matches("error:").trim());
    let span = Span { line, end_line: line, ..Span::file(path.clone()) };
    Err(Box::new(
        Diagnostic::error("WL407", format!("policy cannot be parsed: {message}")).at_source(span, text, "here"),
    ))
}
