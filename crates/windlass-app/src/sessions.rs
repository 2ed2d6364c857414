//! Browsers that are signed in. What a browser has is a secret of which only the digest is kept.

use crate::caller::Caller;
use crate::error::{AppResult, internal};
use crate::installation::Installation;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_connect::oidc::Authorisation;
use windlass_model::Micros;
use windlass_model::access::{Permission, Rules, Subject};
use windlass_model::approval::Actor;
use windlass_store::Store;

const SESSION: &str = "session";
const LINK: &str = "sign_in_link";
const PENDING: &str = "sign_in";
/// Where what is known of somebody since the last sign-in is kept, by the identity that never becomes another's.
const KNOWN: &str = "actor";

/// How long a session lasts without being used, µs.
const IDLE: Micros = 12 * 3600 * 1_000_000;
/// How long it lasts at most, µs.
const LONGEST: Micros = 7 * 24 * 3600 * 1_000_000;
/// How long a link to sign in is good for, µs.
const LINK_TIME: Micros = 15 * 60 * 1_000_000;
/// How long somebody may take at a provider, µs.
pub const PENDING_TIME: Micros = 10 * 60 * 1_000_000;
/// How often what is not good any more is removed.
const SWEEP: Duration = Duration::from_secs(600);
/// How often the end of a session is moved, µs.
const RENEW: Micros = 5 * 60 * 1_000_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub actor: Actor,
    /// What its forms carry.
    pub csrf: String,
    pub since: Micros,
    renewed: Micros,
}

/// How somebody came in, or tried to; for the record.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// `link`, or `oidc:PROVIDER`.
    pub how: &'a str,
    pub address: IpAddr,
}

/// A sign-in that waits for its provider's answer.
#[derive(Clone, Serialize, Deserialize)]
pub struct Pending {
    /// Name of the provider.
    pub provider: String,
    /// Where to go afterwards.
    pub next: String,
    pub authorisation: Authorisation,
}

/// What is kept of [`Pending`].
#[derive(Serialize, Deserialize)]
struct Kept {
    pending: Pending,
    /// Digest of what the browser has.
    browser: String,
}

/// 32 random bytes as text that cookies, addresses and forms leave as it is.
///
/// # Errors
/// The system has no randomness.
pub fn secret() -> AppResult<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| internal("the system gives no random numbers"))?;
    Ok(hex(&bytes))
}

/// What is kept of a secret.
pub fn digest(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Begins a session; its secret comes back, for the browser alone.
///
/// # Errors
/// The database cannot be written.
pub async fn session_create(store: &Store, actor: &Actor, way: Way<'_>) -> AppResult<String> {
    if let Some(name) = lasting(actor) {
        let text = serde_json::to_string(actor).map_err(internal)?;
        store.of_project("").kv_set(KNOWN, name, &text).await?;
    }
    let secret = secret()?;
    let now = store.now().await?;
    let session = Session { actor: actor.clone(), csrf: self::secret()?, since: now, renewed: now };
    let text = serde_json::to_string(&session).map_err(internal)?;
    store.ticket_put(SESSION, &digest(&secret), &text, now + IDLE).await?;
    let data = serde_json::json!({ "how": way.how, "address": way.address });
    store.event_tell("session.created", &format!("actor {}", actor.name), data, &actor.to_string(), None).await?;
    Ok(secret)
}

/// The identity by which somebody is the same at the next sign-in.
fn lasting(actor: &Actor) -> Option<&str> {
    actor.identities.iter().map(String::as_str).find(|identity| identity.starts_with("oidc:"))
}

/// Somebody as the provider described them at their last sign-in: who has left a group has left it in older sessions and tokens, too.
///
/// # Errors
/// The database cannot be read.
pub async fn newest(store: &Store, actor: Actor) -> AppResult<Actor> {
    let Some(name) = lasting(&actor) else { return Ok(actor) };
    let known = store.of_project("").kv_get(KNOWN, name).await?;
    known.map_or(Ok(actor), |text| serde_json::from_str(&text).map_err(internal))
}

/// The session of a secret, when it is good. Its end moves on as it is used.
///
/// # Errors
/// The database cannot be read.
pub async fn session_use(store: &Store, secret: &str) -> AppResult<Option<Session>> {
    let name = digest(secret);
    let Some(text) = store.ticket_get(SESSION, &name).await? else { return Ok(None) };
    let mut session: Session = serde_json::from_str(&text).map_err(internal)?;
    let now = store.now().await?;
    if now - session.renewed >= RENEW {
        session.renewed = now;
        session.actor = newest(store, session.actor).await?;
        let text = serde_json::to_string(&session).map_err(internal)?;
        store.ticket_renew(SESSION, &name, &text, (now + IDLE).min(session.since + LONGEST)).await?;
    }
    Ok(Some(session))
}

/// Ends a session.
///
/// # Errors
/// The database cannot be written.
pub async fn session_end(store: &Store, secret: &str) -> AppResult<()> {
    if let Some(text) = store.ticket_take(SESSION, &digest(secret)).await? {
        let session: Session = serde_json::from_str(&text).map_err(internal)?;
        let actor = session.actor;
        let subject = format!("actor {}", actor.name);
        store.event_tell("session.ended", &subject, serde_json::Value::Null, &actor.to_string(), None).await?;
    }
    Ok(())
}

/// A secret with which somebody who can read this terminal signs in once, soon.
///
/// # Errors
/// The database cannot be written.
pub async fn link_create(store: &Store, actor: &Actor) -> AppResult<String> {
    let secret = secret()?;
    let text = serde_json::to_string(actor).map_err(internal)?;
    let end = store.now().await? + LINK_TIME;
    store.ticket_put(LINK, &digest(&secret), &text, end).await?;
    Ok(secret)
}

/// Whom a link signs in; `None` when it was used or is too old.
///
/// # Errors
/// The database cannot be written.
pub async fn link_take(store: &Store, secret: &str) -> AppResult<Option<Actor>> {
    let text = store.ticket_take(LINK, &digest(secret)).await?;
    text.map(|text| serde_json::from_str(&text).map_err(internal)).transpose()
}

/// Remembers a sign-in that goes to its provider; what comes back is for this browser alone.
///
/// # Errors
/// The database cannot be written.
pub async fn sign_in_begin(store: &Store, pending: Pending) -> AppResult<String> {
    let browser = secret()?;
    let name = digest(&pending.authorisation.state);
    let text = serde_json::to_string(&Kept { pending, browser: digest(&browser) }).map_err(internal)?;
    store.ticket_put(PENDING, &name, &text, store.now().await? + PENDING_TIME).await?;
    Ok(browser)
}

/// The sign-in that `state` belongs to, once; `None` when there is none (any more), or another browser began it.
///
/// # Errors
/// The database cannot be written.
pub async fn sign_in_take(store: &Store, state: &str, browser: &str) -> AppResult<Option<Pending>> {
    let Some(text) = store.ticket_take(PENDING, &digest(state)).await? else { return Ok(None) };
    let kept: Kept = serde_json::from_str(&text).map_err(internal)?;
    Ok((kept.browser == digest(browser)).then_some(kept.pending))
}

/// The teams that a caller is in, by project, of those that the caller may see.
///
/// # Errors
/// The database cannot be read.
pub async fn teams(installation: &Installation, caller: &Caller) -> AppResult<BTreeMap<String, Vec<String>>> {
    let mut teams = BTreeMap::new();
    let admins = installation.admins();
    for (repository, status) in installation.followed.list() {
        let subject = Subject::project(&repository.name);
        if caller.may(installation, Permission::ProjectRead, &subject).await?.allowed {
            let rules = status.good.as_ref().map(|good| Rules::new(&good.deciding.definitions, &admins));
            let of = rules.map_or_else(Vec::new, |rules| rules.teams_of(&caller.actor));
            teams.insert(repository.name.clone(), of.into_iter().map(str::to_owned).collect());
        }
    }
    Ok(teams)
}

/// Records that somebody was not let in.
///
/// # Errors
/// The database cannot be written.
pub async fn sign_in_refused(store: &Store, way: Way<'_>, why: &str) -> AppResult<()> {
    let data = serde_json::json!({ "how": way.how, "address": way.address });
    Ok(store.event_tell("sign_in.refused", "server", data, "nobody", Some(why)).await?)
}

/// Removes sessions, links and whatever else is good for a time when it is over, until `stop`.
pub async fn sweep(store: Store, stop: CancellationToken) {
    let mut turns = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        // What stays is not good all the same, and is removed the next time.
        let _ = store.ticket_sweep().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{Record, token_use};

    fn alice(groups: &[&str]) -> Actor {
        let mut identities = vec!["oidc:login.example:7".to_owned()];
        identities.extend(groups.iter().map(|group| format!("oidc-group:{group}")));
        Actor { name: "alice".into(), identities, verified: true }
    }

    const WAY: Way<'_> = Way { how: "oidc:company", address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST) };

    async fn empty() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("windlass.db")).await.unwrap();
        (directory, store)
    }

    #[tokio::test]
    async fn who_left_a_group_has_left_it_everywhere_at_the_next_sign_in() {
        let (_directory, store) = empty().await;
        let (before, after) = (alice(&["dev", "sre"]), alice(&["dev"]));
        let older = session_create(&store, &before, WAY).await.unwrap();
        let record = Record { actor: before.clone(), scope: Default::default() };
        let text = serde_json::to_string(&record).unwrap();
        let end = store.now().await.unwrap() + IDLE;
        store.token_create(&digest("wlt_x"), "x", "alice", &text, end).await.unwrap();
        assert_eq!(token_use(&store, "wlt_x").await.unwrap().unwrap().0, before);
        session_create(&store.of_project("shop"), &after, WAY).await.unwrap();
        assert_eq!(token_use(&store, "wlt_x").await.unwrap().unwrap().0, after);
        // A session looks when it is renewed: here as if that was long ago.
        let name = digest(&older);
        let kept = store.ticket_get(SESSION, &name).await.unwrap().unwrap();
        let kept: Session = serde_json::from_str(&kept).unwrap();
        let old = Session { renewed: kept.renewed - RENEW, ..kept };
        store.ticket_renew(SESSION, &name, &serde_json::to_string(&old).unwrap(), end).await.unwrap();
        assert_eq!(session_use(&store, &older).await.unwrap().unwrap().actor, after);
        // Who has no lasting identity stays as they came.
        let local = Actor { name: "root".into(), identities: vec!["user:root".into()], verified: true };
        assert_eq!(newest(&store, local.clone()).await.unwrap(), local);
    }

    #[tokio::test]
    async fn a_sign_in_is_answered_once_and_in_its_browser() {
        let (_directory, store) = empty().await;
        let begin = async |state: &str| {
            let authorisation = Authorisation {
                url: "https://login.example".into(),
                state: state.into(),
                nonce: "nonce".into(),
                pkce_verifier: "verifier".into(),
            };
            let pending = Pending { provider: "company".into(), next: "/runs".into(), authorisation };
            sign_in_begin(&store, pending).await.unwrap()
        };
        let check = async |state: &str, browser: &str, want: bool| {
            let taken = sign_in_take(&store, state, browser).await.unwrap();
            assert_eq!(taken.map(|pending| pending.next), want.then(|| "/runs".to_owned()), "{state}");
        };
        let (one, other) = (begin("one").await, begin("other").await);
        check("one", &one, true).await;
        check("one", &one, false).await;
        check("other", &one, false).await;
        check("other", &other, false).await;
        check("absent", &other, false).await;
    }
}
