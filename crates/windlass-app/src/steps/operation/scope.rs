//! What the expressions of a step may refer to, and their values.

use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::service::Service;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use windlass_engine::StepContext;
use windlass_lang::expression::{self, ExpressionError};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::StepId;
use windlass_model::operation::plan::{OperationInput, OperationStep, Origin};
use windlass_model::operation::{Expression, GateDefinition, SecretSource, StepDefinition};
use windlass_model::rollout::Gate;
use windlass_model::run::StepState;

/// Values by root: `param`, `step`, `each`, `secret`, `run`, `failure`, `local`.
pub struct Scope(expression::Scope);

impl Scope {
    /// What a step of this definition sees: secrets and what has to be asked for are read only where they are
    /// named.
    ///
    /// # Errors
    /// A secret cannot be read, or the database cannot.
    pub async fn of_step(
        service: &Service,
        cx: &StepContext,
        input: &OperationInput,
        step: &OperationStep,
        definition: &StepDefinition,
    ) -> AppResult<Self> {
        let source = &source(input, definition)?;
        let named = names(source, "secret");
        let declared: Vec<&SecretSource> =
            input.operation.secrets.iter().filter(|secret| named.contains(&secret.name)).collect();
        let (given, secrets) = super::secrets::of_step(service, cx, &input.secrets, &declared).await?;
        let absent = input.operation.parameters.iter().map(|parameter| (parameter.name.clone(), Value::Null));
        let mut parameters: Map<String, Value> = absent.collect();
        parameters.extend(input.arguments.clone());
        parameters.extend(given.into_iter().map(|(name, value)| (name, value.into())));
        let mut roots = Map::new();
        roots.insert("param".into(), parameters.into());
        roots.insert("secret".into(), Value::Object(secrets.into_iter().map(|(n, v)| (n, v.into())).collect()));
        roots.insert("local".into(), Value::Object(input.operation.locals.clone().into_iter().collect()));
        roots.insert("step".into(), Value::Object(steps(service, cx, step, &names(source, "step")).await?));
        roots.insert("run".into(), run(service, cx, input, &names(source, "run")).await?);
        if let Some(member) = step.each.last() {
            roots.insert("each".into(), json!({ "key": member.key, "value": member.value, "index": member.index }));
        }
        if source.contains("failure.") {
            roots.insert("failure".into(), failure(service, cx).await?);
        }
        Ok(Self(roots.into_iter().fold(expression::Scope::default(), |scope, (root, value)| scope.with(&root, value))))
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// It names what is not known.
    pub fn value(&self, of: &Expression) -> AppResult<Value> {
        expression::evaluate(of, &self.0).map_err(wrong)
    }

    /// A text; numbers and bools are written as texts.
    ///
    /// # Errors
    /// It has no value, or another one.
    pub fn text(&self, of: &Expression) -> AppResult<String> {
        expression::text(of, &self.0).map_err(wrong)
    }

    /// A list of texts.
    ///
    /// # Errors
    /// It has no value, or another one.
    pub fn texts(&self, of: &Expression) -> AppResult<Vec<String>> {
        expression::texts(of, &self.0).map_err(wrong)
    }

    /// # Errors
    /// It has no value, or another one.
    pub fn is_true(&self, of: &Expression) -> AppResult<bool> {
        expression::boolean(of, &self.0).map_err(wrong)
    }

    /// A time such as `"5m"`.
    ///
    /// # Errors
    /// It has no value, or another one.
    pub fn duration(&self, of: &Expression) -> AppResult<Micros> {
        expression::duration(of, &self.0).map_err(wrong)
    }

    /// A gate, with the values of its texts.
    ///
    /// # Errors
    /// One has no value, or another one.
    pub fn gate(&self, of: &GateDefinition) -> AppResult<Gate> {
        expression::gate(of, &self.0).map_err(wrong)
    }
}

fn wrong(error: ExpressionError) -> AppError {
    let diagnostic = Diagnostic::error("WL532", error.to_string()).at(error.span().clone());
    AppError::new(
        ErrorKind::Definition,
        diagnostic.help("look at what the steps before it output, and at the parameters"),
    )
}

/// All expressions of a definition, and those of the operation that a step without one of its own may evaluate.
fn source(input: &OperationInput, definition: &StepDefinition) -> AppResult<String> {
    let of_run = (&input.operation.approvals, &input.operation.concurrency);
    serde_json::to_string(&(definition, of_run)).map_err(internal)
}

/// Names behind a root in the source of expressions, e.g. `secret.NAME`.
fn names(source: &str, root: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let begin = format!("{root}.");
    let places =
        source.match_indices(&begin).filter(|(at, _)| !source[..*at].ends_with(|c: char| is_name(c) || c == '.'));
    places
        .map(|(at, _)| source[at + begin.len()..].chars().take_while(|c| is_name(*c)).collect::<String>())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Outputs and states of earlier steps by their names: those of the same member before those around it.
async fn steps(
    service: &Service,
    cx: &StepContext,
    step: &OperationStep,
    named: &BTreeSet<String>,
) -> AppResult<Map<String, Value>> {
    let mut found = Map::new();
    let entry = |state: StepState, output: Option<&Value>| {
        let outputs = output.cloned().unwrap_or_else(|| json!({}));
        json!({ "state": state.as_str(), "outputs": outputs })
    };
    for prefix in prefixes(step) {
        for (id, state) in &cx.upstream_states {
            if let Some(name) = id.as_str().strip_prefix(&prefix).and_then(own_name) {
                found.insert(name.to_owned(), entry(*state, cx.upstream.get(id)));
            }
        }
    }
    // What an undo or a handler names need not be right before it.
    for name in named.iter().filter(|name| !found.contains_key(*name)).cloned().collect::<Vec<_>>() {
        for prefix in prefixes(step).iter().rev() {
            let known = service.store.step_get(&cx.run, &StepId::new(format!("{prefix}{name}"))).await;
            match known {
                Ok(record) => {
                    found.insert(name, entry(record.state, record.output.as_ref()));
                    break;
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(found)
}

/// What ids of steps begin with that a step can name, from the outside in.
fn prefixes(step: &OperationStep) -> Vec<String> {
    let mut all = vec![String::new()];
    for member in &step.each {
        let outer = all.last().cloned().unwrap_or_default();
        all.push(format!("{outer}{}[{}]/", member.name, member.key));
    }
    all
}

/// The name of a step in the rest of its id; `None` for one that is of another member.
fn own_name(rest: &str) -> Option<&str> {
    // Keys of members may hold anything, slashes too.
    (!rest.contains('[') && !rest.contains(':')).then(|| rest.rsplit('/').next()).flatten()
}

async fn run(
    service: &Service,
    cx: &StepContext,
    input: &OperationInput,
    named: &BTreeSet<String>,
) -> AppResult<Value> {
    let mut run = json!({ "id": cx.run, "attempt": cx.attempt, "reason": input.reason });
    if let Origin::Schedule { due, .. } = &input.origin {
        let due = jiff::Timestamp::from_microsecond(*due).map_err(internal)?;
        run["due"] = due.to_string().into();
    }
    if named.contains("actor") {
        run["actor"] = service.store.run_get(&cx.run).await?.actor.into();
    }
    Ok(run)
}

/// The step whose failure ended the run, and why.
async fn failure(service: &Service, cx: &StepContext) -> AppResult<Value> {
    let steps = service.store.step_list_brief(&cx.run).await?;
    let failed = steps.iter().filter(|step| step.state == StepState::Failed && step.id != cx.step);
    Ok(match failed.min_by_key(|step| step.ended_at) {
        Some(first) => json!({ "step": first.id, "reason": first.reason }),
        None => json!({ "step": "", "reason": "" }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_model::operation::plan::Member;

    #[test]
    fn names_are_found_where_they_are_meant() {
        let check = |source: &str, want: &[&str]| {
            assert_eq!(names(source, "secret").iter().map(String::as_str).collect::<Vec<_>>(), want, "{source}");
        };
        check("\"${secret.pg}-${secret.a-b}\" secret.pg", &["a-b", "pg"]);
        check("my_secret.x param.secret.y secret.", &[]);
    }

    #[test]
    fn steps_of_the_same_member_go_before_those_around_it() {
        let member = |name: &str, key: &str| Member { name: name.into(), key: key.into(), value: key.into(), index: 0 };
        let step = OperationStep { path: Vec::new(), each: vec![member("m", "a/b"), member("n", "c")], undo: false };
        assert_eq!(prefixes(&step), ["", "m[a/b]/", "m[a/b]/n[c]/"]);
        assert_eq!(own_name("dump"), Some("dump"));
        assert_eq!(own_name("checks/read"), Some("read"));
        assert_eq!(own_name("m[a/b]/stop"), None);
        assert_eq!(own_name("undo:dump"), None);
    }
}
