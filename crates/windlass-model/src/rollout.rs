//! Waves: a change reaches the instances of a rollout in groups, each of which has to prove itself before the next one begins.
//!
//! [`plan_waves`] cuts instances into waves, [`next`] says from recorded facts what is to be done now, and [`to_steps`] writes
//! the same waves as steps of a run.

mod plan;
mod steps;

pub use plan::{Target, Wave, WavePlan, plan_waves};
pub use steps::{
    GateInput, GateWait, InstanceSteps, RolloutSteps, SoakAnswer, SoakInput, driver, gate_step, gate_wait, soak_answer,
    soak_step, to_steps,
};

use crate::Micros;
use crate::id::InstanceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a definition says about waves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub waves: WaveOrder,
    /// How long a wave is left alone before its gates are asked, microseconds.
    pub soak: Micros,
    /// Asked after each wave; all have to pass.
    pub gates: Vec<Gate>,
    /// How long a gate may hold before a person is asked, microseconds.
    pub gate_timeout: Micros,
    /// Failed instances that a wave may have and still go on.
    pub max_failures: u32,
    pub on_failure: OnFailure,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveOrder {
    /// First the canary, then the other regions and environments, `batch` of them at a time; 0 is all at once. Without a
    /// selector the canary is the first region.
    Derived {
        canary: Option<Selector>,
        batch: usize,
    },
    Declared(Vec<WaveSpec>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveSpec {
    pub name: String,
    /// An instance belongs to the first wave of which any selector matches it.
    pub select: Vec<Selector>,
    /// Instead of the rollout's.
    pub soak: Option<Micros>,
    /// Instead of the rollout's.
    pub gates: Option<Vec<Gate>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    Instance(InstanceId),
    Region(String),
    Environment(String),
    /// Whatever no wave before it selects.
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing more is begun; a person decides.
    Halt,
    /// What was applied is to go back to the last applied commit, as a run of its own that is reviewed like any other.
    Rollback,
}

/// What a wave has to pass. Times are microseconds; `interval` is the time from an answer to the next question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Gate {
    /// Passes with exit status 0, fails with 1, holds with any other.
    Command { argv: Vec<String>, timeout: Micros, interval: Micros },
    /// Passes with a status from `status.0` to `status.1` and, where it is given, a body with this text.
    Http { url: String, status: (u16, u16), contains: Option<String>, timeout: Micros, interval: Micros },
    /// Passes when `host:port` accepts a connection.
    Tcp { address: String, timeout: Micros, interval: Micros },
    /// The `check` blocks of the wave's instances, as their applies left them.
    Checks,
    /// A service level by its name.
    ServiceLevel { name: String, interval: Micros },
}

impl Gate {
    /// How it is called on a screen.
    pub fn title(&self) -> String {
        match self {
            Self::Command { argv, .. } => format!("command `{}`", argv.join(" ")),
            Self::Http { url, .. } => format!("GET {url}"),
            Self::Tcp { address, .. } => format!("connection to {address}"),
            Self::Checks => "terraform checks".into(),
            Self::ServiceLevel { name, .. } => format!("service level {name}"),
        }
    }

    /// From an answer to the next question. Checks do not change by themselves: they are asked again when somebody resumes.
    pub fn interval(&self) -> Option<Micros> {
        match self {
            Self::Command { interval, .. }
            | Self::Http { interval, .. }
            | Self::Tcp { interval, .. }
            | Self::ServiceLevel { interval, .. } => Some(*interval),
            Self::Checks => None,
        }
    }

    /// Of one question.
    pub fn timeout(&self) -> Option<Micros> {
        match self {
            Self::Command { timeout, .. } | Self::Http { timeout, .. } | Self::Tcp { timeout, .. } => Some(*timeout),
            Self::Checks | Self::ServiceLevel { .. } => None,
        }
    }
}

/// What a gate says. No data, too little data and a question that could not be asked are [`Answer::Hold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Pass,
    Hold,
    Fail,
}

/// A rollout under way: what was planned, and all that happened, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutState {
    pub waves: Vec<Wave>,
    /// (upstream, dependant); an instance begins when its upstreams in the rollout are applied.
    pub edges: Vec<(InstanceId, InstanceId)>,
    pub gate_timeout: Micros,
    pub max_failures: u32,
    pub on_failure: OnFailure,
    pub facts: Vec<Fact>,
}

/// Something that happened. The last fact about an instance or a gate is what holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    Started {
        instance: InstanceId,
        at: Micros,
    },
    Applied {
        instance: InstanceId,
        at: Micros,
    },
    Failed {
        instance: InstanceId,
        reason: String,
        at: Micros,
    },
    /// Indices into [`RolloutState::waves`] and the wave's gates.
    Answered {
        wave: usize,
        gate: usize,
        answer: Answer,
        reason: String,
        at: Micros,
    },
    Said {
        word: Word,
        by: String,
        at: Micros,
    },
}

/// What a person may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Go on where it stopped: what failed is tried again, gates that did not pass are asked again.
    Resume,
    /// The gates of this wave that do not pass count as passed.
    Proceed {
        wave: usize,
    },
    Halt,
    RollBack,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum RolloutDecision {
    /// The wave before has passed; the first instances of this one follow.
    Advance { wave: usize },
    /// Apply it.
    Start { instance: InstanceId },
    /// It will not be applied, because an upstream in the rollout was not.
    Skip { instance: InstanceId, reason: String },
    /// Ask this gate, and record the answer.
    Evaluate { wave: usize, gate: usize },
    /// Look again at `until`, or when something happens.
    Wait { until: Option<Micros>, reason: String },
    /// It goes on when a person says so.
    Ask { wave: usize, reason: String },
    /// Nothing more is begun; `untouched` were not.
    Halt { wave: usize, reason: String, untouched: Vec<InstanceId> },
    /// Nothing more is begun; these go back, in this order: the last one applied first. One that failed may be half applied, so it
    /// is among them.
    RollBack { wave: usize, reason: String, instances: Vec<InstanceId> },
    /// All waves have passed.
    Done { failed: Vec<InstanceId>, skipped: Vec<InstanceId> },
}

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Running,
    Applied(Micros),
    Failed(String),
}

/// The facts by what they are about.
struct Known<'a> {
    instances: BTreeMap<&'a InstanceId, Condition>,
    gates: BTreeMap<(usize, usize), (Answer, &'a str, Micros)>,
    /// Ends of applies in the order they were recorded, failed ones included, also when they are tried again.
    ended: Vec<&'a InstanceId>,
    resumed: Option<Micros>,
    proceed: Vec<usize>,
    stop: Option<(Word, &'a str)>,
}

impl<'a> Known<'a> {
    fn of(facts: &'a [Fact]) -> Self {
        let mut known = Self {
            instances: BTreeMap::new(),
            gates: BTreeMap::new(),
            ended: Vec::new(),
            resumed: None,
            proceed: Vec::new(),
            stop: None,
        };
        for fact in facts {
            match fact {
                Fact::Started { instance, .. } => drop(known.instances.insert(instance, Condition::Running)),
                Fact::Applied { instance, at } => {
                    known.instances.insert(instance, Condition::Applied(*at));
                    known.end(instance);
                }
                Fact::Failed { instance, reason, .. } => {
                    known.instances.insert(instance, Condition::Failed(reason.clone()));
                    known.end(instance);
                }
                Fact::Answered { wave, gate, answer, reason, at } => {
                    known.gates.insert((*wave, *gate), (*answer, reason, *at));
                }
                Fact::Said { word: Word::Proceed { wave }, .. } => known.proceed.push(*wave),
                Fact::Said { word: Word::Resume, at, .. } => {
                    known.resumed = Some(*at);
                    known.stop = None;
                    known.instances.retain(|_, condition| !matches!(condition, Condition::Failed(_)));
                    known.gates.retain(|_, (answer, ..)| *answer == Answer::Pass);
                }
                Fact::Said { word, by, .. } => known.stop = Some((*word, by)),
            }
        }
        known
    }

    fn end(&mut self, instance: &'a InstanceId) {
        self.ended.retain(|other| *other != instance);
        self.ended.push(instance);
    }
}

/// Everything that is to be done now. Asking twice without a new fact gives the same answer: who carries out the decisions
/// records a fact for each, and does not begin what it is already doing.
pub fn next(state: &RolloutState, now: Micros) -> Vec<RolloutDecision> {
    let known = Known::of(&state.facts);
    let mut decisions = Vec::new();
    let mut skipped: BTreeMap<&InstanceId, String> = BTreeMap::new();
    for (index, wave) in state.waves.iter().enumerate() {
        let walk = walk_wave(state, &known, index, &mut skipped);
        decisions.extend(walk.skip.iter().map(|instance| RolloutDecision::Skip {
            instance: (*instance).clone(),
            reason: skipped.get(instance).cloned().unwrap_or_default(),
        }));
        let failures = too_many_failures(state, wave, &walk.failed);
        let open = !walk.running.is_empty() || !walk.start.is_empty() || !walk.stuck.is_empty();
        let gates = if open { GatesSay::Wait(None, String::new()) } else { ask_gates(state, &known, index, wave, now) };
        if failures.is_none() && matches!(gates, GatesSay::Passed) {
            continue;
        }
        // What a person said is about the wave that is under way.
        let verdict = match known.stop {
            Some((Word::RollBack, by)) => Some((format!("{by} asked for a rollback"), OnFailure::Rollback)),
            Some((_, by)) => Some((format!("{by} halted it"), OnFailure::Halt)),
            None => failures.map(|reason| (reason, state.on_failure)),
        };
        if let Some((reason, how)) = verdict {
            return stop(state, &known, index, reason, how, &walk, decisions);
        }
        if open {
            // The first of the wave: say that it begins.
            if index > 0 && wave.instances.iter().all(|instance| !known.instances.contains_key(instance)) {
                decisions.push(RolloutDecision::Advance { wave: index });
            }
            decisions.extend(walk.start.iter().map(|i| RolloutDecision::Start { instance: (*i).clone() }));
            match (walk.start.is_empty(), walk.running.is_empty(), walk.stuck.first()) {
                (true, false, _) => {
                    decisions.push(RolloutDecision::Wait { until: None, reason: under_way(&walk.running) });
                }
                (true, true, Some(stuck)) => {
                    let reason = format!("{stuck} waits for itself, through what it reads from");
                    return stop(state, &known, index, reason, OnFailure::Halt, &walk, decisions);
                }
                _ => {}
            }
            return decisions;
        }
        match gates {
            GatesSay::Passed => {}
            GatesSay::Wait(until, reason) => {
                decisions.push(RolloutDecision::Wait { until, reason });
                return decisions;
            }
            GatesSay::Evaluate(gates) => {
                decisions.extend(gates.into_iter().map(|gate| RolloutDecision::Evaluate { wave: index, gate }));
                return decisions;
            }
            GatesSay::Ask(reason) => {
                decisions.push(RolloutDecision::Ask { wave: index, reason });
                return decisions;
            }
            GatesSay::Failed(reason) => {
                return stop(state, &known, index, reason, state.on_failure, &walk, decisions);
            }
        }
    }
    let failed = known
        .instances
        .iter()
        .filter(|(_, condition)| matches!(condition, Condition::Failed(_)))
        .map(|(instance, _)| (*instance).clone())
        .collect();
    if let Some((Word::RollBack, by)) = known.stop {
        let wave = state.waves.len().saturating_sub(1);
        let instances = known.ended.iter().rev().map(|instance| (*instance).clone()).collect();
        let reason = format!("{by} asked for a rollback");
        decisions.push(RolloutDecision::RollBack { wave, reason, instances });
        return decisions;
    }
    decisions.push(RolloutDecision::Done { failed, skipped: skipped.into_keys().cloned().collect() });
    decisions
}

struct Walk<'a> {
    start: Vec<&'a InstanceId>,
    running: Vec<&'a InstanceId>,
    failed: Vec<(&'a InstanceId, String)>,
    skip: Vec<&'a InstanceId>,
    /// Not begun, and waiting for another one of this or an earlier wave.
    stuck: Vec<&'a InstanceId>,
}

/// Where the instances of a wave are. Those below an upstream that failed or was skipped join `skipped`.
fn walk_wave<'a>(
    state: &'a RolloutState,
    known: &Known,
    index: usize,
    skipped: &mut BTreeMap<&'a InstanceId, String>,
) -> Walk<'a> {
    let mut walk =
        Walk { start: Vec::new(), running: Vec::new(), failed: Vec::new(), skip: Vec::new(), stuck: Vec::new() };
    let planned = |id: &InstanceId| state.waves[..=index].iter().any(|wave| wave.instances.contains(id));
    // A wave's instances come upstream first, so one look at each is enough.
    for instance in &state.waves[index].instances {
        match known.instances.get(instance) {
            Some(Condition::Running) => walk.running.push(instance),
            Some(Condition::Failed(reason)) => walk.failed.push((instance, reason.clone())),
            Some(Condition::Applied(_)) => {}
            None => {
                let upstreams =
                    || state.edges.iter().filter(|(from, to)| to == instance && planned(from)).map(|(from, _)| from);
                let lost = upstreams().find(|from| {
                    skipped.contains_key(from) || matches!(known.instances.get(from), Some(Condition::Failed(_)))
                });
                if let Some(lost) = lost {
                    skipped.insert(instance, format!("{lost}, which it reads from, was not applied"));
                    walk.skip.push(instance);
                } else if upstreams().all(|from| matches!(known.instances.get(from), Some(Condition::Applied(_)))) {
                    walk.start.push(instance);
                } else {
                    walk.stuck.push(instance);
                }
            }
        }
    }
    walk
}

fn too_many_failures(state: &RolloutState, wave: &Wave, failed: &[(&InstanceId, String)]) -> Option<String> {
    let count = failed.len();
    if u32::try_from(count).is_ok_and(|count| count <= state.max_failures) {
        return None;
    }
    let each: Vec<String> = failed.iter().map(|(instance, reason)| format!("{instance}: {reason}")).collect();
    let allowed = match state.max_failures {
        0 => String::new(),
        n => format!(" ({n} allowed)"),
    };
    Some(format!("{count} of {} in wave {} failed{allowed}: {}", wave.instances.len(), wave.name, each.join("; ")))
}

fn under_way(running: &[&InstanceId]) -> String {
    match running {
        [one] => format!("{one} is being applied"),
        many => format!("{} instances are being applied", many.len()),
    }
}

/// Nothing is begun any more. What is under way comes to its end first: a half-done apply is the worst to stand on.
fn stop(
    state: &RolloutState,
    known: &Known,
    wave: usize,
    reason: String,
    how: OnFailure,
    walk: &Walk,
    mut decisions: Vec<RolloutDecision>,
) -> Vec<RolloutDecision> {
    if !walk.running.is_empty() {
        let reason = format!("{reason}; {}", under_way(&walk.running));
        decisions.push(RolloutDecision::Wait { until: None, reason });
        return decisions;
    }
    decisions.push(match how {
        OnFailure::Halt => {
            let all = state.waves.iter().flat_map(|wave| &wave.instances);
            let untouched = all.filter(|instance| !known.ended.contains(instance)).cloned().collect();
            RolloutDecision::Halt { wave, reason, untouched }
        }
        OnFailure::Rollback => {
            let instances = known.ended.iter().rev().map(|instance| (*instance).clone()).collect();
            RolloutDecision::RollBack { wave, reason, instances }
        }
    });
    decisions
}

enum GatesSay {
    Passed,
    Wait(Option<Micros>, String),
    Evaluate(Vec<usize>),
    Ask(String),
    Failed(String),
}

/// What soak and gates of a wave say, all of whose instances have ended.
fn ask_gates(state: &RolloutState, known: &Known, index: usize, wave: &Wave, now: Micros) -> GatesSay {
    let applied = wave.instances.iter().filter_map(|instance| match known.instances.get(instance) {
        Some(Condition::Applied(at)) => Some(*at),
        _ => None,
    });
    // Where nothing was applied there is nothing to prove.
    let Some(last) = applied.max() else { return GatesSay::Passed };
    let soaked = last.saturating_add(wave.soak);
    if now < soaked {
        return GatesSay::Wait(Some(soaked), format!("wave {} soaks", wave.name));
    }
    if known.proceed.contains(&index) {
        return GatesSay::Passed;
    }
    // Who resumes gives the gates their time once more.
    let since = soaked.max(known.resumed.unwrap_or(soaked));
    let mut evaluate = Vec::new();
    let mut ask = Vec::new();
    let mut wait: Option<(Micros, String)> = None;
    for (number, gate) in wave.gates.iter().enumerate() {
        // An answer from before the end of the soak is about something else.
        let answer = known.gates.get(&(index, number)).filter(|(.., at)| *at >= soaked);
        let (reason, at) = match answer {
            Some((Answer::Pass, ..)) => continue,
            Some((Answer::Fail, reason, _)) => {
                return GatesSay::Failed(format!("gate of wave {} failed: {}: {reason}", wave.name, gate.title()));
            }
            Some((Answer::Hold, reason, at)) => (*reason, Some(*at)),
            None => ("it has not answered", None),
        };
        match gate_wait(gate, state.gate_timeout, since, at, now) {
            GateWait::Ask => ask.push(format!("{} holds: {reason}", gate.title())),
            GateWait::Now => evaluate.push(number),
            GateWait::Until(until) => {
                let reason = format!("{} holds: {reason}", gate.title());
                wait = Some(wait.filter(|(earlier, _)| *earlier <= until).unwrap_or((until, reason)));
            }
        }
    }
    if !ask.is_empty() {
        return GatesSay::Ask(format!("wave {} cannot be judged: {}", wave.name, ask.join("; ")));
    }
    match (evaluate.is_empty(), wait) {
        (false, _) => GatesSay::Evaluate(evaluate),
        (true, Some((until, reason))) => GatesSay::Wait(Some(until), reason),
        (true, None) => GatesSay::Passed,
    }
}

#[cfg(test)]
mod tests;
