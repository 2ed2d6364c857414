//! Who gets in, by the real program over HTTP: links, sessions, providers, tokens, jobs of a CI, webhooks, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use windlass_testkit::cli::CliEnv;
use windlass_testkit::oidc::{CONFIDENTIAL, OidcProvider, PUBLIC, SECRET};

const WINDLASS: &str = r#"
project "shop" {}
team "sre" { members = ["oidc-group:sre"] }
team "jobs" { members = ["ci:builds", "ci:pipelines:repository=group/infra"] }
grant "people" {
  to   = [team.sre]
  role = "operator"
}
grant "jobs" {
  to   = [team.jobs]
  role = "viewer"
}
"#;

/// `windlass serve`, with everything in a directory of its own.
struct Server {
    child: Child,
    /// Where it listens, without a slash at the end.
    url: String,
    /// The path of the link that it printed.
    link: Option<String>,
    data: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    fn is(self, status: u16, text: &str) -> Self {
        assert!(self.status == status && self.text.contains(text), "not {status} with `{text}`: {self:?}");
        self
    }

    /// The line that sets a cookie, and its value.
    #[track_caller]
    fn cookie(&self, name: &str) -> (String, String) {
        let lines = self.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap());
        let found = lines.into_iter().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix('=')?.split(';').next()?;
            Some((line.to_owned(), value.to_owned()))
        });
        found.unwrap_or_else(|| panic!("no cookie {name}: {self:?}"))
    }
}

impl Server {
    fn start(env: &CliEnv, configuration: &str) -> Self {
        Self::listen(env, configuration, "127.0.0.1:0")
    }

    fn listen(env: &CliEnv, configuration: &str, address: &str) -> Self {
        let (file, data) = (env.home().join("windlass.toml"), env.home().join("data"));
        let root = env.root();
        let repository = format!("[[repository]]\nname = \"shop\"\nurl = \"{}\"\nevery = 86400\n", root.display());
        std::fs::write(&file, format!("{configuration}\n{repository}")).unwrap();
        let log = File::create(env.home().join("server.log")).unwrap();
        let mut child = env
            .command(&["serve", "--listen", address])
            .args([Path::new("--config"), &file, Path::new("--data"), &data])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let (mut url, mut link) = (None, None);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((_, secret)) = line.split_once("/sign-in/link/") {
                link = Some(format!("/sign-in/link/{}", secret.trim()));
            }
            if let Some((_, rest)) = line.split_once("istening on ") {
                url = Some(rest.split_whitespace().next().unwrap().to_owned());
                break;
            }
        }
        let log = || std::fs::read_to_string(env.home().join("server.log")).unwrap();
        let url = url.unwrap_or_else(|| panic!("it does not say where it listens: {}", log()));
        let url = if address.ends_with(":0") { url } else { format!("http://{address}") };
        let server = Self { child, url, link, data };
        wait(|| TcpStream::connect(server.address()).ok());
        server
    }

    fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).proxy(None);
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let agent = agent.build().new_agent();
        let mut answer = match method {
            "POST" => agent.run(request.body(body.to_vec()).unwrap()).unwrap(),
            _ => agent.run(request.body(()).unwrap()).unwrap(),
        };
        let text = answer.body_mut().read_to_string().unwrap();
        Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), text }
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, b"")
    }

    /// A form, as a browser sends it.
    fn form(&self, path: &str, headers: &[(&str, &str)], form: &str) -> Answer {
        let all = [headers, &[("content-type", "application/x-www-form-urlencoded")]].concat();
        self.send("POST", path, &all, form.as_bytes())
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let all = [headers, &[("content-type", "application/json")]].concat();
        self.send("POST", path, &all, body.to_string().as_bytes())
    }

    fn me(&self, cookie: &str) -> Answer {
        self.get("/api/v1/me", &[("cookie", cookie)])
    }

    /// The token that the forms of a session carry.
    fn csrf(&self, cookie: &str) -> String {
        let page = self.get("/sign-in", &[("cookie", cookie)]).is(200, "Sign out").text;
        page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }

    /// Begins a sign-in: where the browser is sent, and the cookie that it gets.
    fn begin(&self, next: &str) -> (String, String) {
        let answer = self.form("/sign-in", &[], &format!("provider=company&next={next}")).is(303, "");
        let (line, value) = answer.cookie("windlass-sign-in");
        assert!(line.contains("; HttpOnly; SameSite=Lax; Max-Age=600"), "{line}");
        (answer.header("location").to_owned(), format!("windlass-sign-in={value}"))
    }

    /// A whole sign-in: the cookie of the session, and where it leads.
    fn sign_in(&self, provider: &OidcProvider, login: &str, next: &str) -> (String, String) {
        let (there, pending) = self.begin(next);
        let back = provider.sign_in(&there, login).unwrap();
        let answer = self.get(&back, &[("cookie", &pending)]).is(303, "");
        let (_, value) = answer.cookie("windlass");
        (format!("windlass={value}"), answer.header("location").to_owned())
    }

    /// Changes the database while no server has it.
    fn change(&mut self, sql: &str) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let changed = self.database().execute(sql, []).unwrap();
        assert!(changed > 0, "{sql}");
    }

    fn database(&self) -> rusqlite::Connection {
        let database = std::fs::read_dir(&self.data).unwrap().map(|entry| entry.unwrap().path());
        let file = database.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "db")).unwrap();
        rusqlite::Connection::open(file).unwrap()
    }

    /// Kind, actor and data of the events of these kinds, in order.
    fn events(&self, kinds: &[&str]) -> Vec<(String, String, String)> {
        let database = self.database();
        let mut rows = database.prepare("SELECT kind, actor, data FROM events ORDER BY id").unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1).unwrap_or_default(), row.get(2)?)));
        let rows: Vec<(String, String, String)> = rows.unwrap().map(Result::unwrap).collect();
        rows.into_iter().filter(|(kind, _, _)| kinds.contains(&kind.as_str())).collect()
    }
}

fn shop() -> CliEnv {
    env(&[("net/main.tf", NET), ("windlass.hcl", WINDLASS)])
}

fn company(provider: &OidcProvider) -> String {
    provider.fill_tokens().unwrap();
    let issuer = provider.issuer();
    format!(
        "[[oidc]]\nname = \"company\"\nissuer = \"{issuer}\"\nclient_id = \"{CONFIDENTIAL}\"\nclient_secret = \"{SECRET}\"\n\
         scopes = [\"email\", \"profile\", \"groups\"]\nusername_claim = \"preferred_username\"\n"
    )
}

#[test]
fn a_link_signs_in_one_browser_once() {
    let env = shop();
    let server = Server::start(&env, "");
    let link = server.link.clone().unwrap();
    // What looks at it does not use it up, and neither does another site.
    server.send("HEAD", &link, &[], b"").is(200, "");
    server.get(&link, &[]).is(200, "This link signs you in once.");
    server.form(&link, &[("sec-fetch-site", "cross-site")], "").is(403, "WL844");
    server.form(&link, &[("origin", "https://evil.example")], "").is(403, "WL844");
    // What the browser had before is not taken over.
    let planted = format!("windlass={}", "a".repeat(64));
    let headers = [("cookie", planted.as_str()), ("origin", server.url.as_str()), ("sec-fetch-site", "same-origin")];
    let answer = server.form(&link, &headers, "").is(303, "");
    assert_eq!(answer.header("location"), "/");
    let (line, secret) = answer.cookie("windlass");
    assert!(line.contains("; Path=/; HttpOnly; SameSite=Lax; Max-Age=") && !line.contains("Secure"), "{line}");
    assert!(secret.len() == 64 && !planted.contains(&secret), "{secret}");
    server.me(&planted).is(401, "WL843");
    let cookie = format!("windlass={secret}");
    let me = server.me(&cookie).is(200, "").json();
    assert!(me["identities"][0].as_str().unwrap().starts_with("user:") && me["token"].is_null(), "{me}");
    server.form(&link, &[], "").is(410, "used already or is too old");
    server.form(&format!("/sign-in/link/{}", "0".repeat(64)), &[], "").is(410, "");
    // A cookie that was changed is none.
    let last = if secret.ends_with('0') { "1" } else { "0" };
    server.me(&format!("windlass={}{last}", &secret[..63])).is(401, "");
    server.me(&format!("windlass={}", secret.to_uppercase())).is(401, "");
    server.me("windlass=").is(401, "");

    let csrf = server.csrf(&cookie);
    let with = [("cookie", cookie.as_str())];
    server.form("/sign-out", &with, "").is(403, "WL844");
    server.form("/sign-out", &with, &format!("csrf={}", "0".repeat(64))).is(403, "WL844");
    server.form("/sign-out", &[with[0], ("sec-fetch-site", "same-site")], &format!("csrf={csrf}")).is(403, "WL844");
    server.send("POST", "/sign-out", &with, format!("csrf={csrf}").as_bytes()).is(403, "WL844");
    server.me(&cookie).is(200, "");
    let answer = server.form("/sign-out", &with, &format!("csrf={csrf}")).is(303, "");
    assert_eq!(answer.header("location"), "/sign-in?because=signed-out");
    assert!(answer.cookie("windlass").0.contains("Max-Age=0"));
    server.get(answer.header("location"), &[]).is(200, "You are signed out.");
    // The same cookie once more.
    server.me(&cookie).is(401, "WL843");
    let kinds = ["session.created", "session.ended", "sign_in.refused"];
    let events = server.events(&kinds);
    let seen: Vec<&str> = events.iter().map(|(kind, _, _)| kind.as_str()).collect();
    assert_eq!(seen, ["session.created", "sign_in.refused", "sign_in.refused", "session.ended"]);
    assert!(events[..3].iter().all(|(_, _, data)| data.contains("127.0.0.1") && data.contains("link")), "{events:?}");
}

#[test]
fn what_has_ended_does_not_count() {
    let env = shop();
    let mut server = Server::start(&env, "");
    let (link, first) = (server.link.clone().unwrap(), server.data.clone());
    server.change("UPDATE tickets SET expires_at = 1 WHERE kind = 'sign_in_link'");
    drop(server);
    let mut server = Server::start(&env, "");
    assert_eq!(server.data, first);
    server.form(&link, &[], "").is(410, "");
    let (_, secret) = server.form(&server.link.clone().unwrap(), &[], "").is(303, "").cookie("windlass");
    let cookie = format!("windlass={secret}");
    let with = [("cookie", cookie.as_str()), ("x-csrf-token", &server.csrf(&cookie))];
    let made = server.post("/api/v1/tokens", &with, &json!({ "name": "report", "days": 1 })).is(201, "wlt_").json();
    let bearer = format!("Bearer {}", made["secret"].as_str().unwrap());
    let me = |server: &Server| server.get("/api/v1/me", &[("authorization", &bearer)]);
    me(&server).is(200, "");
    // The database's clock decides; what was good before the restart is good after it.
    server.change("UPDATE tickets SET expires_at = 1 WHERE kind = 'session'");
    drop(server);
    let mut server = Server::start(&env, "");
    server.me(&cookie).is(401, "");
    me(&server).is(200, "");
    server.change("UPDATE tokens SET expires_at = 1");
    drop(server);
    let server = Server::start(&env, "");
    let answer = me(&server).is(401, "WL843");
    assert_eq!(answer.header("www-authenticate"), "Bearer");
}

#[test]
fn over_tls_cookies_are_of_this_host_alone() {
    let env = shop();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::listen(&env, "url = \"https://windlass.example.com/\"", &port.to_string());
    let link = server.link.clone().unwrap();
    server.form(&link, &[("origin", "https://other.example.com")], "").is(403, "WL844");
    let answer = server.form(&link, &[("origin", "https://windlass.example.com")], "").is(303, "");
    let (line, secret) = answer.cookie("__Host-windlass");
    assert!(line.contains("; Path=/; HttpOnly; SameSite=Lax; ") && line.ends_with("; Secure"), "{line}");
    server.me(&format!("__Host-windlass={secret}")).is(200, "");
    // A cookie that any subdomain could have set.
    server.me(&format!("windlass={secret}")).is(401, "");
}

#[test]
fn people_sign_in_at_their_provider_and_may_what_their_groups_may() {
    let (env, provider) = (shop(), OidcProvider::start().unwrap());
    let server = Server::start(&env, &company(&provider));
    assert_eq!(server.link, None);
    server.get("/sign-in?next=/runs", &[]).is(200, "Continue with company").is(200, "value=\"/runs\"");
    server.form("/sign-in", &[], "provider=nobody").is(404, "WL841");
    server.form("/sign-in", &[("sec-fetch-site", "cross-site")], "provider=company").is(403, "WL844");

    let (alice, next) = server.sign_in(&provider, "alice", "%2Freviews%3Fwaiting%3Dme");
    assert_eq!(next, "/reviews?waiting=me");
    let me = wait(|| {
        let me = server.me(&alice).is(200, "").json();
        (me["teams"]["shop"] == json!(["sre"])).then_some(me)
    });
    assert_eq!(me["name"], "alice");
    let issuer = provider.issuer().strip_prefix("http://").unwrap();
    let identities = json!([
        format!("oidc:{issuer}:alice"),
        "user:alice",
        "email:alice@example.com",
        "oidc-group:dev",
        "oidc-group:sre"
    ]);
    assert_eq!(me["identities"], identities);
    server.get("/api/v1/projects/shop/runs", &[("cookie", &alice)]).is(200, "items");
    // In no group, and with an e-mail that nobody verified: signed in, and nothing is there.
    let (bob, next) = server.sign_in(&provider, "bob", "%2F%2Fevil.example");
    assert_eq!(next, "/");
    assert_eq!(server.me(&bob).is(200, "").json()["teams"], json!({}));
    server.get("/api/v1/projects/shop/runs", &[("cookie", &bob)]).is(404, "WL841");
    // The token of another session.
    let csrf = format!("csrf={}", server.csrf(&alice));
    server.form("/sign-out", &[("cookie", &bob)], &csrf).is(403, "WL844");

    // An answer counts once, in the browser that asked for it, and at the provider that was asked.
    let (there, pending) = server.begin("/");
    let back = provider.sign_in(&there, "alice").unwrap();
    server.get(&back, &[]).is(403, "another browser");
    let (there, other) = server.begin("/");
    let back = provider.sign_in(&there, "alice").unwrap();
    server.get(&back, &[("cookie", &pending)]).is(403, "another browser");
    server.get(&back, &[("cookie", &other)]).is(403, "answered before");
    let (there, pending) = server.begin("/");
    let back = provider.sign_in(&there, "alice").unwrap();
    let changed = back.replace("code=", "code=x");
    server.get(&changed, &[("cookie", &pending)]).is(403, "refuses");
    server.get(&back, &[("cookie", &pending)]).is(403, "answered before");
    let (there, pending) = server.begin("/");
    let back = provider.turn_back(&there).unwrap();
    server.get(&back, &[("cookie", &pending)]).is(403, "access_denied");
    server.get("/sign-in/company/callback?state=a&state=b", &[("cookie", &pending)]).is(403, "answered before");
    let events = server.events(&["session.created", "sign_in.refused"]);
    let entered: Vec<&str> = events.iter().filter(|e| e.0 == "session.created").map(|e| e.1.as_str()).collect();
    assert_eq!(entered, ["alice <alice@example.com>", "bob"]);
    assert_eq!(events.len(), 2 + 7, "{events:?}");
    assert!(events.iter().all(|e| e.2.contains("oidc:company") && e.2.contains("127.0.0.1")), "{events:?}");
}

#[test]
fn tokens_give_a_part_of_what_their_owner_has() {
    let (env, provider) = (shop(), OidcProvider::start().unwrap());
    let secret = env.home().join("webhook");
    std::fs::write(&secret, "a secret of tests\n").unwrap();
    let configuration = format!("webhook_secrets = [\"{}\"]\n{}", secret.display(), company(&provider));
    let server = Server::start(&env, &configuration);
    let (alice, _) = server.sign_in(&provider, "alice", "/");
    let (bob, _) = server.sign_in(&provider, "bob", "/");
    wait(|| (server.me(&alice).json()["teams"]["shop"] == json!(["sre"])).then_some(()));
    let csrf = server.csrf(&alice);
    let session = [("cookie", alice.as_str()), ("x-csrf-token", &csrf)];
    server.post("/api/v1/tokens", &[session[0]], &json!({ "name": "x" })).is(403, "WL844");
    let make = |request: Value| {
        let made = server.post("/api/v1/tokens", &session, &request).is(201, "").json();
        (made["id"].as_str().unwrap().to_owned(), format!("Bearer {}", made["secret"].as_str().unwrap()))
    };
    let runs = |bearer: &str| server.get("/api/v1/projects/shop/runs", &[("authorization", bearer)]);
    let (id, all) = make(json!({ "name": "all" }));
    let (_, reads) = make(json!({ "name": "reads", "permissions": ["project.read"], "projects": ["shop"], "days": 7 }));
    let (_, other) = make(json!({ "name": "other", "permissions": ["metrics.read"] }));
    runs(&all).is(200, "items");
    runs(&reads).is(200, "items");
    runs(&other).is(404, "");
    let me = server.get("/api/v1/me", &[("authorization", &reads)]).is(200, "").json();
    assert_eq!(me["token"], json!({ "permissions": ["project.read"], "projects": ["shop"] }));
    server.post("/api/v1/tokens", &session, &json!({ "name": "x", "projects": ["absent"] })).is(404, "");
    server.post("/api/v1/tokens", &session, &json!({ "name": "x", "days": 366 })).is(400, "WL845");
    server.post("/api/v1/tokens", &session, &json!({ "name": "x", "permissions": ["all"] })).is(400, "WL870");
    // Tokens do not make tokens, and narrow ones neither show nor end others.
    server.post("/api/v1/tokens", &[("authorization", &all)], &json!({ "name": "x" })).is(400, "cannot make another");
    assert!(server.get("/api/v1/tokens", &[("authorization", &reads)]).status >= 403);
    let path = format!("/api/v1/tokens/{id}");
    assert!(server.send("DELETE", &path, &[("authorization", &reads)], b"").status >= 403);
    let theirs = server.csrf(&bob);
    let bob = [("cookie", bob.as_str()), ("x-csrf-token", &theirs)];
    assert!(server.post("/api/v1/tokens", &bob, &json!({ "name": "x" })).status >= 403);
    server.send("DELETE", &path, &bob, b"").is(404, "");
    assert_eq!(server.get("/api/v1/tokens", &bob).is(200, "").json()["items"], json!([]));

    let list = server.get("/api/v1/tokens", &session).is(200, "").json();
    let names: Vec<&str> = list["items"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["other", "reads", "all"]);
    assert!(!list.to_string().contains("wlt_"));
    server.send("DELETE", &path, &session, b"").is(204, "");
    runs(&all).is(401, "WL843");
    server.send("DELETE", &path, &session, b"").is(404, "");
    runs("Bearer wlt_").is(401, "");
    runs(&reads.to_uppercase()).is(401, "");

    // The grant goes away: a webhook says so, and what the token gives is gone with it.
    env.write("windlass.hcl", &WINDLASS.replace("team.sre]", "team.jobs]")).unwrap();
    env.commit("Nobody of sre").unwrap();
    let body = br#"{"repository":"shop"}"#;
    let hook = |headers: &[(&str, &str)]| server.send("POST", "/webhooks", headers, body);
    hook(&[]).is(401, "WL863");
    hook(&[("x-gitlab-token", "another")]).is(401, "WL863");
    let signed = [("x-gitlab-token", "a secret of tests"), ("x-gitlab-event-uuid", "one")];
    assert_eq!(hook(&signed).is(202, "").text, "");
    wait(|| (runs(&reads).status == 404).then_some(()));
    // The same delivery again does nothing; another does.
    env.write("windlass.hcl", WINDLASS).unwrap();
    env.commit("They are back").unwrap();
    hook(&signed).is(202, "");
    let kept = "SELECT count(*) FROM tickets WHERE kind = 'webhook'";
    assert_eq!(server.database().query_row(kept, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    hook(&[signed[0], ("x-gitlab-event-uuid", "two")]).is(202, "");
    wait(|| (runs(&reads).status == 200).then_some(()));
    assert_eq!(server.database().query_row(kept, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
}

#[test]
fn a_job_exchanges_the_token_of_its_ci_once() {
    let (env, provider) = (shop(), OidcProvider::start().unwrap());
    let issuer = provider.issuer();
    let configuration = format!(
        "[[ci]]\nname = \"builds\"\nissuer = \"{issuer}\"\naudience = \"{PUBLIC}\"\nclaims = {{ sub = [\"carol\"] }}\n"
    );
    let server = Server::start(&env, &configuration);
    let token = |login: &str| provider.identity_token(login).unwrap();
    let exchange = |token: &str| server.post("/api/v1/ci/exchange", &[], &json!({ "token": token }));
    let carol = token("carol");
    let answer = exchange(&carol).is(200, "wlt_").json();
    let (now, end) = (jiff::Timestamp::now().as_microsecond(), answer["expires_at"].as_i64().unwrap());
    assert!((3000..=3600).contains(&((end - now) / 1_000_000)), "{answer}");
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let me = server.get("/api/v1/me", &[("authorization", &bearer)]).is(200, "").json();
    assert_eq!(me["identities"], json!(["ci:builds", "ci:builds:subject=carol"]));
    wait(|| (server.get("/api/v1/projects/shop/runs", &[("authorization", &bearer)]).status == 200).then_some(()));
    exchange(&carol).is(401, "WL846");
    exchange(&token("bob")).is(401, "WL807");
    exchange("nonsense").is(401, "WL808");
    exchange(&format!("{}x", token("carol"))).is(401, "WL806");
    assert_eq!(server.events(&["sign_in.refused"]).len(), 4);
}

/// Gives a job of Actions its identity token, as often as it asks: who shows the secret of the job, for this server.
fn actions(answers: Vec<String>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token?api-version=2.0", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for token in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let wanted = format!("GET /token?api-version=2.0&audience={PUBLIC} HTTP/1.1");
            let good = head[0] == wanted && head.iter().any(|line| line == "authorization: Bearer of-the-job");
            let body = if good { json!({ "value": token }) } else { json!({ "value": head.join("; ") }) }.to_string();
            let length = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
        }
    });
    url
}

#[test]
fn a_job_asks_a_server_with_nothing_but_what_its_ci_gives_it() {
    let (env, github, gitlab) = (shop(), OidcProvider::start().unwrap(), OidcProvider::start().unwrap());
    for provider in [&github, &gitlab] {
        provider.fill_tokens().unwrap();
    }
    let issuer = |name: &str, kind: &str, provider: &OidcProvider, claim: &str| {
        let issuer = provider.issuer();
        format!(
            "[[ci]]\nname = \"{name}\"\nkind = \"{kind}\"\nissuer = \"{issuer}\"\naudience = \"{PUBLIC}\"\nclaims = {{ {claim} }}\n"
        )
    };
    let configuration = issuer("builds", "github", &github, "repository = [\"org/*\"]")
        + &issuer("pipelines", "gitlab", &gitlab, "project_path = [\"group/**\"]");
    let server = Server::start(&env, &configuration);
    let ask = |variables: &[(&str, &str)]| {
        let mut command = env.command(&["runs"]);
        command.env("WINDLASS_URL", &server.url).env("WINDLASS_PROJECT", "shop").envs(variables.iter().copied());
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let works = |variables: &[(&str, &str)]| {
        let (code, said) = ask(variables);
        assert_eq!(code, Some(0), "{variables:?}: {said}");
    };
    let token = |provider: &OidcProvider, login: &str| provider.identity_token(login).unwrap();
    // Every command of a job of Actions asks for a token of its own.
    let url = actions(["job-of-ledger", "job-of-web"].map(|job| token(&github, job)).into());
    let job = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job"),
        ("WINDLASS_CI_AUDIENCE", PUBLIC),
    ];
    works(&job);
    works(&job);
    // A job of GitLab has one for all of its commands.
    let one = token(&gitlab, "job-of-gitlab");
    works(&[("WINDLASS_CI_TOKEN", &one)]);
    works(&[("WINDLASS_CI_TOKEN", &one)]);
    let kept = env.home().join(".config/windlass/credentials");
    let kept = std::fs::read_to_string(&kept).unwrap();
    assert!(!kept.contains(&one), "{kept}");
    // It is good for nobody else, who has not seen what it was exchanged for.
    server.post("/api/v1/ci/exchange", &[], &json!({ "token": one })).is(401, "WL846");
    let (code, said) = ask(&[("WINDLASS_CI_TOKEN", &token(&gitlab, "carol"))]);
    assert!(code == Some(2) && said.contains("WL807"), "{code:?} {said}");
}

#[test]
fn nobody_gets_more_than_a_share() {
    let env = shop();
    let server = Server::start(&env, "trusted_proxies = [\"127.0.0.0/8\"]");
    // Each client of the proxy has its own share, and none can take another's.
    let from = |address: &'static str| [("x-forwarded-for", address)];
    let link = format!("/sign-in/link/{}", "0".repeat(64));
    let flood = |ask: &dyn Fn() -> Answer, good: u16| {
        let refused = (0..300).map(|_| ask()).find(|answer| answer.status != good).unwrap();
        assert_eq!(refused.status, 429, "{refused:?}");
        assert!((1..=60).contains(&refused.header("retry-after").parse::<u32>().unwrap()), "{refused:?}");
        refused
    };
    flood(&|| server.form(&link, &from("192.0.2.1"), ""), 410).is(429, "Try again in");
    server.form(&link, &from("192.0.2.2"), "").is(410, "");
    server.form(&link, &from("192.0.2.2, 192.0.2.1"), "").is(429, "");
    server.form("/sign-in", &from("192.0.2.1"), "provider=x").is(429, "");
    server.post("/api/v1/ci/exchange", &from("192.0.2.1"), &json!({ "token": "x" })).is(429, "WL860");
    let wrong = [from("192.0.2.3")[0], ("authorization", "Bearer wlt_0")];
    flood(&|| server.get("/api/v1/me", &wrong), 401).is(429, "WL860");
    flood(&|| server.send("POST", "/webhooks", &from("192.0.2.4"), b"{}"), 401).is(429, "WL860");
    // Good tokens and sessions are not held up by others from the same address.
    let own = server.link.clone().unwrap();
    let (_, secret) = server.form(&own, &from("192.0.2.5"), "").is(303, "").cookie("windlass");
    let cookie = format!("windlass={secret}");
    server.get("/api/v1/me", &[wrong[0], ("cookie", &cookie)]).is(200, "");

    // Too long, and too slow. What is refused by its length alone is not read.
    let long = vec![b'x'; (1 << 20) + 1];
    server.send("POST", "/webhooks", &from("192.0.2.6"), &long).is(401, "WL863");
    let raw = |request: &str| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    };
    for (path, length) in [("/api/v1/ci/exchange", (1 << 20) + 1), ("/webhooks", (25 << 20) + 1)] {
        let answer = raw(&format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("WL861"), "{answer}");
    }
    let begun = Instant::now();
    assert_eq!(raw("GET /sign-in HTTP/1.1\r\nHost: x\r\n"), "");
    assert!((5..25).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    for path in [
        "/assets/../Cargo.toml",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2fetc%2fpasswd",
        "/../etc/passwd",
    ] {
        let answer = raw(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 40") && !answer.contains("root:"), "{path}: {answer}");
    }
    // Every answer says how it is to be taken, and can be found again.
    let answer = server.get("/sign-in", &[]).is(200, "");
    assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert_eq!((answer.header("cache-control"), answer.header("x-content-type-options")), ("no-store", "nosniff"));
    assert_eq!(answer.header("x-correlation-id").len(), 26);
}

/// What a person does, in a browser.
const WALK: &str = r#"
import { createRequire } from 'node:module';

const [library, executablePath, base] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(library);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
try {
  const context = await browser.newContext();
  const page = await context.newPage();
  const violations = [];
  page.on('console', (message) => /content security policy/i.test(message.text()) && violations.push(message.text()));
  const me = async () => {
    const answer = await context.request.get(`${base}/api/v1/me`);
    return { status: answer.status(), name: (await answer.json()).name };
  };
  await page.goto(`${base}/sign-in?next=/`);
  await page.getByRole('button', { name: 'Continue with company' }).click();
  await page.locator('input[name=login]').fill('alice');
  await page.locator('input[name=password]').fill('any');
  await page.locator('[type=submit]').click();
  await Promise.all([
    page.waitForResponse(`${base}/`),
    page.locator('button[type=submit]', { hasText: 'Continue' }).click(),
  ]);
  const inside = await me();
  // Home says who somebody is, and what waits for them.
  await page.getByText('nothing needs you').waitFor();
  const home = (await page.locator('main').innerText()).split('\n').filter((line) => line).slice(0, 3);
  // The provider of this test is on the same host, and has some of its own.
  const ours = (await context.cookies(base)).filter(({ name }) => name.startsWith('windlass'));
  const cookies = ours.map(({ name, httpOnly, sameSite }) => ({ name, httpOnly, sameSite }));
  // A page of somebody else cannot sign this person out.
  const other = await context.newPage();
  await other.setContent(`<form method="post" action="${base}/sign-out"><button>Win</button></form>`);
  const [refused] = await Promise.all([other.waitForResponse(`${base}/sign-out`), other.getByRole('button').click()]);
  const kept = await me();
  await page.goto(`${base}/sign-in`);
  const readable = await page.evaluate(() => document.cookie);
  const user = await page.locator('.user bdi').innerText();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL(`${base}/sign-in?because=signed-out`);
  const goodbye = await page.getByRole('status').filter({ hasText: 'signed out' }).innerText();
  const outside = await me();
  console.log(JSON.stringify({ inside, home, cookies, readable, refused: refused.status(), kept, user, goodbye, outside, violations }));
} finally {
  await browser.close();
}
"#;

/// The folder of `playwright-core`, which is installed once from npm into the cache of this machine's user. It drives the
/// machine's Chromium and brings none.
fn playwright() -> PathBuf {
    const VERSION: &str = "1.65.1";
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"));
    let tests = cache.join("windlass-tests");
    let installed = tests.join(format!("playwright-core-{VERSION}"));
    let library = installed.join("node_modules/playwright-core");
    if !library.join("index.js").is_file() {
        std::fs::create_dir_all(&tests).unwrap();
        // Several test programs may do this at once: each in a folder of its own, and the first to be done wins.
        let folder = tests.join(format!("installing-playwright-{}", std::process::id()));
        let output = Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .arg(format!("playwright-core@{VERSION}"))
            .output()
            .expect("npm is needed: `apt-get install nodejs npm`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if std::fs::rename(&folder, &installed).is_err() {
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
    library
}

#[test]
fn a_person_signs_in_and_out_in_a_browser() {
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(|name| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap())
            .map(|path| path.join(name))
            .find(|path| path.is_file())
    });
    let chromium = chromium.expect("Chromium is needed: `apt-get install chromium`");
    let (env, provider) = (shop(), OidcProvider::start().unwrap());
    let server = Server::start(&env, &company(&provider));
    let script = env.home().join("walk.mjs");
    std::fs::write(&script, WALK).unwrap();
    let output = Command::new("node")
        .args([script, playwright(), chromium])
        .arg(&server.url)
        // The browser keeps its own things there.
        .env("HOME", env.home())
        .output()
        .expect("Node is needed: `apt-get install nodejs`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let alice = json!({ "status": 200, "name": "alice" });
    let wanted = json!({
        "inside": alice,
        "home": ["What needs you", "You are alice, in sre of shop.", "All is well: nothing needs you."],
        "cookies": [{ "name": "windlass", "httpOnly": true, "sameSite": "Lax" }],
        "readable": "",
        "refused": 403,
        "kept": alice,
        "user": "alice",
        "goodbye": "You are signed out.",
        "outside": { "status": 401 },
        "violations": [],
    });
    assert_eq!(seen, wanted);
}
