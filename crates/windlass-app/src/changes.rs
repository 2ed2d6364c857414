//! Changes of forges: a loop that looks at each that is due, does what follows from what is, and says how it stands. Any number of
//! servers may do it at once.

mod acts;
mod base;
mod look;
pub(crate) mod people;
mod record;
mod words;

use crate::error::{AppError, AppResult};
use crate::installation::Installation;
use look::Looker;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_connect::forge::{Forge, ForgeError, ForgeKind, ForgeSettings};
use windlass_model::Micros;
use windlass_model::change::{Budget, ChangeState};
use windlass_store::{Changes, Store};

/// How many changes are looked at at once.
const AT_ONCE: usize = 4;
/// How many changes one list of a forge has at most.
const LISTED: usize = 10_000;
/// What happens within this time is looked at together.
const SETTLE: Duration = Duration::from_millis(100);
/// Where it is kept when changes were listed last, and how much more the forge may be asked.
const SCOPE: &str = "changes";
const CURSOR: &str = "listed";
const BUDGET: &str = "budget";
/// Where it is kept who we are.
const ACCOUNT: &str = "account";
/// What was touched so long before what a list had last is listed again, µs: a list may lack for a moment what is there, and the first
/// one goes by our clock.
const SKEW: Micros = 120_000_000;

/// How often is looked.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// For changes that are due.
    pub look: Duration,
    /// For changes that nobody told of.
    pub list: Duration,
    /// How long a change is one server's without a word from it, µs.
    pub lease: Micros,
}

impl Default for Pace {
    fn default() -> Self {
        Self { look: Duration::from_secs(2), list: Duration::from_secs(120), lease: 30_000_000 }
    }
}

/// A forge, and what it is.
#[derive(Clone)]
pub struct At {
    pub forge: Arc<dyn Forge>,
    pub kind: ForgeKind,
}

/// Where the changes of projects are.
pub trait Forges: Send + Sync + 'static {
    fn projects(&self) -> Vec<String>;
    /// `None` where a project has none, or there is no such project.
    fn at(&self, project: &str) -> Option<Result<At, ForgeError>>;
}

/// Those that the settings of an installation's repositories name. What was connected is kept: it knows tokens, and how much more may be
/// asked.
pub struct OfSettings {
    installation: Arc<Installation>,
    connected: Mutex<HashMap<String, (ForgeSettings, String, At)>>,
}

impl OfSettings {
    pub fn new(installation: Arc<Installation>) -> Self {
        Self { installation, connected: Mutex::default() }
    }
}

impl Forges for OfSettings {
    fn projects(&self) -> Vec<String> {
        let list = self.installation.followed.list().into_iter();
        list.filter(|(repository, _)| repository.forge.is_some()).map(|(repository, _)| repository.name).collect()
    }

    fn at(&self, project: &str) -> Option<Result<At, ForgeError>> {
        let (repository, _) = self.installation.followed.list().into_iter().find(|(r, _)| r.name == project)?;
        let settings = repository.forge.clone()?;
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, url, at)) = connected.get(project)
            && (known, url) == (&settings, &repository.url)
        {
            return Some(Ok(at.clone()));
        }
        Some(windlass_connect::forge::connect(&settings, &repository.url).map(|forge| {
            let at = At { forge: forge.into(), kind: settings.kind };
            connected.insert(project.to_owned(), (settings, repository.url, at.clone()));
            at
        }))
    }
}

/// Looks after changes until `stop` is cancelled, and ends when the looks under way have. `url` is how people reach the server; `told`
/// hears what keeps it from that, once; it tries again all the time.
pub async fn run(
    installation: Arc<Installation>,
    forges: Arc<dyn Forges>,
    url: String,
    pace: Pace,
    stop: CancellationToken,
    told: impl Fn(&AppError) + Send + Sync,
) {
    let holder = Store::run_id().to_string();
    let looker = Arc::new(Looker::new(installation, forges, url, holder, pace.lease));
    tokio::join!(look(&looker, pace, &stop, &told), find(&looker, pace, &stop, &told));
}

/// A failure is told of once, until it is another one.
struct Telling<'a> {
    told: &'a (dyn Fn(&AppError) + Send + Sync),
    before: Option<String>,
}

impl Telling<'_> {
    fn tell(&mut self, done: AppResult<()>) {
        let failure = done.err();
        let now = failure.as_ref().map(ToString::to_string);
        if let Some(failure) = failure.filter(|_| now != self.before) {
            (self.told)(&failure);
        }
        self.before = now;
    }
}

/// Looks at what is due.
async fn look(looker: &Arc<Looker>, pace: Pace, stop: &CancellationToken, told: &(dyn Fn(&AppError) + Send + Sync)) {
    let store = looker.installation.common.store.clone();
    let mut telling = Telling { told, before: None };
    let (mut changed, mut looks) = (store.changes(), JoinSet::new());
    while !stop.is_cancelled() {
        let seen = *changed.borrow_and_update();
        if !looker.forges.projects().is_empty() {
            telling.tell(begin(looker, &store, &mut looks).await);
        }
        let moved = async {
            // Logs grow all the time, and are of no interest.
            let is_news = |now: &Changes| (now.events, now.due) != (seen.events, seen.due);
            if changed.wait_for(is_news).await.is_err() {
                // A store that was closed changes no more.
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(SETTLE).await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pace.look) => {}
            () = moved => {}
            // More may be due than was taken.
            Some(ended) = looks.join_next() => {
                if let Err(error) = ended {
                    told(&crate::error::internal(error));
                }
            }
        }
    }
    while looks.join_next().await.is_some() {}
}

/// Has changes looked at of which nobody told: which were touched at their forges, or pushed to, or whose base moved.
async fn find(looker: &Arc<Looker>, pace: Pace, stop: &CancellationToken, told: &(dyn Fn(&AppError) + Send + Sync)) {
    let mut telling = Telling { told, before: None };
    let (mut news, mut listed) = (looker.installation.followed.subscribe(), None::<tokio::time::Instant>);
    while !stop.is_cancelled() {
        let done = async {
            let projects = looker.forges.projects();
            if !projects.is_empty() && listed.is_none_or(|at| at.elapsed() >= pace.list) {
                listed = Some(tokio::time::Instant::now());
                list_all(looker).await?;
            }
            for project in projects {
                looker.base_moved(&project).await?;
            }
            Ok(())
        };
        telling.tell(done.await);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pace.look) => {}
            moved = news.recv() => {
                if let Ok(news) = moved
                    && let Err(error) = looker.heads_moved(&news).await
                {
                    told(&error);
                }
            }
        }
    }
}

/// Begins to look at what is due.
async fn begin(looker: &Arc<Looker>, store: &Store, looks: &mut JoinSet<()>) -> AppResult<()> {
    store.change_moved().await?;
    while looks.try_join_next().is_some() {}
    let free = AT_ONCE.saturating_sub(looks.len());
    if free == 0 {
        return Ok(());
    }
    let rows = store.change_claim(&looker.projects(), &looker.holder, looker.lease, free as u32).await?;
    for row in rows {
        let looker = looker.clone();
        looks.spawn(async move { looker.look(row).await });
    }
    Ok(())
}

/// How far the lists of a forge have come.
#[derive(Debug, Clone, Copy)]
struct Listed {
    /// When the change that was touched last was so, by the forge's clock.
    newest: Micros,
    /// When that was listed first, by ours.
    at: Micros,
}

impl Listed {
    fn read(text: &str) -> Option<Self> {
        // An earlier build kept the first alone.
        let (newest, at) = text.split_once(' ').unwrap_or((text, ""));
        Some(Self { newest: newest.parse().ok()?, at: at.parse().unwrap_or(Micros::MAX) })
    }

    /// From where the next list has to go. Where nothing newer came for long, all that is older was listed again already.
    fn from(self, now: Micros) -> Micros {
        if now - self.at < 2 * SKEW { self.newest - SKEW } else { self.newest }
    }
}

/// Finds changes that were touched although nobody told so.
async fn list_all(looker: &Arc<Looker>) -> AppResult<()> {
    for project in looker.projects() {
        // What cannot be listed now is listed next time, from where the last list ended.
        let Some(Ok(at)) = looker.forges.at(&project) else { continue };
        let store = looker.installation.common.store.of_project(&project);
        let now = store.now().await?;
        let listed = store.kv_get(SCOPE, CURSOR).await?.and_then(|text| Listed::read(&text));
        // The first time what is done with is of no interest.
        let states: &'static [ChangeState] = match listed {
            Some(_) => &[ChangeState::Open, ChangeState::Merged, ChangeState::Closed],
            None => &[ChangeState::Open],
        };
        let (forge, from) = (at.forge.clone(), listed.map(|listed| listed.from(now)));
        let asked = tokio::task::spawn_blocking(move || forge.changes(states, from, LISTED));
        let found = match asked.await.map_err(crate::error::internal)? {
            Ok(found) => found,
            Err(error) => {
                looker.pause(&project, &error);
                tracing::warn!(project, %error, "changes cannot be listed");
                continue;
            }
        };
        for change in &found {
            let known = store.change_get(change.number).await?.and_then(|row| row.known.change);
            if known.as_ref().is_none_or(|known| known.updated_at < change.updated_at) {
                store.change_listed(change).await?;
            } else if known.is_some_and(|known| known.head != change.head) {
                // The list may be older than what is known.
                store.change_due(change.number, None).await?;
            }
        }
        let newest = found.iter().map(|change| change.updated_at).max();
        let newest = newest.or_else(|| listed.is_none().then_some(now));
        if let Some(newest) = newest.filter(|newest| listed.is_none_or(|listed| listed.newest < *newest)) {
            store.kv_set(SCOPE, CURSOR, &format!("{newest} {now}")).await?;
        }
        if let Some(budget) = at.forge.budget() {
            let text = serde_json::to_string(&budget).map_err(crate::error::internal)?;
            store.kv_set(SCOPE, BUDGET, &text).await?;
        }
    }
    Ok(())
}

/// Whether it was our own account at the forge of a project that did something. That is no news: a change is asked for after whatever is
/// done about it, where that matters.
///
/// # Errors
/// The database cannot be read.
pub async fn is_our_own(store: &Store, by: Option<&str>) -> AppResult<bool> {
    match by {
        Some(by) => Ok(store.kv_get(SCOPE, ACCOUNT).await?.as_deref() == Some(by)),
        None => Ok(false),
    }
}

/// How many requests the forge of a project still took when it was asked last.
pub(crate) async fn budget(store: &Store) -> AppResult<Option<Budget>> {
    Ok(store.kv_get(SCOPE, BUDGET).await?.and_then(|text| serde_json::from_str(&text).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_shortly_before_the_last_is_listed_again_and_then_no_more() {
        let second = 1_000_000;
        let from = |text: &str, now: Micros| Listed::read(text).map(|listed| listed.from(now * second) / second);
        let listed = "1000000000 5000000000";
        assert_eq!(from(listed, 5_120), Some(880));
        assert_eq!(from(listed, 5_240), Some(1_000));
        assert_eq!(from("1000000000", 5_240), Some(880), "of an earlier build");
        assert_eq!(from("soon", 5_240), None);
    }
}
