//! A cluster on a loopback port: the API of Jobs, pods, Secrets and events with the rules that Kubernetes documents, a controller
//! that makes pods of Jobs, a collector of what is deleted, and one node that really runs the programs of pods, as children.
//!
//! There is no isolation: a pod sees the files of this machine, so a volume is at the same path by itself.

mod controller;
mod http;
mod node;
mod proxy;
mod store;
mod validation;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::Store;
use tokio::sync::watch;

/// What a cluster has and does besides what it is asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Images that the registry has.
    pub images: BTreeSet<String>,
    /// Labels of the node.
    pub node: BTreeMap<String, String>,
    /// Claims of volumes.
    pub claims: BTreeSet<String>,
    /// How many pods the quota allows; `None`: any number.
    pub pods: Option<usize>,
    /// The node does not answer: what runs there goes on, and nobody hears of it.
    pub node_away: bool,
    /// The node has no memory left: what runs there is evicted, and nothing is placed on it.
    pub pressure: bool,
    /// The node takes no note of time below a millisecond.
    pub coarse: bool,
    /// Answers to this many `POST`s are lost after they were obeyed.
    pub lost_answers: usize,
}

/// A cluster that runs until it is dropped; its pods are killed then.
#[derive(Debug)]
pub struct Kubernetes {
    url: String,
    shared: Arc<Shared>,
    proxy: proxy::Proxy,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    store: Mutex<Store>,
    settings: Mutex<Settings>,
    /// By the id of the pod; who reads one may go on when the pod is gone.
    logs: Mutex<BTreeMap<String, Arc<Mutex<Vec<node::Entry>>>>>,
    /// Rules of the role of whoever asks, as in its manifest.
    rules: Vec<Value>,
    /// `verb resource` of what was asked for.
    asked: Mutex<BTreeSet<String>>,
    /// Process groups of pods, by the id of the pod.
    groups: Mutex<BTreeMap<String, i32>>,
    /// Changes whenever anything does.
    changed: watch::Sender<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Changes objects, and wakes those who wait for it.
    fn change<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let changed = change(&mut lock(&self.store));
        self.wake();
        changed
    }

    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }
}

impl Kubernetes {
    /// Starts it on a free port for somebody who may do what the `rules` of a role say, inside a Tokio runtime.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(rules: Vec<Value>) -> std::io::Result<Self> {
        let settings = Settings {
            images: BTreeSet::from(["registry.test/tools:1".into()]),
            node: BTreeMap::from([("kubernetes.io/os".into(), "linux".into())]),
            claims: BTreeSet::from(["data".into()]),
            pods: None,
            node_away: false,
            pressure: false,
            coarse: false,
            lost_answers: 0,
        };
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            settings: Mutex::new(settings),
            logs: Mutex::default(),
            rules,
            asked: Mutex::default(),
            groups: Mutex::default(),
            changed: watch::Sender::new(0),
        });
        let (address, serving) = http::serve(shared.clone()).await?;
        let (proxy, url) = proxy::Proxy::start(address).await?;
        let controlling = tokio::spawn(controller::run(shared.clone()));
        Ok(Self { url, shared, proxy, tasks: vec![serving, controlling] })
    }

    /// Where its API is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Changes what it has and does.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.shared.settings));
        self.shared.wake();
    }

    /// Breaks all connections; new ones are refused while it is away.
    pub fn away(&self, away: bool) {
        self.proxy.away(away);
    }

    /// From now on a connection breaks after so many bytes of answers: the first after this many, the second after twice as many, and
    /// so on.
    pub fn break_after(&self, bytes: Option<usize>) {
        self.proxy.break_after(bytes);
    }

    /// Forgets the past: watches that would go on from there are told that it is gone.
    pub fn compact(&self) {
        self.shared.change(Store::compact);
        self.proxy.cut();
    }

    /// Somebody else deletes all objects of a kind, as `kubectl delete` does.
    pub fn delete(&self, plural: &'static str) {
        let options = serde_json::json!({ "propagationPolicy": "Background" });
        self.shared.change(|store| {
            for object in store.all(plural) {
                controller::delete(store, plural, &object, &options);
            }
        });
    }

    /// Objects of a kind (`jobs`, `pods`, `secrets`, `events`), in all namespaces.
    pub fn objects(&self, plural: &str) -> Vec<Value> {
        lock(&self.shared.store).all(plural)
    }

    /// `verb resource` of all that was asked for and allowed.
    pub fn asked(&self) -> BTreeSet<String> {
        lock(&self.shared.asked).clone()
    }

    /// Process groups that pods have and that live.
    pub fn running(&self) -> usize {
        lock(&self.shared.groups).len()
    }

    /// Returns when `check` says so of what is there.
    ///
    /// # Errors
    /// It has not within a minute.
    pub async fn until(&self, check: impl Fn(&Self) -> bool) -> std::io::Result<()> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while !check(self) {
            if tokio::time::Instant::now() > deadline {
                let store = format!("{:?}", lock(&self.shared.store));
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, store));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for group in lock(&self.shared.groups).values() {
            node::signal(*group, nix::sys::signal::Signal::SIGKILL);
        }
    }
}
