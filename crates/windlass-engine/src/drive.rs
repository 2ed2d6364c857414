//! Driving one run: what ended, what follows from it and what begins is decided here, and written at once.

use crate::context::{StepContext, StepResult};
use crate::owned::Owned;
use crate::slots::Slot;
use crate::{Engine, POLL, Progress, attempt, micros, outcome, recovery};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::sync::futures::Notified;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_model::Micros;
use windlass_model::id::StepId;
use windlass_model::planner::{Planner, Situation};
use windlass_model::run::{Cost, Decision, Expansion, RunRecord, RunState, StepRecord, StepState, Stop};
use windlass_store::{Claim, Durability, Finish, Locked, Look, Move, StepOutcome, StoreError, Turn, Turned};

/// A run, as its engine knows it.
pub(crate) struct Drive {
    engine: Engine,
    pub record: RunRecord,
    /// What was read with it, until that was looked at.
    opened: Option<Look>,
    /// The run's end was recorded by this drive.
    pub ended_here: bool,
    /// Its steps as recorded, or as they will be when `ended` is.
    plan: Planner,
    /// The plan has grown since `record` was read.
    grown: bool,
    /// Steps whose additions are in the plan.
    expanded: HashSet<StepId>,
    /// The last event of the run that was looked at.
    seen: Option<i64>,
    /// Nothing was read yet, or the plan is not what it was thought to be.
    unread: bool,
    tasks: JoinSet<Attempted>,
    running: HashMap<StepId, Running>,
    /// Until the ends of their attempts are recorded.
    owned: HashMap<StepId, Owned>,
    /// Attempts that ended and are not recorded yet.
    ended: Vec<Finish>,
    /// How many steps that only wait for room are looked at.
    window: usize,
    /// There was room for all of those.
    roomy: bool,
    /// What was told of steps that are held back.
    told: HashMap<StepId, String>,
}

struct Running {
    cancel: CancellationToken,
    kill: CancellationToken,
    main: bool,
    _slot: Slot,
}

struct Attempted {
    claim: Claim,
    result: StepResult,
    /// The last of its log, which is not written yet.
    log: Vec<u8>,
}

/// What is to be done next, as the planner says.
#[derive(Default)]
struct Decided {
    closed: Vec<(StepId, StepState, String)>,
    starts: Vec<StepId>,
    state: Option<(RunState, Option<String>)>,
    /// How long until something that waits for a time has its turn, µs.
    sleeps: Option<Micros>,
}

/// Who drives all runs there are lets go of one that waits for longer than this, µs: it is found again when its time has come.
const FAR: Micros = 5_000_000;

/// More are looked at where there was room for all of these.
const WINDOW: usize = 64;

impl Drive {
    /// What was read with the record is its first look.
    pub fn new(engine: Engine, record: RunRecord, look: Look) -> Self {
        Self {
            engine,
            record,
            opened: Some(look),
            ended_here: false,
            plan: Planner::default(),
            grown: false,
            expanded: HashSet::new(),
            seen: None,
            unread: true,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            owned: HashMap::new(),
            ended: Vec::new(),
            window: WINDOW,
            roomy: false,
            told: HashMap::new(),
        }
    }

    /// Tells what is under way to stop, and waits until it has.
    pub async fn stop(&mut self) {
        self.running.values().for_each(|step| step.cancel.cancel());
        while self.tasks.join_next().await.is_some() {}
    }

    /// Tells those to stop that somebody, or the time, wants to.
    fn halt(&self, situation: &Situation) {
        if !self.plan.stops_main(situation) {
            return;
        }
        for step in self.running.values() {
            if situation.stop == Stop::Kill {
                step.kill.cancel();
            }
            if step.main || situation.stop == Stop::Kill {
                step.cancel.cancel();
            }
        }
    }

    /// The run, with all that was added to its plan.
    pub async fn into_record(self) -> Result<(RunRecord, bool), StoreError> {
        let record = if self.grown { self.engine.store.run_get(&self.record.id).await? } else { self.record };
        Ok((record, self.ended_here))
    }

    /// Until the run has ended, or waits for something that only a person can give, or the engine begins nothing more.
    pub async fn follow(&mut self) -> Result<(), StoreError> {
        let mut looked: Option<Instant> = None;
        let mut wrong = false;
        let slots = self.engine.slots.clone();
        if self.record.state.is_final() {
            return Ok(());
        }
        loop {
            let looks = looked.is_none_or(|at| at.elapsed() >= POLL);
            if looks {
                self.write(Turn::default()).await?;
                self.look().await?;
                looked = Some(Instant::now());
                if self.record.state.is_final() {
                    return Ok(());
                }
            }
            if !self.running.is_empty() {
                self.engine.beat().await?;
            }
            self.halt(&Situation::of(&self.record, 0));
            while let Some(attempted) = self.tasks.try_join_next() {
                self.took_end(attempted).await?;
            }
            if self.engine.drain.is_cancelled() {
                self.write(Turn::default()).await?;
                let Some(attempted) = self.tasks.join_next().await else { return Ok(()) };
                self.took_end(attempted).await?;
                continue;
            }
            let decided = self.decide().await?;
            // From here on: a place that becomes free while others are taken is not missed.
            let freed = slots.freed();
            tokio::pin!(freed);
            Notified::enable(freed.as_mut());
            let (sleeps, held) = (decided.sleeps, self.turn(decided).await?);
            let Some(held) = held else {
                // Something was not as it was thought to be.
                looked = None;
                if std::mem::replace(&mut wrong, true) {
                    // Again, although it was just read: somebody is in the middle of something.
                    tokio::time::sleep(POLL / 10).await;
                }
                continue;
            };
            wrong = false;
            if self.roomy && self.plan.has_beyond(self.window) {
                self.window *= 4;
                continue;
            }
            let near = sleeps.is_some_and(|wait| !self.engine.serves || wait < FAR);
            if self.record.state == RunState::Waiting && self.running.is_empty() && !held && !near {
                return Ok(());
            }
            if self.record.state.is_final() {
                return Ok(());
            }
            // That goes through all steps, which is not for each that ends.
            if looks && sleeps.is_some() {
                self.tell_sleepers();
            }
            tokio::select! {
                Some(attempted) = self.tasks.join_next() => self.took_end(attempted).await?,
                () = freed, if held => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// What the planner says; steps that it closes are shown as closed, and those that this closes too are among them.
    async fn decide(&mut self) -> Result<Decided, StoreError> {
        // Only where something has a time does it matter what time it is.
        let now: Micros = if self.plan.is_timed() { self.engine.store.now().await? } else { 0 };
        let situation = Situation::of(&self.record, now);
        self.halt(&situation);
        let mut decided = Decided::default();
        loop {
            let closed = decided.closed.len();
            decided = Decided { closed: decided.closed, ..Decided::default() };
            for decision in self.plan.decide_some(&situation, self.window) {
                match decision {
                    Decision::Start(id) => decided.starts.push(id),
                    Decision::Skip(id, reason) => decided.closed.push((id, StepState::Skipped, reason)),
                    Decision::Cancel(id) => {
                        let began = self.plan.step(&id).is_some_and(|step| step.attempt > 0);
                        let why = if began { "cancelled while it waited" } else { "cancelled before it began" };
                        decided.closed.push((id, StepState::Cancelled, why.to_owned()));
                    }
                    Decision::Become(to, reason) => decided.state = Some((to, reason)),
                    Decision::Sleep(at) => decided.sleeps = Some(at - now),
                }
            }
            if decided.closed.len() == closed {
                return Ok(decided);
            }
            for (id, state, reason) in &decided.closed[closed..] {
                self.plan.update(id, |step| (step.state, step.reason) = (*state, Some(reason.clone())));
            }
        }
    }

    /// Writes what ended and what was decided, and begins what there is room for. Whether something is held back; `None` when what
    /// is recorded has to be read again.
    async fn turn(&mut self, decided: Decided) -> Result<Option<bool>, StoreError> {
        let mut held = false;
        let mut slots: HashMap<StepId, (Slot, Owned)> = HashMap::new();
        let mut turn = Turn { closed: decided.closed, ..Turn::default() };
        // There is no room for what takes as much as something that there was no room for.
        let mut full: Option<Cost> = None;
        for id in decided.starts {
            let Some(spec) = self.plan.spec(&id) else { continue };
            if self.running.contains_key(&id) {
                // It was lost to another engine, which gave it free again, before its attempt here has noticed.
                held = true;
                continue;
            }
            if !self.engine.options.take(spec) {
                self.hold(&id, "waits for a worker that has its labels");
                held = true;
                continue;
            }
            let larger = |full: Cost| spec.cost.cpu_milli >= full.cpu_milli && spec.cost.memory_mib >= full.memory_mib;
            let slot = if full.is_some_and(larger) {
                None
            } else {
                self.engine.slots.take(&self.engine.options.budget, spec.cost)
            };
            let Some(slot) = slot else {
                full = Some(spec.cost);
                let alone = spec.cost.memory_mib > self.engine.options.budget.memory_mib;
                let why = if alone {
                    "waits to have this machine for itself"
                } else {
                    "waits for a free place on this machine"
                };
                self.hold(&id, why);
                held = true;
                continue;
            };
            turn.despite_cancel = !spec.flow.phase.is_main();
            turn.claims.push((id.clone(), spec.locks.clone()));
            let owned = self.engine.shared.owned.own(&self.record.id, &id);
            slots.insert(id, (slot, owned));
        }
        self.roomy = full.is_none();
        if let Some((to, reason)) = decided.state {
            let from = self.record.state;
            if to != from || (to == RunState::Waiting && reason != self.record.reason) {
                turn.moved = Some(Move { from, to, reason });
            }
        }
        if turn.is_empty() && self.may_wait() {
            return Ok(Some(held));
        }
        let (wanted, moved) = (turn.claims.len(), turn.moved.clone());
        let Some(turned) = self.write(turn).await? else { return Ok(None) };
        let mut gone = turned.claims.len() + turned.locked.len() < wanted;
        match (moved, turned.moved) {
            (Some(moved), Some(became)) => {
                self.ended_here = moved.to.is_final();
                (self.record.state, self.record.reason) = (moved.to, moved.reason);
                self.record.ended_at = became.ended_at;
                self.record.told_to(became.stop);
            }
            // Another engine was quicker, and its word is as good as ours.
            (Some(_), None) => {
                let stop = self.record.stop();
                self.record = self.engine.store.run_get(&self.record.id).await?;
                self.record.told_to(stop);
                self.grown = false;
            }
            (None, _) => {}
        }
        for claim in turned.claims {
            let Some((slot, owned)) = slots.remove(&claim.step) else { continue };
            if self.is_doable(&claim.step) {
                self.begin(claim, slot, owned);
            } else {
                self.refuse(claim).await?;
                gone = true;
            }
        }
        for Locked { step, name, by } in turned.locked {
            self.hold(&step, &format!("waits for {name}, held by run {} ({})", by.run, by.step));
            held = true;
        }
        Ok((!gone).then_some(held))
    }

    /// Whether what ended can be recorded with what comes next, at the next look at the latest: it may be done again, and nobody else
    /// could go on from it.
    fn may_wait(&self) -> bool {
        let repeats = |finish: &Finish| {
            self.plan.spec(&finish.claim.step).is_some_and(|spec| Durability::of(spec.repeat) == Durability::Lazy)
        };
        !self.engine.serves && !self.running.is_empty() && self.ended.iter().all(repeats)
    }

    /// Records what ended, with the rest of the turn in the same transaction; `None` when an attempt had lost its step, so that
    /// nothing of the rest was written. What cannot be written is tried again for a while: the work is done, and forgetting it
    /// would do it twice.
    async fn write(&mut self, mut turn: Turn) -> Result<Option<Turned>, StoreError> {
        turn.finished = std::mem::take(&mut self.ended);
        if turn.is_empty() {
            return Ok(Some(Turned::default()));
        }
        let engine = self.engine.clone();
        let (run, lease, durability) = (&self.record.id, micros(engine.options.lease), self.durability(&turn));
        let mut wait = Duration::from_millis(50);
        let turned = loop {
            match engine.store.run_turn(&engine.identity.id, run, &turn, lease, durability).await {
                Err(error) if error.retryable() && !turn.finished.is_empty() && wait < Duration::from_secs(4) => {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                result => break result,
            }
        };
        match turned {
            Ok(turned) => {
                for step in &turned.finished {
                    self.recorded(step.clone());
                }
                for (id, state, reason) in turn.closed {
                    self.engine.tell(Progress::Step { id, state, reason: Some(reason) });
                }
                Ok(Some(turned))
            }
            Err(StoreError::StaleClaim { .. }) if !turn.finished.is_empty() => {
                self.unread = true;
                for finish in turn.finished {
                    self.finish_alone(finish).await?;
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Records how an attempt ended; a lost claim means that another engine decides.
    async fn finish_alone(&mut self, finish: Finish) -> Result<(), StoreError> {
        let Finish { claim, outcome, log } = finish;
        let durability = self.plan.spec(&claim.step).map_or(Durability::Durable, |spec| Durability::of(spec.repeat));
        let step = match self.engine.store.step_finish(&claim, &outcome, &log, durability).await {
            // What it still says is refused as well: whoever took the step over goes on with its log.
            Err(StoreError::StaleClaim { .. }) => self.engine.store.step_get(&claim.run, &claim.step).await?,
            result => result?,
        };
        self.recorded(step);
        Ok(())
    }

    fn recorded(&mut self, step: windlass_model::run::StepRecord) {
        self.owned.remove(&step.id);
        self.engine.tell(Progress::Step { id: step.id.clone(), state: step.state, reason: step.reason.clone() });
        self.plan.set(step);
    }

    /// The strictest that something in it needs.
    fn durability(&self, turn: &Turn) -> Durability {
        let ends = turn.moved.as_ref().is_some_and(|moved| moved.to.is_final());
        let mut touched =
            turn.finished.iter().map(|finish| &finish.claim.step).chain(turn.claims.iter().map(|(id, _)| id));
        let strict =
            |id: &StepId| self.plan.spec(id).is_none_or(|spec| Durability::of(spec.repeat) == Durability::Durable);
        if ends || !turn.closed.is_empty() || touched.any(strict) { Durability::Durable } else { Durability::Lazy }
    }

    /// Brings the steps up to date with what is recorded, having recovered what dead engines left. Only what happened since the
    /// last look is read. An output does not change within an epoch: only new ones are read.
    async fn look(&mut self) -> Result<(), StoreError> {
        let Self { engine, record, plan, .. } = self;
        let since = if self.unread { None } else { self.seen };
        let mut look = match self.opened.take() {
            Some(look) => look,
            None => engine.store.run_look(&record.id, since).await?,
        };
        let waits = |step: &StepId| {
            let why = "its process died; what it had started is finishing, and is waited for".to_owned();
            engine.tell(Progress::Held { id: step.clone(), why });
        };
        let running = engine.running().await?;
        if recovery::recover(engine, &running, &record.id, waits).await? {
            look = engine.store.run_look(&record.id, since).await?;
        }
        self.seen = Some(look.seen);
        (record.cancel_requested, record.kill_requested) = (look.stop >= Stop::Cancel, look.stop == Stop::Kill);
        // Another engine may have let a step add others.
        let grown = !self.unread && look.expanded.iter().any(|step| !self.expanded.contains(step));
        let begun = grown || self.unread && look.steps.iter().any(|step| step.state == StepState::Succeeded);
        if begun {
            // Before the plan: that has what was added by those of them that have succeeded.
            look.steps = engine.store.step_list(&record.id).await?;
        }
        if look.state.is_final() || begun || self.unread && self.grown {
            *record = engine.store.run_get(&record.id).await?;
            self.grown = false;
        }
        if self.unread || grown {
            self.expanded = look.expanded.into_iter().collect();
            let mut steps: HashMap<StepId, StepRecord> =
                look.steps.into_iter().map(|step| (step.id.clone(), step)).collect();
            let known = record.plan.steps.iter().filter_map(|spec| Some((spec.clone(), steps.remove(&spec.id)?)));
            *plan = Planner::new(record.plan.timeout, known);
            self.unread = false;
            return Ok(());
        }
        for mut found in look.steps {
            let known = plan.step(&found.id);
            if let Some(known) = known.filter(|known| (known.state, known.epoch) == (found.state, found.epoch)) {
                found.output.clone_from(&known.output);
                if *known == found {
                    continue;
                }
            } else if found.state == StepState::Succeeded {
                found = engine.store.step_get(&record.id, &found.id).await?;
            }
            plan.set(found);
        }
        Ok(())
    }

    fn hold(&mut self, id: &StepId, why: &str) {
        if self.told.get(id).is_none_or(|told| told != why) {
            self.told.insert(id.clone(), why.to_owned());
            self.engine.tell(Progress::Held { id: id.clone(), why: why.to_owned() });
        }
    }

    fn tell_sleepers(&mut self) {
        let sleeps = |s: &&StepRecord| s.state == StepState::Waiting && s.not_before.is_some();
        let sleepers = self.plan.steps().map(|(_, step)| step).filter(sleeps);
        let whys: Vec<_> =
            sleepers.map(|s| (s.id.clone(), s.reason.clone().unwrap_or_else(|| "waits".to_owned()))).collect();
        for (id, why) in whys {
            self.hold(&id, &why);
        }
    }

    fn is_doable(&self, id: &StepId) -> bool {
        self.plan.spec(id).is_some_and(|spec| self.engine.executors.contains_key(&spec.work.driver))
    }

    async fn refuse(&self, claim: Claim) -> Result<(), StoreError> {
        let driver = self.plan.spec(&claim.step).map_or("", |spec| &spec.work.driver);
        let reason = format!("this release has no executor `{driver}`");
        let failed = StepOutcome::Failed { code: "WL615".into(), reason };
        self.engine.store.step_finish(&claim, &failed, &[], Durability::Durable).await.map(drop)
    }

    /// Starts an attempt that is recorded as begun.
    fn begin(&mut self, claim: Claim, slot: Slot, owned: Owned) {
        let Some(spec) = self.plan.spec(&claim.step) else { return };
        let Some(executor) = self.engine.executors.get(&spec.work.driver).cloned() else { return };
        let (input, run_input) = (spec.work.input.clone(), self.record.plan.input.clone());
        let cx = StepContext::new(self.engine.store.clone(), claim.clone(), input, run_input).seeing(&self.plan, spec);
        let (cancel, kill, main) = (cx.cancel.clone(), cx.kill.clone(), spec.flow.phase.is_main());
        let timeout = spec.timeout.and_then(|t| u64::try_from(t).ok()).map(Duration::from_micros);
        let grace = self.engine.options.grace;
        self.plan.update(&claim.step, |step| {
            (step.state, step.attempt, step.epoch) = (StepState::Running, claim.attempt, claim.epoch);
            (step.reason, step.not_before) = (None, None);
        });
        self.told.remove(&claim.step);
        self.running.insert(claim.step.clone(), Running { cancel, kill, main, _slot: slot });
        self.owned.insert(claim.step.clone(), owned);
        self.engine.tell(Progress::Step { id: claim.step.clone(), state: StepState::Running, reason: None });
        self.tasks.spawn(async move {
            let done = CancellationToken::new();
            let work = async {
                let _done = done.clone().drop_guard();
                attempt(&cx, executor, timeout, grace).await
            };
            let (result, ()) = tokio::join!(work, cx.keep_written(&done));
            let result = cx.masked(result).await;
            Attempted { claim, result, log: cx.take_log().await }
        });
    }

    /// Shows a step as its attempt left it; that is recorded with what follows from it.
    async fn took_end(&mut self, attempted: Result<Attempted, tokio::task::JoinError>) -> Result<(), StoreError> {
        // Panics are caught inside; what is left is a runtime that is going down.
        let Ok(Attempted { claim, result, log }) = attempted else { return Ok(()) };
        self.running.remove(&claim.step);
        let is_timed = match &result {
            StepResult::Failed(failure) => failure.retryable,
            StepResult::Again { .. } => true,
            _ => false,
        };
        let now = if is_timed { self.engine.store.now().await? } else { 0 };
        let mut outcome = outcome(result, self.plan.spec(&claim.step), &claim, now);
        if let StepOutcome::Expanded { expansion, .. } = &outcome
            && let Some(twice) = twice(expansion, &self.plan)
        {
            let reason = format!("internal error: it adds the step {twice}, which the run has");
            outcome = StepOutcome::Failed { code: "WL999".into(), reason };
        }
        self.plan.update(&claim.step, |step| outcome.fill(step));
        if let StepOutcome::Expanded { expansion, .. } = &outcome {
            self.plan.expand(&claim.step, expansion);
            self.expanded.insert(claim.step.clone());
            self.grown = true;
        }
        self.ended.push(Finish { claim, outcome, log });
        Ok(())
    }
}

/// A step that would be in the run twice.
fn twice<'a>(expansion: &'a Expansion, plan: &Planner) -> Option<&'a StepId> {
    let mut seen = HashSet::new();
    expansion.steps.iter().map(|spec| &spec.id).find(|id| plan.has(id) || !seen.insert(*id))
}
