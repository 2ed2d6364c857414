//! Gitea's API as version 1 of its description has it; Forgejo's is the same here. Times have no parts of a second.

use super::github::commit;
use super::repository::Method;
use super::server::{Asked, Reply, page};
use super::state::{
    Change, ChangeState, Comment, Happening, Hindrance, REPOSITORY, Review, Right, State, Status, What, Word,
};
use super::{Dialect, Message, micros, signature, time, until};
use serde_json::{Value, json};

pub(super) const DIALECT: Dialect = Dialect {
    name: "Gitea",
    reference: |number| Some(format!("refs/pull/{number}/head")),
    answer,
    message,
    headers,
    // It does not count requests; a proxy before it may.
    budget: |_| Vec::new(),
    exhausted: |budget| Reply::new(429, json!({ "message": "Too Many Requests" })).with("retry-after", until(budget)),
};

/// Entries of a page, unless fewer are asked for, and at most.
const PAGE: usize = 30;
const LARGEST: usize = 50;
/// A label's colour.
const COLOUR: &str = "ededed";
const REACTIONS: [&str; 8] = ["+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"];

fn no(status: u16, message: &str) -> Reply {
    Reply::new(status, json!({ "message": message, "url": "https://gitea.example/api/swagger" }))
}

fn missing() -> Reply {
    no(404, "The target couldn't be found.")
}

fn broken(error: &crate::TestkitError) -> Reply {
    no(500, &error.to_string())
}

fn answer(state: &mut State, asked: &Asked) -> Reply {
    let given = asked.header("authorization").and_then(|value| value.strip_prefix("token "));
    let Some(token) = given.and_then(|given| state.tokens.get(given)).cloned() else {
        return no(401, "invalid username, password or token");
    };
    let scope = |right: Right, scope: &str| {
        let problem = format!("token does not have at least one of required scope(s): [{scope}]");
        if token.rights.contains(&right) { Ok(()) } else { Err(no(403, &problem)) }
    };
    let parts = asked.parts();
    let ["api", "v1", rest @ ..] = parts.as_slice() else { return missing() };
    let asks = asked.method == "GET";
    let checked = match rest {
        ["user"] => scope(Right::Read, "read:user"),
        ["orgs" | "teams", ..] => scope(Right::Members, "read:organization"),
        _ if asks => scope(Right::Read, "read:repository"),
        ["repos", _, _, "issues", "comments", ..] | ["repos", _, _, "issues", _, "comments"] => {
            scope(Right::Comment, "write:issue")
        }
        ["repos", _, _, "issues" | "labels", ..] => scope(Right::Label, "write:issue"),
        ["repos", _, _, "statuses", _] => scope(Right::Status, "write:repository"),
        _ => scope(Right::Merge, "write:repository"),
    };
    if let Err(reply) = checked {
        return reply;
    }
    let login = token.login.as_str();
    match (asked.method.as_str(), rest) {
        ("GET", ["user"]) => Reply::new(200, user(state, login)),
        ("GET", ["orgs", org, "teams", "search"]) => teams(state, asked, org),
        ("GET", ["teams", id, "members", person]) => {
            let team = state.teams.iter().nth(id.parse::<usize>().unwrap_or(usize::MAX).wrapping_sub(1));
            match team {
                Some((_, members)) if members.contains(*person) => Reply::new(200, user(state, person)),
                _ => missing(),
            }
        }
        (_, ["repos", owner, name, rest @ ..]) if format!("{owner}/{name}") == REPOSITORY => {
            repository(state, asked, login, rest)
        }
        _ => missing(),
    }
}

fn repository(state: &mut State, asked: &Asked, login: &str, rest: &[&str]) -> Reply {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match (asked.method.as_str(), rest) {
        ("GET", []) => Reply::new(200, repo(state, REPOSITORY)),
        ("GET", ["pulls"]) => pulls(state, asked),
        ("GET", ["pulls", at]) => match state.changes.get(&number(at)) {
            Some(change) => Reply::new(200, pull(state, change)),
            None => missing(),
        },
        ("GET", ["pulls", at, "reviews"]) => match state.changes.get(&number(at)) {
            Some(change) => listed(asked, state, change.reviews.iter().map(|review| reviewed(state, change, review))),
            None => missing(),
        },
        ("GET", ["pulls", at, "commits"]) => match state.changes.contains_key(&number(at)) {
            true => {
                let commits = state.commits(number(at)).into_iter();
                listed(asked, state, commits.map(|it| commit(&it, &|login| user(state, login), state)))
            }
            false => missing(),
        },
        ("POST", ["pulls", at, "merge"]) => merge(state, asked, login, number(at)),
        ("GET", ["issues", at, "comments"]) => {
            // It does not tell what is not there from what is broken.
            let Some(change) = state.changes.get(&number(at)) else { return no(500, "") };
            let since = asked.parameter("since").map(|text| micros(text).unwrap_or(i64::MAX) / 1_000_000);
            let newer = |comment: &&Comment| since.is_none_or(|since| comment.updated_at / 1_000_000 >= since);
            // All of them at once.
            let found = change.comments.iter().filter(newer).map(|it| commented(state, change.number, it));
            Reply::new(200, found.collect())
        }
        ("POST", ["issues", at, "comments"]) => {
            let body = asked.json()["body"].as_str().unwrap_or_default().to_owned();
            if body.is_empty() {
                return no(422, "[Body]: Required");
            }
            let number = number(at);
            match state.comment(login, number, &body) {
                Ok(comment) => Reply::new(201, commented(state, number, &comment)),
                Err(_) => no(500, ""),
            }
        }
        ("PATCH", ["issues", "comments", id]) => {
            let (id, body) = (number(id), asked.json()["body"].as_str().unwrap_or_default().to_owned());
            match state.comment_find(id) {
                None => return missing(),
                // Who may write to the repository may do it in the name of others.
                Some(_) if body.is_empty() => return no(422, "[Body]: Required"),
                Some(_) => {}
            }
            match state.comment_edit(login, id, &body) {
                Ok(comment) => Reply::new(200, commented(state, 0, &comment)),
                Err(error) => broken(&error),
            }
        }
        ("POST", ["issues", "comments", id, "reactions"]) => react(state, asked, login, number(id)),
        ("GET", ["issues", at, "labels"]) => match state.changes.get(&number(at)) {
            Some(change) => Reply::new(200, change.labels.iter().map(|name| label(state, name)).collect()),
            None => missing(),
        },
        ("GET", ["labels"]) => listed(asked, state, state.labels.keys().map(|name| label(state, name))),
        ("POST", ["labels"]) => {
            let body = asked.json();
            let (Some(name), Some(colour)) = (body["name"].as_str(), body["color"].as_str()) else {
                return no(422, "[Name]: Required");
            };
            let digits = colour.strip_prefix('#').unwrap_or_default();
            if digits.len() != 6 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return no(422, "invalid color");
            }
            state.label(name);
            Reply::new(201, label(state, name))
        }
        ("POST", ["issues", at, "labels"]) => {
            let wanted = asked.json()["labels"].as_array().cloned().unwrap_or_default();
            let known = |id: &Value| state.labels.iter().find(|(_, known)| id.as_u64() == Some(**known));
            let names: Option<Vec<String>> = wanted.iter().map(|id| Some(known(id)?.0.clone())).collect();
            let Some(names) = names else { return no(422, "there is no such label") };
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            match state.labels_set(login, number(at), &names, &[]) {
                Ok(()) => Reply::new(200, names.iter().map(|name| label(state, name)).collect()),
                Err(_) => missing(),
            }
        }
        ("DELETE", ["issues", at, "labels", id]) => {
            let name = state.labels.iter().find(|(_, known)| **known == number(id)).map(|(name, _)| name.clone());
            match name.and_then(|name| state.labels_set(login, number(at), &[], &[&name]).ok()) {
                Some(()) => Reply::empty(204),
                None => missing(),
            }
        }
        ("POST", ["statuses", commit]) => status(state, asked, commit),
        ("DELETE", ["branches", name @ ..]) => match name.join("/").as_str() {
            "main" => no(403, "can not delete default branch"),
            name => match state.branch_delete(login, name) {
                Ok(true) => Reply::empty(204),
                Ok(false) => missing(),
                Err(error) => broken(&error),
            },
        },
        _ => missing(),
    }
}

fn pulls(state: &State, asked: &Asked) -> Reply {
    let wanted = asked.parameter("state").unwrap_or("open");
    let is_wanted = |change: &&Change| match wanted {
        "open" => change.state == ChangeState::Open,
        "closed" => change.state != ChangeState::Open,
        _ => true,
    };
    let mut found: Vec<&Change> = state.changes.values().filter(is_wanted).collect();
    match asked.parameter("sort") {
        Some("recentupdate") => found.sort_by_key(|change| std::cmp::Reverse(change.updated_at)),
        _ => found.reverse(),
    }
    listed(asked, state, found.into_iter().map(|change| pull(state, change)))
}

/// A page of a list, with the addresses of others as the server calls itself: not always as others do.
fn listed(asked: &Asked, state: &State, list: impl Iterator<Item = Value>) -> Reply {
    let size = asked.number("limit").filter(|size| *size > 0).unwrap_or(PAGE).min(LARGEST);
    let at = asked.number("page").unwrap_or(1).max(1);
    let (found, total) = page(list.collect(), (at - 1) * size, size);
    let reply = Reply::new(200, found.into()).with("x-total-count", total.to_string());
    if at * size >= total {
        return reply;
    }
    let outside = state.url.replace("127.0.0.1", "gitea.example");
    let next = asked.path_with("page", &(at + 1).to_string());
    reply.with("link", format!("<{outside}{next}>; rel=\"next\""))
}

fn teams(state: &State, asked: &Asked, org: &str) -> Reply {
    let word = asked.parameter("q").unwrap_or_default().to_lowercase();
    let teams = state.teams.keys().enumerate().filter_map(|(at, name)| {
        let name = name.strip_prefix(org)?.strip_prefix('/')?;
        name.to_lowercase().contains(&word).then(|| json!({ "id": at + 1, "name": name }))
    });
    Reply::new(200, json!({ "ok": true, "data": teams.collect::<Vec<_>>() }))
}

fn react(state: &mut State, asked: &Asked, login: &str, id: u64) -> Reply {
    let content = asked.json()["content"].as_str().unwrap_or_default().to_owned();
    let Some((number, _)) = state.comment_find(id) else { return missing() };
    if !REACTIONS.contains(&content.as_str()) {
        return no(403, &format!("'{content}' is not an allowed reaction"));
    }
    let made = state.change(number).ok().and_then(|change| {
        let comment = change.comments.iter_mut().find(|comment| comment.id == id)?;
        Some(comment.reactions.insert((login.to_owned(), content.clone())))
    });
    let status = if made == Some(true) { 201 } else { 200 };
    Reply::new(status, json!({ "user": user(state, login), "content": content }))
}

fn status(state: &mut State, asked: &Asked, commit: &str) -> Reply {
    let body = asked.json();
    let word = body["state"].as_str().unwrap_or_default();
    if !["pending", "success", "error", "failure", "warning"].contains(&word) {
        return no(422, "[State]: unknown");
    }
    if commit.len() != 40 || state.main().ok().and_then(|main| main.commit(commit)).is_none() {
        return no(500, "");
    }
    let at = state.now();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let url = body["target_url"].as_str().filter(|url| !url.is_empty()).map(str::to_owned);
    let name = body["context"].as_str().filter(|name| !name.is_empty()).unwrap_or("default").to_owned();
    let status = Status { commit: commit.into(), name, state: word.into(), text: text(&body["description"]), url, at };
    state.status_set(status.clone());
    let shown = json!({
        "id": at, "status": status.state, "context": status.name, "description": status.text, "target_url": status.url,
    });
    Reply::new(201, shown)
}

fn merge(state: &mut State, asked: &Asked, login: &str, number: u64) -> Reply {
    let body = asked.json();
    let method = match body["Do"].as_str() {
        Some("merge") => Method::Merge,
        Some("squash") => Method::Squash,
        Some("rebase") => Method::Rebase,
        _ => return no(422, "[Do]: Required"),
    };
    if state.checking > 0 {
        state.checking -= 1;
        return no(405, "Please try again later");
    }
    let commit = body["head_commit_id"].as_str().filter(|commit| !commit.is_empty());
    match state.merge(login, number, commit, method) {
        Ok(Ok(_)) => Reply::empty(200),
        Ok(Err(Hindrance::NotOpen(ChangeState::Closed))) | Err(crate::TestkitError::Refused { .. }) => missing(),
        Ok(Err(Hindrance::NotOpen(_))) => no(405, ""),
        Ok(Err(Hindrance::Draft)) => no(405, "Work in progress PRs cannot be merged"),
        Ok(Err(Hindrance::Waits(why))) => no(405, &why),
        Ok(Err(Hindrance::HeadMoved)) => no(409, "head out of date"),
        Ok(Err(Hindrance::Conflict)) => no(409, "merge conflict"),
        Err(error) => broken(&error),
    }
}

fn user(state: &State, login: &str) -> Value {
    json!({ "id": state.id(login), "login": login, "full_name": "", "email": format!("{login}@example.com") })
}

fn repo(state: &State, name: &str) -> Value {
    let at = state.repositories.keys().position(|known| known == name).map(|at| at + 1);
    let (owner, short) = name.split_once('/').unwrap_or_default();
    json!({
        "id": at, "name": short, "full_name": name, "owner": user(state, owner), "default_branch": "main",
        "html_url": format!("{}/{name}", state.url), "clone_url": format!("{}/{name}.git", state.url),
        "ssh_url": format!("git@gitea.example:{name}.git"), "fork": name != REPOSITORY,
    })
}

fn label(state: &State, name: &str) -> Value {
    json!({ "id": state.labels.get(name), "name": name, "color": COLOUR })
}

fn pull(state: &State, change: &Change) -> Value {
    let gone = change.repository.is_empty();
    let there =
        state.repositories.get(&change.repository).and_then(|it| it.commit(&format!("refs/heads/{}", change.branch)));
    let head = match there {
        Some(_) => change.branch.clone(),
        None => format!("refs/pull/{}/head", change.number),
    };
    json!({
        "id": 5_000 + change.number, "number": change.number, "title": change.title, "draft": change.draft,
        "html_url": format!("{}/{REPOSITORY}/pulls/{}", state.url, change.number),
        "user": user(state, &change.author),
        "state": if change.state == ChangeState::Open { "open" } else { "closed" },
        "merged": change.state == ChangeState::Merged,
        "merge_commit_sha": change.merged_as,
        "labels": change.labels.iter().map(|name| label(state, name)).collect::<Vec<_>>(),
        "head": {
            "label": change.branch, "ref": head, "sha": change.commit,
            "repo_id": if gone { -1 } else { 1 },
            "repo": (!gone).then(|| repo(state, &change.repository)),
        },
        "base": { "label": change.base, "ref": change.base, "repo_id": 1, "repo": repo(state, REPOSITORY) },
        "created_at": time(change.created_at, 0), "updated_at": time(change.updated_at, 0),
    })
}

fn commented(state: &State, number: u64, comment: &Comment) -> Value {
    json!({
        "id": comment.id, "body": comment.body, "user": user(state, &comment.author),
        "html_url": format!("{}/{REPOSITORY}/pulls/{number}#issuecomment-{}", state.url, comment.id),
        "created_at": time(comment.created_at, 0), "updated_at": time(comment.updated_at, 0),
    })
}

fn reviewed(state: &State, change: &Change, review: &Review) -> Value {
    let word = match review.word {
        Word::Approves => "APPROVED",
        Word::Refuses => "REQUEST_CHANGES",
        Word::Remarks => "COMMENT",
    };
    json!({
        "id": review.id, "user": user(state, &review.person), "state": word, "body": "", "commit_id": review.commit,
        "stale": review.commit != change.commit, "official": review.word != Word::Remarks && !state.outsiders.contains(&review.person),
        "dismissed": review.dismissed, "submitted_at": time(review.at, 0),
    })
}

fn message(state: &State, happening: &Happening) -> Option<Message> {
    let sender = user(state, &happening.login);
    let whole = |event: &str, action: &str, number: &u64, more: Value| {
        let change = state.changes.get(number)?;
        let mut body = json!({
            "action": action, "number": number, "pull_request": pull(state, change), "sender": sender,
            "repository": repo(state, REPOSITORY),
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        Some(Message { event: event.to_owned(), body })
    };
    let of_comment = |action: &str, number: &u64, comment: &Comment| {
        let change = state.changes.get(number)?;
        let issue = json!({ "number": number, "title": change.title, "pull_request": { "merged": change.merged_as.is_some() } });
        let body = json!({
            "action": action, "is_pull": true, "issue": issue, "comment": commented(state, *number, comment),
            "repository": repo(state, REPOSITORY), "sender": sender,
        });
        Some(Message { event: "issue_comment".into(), body })
    };
    match &happening.what {
        What::Moved { branch, before, after } => {
            let none = "0".repeat(40);
            let body = json!({
                "ref": format!("refs/heads/{branch}"), "before": before.as_ref().unwrap_or(&none),
                "after": after.as_ref().unwrap_or(&none), "repository": repo(state, REPOSITORY), "pusher": sender,
                "sender": sender,
            });
            Some(Message { event: "push".into(), body })
        }
        What::Opened(number) => whole("pull_request", "opened", number, Value::Null),
        What::Pushed { number, .. } => whole("pull_request", "synchronized", number, Value::Null),
        What::Edited(number) => whole("pull_request", "edited", number, Value::Null),
        What::Closed(number) | What::Merged(number) => whole("pull_request", "closed", number, Value::Null),
        What::Reopened(number) => whole("pull_request", "reopened", number, Value::Null),
        What::Labelled(number) => whole("pull_request", "label_updated", number, Value::Null),
        What::Reviewed { number, review } => {
            let event = match review.word {
                Word::Approves => "pull_request_approved",
                Word::Refuses => "pull_request_rejected",
                Word::Remarks => "pull_request_comment",
            };
            whole(event, "reviewed", number, json!({ "review": { "type": format!("pull_request_review_{event}") } }))
        }
        // It tells nobody.
        What::Dismissed { .. } => None,
        What::Commented { number, comment } => of_comment("created", number, comment),
        What::CommentEdited { number, comment } => of_comment("edited", number, comment),
        What::CommentDeleted { number, comment } => of_comment("deleted", number, comment),
    }
}

fn headers(message: &Message, id: &str, secret: &str) -> Vec<(String, String)> {
    let signed = signature(secret, &message.bytes());
    // `issue_comment` of the type is the event of all kinds of comments.
    let headers = [
        ("x-gitea-event", message.event.clone()),
        ("x-gitea-delivery", id.to_owned()),
        ("x-gitea-signature", signed.clone()),
        ("x-hub-signature-256", format!("sha256={signed}")),
    ];
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
