//! Policies on files that somebody names: `windlass policy check`, its tests, queries and explanations. Nothing of a project is
//! needed; where there is one, its own policies judge.

pub mod query;
pub mod settings;
pub mod sources;

pub use settings::{Flags, Settings};
pub use windlass_policy::output::{Format, Tally, View, render};
use windlass_policy::testing::test_apart;
pub use windlass_policy::testing::{Line, TestOptions, TestResult, TestRun, Verdict};
pub use windlass_policy::{Annotations, Judgement, Mode, Outcome};

use crate::project::Checkout;
use sources::{Data, Input, Modules};
use std::path::Path;
use windlass_lang::tree::Tree;
use windlass_model::definition::{Enforcement, PolicyDefinition};
use windlass_model::diagnostic::{Diagnostic, Severity, Span};
use windlass_policy::hygiene::{self, InputKind};
use windlass_policy::input::{self, Parser};
use windlass_policy::limits::Worker;
use windlass_policy::{CheckOptions, Checker, Documents, Head, Limits, Reader, files};

/// Exit code of a gate that broke.
pub const BROKEN: u8 = 3;

/// What policies may use for one answer, and the process that they run in.
#[derive(Debug, Clone)]
pub struct Within {
    pub limits: Limits,
    pub worker: Worker,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Answer {
    /// In the order of the files named, then of namespaces.
    pub outcomes: Vec<Outcome>,
    /// What is wrong or suspicious about the gate itself.
    pub diagnostics: Vec<Diagnostic>,
}

impl Answer {
    /// 0 pass, 1 failures; with `fail_on_warn` 1 warnings and 2 failures; 3 when the gate broke, whatever else.
    pub fn exit_code(&self, settings: &Settings) -> u8 {
        let tally = Tally::of(&self.outcomes);
        let broken = tally.broken > 0 || windlass_model::diagnostic::has_errors(&self.diagnostics);
        match () {
            () if broken && settings.mode == Mode::Compatible => 1,
            () if broken => BROKEN,
            () if settings.no_fail => 0,
            () if tally.failures > 0 => 1 + u8::from(settings.fail_on_warn),
            () if tally.warnings > 0 && settings.fail_on_warn => 1,
            () => 0,
        }
    }
}

/// Policies that judge together.
struct Gate {
    modules: Modules,
    data: Data,
    namespaces: Vec<String>,
    enforcement: Enforcement,
    /// The project says so, not the command line.
    declared: bool,
}

/// Judges the files at `paths`, relative to `directory`.
pub fn check(
    directory: &Path,
    paths: &[String],
    settings: &Settings,
    stdin: &mut dyn std::io::Read,
    within: &Within,
) -> Answer {
    let mut answer = Answer::default();
    let gates = match gates(directory, settings) {
        Ok(gates) => gates,
        Err(diagnostics) => {
            answer.diagnostics = diagnostics;
            return answer;
        }
    };
    let inputs = match sources::inputs(directory, paths, settings, stdin) {
        Ok(inputs) => inputs,
        Err(diagnostics) => {
            answer.diagnostics = diagnostics;
            return answer;
        }
    };
    let kind = kind(&inputs, settings.combine);
    for gate in &gates {
        match judge(directory, gate, &inputs, settings, within) {
            Ok((outcomes, namespaces)) => {
                answer.outcomes.extend(outcomes);
                if settings.mode == Mode::Strict {
                    answer.diagnostics.extend(hygiene::check(&gate.modules, &namespaces, kind));
                }
            }
            Err(diagnostics) => answer.diagnostics.extend(diagnostics),
        }
    }
    answer.diagnostics.dedup();
    answer
}

/// An outcome that holds the errors of a gate which could not even be loaded, so that every output tells them.
pub fn unloaded(diagnostics: &[Diagnostic]) -> Option<Outcome> {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let broken: Vec<Diagnostic> = errors.cloned().collect();
    let file = broken.first()?.labels.first().map_or_else(|| "policy".to_owned(), |label| label.span.file.to_string());
    Some(Outcome { file, broken, ..Outcome::default() })
}

fn judge(
    directory: &Path,
    gate: &Gate,
    inputs: &[Input],
    settings: &Settings,
    within: &Within,
) -> Result<(Vec<Outcome>, Vec<String>), Vec<Diagnostic>> {
    let options = CheckOptions {
        namespaces: gate.namespaces.clone(),
        mode: settings.mode,
        show_builtin_errors: settings.show_builtin_errors,
        dialect: settings.dialect,
        trace: settings.trace,
    };
    let reader = Reader::beside(directory, &gate.modules);
    let checker = Checker::load_apart(&gate.modules, &gate.data, &options, reader, within.worker.clone())?;
    let mut outcomes = Vec::new();
    let mut run = |name: &str, path: &Path, documents: &Documents| {
        for namespace in checker.namespaces() {
            let mut outcome = checker.check(name, path, documents, namespace, &within.limits);
            if gate.enforcement == Enforcement::Warn {
                outcome.warnings.append(&mut outcome.failures);
            }
            outcomes.push(outcome);
        }
    };
    if settings.combine {
        let all: Vec<serde_json::Value> =
            inputs.iter().map(|input| input::combined(&input.name, input.contents.clone())).collect();
        run("Combined", Path::new(""), &Documents::one(serde_json::Value::Array(all)));
    } else {
        for input in inputs {
            let path = std::path::absolute(&input.path).unwrap_or_else(|_| input.path.clone());
            run(&input.name, &path, &Documents::of(&input.contents));
        }
    }
    Ok((outcomes, checker.namespaces().to_vec()))
}

/// The policies that were named, else the project's, else those in `policy`.
fn gates(directory: &Path, settings: &Settings) -> Result<Vec<Gate>, Vec<Diagnostic>> {
    let extra = sources::data(directory, &settings.data)?;
    let mut gates = Vec::new();
    if settings.policy.is_empty() {
        for definition in declared(directory)? {
            let (root, definition) = definition;
            let modules = sources::modules(&root, &definition.paths)?;
            let mut data = sources::data_beside(&root, &definition.paths)?;
            data.extend(extra.iter().cloned());
            let enforcement = definition.enforcement;
            gates.push(Gate { modules, data, namespaces: definition.namespaces, enforcement, declared: true });
        }
    }
    if gates.is_empty() {
        let paths = if settings.policy.is_empty() { vec!["policy".to_owned()] } else { settings.policy.clone() };
        let modules = sources::modules(directory, &paths)?;
        // What judges a review judges here, with the same data.
        let mut data = match (settings.policy.is_empty(), settings.mode) {
            (true, Mode::Strict) => sources::data_beside(directory, &paths)?,
            _ => Data::new(),
        };
        data.extend(extra);
        let main = vec!["main".to_owned()];
        gates.push(Gate { modules, data, namespaces: main, enforcement: Enforcement::Deny, declared: false });
    }
    for gate in &mut gates {
        if settings.all_namespaces {
            gate.namespaces = Vec::new();
        } else if !settings.namespaces.is_empty() {
            gate.namespaces.clone_from(&settings.namespaces);
        }
    }
    // Namespaces that are asked for need not be in each of the project's policies.
    let asked = !settings.namespaces.is_empty() && !settings.all_namespaces;
    if asked && gates.iter().any(|gate| gate.declared) {
        let has = |gate: &Gate| {
            let files = files(&gate.modules).unwrap_or_default();
            let mut heads = files.iter().flat_map(|file| &file.heads);
            heads.any(|head| head.kind().is_some() && settings.namespaces.contains(&head.package))
        };
        if gates.iter().any(has) {
            gates.retain(has);
        }
    }
    Ok(gates)
}

/// The `policy` blocks of the project around the directory, with its root.
fn declared(directory: &Path) -> Result<Vec<(std::path::PathBuf, PolicyDefinition)>, Vec<Diagnostic>> {
    let checkout = Checkout::open(directory).map_err(|error| error.diagnostics)?;
    let tree = checkout.work_tree().map_err(|error| error.diagnostics)?;
    let tree: &dyn Tree = &*tree;
    if !tree.paths().iter().any(|path| windlass_lang::definitions::is_windlass_file(path)) {
        return Ok(Vec::new());
    }
    let (definitions, diagnostics) = windlass_lang::definitions::load(tree);
    if windlass_model::diagnostic::has_errors(&diagnostics) {
        return Err(diagnostics);
    }
    Ok(definitions.policies.into_iter().map(|definition| (checkout.root.clone(), definition)).collect())
}

/// The kind that all inputs have, if they have one.
fn kind(inputs: &[Input], combine: bool) -> Option<InputKind> {
    if combine {
        return None;
    }
    let of = |input: &Input| match input.parser {
        Parser::Hcl2 if input.name.ends_with(".tf") || input.name.ends_with(".tofu") => Some(InputKind::Configuration),
        _ => InputKind::of(&input.contents),
    };
    let first = of(inputs.first()?)?;
    inputs.iter().all(|input| of(input) == Some(first)).then_some(first)
}

/// The policies that a command on policies alone is about: those at `paths`, else those of [`check`].
fn modules(directory: &Path, paths: &[String], settings: &Settings) -> Result<(Modules, Data), Vec<Diagnostic>> {
    let mut settings = settings.clone();
    if !paths.is_empty() {
        settings.policy = paths.to_vec();
    }
    let mut modules = Modules::new();
    let mut data = Data::new();
    for gate in gates(directory, &settings)? {
        modules.extend(gate.modules);
        data.extend(gate.data);
    }
    modules.sort();
    modules.dedup();
    let mut seen = std::collections::BTreeSet::new();
    data.retain(|(path, _)| seen.insert(path.clone()));
    Ok((modules, data))
}

/// Which tests run: those whose path the regular expression finds something in.
///
/// # Errors
/// WL432 when it is none.
pub fn test_options(run: Option<&str>) -> Result<TestOptions, Vec<Diagnostic>> {
    let run = run.map(regex::Regex::new).transpose();
    run.map(|run| TestOptions { run })
        .map_err(|error| vec![Diagnostic::error("WL432", format!("`--run` is no regular expression: {error}"))])
}

/// Runs the tests at `paths`.
///
/// # Errors
/// What is wrong with the policies; WL433 when there is no test.
pub fn test(
    directory: &Path,
    paths: &[String],
    settings: &Settings,
    options: &TestOptions,
    within: &Within,
) -> Result<TestRun, Vec<Diagnostic>> {
    let (modules, data) = modules(directory, paths, settings)?;
    let reader = Reader::beside(directory, &modules);
    let run = test_apart(&modules, &data, options, &within.limits, reader, within.worker.clone())?;
    if run.tests.is_empty() {
        let place = modules.first().map_or_else(|| Span::file("policy"), |(path, _)| Span::file(path.clone()));
        let summary = match &options.run {
            Some(run) => format!("no test matches `{run}`"),
            None => "there is no test: no rule begins with `test_`".to_owned(),
        };
        return Err(vec![Diagnostic::error("WL433", summary).at(place)]);
    }
    Ok(run)
}

/// Formats the Rego files at `paths`, else those that a check would judge by, and gives those that were, or would be, changed.
///
/// # Errors
/// What is wrong with the files; the others are formatted nevertheless.
pub fn format(
    directory: &Path,
    paths: &[String],
    settings: &Settings,
    write: bool,
) -> Result<Vec<String>, Vec<Diagnostic>> {
    let mut places: Vec<(std::path::PathBuf, Vec<String>)> = match (paths, settings.policy.as_slice()) {
        ([], []) => declared(directory)?.into_iter().map(|(root, definition)| (root, definition.paths)).collect(),
        ([], policy) => vec![(directory.to_owned(), policy.to_vec())],
        (paths, _) => vec![(directory.to_owned(), paths.to_vec())],
    };
    if places.is_empty() {
        places.push((directory.to_owned(), vec!["policy".to_owned()]));
    }
    let mut changed = std::collections::BTreeSet::new();
    let mut mistakes = Vec::new();
    for (root, paths) in places {
        for (path, text) in sources::modules(&root, &paths)? {
            match windlass_policy::syntax::format(&path, &text) {
                Ok(formatted) if formatted != text => {
                    if write && let Err(error) = std::fs::write(root.join(&*path), formatted) {
                        let summary = format!("cannot write {path}: {error}");
                        mistakes.push(Diagnostic::error("WL401", summary).at(Span::file(path.clone())));
                    }
                    changed.insert(path.to_string());
                }
                Ok(_) => {}
                Err(diagnostic) => mistakes.push(*diagnostic),
            }
        }
    }
    if mistakes.is_empty() { Ok(changed.into_iter().collect()) } else { Err(mistakes) }
}

/// What a rule is, for people.
#[derive(Debug, serde::Serialize)]
pub struct Explanation {
    /// e.g. `data.main.deny_public`.
    pub rule: String,
    /// What it does in a check: `denies`, `warns`, `excuses` or `helps`.
    pub effect: &'static str,
    pub title: Option<String>,
    pub description: Option<String>,
    pub severity: Option<windlass_model::review::Severity>,
    pub related: Vec<String>,
    /// Where its heads stand.
    pub places: Vec<Span>,
    /// Paths of the tests whose text names it.
    pub tests: Vec<String>,
}

/// The rules of this name: `deny_public`, `main.deny_public` or `data.main.deny_public`.
///
/// # Errors
/// What is wrong with the files.
pub fn explain(directory: &Path, name: &str, settings: &Settings) -> Result<Vec<Explanation>, Vec<Diagnostic>> {
    let (modules, _) = modules(directory, &[], settings)?;
    let files = files(&modules)?;
    let all: Vec<&Head> = files.iter().flat_map(|file| &file.heads).collect();
    let wanted = name.strip_prefix("data.").unwrap_or(name);
    let is = |head: &Head| head.name == wanted || format!("{}.{}", head.package, head.name) == wanted;
    let mut found: Vec<Explanation> = Vec::new();
    for head in all.iter().filter(|head| is(head)) {
        if let Some(known) = found.iter_mut().find(|known| known.rule == head.path()) {
            known.places.push(head.span.clone());
            continue;
        }
        let package = files.iter().find(|file| file.path == head.span.file);
        let package = package.map_or_else(Annotations::default, |file| file.annotations.clone());
        let notes = head.annotations.clone();
        found.push(Explanation {
            rule: head.path(),
            effect: head.effect(),
            title: notes.title.or(package.title),
            description: notes.description.or(package.description),
            severity: notes.severity.or(package.severity),
            related: if notes.related.is_empty() { package.related } else { notes.related },
            places: vec![head.span.clone()],
            tests: tests_of(head, &all),
        });
    }
    Ok(found)
}

fn tests_of(rule: &Head, all: &[&Head]) -> Vec<String> {
    let tests = all.iter().filter(|head| head.name.starts_with("test_") && head.words.contains(&rule.name));
    tests.map(|head| head.path()).collect()
}
