//! Who may let a change through, and whether enough of them have.

use crate::Micros;
use crate::definition::{ApprovalRule, Team};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Somebody who acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub name: String,
    /// In the syntax of team members: `user:NAME`, `email:a@b.example`, `github:org/team`, `oidc-group:NAME`.
    pub identities: Vec<String>,
    /// Whether anybody checked who it is.
    pub verified: bool,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if let Some(mail) = self.identities.iter().find_map(|i| i.strip_prefix("email:")) {
            write!(f, " <{mail}>")?;
        }
        if self.verified { Ok(()) } else { f.write_str(", unverified") }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRecord {
    pub actor: Actor,
    /// What it was given for; it counts for nothing else.
    pub commit: String,
    pub effect_digest: String,
    pub policy_digest: String,
    pub at: Micros,
    pub reason: Option<String>,
}

/// What approvals have to be bound to, and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeIdentity {
    pub commit: String,
    pub effect_digest: String,
    pub policy_digest: String,
    /// `Name <mail>`, or how an actor is called.
    pub authors: Vec<String>,
    /// Authors that may be anybody, such as one of those who approve.
    pub unknown: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApprovalStatus {
    Satisfied,
    Missing(Vec<MissingApproval>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingApproval {
    /// What asks, e.g. `environment production`.
    pub subject: String,
    pub have: u32,
    pub need: u32,
    /// What is asked for, then why approvals that were given do not count.
    pub sentences: Vec<String>,
}

/// Whether `approvals` satisfy every rule (who asks, such as `environment production`; what for).
pub fn evaluate(
    rules: &[(String, ApprovalRule)],
    teams: &[Team],
    approvals: &[ApprovalRecord],
    change: &ChangeIdentity,
) -> ApprovalStatus {
    let missing: Vec<MissingApproval> =
        rules.iter().filter_map(|(subject, rule)| missing(subject, rule, teams, approvals, change)).collect();
    if missing.is_empty() { ApprovalStatus::Satisfied } else { ApprovalStatus::Missing(missing) }
}

fn missing(
    subject: &str,
    rule: &ApprovalRule,
    teams: &[Team],
    approvals: &[ApprovalRecord],
    change: &ChangeIdentity,
) -> Option<MissingApproval> {
    let mut counted: BTreeSet<&str> = BTreeSet::new();
    let mut rejected = Vec::new();
    for approval in approvals {
        match why_not(rule, teams, approval, change) {
            None => drop(counted.insert(&approval.actor.name)),
            Some(why) => rejected.push(format!("the approval by {} does not count: {why}", approval.actor)),
        }
    }
    let have = counted.len() as u32;
    let unknown: &[String] = if rule.author_may_approve { &[] } else { &change.unknown };
    // Each of these may have approved what they wrote.
    let need = rule.count.saturating_add(unknown.len() as u32);
    if have >= need || rule.count == 0 {
        return None;
    }
    let from = if rule.from.is_empty() { String::new() } else { format!(" from team {}", rule.from.join(" or ")) };
    let people = if need == 1 { "1 approval".to_owned() } else { format!("{need} approvals") };
    let mut sentences = vec![format!("{subject} asks for {people}{from}, has {have}")];
    if !unknown.is_empty() {
        let more = unknown.len();
        sentences.push(format!("{more} of them because nobody knows whose account {} is", unknown.join(" or ")));
    }
    rejected.dedup();
    sentences.extend(rejected);
    Some(MissingApproval { subject: subject.to_owned(), have, need, sentences })
}

fn why_not(rule: &ApprovalRule, teams: &[Team], approval: &ApprovalRecord, change: &ChangeIdentity) -> Option<String> {
    let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
    if approval.commit != change.commit {
        return Some(format!("it was given for commit {}", short(&approval.commit)));
    }
    if approval.effect_digest != change.effect_digest {
        return Some(format!("it was given for effect {}, not this one", short(&approval.effect_digest)));
    }
    if approval.policy_digest != change.policy_digest {
        return Some("the policies have changed since".into());
    }
    let actor = &approval.actor;
    if !actor.verified && !rule.unverified {
        return Some(
            "nobody checked who it is, and this environment does not take that (`unverified = true` would)".into(),
        );
    }
    if !rule.from.is_empty() && !is_member(actor, &rule.from, teams) {
        return Some(format!("not a member of team {}", rule.from.join(" or ")));
    }
    if !rule.author_may_approve && change.authors.iter().any(|author| is_author(actor, author)) {
        return Some("an author of the change may not approve it".into());
    }
    None
}

/// Whether `actor` belongs to one of the teams named in `from`.
pub fn is_member(actor: &Actor, from: &[String], teams: &[Team]) -> bool {
    let named = teams.iter().filter(|team| from.contains(&team.name));
    named.into_iter().any(|team| team.members.iter().any(|member| actor.identities.contains(member)))
}

/// Whether `actor` is who git calls `author` (`Name <mail>`).
pub fn is_author(actor: &Actor, author: &str) -> bool {
    let (name, mail) = author.split_once(" <").map_or((author, ""), |(name, mail)| (name, mail.trim_end_matches('>')));
    let mails = actor.identities.iter().filter_map(|i| i.strip_prefix("email:"));
    mails.into_iter().any(|own| own.eq_ignore_ascii_case(mail)) || actor.name == name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;

    fn actor(name: &str, verified: bool) -> Actor {
        Actor {
            name: name.into(),
            identities: vec![format!("user:{name}"), format!("email:{name}@example.com")],
            verified,
        }
    }
    fn approval(actor: Actor, effect: &str) -> ApprovalRecord {
        ApprovalRecord {
            actor,
            commit: "c".into(),
            effect_digest: effect.into(),
            policy_digest: "p".into(),
            at: 0,
            reason: None,
        }
    }
    fn check(rule: &ApprovalRule, approvals: &[ApprovalRecord], want: &[&str]) {
        check_with(rule, approvals, &[], want);
    }
    fn check_with(rule: &ApprovalRule, approvals: &[ApprovalRecord], unknown: &[&str], want: &[&str]) {
        let teams = [Team {
            name: "sre".into(),
            members: vec!["user:ops".into(), "email:lead@example.com".into()],
            span: Span::file("w"),
        }];
        let change = ChangeIdentity {
            commit: "c".into(),
            effect_digest: "e".into(),
            policy_digest: "p".into(),
            authors: vec!["Dev <dev@example.com>".into()],
            unknown: unknown.iter().map(|name| (*name).to_owned()).collect(),
        };
        let found = match evaluate(&[("environment prod".into(), rule.clone())], &teams, approvals, &change) {
            ApprovalStatus::Satisfied => Vec::new(),
            ApprovalStatus::Missing(missing) => missing.into_iter().flat_map(|m| m.sentences).collect(),
        };
        assert_eq!(found.len(), want.len(), "{found:?}");
        for (found, want) in found.iter().zip(want) {
            assert!(found.contains(want), "{found} / {want}");
        }
    }

    #[test]
    fn approvals_count_as_the_rule_says() {
        let rule = ApprovalRule { count: 1, from: vec!["sre".into()], author_may_approve: false, unverified: false };
        check(&rule, &[], &["asks for 1 approval from team sre, has 0"]);
        check(&rule, &[approval(actor("ops", true), "e")], &[]);
        check(&rule, &[approval(actor("lead", true), "e")], &[]);
        check(&rule, &[approval(actor("ops", false), "e")], &["has 0", "nobody checked"]);
        check(&rule, &[approval(actor("someone", true), "e")], &["has 0", "not a member of team sre"]);
        check(&rule, &[approval(actor("ops", true), "other")], &["has 0", "it was given for effect other"]);
        let open = ApprovalRule { count: 2, from: vec![], author_may_approve: false, unverified: true };
        check(
            &open,
            &[approval(actor("a", false), "e"), approval(actor("a", false), "e")],
            &["asks for 2 approvals, has 1"],
        );
        check(&open, &[approval(actor("a", false), "e"), approval(actor("b", false), "e")], &[]);
        check(
            &open,
            &[approval(actor("dev", false), "e"), approval(actor("b", false), "e")],
            &["has 1", "author of the change"],
        );
        let own = ApprovalRule { author_may_approve: true, count: 1, ..open };
        check(&own, &[approval(actor("dev", false), "e")], &[]);
        // Whoever wrote it may be one of those who approve.
        let (one, two) = (approval(actor("ops", true), "e"), approval(actor("lead", true), "e"));
        let nobody = ["Carl <carl@home.example>"];
        let want = ["asks for 2 approvals from team sre, has 1", "1 of them because nobody knows whose account Carl"];
        check_with(&rule, std::slice::from_ref(&one), &nobody, &want);
        check_with(&rule, &[one, two], &nobody, &[]);
        check_with(&own, &[approval(actor("dev", false), "e")], &nobody, &[]);
    }
}
