//! GitLab's API as version 4 of its documentation has it.

use super::repository::{Method, Written};
use super::server::{Asked, Reply, page};
use super::state::{
    Change, ChangeState, Comment, Happening, Hindrance, REPOSITORY, Review, Right, State, Status, What, Word,
};
use super::{Dialect, Message, micros, time, until};
use crate::TestkitError;
use serde_json::{Value, json};

pub(super) const DIALECT: Dialect = Dialect {
    name: "GitLab",
    reference: |number| Some(format!("refs/merge-requests/{number}/head")),
    answer,
    message,
    headers,
    budget: |budget| {
        let header = |name: &str, value: String| (format!("ratelimit-{name}"), value);
        vec![
            header("limit", budget.limit.to_string()),
            header("remaining", budget.remaining.to_string()),
            header("reset", budget.resets_at.to_string()),
        ]
    },
    exhausted: |budget| Reply::new(429, json!({ "message": "Retry later" })).with("retry-after", until(budget)),
};

/// Entries of a page, unless others are asked for, and at most.
const PAGE: usize = 20;
const LARGEST: usize = 100;
/// Longest texts that are taken, letters.
const NOTE: usize = 1_000_000;
const STATUS: usize = 255;

fn no(status: u16, message: &str) -> Reply {
    Reply::new(status, json!({ "message": message }))
}

fn missing(what: &str) -> Reply {
    no(404, &format!("404 {what} Not Found"))
}

fn broken(error: &TestkitError) -> Reply {
    match error {
        TestkitError::Refused { .. } => missing("Merge Request"),
        error => no(500, &error.to_string()),
    }
}

fn answer(state: &mut State, asked: &Asked) -> Reply {
    let bearer = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let given = bearer.or_else(|| asked.header("private-token"));
    let Some(token) = given.and_then(|given| state.tokens.get(given)).cloned() else {
        return no(401, "401 Unauthorized");
    };
    let may = |right: Right| token.rights.contains(&right);
    let parts = asked.parts();
    if parts == ["api", "graphql"] && asked.method == "POST" && may(Right::Read) {
        return authors(state, asked);
    }
    let ["api", "v4", rest @ ..] = parts.as_slice() else { return missing("") };
    let allowed = match rest {
        _ if !may(Right::Read) => {
            let problem = "The request requires higher privileges than provided by the access token.";
            let body = json!({ "error": "insufficient_scope", "error_description": problem, "scope": "api read_api" });
            return Reply::new(403, body);
        }
        ["groups", ..] => may(Right::Members),
        _ if asked.method == "GET" => true,
        [_, _, "merge_requests", _, "notes", ..] => may(Right::Comment),
        [_, _, "statuses", _] => may(Right::Status),
        // Who may comment may not merge; it says so in another way than elsewhere.
        [_, _, "merge_requests", _, "merge"] if !may(Right::Merge) => return no(401, "401 Unauthorized"),
        [_, _, "merge_requests", _] => may(Right::Label),
        _ => may(Right::Merge),
    };
    if !allowed {
        return no(403, "403 Forbidden");
    }
    let login = token.login.as_str();
    match (asked.method.as_str(), rest) {
        ("GET", ["user"]) => Reply::new(200, user(state, login)),
        ("GET", ["groups", name]) => match state.teams.contains_key(*name) {
            true => Reply::new(200, json!({ "full_path": name })),
            false => missing("Group"),
        },
        ("GET", ["groups", name, "members", "all", id]) => {
            let member = id.parse().ok().and_then(|id| state.login(id));
            match (state.teams.get(*name), member) {
                (None, _) => missing("Group"),
                (Some(members), Some(member)) if members.contains(member) => {
                    let mut member = user(state, member);
                    member["access_level"] = 30.into();
                    Reply::new(200, member)
                }
                _ => missing(""),
            }
        }
        (_, ["projects", name, rest @ ..]) => {
            let by_id = |(at, _): &(usize, &String)| *name == (at + 1).to_string();
            let by_id = state.repositories.keys().enumerate().find(by_id).map(|(_, name)| name.clone());
            let name = by_id.unwrap_or_else(|| (*name).to_owned());
            match (state.repositories.contains_key(&name), rest) {
                (false, _) => missing("Project"),
                (true, []) if asked.method == "GET" => Reply::new(200, project(state, &name)),
                (true, rest) if name == REPOSITORY => repository(state, asked, login, rest),
                _ => missing(""),
            }
        }
        _ => missing(""),
    }
}

fn repository(state: &mut State, asked: &Asked, login: &str, rest: &[&str]) -> Reply {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    match (asked.method.as_str(), rest) {
        ("GET", ["merge_requests"]) => requests(state, asked),
        ("GET", ["merge_requests", at]) => match state.changes.get(&number(at)) {
            Some(change) => Reply::new(200, request(state, change)),
            None => missing(""),
        },
        ("PUT", ["merge_requests", at]) => {
            let body = asked.json();
            let names = |name: &str| -> Vec<String> {
                let names = body[name].as_str().unwrap_or_default().split(',').map(str::trim);
                names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
            };
            let (add, remove) = (names("add_labels"), names("remove_labels"));
            let add: Vec<&str> = add.iter().map(String::as_str).collect();
            let remove: Vec<&str> = remove.iter().map(String::as_str).collect();
            match state.labels_set(login, number(at), &add, &remove) {
                Ok(()) => {
                    Reply::new(200, state.changes.get(&number(at)).map(|it| request(state, it)).unwrap_or_default())
                }
                Err(error) => broken(&error),
            }
        }
        ("PUT", ["merge_requests", at, "merge"]) => merge(state, asked, login, number(at)),
        (_, ["merge_requests", at, "notes", rest @ ..]) => notes(state, asked, login, number(at), rest),
        ("GET", ["merge_requests", at, "commits"]) => {
            if !state.changes.contains_key(&number(at)) {
                return missing("");
            }
            // Neither accounts nor an order that could be asked for.
            let mut commits: Vec<Value> = state.commits(number(at)).iter().map(written).collect();
            commits.reverse();
            listed(asked, state, commits)
        }
        ("GET", ["merge_requests", at, "approvals"]) => {
            if !state.changes.contains_key(&number(at)) {
                return missing("");
            }
            let approves = |review: &&Review| review.word == Word::Approves && !review.dismissed;
            let approved = state.words(number(at)).into_iter().filter(approves);
            // When that was, older servers do not say.
            let approved: Vec<Value> = approved.map(|review| json!({ "user": user(state, &review.person) })).collect();
            Reply::new(200, json!({ "iid": number(at), "approved": !approved.is_empty(), "approved_by": approved }))
        }
        ("GET", ["merge_requests", at, "reviewers"]) => {
            let words = state.words(number(at));
            let reviewers = words.into_iter().map(|review| {
                let word = match review.word {
                    Word::Approves if !review.dismissed => "approved",
                    Word::Refuses if !review.dismissed => "requested_changes",
                    _ => "unreviewed",
                };
                json!({ "user": user(state, &review.person), "state": word, "created_at": time(review.at, 3) })
            });
            Reply::new(200, reviewers.collect())
        }
        ("POST", ["statuses", commit]) => status(state, asked, commit),
        ("DELETE", ["repository", "branches", "main"]) => no(405, "Protected branch can't be removed"),
        ("DELETE", ["repository", "branches", name]) => match state.branch_delete(login, name) {
            Ok(true) => Reply::empty(204),
            Ok(false) => missing("Branch"),
            Err(error) => broken(&error),
        },
        _ => missing(""),
    }
}

fn requests(state: &State, asked: &Asked) -> Reply {
    let wanted = asked.parameter("state").unwrap_or("all");
    let after = asked.parameter("updated_after").map(|text| micros(text).unwrap_or(i64::MAX));
    let is_wanted = |change: &&Change| {
        (wanted == "all" || wanted == word(change.state)) && after.is_none_or(|after| change.updated_at >= after)
    };
    let mut found: Vec<&Change> = state.changes.values().filter(is_wanted).collect();
    match asked.parameter("order_by") {
        Some("updated_at") => found.sort_by_key(|change| change.updated_at),
        _ => found.sort_by_key(|change| change.created_at),
    }
    listed(asked, state, found.into_iter().map(|change| request(state, change)).collect())
}

/// A page of a list that is in ascending order.
fn listed(asked: &Asked, state: &State, mut list: Vec<Value>) -> Reply {
    if asked.parameter("sort").unwrap_or("desc") == "desc" {
        list.reverse();
    }
    let size = asked.number("per_page").filter(|size| *size > 0).unwrap_or(PAGE).min(LARGEST);
    let at = asked.number("page").unwrap_or(1).max(1);
    let (found, total) = page(list, (at - 1) * size, size);
    let reply = Reply::new(200, found.into()).with("x-total", total.to_string());
    if at * size >= total {
        return reply.with("x-next-page", "");
    }
    let next = format!("{}{}", state.url, asked.path_with("page", &(at + 1).to_string()));
    reply.with("x-next-page", (at + 1).to_string()).with("link", format!("<{next}>; rel=\"next\""))
}

fn notes(state: &mut State, asked: &Asked, login: &str, number: u64, rest: &[&str]) -> Reply {
    if !state.changes.contains_key(&number) {
        return missing("Noteable");
    }
    let on_it = |state: &State, id: &str| {
        let (on, comment) = state.comment_find(id.parse().ok()?)?;
        (on == number).then(|| comment.clone())
    };
    let body = asked.json();
    let text = body["body"].as_str().unwrap_or_default();
    match (asked.method.as_str(), rest) {
        ("GET", []) => {
            let Some(change) = state.changes.get(&number) else { return missing("Noteable") };
            let mut notes: Vec<Value> = change.comments.iter().map(|comment| note(state, comment)).collect();
            // What happened is among what people said.
            for review in change.reviews.iter().filter(|review| review.word != Word::Remarks) {
                let said =
                    if review.word == Word::Approves { "approved this merge request" } else { "requested changes" };
                notes.push(noted(state, review.id, &review.person, said, review.at));
            }
            let mut on_a_line = noted(state, 1, &change.author, "why?", change.created_at);
            (on_a_line["type"], on_a_line["system"]) = ("DiffNote".into(), false.into());
            notes.push(on_a_line);
            let key = asked.parameter("order_by").unwrap_or("created_at").to_owned();
            notes.sort_by_key(|note| note[&key].as_str().unwrap_or_default().to_owned());
            listed(asked, state, notes)
        }
        ("POST", []) | ("PUT", [_]) if text.trim().is_empty() => {
            no(400, "400 Bad request - Note {:note=>[\"can't be blank\"]}")
        }
        ("POST", []) | ("PUT", [_]) if text.chars().count() > NOTE => {
            no(400, "400 Bad request - Note {:note=>[\"is too long (maximum is 1000000 characters)\"]}")
        }
        ("POST", []) => {
            if let Some(command) = text.lines().find(|line| line.starts_with("/merge") || line.starts_with("/close")) {
                // It is done, and not shown.
                let done = match command {
                    "/close" => state.close(login, number),
                    _ => state.merge(login, number, None, Method::Merge).map(drop),
                };
                return match done {
                    Ok(()) => Reply::new(202, json!({ "commands_changes": {}, "summary": ["Done."] })),
                    Err(error) => broken(&error),
                };
            }
            match state.comment(login, number, text) {
                Ok(comment) => Reply::new(201, note(state, &comment)),
                Err(error) => broken(&error),
            }
        }
        ("PUT", [id]) => match on_it(state, id) {
            None => missing("Note"),
            Some(comment) if comment.author != login => no(403, "403 Forbidden"),
            Some(comment) => match state.comment_edit(login, comment.id, text) {
                Ok(comment) => Reply::new(200, note(state, &comment)),
                Err(error) => broken(&error),
            },
        },
        ("POST", [id, "award_emoji"]) => {
            let Some(name) = body["name"].as_str().filter(|name| ["eyes", "thumbsup", "thumbsdown"].contains(name))
            else {
                return no(400, "name does not have a valid value");
            };
            let Some(comment) = on_it(state, id) else { return missing("Note") };
            let change = state.changes.get_mut(&number);
            let comment = change.and_then(|it| it.comments.iter_mut().find(|known| known.id == comment.id));
            match comment.map(|comment| comment.reactions.insert((login.to_owned(), name.to_owned()))) {
                Some(true) => Reply::new(201, json!({ "name": name, "user": user(state, login) })),
                _ => missing("Award Emoji Name has already been taken"),
            }
        }
        _ => missing(""),
    }
}

fn status(state: &mut State, asked: &Asked, commit: &str) -> Reply {
    let body = asked.json();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let (word, name) = (text("state"), body["name"].as_str().unwrap_or("default").to_owned());
    if !["pending", "running", "success", "failed", "canceled", "skipped"].contains(&word.as_str()) {
        return Reply::new(400, json!({ "error": "state does not have a valid value" }));
    }
    if [&name, &text("description"), &text("target_url")].iter().any(|text| text.chars().count() > STATUS) {
        return no(400, "is too long (maximum is 255 characters)");
    }
    let Ok(main) = state.main().cloned() else { return missing("Project") };
    if main.commit(commit).is_none() {
        return missing("Commit");
    }
    // What only a fork has is on no branch here.
    if !main.branches().unwrap_or_default().iter().any(|(_, tip)| main.reaches(tip, commit)) {
        return missing("References for commit");
    }
    let known = state.statuses_of(commit).into_iter().find(|status| status.name == name);
    if word == "pending" && known.is_some_and(|status| status.state == "pending") {
        return no(
            400,
            "Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via \"enqueue\")",
        );
    }
    let (at, url) = (state.now(), body["target_url"].as_str().map(str::to_owned));
    let status = Status { commit: commit.into(), name, state: word, text: text("description"), url, at };
    state.status_set(status.clone());
    let shown =
        json!({ "id": at, "sha": commit, "status": status.state, "name": status.name, "description": status.text });
    Reply::new(201, shown)
}

fn merge(state: &mut State, asked: &Asked, login: &str, number: u64) -> Reply {
    let body = asked.json();
    let method = if body["squash"] == true { Method::Squash } else { Method::Merge };
    match state.merge(login, number, body["sha"].as_str(), method) {
        Ok(Ok(_)) => {
            Reply::new(200, state.changes.get(&number).map(|change| request(state, change)).unwrap_or_default())
        }
        Ok(Err(Hindrance::HeadMoved)) => no(409, "SHA does not match HEAD of source branch"),
        Ok(Err(Hindrance::Conflict)) => no(422, "Branch cannot be merged"),
        Ok(Err(_)) => no(405, "405 Method Not Allowed"),
        Err(error) => broken(&error),
    }
}

fn written(commit: &Written) -> Value {
    let ([name, mail], [committer, address]) = (&commit.author, &commit.committer);
    json!({
        "id": commit.id, "short_id": commit.id.get(..8), "title": "something new", "author_name": name, "author_email": mail,
        "committer_name": committer, "committer_email": address,
    })
}

/// The one question that is asked over GraphQL: whose the commits of a change are.
fn authors(state: &State, asked: &Asked) -> Reply {
    let body = asked.json();
    let query = body["query"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted = "query($path: ID!, $number: String!, $after: String) { project(fullPath: $path) { mergeRequest(iid: $number) \
                  { commits(first: 100, after: $after) { pageInfo { hasNextPage endCursor } \
                  nodes { sha author { id username } } } } } }";
    if query != wanted {
        return Reply::new(200, json!({ "errors": [{ "message": "Parse error on \"query\"" }] }));
    }
    let variables = &body["variables"];
    let number = variables["number"].as_str().and_then(|number| number.parse().ok()).unwrap_or(0);
    if variables["path"] != REPOSITORY || !state.changes.contains_key(&number) {
        return Reply::new(200, json!({ "data": { "project": null } }));
    }
    let from: usize = variables["after"].as_str().and_then(|after| after.parse().ok()).unwrap_or(0);
    let node = |commit: &Written| {
        let author = state.login_of(&commit.author[1]);
        let author =
            author.map(|login| json!({ "id": format!("gid://gitlab/User/{}", state.id(login)), "username": login }));
        json!({ "sha": commit.id, "author": author })
    };
    let (nodes, total) = page(state.commits(number).iter().map(node).collect(), from, LARGEST);
    let page = json!({ "hasNextPage": from + LARGEST < total, "endCursor": (from + nodes.len()).to_string() });
    let commits = json!({ "pageInfo": page, "nodes": nodes });
    Reply::new(200, json!({ "data": { "project": { "mergeRequest": { "commits": commits } } } }))
}

fn word(state: ChangeState) -> &'static str {
    match state {
        ChangeState::Open => "opened",
        ChangeState::Merged => "merged",
        ChangeState::Closed => "closed",
    }
}

fn user(state: &State, login: &str) -> Value {
    json!({ "id": state.id(login), "username": login, "name": login, "state": "active" })
}

fn place(state: &State, name: &str) -> Option<usize> {
    state.repositories.keys().position(|known| known == name).map(|at| at + 1)
}

fn project(state: &State, name: &str) -> Value {
    json!({
        "id": place(state, name), "path_with_namespace": name, "default_branch": "main",
        "web_url": format!("{}/{name}", state.url), "git_http_url": format!("{}/{name}.git", state.url),
        "git_ssh_url": format!("git@gitlab.example:{name}.git"), "http_url_to_repo": format!("{}/{name}.git", state.url),
    })
}

fn request(state: &State, change: &Change) -> Value {
    json!({
        "id": 5_000 + change.number, "iid": change.number, "title": change.title, "state": word(change.state),
        "draft": change.draft, "web_url": format!("{}/{REPOSITORY}/-/merge_requests/{}", state.url, change.number),
        "author": user(state, &change.author), "source_branch": change.branch, "target_branch": change.base,
        "source_project_id": place(state, &change.repository), "target_project_id": place(state, REPOSITORY),
        "project_id": place(state, REPOSITORY), "sha": change.commit, "merge_commit_sha": change.merged_as,
        "squash_commit_sha": null, "labels": change.labels, "created_at": time(change.created_at, 3),
        "updated_at": time(change.updated_at, 3),
    })
}

fn note(state: &State, comment: &Comment) -> Value {
    json!({
        "id": comment.id, "type": null, "body": comment.body, "author": user(state, &comment.author), "system": false,
        "noteable_type": "MergeRequest", "created_at": time(comment.created_at, 3), "updated_at": time(comment.updated_at, 3),
    })
}

/// What the forge itself notes.
fn noted(state: &State, id: u64, login: &str, text: &str, at: i64) -> Value {
    json!({
        "id": id, "type": null, "body": text, "author": user(state, login), "system": true,
        "noteable_type": "MergeRequest", "created_at": time(at, 3), "updated_at": time(at, 3),
    })
}

fn message(state: &State, happening: &Happening) -> Option<Message> {
    let who = user(state, &happening.login);
    let of_request = |action: &str, number: &u64| {
        let mut attributes = request(state, state.changes.get(number)?);
        attributes["action"] = action.into();
        let body = json!({
            "object_kind": "merge_request", "event_type": "merge_request", "user": who,
            "project": project(state, REPOSITORY), "object_attributes": attributes,
        });
        Some(Message { event: "Merge Request Hook".into(), body })
    };
    let of_note = |action: &str, number: &u64, comment: &Comment| {
        let body = json!({
            "object_kind": "note", "event_type": "note", "user": who, "project": project(state, REPOSITORY),
            "object_attributes": {
                "id": comment.id, "note": comment.body, "noteable_type": "MergeRequest", "system": false, "action": action,
            },
            "merge_request": request(state, state.changes.get(number)?),
        });
        Some(Message { event: "Note Hook".into(), body })
    };
    match &happening.what {
        What::Moved { branch, before, after } => {
            let none = "0".repeat(40);
            let body = json!({
                "object_kind": "push", "event_name": "push", "ref": format!("refs/heads/{branch}"),
                "before": before.as_ref().unwrap_or(&none), "after": after.as_ref().unwrap_or(&none),
                "user_username": happening.login, "project": project(state, REPOSITORY),
            });
            Some(Message { event: "Push Hook".into(), body })
        }
        What::Opened(number) => of_request("open", number),
        What::Pushed { number, .. } | What::Edited(number) | What::Labelled(number) => of_request("update", number),
        What::Closed(number) => of_request("close", number),
        What::Reopened(number) => of_request("reopen", number),
        What::Merged(number) => of_request("merge", number),
        What::Reviewed { number, review } => match review.word {
            Word::Approves => of_request("approved", number),
            Word::Refuses => of_request("update", number),
            Word::Remarks => None,
        },
        What::Dismissed { number, .. } => of_request("unapproved", number),
        What::Commented { number, comment } => of_note("create", number, comment),
        What::CommentEdited { number, comment } => of_note("update", number, comment),
        // It tells nobody.
        What::CommentDeleted { .. } => None,
    }
}

fn headers(message: &Message, id: &str, secret: &str) -> Vec<(String, String)> {
    let headers = [
        ("x-gitlab-event", message.event.clone()),
        ("x-gitlab-event-uuid", id.to_owned()),
        ("x-gitlab-webhook-uuid", "00000000-0000-4000-8000-000000000000".to_owned()),
        // Nothing is signed: the secret itself is sent.
        ("x-gitlab-token", secret.to_owned()),
    ];
    headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
