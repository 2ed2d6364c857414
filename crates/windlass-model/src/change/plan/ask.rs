//! What commands in comments come to.

use super::{Act, Asked, By, GRAIN, Known, OLD, Of, Record, Row, Seen, Stand, stop};
use crate::Micros;
use crate::change::command::{self, Command, Verb};
use crate::change::settings::{ApplyWhen, Forks};
use crate::change::{ChangeState, Comment, Reaction};
use crate::id::InstanceId;
use crate::review::Verdict;
use crate::run::RunState;

/// A comment that was changed so long after it was made is no command, µs: forges give both times apart.
const EDITED: Micros = 2_000_000;

/// The oldest command that was not answered yet.
pub(super) fn told(seen: &Seen, known: &Known, record: &Record) -> Option<Act> {
    let old = known.since.saturating_sub(OLD);
    let is_open = |comment: &&Comment| {
        comment.author.id != seen.me.id
            && comment.created_at >= old
            && known.cursor.is_none_or(|cursor| comment.updated_at >= cursor)
            && !known.taken.contains_key(&comment.id)
    };
    seen.comments.iter().filter(is_open).find_map(|comment| {
        let said = command::parse(&comment.body, Some(&seen.me.login))?;
        let edited = comment.updated_at > comment.created_at + EDITED;
        if edited && known.cursor.is_some_and(|cursor| comment.created_at < cursor) {
            // It was read as it was first.
            return None;
        }
        // By when it was changed last: the cursor goes by that.
        let asked = Asked { comment: comment.id.clone(), at: comment.updated_at, person: comment.author.clone() };
        Some(match said {
            _ if edited => refuse(
                asked,
                "a comment that was changed is no command, as somebody else may have changed it: write a new one"
                    .into(),
            ),
            Err(misread) => refuse(asked, format!("{}: {}", misread.problem, misread.help)),
            Ok(command) => ask(seen, known, record, command, asked),
        })
    })
}

fn refuse(asked: Asked, text: String) -> Act {
    Act::Answer { asked, reaction: Reaction::Refused, text: Some(text) }
}

/// What a command comes to.
fn ask(seen: &Seen, known: &Known, record: &Record, command: Command, asked: Asked) -> Act {
    let no = |asked, text: &str| refuse(asked, text.to_owned());
    let asked_by = |comment: &Option<String>| comment.as_ref() == Some(&asked.comment);
    let applies = known.apply.as_ref().is_some_and(|apply| asked_by(&apply.comment)) && record.apply.is_some();
    let reviews = known.review.as_ref().is_some_and(|review| asked_by(&review.comment)) && record.review.is_some();
    if applies || reviews {
        // It led to that before we died.
        return Act::Answer { asked, reaction: Reaction::Seen, text: None };
    }
    match command.verb {
        Verb::Help => {
            let lines = command::help().into_iter().map(|(usage, about)| format!("`{usage}` {about}"));
            let text = Some(lines.collect::<Vec<_>>().join("\n"));
            Act::Answer { asked, reaction: Reaction::Seen, text }
        }
        _ if !record.followed => no(asked, "this change goes into a branch that Windlass does not follow"),
        Verb::Cancel => {
            let applying = known.applying(record).map(|apply| &apply.run);
            if applying.is_none() && known.waiting.is_some() {
                return Act::Forget { why: None, asked: Some(asked) };
            }
            let run = applying.or_else(|| known.planning(record).map(|review| &review.run));
            match run {
                Some(run) => Act::Cancel {
                    run: run.clone(),
                    why: command.reason.unwrap_or_else(|| "asked for in a comment".into()),
                    kill: command.kill,
                    asked: Some(asked),
                },
                None => no(asked, "nothing is under way"),
            }
        }
        Verb::Unlock if known.applying(record).is_some() => no(asked, "it is being applied: the places are needed"),
        Verb::Unlock if !known.queued => no(asked, "this change has no place in any queue"),
        Verb::Unlock => Act::GiveBack { stacks: command.stacks, asked: Some(asked) },
        _ if seen.change.state == ChangeState::Closed => no(asked, "the change is closed: open it again first"),
        Verb::Plan => plan(seen, known, record, command, asked),
        Verb::Approve => approve(known, record, command, asked),
        Verb::Apply => apply(seen, known, record, command, asked),
    }
}

fn plan(seen: &Seen, known: &Known, record: &Record, command: Command, asked: Asked) -> Act {
    let change = &seen.change;
    if known.applying(record).is_some() {
        return refuse(asked, "it is being applied: wait for its end, or `windlass cancel`".into());
    }
    if let Some(act) = stop(known, record, "planned anew") {
        return act;
    }
    if change.state == ChangeState::Merged {
        return match &change.merged_as {
            Some(commit) => {
                Act::Review { of: Of::Merged, commit: commit.clone(), only: command.stacks, asked: Some(asked) }
            }
            None => refuse(asked, "the forge does not say which commit has it: review the branch on the page".into()),
        };
    }
    let commit = change.head.commit.clone();
    if known.is_strange(change) {
        if record.settings.forks == Forks::Never {
            return refuse(asked, "changes of forks are not planned here (`forks = \"never\"`)".into());
        }
        let seen_it =
            known.stranger.as_ref().is_some_and(|(told, since)| *told == commit && *since <= asked.at + GRAIN);
        if !seen_it {
            let short = commit.get(..12).unwrap_or(&commit);
            return refuse(asked, format!("look at {short} first, which was pushed just now, and say it again"));
        }
        return Act::Allow { commit, asked };
    }
    Act::Review { of: Of::Head, commit, only: command.stacks, asked: Some(asked) }
}

/// Why what a command says is not about what is there now.
fn unlike(known: &Known, row: &Row, at: Micros) -> Option<String> {
    match known.shown_at(at) {
        None => Some("the comment did not show yet what it does: look at that, and say it again".into()),
        Some(shown) if !row.is_shown_as(shown) => {
            Some("what the comment shows is not what it showed then: look at it, and say it again".into())
        }
        Some(_) => None,
    }
}

fn approve(known: &Known, record: &Record, command: Command, asked: Asked) -> Act {
    let reason = command.reason.clone();
    if let Some(apply) = known.applying(record) {
        if record.apply != Some(RunState::Waiting) {
            return refuse(asked, "it is being applied, and waits for nobody".into());
        }
        let by = By::Command(asked);
        return Act::Approve { run: apply.run.clone(), commit: None, effect: None, reason, by };
    }
    let Some((review, row)) = known.row(record) else {
        return refuse(asked, "there is no plan to approve yet".into());
    };
    if let Some(why) = unlike(known, row, asked.at).or_else(|| beyond(row, &command)) {
        return refuse(asked, why);
    }
    let (commit, effect) = (Some(row.commit.clone()), Some(row.effect.clone()));
    Act::Approve { run: review.run.clone(), commit, effect, reason, by: By::Command(asked) }
}

/// Why a command for some stacks is not for all that the review has.
fn beyond(row: &Row, command: &Command) -> Option<String> {
    if command.stacks.is_empty() {
        return None;
    }
    let named = |instance: &InstanceId| {
        command.stacks.iter().any(|pattern| {
            // The brackets of an instance are meant as they stand.
            let glob = globset::GlobBuilder::new(&pattern.replace('[', "[[]")).literal_separator(true).build();
            let glob = glob.map(|glob| glob.compile_matcher());
            glob.is_ok_and(|glob| glob.is_match(instance.as_str()) || glob.is_match(instance.stack().as_str()))
        })
    };
    let rest = row.instances.iter().find(|instance| !named(instance))?;
    let stacks = command.stacks.join(" ");
    Some(format!("the plan is of {rest} as well: `windlass plan {stacks}` plans those stacks alone"))
}

pub(super) fn apply(seen: &Seen, known: &Known, record: &Record, command: Command, asked: Asked) -> Act {
    let change = &seen.change;
    let no = |asked, text: &str| refuse(asked, text.to_owned());
    if known.applying(record).is_some() {
        return no(asked, "it is being applied already");
    }
    if known.planning(record).is_some() {
        return no(asked, "it is being planned: wait for the plan, and look at it");
    }
    let Some((review, row)) = known.row(record) else {
        return no(asked, "there is no plan to apply: `windlass plan` makes one");
    };
    let of_now = match change.state {
        ChangeState::Open => review.of == Of::Head && review.commit == change.head.commit,
        _ => review.of == Of::Merged,
    };
    if !of_now {
        return no(asked, "the plan is of an older commit: `windlass plan` makes a new one");
    }
    if let Some(why) = unlike(known, row, asked.at).or_else(|| beyond(row, &command)) {
        return refuse(asked, why);
    }
    if change.state == ChangeState::Open {
        match row.when {
            _ if change.draft => return no(asked, "the change is a draft: say that it is ready first"),
            ApplyWhen::BeforeMerge => {}
            ApplyWhen::OnMerge => return no(asked, "it is applied by itself as soon as it is merged"),
            ApplyWhen::AfterMerge => return no(asked, "it is applied once it is merged: say so again then"),
            ApplyWhen::Never => {}
        }
    }
    match (row.stand, row.verdict) {
        _ if row.when == ApplyWhen::Never => no(asked, "what it touches is never applied from a change"),
        (Stand::Applied, _) => no(asked, "it is applied already"),
        (Stand::Refused, _) => no(asked, "somebody refused it"),
        (_, Verdict::Nothing) => no(asked, "there is nothing to apply"),
        (_, Verdict::Denied) => no(asked, "it is denied by policy"),
        (_, Verdict::Failed) => no(asked, "it could not be planned in full"),
        _ => {
            let Row { commit, effect, .. } = row.clone();
            let (review, confirmed) = (review.run.clone(), command.confirm);
            Act::Apply { review, commit, effect, confirmed, asked: Some(asked) }
        }
    }
}
