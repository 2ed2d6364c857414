//! Browsers that are signed in. What a browser has is a secret of which only the digest is kept.

use crate::error::{AppResult, internal};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use windlass_model::Micros;
use windlass_model::approval::Actor;
use windlass_store::Store;

const SESSION: &str = "session";
const LINK: &str = "sign_in_link";

/// How long a session lasts without being used, µs.
const IDLE: Micros = 12 * 3600 * 1_000_000;
/// How long it lasts at most, µs.
const LONGEST: Micros = 7 * 24 * 3600 * 1_000_000;
/// How long a link to sign in is good for, µs.
const LINK_TIME: Micros = 15 * 60 * 1_000_000;
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

/// Begins a session; its secret comes back, for the browser alone. `how` says how it was known who it is.
///
/// # Errors
/// The database cannot be written.
pub async fn session_create(store: &Store, actor: &Actor, how: &str) -> AppResult<String> {
    let secret = secret()?;
    let now = store.now().await?;
    let session = Session { actor: actor.clone(), csrf: self::secret()?, since: now, renewed: now };
    let text = serde_json::to_string(&session).map_err(internal)?;
    store.ticket_put(SESSION, &digest(&secret), &text, now + IDLE).await?;
    let data = serde_json::json!({ "how": how });
    store.event_tell("session.created", &format!("actor {}", actor.name), data, &actor.to_string(), None).await?;
    Ok(secret)
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
