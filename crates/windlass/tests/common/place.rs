//! A repository that a server follows, and somebody who asks it.

use super::program::{Program, get};
use super::wait;
use windlass_app::configuration::Configuration;
use windlass_app::tokens::Record;
use windlass_app::{installation, sessions};
use windlass_model::access::TokenScope;
use windlass_model::approval::Actor;
use windlass_policy::limits::Worker;
use windlass_testkit::cli::CliEnv;

/// A `traceparent` that reviews are asked for with.
pub const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A repository with one stack, the program's data beside it, and a token for it.
pub struct Place {
    pub env: CliEnv,
    pub data: String,
    token: String,
}

impl Place {
    pub fn new(stack: &str) -> Self {
        let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
        env.git_init().unwrap();
        let state = env.home().join("state.tfstate");
        let backend = format!("terraform {{\n  backend \"local\" {{\n    path = \"{}\"\n  }}\n}}\n", state.display());
        env.write("net/main.tf", &format!("{backend}{stack}")).unwrap();
        env.commit("Stack").unwrap();
        let data = env.home().join("server");
        let token = tokio::runtime::Runtime::new().unwrap().block_on(async {
            let worker = Worker { program: "windlass".into(), arguments: Vec::new(), environment: Vec::new() };
            let store = installation::common(&Configuration::default(), &data, worker).await.unwrap().store;
            let secret = format!("wlt_{}", sessions::secret().unwrap());
            let actor = Actor { verified: true, ..windlass_app::actor::local(None) };
            let name = actor.to_string();
            let record = serde_json::to_string(&Record { actor, scope: TokenScope::default() }).unwrap();
            let end = store.now().await.unwrap() + 10 * 86_400_000_000;
            store.token_create(&sessions::digest(&secret), "test", &name, &record, end).await.unwrap();
            store.close().await;
            secret
        });
        Self { env, data: data.display().to_string(), token }
    }

    /// The program with these variables, and where it is reached.
    pub fn serve(&self, variables: &[(&str, &str)]) -> (Program, String) {
        let mut command = self.env.command(&["serve", "--listen", "127.0.0.1:0", "--data", &self.data]);
        command.envs(variables.iter().copied());
        let server = Program::of(command);
        let url = server.says("Listening on ");
        wait(|| (get(&format!("{url}/readyz"), &[]).0 == 200).then_some(()));
        (server, url)
    }

    /// The answer to a request, and its correlation.
    pub fn ask(&self, method: &str, url: &str, body: Option<&str>, traceparent: &str) -> (serde_json::Value, String) {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .header("traceparent", traceparent)
            .body(body.unwrap_or_default().to_owned())
            .unwrap();
        let mut answer = agent.run(request).unwrap();
        let correlation = answer.headers()["x-correlation-id"].to_str().unwrap().to_owned();
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(answer.status().is_success(), "{url}: {} {text}", answer.status());
        (serde_json::from_str(&text).unwrap_or_default(), correlation)
    }

    /// Reviews everything; the run's id, once it has succeeded.
    pub fn review(&self, url: &str) -> (String, String) {
        let reviews = format!("{url}/api/v1/projects/repo/reviews");
        let (made, correlation) = self.ask("POST", &reviews, Some(r#"{"all":true}"#), PARENT);
        let run = made["run"].as_str().unwrap().to_owned();
        self.ended(url, &run);
        (run, correlation)
    }

    pub fn ended(&self, url: &str, run: &str) {
        let state = wait(|| {
            let (run, _) = self.ask("GET", &format!("{url}/api/v1/runs/{run}"), None, "");
            let state = run["run"]["state"].as_str().unwrap().to_owned();
            (!matches!(state.as_str(), "queued" | "running" | "waiting")).then_some(state)
        });
        assert_eq!(state, "succeeded");
    }
}
