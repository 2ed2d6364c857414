//! What a look does. Each act is known before it is done where its answer may be lost, and when it is done.

use super::look::{Look, Stop, is_answer};
use super::people;
use crate::caller::Caller;
use crate::error::{AppError, AppResult, internal};
use crate::requests::{self, Seen as SeenBy};
use crate::review::Selection;
use std::time::Duration;
use windlass_model::access::{Permission, Subject};
use windlass_model::approval::ApprovalRecord;
use windlass_model::change::authors::Authors;
use windlass_model::change::plan::{Act, Applied, Asked, By, Given, NotMerged, Of, Record, Reviewed, Stage, Waiting};
use windlass_model::change::{Merged, Reaction};
use windlass_model::id::{InstanceId, RunId};
use windlass_model::review::{Review, Revision};
use windlass_store::{ReviewState, Store};

/// How long a commit is waited for that the forge tells of and git does not have yet.
const UNFETCHED: Duration = Duration::from_secs(3);

impl Look {
    pub async fn act(&mut self, act: Act, record: &Record) -> Result<(), Stop> {
        match act {
            Act::Review { of, commit, only, asked } => self.review(of, commit, only, asked, record).await,
            Act::Allow { commit, asked } => self.allow(commit, asked).await,
            Act::Cancel { run, why, kill, asked } => self.cancel(run, why, kill, asked).await,
            Act::Approve { run, commit, effect, reason, by } => {
                self.approve(run, SeenBy { commit, effect }, reason, by).await
            }
            Act::Withdraw { given } => self.withdraw(given).await,
            Act::Carry { from, to } => self.carry(from, &to).await,
            Act::Apply { review, commit, effect, confirmed, asked } => {
                let seen = SeenBy { commit: Some(commit), effect: Some(effect) };
                self.apply(review, seen, confirmed, asked, record).await
            }
            Act::Forget { why, asked } => self.forget(why, asked).await,
            Act::GiveBack { stacks, asked } => self.give_back(stacks, asked).await,
            Act::Merge { commit } => self.merge(commit, record).await,
            Act::DeleteBranch { branch } => {
                self.ask(move |forge| forge.branch_delete(&branch)).await?;
                self.known.branch_deleted = true;
                self.keep().await
            }
            Act::Answer { asked, reaction, text } => self.answer(&asked, reaction, text).await,
        }
    }

    /// Remembers the answer to a command, then gives it.
    async fn answer(&mut self, asked: &Asked, reaction: Reaction, text: Option<String>) -> Result<(), Stop> {
        self.known.answer(asked, text);
        self.known.reacting = Some((asked.comment.clone(), reaction));
        self.keep().await?;
        self.react().await
    }

    /// Sends the reaction that is to be sent.
    pub async fn react(&mut self) -> Result<(), Stop> {
        let Some((comment, reaction)) = self.known.reacting.clone() else { return Ok(()) };
        let number = self.number;
        self.ask(move |forge| forge.react(number, &comment, reaction)).await?;
        self.known.reacting = None;
        self.keep().await
    }

    /// Answers with what came of it: why it was refused, or nothing more than that it is done.
    async fn settle<T>(&mut self, asked: &Asked, done: AppResult<T>) -> Result<Option<T>, Stop> {
        match done {
            Ok(done) => {
                self.answer(asked, Reaction::Seen, None).await?;
                Ok(Some(done))
            }
            Err(error) if is_answer(&error) => {
                self.answer(asked, Reaction::Refused, Some(sentence(&error))).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whoever asked, or the server itself.
    async fn asker(&self, asked: Option<&Asked>) -> Result<Caller, Stop> {
        match asked {
            Some(asked) => self.person(&asked.person).await,
            None => Ok(self.itself.clone()),
        }
    }

    /// What a review of it is called: reviews of one name take each other's place.
    fn name(&self, of: Of) -> String {
        match (of, &self.seen.change.head.fork) {
            (Of::Head, None) => self.seen.change.head.branch.clone(),
            (Of::Head, Some(_)) => format!("change/{}", self.number),
            (Of::Merged, _) => format!("merged/{}", self.number),
        }
    }

    /// Waits until git has a commit.
    async fn fetched(&self, of: Of, commit: &str) -> Result<(), Stop> {
        let installation = &self.looker.installation;
        let Some(mirror) = installation.followed.mirror(&self.project) else {
            return Err(Stop::App(crate::caller::not_found("project", &self.project)));
        };
        let has = |mirror: &windlass_drivers::git::mirror::Mirror| mirror.commit(commit).is_some();
        if has(&mirror) {
            return Ok(());
        }
        let head = &self.seen.change.head;
        match (&head.reference, of) {
            (Some(reference), Of::Head) if head.fork.is_some() => {
                let (mirror, reference) = (mirror.clone(), reference.clone());
                let fetched = tokio::task::spawn_blocking(move || mirror.fetch_reference(&reference)).await;
                let unavailable = crate::error::ErrorKind::Unavailable;
                fetched.map_err(internal)?.map_err(|error| AppError::new(unavailable, error.diagnostic()))?;
            }
            _ => {
                installation.followed.refresh(&self.project, jiff::Timestamp::now()).await?;
            }
        }
        if has(&mirror) {
            return Ok(());
        }
        let short = commit.get(..12).unwrap_or(commit);
        Err(Stop::Later(UNFETCHED, format!("git does not have {short} yet")))
    }

    /// Who made its commits, which is asked once for each head.
    async fn authors(&mut self) -> Result<Authors, Stop> {
        let (number, head) = (self.number, self.seen.change.head.commit.clone());
        if let Some(known) = self.known.authors.as_ref().filter(|known| known.head == head) {
            return Ok(known.clone());
        }
        let commits = self.ask(move |forge| forge.commits(number)).await?;
        let Some(authors) = Authors::of(&commits, &head) else {
            let short = head.get(..12).unwrap_or(&head);
            return Err(Stop::Later(UNFETCHED, format!("the commits of the change do not have its head {short} yet")));
        };
        self.known.authors = Some(authors.clone());
        Ok(authors)
    }

    async fn review(
        &mut self,
        of: Of,
        commit: String,
        only: Vec<String>,
        asked: Option<Asked>,
        record: &Record,
    ) -> Result<(), Stop> {
        self.fetched(of, &commit).await?;
        let comment = asked.as_ref().map(|asked| asked.comment.clone());
        let begun = self.known.review.clone().filter(|review| {
            review.stage == Stage::Wanted
                && (review.of, &review.commit, &review.only, &review.comment) == (of, &commit, &only, &comment)
        });
        let (previous, before) = (self.known.review.clone(), self.known.before.clone());
        let run = match begun {
            Some(review) => review.run,
            None => {
                let run = Store::run_id();
                if let Some(old) = self.known.review.take().filter(|old| old.stage == Stage::Made) {
                    self.known.before = Some(old);
                }
                self.known.review = Some(Reviewed {
                    run: run.clone(),
                    of,
                    commit: commit.clone(),
                    base: record.base.clone(),
                    only: only.clone(),
                    by: asked.as_ref().map(|asked| asked.person.clone()),
                    comment,
                    stage: Stage::Wanted,
                    carried: false,
                });
                self.keep().await?;
                run
            }
        };
        let caller = Caller { creates: Some(run.clone()), ..self.asker(asked.as_ref()).await? };
        let base = match of {
            Of::Head => format!("origin/{}", self.seen.change.base),
            Of::Merged => format!("{commit}^1"),
        };
        let selection = match only.is_empty() {
            true => Selection::Affected { base: Some(base) },
            false => Selection::Matching(only),
        };
        let head = Revision { name: self.name(of), commit };
        let made = self.authors().await?;
        let around = people::around(self.at.kind, &self.seen.change, made, Some(record.base.clone()));
        let installation = self.looker.installation.clone();
        let made =
            requests::review_of(&installation, &caller, &self.project, &head, &selection, around, asked.is_some());
        let made = Box::pin(made).await;
        let stage = match &made {
            Ok(Some(_)) => Stage::Made,
            Ok(None) => Stage::Nothing,
            Err(error) if !is_answer(error) => return Err(made.err().unwrap_or_else(|| internal("no error")).into()),
            Err(error) if is_about_caller(error) && asked.is_some() => {
                (self.known.review, self.known.before) = (previous, before);
                return self.settle(&asked.ok_or_else(|| internal("nobody asked"))?, made).await.map(drop);
            }
            Err(error) => Stage::Impossible(told(error)),
        };
        if let Some(review) = &mut self.known.review {
            review.stage = stage;
        }
        if let Some(head) = self.known.before.as_ref().filter(|before| of == Of::Merged && before.of == Of::Head) {
            // Nobody applies the change as it was before it was merged.
            for from in [ReviewState::Open, ReviewState::Approved] {
                self.store.review_set_state(&head.run, from, ReviewState::Superseded).await?;
            }
        }
        match asked {
            Some(asked) => self.answer(&asked, Reaction::Seen, None).await,
            None => self.keep().await,
        }
    }

    /// Only who may have everything planned lets something in that nobody has looked at.
    async fn allow(&mut self, commit: String, asked: Asked) -> Result<(), Stop> {
        let caller = self.person(&asked.person).await?;
        let subject = Subject::of(&self.project, "change", self.number.to_string(), Vec::new());
        let installation = self.looker.installation.clone();
        let may = caller.must(&installation, Permission::ReviewCreate, &subject).await;
        match may {
            Ok(()) => {
                // The command is not answered yet: it goes on to plan what is let in.
                self.known.allowed = Some(commit);
                self.keep().await
            }
            refused => self.settle(&asked, refused).await.map(drop),
        }
    }

    async fn cancel(&mut self, run: RunId, why: String, kill: bool, asked: Option<Asked>) -> Result<(), Stop> {
        let installation = self.looker.installation.clone();
        let Some(asked) = asked else {
            self.store.run_cancel(&run, &self.itself.actor.to_string(), Some(&why)).await?;
            self.known.cancelled = Some(run);
            return self.keep().await;
        };
        let caller = self.person(&asked.person).await?;
        let done = requests::run_cancel(&installation, &caller, &run, Some(&why), kill).await;
        self.settle(&asked, done).await.map(drop)
    }

    async fn approve(&mut self, run: RunId, seen: SeenBy, reason: Option<String>, by: By) -> Result<(), Stop> {
        let installation = self.looker.installation.clone();
        let person = match &by {
            By::Command(asked) => asked.person.clone(),
            By::Review(review) => review.person.clone(),
        };
        let caller = self.person(&person).await?;
        let reason = reason.or_else(|| match &by {
            By::Command(_) => Some("in a comment".into()),
            By::Review(review) => {
                let commit = review.commit.as_deref().filter(|commit| Some(*commit) != seen.commit.as_deref());
                let short = |commit: &str| commit.get(..12).unwrap_or(commit).to_owned();
                Some(commit.map_or_else(
                    || "a review at the forge".into(),
                    |commit| format!("a review at the forge, of {} with the same effect", short(commit)),
                ))
            }
        });
        let done = requests::approve(&installation, &caller, &run, &seen, reason.as_deref()).await;
        let found = match by {
            By::Command(asked) => return self.settle(&asked, done).await.map(drop),
            By::Review(found) => found,
        };
        let refused = match done {
            Ok(_) => None,
            Err(error) if is_answer(&error) => Some(sentence(&error)),
            Err(error) => return Err(error.into()),
        };
        self.known.given.retain(|given| given.person.id != found.person.id || given.review != run);
        self.known.given.push(Given { person: found.person, at: found.at, review: run, refused });
        self.keep().await
    }

    async fn withdraw(&mut self, given: Given) -> Result<(), Stop> {
        let name = people::name(self.at.kind, &given.person);
        self.store.approval_withdraw(&given.review, &name, "taken back at the forge").await?;
        self.known.given.retain(|one| *one != given);
        self.keep().await
    }

    /// Gives approvals again that were given to the same effect by the same policies.
    async fn carry(&mut self, from: Option<RunId>, to: &RunId) -> Result<(), Stop> {
        let row = self.store.review_get(to).await?.map(|row| row.review);
        if let (Some(from), Some(review)) = (from, row) {
            let there = self.store.approval_list(to).await?;
            for old in self.store.approval_list(&from).await? {
                let same = old.effect_digest == review.effect_digest && old.policy_digest == review.policy_digest;
                if !same || there.iter().any(|record| record.actor == old.actor) {
                    continue;
                }
                let short = old.commit.get(..12).unwrap_or(&old.commit);
                let reason = format!("kept: given for {short}, which has the same effect");
                let commit = review.head.commit.clone();
                self.store.approval_add(to, &ApprovalRecord { commit, reason: Some(reason), ..old }).await?;
            }
            let service = self.service()?;
            crate::apply::review_settle(&service, &review).await?;
            // What was given for another effect is not given for this one, and may be given again within the same second.
            let digests = |review: &Review| (review.effect_digest.clone(), review.policy_digest.clone());
            let before = self.store.review_get(&from).await?.map(|row| digests(&row.review));
            let kept = before == Some(digests(&review));
            let given = self.known.given.iter_mut().filter(|given| given.review == from && given.refused.is_none());
            given.filter(|_| kept).for_each(|given| given.review = to.clone());
        }
        self.known.given.retain(|given| given.review == *to);
        if let Some(review) = &mut self.known.review {
            review.carried = true;
        }
        self.keep().await
    }

    async fn apply(
        &mut self,
        review: RunId,
        seen: SeenBy,
        confirmed: Vec<String>,
        asked: Option<Asked>,
        record: &Record,
    ) -> Result<(), Stop> {
        let installation = self.looker.installation.clone();
        let caller = self.asker(asked.as_ref()).await?;
        let instances = record.review.as_ref().and_then(|review| review.row.as_ref());
        let instances = instances.map(|row| row.instances.clone()).unwrap_or_default();
        if let Some(asked) = &asked {
            // Nobody waits in a queue for what they may not do.
            let may = requests::review_may(&installation, &caller, &review, Permission::ReviewApply).await;
            if may.is_err() {
                return self.settle(asked, may).await.map(drop);
            }
        }
        let held = std::mem::replace(&mut self.known.queued, true);
        self.keep().await?;
        let before = self.store.place_take(self.number, &instances).await?;
        if !before.is_empty() {
            // What is to be done by itself is tried again when it is its turn.
            let Some(asked) = asked else { return Ok(()) };
            self.known.waiting = Some(Waiting { asked: asked.clone(), confirmed });
            return self.answer(&asked, Reaction::Seen, None).await;
        }
        let comment = asked.as_ref().map(|asked| asked.comment.clone());
        let previous = self.known.apply.clone();
        let begun = previous.clone().filter(|apply| apply.review == review && record.apply.is_none());
        let run = begun.map_or_else(Store::run_id, |apply| apply.run);
        let Some(reviewed) = self.known.review.clone().filter(|known| known.run == review) else {
            return Err(internal("an apply of another review").into());
        };
        self.known.apply = Some(Applied {
            run: run.clone(),
            review: review.clone(),
            of: reviewed.of,
            commit: reviewed.commit,
            whole: reviewed.only.is_empty(),
            by: asked.as_ref().map(|asked| asked.person.clone()),
            comment,
        });
        self.keep().await?;
        let caller = Caller { creates: Some(run), ..caller };
        let done = match &asked {
            Some(_) => Box::pin(requests::apply_start(&installation, &caller, &review, &seen, &confirmed)).await,
            None => Box::pin(requests::apply_of(&installation, &caller, &self.project, &review, &confirmed)).await,
        };
        if done.as_ref().is_err_and(is_answer) {
            self.known.apply = previous;
            if !held {
                // What may not be applied keeps nobody else from it.
                let actor = self.itself.actor.to_string();
                self.store.place_give_back(self.number, &instances, &actor, Some("it was not applied")).await?;
                self.known.queued = false;
            }
        }
        if done.as_ref().map_or_else(is_answer, |_| true) {
            self.known.waiting = None;
        }
        match asked {
            Some(asked) => self.settle(&asked, done).await.map(drop),
            None => match done {
                Ok(_) => self.keep().await,
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Lets an apply that waits for its turn go: as what it was for is not so any more, or because somebody asked for that.
    async fn forget(&mut self, why: Option<String>, asked: Option<Asked>) -> Result<(), Stop> {
        let Some(waiting) = self.known.waiting.clone() else { return Ok(()) };
        let Some(asked) = asked else {
            self.known.waiting = None;
            if let Some(why) = why {
                self.known.say(&waiting.asked, format!("the apply does not begin: {why}"));
            }
            return self.keep().await;
        };
        let installation = self.looker.installation.clone();
        let caller = self.person(&asked.person).await?;
        if let Some(review) = self.known.review.as_ref().filter(|_| asked.person.id != waiting.asked.person.id) {
            let may = requests::review_may(&installation, &caller, &review.run, Permission::ReviewApply).await;
            if may.is_err() {
                return self.settle(&asked, may).await.map(drop);
            }
        }
        self.known.waiting = None;
        if self.known.apply.is_none() {
            // Nobody waits behind one that does not want it any more.
            let places = self.store.place_list(self.number).await?;
            let actor = caller.actor.to_string();
            self.store.place_give_back(self.number, &places, &actor, Some("its apply was withdrawn")).await?;
            self.known.queued = false;
        }
        self.answer(&asked, Reaction::Seen, Some("the apply that waited is withdrawn".into())).await
    }

    async fn give_back(&mut self, stacks: Vec<String>, asked: Option<Asked>) -> Result<(), Stop> {
        if let (None, Some(commit)) = (&asked, self.seen.change.merged_as.clone()) {
            // Whoever is next is planned with what was merged.
            match self.fetched(Of::Merged, &commit).await {
                Ok(()) | Err(Stop::Later(..)) => {}
                Err(stop) => return Err(stop),
            }
        }
        let held = self.store.place_list(self.number).await?;
        let mut matchers = Vec::new();
        for stack in &stacks {
            match (crate::review::pattern(stack), &asked) {
                (Ok(matcher), _) => matchers.push(matcher),
                (Err(error), Some(asked)) => return self.settle::<()>(asked, Err(error)).await.map(drop),
                (Err(error), None) => return Err(error.into()),
            }
        }
        let named = |instance: &InstanceId| {
            let is = |m: &globset::GlobMatcher| m.is_match(instance.as_str()) || m.is_match(instance.stack().as_str());
            matchers.is_empty() || matchers.iter().any(is)
        };
        let (free, rest): (Vec<InstanceId>, Vec<InstanceId>) = held.into_iter().partition(named);
        let installation = self.looker.installation.clone();
        let caller = self.asker(asked.as_ref()).await?;
        if let Some(asked) = &asked {
            let may =
                requests::stacks_may(&installation, &caller, &self.project, &free, Permission::LockTakeAway).await;
            if may.is_err() {
                return self.settle(asked, may).await.map(drop);
            }
        }
        let why = asked.as_ref().map_or("merged or closed", |_| "asked for in a comment");
        self.store.place_give_back(self.number, &free, &caller.actor.to_string(), Some(why)).await?;
        self.known.queued = !rest.is_empty();
        // Without its places it is never its turn.
        let waited = self.known.waiting.take().filter(|_| !free.is_empty());
        match asked {
            Some(asked) => {
                let text = waited.map(|_| "the apply that waited is withdrawn, too".to_owned());
                self.answer(&asked, Reaction::Seen, text).await
            }
            None => self.keep().await,
        }
    }

    async fn merge(&mut self, commit: String, record: &Record) -> Result<(), Stop> {
        let (number, method, head) = (self.number, record.settings.method, commit.clone());
        match self.ask(move |forge| forge.merge(number, &head, method)).await? {
            Merged::Done(_) => {
                self.known.not_merged = None;
                self.keep().await?;
                self.see().await
            }
            Merged::Refused(why) => {
                self.known.not_merged = Some(NotMerged { commit, why, at: self.seen.now });
                self.keep().await
            }
        }
    }
}

/// It is refused because of who asks.
fn is_about_caller(error: &AppError) -> bool {
    matches!(error.kind, crate::error::ErrorKind::Forbidden | crate::error::ErrorKind::NotFound)
}

/// What an error says, and what helps.
fn sentence(error: &AppError) -> String {
    let Some(first) = error.diagnostics.first() else { return error.to_string() };
    let mut text = first.summary.clone();
    for more in [Some(first.detail.as_str()), first.help.as_deref()].into_iter().flatten().filter(|m| !m.is_empty()) {
        text.push_str(". ");
        text.push_str(&more.replace('\n', "; "));
    }
    text
}

/// All that an error says.
fn told(error: &AppError) -> String {
    let mut text = String::new();
    for diagnostic in &error.diagnostics {
        text.push_str(&format!("{}: {}\n", diagnostic.code, diagnostic.summary));
        for label in diagnostic.labels.iter().take(3) {
            text.push_str(&format!("  at {}\n", label.span));
        }
        let more = [Some(diagnostic.detail.as_str()), diagnostic.help.as_deref()];
        for line in more.into_iter().flatten().flat_map(str::lines) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}
