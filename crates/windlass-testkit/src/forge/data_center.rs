//! The API of Bitbucket Data Center as its documentation has it: versions of comments and changes, times in milliseconds.

use super::repository::{Method, Written};
use super::server::{Asked, Reply, page};
use super::state::{Change, ChangeState, Comment, Happening, Hindrance, REPOSITORY, Right, State, Status, What, Word};
use super::{Dialect, Message, signature, until};
use crate::TestkitError;
use serde_json::{Value, json};

pub(super) const DIALECT: Dialect = Dialect {
    name: "Bitbucket Data Center",
    reference: |number| Some(format!("refs/pull-requests/{number}/from")),
    answer,
    message,
    headers,
    budget: |budget| {
        let header = |name: &str, value: u64| (format!("x-ratelimit-{name}"), value.to_string());
        vec![header("limit", budget.limit), header("remaining", budget.remaining), header("interval-seconds", 3_600)]
    },
    exhausted: |budget| no(429, "You are rate limited").with("retry-after", until(budget)),
};

/// Entries of a page, unless others are asked for, and at most.
const PAGE: usize = 25;
const LARGEST: usize = 1_000;
/// Longest texts that are taken, letters.
const COMMENT: usize = 32_768;
const TEXT: usize = 255;

fn no(status: u16, message: &str) -> Reply {
    Reply::new(status, json!({ "errors": [{ "context": null, "message": message, "exceptionName": null }] }))
}

fn missing() -> Reply {
    no(404, "It does not exist.")
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
        return no(401, "Authentication failed. Please check your credentials and try again.");
    };
    let parts = asked.parts();
    let ["rest", part, "latest", rest @ ..] = parts.as_slice() else { return missing() };
    let right = match rest {
        ["users"] => Right::Members,
        _ if asked.method == "GET" => Right::Read,
        [.., "comments"] | [.., "comments", _] | [.., "reactions", _] => Right::Comment,
        [.., "builds"] => Right::Status,
        _ => Right::Merge,
    };
    if !token.rights.contains(&right) {
        return no(403, "You are not permitted to access this resource");
    }
    let login = token.login.as_str();
    let reply = match (*part, asked.method.as_str(), rest) {
        ("api", "GET", ["users"]) => {
            let Some(members) = asked.parameter("group").and_then(|group| state.teams.get(group)) else {
                return missing().with("x-ausername", login);
            };
            let word = asked.parameter("filter").unwrap_or_default();
            let found = members.iter().filter(|member| member.contains(word)).map(|member| user(state, member));
            listed(asked, found.collect())
        }
        (part, _, ["projects", project, "repos", name, rest @ ..]) => match format!("{project}/{name}").as_str() {
            REPOSITORY => repository(state, part, asked, login, rest),
            _ => missing(),
        },
        _ => missing(),
    };
    // A name may have any letters.
    reply.with("x-ausername", login.replace('-', "%2D"))
}

fn repository(state: &mut State, part: &str, asked: &Asked, login: &str, rest: &[&str]) -> Reply {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match (part, asked.method.as_str(), rest) {
        ("api", "GET", []) => Reply::new(200, repo(REPOSITORY)),
        ("api", "GET", ["branches"]) => {
            let word = asked.parameter("filterText").unwrap_or_default();
            let branches = state.main().and_then(|main| main.branches()).unwrap_or_default().into_iter();
            let found = branches.filter(|(name, _)| name.contains(word));
            listed(
                asked,
                found.map(|(name, tip)| json!({ "id": format!("refs/heads/{name}"), "latestCommit": tip })).collect(),
            )
        }
        ("api", "GET", ["pull-requests"]) => requests(state, asked),
        ("api", "GET", ["pull-requests", at]) => match state.changes.get(&number(at)) {
            Some(change) => Reply::new(200, request(state, change)),
            None => missing(),
        },
        ("api", "GET", ["pull-requests", at, "activities"]) => match state.changes.get(&number(at)) {
            Some(change) => listed(asked, activities(state, change)),
            None => missing(),
        },
        ("api", "GET", ["pull-requests", at, "commits"]) => match state.changes.contains_key(&number(at)) {
            true => listed(asked, state.commits(number(at)).iter().map(|it| written(state, it)).collect()),
            false => missing(),
        },
        ("api", "POST", ["pull-requests", at, "merge"]) => merge(state, asked, login, number(at)),
        ("api", _, ["pull-requests", at, "comments", rest @ ..]) => comments(state, asked, login, number(at), rest),
        ("comment-likes", "PUT", ["pull-requests", at, "comments", id, "reactions", name]) => {
            let Some(change) = state.changes.get_mut(&number(at)) else { return missing() };
            let Some(comment) = change.comments.iter_mut().find(|comment| comment.id == number(id)) else {
                return missing();
            };
            comment.reactions.insert((login.to_owned(), (*name).to_owned()));
            Reply::new(200, json!({ "emoticon": { "shortcut": name } }))
        }
        ("api", "POST", ["commits", commit, "builds"]) => status(state, asked, commit),
        ("branch-utils", "DELETE", ["branches"]) => {
            let body = asked.json();
            let name = body["name"].as_str().and_then(|name| name.strip_prefix("refs/heads/"));
            match name {
                None | Some("main") => no(400, "The branch does not exist, or is the default branch"),
                Some(name) => match state.branch_delete(login, name) {
                    Ok(true) => Reply::empty(204),
                    Ok(false) => no(400, "The branch does not exist"),
                    Err(error) => broken(&error),
                },
            }
        }
        _ => missing(),
    }
}

fn requests(state: &State, asked: &Asked) -> Reply {
    let wanted = asked.parameter("state").unwrap_or("OPEN");
    let is_wanted = |change: &&Change| wanted == "ALL" || word(change.state) == wanted;
    // The newest first, whatever was touched last.
    let found = state.changes.values().rev().filter(is_wanted).map(|change| request(state, change));
    listed(asked, found.collect())
}

fn listed(asked: &Asked, list: Vec<Value>) -> Reply {
    let size = asked.number("limit").unwrap_or(PAGE).clamp(1, LARGEST);
    let start = asked.number("start").unwrap_or(0);
    let (found, total) = page(list, start, size);
    let is_last = start + size >= total;
    let next = (!is_last).then_some(start + size);
    let body = json!({
        "size": found.len(), "limit": size, "start": start, "isLastPage": is_last, "nextPageStart": next, "values": found,
    });
    Reply::new(200, body)
}

/// What happened to a change, newest first.
fn activities(state: &State, change: &Change) -> Vec<Value> {
    let mut list = vec![json!({
        "id": 1, "createdDate": millis(change.created_at), "user": user(state, &change.author), "action": "OPENED",
    })];
    for comment in &change.comments {
        list.push(json!({
            "id": comment.id, "createdDate": millis(comment.created_at), "user": user(state, &comment.author),
            "action": "COMMENTED", "commentAction": "ADDED", "comment": commented(state, comment),
        }));
    }
    // What is said about a line is among them.
    list.push(json!({
        "id": 2, "createdDate": millis(change.created_at), "user": user(state, &change.author), "action": "COMMENTED",
        "commentAction": "ADDED", "commentAnchor": { "path": "main.tf", "line": 1 },
        "comment": { "id": 2, "version": 0, "text": "why?", "author": user(state, &change.author) },
    }));
    for review in &change.reviews {
        let action = match review.word {
            Word::Approves => "APPROVED",
            Word::Refuses => "REVIEWED",
            Word::Remarks => continue,
        };
        list.push(json!({
            "id": review.id, "createdDate": millis(review.at), "user": user(state, &review.person), "action": action,
        }));
    }
    list.sort_by_key(|activity| std::cmp::Reverse(activity["createdDate"].as_i64()));
    list
}

fn comments(state: &mut State, asked: &Asked, login: &str, number: u64, rest: &[&str]) -> Reply {
    if !state.changes.contains_key(&number) {
        return missing();
    }
    let body = asked.json();
    let text = body["text"].as_str().unwrap_or_default();
    let found = |state: &State, id: &str| {
        let (on, comment) = state.comment_find(id.parse().ok()?)?;
        (on == number).then(|| comment.clone())
    };
    match (asked.method.as_str(), rest) {
        ("POST", []) | ("PUT", [_]) if text.is_empty() || text.chars().count() > COMMENT => {
            no(400, "The comment is empty, or longer than 32768 letters")
        }
        ("POST", []) => match state.comment(login, number, text) {
            Ok(comment) => Reply::new(201, commented(state, &comment)),
            Err(error) => broken(&error),
        },
        ("GET", [id]) => match found(state, id) {
            Some(comment) => Reply::new(200, commented(state, &comment)),
            None => missing(),
        },
        ("PUT", [id]) => match found(state, id) {
            None => missing(),
            Some(comment) if comment.author != login => no(403, "You may not edit this comment"),
            Some(comment) if body["version"] != comment.version => {
                no(409, "You are attempting to modify a comment based on out-of-date information.")
            }
            Some(comment) => match state.comment_edit(login, comment.id, text) {
                Ok(comment) => Reply::new(200, commented(state, &comment)),
                Err(error) => broken(&error),
            },
        },
        _ => missing(),
    }
}

fn status(state: &mut State, asked: &Asked, commit: &str) -> Reply {
    let body = asked.json();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let word = text("state");
    if commit.len() != 40 || state.main().ok().and_then(|main| main.commit(commit)).is_none() {
        return missing();
    }
    if !["SUCCESSFUL", "FAILED", "INPROGRESS", "CANCELLED", "UNKNOWN"].contains(&word.as_str()) {
        return no(400, "state is unknown");
    }
    let texts = [text("key"), text("name"), text("description")];
    if text("key").is_empty()
        || !text("url").starts_with("http")
        || texts.iter().any(|text| text.chars().count() > TEXT)
    {
        return no(400, "key and url are required, and texts have at most 255 letters");
    }
    let (at, name) = (state.now(), text("key"));
    let (told, url) = (text("description"), Some(text("url")));
    state.status_set(Status { commit: commit.into(), name, state: word, text: told, url, at });
    Reply::empty(204)
}

fn merge(state: &mut State, asked: &Asked, login: &str, number: u64) -> Reply {
    let method = match asked.json()["strategyId"].as_str() {
        None | Some("no-ff") => Method::Merge,
        Some("squash") => Method::Squash,
        Some("rebase-ff-only") => Method::Rebase,
        _ => return no(400, "The merge strategy is not enabled"),
    };
    let Some(version) = state.changes.get(&number).map(|change| change.version) else { return missing() };
    if asked.number("version") != usize::try_from(version).ok() {
        return no(409, "You are attempting to modify a pull request based on out-of-date information.");
    }
    let vetoed = |vetoes: &[&str]| {
        let vetoes: Vec<Value> = vetoes.iter().map(|veto| json!({ "summaryMessage": veto })).collect();
        let error = json!({ "message": "The pull request has conflicts or is vetoed", "vetoes": vetoes });
        Reply::new(409, json!({ "errors": [error] }))
    };
    match state.merge(login, number, None, method) {
        Ok(Ok(_)) => {
            Reply::new(200, state.changes.get(&number).map(|change| request(state, change)).unwrap_or_default())
        }
        Ok(Err(Hindrance::Waits(why))) => vetoed(&[&why]),
        Ok(Err(Hindrance::Draft)) => vetoed(&["It is a draft"]),
        Ok(Err(_)) => vetoed(&[]),
        Err(error) => broken(&error),
    }
}

/// Whom nobody knows is told by the name that git has, which may be somebody else's.
fn written(state: &State, commit: &Written) -> Value {
    let signed = |[name, mail]: &[String; 2]| {
        let known = state.login_of(mail).map(|login| user(state, login));
        let mut signed = known.unwrap_or_else(|| json!({ "name": name }));
        signed["emailAddress"] = mail.as_str().into();
        signed
    };
    json!({ "id": commit.id, "author": signed(&commit.author), "committer": signed(&commit.committer) })
}

fn word(state: ChangeState) -> &'static str {
    match state {
        ChangeState::Open => "OPEN",
        ChangeState::Merged => "MERGED",
        ChangeState::Closed => "DECLINED",
    }
}

fn millis(micros: i64) -> i64 {
    micros / 1_000
}

fn user(state: &State, login: &str) -> Value {
    json!({ "id": state.id(login), "name": login, "slug": login, "displayName": login, "type": "NORMAL", "active": true })
}

/// Without its addresses, which webhooks do not tell.
fn repo(name: &str) -> Value {
    let (project, slug) = name.split_once('/').unwrap_or_default();
    json!({ "slug": slug, "name": slug, "project": { "key": project } })
}

fn request(state: &State, change: &Change) -> Value {
    let reviewers = state.words(change.number).into_iter().map(|review| {
        let status = match review.word {
            _ if review.dismissed => "UNAPPROVED",
            Word::Approves => "APPROVED",
            _ => "NEEDS_WORK",
        };
        json!({
            "user": user(state, &review.person), "role": "REVIEWER", "status": status, "approved": status == "APPROVED",
            "lastReviewedCommit": review.commit,
        })
    });
    let gone = change.repository.is_empty();
    let merged = change.merged_as.as_deref().map(|commit| json!({ "mergeCommit": { "id": commit } }));
    json!({
        "id": change.number, "version": change.version, "title": change.title, "state": word(change.state),
        "open": change.state == ChangeState::Open, "closed": change.state != ChangeState::Open, "draft": change.draft,
        "createdDate": millis(change.created_at), "updatedDate": millis(change.updated_at),
        "fromRef": {
            "id": format!("refs/heads/{}", change.branch), "displayId": change.branch, "latestCommit": change.commit,
            "repository": (!gone).then(|| repo(&change.repository)),
        },
        "toRef": {
            "id": format!("refs/heads/{}", change.base), "displayId": change.base, "repository": repo(REPOSITORY),
        },
        "author": { "user": user(state, &change.author), "role": "AUTHOR", "status": "UNAPPROVED" },
        "reviewers": reviewers.collect::<Vec<_>>(), "participants": [], "properties": merged.unwrap_or_else(|| json!({})),
        "links": { "self": [{ "href": format!("{}/projects/company/repos/infra/pull-requests/{}", state.url, change.number) }] },
    })
}

fn commented(state: &State, comment: &Comment) -> Value {
    json!({
        "id": comment.id, "version": comment.version, "text": comment.body, "author": user(state, &comment.author),
        "createdDate": millis(comment.created_at), "updatedDate": millis(comment.updated_at), "comments": [],
        "severity": "NORMAL", "state": "OPEN",
    })
}

fn message(state: &State, happening: &Happening) -> Option<Message> {
    let told = |event: &str, number: &u64, comment: Option<&Comment>| {
        let mut body = json!({
            "eventKey": event, "actor": user(state, &happening.login),
            "pullRequest": request(state, state.changes.get(number)?),
        });
        if let Some(comment) = comment {
            body["comment"] = commented(state, comment);
        }
        Some(Message { event: event.to_owned(), body })
    };
    match &happening.what {
        What::Moved { branch, before, after } => {
            let none = "0".repeat(40);
            let body = json!({
                "eventKey": "repo:refs_changed", "actor": user(state, &happening.login),
                "repository": repo(REPOSITORY),
                "changes": [{
                    "ref": { "id": format!("refs/heads/{branch}"), "displayId": branch, "type": "BRANCH" },
                    "fromHash": before.as_ref().unwrap_or(&none), "toHash": after.as_ref().unwrap_or(&none),
                }],
            });
            Some(Message { event: "repo:refs_changed".into(), body })
        }
        What::Opened(number) => told("pr:opened", number, None),
        What::Pushed { number, .. } => told("pr:from_ref_updated", number, None),
        What::Edited(number) => told("pr:modified", number, None),
        What::Merged(number) => told("pr:merged", number, None),
        What::Closed(number) => told("pr:declined", number, None),
        What::Reviewed { number, review } => match review.word {
            Word::Approves => told("pr:reviewer:approved", number, None),
            Word::Refuses => told("pr:reviewer:needs_work", number, None),
            Word::Remarks => None,
        },
        What::Dismissed { number, .. } => told("pr:reviewer:unapproved", number, None),
        What::Commented { number, comment } => told("pr:comment:added", number, Some(comment)),
        What::CommentEdited { number, comment } => told("pr:comment:edited", number, Some(comment)),
        What::CommentDeleted { number, comment } => told("pr:comment:deleted", number, Some(comment)),
        // There are no labels; of those that were opened again nothing is told.
        What::Labelled(_) | What::Reopened(_) => None,
    }
}

fn headers(message: &Message, id: &str, secret: &str) -> Vec<(String, String)> {
    let headers = [
        ("x-event-key", message.event.clone()),
        ("x-request-id", id.to_owned()),
        ("x-hub-signature", format!("sha256={}", signature(secret, &message.bytes()))),
    ];
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
