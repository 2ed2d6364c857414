//! Which outputs of a remote state are read: references followed through locals and module arguments.

use super::Modules;
use crate::terraform::module::Module;
use crate::terraform::syntax::{Access, Expr, ExprKind};
use crate::tree::{join, resolve};
use std::collections::{BTreeMap, BTreeSet};
use windlass_model::diagnostic::Span;
use windlass_model::stack::ConsumedOutputs;

/// A step of a reference: a fixed name or anything.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Any,
}

/// `data.x.y[0].z` → its steps, from the root; `None` for what is no reference.
fn steps(expr: &Expr) -> Option<Vec<Step>> {
    match &expr.kind {
        ExprKind::Variable(name) => Some(vec![Step::Name(name.clone())]),
        ExprKind::Attribute(base, name) => {
            let mut steps = steps(base)?;
            steps.push(Step::Name(name.clone()));
            Some(steps)
        }
        ExprKind::Index(base, index) => {
            let mut steps = steps(base)?;
            steps.push(index.literal().map_or(Step::Any, |name| Step::Name(name.to_owned())));
            Some(steps)
        }
        ExprKind::Splat(base, rest) => {
            let mut steps = steps(base)?;
            steps.push(Step::Any);
            steps.extend(rest.iter().map(|access| match access {
                Access::Attribute(name) => Step::Name(name.clone()),
                Access::Index(index) => index.literal().map_or(Step::Any, |name| Step::Name(name.to_owned())),
            }));
            Some(steps)
        }
        _ => None,
    }
}

/// A name under which the remote state (or its `outputs` object) is known in a module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Alias {
    module: String,
    prefix: Vec<String>,
    /// The prefix already stands for the `outputs` object.
    at_outputs: bool,
}

enum Use {
    /// Another reference, or none.
    None,
    Output(String),
    /// The object as a whole; whether it is the `outputs` object.
    Whole(bool),
    /// It cannot be told which.
    Any,
}

fn used(alias: &Alias, steps: &[Step]) -> Use {
    let matches = steps.len() >= alias.prefix.len()
        && alias.prefix.iter().zip(steps).all(|(want, step)| matches!(step, Step::Name(name) if name == want));
    if !matches {
        return Use::None;
    }
    let mut rest = &steps[alias.prefix.len()..];
    if !alias.at_outputs {
        // An index of the data source's `count` or `for_each`.
        match rest.first() {
            Some(Step::Any) => rest = &rest[1..],
            Some(Step::Name(name)) if name != "outputs" && rest.len() > 1 => rest = &rest[1..],
            _ => {}
        }
        match rest.first() {
            None => return Use::Whole(false),
            Some(Step::Name(name)) if name == "outputs" => rest = &rest[1..],
            // `backend`, `workspace`, `config`: not an output.
            Some(Step::Name(_)) => return Use::None,
            Some(Step::Any) => return Use::Any,
        }
    }
    match rest.first() {
        None => Use::Whole(true),
        Some(Step::Name(name)) => Use::Output(name.clone()),
        Some(Step::Any) => Use::Any,
    }
}

/// Follows `data.terraform_remote_state.NAME` of the module in `directory`.
pub fn consumed(modules: &Modules<'_>, directory: &str, name: &str) -> ConsumedOutputs {
    let first = Alias {
        module: directory.to_owned(),
        prefix: vec!["data".into(), "terraform_remote_state".into(), name.into()],
        at_outputs: false,
    };
    let mut queue = vec![first.clone()];
    let mut seen = BTreeSet::from([first]);
    let mut named: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    while let Some(alias) = queue.pop() {
        let Some(module) = modules.get(&alias.module) else { return ConsumedOutputs::All };
        let mut push = |alias: Alias| {
            if seen.insert(alias.clone()) {
                queue.push(alias);
            }
        };
        let mut all = false;
        for site in sites(module) {
            site.expr.walk(&mut |expr| {
                let Some(found) = steps(expr) else { return true };
                match used(&alias, &found) {
                    Use::None => return !matches!(expr.kind, ExprKind::Attribute(..) | ExprKind::Variable(_)),
                    Use::Output(name) => {
                        let span = module.span(site.file, expr.range);
                        let spans = named.entry(name).or_default();
                        if !spans.contains(&span) {
                            spans.push(span);
                        }
                    }
                    Use::Any => all = true,
                    Use::Whole(at_outputs) => match (&site.place, std::ptr::eq(expr, site.expr)) {
                        (Place::Local(local), true) => push(Alias {
                            module: alias.module.clone(),
                            prefix: vec!["local".into(), local.to_string()],
                            at_outputs,
                        }),
                        (Place::Argument(source, argument), true) => match source
                            .as_deref()
                            .and_then(|s| join(&alias.module, s))
                            .and_then(|path| resolve(modules.tree, &path))
                        {
                            Some((child, _)) if modules.get(&child).is_some() => {
                                push(Alias {
                                    module: child,
                                    prefix: vec!["var".into(), argument.to_string()],
                                    at_outputs,
                                });
                            }
                            _ => all = true,
                        },
                        // `depends_on` names it without reading it.
                        (Place::DependsOn, _) => {}
                        _ => all = true,
                    },
                }
                false
            });
        }
        if all {
            return ConsumedOutputs::All;
        }
    }
    ConsumedOutputs::Named(named)
}

enum Place<'a> {
    Local(&'a str),
    /// Argument of a call to a local module with this source, if it is one.
    Argument(Option<String>, &'a str),
    DependsOn,
    Other,
}

struct Site<'a> {
    file: usize,
    expr: &'a Expr,
    place: Place<'a>,
}

/// Every expression of the module with the place it stands in.
fn sites(module: &Module) -> Vec<Site<'_>> {
    let mut sites: Vec<Site<'_>> = module
        .locals
        .iter()
        .map(|(name, local)| Site { file: local.file, expr: module.local_value(local), place: Place::Local(name) })
        .collect();
    for call in module.calls.values() {
        let source = module.literal(call, "source").filter(|s| super::inputs::is_local(s));
        for attribute in &module.body(call).attributes {
            let place = if attribute.name == "depends_on" {
                Place::DependsOn
            } else {
                Place::Argument(source.clone(), &attribute.name)
            };
            sites.push(Site { file: call.file, expr: &attribute.value, place });
        }
    }
    let others =
        module.outputs.values().chain(module.remote_states.values()).chain(&module.providers).chain(&module.others);
    for item in others {
        let body = module.body(item);
        let depends: Option<&Expr> = body.value("depends_on");
        body.visit(&mut |expr| {
            let place = if depends.is_some_and(|d| std::ptr::eq(d, expr)) { Place::DependsOn } else { Place::Other };
            sites.push(Site { file: item.file, expr, place });
        });
    }
    sites
}
