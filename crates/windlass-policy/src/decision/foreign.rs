//! A policy that somebody else wrote: it is loaded and asked in a process of its own.

use super::{Decision, Origin, Policy, Sources, Terms};
use crate::limits::{Broken, Limits, Session, Worker};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use windlass_model::definition::{DecisionKind, PolicyEngine};

/// What the process is told about a policy.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    name: String,
    kind: DecisionKind,
    teams: Vec<String>,
    files: Vec<(String, String)>,
    data: Vec<(String, Value)>,
    namespaces: Vec<String>,
}

impl Job {
    /// The policy, in the process that is there for it.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn load(self) -> Result<Policy, String> {
        let terms = Terms {
            name: self.name,
            kind: self.kind,
            engine: PolicyEngine::Embedded,
            teams: self.teams,
            origin: Origin::Own,
            scratch: PathBuf::new(),
        };
        let sources = Sources {
            files: self.files.into_iter().map(|(path, text)| (path.into(), text)).collect(),
            data: self.data.into_iter().map(|(path, value)| (path.into(), value)).collect(),
            namespaces: self.namespaces,
        };
        Policy::load(terms, &sources).map(|(policy, _)| policy).map_err(|diagnostics| {
            let texts: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.summary.as_str()).collect();
            texts.join("; ")
        })
    }
}

pub(super) struct Foreign {
    job: Job,
    worker: Option<Worker>,
    /// A process that waits for its next input. One is enough: what is asked at the same time starts its own.
    idle: Mutex<Option<Session>>,
}

/// A process that has seen a longer input is not kept, bytes: it would keep its memory too.
const LONGEST: usize = 1 << 20;

impl Foreign {
    pub fn new(terms: &Terms, sources: &Sources, worker: Option<Worker>) -> Self {
        let job = Job {
            name: terms.name.clone(),
            kind: terms.kind,
            teams: terms.teams.clone(),
            files: sources.files.iter().map(|(path, text)| (path.to_string(), text.clone())).collect(),
            data: sources.data.iter().map(|(path, value)| (path.to_string(), value.clone())).collect(),
            namespaces: sources.namespaces.clone(),
        };
        Self { job, worker, idle: Mutex::default() }
    }

    pub fn decide(&self, input: &Value, limits: &Limits) -> Result<Decision, Broken> {
        let worker = self.worker.as_ref();
        let worker = worker.ok_or_else(|| Broken::Refused("there is no process for policies from elsewhere".into()))?;
        let input = serde_json::to_vec(input).map_err(|error| Broken::Process(error.into()))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = match idle.and_then(|session| session.if_ready(limits)) {
            Some(session) => session,
            None => Session::start(worker, &self.job, limits)?,
        };
        let (answer, session) = session.ask(&input, limits)?;
        let reply: Result<Decision, String> = serde_json::from_str(&answer)
            .map_err(|_| Broken::Refused("the answer of their process is garbled".into()))?;
        let decision = reply.map_err(Broken::Refused)?;
        if input.len() <= LONGEST && !decision.is_broken() {
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        }
        Ok(decision)
    }
}
