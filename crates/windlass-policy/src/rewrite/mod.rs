//! From what people write to what the engine evaluates like OPA: names become full paths, variables get names of their own, and
//! constructs that the engine lacks or answers differently are expressed by others. What cannot be expressed is refused here.

mod checks;
pub mod host;
mod known;
mod lower;
mod safety;
mod scope;

use crate::builtins;
use crate::syntax::annotations::{self, Annotations, Target};
use crate::syntax::tree::*;
use crate::syntax::{Source, print};
use checks::Checks;
use lower::Lowering;
use regorus::Value;
use scope::{Names, Resolver};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use windlass_model::diagnostic::Diagnostic;

/// What rewriting depends on.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub strict_builtin_errors: bool,
    pub operands_inside_not: bool,
}

/// Modules for the engine, and what evaluating a query needs to know of them.
#[derive(Debug, Clone)]
pub struct Program {
    /// File and text of each; a file can have several.
    pub modules: Vec<(Arc<str>, String)>,
    pub constants: Vec<Value>,
    /// Of every rule of every source: its full path, the source and the rule's index.
    pub rules: Vec<Found>,
    context: Context,
}

impl Program {
    /// The engine finds the whole value of this rule by its path.
    pub fn is_direct(&self, shape: Shape, path: &[String]) -> bool {
        let rules = &self.context.rules;
        let below = rules.range(path.to_vec()..).take_while(|(other, _)| other.starts_with(path)).count();
        let under_variable = (1..path.len()).any(|length| rules.get(&path[..length]) == Some(&Shape::Object));
        let keyword = path.iter().any(|key| print::is_keyword(key));
        matches!(shape, Shape::Set | Shape::Complete) && below == 1 && !under_variable && !keyword
    }
}

/// A rule and where it stands.
#[derive(Debug, Clone)]
pub struct Found {
    pub source: usize,
    pub index: usize,
    pub annotations: Option<Annotations>,
}

#[derive(Debug, Clone, Default)]
struct Context {
    builtins: BTreeMap<&'static str, u8>,
    functions: BTreeMap<Vec<String>, usize>,
    rules: BTreeMap<Vec<String>, Shape>,
}

/// What a rule gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// One value.
    Complete,
    /// `p contains x`
    Set,
    /// `p[key] := value`
    Object,
    Function,
}

impl Shape {
    pub fn of(head: &Head) -> Self {
        match head {
            Head { params: Some(_), .. } => Self::Function,
            Head { path, .. } if path.iter().any(|arg| arg.text().is_none()) => Self::Object,
            Head { key: Some(_), .. } => Self::Set,
            _ => Self::Complete,
        }
    }
}

/// The path of a rule below `data`, as far as it is constant.
pub fn rule_path(package: &[String], head: &Head) -> Vec<String> {
    let keys = head.path.iter().map_while(|arg| arg.text().map(str::to_owned));
    package.iter().cloned().chain([head.name.clone()]).chain(keys).collect()
}

/// Rewrites all modules, together: what a name means depends on the others.
///
/// # Errors
/// Everything that is wrong: WL404 (refused), WL410 to WL417.
pub fn program(sources: &[Source], settings: Settings) -> Result<Program, Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut extra_modules: Vec<(Arc<str>, String)> = Vec::new();
    let mut blocks = Vec::new();
    for source in sources {
        match annotations::find(source) {
            Ok(found) => blocks.push(found),
            Err(found) => {
                wrong.extend(found);
                blocks.push(Vec::new());
            }
        }
    }
    let mut roots: BTreeMap<&[String], BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let names = roots.entry(&source.module.package).or_default();
        names.extend(source.module.rules.iter().map(|rule| rule.head.name.clone()));
    }
    let mut context = Context { builtins: builtin_arities(), ..Context::default() };
    let mut resolved = Vec::new();
    for source in sources {
        let mut module = source.module.clone();
        let names = Names {
            package: module.package.clone(),
            rules: roots.get(&module.package[..]).cloned().unwrap_or_default(),
            imports: imports(&module),
        };
        let mut resolver = Resolver::new(&names, &context.builtins);
        for rule in &mut module.rules {
            resolver.rule(rule);
            for trouble in resolver.wrong.drain(..) {
                wrong.push(
                    source
                        .error("WL411", trouble.message, trouble.loc)
                        .help("a variable is declared once in a body, before it is used"),
                );
            }
        }
        for rule in &module.rules {
            let path = rule_path(&module.package, &rule.head);
            if let Some(params) = &rule.head.params {
                let full = std::iter::once("data".to_owned()).chain(path.iter().cloned()).collect();
                context.functions.entry(full).or_insert(params.len());
            }
            context.rules.entry(path).or_insert_with(|| Shape::of(&rule.head));
        }
        module.imports.clear();
        resolved.push(module);
    }
    let checks = Checks { sources, modules: &resolved, builtins: &context.builtins, functions: &context.functions };
    checks.run(&mut wrong);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let arranging = Checks { sources: &[], modules: &[], builtins: &context.builtins, functions: &context.functions };
    resolved.iter_mut().for_each(|module| arranging.arrange(&mut module.rules, &mut Vec::new()));
    reach_through(&mut resolved);
    let replaced = replaced(&resolved, &context);
    if !replaced.is_empty() {
        let (path, text) = host::stand_ins(&replaced, &context.builtins);
        extra_modules.push((path, text));
        for name in &replaced {
            context.functions.insert(host::stand_in(name), usize::from(context.builtins[name.as_str()]));
        }
    }
    let mut out =
        Program { modules: Vec::new(), constants: Vec::new(), rules: Vec::new(), context: Context::default() };
    let mut constants = Vec::new();
    for (index, module) in resolved.iter_mut().enumerate() {
        let mut lowering = Lowering::new(&context.builtins, &context.functions);
        lowering.lenient = !settings.strict_builtin_errors;
        lowering.operands_outside_not = !settings.operands_inside_not;
        lowering.replaced = replaced.clone();
        lowering.roots = roots_of(&context);
        lowering.constants = std::mem::take(&mut constants);
        let metadata = sources[index].text.contains("rego.metadata");
        for (number, rule) in module.rules.iter_mut().enumerate() {
            if metadata {
                lowering.rule_chain = chain(sources, &blocks, index, number);
            }
            lowering.rule(rule);
        }
        constants = std::mem::take(&mut lowering.constants);
        for number in 0..module.rules.len() {
            let annotations = own(&blocks[index], number).map(|annotations| (*annotations).clone());
            out.rules.push(Found { source: index, index: number, annotations });
        }
        match engine_modules(module) {
            Ok(modules) => {
                out.modules.extend(modules.iter().map(|m| (sources[index].path.clone(), print::module(m))));
            }
            Err((message, loc)) => wrong
                .push(sources[index].error("WL404", message, loc).help("give it a name that is no keyword of Rego")),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    out.modules.append(&mut extra_modules);
    out.constants = constants.iter().map(value).collect();
    out.context = context;
    Ok(out)
}

/// The engine evaluates a rule by the constant part of its path. A rule below another one whose path goes on with a variable
/// (`p[x]` and `p.b.r`) is therefore given a variable at the same place, so that whoever asks for one gets both.
fn reach_through(modules: &mut [Module]) {
    let dynamic: BTreeSet<Vec<String>> = modules
        .iter()
        .flat_map(|module| module.rules.iter().map(move |rule| (module, rule)))
        .filter(|(_, rule)| rule.head.params.is_none() && Shape::of(&rule.head) == Shape::Object)
        .map(|(module, rule)| rule_path(&module.package, &rule.head))
        .collect();
    if dynamic.is_empty() {
        return;
    }
    for module in modules {
        for rule in &mut module.rules {
            let path = rule_path(&module.package, &rule.head);
            let shortest = (module.package.len() + 1..path.len()).find(|length| dynamic.contains(&path[..*length]));
            let (Some(length), false) = (shortest, rule.default) else { continue };
            let index = length - module.package.len() - 1;
            let loc = rule.head.name_loc;
            let name = Term::var("__key", loc);
            rule.head.path[index] = Arg::Bracket(name.clone());
            let kind = StmtKind::Assign(name, Term::string(&path[length], loc));
            let statement = Stmt { kind, withs: Vec::new(), loc };
            rule.body.get_or_insert_default().insert(0, statement.clone());
            for other in &mut rule.elses {
                other.body.get_or_insert_default().insert(0, statement.clone());
            }
        }
    }
}

/// The builtins that a `with` replaces, or replaces by, and that the engine does not know as functions there.
fn replaced(modules: &[Module], context: &Context) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut add = |term: &Term, value: bool| {
        let Some(name) = term.static_path().map(|path| path.join(".")) else { return };
        let native = known::ENGINE.binary_search(&name.as_str()).is_ok();
        if context.builtins.contains_key(name.as_str()) && (value || !native) {
            found.insert(name);
        }
    };
    for rule in modules.iter().flat_map(|module| &module.rules) {
        crate::syntax::visit::withs(rule, &mut |with| {
            add(&with.target, false);
            add(&with.value, true);
        });
    }
    found
}

/// A query for the engine: one comprehension that lists the values of `variables`, in that order, for each answer.
pub struct Query {
    pub text: String,
    pub variables: Vec<String>,
}

/// Rewrites a query.
///
/// # Errors
/// What is wrong with it.
pub fn query(program: &Program, text: &str, settings: Settings) -> Result<Query, Vec<Diagnostic>> {
    let mut body = crate::syntax::parse_query(text).map_err(|diagnostic| vec![*diagnostic])?;
    let source = Source::of_query(text);
    let names = Names::default();
    let mut resolver = Resolver::new(&names, &program.context.builtins);
    let variables = resolver.query(&mut body);
    let mut wrong: Vec<Diagnostic> =
        resolver.wrong.drain(..).map(|trouble| source.error("WL411", trouble.message, trouble.loc)).collect();
    let context = &program.context;
    let checks = Checks { sources: &[], modules: &[], builtins: &context.builtins, functions: &context.functions };
    checks.query(&source, &body, &mut wrong);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    checks.arrange(&mut [], &mut body);
    let mut lowering = Lowering::new(&context.builtins, &context.functions);
    lowering.lenient = !settings.strict_builtin_errors;
    lowering.operands_outside_not = !settings.operands_inside_not;
    lowering.lifts = false;
    lowering.roots = roots_of(context);
    lowering.body(&mut body);
    let loc = Loc { start: 0, end: 0, line: 1 };
    let values = variables.values().map(|name| Term::var(name, loc)).collect();
    let head = Term::new(TermKind::Array(values), loc);
    let answers = Term::new(TermKind::ArrayCompr(Box::new(head), body), loc);
    let statement = Stmt { kind: StmtKind::Assign(Term::var("__answers", loc), answers), withs: Vec::new(), loc };
    Ok(Query { text: print::query(&[statement]), variables: variables.into_keys().collect() })
}

fn roots_of(context: &Context) -> BTreeSet<String> {
    context.rules.keys().filter_map(|path| path.first().cloned()).collect()
}

fn builtin_arities() -> BTreeMap<&'static str, u8> {
    let available = |name: &&str| known::ENGINE.binary_search(name).is_ok();
    known::OPA
        .iter()
        .copied()
        .filter(|(name, _)| available(name) || name.starts_with("rego.metadata."))
        .chain(builtins::names())
        .chain(host::FUNCTIONS)
        .collect()
}

fn imports(module: &Module) -> BTreeMap<String, Vec<String>> {
    module.imports.iter().filter_map(|import| Some((import.name()?.to_owned(), import.path.clone()))).collect()
}

fn own(blocks: &[(Target, annotations::Block)], rule: usize) -> Option<&Annotations> {
    blocks
        .iter()
        .filter(|(target, _)| *target == Target::Rule(rule))
        .map(|(_, block)| &block.annotations)
        .find(|annotations| annotations.scope == "rule")
        .or_else(|| blocks.iter().find(|(target, _)| *target == Target::Rule(rule)).map(|(_, b)| &b.annotations))
        .or_else(|| blocks.iter().find(|(target, _)| *target == Target::Package).map(|(_, b)| &b.annotations))
}

/// What `rego.metadata.chain()` gives in a rule: the rule's own entry, the document's, the package's and those of packages above.
fn chain(sources: &[Source], blocks: &[Vec<(Target, annotations::Block)>], source: usize, rule: usize) -> Vec<Term> {
    let loc = Loc::default();
    let module = &sources[source].module;
    let path = rule_path(&module.package, &module.rules[rule].head);
    let entry = |path: &[String], annotations: Option<&Annotations>| {
        let mut map = serde_json::Map::new();
        if let Some(annotations) = annotations {
            map.insert("annotations".into(), annotations.all.clone());
        }
        map.insert("path".into(), path.into());
        literal(&serde_json::Value::Object(map), loc)
    };
    let of_rule = |source: usize, rule: usize, scope: &str| {
        blocks[source]
            .iter()
            .find(|(target, block)| *target == Target::Rule(rule) && block.annotations.scope == scope)
            .map(|(_, block)| &block.annotations)
    };
    let mut chain = vec![entry(&path, of_rule(source, rule, "rule"))];
    for (index, other) in sources.iter().enumerate() {
        for (number, candidate) in other.module.rules.iter().enumerate() {
            if rule_path(&other.module.package, &candidate.head) == path
                && let Some(annotations) = of_rule(index, number, "document")
            {
                chain.push(entry(&path, Some(annotations)));
            }
        }
    }
    for length in (1..=module.package.len()).rev() {
        let package = &module.package[..length];
        for (index, other) in sources.iter().enumerate() {
            if other.module.package != package {
                continue;
            }
            for (target, block) in &blocks[index] {
                let applies = length == module.package.len() || block.annotations.scope == "subpackages";
                if *target == Target::Package && applies {
                    chain.push(entry(package, Some(&block.annotations)));
                }
            }
        }
    }
    chain
}

fn literal(value: &serde_json::Value, loc: Loc) -> Term {
    use serde_json::Value;
    let kind = match value {
        Value::Null => TermKind::Null,
        Value::Bool(value) => TermKind::Bool(*value),
        Value::Number(number) => TermKind::Number(number.to_string()),
        Value::String(text) => TermKind::String(text.clone()),
        Value::Array(items) => TermKind::Array(items.iter().map(|item| literal(item, loc)).collect()),
        Value::Object(map) => {
            TermKind::Object(map.iter().map(|(key, value)| (Term::string(key, loc), literal(value, loc))).collect())
        }
    };
    Term::new(kind, loc)
}

/// A constant term as a value of the engine.
fn value(term: &Term) -> Value {
    match &term.kind {
        TermKind::Bool(value) => Value::from(*value),
        TermKind::Number(text) => Value::from_numeric_string(text).unwrap_or(Value::Undefined),
        TermKind::String(text) => Value::from(text.as_str()),
        TermKind::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        TermKind::Set(items) => Value::from(items.iter().map(value).collect::<BTreeSet<_>>()),
        TermKind::Object(items) => {
            Value::from(items.iter().map(|(k, v)| (value(k), value(v))).collect::<BTreeMap<_, _>>())
        }
        _ => Value::Null,
    }
}

/// A module as modules that the engine can read: rules below a keyword (`if.foo := 1`) go to a package of that name.
fn engine_modules(module: &Module) -> Result<Vec<Module>, (String, Loc)> {
    if let Some(root) = module.package.first().filter(|root| print::is_keyword(root)) {
        return Err((format!("package `{root}` is called like a keyword"), module.package_loc));
    }
    let mut modules = vec![Module { rules: Vec::new(), dialect: Dialect::V1, ..module.clone() }];
    for rule in &module.rules {
        let mut rule = rule.clone();
        rule.chained = false;
        let head = &mut rule.head;
        head.bracket_set = false;
        let mut package = module.package.clone();
        while print::is_keyword(&head.name) && head.name != "contains" {
            let next = (!head.path.is_empty()).then(|| head.path.remove(0));
            let Some(next) = next.as_ref().and_then(Arg::text).filter(|next| print::is_identifier(next)) else {
                return Err((format!("rule `{}` is called like a keyword", head.name), head.name_loc));
            };
            package.push(std::mem::replace(&mut head.name, next.to_owned()));
        }
        let given = head.key.is_some() || head.value.is_some();
        let plain = given || (rule.body.is_some() && (head.path.is_empty() || head.params.is_some()));
        if !plain {
            head.value = Some(Term::new(TermKind::Bool(true), head.name_loc));
        }
        let place = modules.iter().position(|module| module.package == package).unwrap_or_else(|| {
            modules.push(Module { package, rules: Vec::new(), dialect: Dialect::V1, ..module.clone() });
            modules.len() - 1
        });
        modules[place].rules.push(rule);
    }
    Ok(modules)
}

#[cfg(test)]
mod tests;
