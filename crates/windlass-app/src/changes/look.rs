//! One look at a change: what is so, what is done about it, what is said.

use super::{At, Forges, people};
use crate::caller::Caller;
use crate::error::{AppError, ErrorKind, internal};
use crate::installation::Installation;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use windlass_connect::forge::{Forge, ForgeError};
use windlass_model::Micros;
use windlass_model::change::plan::{Known, Seen, next};
use windlass_model::change::{Change, ChangeState, Person};
use windlass_model::id::InstanceId;
use windlass_store::{ChangeRow, Follow, Store, StoreError};

/// More acts than any look has.
const ROUNDS: usize = 40;
/// Before a look that failed is made again; doubles up to the longest.
const BACKOFF: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(600);
/// Before what the forge refused for now is tried again, µs.
const RETRY: Micros = 300_000_000;

/// Instances that something which moved in a base is about; `None`: what decides moved, which is about all.
pub type Moved = Option<Arc<BTreeSet<InstanceId>>>;
/// Whether somebody (project, team, id) is in a team, and since when that is known.
type Members = HashMap<(String, String, String), (bool, Instant)>;

/// What looks have in common.
pub struct Looker {
    pub installation: Arc<Installation>,
    pub forges: Arc<dyn Forges>,
    pub url: String,
    pub holder: String,
    pub lease: Micros,
    /// Who we are there, by project.
    accounts: Mutex<HashMap<String, Person>>,
    members: Mutex<Members>,
    /// By project, and the commits from and to.
    moved: Mutex<HashMap<(String, String, String), Moved>>,
    /// Projects whose forge wants to be left alone, and until when.
    paused: Mutex<HashMap<String, Instant>>,
}

/// Why a look came to no end.
#[derive(Debug)]
pub enum Stop {
    /// Somebody else looks at the change by now.
    Lost,
    Forge(ForgeError),
    App(AppError),
    /// What it needs will be there in so long.
    Later(Duration, String),
}

impl From<ForgeError> for Stop {
    fn from(error: ForgeError) -> Self {
        Self::Forge(error)
    }
}

impl From<AppError> for Stop {
    fn from(error: AppError) -> Self {
        Self::App(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::App(error.into())
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost => f.write_str("another server looks at it"),
            Self::Forge(error) => error.fmt(f),
            Self::App(error) => error.fmt(f),
            Self::Later(_, why) => f.write_str(why),
        }
    }
}

/// A look.
pub struct Look {
    pub looker: Arc<Looker>,
    pub at: At,
    pub store: Store,
    pub project: String,
    pub number: u64,
    pub known: Known,
    pub seen: Seen,
    /// `seen` is what the forge says now, not what it said when it was asked last.
    asked: bool,
    /// What is followed when it ends.
    pub follow: Follow,
    pub itself: Caller,
}

impl Looker {
    pub fn new(
        installation: Arc<Installation>,
        forges: Arc<dyn Forges>,
        url: String,
        holder: String,
        lease: Micros,
    ) -> Self {
        let (accounts, members, moved, paused) = Default::default();
        Self { installation, forges, url, holder, lease, accounts, members, moved, paused }
    }

    /// Projects whose forge may be asked now.
    pub fn projects(&self) -> Vec<String> {
        let mut paused = lock(&self.paused);
        paused.retain(|_, until| *until > Instant::now());
        let mut projects = self.forges.projects();
        projects.retain(|project| !paused.contains_key(project));
        projects
    }

    /// Leaves a forge alone that asks for that.
    pub fn pause(&self, project: &str, error: &ForgeError) {
        if let Some(after) = error.after() {
            lock(&self.paused).insert(project.to_owned(), Instant::now() + after);
        }
    }

    pub fn members(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }

    pub fn moved(&self) -> MutexGuard<'_, HashMap<(String, String, String), Moved>> {
        lock(&self.moved)
    }

    /// Something of a forge, which blocks.
    pub async fn ask<T: Send + 'static>(
        &self,
        at: &At,
        what: impl FnOnce(&dyn Forge) -> Result<T, ForgeError> + Send + 'static,
    ) -> Result<T, Stop> {
        let forge = at.forge.clone();
        let asked = tokio::task::spawn_blocking(move || what(&*forge)).await;
        Ok(asked.map_err(|error| Stop::App(internal(error)))??)
    }

    /// Looks at a change that was claimed, and lets it go.
    pub async fn look(self: Arc<Self>, row: ChangeRow) {
        let store = self.installation.common.store.of_project(&row.project);
        let (number, failures) = (row.number, row.known.failures);
        let mut work = Box::pin(self.clone().look_at(row, &store));
        let every = Duration::from_micros((self.lease / 3).unsigned_abs());
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                () = tokio::time::sleep(every) => {
                    // Where the database is away, the look hears of it by itself.
                    if let Ok(false) = store.change_hold(number, &self.holder, self.lease).await {
                        break Err(Stop::Lost);
                    }
                }
            }
        };
        drop(work);
        let left = match result {
            Ok(follow) => store.change_release(number, &self.holder, &follow).await.map(drop),
            Err(Stop::Lost) => Ok(()),
            Err(stop) => {
                let after = match &stop {
                    Stop::Later(after, _) => *after,
                    Stop::Forge(error) => {
                        self.pause(store.project(), error);
                        backoff(failures, error.after())
                    }
                    Stop::App(_) | Stop::Lost => backoff(failures, None),
                };
                tracing::warn!(project = store.project(), change = number, "{stop}");
                self.put_off(&store, number, &stop, after).await
            }
        };
        if let Err(error) = left {
            // Its lease ends, and it is looked at again.
            tracing::warn!(project = store.project(), change = number, %error, "a look is not kept");
        }
    }

    async fn put_off(&self, store: &Store, number: u64, stop: &Stop, after: Duration) -> Result<(), StoreError> {
        if let Some(row) = store.change_get(number).await? {
            let failures = row.known.failures.saturating_add(1);
            let known = Known { failure: Some(stop.to_string()), failures, ..row.known };
            store.change_keep(number, &self.holder, &known, self.lease).await?;
        }
        let after = Micros::try_from(after.as_micros()).unwrap_or(Micros::MAX / 2);
        store.change_put_off(number, &self.holder, store.now().await? + after).await
    }

    async fn account(&self, at: &At, project: &str) -> Result<Person, Stop> {
        if let Some(me) = lock(&self.accounts).get(project) {
            return Ok(me.clone());
        }
        let me = self.ask(at, |forge| forge.me()).await?;
        // What it does is told to us as well, and is no news.
        self.installation.common.store.of_project(project).kv_set(super::SCOPE, super::ACCOUNT, &me.id).await?;
        lock(&self.accounts).insert(project.to_owned(), me.clone());
        Ok(me)
    }

    async fn look_at(self: Arc<Self>, row: ChangeRow, store: &Store) -> Result<Follow, Stop> {
        let ChangeRow { project, number, mut known, asks, listed, .. } = row;
        let Some(at) = self.forges.at(&project).transpose()? else { return Ok(Follow::default()) };
        let now = store.now().await?;
        if known.since == 0 {
            known.since = now;
        }
        let me = self.account(&at, &project).await?;
        let before = known.change.clone();
        let seen = match before.clone().filter(|_| !asks) {
            // Only the record moved: that is told without asking what is told already.
            Some(change) => Some(Seen { change, comments: Vec::new(), reviews: known.reviews.clone(), me, now }),
            None => self.seen(&at, number, listed, &known, me, now).await?,
        };
        // A number that a delivery made up.
        let Some(seen) = seen else { return Ok(Follow::default()) };
        let asked = asks || before.is_none();
        let (store, itself, follow) = (store.clone(), people::itself(), Follow::default());
        let mut look = Look { looker: self, at, store, project, number, known, seen, asked, follow, itself };
        look.remember();
        if before.is_none_or(|before| before.head != look.seen.change.head) {
            // The fetch that brings it does not have to tell.
            look.keep().await?;
        }
        look.run().await
    }

    /// What the forge says of a change, and has said of the change itself where that was `listed`; `None` when it has none of that number.
    async fn seen(
        &self,
        at: &At,
        number: u64,
        listed: Option<Change>,
        known: &Known,
        me: Person,
        now: Micros,
    ) -> Result<Option<Seen>, Stop> {
        let change = match listed {
            Some(change) => Some(change),
            None => self.ask(at, move |forge| forge.change(number)).await?,
        };
        let Some(change) = change else { return Ok(None) };
        let since = known.cursor.unwrap_or(known.since - windlass_model::change::plan::OLD);
        let comments = self.ask(at, move |forge| forge.comments(number, Some(since))).await?;
        let reviews = match change.state {
            ChangeState::Closed => Vec::new(),
            _ => self.ask(at, move |forge| forge.reviews(number)).await?,
        };
        Ok(Some(Seen { change, comments, reviews, me, now }))
    }
}

impl Look {
    async fn run(mut self) -> Result<Follow, Stop> {
        self.react().await?;
        for _ in 0..ROUNDS {
            let record = self.record().await?;
            if let Some(act) = next(&self.seen, &self.known, &record) {
                if self.asked || act.is_of_record() {
                    self.act(act, &record).await?;
                } else {
                    // What is done is done about what is there now.
                    self.see_all().await?;
                }
                continue;
            }
            self.tell(&record).await?;
            // What was said may be what something waited for.
            if next(&self.seen, &self.known, &record).is_none() {
                self.known.read_to(&self.seen);
                (self.known.failure, self.known.failures) = (None, 0);
                self.keep().await?;
                let open = self.seen.change.state == ChangeState::Open;
                if self.known.not_merged.is_some() && open {
                    self.follow.due = Some(self.store.now().await? + RETRY);
                }
                return Ok(self.follow);
            }
        }
        Err(Stop::App(internal(format!("a look at change {} has no end", self.number))))
    }

    async fn see_all(&mut self) -> Result<(), Stop> {
        let (me, now) = (self.seen.me.clone(), self.store.now().await?);
        let looker = self.looker.clone();
        if let Some(seen) = looker.seen(&self.at, self.number, None, &self.known, me, now).await? {
            self.seen = seen;
            self.remember();
        }
        self.asked = true;
        Ok(())
    }

    fn remember(&mut self) {
        self.known.change = Some(self.seen.change.clone());
        self.known.reviews = self.seen.reviews.clone();
    }

    /// Keeps what is known by now.
    pub async fn keep(&self) -> Result<(), Stop> {
        let looker = &self.looker;
        let kept = self.store.change_keep(self.number, &looker.holder, &self.known, looker.lease).await?;
        if kept { Ok(()) } else { Err(Stop::Lost) }
    }

    pub async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&dyn Forge) -> Result<T, ForgeError> + Send + 'static,
    ) -> Result<T, Stop> {
        self.looker.ask(&self.at, what).await
    }

    /// Asks again what the change is.
    pub async fn see(&mut self) -> Result<(), Stop> {
        let number = self.number;
        let change: Option<Change> = self.ask(move |forge| forge.change(number)).await?;
        if let Some(change) = change {
            self.known.change = Some(change.clone());
            self.seen.change = change;
        }
        Ok(())
    }

    /// A person of the forge.
    pub async fn person(&self, person: &Person) -> Result<Caller, Stop> {
        self.looker.caller(&self.at, &self.project, person).await
    }
}

/// Whether somebody can be told so: nothing has to be tried again.
pub fn is_answer(error: &AppError) -> bool {
    !matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Internal)
}

/// How long nothing is tried where so many looks failed before and the forge asked for `after`.
fn backoff(failures: u32, after: Option<Duration>) -> Duration {
    let doubled = BACKOFF.saturating_mul(1 << failures.min(10)).min(LONGEST);
    doubled.max(after.unwrap_or_default())
}

/// A panic in another thread does not make the maps wrong: every entry is complete when it is put in.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_fail_become_rarer_and_a_forge_may_ask_for_more_time() {
        let check = |failures, after: Option<u64>, want: u64| {
            assert_eq!(backoff(failures, after.map(Duration::from_secs)).as_secs(), want, "{failures} {after:?}");
        };
        check(0, None, 5);
        check(3, None, 40);
        check(u32::MAX, None, 600);
        check(0, Some(3_600), 3_600);
        check(20, Some(60), 600);
    }
}
