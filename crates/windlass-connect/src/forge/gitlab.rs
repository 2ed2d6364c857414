//! GitLab, by version 4 of its REST API: gitlab.com and servers of one's own.

use super::access::Access;
use super::api::{cut, id, micros, segment, signature, text};
use super::settings::{Account, Address};
use super::{Forge, ForgeError, Limits};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use ureq::http::Method;
use windlass_model::Micros;
use windlass_model::change::{
    Budget, Change, ChangeState, Check, CheckState, Comment, Commit, ForgeReview, Head, MergeMethod, Merged, Opinion,
    Person, Reaction,
};

/// A sentence of a status, and the longest address that one takes, letters.
const DESCRIPTION: usize = 255;
const TARGET: usize = 255;
/// Entries of a page, at most.
const PAGE: usize = 100;

/// Asks whose the commits of a change are, a page at a time.
const AUTHORS: &str = "query($path: ID!, $number: String!, $after: String) { project(fullPath: $path) { mergeRequest(iid: $number) \
                       { commits(first: 100, after: $after) { pageInfo { hasNextPage endCursor } \
                       nodes { sha author { id username } } } } } }";

pub(super) struct GitLab {
    access: Access,
    /// Full name of the project.
    name: String,
}

impl GitLab {
    pub fn new(address: &Address, account: Account, roots: Option<&Path>) -> Result<Self, ForgeError> {
        let repository = format!("/projects/{}", segment(&address.repository));
        let access = Access::new(address, repository, account, |token| format!("Bearer {token}"), roots)?;
        Ok(Self { access, name: address.repository.clone() })
    }

    fn read(&self, request: &Value, what: &str) -> Result<Change, ForgeError> {
        let number = request["iid"].as_u64().unwrap_or(0);
        let labels = request["labels"].as_array().into_iter().flatten();
        let state = match request["state"].as_str() {
            Some("merged") => ChangeState::Merged,
            // One is locked while it is being merged.
            Some("opened" | "locked") => ChangeState::Open,
            _ => ChangeState::Closed,
        };
        let (source, target) = (id(&request["source_project_id"]), id(&request["target_project_id"]));
        let fork = match source.as_str() {
            same if same == target => None,
            // It was deleted.
            "" => Some(String::new()),
            other => {
                let project = self.access.get(&format!("/projects/{}", segment(other)), what)?;
                Some(project.map(|project| text(&project["path_with_namespace"])).unwrap_or_default())
            }
        };
        // Without a merge commit the head itself is in the base, alone or as what was squashed.
        let merged_as = ["merge_commit_sha", "squash_commit_sha", "sha"].iter().find_map(|name| request[name].as_str());
        Ok(Change {
            number,
            title: text(&request["title"]),
            url: text(&request["web_url"]),
            author: person(&request["author"]),
            state,
            draft: request["draft"] == true,
            head: Head {
                branch: text(&request["source_branch"]),
                commit: text(&request["sha"]),
                fork,
                reference: Some(format!("refs/merge-requests/{number}/head")),
            },
            base: text(&request["target_branch"]),
            merged_as: merged_as.filter(|_| state == ChangeState::Merged).map(str::to_owned),
            labels: labels.map(text).collect(),
            updated_at: micros(&request["updated_at"]),
        })
    }

    fn request(number: u64) -> String {
        format!("/merge_requests/{number}")
    }

    /// The accounts of those who wrote the commits of a change, by commit: the other API alone knows them. What servers do not know
    /// that are too old is nothing.
    fn accounts(&self, number: u64, what: &str) -> Result<BTreeMap<String, Person>, ForgeError> {
        let base = self.access.api.base();
        let url = format!("{}/graphql", base.strip_suffix("/v4").unwrap_or(base));
        let (mut found, mut after) = (BTreeMap::new(), Value::Null);
        loop {
            let variables = json!({ "path": self.name, "number": number.to_string(), "after": after });
            let body = json!({ "query": AUTHORS, "variables": variables });
            let answer = self.access.send(Method::POST, &url, Some(&body), what)?;
            let commits = self.access.api.taken(what, &answer)?["data"]["project"]["mergeRequest"]["commits"].take();
            for commit in commits["nodes"].as_array().into_iter().flatten() {
                let author = &commit["author"];
                // `gid://gitlab/User/12`.
                let Some((_, id)) = author["id"].as_str().and_then(|id| id.rsplit_once('/')) else { continue };
                found.insert(text(&commit["sha"]), Person { id: id.to_owned(), login: text(&author["username"]) });
            }
            if commits["pageInfo"]["hasNextPage"] != true || commits["pageInfo"]["endCursor"] == after {
                return Ok(found);
            }
            after = commits["pageInfo"]["endCursor"].clone();
        }
    }

    /// When these people last said that, which older servers tell in the history alone.
    fn said(&self, number: u64, wanted: &[(String, &str)], what: &str) -> Result<BTreeMap<String, Micros>, ForgeError> {
        let mut times = BTreeMap::new();
        if wanted.is_empty() {
            return Ok(times);
        }
        let missing = Cell::new(wanted.len());
        let is_one = |note: &Value| {
            let (author, body) = (id(&note["author"]["id"]), note["body"].as_str().unwrap_or_default());
            note["system"] == true && wanted.iter().any(|(id, word)| *id == author && body.starts_with(word))
        };
        let path = format!("{}/notes?order_by=created_at&sort=desc&per_page={PAGE}", Self::request(number));
        let found = self.access.list(&path, what, |note| {
            let before = missing.get();
            if before > 0 && is_one(note) {
                missing.set(before - 1);
            }
            before > 0
        })?;
        for note in found.iter().filter(|note| is_one(note)) {
            times.entry(id(&note["author"]["id"])).or_insert_with(|| micros(&note["created_at"]));
        }
        Ok(times)
    }
}

fn person(user: &Value) -> Person {
    Person { id: id(&user["id"]), login: text(&user["username"]) }
}

fn comment(note: &Value) -> Comment {
    Comment {
        id: id(&note["id"]),
        author: person(&note["author"]),
        body: text(&note["body"]),
        created_at: micros(&note["created_at"]),
        updated_at: micros(&note["updated_at"]),
    }
}

/// The account that an address is of which the forge made for it, such as `12-anna@users.noreply.gitlab.com`.
fn of_address(mail: &str) -> Option<Person> {
    let (account, host) = mail.split_once('@')?;
    let (id, login) = account.split_once('-')?;
    let is_one = host.starts_with("users.noreply.") && id.bytes().all(|digit| digit.is_ascii_digit());
    is_one.then(|| Person { id: id.to_owned(), login: login.to_owned() })
}

/// Neither what the forge itself notes nor what is said about a line.
fn is_comment(note: &Value) -> bool {
    note["system"] != true && note["type"] != "DiffNote"
}

/// A text in which no line is a command to GitLab, such as `/merge`: what it shows may be anything.
fn harmless(body: &str) -> Cow<'_, str> {
    let is_command = |line: &str| {
        let word = line.trim_start().strip_prefix('/');
        word.is_some_and(|word| word.starts_with(|letter: char| letter.is_ascii_alphabetic()))
    };
    if !body.lines().any(is_command) {
        return Cow::Borrowed(body);
    }
    let mut fence: Option<&str> = None;
    let lines = body.split_inclusive('\n').map(|line| {
        let trimmed = line.trim_start();
        let marks = trimmed.len() - trimmed.trim_start_matches(['`', '~']).len();
        let mark = &trimmed[..marks];
        match fence {
            // What is in a block of code is nothing but shown.
            Some(open) if mark.starts_with(open) && trimmed[marks..].trim().is_empty() => fence = None,
            Some(_) => {}
            None if marks >= 3 && (mark.bytes().all(|b| b == b'`') || mark.bytes().all(|b| b == b'~')) => {
                fence = Some(mark)
            }
            None if is_command(line) => return line.replacen('/', "\\/", 1),
            None => {}
        }
        line.to_owned()
    });
    Cow::Owned(lines.collect())
}

impl Forge for GitLab {
    fn limits(&self) -> Limits {
        // A backslash may be put before some lines.
        Limits { comment_chars: 990_000, comment_bytes: 4 * 990_000 }
    }

    fn me(&self) -> Result<Person, ForgeError> {
        let what = "say who we are";
        let user = self.access.get("/user", what)?;
        user.map(|user| person(&user)).ok_or_else(|| self.access.api.odd(what))
    }

    fn changes(&self, states: &[ChangeState], since: Option<Micros>, most: usize) -> Result<Vec<Change>, ForgeError> {
        let what = "list the changes";
        let state = match states {
            [ChangeState::Open] => "opened",
            [ChangeState::Merged] => "merged",
            [ChangeState::Closed] => "closed",
            _ => "all",
        };
        let since = since.map(|since| jiff::Timestamp::from_millisecond(since.div_euclid(1_000)).unwrap_or_default());
        let since = since.map(|since| format!("&updated_after={}", segment(&since.to_string()))).unwrap_or_default();
        let size = most.clamp(1, PAGE);
        let path = format!("/merge_requests?state={state}&order_by=updated_at&sort=desc&per_page={size}{since}");
        let is_wanted = |request: &Value| match request["state"].as_str() {
            Some("merged") => states.contains(&ChangeState::Merged),
            Some("opened" | "locked") => states.contains(&ChangeState::Open),
            _ => states.contains(&ChangeState::Closed),
        };
        let taken = Cell::new(0);
        let found = self.access.list(&path, what, |request| {
            taken.set(taken.get() + usize::from(is_wanted(request)));
            taken.get() <= most
        })?;
        found.iter().filter(|request| is_wanted(request)).map(|request| self.read(request, what)).collect()
    }

    fn change(&self, number: u64) -> Result<Option<Change>, ForgeError> {
        let what = format!("read !{number}");
        match self.access.get(&self.access.at(Self::request(number)), &what)? {
            Some(request) => self.read(&request, &what).map(Some),
            None => self.access.must_see(&what).map(|()| None),
        }
    }

    fn commits(&self, number: u64) -> Result<Vec<Commit>, ForgeError> {
        let what = format!("read the commits of !{number}");
        let path = format!("{}/commits?per_page={PAGE}", Self::request(number));
        let found = self.access.list(&path, &what, |_| true)?;
        let accounts = self.accounts(number, &what)?;
        let commit = |value: &Value| {
            let account = |mail: &Value| of_address(mail.as_str()?);
            let (author, committer) = (&value["author_email"], &value["committer_email"]);
            let id = text(&value["id"]);
            let wrote = accounts.get(&id).cloned().or_else(|| account(author));
            Commit {
                author: signature(&value["author_name"], author, wrote),
                committer: Some(signature(&value["committer_name"], committer, account(committer))),
                id,
            }
        };
        Ok(found.iter().map(commit).collect())
    }

    fn comments(&self, number: u64, since: Option<Micros>) -> Result<Vec<Comment>, ForgeError> {
        let what = format!("read the comments of !{number}");
        let order = if since.is_some() { "order_by=updated_at&sort=desc" } else { "order_by=created_at&sort=asc" };
        let path = format!("{}/notes?{order}&per_page={PAGE}", Self::request(number));
        // Times have thousandths of a second.
        let since = since.map(|since| since.div_euclid(1_000) * 1_000);
        let is_new = |note: &Value| since.is_none_or(|since| micros(&note["updated_at"]) >= since);
        let found = self.access.list(&path, &what, is_new)?;
        let mut comments: Vec<Comment> = found.iter().filter(|note| is_comment(note)).map(comment).collect();
        comments.sort_by_key(|comment| (comment.created_at, comment.id.parse::<u64>().unwrap_or(0)));
        Ok(comments)
    }

    fn comment_create(&self, number: u64, body: &str) -> Result<Comment, ForgeError> {
        let what = format!("comment on !{number}");
        let path = self.access.at(format!("{}/notes", Self::request(number)));
        let answer = self.access.send(Method::POST, &path, Some(&json!({ "body": harmless(body) })), &what)?;
        self.access.api.taken(&what, &answer).map(|made| comment(&made))
    }

    fn comment_update(&self, number: u64, comment: &str, body: &str) -> Result<bool, ForgeError> {
        let what = format!("change a comment on !{number}");
        let path = self.access.at(format!("{}/notes/{}", Self::request(number), segment(comment)));
        let answer = self.access.send(Method::PUT, &path, Some(&json!({ "body": harmless(body) })), &what)?;
        if answer.status == 404 {
            return self.access.must_see(&what).map(|()| false);
        }
        self.access.api.taken(&what, &answer).map(|_| true)
    }

    fn react(&self, number: u64, comment: &str, reaction: Reaction) -> Result<bool, ForgeError> {
        let what = format!("react to a comment on !{number}");
        let name = match reaction {
            Reaction::Seen => "eyes",
            Reaction::Refused => "thumbsdown",
        };
        let path = self.access.at(format!("{}/notes/{}/award_emoji", Self::request(number), segment(comment)));
        let answer = self.access.send(Method::POST, &path, Some(&json!({ "name": name })), &what)?;
        match answer.status {
            // So it says that it is there as well.
            404 if answer.said().contains("already been taken") => Ok(true),
            404 => self.access.must_see(&what).map(|()| true),
            _ => self.access.api.taken(&what, &answer).map(|_| true),
        }
    }

    fn reviews(&self, number: u64) -> Result<Vec<ForgeReview>, ForgeError> {
        let what = format!("read the approvals of !{number}");
        let approvals = self.access.get(&self.access.at(format!("{}/approvals", Self::request(number))), &what)?;
        let approvals = approvals.ok_or_else(|| self.access.hidden(&what))?;
        // Older servers know of no reviewers.
        let reviewers = self.access.get(&self.access.at(format!("{}/reviewers", Self::request(number))), &what)?;
        let refusals = reviewers.iter().filter_map(Value::as_array).flatten();
        let refusals: Vec<&Value> = refusals.filter(|reviewer| reviewer["state"] == "requested_changes").collect();
        let refuses = |person: &Value| refusals.iter().any(|reviewer| reviewer["user"]["id"] == person["id"]);
        let approvals = approvals["approved_by"].as_array().cloned().unwrap_or_default();
        let approvals: Vec<&Value> = approvals.iter().filter(|approval| !refuses(&approval["user"])).collect();
        let untold = approvals.iter().filter(|approval| !approval["approved_at"].is_string());
        let untold = untold.map(|approval| (id(&approval["user"]["id"]), "approved this merge request"));
        let wanted = untold.chain(refusals.iter().map(|reviewer| (id(&reviewer["user"]["id"]), "requested changes")));
        let times = self.said(number, &wanted.collect::<Vec<_>>(), &what)?;
        let review = |of: &Value, opinion: Opinion| {
            let person = person(&of["user"]);
            let told = of["approved_at"].is_string().then(|| micros(&of["approved_at"]));
            let at = told.or_else(|| times.get(&person.id).copied()).unwrap_or(0);
            ForgeReview { person, opinion, commit: None, at }
        };
        let approvals = approvals.into_iter().map(|approval| review(approval, Opinion::Approves));
        Ok(approvals.chain(refusals.iter().map(|reviewer| review(reviewer, Opinion::Refuses))).collect())
    }

    fn check_set(&self, commit: &str, check: &Check) -> Result<(), ForgeError> {
        let what = format!("set the status {}", check.name);
        let state = match check.state {
            CheckState::Pending => "pending",
            CheckState::Success => "success",
            CheckState::Failure | CheckState::Error => "failed",
        };
        let mut body = json!({ "state": state, "name": check.name, "description": cut(&check.text, DESCRIPTION) });
        if let Some(url) = check.url.as_deref().filter(|url| url.chars().count() <= TARGET) {
            body["target_url"] = url.into();
        }
        let path = self.access.at(format!("/statuses/{}", segment(commit)));
        let answer = self.access.send(Method::POST, &path, Some(&body), &what)?;
        // What is pending cannot become pending again, with whatever words.
        if answer.status == 400 && state == "pending" && answer.said().contains("Cannot transition status") {
            return Ok(());
        }
        self.access.api.taken(&what, &answer).map(drop)
    }

    fn labels_change(&self, number: u64, add: &[String], remove: &[String]) -> Result<(), ForgeError> {
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let what = format!("label !{number}");
        let body = json!({ "add_labels": add.join(","), "remove_labels": remove.join(",") });
        let answer = self.access.send(Method::PUT, &self.access.at(Self::request(number)), Some(&body), &what)?;
        self.access.api.taken(&what, &answer).map(drop)
    }

    fn merge(&self, number: u64, commit: &str, method: MergeMethod) -> Result<Merged, ForgeError> {
        let what = format!("merge !{number}");
        // Whether there is a merge commit is the project's to say.
        let body = json!({ "sha": commit, "squash": method == MergeMethod::Squash });
        let path = self.access.at(format!("{}/merge", Self::request(number)));
        let answer = self.access.send(Method::PUT, &path, Some(&body), &what)?;
        match (answer.status, self.change(number)?) {
            (_, Some(Change { state: ChangeState::Merged, merged_as, .. })) => Ok(Merged::Done(merged_as)),
            (200..=299, Some(_)) => Ok(Merged::Refused("it is not merged yet".into())),
            (405 | 406 | 409 | 422, Some(_)) => Ok(Merged::Refused(answer.said())),
            _ => self.access.api.taken(&what, &answer).map(|_| Merged::Done(None)),
        }
    }

    fn branch_delete(&self, branch: &str) -> Result<(), ForgeError> {
        let what = format!("delete the branch {branch}");
        let path = self.access.at(format!("/repository/branches/{}", segment(branch)));
        let answer = self.access.send(Method::DELETE, &path, None, &what)?;
        match answer.status {
            404 => self.access.must_see(&what),
            _ => self.access.api.taken(&what, &answer).map(drop),
        }
    }

    fn is_member(&self, team: &str, person: &Person) -> Result<bool, ForgeError> {
        let what = format!("look into the group {team}");
        let path = format!("/groups/{}", segment(team));
        let found = self.access.get(&format!("{path}/members/all/{}", segment(&person.id)), &what)?;
        // A name without a slash may be somebody's account as well.
        if found.is_none()
            && team.contains('/')
            && self.access.get(&format!("{path}?with_projects=false"), &what)?.is_none()
        {
            return Err(self.access.hidden(&what));
        }
        Ok(found.is_some_and(|member| member["state"] == "active"))
    }

    fn budget(&self) -> Option<Budget> {
        self.access.api.budget()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_a_command() {
        let check = |text: &str, want: &str| assert_eq!(harmless(text), want);
        check("a plan\n- /merge", "a plan\n- /merge");
        check("/merge\nplain", "\\/merge\nplain");
        check("a\n  /approve\n/1", "a\n  \\/approve\n/1");
        check("```\n/merge\n```\n/close", "```\n/merge\n```\n\\/close");
        check("````text\n```\n/merge\n````\n/close", "````text\n```\n/merge\n````\n\\/close");
        check("~~~\n/merge\n```\n/merge\n~~~\n", "~~~\n/merge\n```\n/merge\n~~~\n");
    }
}
