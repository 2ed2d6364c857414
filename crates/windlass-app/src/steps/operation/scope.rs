//! What the expressions of a step may refer to, and their values.

use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::service::Service;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use windlass_engine::StepContext;
use windlass_lang::expression::{self, ExpressionError};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::plan::{Expressions, OperationInput, OperationStep, Origin};
use windlass_model::operation::{Expression, GateDefinition, SecretSource};
use windlass_model::rollout::Gate;
use windlass_model::run::StepState;

/// Values by root: `param`, `step`, `each`, `secret`, `run`, `failure`, `local`.
pub struct Scope(expression::Scope);

impl Scope {
    /// What a step sees whose expressions stand in `source`: secrets and what has to be asked for are read only where they are
    /// named.
    ///
    /// # Errors
    /// A secret cannot be read, or the database cannot.
    pub async fn of_step(
        service: &Service,
        cx: &StepContext,
        input: &OperationInput,
        step: &OperationStep,
        source: &str,
    ) -> AppResult<Self> {
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
        roots.insert("step".into(), Value::Object(steps(service, cx, input, step, &names(source, "step")).await?));
        roots.insert("run".into(), run(service, cx, input, &names(source, "run")).await?);
        if let Some(member) = step.each.last() {
            roots.insert("each".into(), json!({ "key": member.key, "value": member.value, "index": member.index }));
        }
        if let Some((step, reason)) = &cx.failure {
            roots.insert("failure".into(), json!({ "step": step, "reason": reason }));
        } else if source.contains("failure.") {
            // A handler of a cancel names it in vain.
            roots.insert("failure".into(), json!({ "step": "", "reason": "" }));
        }
        Ok(Self(roots.into_iter().fold(expression::Scope::default(), |scope, (root, value)| scope.with(&root, value))))
    }

    /// As plans take it.
    pub fn expressions(&self) -> &dyn Expressions {
        &self.0
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

/// Outputs and states of the steps that are named, as far as there are any.
async fn steps(
    service: &Service,
    cx: &StepContext,
    input: &OperationInput,
    step: &OperationStep,
    named: &BTreeSet<String>,
) -> AppResult<Map<String, Value>> {
    let mut found = Map::new();
    let entry = |state: StepState, output: Option<&Value>| {
        let outputs = output.cloned().unwrap_or_else(|| json!({}));
        json!({ "state": state.as_str(), "outputs": outputs })
    };
    for name in named {
        let Some(id) = input.named(step, name) else { continue };
        let known = match cx.upstream_states.get(&id) {
            Some(state) => entry(*state, cx.upstream.get(&id)),
            // What an undo or a handler names need not be right before it.
            None => match service.store.step_get(&cx.run, &id).await {
                Ok(record) => entry(record.state, record.output.as_ref()),
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            },
        };
        found.insert(name.clone(), known);
    }
    Ok(found)
}

async fn run(
    service: &Service,
    cx: &StepContext,
    input: &OperationInput,
    named: &BTreeSet<String>,
) -> AppResult<Value> {
    let url = service.settings.url.as_ref().map(|url| format!("{url}/runs/{}", cx.run)).unwrap_or_default();
    let mut run = json!({ "id": cx.run, "attempt": cx.attempt, "reason": input.reason, "url": url });
    if let Origin::Schedule { due, .. } = &input.origin {
        let due = jiff::Timestamp::from_microsecond(*due).map_err(internal)?;
        run["due"] = due.to_string().into();
    }
    if named.contains("actor") {
        run["actor"] = service.store.run_get(&cx.run).await?.actor.into();
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_are_meant() {
        let check = |source: &str, want: &[&str]| {
            assert_eq!(names(source, "secret").iter().map(String::as_str).collect::<Vec<_>>(), want, "{source}");
        };
        check("\"${secret.pg}-${secret.a-b}\" secret.pg", &["a-b", "pg"]);
        check("my_secret.x param.secret.y secret.", &[]);
    }
}
