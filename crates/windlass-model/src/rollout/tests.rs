use super::*;
use crate::diagnostic::Severity;
use crate::id::StepId;
use crate::planner::Situation;
use crate::run::{
    Cost, Decision, Flow, Repeat, Retry, RunPlan, RunState, StepRecord, StepSpec, StepState, Steps, Stop, When, Work,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn gate(name: &str) -> Gate {
    Gate::ServiceLevel { name: name.into(), interval: 10 }
}

fn rollout(waves: WaveOrder) -> Rollout {
    Rollout {
        waves,
        soak: 100,
        gates: vec![gate("up")],
        gate_timeout: 50,
        max_failures: 0,
        on_failure: OnFailure::Halt,
    }
}

/// `net[tokyo]` is in region tokyo; `net` has none; `x@prod` is in environment prod.
fn target(text: &str) -> Target {
    let (id, environment) = text.split_once('@').map_or((text, None), |(id, e)| (id, Some(e.to_owned())));
    let instance = InstanceId::new(id);
    let region = instance.key().map(str::to_owned);
    Target { instance, region, environments: environment.into_iter().collect() }
}

fn pairs(text: &str) -> Vec<(InstanceId, InstanceId)> {
    text.split_whitespace()
        .map(|edge| edge.split_once('>').map(|(from, to)| (from.into(), to.into())).unwrap())
        .collect()
}

fn spec(name: &str, select: Vec<Selector>) -> WaveSpec {
    WaveSpec { name: name.into(), select, soak: None, gates: None }
}

fn region(name: &str) -> Selector {
    Selector::Region(name.into())
}

fn planned(order: WaveOrder, targets: &str, edges: &str) -> (String, Vec<String>) {
    let targets: Vec<Target> = targets.split_whitespace().map(target).collect();
    let plan = plan_waves(&rollout(order), &targets, &pairs(edges));
    let waves: Vec<String> = plan
        .waves
        .iter()
        .map(|w| format!("{}: {}", w.name, w.instances.iter().map(InstanceId::as_str).collect::<Vec<_>>().join(" ")))
        .collect();
    (waves.join(" | "), plan.diagnostics.iter().map(|d| format!("{} {}", d.code, d.summary)).collect())
}

#[test]
fn waves_are_cut() {
    let check = |order: WaveOrder, targets: &str, edges: &str, waves: &str, diagnostics: &[&str]| {
        let (found, told) = planned(order, targets, edges);
        assert_eq!(found, waves, "{targets} / {edges}");
        assert_eq!(told, diagnostics, "{targets} / {edges}");
    };
    let declared = || WaveOrder::Declared(vec![spec("one", vec![region("tokyo")]), spec("two", vec![region("osaka")])]);
    check(declared(), "", "", "", &[]);
    // As declared, upstream first within a wave; what is selected by none comes last.
    check(
        declared(),
        "db[osaka] db[tokyo] net[osaka] net[tokyo] other[oslo]",
        "net[tokyo]>db[tokyo] net[osaka]>db[osaka]",
        "one: net[tokyo] db[tokyo] | two: net[osaka] db[osaka] | rest: other[oslo]",
        &[],
    );
    // A wave that nothing is left in is none.
    check(declared(), "net[osaka]", "", "two: net[osaka]", &[]);
    // What all need is not declared, so it goes where it is needed first; also through others.
    check(
        declared(),
        "global dns net[tokyo] net[osaka]",
        "global>dns dns>net[tokyo]",
        "one: global dns net[tokyo] | two: net[osaka]",
        &[],
    );
    // Declared later than its dependant: the early wave shrinks.
    check(
        declared(),
        "a[tokyo] b[tokyo] c[tokyo] net[osaka]",
        "net[osaka]>a[tokyo] a[tokyo]>b[tokyo]",
        "one: c[tokyo] | two: net[osaka] a[tokyo] b[tokyo]",
        &[
            "WL230 a[tokyo] is in wave one, but reads from net[osaka] in wave two",
            "WL230 b[tokyo] is in wave one, but reads from a[tokyo] in wave two",
        ],
    );
    check(
        declared(),
        "a[tokyo] b[tokyo] c[tokyo]",
        "a[tokyo]>b[tokyo] b[tokyo]>c[tokyo] c[tokyo]>b[tokyo]",
        "",
        &["WL217 stacks depend on each other in a circle: b[tokyo] → c[tokyo] → b[tokyo]"],
    );
    // Edges to what is not part of it say nothing; an instance named twice is one.
    check(declared(), "a[tokyo] a[tokyo]", "x>a[tokyo] a[tokyo]>y", "one: a[tokyo]", &[]);
    let by_name = WaveOrder::Declared(vec![
        spec("canary", vec![Selector::Instance("a[osaka]".into())]),
        spec("prod", vec![Selector::Environment("prod".into())]),
        spec("others", vec![Selector::Rest]),
    ]);
    check(by_name, "a[tokyo]@prod a[osaka]@prod b", "", "canary: a[osaka] | prod: a[tokyo] | others: b", &[]);
}

#[test]
fn waves_are_derived() {
    let check = |canary: Option<Selector>, batch: usize, targets: &str, edges: &str, waves: &str| {
        let (found, told) = planned(WaveOrder::Derived { canary, batch }, targets, edges);
        assert_eq!(found, waves, "{targets} / {edges}");
        assert!(told.is_empty(), "{told:?}");
    };
    let four = "n[a] n[b] n[c] n[d]";
    check(None, 1, four, "", "canary: n[a] | b: n[b] | c: n[c] | d: n[d]");
    check(None, 2, four, "", "canary: n[a] | b to c: n[b] n[c] | d: n[d]");
    check(None, 0, four, "", "canary: n[a] | b to d: n[b] n[c] n[d]");
    check(Some(region("c")), 0, four, "", "canary: n[c] | a to d: n[a] n[b] n[d]");
    check(Some(region("nowhere")), 2, four, "", "a to b: n[a] n[b] | c to d: n[c] n[d]");
    // The canary takes along what it reads from.
    check(None, 0, "g n[a] n[b]", "g>n[a] g>n[b]", "canary: g n[a] | b: n[b]");
    // A region that another one reads from comes before it.
    check(None, 1, "n[a] n[b] n[c]", "n[c]>n[b]", "canary: n[a] | c: n[c] | b: n[b]");
    // Regions that need each other: by instance, no earlier than what it reads from.
    check(None, 1, "n[a] n[b] m[b] n[c] m[c]", "n[b]>m[c] n[c]>m[b]", "canary: n[a] | b: n[b] | c: n[c] m[b] m[c]");
    check(None, 1, "x y", "x>y", "rest: x y");
    check(None, 0, "", "", "");
}

proptest! {
    #[test]
    fn every_instance_is_in_one_wave_after_its_upstreams(
        places in proptest::collection::vec(0usize..5, 1..14),
        edges in proptest::collection::vec((0usize..14, 0usize..14), 0..25),
        declared in any::<bool>(),
        batch in 0usize..4,
    ) {
        let regions = ["a", "b", "c", "d"];
        let ids: Vec<String> = places.iter().enumerate().map(|(n, place)| match regions.get(*place) {
            Some(region) => format!("s{n}[{region}]"),
            None => format!("s{n}"),
        }).collect();
        let targets: Vec<Target> = ids.iter().map(|id| target(id)).collect();
        let edges: Vec<(InstanceId, InstanceId)> = edges.iter().filter(|(a, b)| a < b && *b < ids.len())
            .map(|(a, b)| (InstanceId::from(ids[*a].as_str()), InstanceId::from(ids[*b].as_str()))).collect();
        let order = if declared {
            WaveOrder::Declared(vec![spec("1", vec![region("c")]), spec("2", vec![region("a"), region("d")])])
        } else {
            WaveOrder::Derived { canary: None, batch }
        };
        let plan = plan_waves(&rollout(order), &targets, &edges);
        let flat: Vec<(usize, &InstanceId)> = plan.waves.iter().enumerate().flat_map(|(w, wave)| wave.instances.iter().map(move |i| (w, i))).collect();
        prop_assert_eq!(flat.iter().map(|(_, i)| *i).collect::<BTreeSet<_>>().len(), ids.len());
        prop_assert_eq!(flat.len(), ids.len());
        prop_assert!(plan.waves.iter().all(|wave| !wave.instances.is_empty()));
        prop_assert!(plan.diagnostics.iter().all(|d| d.severity == Severity::Warning));
        for (from, to) in &edges {
            let at = |id: &InstanceId| flat.iter().position(|(_, other)| *other == id).unwrap();
            // Earlier in the flat order is an earlier wave, or earlier within it.
            prop_assert!(at(from) < at(to));
        }
    }
}

#[test]
fn a_rollout_is_stored_and_read() {
    let rollout = rollout(WaveOrder::Declared(vec![spec("one", vec![Selector::Rest, region("x")])]));
    assert_eq!(serde_json::from_str::<Rollout>(&serde_json::to_string(&rollout).unwrap()).unwrap(), rollout);
}

#[test]
fn a_gate_that_holds_is_asked_again_and_then_a_person() {
    // Asked every 10, for 50 from 100 on.
    let check = |gate: &Gate, answered: Option<Micros>, now: Micros, want: GateWait| {
        assert_eq!(gate_wait(gate, 50, 100, answered, now), want, "{answered:?} at {now}");
    };
    let level = gate("up");
    check(&level, None, 100, GateWait::Now);
    check(&level, Some(100), 105, GateWait::Until(110));
    check(&level, Some(100), 110, GateWait::Now);
    check(&level, Some(145), 146, GateWait::Until(150));
    check(&level, Some(145), 150, GateWait::Ask);
    check(&level, None, 150, GateWait::Ask);
    // Checks do not change by themselves.
    check(&Gate::Checks, Some(100), 120, GateWait::Until(150));
}

/// Waves `a1 a2 | b1 b2 | c1`, soak 100, one gate, edges a1>a2 and b1>c1, with a plan and an apply for each instance, driven by
/// the planner of runs. Steps in `bad` fail. Gives the ids of the steps that ran, in order, and how the run ended.
fn run(max_failures: u32, bad: &[&str]) -> (Vec<String>, RunState) {
    let wave = |name: &str, instances: &[&str]| Wave {
        name: name.into(),
        instances: instances.iter().map(|i| InstanceId::from(*i)).collect(),
        soak: 100,
        gates: vec![gate("up")],
    };
    let waves = [wave("canary", &["a1", "a2"]), wave("middle", &["b1", "b2"]), wave("last", &["c1"])];
    let edges = pairs("a1>a2 b1>c1");
    let steps_of = |id: &InstanceId| InstanceSteps {
        first: StepId::new(format!("plan:{id}")),
        apply: StepId::new(format!("apply:{id}")),
    };
    let all = || waves.iter().flat_map(|wave| &wave.instances);
    let chain = to_steps("r", &waves, 50, max_failures, &all().map(|id| (id.clone(), steps_of(id))).collect(), |_| {
        Default::default()
    });
    let simple = |id: &StepId, after: Vec<StepId>| StepSpec {
        id: id.clone(),
        title: String::new(),
        after,
        when: When::Succeeded,
        work: Work { driver: "d".into(), input: serde_json::Value::Null },
        repeat: Repeat::Idempotent,
        timeout: None,
        retry: Retry::NEVER,
        locks: vec![],
        cost: Cost::NONE,
        labels: Vec::new(),
        flow: Flow::default(),
    };
    let mut specs = Vec::new();
    for id in all() {
        let own = steps_of(id);
        let mut after: Vec<StepId> =
            edges.iter().filter(|(_, to)| to == id).map(|(from, _)| steps_of(from).apply).collect();
        after.extend(chain.after.get(&own.first).into_iter().flatten().cloned());
        specs.push(simple(&own.first, after));
        specs.push(simple(&own.apply, vec![own.first.clone()]));
    }
    specs.extend(chain.steps);
    let plan = RunPlan {
        kind: "t".into(),
        title: String::new(),
        input: serde_json::Value::Null,
        steps: specs,
        ..RunPlan::default()
    };
    let mut steps: Steps = plan
        .steps
        .iter()
        .map(|s| {
            let record = StepRecord {
                id: s.id.clone(),
                state: StepState::Pending,
                attempt: 0,
                epoch: 0,
                not_before: None,
                started_at: None,
                ended_at: None,
                output: None,
                reason: None,
                code: None,
            };
            (s.id.clone(), record)
        })
        .collect();
    let (mut ran, mut now) = (Vec::new(), 0);
    for _ in 0..200 {
        let mut wake = None;
        for decision in crate::planner::next(&plan, &steps, &Situation { stop: Stop::No, created_at: 0, now }) {
            let (id, ended) = match decision {
                Decision::Start(id) => {
                    let spec = plan.steps.iter().find(|s| s.id == id).unwrap();
                    let ended = if bad.contains(&id.as_str()) {
                        StepState::Failed
                    } else if spec.work.driver == driver::SOAK {
                        let input: SoakInput = serde_json::from_value(spec.work.input.clone()).unwrap();
                        match soak_answer(&input, &steps, now) {
                            SoakAnswer::Passed => StepState::Succeeded,
                            SoakAnswer::Failed(_) => StepState::Failed,
                            SoakAnswer::Until(at) => {
                                let step = steps.get_mut(&id).unwrap();
                                (step.state, step.not_before) = (StepState::Waiting, Some(at));
                                continue;
                            }
                        }
                    } else {
                        StepState::Succeeded
                    };
                    let mut note = format!("{now} {id}");
                    if spec.work.driver == driver::GATE {
                        let input: GateInput = serde_json::from_value(spec.work.input.clone()).unwrap();
                        assert_eq!(input.gate, gate("up"));
                        if input.is_moot(&steps) {
                            note.push_str(" moot");
                        }
                    }
                    ran.push(note);
                    (id, ended)
                }
                Decision::Skip(id, _) => (id, StepState::Skipped),
                Decision::Become(end, _) if end.is_final() => return (ran, end),
                Decision::Sleep(at) => {
                    wake = Some(at);
                    continue;
                }
                _ => continue,
            };
            let step = steps.get_mut(&id).unwrap();
            (step.state, step.ended_at) = (ended, Some(now));
        }
        now = wake.unwrap_or(now);
    }
    panic!("the run never ends: {ran:?}");
}

#[test]
fn the_steps_of_a_run_keep_the_waves() {
    let check = |max_failures: u32, bad: &[&str], want: &str, end: RunState| {
        let (ran, ended) = run(max_failures, bad);
        assert_eq!(ran.join(", "), want, "{bad:?}");
        assert_eq!(ended, end, "{bad:?}");
    };
    let canary = "0 plan:a1, 0 apply:a1, 0 plan:a2, 0 apply:a2, 100 soak:r/1, 100 wave-gate:r/1.1";
    let middle = "100 plan:b1, 100 plan:b2, 100 apply:b1, 100 apply:b2, 200 soak:r/2, 200 wave-gate:r/2.1";
    let last = "200 plan:c1, 200 apply:c1, 300 soak:r/3, 300 wave-gate:r/3.1";
    check(0, &[], &format!("{canary}, {middle}, {last}"), RunState::Succeeded);
    // Later waves are left alone; their soaks end without asking anything.
    check(0, &["wave-gate:r/1.1"], &format!("{canary}, 100 soak:r/2, 100 soak:r/3"), RunState::Failed);
    check(0, &["apply:a1"], "0 plan:a1, 0 apply:a1, 0 soak:r/1, 0 soak:r/2, 0 soak:r/3", RunState::Failed);
    check(0, &["plan:a1"], "0 plan:a1, 0 soak:r/1, 0 soak:r/2, 0 soak:r/3", RunState::Failed);
    // One failure is borne; what reads from it is skipped.
    check(1, &["apply:b1"], &format!("{canary}, {middle}, 200 soak:r/3, 200 wave-gate:r/3.1 moot"), RunState::Failed);
    check(
        1,
        &["plan:b1", "apply:b2"],
        &format!("{canary}, 100 plan:b1, 100 plan:b2, 100 apply:b2, 100 soak:r/2, 100 soak:r/3"),
        RunState::Failed,
    );
}
