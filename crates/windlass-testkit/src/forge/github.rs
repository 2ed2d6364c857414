//! GitHub's REST API, as its documentation of version 2022-11-28 has it: what one needs to follow and answer pull requests, as a
//! person with a token or as an app. Enterprise is the same below `/api/v3`.

mod app;

pub use app::App;

use super::repository::Written;
use super::server::{Asked, Reply};
use super::state::{
    Budget, Change, ChangeState, Comment, Happening, Hindrance, REPOSITORY, Review, Right, State, Status, Token, What,
    Word,
};
use super::{Dialect, Message, Method, micros, signature, time};
use serde_json::{Value, json};
use std::time::SystemTime;

pub(super) const DIALECT: Dialect = Dialect {
    name: "GitHub",
    reference: |number| Some(format!("refs/pull/{number}/head")),
    answer,
    message,
    headers: |message, id, secret| {
        vec![
            ("user-agent".into(), "GitHub-Hookshot/0000000".into()),
            ("x-github-event".into(), message.event.clone()),
            ("x-github-delivery".into(), id.to_owned()),
            ("x-hub-signature-256".into(), format!("sha256={}", signature(secret, &message.bytes()))),
        ]
    },
    budget: |budget| {
        let used = budget.limit - budget.remaining;
        let rows = [("limit", budget.limit), ("remaining", budget.remaining), ("used", used)];
        let rows = rows.map(|(name, value)| (format!("x-ratelimit-{name}"), value.to_string()));
        let more = [("x-ratelimit-reset", budget.resets_at.to_string()), ("x-ratelimit-resource", "core".to_owned())];
        rows.into_iter().chain(more.map(|(name, value)| (name.to_owned(), value))).collect()
    },
    exhausted: |budget: &Budget| {
        let mut reply = refused(403, "API rate limit exceeded for user ID 1001.");
        reply.headers = (DIALECT.budget)(budget);
        reply
    },
};

/// Longest texts that are taken, letters.
const BODY: usize = 65_536;
const DESCRIPTION: usize = 140;
/// How many commits of a change are told.
const COMMITS: usize = 250;
/// How many statuses of one name a commit takes.
const STATUSES: usize = 1_000;

fn refused(status: u16, message: &str) -> Reply {
    Reply::new(
        status,
        json!({ "message": message, "documentation_url": "https://docs.github.com/rest", "status": status.to_string() }),
    )
}

fn not_found() -> Reply {
    refused(404, "Not Found")
}

/// What is wrong with a field.
fn invalid(resource: &str, field: &str, code: &str, message: &str) -> Reply {
    let error = json!({ "resource": resource, "field": field, "code": code, "message": message });
    Reply::new(422, json!({ "message": "Validation Failed", "errors": [error], "status": "422" }))
}

fn now() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// Who asks, and with what right.
struct Caller {
    login: String,
    token: Token,
    /// The token is one of an installation of an app.
    is_app: bool,
}

impl Caller {
    fn may(&self, right: Right) -> Result<(), Reply> {
        if self.token.rights.contains(&right) {
            return Ok(());
        }
        let by = if self.is_app { "integration" } else { "personal access token" };
        Err(refused(403, &format!("Resource not accessible by {by}")))
    }
}

fn answer(state: &mut State, asked: &Asked) -> Reply {
    if asked.header("user-agent").is_none_or(str::is_empty) {
        return refused(
            403,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header",
        );
    }
    let parts = asked.parts();
    let parts = match parts.as_slice() {
        ["api", "v3", rest @ ..] => rest,
        ["api", rest @ ..] if *rest == ["graphql"] => rest,
        all => all,
    };
    let reply = match parts {
        ["app", ..] | ["repos", _, _, "installation"] => app::answer(state, asked, parts),
        _ => caller(state, asked).and_then(|caller| route(state, asked, &caller, parts)),
    };
    reply.unwrap_or_else(|refused| refused)
}

fn caller(state: &State, asked: &Asked) -> Result<Caller, Reply> {
    let Some(given) = asked.header("authorization") else { return Err(refused(401, "Requires authentication")) };
    let text = given.strip_prefix("Bearer ").or_else(|| given.strip_prefix("token "));
    let token = text.and_then(|text| state.tokens.get(text)).filter(|token| token.ends_at.is_none_or(|at| at > now()));
    let token = token.cloned().ok_or_else(|| refused(401, "Bad credentials"))?;
    let is_app = text.is_some_and(|text| text.starts_with(app::PREFIX));
    Ok(Caller { login: token.login.clone(), token, is_app })
}

fn route(state: &mut State, asked: &Asked, caller: &Caller, parts: &[&str]) -> Result<Reply, Reply> {
    let method = asked.method.as_str();
    let rest = match (method, parts) {
        ("GET", ["user"]) if caller.is_app => return Err(refused(403, "Resource not accessible by integration")),
        ("GET", ["user"]) => return Ok(Reply::new(200, user(state, &caller.login))),
        ("GET", ["users", login]) if state.people.contains_key(*login) => {
            return Ok(Reply::new(200, user(state, login)));
        }
        ("POST", ["graphql"]) => return viewer(state, asked, caller),
        ("GET", ["orgs", organisation, "teams", rest @ ..]) => return team(state, caller, organisation, rest),
        (_, ["repos", owner, name, rest @ ..]) if format!("{owner}/{name}").eq_ignore_ascii_case(REPOSITORY) => rest,
        _ => return Err(not_found()),
    };
    // What a token may not see is not there.
    caller.may(Right::Read).map_err(|_| not_found())?;
    let known = |number: &str| number.parse().ok().filter(|number| state.changes.contains_key(number));
    match (method, rest) {
        ("GET", []) => Ok(Reply::new(200, repository(state, REPOSITORY))),
        ("GET", ["pulls"]) => pulls(state, asked),
        (_, ["git", "refs", "heads", branch @ ..]) if method == "DELETE" => {
            caller.may(Right::Merge)?;
            if *branch == ["main"] {
                return Err(refused(422, "Cannot delete the default branch"));
            }
            match state.branch_delete(&caller.login, &branch.join("/")) {
                Ok(true) => Ok(Reply::empty(204)),
                _ => Err(refused(422, "Reference does not exist")),
            }
        }
        ("POST", ["statuses", commit]) => status_set(state, asked, caller, commit),
        ("GET", ["commits", commit, "status"]) => {
            let statuses: Vec<Value> = state.statuses_of(commit).iter().map(status).collect();
            Ok(Reply::new(200, json!({ "sha": commit, "total_count": statuses.len(), "statuses": statuses })))
        }
        (_, ["issues", "comments", id, rest @ ..]) => comment_of(state, asked, caller, id, rest),
        (_, ["pulls" | "issues", number, rest @ ..]) => match known(number) {
            Some(number) => of_change(state, asked, caller, number, rest),
            None => Err(not_found()),
        },
        _ => Err(not_found()),
    }
}

/// A page of a list, and where the next one is.
fn page(state: &State, asked: &Asked, list: Vec<Value>) -> Reply {
    page_of(state, asked, list, |value| value)
}

fn page_of<T>(state: &State, asked: &Asked, list: Vec<T>, write: impl Fn(T) -> Value) -> Reply {
    let size = asked.number("per_page").unwrap_or(30).clamp(1, 100);
    let page = asked.number("page").unwrap_or(1).max(1);
    let last = list.len().div_ceil(size).max(1);
    let shown: Vec<Value> = list.into_iter().skip((page - 1) * size).take(size).map(write).collect();
    let reply = Reply::new(200, Value::Array(shown));
    if page >= last {
        return reply;
    }
    let link = |page: usize, rel: &str| {
        format!("<{}{}>; rel=\"{rel}\"", state.url, asked.path_with("page", &page.to_string()))
    };
    reply.with("link", format!("{}, {}", link(page + 1, "next"), link(last, "last")))
}

fn pulls(state: &State, asked: &Asked) -> Result<Reply, Reply> {
    let wanted = |change: &&Change| match asked.parameter("state").unwrap_or("open") {
        "open" => change.state == ChangeState::Open,
        "closed" => change.state != ChangeState::Open,
        _ => true,
    };
    let mut changes: Vec<&Change> = state.changes.values().filter(wanted).collect();
    match asked.parameter("sort") {
        Some("updated") => changes.sort_by_key(|change| change.updated_at),
        _ => changes.sort_by_key(|change| change.number),
    }
    if asked.parameter("direction").unwrap_or("desc") == "desc" {
        changes.reverse();
    }
    // Only what is on the page is written.
    Ok(page_of(state, asked, changes, |change| pull(state, change)))
}

fn of_change(state: &mut State, asked: &Asked, caller: &Caller, number: u64, rest: &[&str]) -> Result<Reply, Reply> {
    let change = state.changes[&number].clone();
    match (asked.method.as_str(), rest) {
        ("GET", []) => {
            let mut pull = pull(state, &change);
            pull["merged"] = (change.state == ChangeState::Merged).into();
            Ok(Reply::new(200, pull))
        }
        ("GET", ["comments"]) => {
            let since = asked.parameter("since").and_then(micros).unwrap_or(i64::MIN);
            let seconds = |at: i64| at.div_euclid(1_000_000) * 1_000_000;
            let comments = change.comments.iter().filter(|comment| seconds(comment.updated_at) >= since);
            Ok(page(state, asked, comments.map(|it| comment(state, number, it)).collect()))
        }
        ("POST", ["comments"]) => {
            caller.may(Right::Comment)?;
            let body = body_of(asked)?;
            let made = state.comment(&caller.login, number, &body).map_err(|error| refused(500, &error.to_string()))?;
            Ok(Reply::new(201, comment(state, number, &made)))
        }
        ("GET", ["commits"]) => {
            // The oldest first.
            let commits = state.commits(number).into_iter().rev().take(COMMITS);
            Ok(page(state, asked, commits.map(|it| commit(&it, &|login| user(state, login), state)).collect()))
        }
        ("GET", ["reviews"]) => {
            let reviews = change.reviews.iter().map(|it| review(state, number, it));
            Ok(page(state, asked, reviews.collect()))
        }
        ("POST", ["labels"]) => {
            caller.may(Right::Label)?;
            let body = asked.json();
            let list = body["labels"].as_array().cloned().unwrap_or_default();
            let names: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            if names.is_empty() || names.iter().any(|name| name.is_empty() || name.chars().count() > 50) {
                return Err(invalid("Label", "name", "invalid", "a name has 1 to 50 characters"));
            }
            state.labels_set(&caller.login, number, &names, &[]).map_err(|error| refused(500, &error.to_string()))?;
            Ok(Reply::new(200, labels(state, number)))
        }
        ("DELETE", ["labels", name]) => {
            caller.may(Right::Label)?;
            if !change.labels.contains(*name) {
                return Err(refused(404, "Label does not exist"));
            }
            state.labels_set(&caller.login, number, &[], &[name]).map_err(|error| refused(500, &error.to_string()))?;
            Ok(Reply::new(200, labels(state, number)))
        }
        ("PUT", ["merge"]) => merge(state, asked, caller, number),
        _ => Err(not_found()),
    }
}

fn merge(state: &mut State, asked: &Asked, caller: &Caller, number: u64) -> Result<Reply, Reply> {
    caller.may(Right::Merge)?;
    let body = asked.json();
    let method = match body["merge_method"].as_str() {
        None | Some("merge") => Method::Merge,
        Some("squash") => Method::Squash,
        Some("rebase") => Method::Rebase,
        Some(_) => return Err(invalid("PullRequest", "merge_method", "invalid", "is not included in the list")),
    };
    let merged = state.merge(&caller.login, number, body["sha"].as_str(), method);
    match merged.map_err(|error| refused(500, &error.to_string()))? {
        Ok(sha) => {
            Ok(Reply::new(200, json!({ "sha": sha, "merged": true, "message": "Pull Request successfully merged" })))
        }
        Err(hindrance) => Err(match hindrance {
            Hindrance::HeadMoved => refused(409, "Head branch was modified. Review and try the merge again."),
            Hindrance::Draft => refused(405, "Pull Request is still a draft"),
            Hindrance::Waits(what) => refused(405, &what),
            Hindrance::NotOpen(_) | Hindrance::Conflict => refused(405, "Pull Request is not mergeable"),
        }),
    }
}

fn comment_of(state: &mut State, asked: &Asked, caller: &Caller, id: &str, rest: &[&str]) -> Result<Reply, Reply> {
    let found = id.parse().ok().and_then(|id| state.comment_find(id));
    let (number, found) = found.map(|(number, found)| (number, found.clone())).ok_or_else(not_found)?;
    let failed = |error: crate::TestkitError| refused(500, &error.to_string());
    match (asked.method.as_str(), rest) {
        ("GET", []) => Ok(Reply::new(200, comment(state, number, &found))),
        ("PATCH", []) => {
            caller.may(Right::Comment)?;
            let body = body_of(asked)?;
            let edited = state.comment_edit(&caller.login, found.id, &body).map_err(failed)?;
            Ok(Reply::new(200, comment(state, number, &edited)))
        }
        ("DELETE", []) => {
            caller.may(Right::Comment)?;
            state.comment_delete(&caller.login, found.id).map_err(failed)?;
            Ok(Reply::empty(204))
        }
        ("POST", ["reactions"]) => {
            caller.may(Right::Comment)?;
            let content = asked.json()["content"].as_str().unwrap_or_default().to_owned();
            let known = ["+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"];
            if !known.contains(&content.as_str()) {
                return Err(invalid("Reaction", "content", "invalid", "content is not included in the list"));
            }
            let change = state.change(number).map_err(failed)?;
            let kept = change.comments.iter_mut().find(|comment| comment.id == found.id).ok_or_else(not_found)?;
            let is_new = kept.reactions.insert((caller.login.clone(), content.clone()));
            let body = json!({ "id": found.id, "content": content, "user": user(state, &caller.login) });
            Ok(Reply::new(if is_new { 201 } else { 200 }, body))
        }
        _ => Err(not_found()),
    }
}

/// The text of a comment.
fn body_of(asked: &Asked) -> Result<String, Reply> {
    let json = asked.json();
    let body = json["body"].as_str().unwrap_or_default();
    if body.is_empty() {
        return Err(invalid("IssueComment", "body", "missing_field", "Body cannot be blank"));
    }
    if body.chars().count() > BODY {
        let message = format!("Body is too long (maximum is {BODY} characters)");
        return Err(invalid("IssueComment", "data", "unprocessable", &message));
    }
    Ok(body.to_owned())
}

fn status_set(state: &mut State, asked: &Asked, caller: &Caller, commit: &str) -> Result<Reply, Reply> {
    caller.may(Right::Status)?;
    let body = asked.json();
    let (word, text) = (body["state"].as_str().unwrap_or_default(), body["description"].as_str().unwrap_or_default());
    if !["error", "failure", "pending", "success"].contains(&word) {
        return Err(invalid("Status", "state", "custom", "state is not included in the list"));
    }
    if text.chars().count() > DESCRIPTION {
        let message = format!("description is too long (maximum is {DESCRIPTION} characters)");
        return Err(invalid("Status", "description", "custom", &message));
    }
    let url = body["target_url"].as_str();
    if url.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        return Err(invalid("Status", "target_url", "custom", "Target url must use http(s) scheme"));
    }
    let known = commit.len() == 40 && state.main().is_ok_and(|main| main.commit(commit).is_some());
    if !known {
        return Err(refused(422, &format!("No commit found for SHA: {commit}")));
    }
    let name = body["context"].as_str().unwrap_or("default").to_owned();
    if state.statuses.iter().filter(|known| known.commit == commit && known.name == name).count() >= STATUSES {
        return Err(refused(
            422,
            "Validation Failed: This SHA and context has reached the maximum number of statuses.",
        ));
    }
    let set = Status {
        commit: commit.to_owned(),
        name,
        state: word.to_owned(),
        text: text.to_owned(),
        url: url.map(str::to_owned),
        at: state.now(),
    };
    let body = status(&set);
    state.status_set(set);
    Ok(Reply::new(201, body))
}

fn team(state: &State, caller: &Caller, organisation: &str, rest: &[&str]) -> Result<Reply, Reply> {
    caller.may(Right::Members)?;
    let [slug, rest @ ..] = rest else { return Err(not_found()) };
    let members = state.teams.get(&format!("{organisation}/{slug}")).ok_or_else(not_found)?;
    match rest {
        [] => Ok(Reply::new(200, json!({ "slug": slug, "name": slug, "members_count": members.len() }))),
        ["memberships", login] if members.contains(*login) => {
            Ok(Reply::new(200, json!({ "state": "active", "role": "member", "url": state.url })))
        }
        // Invited, and not here yet.
        ["memberships", login] if members.contains(&format!("invited:{login}")) => {
            Ok(Reply::new(200, json!({ "state": "pending", "role": "member", "url": state.url })))
        }
        _ => Err(not_found()),
    }
}

/// The one question that is asked over GraphQL.
fn viewer(state: &State, asked: &Asked, caller: &Caller) -> Result<Reply, Reply> {
    let query = asked.json()["query"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    if query != "{ viewer { login databaseId } }" {
        return Ok(Reply::new(200, json!({ "errors": [{ "message": "Parse error" }] })));
    }
    let viewer = json!({ "login": caller.login, "databaseId": state.id(&caller.login) });
    Ok(Reply::new(200, json!({ "data": { "viewer": viewer } })))
}

fn user(state: &State, login: &str) -> Value {
    let kind = if login.ends_with("[bot]") { "Bot" } else { "User" };
    json!({ "login": login, "id": state.id(login), "type": kind, "html_url": format!("{}/{login}", state.url) })
}

fn repository(state: &State, name: &str) -> Value {
    let (owner, short) = name.split_once('/').unwrap_or_default();
    let html = format!("{}/{name}", state.url);
    json!({
        "id": identity(name), "name": short, "full_name": name, "private": true, "fork": name != REPOSITORY,
        "owner": { "login": owner }, "html_url": html, "clone_url": format!("{html}.git"),
        "ssh_url": format!("git@127.0.0.1:{name}.git"), "git_url": format!("git://127.0.0.1/{name}.git"),
        "default_branch": "main",
    })
}

/// A number for a name.
fn identity(name: &str) -> u64 {
    name.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 1_000_000_007
}

fn pull(state: &State, change: &Change) -> Value {
    let at = |micros: i64| time(micros, 0);
    let is_merged = change.state == ChangeState::Merged;
    let closed_at = (change.state != ChangeState::Open).then(|| at(change.updated_at));
    let side = |name: &str, branch: &str, commit: &str| {
        let owner = name.split('/').next().unwrap_or_default();
        // A fork that was deleted is unknown.
        let repository = if name.is_empty() { Value::Null } else { repository(state, name) };
        json!({ "label": format!("{owner}:{branch}"), "ref": branch, "sha": commit, "repo": repository })
    };
    let base = state.branch(&change.base).map(str::to_owned);
    // While it is open this is a commit that was made to try the merge.
    let tried = format!("{:040x}", change.number);
    json!({
        "id": 5_000_000 + change.number, "number": change.number, "title": change.title,
        "html_url": format!("{}/{REPOSITORY}/pull/{}", state.url, change.number),
        "state": if change.state == ChangeState::Open { "open" } else { "closed" }, "draft": change.draft,
        "user": user(state, &change.author), "labels": labels(state, change.number),
        "head": side(&change.repository, &change.branch, &change.commit),
        "base": side(REPOSITORY, &change.base, &base.unwrap_or_default()),
        "merge_commit_sha": change.merged_as.clone().unwrap_or(tried),
        "merged_at": is_merged.then(|| at(change.updated_at)), "closed_at": closed_at,
        "created_at": at(change.created_at), "updated_at": at(change.updated_at),
    })
}

/// A commit of a change; Gitea tells it alike. `user` shows an account.
pub(super) fn commit(it: &Written, user: &dyn Fn(&str) -> Value, state: &State) -> Value {
    let git = |[name, mail]: &[String; 2]| json!({ "name": name, "email": mail, "date": "2026-01-01T00:00:00Z" });
    let account = |[_, mail]: &[String; 2]| state.login_of(mail).map(user);
    json!({
        "sha": it.id, "author": account(&it.author), "committer": account(&it.committer),
        "commit": { "author": git(&it.author), "committer": git(&it.committer), "message": "something new" },
    })
}

fn labels(state: &State, number: u64) -> Value {
    let labels = state.changes.get(&number).into_iter().flat_map(|change| &change.labels);
    labels.map(|name| json!({ "id": state.labels.get(name), "name": name, "color": "ededed" })).collect()
}

fn comment(state: &State, number: u64, comment: &Comment) -> Value {
    json!({
        "id": comment.id, "body": comment.body, "user": user(state, &comment.author),
        "html_url": format!("{}/{REPOSITORY}/pull/{number}#issuecomment-{}", state.url, comment.id),
        "created_at": time(comment.created_at, 0), "updated_at": time(comment.updated_at, 0),
    })
}

fn review(state: &State, number: u64, review: &Review) -> Value {
    let word = match review.word {
        _ if review.dismissed => "DISMISSED",
        Word::Approves => "APPROVED",
        Word::Refuses => "CHANGES_REQUESTED",
        Word::Remarks => "COMMENTED",
    };
    json!({
        "id": review.id, "user": user(state, &review.person), "state": word, "body": "", "commit_id": review.commit,
        "submitted_at": time(review.at, 0),
        "html_url": format!("{}/{REPOSITORY}/pull/{number}#pullrequestreview-{}", state.url, review.id),
    })
}

fn status(status: &Status) -> Value {
    json!({
        "state": status.state, "context": status.name, "description": status.text, "target_url": status.url,
        "created_at": time(status.at, 0),
    })
}

fn message(state: &State, happening: &Happening) -> Option<Message> {
    let sender = user(state, &happening.login);
    let repository = repository(state, REPOSITORY);
    let of = |event: &str, number: u64, mut body: Value| {
        let pull = pull(state, state.changes.get(&number)?);
        if event == "issue_comment" {
            body["issue"] = json!({
                "number": number, "title": pull["title"], "user": pull["user"], "state": pull["state"],
                "pull_request": { "url": format!("{}/repos/{REPOSITORY}/pulls/{number}", state.url) },
            });
        } else {
            body["pull_request"] = pull;
        }
        (body["repository"], body["sender"]) = (repository.clone(), sender.clone());
        Some(Message { event: event.to_owned(), body })
    };
    let pulled = |action: &str, number: u64| of("pull_request", number, json!({ "action": action, "number": number }));
    let commented = |action: &str, number: u64, it: &Comment| {
        of("issue_comment", number, json!({ "action": action, "comment": comment(state, number, it) }))
    };
    let reviewed = |action: &str, number: u64, it: &Review| {
        let mut review = review(state, number, it);
        review["state"] = review["state"].as_str().unwrap_or_default().to_lowercase().into();
        of("pull_request_review", number, json!({ "action": action, "review": review }))
    };
    match &happening.what {
        What::Moved { branch, before, after } => {
            let commit = |commit: &Option<String>| commit.clone().unwrap_or_else(|| "0".repeat(40));
            let body = json!({
                "ref": format!("refs/heads/{branch}"), "before": commit(before), "after": commit(after),
                "created": before.is_none(), "deleted": after.is_none(), "repository": repository, "sender": sender,
            });
            Some(Message { event: "push".into(), body })
        }
        What::Opened(number) => pulled("opened", *number),
        What::Pushed { number, before } => {
            let after = state.changes.get(number).map(|change| change.commit.clone());
            let body = json!({ "action": "synchronize", "number": number, "before": before, "after": after });
            of("pull_request", *number, body)
        }
        What::Edited(number) => pulled("edited", *number),
        What::Closed(number) | What::Merged(number) => {
            let mut message = pulled("closed", *number)?;
            message.body["pull_request"]["merged"] = matches!(happening.what, What::Merged(_)).into();
            Some(message)
        }
        What::Reopened(number) => pulled("reopened", *number),
        What::Labelled(number) => pulled("labeled", *number),
        What::Commented { number, comment } => commented("created", *number, comment),
        What::CommentEdited { number, comment } => commented("edited", *number, comment),
        What::CommentDeleted { number, comment } => commented("deleted", *number, comment),
        What::Reviewed { number, review } => reviewed("submitted", *number, review),
        What::Dismissed { number, review } => reviewed("dismissed", *number, review),
    }
}
