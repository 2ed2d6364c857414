//! What becomes of the times that have come since somebody looked.

use super::{Times, jitter, thaw};
use crate::Micros;
use crate::operation::trigger::{Freeze, Missed, ScheduleDefinition};
use std::collections::VecDeque;

/// A run that begins later than this after its time is late, and a time that is found later counts as missed. Microseconds.
pub const LATE: Micros = 60_000_000;

/// Starts that one look may ask for: what was missed over a year is not made up for in one night.
const MOST: usize = 1000;

/// What a schedule is looked at with.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub project: &'a str,
    pub operation: &'a str,
    pub schedule: &'a ScheduleDefinition,
    pub times: &'a Times,
    pub freezes: &'a [Freeze],
    /// Of what it starts.
    pub environment: Option<&'a str>,
}

impl Look<'_> {
    /// When a run of a due time begins.
    pub fn begins(&self, due: Micros) -> Micros {
        due.saturating_add(jitter(self.project, self.operation, &self.schedule.name, due, self.schedule.jitter))
    }

    /// How long after a time something else has stood in its way than a freeze.
    fn overdue(&self, begins: Micros, now: Micros) -> Micros {
        let mut overdue = 0;
        let mut at = begins;
        // From one end of a freeze to the next beginning of one.
        while at < now {
            at = thaw(self.freezes, self.environment, at);
            let frozen = |freeze: &&Freeze| freeze.from > at && freeze.holds(self.environment, freeze.from);
            let next = self.freezes.iter().filter(frozen).map(|freeze| freeze.from).min().unwrap_or(now).min(now);
            overdue += (next - at).max(0);
            at = next.max(at);
        }
        overdue
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Due times to start now, oldest first.
    pub start: Vec<Micros>,
    /// Times that are not made up for: how many of those that are young enough to be looked at, the first and the last of them.
    pub passed: Option<(u64, Micros, Micros)>,
    /// Times that a freeze took away or held back until now, in the same form.
    pub frozen: Option<(u64, Micros, Micros)>,
    /// Everything until then is decided.
    pub seen: Micros,
    /// When it has to be looked at again; `None` when nothing comes any more.
    pub next: Option<Micros>,
}

/// Decides about the times after `seen` that have come by `now`. Those of a freeze are held until it ends and then are like times
/// that were missed, whose age the freeze does not count for; with [`Missed::Skip`] they are gone.
pub fn decide(look: Look<'_>, seen: Micros, now: Micros) -> Decision {
    let Look { schedule, times, freezes, environment, .. } = look;
    let mut decision = Decision { seen, ..Decision::default() };
    if !schedule.enabled {
        return decision;
    }
    let within = schedule.within.max(LATE);
    // Older ones are not even counted; a freeze may have held them.
    let frozen_for: Micros =
        freezes.iter().filter(|freeze| freeze.from < now).map(|freeze| freeze.to.min(now) - freeze.from).sum();
    let oldest = now.saturating_sub(within).saturating_sub(schedule.jitter).saturating_sub(frozen_for);
    let mut start: VecDeque<Micros> = VecDeque::new();
    // One that was missed is not made up for once a newer one has come.
    let mut made_up = false;
    let mut held = None;
    for due in times.due_between(seen.max(oldest), now) {
        let begins = look.begins(due);
        if begins > now {
            held = Some(begins);
            break;
        }
        if thaw(freezes, environment, now) > now && schedule.missed != Missed::Skip {
            // Nothing before it is open: `seen` stays where it is, so that it is decided when the freeze has ended.
            held = Some(thaw(freezes, environment, now));
            break;
        }
        decision.seen = due;
        let overdue = look.overdue(begins, now);
        if thaw(freezes, environment, begins) > begins {
            note(&mut decision.frozen, due);
            if schedule.missed == Missed::Skip {
                continue;
            }
        }
        let missed = now - begins > LATE;
        if overdue > within || (missed && schedule.missed == Missed::Skip) {
            note(&mut decision.passed, due);
            continue;
        }
        if schedule.missed != Missed::All && made_up {
            start.pop_front().iter().for_each(|older| note(&mut decision.passed, *older));
        }
        made_up = missed;
        start.push_back(due);
        if start.len() > MOST
            && let Some(older) = start.pop_front()
        {
            note(&mut decision.passed, older);
        }
    }
    decision.start = start.into();
    decision.next = held.or_else(|| times.next_after(now.max(decision.seen)).map(|due| look.begins(due)));
    decision
}

fn note(passed: &mut Option<(u64, Micros, Micros)>, due: Micros) {
    let (count, first, last) = passed.unwrap_or((0, due, due));
    *passed = Some((count + 1, first.min(due), last.max(due)));
}
