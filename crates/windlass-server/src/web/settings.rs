//! Settings and access.

use super::{Asked, Page, Sent, lead, short};
use crate::pages::access::{Access, Answer, Permission as Explained, Question};
use crate::pages::common::{Badge, Moment, Offer, Tone};
use crate::pages::settings::{Grant, Health, Notifier, Repository, Scope, Settings, Team, Token, Worker, Working};
use crate::pages::{Frame, Section, access, settings};
use crate::routes::{Guard, Routes};
use crate::state::App;
use axum::extract::State;
use axum::http::Method;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use std::collections::BTreeSet;
use std::sync::Arc;
use windlass_app::caller::Caller;
use windlass_app::error::AppResult;
use windlass_app::notifications::{self, NotifierView};
use windlass_app::requests;
use windlass_app::requests::explain::explain as explain_access;
use windlass_app::requests::settings_view::{Engine, workers};
use windlass_app::requests::visible::{Visible, visible, why_not};
use windlass_app::tokens::{self, NewToken, Record};
use windlass_model::Micros;
use windlass_model::access::{Permission, Role, Subject, TokenScope, is_identity};
use windlass_model::approval::Actor;
use windlass_store::TokenRow;

pub fn routes(routes: Routes) -> Routes {
    routes
        .add(Method::GET, "/settings", Guard::SignedIn, get(show))
        .add(Method::GET, "/access", Guard::SignedIn, get(explain))
        .add(Method::POST, "/settings/repositories/fetch", Guard::Within(Permission::ProjectManage), post(fetch))
        // Where a token was just shown: loaded again, the page is there without it.
        .add(Method::GET, "/settings/tokens", Guard::SignedIn, get(show))
        .add(Method::POST, "/settings/tokens", Guard::Within(Permission::TokenOwn), post(create))
        .add(Method::POST, "/settings/tokens/revoke", Guard::Within(Permission::TokenOwn), post(revoke))
}

/// Diagnostics of one repository that are shown.
const SHOWN: usize = 10;

async fn show(State(app): State<Arc<App>>, asked: Asked) -> Page {
    let page = page(&app, &asked.who.caller, asked.now).await?;
    Ok(Html(settings::render(&asked.frame(Section::Settings), &page)))
}

async fn page(app: &App, caller: &Caller, now: Micros) -> AppResult<Settings> {
    let installation = &app.installation;
    let projects = visible(installation, caller).await?;
    let mut repositories = Vec::new();
    let (mut teams, mut grants, mut notifiers) = (Vec::new(), Vec::new(), Vec::new());
    let mut owns = false;
    for one in &projects {
        let subject = Subject::project(one.name());
        let fetch = why_not(installation, caller, Permission::ProjectManage, &subject).await?;
        repositories.push(repository(one, fetch.map_or(Offer::Possible, Offer::Not), now));
        owns |= why_not(installation, caller, Permission::TokenOwn, &subject).await?.is_none();
        let Some(good) = &one.status.good else { continue };
        let project = one.name().to_owned();
        let all = notifications::notifier_list(installation, caller, &project).await?;
        notifiers.extend(all.into_iter().map(|view| notifier(&project, view, now)));
        teams.extend(good.deciding.definitions.teams.iter().map(|team| Team {
            project: project.clone(),
            name: team.name.clone(),
            members: team.members.clone(),
            place: team.span.to_string(),
        }));
        grants.extend(good.deciding.definitions.grants.iter().map(|grant| {
            Grant {
                project: project.clone(),
                name: grant.name.clone(),
                to: grant.to.clone(),
                gives: grant
                    .role
                    .iter()
                    .map(|role| role.as_str().to_owned())
                    .chain(grant.permissions.iter().map(ToString::to_string))
                    .collect(),
                only: grant.stacks.iter().map(ToString::to_string).chain(grant.environments.iter().cloned()).collect(),
                place: grant.span.to_string(),
            }
        }));
    }
    let everybody = why_not(installation, caller, Permission::TokenManage, &Subject::server()).await?.is_none();
    let rows = tokens::token_list(installation, caller, everybody).await?;
    let create = match () {
        () if caller.token.is_some() => Offer::Not("A token cannot make another one.".into()),
        () if owns || everybody => Offer::Possible,
        () => Offer::Not("You have no permission to make tokens in any repository.".into()),
    };
    let scopes = Permission::ALL.iter().filter(|permission| everybody || permission.least().is_some());
    let engines = workers(installation, caller).await?;
    Ok(Settings {
        repositories,
        teams,
        grants,
        tokens: rows.into_iter().filter(|row| row.revoked_at.is_none()).map(|row| token(row, now)).collect(),
        token_create: create,
        scopes: scopes.map(|one| Scope { name: one.to_string(), description: one.about().to_owned() }).collect(),
        token_new: None,
        health: health(app, caller, &projects, engines.len()).await?,
        workers: engines.into_iter().map(|one| worker(one, now)).collect(),
        notifiers,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn repository(one: &Visible, fetch: Offer, now: Micros) -> Repository {
    let status = &one.status;
    let diagnostics = match (&status.bad, &status.good) {
        (Some(bad), _) => bad.diagnostics.clone(),
        (None, Some(good)) => good.project.diagnostics.clone(),
        (None, None) => Vec::new(),
    };
    Repository {
        name: one.name().to_owned(),
        url: one.repository.url.clone(),
        branch: status.branch.clone().unwrap_or_default(),
        commit: status.good.as_ref().map(|good| short(&good.commit)).unwrap_or_default(),
        fetched: status.fetched.map(|at| Moment::new(at.as_microsecond(), now)),
        failure: status.failure.as_ref().map(|failure| failure.diagnostic.summary.clone()),
        bad: status.bad.as_ref().map(|bad| short(&bad.commit)),
        stacks: status.good.as_ref().map_or(0, |good| good.project.repository.stacks.len()),
        diagnostics: super::home::first(diagnostics, SHOWN),
        fetch,
    }
}

fn token(row: TokenRow, now: Micros) -> Token {
    let record: Option<Record> = serde_json::from_str(&row.record).ok();
    let scope = record.map(|record| record.scope).unwrap_or_default();
    let mut scopes: Vec<String> = match scope.permissions {
        Some(permissions) => permissions.iter().map(ToString::to_string).collect(),
        None => vec!["whatever its owner may".into()],
    };
    if let Some(projects) = scope.projects {
        scopes.push(format!("in {}", projects.into_iter().collect::<Vec<_>>().join(", ")));
    }
    Token {
        id: row.id,
        name: row.name,
        owner: row.owner,
        scopes,
        created: Moment::new(row.created_at, now),
        used: row.used_at.map(|at| Moment::new(at, now)),
        expires: Moment::new(row.expires_at, now),
        expired: row.expires_at <= now,
    }
}

fn worker(one: Engine, now: Micros) -> Worker {
    let state = match &one.worker {
        _ if !one.alive => Badge::new(Tone::Bad, "not heard of"),
        Some(worker) if worker.draining => Badge::new(Tone::Warn, "stopping"),
        _ => Badge::new(Tone::Ok, "ready"),
    };
    let mut labels = Vec::new();
    if let Some(worker) = &one.worker {
        labels.clone_from(&worker.labels.own);
        labels.extend(worker.labels.rest.then(|| "whatever asks for no label".to_owned()));
    }
    // Who is at work at this moment is seen at this moment.
    let seen = one.worker.as_ref().map(|worker| worker.seen_at);
    let seen = seen.unwrap_or(if one.alive { now } else { one.row.started_at });
    Worker {
        name: format!("{} ({})", one.row.engine.host, one.row.engine.pid),
        labels,
        version: one.worker.map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), |worker| worker.version),
        state,
        seen: Moment::new(seen, now),
        steps: one
            .steps
            .into_iter()
            .map(|step| Working { run: step.run.to_string(), title: step.title, since: Moment::new(step.since, now) })
            .collect(),
    }
}

fn notifier(project: &str, view: NotifierView, now: Micros) -> Notifier {
    let channel = view.channel().to_owned();
    let NotifierView { notifier, row, .. } = view;
    let mut shown = Notifier {
        project: project.to_owned(),
        name: notifier.name,
        channel,
        place: notifier.span.to_string(),
        state: Badge::new(Tone::Plain, "not used yet"),
        queued: 0,
        sent: 0,
        given_up: 0,
        delivered: None,
        failed: None,
    };
    let Some(row) = row else { return shown };
    shown.state = match &row.failure {
        Some(_) if row.failures > 0 => Badge::new(Tone::Bad, "fails"),
        Some(_) => Badge::new(Tone::Warn, "gave a message up"),
        None if row.sent == 0 => shown.state,
        None => Badge::new(Tone::Ok, "works"),
    };
    let at = row.failed_at.unwrap_or(now);
    shown.failed = row.failure.map(|why| (Moment::new(at, now), why));
    shown.delivered = row.sent_at.map(|at| Moment::new(at, now));
    (shown.queued, shown.sent, shown.given_up) = (row.queued, row.sent, row.given_up);
    shown
}

async fn health(app: &App, caller: &Caller, projects: &[Visible], workers: usize) -> AppResult<Vec<Health>> {
    let configured = app.installation.configured();
    let keeps = why_not(&app.installation, caller, Permission::ServerManage, &Subject::server()).await?.is_none();
    let mut configuration = configured.warning().unwrap_or_else(|| "in force".to_owned());
    if keeps {
        for diagnostic in &configured.wrong {
            configuration.push_str(&format!("; {}: {}", diagnostic.code, diagnostic.summary));
        }
    }
    let behind = projects.iter().filter(|one| one.status.failure.is_some()).count();
    let one = |name: &str, good: bool, detail: String| Health {
        name: name.to_owned(),
        state: if good { Badge::new(Tone::Ok, "good") } else { Badge::new(Tone::Warn, "look") },
        detail,
    };
    Ok(vec![
        one("Configuration", configured.warning().is_none(), configuration),
        one("Database", true, "it answers".to_owned()),
        one("Repositories", behind == 0, format!("{behind} of {} cannot be fetched", projects.len())),
        one(
            "Processes at work",
            workers > 0,
            crate::pages::common::count(workers, "process").replace("processs", "processes"),
        ),
        one("Reached at", app.is_secure() || app.url.contains("127.0.0.1"), app.url.clone()),
    ])
}

async fn fetch(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let done = requests::project_fetch(&app.installation, &sent.who.caller, sent.fields.one("repository")).await;
    let done = done.map(|()| lead("/settings", "fetching"));
    sent.answer(&app, done).await
}

async fn create(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let done = created(&app, &sent).await;
    sent.answer(&app, done).await
}

async fn created(app: &App, sent: &Sent) -> AppResult<Response> {
    let caller = &sent.who.caller;
    let permissions: BTreeSet<Permission> =
        sent.fields.all("scope").iter().filter_map(|name| Permission::parse(name)).collect();
    let projects: BTreeSet<String> = sent.fields.all("project").into_iter().collect();
    let new = NewToken {
        name: sent.fields.one("name").to_owned(),
        scope: TokenScope {
            permissions: (!permissions.is_empty()).then_some(permissions),
            projects: (!projects.is_empty()).then_some(projects),
        },
        days: sent.fields.one("days").parse().unwrap_or_default(),
    };
    let (_, secret) = tokens::token_create(&app.installation, caller, &new).await?;
    let now = app.installation.common.store.now().await?;
    // The page itself, for once: the secret has to be in no address, and is nowhere else.
    let page = Settings { token_new: Some(secret), ..page(app, caller, now).await? };
    let frame = Frame { section: Section::Settings, ..super::frame(app, &sent.who, "").await? };
    Ok(Html(settings::render(&frame, &page)).into_response())
}

async fn revoke(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let done = tokens::token_revoke(&app.installation, &sent.who.caller, sent.fields.one("token")).await;
    let done = done.map(|_| lead("/settings", "revoked"));
    sent.answer(&app, done).await
}

/// Who is asked about: an identity, or the name of a user.
fn named(name: &str) -> Actor {
    let identity = if is_identity(name) { name.to_owned() } else { format!("user:{name}") };
    Actor { name: name.to_owned(), identities: vec![identity], verified: true }
}

async fn explain(State(app): State<Arc<App>>, asked: Asked) -> Page {
    let caller = &asked.who.caller;
    let question = Question {
        actor: asked.query.one("actor").trim().to_owned(),
        permission: asked.query.one("permission").to_owned(),
        subject: asked.query.one("subject").trim().to_owned(),
    };
    let answer = match Permission::parse(&question.permission) {
        Some(permission) => {
            let (project, instance) = question.subject.split_once(':').unwrap_or((&question.subject, ""));
            let stacks: Vec<String> = Some(instance.to_owned()).filter(|one| !one.is_empty()).into_iter().collect();
            let project = Some(project).filter(|project| !project.is_empty());
            let other = (!question.actor.is_empty()).then(|| named(&question.actor));
            let explained = explain_access(&app.installation, caller, other, permission, project, &stacks).await?;
            Some(Answer { allowed: explained.answer.allowed, because: explained.answer.because })
        }
        None => None,
    };
    let permissions = Permission::ALL.iter().map(|one| Explained {
        name: one.to_string(),
        description: one.about().to_owned(),
        scope: one.scope().as_str().to_owned(),
        roles: Role::ALL.iter().map(|role| role.has(*one)).collect(),
    });
    let about_others = requests::settings_view::may_ask_about_others(&app.installation, caller).await?;
    let page = Access {
        question,
        answer,
        permissions: permissions.collect(),
        roles: Role::ALL.iter().map(|role| role.as_str().to_owned()).collect(),
        about_others,
    };
    Ok(Html(access::render(&asked.frame(Section::Settings), &page)))
}
