//! API tokens: of people for their programs, and short ones that jobs of a CI get for their own.

use crate::caller::Caller;
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::installation::Installation;
use crate::sessions::{digest, newest, secret};
use serde::{Deserialize, Serialize};
use windlass_connect::workload::Workload;
use windlass_model::Micros;
use windlass_model::access::{Permission, Subject, TokenScope};
use windlass_model::approval::Actor;
use windlass_model::diagnostic::Diagnostic;
use windlass_store::{Store, TokenRow};

/// What tokens begin with, so that they are found where they should not be.
const PREFIX: &str = "wlt_";

/// How long a token is good for when it is not said, days.
pub const DAYS: u32 = 30;
const DAY: Micros = 24 * 3600 * 1_000_000;
/// The longest life of a token, days.
pub const LONGEST_DAYS: u32 = 365;
/// How long a job's token is good for at most, µs.
const JOB: Micros = 3600 * 1_000_000;

/// Tickets under which the tokens of jobs are remembered until they are not good any more.
const SEEN: &str = "ci_token";

/// What is kept with a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub actor: Actor,
    pub scope: TokenScope,
}

/// What a new token is to be.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub name: String,
    pub scope: TokenScope,
    pub days: u32,
}

/// Makes a token of the caller; the secret comes back this once.
///
/// # Errors
/// The caller may not, or what is asked for makes no sense.
pub async fn token_create(
    installation: &Installation,
    caller: &Caller,
    new: &NewToken,
) -> AppResult<(TokenRow, String)> {
    token_allow(installation, caller, new).await?;
    let secret = token_secret()?;
    let row = token_put(installation, caller, new, &digest(&secret)).await?;
    Ok((row, secret))
}

/// A secret for a token that is to be asked for.
///
/// # Errors
/// The system has no randomness.
pub fn token_secret() -> AppResult<String> {
    Ok(format!("{PREFIX}{}", secret()?))
}

/// Refuses a token that makes no sense, whoever asks.
///
/// # Errors
/// What is asked for makes no sense.
pub(crate) fn check(new: &NewToken) -> AppResult<()> {
    if new.name.trim().is_empty() || new.name.len() > 200 {
        return refuse("a token needs a name of at most 200 bytes", "say what it is for, such as `nightly report`");
    }
    if !(1..=LONGEST_DAYS).contains(&new.days) {
        return refuse("a token is good for 1 to 365 days", "make a new one when it ends");
    }
    Ok(())
}

fn refuse<T>(summary: &str, help: &str) -> AppResult<T> {
    Err(AppError::new(ErrorKind::Usage, Diagnostic::error("WL845", summary).help(help)))
}

/// Refuses unless the caller may make this token.
///
/// # Errors
/// The caller may not, or what is asked for makes no sense.
pub(crate) async fn token_allow(installation: &Installation, caller: &Caller, new: &NewToken) -> AppResult<()> {
    check(new)?;
    if caller.token.is_some() {
        return refuse("a token cannot make another one", "sign in, and make it as yourself");
    }
    let Some(projects) = &new.scope.projects else { return may_own(installation, caller).await };
    for project in projects {
        caller.must(installation, Permission::TokenOwn, &Subject::project(project)).await?;
    }
    Ok(())
}

/// Stores a token whose secret has this digest, for a caller who may make it.
pub(crate) async fn token_put(
    installation: &Installation,
    caller: &Caller,
    new: &NewToken,
    digest: &str,
) -> AppResult<TokenRow> {
    let store = installation.store(caller, "");
    let record = Record { actor: caller.actor.clone(), scope: new.scope.clone() };
    let text = serde_json::to_string(&record).map_err(internal)?;
    let end = store.now().await? + DAY * Micros::from(new.days);
    Ok(store.token_create(digest, new.name.trim(), &caller.actor.to_string(), &text, end).await?)
}

/// Somebody who may have tokens in one project may have them for all: they give no more than their owner has.
async fn may_own(installation: &Installation, caller: &Caller) -> AppResult<()> {
    for (repository, _) in installation.followed.list() {
        let subject = Subject::project(&repository.name);
        if caller.may(installation, Permission::TokenOwn, &subject).await?.allowed {
            return Ok(());
        }
    }
    caller.must(installation, Permission::TokenManage, &Subject::server()).await
}

/// Who uses a token, and what it is limited to; `None` when it is not good. Who it is follows the last sign-in of its owner.
///
/// # Errors
/// The database cannot be read.
pub async fn token_use(store: &Store, secret: &str) -> AppResult<Option<(Actor, TokenScope)>> {
    if !secret.starts_with(PREFIX) {
        return Ok(None);
    }
    let Some(row) = store.token_use(&digest(secret)).await? else { return Ok(None) };
    let record: Record = serde_json::from_str(&row.record).map_err(internal)?;
    Ok(Some((newest(store, record.actor).await?, record.scope)))
}

/// The caller's tokens, or everybody's; newest first.
///
/// # Errors
/// Everybody's are for who may manage them; a token shows and ends tokens only when it may have them.
pub async fn token_list(installation: &Installation, caller: &Caller, everybody: bool) -> AppResult<Vec<TokenRow>> {
    if everybody {
        caller.must(installation, Permission::TokenManage, &Subject::server()).await?;
    } else if caller.token.is_some() {
        may_own(installation, caller).await?;
    }
    let owner = (!everybody).then(|| caller.actor.to_string());
    Ok(installation.common.store.token_list(owner.as_deref()).await?)
}

/// Ends a token of the caller, or of anybody for who may manage them.
///
/// # Errors
/// There is none, or it is somebody else's.
pub async fn token_revoke(installation: &Installation, caller: &Caller, id: &str) -> AppResult<()> {
    // In person, also who was granted nothing any more ends what is left of it.
    if caller.token.is_some() {
        may_own(installation, caller).await?;
    }
    let store = installation.store(caller, "");
    let actor = caller.actor.to_string();
    if store.token_revoke(id, Some(&actor), &actor).await? {
        return Ok(());
    }
    let manages = caller.may(installation, Permission::TokenManage, &Subject::server()).await?.allowed;
    if manages && store.token_revoke(id, None, &actor).await? {
        return Ok(());
    }
    Err(crate::caller::not_found("token", id))
}

/// Ends the very token that is used, whatever it is limited to.
///
/// # Errors
/// It is none that is good.
pub async fn token_end(installation: &Installation, caller: &Caller, secret: &str) -> AppResult<()> {
    let store = installation.store(caller, "");
    let actor = caller.actor.to_string();
    match store.token_use(&digest(secret)).await? {
        Some(row) if store.token_revoke(&row.id, None, &actor).await? => Ok(()),
        _ => Err(crate::caller::not_found("token", "this")),
    }
}

/// A short token for a job that showed who it is; the secret and its end (µs) come back. What it showed is taken once.
///
/// # Errors
/// It was used before, or the database cannot be written.
pub async fn token_exchange(store: &Store, workload: &Workload) -> AppResult<(String, Micros)> {
    let now = store.now().await?;
    if !store.ticket_put(SEEN, &workload.token_id, "", workload.expires).await? {
        let diagnostic = Diagnostic::error("WL846", "this identity token was exchanged before")
            .help("ask the CI for a new one: each is good for one exchange");
        return Err(AppError::new(ErrorKind::Unauthenticated, diagnostic));
    }
    let secret = token_secret()?;
    let record = Record { actor: workload.actor.clone(), scope: TokenScope::default() };
    let text = serde_json::to_string(&record).map_err(internal)?;
    let end = now + JOB;
    store.token_create(&digest(&secret), "job", &workload.actor.to_string(), &text, end).await?;
    Ok((secret, end))
}
