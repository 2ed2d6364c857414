use super::*;
use crate::run::{Cost, Flow, NOT_NEEDED, Repeat, Work};
use proptest::prelude::*;

fn spec(id: &str, after: &[&str], when: When) -> StepSpec {
    StepSpec {
        id: id.into(),
        title: id.into(),
        after: after.iter().map(|a| (*a).into()).collect(),
        when,
        work: Work { driver: "d".into(), input: serde_json::Value::Null },
        repeat: Repeat::Idempotent,
        timeout: None,
        retry: Retry::NEVER,
        locks: vec![],
        cost: Cost::NONE,
        labels: Vec::new(),
        flow: Flow::default(),
    }
}

fn record(id: &str, state: StepState) -> StepRecord {
    StepRecord { state, ..StepRecord::pending(id.into()) }
}

fn asked(stop: Stop) -> Situation {
    Situation { stop, created_at: 0, now: 0 }
}

fn text(decisions: Vec<Decision>) -> String {
    let text = decisions.into_iter().map(|d| match d {
        Decision::Start(id) => format!("start {id}"),
        Decision::Skip(id, why) => format!("skip {id} ({why})"),
        Decision::Cancel(id) => format!("cancel {id}"),
        Decision::Sleep(at) => format!("sleep {at}"),
        Decision::Become(state, _) => state.as_str().to_owned(),
    });
    text.collect::<Vec<_>>().join(", ")
}

fn plan(steps: Vec<StepSpec>) -> RunPlan {
    RunPlan { kind: "t".into(), title: "t".into(), input: serde_json::Value::Null, steps, ..RunPlan::default() }
}

fn check(states: [StepState; 3], cancel: bool, want: &str) {
    let plan = plan(vec![
        spec("a", &[], When::Succeeded),
        spec("b", &["a"], When::Succeeded),
        spec("c", &["a", "b"], When::Always),
    ]);
    let steps: Steps =
        ["a", "b", "c"].iter().zip(states).map(|(id, state)| ((*id).into(), record(id, state))).collect();
    let stop = if cancel { Stop::Cancel } else { Stop::No };
    assert_eq!(text(next(&plan, &steps, &asked(stop))), want, "{states:?} {cancel}");
}

#[test]
fn what_comes_next() {
    use StepState::{Cancelled, Failed, Pending, Running, Skipped, Succeeded, Unknown, Waiting};
    check([Pending, Pending, Pending], false, "start a, running");
    check([Running, Pending, Pending], false, "running");
    check([Succeeded, Pending, Pending], false, "start b, running");
    check([Failed, Pending, Pending], false, "skip b (a failed), running");
    check([Failed, Skipped, Pending], false, "start c, running");
    check([Failed, Skipped, Succeeded], false, "failed");
    check([Succeeded, Waiting, Pending], false, "waiting");
    check([Unknown, Pending, Pending], false, "waiting");
    check([Succeeded, Succeeded, Succeeded], false, "succeeded");
    check([Running, Pending, Pending], true, "cancel b, cancel c, running");
    check([Cancelled, Cancelled, Cancelled], true, "cancelled");
    check([Succeeded, Waiting, Pending], true, "cancel b, cancel c, running");
}

#[test]
fn backoff_doubles_up_to_its_bound() {
    let retry = Retry { attempts: 5, backoff: 10, max_backoff: 35 };
    let waits: Vec<_> = (1..=5).map(|attempt| retry_at(&retry, attempt, 100)).collect();
    assert_eq!(waits, [Some(110), Some(120), Some(135), Some(135), None]);
}

/// `a`, which its undo takes back, then `b`, with an undo as well, then `c`; a handler for each end. States as
/// `a=succeeded b=failed`, the rest is pending; `+` is an attempt that was made.
#[track_caller]
fn check_end(stop: Stop, states: &str, want: &str) {
    let phased = |id: &str, phase| {
        let mut spec = spec(id, &[], When::Always);
        spec.flow.phase = phase;
        spec
    };
    let plan = plan(vec![
        spec("a", &[], When::Succeeded),
        spec("b", &["a"], When::Succeeded),
        spec("c", &["b"], When::Succeeded),
        phased("undo:a", Phase::Undo("a".into())),
        phased("undo:b", Phase::Undo("b".into())),
        phased("undo:c", Phase::Undo("c".into())),
        phased("on_failure:tell", Phase::Failed),
        phased("on_cancel:tell", Phase::Cancelled),
    ]);
    let mut steps: Steps =
        plan.steps.iter().map(|spec| (spec.id.clone(), StepRecord::pending(spec.id.clone()))).collect();
    for state in states.split_whitespace() {
        let (id, state) = state.split_once('=').unwrap();
        let step = steps.get_mut(id).unwrap();
        let name = state.trim_start_matches('+');
        step.attempt = u32::from(name != state);
        step.state = StepState::parse(name.trim_end_matches('!')).unwrap();
        step.code = name.ends_with('!').then(|| NOT_NEEDED.to_owned());
    }
    let situation = Situation { stop, created_at: 0, now: 0 };
    assert_eq!(text(next(&plan, &steps, &situation)), want, "{states}");
}

#[test]
fn what_was_done_is_taken_back_last_first() {
    let none = "skip undo:a (the run succeeded), skip undo:b (the run succeeded), skip undo:c (the run succeeded), \
                skip on_failure:tell (the run succeeded), skip on_cancel:tell (the run succeeded), running";
    check_end(Stop::No, "a=+succeeded b=+succeeded c=+succeeded", none);
    check_end(Stop::No, "a=+succeeded b=+running", "running");
    check_end(Stop::No, "a=+succeeded b=+failed", "skip c (b failed), running");
    let failed = "a=+succeeded b=+failed c=skipped";
    check_end(Stop::No, failed, "skip undo:c (c did not begin), start undo:b, running");
    let undone = format!("{failed} undo:c=skipped");
    check_end(Stop::No, &format!("{undone} undo:b=+running"), "running");
    check_end(Stop::Cancel, &format!("{undone} undo:b=+running"), "running");
    check_end(Stop::No, &format!("{undone} undo:b=+unknown"), "waiting");
    check_end(Stop::No, &format!("{undone} undo:b=+failed"), "start undo:a, running");
    let undone = format!("{undone} undo:b=+succeeded undo:a=+succeeded");
    let want = "skip on_cancel:tell (the run was not cancelled), start on_failure:tell, running";
    check_end(Stop::No, &undone, want);
    let want = "skip on_failure:tell (the run was cancelled), start on_cancel:tell, running";
    check_end(Stop::Cancel, &undone, want);
    // Who is told of a failure is not told of a cancel as well.
    let told = format!("{undone} on_failure:tell=+running");
    check_end(Stop::Cancel, &told, "skip on_cancel:tell (the run was not cancelled), running");
    check_end(Stop::No, &format!("{undone} on_failure:tell=+succeeded on_cancel:tell=skipped"), "failed");
    check_end(Stop::Cancel, &format!("{undone} on_failure:tell=skipped on_cancel:tell=+failed"), "cancelled");
}

#[test]
fn a_step_that_was_not_needed_counts_as_done_and_has_nothing_to_undo() {
    check_end(Stop::No, "a=+skipped!", "start b, running");
    check_end(Stop::No, "a=skipped!", "start b, running");
    let want = "skip undo:c (c did not begin), start undo:b, running";
    check_end(Stop::No, "a=+skipped! b=+failed c=skipped", want);
    let want = "skip undo:a (a did not begin), skip on_cancel:tell (the run was not cancelled), start on_failure:tell, running";
    let states = "a=+skipped! b=+failed c=skipped undo:c=skipped undo:b=+succeeded";
    check_end(Stop::No, states, "skip undo:a (a did not begin), running");
    check_end(
        Stop::No,
        &format!("{states} undo:a=skipped"),
        want.trim_start_matches("skip undo:a (a did not begin), "),
    );
}

#[test]
fn a_cancel_ends_the_main_phase_and_a_kill_everything() {
    check_end(Stop::Cancel, "a=+succeeded b=+running", "cancel c, running");
    let cancelled = "a=+succeeded b=+cancelled c=cancelled";
    let want = "skip undo:c (c did not begin), start undo:b, running";
    check_end(Stop::Cancel, &cancelled.replace("c=cancelled", "c=skipped"), want);
    check_end(Stop::Cancel, cancelled, want);
    let want = "cancel undo:a, cancel undo:b, cancel undo:c, cancel on_failure:tell, cancel on_cancel:tell, running";
    check_end(Stop::Kill, cancelled, want);
    let undoing = format!("{cancelled} undo:c=skipped undo:b=+running");
    check_end(Stop::Kill, &undoing, "cancel undo:a, cancel on_failure:tell, cancel on_cancel:tell, running");
}

#[test]
fn what_a_failure_means_is_said_by_its_step() {
    let check = |effect, want: [&str; 2]| {
        let mut first = spec("a", &[], When::Succeeded);
        first.flow.on_failure = effect;
        let plan = plan(vec![first, spec("b", &["a"], When::Succeeded)]);
        let mut steps: Steps =
            [record("a", StepState::Failed), record("b", StepState::Pending)].map(|s| (s.id.clone(), s)).into();
        assert_eq!(text(next(&plan, &steps, &asked(Stop::No))), want[0]);
        steps.get_mut("b").unwrap().state = StepState::Skipped;
        assert_eq!(text(next(&plan, &steps, &asked(Stop::No))), want[1]);
    };
    check(OnFailure::Fail, ["skip b (a failed), running", "failed"]);
    check(OnFailure::Tolerate, ["skip b (a failed), running", "succeeded"]);
    check(OnFailure::GoOn, ["start b, running", "succeeded"]);
}

#[test]
fn a_run_that_takes_too_long_fails() {
    let mut plan = plan(vec![spec("a", &[], When::Succeeded), spec("b", &["a"], When::Succeeded)]);
    plan.timeout = Some(100);
    let check = |states: [StepState; 2], now, want: &str| {
        let steps: Steps = ["a", "b"].iter().zip(states).map(|(id, state)| ((*id).into(), record(id, state))).collect();
        let situation = Situation { stop: Stop::No, created_at: 1000, now };
        assert_eq!(text(next(&plan, &steps, &situation)), want);
        let planner = Planner::new(plan.timeout, plan.steps.iter().map(|s| (s.clone(), steps[&s.id].clone())));
        assert_eq!(planner.stops_main(&situation), now >= 1100);
    };
    check([StepState::Running, StepState::Pending], 1099, "running, sleep 1100");
    check([StepState::Running, StepState::Pending], 1100, "cancel b, running");
    check([StepState::Cancelled, StepState::Cancelled], 1100, "failed");
    check([StepState::Succeeded, StepState::Succeeded], 1200, "succeeded");
}

#[test]
fn what_a_step_adds_comes_behind_it_and_is_waited_for() {
    let mut gather = spec("all", &["each"], When::Succeeded);
    gather.flow.gathers = Some("each".into());
    let plan = plan(vec![spec("each", &[], When::Succeeded), gather, spec("last", &["all"], When::Succeeded)]);
    let mut member = spec("each[x]", &["each"], When::Succeeded);
    member.flow.on_failure = OnFailure::Tolerate;
    let gate = StepSpec {
        flow: Flow { behind: vec!["each[x]".into()], ..Flow::default() },
        ..spec("each:gate", &["each"], When::Succeeded)
    };
    let expansion =
        Expansion { steps: vec![member, gate], after: vec!["each:gate".into()], behind: vec!["each[x]".into()] };
    let pending = |s: &StepSpec| (s.clone(), StepRecord::pending(s.id.clone()));
    let mut planner = Planner::new(None, plan.steps.iter().map(pending));
    planner.update(&"each".into(), |step| step.state = StepState::Succeeded);
    planner.expand(&"each".into(), &expansion);
    assert_eq!(text(planner.decide(&asked(Stop::No))), "start each[x], running");
    planner.update(&"each[x]".into(), |step| step.state = StepState::Failed);
    assert_eq!(text(planner.decide(&asked(Stop::No))), "start each:gate, running");
    planner.update(&"each:gate".into(), |step| step.state = StepState::Succeeded);
    assert_eq!(text(planner.decide(&asked(Stop::No))), "start all, running");
    // As it is read again.
    let expanded = plan.expanded(&[(StepId::from("each"), expansion)].into());
    let ids: Vec<&str> = expanded.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["each", "each[x]", "each:gate", "all", "last"]);
    let steps: Steps = expanded.steps.iter().map(|s| (s.id.clone(), planner.step(&s.id).unwrap().clone())).collect();
    assert_eq!(text(next(&expanded, &steps, &asked(Stop::No))), "start all, running");
    assert_eq!(planner.spec(&"all".into()).unwrap(), &expanded.steps[3]);
}

#[test]
fn of_many_that_wait_for_room_the_first_are_told_of_and_what_takes_none_always() {
    let room = Cost { cpu_milli: 1, memory_mib: 0 };
    let mut specs: Vec<StepSpec> = (0..5).map(|n| spec(&format!("s{n}"), &[], When::Succeeded)).collect();
    for at in [0, 1, 2, 4] {
        specs[at].cost = room;
    }
    specs[3].cost = Cost::NONE;
    let mut planner = Planner::new(None, specs.iter().map(|s| (s.clone(), StepRecord::pending(s.id.clone()))));
    let said = |planner: &Planner, room| text(planner.decide_some(&asked(Stop::No), room));
    assert_eq!(said(&planner, 2), "start s0, start s1, start s3, running");
    assert_eq!(said(&planner, 9), text(planner.decide(&asked(Stop::No))));
    assert!(planner.has_beyond(3) && !planner.has_beyond(4));
    // One that has a time is not forgotten behind the others, and takes nobody's place.
    planner.update(&"s4".into(), |step| step.not_before = Some(7));
    assert_eq!(said(&planner, 1), "start s0, start s3, running, sleep 7");
    planner.update(&"s0".into(), |step| step.state = StepState::Running);
    assert_eq!(said(&planner, 1), "start s1, start s3, running, sleep 7");
    assert_eq!(said(&planner, 0), "start s3, running, sleep 7");
}

/// What a random run consists of: edges from lower to higher steps, conditions, effects, which steps have an undo, which add two steps,
/// and what their attempts come to.
#[derive(Debug, Clone)]
struct Shape {
    edges: Vec<(usize, usize)>,
    always: Vec<bool>,
    effects: Vec<u8>,
    undone: Vec<bool>,
    adds: Vec<bool>,
    outcomes: Vec<u8>,
    stop_at: usize,
    kill: bool,
    timeout: Option<Micros>,
}

const STEPS: usize = 10;

fn shapes() -> impl Strategy<Value = Shape> {
    use proptest::collection::vec;
    let first = (vec((0..STEPS, 0..STEPS), 0..20), vec(any::<bool>(), STEPS), vec(0u8..3, STEPS));
    let second = (vec(any::<bool>(), STEPS), vec(any::<bool>(), STEPS), vec(0u8..4, 64));
    let third = (0usize..80, any::<bool>(), proptest::option::of(0i64..60));
    (first, second, third).prop_map(|((edges, always, effects), (undone, adds, outcomes), (stop_at, kill, timeout))| {
        Shape { edges, always, effects, undone, adds, outcomes, stop_at, kill, timeout }
    })
}

impl Shape {
    fn plan(&self) -> RunPlan {
        let effect = |n: usize| [OnFailure::Fail, OnFailure::Tolerate, OnFailure::GoOn][self.effects[n] as usize];
        let mut steps = Vec::new();
        for n in 0..STEPS {
            let names: Vec<String> = self
                .edges
                .iter()
                .filter(|(from, to)| *to == n && *from < n)
                .map(|(from, _)| format!("s{from}"))
                .collect();
            let after: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut step = spec(&format!("s{n}"), &after, if self.always[n] { When::Always } else { When::Succeeded });
            step.flow.on_failure = effect(n);
            steps.push(step);
            if self.adds[n] {
                let mut gather = spec(&format!("g{n}"), &[&format!("s{n}")], When::Succeeded);
                gather.flow.gathers = Some(format!("s{n}").into());
                steps.push(gather);
            }
        }
        for n in (0..STEPS).filter(|n| self.undone[*n]) {
            steps.push(phased(&format!("undo:s{n}"), Phase::Undo(format!("s{n}").into())));
        }
        steps.push(phased("failed", Phase::Failed));
        steps.push(phased("cancelled", Phase::Cancelled));
        RunPlan { timeout: self.timeout, ..plan(steps) }
    }

    fn expansion(n: usize) -> Expansion {
        let id = |m: usize| format!("s{n}[{m}]");
        let mut first = spec(&id(0), &[&format!("s{n}")], When::Succeeded);
        first.flow.on_failure = OnFailure::Tolerate;
        let undo = phased(&format!("undo:{}", id(0)), Phase::Undo(id(0).into()));
        let second = StepSpec {
            flow: Flow { behind: vec![id(0).into()], ..Flow::default() },
            ..spec(&id(1), &[], When::Succeeded)
        };
        Expansion { steps: vec![first, second, undo], after: vec![id(1).into()], behind: vec![id(0).into()] }
    }
}

fn phased(id: &str, phase: Phase) -> StepSpec {
    let mut spec = spec(id, &[], When::Always);
    spec.flow.phase = phase;
    spec
}

proptest! {
    /// Whatever the plan, the outcomes and the orders of a person: the run ends; the index says what is said from the beginning; no
    /// step starts before what it waits for; undos run one at a time, each once, after all of the main phase, last step first, and
    /// only of steps that began; a handler has a cause.
    #[test]
    fn every_run_ends_as_it_should(shape in shapes()) {
        let plan = shape.plan();
        let mut planner = Planner::new(plan.timeout, plan.steps.iter().map(|s| (s.clone(), StepRecord::pending(s.id.clone()))));
        let mut expansions = std::collections::BTreeMap::new();
        let (mut ended, mut undone, mut dice) = (None, Vec::new(), shape.outcomes.iter().copied().cycle());
        for round in 0..200 {
            let stop = match (round >= shape.stop_at, shape.kill) {
                (false, _) => Stop::No,
                (true, false) => Stop::Cancel,
                (true, true) => Stop::Kill,
            };
            let situation = Situation { stop, created_at: 0, now: round as Micros };
            let decisions = planner.decide(&situation);
            let whole = plan.clone().expanded(&expansions);
            let steps: Steps = planner.steps().map(|(_, step)| (step.id.clone(), step.clone())).collect();
            prop_assert_eq!(&decisions, &next(&whole, &steps, &situation));
            let position = |id: &StepId| whole.steps.iter().position(|s| s.id == *id).unwrap();
            let main_ended = whole.steps.iter().all(|s| !s.flow.phase.is_main() || steps[&s.id].state.is_final());
            // One of those that may begin does, and may hang for a while; the rest has no place.
            let mut started = false;
            for decision in decisions {
                match decision {
                    Decision::Start(id) if started && planner.spec(&id).unwrap().flow.phase.is_main() => {}
                    Decision::Start(id) => {
                        started = true;
                        let spec = planner.spec(&id).unwrap().clone();
                        match &spec.flow.phase {
                            Phase::Main => {
                                let ended = |id: &StepId| planner.step(id).unwrap().state.is_final();
                                prop_assert!(spec.after.iter().chain(&spec.flow.behind).all(ended));
                                prop_assert!(spec.when == When::Always || spec.after.iter().all(|id| planner.is_fine(id)));
                            }
                            Phase::Undo(of) => {
                                prop_assert!(main_ended && steps[of].has_begun(), "{} of {:?}", id, steps[of]);
                                prop_assert!(undone.iter().all(|before| position(before) > position(of)));
                                undone.push(of.clone());
                            }
                            Phase::Failed => prop_assert!(planner.failure().is_some() || plan.timeout.is_some()),
                            Phase::Cancelled => prop_assert!(stop == Stop::Cancel),
                        }
                        let n: Option<usize> = id.as_str().strip_prefix('s').and_then(|n| n.parse().ok());
                        let outcome = dice.next().unwrap();
                        planner.update(&id, |step| {
                            step.attempt += 1;
                            step.state = match outcome {
                                0 => StepState::Failed,
                                1 => StepState::Running,
                                2 => { step.code = Some(NOT_NEEDED.into()); StepState::Skipped }
                                _ => StepState::Succeeded,
                            };
                        });
                        if let (3, Some(n)) = (outcome, n.filter(|n| shape.adds[*n])) {
                            planner.expand(&id, &Shape::expansion(n));
                            expansions.insert(id, Shape::expansion(n));
                        }
                    }
                    Decision::Skip(id, _) => planner.update(&id, |step| step.state = StepState::Skipped),
                    Decision::Cancel(id) => planner.update(&id, |step| step.state = StepState::Cancelled),
                    Decision::Become(state, _) if state.is_final() => ended = Some(state),
                    Decision::Become(..) | Decision::Sleep(_) => {}
                }
            }
            if ended.is_some() { break; }
            if !started {
                // Whatever hung comes to its end.
                let running: Vec<(StepId, bool)> = planner.steps().filter(|(_, step)| step.state == StepState::Running)
                    .map(|(spec, step)| (step.id.clone(), spec.flow.phase.is_main() && planner.stops_main(&situation))).collect();
                for (id, stopped) in running {
                    let state = if stopped { StepState::Cancelled } else { StepState::Succeeded };
                    planner.update(&id, |step| step.state = state);
                }
            }
        }
        prop_assert!(ended.is_some());
        prop_assert!(planner.steps().all(|(_, step)| step.state.is_final()));
    }
}

proptest! {
    /// Whatever the graph and the outcomes, a run ends, and no step starts before what it waits for has ended.
    #[test]
    fn every_run_ends(edges in proptest::collection::vec((0usize..12, 0usize..12), 0..30), always in proptest::collection::vec(any::<bool>(), 12), outcomes in proptest::collection::vec(0u8..3, 12), cancel_at in 0usize..40) {
        let names: Vec<String> = (0..12).map(|n| format!("s{n:02}")).collect();
        let specs = (0..12).map(|n| {
            let after: Vec<&str> = edges.iter().filter(|(a, b)| *b == n && *a < n).map(|(a, _)| names[*a].as_str()).collect();
            spec(&names[n], &after, if always[n] { When::Always } else { When::Succeeded })
        }).collect();
        let plan = plan(specs);
        let mut steps: Steps = names.iter().map(|n| (n.as_str().into(), record(n, StepState::Pending))).collect();
        let mut ended = None;
        for round in 0..100 {
            for decision in next(&plan, &steps, &asked(if round >= cancel_at { Stop::Cancel } else { Stop::No })) {
                match decision {
                    Decision::Start(id) => {
                        let spec = plan.steps.iter().find(|s| s.id == id).unwrap();
                        prop_assert!(spec.after.iter().all(|a| steps[a].state.is_final()));
                        let n: usize = id.as_str()[1..].parse().unwrap();
                        steps.get_mut(&id).unwrap().state = [StepState::Succeeded, StepState::Failed, StepState::Succeeded][outcomes[n] as usize];
                    }
                    Decision::Skip(id, _) => steps.get_mut(&id).unwrap().state = StepState::Skipped,
                    Decision::Cancel(id) => steps.get_mut(&id).unwrap().state = StepState::Cancelled,
                    Decision::Become(state, _) if state.is_final() => ended = Some(state),
                    Decision::Become(..) | Decision::Sleep(_) => {}
                }
            }
            if ended.is_some() { break; }
        }
        prop_assert!(ended.is_some());
        prop_assert!(steps.values().all(|s| s.state.is_final()));
    }
}
