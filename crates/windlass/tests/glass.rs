//! What people may do without, and what they answer: a broken glass, steps that are passed over, refusals, and answers in a checkout.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::server::{Server, run_of};
use common::{expect, start, steps, wait};
use serde_json::{Value, json};
use windlass_testkit::chat::{Chat, Post};
use windlass_testkit::cli::CliEnv;

const MEND: &str = r#"
team "sre" { members = ["MEMBER"] }
notifier "ops" {
  secret "hook" { command = ["echo", "HOOK"] }
  webhook { url = secret.hook }
}
operation "mend" {
  allow       = [team.sre]
  break_glass = [team.sre]
  approvals   { from = [team.sre] }
  concurrency { on_conflict = "reject" }
  notify      { to = [notifier.ops] }
  step "first" { run = ["false"] }
  each "member" {
    in = ["a", "b"]
    step "check" { run = ["test", each.value, "=", "a"] }
  }
  step "agreed" {
    approval { from = [team.sre] }
  }
  step "last" {
    shell = "echo $ADDRESS >>TALE"
    env   = { ADDRESS = run.url }
  }
}
operation "agree" {
  allow       = [team.sre]
  break_glass = [team.sre]
  step "agreed" {
    approval { from = [team.sre] }
  }
  step "between" { run = ["true"] }
  step "last" { run = ["test", "-e", "TALE.there"] }
}
"#;

#[test]
fn who_breaks_the_glass_says_why_and_what_is_refused_or_passed_over_stands_on_record() {
    let (env, chat) = (CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap(), Chat::start().unwrap());
    env.git_init().unwrap();
    let tale = env.home().join("tale");
    let member = windlass_app::actor::local(None).identities.remove(0);
    let text = MEND.replace("TALE", &tale.display().to_string()).replace("MEMBER", &member);
    env.write("windlass.hcl", &text.replace("HOOK", &chat.hook())).unwrap();
    env.commit("Operations").unwrap();
    let server = Server::start(&env, "");
    let runs = "/api/v1/projects/shop/operations/mend/runs";
    let refused = |path: &str, body: Value, status: u16, code: &str, why: &str| {
        let answer = server.ask(path, &body);
        assert!(answer.status == status && answer.json()["code"] == code && answer.text().contains(why), "{answer:?}");
    };

    // While one waits for its approval no other is begun; who began it does not approve it, and may refuse it.
    let first = run_of(&server.post(runs, &json!({})));
    server.comes_to(&first, "run:approve", "waiting");
    refused(runs, json!({}), 409, "WL745", &first);
    let answer = format!("/api/v1/runs/{first}/steps/run%3Aapprove/answer");
    refused(&answer, json!({ "value": "approve" }), 409, "WL748", "somebody else has to");
    server.post(&answer, &json!({ "value": "refuse", "reason": "not on a Friday" }));
    assert_eq!(server.ended(&first), "failed");
    let shown = server.get(&format!("/api/v1/runs/{first}")).text();
    assert!(shown.contains("refused: not on a Friday"), "{shown}");

    refused(runs, json!({ "break_glass": true, "reason": " " }), 400, "WL743", "for a reason");
    let again = format!("/api/v1/runs/{first}/go-on");
    refused(&again, json!({ "break_glass": true }), 400, "WL743", "for a reason");
    for (skip, why) in [
        (json!({ "firts": "why" }), "there is no such step"),
        (json!({ "first": " " }), "a reason is missing"),
        (json!({ "agreed": "why" }), "somebody has to approve it"),
        (json!({ "run:approve": "why" }), "somebody has to approve it"),
        (json!({ "each:member": "why" }), "it is no step of its own"),
    ] {
        refused(runs, json!({ "skip": skip }), 400, "WL765", why);
    }

    let skip = json!({ "first": "it is down", "member[b]": "b is away" });
    let run = run_of(&server.post(runs, &json!({ "break_glass": true, "reason": "it burns", "skip": skip })));
    assert_eq!(server.ended(&run), "succeeded", "{}", server.get(&format!("/api/v1/runs/{run}")).text());
    // Nobody configured an address.
    assert_eq!(std::fs::read_to_string(&tale).unwrap(), format!("{}/runs/{run}\n", server.url));
    let shown = server.get(&format!("/api/v1/runs/{run}")).text();
    for told in ["passed over: it is down", "passed over: b is away", "somebody broke the glass"] {
        assert!(shown.contains(told), "no {told} in {shown}");
    }
    let events = server.get(&format!("/api/v1/events?run={run}&kind=operation.broke_glass")).json();
    assert_eq!(events["items"].as_array().unwrap().len(), 1, "{events}");
    assert_eq!(events["items"][0]["reason"], "it burns", "{events}");
    let told = |post: &Post| [post.text.as_str(), &post.attachments.to_string()].concat();
    wait(|| {
        chat.posts()
            .iter()
            .map(told)
            .any(|text| text.contains("broke the glass") && text.contains("it burns"))
            .then_some(())
    });
    let settings = wait(|| {
        let page = server.get("/settings").text();
        page.contains("<span class=\"badge ok\">works</span>").then_some(page)
    });
    assert!(settings.contains("<bdi>ops</bdi></th><td>webhook</td>") && !settings.contains(&chat.hook()), "{settings}");
}

#[test]
fn a_glass_that_was_broken_is_whole_for_who_goes_on() {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let (tale, member) = (env.home().join("tale"), windlass_app::actor::local(None).identities.remove(0));
    let text = MEND.replace("TALE", &tale.display().to_string()).replace("MEMBER", &member);
    env.write("windlass.hcl", &text.replace("HOOK", "https://127.0.0.1:1/")).unwrap();
    env.commit("Operations").unwrap();
    let server = Server::start(&env, "");
    let glass = json!({ "break_glass": true, "reason": "it burns" });
    let first = run_of(&server.post("/api/v1/projects/shop/operations/agree/runs", &glass));
    assert_eq!(server.ended(&first), "failed");
    let again = format!("/api/v1/runs/{first}/go-on");
    let second = run_of(&server.post(&again, &json!({})));
    server.comes_to(&second, "agreed", "waiting");
    server.comes_to(&second, "last", "pending");
    server.post(&format!("/api/v1/runs/{second}/cancel"), &json!({}));
    assert_eq!(server.ended(&second), "cancelled");
    std::fs::write(env.home().join("tale.there"), "").unwrap();
    let third = run_of(&server.post(&again, &glass));
    assert_eq!(server.ended(&third), "succeeded");
}

#[test]
fn a_broken_glass_is_one_of_a_called_operation_only_for_those_who_may_break_that_too() {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let member = windlass_app::actor::local(None).identities.remove(0);
    let operation = |name: &str, glass: &str, body: &str| {
        format!("operation \"{name}\" {{\n  allow = [team.sre]\n  break_glass = [{glass}]\n  {body}\n}}\n")
    };
    let inner = "step \"agreed\" {\n approval { from = [team.sre] }\n }";
    let call = |name: &str| format!("step \"call\" {{\n operation {{ name = \"{name}\" }}\n }}");
    let text = [
        format!("team \"sre\" {{\n members = [\"{member}\"]\n}}\nteam \"lead\" {{\n members = [\"{member}\"]\n}}\n"),
        operation("open", "team.sre, team.lead", inner),
        operation("guarded", "team.lead", inner),
        operation("calls_open", "team.sre", &call("open")),
        operation("calls_guarded", "team.sre", &call("guarded")),
    ];
    env.write("windlass.hcl", &text.concat()).unwrap();
    env.commit("Operations").unwrap();
    let server = Server::start(&env, "");
    let glass = json!({ "break_glass": true, "reason": "it burns" });
    let begin = |name: &str| run_of(&server.post(&format!("/api/v1/projects/shop/operations/{name}/runs"), &glass));
    assert_eq!(server.ended(&begin("calls_open")), "succeeded");
    let run = begin("calls_guarded");
    let said = wait(|| {
        let log = server.get(&format!("/api/v1/runs/{run}/steps/call/log")).text();
        log.contains("its glass is whole").then_some(log)
    });
    let called = said.split("run ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    server.comes_to(called, "agreed", "waiting");
    server.post(&format!("/api/v1/runs/{run}/cancel"), &json!({}));
    assert_eq!(server.ended(&run), "cancelled");
}

#[test]
fn in_a_checkout_whoever_has_its_files_answers() {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let text = "team \"others\" { members = [\"email:nobody@example.com\"] }\noperation \"go\" {\n  step \"which\" {\n    ask {\n      question = \"Which way?\"\n      choices  = [\"left\", \"right\"]\n      from     = [team.others]\n    }\n  }\n  step \"went\" { run = [\"echo\", step.which.outputs.answer] }\n  checklist {\n    after \"told\" {\n      text = \"They were told\"\n      from = [team.others]\n    }\n  }\n}\n";
    env.write("windlass.hcl", text).unwrap();
    env.commit("Operations").unwrap();
    let mut going = start(&env, &["run", "go", "--yes"]);
    for (step, value) in [("which", "left"), ("after:told", "done")] {
        wait(|| steps(&env, "latest").contains(&(step.to_owned(), "waiting".to_owned())).then_some(()));
        expect(&env, &["answer", "latest", step, value], 0, &["Answered"]);
    }
    assert!(going.wait().unwrap().success());
    expect(&env, &["logs", "latest"], 0, &["left"]);
}
