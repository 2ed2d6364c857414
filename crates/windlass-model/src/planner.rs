//! What comes next in a run: it follows from its plan, the states of its steps, what was asked for and the time.

use crate::Micros;
use crate::id::StepId;
use crate::run::{
    Cost, Decision, Expansion, OnFailure, Phase, Retry, RunPlan, RunRecord, RunState, StepRecord, StepSpec, StepState,
    Steps, Stop, When,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What a run is looked at with, beside its plan and its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    pub stop: Stop,
    /// When the run was made.
    pub created_at: Micros,
    pub now: Micros,
}

impl Situation {
    pub fn of(run: &RunRecord, now: Micros) -> Self {
        Self { stop: run.stop(), created_at: run.created_at, now }
    }
}

/// Everything that is to be done now: what never begins, then what may, each in order of the plan. Whether there is room for what
/// comes as [`Decision::Start`] is the engine's business.
pub fn next(plan: &RunPlan, steps: &Steps, situation: &Situation) -> Vec<Decision> {
    let record = |spec: &StepSpec| steps.get(&spec.id).cloned();
    let known = plan.steps.iter().filter_map(|spec| Some((spec.clone(), record(spec)?)));
    Planner::new(plan.timeout, known).decide(situation)
}

/// Where a step stands in the plan: its number, and for one that was added that of the step that added it before its own.
type Rank = Arc<[u32]>;
/// Steps in order of the plan.
type Ranked = BTreeSet<(Rank, usize)>;

/// A run with an index, so that a look at it costs what is to be done and not what there is.
#[derive(Debug, Clone, Default)]
pub struct Planner {
    timeout: Option<Micros>,
    nodes: Vec<Node>,
    by_id: HashMap<StepId, usize>,
    /// Who waits for a step that is not there (yet), by its id.
    missed: HashMap<StepId, Vec<Edge>>,
    top: u32,
    main: Level,
    undos: Level,
    failed: Level,
    cancelled: Level,
    /// Undos by the step they undo, in order of the plan; only such as have not ended.
    undoing: Ranked,
    /// Of the main phase: failures that count.
    broken: Ranked,
    /// Steps of the main phase that were cancelled.
    cut: usize,
    /// Undos and handlers that failed.
    spoiled: Ranked,
    /// A handler of the failure has begun: what comes later does not change what happened.
    told: usize,
    /// Steps that have a time.
    timed: usize,
}

#[derive(Debug, Clone)]
struct Node {
    spec: StepSpec,
    record: StepRecord,
    rank: Rank,
    /// Of an undo: where what it undoes stands.
    undoes: Option<Rank>,
    dependants: Vec<Edge>,
    /// What it comes after and has not ended.
    open: usize,
    /// What of [`StepSpec::after`] has ended, and not well.
    bad: usize,
    /// How many steps it has added.
    added: u32,
}

/// From a step to one that waits for it.
#[derive(Debug, Clone, Copy)]
struct Edge {
    to: usize,
    /// Whether it matters how it ends.
    strict: bool,
}

/// The steps of a phase that have not ended, by what can be done about them.
#[derive(Debug, Clone, Default)]
struct Level {
    open: Ranked,
    running: usize,
    /// Nothing is in their way, they take room, and they wait for no time: there may be very many.
    ready: Ranked,
    /// Nothing is in the way of these either, and they take no room or have a time to wait for.
    apart: Ranked,
    /// Something before them did not succeed.
    barred: Ranked,
    /// They wait, or it is not known whether they happened.
    stuck: Ranked,
}

/// What becomes of a run whose main phase has ended.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Succeeded,
    Failed(String),
    Cancelled,
}

impl Node {
    fn fine(&self) -> bool {
        self.record.state == StepState::Succeeded
            || self.record.is_not_needed()
            || self.record.state == StepState::Failed && self.spec.flow.on_failure == OnFailure::GoOn
    }
}

impl Planner {
    /// Of steps in order of the plan, as [`RunPlan::expanded`] has them.
    pub fn new(timeout: Option<Micros>, steps: impl IntoIterator<Item = (StepSpec, StepRecord)>) -> Self {
        let mut planner = Self { timeout, ..Self::default() };
        for (spec, record) in steps {
            planner.push(spec, record);
        }
        planner
    }

    /// A step has succeeded and added others to the run, as they are recorded.
    pub fn expand(&mut self, by: &StepId, expansion: &Expansion) {
        for spec in &expansion.steps {
            if !self.by_id.contains_key(&spec.id) {
                self.push(spec.clone().added_by(by), StepRecord::pending(spec.id.clone()));
            }
        }
        let gathers = |node: &Node| node.spec.flow.gathers.as_ref() == Some(by);
        let Some(edges) = self.by_id.get(by).map(|by| self.nodes[*by].dependants.clone()) else { return };
        let gathering: BTreeSet<usize> =
            edges.iter().map(|edge| edge.to).filter(|to| gathers(&self.nodes[*to])).collect();
        for to in gathering {
            self.unfile(to);
            self.nodes[to].spec.gather(expansion);
            for id in &expansion.after {
                self.connect(id, Edge { to, strict: true });
            }
            for id in &expansion.behind {
                self.connect(id, Edge { to, strict: false });
            }
            self.file(to);
        }
    }

    /// Whether a step of this id is in it.
    pub fn has(&self, id: &StepId) -> bool {
        self.by_id.contains_key(id)
    }

    pub fn spec(&self, id: &StepId) -> Option<&StepSpec> {
        self.by_id.get(id).map(|at| &self.nodes[*at].spec)
    }

    pub fn step(&self, id: &StepId) -> Option<&StepRecord> {
        self.by_id.get(id).map(|at| &self.nodes[*at].record)
    }

    /// Whether what comes after a step goes on; not before it has ended.
    pub fn is_fine(&self, id: &StepId) -> bool {
        self.by_id.get(id).is_some_and(|at| self.nodes[*at].fine())
    }

    /// All steps, in no order that means anything.
    pub fn steps(&self) -> impl Iterator<Item = (&StepSpec, &StepRecord)> {
        self.nodes.iter().map(|node| (&node.spec, &node.record))
    }

    /// Whether it matters what time it is.
    pub fn is_timed(&self) -> bool {
        self.timed > 0 || self.timeout.is_some()
    }

    /// Why the run failed or is about to: the first step whose failure counts, and what it said.
    pub fn failure(&self) -> Option<(&StepId, Option<&str>)> {
        let record = |(_, at): &(Rank, usize)| &self.nodes[*at].record;
        self.broken.first().map(record).map(|record| (&record.id, record.reason.as_deref()))
    }

    /// Whether what runs of the main phase is to stop.
    pub fn stops_main(&self, situation: &Situation) -> bool {
        situation.stop > Stop::No || self.is_late(situation)
    }

    /// Takes in what is recorded of a step; one that is not in the plan is left out.
    pub fn set(&mut self, record: StepRecord) {
        let Some(&at) = self.by_id.get(&record.id) else { return };
        self.change(at, |known| *known = record);
    }

    /// Changes what is known of a step.
    pub fn update(&mut self, id: &StepId, change: impl FnOnce(&mut StepRecord)) {
        if let Some(&at) = self.by_id.get(id) {
            self.change(at, change);
        }
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&mut StepRecord)) {
        self.unfile(at);
        let before = (self.nodes[at].record.state.is_final(), self.nodes[at].fine());
        change(&mut self.nodes[at].record);
        let after = (self.nodes[at].record.state.is_final(), self.nodes[at].fine());
        self.file(at);
        if before == after {
            return;
        }
        for edge in std::mem::take(&mut self.nodes[at].dependants) {
            self.unfile(edge.to);
            let node = &mut self.nodes[edge.to];
            node.open = node.open + usize::from(!after.0) - usize::from(!before.0);
            if edge.strict {
                node.bad = node.bad + usize::from(after.0 && !after.1) - usize::from(before.0 && !before.1);
            }
            self.file(edge.to);
            self.nodes[at].dependants.push(edge);
        }
    }

    fn push(&mut self, spec: StepSpec, record: StepRecord) {
        let parent = spec.flow.added_by.as_ref().and_then(|by| self.by_id.get(by)).copied();
        let rank: Rank = match parent {
            Some(parent) => {
                let parent = &mut self.nodes[parent];
                parent.added += 1;
                parent.rank.iter().copied().chain([parent.added]).collect()
            }
            None => {
                self.top += 1;
                [self.top].into()
            }
        };
        let at = self.nodes.len();
        let (after, behind, gathers) = (spec.after.clone(), spec.flow.behind.clone(), spec.flow.gathers.clone());
        let undoes = match &spec.flow.phase {
            Phase::Undo(of) => Some(self.by_id.get(of).map_or_else(|| rank.clone(), |of| self.nodes[*of].rank.clone())),
            _ => None,
        };
        self.by_id.insert(spec.id.clone(), at);
        let missed = self.missed.remove(&spec.id).unwrap_or_default();
        self.nodes.push(Node { spec, record, rank, undoes, dependants: Vec::new(), open: 0, bad: 0, added: 0 });
        for id in &after {
            self.connect(id, Edge { to: at, strict: true });
        }
        for id in behind.iter().chain(gathers.as_ref()) {
            self.connect(id, Edge { to: at, strict: false });
        }
        self.file(at);
        for edge in missed {
            // It counted as ended, and badly.
            self.unfile(edge.to);
            self.nodes[edge.to].bad -= usize::from(edge.strict);
            let id = self.nodes[at].spec.id.clone();
            self.connect(&id, edge);
            self.file(edge.to);
        }
    }

    /// Lets a step that is in no set wait for another.
    fn connect(&mut self, id: &StepId, edge: Edge) {
        let Some(&from) = self.by_id.get(id) else {
            self.missed.entry(id.clone()).or_default().push(edge);
            self.nodes[edge.to].bad += usize::from(edge.strict);
            return;
        };
        let (ended, fine) = (self.nodes[from].record.state.is_final(), self.nodes[from].fine());
        self.nodes[from].dependants.push(edge);
        let node = &mut self.nodes[edge.to];
        node.open += usize::from(!ended);
        node.bad += usize::from(edge.strict && ended && !fine);
    }

    /// Puts a step into the sets that it belongs to.
    fn file(&mut self, at: usize) {
        self.sort(at, |set, key| _ = set.insert(key), |count| *count += 1);
    }

    /// Takes a step out of all sets: its record, or what it waits for, is about to change.
    fn unfile(&mut self, at: usize) {
        self.sort(at, |set, key| _ = set.remove(&key), |count| *count -= 1);
    }

    fn sort(&mut self, at: usize, put: impl Fn(&mut Ranked, (Rank, usize)), count: impl Fn(&mut usize)) {
        let Node { spec, record, rank, undoes, open, bad, .. } = &self.nodes[at];
        let key = (rank.clone(), at);
        let level = match &spec.flow.phase {
            Phase::Main => &mut self.main,
            Phase::Undo(_) => &mut self.undos,
            Phase::Failed => &mut self.failed,
            Phase::Cancelled => &mut self.cancelled,
        };
        if !record.state.is_final() {
            put(&mut level.open, key.clone());
        }
        match record.state {
            StepState::Pending if spec.when == When::Succeeded && *bad > 0 => put(&mut level.barred, key.clone()),
            StepState::Pending if *open > 0 => {}
            StepState::Pending if record.not_before.is_some() || spec.cost == Cost::NONE => {
                put(&mut level.apart, key.clone());
            }
            StepState::Pending => put(&mut level.ready, key.clone()),
            StepState::Running => count(&mut level.running),
            StepState::Waiting | StepState::Unknown => put(&mut level.stuck, key.clone()),
            _ => {}
        }
        if record.not_before.is_some() {
            count(&mut self.timed);
        }
        match &spec.flow.phase {
            Phase::Main if record.state == StepState::Failed && spec.flow.on_failure == OnFailure::Fail => {
                put(&mut self.broken, key);
            }
            Phase::Main if record.state == StepState::Cancelled => count(&mut self.cut),
            Phase::Main => {}
            phase => {
                if let Some(of) = undoes.as_ref().filter(|_| !record.state.is_final()) {
                    put(&mut self.undoing, (of.clone(), at));
                }
                if record.state == StepState::Failed {
                    put(&mut self.spoiled, key);
                }
                if *phase == Phase::Failed && record.has_begun() {
                    count(&mut self.told);
                }
            }
        }
    }

    fn is_late(&self, situation: &Situation) -> bool {
        self.timeout.is_some_and(|timeout| situation.now >= situation.created_at.saturating_add(timeout))
    }

    /// What is to be done now, as [`next`].
    pub fn decide(&self, situation: &Situation) -> Vec<Decision> {
        self.decide_some(situation, usize::MAX)
    }

    /// As [`Planner::decide`], with the first `room` of the steps that only wait for room: a look costs what can be begun, and not
    /// what there is.
    pub fn decide_some(&self, situation: &Situation, room: usize) -> Vec<Decision> {
        let mut deciding =
            Deciding { of: self, now: situation.now, room, decisions: Vec::new(), wake: None, moving: 0, why: None };
        let end = deciding.all(situation);
        let Deciding { mut decisions, moving, why, wake, .. } = deciding;
        let (state, reason) = match end {
            Some(end) => end,
            None if moving > 0 => (RunState::Running, None),
            None => (RunState::Waiting, why),
        };
        decisions.push(Decision::Become(state, reason));
        if !state.is_final() {
            decisions.extend(wake.map(Decision::Sleep));
        }
        decisions
    }

    /// Whether more than `room` steps wait for room.
    pub fn has_beyond(&self, room: usize) -> bool {
        [&self.main, &self.undos, &self.failed, &self.cancelled].iter().any(|level| level.ready.len() > room)
    }

    /// What has become of the main phase, once it has ended.
    fn outcome(&self, situation: &Situation) -> Outcome {
        let late = self.cut > 0 && self.is_late(situation);
        if self.told == 0 && (situation.stop > Stop::No || self.cut > 0 && !late) {
            return Outcome::Cancelled;
        }
        match self.broken.first() {
            Some((_, at)) => Outcome::Failed(told(&self.nodes[*at])),
            None if self.cut > 0 => Outcome::Failed("it took longer than its time limit".into()),
            None => Outcome::Succeeded,
        }
    }
}

fn told(node: &Node) -> String {
    format!("{} failed: {}", node.spec.id, node.record.reason.as_deref().unwrap_or("no reason was given"))
}

/// A look at a run.
struct Deciding<'a> {
    of: &'a Planner,
    now: Micros,
    /// Of the steps that only wait for room, how many are told of.
    room: usize,
    decisions: Vec<Decision>,
    /// When something is due.
    wake: Option<Micros>,
    /// How many are under way or about to be.
    moving: usize,
    /// What the first that does not move waits for.
    why: Option<String>,
}

impl<'a> Deciding<'a> {
    /// The state that the run ends in, when there is nothing left to do.
    fn all(&mut self, situation: &Situation) -> Option<(RunState, Option<String>)> {
        let of = self.of;
        if !of.main.open.is_empty() {
            if of.stops_main(situation) {
                self.cancel(&of.main);
            } else {
                self.wake = of.timeout.map(|timeout| situation.created_at.saturating_add(timeout));
                self.level(&of.main);
            }
            return None;
        }
        let outcome = of.outcome(situation);
        let handlers = match &outcome {
            _ if situation.stop == Stop::Kill => {
                for level in [&of.undos, &of.failed, &of.cancelled] {
                    self.cancel(level);
                }
                None
            }
            Outcome::Succeeded => {
                for level in [&of.undos, &of.failed, &of.cancelled] {
                    self.skip(level, "the run succeeded");
                }
                None
            }
            Outcome::Failed(_) => Some((&of.failed, &of.cancelled, "the run was not cancelled")),
            Outcome::Cancelled => Some((&of.cancelled, &of.failed, "the run was cancelled")),
        };
        if let Some((wanted, other, why)) = handlers {
            self.undo();
            if of.undos.open.is_empty() {
                self.skip(other, why);
                self.level(wanted);
            }
        }
        let open = [&of.undos, &of.failed, &of.cancelled].iter().any(|level| !level.open.is_empty());
        if open { None } else { Some(self.end(outcome)) }
    }

    fn end(&self, outcome: Outcome) -> (RunState, Option<String>) {
        let spoiled = || self.of.spoiled.iter().map(|(_, at)| format!("; {}", told(&self.of.nodes[*at])));
        match outcome {
            Outcome::Succeeded => (RunState::Succeeded, None),
            Outcome::Failed(why) => (RunState::Failed, Some(why + &spoiled().collect::<String>())),
            Outcome::Cancelled => (RunState::Cancelled, Some("cancelled".to_owned() + &spoiled().collect::<String>())),
        }
    }

    /// What is to be done in a phase that goes on.
    fn level(&mut self, level: &'a Level) {
        self.moving += level.running + level.barred.len() + level.ready.len() + level.apart.len();
        for (_, at) in &level.barred {
            let node = &self.of.nodes[*at];
            let cause =
                node.spec.after.iter().find_map(|id| match self.of.by_id.get(id).map(|at| &self.of.nodes[*at]) {
                    Some(before) if !before.record.state.is_final() || before.fine() => None,
                    Some(before) => Some(format!("{id} {}", before.record.state.as_str())),
                    None => Some(format!("{id} is missing")),
                });
            let why = cause.unwrap_or_else(|| "something before it failed".into());
            self.decisions.push(Decision::Skip(node.spec.id.clone(), why));
        }
        for (_, at) in &level.stuck {
            self.stuck(&self.of.nodes[*at]);
        }
        let mut ready: Vec<_> = level.ready.iter().take(self.room).chain(&level.apart).collect();
        ready.sort_unstable();
        for (_, at) in ready {
            self.ready(&self.of.nodes[*at]);
        }
    }

    fn ready(&mut self, node: &Node) {
        match node.record.not_before {
            Some(at) if at > self.now => self.sleep(at),
            _ => self.decisions.push(Decision::Start(node.spec.id.clone())),
        }
    }

    fn stuck(&mut self, node: &Node) {
        let Node { spec, record, .. } = node;
        let reason = record.reason.as_deref();
        let why = || match record.state {
            StepState::Unknown => {
                format!("it is not known whether {} happened: {}", spec.id, reason.unwrap_or("its engine died"))
            }
            _ => reason.map_or_else(|| format!("{} waits", spec.id), str::to_owned),
        };
        self.why.get_or_insert_with(why);
        match record.not_before {
            Some(at) if record.state == StepState::Waiting && at <= self.now => {
                self.moving += 1;
                self.decisions.push(Decision::Start(spec.id.clone()));
            }
            Some(at) if record.state == StepState::Waiting => self.sleep(at),
            _ => {}
        }
    }

    fn sleep(&mut self, at: Micros) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Nothing of it begins any more; the next look counts it as cancelled.
    fn cancel(&mut self, level: &'a Level) {
        self.moving += level.open.len();
        let waits = |at: &usize| self.of.nodes[*at].record.state != StepState::Running;
        let ids = level.open.iter().filter(|(_, at)| waits(at)).map(|(_, at)| self.of.nodes[*at].spec.id.clone());
        self.decisions.extend(ids.map(Decision::Cancel));
    }

    fn skip(&mut self, level: &'a Level, why: &str) {
        self.moving += level.open.len();
        for (_, at) in &level.open {
            let node = &self.of.nodes[*at];
            if node.record.state != StepState::Running {
                self.decisions.push(Decision::Skip(node.spec.id.clone(), why.to_owned()));
            }
        }
    }

    /// One after the other, the last step first.
    fn undo(&mut self) {
        for (_, at) in self.of.undoing.iter().rev() {
            let node = &self.of.nodes[*at];
            let Phase::Undo(of) = &node.spec.flow.phase else { continue };
            match node.record.state {
                StepState::Running => self.moving += 1,
                _ if !self.of.step(of).is_some_and(StepRecord::has_begun) => {
                    self.moving += 1;
                    self.decisions.push(Decision::Skip(node.spec.id.clone(), format!("{of} did not begin")));
                    continue;
                }
                StepState::Waiting | StepState::Unknown => self.stuck(node),
                _ => {
                    self.moving += 1;
                    self.ready(node);
                }
            }
            return;
        }
    }
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
mod tests;
