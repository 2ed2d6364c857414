//! What policies say about a run of an operation before it is stored.

use super::Source;
use crate::error::{AppError, AppResult, ErrorKind};
use windlass_model::access::Rules;
use windlass_model::definition::DecisionKind;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::operation::plan::{OperationInput, Origin};
use windlass_model::review::Level;
use windlass_policy::decision::input::{ActorFacts, Input, Operation, Subject};

/// # Errors
/// A policy denies it, or broke.
pub async fn refuse_denied(source: &Source<'_>, input: &OperationInput) -> AppResult<()> {
    if !source.policies.has(DecisionKind::Operation) {
        return Ok(());
    }
    let actor = &source.service.actor;
    let teams = Rules::new(source.definitions(), &[]).teams_of(actor).into_iter().map(str::to_owned).collect();
    let environments: Vec<String> = input.environment.iter().cloned().collect();
    let operation = &input.operation;
    let asked = Input::operation(&Operation {
        project: source.service.checkout.name(source.definitions()),
        operation: Subject {
            kind: "operation".into(),
            name: operation.name.clone(),
            owner: operation.owner.clone(),
            environments: environments.clone(),
        },
        parameters: input.arguments.clone(),
        actor: ActorFacts::new(actor, teams),
        from: from(&input.origin).to_owned(),
        reason: input.reason.clone(),
        environments,
        at: source.service.store.now().await?,
    });
    let findings = source.policies.decide(None, &asked).findings;
    let denials: Vec<Diagnostic> = findings
        .iter()
        .filter(|finding| finding.level <= Level::Deny)
        .map(|finding| {
            let diagnostic = Diagnostic::error("WL744", format!("{}: {}", finding.source, finding.message));
            finding.policy.iter().fold(diagnostic, |diagnostic, span| diagnostic.at(span.clone()))
        })
        .collect();
    if denials.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Refused, denials)) }
}

/// As policies are told where a run comes from.
fn from(origin: &Origin) -> &str {
    match origin {
        Origin::Person { through } => through,
        Origin::Schedule { .. } => "schedule",
        Origin::Trigger { .. } => "trigger",
        Origin::Run { .. } => "run",
        Origin::Resumed { .. } | Origin::Repeated { .. } => "again",
    }
}
