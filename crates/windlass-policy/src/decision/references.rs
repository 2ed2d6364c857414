//! What rules read of `input`, looked up in the schema of what they decide: a name that is not there is never defined, and a rule
//! that waits for it never fires.

use super::scan::{Token, Word, tokens};
use super::schema;
use serde_json::Value;
use std::sync::{Arc, OnceLock};
use windlass_model::definition::DecisionKind;
use windlass_model::diagnostic::{Diagnostic, Severity, Span};

/// What is known of a value.
#[derive(Clone, Copy)]
enum Node<'s> {
    /// Nothing: everything may be in it.
    Any,
    Schema(&'s Value),
}

/// One step of a path.
enum Step {
    /// A name, with the bytes it stands at.
    Field(String, usize, usize),
    /// Any member.
    Index,
}

struct Unknown {
    name: String,
    start: usize,
    end: usize,
    /// Names that would be right there; empty when there are none at all.
    known: Vec<String>,
    /// What the value is instead of an object, e.g. `a list`.
    instead: Option<&'static str>,
    /// The path up to the name.
    before: String,
}

/// Of one file; who has so many has another problem.
const MOST: usize = 50;

/// References of all files but tests (`*_test.rego`) that the schema of `kind` does not have. Errors; warnings for plans, whose
/// rules may be meant for other documents too.
pub fn check_references(kind: DecisionKind, files: &[(Arc<str>, String)]) -> Vec<Diagnostic> {
    let schema = parsed(kind);
    let mut found = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| !path.ends_with("_test.rego")) {
        let mut reader = Reader { root: schema, tokens: tokens(text), bound: Vec::new(), unknown: Vec::new() };
        reader.read();
        found.extend(reader.unknown.iter().take(MOST).map(|unknown| diagnostic(kind, path, text, unknown)));
    }
    found
}

/// Each schema is read once.
fn parsed(kind: DecisionKind) -> &'static Value {
    static SCHEMAS: OnceLock<Vec<Value>> = OnceLock::new();
    static NOTHING: Value = Value::Null;
    let all = SCHEMAS.get_or_init(|| {
        // They are a part of this program, and a test reads each.
        DecisionKind::ALL.iter().map(|kind| serde_json::from_str(schema(*kind)).unwrap_or_default()).collect()
    });
    DecisionKind::ALL.iter().position(|known| *known == kind).and_then(|at| all.get(at)).unwrap_or(&NOTHING)
}

fn diagnostic(kind: DecisionKind, path: &Arc<str>, text: &str, unknown: &Unknown) -> Diagnostic {
    // What Windlass itself says about a plan can only be meant for Windlass.
    let ours = kind != DecisionKind::Plan || unknown.before.starts_with("input.windlass");
    let severity = if ours { Severity::Error } else { Severity::Warning };
    let kind = kind.as_str();
    let reads = format!("{}.{}", unknown.before, unknown.name);
    let summary = match unknown.instead {
        Some(instead) => {
            format!("`{reads}` is never there: `{}` is {instead} in the input of {kind} policies", unknown.before)
        }
        None => format!("the input of {kind} policies has no `{reads}`: a rule that reads it never fires"),
    };
    let span = Span::of(path, text, unknown.start, unknown.end);
    let found = Diagnostic::new(severity, "WL450", summary).at_source(span, text, "read here");
    let near = unknown
        .known
        .iter()
        .map(|known| (strsim::jaro_winkler(&unknown.name, known), known))
        .filter(|(score, _)| *score >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match (near, unknown.instead) {
        (_, Some("a list")) => found.help("name its members: `some x in …`, or `[_]`"),
        (Some((_, near)), _) => {
            found.help(format!("did you mean `{near}`? `windlass policy schema {kind}` lists all of them"))
        }
        (None, _) if !unknown.known.is_empty() => {
            let shown = unknown.known.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if unknown.known.len() > 12 { ", …" } else { "" };
            found.help(format!("it has {shown}{more}; see `windlass policy schema {kind}`"))
        }
        _ => found.help(format!("see `windlass policy schema {kind}`")),
    }
}

struct Bound<'s> {
    name: String,
    node: Node<'s>,
    /// What it stands for, for messages.
    path: String,
    /// It is gone when fewer brackets are open.
    depth: usize,
}

struct Reader<'s> {
    root: &'s Value,
    tokens: Vec<Token>,
    bound: Vec<Bound<'s>>,
    unknown: Vec<Unknown>,
}

impl<'s> Reader<'s> {
    fn read(&mut self) {
        for at in 0..self.tokens.len() {
            let (depth, first) = (self.tokens[at].depth, self.tokens[at].first);
            if first && depth == 0 {
                // Another rule. Imports hold for the whole file.
                self.bound.retain(|bound| bound.depth == 0 && bound.path.starts_with("import "));
            }
            self.bound.retain(|bound| bound.depth <= depth);
            let Some(name) = self.tokens[at].name().map(str::to_owned) else { continue };
            if self.is_key(at) {
                continue;
            }
            match name.as_str() {
                "import" if first => self.import(at),
                "some" | "every" => self.declare(at),
                _ => self.use_of(at, &name),
            }
        }
    }

    /// A name behind a dot is no variable.
    fn is_key(&self, at: usize) -> bool {
        at > 0 && self.tokens[at - 1].is('.')
    }

    /// `import input.a.b [as c]`
    fn import(&mut self, at: usize) {
        if self.tokens.get(at + 1).and_then(Token::name) != Some("input") {
            return;
        }
        let (steps, end) = self.steps(at + 1);
        let name = match (self.tokens.get(end).and_then(Token::name), self.tokens.get(end + 1).and_then(Token::name)) {
            (Some("as"), Some(alias)) => Some(alias.to_owned()),
            _ => steps.iter().rev().find_map(|step| match step {
                Step::Field(name, ..) => Some(name.clone()),
                Step::Index => None,
            }),
        };
        if let (Some(name), Some(node)) = (name, self.resolve(Node::Schema(self.root), &steps)) {
            self.bound.push(Bound { name, node, path: format!("import {}", written("input", &steps)), depth: 0 });
        }
    }

    /// `some x in ref`, `some k, v in ref`, `every x in ref {`; a variable of anything else is known to be nothing of ours.
    fn declare(&mut self, at: usize) {
        let depth = self.tokens[at].depth;
        let is_every = self.tokens[at].name() == Some("every");
        let mut names = Vec::new();
        let mut next = at + 1;
        while let Some(name) = self.tokens.get(next).and_then(Token::name) {
            if name == "in" {
                break;
            }
            names.push(name.to_owned());
            next += 1;
            if !self.tokens.get(next).is_some_and(|token| token.is(',')) {
                break;
            }
            next += 1;
        }
        let has_in = self.tokens.get(next).and_then(Token::name) == Some("in");
        let found = if has_in { self.reference(next + 1, is_every) } else { None };
        // The variables of `every` hold in its braces, which end before anything else could use them.
        let value = names.pop();
        for key in names {
            self.bound.push(Bound { name: key, node: Node::Any, path: String::new(), depth });
        }
        if let Some(value) = value {
            let (node, path) = match found {
                Some((node, path)) => (self.member(node), format!("{path}[_]")),
                None => (Node::Any, String::new()),
            };
            self.bound.push(Bound { name: value, node, path, depth });
        }
    }

    /// What a whole expression stands for that is nothing but a reference beginning at `at`.
    fn reference(&self, at: usize, before_brace: bool) -> Option<(Node<'s>, String)> {
        let name = self.tokens.get(at)?.name()?;
        let (node, path) = self.variable(name)?;
        let (steps, end) = self.steps(at);
        let last = &self.tokens[end - 1];
        let ends = self.tokens.get(end).is_none_or(|token| {
            token.line > last.line
                || matches!(token.word, Word::Sign(';' | '}' | ']'))
                || (before_brace && token.is('{'))
        });
        if !ends {
            return None;
        }
        Some((self.resolve(node, &steps)?, written(&path, &steps)))
    }

    fn variable(&self, name: &str) -> Option<(Node<'s>, String)> {
        let bound = self.bound.iter().rev().find(|bound| bound.name == name);
        match bound {
            Some(bound) => Some((bound.node, bound.path.trim_start_matches("import ").to_owned())),
            None if name == "input" => Some((Node::Schema(self.root), "input".to_owned())),
            None => None,
        }
    }

    fn use_of(&mut self, at: usize, name: &str) {
        if self.tokens.get(at + 1).is_some_and(|token| token.word == Word::Assign) {
            let depth = self.tokens[at].depth;
            let (node, path) = self.reference(at + 2, false).unwrap_or((Node::Any, String::new()));
            // A rule of that name is none of our variables.
            if !self.tokens[at].first {
                self.bound.push(Bound { name: name.to_owned(), node, path, depth });
            }
            return;
        }
        let Some((node, path)) = self.variable(name) else { return };
        let (steps, _) = self.steps(at);
        if let Some(unknown) = self.unknown_in(node, &path, &steps) {
            self.unknown.push(unknown);
        }
    }

    /// The steps behind the name at `at`, and the token after them.
    fn steps(&self, at: usize) -> (Vec<Step>, usize) {
        let mut steps = Vec::new();
        let mut next = at + 1;
        while let Some(token) = self.tokens.get(next) {
            let adjacent = self.tokens[next - 1].end == token.start;
            if token.is('.') && adjacent {
                let Some(key) = self.tokens.get(next + 1) else { break };
                let Some(name) = key.name() else { break };
                steps.push(Step::Field(name.to_owned(), key.start, key.end));
                next += 2;
            } else if token.is('[') && adjacent {
                let close = (next + 1..self.tokens.len())
                    .find(|i| self.tokens[*i].is(']') && self.tokens[*i].depth == token.depth);
                let Some(close) = close else { break };
                match &self.tokens[next + 1..close] {
                    [Token { word: Word::Text(name), start, end, .. }] => {
                        steps.push(Step::Field(name.clone(), *start, *end));
                    }
                    _ => steps.push(Step::Index),
                }
                next = close + 1;
            } else {
                break;
            }
        }
        (steps, next)
    }

    fn resolve(&self, node: Node<'s>, steps: &[Step]) -> Option<Node<'s>> {
        steps.iter().try_fold(node, |node, step| match step {
            Step::Field(name, ..) => self.field(node, name).ok(),
            Step::Index => Some(self.member(node)),
        })
    }

    fn unknown_in(&self, mut node: Node<'s>, path: &str, steps: &[Step]) -> Option<Unknown> {
        for (index, step) in steps.iter().enumerate() {
            node = match step {
                Step::Index => self.member(node),
                Step::Field(name, start, end) => match self.field(node, name) {
                    Ok(node) => node,
                    Err((known, instead)) => {
                        let before = written(path, &steps[..index]);
                        return Some(Unknown { name: name.clone(), start: *start, end: *end, known, instead, before });
                    }
                },
            };
        }
        None
    }

    /// The schemas that a node may be: references followed, alternatives side by side.
    fn alternatives(&self, node: &'s Value, depth: usize, out: &mut Vec<&'s Value>) {
        if depth > 16 {
            return;
        }
        if let Some(name) = node.get("$ref").and_then(Value::as_str) {
            if let Some(target) = name.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) {
                self.alternatives(target, depth + 1, out);
            }
            return;
        }
        if let Some(list) = node.get("anyOf").or_else(|| node.get("oneOf")).and_then(Value::as_array) {
            list.iter().for_each(|item| self.alternatives(item, depth + 1, out));
            return;
        }
        out.push(node);
    }

    /// What `name` is in `node`; else the names it has, and what it is instead of an object.
    fn field(&self, node: Node<'s>, name: &str) -> Result<Node<'s>, (Vec<String>, Option<&'static str>)> {
        let Node::Schema(schema) = node else { return Ok(Node::Any) };
        let mut options = Vec::new();
        self.alternatives(schema, 0, &mut options);
        let (mut known, mut instead) = (Vec::new(), None);
        for option in options {
            let properties = option.get("properties").and_then(Value::as_object);
            if let Some(found) = properties.and_then(|properties| properties.get(name)) {
                return Ok(Node::Schema(found));
            }
            match option.get("additionalProperties") {
                Some(more @ Value::Object(_)) => return Ok(Node::Schema(more)),
                Some(Value::Bool(true)) => return Ok(Node::Any),
                _ => {}
            }
            if option.get("enum").is_some() {
                instead = instead.or(Some("a text"));
                continue;
            }
            match (properties, types(option).as_slice()) {
                (Some(properties), _) => known.extend(properties.keys().cloned()),
                (None, [] | ["object", ..] | [_, "object", ..]) => return Ok(Node::Any),
                (None, ["array", ..]) => instead = Some("a list"),
                (None, ["string", ..]) => instead = instead.or(Some("a text")),
                (None, ["boolean", ..]) => instead = instead.or(Some("true or false")),
                (None, ["null"]) => {}
                (None, _) => instead = instead.or(Some("a number")),
            }
        }
        let instead = if known.is_empty() { instead } else { None };
        Err((known, instead))
    }

    /// What any member of `node` is.
    fn member(&self, node: Node<'s>) -> Node<'s> {
        let Node::Schema(schema) = node else { return Node::Any };
        let mut options = Vec::new();
        self.alternatives(schema, 0, &mut options);
        for option in options {
            if let Some(items) = option.get("items") {
                return Node::Schema(items);
            }
            if let (None, Some(more @ Value::Object(_))) =
                (option.get("properties"), option.get("additionalProperties"))
            {
                return Node::Schema(more);
            }
        }
        Node::Any
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => {
            several.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect()
        }
        _ => Vec::new(),
    }
}

fn written(path: &str, steps: &[Step]) -> String {
    steps.iter().fold(path.to_owned(), |path, step| match step {
        Step::Field(name, ..) => format!("{path}.{name}"),
        Step::Index => format!("{path}[_]"),
    })
}
