//! What is done next about a change: a pure function of what the forge says, what is known of it, and the record. A look asks
//! until nothing is to be done; nothing is done twice, as what was done is known, or stands in the record.

mod ask;

use super::authors::Authors;
use super::command::{Command, Verb};
use super::settings::{ApplyWhen, ChangeSettings};
use super::{Change, ChangeState, Check, Comment, ForgeReview, Opinion, Person, Reaction};
use crate::Micros;
use crate::id::{InstanceId, RunId};
use crate::review::Verdict;
use crate::run::RunState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Comments that are this much older than the first look are no commands, µs: an hour.
pub const OLD: Micros = 3_600_000_000;
/// Forges tell whole seconds: what is of one second may be of any order, µs.
const GRAIN: Micros = 999_999;
/// After so long a merge that was refused is tried again, µs: a minute.
const AGAIN: Micros = 60_000_000;
/// How many answers are shown, and how many effects that were shown are remembered.
const ANSWERS: usize = 3;
const SHOWN: usize = 20;

/// What the forge says now.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub change: Change,
    /// Those since the cursor, oldest first; our own may be among them.
    pub comments: Vec<Comment>,
    pub reviews: Vec<ForgeReview>,
    pub me: Person,
    /// By the clock of the database.
    pub now: Micros,
}

/// What of a change is reviewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    Head,
    /// What became of it in the base.
    Merged,
}

/// What came of a wish for a review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its run may be there already, or not.
    Wanted,
    Made,
    /// Nothing is affected: there is no run.
    Nothing,
    /// There will be none, and why: the definitions at the commit are wrong, for example.
    Impossible(String),
}

/// The review that a change has now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewed {
    pub run: RunId,
    pub of: Of,
    pub commit: String,
    /// The tip of the base when it was made, or when it was last found that what moved since does not matter.
    pub base: String,
    /// Patterns of stacks; none: all that is affected.
    pub only: Vec<String>,
    /// `None`: nobody had to ask for it.
    pub by: Option<Person>,
    /// The comment that asked for it.
    pub comment: Option<String>,
    pub stage: Stage,
    /// Approvals of the one before were looked at.
    #[serde(default)]
    pub carried: bool,
}

/// The last apply of the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub run: RunId,
    pub review: RunId,
    pub of: Of,
    pub commit: String,
    /// All that is affected was reviewed.
    pub whole: bool,
    pub by: Option<Person>,
    /// The comment that asked for it.
    pub comment: Option<String>,
}

/// An apply that somebody asked for while other changes hold stacks of it: it begins when its turn comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub asked: Asked,
    /// Instances that may be destroyed as a whole.
    pub confirmed: Vec<String>,
}

/// An effect that our comment showed, from a time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    pub commit: String,
    pub effect: String,
    pub policy: String,
    pub at: Micros,
}

/// An approval that was given here because somebody gave one at the forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    pub person: Person,
    /// When, at the forge.
    pub at: Micros,
    pub review: RunId,
    /// Why it does not count.
    pub refused: Option<String>,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub person: Person,
    pub at: Micros,
    pub text: String,
}

/// A merge that the forge did not make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotMerged {
    /// The head.
    pub commit: String,
    /// What the forge said.
    pub why: String,
    pub at: Micros,
}

/// What we last said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The id of our comment.
    pub comment: Option<String>,
    /// It may have been made although nobody heard so.
    pub unsure: bool,
    pub digest: String,
    /// The commit that `checks` are set for.
    pub commit: String,
    pub checks: Vec<Check>,
    /// Labels that we put there.
    pub labels: Vec<String>,
}

/// All that is known of a change, as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// As it was when the forge was asked last.
    pub change: Option<Change>,
    /// Those that counted then.
    pub reviews: Vec<ForgeReview>,
    /// When it was looked at first.
    pub since: Micros,
    /// Comments were read up to here, by the forge's clock.
    pub cursor: Option<Micros>,
    /// Comments at the cursor or later that were taken as commands.
    pub taken: BTreeMap<String, Micros>,
    /// The reaction to a command that may not have been sent.
    pub reacting: Option<(String, Reaction)>,
    /// Who made the commits of its head.
    pub authors: Option<Authors>,
    pub review: Option<Reviewed>,
    /// The one before, whose approvals may count for the new one.
    pub before: Option<Reviewed>,
    pub apply: Option<Applied>,
    pub waiting: Option<Waiting>,
    pub shown: Vec<Shown>,
    pub given: Vec<Given>,
    /// Since when our comment says of a commit of a fork that it is not planned.
    pub stranger: Option<(String, Micros)>,
    /// The commit of a fork that somebody let in.
    pub allowed: Option<String>,
    pub not_merged: Option<NotMerged>,
    /// The last run of a review that was asked to stop.
    pub cancelled: Option<RunId>,
    pub branch_deleted: bool,
    /// It has, or wants, places in the queues of stacks.
    pub queued: bool,
    pub answers: Vec<Answer>,
    pub said: Said,
    /// It was merged into a branch that is followed, and is not applied in full.
    pub unapplied: bool,
    /// Why the last look came to no end.
    pub failure: Option<String>,
    /// How many looks failed one after another.
    pub failures: u32,
}

/// What the record says of the review that is known.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewNow {
    pub run: RunState,
    /// `None` until its last step.
    pub row: Option<Row>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Approved or not.
    Open,
    Applying,
    Applied,
    Superseded,
    Refused,
}

/// A review that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub stand: Stand,
    pub verdict: Verdict,
    pub commit: String,
    pub effect: String,
    pub policy: String,
    /// Approvals that are missing, one sentence each.
    pub missing: Vec<String>,
    /// When it is applied: the last of the times that what it touches asks for.
    pub when: ApplyWhen,
    /// What it changes.
    pub instances: Vec<InstanceId>,
    /// Something is destroyed or replaced.
    pub destroys: bool,
    pub environments: Vec<EnvironmentNow>,
}

/// What a review does in one environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentNow {
    pub name: String,
    /// It does anything there.
    pub changes: bool,
    pub failed: bool,
    pub denied: bool,
    /// Approvals that are missing for it, one sentence each.
    pub missing: Vec<String>,
}

impl Row {
    fn is_shown_as(&self, shown: &Shown) -> bool {
        (&shown.commit, &shown.effect, &shown.policy) == (&self.commit, &self.effect, &self.policy)
    }

    /// Enough people have approved it, if it needs that, and nothing denies it.
    pub fn is_ready(&self) -> bool {
        matches!(self.verdict, Verdict::Ready | Verdict::NeedsApproval)
            && self.missing.is_empty()
            && self.stand == Stand::Open
    }
}

/// Another change that is before this one in the queue of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    pub instance: InstanceId,
    pub number: u64,
    pub since: Micros,
}

/// What the record says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    pub settings: ChangeSettings,
    /// Of [`Known::review`], where its run is there.
    pub review: Option<ReviewNow>,
    /// How the last apply of [`Known::apply`] is; `None` where there was none, or its run is not there.
    pub apply: Option<RunState>,
    /// The tip of the base, and the commit before what was merged.
    pub base: String,
    /// What moved in the base since the review is among what the change touches or reads.
    pub moved: bool,
    pub before: Vec<Before>,
    /// The change goes into the branch that decides.
    pub followed: bool,
}

/// A command, and who said it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub comment: String,
    pub at: Micros,
    pub person: Person,
}

/// One thing to do. Where somebody `asked` for it, they have to be allowed to, and are answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Make a review.
    Review {
        of: Of,
        commit: String,
        only: Vec<String>,
        asked: Option<Asked>,
    },
    /// Let a commit of a fork in.
    Allow {
        commit: String,
        asked: Asked,
    },
    /// Stop a run.
    Cancel {
        run: RunId,
        why: String,
        kill: bool,
        asked: Option<Asked>,
    },
    /// Give an approval in the name of a person, to a review or to what an apply waits for.
    Approve {
        run: RunId,
        commit: Option<String>,
        effect: Option<String>,
        reason: Option<String>,
        by: By,
    },
    /// Take back the approval that a person gave at the forge.
    Withdraw {
        given: Given,
    },
    /// Give approvals of the review before again, to one with the same effect by the same policies.
    Carry {
        from: Option<RunId>,
        to: RunId,
    },
    Apply {
        review: RunId,
        commit: String,
        effect: String,
        confirmed: Vec<String>,
        asked: Option<Asked>,
    },
    /// Let an apply that waits for its turn go, and say why where there is something to say.
    Forget {
        why: Option<String>,
        asked: Option<Asked>,
    },
    /// Give back the places in queues: of these stacks, or all.
    GiveBack {
        stacks: Vec<String>,
        asked: Option<Asked>,
    },
    Merge {
        commit: String,
    },
    DeleteBranch {
        branch: String,
    },
    /// Nothing is to be done but to say so.
    Answer {
        asked: Asked,
        reaction: Reaction,
        text: Option<String>,
    },
}

impl Act {
    /// It is right whatever happened at the forge meanwhile: before any other act the forge is asked what is there.
    pub fn is_of_record(&self) -> bool {
        matches!(self, Self::Carry { .. })
    }
}

/// How somebody approves.
#[derive(Debug, Clone, PartialEq)]
pub enum By {
    Command(Asked),
    Review(ForgeReview),
}

/// How a run is.
fn under_way(state: RunState) -> bool {
    !state.is_final()
}

impl Known {
    /// Remembers that the comment shows an effect from now on.
    pub fn show(&mut self, row: &Row, now: Micros) {
        if self.shown.last().is_some_and(|shown| row.is_shown_as(shown)) {
            return;
        }
        let Row { commit, effect, policy, .. } = row;
        self.shown.push(Shown { commit: commit.clone(), effect: effect.clone(), policy: policy.clone(), at: now });
        let many = self.shown.len().saturating_sub(SHOWN);
        self.shown.drain(..many);
    }

    /// Remembers that a command was answered.
    pub fn answer(&mut self, asked: &Asked, text: Option<String>) {
        self.taken.insert(asked.comment.clone(), asked.at);
        if let Some(text) = text {
            self.say(asked, text);
        }
    }

    /// Says something about what was asked for.
    pub fn say(&mut self, asked: &Asked, text: String) {
        self.answers.push(Answer { person: asked.person.clone(), at: asked.at, text });
        let many = self.answers.len().saturating_sub(ANSWERS);
        self.answers.drain(..many);
    }

    /// Everything up to what was seen is done with.
    pub fn read_to(&mut self, seen: &Seen) {
        let Some(last) = seen.comments.iter().map(|comment| comment.updated_at).max() else { return };
        let cursor = self.cursor.map_or(last, |cursor| cursor.max(last));
        self.cursor = Some(cursor);
        self.taken.retain(|_, at| *at >= cursor);
    }

    /// What the comment showed at a time.
    fn shown_at(&self, at: Micros) -> Option<&Shown> {
        self.shown.iter().rev().find(|shown| shown.at <= at + GRAIN)
    }

    /// All of it was applied, as it is now.
    pub fn is_applied(&self, change: &Change, record: &Record) -> bool {
        let of_now = |apply: &Applied| match apply.of {
            Of::Head => apply.commit == change.head.commit,
            Of::Merged => Some(&apply.commit) == change.merged_as.as_ref(),
        };
        self.apply.as_ref().is_some_and(|apply| apply.whole && of_now(apply))
            && record.apply == Some(RunState::Succeeded)
    }

    /// The review, where there is one that can be approved or applied.
    pub fn row<'a>(&self, record: &'a Record) -> Option<(&Reviewed, &'a Row)> {
        let row = record.review.as_ref()?.row.as_ref()?;
        Some((self.review.as_ref().filter(|review| review.stage == Stage::Made)?, row))
    }

    /// The run of the review while it goes on.
    pub fn planning(&self, record: &Record) -> Option<&Reviewed> {
        let review = self.review.as_ref().filter(|review| matches!(review.stage, Stage::Made | Stage::Wanted))?;
        let stopped = self.cancelled.as_ref() == Some(&review.run);
        record.review.as_ref().filter(|now| under_way(now.run) && !stopped).map(|_| review)
    }

    /// The apply while it goes on.
    pub fn applying(&self, record: &Record) -> Option<&Applied> {
        self.apply.as_ref().filter(|_| record.apply.is_some_and(under_way))
    }

    /// The head comes from elsewhere, and nobody has let it in.
    pub fn is_strange(&self, change: &Change) -> bool {
        change.head.fork.is_some() && self.allowed.as_ref() != Some(&change.head.commit)
    }
}

/// What is done next; `None` when all is as it should be.
pub fn next(seen: &Seen, known: &Known, record: &Record) -> Option<Act> {
    let told = ask::told(seen, known, record);
    if !record.followed {
        return told.or_else(|| stop(known, record, "the change goes into another branch now"));
    }
    if let Some(act) = told {
        return Some(act);
    }
    match seen.change.state {
        ChangeState::Open => open(seen, known, record),
        ChangeState::Merged => merged(seen, known, record),
        ChangeState::Closed => stop(known, record, "the change was closed").or_else(|| give_back(known, record)),
    }
}

/// Ends a review that nobody needs any more. What is being applied goes on: half of it helps nobody.
fn stop(known: &Known, record: &Record, why: &str) -> Option<Act> {
    let review = known.planning(record)?;
    Some(Act::Cancel { run: review.run.clone(), why: why.to_owned(), kill: false, asked: None })
}

fn give_back(known: &Known, record: &Record) -> Option<Act> {
    let free = known.queued && known.applying(record).is_none();
    free.then(|| Act::GiveBack { stacks: Vec::new(), asked: None })
}

fn open(seen: &Seen, known: &Known, record: &Record) -> Option<Act> {
    let (change, settings) = (&seen.change, &record.settings);
    // Half of what is there now would be reviewed.
    if known.applying(record).is_some() {
        return None;
    }
    let current = known.review.as_ref().filter(|review| review.of == Of::Head && review.commit == change.head.commit);
    let Some(review) = current else {
        if let Some(act) = forget(known, "a newer commit was pushed: look at what it does, and say it again") {
            return Some(act);
        }
        let stopped = stop(known, record, "a newer commit was pushed");
        let wanted = settings.autoplan && !change.draft && !known.is_strange(change);
        return stopped.or_else(|| wanted.then(|| review_of_head(change, Vec::new())));
    };
    if known.planning(record).is_some() {
        return None;
    }
    let is_wanted = review.stage == Stage::Wanted;
    let superseded = known.row(record).is_some_and(|(_, row)| row.stand == Stand::Superseded);
    let stale = record.moved && !known.row(record).is_some_and(|(_, row)| row.stand == Stand::Applied);
    if is_wanted || superseded || (stale && settings.autoplan) {
        return Some(review_of_head(change, review.only.clone()));
    }
    if let Some(act) = carry(known, record).or_else(|| approvals(seen, known, record)) {
        return Some(act);
    }
    if let Some(act) = turn(seen, known, record) {
        return Some(act);
    }
    let row = known.row(record).map(|(_, row)| row);
    // The rest of it is next.
    if !review.only.is_empty() && row.is_some_and(|row| row.stand == Stand::Applied) && settings.autoplan {
        return Some(review_of_head(change, Vec::new()));
    }
    let refused = known.not_merged.as_ref();
    let refused = refused.is_some_and(|not| not.commit == change.head.commit && seen.now < not.at + AGAIN);
    // What protects the base waits for our statuses: they are there first.
    let checks = &known.said.checks;
    let said = known.said.commit == change.head.commit && checks.iter().all(|check| check.state.is_success());
    let merge = settings.merge && known.is_applied(change, record) && !change.draft && !refused && said;
    merge.then(|| Act::Merge { commit: change.head.commit.clone() })
}

fn review_of_head(change: &Change, only: Vec<String>) -> Act {
    Act::Review { of: Of::Head, commit: change.head.commit.clone(), only, asked: None }
}

fn merged(seen: &Seen, known: &Known, record: &Record) -> Option<Act> {
    let (change, settings) = (&seen.change, &record.settings);
    if known.applying(record).is_some() {
        return None;
    }
    if known.review.as_ref().is_some_and(|review| review.of == Of::Head)
        && let Some(act) = stop(known, record, "the change was merged")
    {
        return Some(act);
    }
    let own = change.head.fork.is_none() && change.head.branch != change.base;
    if settings.delete_branch && own && !known.branch_deleted {
        return Some(Act::DeleteBranch { branch: change.head.branch.clone() });
    }
    if known.is_applied(change, record) {
        return give_back(known, record);
    }
    let nothing = |review: &Reviewed| {
        review.stage == Stage::Nothing
            || known.row(record).is_some_and(|(_, row)| row.verdict == Verdict::Nothing && review.only.is_empty())
    };
    let Some(review) = &known.review else { return give_back(known, record) };
    if nothing(review) && (review.of == Of::Merged || review.commit == change.head.commit) {
        return give_back(known, record);
    }
    if review.of == Of::Head
        && let Some(act) = forget(known, "the change was merged: look at what that does, and say it again")
    {
        return Some(act);
    }
    let never = known.row(record).is_some_and(|(_, row)| row.when == ApplyWhen::Never);
    let Some(commit) = change.merged_as.as_ref().filter(|_| !never) else { return give_back(known, record) };
    let current = review.of == Of::Merged && review.commit == *commit;
    if current && known.planning(record).is_some() {
        return None;
    }
    let superseded = known.row(record).is_some_and(|(_, row)| row.stand == Stand::Superseded);
    if !current || review.stage == Stage::Wanted || superseded {
        return Some(Act::Review { of: Of::Merged, commit: commit.clone(), only: Vec::new(), asked: None });
    }
    if let Some(act) = carry(known, record).or_else(|| approvals(seen, known, record)) {
        return Some(act);
    }
    if let Some(act) = turn(seen, known, record) {
        return Some(act);
    }
    let (review, row) = known.row(record)?;
    // Once by itself: what failed is looked at by somebody.
    let tried = known.apply.as_ref().is_some_and(|apply| apply.review == review.run) && record.apply.is_some();
    let turn = record.before.is_empty() || !known.queued;
    if row.when == ApplyWhen::OnMerge && row.is_ready() && !tried && turn {
        let Row { commit, effect, .. } = row.clone();
        return Some(Act::Apply { review: review.run.clone(), commit, effect, confirmed: Vec::new(), asked: None });
    }
    None
}

/// An apply that waits is one of what the comment showed when it was asked for, and of nothing else.
fn forget(known: &Known, why: &str) -> Option<Act> {
    known.waiting.as_ref().map(|_| Act::Forget { why: Some(why.to_owned()), asked: None })
}

/// Begins the apply that waits when no other change is before it, unless it would be refused now.
fn turn(seen: &Seen, known: &Known, record: &Record) -> Option<Act> {
    let waiting = known.waiting.as_ref()?;
    let begun = known.apply.as_ref().is_some_and(|apply| apply.comment.as_ref() == Some(&waiting.asked.comment));
    if begun && record.apply.is_some() {
        return Some(Act::Forget { why: None, asked: None });
    }
    let (stacks, confirm) = (Vec::new(), waiting.confirmed.clone());
    let command = Command { verb: Verb::Apply, stacks, confirm, kill: false, reason: None };
    match ask::apply(seen, known, record, command, waiting.asked.clone()) {
        Act::Answer { text, .. } => Some(Act::Forget { why: text, asked: None }),
        act => record.before.is_empty().then_some(act),
    }
}

/// Approvals of the review before count for one with the same effect by the same policies.
fn carry(known: &Known, record: &Record) -> Option<Act> {
    let (review, row) = known.row(record)?;
    let open = !review.carried && row.stand == Stand::Open;
    let from = known.before.as_ref().map(|before| before.run.clone());
    open.then(|| Act::Carry { from, to: review.run.clone() })
}

/// Reviews of the forge are approvals of the effect that the comment showed when they were given, as long as they stand.
fn approvals(seen: &Seen, known: &Known, record: &Record) -> Option<Act> {
    let (review, row) = known.row(record)?;
    if row.stand != Stand::Open || !matches!(row.verdict, Verdict::Ready | Verdict::NeedsApproval) {
        return None;
    }
    let stands = |given: &Given| {
        seen.reviews.iter().any(|found| found.person.id == given.person.id && found.opinion == Opinion::Approves)
    };
    let withdrawn =
        known.given.iter().find(|given| given.review == review.run && given.refused.is_none() && !stands(given));
    if let Some(given) = withdrawn {
        return Some(Act::Withdraw { given: given.clone() });
    }
    let of_effect = |found: &&ForgeReview| {
        let shown = known.shown_at(found.at).filter(|shown| found.commit.as_ref().is_none_or(|c| *c == shown.commit));
        shown.is_some_and(|shown| (&shown.effect, &shown.policy) == (&row.effect, &row.policy))
    };
    let is_new = |found: &&ForgeReview| {
        !known
            .given
            .iter()
            .any(|given| given.person.id == found.person.id && given.review == review.run && given.at >= found.at)
    };
    let approving = seen.reviews.iter().filter(|found| found.opinion == Opinion::Approves);
    let found = approving.filter(of_effect).find(is_new)?;
    Some(Act::Approve {
        run: review.run.clone(),
        commit: Some(row.commit.clone()),
        effect: Some(row.effect.clone()),
        reason: None,
        by: By::Review(found.clone()),
    })
}

#[cfg(test)]
mod tests;
