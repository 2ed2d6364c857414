//! Forms on pages of stacks.

use super::{Sent, lead};
use crate::pages::link;
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use axum::routing::post;
use std::sync::Arc;
use windlass_app::error::AppError;
use windlass_app::requests::{self, ReviewRequest};
use windlass_app::review::Selection;
use windlass_model::access::Permission;
use windlass_model::id::InstanceId;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::POST, "/actions/review", Guard::Within(Permission::ReviewCreate), post(review))
        .add(Method::POST, "/actions/drift", Guard::Within(Permission::DriftCheck), post(drift))
        .add(Method::POST, "/actions/unlock", Guard::Within(Permission::LockTakeAway), post(unlock))
        .add(Method::POST, "/actions/recover", Guard::Within(Permission::StackRecover), post(recover))
}

/// What is in the directory of the stack, as a pattern for that stack alone.
fn literal(stack: &str) -> String {
    let mut out = String::new();
    for letter in stack.chars() {
        if matches!(letter, '*' | '?' | '{' | '}' | '\\' | ',' | '!') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

async fn review(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let (project, stack) = (sent.fields.one("project"), sent.fields.one("stack"));
    let selection = Selection::Matching(vec![literal(stack)]);
    let request = ReviewRequest { branch: None, commit: None, selection };
    let done = requests::review_start(&app.installation, &sent.who.caller, project, &request).await;
    let done = done.map(|run| match run {
        Some(run) => lead(&link::run(run.as_str()), "begun"),
        None => lead(&link::stack(project, stack), "nothing"),
    });
    sent.answer(&app, done).await
}

async fn drift(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let project = sent.fields.one("project");
    let patterns: Vec<String> = sent.fields.some("stack").iter().map(|stack| literal(stack)).collect();
    let done = requests::drift_start(&app.installation, &sent.who.caller, project, &patterns).await;
    let done = done.map(|run| lead(&link::run(run.as_str()), "begun"));
    sent.answer(&app, done).await
}

async fn unlock(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let (project, lock) = (sent.fields.one("project"), sent.fields.one("lock"));
    let instance = InstanceId::new(lock.strip_prefix("stack:").unwrap_or(lock));
    let reason = sent.fields.one("reason");
    let done = async {
        requests::unlock(&app.installation, &sent.who.caller, project, &instance, reason).await?;
        Ok::<_, AppError>(lead(&link::stack(project, instance.stack().as_str()), "unlocked"))
    };
    let done = done.await;
    sent.answer(&app, done).await
}

async fn recover(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let (project, instance) = (sent.fields.one("project"), InstanceId::new(sent.fields.one("instance")));
    let reason = sent.fields.one("reason");
    let done = async {
        requests::release(&app.installation, &sent.who.caller, project, &instance, reason).await?;
        Ok::<_, AppError>(lead(&link::stack(project, instance.stack().as_str()), "released"))
    };
    let done = done.await;
    sent.answer(&app, done).await
}
