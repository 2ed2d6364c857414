//! The list of reviews and one review.

use super::home::risk;
use super::runs::offer;
use super::{Asked, Page, Sent, lead, paging};
use crate::pages::parts::Moment;
use crate::pages::review::{Earlier, Given, Refusal, Review, Waivable};
use crate::pages::{Section, link, review, reviews};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::{Html, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use std::sync::Arc;
use windlass_app::error::AppResult;
use windlass_app::requests::run_view::{ReviewFilter, ReviewView, review_find, review_view, rollback_start};
use windlass_app::requests::{self, Seen};
use windlass_model::Micros;
use windlass_model::access::Permission;
use windlass_model::approval::ApprovalRecord;
use windlass_model::id::RunId;
use windlass_model::review::Verdict;
use windlass_store::ReviewState;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/reviews", Guard::SignedIn, get(list))
        .add(Method::GET, "/reviews/{review}", Guard::Within(Permission::ProjectRead), get(one))
        .add(Method::POST, "/reviews/{review}/approve", Guard::Within(Permission::ReviewApprove), post(approve))
        .add(Method::POST, "/reviews/{review}/refuse", Guard::Within(Permission::ReviewApprove), post(refuse))
        .add(Method::POST, "/reviews/{review}/waive", Guard::Within(Permission::ReviewWaive), post(waive))
        .add(Method::POST, "/reviews/{review}/apply", Guard::Within(Permission::ReviewApply), post(apply))
        .add(Method::POST, "/runs/{run}/roll-back", Guard::Within(Permission::ReviewCreate), post(roll_back))
}

/// Rows of one page of the list.
const PAGE: usize = 25;

const STATES: [ReviewState; 6] = [
    ReviewState::Open,
    ReviewState::Approved,
    ReviewState::Applying,
    ReviewState::Applied,
    ReviewState::Superseded,
    ReviewState::Refused,
];

async fn list(State(app): State<Arc<App>>, asked: Asked) -> Page {
    let (state, verdict) = (asked.query.one("state"), asked.query.one("verdict"));
    let (search, here) = (asked.query.one("search").trim(), asked.query.one("after"));
    let waiting = asked.query.one("waiting");
    let states = match state {
        "unapplied" => vec![ReviewState::Open, ReviewState::Approved],
        _ if waiting == "me" => vec![ReviewState::Open],
        _ => STATES.into_iter().filter(|one| one.as_str() == state).collect(),
    };
    let filter = ReviewFilter {
        text: search.to_owned(),
        states,
        verdict: Verdict::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(verdict)).ok(),
        merged: state == "unapplied",
        waiting: waiting == "me",
        before: asked.query.some("after").map(RunId::new),
    };
    let (found, next) = review_find(&app.installation, &asked.who.caller, asked.project(), &filter, PAGE).await?;
    let rows = found.into_iter().map(|one| reviews::Row {
        id: one.row.review.run.to_string(),
        branch: one.row.review.head.name.clone(),
        commit: one.row.review.head.commit.clone(),
        state: one.row.state.as_str().to_owned(),
        verdict: one.row.review.verdict,
        risk: risk(&one.row.review),
        author: authors(&one.row.review.authors),
        made: Moment::new(one.created_at, asked.now),
        project: one.project,
        missing: one.missing,
    });
    let pairs = [
        ("project", asked.project()),
        ("search", search),
        ("state", state),
        ("verdict", verdict),
        ("waiting", waiting),
    ];
    let page = reviews::Reviews {
        project: asked.project().to_owned(),
        search: search.to_owned(),
        states: reviews::states(state),
        verdicts: reviews::verdicts(verdict),
        rows: rows.collect(),
        paging: paging("/reviews", &pairs, here, next.as_ref().map(RunId::as_str)),
    };
    Ok(Html(reviews::render(&asked.frame(Section::Reviews), &page)))
}

/// e.g. `Dev <dev@example.com> and 2 more`.
fn authors(all: &[String]) -> String {
    match all {
        [] => "nobody that is known".into(),
        [one] => one.clone(),
        [one, more @ ..] => format!("{one} and {} more", more.len()),
    }
}

/// The longest that a finding may be waived where its policy says no less, days.
const WAIVED_DAYS: u32 = 30;

async fn one(State(app): State<Arc<App>>, Path(id): Path<String>, asked: Asked) -> Page {
    let id = RunId::new(id);
    let view = review_view(&app.installation, &asked.who.caller, &id).await?;
    let (row, now) = (&view.row, asked.now);
    let base = link::review(id.as_str());
    let open = matches!(row.state, ReviewState::Open | ReviewState::Approved);
    let would_change = matches!(row.review.verdict, Verdict::Ready | Verdict::NeedsApproval);
    let waivable = view.waivable.iter().map(|candidate| Waivable {
        id: candidate.id.clone(),
        message: candidate.finding.message.clone(),
        source: candidate.finding.source.clone(),
        instance: candidate.instance.as_ref().map(ToString::to_string),
        most_days: WAIVED_DAYS,
        waive: offer(view.waive.clone().or_else(|| candidate.why_not.clone()), format!("{base}/waive")),
    });
    let earlier = view.earlier.iter().map(|(row, made, approved)| Earlier {
        id: row.review.run.to_string(),
        commit: row.review.head.commit.clone(),
        verdict: row.review.verdict,
        approved: *approved,
        made: Moment::new(*made, now),
    });
    let page = Review {
        id: id.to_string(),
        state: row.state.as_str().to_owned(),
        authors: authors(&row.review.authors),
        made: Moment::new(view.created_at, now),
        approvals: view.approvals.iter().map(|given| approval(given, &view, now)).collect(),
        missing: view.missing.clone(),
        refused: view.refused.as_ref().map(|event| Refusal {
            who: event.actor.clone().unwrap_or_default(),
            at: Moment::new(event.at, now),
            reason: event.reason.clone().unwrap_or_default(),
        }),
        approve: (open && would_change && !view.missing.is_empty())
            .then(|| offer(view.approve.clone(), format!("{base}/approve"))),
        refuse: open.then(|| offer(view.approve.clone(), format!("{base}/refuse"))),
        apply: (open && would_change).then(|| offer(apply_why_not(&view), format!("{base}/apply"))),
        confirm: view.destroyed.iter().map(ToString::to_string).collect(),
        waivable: waivable.collect(),
        earlier: earlier.collect(),
        live: view.apply.as_ref().map(|apply| super::applying::live(apply, &view, now)),
        document: view.document.clone(),
    };
    Ok(Html(review::render(&asked.frame(Section::Reviews), &page)))
}

fn apply_why_not(view: &ReviewView) -> Option<String> {
    let missing = (!view.missing.is_empty()).then(|| "approvals are missing".to_owned());
    let dirty = (!view.row.review.dirty.is_empty()).then(|| "it includes changes that are in no commit".to_owned());
    view.apply_why.clone().or(dirty).or(missing)
}

fn approval(given: &ApprovalRecord, view: &ReviewView, now: Micros) -> Given {
    let review = &view.row.review;
    let not_counted = match () {
        () if given.commit != review.head.commit => {
            Some(format!("it was given for commit {}", super::short(&given.commit)))
        }
        () if given.effect_digest != review.effect_digest => Some("it was given for another effect".to_owned()),
        () if given.policy_digest != review.policy_digest => Some("the policies have changed since".to_owned()),
        () => None,
    };
    let at = Moment::new(given.at, now);
    Given { who: given.actor.to_string(), at, reason: given.reason.clone(), not_counted }
}

fn seen(sent: &Sent) -> Seen {
    Seen { commit: sent.fields.some("commit"), effect: sent.fields.some("effect") }
}

async fn approve(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let (run, reason) = (RunId::new(id), sent.fields.some("reason"));
    let done = requests::approve(&app.installation, &sent.who.caller, &run, &seen(&sent), reason.as_deref()).await;
    let done = done.map(|_| lead(&link::review(run.as_str()), "approved"));
    sent.answer(&app, done).await
}

async fn refuse(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let run = RunId::new(id);
    let reason = sent.fields.one("reason");
    let done = requests::review_refuse(&app.installation, &sent.who.caller, &run, &seen(&sent), reason).await;
    let done = done.map(|()| lead(&link::review(run.as_str()), "refused"));
    sent.answer(&app, done).await
}

async fn waive(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    const DAY: Micros = 86_400_000_000;
    let run = RunId::new(id);
    let days = sent.fields.one("days").parse::<u32>().ok().filter(|days| *days > 0);
    let (finding, reason) = (sent.fields.one("finding"), sent.fields.one("reason"));
    let time = days.map(|days| DAY * Micros::from(days));
    let done = requests::waive(&app.installation, &sent.who.caller, &run, finding, reason, time).await;
    let done = done.map(|_| lead(&link::review(run.as_str()), "waived"));
    sent.answer(&app, done).await
}

async fn apply(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let run = RunId::new(id);
    let confirmed = sent.fields.all("confirm");
    let done = requests::apply_start(&app.installation, &sent.who.caller, &run, &seen(&sent), &confirmed).await;
    let page = link::review(run.as_str());
    let done = done.map(|new| lead(&page, if new.is_some() { "applying" } else { "nothing" }));
    sent.answer(&app, done).await
}

async fn roll_back(State(app): State<Arc<App>>, Path(id): Path<String>, sent: Sent) -> Response {
    let (run, reason) = (RunId::new(id), sent.fields.some("reason"));
    let done: AppResult<Response> = async {
        let new = rollback_start(&app.installation, &sent.who.caller, &run, reason.as_deref()).await?;
        Ok(match new {
            Some(new) => lead(&link::run(new.as_str()), "begun"),
            None => lead(&link::run(run.as_str()), "nothing"),
        })
    }
    .await;
    sent.answer(&app, done).await
}
