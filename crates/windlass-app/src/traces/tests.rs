use super::*;
use serde_json::{Value, json};
use windlass_model::run::{Cost, Flow, Repeat, Retry, RunPlan, When, Work};

fn step(id: &str, after: &[&str]) -> StepSpec {
    StepSpec {
        id: StepId::new(id),
        title: id.into(),
        after: after.iter().map(|id| StepId::new(*id)).collect(),
        when: When::Succeeded,
        work: Work { driver: format!("do.{id}"), input: Value::Null },
        repeat: Repeat::Idempotent,
        timeout: None,
        retry: Retry::NEVER,
        locks: Vec::new(),
        cost: Cost::NONE,
        labels: Vec::new(),
        flow: Flow::default(),
    }
}

fn record(state: RunState) -> RunRecord {
    let steps = vec![step("a", &[]), step("b", &["a"])];
    RunRecord {
        id: RunId::new("01run"),
        project: "infra".into(),
        plan: RunPlan { kind: "review".into(), title: "t".into(), input: Value::Null, steps, ..RunPlan::default() },
        state,
        cancel_requested: false,
        kill_requested: false,
        actor: "anna".into(),
        created_at: 100,
        ended_at: Some(900),
        reason: None,
    }
}

/// Events as `at kind step attempt`, and what is made of them: `name start..end`, indented below its parent, `!` where it failed.
#[track_caller]
fn check(state: RunState, events: &[(Micros, &str, &str, u32)], want: &str) {
    let event = |(id, (at, kind, step, attempt)): (usize, &(Micros, &str, &str, u32))| Event {
        id: id as i64,
        project: "infra".into(),
        run: Some("01run".into()),
        step: Some((*step).to_owned()),
        kind: format!("step.{kind}"),
        subject: None,
        data: json!({ "attempt": attempt, "reason": "why" }),
        actor: None,
        reason: None,
        correlation: None,
        at: *at,
    };
    let events: Vec<Event> = events.iter().enumerate().map(event).collect();
    let trace = tree(&record(state), None, &events);
    let mut depth: HashMap<SpanId, usize> = HashMap::new();
    let mut text = String::new();
    for span in &trace.spans {
        let deep = span.parent.map_or(0, |parent| depth[&parent] + 1);
        assert!(depth.insert(span.id, deep).is_none(), "two spans have one id");
        let failed = if span.error.is_some() { "!" } else { "" };
        text.push_str(&format!("{}{}{failed} {}..{}\n", "  ".repeat(deep), span.name, span.start, span.end));
    }
    assert_eq!(text.trim_end(), want);
}

#[test]
fn waiting_is_apart_from_work() {
    check(
        RunState::Succeeded,
        &[
            (150, "started", "a", 1),
            (300, "succeeded", "a", 1),
            (310, "started", "b", 1),
            (350, "waiting", "b", 1),
            (700, "started", "b", 2),
            (900, "succeeded", "b", 2),
        ],
        "run review 100..900
  do.a 100..300
    wait 100..150
    work 150..300
  do.b 300..350
    wait 300..310
    work 310..350
  do.b 350..900
    wait 350..700
    work 700..900",
    );
}

#[test]
fn what_died_and_what_failed_is_seen() {
    check(
        RunState::Failed,
        &[(150, "started", "a", 1), (500, "lost", "a", 1), (510, "retried", "a", 1), (600, "started", "a", 2)],
        "run review! 100..900
  do.a! 100..510
    wait 100..150
    work 150..510
  do.a! 510..900
    wait 510..600
    work 600..900",
    );
}

#[test]
fn a_clock_that_was_set_back_makes_no_negative_time() {
    check(
        RunState::Succeeded,
        &[(150, "started", "a", 1), (40, "succeeded", "a", 1), (60, "started", "b", 1), (70, "skipped", "x", 0)],
        "run review 100..900
  do.a 100..150
    wait 100..150
    work 150..150
  do.b! 40..900
    wait 40..60
    work 60..900",
    );
}
