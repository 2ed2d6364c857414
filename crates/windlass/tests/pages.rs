//! The pages of the real program: each is fetched, each form is sent, and what is refused says why; in a real browser too.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;
#[path = "pages/deeds.rs"]
mod deeds;
#[path = "pages/operations.rs"]
mod operations;
#[path = "pages/scale.rs"]
mod scale;
#[path = "pages/ways.rs"]
mod ways;

use common::wait;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use ureq::Agent;
use windlass_testkit::cli::CliEnv;

/// A directory that wants to be more than a name.
const HOSTILE: &str = "x\"><img src=x onerror=alert(1)>'&amp; <b>";

const WINDLASS: &str = r#"
project "shop" {
  environment "production" {
    match = ["**"]
    approvals {
      count = 1
      from  = [team.sre]
    }
  }
}
team "sre" { members = ["email:anna@example.com"] }
team "dev" { members = ["email:bob@example.com"] }
grant "sre" {
  to   = [team.sre]
  role = "admin"
}
grant "dev" {
  to   = [team.dev]
  role = "viewer"
}
"#;

/// A stack whose state is where every checkout finds it.
fn stack(states: &Path, name: &str, body: &str) -> String {
    let path = states.join(format!("{name}.tfstate"));
    format!("terraform {{\n  backend \"local\" {{\n    path = \"{}\"\n  }}\n}}\n{body}", path.display())
}

/// With these files, as they are made with the directory that states are kept in.
fn repository_of(files: impl FnOnce(&Path) -> Vec<(String, String)>) -> CliEnv {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let states = env.home().join("states");
    std::fs::create_dir_all(&states).unwrap();
    env.write(".gitignore", common::IGNORE).unwrap();
    for (path, text) in files(&states) {
        env.write(&path, &text).unwrap();
    }
    env.commit("Stacks").unwrap();
    env
}

fn repository() -> CliEnv {
    repository_of(files)
}

fn files(states: &Path) -> Vec<(String, String)> {
    let slow = "resource \"terraform_data\" \"net\" {\n  input = \"net\"\n  provisioner \"local-exec\" {\n    command = \"for n in 1 2 3 4 5; do echo line $n; sleep 0.2; done\"\n  }\n}\noutput \"id\" {\n  value = terraform_data.net.output\n}\n";
    let net = states.join("net.tfstate");
    let app = format!(
        "data \"terraform_remote_state\" \"net\" {{\n  backend = \"local\"\n  config = {{\n    path = \"{}\"\n  }}\n}}\nresource \"terraform_data\" \"app\" {{\n  input = data.terraform_remote_state.net.outputs.id\n}}\n",
        net.display()
    );
    let plain = "resource \"terraform_data\" \"x\" {\n  input = 1\n}\n";
    vec![
        ("windlass.hcl".to_owned(), WINDLASS.to_owned()),
        ("net/main.tf".to_owned(), stack(states, "net", slow)),
        ("app/main.tf".to_owned(), stack(states, "app", &app)),
        (format!("{HOSTILE}/main.tf"), stack(states, "hostile", plain)),
    ]
}

/// `windlass serve`, and what a browser has of it.
struct Server {
    child: Child,
    url: String,
    data: PathBuf,
    agent: Agent,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody who is signed in.
struct Person {
    cookie: String,
    csrf: String,
}

struct Answer {
    status: u16,
    location: String,
    text: String,
}

impl Answer {
    #[track_caller]
    fn is(self, status: u16, texts: &[&str]) -> Self {
        assert_eq!(self.status, status, "{}{}", self.location, self.text);
        for text in texts {
            assert!(self.text.contains(text), "no `{text}` in {}", self.text);
        }
        self
    }

    /// Where it leads.
    #[track_caller]
    fn leads(self, notice: &str) -> String {
        assert_eq!(self.status, 303, "{}", self.text);
        let (path, code) = self.location.split_once("?notice=").unwrap_or((&self.location, ""));
        assert_eq!(code, notice, "{}", self.location);
        path.to_owned()
    }
}

impl Server {
    fn start(env: &CliEnv) -> Self {
        Self::with(env, &[])
    }

    fn with(env: &CliEnv, more: &[&str]) -> Self {
        let data = env.home().join("data");
        let repository = format!("shop={}", env.root().display());
        let log = File::create(env.home().join("server.log")).unwrap();
        let mut child = env
            .command(&["serve", "--listen", "127.0.0.1:0", "--repository", &repository])
            .args(more)
            .arg("--data")
            .arg(&data)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.map(Result::unwrap).find_map(|line| Some(line.split_once("istening on ")?.1.trim().to_owned()));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Self { child, url: url.unwrap(), data, agent }
    }

    /// A session as a sign-in leaves it.
    fn person(&self, name: &str) -> Person {
        let (secret, csrf) = (format!("{name:0<64}"), format!("csrf-{name}"));
        let digest: String = Sha256::digest(&secret).iter().map(|byte| format!("{byte:02x}")).collect();
        let actor = serde_json::json!({
            "name": name, "identities": [format!("email:{name}@example.com")], "verified": true,
        });
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        let session = serde_json::json!({ "actor": actor, "csrf": csrf, "since": now, "renewed": now });
        let database = rusqlite::Connection::open(self.data.join("windlass.db")).unwrap();
        database.busy_timeout(Duration::from_secs(30)).unwrap();
        let row = ("session", digest, session.to_string(), now + 3_600_000_000);
        database.execute("INSERT INTO tickets (kind, name, value, expires_at) VALUES (?, ?, ?, ?)", row).unwrap();
        Person { cookie: format!("windlass={secret}"), csrf }
    }

    fn get(&self, person: Option<&Person>, path: &str) -> Answer {
        let mut request = self.agent.get(format!("{}{path}", self.url)).header("accept", "text/html");
        if let Some(person) = person {
            request = request.header("cookie", &person.cookie);
        }
        answer(request.call().unwrap())
    }

    fn page(&self, person: &Person, path: &str) -> Answer {
        let answer = self.get(Some(person), path);
        assert!(!answer.text.contains("<img") && !answer.text.contains("<b>"), "{path}: a name became an element");
        answer
    }

    fn send(&self, person: &Person, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![("csrf", person.csrf.as_str())];
        all.extend(fields);
        let request = self.agent.post(format!("{}{path}", self.url)).header("accept", "text/html");
        answer(request.header("cookie", &person.cookie).send_form(all).unwrap())
    }

    /// Waits until a page says this.
    fn says(&self, person: &Person, path: &str, text: &str) -> String {
        wait(|| Some(self.page(person, path)).filter(|page| page.text.contains(text))).text
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let location = response.headers().get("location").map_or("", |to| to.to_str().unwrap()).to_owned();
    let status = response.status().as_u16();
    Answer { status, location, text: response.body_mut().read_to_string().unwrap() }
}

fn encoded(name: &str) -> String {
    name.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// The value of a hidden field of a page.
fn field<'a>(page: &'a str, name: &str) -> &'a str {
    page.split_once(&format!("name=\"{name}\" value=\"")).and_then(|(_, rest)| rest.split('"').next()).unwrap()
}

#[test]
fn every_page_is_there_and_every_form_does_what_it_says() {
    let env = repository();
    let server = Server::start(&env);
    let (anna, bob, carol) = (server.person("anna"), server.person("bob"), server.person("carol"));
    server.says(&anna, "/stacks", "net");

    // Who is not signed in is led to where they can be; a program is told.
    let answer = server.get(None, "/runs?state=failed").is(303, &[]);
    assert_eq!(answer.location, "/sign-in?next=%2Fruns%3Fstate%3Dfailed");
    server.get(None, "/assets/style.css").is(200, &[]);
    server.get(None, "/assets/review.css").is(200, &[]);
    server.get(None, "/assets/..%2fCargo.toml").is(404, &["Not found"]);

    let hostile = format!("/stacks/shop/{}", encoded(HOSTILE));
    for (path, text) in [
        ("/", "need"),
        ("/stacks", "&#60;img src=x"),
        ("/stacks?q=img&sort=state", "&#60;img src=x"),
        ("/stacks?view=graph", "&#60;img src=x"),
        ("/stacks?state=never-applied&environment=production&project=shop", "never applied"),
        (&hostile, "&#60;img src=x"),
        ("/stacks/shop/app", "app/main.tf:"),
        ("/drift", "not checked"),
        ("/drift?project=shop", "Check all stacks now"),
        ("/reviews", "no review yet"),
        ("/runs", "Nothing has run yet"),
        ("/events?kind=session.", "No event matches"),
        ("/settings", "windlass.hcl:"),
        ("/terminal", "shows a code in the terminal"),
        ("/access", "What each role gives"),
        ("/access?permission=review.apply&subject=shop:net", "Yes, this is allowed"),
        ("/access?permission=review.apply&subject=shop:net&actor=email:bob@example.com", "No, this is not allowed"),
    ] {
        if !(path == "/" && server.page(&anna, path).text.contains("All is well")) {
            server.page(&anna, path).is(200, &[text]);
        }
    }
    server.page(&anna, "/nowhere").is(404, &["Not found", "Sign out"]);
    server.page(&anna, "/runs/01k").is(404, &["Not found"]);
    server.page(&anna, "/reviews/01k").is(404, &["Not found"]);
    server.page(&anna, "/stacks/shop/absent").is(404, &["Not found"]);
    server.page(&anna, "/stacks?project=other").is(404, &["Not found"]);

    // Somebody without any grant sees nothing; somebody who may only read is told why not more.
    for path in ["/stacks/shop/net", "/stacks?project=shop", "/events", "/reviews/01k"] {
        server.page(&carol, path).is(404, &[]);
    }
    assert!(!server.page(&carol, "/stacks").is(200, &["No stack is known yet"]).text.contains("net"));
    assert!(!server.page(&bob, "/stacks/shop/net").is(200, &["Cannot be reviewed"]).text.contains("/actions/review"));
    let forms: [(&str, &[(&str, &str)]); 5] = [
        ("/actions/review", &[("project", "shop"), ("stack", "net")]),
        ("/actions/drift", &[("project", "shop"), ("stack", "net")]),
        ("/actions/unlock", &[("project", "shop"), ("lock", "stack:net"), ("reason", "it is dead")]),
        ("/actions/recover", &[("project", "shop"), ("instance", "net"), ("reason", "I looked")]),
        ("/settings/repositories/fetch", &[("repository", "shop")]),
    ];
    for (path, fields) in forms {
        server.send(&bob, path, fields).is(403, &["You may not do this", "Why"]);
        server.send(&carol, path, fields).is(404, &["Not found"]);
    }
    server.send(&bob, "/settings/tokens", &[("name", "mine"), ("days", "30")]).is(403, &[]);
    let forged = Person { csrf: "another".into(), cookie: anna.cookie.clone() };
    server.send(&forged, "/actions/review", &[("project", "shop"), ("stack", "net")]).is(403, &["does not come from"]);

    // What cannot be done now says so, with what was typed.
    let unlock = [("project", "shop"), ("lock", "stack:net"), ("reason", "it is <dead>")];
    server.send(&anna, "/actions/unlock", &unlock).is(404, &["WL660"]);
    server
        .send(&anna, "/settings/tokens", &[("name", "my <own>"), ("days", "9999")])
        .is(400, &["WL845", "value=\"my &#60;own&#62;\"", "Send it again"]);

    // From a stack to its review, an approval, an apply and its history.
    let run = server.send(&anna, "/actions/review", &[("project", "shop"), ("stack", "net")]).leads("begun");
    server.says(&anna, &run, "</h1> <span class=\"badge ok\">succeeded</span>");
    server.page(&anna, &format!("{run}?notice=begun")).is(200, &["It has begun; this page follows it."]);
    let review = run.replace("/runs/", "/reviews/");
    let page =
        server.page(&anna, &review).is(200, &["asks for 1 approval", "<code>net</code>", "approvals are missing"]).text;
    let (effect, commit) = (field(&page, "effect").to_owned(), field(&page, "commit").to_owned());
    server.page(&anna, "/").is(200, &["Approvals waiting for you", &review]);
    server.page(&anna, "/reviews?waiting=me").is(200, &[&review]);
    server.page(&anna, "/reviews?search=MAI&state=open&verdict=needs_approval").is(200, &[&review]);
    assert!(!server.page(&anna, "/reviews?search=ma_n").text.contains(&review));
    assert!(!server.page(&bob, "/reviews?waiting=me").text.contains(&review));
    server.page(&bob, &review).is(200, &["<strong>Approving</strong> is not possible"]);
    let seen: [(&str, &str); 3] = [("effect", &effect), ("commit", &commit), ("reason", "looks right")];
    for deed in ["approve", "refuse", "apply"] {
        server.send(&bob, &format!("{review}/{deed}"), &seen).is(403, &["You may not do this"]);
        server.send(&carol, &format!("{review}/{deed}"), &seen).is(404, &[]);
    }
    server.send(&anna, &format!("{review}/apply"), &seen).is(409, &["WL612", "looks right"]);
    let stale = [("effect", "another"), ("commit", commit.as_str()), ("reason", "typed \"before\"")];
    server.send(&anna, &format!("{review}/approve"), &stale).is(409, &["WL847", "typed &#34;before&#34;"]);
    let waive = [("finding", "abcd1234"), ("reason", "later"), ("days", "3")];
    assert_eq!(server.send(&anna, &format!("{review}/waive"), &waive).status / 100, 4);
    server.send(&anna, &format!("{review}/approve"), &seen).leads("approved");
    server.page(&anna, &review).is(200, &["looks right"]);
    server.send(&anna, &format!("{review}/apply"), &seen).leads("applying");
    let page = server.says(&anna, &review, "<h2 id=\"review-live-title\">The apply</h2>");
    let apply = page.split_once("<a href=\"/runs/").unwrap().1.split('"').next().unwrap().to_owned();
    let apply = format!("/runs/{}", apply.split(['#', '?']).next().unwrap());
    server.page(&anna, &apply).is(200, &["succeeded", "Apply net", "at work"]);
    server.page(&anna, "/stacks/shop/net").is(200, &["1 to create", &apply, "not checked"]);
    server.page(&anna, "/runs?stack=net").is(200, &[&apply]);
    assert!(!server.page(&anna, "/runs?stack=app").text.contains(&apply));
    server.page(&anna, "/runs?search=MAIN&kind=apply&state=succeeded").is(200, &[&apply]);
    server.page(&anna, &format!("/events?run={}", &apply[6..])).is(200, &["run.succeeded", "step.succeeded"]);
    server.page(&anna, "/events?actor=anna%20%3Canna@example.com%3E&kind=approval.given").is(200, &["looks right"]);
    for deed in ["cancel", "resume", "settle", "approve", "repeat", "roll-back"] {
        let fields = [("reason", "no"), ("step", "apply:net"), ("answer", "done"), ("effect", "x")];
        server.send(&carol, &format!("{apply}/{deed}"), &fields).is(404, &[]);
        let refused = if deed == "approve" { 409 } else { 403 };
        server.send(&bob, &format!("{apply}/{deed}"), &fields).is(refused, &[]);
    }
    server.send(&anna, &format!("{apply}/cancel"), &[("reason", "too late")]).leads("ended");
    server.send(&anna, &format!("{apply}/resume"), &[]).is(409, &["WL617"]);
    server.send(&anna, &format!("{apply}/repeat"), &[]).is(409, &["WL839"]);
    let again = server.send(&anna, &format!("{run}/repeat"), &[]).leads("begun");
    server.says(&anna, &again, "</h1> <span class=\"badge ok\">succeeded</span>");

    // Drift, hostile names in runs and reviews, a refusal.
    let looked = server.send(&anna, "/actions/drift", &[("project", "shop"), ("stack", "net")]).leads("begun");
    server.says(&anna, &looked, "</h1> <span class=\"badge ok\">succeeded</span>");
    server.page(&anna, "/drift").is(200, &["1 in sync"]);
    server.page(&anna, "/stacks?state=in-sync").is(200, &[">net</a>"]);
    let run = server.send(&anna, "/actions/review", &[("project", "shop"), ("stack", HOSTILE)]).leads("begun");
    server.says(&anna, &run, "</h1> <span class=\"badge ok\">succeeded</span>");
    server.page(&anna, &run).is(200, &["&#60;img"]);
    let review = run.replace("/runs/", "/reviews/");
    let page = server.page(&anna, &review).is(200, &["img src=x onerror=alert(1)"]).text;
    let seen = [("effect", field(&page, "effect")), ("commit", field(&page, "commit")), ("reason", "not like <this>")];
    server.send(&anna, &format!("{review}/refuse"), &seen).leads("refused");
    server.page(&anna, &review).is(200, &["not like &#60;this&#62;"]);
    for path in ["/", "/runs", "/reviews", "/events", "/stacks"] {
        server.page(&anna, path).is(200, &[]);
    }

    // A token is shown once, and revoked.
    let made = server.send(&anna, "/settings/tokens", &[("name", "night"), ("days", "30"), ("scope", "project.read")]);
    let page = made.is(200, &["shown this once", "wlt_"]).text;
    let token = page.split_once("<pre>wlt_").unwrap().1.split('<').next().unwrap().to_owned();
    let listed = server.page(&anna, "/settings").is(200, &["night"]).text;
    server.page(&anna, "/settings/tokens").is(200, &["night"]);
    assert!(!listed.contains(&token), "the secret is shown again");
    server.send(&anna, "/settings/tokens/revoke", &[("token", field(&listed, "token"))]).leads("revoked");
    server.send(&anna, "/settings/repositories/fetch", &[("repository", "shop")]).leads("fetching");
}

/// Where `playwright-core` and `axe-core` are: installed once, with npm and from its registry, into the cache of this user.
fn modules() -> PathBuf {
    const PACKAGES: [&str; 2] = ["playwright-core@1.64.1", "axe-core@4.14.1"];
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME has to be set")).join(".cache"));
    let tests = cache.join("windlass-tests");
    let installed = tests.join("walk-1.64.1-4.14.1");
    if installed.join("node_modules/axe-core/axe.min.js").is_file() {
        return installed;
    }
    std::fs::create_dir_all(&tests).unwrap();
    // Several test programs may do this at once: each in a folder of its own, and the first to be done wins.
    let folder = tempfile::Builder::new().prefix("installing-").tempdir_in(&tests).unwrap();
    let output = Command::new("npm")
        .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
        .arg(folder.path())
        .args(PACKAGES)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("npm has to be installed: the walk runs playwright-core");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    if std::fs::rename(folder.path(), &installed).is_err() {
        assert!(installed.join("node_modules/axe-core/axe.min.js").is_file(), "the packages cannot be kept");
    }
    installed
}

/// Pictures of each page are left in the directory that `WINDLASS_SHOTS` names.
#[test]
fn a_person_walks_through_the_pages_wide_and_narrow_light_and_dark() {
    let env = repository();
    let server = Server::start(&env);
    let anna = server.person("anna");
    server.says(&anna, "/stacks", "net");
    let shots = std::env::var("WINDLASS_SHOTS").unwrap_or_default();
    if !shots.is_empty() {
        std::fs::create_dir_all(&shots).unwrap();
    }
    let secret = anna.cookie.strip_prefix("windlass=").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pages/walk.mjs");
    let output = Command::new("node")
        .arg(script)
        .arg(modules())
        .args([&server.url, secret, &shots])
        .stdin(Stdio::null())
        .output()
        .expect("node has to be installed: the walk runs playwright-core");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("walked"), "{told}");
}
