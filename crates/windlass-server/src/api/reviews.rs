//! Reviews: asked for, read, decided and applied.

use super::stacks::Started;
use super::{Asked, Body, Listed, limit, nonsense, of_model};
use crate::authentication::Who;
use crate::problem::Failure;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use windlass_app::requests::{self, ReviewRequest, Seen};
use windlass_app::review::Selection;
use windlass_model::access::Permission;
use windlass_model::approval::Actor;
use windlass_model::id::RunId;
use windlass_model::{review, waiver};
use windlass_render::markdown::{self, Forge};
use windlass_store::ReviewState;

pub fn routes(routes: Routes) -> Routes {
    let within = Guard::Within;
    routes
        .add(Method::GET, "/api/v1/projects/{project}/reviews", Guard::Project(Permission::ProjectRead), get(list))
        .once("/api/v1/projects/{project}/reviews", within(Permission::ReviewCreate), post(start))
        .add(Method::GET, "/api/v1/reviews/{review}", within(Permission::ProjectRead), get(show))
        .once("/api/v1/reviews/{review}/approve", within(Permission::ReviewApprove), post(approve))
        .once("/api/v1/reviews/{review}/refuse", within(Permission::ReviewApprove), post(refuse))
        .add(Method::GET, "/api/v1/reviews/{review}/waivers", within(Permission::ProjectRead), get(waivable))
        .once("/api/v1/reviews/{review}/waivers", within(Permission::ReviewWaive), post(waive))
        .once("/api/v1/reviews/{review}/apply", within(Permission::ReviewApply), post(apply))
}

of_model! {
    /// Branch and commit.
    Revision(review::Revision);
    /// The whole review, as `windlass review --json` has it: each instance with its effect, findings and risk.
    Review(review::Review);
    /// Who did it.
    ActorAnswer(Actor);
    /// A finding that was waived, by whom, why and until when.
    Waiver(waiver::Waiver);
    /// A finding that denies a review, and why the asker may not waive it, as `windlass waive --json` has it.
    Waivable(windlass_app::waivers::Candidate);
}

/// A review, as lists have it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReviewItem {
    /// Also the id of the run that made it.
    #[schema(value_type = String)]
    pub id: RunId,
    pub title: String,
    /// `open`, `approved`, `applying`, `applied`, `superseded` or `refused`.
    pub state: String,
    /// `ready`, `needs_approval`, `denied`, `failed` or `nothing`.
    #[schema(value_type = String)]
    pub verdict: review::Verdict,
    pub head: Revision,
    pub effect_digest: String,
    /// Who asked for it.
    pub actor: String,
    /// Microseconds since 1970, UTC.
    pub created_at: i64,
}

#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReviewQuery {
    /// Only reviews in this state: `open`, `approved`, `applying`, `applied`, `superseded` or `refused`.
    state: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many at most; 50 otherwise, 500 at most.
    limit: Option<u32>,
}

const STATES: [ReviewState; 6] = [
    ReviewState::Open,
    ReviewState::Approved,
    ReviewState::Applying,
    ReviewState::Applied,
    ReviewState::Superseded,
    ReviewState::Refused,
];

/// Reviews of a project, newest first.
#[utoipa::path(
    get, path = "/api/v1/projects/{project}/reviews", tag = "reviews", operation_id = "review_list",
    params(("project" = String, Path, description = "Name of a followed repository"), ReviewQuery),
    responses((status = 200, body = Listed<ReviewItem>)),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Asked(query): Asked<ReviewQuery>,
) -> Result<Json<Listed<ReviewItem>>, Failure> {
    let state = match &query.state {
        None => None,
        Some(name) => Some(
            STATES
                .into_iter()
                .find(|state| state.as_str() == name)
                .ok_or_else(|| nonsense(format!("`{name}` is no state of a review")))?,
        ),
    };
    let (limit, before) = (limit(query.limit), query.cursor.map(RunId::new));
    let (installation, caller) = (&app.installation, &who.caller);
    let found = requests::records::review_list(installation, caller, &project, state, before.as_ref(), limit).await?;
    Ok(Json(Listed::read(found, limit, |found| found.run.id.to_string()).map(|found| ReviewItem {
        id: found.run.id,
        title: found.run.title,
        state: found.row.state.as_str().to_owned(),
        verdict: found.row.review.verdict,
        head: Revision(found.row.review.head),
        effect_digest: found.row.review.effect_digest,
        actor: found.run.actor,
        created_at: found.run.created_at,
    })))
}

/// What a review is to be made of: what differs from `base` (the default branch when it is not said) unless something else is
/// asked for.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReviewBody {
    /// A branch that was pushed; the protected one when it is not said.
    branch: Option<String>,
    /// The very commit that is meant; refused when the branch is somewhere else.
    commit: Option<String>,
    /// A revision to compare with.
    base: Option<String>,
    /// Patterns of stacks or instances.
    stacks: Vec<String>,
    /// All instances.
    all: bool,
    /// What matches `stacks` is to be destroyed.
    destroy: bool,
    /// Id of an apply run: what it applied, as it was before.
    rollback: Option<String>,
}

impl ReviewBody {
    fn selection(&self) -> Result<Selection, Failure> {
        let asked = [self.base.is_some(), self.all, !self.stacks.is_empty(), self.rollback.is_some()];
        if asked.into_iter().filter(|asked| *asked).count() > 1 {
            return Err(nonsense("give one of `base`, `all`, `stacks` and `rollback`"));
        }
        if self.destroy && self.stacks.is_empty() {
            return Err(nonsense("`destroy` needs `stacks`"));
        }
        Ok(match (&self.rollback, self.all, self.stacks.is_empty(), self.destroy) {
            (Some(run), ..) => Selection::Rollback(RunId::new(run.as_str())),
            (None, true, ..) => Selection::All,
            (None, false, false, true) => Selection::Destroy(self.stacks.clone()),
            (None, false, false, false) => Selection::Matching(self.stacks.clone()),
            (None, false, true, _) => Selection::Affected { base: self.base.clone() },
        })
    }
}

/// Have a change planned and reviewed. The review has the id of the run that makes it; `null` when nothing is affected.
#[utoipa::path(
    post, path = "/api/v1/projects/{project}/reviews", tag = "reviews", operation_id = "review_create",
    params(("project" = String, Path, description = "Name of a followed repository")),
    request_body = ReviewBody, responses((status = 202, body = Started)),
)]
pub async fn start(
    State(app): State<Arc<App>>,
    who: Who,
    Path(project): Path<String>,
    Body(body): Body<ReviewBody>,
) -> Result<(StatusCode, Json<Started>), Failure> {
    let selection = body.selection()?;
    let request = ReviewRequest { branch: body.branch, commit: body.commit, selection };
    Ok(Started::answer(requests::review_start(&app.installation, &who.caller, &project, &request).await?))
}

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FormatQuery {
    /// `json`: the document that people read, as JSON; `markdown`, `html`, `summary`: the same drawn. The whole review otherwise.
    format: Option<String>,
}

/// A review with what is missing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReviewAnswer {
    /// `open`, `approved`, `applying`, `applied`, `superseded` or `refused`.
    pub state: String,
    /// One sentence for each approval that is still missing.
    pub missing_approvals: Vec<String>,
    pub review: Review,
}

/// One review.
#[utoipa::path(
    get, path = "/api/v1/reviews/{review}", tag = "reviews", operation_id = "review_get",
    params(("review" = String, Path, description = "Id of the review"), FormatQuery),
    responses((status = 200, body = ReviewAnswer, description = "The review; with a `format`, as that")),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Asked(query): Asked<FormatQuery>,
) -> Result<Response, Failure> {
    let (row, document) = requests::review_show(&app.installation, &who.caller, &RunId::new(run)).await?;
    let text = |kind: &'static str, text: String| ([(header::CONTENT_TYPE, kind)], text).into_response();
    Ok(match query.format.as_deref() {
        None => Json(ReviewAnswer {
            state: row.state.as_str().to_owned(),
            missing_approvals: document.headline.missing.clone(),
            review: Review(row.review),
        })
        .into_response(),
        Some("json") => text("application/json", windlass_render::json(&document)),
        Some("summary") => text("application/json", windlass_render::summary(&document)),
        Some("markdown") => {
            let options = markdown::Options { key: document.project.clone(), ..Forge::GitHub.options() };
            text("text/markdown; charset=utf-8", markdown::render(&document, &options).text)
        }
        Some("html") => text("text/html; charset=utf-8", windlass_render::html::fragment(&document, None)),
        Some(other) => return Err(nonsense(format!("`{other}` is no format of a review"))),
    })
}

/// What was seen when it was decided: an answer to something else does not count.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApproveBody {
    /// `effect_digest` of the review.
    effect: Option<String>,
    commit: Option<String>,
    reason: Option<String>,
}

/// What was approved, and what is still missing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ApprovedAnswer {
    #[schema(value_type = String)]
    pub approved: RunId,
    /// `review`, or the instances whose changed effects it was.
    pub subjects: Vec<String>,
    pub actor: ActorAnswer,
    /// Empty when it can go on now.
    pub missing: Vec<String>,
}

/// Approves a review or what a run waits with; both have an address for it.
pub async fn approve_any(app: &App, who: &Who, run: &str, body: ApproveBody) -> Result<Json<ApprovedAnswer>, Failure> {
    let seen = Seen { commit: body.commit, effect: body.effect };
    let reason = body.reason.as_deref();
    let approved = requests::approve(&app.installation, &who.caller, &RunId::new(run), &seen, reason).await?;
    Ok(Json(ApprovedAnswer {
        approved: approved.id,
        subjects: approved.subjects,
        actor: ActorAnswer(who.caller.actor.clone()),
        missing: approved.missing,
    }))
}

/// Approve a review.
#[utoipa::path(
    post, path = "/api/v1/reviews/{review}/approve", tag = "reviews", operation_id = "review_approve",
    params(("review" = String, Path, description = "Id of the review")),
    request_body = ApproveBody, responses((status = 200, body = ApprovedAnswer)),
)]
pub async fn approve(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Body(body): Body<ApproveBody>,
) -> Result<Json<ApprovedAnswer>, Failure> {
    approve_any(&app, &who, &run, body).await
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefuseBody {
    /// `effect_digest` of the review.
    effect: Option<String>,
    commit: Option<String>,
    /// What has to be different.
    reason: String,
}

/// Refuse a review: it cannot be approved or applied any more.
#[utoipa::path(
    post, path = "/api/v1/reviews/{review}/refuse", tag = "reviews", operation_id = "review_refuse",
    params(("review" = String, Path, description = "Id of the review")),
    request_body = RefuseBody, responses((status = 204, description = "It is refused")),
)]
pub async fn refuse(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Body(body): Body<RefuseBody>,
) -> Result<StatusCode, Failure> {
    let seen = Seen { commit: body.commit, effect: body.effect };
    requests::review_refuse(&app.installation, &who.caller, &RunId::new(run), &seen, &body.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaiveBody {
    /// The first digits of its fingerprint, or its rule.
    finding: String,
    reason: String,
    /// Days that it holds; 7 otherwise, or as many as are allowed where that is less.
    days: Option<u32>,
}

/// Microseconds.
const DAY: i64 = 86_400_000_000;

/// Waive one finding of a review.
#[utoipa::path(
    post, path = "/api/v1/reviews/{review}/waivers", tag = "reviews", operation_id = "review_waive",
    params(("review" = String, Path, description = "Id of the review")),
    request_body = WaiveBody, responses((status = 200, body = Waiver)),
)]
pub async fn waive(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Body(body): Body<WaiveBody>,
) -> Result<Json<Waiver>, Failure> {
    let time = body.days.map(|days| i64::from(days) * DAY);
    let (installation, caller, run) = (&app.installation, &who.caller, RunId::new(run));
    let waived = requests::waive(installation, caller, &run, &body.finding, &body.reason, time).await?;
    Ok(Json(Waiver(waived)))
}

#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyBody {
    /// `effect_digest` of the review.
    effect: Option<String>,
    commit: Option<String>,
    /// Names of the instances that may be destroyed as a whole.
    confirm: Vec<String>,
}

/// Apply a review; `null` when there is nothing to apply.
#[utoipa::path(
    post, path = "/api/v1/reviews/{review}/apply", tag = "reviews", operation_id = "review_apply",
    params(("review" = String, Path, description = "Id of the review")),
    request_body = ApplyBody, responses((status = 202, body = Started)),
)]
pub async fn apply(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
    Body(body): Body<ApplyBody>,
) -> Result<(StatusCode, Json<Started>), Failure> {
    let seen = Seen { commit: body.commit, effect: body.effect };
    let run = RunId::new(run);
    Ok(Started::answer(requests::apply_start(&app.installation, &who.caller, &run, &seen, &body.confirm).await?))
}

/// What denies a review, and which of it you may waive.
#[utoipa::path(
    get, path = "/api/v1/reviews/{review}/waivers", tag = "reviews", operation_id = "review_waivable",
    params(("review" = String, Path, description = "Id of the review")),
    responses((status = 200, body = Listed<Waivable>)),
)]
pub async fn waivable(
    State(app): State<Arc<App>>,
    who: Who,
    Path(run): Path<String>,
) -> Result<Json<Listed<Waivable>>, Failure> {
    let found = requests::waivable(&app.installation, &who.caller, &RunId::new(run)).await?;
    Ok(Json(Listed { items: found.into_iter().map(Waivable).collect(), next: None }))
}
