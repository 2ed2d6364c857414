//! Bitbucket Cloud, by version 2.0 of its API. It has no labels and no reactions, and offers no references of changes.

use super::access::Access;
use super::api::{array, cut, micros, segment, text};
use super::settings::{Account, Address};
use super::{Forge, ForgeError, Limits};
use crate::client::Answer;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::path::Path;
use ureq::http::Method;
use windlass_model::Micros;
use windlass_model::change::{
    Budget, Change, ChangeState, Check, CheckState, Comment, Commit, ForgeReview, Head, MergeMethod, Merged, Opinion,
    Person, Reaction, Signature,
};

/// What a status is known by, and a sentence of it, letters.
const KEY: usize = 40;
const DESCRIPTION: usize = 255;
/// Entries of a page of changes, and of anything else, at most.
const PAGE: usize = 50;
const LARGEST: usize = 100;
/// Letters of the id of a commit.
const WHOLE: usize = 40;

pub(super) struct Bitbucket {
    access: Access,
    /// Where people see the repository.
    page: String,
}

impl Bitbucket {
    pub fn new(address: &Address, account: Account, roots: Option<&Path>) -> Result<Self, ForgeError> {
        let (workspace, name) = address.repository.split_once('/').unwrap_or_default();
        let repository = format!("/repositories/{}/{}", segment(workspace), segment(name));
        let access = Access::new(address, repository, account, authorization, roots)?;
        Ok(Self { access, page: format!("https://{}/{}", address.host, address.repository) })
    }

    fn values(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>, ForgeError> {
        // The address of the next page is not to be made by others.
        let next = |_: &Answer, body: &Value| body["next"].as_str().map(str::to_owned);
        self.access.linked(&self.access.at(path), what, next, wanted)?.ok_or_else(|| self.access.hidden(what))
    }

    /// The whole id of a commit: changes tell the first twelve letters.
    fn whole(&self, path: &str, short: &str, what: &str) -> Result<Option<String>, ForgeError> {
        if short.len() == WHOLE || short.is_empty() {
            return Ok(Some(short.to_owned()));
        }
        let found = self.access.get(&self.access.at(path), what)?.unwrap_or_default();
        let commit = if found["values"].is_array() { &found["values"][0] } else { &found };
        Ok(commit["hash"].as_str().filter(|hash| hash.starts_with(short)).map(str::to_owned))
    }

    fn read(&self, request: &Value, what: &str) -> Result<Change, ForgeError> {
        let number = request["id"].as_u64().unwrap_or(0);
        let (source, target) = (&request["source"], &request["destination"]);
        let state = state(request);
        let name = |side: &Value| text(&side["repository"]["full_name"]);
        let fork = (name(source) != name(target)).then(|| name(source));
        let short = text(&source["commit"]["hash"]);
        // What a fork has is among the commits of the change alone.
        let path = match fork {
            None => format!("/commit/{}", segment(&short)),
            Some(_) => format!("/pullrequests/{number}/commits?pagelen=1"),
        };
        let commit = self.whole(&path, &short, what)?.unwrap_or(short);
        let merged_as = match request["merge_commit"]["hash"].as_str().filter(|_| state == ChangeState::Merged) {
            Some(short) => self.whole(&format!("/commit/{}", segment(short)), short, what)?,
            None => None,
        };
        Ok(Change {
            number,
            title: text(&request["title"]),
            url: text(&request["links"]["html"]["href"]),
            author: person(&request["author"]),
            state,
            draft: request["draft"] == true,
            head: Head { branch: text(&source["branch"]["name"]), commit, fork, reference: None },
            base: text(&target["branch"]["name"]),
            merged_as,
            labels: Vec::new(),
            updated_at: micros(&request["updated_on"]),
        })
    }
}

/// `EMAIL:TOKEN` of an account, or a token of a repository, project or workspace.
pub(super) fn authorization(token: &str) -> String {
    match token.contains(':') {
        true => format!("Basic {}", BASE64_STANDARD.encode(token)),
        false => format!("Bearer {token}"),
    }
}

/// Nicknames are not unique, and people change them as they like: people are known by the ids of their accounts.
fn person(user: &Value) -> Person {
    let id = user["account_id"].as_str().or(user["uuid"].as_str()).unwrap_or_default().to_owned();
    Person { login: id.clone(), id }
}

fn state(request: &Value) -> ChangeState {
    match request["state"].as_str() {
        Some("OPEN") => ChangeState::Open,
        Some("MERGED") => ChangeState::Merged,
        // Declined, or another change took its place.
        _ => ChangeState::Closed,
    }
}

fn comment(value: &Value) -> Comment {
    Comment {
        id: super::api::id(&value["id"]),
        author: person(&value["user"]),
        body: text(&value["content"]["raw"]),
        created_at: micros(&value["created_on"]),
        updated_at: micros(&value["updated_on"]),
    }
}

/// What a status is known by.
fn key(name: &str) -> String {
    if name.chars().count() <= KEY {
        return name.to_owned();
    }
    let digest: String = Sha256::digest(name).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let kept = KEY - digest.len() - 1;
    format!("{}-{digest}", name.chars().take(kept).collect::<String>())
}

impl Forge for Bitbucket {
    fn limits(&self) -> Limits {
        Limits { comment_chars: 32_768, comment_bytes: 32_768 }
    }

    fn me(&self) -> Result<Person, ForgeError> {
        let what = "say who we are";
        let user = self.access.get("/user", what)?;
        user.map(|user| person(&user)).ok_or_else(|| self.access.api.odd(what))
    }

    fn changes(&self, states: &[ChangeState], since: Option<Micros>, most: usize) -> Result<Vec<Change>, ForgeError> {
        let what = "list the changes";
        let names = states.iter().map(|state| match state {
            ChangeState::Open => "&state=OPEN",
            ChangeState::Merged => "&state=MERGED",
            ChangeState::Closed => "&state=DECLINED&state=SUPERSEDED",
        });
        let size = most.clamp(1, PAGE);
        let path = format!("/pullrequests?sort=-updated_on&pagelen={size}{}", names.collect::<String>());
        let taken = Cell::new(0);
        let found = self.values(&path, what, |request| {
            taken.set(taken.get() + usize::from(states.contains(&state(request))));
            taken.get() <= most && since.is_none_or(|since| micros(&request["updated_on"]) >= since)
        })?;
        let wanted = found.iter().filter(|request| states.contains(&state(request)));
        wanted.map(|request| self.read(request, what)).collect()
    }

    fn change(&self, number: u64) -> Result<Option<Change>, ForgeError> {
        let what = format!("read #{number}");
        match self.access.get(&self.access.at(format!("/pullrequests/{number}")), &what)? {
            Some(request) => self.read(&request, &what).map(Some),
            None => self.access.must_see(&what).map(|()| None),
        }
    }

    fn commits(&self, number: u64) -> Result<Vec<Commit>, ForgeError> {
        let path = format!("/pullrequests/{number}/commits?pagelen={LARGEST}");
        let found = self.values(&path, &format!("read the commits of #{number}"), |_| true)?;
        let signed = |value: &Value| {
            let user = &value["user"];
            Signature { name: text(&value["raw"]), person: user.is_object().then(|| person(user)) }
        };
        let commit = |value: &Value| Commit {
            id: text(&value["hash"]),
            author: signed(&value["author"]),
            committer: value["committer"].is_object().then(|| signed(&value["committer"])),
        };
        Ok(found.iter().map(commit).collect())
    }

    fn comments(&self, number: u64, since: Option<Micros>) -> Result<Vec<Comment>, ForgeError> {
        let order = if since.is_some() { "-updated_on" } else { "created_on" };
        let path = format!("/pullrequests/{number}/comments?sort={order}&pagelen={LARGEST}");
        let is_new = |value: &Value| since.is_none_or(|since| micros(&value["updated_on"]) >= since);
        let found = self.values(&path, &format!("read the comments of #{number}"), is_new)?;
        // Neither what was deleted, nor what is not sent yet, nor what is said about a line.
        let is_comment =
            |value: &&Value| value["deleted"] != true && value["pending"] != true && value["inline"].is_null();
        let mut comments: Vec<Comment> = found.iter().filter(is_comment).map(comment).collect();
        comments.sort_by_key(|comment| (comment.created_at, comment.id.parse::<u64>().unwrap_or(0)));
        Ok(comments)
    }

    fn comment_create(&self, number: u64, body: &str) -> Result<Comment, ForgeError> {
        let what = format!("comment on #{number}");
        let path = self.access.at(format!("/pullrequests/{number}/comments"));
        let body = json!({ "content": { "raw": body } });
        let answer = self.access.send(Method::POST, &path, Some(&body), &what)?;
        self.access.api.taken(&what, &answer).map(|made| comment(&made))
    }

    fn comment_update(&self, number: u64, comment: &str, body: &str) -> Result<bool, ForgeError> {
        let what = format!("change a comment on #{number}");
        let path = self.access.at(format!("/pullrequests/{number}/comments/{}", segment(comment)));
        let body = json!({ "content": { "raw": body } });
        let answer = self.access.send(Method::PUT, &path, Some(&body), &what)?;
        if matches!(answer.status, 404 | 410) {
            return self.access.must_see(&what).map(|()| false);
        }
        let changed = self.access.api.taken(&what, &answer)?;
        Ok(changed["deleted"] != true)
    }

    fn react(&self, _: u64, _: &str, _: Reaction) -> Result<bool, ForgeError> {
        Ok(false)
    }

    fn reviews(&self, number: u64) -> Result<Vec<ForgeReview>, ForgeError> {
        let what = format!("read the reviews of #{number}");
        let request = self.access.get(&self.access.at(format!("/pullrequests/{number}")), &what)?;
        let request = request.ok_or_else(|| self.access.hidden(&what))?;
        let participants = request["participants"].as_array().into_iter().flatten();
        let reviews = participants.filter_map(|participant| {
            let opinion = match participant["state"].as_str() {
                Some("approved") => Opinion::Approves,
                Some("changes_requested") => Opinion::Refuses,
                _ => return None,
            };
            let person = person(&participant["user"]);
            Some(ForgeReview { person, opinion, commit: None, at: micros(&participant["participated_on"]) })
        });
        Ok(reviews.collect())
    }

    fn check_set(&self, commit: &str, check: &Check) -> Result<(), ForgeError> {
        let what = format!("set the status {}", check.name);
        let state = match check.state {
            CheckState::Pending => "INPROGRESS",
            CheckState::Success => "SUCCESSFUL",
            CheckState::Failure | CheckState::Error => "FAILED",
        };
        // It has to lead somewhere.
        let url = check.url.clone().unwrap_or_else(|| format!("{}/commits/{commit}", self.page));
        let body = json!({
            "key": key(&check.name), "name": check.name, "state": state, "url": url,
            "description": cut(&check.text, DESCRIPTION),
        });
        let path = self.access.at(format!("/commit/{}/statuses/build", segment(commit)));
        let answer = self.access.send(Method::POST, &path, Some(&body), &what)?;
        self.access.api.taken(&what, &answer).map(drop)
    }

    fn labels_change(&self, _: u64, _: &[String], _: &[String]) -> Result<(), ForgeError> {
        Ok(())
    }

    fn merge(&self, number: u64, commit: &str, method: MergeMethod) -> Result<Merged, ForgeError> {
        let what = format!("merge #{number}");
        let before = self.change(number)?.ok_or_else(|| self.access.hidden(&what))?;
        match before.state {
            ChangeState::Merged => return Ok(Merged::Done(before.merged_as)),
            ChangeState::Closed => return Ok(Merged::Refused("it is closed".into())),
            // It merges whatever the head is when it does.
            ChangeState::Open if before.head.commit != commit => {
                return Ok(Merged::Refused("its head has moved".into()));
            }
            ChangeState::Open => {}
        }
        let strategy = match method {
            MergeMethod::Merge => "merge_commit",
            MergeMethod::Squash => "squash",
            MergeMethod::Rebase => "rebase_fast_forward",
        };
        let body = json!({ "type": "pullrequest", "merge_strategy": strategy, "close_source_branch": false });
        let path = self.access.at(format!("/pullrequests/{number}/merge"));
        let answer = self.access.send(Method::POST, &path, Some(&body), &what)?;
        match (answer.status, self.change(number)?) {
            (_, Some(Change { state: ChangeState::Merged, merged_as, .. })) => Ok(Merged::Done(merged_as)),
            (200..=299, Some(_)) => Ok(Merged::Refused("it is not merged yet".into())),
            (400 | 409, Some(_)) => Ok(Merged::Refused(answer.said())),
            _ => self.access.api.taken(&what, &answer).map(|_| Merged::Done(None)),
        }
    }

    fn branch_delete(&self, branch: &str) -> Result<(), ForgeError> {
        let what = format!("delete the branch {branch}");
        let path = self.access.at(format!("/refs/branches/{}", segment(branch)));
        let answer = self.access.send(Method::DELETE, &path, None, &what)?;
        match answer.status {
            404 => self.access.must_see(&what),
            _ => self.access.api.taken(&what, &answer).map(drop),
        }
    }

    fn is_member(&self, team: &str, person: &Person) -> Result<bool, ForgeError> {
        let what = format!("look into the group {team}");
        let Some((workspace, group)) = team.split_once('/') else { return Ok(false) };
        // Groups are told by version 1.0 alone.
        let base = self.access.api.base();
        let base = base.strip_suffix("/2.0").unwrap_or(base);
        let url = format!("{base}/1.0/groups/{}/{}/members", segment(workspace), segment(group));
        let members = self.access.get(&url, &what)?.and_then(array).ok_or_else(|| self.access.hidden(&what))?;
        let is_one = |member: &Value| ["account_id", "uuid"].iter().any(|name| member[name] == person.id.as_str());
        Ok(members.iter().any(is_one))
    }

    fn budget(&self) -> Option<Budget> {
        self.access.api.budget()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_and_tell_long_names_apart() {
        assert_eq!(key("windlass/production"), "windlass/production");
        let (one, two) = (key(&format!("windlass/{}1", "x".repeat(40))), key(&format!("windlass/{}2", "x".repeat(40))));
        assert!(one.len() == KEY && two.len() == KEY && one != two, "{one} {two}");
    }

    #[test]
    fn an_account_and_a_token_are_sent_in_their_own_ways() {
        assert_eq!(authorization("anna@example.com:x"), "Basic YW5uYUBleGFtcGxlLmNvbTp4");
        assert_eq!(authorization("x"), "Bearer x");
    }
}
