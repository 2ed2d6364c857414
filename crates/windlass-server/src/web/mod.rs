//! The pages over HTTP: addresses of pages fill their contexts from use cases, forms call one and lead back.

mod actions;
mod applying;
mod assets;
mod changes;
mod codes;
mod events;
mod home;
mod operations;
mod reviews;
mod runs;
mod settings;
mod stacks;
mod terminal;

use crate::authentication::Who;
use crate::pages::error::ErrorPage;
use crate::pages::{Frame, Section, link};
use crate::problem::Failure;
use crate::routes::Routes;
use crate::state::App;
use axum::extract::{Form, FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderName};
use axum::http::request::Parts;
use axum::response::{Html, IntoResponse, Response};
use std::sync::Arc;
use windlass_app::error::{AppError, AppResult, ErrorKind};
use windlass_app::requests::visible::visible;
use windlass_model::Micros;

/// All pages and the forms on them.
pub fn routes(routes: Routes) -> Routes {
    let routes = home::routes(codes::routes(assets::routes(routes)));
    let routes = operations::routes(stacks::routes(routes));
    let routes = changes::routes(reviews::routes(routes));
    let routes = runs::routes(routes);
    let routes = events::routes(routes);
    actions::routes(terminal::routes(settings::routes(routes)))
}

/// Pairs of a query or a form in their order; a name may stand several times.
#[derive(Debug, Clone, Default)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// The first value of that name; empty where there is none.
    pub fn one(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// As [`Pairs::one`], without white space around it, `None` for nothing.
    pub fn some(&self, name: &str) -> Option<String> {
        Some(self.one(name).trim()).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// All values of that name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }
}

/// What a page is asked for with: who asks, and the query.
pub struct Asked {
    pub who: Who,
    pub query: Pairs,
    /// The time of the page, µs.
    pub now: Micros,
    frame: Frame,
}

impl Asked {
    /// What the page has around it, in that section.
    pub fn frame(&self, section: Section) -> Frame {
        Frame { section, ..self.frame.clone() }
    }

    /// The repository that the page is limited to; empty for all.
    pub fn project(&self) -> &str {
        &self.frame.project
    }
}

impl FromRequestParts<Arc<App>> for Asked {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let who = Who::from_request_parts(parts, app).await?;
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, app).await;
        let query = Pairs(query.map(|query| query.0).unwrap_or_default());
        let frame = frame(app, &who, query.one("project")).await?;
        let frame = Frame { notice: notice(query.one("notice")).to_owned(), ..frame };
        Ok(Self { now: app.installation.common.store.now().await?, who, query, frame })
    }
}

/// What is around every page of somebody who is signed in. One who may not see the repository is told that there is none.
pub async fn frame(app: &App, who: &Who, project: &str) -> AppResult<Frame> {
    let seen = visible(&app.installation, &who.caller).await?;
    let projects: Vec<String> = seen.iter().map(|one| one.name().to_owned()).collect();
    if !project.is_empty() && !projects.iter().any(|name| name == project) {
        return Err(windlass_app::caller::not_found("project", project));
    }
    Ok(Frame {
        user: who.caller.actor.name.clone(),
        csrf: who.csrf.clone(),
        section: Section::Outside,
        projects,
        project: project.to_owned(),
        notice: String::new(),
    })
}

/// Sentences for the codes that addresses carry after something was done: no text of an address is ever shown as ours.
fn notice(code: &str) -> &'static str {
    match code {
        "approved" => "Your approval is recorded.",
        "refused" => "The review is refused; its author sees why.",
        "applying" => "The apply has begun.",
        "nothing" => "There is nothing to do: nothing is affected.",
        "waived" => "The finding is waived in your name.",
        "cancelling" => "The run was asked to stop.",
        "ended" => "The run has ended already.",
        "halted" => "Nothing new begins until somebody resumes it.",
        "resumed" => "The run goes on.",
        "settled" => "What became of the step is recorded.",
        "answered" => "Your answer is recorded.",
        "planned" => "It begins at that time, if you may then.",
        "taken_back" => "It will not begin.",
        "paused" => "The schedule is paused; what is due meanwhile is not made up for.",
        "goes_on" => "The schedule goes on.",
        "begun" => "It has begun; this page follows it.",
        "unlocked" => "The lock is taken away.",
        "released" => "The quarantine is over.",
        "fetching" => "The repository is fetched now.",
        "given" => "The terminal has its token: go on there.",
        "denied" => "The terminal gets no token.",
        "revoked" => "The token is revoked.",
        _ => "",
    }
}

/// Where a form leads after it was done: `path`, which says so by the code of a notice.
pub fn lead(path: &str, notice: &str) -> Response {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = if query.is_empty() { String::new() } else { format!("{query}&") };
    see_other(&format!("{path}?{query}notice={notice}"))
}

/// 303: the browser gets that page next.
pub fn see_other(path: &str) -> Response {
    const LOCATION: HeaderName = header::LOCATION;
    (StatusCode::SEE_OTHER, [(LOCATION, path.to_owned())]).into_response()
}

/// A page.
pub type Page = Result<Html<String>, Failure>;

/// A form that was sent.
pub struct Sent {
    pub who: Who,
    pub fields: Pairs,
    path: String,
}

impl axum::extract::FromRequest<Arc<App>> for Sent {
    type Rejection = Failure;

    async fn from_request(request: axum::extract::Request, app: &Arc<App>) -> Result<Self, Failure> {
        let path = request.uri().path().to_owned();
        let (mut parts, body) = request.into_parts();
        let who = Who::from_request_parts(&mut parts, app).await?;
        let request = axum::extract::Request::from_parts(parts, body);
        let form = Form::<Vec<(String, String)>>::from_request(request, app).await;
        let fields = form.map_err(|error| {
            let summary = format!("this form cannot be read: {error}");
            let diagnostic = windlass_model::diagnostic::Diagnostic::error("WL904", summary);
            AppError::new(ErrorKind::Usage, diagnostic.help("load the page again and repeat what you did"))
        })?;
        Ok(Self { who, fields: Pairs(fields.0), path })
    }
}

impl Sent {
    /// The answer to the form: where it leads, or a page with what was wrong and what was typed, to try again.
    pub async fn answer(self, app: &App, done: AppResult<Response>) -> Response {
        let error = match done {
            Ok(response) => return response,
            Err(error) if error.kind == ErrorKind::Unauthenticated => return Failure(error).into_response(),
            Err(error) => error,
        };
        let frame = match frame(app, &self.who, "").await {
            Ok(frame) => frame,
            Err(error) => return Failure(error).into_response(),
        };
        let fields = self.fields.0.into_iter().filter(|(name, _)| name != "csrf").collect();
        let page = ErrorPage::of(&error, &self.who.caller.correlation).again(self.path, fields);
        crate::problem::page(&frame, &page)
    }
}

/// The first digits of a commit.
fn short(commit: &str) -> String {
    commit.chars().take(12).collect()
}

/// Page of a list that is read by cursor: where its neighbours are.
fn paging(path: &str, pairs: &[(&str, &str)], here: &str, next: Option<&str>) -> crate::pages::parts::Paging {
    let with = |cursor: &str| {
        let mut pairs = pairs.to_vec();
        pairs.push(("after", cursor));
        link::query(path, &pairs)
    };
    crate::pages::parts::Paging { first: (!here.is_empty()).then(|| with("")), next: next.map(with) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_leads_back_with_a_code() {
        let check = |path: &str, want: &str| {
            let response = lead(path, "begun");
            assert_eq!(response.status(), StatusCode::SEE_OTHER);
            assert_eq!(response.headers()[header::LOCATION], want);
        };
        check("/runs/01k", "/runs/01k?notice=begun");
        check("/drift?project=shop", "/drift?project=shop&notice=begun");
        assert_eq!(notice("<b>"), "");
        assert!(!notice("begun").is_empty());
    }
}
