//! GitHub, by its REST API: github.com and Enterprise, with a token or as an app.

mod app;

use super::api::{Api, Call, array, cut, id, micros, next_link, segment, signature, text};
use super::settings::{Account, Address};
use super::{Forge, ForgeError, Limits};
use crate::client::Answer;
use app::Installation;
use serde_json::{Value, json};
use std::path::Path;
use ureq::http::Method;
use windlass_model::Micros;
use windlass_model::change::{
    Budget, Change, ChangeState, Check, CheckState, Comment, Commit, ForgeReview, Head, MergeMethod, Merged, Opinion,
    Person, Reaction, Signature,
};

/// The version of the API that is spoken.
const VERSION: (&str, &str) = ("x-github-api-version", "2022-11-28");
const ACCEPT: (&str, &str) = ("accept", "application/vnd.github+json");
/// How tokens of installations begin.
const OF_INSTALLATION: &str = "ghs_";
/// So many commits of a change are told at most, the oldest.
const COMMITS: usize = 250;
/// A sentence of a status, letters.
const DESCRIPTION: usize = 140;

pub(super) struct GitHub {
    api: Api,
    /// `/repos/OWNER/NAME`.
    repository: String,
    credentials: Credentials,
}

enum Credentials {
    Account(Account),
    App(Installation),
}

impl GitHub {
    pub fn new(address: &Address, account: Account, roots: Option<&Path>) -> Result<Self, ForgeError> {
        let api = Api::new(address, roots)?;
        let (owner, name) = address.repository.split_once('/').unwrap_or_default();
        let repository = format!("/repos/{}/{}", segment(owner), segment(name));
        let credentials = match account {
            Account::App(app) => Credentials::App(Installation::new(app, name)),
            account => Credentials::Account(account),
        };
        Ok(Self { api, repository, credentials })
    }

    fn token(&self) -> Result<String, ForgeError> {
        match &self.credentials {
            Credentials::Account(account) => account.token(),
            Credentials::App(installation) => installation.token(&self.api, &self.repository),
        }
    }

    /// Does it with the headers of a request that is allowed.
    fn allowed<T>(&self, ask: impl FnOnce(&[(&str, &str)]) -> Result<T, ForgeError>) -> Result<T, ForgeError> {
        let authorization = format!("Bearer {}", self.token()?);
        let answer = ask(&[VERSION, ACCEPT, ("authorization", &authorization)]);
        if let (Err(ForgeError::Forbidden { .. }), Credentials::App(installation)) = (&answer, &self.credentials) {
            // A token of an installation may be taken away before it ends; the next request asks for another one.
            installation.forget();
        }
        answer
    }

    /// `None` where there is none.
    fn get(&self, path: &str, what: &str) -> Result<Option<Value>, ForgeError> {
        let answer = self.allowed(|headers| self.api.ask(&Call::get(path, what, headers)))?;
        match answer.status {
            404 => Ok(None),
            _ => self.api.taken(what, &answer).map(Some),
        }
    }

    /// Entries of a list of the repository, up to the first that is not wanted.
    fn list(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Vec<Value>, ForgeError> {
        let path = format!("{}{path}", self.repository);
        let found = self.allowed(|headers| {
            self.api.pages(&Call::get(&path, what, headers), |answer, _| next_link(answer), array, wanted)
        })?;
        found.ok_or_else(|| self.api.forbidden(what, "there is none, or it is not shown to us"))
    }

    /// Whatever is answered to a request that changes something.
    fn send(&self, method: Method, path: &str, body: Option<&Value>, what: &str) -> Result<Answer, ForgeError> {
        let path = format!("{}{path}", self.repository);
        self.allowed(|headers| self.api.ask(&Call::send(method, &path, body, what, headers).creates()))
    }

    /// That something is not there is believed of a repository that is shown to us: one that is not answers the same.
    fn must_see(&self, what: &str) -> Result<(), ForgeError> {
        match self.get(&self.repository, what)? {
            Some(_) => Ok(()),
            None => Err(self.api.forbidden(what, "the repository is not there, or not shown to us")),
        }
    }

    fn read(&self, pull: &Value) -> Change {
        let merged = !pull["merged_at"].is_null();
        let (head, base) = (&pull["head"], &pull["base"]);
        let number = pull["number"].as_u64().unwrap_or(0);
        let labels = pull["labels"].as_array().into_iter().flatten();
        let same = id(&head["repo"]["id"]) == id(&base["repo"]["id"]);
        Change {
            number,
            title: text(&pull["title"]),
            url: text(&pull["html_url"]),
            author: person(&pull["user"]),
            state: match pull["state"].as_str() {
                _ if merged => ChangeState::Merged,
                Some("open") => ChangeState::Open,
                _ => ChangeState::Closed,
            },
            draft: pull["draft"] == true,
            head: Head {
                branch: text(&head["ref"]),
                commit: text(&head["sha"]),
                // A fork that was deleted has no repository.
                fork: (!same).then(|| text(&head["repo"]["full_name"])),
                reference: Some(format!("refs/pull/{number}/head")),
            },
            base: text(&base["ref"]),
            merged_as: pull["merge_commit_sha"].as_str().filter(|_| merged).map(str::to_owned),
            labels: labels.map(|label| text(&label["name"])).collect(),
            updated_at: micros(&pull["updated_at"]),
        }
    }
}

/// An account that was deleted has none.
fn person(user: &Value) -> Person {
    Person { id: id(&user["id"]), login: text(&user["login"]) }
}

fn comment(value: &Value) -> Comment {
    Comment {
        id: id(&value["id"]),
        author: person(&value["user"]),
        body: text(&value["body"]),
        created_at: micros(&value["created_at"]),
        updated_at: micros(&value["updated_at"]),
    }
}

/// A commit of a change; Gitea tells it alike.
pub(super) fn commit(value: &Value) -> Commit {
    let signed = |role: &str| {
        let (git, account) = (&value["commit"][role], &value[role]);
        let has_account = account["login"].as_str().is_some_and(|login| !login.is_empty());
        signature(&git["name"], &git["email"], has_account.then(|| person(account)))
    };
    Commit { id: text(&value["sha"]), author: signed("author"), committer: Some(signed("committer")) }
}

/// As the API wants a time.
fn time(at: Micros) -> String {
    let seconds = jiff::Timestamp::from_second(at.div_euclid(1_000_000)).unwrap_or_default();
    segment(&seconds.to_string())
}

impl Forge for GitHub {
    fn limits(&self) -> Limits {
        Limits { comment_chars: 65_536, comment_bytes: 4 * 65_536 }
    }

    fn me(&self) -> Result<Person, ForgeError> {
        let what = "say who we are";
        let login = match &self.credentials {
            // Tokens of jobs of Actions, and of apps, are nobody's here; another API tells all the same.
            Credentials::Account(account) if account.token()?.starts_with(OF_INSTALLATION) => return self.viewer(what),
            Credentials::Account(_) => {
                let user = self.allowed(|headers| self.api.done(&Call::get("/user", what, headers)))?;
                return Ok(person(&user));
            }
            Credentials::App(installation) => format!("{}[bot]", installation.slug(&self.api)?),
        };
        let user = self.get(&format!("/users/{}", segment(&login)), what)?;
        user.map(|user| person(&user)).ok_or_else(|| self.api.odd(what))
    }

    fn changes(&self, states: &[ChangeState], since: Option<Micros>, most: usize) -> Result<Vec<Change>, ForgeError> {
        let state = match (states.contains(&ChangeState::Open), states.iter().any(|state| *state != ChangeState::Open))
        {
            (true, false) => "open",
            (false, true) => "closed",
            _ => "all",
        };
        let size = if (1..100).contains(&most) { most } else { 100 };
        let path = format!("/pulls?state={state}&sort=updated&direction=desc&per_page={size}");
        let taken = std::cell::Cell::new(0);
        let found = self.list(&path, "list the changes", |pull| {
            let wanted = states.contains(&self.read(pull).state);
            taken.set(taken.get() + usize::from(wanted));
            taken.get() <= most
                && since.is_none_or(|since| micros(&pull["updated_at"]) >= since.div_euclid(1_000_000) * 1_000_000)
        })?;
        let changes = found.iter().map(|pull| self.read(pull));
        Ok(changes.filter(|change| states.contains(&change.state)).collect())
    }

    fn change(&self, number: u64) -> Result<Option<Change>, ForgeError> {
        let what = format!("read #{number}");
        let pull = self.get(&format!("{}/pulls/{number}", self.repository), &what)?;
        if pull.is_none() {
            self.must_see(&what)?;
        }
        Ok(pull.map(|pull| self.read(&pull)))
    }

    fn commits(&self, number: u64) -> Result<Vec<Commit>, ForgeError> {
        let path = format!("/pulls/{number}/commits?per_page=100");
        let found = self.list(&path, &format!("read the commits of #{number}"), |_| true)?;
        let mut commits: Vec<Commit> = found.iter().map(commit).collect();
        if commits.len() >= COMMITS {
            let author = Signature { name: format!("the commits after the first {COMMITS}"), person: None };
            commits.push(Commit { id: String::new(), author, committer: None });
        }
        Ok(commits)
    }

    fn comments(&self, number: u64, since: Option<Micros>) -> Result<Vec<Comment>, ForgeError> {
        let since = since.map(|since| format!("&since={}", time(since))).unwrap_or_default();
        let path = format!("/issues/{number}/comments?per_page=100{since}");
        let found = self.list(&path, &format!("read the comments of #{number}"), |_| true)?;
        Ok(found.iter().map(comment).collect())
    }

    fn comment_create(&self, number: u64, body: &str) -> Result<Comment, ForgeError> {
        let what = format!("comment on #{number}");
        let path = format!("/issues/{number}/comments");
        let answer = self.send(Method::POST, &path, Some(&json!({ "body": body })), &what)?;
        self.api.taken(&what, &answer).map(|made| comment(&made))
    }

    fn comment_update(&self, number: u64, comment: &str, body: &str) -> Result<bool, ForgeError> {
        let what = format!("change a comment on #{number}");
        let path = format!("/issues/comments/{}", segment(comment));
        let answer = self.send(Method::PATCH, &path, Some(&json!({ "body": body })), &what)?;
        if answer.status == 404 {
            return self.must_see(&what).map(|()| false);
        }
        self.api.taken(&what, &answer).map(|_| true)
    }

    fn react(&self, number: u64, comment: &str, reaction: Reaction) -> Result<bool, ForgeError> {
        let what = format!("react to a comment on #{number}");
        let content = match reaction {
            Reaction::Seen => "eyes",
            Reaction::Refused => "-1",
        };
        let path = format!("/issues/comments/{}/reactions", segment(comment));
        let answer = self.send(Method::POST, &path, Some(&json!({ "content": content })), &what)?;
        if answer.status == 404 {
            return self.must_see(&what).map(|()| true);
        }
        self.api.taken(&what, &answer).map(|_| true)
    }

    fn reviews(&self, number: u64) -> Result<Vec<ForgeReview>, ForgeError> {
        let what = format!("read the reviews of #{number}");
        // In the order in which they were given.
        let found = self.list(&format!("/pulls/{number}/reviews?per_page=100"), &what, |_| true)?;
        let mut reviews: Vec<ForgeReview> = Vec::new();
        for review in &found {
            let person = person(&review["user"]);
            let opinion = match review["state"].as_str() {
                Some("APPROVED") => Some(Opinion::Approves),
                Some("CHANGES_REQUESTED") => Some(Opinion::Refuses),
                Some("DISMISSED") => None,
                // A remark changes nothing, nor does what is not sent yet.
                _ => continue,
            };
            reviews.retain(|earlier| earlier.person.id != person.id);
            if let Some(opinion) = opinion {
                let commit = review["commit_id"].as_str().map(str::to_owned);
                reviews.push(ForgeReview { person, opinion, commit, at: micros(&review["submitted_at"]) });
            }
        }
        Ok(reviews)
    }

    fn check_set(&self, commit: &str, check: &Check) -> Result<(), ForgeError> {
        let what = format!("set the status {}", check.name);
        let state = match check.state {
            CheckState::Pending => "pending",
            CheckState::Success => "success",
            CheckState::Failure => "failure",
            CheckState::Error => "error",
        };
        let body = json!({
            "state": state, "context": check.name, "description": cut(&check.text, DESCRIPTION), "target_url": check.url,
        });
        let answer = self.send(Method::POST, &format!("/statuses/{}", segment(commit)), Some(&body), &what)?;
        self.api.taken(&what, &answer).map(drop)
    }

    fn labels_change(&self, number: u64, add: &[String], remove: &[String]) -> Result<(), ForgeError> {
        let what = format!("label #{number}");
        for label in remove {
            let path = format!("/issues/{number}/labels/{}", segment(label));
            let answer = self.send(Method::DELETE, &path, None, &what)?;
            if answer.status != 404 {
                self.api.taken(&what, &answer)?;
            }
        }
        if !add.is_empty() {
            let path = format!("/issues/{number}/labels");
            let answer = self.send(Method::POST, &path, Some(&json!({ "labels": add })), &what)?;
            self.api.taken(&what, &answer)?;
        }
        Ok(())
    }

    fn merge(&self, number: u64, commit: &str, method: MergeMethod) -> Result<Merged, ForgeError> {
        let what = format!("merge #{number}");
        let method = match method {
            MergeMethod::Merge => "merge",
            MergeMethod::Squash => "squash",
            MergeMethod::Rebase => "rebase",
        };
        let body = json!({ "sha": commit, "merge_method": method });
        let answer = self.send(Method::PUT, &format!("/pulls/{number}/merge"), Some(&body), &what)?;
        match answer.status {
            405 | 409 | 422 => match self.change(number)? {
                Some(Change { state: ChangeState::Merged, merged_as, .. }) => Ok(Merged::Done(merged_as)),
                _ => Ok(Merged::Refused(answer.said())),
            },
            _ => {
                let merged = self.api.taken(&what, &answer)?;
                Ok(Merged::Done(merged["sha"].as_str().map(str::to_owned)))
            }
        }
    }

    fn branch_delete(&self, branch: &str) -> Result<(), ForgeError> {
        let what = format!("delete the branch {branch}");
        let name: Vec<String> = branch.split('/').map(segment).collect();
        let answer = self.send(Method::DELETE, &format!("/git/refs/heads/{}", name.join("/")), None, &what)?;
        match answer.status {
            404 => self.must_see(&what),
            422 if answer.said().contains("does not exist") => Ok(()),
            _ => self.api.taken(&what, &answer).map(drop),
        }
    }

    fn is_member(&self, team: &str, person: &Person) -> Result<bool, ForgeError> {
        let what = format!("look into the team {team}");
        let Some((organisation, slug)) = team.split_once('/') else { return Ok(false) };
        let path = format!("/orgs/{}/teams/{}", segment(organisation), segment(slug));
        let found = self.get(&format!("{path}/memberships/{}", segment(&person.login)), &what)?;
        if found.is_none() && self.get(&path, &what)?.is_none() {
            return Err(self.api.forbidden(&what, "the team is not there, or not shown to us"));
        }
        Ok(found.is_some_and(|membership| membership["state"] == "active"))
    }

    fn budget(&self) -> Option<Budget> {
        self.api.budget()
    }
}

impl GitHub {
    /// Whose token this is, as the GraphQL API tells.
    fn viewer(&self, what: &str) -> Result<Person, ForgeError> {
        let base = self.api.base();
        // Of Enterprise it is beside the versions of the other API.
        let url = format!("{}/graphql", base.strip_suffix("/v3").unwrap_or(base));
        let query = json!({ "query": "{ viewer { login databaseId } }" });
        let answer =
            self.allowed(|headers| self.api.done(&Call::send(Method::POST, &url, Some(&query), what, headers)))?;
        let viewer = &answer["data"]["viewer"];
        let person = Person { id: id(&viewer["databaseId"]), login: text(&viewer["login"]) };
        if person.login.is_empty() { Err(self.api.odd(what)) } else { Ok(person) }
    }
}

#[cfg(test)]
mod tests;
