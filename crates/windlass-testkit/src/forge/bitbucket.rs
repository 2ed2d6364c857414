//! Bitbucket Cloud's API as version 2.0 of its documentation has it. Changes tell the first letters of commits alone.

use super::repository::{Method, Written};
use super::server::{Asked, Reply, page};
use super::state::{Change, ChangeState, Comment, Happening, Hindrance, REPOSITORY, Right, State, Status, What, Word};
use super::{Dialect, Message, signature, time, until};
use crate::TestkitError;
use serde_json::{Value, json};

pub(super) const DIALECT: Dialect = Dialect {
    name: "Bitbucket",
    reference: |_| None,
    answer,
    message,
    headers,
    // It tells how much it takes, and not how much that still is.
    budget: |budget| vec![("x-ratelimit-limit".into(), budget.limit.to_string())],
    exhausted: |budget| no(429, "Rate limit for this resource has been exceeded").with("retry-after", until(budget)),
};

/// Entries of a page, unless others are asked for, and at most: of changes, and of anything else.
const PAGE: usize = 10;
const CHANGES: usize = 50;
const LARGEST: usize = 100;
/// Longest texts that are taken, letters.
const COMMENT: usize = 32_768;
const KEY: usize = 40;
/// Letters of a commit that changes tell.
const SHORT: usize = 12;

fn no(status: u16, message: &str) -> Reply {
    Reply::new(status, json!({ "type": "error", "error": { "message": message } }))
}

fn missing() -> Reply {
    no(404, "Resource not found")
}

fn broken(error: &TestkitError) -> Reply {
    match error {
        TestkitError::Refused { .. } => missing(),
        error => no(500, &error.to_string()),
    }
}

fn answer(state: &mut State, asked: &Asked) -> Reply {
    let given = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = given.and_then(|given| state.tokens.get(given)).cloned() else {
        return no(401, "Token is invalid, expired, or not supported for this endpoint.");
    };
    let parts = asked.parts();
    let right = match parts.as_slice() {
        ["1.0", ..] => Right::Members,
        _ if asked.method == "GET" => Right::Read,
        [.., "comments"] | [.., "comments", _] => Right::Comment,
        [.., "statuses", "build"] => Right::Status,
        _ => Right::Merge,
    };
    if !token.rights.contains(&right) {
        return no(403, "Your credentials lack one or more required privilege scopes.");
    }
    let login = token.login.as_str();
    match (asked.method.as_str(), parts.as_slice()) {
        ("GET", ["2.0", "user"]) => Reply::new(200, user(state, login)),
        ("GET", ["1.0", "groups", workspace, group, "members"]) => {
            match state.teams.get(&format!("{workspace}/{group}")) {
                Some(members) => Reply::new(200, members.iter().map(|member| user(state, member)).collect()),
                None => missing(),
            }
        }
        (_, ["2.0", "repositories", owner, name, rest @ ..]) => match format!("{owner}/{name}").as_str() {
            REPOSITORY => repository(state, asked, login, rest),
            _ => missing(),
        },
        _ => missing(),
    }
}

fn repository(state: &mut State, asked: &Asked, login: &str, rest: &[&str]) -> Reply {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match (asked.method.as_str(), rest) {
        ("GET", []) => Reply::new(200, repo(state, REPOSITORY)),
        ("GET", ["commit", commit]) => match state.main().ok().and_then(|main| main.commit(commit)) {
            Some(commit) => Reply::new(200, json!({ "type": "commit", "hash": commit })),
            None => missing(),
        },
        ("GET", ["pullrequests"]) => requests(state, asked),
        ("GET", ["pullrequests", at]) => match state.changes.get(&number(at)) {
            Some(change) => Reply::new(200, request(state, change)),
            None => missing(),
        },
        ("GET", ["pullrequests", at, "commits"]) => match state.changes.get(&number(at)) {
            // Newest first.
            Some(_) => {
                let commits = state.commits(number(at));
                listed(asked, state, commits.iter().map(|it| written(state, it)).collect(), LARGEST)
            }
            None => missing(),
        },
        ("POST", ["pullrequests", at, "merge"]) => merge(state, asked, login, number(at)),
        (_, ["pullrequests", at, "comments", rest @ ..]) => comments(state, asked, login, number(at), rest),
        ("POST", ["commit", commit, "statuses", "build"]) => status(state, asked, commit),
        ("DELETE", ["refs", "branches", "main"]) => no(400, "Cannot delete the main branch of a repository"),
        ("DELETE", ["refs", "branches", name]) => match state.branch_delete(login, name) {
            Ok(true) => Reply::empty(204),
            Ok(false) => missing(),
            Err(error) => broken(&error),
        },
        _ => missing(),
    }
}

fn requests(state: &State, asked: &Asked) -> Reply {
    let states: Vec<&str> = asked.parameters("state").collect();
    let is_wanted = |change: &&Change| {
        let word = word(change.state);
        if states.is_empty() { word == "OPEN" } else { states.contains(&word) }
    };
    let mut found: Vec<&Change> = state.changes.values().filter(is_wanted).collect();
    match asked.parameter("sort") {
        Some("-updated_on") => found.sort_by_key(|change| std::cmp::Reverse(change.updated_at)),
        _ => found.reverse(),
    }
    listed(asked, state, found.into_iter().map(|change| request(state, change)).collect(), CHANGES)
}

fn listed(asked: &Asked, state: &State, list: Vec<Value>, largest: usize) -> Reply {
    let size = asked.number("pagelen").unwrap_or(PAGE);
    if size == 0 || size > largest {
        return no(400, "Invalid pagelen");
    }
    let at = asked.number("page").unwrap_or(1).max(1);
    let (found, total) = page(list, (at - 1) * size, size);
    let mut body = json!({ "values": found, "pagelen": size, "page": at, "size": total });
    if at * size < total {
        body["next"] = format!("{}{}", state.url, asked.path_with("page", &(at + 1).to_string())).into();
    }
    Reply::new(200, body)
}

fn comments(state: &mut State, asked: &Asked, login: &str, number: u64, rest: &[&str]) -> Reply {
    let Some(change) = state.changes.get(&number) else { return missing() };
    let body = asked.json();
    let text = body["content"]["raw"].as_str().unwrap_or_default();
    match (asked.method.as_str(), rest) {
        ("GET", []) => {
            let mut found: Vec<Value> = change.comments.iter().map(|comment| commented(state, comment)).collect();
            // What is about a line, and what was deleted, is among them.
            let mut about = found.first().cloned().unwrap_or_else(|| json!({ "id": 1 }));
            (about["id"], about["inline"]) = (1.into(), json!({ "path": "main.tf", "to": 1 }));
            let mut gone = about.clone();
            (gone["id"], gone["inline"], gone["deleted"]) = (2.into(), Value::Null, true.into());
            found.extend([about, gone]);
            let key = asked.parameter("sort").unwrap_or("created_on");
            let name = key.trim_start_matches('-').to_owned();
            found.sort_by_key(|comment| comment[&name].as_str().unwrap_or_default().to_owned());
            if key.starts_with('-') {
                found.reverse();
            }
            listed(asked, state, found, LARGEST)
        }
        ("POST", []) | ("PUT", [_]) if text.is_empty() || text.chars().count() > COMMENT => {
            no(400, "content: The comment is empty or too long.")
        }
        ("POST", []) => match state.comment(login, number, text) {
            Ok(comment) => Reply::new(201, commented(state, &comment)),
            Err(error) => broken(&error),
        },
        ("PUT", [id]) => match state.comment_find(id.parse().unwrap_or(0)) {
            Some((on, comment)) if on == number && comment.author == login => {
                let id = comment.id;
                match state.comment_edit(login, id, text) {
                    Ok(comment) => Reply::new(200, commented(state, &comment)),
                    Err(error) => broken(&error),
                }
            }
            Some(_) => no(403, "You may not edit this comment."),
            None => missing(),
        },
        _ => missing(),
    }
}

fn status(state: &mut State, asked: &Asked, commit: &str) -> Reply {
    let body = asked.json();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    if state.main().ok().and_then(|main| main.commit(commit)).is_none() {
        return missing();
    }
    let word = text("state");
    if !["SUCCESSFUL", "FAILED", "INPROGRESS", "STOPPED"].contains(&word.as_str()) {
        return no(400, "state: unknown");
    }
    if text("key").is_empty() || text("key").chars().count() > KEY || !text("url").starts_with("http") {
        return no(400, "key and url are required; a key has at most 40 letters");
    }
    let at = state.now();
    let name = text("name");
    let status =
        Status { commit: commit.into(), name, state: word, text: text("description"), url: Some(text("url")), at };
    state.status_set(status.clone());
    Reply::new(201, json!({ "key": text("key"), "name": status.name, "state": status.state }))
}

fn merge(state: &mut State, asked: &Asked, login: &str, number: u64) -> Reply {
    let method = match asked.json()["merge_strategy"].as_str() {
        None | Some("merge_commit") => Method::Merge,
        Some("squash") => Method::Squash,
        Some("rebase_fast_forward") => Method::Rebase,
        _ => return no(400, "merge_strategy: unknown"),
    };
    match state.merge(login, number, None, method) {
        Ok(Ok(_)) => {
            Reply::new(200, state.changes.get(&number).map(|change| request(state, change)).unwrap_or_default())
        }
        Ok(Err(Hindrance::Conflict)) => no(409, "There are merge conflicts"),
        Ok(Err(Hindrance::Waits(why))) => no(400, &why),
        Ok(Err(Hindrance::Draft)) => no(400, "A draft cannot be merged"),
        Ok(Err(_)) => no(400, "This pull request is already closed."),
        Err(error) => broken(&error),
    }
}

fn written(state: &State, commit: &Written) -> Value {
    let signed = |[name, mail]: &[String; 2]| {
        let mut signed = json!({ "type": "author", "raw": format!("{name} <{mail}>") });
        // Without an account there is no user.
        if let Some(login) = state.login_of(mail) {
            signed["user"] = user(state, login);
        }
        signed
    };
    json!({ "type": "commit", "hash": commit.id, "author": signed(&commit.author), "committer": signed(&commit.committer) })
}

fn word(state: ChangeState) -> &'static str {
    match state {
        ChangeState::Open => "OPEN",
        ChangeState::Merged => "MERGED",
        ChangeState::Closed => "DECLINED",
    }
}

/// The id of an account, as tests know it by its login.
pub fn account_id(login: &str) -> String {
    format!("557058:{login}")
}

fn user(state: &State, login: &str) -> Value {
    json!({
        "type": "user", "display_name": login, "account_id": account_id(login),
        "uuid": format!("{{00000000-0000-4000-8000-{:012}}}", state.id(login)),
        // Anybody may choose this.
        "nickname": "the same for all",
    })
}

fn repo(state: &State, name: &str) -> Value {
    json!({
        "type": "repository", "full_name": name, "name": name.split('/').next_back(),
        "links": { "html": { "href": format!("{}/{name}", state.url) } },
    })
}

fn short(commit: &str) -> &str {
    commit.get(..SHORT).unwrap_or(commit)
}

fn request(state: &State, change: &Change) -> Value {
    let participants = state.words(change.number).into_iter().map(|review| {
        let word = match review.word {
            _ if review.dismissed => None,
            Word::Approves => Some("approved"),
            _ => Some("changes_requested"),
        };
        json!({
            "type": "participant", "role": "PARTICIPANT", "user": user(state, &review.person), "state": word,
            "approved": word == Some("approved"), "participated_on": time(review.at, 6).replace('Z', "+00:00"),
        })
    });
    let gone = change.repository.is_empty();
    json!({
        "type": "pullrequest", "id": change.number, "title": change.title, "state": word(change.state),
        "draft": change.draft, "author": user(state, &change.author),
        "links": { "html": { "href": format!("{}/{REPOSITORY}/pull-requests/{}", state.url, change.number) } },
        "source": {
            "branch": { "name": change.branch }, "commit": { "hash": short(&change.commit) },
            "repository": (!gone).then(|| repo(state, &change.repository)),
        },
        "destination": { "branch": { "name": change.base }, "repository": repo(state, REPOSITORY) },
        "merge_commit": change.merged_as.as_deref().map(|commit| json!({ "hash": short(commit) })),
        "participants": participants.collect::<Vec<_>>(),
        "created_on": time(change.created_at, 6).replace('Z', "+00:00"),
        "updated_on": time(change.updated_at, 6).replace('Z', "+00:00"),
    })
}

fn commented(state: &State, comment: &Comment) -> Value {
    json!({
        "type": "pullrequest_comment", "id": comment.id, "user": user(state, &comment.author), "deleted": false,
        "content": { "type": "rendered", "raw": comment.body, "markup": "markdown" },
        "created_on": time(comment.created_at, 6).replace('Z', "+00:00"),
        "updated_on": time(comment.updated_at, 6).replace('Z', "+00:00"),
    })
}

fn message(state: &State, happening: &Happening) -> Option<Message> {
    let told = |event: &str, number: &u64, comment: Option<&Comment>| {
        let mut body = json!({
            "repository": repo(state, REPOSITORY), "actor": user(state, &happening.login),
            "pullrequest": request(state, state.changes.get(number)?),
        });
        if let Some(comment) = comment {
            body["comment"] = commented(state, comment);
        }
        Some(Message { event: format!("pullrequest:{event}"), body })
    };
    match &happening.what {
        What::Moved { branch, before, after } => {
            let side = |commit: &Option<String>| {
                commit.as_ref().map(|it| json!({ "type": "branch", "name": branch, "target": { "hash": it } }))
            };
            let body = json!({
                "repository": repo(state, REPOSITORY), "actor": user(state, &happening.login),
                "push": { "changes": [{ "old": side(before), "new": side(after), "closed": after.is_none() }] },
            });
            Some(Message { event: "repo:push".into(), body })
        }
        What::Opened(number) => told("created", number, None),
        What::Pushed { number, .. } | What::Edited(number) => told("updated", number, None),
        What::Merged(number) => told("fulfilled", number, None),
        What::Closed(number) => told("rejected", number, None),
        What::Reviewed { number, review } => match review.word {
            Word::Approves => told("approved", number, None),
            Word::Refuses => told("changes_request_created", number, None),
            Word::Remarks => None,
        },
        What::Dismissed { number, review } => match review.word {
            Word::Refuses => told("changes_request_removed", number, None),
            _ => told("unapproved", number, None),
        },
        What::Commented { number, comment } => told("comment_created", number, Some(comment)),
        What::CommentEdited { number, comment } => told("comment_updated", number, Some(comment)),
        What::CommentDeleted { number, comment } => told("comment_deleted", number, Some(comment)),
        // There are no labels, and what is declined stays so.
        What::Labelled(_) | What::Reopened(_) => None,
    }
}

fn headers(message: &Message, id: &str, secret: &str) -> Vec<(String, String)> {
    let headers = [
        ("x-event-key", message.event.clone()),
        ("x-request-uuid", id.to_owned()),
        ("x-hook-uuid", "00000000-0000-4000-8000-000000000000".to_owned()),
        ("x-attempt-number", "1".to_owned()),
        ("x-hub-signature", format!("sha256={}", signature(secret, &message.bytes()))),
    ];
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
