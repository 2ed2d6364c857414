//! What is said of a change: statuses, labels and sentences, made purely from what is known of it.

use super::plan::{Before, EnvironmentNow, Known, Of, Record, Row, Seen, Stage, Stand};
use super::settings::{ApplyWhen, Forks};
use super::{ChangeState, Check, CheckState};
use crate::Micros;
use crate::review::Verdict;
use crate::run::RunState;

/// What the name of every status begins with, and the name of the one for all of a change.
pub const NAME: &str = "windlass";
/// The labels, of which a change has one.
pub const LABELS: [&str; 4] = ["no-changes", "add-or-update", "destroy", "error"];

/// What there is to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// How it is as a whole.
    pub state: CheckState,
    /// In one sentence.
    pub title: String,
    /// What else is to be known, a sentence each. What stands between backticks is code.
    pub lines: Vec<String>,
    /// Why it cannot be planned, as it was told.
    pub message: Option<String>,
    /// The commit that `checks` are for; of a change that was closed nothing is said.
    pub commit: Option<String>,
    pub checks: Vec<Check>,
    /// One of [`LABELS`].
    pub label: Option<&'static str>,
}

/// What is said now. `number` writes another change as the forge does; `url` is where the review is shown.
pub fn told(seen: &Seen, known: &Known, record: &Record, number: impl Fn(u64) -> String, url: Option<&str>) -> Told {
    let change = &seen.change;
    let (state, title) = total(seen, known, record, &number);
    let commit = match change.state {
        ChangeState::Open => Some(change.head.commit.clone()),
        ChangeState::Merged => change.merged_as.clone(),
        ChangeState::Closed => None,
    };
    let check =
        |name: String, (state, text): (CheckState, String)| Check { name, state, text, url: url.map(str::to_owned) };
    let row = known.row(record).map(|(_, row)| row).filter(|_| is_current(seen, known));
    let environments = row.map(|row| row.environments.as_slice()).unwrap_or_default();
    let of = |environment: &EnvironmentNow| {
        check(format!("{NAME}/{}", environment.name), in_environment(environment, (state, &title)))
    };
    let checks = environments.iter().map(of).chain([check(NAME.to_owned(), (state, title.clone()))]).collect();
    let label = match row {
        _ if state == CheckState::Error => Some("error"),
        None => None,
        Some(row) if row.verdict == Verdict::Nothing => Some("no-changes"),
        Some(row) if row.destroys => Some("destroy"),
        Some(_) => Some("add-or-update"),
    };
    let lines = lines(seen, known, record, &number);
    let message = match known.review.as_ref().filter(|_| is_current(seen, known)).map(|review| &review.stage) {
        Some(Stage::Impossible(why)) => Some(why.clone()),
        _ => None,
    };
    Told { message, state, title, lines, commit, checks, label }
}

/// The review is of what the change is now.
fn is_current(seen: &Seen, known: &Known) -> bool {
    let change = &seen.change;
    known.review.as_ref().is_some_and(|review| match change.state {
        ChangeState::Merged => review.of == Of::Merged || review.commit == change.head.commit,
        _ => review.of == Of::Head && review.commit == change.head.commit,
    })
}

fn total(seen: &Seen, known: &Known, record: &Record, number: &impl Fn(u64) -> String) -> (CheckState, String) {
    let pending = |text: &str| (CheckState::Pending, text.to_owned());
    let change = &seen.change;
    if let Some(apply) = known.applying(record) {
        return match record.apply {
            Some(RunState::Waiting) => pending("Being applied, and waits: the page says for what"),
            _ if apply.of == Of::Head && change.state == ChangeState::Merged => {
                pending("Being applied as it was before it was merged")
            }
            _ => pending("Being applied"),
        };
    }
    if !record.followed {
        return pending("It goes into a branch that Windlass does not follow");
    }
    if change.state == ChangeState::Closed {
        return pending("The change is closed");
    }
    if known.is_applied(change, record) {
        return (CheckState::Success, "Applied".into());
    }
    let Some(review) = known.review.as_ref().filter(|_| is_current(seen, known)) else {
        return match change.state {
            ChangeState::Merged => pending("Merged, and not planned"),
            _ if known.is_strange(change) => match record.settings.forks {
                Forks::Ask => pending("Of a fork: somebody who may has to let it be planned"),
                Forks::Never => (CheckState::Failure, "Changes of forks are not planned here".into()),
            },
            _ if change.draft => pending("A draft: it is planned when it is ready, or with `windlass plan`"),
            _ if !record.settings.autoplan => pending("`windlass plan` plans it"),
            _ => pending("It is about to be planned"),
        };
    };
    match &review.stage {
        Stage::Nothing => return (CheckState::Success, "It touches no stack".into()),
        Stage::Impossible(why) => {
            return (CheckState::Error, why.lines().next().unwrap_or("It cannot be planned").to_owned());
        }
        Stage::Wanted | Stage::Made => {}
    }
    let Some(row) = known.row(record).map(|(_, row)| row) else {
        return match record.review.as_ref().map(|now| now.run).filter(|run| run.is_final()) {
            Some(RunState::Cancelled) => (CheckState::Error, "The plan was cancelled".into()),
            Some(_) => (CheckState::Error, "The plan came to no end: its run says why".into()),
            None => pending("Being planned"),
        };
    };
    of_row(seen, known, record, row, number)
}

fn of_row(
    seen: &Seen,
    known: &Known,
    record: &Record,
    row: &Row,
    number: &impl Fn(u64) -> String,
) -> (CheckState, String) {
    let pending = |text: &str| (CheckState::Pending, text.to_owned());
    let success = |text: &str| (CheckState::Success, text.to_owned());
    let failure = |text: &str| (CheckState::Failure, text.to_owned());
    let review = known.review.as_ref();
    let part = review.is_some_and(|review| !review.only.is_empty());
    let merged = seen.change.state == ChangeState::Merged;
    let failed = known.apply.as_ref().is_some_and(|apply| Some(&apply.review) == review.map(|review| &review.run))
        && record.apply.is_some_and(|state| state.is_final() && state != RunState::Succeeded);
    match (row.stand, row.verdict) {
        (Stand::Refused, _) => failure("Somebody refused it"),
        (Stand::Superseded, _) => pending("It is about to be planned again"),
        (Stand::Applied, _) | (_, Verdict::Nothing) if part => pending("Only some of its stacks were planned"),
        (Stand::Applied, _) => success("Applied"),
        (_, Verdict::Nothing) => success("Nothing would change"),
        (_, Verdict::Denied) => failure("Denied by policy"),
        (_, Verdict::Failed) => (CheckState::Error, "It could not be planned in full".into()),
        _ if failed => failure("Its apply stopped: `windlass apply` tries again"),
        _ if !row.missing.is_empty() => {
            (CheckState::Pending, format!("Waits for approval: {}", row.missing.first().map_or("", String::as_str)))
        }
        _ if row.when == ApplyWhen::Never => success("It is not applied from a change"),
        _ if !merged && row.when == ApplyWhen::OnMerge => success("Approved: it is applied as soon as it is merged"),
        _ if !merged && row.when == ApplyWhen::AfterMerge => success("Approved: it is applied once it is merged"),
        _ => match record.before.first() {
            Some(before) => {
                let by_itself = known.waiting.is_some() || merged && row.when == ApplyWhen::OnMerge;
                let other = number(before.number);
                pending(&match by_itself {
                    true => format!("Applied as soon as {other} is merged or closed"),
                    false => format!("Waits for {other} to be merged or closed"),
                })
            }
            None if merged => pending("Merged, and not applied: `windlass apply` does"),
            None => pending("Ready: `windlass apply` applies it"),
        },
    }
}

/// How it is in one environment, where it is so as a whole.
fn in_environment(environment: &EnvironmentNow, total: (CheckState, &String)) -> (CheckState, String) {
    let (state, title) = total;
    match environment {
        EnvironmentNow { failed: true, .. } => (CheckState::Error, "It could not be planned in full".into()),
        EnvironmentNow { denied: true, .. } => (CheckState::Failure, "Denied by policy".into()),
        EnvironmentNow { changes: false, .. } => (CheckState::Success, "Nothing would change".into()),
        EnvironmentNow { missing, .. } if state == CheckState::Pending => match missing.first() {
            Some(missing) => (CheckState::Pending, format!("Waits for approval: {missing}")),
            None => (state, title.clone()),
        },
        _ => (state, title.clone()),
    }
}

fn lines(seen: &Seen, known: &Known, record: &Record, number: &impl Fn(u64) -> String) -> Vec<String> {
    let (change, mut lines) = (&seen.change, Vec::new());
    let current = known.review.as_ref().filter(|_| is_current(seen, known));
    if known.is_strange(change) && change.state == ChangeState::Open && record.settings.forks == Forks::Ask {
        let short = change.head.commit.get(..12).unwrap_or(&change.head.commit);
        lines.push(format!(
            "Nothing of a fork is run by itself. Who may create reviews here: look at `{short}`, then say `windlass plan`."
        ));
    }
    if let Some(review) = current.filter(|review| !review.only.is_empty()) {
        lines.push(format!("Only what matches `{}` was planned; `windlass plan` plans all.", review.only.join(" ")));
    }
    for Before { instance, number: other, since } in &record.before {
        lines.push(format!(
            "`{instance}` waits for {}, which has its place in the queue since {}, until that is merged or closed, or somebody says \
             `windlass unlock` there.",
            number(*other),
            minute(*since)
        ));
    }
    if let Some(waiting) = known.waiting.as_ref().filter(|_| known.applying(record).is_none()) {
        lines.push(format!(
            "`{}` asked for the apply, which begins by itself if it still does the same then; `windlass cancel` withdraws it.",
            waiting.asked.person.login
        ));
    }
    if known.queued && record.before.is_empty() && change.state == ChangeState::Open {
        lines.push("Its stacks are held for it: other changes of them wait until it is merged or closed, or `windlass unlock`.".into());
    }
    if record.moved && current.is_some() && !record.settings.autoplan {
        lines.push(format!(
            "`{}` has moved in what this reads or touches: `windlass plan` plans it again.",
            change.base
        ));
    }
    let authors = known.authors.as_ref().filter(|authors| authors.head == change.head.commit && current.is_some());
    for name in authors.iter().flat_map(|authors| &authors.unknown) {
        let name = name.replace('`', "'");
        lines.push(format!(
            "`{name}` has signed a commit and belongs to no account here: as it may be anybody, it takes one approval more."
        ));
    }
    for given in known.given.iter().filter(|given| Some(&given.review) == current.map(|review| &review.run)) {
        if let Some(why) = &given.refused {
            lines.push(format!("The approval by `{}` does not count: {why}", given.person.login));
        }
    }
    if let Some(not) = known.not_merged.as_ref().filter(|not| not.commit == change.head.commit)
        && change.state == ChangeState::Open
    {
        lines.push(format!("The forge does not merge it yet: {}", not.why));
    }
    lines
}

fn minute(at: Micros) -> String {
    jiff::Timestamp::from_microsecond(at)
        .map_or_else(|_| at.to_string(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}
