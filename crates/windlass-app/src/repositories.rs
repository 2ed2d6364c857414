//! Repositories that a server follows: fetched when they are said to have moved and every now and then, with the definitions of
//! the protected branch read from git's objects, never from files under change. A commit whose definitions are wrong leaves the
//! last good ones in force, and both are shown.

mod webhook;

pub use webhook::{Delivered, webhook_matches};

use crate::bundles::Bundles;
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::policy::{Author, Policies};
use crate::project::Project;
use crate::service::Deciding;
use crate::settings::disk;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use windlass_connect::forge::{ForgeSettings, connect};
pub use windlass_drivers::git::mirror::{Credentials, Moved, Secret};
use windlass_drivers::git::mirror::{Limits as WorkTreeLimits, Mirror, MirrorError, References, Remote, moved};
use windlass_lang::tree::Tree;
use windlass_model::diagnostic::{Diagnostic, has_errors};
use windlass_policy::Limits;

/// The longest pause between two tries of a repository that fails, unless it is looked at less often anyway.
const LONGEST: Duration = Duration::from_secs(900);
/// The pause that even webhooks leave between two fetches.
const SHORTEST: Duration = Duration::from_secs(1);
/// How often idle work trees are looked at; the first time so long after the start, when runs that go on have theirs again.
const PRUNE: Duration = Duration::from_secs(600);
/// News that a subscriber may be behind.
const BEHIND: usize = 256;

/// A repository to follow, as the server's settings say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Its name here: lower-case letters, digits, `-`, `_` and `.`; a directory is called so.
    pub name: String,
    /// `https://…`, `ssh://…`, `git@host:path` or a path of this machine; never with a password.
    pub url: String,
    /// The protected branch, which decides. The one that the remote calls its default when it is not set.
    #[serde(default)]
    pub branch: Option<String>,
    /// References to follow besides branches and tags, such as `refs/pull/*/head`.
    #[serde(default)]
    pub references: Vec<String>,
    /// How to be let in; what the machine's git knows when it is not set.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Whether work trees have the files of submodules.
    #[serde(default = "yes")]
    pub submodules: bool,
    /// Seconds between two fetches while nobody says that it moved; at least 5.
    #[serde(default = "every")]
    pub every: u64,
    /// The forge where its changes are proposed and reviewed: a table `[repository.forge]`; changes are not followed when it is not set.
    #[serde(default)]
    pub forge: Option<ForgeSettings>,
}

fn yes() -> bool {
    true
}

fn every() -> u64 {
    60
}

impl Repository {
    /// The default branch of `url`, every minute.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            branch: None,
            references: Vec::new(),
            credentials: None,
            submodules: yes(),
            every: every(),
            forge: None,
        }
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote {
            credentials: self.credentials.clone(),
            references: self.references.clone(),
            submodules: self.submodules,
            ..Remote::new(self.url.clone())
        }
    }

    /// Everything wrong with it; WL830.
    pub fn check(&self) -> Vec<Diagnostic> {
        let mut wrong = Vec::new();
        let mut refuse = |summary: String, help: &str| wrong.push(Diagnostic::error("WL830", summary).help(help));
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if self.name.is_empty() || self.name.starts_with(['.', '-']) || !self.name.bytes().all(good) {
            let help = "use lower-case letters, digits, `-`, `_` and `.`, and begin with a letter or digit";
            refuse(format!("`{}` is no name for a repository", self.name), help);
        }
        if !(5..=86_400).contains(&self.every) {
            let help = "it is a whole number of seconds from 5 to 86400, such as `60`";
            refuse(format!("repository `{}` is to be fetched every {} s", self.name, self.every), help);
        }
        wrong.extend(self.remote().check().err().map(|error| error.diagnostic()));
        let forge = self.forge.as_ref().map(|forge| connect(forge, &self.url));
        wrong.extend(forge.and_then(Result::err).map(|error| error.diagnostic()));
        wrong
    }
}

/// What the newest good commit of the protected branch says.
pub struct Good {
    pub commit: String,
    /// When it was first seen to be good.
    pub at: Timestamp,
    /// Definitions and stacks; its diagnostics are warnings.
    pub project: Arc<Project>,
    pub deciding: Arc<Deciding>,
}

/// The newest commit of the protected branch, when its definitions are wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    pub commit: String,
    /// When it was first seen.
    pub at: Timestamp,
    pub diagnostics: Vec<Diagnostic>,
}

/// Why the last fetches failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When the last one did.
    pub at: Timestamp,
    /// How many one after another.
    pub count: u32,
    pub diagnostic: Diagnostic,
}

/// What is known of a repository.
#[derive(Clone, Default)]
pub struct Status {
    /// The protected branch; `None` until it is known.
    pub branch: Option<String>,
    /// What decides.
    pub good: Option<Arc<Good>>,
    /// Set while something newer than `good` is wrong.
    pub bad: Option<Arc<Bad>>,
    /// The last fetch that worked.
    pub fetched: Option<Timestamp>,
    /// Set while fetches fail.
    pub failure: Option<Failure>,
    /// Full names and objects as of the last fetch.
    pub references: Arc<References>,
}

/// What one fetch brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    pub repository: String,
    /// Nothing was known of it before: that all references are new says nothing about when they came.
    pub first: bool,
    pub moved: Vec<Moved>,
    pub definitions: Option<Turn>,
}

/// What became of the protected branch's definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Those of `new` are in force.
    Good { old: Option<String>, new: String },
    /// Those of `commit` are wrong; those of `kept` stay.
    Bad { kept: Option<String>, commit: String },
}

/// How definitions and policies of a commit are loaded.
#[derive(Debug, Clone)]
pub struct Loader {
    pub bundles: Bundles,
    pub limits: Limits,
}

impl Loader {
    /// Definitions, stacks and policies of a tree, or everything that is wrong with them.
    fn load(&self, tree: &dyn Tree) -> Result<(Project, Deciding), Vec<Diagnostic>> {
        let mut project = Project::load(tree);
        let policies = Policies::load(tree, &project.definitions, &self.bundles, Author::Organisation);
        match policies {
            Ok(policies) if !has_errors(&project.diagnostics) => {
                let policies = policies.within(self.limits);
                let deciding = Deciding { definitions: project.definitions.clone(), policies };
                Ok((project, deciding))
            }
            policies => {
                project.diagnostics.extend(policies.err().into_iter().flat_map(|error| error.diagnostics));
                Err(project.diagnostics)
            }
        }
    }
}

/// What outlives a restart, beside the mirror.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    url: String,
    branch: Option<String>,
    /// The last good commit, and when it was first seen, µs.
    good: Option<(String, i64)>,
    references: Arc<References>,
}

struct Entry {
    repository: Repository,
    mirror: Arc<Mirror>,
    file: PathBuf,
    loader: Arc<Loader>,
    status: Mutex<Arc<Status>>,
    /// Held by whoever refreshes.
    turn: Arc<tokio::sync::Mutex<()>>,
    poked: Notify,
}

/// All repositories of a server.
pub struct Followed {
    directory: PathBuf,
    loader: Arc<Loader>,
    entries: RwLock<Entries>,
    /// Which are followed has changed.
    changed: Notify,
    news: broadcast::Sender<Arc<News>>,
    work_trees: WorkTreeLimits,
}

type Entries = BTreeMap<String, Arc<Entry>>;

impl Followed {
    /// Takes up where it was left: the last good definitions are loaded again from the mirrors in `directory`. Blocks; nothing is
    /// fetched.
    ///
    /// # Errors
    /// Everything wrong with the settings, or the directory cannot be used.
    pub fn open(
        directory: &Path,
        repositories: &[Repository],
        loader: Loader,
        work_trees: WorkTreeLimits,
    ) -> AppResult<Self> {
        let (directory, loader) = (directory.to_owned(), Arc::new(loader));
        let entries = entries(&directory, &loader, repositories, &Entries::new())?;
        let (entries, news) = (RwLock::new(entries), broadcast::Sender::new(BEHIND));
        Ok(Self { directory, loader, entries, changed: Notify::new(), news, work_trees })
    }

    /// Follows these from now on: what is as it was goes on, and what is new or different is taken up as by [`Followed::open`].
    /// Blocks; nothing is fetched.
    ///
    /// # Errors
    /// As [`Followed::open`]; then everything is as it was.
    pub fn change(&self, repositories: &[Repository]) -> AppResult<()> {
        let entries = entries(&self.directory, &self.loader, repositories, &self.entries())?;
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
        self.changed.notify_one();
        Ok(())
    }

    fn entries(&self) -> Entries {
        // It is whole when it is put in.
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All of them with what is known, by name.
    pub fn list(&self) -> Vec<(Repository, Arc<Status>)> {
        self.entries().values().map(|entry| (entry.repository.clone(), entry.status())).collect()
    }

    /// What is known of one.
    pub fn status(&self, name: &str) -> Option<Arc<Status>> {
        self.entry(name).map(|entry| entry.status())
    }

    /// The copy of one, for trees and checkouts of its commits.
    pub fn mirror(&self, name: &str) -> Option<Arc<Mirror>> {
        self.entry(name).map(|entry| entry.mirror.clone())
    }

    /// News from now on. Who is too far behind is told so by the channel, and looks at [`Followed::status`].
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.news.subscribe()
    }

    /// Has one fetched soon; `false` when there is none of that name. Many pokes are one.
    pub fn poke(&self, name: &str) -> bool {
        self.entry(name).inspect(|entry| entry.poked.notify_one()).is_some()
    }

    /// Fetches one now and loads what moved. That it cannot be fetched, or that its definitions are wrong, is in the answer.
    ///
    /// # Errors
    /// There is none of that name, or a bug.
    pub async fn refresh(&self, name: &str, now: Timestamp) -> AppResult<Arc<Status>> {
        let entry = self.entry(name).ok_or_else(|| {
            let diagnostic = Diagnostic::error("WL903", format!("there is no repository `{name}`"));
            AppError::new(ErrorKind::NotFound, diagnostic.help("the server's settings say which are followed"))
        })?;
        self.refresh_entry(entry, now).await
    }

    async fn refresh_entry(&self, entry: Arc<Entry>, now: Timestamp) -> AppResult<Arc<Status>> {
        // It goes on when nobody waits for it any more, and keeps its turn.
        let turn = entry.turn.clone().lock_owned().await;
        let news = self.news.clone();
        let work = move || {
            let _turn = turn;
            entry.refresh(now, &news)
        };
        tokio::task::spawn_blocking(work).await.map_err(internal)
    }

    /// Follows all of them until it is cancelled, each in a task of its own.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut tasks = tokio::task::JoinSet::new();
        let mut following: BTreeMap<String, (Arc<Entry>, CancellationToken)> = BTreeMap::new();
        while !cancel.is_cancelled() {
            let entries = self.entries();
            following.retain(|name, (entry, cancel)| {
                let stays = entries.get(name).is_some_and(|now| Arc::ptr_eq(now, entry));
                if !stays {
                    cancel.cancel();
                }
                stays
            });
            for (name, entry) in entries {
                following.entry(name).or_insert_with(|| {
                    let cancel = cancel.child_token();
                    tasks.spawn(self.clone().follow(entry.clone(), cancel.clone()));
                    (entry, cancel)
                });
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.changed.notified() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn follow(self: Arc<Self>, entry: Arc<Entry>, cancel: CancellationToken) {
        let name = &entry.repository.name;
        let mut pruned = Instant::now();
        for count in 0u64.. {
            let refreshed = tokio::select! {
                () = cancel.cancelled() => return,
                refreshed = self.refresh_entry(entry.clone(), Timestamp::now()) => refreshed,
            };
            // A bug in one look is tried again as a failure is.
            let failures = refreshed.map_or(1, |status| status.failure.as_ref().map_or(0, |failure| failure.count));
            if pruned.elapsed() >= PRUNE {
                pruned = Instant::now();
                let (mirror, limits) = (entry.mirror.clone(), self.work_trees);
                // What cannot be removed now is told by the checkout that needs its room.
                let _ = tokio::task::spawn_blocking(move || mirror.prune(&limits).map(drop)).await;
            }
            let mut hash = DefaultHasher::new();
            (name, count).hash(&mut hash);
            let pause = poll_next(Duration::from_secs(entry.repository.every), failures, hash.finish());
            let waited = async {
                tokio::time::sleep(SHORTEST).await;
                tokio::select! {
                    () = tokio::time::sleep(pause.saturating_sub(SHORTEST)) => {}
                    () = entry.poked.notified() => {}
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = waited => {}
            }
        }
    }
}

/// What is to be followed, with those of `known` that are as they were.
fn entries(directory: &Path, loader: &Arc<Loader>, repositories: &[Repository], known: &Entries) -> AppResult<Entries> {
    let mut wrong: Vec<Diagnostic> = repositories.iter().flat_map(Repository::check).collect();
    let mut names = std::collections::BTreeSet::new();
    for repository in repositories.iter().filter(|repository| !names.insert(&repository.name)) {
        wrong.push(
            Diagnostic::error("WL830", format!("two repositories are called `{}`", repository.name))
                .help("give each a name of its own"),
        );
    }
    if !wrong.is_empty() {
        return Err(AppError::many(ErrorKind::Usage, wrong));
    }
    let entries = repositories.iter().map(|repository| {
        let before = known.get(&repository.name);
        if let Some(same) = before.filter(|entry| entry.repository == *repository) {
            return Ok((repository.name.clone(), same.clone()));
        }
        let place = directory.join(&repository.name);
        let mirror = Arc::new(Mirror::open(&place, repository.remote()).map_err(|error| mirror_error(&error))?);
        let entry = Entry {
            repository: repository.clone(),
            mirror,
            file: place.join("followed.json"),
            loader: loader.clone(),
            status: Mutex::default(),
            // Both work in one directory.
            turn: before.map(|entry| entry.turn.clone()).unwrap_or_default(),
            poked: Notify::new(),
        };
        entry.restore();
        Ok((repository.name.clone(), Arc::new(entry)))
    });
    entries.collect()
}

/// How long to wait before a repository is fetched again: `every`, twice as long after each failure in a row up to a quarter of
/// an hour, and up to a tenth more or less by `spread` (any number), so that not all are fetched at once.
pub fn poll_next(every: Duration, failures: u32, spread: u64) -> Duration {
    let longest = LONGEST.max(every);
    let pause = every.saturating_mul(1 << failures.min(16)).min(longest);
    pause.mul_f64(0.9 + 0.2 * (spread as f64 / u64::MAX as f64))
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, Arc<Status>> {
        // Every status is complete when it is put in.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> Arc<Status> {
        self.lock().clone()
    }

    /// Loads the last good commit again. What cannot be is found again by the next fetch.
    fn restore(&self) {
        let Some(kept) = std::fs::read(&self.file).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok())
        else {
            return;
        };
        // What another repository of this name said does not decide here.
        if kept.url != self.repository.url
            || self.repository.branch.as_ref().is_some_and(|b| Some(b) != kept.branch.as_ref())
        {
            return;
        }
        let good = kept.good.and_then(|(commit, at)| {
            let at = Timestamp::from_microsecond(at).ok()?;
            let (project, deciding) = self.loader.load(&self.mirror.tree(&commit).ok()?).ok()?;
            Some(Arc::new(Good { commit, at, project: Arc::new(project), deciding: Arc::new(deciding) }))
        });
        *self.lock() = Arc::new(Status { branch: kept.branch, good, references: kept.references, ..Status::default() });
    }

    /// Fetches, loads what moved, tells, and keeps it.
    fn refresh(&self, now: Timestamp, news: &broadcast::Sender<Arc<News>>) -> Arc<Status> {
        let old = self.status();
        let mut status = (*old).clone();
        let mut told = None;
        match self.look(&mut status, now) {
            Ok(found) => {
                status.failure = None;
                told = Some(found);
            }
            Err(diagnostic) => {
                let count = old.failure.as_ref().map_or(0, |failure| failure.count).saturating_add(1);
                status.failure = Some(Failure { at: now, count, diagnostic: *diagnostic });
            }
        }
        // Known here before anybody is told; kept only afterwards: what was not told is told again after a restart.
        let status = Arc::new(status);
        *self.lock() = status.clone();
        if let Some(found) = told.filter(|found| !found.moved.is_empty() || found.definitions.is_some()) {
            // Nobody has to listen.
            let _ = news.send(Arc::new(found));
            if let Err(error) = self.keep(&status) {
                let diagnostic = disk(&self.file, &error).diagnostics.swap_remove(0);
                let failed = Status { failure: Some(Failure { at: now, count: 1, diagnostic }), ..(*status).clone() };
                *self.lock() = Arc::new(failed);
            }
        }
        self.status()
    }

    fn look(&self, status: &mut Status, now: Timestamp) -> Result<News, Box<Diagnostic>> {
        let wrong = |error: MirrorError| Box::new(error.diagnostic());
        self.mirror.fetch().map_err(wrong)?;
        let references = Arc::new(self.mirror.references().map_err(wrong)?);
        let mut news = News {
            repository: self.repository.name.clone(),
            first: status.references.is_empty(),
            moved: moved(&status.references, &references),
            definitions: None,
        };
        status.fetched = Some(now);
        let branch = self.repository.branch.clone().or_else(|| self.mirror.default_branch());
        let named = branch.as_ref().and_then(|branch| references.get(&format!("refs/heads/{branch}")));
        let Some((branch, commit)) = branch.as_ref().zip(named.cloned()) else {
            let summary = match &branch {
                Some(branch) => format!("{} has no branch `{branch}`", self.repository.url),
                None => format!("{} says of none of its branches that it is the default", self.repository.url),
            };
            // What moved is told when the branch is there again: `status` keeps what it knew.
            return Err(Box::new(
                Diagnostic::error("WL833", summary).help("push it, or set `branch` to the branch that decides"),
            ));
        };
        status.branch = Some(branch.clone());
        status.references = references;
        let good = status.good.as_ref().map(|good| good.commit.clone());
        if good.as_ref() == Some(&commit) {
            status.bad = None;
            return Ok(news);
        }
        // A bad one is loaded again each time: a bundle of policies that could not be fetched may be there now.
        let tree = self.mirror.tree(&commit).map_err(wrong)?;
        match self.loader.load(&tree) {
            Ok((project, deciding)) => {
                news.definitions = Some(Turn::Good { old: good, new: commit.clone() });
                let (project, deciding) = (Arc::new(project), Arc::new(deciding));
                status.good = Some(Arc::new(Good { commit, at: now, project, deciding }));
                status.bad = None;
            }
            Err(diagnostics) => {
                let before = status.bad.as_ref().filter(|bad| bad.commit == commit);
                if before.is_none() {
                    news.definitions = Some(Turn::Bad { kept: good, commit: commit.clone() });
                }
                let at = before.map_or(now, |bad| bad.at);
                status.bad = Some(Arc::new(Bad { commit, at, diagnostics }));
            }
        }
        Ok(news)
    }

    fn keep(&self, status: &Status) -> std::io::Result<()> {
        let kept = Kept {
            url: self.repository.url.clone(),
            branch: status.branch.clone(),
            good: status.good.as_ref().map(|good| (good.commit.clone(), good.at.as_microsecond())),
            references: status.references.clone(),
        };
        let draft = self.file.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec(&kept)?)?;
        std::fs::rename(draft, &self.file)
    }
}

fn mirror_error(error: &MirrorError) -> AppError {
    let kind = if matches!(error, MirrorError::Settings(_)) { ErrorKind::Usage } else { ErrorKind::Unavailable };
    AppError::new(kind, error.diagnostic())
}

#[cfg(test)]
mod tests;
