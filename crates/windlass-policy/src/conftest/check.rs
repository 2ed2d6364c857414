//! Judging files as Conftest does: per file and namespace, with its counts. Conftest's own fail-opens are refused unless the
//! compatible mode asks for them.

use super::heads::Annotations;
use super::reader::Reader;
use super::{Limits, bounded};
use crate::document::Document;
use crate::engine::{self, Kind, Options, Rego, Rule};
use crate::input::{self, Parser};
use crate::limits::{Apart, Ask, Job, Worker};
use crate::rewrite::Shape;
use crate::syntax::tree::Dialect;
use regorus::Value;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::review::Severity;

/// What happens where Conftest passes although nothing was judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It is an error: the gate broke.
    #[default]
    Strict,
    /// As Conftest.
    Compatible,
}

/// Which rules judge, and how.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CheckOptions {
    /// Packages without `data.`; `*`, `?` and `[…]` are wildcards. Empty means all that have a rule.
    pub namespaces: Vec<String>,
    pub mode: Mode,
    /// In the compatible mode a builtin that fails is undefined unless this is set; otherwise it always breaks the gate.
    pub show_builtin_errors: bool,
    /// What the policies are written in; any, when it is not said.
    pub dialect: Option<Dialect>,
    /// Note for each rule how many results it gave and how long it took.
    pub trace: bool,
}

/// One result of a rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub message: String,
    /// `query` and the other keys of an object result.
    pub metadata: Map<String, Json>,
    /// `_loc`: file, and line from 1.
    pub place: Option<(String, Option<u32>)>,
    /// e.g. `data.main.deny_public`.
    pub rule: String,
    /// Where the rule stands.
    pub policy: Option<Span>,
    pub severity: Option<Severity>,
    /// Resource address.
    pub address: Option<String>,
    /// A page that says more.
    pub help: Option<String>,
}

/// What the rules of one namespace say about one file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub file: String,
    pub namespace: String,
    pub successes: usize,
    pub skipped: Vec<Judgement>,
    pub warnings: Vec<Judgement>,
    pub failures: Vec<Judgement>,
    pub exceptions: Vec<Judgement>,
    /// Rules that could not be evaluated. Not a pass.
    pub broken: Vec<Diagnostic>,
    /// What the rules printed.
    pub prints: Vec<String>,
    /// A line for each rule that was evaluated, when that was asked for.
    pub trace: Vec<String>,
}

impl Outcome {
    /// How many results there are, as Conftest counts.
    pub fn total(&self) -> usize {
        self.successes + self.skipped.len() + self.warnings.len() + self.failures.len() + self.exceptions.len()
    }
}

/// The documents of a file, each read once however often it is judged.
#[derive(Debug)]
pub struct Documents<'a>(Vec<Document<'a>>);

impl<'a> Documents<'a> {
    /// The elements of a top-level array, else the one document there is.
    pub fn of(contents: &'a Json) -> Self {
        match contents {
            Json::Array(items) => Self(items.iter().map(Document::from).collect()),
            other => Self(vec![Document::from(other)]),
        }
    }

    /// One document, whatever it is.
    pub fn one(contents: Json) -> Self {
        Self(vec![Document::owned(contents)])
    }
}

/// Loaded policies that judge files.
#[derive(Clone)]
pub struct Checker {
    rego: Rego,
    namespaces: Vec<String>,
    mode: Mode,
    trace: bool,
    /// Where it is asked, if not here.
    apart: Option<Arc<Apart>>,
}

impl Checker {
    /// Loads Rego files (path, text) and data documents (path, value); `reader` is what `parse_config_file` reads with.
    ///
    /// # Errors
    /// Everything that is wrong with them; WL403 for a namespace that selects nothing, unless compatible.
    pub fn load(
        files: &[(Arc<str>, String)],
        data: &[(Arc<str>, Json)],
        options: &CheckOptions,
        reader: Option<Reader>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let strict_builtin_errors = options.mode == Mode::Strict || options.show_builtin_errors;
        let mut rego =
            Rego::load(files, &Options { dialect: options.dialect, strict_builtin_errors, ..Options::default() })?;
        register_parsers(&mut rego, strict_builtin_errors, reader)
            .map_err(|error| vec![Diagnostic::error("WL406", format!("the engine refuses parse_config: {error}"))])?;
        let mut diagnostics = Vec::new();
        for (path, value) in data {
            if let Err(error) = rego.add_data(value) {
                diagnostics.push(
                    Diagnostic::error("WL401", format!("policy data {path} cannot be used: {error}"))
                        .at(Span::file(path.clone())),
                );
            }
        }
        let packages: BTreeSet<String> =
            rego.rules.iter().filter(|rule| judges(rule)).map(|rule| rule.package.clone()).collect();
        let namespaces = if options.namespaces.is_empty() {
            // Conftest lists those that judge nothing as well.
            let all: BTreeSet<String> = rego.rules.iter().map(|rule| rule.package.clone()).collect();
            let listed = if options.mode == Mode::Compatible { &all } else { &packages };
            listed.iter().cloned().collect()
        } else {
            let mut chosen: Vec<String> = Vec::new();
            for wanted in &options.namespaces {
                let known: Vec<&String> = packages.iter().filter(|package| matches(wanted, package)).collect();
                if known.is_empty() && options.mode == Mode::Strict {
                    diagnostics.push(selects_nothing(wanted, &packages, files));
                }
                if known.is_empty() && !wanted.contains(['*', '?', '[']) {
                    chosen.push(wanted.clone());
                }
                chosen.extend(known.into_iter().cloned());
            }
            let mut seen = BTreeSet::new();
            chosen.retain(|namespace| seen.insert(namespace.clone()));
            chosen
        };
        if packages.is_empty() && options.mode == Mode::Strict && diagnostics.is_empty() {
            diagnostics.push(selects_nothing("*", &packages, files));
        }
        if diagnostics.is_empty() {
            Ok(Self { rego, namespaces, mode: options.mode, trace: options.trace, apart: None })
        } else {
            Err(diagnostics)
        }
    }

    /// As [`Checker::load`], to be asked in a process of its own: memory and stack are limited there.
    ///
    /// # Errors
    /// As [`Checker::load`].
    pub fn load_apart(
        files: &[(Arc<str>, String)],
        data: &[(Arc<str>, Json)],
        options: &CheckOptions,
        reader: Reader,
        worker: Worker,
    ) -> Result<Self, Vec<Diagnostic>> {
        let job = Job::checker(files, data, options, &reader);
        let here = Self::load(files, data, options, Some(reader))?;
        Ok(Self { apart: Some(Arc::new(Apart::new(job, Some(worker), true))), ..here })
    }

    /// The answers of a query, each with the values of its variables.
    ///
    /// # Errors
    /// The engine's sentence.
    pub fn query(
        &self,
        text: &str,
        input: Option<&Json>,
        limits: &Limits,
    ) -> Result<Vec<BTreeMap<String, Json>>, String> {
        self.query_document(text, input.map(Document::from).as_ref(), limits)
    }

    pub(crate) fn query_document(
        &self,
        text: &str,
        input: Option<&Document<'_>>,
        limits: &Limits,
    ) -> Result<Vec<BTreeMap<String, Json>>, String> {
        let text = text.to_owned();
        if let Some(apart) = &self.apart {
            return apart.ask(&Ask::Query { text }, input, limits, |_| true).map_err(|broken| broken.to_string());
        }
        let mut set = self.clone();
        set.rego.limit_time(limits.time);
        let input = input.map(Document::value).transpose()?;
        bounded(limits, move || {
            if let Some(input) = input {
                set.rego.set_input(input);
            }
            let rows = set.rego.eval_query(&text).map_err(|error| error.to_string())?;
            let plain = |(name, value): (String, Value)| Ok((name, engine::plain(&value)?));
            rows.into_iter().map(|row| row.into_iter().map(plain).collect()).collect()
        })?
    }

    /// The packages that judge, in the order asked for.
    pub fn namespaces(&self) -> &[String] {
        &self.namespaces
    }

    /// Judges the documents of one file by one namespace. `path` is where it lies, for `data.conftest.file`.
    pub fn check(
        &self,
        file: &str,
        path: &Path,
        documents: &Documents<'_>,
        namespace: &str,
        limits: &Limits,
    ) -> Outcome {
        let mut out = Outcome { file: file.to_owned(), namespace: namespace.to_owned(), ..Outcome::default() };
        for document in &documents.0 {
            let part = match &self.apart {
                Some(apart) => {
                    let (path, namespace) = (path.to_owned(), namespace.to_owned());
                    let ask = Ask::Check { file: file.to_owned(), path, namespace };
                    let judged = apart.ask(&ask, Some(document), limits, |part: &Outcome| !part.broken.is_empty());
                    judged.unwrap_or_else(|why| self.unjudged(Some(&out.namespace), &why.to_string()))
                }
                None => self.check_one(file, path, document, namespace, limits),
            };
            out.successes += part.successes;
            out.warnings.extend(part.warnings);
            out.failures.extend(part.failures);
            out.exceptions.extend(part.exceptions);
            out.broken.extend(part.broken);
            out.prints.extend(part.prints);
            out.trace.extend(part.trace);
        }
        out
    }

    /// As [`Checker::check`], of one document and in this process.
    pub(crate) fn check_one(
        &self,
        file: &str,
        path: &Path,
        document: &Document<'_>,
        namespace: &str,
        limits: &Limits,
    ) -> Outcome {
        let mut part = Outcome { file: file.to_owned(), namespace: namespace.to_owned(), ..Outcome::default() };
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let directory = path.parent().map_or_else(String::new, |path| path.to_string_lossy().into_owned());
        let context = serde_json::json!({ "conftest": { "file": { "name": name, "dir": directory } } });
        let mut set = self.clone();
        set.rego.limit_time(limits.time);
        let of = namespace.to_owned();
        let judged = document.value().and_then(|input| {
            bounded(limits, move || {
                if let Err(error) = set.rego.add_data(&context) {
                    part.broken.push(Diagnostic::error("WL406", format!("data.conftest is taken: {error}")));
                    return part;
                }
                set.rego.set_input(input);
                set.judge(&of, &mut part);
                part.prints = prints(&mut set.rego);
                part
            })
        });
        judged.unwrap_or_else(|why| self.unjudged(Some(namespace), &why))
    }

    /// The outcome of what could not be judged, by the rules of a namespace or of all.
    fn unjudged(&self, namespace: Option<&str>, why: &str) -> Outcome {
        let is_of = |rule: &&Rule| judges(rule) && namespace.is_none_or(|namespace| rule.package == namespace);
        let mut diagnostic = Diagnostic::error("WL406", why);
        if let Some(rule) = self.rego.rules.iter().find(is_of) {
            diagnostic = diagnostic.at(rule.span.clone());
        }
        let broken = vec![diagnostic.help("the gate broke, which is not a pass: mend the policy")];
        Outcome { broken, ..Outcome::default() }
    }

    /// Judges one document by all namespaces at once; the outcome bears neither file nor namespace.
    pub fn evaluate(&self, document: &Json, limits: &Limits) -> Outcome {
        self.evaluate_document(&Document::from(document), limits)
    }

    /// As [`Checker::evaluate`].
    pub(crate) fn evaluate_document(&self, document: &Document<'_>, limits: &Limits) -> Outcome {
        let mut set = self.clone();
        set.rego.limit_time(limits.time);
        let judged = document.value().and_then(|input| {
            bounded(limits, move || {
                let mut out = Outcome::default();
                set.rego.set_input(input);
                for namespace in set.namespaces.clone() {
                    set.judge(&namespace, &mut out);
                }
                out
            })
        });
        judged.unwrap_or_else(|why| self.unjudged(None, &why))
    }

    /// The judging rules of a namespace, sorted by name.
    fn rules(&self, namespace: &str) -> Vec<Rule> {
        let mut seen = BTreeSet::new();
        let of = |rule: &&Rule| rule.package == namespace && judges(rule);
        let mut rules: Vec<Rule> = self.rego.rules.iter().filter(of).cloned().collect();
        if self.mode == Mode::Compatible {
            // Conftest does not tell names apart by their case: the first in the file is the one.
            rules.sort_by(|a, b| a.span.cmp(&b.span));
            rules.retain(|rule| seen.insert(rule.name.to_lowercase()));
            rules.sort_by(|a, b| a.name.cmp(&b.name));
        }
        rules
    }

    fn judge(&mut self, namespace: &str, out: &mut Outcome) {
        let rules = self.rules(namespace);
        let of = |rule: &&Rule| rule.package == namespace && judges(rule);
        let defined: usize = self.rego.rules.iter().filter(of).map(|rule| rule.heads.len()).sum();
        let broken_before = out.broken.len();
        let excused = self.excused(namespace, out);
        let before = out.warnings.len() + out.failures.len() + out.exceptions.len();
        let mut passed = 0;
        for head in &rules {
            let suffix = head.suffix();
            let exceptions = excused.iter().filter(|name| *name == suffix).count();
            for _ in 0..exceptions {
                let query = format!("data.{namespace}.exception[_][_] == {}", Json::from(suffix));
                out.exceptions.push(Judgement { message: query, rule: head.path(), ..Judgement::default() });
            }
            let started = Instant::now();
            let results = self.results(head);
            if self.trace {
                let took = started.elapsed().as_secs_f64() * 1000.0;
                let what = match &results {
                    Ok(None) => "undefined".to_owned(),
                    Ok(Some(judgements)) if exceptions > 0 => format!("{} results, taken back", judgements.len()),
                    Ok(Some(judgements)) => format!("{} results", judgements.len()),
                    Err(_) => "broke".to_owned(),
                };
                out.trace.push(format!("{} ({}): {what} in {took:.2} ms", head.path(), head.span));
            }
            match results {
                Ok(None) => {}
                Ok(Some(judgements)) if judgements.is_empty() => passed += usize::from(exceptions == 0),
                Ok(Some(_)) if exceptions > 0 => {}
                Ok(Some(judgements)) => match head.kind() {
                    Some(Kind::Warn) => out.warnings.extend(judgements),
                    _ => out.failures.extend(judgements),
                },
                Err(diagnostic) => out.broken.push(*diagnostic),
            }
        }
        // A rule counts once for each of its heads; those without a result passed.
        let results = out.warnings.len() + out.failures.len() + out.exceptions.len() - before + passed;
        out.successes += passed + defined.saturating_sub(results + out.broken.len() - broken_before);
    }

    /// Suffixes of the rules that `exception` takes back, as often as it does.
    fn excused(&mut self, namespace: &str, out: &mut Outcome) -> Vec<String> {
        let mut rules = self.rego.rules.iter();
        let head = rules.find(|rule| rule.package == namespace && rule.kind() == Some(Kind::Exception));
        let Some(head) = head.cloned() else { return Vec::new() };
        let value = match self.rego.eval_rule(&head.path()) {
            Ok(value) => value,
            Err(error) => {
                out.broken.push(*broken(&head, &error));
                return Vec::new();
            }
        };
        let Ok(Json::Array(lists)) = engine::plain(&value) else { return Vec::new() };
        lists
            .iter()
            .flat_map(|list| list.as_array().into_iter().flatten())
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect()
    }

    /// `None` for a rule that is undefined.
    fn results(&mut self, head: &Rule) -> Result<Option<Vec<Judgement>>, Box<Diagnostic>> {
        if head.shape == Shape::Function {
            return Err(Box::new(
                Diagnostic::error(
                    "WL436",
                    format!("{} is a function: nobody calls it, so it would never judge", head.path()),
                )
                .at(head.span.clone())
                .help(format!("give the function another name, or write `{} contains msg if {{ … }}`", head.name)),
            ));
        }
        let value = self.rego.eval_rule(&head.path()).map_err(|error| broken(head, &error))?;
        let items: Vec<Value> = match &value {
            Value::Undefined => return Ok(None),
            Value::Set(set) => set.iter().cloned().collect(),
            Value::Array(items) => items.iter().cloned().collect(),
            _ if self.mode == Mode::Compatible => return Ok(Some(Vec::new())),
            _ => {
                return Err(Box::new(
                    Diagnostic::error(
                        "WL405",
                        format!("rule {} is neither a set nor an array: its result would be ignored", head.path()),
                    )
                    .at(head.span.clone())
                    .help(format!("write `{} contains msg if {{ … }}`", head.name)),
                ));
            }
        };
        if items.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut judgements = Vec::new();
        for item in items {
            let item = engine::plain(&item).map_err(|why| broken(head, &why))?;
            match judgement(head, item) {
                Ok(judgement) => judgements.push(judgement),
                Err((_, true)) if self.mode == Mode::Compatible => {}
                Err((why, _)) => return Err(broken(head, &why)),
            }
        }
        Ok(if judgements.is_empty() { None } else { Some(judgements) })
    }
}

fn judges(rule: &Rule) -> bool {
    rule.kind().is_some_and(|kind| kind != Kind::Exception)
}

/// What was printed, each with its place.
pub(crate) fn prints(rego: &mut Rego) -> Vec<String> {
    let prints = rego.take_prints().unwrap_or_default().into_iter();
    prints
        .map(
            |print| if print.line == 0 { print.text } else { format!("{}:{}: {}", print.file, print.line, print.text) },
        )
        .collect()
}

/// The error says whether Conftest would ignore the value.
fn judgement(head: &Rule, item: Json) -> Result<Judgement, (String, bool)> {
    let notes = head.annotations.as_ref().map(Annotations::from).unwrap_or_default();
    let mut made = Judgement {
        rule: head.path(),
        policy: Some(head.span.clone()),
        severity: notes.severity,
        help: notes.related.first().cloned(),
        ..Judgement::default()
    };
    made.metadata.insert("query".into(), head.path().into());
    match item {
        Json::String(message) => made.message = message,
        Json::Object(object) => {
            let Some(message) = object.get("msg").and_then(Json::as_str) else {
                return Err(("a result is an object without a string `msg`".into(), false));
            };
            message.clone_into(&mut made.message);
            for (key, value) in object {
                match key.as_str() {
                    "msg" => {}
                    "_loc" => {
                        let file = value.get("file").and_then(Json::as_str).map(str::to_owned);
                        let line = value.get("line").and_then(Json::as_u64).and_then(|line| u32::try_from(line).ok());
                        made.place = file.map(|file| (file, line));
                    }
                    _ => {
                        match (key.as_str(), value.as_str()) {
                            ("address", Some(address)) => made.address = Some(address.to_owned()),
                            ("resource", Some(address)) if made.address.is_none() => {
                                made.address = Some(address.to_owned());
                            }
                            ("severity", Some(text)) => {
                                made.severity = super::heads::severity(text).or(made.severity);
                            }
                            _ => {}
                        }
                        made.metadata.insert(key, value);
                    }
                }
            }
        }
        other => return Err((format!("a result is {other}, neither a string nor an object with `msg`"), true)),
    }
    Ok(made)
}

fn broken(head: &Rule, why: &str) -> Box<Diagnostic> {
    let line = why.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(why);
    Box::new(
        Diagnostic::error("WL406", format!("rule {} could not be evaluated: {line}", head.path()))
            .at(head.span.clone()),
    )
}

fn selects_nothing(wanted: &str, packages: &BTreeSet<String>, files: &[(Arc<str>, String)]) -> Diagnostic {
    let known = if packages.is_empty() {
        "none".to_owned()
    } else {
        packages.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let place = files.first().map_or_else(|| Span::file("policy"), |(path, _)| Span::file(path.clone()));
    Diagnostic::error(
        "WL403",
        format!("namespace `{wanted}` has no deny, violation or warn rule: it would pass everything"),
    )
    .at(place)
    .help(format!("packages with rules: {known}; choose with `--namespace`, or take all with `--all-namespaces`"))
}

/// Whether a pattern with `*`, `?` and `[…]` matches a package; `*` goes over dots.
fn matches(pattern: &str, package: &str) -> bool {
    if !pattern.contains(['*', '?', '[']) {
        return pattern == package;
    }
    let mut text = String::from("^");
    let mut class = false;
    for c in pattern.chars() {
        match c {
            '[' if !class => {
                class = true;
                text.push('[');
            }
            ']' if class => {
                class = false;
                text.push(']');
            }
            _ if class => text.push(if c == '!' && text.ends_with('[') { '^' } else { c }),
            '*' => text.push_str(".*"),
            '?' => text.push('.'),
            c => text.push_str(&regex::escape(&c.to_string())),
        }
    }
    text.push('$');
    regex::Regex::new(&text).is_ok_and(|regex| regex.is_match(package))
}

/// `parse_config`, `parse_config_file` and `parse_combined_config_files`.
pub(crate) fn register_parsers(rego: &mut Rego, strict: bool, reader: Option<Reader>) -> Result<(), String> {
    let answer = move |result: Result<Json, String>| match result {
        Ok(value) => Ok(Value::from(value)),
        Err(_) if !strict => Ok(Value::Undefined),
        Err(why) => Err(why),
    };
    rego.add_function("parse_config", 2, move |arguments| {
        let result = match arguments {
            [Value::String(parser), Value::String(text)] => Parser::named(parser).and_then(|parser| {
                input::parse(parser, &"parse_config".into(), text).map_err(|diagnostic| diagnostic.summary)
            }),
            _ => Err("parse_config takes the name of a parser and a text".into()),
        };
        answer(result)
    })?;
    let read = move |path: &str| -> Result<(String, Json), String> {
        let reader = reader.as_ref().ok_or("files cannot be read here: hand them to the check")?;
        let (found, text) = reader.read(path)?;
        let parsed = input::parse(Parser::of_path(&found)?, &found.as_str().into(), &text);
        parsed.map(|value| (found, value)).map_err(|diagnostic| diagnostic.summary)
    };
    let read_one = read.clone();
    rego.add_function("parse_config_file", 1, move |arguments| {
        answer(match arguments {
            [Value::String(path)] => read_one(path).map(|(_, value)| value),
            _ => Err("parse_config_file takes a path".into()),
        })
    })?;
    rego.add_function("parse_combined_config_files", 1, move |arguments| {
        let result = match arguments {
            [Value::Array(paths)] => paths
                .iter()
                .map(|path| match path {
                    Value::String(path) => read(path).map(|(found, contents)| input::combined(&found, contents)),
                    _ => Err("parse_combined_config_files takes a list of paths".into()),
                })
                .collect::<Result<Vec<_>, String>>()
                .map(Json::Array),
            _ => Err("parse_combined_config_files takes a list of paths".into()),
        };
        answer(result)
    })
}
