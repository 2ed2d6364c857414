//! The configuration of the real program, read again while it goes on.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::program::{Program, get};
use common::wait;
use windlass_testkit::cli::CliEnv;

/// A repository with one stack, and a configuration beside it.
struct Place {
    env: CliEnv,
    config: String,
}

impl Place {
    fn new() -> Self {
        let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
        env.git_init().unwrap();
        env.write("net/main.tf", "terraform {\n  backend \"local\" {}\n}\n").unwrap();
        env.commit("Stack").unwrap();
        let config = env.home().join("windlass.toml").display().to_string();
        Self { env, config }
    }

    /// Has the file say `top` and name these repositories, as one step.
    fn say(&self, top: &str, repositories: &[&str]) {
        let url = self.env.root().display().to_string();
        let tables = repositories.iter().map(|name| format!("[[repository]]\nname = \"{name}\"\nurl = \"{url}\"\n"));
        let draft = format!("{}.draft", self.config);
        std::fs::write(&draft, format!("{top}\n{}", tables.collect::<String>())).unwrap();
        std::fs::rename(draft, &self.config).unwrap();
    }
}

/// What `/readyz` warns of.
fn warnings(url: &str) -> String {
    let (status, body) = get(&format!("{url}/readyz"), &[]);
    let ready: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &ready["ready"]), (200, &true.into()), "{body}");
    ready["warnings"].to_string()
}

/// Whether `/metrics` has the line.
fn tells(url: &str, line: &str) -> bool {
    get(&format!("{url}/metrics"), &[]).1.lines().any(|told| told == line)
}

#[test]
fn what_can_change_changes_and_what_is_wrong_does_not() {
    let place = Place::new();
    place.say("", &["one"]);
    let mut server = Program::start(&place.env, &["serve", "--listen", "127.0.0.1:0", "--config", &place.config]);
    let url = server.says("Listening on ");
    let followed = |name: &str| tells(&url, &format!("windlass_repository_bad_definitions{{project=\"{name}\"}} 0"));
    wait(|| (get(&format!("{url}/readyz"), &[]).0 == 200).then_some(()));
    assert_eq!((followed("one"), warnings(&url).as_str()), (true, "null"));

    // A file that changes is noticed without being told.
    place.say("log = \"windlass::http=debug,info\"", &["one", "two"]);
    wait(|| (followed("one") && followed("two")).then_some(()));
    wait(|| tells(&url, "windlass_repository_fetch_failures{project=\"two\"} 0").then_some(()));
    wait(|| (get(&format!("{url}/readyz"), &[]).0 == 200).then_some(()));
    // Probes are told of from now on.
    wait(|| (get(&format!("{url}/healthz"), &[]).0 == 200 && server.all().contains("path=/healthz")).then_some(()));

    // One that is wrong changes nothing, and says so everywhere, but not what its lines hold.
    place.say("log = 1 # s3cr3t", &["three"]);
    server.signal("-HUP");
    let said = server.says("the configuration is wrong: ");
    assert!(said.contains("windlass.toml: TOML parse error at line 1") && said.contains("expected a string"), "{said}");
    assert!(!server.all().contains("s3cr3t"), "{}", server.all());
    wait(|| warnings(&url).contains("what was read before stays in force").then_some(()));
    assert!(tells(&url, "windlass_configuration_bad 1") && followed("one") && followed("two") && !followed("three"));

    place.say("", &["no name"]);
    server.signal("-HUP");
    assert!(server.says("is no name for a repository").contains("WL830"));
    assert!(followed("one") && followed("two"));

    // What is right again is in force, as far as it can be without a restart.
    place.say("listen = \"127.0.0.1:1\"\nurl = \"https://w.example.com\"", &["two"]);
    server.signal("-HUP");
    // `--listen` goes before the file.
    wait(|| (warnings(&url) == "[\"a restart is needed for what the configuration says of `url`\"]").then_some(()));
    assert!(tells(&url, "windlass_configuration_bad 0") && tells(&url, "windlass_configuration_restart_needed 1"));
    wait(|| (!followed("one") && followed("two")).then_some(()));

    server.signal("-TERM");
    assert_eq!(server.code(), Some(0), "{}", server.all());
}
