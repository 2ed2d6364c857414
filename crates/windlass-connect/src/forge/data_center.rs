//! Bitbucket Data Center, by the latest version of its REST API. Its changes have no labels.

use super::access::Access;
use super::api::{cut, id, segment, signature, text};
use super::bitbucket::authorization;
use super::settings::{Account, Address};
use super::{Forge, ForgeError, Limits};
use crate::client::Answer;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use std::cell::Cell;
use std::path::Path;
use ureq::http::Method;
use windlass_model::Micros;
use windlass_model::change::{
    Budget, Change, ChangeState, Check, CheckState, Comment, Commit, ForgeReview, Head, MergeMethod, Merged, Opinion,
    Person, Reaction,
};

/// Texts of a status, letters.
const KEY: usize = 255;
const DESCRIPTION: usize = 255;
/// Entries of a page.
const PAGE: usize = 100;
/// Open changes that are looked through. Of those that are not open the first page is: the newest.
const OPEN: usize = 2_000;
/// How the reference of a branch begins.
const HEADS: &str = "refs/heads/";

pub(super) struct DataCenter {
    access: Access,
    /// The address of the server, without a slash at its end.
    root: String,
}

impl DataCenter {
    pub fn new(address: &Address, account: Account, roots: Option<&Path>) -> Result<Self, ForgeError> {
        let (project, name) = address.repository.split_once('/').unwrap_or_default();
        let repository = format!("/projects/{}/repos/{}", segment(project), segment(name));
        let access = Access::new(address, repository, account, authorization, roots)?;
        let base = access.api.base();
        let root = base.rsplit_once("/rest/").map_or(base, |(root, _)| root).to_owned();
        Ok(Self { access, root })
    }

    /// Entries of a list, up to the first that is not wanted; `None` where there is no such list.
    fn pages(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Option<Vec<Value>>, ForgeError> {
        let next = |_: &Answer, body: &Value| {
            let start = body["nextPageStart"].as_u64().filter(|_| body["isLastPage"] == false)?;
            Some(format!("{path}&start={start}"))
        };
        self.access.linked(path, what, next, wanted)
    }

    fn values(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>, ForgeError> {
        self.pages(path, what, wanted)?.ok_or_else(|| self.access.hidden(what))
    }

    fn request(number: u64) -> String {
        format!("/pull-requests/{number}")
    }

    fn get(&self, number: u64, what: &str) -> Result<Option<Value>, ForgeError> {
        self.access.get(&self.access.at(Self::request(number)), what)
    }

    /// What happened to a change, newest first.
    fn activities(&self, number: u64, what: &str) -> Result<Vec<Value>, ForgeError> {
        let path = self.access.at(format!("{}/activities?limit={PAGE}", Self::request(number)));
        self.values(&path, what, |_| true)
    }

    /// The newest version of a comment, which a change of it has to name; `None` when it is gone.
    fn version(&self, path: &str, what: &str) -> Result<Option<Value>, ForgeError> {
        Ok(self.access.get(path, what)?.map(|comment| comment["version"].clone()))
    }
}

/// Tokens of projects act as accounts that lists of users leave out: names are what is known of all.
fn person(user: &Value) -> Person {
    let name = text(&user["name"]);
    Person { id: name.clone(), login: name }
}

/// Times are in milliseconds.
fn time(value: &Value) -> Micros {
    value.as_i64().unwrap_or(0).saturating_mul(1_000)
}

fn name(repository: &Value) -> String {
    match (repository["project"]["key"].as_str(), repository["slug"].as_str()) {
        (Some(project), Some(slug)) => format!("{project}/{slug}"),
        _ => String::new(),
    }
}

fn branch(reference: &Value) -> String {
    let id = reference["id"].as_str().unwrap_or_default();
    id.strip_prefix(HEADS).unwrap_or(id).to_owned()
}

fn read(request: &Value) -> Change {
    let number = request["id"].as_u64().unwrap_or(0);
    let (from, to) = (&request["fromRef"], &request["toRef"]);
    let fork = name(&from["repository"]);
    Change {
        number,
        title: text(&request["title"]),
        url: text(&request["links"]["self"][0]["href"]),
        author: person(&request["author"]["user"]),
        state: match request["state"].as_str() {
            Some("OPEN") => ChangeState::Open,
            Some("MERGED") => ChangeState::Merged,
            _ => ChangeState::Closed,
        },
        draft: request["draft"] == true,
        head: Head {
            branch: branch(from),
            commit: text(&from["latestCommit"]),
            fork: (fork != name(&to["repository"])).then_some(fork),
            reference: Some(format!("refs/pull-requests/{number}/from")),
        },
        base: branch(to),
        merged_as: request["properties"]["mergeCommit"]["id"].as_str().map(str::to_owned),
        labels: Vec::new(),
        updated_at: time(&request["updatedDate"]),
    }
}

fn comment(value: &Value) -> Comment {
    Comment {
        id: id(&value["id"]),
        author: person(&value["author"]),
        body: text(&value["text"]),
        created_at: time(&value["createdDate"]),
        updated_at: time(&value["updatedDate"]),
    }
}

/// A comment and the answers to it.
fn thread(value: &Value, comments: &mut Vec<Comment>) {
    // One that is not sent yet is its author's alone.
    if value["state"] != "PENDING" {
        comments.push(comment(value));
    }
    for answer in value["comments"].as_array().into_iter().flatten() {
        thread(answer, comments);
    }
}

/// Why it was not merged.
fn why(answer: &Answer) -> String {
    let errors = answer.json();
    let vetoes = errors["errors"].as_array().into_iter().flatten().filter_map(|it| it["vetoes"].as_array());
    let vetoes = vetoes.flatten().filter_map(|veto| veto["summaryMessage"].as_str());
    let said: Vec<String> = std::iter::once(answer.said()).chain(vetoes.map(str::to_owned)).collect();
    crate::error::plain(&said.join("; "))
}

impl Forge for DataCenter {
    fn limits(&self) -> Limits {
        Limits { comment_chars: 32_768, comment_bytes: 32_768 }
    }

    fn me(&self) -> Result<Person, ForgeError> {
        let what = "say who we are";
        let answer = self.access.ask(&self.access.repository, what)?;
        let user = answer.header("x-ausername").map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned());
        if answer.status == 404 {
            return Err(self.access.hidden(what));
        }
        let name = user.filter(|name| !name.is_empty()).ok_or_else(|| self.access.api.odd(what))?;
        Ok(Person { id: name.clone(), login: name })
    }

    fn changes(&self, states: &[ChangeState], since: Option<Micros>, most: usize) -> Result<Vec<Change>, ForgeError> {
        let mut changes = Vec::new();
        // Nothing is told of an order by what was touched.
        for state in states {
            let (name, looked) = match state {
                ChangeState::Open => ("OPEN", OPEN),
                ChangeState::Merged => ("MERGED", PAGE),
                ChangeState::Closed => ("DECLINED", PAGE),
            };
            let path = self.access.at(format!("/pull-requests?state={name}&order=NEWEST&limit={PAGE}"));
            let seen = Cell::new(0);
            let found = self.values(&path, "list the changes", |_| {
                seen.set(seen.get() + 1);
                seen.get() <= looked
            })?;
            changes.extend(found.iter().map(read));
        }
        let since = since.map(|since| since.div_euclid(1_000) * 1_000);
        changes.retain(|change| since.is_none_or(|since| change.updated_at >= since));
        changes.sort_by_key(|change| std::cmp::Reverse(change.updated_at));
        changes.truncate(most);
        Ok(changes)
    }

    fn change(&self, number: u64) -> Result<Option<Change>, ForgeError> {
        let what = format!("read #{number}");
        let request = self.get(number, &what)?;
        if request.is_none() {
            self.access.must_see(&what)?;
        }
        Ok(request.as_ref().map(read))
    }

    fn commits(&self, number: u64) -> Result<Vec<Commit>, ForgeError> {
        let path = self.access.at(format!("{}/commits?limit={PAGE}", Self::request(number)));
        let found = self.values(&path, &format!("read the commits of #{number}"), |_| true)?;
        // Without an account there is nothing but what git has: a name that may be somebody else's.
        let signed = |value: &Value| {
            let user = value["slug"].is_string().then(|| person(value));
            let name = if user.is_some() { &value["displayName"] } else { &value["name"] };
            signature(name, &value["emailAddress"], user)
        };
        let commit = |value: &Value| Commit {
            id: text(&value["id"]),
            author: signed(&value["author"]),
            committer: value["committer"].is_object().then(|| signed(&value["committer"])),
        };
        Ok(found.iter().map(commit).collect())
    }

    fn comments(&self, number: u64, since: Option<Micros>) -> Result<Vec<Comment>, ForgeError> {
        let mut comments = Vec::new();
        for activity in self.activities(number, &format!("read the comments of #{number}"))? {
            let is_added = activity["action"] == "COMMENTED" && activity["commentAction"] == "ADDED";
            // Those with an anchor are about a line.
            if is_added && activity["commentAnchor"].is_null() && activity["comment"]["anchor"].is_null() {
                thread(&activity["comment"], &mut comments);
            }
        }
        let since = since.map(|since| since.div_euclid(1_000) * 1_000);
        comments.retain(|comment| since.is_none_or(|since| comment.updated_at >= since));
        comments.sort_by_key(|comment| (comment.created_at, comment.id.parse::<u64>().unwrap_or(0)));
        Ok(comments)
    }

    fn comment_create(&self, number: u64, body: &str) -> Result<Comment, ForgeError> {
        let what = format!("comment on #{number}");
        let path = self.access.at(format!("{}/comments", Self::request(number)));
        let answer = self.access.send(Method::POST, &path, Some(&json!({ "text": body })), &what)?;
        self.access.api.taken(&what, &answer).map(|made| comment(&made))
    }

    fn comment_update(&self, number: u64, comment: &str, body: &str) -> Result<bool, ForgeError> {
        let what = format!("change a comment on #{number}");
        let path = self.access.at(format!("{}/comments/{}", Self::request(number), segment(comment)));
        // Somebody else may change it in between; then it has another version.
        for _ in 0..3 {
            let Some(version) = self.version(&path, &what)? else {
                return self.access.must_see(&what).map(|()| false);
            };
            let body = json!({ "text": body, "version": version });
            let answer = self.access.send(Method::PUT, &path, Some(&body), &what)?;
            match answer.status {
                404 | 409 => {}
                _ => return self.access.api.taken(&what, &answer).map(|_| true),
            }
        }
        Err(self.access.api.away("says again and again that the comment has changed", None, false))
    }

    fn react(&self, number: u64, comment: &str, reaction: Reaction) -> Result<bool, ForgeError> {
        let what = format!("react to a comment on #{number}");
        let name = match reaction {
            Reaction::Seen => "eyes",
            Reaction::Refused => "thumbsdown",
        };
        let (repository, request) = (&self.access.repository, Self::request(number));
        let place = format!("{repository}{request}/comments/{}/reactions/{name}", segment(comment));
        let url = format!("{}/rest/comment-likes/latest{place}", self.root);
        let answer = self.access.send(Method::PUT, &url, None, &what)?;
        match answer.status {
            // It is gone, or the server is older than reactions.
            400 | 404 | 405 => Ok(false),
            _ => self.access.api.taken(&what, &answer).map(|_| true),
        }
    }

    fn reviews(&self, number: u64) -> Result<Vec<ForgeReview>, ForgeError> {
        let what = format!("read the reviews of #{number}");
        let request = self.get(number, &what)?.ok_or_else(|| self.access.hidden(&what))?;
        let people = ["reviewers", "participants"].iter().filter_map(|role| request[role].as_array()).flatten();
        let opinion = |person: &Value| match person["status"].as_str() {
            Some("APPROVED") => Some((Opinion::Approves, "APPROVED")),
            Some("NEEDS_WORK") => Some((Opinion::Refuses, "REVIEWED")),
            _ => None,
        };
        let people: Vec<&Value> = people.filter(|person| opinion(person).is_some()).collect();
        if people.is_empty() {
            return Ok(Vec::new());
        }
        let activities = self.activities(number, &what)?;
        let reviews = people.into_iter().filter_map(|of| {
            let (opinion, action) = opinion(of)?;
            let is_it =
                |activity: &&Value| activity["action"] == action && activity["user"]["name"] == of["user"]["name"];
            let at = activities.iter().find(is_it).map_or(0, |activity| time(&activity["createdDate"]));
            let commit = of["lastReviewedCommit"].as_str().map(str::to_owned);
            Some(ForgeReview { person: person(&of["user"]), opinion, commit, at })
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
        let url = check.url.clone();
        let url = url.unwrap_or_else(|| format!("{}{}/commits/{commit}", self.root, self.access.repository));
        let body = json!({
            "key": cut(&check.name, KEY), "name": cut(&check.name, KEY), "state": state, "url": url,
            "description": cut(&check.text, DESCRIPTION),
        });
        let path = self.access.at(format!("/commits/{}/builds", segment(commit)));
        let answer = self.access.send(Method::POST, &path, Some(&body), &what)?;
        self.access.api.taken(&what, &answer).map(drop)
    }

    fn labels_change(&self, _: u64, _: &[String], _: &[String]) -> Result<(), ForgeError> {
        Ok(())
    }

    fn merge(&self, number: u64, commit: &str, method: MergeMethod) -> Result<Merged, ForgeError> {
        let what = format!("merge #{number}");
        let strategy = match method {
            MergeMethod::Merge => "no-ff",
            MergeMethod::Squash => "squash",
            MergeMethod::Rebase => "rebase-ff-only",
        };
        let mut request = self.get(number, &what)?.ok_or_else(|| self.access.hidden(&what))?;
        for _ in 0..3 {
            match read(&request) {
                Change { state: ChangeState::Merged, merged_as, .. } => return Ok(Merged::Done(merged_as)),
                Change { state: ChangeState::Closed, .. } => return Ok(Merged::Refused("it is closed".into())),
                change if change.head.commit != commit => return Ok(Merged::Refused("its head has moved".into())),
                _ => {}
            }
            // A push makes another version of it, of which nothing is merged.
            let version = request["version"].as_u64().unwrap_or(0);
            let path = self.access.at(format!("{}/merge?version={version}", Self::request(number)));
            let body = json!({ "strategyId": strategy });
            let answer = self.access.send(Method::POST, &path, Some(&body), &what)?;
            request = self.get(number, &what)?.ok_or_else(|| self.access.hidden(&what))?;
            let is_same = request["version"].as_u64() == Some(version) && request["state"] == "OPEN";
            match answer.status {
                400 | 409 if is_same => return Ok(Merged::Refused(why(&answer))),
                400 | 409 => {}
                _ => return self.access.api.taken(&what, &answer).map(|_| Merged::Done(read(&request).merged_as)),
            }
        }
        Ok(Merged::Refused("it changes again and again".into()))
    }

    fn branch_delete(&self, branch: &str) -> Result<(), ForgeError> {
        let what = format!("delete the branch {branch}");
        let path = self.access.at(format!("/branches?filterText={}&limit={PAGE}", segment(branch)));
        let reference = format!("{HEADS}{branch}");
        let is_it = |found: &Value| found["id"] == reference.as_str();
        // One that is not there is refused as one that must not be deleted.
        if !self.values(&path, &what, |_| true)?.iter().any(is_it) {
            return Ok(());
        }
        let url = format!("{}/rest/branch-utils/latest{}/branches", self.root, self.access.repository);
        let body = json!({ "name": reference, "dryRun": false });
        let answer = self.access.send(Method::DELETE, &url, Some(&body), &what)?;
        self.access.api.taken(&what, &answer).map(drop)
    }

    fn is_member(&self, team: &str, person: &Person) -> Result<bool, ForgeError> {
        let what = format!("look into the group {team}");
        let path = format!("/users?group={}&filter={}&limit={PAGE}", segment(team), segment(&person.login));
        // A name that is no group may be somebody's account.
        let found = self.pages(&path, &what, |_| true)?.unwrap_or_default();
        Ok(found.iter().any(|user| user["name"] == person.login.as_str()))
    }

    fn budget(&self) -> Option<Budget> {
        self.access.api.budget()
    }
}
