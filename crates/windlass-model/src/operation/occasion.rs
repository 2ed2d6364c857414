//! When somebody is told of a run, and of what. What is told is a [`Notice`]; where it goes is for whoever sends it.

use super::{NotifyRule, Occasion};
use crate::Micros;
use crate::run::RunState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a rule is for that does not say on what.
pub const QUIET: [Occasion; 3] = [Occasion::Failure, Occasion::Waiting, Occasion::Recovered];

/// The same of reviews, applies and stacks.
pub const QUIET_OF_CHANGES: [Occasion; 4] =
    [Occasion::Failure, Occasion::Waiting, Occasion::Drift, Occasion::Quarantine];

/// So many of the last runs that succeeded say how long one takes.
pub const RUNS: usize = 20;
/// Fewer of them say nothing.
const FEWEST: usize = 10;
/// A run that begins later than this after its time is late, µs.
pub const LATE: Micros = 60_000_000;

/// Something that happened with a run, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// It was asked for by somebody who broke the glass.
    BrokeGlass,
    /// It began, or has not begun, so long after the time that it was meant for, µs.
    Began(Micros),
    /// A step of it waits for a person.
    Waits,
    /// What it waited for has come.
    WentOn,
    /// It has been under way for so long, µs.
    UnderWay(Micros),
    Ended(RunState),
    /// The operation has not succeeded for as many intervals as its definition says.
    Missed,
    /// Stacks were found to have drifted.
    Drifted,
    /// A stack was quarantined.
    Quarantined,
}

/// The runs of the same operation before this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// How the last one ended that succeeded or failed.
    pub before: Option<RunState>,
    /// How long those that succeeded took, the last [`RUNS`] of them, µs.
    pub durations: Vec<Micros>,
}

impl Past {
    /// Whether this is longer than nine of ten took.
    fn is_slow(&self, duration: Micros) -> bool {
        let shorter = self.durations.iter().filter(|usual| **usual < duration).count();
        self.durations.len() >= FEWEST && shorter * 10 >= self.durations.len() * 9
    }
}

/// What a happening is an occasion for, the most telling first.
pub fn occasions(happening: Happening, past: &Past) -> Vec<Occasion> {
    match happening {
        Happening::BrokeGlass => vec![Occasion::BreakGlass],
        Happening::Began(late) if late > LATE => vec![Occasion::Late],
        Happening::Waits => vec![Occasion::Waiting],
        Happening::UnderWay(duration) if past.is_slow(duration) => vec![Occasion::Slow],
        Happening::Ended(RunState::Succeeded) => match past.before {
            Some(RunState::Failed | RunState::Abandoned) => vec![Occasion::Recovered, Occasion::Success],
            _ => vec![Occasion::Success],
        },
        Happening::Ended(RunState::Failed | RunState::Abandoned) => vec![Occasion::Failure],
        Happening::Missed => vec![Occasion::DeadMan],
        Happening::Drifted => vec![Occasion::Drift],
        Happening::Quarantined => vec![Occasion::Quarantine],
        Happening::Began(_) | Happening::UnderWay(_) | Happening::WentOn | Happening::Ended(_) => Vec::new(),
    }
}

/// What each notifier is told of, by name. A broken glass and an operation that misses its intervals are told to all that the
/// rules name, or to `everyone`, the notifiers of the project, where they name none.
pub fn wanted(rules: &[NotifyRule], everyone: &[String]) -> BTreeMap<String, BTreeSet<Occasion>> {
    let mut wanted: BTreeMap<String, BTreeSet<Occasion>> = BTreeMap::new();
    for rule in rules {
        let on: &[Occasion] = if rule.on.is_empty() { &QUIET } else { &rule.on };
        for name in &rule.to {
            wanted.entry(name.clone()).or_default().extend(on);
        }
    }
    if wanted.is_empty() {
        wanted = everyone.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
    }
    for on in wanted.values_mut() {
        on.extend([Occasion::BreakGlass, Occasion::DeadMan]);
    }
    wanted
}

/// What each notifier is told of a change: only what rules ask for.
pub fn wanted_of_changes<'a>(rules: impl IntoIterator<Item = &'a NotifyRule>) -> BTreeMap<String, BTreeSet<Occasion>> {
    let mut wanted: BTreeMap<String, BTreeSet<Occasion>> = BTreeMap::new();
    for rule in rules {
        let on: &[Occasion] = if rule.on.is_empty() { &QUIET_OF_CHANGES } else { &rule.on };
        for name in &rule.to {
            wanted.entry(name.clone()).or_default().extend(on);
        }
    }
    wanted
}

/// Who is told of a happening, and as what: as the occasion that was asked for, or, with `None`, because they were `told` of this
/// run before and what they were told is not so any more.
pub fn tellings(
    happening: Happening,
    past: &Past,
    wanted: &BTreeMap<String, BTreeSet<Occasion>>,
    told: &BTreeSet<String>,
) -> Vec<(String, Option<Occasion>)> {
    let occasions = occasions(happening, past);
    let moves = matches!(happening, Happening::WentOn | Happening::Waits | Happening::Ended(_));
    let of = |(name, on): (&String, &BTreeSet<Occasion>)| {
        let occasion = occasions.iter().copied().find(|occasion| on.contains(occasion));
        (occasion.is_some() || moves && told.contains(name)).then(|| (name.clone(), occasion))
    };
    wanted.iter().filter_map(of).collect()
}

/// What somebody is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Why it is told; `None` where it only says what became of what was told before, or where somebody's own text is sent.
    pub occasion: Option<Occasion>,
    /// Of the run as it was then; `None` where it is about no run.
    pub state: Option<RunState>,
    pub project: String,
    pub operation: Option<String>,
    pub run: Option<String>,
    /// One line.
    pub title: String,
    /// Some sentences; may be empty.
    pub text: String,
    /// Name and value, such as parameters.
    pub facts: Vec<(String, String)>,
    /// What it is called, and its whole address. The first is the one that matters.
    pub links: Vec<(String, String)>,
    /// When it happened, microseconds since the Unix epoch.
    pub at: Micros,
}

impl Notice {
    /// Nothing comes after it.
    pub fn is_last(&self) -> bool {
        self.state.is_some_and(RunState::is_final)
    }

    /// What `type` of an event it is for programs: `run.failed`, `run.waiting`, `operation.dead_man`, `stack.drifted`,
    /// `message`.
    pub fn kind(&self) -> String {
        match (self.occasion, self.state) {
            (Some(Occasion::DeadMan), _) => "operation.dead_man".into(),
            (Some(Occasion::Drift), _) => "stack.drifted".into(),
            (Some(Occasion::Quarantine), _) => "stack.quarantined".into(),
            (Some(occasion @ (Occasion::Slow | Occasion::Late | Occasion::BreakGlass | Occasion::Waiting)), _) => {
                format!("run.{}", occasion.as_str())
            }
            (_, Some(state)) => format!("run.{}", state.as_str()),
            _ => "message".into(),
        }
    }
}

/// How a channel takes several messages about one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The first is changed.
    InPlace,
    /// Each stays: only what somebody has to know is sent, and how it ended.
    Apart,
    /// A program reads them, which wants each.
    Every,
}

/// Which of the messages about one run that wait for a channel, oldest first, are sent; `told` when one of it was sent before.
/// While a channel was away most of them have become old news.
pub fn worth(manner: Manner, told: bool, queue: &[Notice]) -> Vec<bool> {
    let passing = |occasion| matches!(occasion, Occasion::Waiting | Occasion::Slow);
    let last = queue.len().saturating_sub(1);
    match manner {
        Manner::Every => vec![true; queue.len()],
        Manner::InPlace => {
            let lasting = queue.iter().any(|notice| notice.occasion.is_some_and(|occasion| !passing(occasion)));
            let wanted = |notice: &Notice| told || lasting || notice.occasion.is_some();
            queue.iter().enumerate().map(|(at, notice)| at == last && wanted(notice)).collect()
        }
        Manner::Apart => {
            let mut told = told;
            let mut worth = |(at, notice): (usize, &Notice)| {
                let worth = match notice.occasion {
                    None => told && notice.is_last(),
                    // Somebody has to do something, each time.
                    Some(Occasion::Waiting) => at == last,
                    Some(Occasion::Slow) => at == last && !told,
                    Some(Occasion::Late) => !told,
                    Some(_) => true,
                };
                told |= worth;
                worth
            };
            queue.iter().enumerate().map(&mut worth).collect()
        }
    }
}

#[cfg(test)]
mod tests;
