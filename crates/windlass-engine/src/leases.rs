//! Whether a lease has ended: by the database's clock, which may be set, and by how long it was seen not to be renewed, which cannot.

use crate::{EngineOptions, POLL};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use windlass_model::Micros;
use windlass_model::id::{RunId, StepId};
use windlass_store::Lost;

/// Leases of other engines, as they were seen.
#[derive(Default)]
pub(crate) struct Leases(HashMap<(RunId, StepId, i64), (Option<Micros>, Instant)>);

impl Leases {
    /// Corrects which of these leases, all that there are, have ended.
    pub fn judge(&mut self, running: &mut [Lost], options: &EngineOptions) {
        self.judge_at(running, options, Instant::now());
    }

    fn judge_at(&mut self, running: &mut [Lost], options: &EngineOptions, now: Instant) {
        let key = |lost: &Lost| (lost.claim.run.clone(), lost.claim.step.clone(), lost.claim.epoch);
        let mut seen = HashMap::with_capacity(running.len());
        for lost in running {
            let key = key(lost);
            let before = self.0.get(&key).copied().filter(|(until, _)| *until == lost.lease_until);
            let (until, since) = before.unwrap_or((lost.lease_until, now));
            let unchanged = now.saturating_duration_since(since);
            lost.expired = (lost.expired && unchanged >= renewed(options)) || unchanged >= longest(options);
            seen.insert(key, (until, since));
        }
        self.0 = seen;
    }
}

/// An engine that lives has renewed its leases within this time. When the clock was set forward they all seem to have ended until
/// it does.
fn renewed(options: &EngineOptions) -> Duration {
    (options.lease / 2).max(options.lease / 3 + 3 * POLL)
}

/// Nobody has a lease for longer without renewing it. When the clock was set back it seems not to end.
fn longest(options: &EngineOptions) -> Duration {
    options.lease.max(options.grace) * 2 + options.lease
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_store::Claim;

    const LEASE: Duration = Duration::from_secs(30);

    /// Looks at `second` from the start, of a lease until `until`, and whether the database says that it has ended; and what is
    /// made of that.
    #[track_caller]
    fn check(looks: &[(u64, Micros, bool, bool)]) {
        let options = EngineOptions { lease: LEASE, grace: Duration::from_secs(90), ..EngineOptions::default() };
        let (mut leases, start) = (Leases::default(), Instant::now());
        for (second, until, expired, want) in looks {
            let claim = Claim { run: RunId::new("r"), step: StepId::new("s"), attempt: 1, epoch: 1 };
            let mut running = [Lost { claim, engine: None, lease_until: Some(*until), expired: *expired }];
            leases.judge_at(&mut running, &options, start + Duration::from_secs(*second));
            assert_eq!(running[0].expired, *want, "at {second} s");
        }
    }

    #[test]
    fn one_that_is_not_renewed_ends_in_time() {
        check(&[(0, 30, false, false), (29, 30, false, false), (31, 30, true, true)]);
    }

    #[test]
    fn a_clock_set_forward_ends_no_lease_that_is_renewed() {
        check(&[(0, 30, false, false), (5, 30, true, false), (10, 86_440, false, false), (20, 86_450, false, false)]);
        // Seen for the first time after the step.
        check(&[(0, 30, true, false), (10, 86_440, false, false), (41, 86_440, true, true)]);
    }

    #[test]
    fn a_clock_set_back_keeps_no_lease_for_ever() {
        check(&[(0, 3_630, false, false), (180, 3_630, false, false), (210, 3_630, false, true)]);
        check(&[(0, 3_630, false, false), (10, 40, false, false), (219, 50, false, false)]);
    }
}
