//! The list of changes.

use super::{Asked, Page, paging};
use crate::pages::parts::Moment;
use crate::pages::{Section, changes};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::State;
use axum::http::Method;
use axum::response::Html;
use axum::routing::get;
use std::sync::Arc;
use windlass_app::error::ErrorKind;
use windlass_app::requests::changes::{budget, change_list, environment_list, standing};
use windlass_app::requests::visible::visible;
use windlass_model::change::ChangeFilter;

pub fn routes(routes: Routes) -> Routes {
    routes.add(Method::GET, "/changes", Guard::SignedIn, get(list))
}

/// Rows of one page of the list.
const PAGE: u32 = 25;

async fn list(State(app): State<Arc<App>>, asked: Asked) -> Page {
    let (state, here) = (asked.query.one("state"), asked.query.one("after"));
    let wanted = ChangeFilter::parse(state);
    let (installation, caller) = (&app.installation, &asked.who.caller);
    let (mut rows, mut environments, mut budgets) = (Vec::new(), Vec::new(), Vec::new());
    for project in visible(installation, caller).await? {
        let name = project.name();
        if !asked.project().is_empty() && asked.project() != name {
            continue;
        }
        let found =
            change_list(installation, caller, name, wanted, asked.query.one("after").parse().ok(), PAGE).await?;
        rows.extend(found.into_iter().filter_map(|row| {
            let (standing, change) = (standing(&row).cloned(), row.known.change.clone()?);
            Some(changes::Row {
                number: row.number,
                project: name.to_owned(),
                title: change.title,
                url: change.url,
                author: change.author.login,
                commit: change.head.commit,
                state: change.state.as_str().to_owned(),
                standing: standing.as_ref().map(|check| check.state),
                says: standing.map(|check| check.text).unwrap_or_default(),
                review: row.known.review.map(|review| review.run.to_string()),
                looked: Moment::new(row.updated_at, asked.now),
            })
        }));
        let runs = match environment_list(installation, caller, name).await {
            // Nothing good was fetched yet, which is told elsewhere.
            Err(error) if error.kind == ErrorKind::Unavailable => Vec::new(),
            runs => runs?,
        };
        environments.extend(runs.into_iter().map(|(environment, commits)| {
            changes::Environment {
                project: name.to_owned(),
                name: environment,
                runs: commits
                    .into_iter()
                    .map(|runs| (runs.commit, runs.instances.len(), Moment::new(runs.at, asked.now)))
                    .collect(),
            }
        }));
        if let Some(budget) = budget(installation, caller, name).await? {
            budgets.push(format!("The forge of {name} still takes {} of {} requests", budget.remaining, budget.limit));
        }
    }
    // Of several projects each page has the newest of all.
    rows.sort_by(|a, b| b.number.cmp(&a.number).then_with(|| a.project.cmp(&b.project)));
    // All of the last number are shown, so that the next page begins below it.
    let last = rows.get(PAGE as usize - 1).map(|row| row.number);
    rows.retain(|row| last.is_none_or(|last| row.number >= last));
    let last = last.map(|last| last.to_string());
    let pairs = [("project", asked.project()), ("state", state)];
    let paging = paging("/changes", &pairs, here, last.as_deref());
    let page = changes::Changes { states: changes::states(state), rows, environments, budgets, paging };
    Ok(Html(changes::render(&asked.frame(Section::Reviews), &page)))
}
