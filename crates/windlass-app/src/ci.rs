//! Jobs of other people's CI, without a server: which change one is about, what is told there, and what one job passes on to
//! another.

mod environment;

pub use environment::Environment;

use crate::artefacts::{key_of, same_key};
use crate::changes::people;
use crate::database;
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::review::Around;
use crate::service::Service;
use crate::settings::{StateDirectory, disk};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use windlass_connect::forge::{Account, Forge, ForgeError, ForgeKind, connect_as};
use windlass_drivers::git::GitRepository;
use windlass_model::approval::Actor;
use windlass_model::change::authors::Authors;
use windlass_model::change::{Change, Check, CheckState, Opinion, Person};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;
use windlass_model::review::{Level, Outcome, Review, StackReview, Verdict};
use windlass_store::Database;

/// The record, in the directory that is passed on.
const RECORD: &str = "record.backup";

/// What helps where something of an earlier job is in the way.
const FRESH: &str = "begin with a fresh clone: no `.windlass` is there";

/// Approvals that were taken over.
#[derive(Debug, Default)]
pub struct Taken {
    /// Who gave them.
    pub people: Vec<String>,
    /// Teams that nobody could look into, whose members do not count.
    pub unseen: Vec<Diagnostic>,
}

/// A job that knows its change.
pub struct Job {
    pub environment: Environment,
    /// `None` where there is no token to act with.
    forge: Option<Arc<dyn Forge>>,
    /// As the forge has it now; `None` where the job is about no change, or nobody can be asked.
    pub change: Option<Change>,
}

impl Job {
    /// Asks the forge for the change that the environment names.
    ///
    /// # Errors
    /// The forge cannot be asked, or has no such change.
    pub async fn open(environment: Environment) -> AppResult<Self> {
        let account = environment.token.clone().map(Account::Token);
        let connect = |account| connect_as(&environment.forge, account, &environment.url);
        let forge: Option<Arc<dyn Forge>> = account.map(connect).transpose().map_err(failed)?.map(Arc::from);
        let change = match (&forge, environment.change) {
            (Some(forge), Some(number)) => {
                let found = ask(forge, move |forge| forge.change(number)).await?;
                let missing =
                    || wrong(format!("{} has no change {number}", environment.url), "is this its repository?");
                Some(found.ok_or_else(missing)?)
            }
            _ => None,
        };
        Ok(Self { environment, forge, change })
    }

    /// Whether something can be told.
    pub fn is_heard(&self) -> bool {
        self.change.is_some()
    }

    pub fn kind(&self) -> ForgeKind {
        self.environment.forge.kind
    }

    /// What the change is compared with, as this clone knows it; `None` where nothing says, and the default branch is taken.
    ///
    /// # Errors
    /// The clone does not have it.
    pub fn base(&self, git: &GitRepository) -> AppResult<Option<String>> {
        let base = self.change.as_ref().map(|change| &change.base).or(self.environment.base.as_ref());
        let Some(base) = base else { return Ok(None) };
        let known = [format!("origin/{base}"), base.clone()].into_iter().find(|name| git.resolve(name).is_ok());
        let help = "fetch the whole history: `fetch-depth: 0` of actions/checkout, `GIT_DEPTH: 0` of GitLab, `clone: depth: full` of Bitbucket";
        known.map(Some).ok_or_else(|| wrong(format!("this clone does not have the base {base}"), help))
    }

    /// What a review of the commit that is checked out is told of those who made the change.
    ///
    /// # Errors
    /// The forge cannot be asked.
    pub async fn around(&self, git: &GitRepository) -> AppResult<Around> {
        let head = crate::review::head_revision(git)?.commit;
        let (Some(forge), Some(change)) = (&self.forge, &self.change) else { return Ok(Around::default()) };
        let number = change.number;
        let commits = ask(forge, move |forge| forge.commits(number)).await?;
        let made = Authors::of(&commits, &head).unwrap_or_else(|| {
            // For another commit than that of the change no approval of the forge is taken.
            let unlisted = (head == change.head.commit).then(|| format!("the commits up to {head}"));
            Authors { unknown: unlisted.into_iter().collect(), ..Authors::default() }
        });
        Ok(people::around(self.kind(), change, made, None))
    }

    /// Whether the change has another commit by now than the one that this job is about.
    pub fn is_outdated(&self) -> bool {
        let both = self.change.as_ref().zip(self.environment.head.as_ref());
        // Bitbucket shortens commits.
        both.is_some_and(|(change, head)| {
            !head.starts_with(&change.head.commit) && !change.head.commit.starts_with(head)
        })
    }

    /// Writes the comment of the change, or writes it anew, and sets statuses of the commit that the job is about. `marker` is the
    /// line that the comment begins with. One that is outdated does not write over what is said of the newer commit.
    ///
    /// # Errors
    /// The forge cannot be asked, or does not let us.
    pub async fn tell(&self, marker: String, comment: String, checks: Vec<Check>) -> AppResult<()> {
        let (Some(forge), Some(change)) = (&self.forge, &self.change) else { return Ok(()) };
        let (number, is_outdated) = (change.number, self.is_outdated());
        // Whole, where it is that of the change: a CI may shorten it.
        let other = self.environment.head.clone().filter(|_| is_outdated);
        let commit = other.unwrap_or_else(|| change.head.commit.clone());
        let told = ask(forge, move |forge| {
            if !is_outdated {
                say(forge, number, marker.trim_end(), &comment)?;
            }
            checks.iter().try_for_each(|check| forge.check_set(&commit, check))
        });
        told.await
    }

    /// Takes approvals of the forge for those of a review: of the commit that it is of, given after it was made.
    ///
    /// # Errors
    /// The forge cannot be asked; the review cannot be approved.
    pub async fn approvals_take(&self, service: &Service, id: &RunId) -> AppResult<Taken> {
        let mut taken = Taken::default();
        let (Some(forge), Some(change)) = (&self.forge, &self.change) else { return Ok(taken) };
        let Some(row) = crate::waivers::review_get(service, id).await? else { return Ok(taken) };
        let shown = service.store.run_get(id).await?.ended_at.unwrap_or(i64::MAX);
        if row.review.verdict != Verdict::NeedsApproval || row.review.head.commit != change.head.commit {
            return Ok(taken);
        }
        let number = change.number;
        for review in ask(forge, move |forge| forge.reviews(number)).await? {
            // Forges tell seconds.
            let is_after = review.at >= shown - shown.rem_euclid(1_000_000);
            let is_of_it = review.commit.as_ref().is_none_or(|commit| *commit == change.head.commit);
            // Some forges let people approve what they proposed themselves.
            let is_own = review.person.id == change.author.id;
            if review.opinion != Opinion::Approves || !is_after || !is_of_it || is_own {
                continue;
            }
            let actor = self.actor(service, id, forge, &review.person, &mut taken).await?;
            taken.people.push(actor.name.clone());
            let service = service.acting(actor, service.store.clone());
            crate::apply::approve(&service, id, Some(&format!("review of {}", change.url))).await?;
        }
        Ok(taken)
    }

    /// A person of the forge, with the teams that the definitions name and the forge says they are in.
    async fn actor(
        &self,
        service: &Service,
        id: &RunId,
        forge: &Arc<dyn Forge>,
        who: &Person,
        taken: &mut Taken,
    ) -> AppResult<Actor> {
        let deciding = service.deciding(crate::apply::deciding_commit(service, id).await?.as_deref()).await?;
        let mut identities = people::identities(self.kind(), who);
        for team in people::teams(self.kind(), &deciding.definitions, who) {
            let (asked, person) = (team.to_owned(), who.clone());
            match ask(forge, move |forge| forge.is_member(&asked, &person)).await {
                Ok(true) => identities.push(format!("{}:{team}", self.kind().prefix())),
                Ok(false) => {}
                // The token of a job often sees no teams; others may name the person.
                Err(error) if error.kind == ErrorKind::Forbidden => taken.unseen.extend(error.diagnostics),
                Err(error) => return Err(error),
            }
        }
        Ok(Actor { name: people::name(self.kind(), who), identities, verified: true })
    }
}

/// Asks on a thread that may block.
async fn ask<T: Send + 'static>(
    forge: &Arc<dyn Forge>,
    what: impl FnOnce(&dyn Forge) -> Result<T, ForgeError> + Send + 'static,
) -> AppResult<T> {
    let forge = forge.clone();
    tokio::task::spawn_blocking(move || what(&*forge)).await.map_err(internal)?.map_err(failed)
}

fn failed(error: ForgeError) -> AppError {
    let kind = match error {
        ForgeError::Settings { .. } => ErrorKind::Usage,
        ForgeError::Away { .. } => ErrorKind::Unavailable,
        ForgeError::Forbidden { .. } => ErrorKind::Forbidden,
        ForgeError::Refused { .. } => ErrorKind::Refused,
    };
    AppError::new(kind, error.diagnostic())
}

fn wrong(summary: String, help: &str) -> AppError {
    AppError::new(ErrorKind::Usage, Diagnostic::error("WL784", summary).help(help))
}

/// One comment, however often this is done.
fn say(forge: &dyn Forge, number: u64, marker: &str, body: &str) -> Result<(), ForgeError> {
    let own = || -> Result<Option<String>, ForgeError> {
        let me = forge.me()?;
        let all = forge.comments(number, None)?.into_iter();
        let mut own = all.filter(|comment| comment.author.id == me.id && comment.body.starts_with(marker));
        Ok(own.next().map(|comment| comment.id))
    };
    if let Some(id) = own()?
        && forge.comment_update(number, &id, body)?
    {
        return Ok(());
    }
    match forge.comment_create(number, body) {
        // It may be there although nobody heard.
        Err(error) if error.unsure() && own()?.is_some() => Ok(()),
        Err(error) if error.unsure() => forge.comment_create(number, body).map(drop),
        made => made.map(drop),
    }
}

/// What statuses say of a review: `windlass`, and `windlass/ENVIRONMENT` for each environment that it touches.
pub fn checks(review: &Review, link: Option<&str>) -> Vec<Check> {
    let check =
        |name: &str, state, text: String| Check { name: name.into(), state, text, url: link.map(str::to_owned) };
    let sum = |stacks: &[&StackReview]| -> String {
        let effects = stacks.iter().filter_map(|stack| stack.outcome.effect());
        effects.map(windlass_model::effect::Effect::summary).sum::<windlass_model::effect::EffectSummary>().to_string()
    };
    let all: Vec<&StackReview> = review.stacks.iter().collect();
    let (state, text) = match review.verdict {
        Verdict::Nothing => (CheckState::Success, "Nothing would change".to_owned()),
        Verdict::Ready => (CheckState::Success, sum(&all)),
        Verdict::NeedsApproval => (CheckState::Success, format!("{}; needs approval to be applied", sum(&all))),
        Verdict::Denied => (CheckState::Failure, "Denied by policy".to_owned()),
        Verdict::Failed => (CheckState::Error, "Not everything could be planned".to_owned()),
    };
    let mut checks = vec![check("windlass", state, text)];
    let mut environments: Vec<&String> = all.iter().flat_map(|stack| &stack.environments).collect();
    environments.sort_unstable();
    environments.dedup();
    for environment in environments {
        let stacks: Vec<&StackReview> =
            all.iter().copied().filter(|stack| stack.environments.contains(environment)).collect();
        let is_failed =
            |stack: &&&StackReview| matches!(stack.outcome, Outcome::Failed { .. } | Outcome::Skipped { .. });
        let is_denied = |stack: &&&StackReview| {
            stack.findings.iter().any(|finding| finding.level != Level::Warn && finding.waived.is_none())
        };
        let (failed, denied) = (stacks.iter().filter(is_failed).count(), stacks.iter().filter(is_denied).count());
        let (state, text) = match (failed, denied) {
            (0, 0) => (CheckState::Success, sum(&stacks)),
            (0, count) => (CheckState::Failure, format!("Denied by policy in {count} of {} instances", stacks.len())),
            (count, _) => (CheckState::Error, format!("{count} of {} instances could not be planned", stacks.len())),
        };
        checks.push(check(&format!("windlass/{environment}"), state, text));
    }
    checks
}

/// What the status says of a change that affects nothing.
pub fn checks_of_nothing(link: Option<&str>) -> Vec<Check> {
    let text = "No stack is affected".to_owned();
    vec![Check { name: "windlass".into(), state: CheckState::Success, text, url: link.map(str::to_owned) }]
}

/// What statuses say of an apply.
pub fn checks_of_apply(review: &Review, is_applied: bool, link: Option<&str>) -> Vec<Check> {
    let mut checks = checks(review, link);
    for check in &mut checks {
        let (state, text) = match is_applied {
            true => (CheckState::Success, "Applied"),
            false => (CheckState::Failure, "Not applied in full"),
        };
        (check.state, check.text) = (state, text.to_owned());
    }
    checks
}

/// That jobs cannot share a record without a key.
pub fn no_key() -> AppError {
    let summary = "one job passes its record on to another, and there is no key that both share".to_owned();
    wrong(summary, "WINDLASS_KEY_FILE names a file with a secret of the CI, as `openssl rand -hex 32` makes them")
}

/// The key that jobs share, which makes what is secret comparable: from the file that `WINDLASS_KEY_FILE` names.
///
/// # Errors
/// The file holds no key, or this checkout has another one.
pub fn key_take(directory: &StateDirectory, file: &Path) -> AppResult<()> {
    let key = key_of(file)?;
    if directory.key_adopt(&key)? == key {
        return Ok(());
    }
    Err(wrong("this checkout has a key of its own already".into(), FRESH))
}

/// Puts the record where the next job finds it, with everything but the key. Returns the file.
///
/// # Errors
/// It is there already, or cannot be written.
pub async fn pack(service: &Service, to: &Path) -> AppResult<PathBuf> {
    // Whoever opens it has to have the same key.
    same_key(&service.store, &service.key, None).await?;
    std::fs::create_dir_all(to).map_err(|error| disk(to, &error))?;
    ignore(to)?;
    let file = to.join(RECORD);
    let (database, path) = (Database::File(service.directory.database()), file.clone());
    let made = tokio::task::spawn_blocking(move || database::backup(&database, Some(&path), &mut |_, _| {}));
    made.await.map_err(internal)??;
    Ok(file)
}

/// Takes what another job has packed, into a checkout that has nothing yet.
///
/// # Errors
/// It was altered or is not there, or there is something already.
pub fn unpack(directory: &StateDirectory, from: &Path) -> AppResult<()> {
    let (file, kept) = (from.join(RECORD), directory.database());
    if !file.is_file() {
        let help = "`windlass ci review --out DIR` of an earlier job puts it there; pass DIR on as an artefact, and give it to `--from`";
        return Err(wrong(format!("there is no record of a review in {}", from.display()), help));
    }
    if kept.is_file() {
        return Err(wrong("this checkout has a record of its own already".into(), FRESH));
    }
    database::restore(Some(&file), &Database::File(kept), false, &mut |_, _| {})?;
    ignore(from)
}

/// What is passed on often lies in the checkout, which is no change of it. CIs leave hidden files behind.
fn ignore(directory: &Path) -> AppResult<()> {
    let file = directory.join(".gitignore");
    std::fs::write(&file, "*\n").map_err(|error| disk(&file, &error))
}

/// That the record was written with the key of this job.
///
/// # Errors
/// It was another one.
pub async fn key_check(service: &Service) -> AppResult<()> {
    same_key(&service.store, &service.key, None).await
}

/// Refuses what a fork brings, unless somebody said so: its code would run here, with what this job may do.
///
/// # Errors
/// It is from a fork.
pub fn fork_check(change: Option<&Change>, allowed: bool) -> AppResult<()> {
    match change.and_then(|change| change.head.fork.as_ref()) {
        Some(fork) if !allowed => {
            let fork = if fork.is_empty() { "a fork that is gone" } else { fork };
            let diagnostic = Diagnostic::error("WL784", format!("the change comes from {fork}"));
            let help = "`--fork` reviews it all the same: give the job no secrets then, since planning runs what is in the change";
            Err(AppError::new(ErrorKind::Refused, diagnostic.help(help)))
        }
        _ => Ok(()),
    }
}
