//! `login` and `logout`: a token for this terminal, which somebody confirms on a page of the server.

use super::Remote;
use super::client::Client;
use super::credentials::{self, Credential};
use crate::arguments::Login;
use crate::terminal::clean;
use crate::{Answer, Context, print, print_json, views};
use serde::Deserialize;
use serde_json::json;
use std::process::{Command, Stdio};
use std::time::Duration;
use windlass_app::error::{AppError, AppResult, ErrorKind};
use windlass_app::{sessions, tokens};
use windlass_model::Micros;
use windlass_model::diagnostic::Diagnostic;

#[derive(Deserialize)]
struct Begun {
    code: String,
    url: String,
    interval: u32,
    expires_at: Micros,
}

#[derive(Deserialize)]
struct Polled {
    token: Option<Token>,
}

#[derive(Deserialize)]
struct Token {
    id: String,
    owner: String,
    expires_at: Micros,
}

fn server(remote: Option<&Remote>, url: Option<&str>) -> AppResult<String> {
    let url = url.or(remote.map(|remote| remote.settings.url.as_str()));
    url.map(str::to_owned).ok_or_else(super::none)
}

pub fn login(cx: &Context, remote: Option<&Remote>, options: &Login) -> Answer {
    let client = Client::open(&server(remote, options.url.as_deref())?)?;
    // Before somebody confirms a token that then cannot be kept.
    credentials::find(&client.url)?;
    let some = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
    let secret = tokens::token_secret()?;
    let asked = json!({
        "digest": sessions::digest(&secret), "host": windlass_app::actor::host(),
        "permissions": some(&options.permission), "projects": some(&options.only), "days": options.days,
    });
    let begun: Begun = client.post_once("/api/v1/logins", &asked)?;
    // Its own address may be another one than that by which it is reached from here.
    let (code, url) = (clean(&begun.code), clean(&begun.url));
    eprintln!("Open {url}\nand confirm that the page shows the code {}", cx.err.bold(&code));
    if !options.no_browser && cx.err.interactive && begun.url.starts_with("http") {
        open(&begun.url);
    }
    let token = loop {
        std::thread::sleep(Duration::from_secs(begun.interval.clamp(1, 30).into()));
        match client.repeat::<Polled>("/api/v1/logins/poll", &json!({ "token": secret })) {
            Ok(Polled { token: Some(token) }) => break token,
            Ok(_) => {}
            // The server may be away for a moment; it is waited for as long as the code is good.
            Err(error) if error.kind == ErrorKind::Unavailable && now() < begun.expires_at => {}
            Err(error) => return Err(error),
        }
    };
    let credential = Credential { token: secret, id: token.id.clone(), expires_at: token.expires_at };
    credentials::keep(&client.url, Some(credential))?;
    if cx.json {
        let owner = &token.owner;
        print_json(&json!({ "server": client.url, "id": token.id, "owner": owner, "expires_at": token.expires_at }));
    } else {
        let until = views::time(token.expires_at);
        print(&format!("Signed in to {} as {} until {until}.\n", client.url, clean(&token.owner)));
        if remote.is_none_or(|remote| remote.settings.url.trim_end_matches('/') != client.url) {
            print(&format!("Next: export WINDLASS_URL={}\n", client.url));
        }
    }
    Ok(true)
}

pub fn logout(cx: &Context, remote: Option<&Remote>, url: Option<&str>) -> Answer {
    let mut client = Client::open(&server(remote, url)?)?;
    let Some(credential) = credentials::find(&client.url)? else {
        if cx.json {
            print_json(&json!({ "server": client.url, "revoked": null }));
        } else {
            print(&format!("No token for {} is kept here.\n", client.url));
        }
        return Ok(false);
    };
    client.use_token(credential.token);
    let ended = client.delete("/api/v1/tokens/this");
    // Whatever the server says: nobody finds it here any more.
    credentials::keep(&client.url, None)?;
    match ended {
        // It was not good any more.
        Err(error) if error.kind == ErrorKind::Unauthenticated => {}
        Err(mut error) => {
            let until = views::time(credential.expires_at);
            let left = format!("the token {} was forgotten here, and is good until {until}", credential.id);
            let help = "end it on the server's page of settings, or with `windlass token revoke`";
            error.diagnostics.push(Diagnostic::warning("WL922", left).help(help));
            return Err(AppError::many(error.kind, error.diagnostics));
        }
        Ok(()) => {}
    }
    if cx.json {
        print_json(&json!({ "server": client.url, "revoked": credential.id }));
    } else {
        print(&format!("Signed out of {}: the token is not good any more.\n", client.url));
    }
    Ok(true)
}

fn now() -> Micros {
    jiff::Timestamp::now().as_microsecond()
}

/// Shows an address in a browser, where there is one beside this terminal.
fn open(url: &str) {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let program = match std::env::var("BROWSER") {
        Ok(program) if !program.is_empty() => program,
        _ if set("SSH_CONNECTION") => return,
        _ if cfg!(target_os = "macos") => "open".to_owned(),
        _ if set("DISPLAY") || set("WAYLAND_DISPLAY") => "xdg-open".to_owned(),
        _ => return,
    };
    // Where it cannot be shown, the address was printed.
    let _ = Command::new(program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}
