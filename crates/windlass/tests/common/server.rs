//! `windlass serve` of the repository `shop`, with somebody signed in who may do everything.

use super::wait;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use windlass_testkit::cli::CliEnv;

pub struct Server {
    pub child: Child,
    pub url: String,
    pub data: PathBuf,
    /// What the one-time link held.
    pub link: String,
    /// `windlass=SECRET`.
    pub cookie: String,
    pub csrf: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// The run that an answer names.
#[track_caller]
pub fn run_of(value: &Value) -> String {
    value["run"].as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

impl Server {
    /// What it says goes into `server.log` in the home of `env`.
    pub fn start(env: &CliEnv, configuration: &str) -> Self {
        let repository = format!("[[repository]]\nname = \"shop\"\nurl = \"{}\"\n", env.root().display());
        Self::of(env, &format!("{configuration}\n{repository}"))
    }

    /// As [`Server::start`], with all of the configuration; a repository in it is called `shop`.
    pub fn of(env: &CliEnv, configuration: &str) -> Self {
        let (file, data) = (env.home().join("windlass.toml"), env.home().join("data"));
        std::fs::write(&file, configuration).unwrap();
        let log = File::options().create(true).append(true).open(env.home().join("server.log")).unwrap();
        let mut child = env
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .args([Path::new("--config"), &file, Path::new("--data"), &data])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut link, mut url) = (String::new(), None);
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some((_, secret)) = line.split_once("/sign-in/link/") {
                link = secret.trim().to_owned();
            }
            if let Some(rest) = line.strip_prefix("Listening on ") {
                url = Some(rest.to_owned());
                break;
            }
        }
        // Nobody else reads it.
        std::thread::spawn(move || lines.for_each(drop));
        let log = || std::fs::read_to_string(env.home().join("server.log")).unwrap();
        let url = url.unwrap_or_else(|| panic!("it does not say where it listens: {}", log()));
        let mut server = Self { child, url, data, link, cookie: String::new(), csrf: String::new() };
        (server.cookie, server.csrf) = server.sign_in(&server.link);
        wait(|| (!server.get("/api/v1/projects/shop").json()["commit"].is_null()).then_some(()));
        server
    }

    /// A session of its own: its cookie, and the token of its forms.
    pub fn sign_in(&self, link: &str) -> (String, String) {
        let answer = self.send("POST", &format!("/sign-in/link/{link}"), &[], b"");
        assert_eq!(answer.status, 303, "{}", answer.text());
        let set = answer.headers["set-cookie"].to_str().unwrap();
        let cookie = set.split(';').next().unwrap().to_owned();
        let page = self.send("GET", "/sign-in", &[("cookie", &cookie)], b"").text();
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        (cookie, csrf)
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).proxy(None);
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let agent = agent.build().new_agent();
        let mut answer = match method {
            "POST" => agent.run(request.body(body.to_vec()).unwrap()).unwrap(),
            _ => agent.run(request.body(()).unwrap()).unwrap(),
        };
        let bytes = answer.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap();
        Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), bytes }
    }

    /// As the one who is signed in.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[("cookie", &self.cookie)], b"")
    }

    /// Whatever comes of it.
    pub fn ask(&self, path: &str, body: &Value) -> Answer {
        let headers = [("cookie", &*self.cookie), ("x-csrf-token", &*self.csrf), ("content-type", "application/json")];
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask(path, body);
        assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// Waits until a step is in a state.
    #[track_caller]
    pub fn comes_to(&self, run: &str, step: &str, state: &str) {
        wait(|| {
            let shown = self.get(&format!("/api/v1/runs/{run}")).json();
            let steps = shown["steps"].as_array()?;
            steps.iter().any(|found| found["id"] == step && found["state"] == state).then_some(())
        });
    }

    /// Waits for the end of a run and gives its state.
    #[track_caller]
    pub fn ended(&self, run: &str) -> String {
        let ended = wait(|| {
            let shown = self.get(&format!("/api/v1/runs/{run}")).json();
            (!shown["run"]["ended_at"].is_null()).then_some(shown)
        });
        ended["run"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Reviews everything and applies it: the two runs, and how the second ended.
    #[track_caller]
    pub fn apply(&self, stacks: &[&str]) -> (String, String, String) {
        let review = run_of(&self.post("/api/v1/projects/shop/reviews", &serde_json::json!({ "stacks": stacks })));
        assert_eq!(self.ended(&review), "succeeded");
        let document = self.get(&format!("/api/v1/reviews/{review}?format=json")).json();
        let seen = serde_json::json!({ "effect": document["effect_digest"], "commit": document["head"]["commit"] });
        let apply = run_of(&self.post(&format!("/api/v1/reviews/{review}/apply"), &seen));
        let state = self.ended(&apply);
        (review, apply, state)
    }

    /// The whole log of a step, as it is stored.
    pub fn log(&self, run: &str, step: &str) -> Answer {
        let step = step.replace(':', "%3A").replace('/', "%2F");
        self.get(&format!("/api/v1/runs/{run}/steps/{step}/log"))
    }
}
