//! The steps that an engine has its hands on. A running step that is its own by the record and not in here is lost, like one of an
//! engine that died.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_model::id::{RunId, StepId};

type Step = (RunId, StepId);

#[derive(Debug, Clone, Default)]
pub(crate) struct Steps(Arc<Mutex<HashMap<Step, u32>>>);

/// A step that this engine claims, runs, or records the end of, until this is dropped.
#[derive(Debug)]
pub(crate) struct Owned {
    steps: Steps,
    step: Step,
}

impl Steps {
    /// To be called before the step is claimed: when the claim is on record, it is known whose it is.
    pub fn own(&self, run: &RunId, step: &StepId) -> Owned {
        let step = (run.clone(), step.clone());
        // Who recovered it may not have let go yet when it is claimed anew.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(step.clone()).or_default() += 1;
        Owned { steps: self.clone(), step }
    }

    pub fn all(&self) -> HashSet<Step> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut steps = self.steps.0.lock().unwrap_or_else(PoisonError::into_inner);
        match steps.get_mut(&self.step) {
            Some(count @ 2..) => *count -= 1,
            _ => drop(steps.remove(&self.step)),
        }
    }
}
