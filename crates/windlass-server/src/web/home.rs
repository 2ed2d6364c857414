//! Home.

use super::{Asked, Page, short};
use crate::pages::Section;
use crate::pages::common::{List, Moment};
use crate::pages::home::{Approval, Broken, Drifted, Failure as Failed, Home, Quarantine, Unapplied, Waiting, render};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::State;
use axum::http::Method;
use axum::response::Html;
use axum::routing::get;
use std::sync::Arc;
use windlass_app::requests::changes::standing;
use windlass_app::requests::home::{SHOWN, needs};
use windlass_app::requests::run_view::ReviewListed;
use windlass_model::review::Review;
use windlass_model::risk::Level;
use windlass_store::ChangeRow;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/", Guard::SignedIn, get(home))
}

/// The first of them.
pub(super) fn first<T>(mut items: Vec<T>, most: usize) -> List<T> {
    let total = items.len();
    items.truncate(most);
    List { items, total }
}

/// e.g. `bigger-database against main`.
pub(super) fn title(review: &Review) -> String {
    match &review.base {
        Some(base) => format!("{} against {}", review.head.name, base.name),
        None => review.head.name.clone(),
    }
}

/// A change that was merged and is not applied.
fn merged(row: ChangeRow, now: i64) -> Option<Unapplied> {
    let says = standing(&row).map(|check| check.text.clone()).unwrap_or_default();
    let change = row.known.change?;
    Some(Unapplied {
        review: row.known.review.map(|review| review.run.to_string()),
        title: format!("{} {}", change.number, change.title),
        says,
        since: Moment::new(change.updated_at, now),
        project: row.project,
    })
}

/// The highest risk of its stacks.
pub(super) fn risk(review: &Review) -> Option<Level> {
    review.stacks.iter().filter_map(|stack| stack.risk.as_ref()).map(|risk| risk.level).max()
}

/// e.g. `1 to create, 3 to update in 2 stacks`.
fn effect(review: &Review) -> String {
    let effects: Vec<_> =
        review.stacks.iter().filter_map(|stack| stack.outcome.effect()).filter(|e| !e.is_empty()).collect();
    let all = effects.iter().fold(Default::default(), |all, effect| all + effect.summary());
    let stacks = crate::pages::common::count(effects.len(), "stack");
    match counted(&all, "to ") {
        told if told.is_empty() => "nothing would change".to_owned(),
        told => format!("{told} in {stacks}"),
    }
}

/// What an effect comes to, e.g. `1 to create, 2 to update`; empty for nothing.
pub(super) fn counted(effect: &windlass_model::effect::EffectSummary, to: &str) -> String {
    let parts = [
        (effect.create, "create"),
        (effect.update, "update"),
        (effect.replace, "replace"),
        (effect.destroy, "destroy"),
        (effect.moved, "move"),
        (effect.import, "import"),
        (effect.forget, "forget"),
    ];
    let told: Vec<String> =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {to}{what}")).collect();
    match (told.is_empty(), effect.outputs) {
        (true, 1..) => crate::pages::common::count(effect.outputs, "output"),
        _ => told.join(", "),
    }
}

async fn home(State(app): State<Arc<App>>, asked: Asked) -> Page {
    let needs = needs(&app.installation, &asked.who.caller, asked.project()).await?;
    let now = asked.now;
    let approval = |one: ReviewListed| Approval {
        review: one.row.review.run.to_string(),
        title: title(&one.row.review),
        author: one.row.review.authors.first().cloned().unwrap_or_default(),
        effect: effect(&one.row.review),
        risk: risk(&one.row.review).unwrap_or(Level::Low),
        needs: one.missing.join("; "),
        since: Moment::new(one.created_at, now),
        project: one.project,
    };
    let broken: Vec<Broken> = needs
        .projects
        .iter()
        .filter_map(|one| {
            let bad = one.status.bad.as_ref()?;
            Some(Broken {
                project: one.name().to_owned(),
                commit: short(&bad.commit),
                good: one.status.good.as_ref().map(|good| short(&good.commit)).unwrap_or_default(),
                diagnostics: first(bad.diagnostics.clone(), SHOWN),
                since: Moment::new(bad.at.as_microsecond(), now),
            })
        })
        .collect();
    let drift_total = needs.drift.len();
    let drift =
        needs.drift.into_iter().zip(needs.drift_records).take(SHOWN).map(|((project, looked), record)| Drifted {
            project,
            stack: looked.instance.stack().to_string(),
            instance: looked.instance.to_string(),
            what: super::stacks::drift_told(&record),
            since: Moment::new(looked.since.unwrap_or(looked.looked_at), now),
        });
    let quarantine = |(project, one): (String, windlass_model::journal::Quarantine)| Quarantine {
        project,
        stack: one.instance.stack().to_string(),
        instance: one.instance.to_string(),
        because: one.reason,
        since: Moment::new(one.since, now),
    };
    let waits = |(run, because): (windlass_store::RunSummary, String)| Waiting {
        run: run.id.to_string(),
        because,
        since: Moment::new(run.created_at, now),
        project: run.project,
        title: run.title,
    };
    let page = Home {
        teams: needs.teams.iter().map(|(project, team)| format!("{team} of {project}")).collect(),
        approvals: first(needs.approvals.into_iter().map(approval).collect(), SHOWN),
        quarantines: first(needs.quarantines.into_iter().map(quarantine).collect(), SHOWN),
        failures: first(
            needs
                .failures
                .into_iter()
                .map(|run| Failed {
                    run: run.id.to_string(),
                    because: run.reason.unwrap_or_default(),
                    at: Moment::new(run.ended_at.unwrap_or(run.created_at), now),
                    project: run.project,
                    kind: run.kind,
                    title: run.title,
                    actor: run.actor,
                })
                .collect(),
            SHOWN,
        ),
        broken: broken.into(),
        asked: first(needs.asked.into_iter().map(waits).collect(), SHOWN),
        waiting: first(needs.waiting.into_iter().map(waits).collect(), SHOWN),
        drift: List { items: drift.collect(), total: drift_total },
        merged: first(needs.merged.into_iter().filter_map(|row| merged(row, now)).collect(), SHOWN),
        unapplied: first(
            needs
                .unapplied
                .into_iter()
                .map(|one| Unapplied {
                    review: Some(one.row.review.run.to_string()),
                    title: title(&one.row.review),
                    says: effect(&one.row.review),
                    since: Moment::new(one.created_at, now),
                    project: one.project,
                })
                .collect(),
            SHOWN,
        ),
        stacks: needs.stacks,
    };
    Ok(Html(render(&asked.frame(Section::Home), &page)))
}
