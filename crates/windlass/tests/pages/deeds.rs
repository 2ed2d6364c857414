//! What a person decides on the pages, each once and with success, in a real browser: `deeds.mjs` clicks, and asks this side to
//! make what it needs.

use super::{Server, modules, repository_of, stack};
use crate::common::{kill_terraform, wait};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use windlass_testkit::cli::CliEnv;
use windlass_testkit::git::Git;

/// Two stacks that follow each other in waves, the gate of which holds as long as there is a file `sick`; and a policy whose
/// findings can be waived.
fn windlass(sick: &Path) -> String {
    let gate = format!("test ! -e {} || exit 7", sick.display());
    format!(
        r#"
project "shop" {{
  environment "production" {{
    match = ["w/*"]
    rollout {{
      soak         = "1s"
      gate_timeout = "2s"
      wave "canary" {{
        select = ["w/first"]
      }}
      wave "rest" {{
        select = ["rest"]
      }}
      gate {{
        command  = ["sh", "-c", "{gate}"]
        interval = "200ms"
      }}
    }}
  }}
}}
stack "gpu" {{
  runner = "gpu"
}}
team "sre" {{ members = ["email:anna@example.com"] }}
grant "sre" {{
  to   = [team.sre]
  role = "admin"
}}
policy "names" {{
  paths = ["policy"]
  waivers {{
    from = [team.sre]
  }}
}}
"#
    )
}

const NAMES: &str = "package names\n\nimport rego.v1\n\ndeny contains {\"msg\": \"bad is a bad name\", \"address\": change.address} if {\n\tsome change in input.resource_changes\n\tchange.change.after.input == \"bad\"\n}\n";

/// Three resources one after the other, the second of which takes its time.
fn slow() -> String {
    let resource = |name: &str, after: &str, command: &str| {
        format!(
            "resource \"terraform_data\" \"{name}\" {{\n  input = 1\n{after}  provisioner \"local-exec\" {{\n    command = \"{command}\"\n  }}\n}}\n"
        )
    };
    [resource("r1", "", "true"), resource("r2", "  depends_on = [terraform_data.r1]\n", "sleep 600")].concat()
}

fn input(value: &str) -> String {
    format!("resource \"terraform_data\" \"x\" {{\n  input = \"{value}\"\n}}\n")
}

fn repository() -> CliEnv {
    repository_of(|states| {
        let sick = states.join("sick");
        std::fs::write(&sick, "").unwrap();
        vec![
            ("windlass.hcl".to_owned(), windlass(&sick)),
            ("policy/names.rego".to_owned(), NAMES.to_owned()),
            ("w/first/main.tf".to_owned(), stack(states, "first", &input("one"))),
            ("w/second/main.tf".to_owned(), stack(states, "second", &input("one"))),
            ("named/main.tf".to_owned(), stack(states, "named", &input("bad"))),
            ("other/main.tf".to_owned(), stack(states, "other", &input("other"))),
            ("gpu/main.tf".to_owned(), stack(states, "gpu", &input("one"))),
            ("slow/main.tf".to_owned(), stack(states, "slow", &slow())),
        ]
    })
}

/// Does what the browser's side asks for; the answer is for it.
fn prepare(env: &CliEnv, server: &Server, asked: &str) -> String {
    let states = env.home().join("states");
    match asked.split_once(' ').unwrap_or((asked, "")) {
        ("well", _) => std::fs::remove_file(states.join("sick")).unwrap(),
        ("change", name) => {
            env.write(&format!("w/{name}/main.tf"), &stack(&states, name, &input("two"))).unwrap();
            env.commit("Two").unwrap();
        }
        ("commit", _) => return Git::open(&env.root()).run(&["rev-parse", "HEAD"]).unwrap().trim().to_owned(),
        ("value", name) => {
            let state = std::fs::read_to_string(states.join(format!("{name}.tfstate"))).unwrap();
            let state: serde_json::Value = serde_json::from_str(&state).unwrap();
            return state["resources"][0]["instances"][0]["attributes"]["input"]["value"].to_string();
        }
        // A place in the queue whose step has no process.
        ("lock", run) => {
            let database = rusqlite::Connection::open(server.data.join("windlass.db")).unwrap();
            database.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
            let row = ("shop", "stack:w/second", run, "plan:w/second");
            let insert =
                "INSERT INTO locks (project, name, run, step, since, seen) VALUES (?, ?, ?, ?, 0, 9000000000000000)";
            database.execute(insert, row).unwrap();
        }
        ("kill", _) => assert!(wait(|| kill_terraform(&env.home()))),
        _ => panic!("{asked}?"),
    }
    String::new()
}

#[test]
fn what_needs_a_person_is_done_on_the_pages() {
    let env = repository();
    let server = Server::start(&env);
    let anna = server.person("anna");
    server.says(&anna, "/stacks", "second");
    let mut browser = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pages/deeds.mjs"))
        .arg(modules())
        .args([&server.url, anna.cookie.strip_prefix("windlass=").unwrap(), &anna.csrf])
        .arg(std::env::var("WINDLASS_SHOTS").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node has to be installed: the walk runs playwright-core");
    let (mut answers, lines) = (browser.stdin.take().unwrap(), BufReader::new(browser.stdout.take().unwrap()).lines());
    let mut told = Vec::new();
    for line in lines.map(Result::unwrap) {
        match line.strip_prefix("? ") {
            Some(asked) => writeln!(answers, "{}", prepare(&env, &server, asked)).unwrap(),
            None => told.push(line),
        }
    }
    assert!(browser.wait().unwrap().success() && told.last().is_some_and(|line| line == "done"), "{told:#?}");
}
