//! Policies in a process of their own: what it is told about them, what it is asked, and who keeps it between two questions.

use super::{Broken, Limits, Session, Worker};
use crate::conftest::{CheckOptions, Checker, Reader};
use crate::decision::{Origin, Policy, Sources, Terms};
use crate::document::Document;
use crate::engine::Rego;
use crate::testing;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use windlass_model::definition::{DecisionKind, PolicyEngine};
use windlass_model::diagnostic::Diagnostic;

/// What the process is told about policies.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    files: Vec<(Arc<str>, String)>,
    data: Vec<(Arc<str>, Json)>,
    asked: Role,
}

/// What they are loaded as.
#[derive(Debug, Serialize, Deserialize)]
enum Role {
    Policy { name: String, kind: DecisionKind, teams: Vec<String>, namespaces: Vec<String> },
    Checker { options: CheckOptions, reader: Reader },
    Tests { reader: Reader },
}

/// What it is asked about a document.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A policy, for its [`crate::decision::Decision`].
    Decide,
    /// A checker, for its [`crate::conftest::Outcome`].
    Check { file: String, path: PathBuf, namespace: String },
    /// A checker, for rows of values.
    Query { text: String },
    /// Tests, for what came of one.
    Test { path: String },
}

impl Job {
    pub fn policy(terms: &Terms, sources: &Sources) -> Self {
        let asked = Role::Policy {
            name: terms.name.clone(),
            kind: terms.kind,
            teams: terms.teams.clone(),
            namespaces: sources.namespaces.clone(),
        };
        Self { files: sources.files.clone(), data: sources.data.clone(), asked }
    }

    pub fn checker(
        files: &[(Arc<str>, String)],
        data: &[(Arc<str>, Json)],
        options: &CheckOptions,
        reader: &Reader,
    ) -> Self {
        let asked = Role::Checker { options: options.clone(), reader: reader.clone() };
        Self { files: files.to_vec(), data: data.to_vec(), asked }
    }

    pub fn tests(files: &[(Arc<str>, String)], data: &[(Arc<str>, Json)], reader: &Reader) -> Self {
        Self { files: files.to_vec(), data: data.to_vec(), asked: Role::Tests { reader: reader.clone() } }
    }

    /// The policies, in the process that is there for them.
    ///
    /// # Errors
    /// What is wrong with them, in one line.
    pub fn load(self) -> Result<Loaded, String> {
        let Self { files, data, asked } = self;
        let loaded = match asked {
            Role::Policy { name, kind, teams, namespaces } => {
                let (engine, scratch) = (PolicyEngine::Embedded, PathBuf::new());
                let terms = Terms { name, kind, engine, teams, origin: Origin::Own(None), scratch };
                Policy::load(terms, &Sources { files, data, namespaces }).map(|(policy, _)| Loaded::Policy(policy))
            }
            Role::Checker { options, reader } => {
                Checker::load(&files, &data, &options, Some(reader)).map(Loaded::Checker)
            }
            Role::Tests { reader } => testing::load(&files, &data, Some(reader)).map(Loaded::Tests),
        };
        loaded.map_err(|diagnostics: Vec<Diagnostic>| {
            let texts: Vec<&str> = diagnostics.iter().map(|diagnostic| diagnostic.summary.as_str()).collect();
            texts.join("; ")
        })
    }
}

/// Policies in the process that is there for them.
pub(crate) enum Loaded {
    Policy(Policy),
    Checker(Checker),
    Tests(Rego),
}

impl Loaded {
    /// The answer as JSON.
    ///
    /// # Errors
    /// There is none to this question; why, in one line.
    pub fn answer(&self, ask: &Ask, input: Option<&Document<'_>>, limits: &Limits) -> Result<Json, String> {
        let answer = match (self, ask, input) {
            (Self::Policy(policy), Ask::Decide, Some(input)) => {
                serde_json::to_value(policy.decide_document(input, limits))
            }
            (Self::Checker(checker), Ask::Check { file, path, namespace }, Some(input)) => {
                serde_json::to_value(checker.check_one(file, Path::new(path), input, namespace, limits))
            }
            (Self::Checker(checker), Ask::Query { text }, input) => {
                serde_json::to_value(checker.query_document(text, input, limits)?)
            }
            (Self::Tests(rego), Ask::Test { path }, None) => {
                serde_json::to_value(testing::evaluate(rego, path, limits))
            }
            _ => return Err("their process does not understand the question".into()),
        };
        answer.map_err(|error| error.to_string())
    }
}

/// Policies that are asked in a process of their own.
#[derive(Debug)]
pub(crate) struct Apart {
    job: Job,
    worker: Option<Worker>,
    /// They may be asked in the process of others that may.
    shared: bool,
    /// A process that waits for its next question. One is enough: what is asked at the same time starts its own.
    idle: Mutex<Option<Session>>,
}

/// A process that has read a longer document is not kept beyond it, bytes: it would keep its memory too.
const LONGEST: u64 = 1 << 20;

impl Apart {
    pub fn new(job: Job, worker: Option<Worker>, shared: bool) -> Self {
        Self { job, worker, shared, idle: Mutex::default() }
    }

    /// The answer; `ends` says of one that its process is not asked again.
    ///
    /// # Errors
    /// There is none.
    pub fn ask<T: DeserializeOwned>(
        &self,
        ask: &Ask,
        input: Option<&Document<'_>>,
        limits: &Limits,
        ends: impl FnOnce(&T) -> bool,
    ) -> Result<T, Broken> {
        let worker = self.worker.as_ref();
        let worker = worker.ok_or_else(|| Broken::Refused("there is no process to run them in".into()))?;
        let ready = |session: Session| session.if_ready(limits);
        let document = input.filter(|_| self.shared);
        let (session, job, unread) = match document.and_then(Document::take_session).and_then(ready) {
            // It has the document, and takes these policies in place of those it had.
            Some(session) => (session, Some(&self.job), None),
            None => match self.idle.lock().unwrap_or_else(PoisonError::into_inner).take().and_then(ready) {
                Some(session) => (session, None, input),
                None => (Session::start(worker, limits)?, Some(&self.job), input),
            },
        };
        let (answer, session) = session.ask(job, ask, unread, limits)?;
        let reply: Result<T, String> = serde_json::from_str(&answer)
            .map_err(|_| Broken::Refused("the answer of their process is garbled".into()))?;
        let reply = reply.map_err(Broken::Refused)?;
        match document {
            _ if ends(&reply) => {}
            _ if session.read() <= LONGEST => {
                *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
            }
            Some(document) => document.keep_session(session),
            None => {}
        }
        Ok(reply)
    }
}
