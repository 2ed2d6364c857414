//! A terminal gets its token by a code that somebody confirms in a browser.

use super::World;
use super::common::run;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use ureq::Agent;
use windlass_app::audit::Archive;
use windlass_app::sessions::{self, Way};

/// A browser of somebody who is signed in.
pub struct Browser {
    agent: Agent,
    url: String,
    cookie: String,
    pub csrf: String,
}

impl Browser {
    pub fn new(world: &World, url: &str, name: &str) -> Self {
        let (secret, csrf) = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let store = Archive::open(None, &world.data).await.unwrap().store;
            let way = Way { how: "test", address: IpAddr::V4(Ipv4Addr::LOCALHOST) };
            let secret = sessions::session_create(&store, &World::actor(name), way).await.unwrap();
            let csrf = sessions::session_use(&store, &secret).await.unwrap().unwrap().csrf;
            store.close().await;
            (secret, csrf)
        });
        let agent = Agent::config_builder().http_status_as_error(false).max_redirects(0).build().new_agent();
        Self { agent, url: url.to_owned(), cookie: format!("windlass={secret}"), csrf }
    }

    #[track_caller]
    fn get(&self, path: &str, status: u16, texts: &[&str]) {
        let request = self.agent.get(format!("{}{path}", self.url)).header("accept", "text/html");
        let mut answer = request.header("cookie", &self.cookie).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}: {text}");
        texts.iter().for_each(|wanted| assert!(text.contains(wanted), "{path} does not say `{wanted}`: {text}"));
    }

    #[track_caller]
    pub fn post(&self, path: &str, csrf: &str, code: &str, status: u16, texts: &[&str]) {
        let request = self.agent.post(format!("{}{path}", self.url)).header("accept", "text/html");
        let form = [("csrf", csrf), ("code", code)];
        let mut answer = request.header("cookie", &self.cookie).send_form(form).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}: {text}");
        texts.iter().for_each(|wanted| assert!(text.contains(wanted), "{path} does not say `{wanted}`: {text}"));
    }
}

/// A terminal that waits, and the code that it shows.
pub fn login(world: &World, arguments: &[&str]) -> (Child, String) {
    let mut command = world.env.command(&[&["login"], arguments].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.as_mut().unwrap()).lines().map(Result::unwrap);
    let code = lines.find_map(|line| Some(line.split_once("shows the code ")?.1.to_owned())).unwrap();
    (child, code)
}

#[track_caller]
pub fn ended(mut child: Child, code: i32, texts: &[&str]) {
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(code), "{said}");
    texts.iter().for_each(|text| assert!(said.contains(text), "no `{text}` in {said}"));
}

#[test]
fn a_terminal_gets_a_token_that_somebody_confirms() {
    let mut world = World::new();
    let url = world.url.clone();
    let token = std::mem::take(&mut world.token);
    world.env.set("WINDLASS_TOKEN", "");
    let ana = Browser::new(&world, &url, "ana");
    let file = world.env.home().join(".config/windlass/credentials");

    let (terminal, code) = login(&world, &[]);
    let page = format!("/terminal?code={}", code.to_lowercase());
    ana.get(&page, 200, &["Does your terminal show exactly this code?", "all that you may do", "30 days", "127.0.0.1"]);
    // Nothing that opens anything is in the database.
    let kept = std::fs::read(world.data.join("windlass.db")).unwrap();
    let log = std::fs::read(world.data.join("windlass.db-wal")).unwrap_or_default();
    let written = |bytes: &[u8]| kept.windows(bytes.len()).chain(log.windows(bytes.len())).any(|found| found == bytes);
    assert!(written(b"login_code") && !written(code.as_bytes()) && !written(code.replace('-', "").as_bytes()));
    // The form of another site, a token, and somebody else's code.
    ana.post("/terminal/approve", "wrong", &code, 403, &["does not come from a page of Windlass"]);
    ana.post("/terminal/approve", &ana.csrf, "BBBB-BBBB", 404, &["no terminal waits with this code"]);
    let by_token = ana.agent.post(format!("{url}/terminal/approve")).header("authorization", format!("Bearer {token}"));
    assert_eq!(by_token.send_form([("code", code.as_str())]).unwrap().status().as_u16(), 400, "a token made a token");
    // Whoever may have none.
    let eve = Browser::new(&world, &url, "eve");
    eve.post("/terminal/approve", &eve.csrf, &code, 403, &["may not"]);
    ana.post("/terminal/approve", &ana.csrf, &code, 303, &[]);
    ana.post("/terminal/approve", &ana.csrf, &code, 404, &["no terminal waits with this code"]);
    ended(terminal, 0, &["Signed in to http://127.0.0.1:", " as ana", " until "]);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    world.expect(&["whoami"], 0, &["ana on http://127.0.0.1:"]);
    let events = world.expect(&["audit", "log", "--kind", "login."], 0, &["login.asked", "login.approved", "ana"]);
    assert!(!events.contains("wlt_"), "{events}");

    // The environment goes before the file.
    world.sign_in("eve");
    world.expect(&["whoami"], 0, &["eve on"]);
    world.env.set("WINDLASS_TOKEN", "");
    let permissions = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&file, permissions).unwrap();
    world.expect(&["whoami"], 2, &["error[WL922]", "others than its owner may read it", "chmod 600"]);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();

    // A token that may little still ends itself.
    world.expect(&["logout"], 0, &["the token is not good any more"]);
    world.expect(&["logout"], 1, &["No token for"]);
    world.expect(&["whoami"], 2, &["error[WL884]", "windlass login"]);
    let (terminal, code) =
        login(&world, &["--permission", "project.read", "--only", "company", "--days", "1", "--json"]);
    ana.get(&format!("/terminal?code={code}"), 200, &["project.read", "company", "1 day"]);
    ana.post("/terminal/approve", &ana.csrf, &code, 303, &[]);
    ended(terminal, 0, &["\"owner\": \"ana"]);
    world.expect(&["stacks"], 0, &["net"]);
    world.expect(&["drift"], 1, &["WL840"]);
    let kept = std::fs::read_to_string(&file).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    let gone = kept["servers"][&url]["token"].as_str().unwrap().to_owned();
    world.expect(&["logout"], 0, &[]);
    world.env.set("WINDLASS_TOKEN", gone);
    world.expect(&["whoami"], 2, &["error[WL843]"]);
    world.env.set("WINDLASS_TOKEN", "");

    // Somebody says no; nobody says anything.
    let (terminal, code) = login(&world, &[&url]);
    eve.post("/terminal/refuse", &eve.csrf, &code, 303, &[]);
    ended(terminal, 1, &["error[WL921]", "eve", "refused this terminal a token"]);
    let (terminal, code) = login(&world, &[]);
    let database = rusqlite::Connection::open(world.data.join("windlass.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    database.execute("UPDATE tickets SET expires_at = 1 WHERE kind IN ('login', 'login_code')", ()).unwrap();
    ended(terminal, 2, &["error[WL920]", "within ten minutes"]);
    ana.get(&format!("/terminal?code={code}"), 404, &["no terminal waits with this code"]);
    assert_eq!(run(&world.env, &["login", "--days", "400"]).code, Some(2));
    assert_eq!(std::fs::read_to_string(&file).unwrap().matches("wlt_").count(), 0);
    // Codes are not to be tried out.
    let tried = |_: &i32| {
        let request = ana.agent.get(format!("{url}/terminal?code=BBBB-BBBB")).header("accept", "text/html");
        request.header("cookie", &ana.cookie).call().unwrap().status().as_u16() == 429
    };
    assert!((0..500).find(tried).is_some(), "nobody was held up");
}
