//! What goes on in a run: members of an `each` in batches, undos and handlers, people, operations that run operations.

use super::{Ran, World, until};
use serde_json::{Value, json};
use windlass_lang::expression::Scope;
use windlass_model::id::{RunId, StepId};
use windlass_model::operation::plan::{plan, word};
use windlass_model::run::{RunState, StepState};

const DEFINITIONS: &str = r#"
team "sre" {
  members = ["user:ann"]
}

operation "roll" {
  param "fail" {
    type    = string
    default = "none"
  }
  step "list" {
    shell   = "echo '{\"members\": [\"a\", \"b\", \"c\"]}'"
    outputs = "json"
  }
  each "member" {
    in    = step.list.outputs.members
    batch = 2
    gate {
      command = ["test", "!", "-e", "closed"]
      within  = "1s"
    }
    step "stop" {
      shell   = "echo ${each.value} >> done; test ${each.value} != ${param.fail}; echo n=${each.index}"
      outputs = "key_value"
      undo {
        shell = "echo undo ${each.value} >> done"
      }
    }
    step "start" {
      run = ["sh", "-c", "echo started $0 >> done", step.stop.outputs.n]
    }
  }
  parallel "checks" {
    step "one" {
      run = ["true"]
    }
    step "two" {
      run = ["true"]
    }
  }
  step "never" {
    run  = ["false"]
    when = param.fail == "other"
  }
  step "sum" {
    run = ["sh", "-c", "echo $0 > sum", step.member.outputs.c.stop.n]
  }
  on_failure "tell" {
    run = ["sh", "-c", "echo \"$0: $1\" > told", failure.step, failure.reason]
  }
}

operation "people" {
  approvals {
    count   = 1
    from    = [team.sre]
    expires = "1h"
  }
  checklist {
    before "told" {
      text = "Support was told"
    }
  }
  step "ask" {
    ask {
      question = "go on?"
      choices  = ["yes", "no"]
    }
  }
  step "use" {
    run = ["test", "yes", "=", step.ask.outputs.answer]
  }
}

operation "inner" {
  param "text" {
    type = string
  }
  step "say" {
    run     = ["sh", "-c", "test $0 != bad; echo said $0", param.text]
    outputs = "text"
  }
}

operation "slow" {
  step "make" {
    shell = "echo made >> tale"
    undo { shell = "echo taken back >> tale" }
  }
  step "wait" {
    shell = "echo waits >> tale; sleep 600"
  }
}

operation "patient" {
  step "before" {
    shell = "echo begun >> tale"
    undo { shell = "echo ended >> tale" }
  }
  step "call" {
    operation { name = "slow" }
  }
}

operation "outer" {
  param "text" {
    type = string
  }
  step "call" {
    operation {
      name      = "inner"
      arguments = { text = "${param.text}!" }
    }
  }
  step "use" {
    run     = ["echo", step.call.outputs.say.text]
    outputs = "text"
  }
}
"#;

async fn world() -> World {
    World::new(&[("windlass.hcl", DEFINITIONS)]).await
}

async fn begin(world: &World, name: &str, arguments: Value) -> RunId {
    let project = world.service.checkout.project().unwrap().sound().unwrap();
    let operation = project.definitions.operation(name).unwrap().clone();
    let input = world.input(operation, arguments.clone());
    let plan = plan(&input, None, &Scope::default().with("param", arguments)).unwrap();
    world.create(&plan).await
}

async fn whole(world: &World, name: &str, arguments: Value) -> Ran {
    let run = begin(world, name, arguments).await;
    let record = world.drive(&run).await;
    world.ran(&run, record.state).await
}

#[tokio::test(flavor = "multi_thread")]
async fn members_go_in_batches_and_are_gathered() {
    let world = world().await;
    let ran = whole(&world, "roll", json!({ "fail": "none" })).await;
    assert_eq!(ran.state, RunState::Succeeded, "{:?}", ran.steps);
    let read = |name: &str| std::fs::read_to_string(world.path().join(name)).unwrap();
    let done = read("done");
    let lines: Vec<&str> = done.lines().collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(lines[4..], ["c", "started 2"], "the second batch is after the first: {lines:?}");
    assert_eq!(read("sum"), "2\n");
    assert_eq!(ran.output("member")["a"], json!({ "stop": { "n": "0" } }));
    assert_eq!(ran.steps["never"].state, StepState::Skipped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_fails_stops_what_follows_and_all_is_undone() {
    let world = world().await;
    let ran = whole(&world, "roll", json!({ "fail": "b" })).await;
    assert_eq!(ran.state, RunState::Failed, "{:?}", ran.steps);
    let done = std::fs::read_to_string(world.path().join("done")).unwrap();
    assert!(!done.lines().any(|line| line == "c" || line == "undo c"), "{done}");
    let undone: Vec<&str> = done.lines().filter(|line| line.starts_with("undo")).collect();
    assert_eq!(undone, ["undo b", "undo a"], "what began, backwards");
    let told = std::fs::read_to_string(world.path().join("told")).unwrap();
    assert!(told.contains("1 member of `member` failed (b), and it tolerates 0"), "{told}");
    std::fs::remove_file(world.path().join("done")).unwrap();
    std::fs::write(world.path().join("closed"), "").unwrap();
    let ran = whole(&world, "roll", json!({ "fail": "none" })).await;
    assert_eq!(ran.state, RunState::Failed);
    assert!(!world.path().join("done").exists(), "the gate is asked before the first batch");
}

async fn answer(world: &World, run: &RunId, step: &str, name: &str, value: &str) {
    until("it waits", async || {
        let known = world.service.store.step_get(run, &StepId::new(step)).await.unwrap();
        (known.state == StepState::Waiting).then_some(())
    })
    .await;
    let actor = json!({ "name": name, "identities": [format!("user:{name}")], "verified": true });
    let (step, actor) = (StepId::new(step), actor.to_string());
    world.service.store.answer_add(run, &step, &actor, value, Some("seen")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_asked_and_their_answers_count_as_the_operation_says() {
    let world = world().await;
    let run = begin(&world, "people", json!({})).await;
    let engine = world.engine().await;
    let driven = tokio::spawn({
        let run = run.clone();
        async move { engine.run_until_settled(&run).await.unwrap() }
    });
    answer(&world, &run, "run:approve", "eve", word::APPROVE).await;
    until("who is of no team does not count", async || {
        let known = world.service.store.step_get(&run, &StepId::new("run:approve")).await.unwrap();
        (known.state == StepState::Waiting && known.reason.unwrap().contains("1 approval from team sre, has 0"))
            .then_some(())
    })
    .await;
    answer(&world, &run, "run:approve", "ann", word::APPROVE).await;
    answer(&world, &run, "before:told", "ann", word::DONE).await;
    answer(&world, &run, "ask", "bob", "yes").await;
    assert_eq!(driven.await.unwrap().state, RunState::Succeeded);
    let ran = world.ran(&run, RunState::Succeeded).await;
    assert_eq!(ran.output("ask")["answer"], "yes");
    assert_eq!(*ran.output("run:approve"), json!({ "answer": "approve", "by": ["ann"], "reason": "seen" }));
    let run = begin(&world, "people", json!({})).await;
    let engine = world.engine().await;
    let driven = tokio::spawn({
        let run = run.clone();
        async move { engine.run_until_settled(&run).await.unwrap() }
    });
    answer(&world, &run, "run:approve", "ann", word::REFUSE).await;
    assert_eq!(driven.await.unwrap().state, RunState::Failed);
    let ran = world.ran(&run, RunState::Failed).await;
    assert_eq!(ran.failure("run:approve"), ("WL539".into(), "ann refused: seen".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_runs_another_once_and_takes_its_outputs_and_its_failure() {
    let world = world().await;
    let ran = whole(&world, "outer", json!({ "text": "hello" })).await;
    assert_eq!(ran.state, RunState::Succeeded, "{:?}", ran.steps);
    assert_eq!(ran.output("use")["text"], "said hello!");
    let child = RunId::new(ran.output("call")["run"].as_str().unwrap());
    let record = world.service.store.run_get(&child).await.unwrap();
    assert_eq!((record.state, record.actor.as_str()), (RunState::Succeeded, "os:anna, unverified"));
    assert_eq!(record.plan.input["origin"], json!({ "by": "run", "run": ran.id, "step": "call" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_operation_that_was_called_and_all_is_undone() {
    let world = world().await;
    let run = begin(&world, "patient", json!({})).await;
    let engine = world.engine().await;
    let driven = tokio::spawn({
        let run = run.clone();
        async move { engine.run_until_settled(&run).await.unwrap() }
    });
    let tale = || std::fs::read_to_string(world.path().join("tale")).unwrap_or_default();
    until("the other one is in the middle", async || tale().contains("waits").then_some(())).await;
    let log = world.log(&run, "call").await;
    let called = RunId::new(log.split_whitespace().nth(1).unwrap());
    world.service.store.run_cancel(&run, "os:anna, unverified", Some("enough")).await.unwrap();
    assert_eq!(driven.await.unwrap().state, RunState::Cancelled);
    let called = world.service.store.run_get(&called).await.unwrap();
    assert_eq!(called.state, RunState::Cancelled, "{called:?}");
    assert_eq!(
        world.service.store.step_get(&called.id, &StepId::new("wait")).await.unwrap().state,
        StepState::Cancelled
    );
    assert_eq!(tale(), "begun\nmade\nwaits\ntaken back\nended\n");
}
