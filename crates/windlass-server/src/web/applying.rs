//! The apply of a review while it goes on: its waves, and a bar for each instance.

use super::runs::{STEPS, offer};
use crate::pages::common::count;
use crate::pages::parts::{Moment, Offer};
use crate::pages::review::{Bar, BarState, Deed, DeedKind, Gate, Live, Soak, Wave, WaveState};
use crate::pages::{link, run};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use windlass_app::requests::run_view::{Applying, ReviewView};
use windlass_model::Micros;
use windlass_model::id::{InstanceId, StepId};
use windlass_model::journal::event;
use windlass_model::rollout::{self, Answer, GateInput, SoakInput};
use windlass_model::run::{HALTED, RunState, StepRecord, StepSpec, StepState};
use windlass_model::stack_plan::{ApplyWork, driver};

/// How many bars are drawn of a wave.
const BARS: usize = 60;
/// How many waves are drawn, and how many of them before the one that it is at.
const WAVES: usize = 20;
const PAST: usize = 3;

/// Instances that go together, and what they have to prove.
#[derive(Default)]
struct Group<'a> {
    name: String,
    soak: Option<(SoakInput, &'a StepRecord)>,
    gates: Vec<(GateInput, &'a StepRecord)>,
    bars: Vec<Bar>,
    /// Something of it is held back because somebody halted the run.
    halted: bool,
}

/// The apply, as the page of its review shows it at `now`.
pub fn live(apply: &Applying, view: &ReviewView, now: Micros) -> Live {
    let record = &apply.record;
    let (mut groups, of) = groups(apply);
    for (bar, halted) in bars(apply) {
        let at = of.get(&InstanceId::new(bar.instance.as_str())).copied().unwrap_or(groups.len() - 1);
        groups[at].bars.push(bar);
        groups[at].halted |= halted;
    }
    // The last one is for instances without a rollout.
    if groups.len() > 1 && groups.last().is_some_and(|group| group.bars.is_empty()) {
        groups.pop();
    }
    let mut waves: Vec<Wave> = groups.into_iter().map(|group| wave(group, apply, now)).collect();
    let at = waves.iter().position(|wave| wave.state != WaveState::Done).unwrap_or(waves.len());
    let first = at.saturating_sub(PAST).min(waves.len().saturating_sub(WAVES));
    let (before, after) = (first, waves.len().saturating_sub(first + WAVES));
    waves.drain(..first);
    waves.truncate(WAVES);
    Live {
        run: record.id.to_string(),
        state: record.state,
        waits: record.reason.clone().filter(|_| record.state == RunState::Waiting),
        waves,
        before,
        after,
        settle: apply.steps.iter().any(|step| step.state == StepState::Unknown),
        deeds: deeds(apply, view),
    }
}

/// The waves of its rollouts in order, and one more for what is in none; and to which of them each instance belongs.
fn groups(apply: &Applying) -> (Vec<Group<'_>>, HashMap<InstanceId, usize>) {
    let records: HashMap<&StepId, &StepRecord> = apply.steps.iter().map(|step| (&step.id, step)).collect();
    let specs = || apply.record.plan.steps.iter();
    let rollout = |spec: &StepSpec| {
        let id = spec.id.as_str().strip_prefix("soak:")?;
        Some(id.rsplit_once('/')?.0.to_owned())
    };
    let mut rollouts: Vec<String> =
        specs().filter(|spec| spec.work.driver == rollout::driver::SOAK).filter_map(rollout).collect();
    rollouts.dedup();
    let mut groups: Vec<Group<'_>> = Vec::new();
    let (mut of, mut soaks) = (HashMap::new(), HashMap::new());
    for spec in specs() {
        let Some(record) = records.get(&spec.id).copied() else { continue };
        if spec.work.driver == rollout::driver::SOAK {
            let Ok(input) = SoakInput::deserialize(&spec.work.input) else { continue };
            let name = format!("{}. {}", input.wave + 1, input.name);
            let name = match rollout(spec).filter(|_| rollouts.len() > 1) {
                Some(rollout) => format!("{rollout}: {name}"),
                None => name,
            };
            of.extend(input.instances.keys().map(|instance| (instance.clone(), groups.len())));
            soaks.insert(spec.id.clone(), groups.len());
            groups.push(Group { name, soak: Some((input, record)), ..Group::default() });
        } else if spec.work.driver == rollout::driver::GATE {
            let Ok(input) = GateInput::deserialize(&spec.work.input) else { continue };
            let Some(at) = soaks.get(&input.soak) else { continue };
            groups[*at].gates.push((input, record));
        }
    }
    let name = if groups.is_empty() { String::new() } else { "Without waves".to_owned() };
    groups.push(Group { name, ..Group::default() });
    (groups, of)
}

/// One for each instance, in the order of the plan; and whether it is held back.
fn bars(apply: &Applying) -> Vec<(Bar, bool)> {
    let mut seen: HashMap<&str, (u32, Option<String>)> = HashMap::new();
    for event in &apply.events {
        let Some(step) = event.step.as_deref() else { continue };
        let entry = seen.entry(step).or_default();
        let address = event.data["address"].as_str().unwrap_or_default();
        match event.kind.as_str() {
            event::APPLIED => *entry = (entry.0 + 1, None),
            event::STARTED | event::PROGRESS => {
                let action = event.data["action"].as_str().unwrap_or("change");
                entry.1 = Some(format!("{action} of {address}"));
            }
            _ => {}
        }
    }
    let steps: HashMap<&StepId, (usize, &StepRecord)> =
        apply.steps.iter().enumerate().map(|(at, step)| (&step.id, (at, step))).collect();
    let applies = apply.record.plan.steps.iter().filter(|spec| spec.work.driver == driver::APPLY);
    applies
        .filter_map(|spec| {
            let work = ApplyWork::deserialize(&spec.work.input).ok()?;
            let (at, step) = *steps.get(&spec.id)?;
            let instance = &work.work.instance.id;
            // What stops an apply is often a step before it: its plan, or the approval of what that found.
            let mut before = spec.after.iter().filter_map(|id| steps.get(id)).map(|(_, step)| *step);
            let held = before.rfind(|step| !matches!(step.state, StepState::Succeeded | StepState::Pending));
            let shown =
                if step.state.is_final() && step.state != StepState::Skipped { step } else { held.unwrap_or(step) };
            let state = match (step.state, shown.state) {
                (StepState::Succeeded, _) => BarState::Done,
                (StepState::Running, _) | (_, StepState::Running) => BarState::Running,
                (_, StepState::Failed | StepState::Unknown) if apply.quarantined.contains(instance) => {
                    BarState::Quarantined
                }
                (StepState::Unknown, _) | (_, StepState::Failed | StepState::Unknown) => BarState::Failed,
                _ => BarState::Waiting,
            };
            let (done, current) = seen.remove(spec.id.as_str()).unwrap_or_default();
            let address = link::run(apply.record.id.as_str());
            let steps = STEPS as usize;
            let page = (at / steps * steps).to_string();
            let address = link::query(&address, &[("after", if at < steps { "" } else { &page })]);
            let bar = Bar {
                instance: instance.to_string(),
                state,
                done,
                total: u32::try_from(work.reviewed.changes.len()).unwrap_or(u32::MAX),
                current: current.filter(|_| state == BarState::Running),
                reason: shown.reason.clone().or_else(|| step.reason.clone()),
                href: format!("{address}{}", run::anchor(spec.id.as_str())),
            };
            Some((bar, is_halted(step)))
        })
        .collect()
}

/// It was to begin, and somebody halted the run.
fn is_halted(step: &StepRecord) -> bool {
    step.state == StepState::Waiting && step.code.as_deref() == Some(HALTED)
}

fn wave(group: Group<'_>, apply: &Applying, now: Micros) -> Wave {
    let state = wave_state(&group, apply.record.state);
    let Group { name, soak, gates, mut bars, .. } = group;
    let name = if name.is_empty() { count(bars.len(), "instance") } else { name };
    bars.sort_by_key(|bar| match bar.state {
        BarState::Failed | BarState::Quarantined => 0,
        BarState::Running => 1,
        BarState::Waiting => 2,
        BarState::Done => 3,
    });
    let more = bars.len().saturating_sub(BARS);
    bars.truncate(BARS);
    let soak = soak.filter(|(input, _)| input.soak > 0).and_then(|(_, step)| match (step.state, step.not_before) {
        (StepState::Succeeded, _) => step.ended_at.map(|at| Soak { until: Moment::new(at, now), over: true }),
        (StepState::Waiting, Some(until)) => Some(Soak { until: Moment::new(until, now), over: false }),
        _ => None,
    });
    let gates = gates.into_iter().map(|(input, step)| gate(&input, step, &apply.gates)).collect();
    Wave { name, state, bars, more, soak, gates }
}

/// What a gate said last, as its step tells.
fn gate(input: &GateInput, step: &StepRecord, answers: &BTreeMap<StepId, String>) -> Gate {
    let (answer, told) = match step.state {
        StepState::Succeeded => (Some(Answer::Pass), answers.get(&step.id).cloned()),
        StepState::Failed => (Some(Answer::Fail), step.reason.clone()),
        _ if is_halted(step) => (None, step.reason.clone()),
        StepState::Waiting | StepState::Unknown => (Some(Answer::Hold), step.reason.clone()),
        StepState::Pending | StepState::Running | StepState::Skipped | StepState::Cancelled => (None, None),
    };
    Gate { title: input.gate.title(), answer, told: told.filter(|told| !told.is_empty()) }
}

fn wave_state(group: &Group<'_>, run: RunState) -> WaveState {
    let Group { bars, gates, .. } = group;
    let soak = group.soak.as_ref().map(|(_, step)| *step).filter(|step| !is_halted(step));
    let any = |wanted: BarState| bars.iter().any(|bar| bar.state == wanted);
    let soak = soak.map(|step| step.state);
    let gate = |wanted: StepState| gates.iter().any(|(_, step)| step.state == wanted);
    let begun = bars.iter().any(|bar| bar.state != BarState::Waiting);
    let applied = bars.iter().all(|bar| bar.state == BarState::Done);
    match soak {
        // A wave may lose some of its instances and still go on.
        Some(StepState::Succeeded) if gate(StepState::Failed) => WaveState::Failed,
        Some(StepState::Succeeded) if gates.iter().all(|(_, step)| step.state == StepState::Succeeded) => {
            WaveState::Done
        }
        Some(StepState::Succeeded) if !run.is_final() => WaveState::Gated,
        Some(StepState::Waiting | StepState::Running) => WaveState::Soaking,
        Some(StepState::Failed) if begun => WaveState::Failed,
        None if applied && group.soak.is_none() => WaveState::Done,
        _ if any(BarState::Failed) || any(BarState::Quarantined) => WaveState::Failed,
        _ if run.is_final() => WaveState::Halted,
        _ if group.halted => WaveState::Halted,
        _ if begun => WaveState::Applying,
        _ => WaveState::Waiting,
    }
}

fn deeds(apply: &Applying, view: &ReviewView) -> Vec<Deed> {
    let record = &apply.record;
    let base = link::run(record.id.as_str());
    let deed = |kind, offer| Deed { kind, offer };
    if record.state.is_final() {
        let begun = apply.steps.iter().any(|step| step.id.as_str().starts_with("apply:") && step.attempt > 0);
        let back = match begun {
            true => offer(view.create.clone(), format!("{base}/roll-back")),
            false => Offer::closed("nothing of it was begun"),
        };
        return vec![deed(DeedKind::RollBack, back)];
    }
    let mut deeds = Vec::new();
    let halted = apply.steps.iter().any(is_halted);
    if !halted {
        deeds.push(deed(DeedKind::Halt, offer(view.cancel.clone(), format!("{base}/halt"))));
    }
    if halted || record.state == RunState::Waiting {
        deeds.push(deed(DeedKind::Resume, offer(view.resume.clone(), format!("{base}/resume"))));
    }
    let cancel = match record.cancel_requested {
        true => Offer::closed("it was asked to stop already"),
        false => offer(view.cancel.clone(), format!("{base}/cancel")),
    };
    deeds.push(deed(DeedKind::Cancel, cancel));
    deeds
}
