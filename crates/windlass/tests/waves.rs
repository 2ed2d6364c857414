//! Waves over regions and environments, with every kind of gate.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use windlass_testkit::cli::CliEnv;

/// A regional stack that notes where it is applied; its `check` wants a size below 3.
const REGIONAL: &str = r#"terraform {
  backend "local" {}
}
variable "region" {
  type = string
}
variable "size" {
  default = 1
}
resource "terraform_data" "x" {
  triggers_replace = var.size
  provisioner "local-exec" {
    command = "echo ${var.region} >> ../made.log"
  }
}
check "size" {
  assert {
    condition     = var.size < 3
    error_message = "it grew too large"
  }
}
"#;

/// `rollout` is what is written in the stack's own rollout.
fn rolled(rollout: &str) -> CliEnv {
    let windlass = format!(
        "stack \"svc\" {{\n  regions = [\"tokyo\", \"osaka\"]\n  rollout {{\n    batch = 1\n{rollout}\n  }}\n}}\n"
    );
    let env = env(&[("svc/main.tf", REGIONAL), ("windlass.hcl", &windlass)]);
    env.write(".gitignore", &format!("{IGNORE}sick\n")).unwrap();
    env.commit("Ignore").unwrap();
    env
}

fn grow(env: &CliEnv, size: u32) {
    env.write("svc/size.auto.tfvars", &format!("size = {size}\n")).unwrap();
    env.commit("Grow").unwrap();
    expect(env, &["review", "--all"], 0, &["Ready to apply"]);
}

fn newest_apply(env: &CliEnv) -> String {
    let latest: serde_json::Value = serde_json::from_str(&run(env, &["runs", "latest", "--json"]).stdout).unwrap();
    assert_eq!(latest["run"]["kind"], "apply");
    latest["run"]["run"].as_str().unwrap().to_owned()
}

#[test]
fn checks_of_terraform_stop_the_waves() {
    let env = rolled("    gate {\n      checks = true\n    }");
    grow(&env, 1);
    expect(&env, &["apply", "--yes"], 0, &["Applied 2"]);
    assert_eq!(made(&env), ["tokyo", "osaka"]);
    // Terraform itself only warns.
    grow(&env, 3);
    expect(&env, &["apply", "--yes"], 1, &["[WL668]", "svc[tokyo] check.size fails"]);
    assert_eq!(made(&env), ["tokyo", "osaka", "tokyo"]);
}

#[test]
fn a_gate_that_holds_too_long_asks_a_person() {
    let gate = "    gate_timeout = \"1s\"\n    gate {\n      command  = [\"sh\", \"-c\", \"test ! -e ../sick || exit 7\"]\n      interval = \"200ms\"\n    }";
    let env = rolled(gate);
    env.write("sick", "").unwrap();
    grow(&env, 1);
    let texts = ["has held for too long after wave canary", "--settle"];
    expect(&env, &["apply", "--yes"], 1, &texts);
    let id = newest_apply(&env);
    assert_eq!(made(&env), ["tokyo"]);
    let unknown = steps(&env, &id).into_iter().find(|(_, state)| state == "unknown").unwrap().0;
    // Who says that it is not well ends the rollout there.
    expect(&env, &["resume", &id, "--settle", &format!("{unknown}=failed")], 1, &["✗", "wave-gate"]);
    assert_eq!(made(&env), ["tokyo"]);
    // Who has looked and says that it is well lets it go on, once.
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let held = run(&env, &["apply", "--yes"]);
    // The canary was applied by the run before, so its wave has nothing to prove: the next one holds.
    assert_eq!((held.code, made(&env).len()), (Some(1), 2), "{}", held.stderr);
    let id = newest_apply(&env);
    let unknown = steps(&env, &id).into_iter().find(|(_, state)| state == "unknown").unwrap().0;
    expect(&env, &["resume", &id, "--settle", &format!("{unknown}=done")], 0, &["Applied"]);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
}

/// Answers 503 to the first `sick` questions, then 200.
fn health(sick: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    // The thread ends with the test program.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            let status = if count.fetch_add(1, Ordering::SeqCst) < sick { "503 Unavailable" } else { "200 OK" };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
        }
    });
    (format!("http://{address}/health"), asked)
}

#[test]
fn the_rollout_of_an_environment_spans_its_stacks() {
    let (url, asked) = health(0);
    let windlass = format!(
        "project \"p\" {{\n  environment \"production\" {{\n    match = [\"svc\", \"web\"]\n    rollout {{\n      canary = \"osaka\"\n      gate {{\n        http     = \"{url}\"\n        contains = \"ok\"\n      }}\n    }}\n  }}\n}}\nstack \"svc\" {{\n  regions = [\"tokyo\", \"osaka\"]\n}}\nstack \"web\" {{\n  regions = [\"tokyo\", \"osaka\"]\n  after   = [stack.svc]\n}}\n"
    );
    let web = REGIONAL.replace("echo ${var.region}", "echo web-${var.region}");
    let env = env(&[("svc/main.tf", REGIONAL), ("web/main.tf", &web), ("windlass.hcl", &windlass)]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied 4", "✓ wave-gate:environment production/1.1"]);
    assert_eq!(made(&env), ["osaka", "web-osaka", "tokyo", "web-tokyo"]);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_service_that_says_it_is_not_well_fails_the_gate() {
    let (url, _) = health(usize::MAX);
    let env = rolled(&format!("    gate {{\n      http = \"{url}\"\n    }}"));
    grow(&env, 1);
    expect(&env, &["apply", "--yes"], 1, &["[WL668]", "503"]);
    assert_eq!(made(&env), ["tokyo"]);
}

#[test]
fn a_halted_and_a_cancelled_soak_leave_the_later_waves_alone() {
    let env = rolled("    soak = \"1h\"");
    grow(&env, 1);
    let mut apply = start(&env, &["apply", "--yes"]);
    wait(|| (made(&env).len() == 1).then_some(()));
    let id = wait(|| is_apply(&env).then(|| newest_apply(&env)));
    wait(|| steps(&env, &id).iter().any(|(step, state)| step.starts_with("soak:") && state == "waiting").then_some(()));
    expect(&env, &["halt", &id, "--why", " "], 2, &["[WL904]", "say why"]);
    expect(&env, &["halt", &id, "--why", "the canary looks odd"], 0, &["Nothing new begins", "windlass resume"]);
    let held = |step: &str| steps(&env, &id).iter().any(|(id, state)| id == step && state == "waiting");
    assert!(held("apply:svc[osaka]") && held("finish"), "{:?}", steps(&env, &id));
    assert!(run(&env, &["runs", &id]).stdout.contains("the canary looks odd"));
    expect(&env, &["cancel", &id], 0, &[]);
    wait(|| apply.try_wait().unwrap());
    expect(&env, &["halt", &id, "--why", "too late"], 2, &["[WL617]"]);
    assert_eq!(made(&env), ["tokyo"]);
    assert!(run(&env, &["runs", &id]).stdout.contains("cancelled"));
}
