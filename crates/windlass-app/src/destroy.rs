//! Destroying stacks: asked for, or because their directory is gone.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::project::{Detail, Project, git_error};
use crate::recover::Silent;
use crate::service::Service;
use crate::steps::terraform::{driver_error, placed};
use std::collections::BTreeSet;
use windlass_model::definition::Definitions;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::InstanceId;
use windlass_model::journal::addresses;
use windlass_model::review::{Affected, AffectedKind, Reason, Review, Revision};
use windlass_model::run::RunRecord;
use windlass_model::stack_plan::{StackWork, destroy_works, driver, stack_works};

/// Refuses while something that stays depends on what goes. A dependant whose state is empty does not count; it is looked at where
/// the definitions that `decide` say.
pub async fn refuse_dependants(
    service: &Service,
    project: &Project,
    decide: &Definitions,
    chosen: &[Affected],
) -> AppResult<()> {
    let going: BTreeSet<&InstanceId> = chosen.iter().map(|item| &item.instance).collect();
    let mut diagnostics = Vec::new();
    let mut seen = BTreeSet::new();
    for edge in project.repository.edges.iter().filter(|e| e.is_active()) {
        if !going.contains(&edge.from) || going.contains(&edge.to) || !seen.insert(&edge.to) {
            continue;
        }
        if resources(service, project, decide, &edge.to).await? > 0 {
            diagnostics.push(
                Diagnostic::error("WL670", format!("{} depends on {}, and it exists", edge.to, edge.from))
                    .at(edge.evidence.clone())
                    .help(format!(
                        "destroy both, `windlass destroy {} {}`, or take the dependency away first",
                        edge.from, edge.to
                    )),
            );
        }
    }
    if diagnostics.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Refused, diagnostics)) }
}

/// How many resources the state of an instance has.
async fn resources(service: &Service, project: &Project, decide: &Definitions, id: &InstanceId) -> AppResult<usize> {
    let Some((stack, _)) = project.repository.instance(id) else { return Ok(0) };
    let item =
        Affected { instance: id.clone(), stack: stack.id.clone(), kind: AffectedKind::Changed, reasons: Vec::new() };
    let Some(mut work) = stack_works(&project.repository, &[item]).pop() else { return Ok(0) };
    work.place = crate::project::place_of(decide, id)?;
    let stack = placed(service, &work, "destroy").await?;
    let cancel = tokio_util::sync::CancellationToken::new();
    let failed = |diagnostics: Vec<Diagnostic>| {
        let summary = format!("whether {id} exists cannot be seen: its state cannot be read");
        let first = Diagnostic::error("WL671", summary).help("mend that first, or destroy both together");
        AppError::many(ErrorKind::Unavailable, std::iter::once(first).chain(diagnostics).collect())
    };
    if let Some(init) = stack.init(&cancel, &mut Silent).await.map_err(|e| driver_error(&e))?
        && !init.success
    {
        return Err(failed(init.diagnostics));
    }
    let state = stack.state(&cancel, &mut Silent).await.map_err(|e| driver_error(&e))?.map_err(failed)?;
    Ok(addresses(&state).len())
}

/// The work of destroying what was deleted between the base and now, with the configuration of the base; and what of `deleted`
/// needs none: its state has another stack now (a stack that was moved), or it is not known at the base.
pub fn of_deleted(
    service: &Service,
    base: Option<&Revision>,
    deleted: Vec<Affected>,
    others: &[StackWork],
    project: &Project,
) -> AppResult<(Vec<StackWork>, Vec<Affected>)> {
    let Some(base) = base.filter(|_| !deleted.is_empty()) else { return Ok((Vec::new(), deleted)) };
    let tree = service.checkout.git()?.tree(&base.commit).map_err(|e| git_error(&e))?;
    let before = Project::load_with(&tree, Detail::Outputs);
    let states: BTreeSet<_> = project.repository.instances().filter_map(|(_, i)| i.state.clone()).collect();
    let (gone, moved): (Vec<_>, Vec<_>) = deleted.into_iter().partition(|item| {
        let instance = before.repository.instance(&item.instance).map(|(_, instance)| instance);
        instance.is_some_and(|i| i.state.as_ref().is_none_or(|state| !states.contains(state)))
    });
    let kept = others.iter().map(|work| work.instance.id.clone()).collect();
    Ok((destroy_works(&before.repository, &gone, &kept, Some(&base.commit)), moved))
}

/// Instances that applying the review destroys as a whole.
pub fn destroyed(record: &RunRecord, review: &Review) -> AppResult<Vec<InstanceId>> {
    let mut found = Vec::new();
    for step in record.plan.steps.iter().filter(|s| s.work.driver == driver::PLAN) {
        let work: StackWork = crate::steps::input(&step.work.input)?;
        let stack = review.stacks.iter().find(|s| s.instance == work.instance.id);
        if work.destroy && stack.and_then(|s| s.outcome.effect()).is_some_and(|e| !e.is_empty()) {
            found.push(work.instance.id);
        }
    }
    Ok(found)
}

/// Refuses to destroy whole stacks unless each was named by the person who applies, or somebody approved the review.
pub async fn refuse_unconfirmed(
    service: &Service,
    record: &RunRecord,
    review: &Review,
    confirmed: &[String],
) -> AppResult<()> {
    let names = destroyed(record, review)?;
    let missing: Vec<&InstanceId> = names.iter().filter(|n| !confirmed.iter().any(|c| c == n.as_str())).collect();
    if missing.is_empty() || !service.store.approval_list(&review.run).await?.is_empty() {
        return Ok(());
    }
    let list = missing.iter().map(|m| m.as_str()).collect::<Vec<_>>();
    let flags = list.iter().map(|name| format!(" --confirm '{name}'")).collect::<String>();
    let diagnostic = Diagnostic::error("WL672", format!("this destroys everything that {} has", list.join(" and ")))
        .help(format!("name it: `windlass apply {}{flags}`, or have somebody approve the review", review.run));
    Err(AppError::new(ErrorKind::Refused, diagnostic))
}

/// Why an instance is in a review that was asked to destroy it.
pub fn reason() -> Reason {
    Reason { cause: "asked for".into(), change: "to be destroyed".into(), chain: Vec::new() }
}
