//! What runs in this process together. A slot is given back when it is dropped, however its step ended: nothing is counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, futures::Notified};
use windlass_model::run::Cost;

#[derive(Debug, Default)]
pub(crate) struct Slots {
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    costs: BTreeMap<u64, Cost>,
}

/// Room for one step.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    number: u64,
}

impl Slots {
    /// Comes when a slot was given back after this was enabled.
    pub fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Room for a step beside what runs; one that is larger than the whole budget runs alone.
    pub fn take(self: &Arc<Self>, budget: &Cost, wanted: Cost) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if !has_room(budget, taken.costs.values().copied(), wanted) {
            return None;
        }
        let number = taken.next;
        taken.next += 1;
        taken.costs.insert(number, wanted);
        Some(Slot { slots: self.clone(), number })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner).costs.remove(&self.number);
        self.slots.freed.notify_waiters();
    }
}

fn has_room(budget: &Cost, running: impl Iterator<Item = Cost>, wanted: Cost) -> bool {
    let mut used = Cost::NONE;
    let mut any = false;
    for cost in running.filter(|c| *c != Cost::NONE) {
        any = true;
        used.cpu_milli = used.cpu_milli.saturating_add(cost.cpu_milli);
        used.memory_mib = used.memory_mib.saturating_add(cost.memory_mib);
    }
    !any || wanted == Cost::NONE
        || (used.cpu_milli.saturating_add(wanted.cpu_milli) <= budget.cpu_milli
            && used.memory_mib.saturating_add(wanted.memory_mib) <= budget.memory_mib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_back_when_it_is_dropped() {
        let slots = Arc::<Slots>::default();
        let budget = Cost { cpu_milli: 2000, memory_mib: 100 };
        let half = Cost { cpu_milli: 1000, memory_mib: 50 };
        let large = Cost { cpu_milli: 1000, memory_mib: 500 };
        let first = slots.take(&budget, half);
        let second = slots.take(&budget, half);
        assert!(first.is_some() && second.is_some());
        assert!(slots.take(&budget, half).is_none(), "it is full");
        assert!(slots.take(&budget, Cost::NONE).is_some(), "what costs nothing always fits");
        drop(first);
        assert!(slots.take(&budget, large).is_none(), "what is larger than all runs alone");
        drop(second);
        let alone = slots.take(&budget, large);
        assert!(alone.is_some() && slots.take(&budget, half).is_none());
    }
}
