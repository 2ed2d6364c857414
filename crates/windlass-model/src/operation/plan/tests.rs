use super::*;
use crate::Micros;
use crate::diagnostic::Span;
use crate::operation::{
    Action, Batch, Checklist, ChecklistItem, Expression, GateDefinition, OperationApprovals, OutputFormat,
    ParallelDefinition,
};
use crate::planner::{Planner, Situation};
use crate::rollout::Gate;
use crate::run::{Cost, Decision, Phase, Repeat, Retry, RunPlan, RunState, StepRecord, StepState, Stop};
use serde_json::json;

/// Expressions are texts that name nodes as `step.NAME.`; locks may name `each.key`.
struct Texts;

impl Expressions for Texts {
    fn nodes(&self, expression: &Expression) -> Vec<String> {
        let named = expression.text.split("step.").skip(1);
        named.filter_map(|rest| rest.split('.').next()).map(str::to_owned).collect()
    }
    fn text(&self, expression: &Expression, each: &[Member]) -> Result<String, String> {
        if expression.text.contains("step.") {
            return Err("it needs outputs".into());
        }
        let key = each.last().map_or("", |member| member.key.as_str());
        Ok(expression.text.replace("each.key", key))
    }
}

fn span() -> Span {
    Span::file("windlass.hcl")
}

fn expression(text: &str) -> Expression {
    Expression { text: text.into(), span: span() }
}

fn define(name: &str, text: &str) -> StepDefinition {
    StepDefinition {
        name: name.into(),
        description: None,
        action: Action::Shell { line: expression(text) },
        when: None,
        after: None,
        env: BTreeMap::new(),
        directory: None,
        runner: None,
        retry: Retry::NEVER,
        timeout: None,
        repeat: Repeat::Idempotent,
        probe: None,
        outputs: OutputFormat::None,
        artefacts: Vec::new(),
        mask: Vec::new(),
        locks: Vec::new(),
        may_fail: false,
        success: vec![0],
        give_up: Vec::new(),
        undo: None,
        cost: Cost::NONE,
        span: span(),
    }
}

fn node(definition: StepDefinition) -> Node {
    Node::Step(Box::new(definition))
}

fn step(name: &str) -> Node {
    node(define(name, ""))
}

fn undone(name: &str) -> Node {
    node(StepDefinition { undo: Some(Box::new(define(name, ""))), ..define(name, "") })
}

fn each(name: &str, batch: Batch, gated: bool, nodes: Vec<Node>) -> Node {
    let gate = || GateDefinition {
        gate: Gate::Command { argv: vec!["ok".into()], timeout: 1, interval: 1 },
        within: 1,
        span: span(),
    };
    let gates = gated.then(gate).into_iter().collect();
    let members = expression("list");
    Node::Each(Box::new(EachDefinition {
        name: name.into(),
        members,
        batch,
        max_failures: 0,
        gates,
        nodes,
        span: span(),
    }))
}

fn parallel(name: &str, nodes: Vec<Node>) -> Node {
    Node::Parallel(ParallelDefinition { name: name.into(), nodes, span: span() })
}

fn input(nodes: Vec<Node>) -> OperationInput {
    let operation = OperationDefinition {
        name: "upgrade".into(),
        description: None,
        owner: None,
        allow: Vec::new(),
        grants: Vec::new(),
        labels: BTreeMap::new(),
        runner: None,
        environment: None,
        parameters: Vec::new(),
        secrets: Vec::new(),
        nodes,
        on_failure: Vec::new(),
        on_cancel: Vec::new(),
        schedules: Vec::new(),
        triggers: Vec::new(),
        approvals: None,
        break_glass: Vec::new(),
        concurrency: None,
        timeout: None,
        locks: Vec::new(),
        confirm: None,
        checklist: None,
        notify: Vec::new(),
        dead_man: None,
        locals: BTreeMap::new(),
        span: span(),
    };
    OperationInput {
        head: Revision { name: "main".into(), commit: "c0ffee".into() },
        operation,
        arguments: BTreeMap::new(),
        secrets: Vec::new(),
        environment: None,
        reason: None,
        origin: Origin::Person { through: "cli".into() },
        broke_glass: false,
        skipped: BTreeMap::new(),
    }
}

fn lines<'a>(steps: impl IntoIterator<Item = &'a crate::run::StepSpec>) -> String {
    let line = |step: &crate::run::StepSpec| {
        let ids = |ids: &[StepId]| ids.iter().map(StepId::as_str).collect::<Vec<_>>().join(" ");
        let mut line = format!("{} < {}", step.id, ids(&step.after));
        if !step.flow.behind.is_empty() {
            line.push_str(&format!(" | {}", ids(&step.flow.behind)));
        }
        line.trim_end().to_owned()
    };
    steps.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(input: &OperationInput, want: &str) -> RunPlan {
    let plan = plan(input, None, &Texts).unwrap();
    assert_eq!(lines(&plan.steps), want.trim().lines().map(str::trim).collect::<Vec<_>>().join("\n"));
    plan
}

#[test]
fn nodes_come_after_the_one_before_and_what_they_name() {
    check(&input(vec![step("a"), step("b")]), "run:admit <\na < run:admit\nb < a run:admit");
    let named = node(define("c", "echo ${step.a.outputs.x}"));
    let free = node(StepDefinition { after: Some(vec![]), ..define("d", "") });
    let two = node(StepDefinition { after: Some(vec!["a".into(), "d".into()]), ..define("e", "") });
    check(
        &input(vec![step("a"), step("b"), named, free, two]),
        "run:admit <
         a < run:admit
         b < a run:admit
         c < b run:admit a
         d < run:admit
         e < a d run:admit",
    );
    let block = parallel("both", vec![step("x"), node(define("y", "${step.a.state}"))]);
    check(
        &input(vec![step("a"), block, step("b")]),
        "run:admit <
         a < run:admit
         x < a run:admit
         y < a run:admit
         both < x y
         b < both run:admit",
    );
}

#[test]
fn everything_of_an_operation_has_its_place() {
    let mut input = input(vec![undone("a"), each("member", Batch::All, false, vec![step("x")]), undone("b")]);
    let item = |name: &str, run: Option<&str>| ChecklistItem {
        name: name.into(),
        text: name.into(),
        run: run.map(expression),
        from: Vec::new(),
        span: span(),
    };
    input.operation.checklist = Some(Checklist {
        before: vec![item("told", None), item("there", Some("x"))],
        during: vec![item("watch", None)],
        after: vec![item("clean", None)],
        ..Checklist::default()
    });
    input.operation.approvals = Some(OperationApprovals {
        count: 1,
        from: Vec::new(),
        when: None,
        expires: 1,
        unverified: false,
        span: span(),
    });
    input.operation.on_failure = vec![define("tell", "${step.a.outputs.x}"), define("more", "")];
    input.operation.on_cancel = vec![define("tell", "")];
    input.operation.runner = Some("production".into());
    input.operation.locks = vec![expression("store")];
    let plan = check(
        &input,
        "run:admit <
         run:approve < run:admit
         before:told < run:approve
         before:there < run:approve
         a < run:approve before:told before:there
         each:member < a run:approve
         member < each:member
         b < member run:approve
         during:watch < run:approve before:told before:there
         after:clean < run:approve before:told before:there a member b
         undo:b < b
         undo:a < a
         on_failure:tell < a
         on_failure:more < on_failure:tell
         on_cancel:tell <",
    );
    let of = |id: &str| plan.steps.iter().find(|step| step.id.as_str() == id).unwrap();
    assert_eq!(of("undo:a").flow.phase, Phase::Undo("a".into()));
    assert_eq!(of("on_cancel:tell").flow.phase, Phase::Cancelled);
    assert_eq!((of("a").labels.join(" "), of("a").locks.join(" ")), ("production".into(), "store".into()));
    assert_eq!(
        (of("before:told").work.driver.as_str(), of("before:there").work.driver.as_str()),
        (driver::TICK, driver::STEP)
    );
    assert!(of("run:approve").labels.is_empty() && of("before:told").labels.is_empty());
    assert_eq!((plan.subject.as_deref(), plan.kind.as_str()), (Some("upgrade"), KIND));
    // Every step finds its definition again.
    let definition = |id: &str| {
        let step: OperationStep = serde_json::from_value(of(id).work.input.clone()).unwrap();
        input.definition(&step).map(|found| found.name.clone())
    };
    for (id, name) in [("a", "a"), ("undo:b", "b"), ("on_failure:more", "more"), ("on_cancel:tell", "tell")] {
        assert_eq!(definition(id).as_deref(), Some(name), "{id}");
    }
    // Who broke the glass needs no approval.
    input.broke_glass = true;
    assert!(!lines(&super::plan(&input, None, &Texts).unwrap().steps).contains("run:approve"));
}

#[test]
fn a_lock_needs_a_name_when_the_run_is_made() {
    let mut input = input(vec![step("a")]);
    input.operation.locks = vec![expression("${step.a.outputs.x}")];
    let error = plan(&input, None, &Texts).unwrap_err();
    assert_eq!(error.to_string(), "the lock `${step.a.outputs.x}` has no name yet: it needs outputs");
}

#[track_caller]
fn check_each(node: Node, members: serde_json::Value, want: &str) -> Expansion {
    let input = input(vec![step("first"), node]);
    let of = OperationStep { path: vec!["m".into()], ..OperationStep::default() };
    let (_, expansion) = expand(&input, &of, &members, None, &Texts).unwrap();
    let ends = |ids: &[StepId]| ids.iter().map(StepId::as_str).collect::<Vec<_>>().join(" ");
    let found = format!("{}\n= {} | {}", lines(&expansion.steps), ends(&expansion.after), ends(&expansion.behind));
    assert_eq!(found.trim(), want.trim().lines().map(str::trim).collect::<Vec<_>>().join("\n"));
    expansion
}

use crate::run::Expansion;

#[test]
fn members_have_steps_of_their_own() {
    let locked =
        node(StepDefinition { locks: vec![expression("host-each.key")], ..define("stop", "${step.first.outputs.x}") });
    let own = node(define("start", "${step.stop.outputs.x}"));
    let expansion = check_each(
        each("m", Batch::Count(2), false, vec![locked, own, undone("check")]),
        json!(["a", "b", "c"]),
        "m[a]/stop < each:m run:admit first
         m[a]/start < m[a]/stop run:admit
         m[a]/check < m[a]/start run:admit
         m[b]/stop < each:m run:admit first
         m[b]/start < m[b]/stop run:admit
         m[b]/check < m[b]/start run:admit
         batch:m#1 < each:m | m[a]/check m[b]/check
         m[c]/stop < batch:m#1 run:admit first
         m[c]/start < m[c]/stop run:admit
         m[c]/check < m[c]/start run:admit
         batch:m#2 < batch:m#1 | m[c]/check
         undo:m[c]/check < m[c]/check
         undo:m[b]/check < m[b]/check
         undo:m[a]/check < m[a]/check
         = batch:m#2 | m[a]/stop m[a]/start m[a]/check m[b]/stop m[b]/start m[b]/check m[c]/stop m[c]/start m[c]/check",
    );
    assert_eq!(expansion.steps[3].locks, ["host-b"]);
    let step: OperationStep = serde_json::from_value(expansion.steps[4].work.input.clone()).unwrap();
    assert_eq!((step.path.join("."), step.each[0].index, &step.each[0].value), ("m.start".into(), 1, &json!("b")));
    let gate: BatchStep = serde_json::from_value(expansion.steps[6].work.input.clone()).unwrap();
    let failed = gate.failed(Some(BatchOutput { failed: vec!["z".into()] }), |id| id.as_str() == "m[b]/check");
    assert_eq!((gate.number, gate.batches, failed.failed), (1, 2, vec!["z".to_owned(), "b".to_owned()]));
}

#[test]
fn batches_gates_and_keys() {
    let of = |batch, gated| each("m", batch, gated, vec![step("x")]);
    check_each(of(Batch::All, false), json!([]), "=  |");
    check_each(
        of(Batch::All, true),
        json!({ "k": 1 }),
        "batch:m#0 < each:m
         m[k]/x < batch:m#0 run:admit
         batch:m#1 < batch:m#0 | m[k]/x
         = batch:m#1 | m[k]/x",
    );
    let keys = |members: serde_json::Value| {
        let input = input(vec![of(Batch::Percent(25), false)]);
        let of = OperationStep { path: vec!["m".into()], ..OperationStep::default() };
        expand(&input, &of, &members, None, &Texts).map(|(output, expansion)| {
            let gates = expansion.steps.iter().filter(|step| step.work.driver == driver::BATCH).count();
            format!("{} in {gates}", output.keys.join(" "))
        })
    };
    assert_eq!(keys(json!(["a", 7, "b", "b", "c"])).unwrap(), "a 1 2 3 c in 5");
    assert_eq!(keys(json!(["1", 7])).unwrap(), "0 1 in 2");
    assert_eq!(keys(json!((0..40).collect::<Vec<_>>())).unwrap().rsplit(' ').next(), Some("4"));
    assert_eq!(keys(json!("a")).unwrap_err(), PlanError::Members { what: "list".into() });
}

#[test]
fn an_each_in_an_each_and_a_parallel_in_it() {
    let inner = each("n", Batch::All, false, vec![node(define("deep", "${step.near.outputs.x} ${step.first.state}"))]);
    let outer = each("m", Batch::All, false, vec![step("near"), parallel("p", vec![inner, step("beside")])]);
    let input = input(vec![step("first"), outer]);
    let of = OperationStep { path: vec!["m".into()], ..OperationStep::default() };
    let (_, expansion) = expand(&input, &of, &json!(["a"]), None, &Texts).unwrap();
    let adder = expansion.steps.iter().find(|step| step.work.driver == driver::EACH).unwrap();
    assert_eq!(adder.id.as_str(), "each:m[a]/n");
    let of: OperationStep = serde_json::from_value(adder.work.input.clone()).unwrap();
    let (_, expansion) = expand(&input, &of, &json!(["z"]), None, &Texts).unwrap();
    assert_eq!(
        lines(&expansion.steps),
        "m[a]/n[z]/deep < each:m[a]/n run:admit m[a]/near first\nbatch:m[a]/n#1 < each:m[a]/n | m[a]/n[z]/deep"
    );
}

/// Drives a plan; steps in `bad` fail. What was begun, and the run as it is then.
fn drive(
    input: &OperationInput,
    plan: RunPlan,
    first: Option<Vec<StepRecord>>,
    bad: &[&str],
) -> (Vec<String>, RunPlan, Vec<StepRecord>, RunState) {
    let first = first.unwrap_or_else(|| plan.steps.iter().map(|spec| StepRecord::pending(spec.id.clone())).collect());
    let mut planner = Planner::new(None, plan.steps.iter().cloned().zip(first));
    let (mut begun, mut expansions) = (Vec::new(), BTreeMap::new());
    let situation = Situation { stop: Stop::No, created_at: 0, now: 0 as Micros };
    loop {
        for decision in planner.decide(&situation) {
            match decision {
                Decision::Start(id) => {
                    let spec = planner.spec(&id).unwrap().clone();
                    begun.push(id.to_string());
                    let fails = bad.contains(&id.as_str());
                    planner.update(&id, |step| {
                        step.attempt += 1;
                        step.state = if fails { StepState::Failed } else { StepState::Succeeded };
                        step.output = (!fails).then(|| json!(id.as_str()));
                    });
                    if spec.work.driver == driver::EACH && !fails {
                        let of: OperationStep = serde_json::from_value(spec.work.input).unwrap();
                        let (_, expansion) = expand(input, &of, &json!(["a", "b", "c"]), None, &Texts).unwrap();
                        planner.expand(&id, &expansion);
                        expansions.insert(id, expansion);
                    }
                }
                Decision::Skip(id, _) => planner.update(&id, |step| step.state = StepState::Skipped),
                Decision::Become(state, _) if state.is_final() => {
                    let whole = plan.expanded(&expansions);
                    let steps = whole.steps.iter().map(|spec| planner.step(&spec.id).unwrap().clone()).collect();
                    return (begun, whole, steps, state);
                }
                _ => {}
            }
        }
    }
}

/// The first run, whose steps in `bad` fail, then one that goes on, in which none does: what was begun in that.
#[track_caller]
fn check_resume(nodes: Vec<Node>, bad: &[&str], want: &str) {
    let input = input(nodes);
    let (_, plan, steps, state) = drive(&input, plan(&input, None, &Texts).unwrap(), None, bad);
    assert_eq!(state, RunState::Failed);
    let (plan, first) = resume(&input, &plan, &steps);
    let kept: Vec<StepRecord> = first.iter().filter(|step| step.state != StepState::Pending).cloned().collect();
    let (begun, plan, steps, state) = drive(&input, plan, Some(first), &[]);
    assert_eq!((begun.join(" "), state), (want.to_owned(), RunState::Succeeded));
    for step in kept {
        assert_eq!(steps.iter().find(|other| other.id == step.id), Some(&step), "it stays as it was");
    }
    let ids: std::collections::BTreeSet<&StepId> = plan.steps.iter().map(|spec| &spec.id).collect();
    assert_eq!(ids.len(), plan.steps.len());
    assert!(plan.steps.iter().all(|spec| spec.after.iter().chain(&spec.flow.behind).all(|id| ids.contains(id))));
}

fn agreed(name: &str) -> Node {
    let approvals =
        OperationApprovals { count: 1, from: Vec::new(), when: None, expires: 1, unverified: false, span: span() };
    node(StepDefinition { action: Action::Approval(approvals), ..define(name, "") })
}

#[test]
fn a_run_that_goes_on_asks_again_whether_it_may() {
    // Whatever is done already between the approval and what is left.
    let nodes = || vec![step("a"), agreed("ok"), step("b"), step("c")];
    check_resume(nodes(), &["c"], "run:admit ok c");
    check_resume(nodes(), &["a"], "run:admit a ok b c");
    // Nothing behind it is left.
    check_resume(vec![agreed("ok"), parallel("p", vec![step("b")])], &["run:admit"], "run:admit ok b p");
    // Those within an `each` are of its members, until it is over.
    let of_members = || vec![each("m", Batch::All, false, vec![agreed("ok"), step("x")]), step("z")];
    check_resume(of_members(), &["m[b]/x", "batch:m#1"], "run:admit m[b]/ok m[b]/x batch:m#1 m z");
    check_resume(of_members(), &["z"], "run:admit z");
}

#[test]
fn a_run_goes_on_where_one_failed() {
    check_resume(vec![step("a"), step("b"), step("c")], &["b"], "run:admit b c");
    // What was taken back is done again, with what came after it.
    check_resume(vec![step("a"), undone("b"), step("c"), step("d")], &["d"], "run:admit b c d");
    // Members that had succeeded stay, and gates that count one which had not are asked again.
    let members = |batch| each("m", batch, false, vec![step("x")]);
    check_resume(
        vec![step("a"), members(Batch::Count(1)), step("z")],
        &["m[b]/x", "batch:m#2"],
        "run:admit m[b]/x batch:m#2 m[c]/x batch:m#3 m z",
    );
    // It ended well, although a member had failed: it is over.
    check_resume(vec![members(Batch::All), step("z")], &["m[b]/x", "z"], "run:admit z");
    // The list may be another one when what it was made from was taken back.
    check_resume(
        vec![undone("a"), members(Batch::All), step("z")],
        &["z"],
        "run:admit a each:m m[a]/x m[b]/x m[c]/x batch:m#1 m z",
    );
}
