//! Who made the commits of a change, as its forge knows them: nobody lets through what they wrote.

use super::{Commit, Person, Signature};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the addresses begin that forges sign merges and edits on their pages with.
const ITSELF: &str = "noreply@";

/// Those who made the commits of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authors {
    /// The head that these commits lead to.
    pub head: String,
    /// `Name <mail>`, as commits are signed, sorted.
    pub names: Vec<String>,
    /// The accounts of them, sorted.
    pub people: Vec<Person>,
    /// Those of `names` that the forge knows no account for: it may be anybody's.
    pub unknown: Vec<String>,
}

impl Authors {
    /// From the commits of a change; `None` where they are those of another head than `head`.
    pub fn of(commits: &[Commit], head: &str) -> Option<Self> {
        // What comes after the commits that a forge tells may be anything.
        if !commits.is_empty() && !commits.iter().any(|commit| commit.id == head || commit.id.is_empty()) {
            return None;
        }
        let signatures = || commits.iter().flat_map(|commit| [&commit.author].into_iter().chain(&commit.committer));
        let known: BTreeMap<String, &Person> =
            signatures().filter_map(|signed| Some((mail(&signed.name)?, signed.person.as_ref()?))).collect();
        let is_known = |signed: &Signature| {
            signed.person.is_some() || mail(&signed.name).is_some_and(|mail| known.contains_key(&mail))
        };
        let is_forge = |signed: &Signature| mail(&signed.name).is_some_and(|mail| mail.starts_with(ITSELF));
        let committers = || commits.iter().filter_map(|commit| commit.committer.as_ref());
        let authors = commits.iter().map(|commit| &commit.author);
        let unknown = authors.chain(committers().filter(|signed| !is_forge(signed))).filter(|signed| !is_known(signed));
        Some(Self {
            head: head.to_owned(),
            names: sorted(signatures().map(|signed| signed.name.clone())),
            people: sorted(signatures().filter_map(|signed| signed.person.clone())),
            unknown: sorted(unknown.map(|signed| signed.name.clone())),
        })
    }
}

/// The address in `Name <mail>`, in small letters.
fn mail(name: &str) -> Option<String> {
    let (_, mail) = name.rsplit_once('<')?;
    Some(mail.trim_end_matches('>').to_lowercase()).filter(|mail| !mail.is_empty())
}

fn sorted<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(name: &str, login: Option<&str>) -> Signature {
        let person = login.map(|login| Person { id: format!("id-{login}"), login: login.into() });
        Signature { name: name.into(), person }
    }

    fn commit(id: &str, author: Signature, committer: Signature) -> Commit {
        Commit { id: id.into(), author, committer: Some(committer) }
    }

    #[test]
    fn whoever_signs_a_commit_is_an_author_and_accounts_are_known_by_any_of_them() {
        let anna = || signed("Anna <anna@example.com>", Some("anna"));
        let same = || signed("Anna B. <Anna@Example.com>", None);
        let stranger = || signed("Carl <carl@home.example>", None);
        let forge = || signed("Forge <noreply@forge.example>", None);
        let check = |commits: &[Commit], people: &[&str], unknown: &[&str]| {
            let found = Authors::of(commits, "c2").unwrap();
            let logins: Vec<&str> = found.people.iter().map(|person| person.login.as_str()).collect();
            let nobody: Vec<&str> = found.unknown.iter().map(String::as_str).collect();
            assert_eq!((logins.as_slice(), nobody.as_slice()), (people, unknown));
        };
        check(&[], &[], &[]);
        check(&[commit("c2", anna(), anna())], &["anna"], &[]);
        check(&[commit("c1", same(), forge()), commit("c2", anna(), anna())], &["anna"], &[]);
        check(&[commit("c2", anna(), stranger())], &["anna"], &["Carl <carl@home.example>"]);
        check(&[commit("c2", stranger(), anna())], &["anna"], &["Carl <carl@home.example>"]);
        // The address of a forge counts for what it signs, not for what somebody wrote.
        check(&[commit("c2", forge(), anna())], &["anna"], &["Forge <noreply@forge.example>"]);
        check(&[commit("c2", signed("no mail", None), anna())], &["anna"], &["no mail"]);
        let rest = Commit { id: String::new(), author: signed("the rest", None), committer: None };
        check(&[commit("c1", anna(), anna()), rest], &["anna"], &["the rest"]);
        assert_eq!(Authors::of(&[commit("c1", anna(), anna())], "c2"), None);
    }
}
