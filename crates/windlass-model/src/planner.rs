//! What comes next in a run: a pure function of its plan, the states of its steps and the time.

use crate::Micros;
use crate::id::StepId;
use crate::run::{Decision, Retry, RunPlan, RunState, StepState, Steps, When};

/// Everything that is to be done now, in order of the plan. Steps that may start come as [`Decision::Start`]; whether there is
/// room for them is the engine's business.
pub fn next(plan: &RunPlan, steps: &Steps, cancel_requested: bool, now: Micros) -> Vec<Decision> {
    let mut decisions = Vec::new();
    let mut wake: Option<Micros> = None;
    let mut open = 0usize;
    let mut moving = 0usize;
    let mut wait_reason: Option<String> = None;
    let mut failed: Option<String> = None;
    let mut cancelled = false;
    for spec in &plan.steps {
        let Some(record) = steps.get(&spec.id) else { continue };
        match record.state {
            StepState::Succeeded | StepState::Skipped => continue,
            StepState::Failed => {
                failed.get_or_insert_with(|| {
                    format!("{} failed: {}", spec.id, record.reason.as_deref().unwrap_or("no reason was given"))
                });
                continue;
            }
            StepState::Cancelled => {
                cancelled = true;
                continue;
            }
            StepState::Running => {
                open += 1;
                moving += 1;
                continue;
            }
            StepState::Pending | StepState::Waiting | StepState::Unknown if cancel_requested => {
                decisions.push(Decision::Cancel(spec.id.clone()));
                // The next look counts it as cancelled.
                open += 1;
                moving += 1;
                continue;
            }
            StepState::Unknown => {
                open += 1;
                wait_reason.get_or_insert_with(|| {
                    format!(
                        "it is not known whether {} happened: {}",
                        spec.id,
                        record.reason.as_deref().unwrap_or("its engine died")
                    )
                });
                continue;
            }
            StepState::Waiting => {
                open += 1;
                match record.not_before {
                    Some(at) if at <= now => decisions.push(Decision::Start(spec.id.clone())),
                    Some(at) => wake = Some(wake.map_or(at, |w| w.min(at))),
                    None => {}
                }
                wait_reason
                    .get_or_insert_with(|| record.reason.clone().unwrap_or_else(|| format!("{} waits", spec.id)));
                continue;
            }
            StepState::Pending => {}
        }
        open += 1;
        let ended = |id: &StepId| steps.get(id).is_none_or(|s| s.state.is_final());
        let succeeded = |id: &StepId| steps.get(id).is_some_and(|s| s.state == StepState::Succeeded);
        if spec.when == When::Succeeded
            && let Some(cause) = spec.after.iter().find(|id| ended(id) && !succeeded(id))
        {
            let how = steps.get(cause).map_or("is missing", |s| s.state.as_str());
            decisions.push(Decision::Skip(spec.id.clone(), format!("{cause} {how}")));
            moving += 1;
            continue;
        }
        if !spec.after.iter().all(ended) {
            continue;
        }
        moving += 1;
        match record.not_before {
            Some(at) if at > now => wake = Some(wake.map_or(at, |w| w.min(at))),
            _ => decisions.push(Decision::Start(spec.id.clone())),
        }
    }
    if open == 0 {
        let (state, reason) = match (cancelled || cancel_requested, failed) {
            (true, _) => (RunState::Cancelled, Some("cancelled".to_owned())),
            (false, Some(reason)) => (RunState::Failed, Some(reason)),
            (false, None) => (RunState::Succeeded, None),
        };
        return vec![Decision::Become(state, reason)];
    }
    let state = if moving > 0 || decisions.iter().any(|d| matches!(d, Decision::Start(_))) {
        (RunState::Running, None)
    } else {
        (RunState::Waiting, wait_reason)
    };
    decisions.push(Decision::Become(state.0, state.1));
    decisions.extend(wake.map(Decision::Sleep));
    decisions
}

/// When the next attempt may start after attempt number `attempt` failed at `now`; `None` when that was the last.
pub fn retry_at(retry: &Retry, attempt: u32, now: Micros) -> Option<Micros> {
    if attempt >= retry.attempts {
        return None;
    }
    let doubled = retry.backoff.saturating_mul(1 << attempt.saturating_sub(1).min(32));
    Some(now + doubled.min(retry.max_backoff.max(retry.backoff)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Cost, Repeat, StepRecord, StepSpec, Work};
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
        }
    }

    fn record(id: &str, state: StepState) -> StepRecord {
        StepRecord {
            id: id.into(),
            state,
            attempt: 0,
            epoch: 0,
            not_before: None,
            started_at: None,
            ended_at: None,
            output: None,
            reason: None,
            code: None,
        }
    }

    fn plan(steps: Vec<StepSpec>) -> RunPlan {
        RunPlan { kind: "t".into(), title: "t".into(), input: serde_json::Value::Null, steps }
    }

    fn check(states: [StepState; 3], cancel: bool, want: &str) {
        let plan = plan(vec![
            spec("a", &[], When::Succeeded),
            spec("b", &["a"], When::Succeeded),
            spec("c", &["a", "b"], When::Always),
        ]);
        let steps: Steps =
            ["a", "b", "c"].iter().zip(states).map(|(id, state)| ((*id).into(), record(id, state))).collect();
        let text: Vec<String> = next(&plan, &steps, cancel, 0)
            .into_iter()
            .map(|d| match d {
                Decision::Start(id) => format!("start {id}"),
                Decision::Skip(id, why) => format!("skip {id} ({why})"),
                Decision::Cancel(id) => format!("cancel {id}"),
                Decision::Sleep(at) => format!("sleep {at}"),
                Decision::Become(state, _) => state.as_str().to_owned(),
            })
            .collect();
        assert_eq!(text.join(", "), want, "{states:?} {cancel}");
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
                for decision in next(&plan, &steps, round >= cancel_at, 0) {
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
}
