//! A terminal that gets a token of somebody who is signed in somewhere else: it shows a short code, and they confirm on a page that it
//! is theirs (the idea is that of RFC 8628). The terminal makes the secret of its token itself and sends only a digest before it uses
//! it, so that no answer carries a secret and a lost one is simply asked for again.

use crate::caller::Caller;
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::installation::Installation;
use crate::sessions::digest;
use crate::tokens::{self, NewToken};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use windlass_model::Micros;
use windlass_model::access::TokenScope;
use windlass_model::diagnostic::Diagnostic;
use windlass_store::{Store, TokenRow};

/// Tickets of what terminals ask for, by the digest of the secret.
const ASKED: &str = "login";
/// Tickets that lead from the digest of a code to that of the secret; who takes one out decides.
const CODE: &str = "login_code";
/// How long a terminal waits, µs.
const TIME: Micros = 10 * 60 * 1_000_000;
/// How often it asks, seconds.
pub const INTERVAL: u32 = 2;
/// The longest name of a machine, bytes.
const HOST: usize = 100;
/// Consonants: nobody reads them as something else, and they make no words. Eight of them are some 34 bits.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;

/// What a terminal asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The machine, as it calls itself.
    pub host: String,
    /// Where the request came from.
    pub address: IpAddr,
    pub scope: TokenScope,
    pub days: u32,
}

impl Login {
    fn token(&self) -> NewToken {
        NewToken { name: format!("terminal on {}", self.host), scope: self.scope.clone(), days: self.days }
    }
}

/// What is kept of it.
#[derive(Serialize, Deserialize)]
struct Kept {
    login: Login,
    until: Micros,
    /// Who refused it.
    refused: Option<String>,
}

fn expired() -> AppError {
    let diagnostic = Diagnostic::error("WL920", "no terminal waits with this code")
        .help("it may be mistyped, decided already, or older than ten minutes: run `windlass login` again");
    AppError::new(ErrorKind::NotFound, diagnostic)
}

/// A new code, as people read it: `BCDF-GHJK`.
fn code() -> AppResult<String> {
    let random = SystemRandom::new();
    let mut code = String::new();
    while code.len() < LENGTH {
        let mut byte = [0];
        random.fill(&mut byte).map_err(|_| internal("the system gives no random numbers"))?;
        // The last incomplete round of letters would come more often than the others.
        if byte[0] < 240 {
            code.push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
        }
    }
    code.insert(LENGTH / 2, '-');
    Ok(code)
}

/// The digest of a code, however it was typed.
fn of_code(code: &str) -> String {
    let letters: String = code.chars().filter(char::is_ascii_alphanumeric).take(LENGTH + 1).collect();
    digest(&letters.to_ascii_uppercase())
}

/// Remembers that a terminal waits for a token with this digest; the code to show and its end (µs) come back.
///
/// # Errors
/// What is asked for makes no sense.
pub async fn login_begin(store: &Store, digest: &str, login: Login) -> AppResult<(String, Micros)> {
    let refuse = |what: &str| Err(AppError::new(ErrorKind::Usage, Diagnostic::error("WL845", what)));
    if digest.len() != 64 || !digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return refuse("`digest` is the SHA-256 of the token that is to be made, in hexadecimal digits");
    }
    if login.host.trim().is_empty() || login.host.len() > HOST {
        return refuse("a terminal says the name of its machine, of at most 100 bytes");
    }
    tokens::check(&login.token())?;
    let until = store.now().await? + TIME;
    let data = serde_json::json!({ "host": login.host, "address": login.address });
    let kept = serde_json::to_string(&Kept { login, until, refused: None }).map_err(internal)?;
    if !store.ticket_put(ASKED, digest, &kept, until).await? {
        return refuse("this was asked for before");
    }
    store.event_tell("login.asked", "server", data, "nobody", None).await?;
    loop {
        let code = code()?;
        if store.ticket_put(CODE, &of_code(&code), digest, until).await? {
            return Ok((code, until));
        }
    }
}

async fn find(store: &Store, code: &str) -> AppResult<(String, Kept)> {
    let name = store.ticket_get(CODE, &of_code(code)).await?.ok_or_else(expired)?;
    let kept = store.ticket_get(ASKED, &name).await?.ok_or_else(expired)?;
    Ok((name, serde_json::from_str(&kept).map_err(internal)?))
}

/// What the terminal that shows this code asks for, and until when (µs).
///
/// # Errors
/// None waits with it.
pub async fn login_show(installation: &Installation, caller: &Caller, code: &str) -> AppResult<(Login, Micros)> {
    let (_, kept) = find(&installation.store(caller, ""), code).await?;
    Ok((kept.login, kept.until))
}

/// Gives the terminal that shows this code a token of the caller.
///
/// # Errors
/// None waits with it, or the caller may not.
pub async fn login_approve(installation: &Installation, caller: &Caller, code: &str) -> AppResult<TokenRow> {
    let store = installation.store(caller, "");
    let (name, kept) = find(&store, code).await?;
    let new = kept.login.token();
    tokens::token_allow(installation, caller, &new).await?;
    store.ticket_take(CODE, &of_code(code)).await?.ok_or_else(expired)?;
    let row = tokens::token_put(installation, caller, &new, &name).await?;
    let data = serde_json::json!({ "host": kept.login.host, "address": kept.login.address });
    let subject = format!("token {}", row.id);
    store.event_tell("login.approved", &subject, data, &caller.actor.to_string(), None).await?;
    Ok(row)
}

/// Refuses the terminal that shows this code.
///
/// # Errors
/// None waits with it.
pub async fn login_refuse(installation: &Installation, caller: &Caller, code: &str) -> AppResult<()> {
    let store = installation.store(caller, "");
    let (name, kept) = find(&store, code).await?;
    store.ticket_take(CODE, &of_code(code)).await?.ok_or_else(expired)?;
    let actor = caller.actor.to_string();
    let data = serde_json::json!({ "host": kept.login.host, "address": kept.login.address });
    let text = serde_json::to_string(&Kept { refused: Some(actor.clone()), ..kept }).map_err(internal)?;
    store.ticket_renew(ASKED, &name, &text, kept.until).await?;
    Ok(store.event_tell("login.refused", "server", data, &actor, None).await?)
}

/// The token that a terminal waits for with this secret; `None` while nobody has decided.
///
/// # Errors
/// It was refused, or nobody confirmed it in time.
pub async fn login_poll(store: &Store, secret: &str) -> AppResult<Option<TokenRow>> {
    let name = digest(secret);
    if let Some(row) = store.token_use(&name).await? {
        return Ok(Some(row));
    }
    let Some(kept) = store.ticket_get(ASKED, &name).await? else {
        let diagnostic = Diagnostic::error("WL920", "nobody confirmed this terminal within ten minutes");
        return Err(AppError::new(ErrorKind::NotFound, diagnostic.help("run `windlass login` again")));
    };
    let kept: Kept = serde_json::from_str(&kept).map_err(internal)?;
    match kept.refused {
        None => Ok(None),
        Some(actor) => {
            let diagnostic = Diagnostic::error("WL921", format!("{actor} refused this terminal a token"));
            Err(AppError::new(ErrorKind::Refused, diagnostic.help("ask them why, or log in as somebody else")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    fn login(host: &str, days: u32) -> Login {
        Login { host: host.into(), address: IpAddr::V4(Ipv4Addr::LOCALHOST), scope: TokenScope::default(), days }
    }

    #[test]
    fn a_code_is_found_however_it_is_typed() {
        let check = |typed: &str, same: bool| assert_eq!(of_code(typed) == of_code("BCDF-GHJK"), same, "{typed}");
        check("bcdf-ghjk", true);
        check(" BCDF GHJK ", true);
        check("bcdfghjk", true);
        check("BCDF-GHJL", false);
        check("BCDF-GHJKB", false);
        check("", false);
        let codes: BTreeSet<String> = (0..200).map(|_| code().unwrap()).collect();
        assert_eq!(codes.len(), 200);
        assert!(codes.iter().all(|code| code.len() == 9 && code.as_bytes()[4] == b'-'));
        let letters: BTreeSet<char> = codes.iter().flat_map(|code| code.chars()).filter(|c| *c != '-').collect();
        assert_eq!(letters.len(), LETTERS.len());
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("windlass.db")).await.unwrap();
        let name = digest("wlt_x");
        let check = async |name: &str, login: Login, good: bool| {
            assert_eq!(login_begin(&store, name, login).await.is_ok(), good);
        };
        check("short", login("box", 30), false).await;
        check(&name.to_uppercase(), login("box", 30), false).await;
        check(&name, login(" ", 30), false).await;
        check(&name, login(&"x".repeat(101), 30), false).await;
        check(&name, login("box", 366), false).await;
        assert_eq!(login_poll(&store, "wlt_x").await.unwrap_err().diagnostics[0].code, "WL920");
        check(&name, login("box", 30), true).await;
        check(&name, login("box", 30), false).await;
        assert_eq!(login_poll(&store, "wlt_x").await.unwrap(), None);
        store.close().await;
    }
}
