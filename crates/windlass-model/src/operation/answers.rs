//! What people said to a step, and whether it suffices.

use super::plan::word;
use super::{AskAction, ChecklistItem, OperationApprovals};
use crate::Micros;
use crate::approval::{Actor, is_member};
use crate::definition::Team;
use serde::{Deserialize, Serialize};

/// An approval, an answer to a question, or a tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub actor: Actor,
    pub value: String,
    pub reason: Option<String>,
    pub at: Micros,
}

/// What answers amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// For whom it waits, and until when.
    Waits {
        what: String,
        until: Option<Micros>,
    },
    /// `by` are the people who count, in the order of their answers.
    Done {
        answer: String,
        by: Vec<String>,
        reason: Option<String>,
    },
    Refused {
        by: String,
        reason: Option<String>,
    },
    /// Nobody answered in time.
    Expired(String),
}

/// Whether enough people approve a run, which `starter` (as it is recorded) began; their last word counts, and one who may approve
/// can refuse. `since` is when they were first asked.
pub fn approval(
    rule: &OperationApprovals,
    answers: &[Answer],
    starter: &str,
    teams: &[Team],
    (since, now): (Micros, Micros),
) -> Decision {
    let of_team = |actor: &Actor| rule.from.is_empty() || is_member(actor, &rule.from, teams);
    let last = last_words(answers);
    let refused = last.iter().find(|answer| answer.value == word::REFUSE && of_team(&answer.actor));
    if let Some(refused) = refused {
        return Decision::Refused { by: refused.actor.to_string(), reason: refused.reason.clone() };
    }
    let until = since.saturating_add(rule.expires);
    // What came too late counts as little as what never came.
    let counted = |answer: &&&Answer| {
        let actor = &answer.actor;
        let is_other = actor.to_string() != starter;
        answer.value == word::APPROVE
            && is_other
            && of_team(actor)
            && (actor.verified || rule.unverified)
            && answer.at <= until
    };
    let counted: Vec<&Answer> = last.iter().filter(counted).copied().collect();
    if counted.len() as u64 >= u64::from(rule.count) {
        return Decision::Done {
            answer: word::APPROVE.to_owned(),
            by: counted.iter().map(|answer| answer.actor.to_string()).collect(),
            reason: counted.iter().find_map(|answer| answer.reason.clone()),
        };
    }
    let people = if rule.count == 1 { "1 approval".to_owned() } else { format!("{} approvals", rule.count) };
    let what = format!("{people}{}, has {}", from(&rule.from), counted.len());
    if now >= until { Decision::Expired(what) } else { Decision::Waits { what, until: Some(until) } }
}

/// The answer to a question; `question` is its text.
pub fn question(
    ask: &AskAction,
    question: &str,
    answers: &[Answer],
    teams: &[Team],
    (since, now): (Micros, Micros),
) -> Decision {
    let until = ask.expires.map(|expires| since.saturating_add(expires));
    let counts = |answer: &&Answer| {
        let is_answer = ask.choices.is_empty() || ask.choices.contains(&answer.value);
        let of_team = ask.from.is_empty() || is_member(&answer.actor, &ask.from, teams);
        is_answer && of_team && until.is_none_or(|until| answer.at <= until)
    };
    // The first answer is the one that the run goes on with.
    if let Some(first) = answers.iter().find(counts) {
        let (answer, reason) = (first.value.clone(), first.reason.clone());
        return Decision::Done { answer, by: vec![first.actor.to_string()], reason };
    }
    let what = format!("an answer{} to: {question}", from(&ask.from));
    if until.is_none_or(|until| now < until) {
        return Decision::Waits { what, until };
    }
    match &ask.default {
        Some(default) => {
            Decision::Done { answer: default.clone(), by: Vec::new(), reason: Some("nobody answered".into()) }
        }
        None => Decision::Expired(what),
    }
}

/// Whether an item of a checklist is ticked; the last word counts.
pub fn tick(item: &ChecklistItem, answers: &[Answer], teams: &[Team]) -> Decision {
    let counts = |answer: &&Answer| item.from.is_empty() || is_member(&answer.actor, &item.from, teams);
    match answers.iter().rfind(counts) {
        Some(last) if last.value == word::DONE => Decision::Done {
            answer: word::DONE.to_owned(),
            by: vec![last.actor.to_string()],
            reason: last.reason.clone(),
        },
        _ => Decision::Waits { what: format!("a tick{}: {}", from(&item.from), item.text), until: None },
    }
}

fn from(teams: &[String]) -> String {
    if teams.is_empty() { String::new() } else { format!(" from team {}", teams.join(" or ")) }
}

/// The last answer of each person, in the order of the answers. People may have the same name, and jobs of a CI the same first
/// identity.
fn last_words(answers: &[Answer]) -> Vec<&Answer> {
    let is_same =
        |one: &Actor, other: &Actor| one.name == other.name && one.identities.first() == other.identities.first();
    let later = |at: usize| answers[at + 1..].iter().any(|other| is_same(&other.actor, &answers[at].actor));
    (0..answers.len()).filter(|at| !later(*at)).map(|at| &answers[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;
    use crate::operation::Expression;

    fn said(name: &str, value: &str, at: Micros) -> Answer {
        let verified = !name.starts_with("local");
        let actor = Actor { name: name.into(), identities: vec![format!("user:{name}")], verified };
        Answer { actor, value: value.into(), reason: Some(format!("{name} says so")), at }
    }

    fn teams() -> Vec<Team> {
        let members = vec!["user:ann".into(), "user:bob".into(), "user:starter".into(), "user:local".into()];
        vec![Team { name: "sre".into(), members, span: Span::file("w") }]
    }

    #[test]
    fn nobody_takes_back_what_somebody_else_of_the_same_name_said() {
        let other = |value: &str, at: Micros| {
            let mut answer = said("ann", value, at);
            answer.actor.identities = vec!["user:another-ann".into()];
            answer
        };
        let check = |answers: &[Answer], words: &[&str]| {
            let last: Vec<&str> = last_words(answers).iter().map(|answer| answer.value.as_str()).collect();
            assert_eq!(last, words);
        };
        check(&[said("ann", word::REFUSE, 1), other(word::APPROVE, 2)], &[word::REFUSE, word::APPROVE]);
        check(&[said("ann", word::REFUSE, 1), said("ann", word::APPROVE, 2)], &[word::APPROVE]);
    }

    #[test]
    fn approvals_count_when_they_are_of_others_who_may_and_in_time() {
        let rule = |count, from: &[&str], unverified| OperationApprovals {
            count,
            from: from.iter().map(|team| (*team).to_owned()).collect(),
            when: None,
            expires: 100,
            unverified,
            span: Span::file("w"),
        };
        let starter = said("starter", "", 0).actor.to_string();
        let check = |rule: &OperationApprovals, answers: &[Answer], now: Micros, want: &str| {
            let found = match approval(rule, answers, &starter, &teams(), (0, now)) {
                Decision::Waits { what, until } => format!("waits for {what} until {}", until.unwrap_or(-1)),
                Decision::Done { by, .. } => format!("done by {}", by.join(" and ")),
                Decision::Refused { by, .. } => format!("refused by {by}"),
                Decision::Expired(what) => format!("expired: {what}"),
            };
            assert_eq!(found, want, "{answers:?}");
        };
        let one = rule(1, &["sre"], false);
        check(&one, &[], 1, "waits for 1 approval from team sre, has 0 until 100");
        check(&one, &[said("ann", "approve", 1)], 2, "done by ann");
        check(&one, &[said("eve", "approve", 1)], 2, "waits for 1 approval from team sre, has 0 until 100");
        check(&one, &[said("starter", "approve", 1)], 2, "waits for 1 approval from team sre, has 0 until 100");
        check(&one, &[said("local", "approve", 1)], 2, "waits for 1 approval from team sre, has 0 until 100");
        check(&rule(1, &["sre"], true), &[said("local", "approve", 1)], 2, "done by local, unverified");
        check(&one, &[said("ann", "approve", 101)], 102, "expired: 1 approval from team sre, has 0");
        check(&one, &[said("ann", "approve", 99)], 1000, "done by ann");
        check(&one, &[said("ann", "refuse", 1), said("bob", "approve", 2)], 3, "refused by ann");
        check(&one, &[said("eve", "refuse", 1), said("bob", "approve", 2)], 3, "done by bob");
        check(&one, &[said("ann", "refuse", 1), said("ann", "approve", 2)], 3, "done by ann");
        let two = rule(2, &[], false);
        check(
            &two,
            &[said("ann", "approve", 1), said("ann", "approve", 2)],
            3,
            "waits for 2 approvals, has 1 until 100",
        );
        check(&two, &[said("ann", "approve", 1), said("eve", "approve", 2)], 3, "done by ann and eve");
    }

    #[test]
    fn questions_are_answered_by_the_first_who_may_or_by_time() {
        let ask = |choices: &[&str], from: &[&str], default: Option<&str>, expires| AskAction {
            question: Expression { text: "\"go on?\"".into(), span: Span::file("w") },
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            from: from.iter().map(|team| (*team).to_owned()).collect(),
            default: default.map(str::to_owned),
            expires,
        };
        let check = |ask: &AskAction, answers: &[Answer], now, want: Decision| {
            assert_eq!(question(ask, "go on?", answers, &teams(), (0, now)), want);
        };
        let done = |answer: &str, by: &[&str], reason: &str| Decision::Done {
            answer: answer.into(),
            by: by.iter().map(|name| (*name).to_owned()).collect(),
            reason: Some(reason.into()),
        };
        let plain = ask(&["yes", "no"], &["sre"], None, Some(100));
        let waits = Decision::Waits { what: "an answer from team sre to: go on?".into(), until: Some(100) };
        check(&plain, &[said("eve", "yes", 1), said("ann", "maybe", 2)], 3, waits);
        check(&plain, &[said("bob", "no", 1), said("ann", "yes", 2)], 3, done("no", &["bob"], "bob says so"));
        check(&plain, &[], 100, Decision::Expired("an answer from team sre to: go on?".into()));
        check(&ask(&[], &[], Some("later"), Some(100)), &[], 100, done("later", &[], "nobody answered"));
        check(
            &ask(&[], &[], None, None),
            &[said("eve", "any text", 500)],
            600,
            done("any text", &["eve"], "eve says so"),
        );
    }

    #[test]
    fn the_last_word_on_an_item_counts() {
        let item = ChecklistItem {
            name: "told".into(),
            text: "Support was told".into(),
            run: None,
            from: vec!["sre".into()],
            span: Span::file("w"),
        };
        let check = |answers: &[Answer], done: bool| {
            assert_eq!(matches!(tick(&item, answers, &teams()), Decision::Done { .. }), done, "{answers:?}");
        };
        check(&[], false);
        check(&[said("eve", "done", 1)], false);
        check(&[said("ann", "done", 1)], true);
        check(&[said("ann", "done", 1), said("bob", "undone", 2)], false);
        check(&[said("ann", "done", 1), said("eve", "undone", 2)], true);
    }
}
