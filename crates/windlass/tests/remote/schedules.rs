//! What begins operations without a person being there, by the terminal and over HTTP.

use super::World;
use super::common::{run, wait};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

const OPERATION: &str = r#"
operation "report" {
  param "day" {
    type    = string
    default = "today"
  }
  secret "hook" { command = ["echo", "rather-secret-key"] }
  schedule "nightly" {
    cron      = "0 0 * * *"
    arguments = { day = run.due }
  }
  trigger "asked" {
    webhook { key = secret.hook }
    arguments = { day = trigger.payload.day }
  }
  step "write" { run = ["echo", param.day] }
}
"#;

impl World {
    /// The runs of the operation that succeeded.
    fn reports(&self) -> Vec<Value> {
        let all = self.json(&["runs", "--operation", "report"]);
        all.as_array().unwrap().iter().filter(|run| run["state"] == "succeeded").cloned().collect()
    }

    fn deliver(&self, key: &str, body: &str) -> u16 {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
        let address = format!("{}/hooks/operations/company/report/asked", self.url);
        let request = agent.post(address).header("x-hub-signature-256", format!("sha256={hex}"));
        request.send(body).unwrap().status().as_u16()
    }
}

#[test]
fn schedules_are_listed_paused_and_made_up_for_and_operations_begin_at_a_time_or_by_a_webhook() {
    let world = World::new();
    world.env.write("report.windlass.hcl", OPERATION).unwrap();
    world.env.commit("A report").unwrap();
    let mut checkout = world.env.command(&["schedule", "next", "--json"]);
    let local = checkout.env_remove("WINDLASS_URL").output().unwrap();
    let local: Value = serde_json::from_slice(&local.stdout).unwrap();
    assert_eq!((&local[0]["name"], local[0]["next"].as_array().unwrap().len()), (&"nightly".into(), 5), "{local}");
    let refused = world.env.command(&["schedule", "resume", "report"]).env_remove("WINDLASS_URL").output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("WL884"), "{refused:?}");
    world.push("main");
    wait(|| run(&world.env, &["operations"]).stdout.contains("report").then_some(()));

    let pause = ["schedule", "pause", "report", "nightly", "--reason", "INC-12"];
    wait(|| (run(&world.env, &pause).code == Some(0)).then_some(()));
    world.expect(&["schedule", "list", "report"], 0, &["nightly", "0 0 * * * UTC", "paused by ana", "INC-12"]);
    assert_eq!(world.json(&["schedule", "next"])[0]["next"], local[0]["next"]);
    world.expect(&["schedule", "pause", "report", "--reason", "x"], 2, &["WL841", "default of report"]);
    world.expect(&["schedule", "resume", "report", "nightly"], 0, &["nightly of report goes on."]);
    assert_eq!(world.json(&["schedule", "list"])[0]["pause"], Value::Null);

    // Of what was missed there is a run for each time, once.
    let past = ["--after", "2020-01-01T12:00:00Z", "--until", "2020-01-03T12:00:00Z"];
    let backfill = [&["schedule", "backfill", "report", "nightly"], &past[..]].concat();
    world.expect(&backfill, 0, &["nightly of report makes up for 2 times."]);
    world.expect(&backfill, 0, &["nothing to make up for"]);
    wait(|| (world.reports().len() == 2).then_some(()));

    // At a time: one is taken back, the other begins.
    world.expect(&["schedule", "at", "report", "2020-01-01T12:00:00Z"], 2, &["WL724", "the time has passed"]);
    let wrong = ["run", "report", "dya=x", "--at", "2100-01-01T00:00:00Z"];
    world.expect(&wrong, 2, &["WL741", "`report` has no such parameter: it takes day"]);
    let later = world.json(&["schedule", "at", "report", "2100-01-01T00:00:00Z", "day=never"]);
    let later = later["start"].as_str().unwrap();
    world.expect(&["schedule", "cancel", later], 0, &["does not begin any more"]);
    world.expect(&["schedule", "cancel", later], 1, &["WL726", "cancelled already"]);
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(10)).to_string();
    let soon = world.json(&["run", "report", "day=soon", "--at", &soon]);
    let start = wait(|| {
        let starts = world.json(&["schedule", "starts", "report"]);
        starts.as_array().unwrap().iter().find(|start| start["id"] == soon["start"] && !start["run"].is_null()).cloned()
    });
    let run = start["run"].as_str().unwrap();
    wait(|| world.reports().iter().any(|report| report["run"] == json!(run)).then_some(()));
    world.expect(&["logs", run], 0, &["soon"]);

    // A webhook, with the wrong key and the right one; what comes again starts nothing.
    let body = r#"{"day":"asked-for"}"#;
    assert_eq!(world.deliver("another-key", body), 401);
    assert_eq!((world.deliver("rather-secret-key", body), world.deliver("rather-secret-key", body)), (202, 202));
    wait(|| (world.reports().len() == 4).then_some(()));
    world.expect(&["logs", "latest"], 0, &["asked-for"]);
}
