//! Gitea and Forgejo, which answer alike, by version 1 of their API.

use super::access::Access;
use super::api::{array, cut, id, micros, segment, text};
use super::settings::{Account, Address};
use super::{Forge, ForgeError, Limits};
use serde_json::{Value, json};
use std::cell::Cell;
use std::path::Path;
use std::time::Duration;
use ureq::http::Method;
use windlass_model::Micros;
use windlass_model::change::{
    Budget, Change, ChangeState, Check, CheckState, Comment, Commit, ForgeReview, Head, MergeMethod, Merged, Opinion,
    Person, Reaction,
};

/// A sentence of a status, letters.
const DESCRIPTION: usize = 255;
/// What a label that nobody made before looks like.
const COLOUR: &str = "#ededed";
/// Entries of a page: no server gives more unless it is told to.
const PAGE: usize = 50;
/// How often it is asked again to merge, and after what time.
const CHECKS: usize = 8;
const CHECK: Duration = Duration::from_secs(1);

pub(super) struct Gitea {
    access: Access,
}

impl Gitea {
    pub fn new(address: &Address, account: Account, roots: Option<&Path>) -> Result<Self, ForgeError> {
        let (owner, name) = address.repository.split_once('/').unwrap_or_default();
        let repository = format!("/repos/{}/{}", segment(owner), segment(name));
        let access = Access::new(address, repository, account, |token| format!("token {token}"), roots)?;
        Ok(Self { access })
    }

    /// Numbers of labels that a change has, by their names.
    fn labels(&self, path: &str, what: &str) -> Result<Vec<(String, u64)>, ForgeError> {
        let found = self.access.list(&format!("{path}?limit={PAGE}"), what, |_| true)?;
        Ok(found.iter().filter_map(|label| Some((text(&label["name"]), label["id"].as_u64()?))).collect())
    }
}

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

fn change(pull: &Value) -> Change {
    let (head, base) = (&pull["head"], &pull["base"]);
    let number = pull["number"].as_u64().unwrap_or(0);
    let labels = pull["labels"].as_array().into_iter().flatten();
    let merged = pull["merged"] == true;
    // `ref` is another reference when the branch is gone; one that was pushed to `refs/for/…` has no branch.
    let branch =
        head["label"].as_str().filter(|label| !label.is_empty()).map_or_else(|| text(&head["ref"]), str::to_owned);
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
            branch,
            commit: text(&head["sha"]),
            // A fork that was deleted has no repository.
            fork: (id(&head["repo"]["id"]) != id(&base["repo"]["id"])).then(|| text(&head["repo"]["full_name"])),
            reference: Some(format!("refs/pull/{number}/head")),
        },
        base: text(&base["ref"]),
        merged_as: pull["merge_commit_sha"].as_str().filter(|_| merged).map(str::to_owned),
        labels: labels.map(|label| text(&label["name"])).collect(),
        updated_at: micros(&pull["updated_at"]),
    }
}

impl Forge for Gitea {
    fn limits(&self) -> Limits {
        // No limit is documented: what GitHub takes, since comments look alike there.
        Limits { comment_chars: 65_536, comment_bytes: 4 * 65_536 }
    }

    fn me(&self) -> Result<Person, ForgeError> {
        let what = "say who we are";
        let user = self.access.get("/user", what)?;
        user.map(|user| person(&user)).ok_or_else(|| self.access.api.odd(what))
    }

    fn changes(&self, states: &[ChangeState], since: Option<Micros>, most: usize) -> Result<Vec<Change>, ForgeError> {
        let state = match (states.contains(&ChangeState::Open), states.iter().any(|state| *state != ChangeState::Open))
        {
            (true, false) => "open",
            (false, true) => "closed",
            _ => "all",
        };
        let path = format!("/pulls?state={state}&sort=recentupdate&limit={}", most.clamp(1, PAGE));
        // Times have no parts of a second here.
        let since = since.map(|since| since.div_euclid(1_000_000) * 1_000_000);
        let taken = Cell::new(0);
        let found = self.access.list(&path, "list the changes", |pull| {
            let pull = change(pull);
            taken.set(taken.get() + usize::from(states.contains(&pull.state)));
            taken.get() <= most && since.is_none_or(|since| pull.updated_at >= since)
        })?;
        Ok(found.iter().map(change).filter(|change| states.contains(&change.state)).collect())
    }

    fn change(&self, number: u64) -> Result<Option<Change>, ForgeError> {
        let what = format!("read #{number}");
        let pull = self.access.get(&self.access.at(format!("/pulls/{number}")), &what)?;
        if pull.is_none() {
            self.access.must_see(&what)?;
        }
        Ok(pull.as_ref().map(change))
    }

    fn commits(&self, number: u64) -> Result<Vec<Commit>, ForgeError> {
        let path = format!("/pulls/{number}/commits?verification=false&files=false&limit={PAGE}");
        let found = self.access.list(&path, &format!("read the commits of #{number}"), |_| true)?;
        Ok(found.iter().map(super::github::commit).collect())
    }

    fn comments(&self, number: u64, since: Option<Micros>) -> Result<Vec<Comment>, ForgeError> {
        let since = since.map(|since| jiff::Timestamp::from_second(since.div_euclid(1_000_000)).unwrap_or_default());
        let since = since.map(|since| format!("&since={}", segment(&since.to_string()))).unwrap_or_default();
        let path = format!("/issues/{number}/comments?limit={PAGE}{since}");
        let found = self.access.list(&path, &format!("read the comments of #{number}"), |_| true)?;
        Ok(found.iter().map(comment).collect())
    }

    fn comment_create(&self, number: u64, body: &str) -> Result<Comment, ForgeError> {
        let what = format!("comment on #{number}");
        let path = self.access.at(format!("/issues/{number}/comments"));
        let answer = self.access.send(Method::POST, &path, Some(&json!({ "body": body })), &what)?;
        self.access.api.taken(&what, &answer).map(|made| comment(&made))
    }

    fn comment_update(&self, number: u64, comment: &str, body: &str) -> Result<bool, ForgeError> {
        let what = format!("change a comment on #{number}");
        let path = self.access.at(format!("/issues/comments/{}", segment(comment)));
        let answer = self.access.send(Method::PATCH, &path, Some(&json!({ "body": body })), &what)?;
        if answer.status == 404 {
            return self.access.must_see(&what).map(|()| false);
        }
        self.access.api.taken(&what, &answer).map(|_| true)
    }

    fn react(&self, number: u64, comment: &str, reaction: Reaction) -> Result<bool, ForgeError> {
        let what = format!("react to a comment on #{number}");
        let content = match reaction {
            Reaction::Seen => "eyes",
            Reaction::Refused => "-1",
        };
        let path = self.access.at(format!("/issues/comments/{}/reactions", segment(comment)));
        let answer = self.access.send(Method::POST, &path, Some(&json!({ "content": content })), &what)?;
        if answer.status == 404 {
            return self.access.must_see(&what).map(|()| true);
        }
        self.access.api.taken(&what, &answer).map(|_| true)
    }

    fn reviews(&self, number: u64) -> Result<Vec<ForgeReview>, ForgeError> {
        let what = format!("read the reviews of #{number}");
        let mut found = self.access.list(&format!("/pulls/{number}/reviews?limit={PAGE}"), &what, |_| true)?;
        found.sort_by_key(|review| review["id"].as_u64());
        let mut reviews: Vec<ForgeReview> = Vec::new();
        for review in &found {
            let opinion = match review["state"].as_str() {
                Some("APPROVED") => Opinion::Approves,
                Some("REQUEST_CHANGES") => Opinion::Refuses,
                // Remarks, what was not sent yet, and what others ask for.
                _ => continue,
            };
            let person = person(&review["user"]);
            reviews.retain(|earlier| earlier.person.id != person.id);
            // Whose word has no weight at the forge has none here.
            if review["dismissed"] != true && review["official"] == true {
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
            "state": state, "context": check.name, "description": cut(&check.text, DESCRIPTION),
            "target_url": check.url.as_deref().unwrap_or_default(),
        });
        let path = self.access.at(format!("/statuses/{}", segment(commit)));
        let mut answer = self.access.send(Method::POST, &path, Some(&body), &what)?;
        for _ in 0..CHECKS {
            // So it says while it still looks for conflicts, some seconds after a push, and where it has found some.
            if answer.status != 405 || !answer.said().contains("try again later") {
                break;
            }
            std::thread::sleep(CHECK);
            answer = self.access.send(Method::POST, &path, Some(&body), &what)?;
        }
        self.access.api.taken(&what, &answer).map(drop)
    }

    fn labels_change(&self, number: u64, add: &[String], remove: &[String]) -> Result<(), ForgeError> {
        let what = format!("label #{number}");
        let path = format!("/issues/{number}/labels");
        let has = self.labels(&path, &what)?;
        for (_, id) in has.iter().filter(|(name, _)| remove.contains(name)) {
            let answer = self.access.send(Method::DELETE, &self.access.at(format!("{path}/{id}")), None, &what)?;
            if answer.status != 404 {
                self.access.api.taken(&what, &answer)?;
            }
        }
        let missing: Vec<&String> = add.iter().filter(|name| !has.iter().any(|(had, _)| had == *name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let known = self.labels("/labels", &what)?;
        let mut ids = Vec::new();
        for name in missing {
            let id = match known.iter().find(|(known, _)| known == name) {
                Some((_, id)) => *id,
                None => {
                    let body = json!({ "name": name, "color": COLOUR });
                    let answer = self.access.send(Method::POST, &self.access.at("/labels"), Some(&body), &what)?;
                    let made = self.access.api.taken(&what, &answer)?;
                    made["id"].as_u64().ok_or_else(|| self.access.api.odd(&what))?
                }
            };
            ids.push(id);
        }
        let body = json!({ "labels": ids });
        let answer = self.access.send(Method::POST, &self.access.at(path), Some(&body), &what)?;
        self.access.api.taken(&what, &answer).map(drop)
    }

    fn merge(&self, number: u64, commit: &str, method: MergeMethod) -> Result<Merged, ForgeError> {
        let what = format!("merge #{number}");
        let method = match method {
            MergeMethod::Merge => "merge",
            MergeMethod::Squash => "squash",
            MergeMethod::Rebase => "rebase",
        };
        let body = json!({ "Do": method, "head_commit_id": commit });
        let path = self.access.at(format!("/pulls/{number}/merge"));
        let mut answer = self.access.send(Method::POST, &path, Some(&body), &what)?;
        for _ in 0..CHECKS {
            // So it says while it still looks for conflicts, some seconds after a push, and where it has found some.
            if answer.status != 405 || !answer.said().contains("try again later") {
                break;
            }
            std::thread::sleep(CHECK);
            answer = self.access.send(Method::POST, &path, Some(&body), &what)?;
        }
        let change = self.change(number)?;
        match (answer.status, change) {
            (_, Some(Change { state: ChangeState::Merged, merged_as, .. })) => Ok(Merged::Done(merged_as)),
            // One that was closed is not found.
            (404 | 405 | 409 | 422 | 423, Some(_)) => Ok(Merged::Refused(answer.said())),
            _ => self.access.api.taken(&what, &answer).map(|_| Merged::Done(None)),
        }
    }

    fn branch_delete(&self, branch: &str) -> Result<(), ForgeError> {
        let what = format!("delete the branch {branch}");
        let name: Vec<String> = branch.split('/').map(segment).collect();
        let path = self.access.at(format!("/branches/{}", name.join("/")));
        let answer = self.access.send(Method::DELETE, &path, None, &what)?;
        match answer.status {
            404 => self.access.must_see(&what),
            _ => self.access.api.taken(&what, &answer).map(drop),
        }
    }

    fn is_member(&self, team: &str, person: &Person) -> Result<bool, ForgeError> {
        let what = format!("look into the team {team}");
        let Some((organisation, name)) = team.split_once('/') else { return Ok(false) };
        let path = format!("/orgs/{}/teams/search?q={}&limit={PAGE}", segment(organisation), segment(name));
        // It finds those whose names contain it as well.
        let teams = self.access.numbered(&path, &what, |mut body| array(body["data"].take()), |_| true)?;
        let named = |team: &&Value| team["name"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(name));
        let Some(found) = teams.as_deref().and_then(|teams| teams.iter().find(named)) else {
            return Err(self.access.hidden(&what));
        };
        let path = format!("/teams/{}/members/{}", id(&found["id"]), segment(&person.login));
        Ok(self.access.get(&path, &what)?.is_some())
    }

    fn budget(&self) -> Option<Budget> {
        self.access.api.budget()
    }
}
