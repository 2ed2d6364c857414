//! Waivers: a named person takes the responsibility for one finding on one review, for a time and with a reason.

use crate::Micros;
use crate::approval::{Actor, is_author, is_member};
use crate::definition::{Team, WaiverRule};
use crate::id::{InstanceId, RunId};
use crate::review::{Finding, Level};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a waived finding says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    /// Who, as an actor is shown.
    pub by: String,
    pub reason: String,
    /// It holds before this time.
    pub until: Micros,
}

/// One waiver as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The finding's fingerprint, 64 hexadecimal digits.
    pub finding: String,
    pub review: RunId,
    /// `None` for a finding in the change as a whole.
    pub instance: Option<InstanceId>,
    /// Name of the policy.
    pub policy: String,
    pub rule: Option<String>,
    pub address: Option<String>,
    pub message: String,
    pub actor: Actor,
    pub reason: String,
    pub at: Micros,
    /// It holds before this time.
    pub until: Micros,
}

impl Waiver {
    pub fn is_expired(&self, now: Micros) -> bool {
        now >= self.until
    }
}

/// What a waiver is bound to, hexadecimal SHA-256: the policy and its rule, the resource, what is said, the instance, and the
/// effect. A changed effect is another finding.
pub fn fingerprint(finding: &Finding, instance: Option<&InstanceId>, effect_digest: &str) -> String {
    let mut hash = Sha256::new();
    let parts = [
        finding.source.as_str(),
        finding.rule.as_deref().unwrap_or_default(),
        finding.address.as_deref().unwrap_or_default(),
        &finding.message,
        instance.map_or("", |instance| instance.as_str()),
        effect_digest,
    ];
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Name of the policy whose denial this is, when it may be waived at all; else why not.
///
/// # Errors
/// One clause, such as `the gate broke, and what it would have said is not known`.
pub fn waivable(finding: &Finding) -> Result<&str, &'static str> {
    match finding.level {
        Level::Broken => return Err("the gate broke, and nobody knows what it would have said"),
        Level::Warn => return Err("it only warns"),
        Level::Deny => {}
    }
    finding.source.strip_prefix("policy ").ok_or("no policy denies it: only its definition can be changed")
}

/// Why `actor` may not waive what `rule` is about; `None` when they may. `authors` (`Name <mail>`) wrote the change, of whom `unknown`
/// may be anybody.
pub fn why_not(
    rule: &WaiverRule,
    teams: &[Team],
    actor: &Actor,
    authors: &[String],
    unknown: &[String],
) -> Option<String> {
    if !is_member(actor, &rule.from, teams) {
        return Some(format!("{actor} is not a member of team {}", rule.from.join(" or ")));
    }
    if !actor.verified && !rule.unverified {
        return Some(format!("nobody checked who {actor} is, and that is not taken (`unverified = true` would)"));
    }
    if !rule.author_may_waive && authors.iter().any(|author| is_author(actor, author)) {
        return Some("an author of the change may not waive what denies it".into());
    }
    if !rule.author_may_waive && !unknown.is_empty() {
        return Some(format!("an author may not, and nobody knows whose account {} is", unknown.join(" or ")));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;

    fn actor(name: &str, verified: bool) -> Actor {
        let identities = vec![format!("user:{name}"), format!("email:{name}@example.com")];
        Actor { name: name.into(), identities, verified }
    }

    #[test]
    fn who_may_waive() {
        let teams = [Team { name: "sre".into(), members: vec!["user:ops".into()], span: Span::file("w") }];
        let strict =
            WaiverRule { from: vec!["sre".into()], author_may_waive: false, unverified: false, longest: 1_000_000 };
        let open = WaiverRule { author_may_waive: true, unverified: true, ..strict.clone() };
        let nobody = WaiverRule { from: Vec::new(), ..open.clone() };
        let check = |rule: &WaiverRule, actor: Actor, author: &str, want: Option<&str>| {
            let authors = [format!("Somebody <{author}@example.com>")];
            let found = why_not(rule, &teams, &actor, &authors, &[]);
            match want {
                None => assert_eq!(found, None, "{rule:?}"),
                Some(text) => assert!(found.as_ref().is_some_and(|f| f.contains(text)), "{found:?} / {text}"),
            }
        };
        check(&strict, actor("ops", true), "dev", None);
        check(&strict, actor("ops", false), "dev", Some("nobody checked"));
        check(&strict, actor("dev", true), "dev", Some("not a member of team sre"));
        check(&strict, actor("ops", true), "ops", Some("an author of the change"));
        check(&open, actor("ops", false), "ops", None);
        check(&nobody, actor("ops", true), "dev", Some("not a member"));
    }

    #[test]
    fn a_fingerprint_is_of_one_finding_on_one_effect() {
        let deny = Finding {
            rule: Some("data.a.deny".into()),
            address: Some("t.a".into()),
            ..Finding::new(Level::Deny, "policy p", "no")
        };
        let instance = InstanceId::new("aws/net");
        let one = fingerprint(&deny, Some(&instance), "e1");
        assert_eq!((one.len(), &one), (64, &fingerprint(&deny, Some(&instance), "e1")));
        let others = [
            fingerprint(&deny, Some(&instance), "e2"),
            fingerprint(&deny, Some(&InstanceId::new("aws/app")), "e1"),
            fingerprint(&deny, None, "e1"),
            fingerprint(&Finding { address: Some("t.b".into()), ..deny.clone() }, Some(&instance), "e1"),
            fingerprint(&Finding { rule: Some("data.a.deny_x".into()), ..deny.clone() }, Some(&instance), "e1"),
            fingerprint(&Finding { message: "never".into(), ..deny.clone() }, Some(&instance), "e1"),
        ];
        assert!(others.iter().all(|other| *other != one));
        let check = |level, source: &str, want: Result<&str, ()>| {
            let finding = Finding::new(level, source, "m");
            assert_eq!(waivable(&finding).map_err(|_| ()), want, "{source}");
        };
        check(Level::Deny, "policy p", Ok("p"));
        check(Level::Warn, "policy p", Err(()));
        check(Level::Broken, "policy p", Err(()));
        check(Level::Deny, "protect", Err(()));
    }
}
