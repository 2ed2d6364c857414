//! The embedded engine behind one door: modules and data go in, are read by our own front end and rewritten so that the engine
//! answers like OPA, or refused with file and line; values of rules and answers of queries come out.

use crate::builtins::{self, Failures};
use crate::limits;
use crate::rewrite::{self, Program, Settings, Shape, host};
use crate::syntax::Source;
use crate::syntax::annotations::Annotations;
use crate::syntax::print::{is_identifier, quoted};
use crate::syntax::tree::{Dialect, Module};
use regorus::{Engine, PolicyLengthConfig, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;
use windlass_model::diagnostic::{Diagnostic, Span};

/// Stack for reading and rewriting: nested text recurses.
const STACK: usize = 32 << 20;

/// How modules are read and evaluated.
#[derive(Debug, Clone)]
pub struct Options {
    /// A builtin that fails ends the evaluation, instead of making its expression undefined as OPA does by default. A gate
    /// wants this: otherwise the failure quietly drops a denial.
    pub strict_builtin_errors: bool,
    /// `not f(x)` holds when `x` is undefined. OPA evaluates `x` outside of the negation by default, so that it does not.
    pub operands_inside_not: bool,
    /// The dialect of all modules; otherwise each is read as what it is written in.
    pub dialect: Option<Dialect>,
}

impl Default for Options {
    fn default() -> Self {
        Self { strict_builtin_errors: true, operands_inside_not: false, dialect: None }
    }
}

/// What a rule is for, by its name, as Conftest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Deny,
    Warn,
    Exception,
}

impl Kind {
    /// What Conftest takes a rule of this name for.
    pub fn of(name: &str) -> Option<Self> {
        let is = |word: &str| name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
        match () {
            () if is("deny") || is("violation") => Some(Self::Deny),
            () if is("warn") => Some(Self::Warn),
            () if name == "exception" => Some(Self::Exception),
            () => None,
        }
    }
}

/// A rule by its name; several rules of one name are one.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Without `data.`, e.g. `main` or `lib.aws`.
    pub package: String,
    /// With what follows it, e.g. `deny` or `limits.memory`.
    pub name: String,
    pub shape: Shape,
    /// The path below `data`, key by key.
    pub keys: Vec<String>,
    /// The first head.
    pub span: Span,
    /// All heads, in the order of the files.
    pub heads: Vec<Span>,
    /// Of the first rule of that name that has some.
    pub annotations: Option<Annotations>,
}

impl Rule {
    /// e.g. `data.main.deny`.
    pub fn path(&self) -> String {
        format!("data.{}.{}", self.package, self.name)
    }

    /// `deny_public` → `public`, `deny` → ``.
    pub fn suffix(&self) -> &str {
        self.name.split_once('_').map_or("", |(_, suffix)| suffix)
    }

    /// What Conftest takes it for.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(&self.name)
    }
}

/// Why the engine has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// The query itself is wrong.
    #[error("{}", .0.first().map_or("the query is wrong", |d| d.summary.as_str()))]
    Query(Vec<Diagnostic>),
    /// The engine's sentence.
    #[error("{0}")]
    Evaluation(String),
}

/// Lines of a file that evaluations reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Coverage {
    pub covered: BTreeSet<u32>,
    pub not_covered: BTreeSet<u32>,
}

/// What a `print` said, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    pub file: String,
    pub line: u32,
    pub text: String,
}

/// Loaded modules and data. A clone shares what it can.
#[derive(Clone)]
pub struct Rego {
    engine: Engine,
    program: Arc<Program>,
    settings: Settings,
    /// Paths of rules that the engine evaluates by their path alone.
    direct: Arc<BTreeSet<String>>,
    /// All rules of all modules, sorted by package and name.
    pub rules: Vec<Rule>,
}

impl Rego {
    /// Loads modules (path, text), all of them together: what one may be called depends on the others.
    ///
    /// # Errors
    /// Everything that is wrong: syntax (WL407), what OPA refuses (WL410 and on), constructs that are refused here (WL404).
    pub fn load(modules: &[(Arc<str>, String)], options: &Options) -> Result<Self, Vec<Diagnostic>> {
        // A thread for its stack: the depth of trees is limited, and this is enough for it in every build.
        std::thread::scope(|scope| {
            let spawned = std::thread::Builder::new()
                .name("policy-load".into())
                .stack_size(STACK)
                .spawn_scoped(scope, || Self::load_here(modules, options));
            match spawned.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(vec![broken(modules, "the policy engine panicked while it read the policies")]),
                Err(error) => Err(vec![broken(modules, &format!("cannot start a thread to read policies: {error}"))]),
            }
        })
    }

    fn load_here(modules: &[(Arc<str>, String)], options: &Options) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut sources = Vec::with_capacity(modules.len());
        for (path, text) in modules {
            match Source::parse(path.clone(), text.as_str(), options.dialect) {
                Ok(source) => sources.push(source),
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
        }
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let settings = Settings {
            strict_builtin_errors: options.strict_builtin_errors,
            operands_inside_not: options.operands_inside_not,
        };
        let program = rewrite::program(&sources, settings)?;
        let mut engine = Engine::new();
        engine.set_policy_length_config(PolicyLengthConfig {
            max_col: NonZeroU32::MAX,
            max_file_bytes: NonZeroUsize::MAX,
            max_lines: NonZeroUsize::MAX,
        });
        engine.set_strict_builtin_errors(options.strict_builtin_errors);
        engine.set_gather_prints(true);
        let failures = if options.strict_builtin_errors { Failures::EndEvaluation } else { Failures::AreUndefined };
        builtins::register(&mut engine, failures);
        host::register(&mut engine, program.constants.clone());
        for (path, text) in &program.modules {
            if let Err(error) = engine.add_policy(path.to_string(), text.clone()) {
                let source = sources.iter().find(|source| source.path == *path);
                diagnostics.push(refused(path, source, &error.to_string()));
            }
        }
        // The engine compiles before its first evaluation; what it finds wrong then is told now.
        if diagnostics.is_empty()
            && let Err(error) = engine.eval_query("true".to_owned(), false)
        {
            diagnostics.push(refused_somewhere(&sources, &error.to_string()));
        }
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let rules = rules(&sources, &program);
        let direct = rules.iter().filter(|rule| program.is_direct(rule.shape, &rule.keys)).map(Rule::path).collect();
        Ok(Self { engine, program: Arc::new(program), settings, direct: Arc::new(direct), rules })
    }

    /// Adds a document to `data`.
    ///
    /// # Errors
    /// It is no object, or contradicts another one.
    pub fn add_data(&mut self, value: &serde_json::Value) -> Result<(), String> {
        self.engine.add_data(Value::from(value.clone())).map_err(|error| error.to_string())
    }

    /// Gives one of the host's functions (`parse_config`, `parse_config_file`, …) what it does; without it a call cannot be
    /// evaluated.
    ///
    /// # Errors
    /// There is one of this name already.
    pub fn add_function(
        &mut self,
        name: &str,
        arity: u8,
        function: impl Fn(&[Value]) -> Result<Value, String> + Clone + Send + Sync + 'static,
    ) -> Result<(), String> {
        let extension = move |operands: Vec<Value>| function(&operands).map_err(anyhow::Error::msg);
        self.engine.add_extension(name.to_owned(), arity, Box::new(extension)).map_err(|error| error.to_string())
    }

    /// Lets an evaluation fail when it takes longer; see [`limits::arm`].
    pub fn limit_time(&mut self, time: Duration) {
        limits::arm(&mut self.engine, time);
    }

    pub fn set_input(&mut self, input: Value) {
        self.engine.set_input(input);
    }

    /// The value of a rule, e.g. `data.main.deny`; undefined when it has none.
    ///
    /// # Errors
    /// There is no such rule, or it could not be evaluated; the engine's sentence.
    pub fn eval_rule(&mut self, path: &str) -> Result<Value, String> {
        if self.direct.contains(path) {
            return self.engine.eval_rule(path.to_owned()).map_err(|error| error.to_string());
        }
        if !self.rules.iter().any(|rule| rule.path() == path) {
            return Err(format!("there is no rule {path}"));
        }
        // Several rules make up its value, or its path goes on with variables.
        let answers = self.eval_query(&format!("value := {path}")).map_err(|error| error.to_string())?;
        Ok(answers.into_iter().next().and_then(|mut row| row.remove("value")).unwrap_or(Value::Undefined))
    }

    /// The answers of a query, each with the values of its variables; no answer means undefined.
    ///
    /// # Errors
    /// The query is wrong, or could not be evaluated.
    pub fn eval_query(&mut self, query: &str) -> Result<Vec<BTreeMap<String, Value>>, EvalError> {
        let query = rewrite::query(&self.program, query, self.settings).map_err(EvalError::Query)?;
        let results = self
            .engine
            .eval_query(query.text.clone(), false)
            .map_err(|error| EvalError::Evaluation(error.to_string()))?;
        let answers = results.result.first().map(|result| result.bindings[&Value::from("__answers")].clone());
        let Some(Value::Array(answers)) = answers else {
            return Err(EvalError::Evaluation("the engine gave no answers".to_owned()));
        };
        Ok(answers
            .iter()
            .map(|row| {
                let values = row.as_array().map(|row| row.to_vec()).unwrap_or_default();
                query.variables.iter().cloned().zip(values).collect()
            })
            .collect())
    }

    /// Starts to record which lines are reached.
    pub fn enable_coverage(&mut self) {
        self.engine.set_enable_coverage(true);
    }

    /// The lines reached since the last call, by file.
    ///
    /// # Errors
    /// The engine's sentence.
    pub fn take_coverage(&mut self) -> Result<BTreeMap<String, Coverage>, String> {
        let report = self.engine.get_coverage_report().map_err(|error| error.to_string())?;
        self.engine.clear_coverage_data();
        let mut files: BTreeMap<String, Coverage> = BTreeMap::new();
        for file in report.files {
            let coverage = files.entry(file.path).or_default();
            coverage.covered.extend(file.covered);
            coverage.not_covered.extend(file.not_covered);
        }
        for coverage in files.values_mut() {
            coverage.not_covered.retain(|line| !coverage.covered.contains(line));
        }
        Ok(files)
    }

    /// What `print` said since the last call.
    ///
    /// # Errors
    /// The engine's sentence.
    pub fn take_prints(&mut self) -> Result<Vec<Print>, String> {
        let lines = self.engine.take_prints().map_err(|error| error.to_string())?;
        Ok(lines.iter().map(|line| print(line)).collect())
    }
}

/// Levels of nesting that a value may have to leave the engine; a document in JSON could not be read again with more.
const DEEPEST: usize = 100;

/// A value as JSON.
///
/// # Errors
/// It is nested too deeply: not every thread has the stack to drop it.
pub fn plain(value: &Value) -> Result<serde_json::Value, String> {
    if is_deeper(value, DEEPEST) {
        return Err(format!("its value is nested deeper than {DEEPEST} levels"));
    }
    serde_json::to_value(value).map_err(|error| error.to_string())
}

/// Whether a value is nested deeper than so many levels.
pub(crate) fn is_deeper(value: &Value, levels: usize) -> bool {
    let inner = |value: &Value| levels == 0 || is_deeper(value, levels - 1);
    match value {
        Value::Array(items) => items.iter().any(inner),
        Value::Set(items) => items.iter().any(inner),
        Value::Object(fields) => fields.iter().any(|(key, value)| inner(key) || inner(value)),
        _ => false,
    }
}

/// `file:line: text`
fn print(line: &str) -> Print {
    let found = line.match_indices(": ").find_map(|(at, _)| {
        let (file, number) = line[..at].rsplit_once(':')?;
        Some(Print { file: file.to_owned(), line: number.parse().ok()?, text: line[at + 2..].to_owned() })
    });
    found.unwrap_or_else(|| Print { file: String::new(), line: 0, text: line.to_owned() })
}

fn rules(sources: &[Source], program: &Program) -> Vec<Rule> {
    let mut rules: BTreeMap<(String, String), Rule> = BTreeMap::new();
    for found in &program.rules {
        let source = &sources[found.source];
        let rule = &source.module.rules[found.index];
        let package = dotted(&source.module.package);
        let path = rewrite::rule_path(&source.module.package, &rule.head);
        let name = dotted(&path[source.module.package.len()..]);
        let span = source.span(rule.head.name_loc);
        let entry = rules.entry((package.clone(), name.clone())).or_insert_with(|| Rule {
            package,
            name,
            shape: Shape::of(&rule.head),
            keys: path.clone(),
            span: span.clone(),
            heads: Vec::new(),
            annotations: None,
        });
        entry.heads.push(span);
        if entry.annotations.is_none() {
            entry.annotations.clone_from(&found.annotations);
        }
    }
    rules.into_values().collect()
}

/// `["a", "b-c"]` → `a["b-c"]`
fn dotted(path: &[String]) -> String {
    let mut out = String::new();
    for (index, key) in path.iter().enumerate() {
        match (index, is_identifier(key)) {
            (0, _) => out.push_str(key),
            (_, true) => {
                out.push('.');
                out.push_str(key);
            }
            _ => out.push_str(&format!("[{}]", quoted(key))),
        }
    }
    out
}

/// The package of a module as it is written, e.g. `lib.aws`.
pub fn package(module: &Module) -> String {
    dotted(&module.package)
}

fn broken(modules: &[(Arc<str>, String)], why: &str) -> Diagnostic {
    let place = modules.first().map_or_else(|| Span::file("policy"), |(path, _)| Span::file(path.clone()));
    Diagnostic::error("WL406", why).at(place).help("the gate broke, which is not a pass: mend the policy")
}

/// The engine's complaint about a rewritten module, at the line it names: lines are kept.
fn refused(path: &Arc<str>, source: Option<&Source>, error: &str) -> Diagnostic {
    let line = error
        .split(&**path)
        .nth(1)
        .and_then(|rest| rest.trim_start_matches(':').split(':').next()?.trim().parse::<u32>().ok())
        .unwrap_or(1);
    let message = sentence(error);
    let span = Span { line, end_line: line, ..Span::file(path.clone()) };
    let out = Diagnostic::error("WL404", format!("the embedded engine cannot evaluate this: {message}"));
    match source {
        Some(source) => out.at_source(span, &source.text, "here"),
        None => out.at(span),
    }
    .help("write it more simply: give inner parts names of their own")
}

/// The same for an error that can be in any of the modules.
fn refused_somewhere(sources: &[Source], error: &str) -> Diagnostic {
    let source = sources.iter().find(|source| error.contains(&format!("{}:", source.path)));
    match source.or(sources.first()) {
        Some(source) => refused(&source.path, Some(source), error),
        None => refused(&"policy".into(), None, error),
    }
}

/// The last sentence of an error of the engine, without its excerpt.
fn sentence(error: &str) -> &str {
    error
        .lines()
        .map(str::trim)
        .rfind(|line| line.starts_with("error:"))
        .map_or(error, |line| line.trim_start_matches("error:").trim())
}
