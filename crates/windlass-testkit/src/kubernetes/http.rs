//! The API: get, list, watch, create, patch, delete, and the log of a pod.

use super::store::{Change, status, text};
use super::{Shared, controller, lock, validation};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Listens on a free port.
pub async fn serve(shared: Arc<Shared>) -> std::io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let router = axum::Router::new().fallback(answer).with_state(shared);
    let serving = tokio::spawn(async move {
        // Ends with the task.
        let _ = axum::serve(listener, router).await;
    });
    Ok((address, serving))
}

/// What a path names.
struct Target {
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespace: String,
    name: Option<String>,
    log: bool,
}

fn target(path: &str) -> Option<Target> {
    let (group, version, rest) = match path.strip_prefix("/api/v1/namespaces/") {
        Some(rest) => ("", "v1", rest),
        None => ("batch", "batch/v1", path.strip_prefix("/apis/batch/v1/namespaces/")?),
    };
    let mut parts = rest.trim_end_matches('/').split('/');
    let namespace = parts.next()?.to_owned();
    let (plural, kind) = match (version, parts.next()?) {
        ("batch/v1", "jobs") => ("jobs", "Job"),
        ("v1", "pods") => ("pods", "Pod"),
        ("v1", "secrets") => ("secrets", "Secret"),
        ("v1", "events") => ("events", "Event"),
        _ => return None,
    };
    let name = parts.next().map(str::to_owned);
    let log = match parts.next() {
        None => false,
        Some("log") if plural == "pods" => true,
        Some(_) => return None,
    };
    Some(Target { group, plural, kind, namespace, name, log })
}

fn refuse(code: u16, reason: &str, message: &str) -> Response {
    let code_ = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code_, axum::Json(status(code, reason, message))).into_response()
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(target) = target(uri.path()) else {
        return refuse(404, "NotFound", "the server could not find the requested resource");
    };
    let query: BTreeMap<String, String> =
        axum::extract::Query::try_from_uri(&uri).map(|query| query.0).unwrap_or_default();
    let watching = query.get("watch").is_some_and(|value| value == "true" || value == "1");
    let verb = match (&method, &target.name) {
        (&Method::GET, Some(_)) => "get",
        (&Method::GET, None) if watching => "watch",
        (&Method::GET, None) => "list",
        (&Method::POST, None) => "create",
        (&Method::PATCH, Some(_)) => "patch",
        (&Method::DELETE, Some(_)) => "delete",
        _ => return refuse(405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
    };
    let resource = if target.log { "pods/log" } else { target.plural };
    let holds = |rule: &Value, key: &str, wanted: &str| {
        rule[key].as_array().is_some_and(|all| all.iter().any(|value| value == wanted))
    };
    let allowed = shared.rules.iter().any(|rule| {
        holds(rule, "apiGroups", target.group) && holds(rule, "resources", resource) && holds(rule, "verbs", verb)
    });
    if !allowed {
        let message = format!(
            "{resource} is forbidden: User \"system:serviceaccount:{ns}:windlass\" cannot {verb} resource \"{resource}\" in API group \"{}\" in the namespace \"{ns}\"",
            target.group,
            ns = target.namespace
        );
        return refuse(403, "Forbidden", &message);
    }
    lock(&shared.asked).insert(format!("{verb} {resource}"));
    match (verb, &target.name) {
        ("get", Some(name)) if target.log => log(shared, &target, name, &query),
        ("get", Some(name)) => get(&shared, &target, name),
        ("list", _) => list(&shared, &target, &query),
        ("watch", _) => watch(shared, target, &query),
        ("create", _) => create(&shared, &target, &body),
        ("patch", Some(name)) => patch(&shared, &target, name, &headers, &body),
        (_, Some(name)) => delete(&shared, &target, name, &body),
        _ => refuse(405, "MethodNotAllowed", "method"),
    }
}

fn not_found(target: &Target, name: &str) -> Response {
    refuse(404, "NotFound", &format!("{} \"{name}\" not found", target.plural))
}

fn get(shared: &Shared, target: &Target, name: &str) -> Response {
    match lock(&shared.store).get(target.plural, &target.namespace, name) {
        Some(object) => axum::Json(object.clone()).into_response(),
        None => not_found(target, name),
    }
}

/// Equalities, with a comma between them.
fn selects(query: &BTreeMap<String, String>, object: &Value) -> bool {
    let pairs = |key: &str| -> Vec<(String, String)> {
        let all = query.get(key).map(String::as_str).unwrap_or_default().split(',');
        all.filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.trim_start_matches('=').to_owned()))
            .collect()
    };
    pairs("labelSelector").iter().all(|(key, value)| object["metadata"]["labels"][key] == **value)
        && pairs("fieldSelector")
            .iter()
            .all(|(key, value)| text(object, &format!("/{}", key.replace('.', "/"))) == value)
}

fn list(shared: &Shared, target: &Target, query: &BTreeMap<String, String>) -> Response {
    let store = lock(&shared.store);
    let items: Vec<Value> = store
        .all(target.plural)
        .into_iter()
        .filter(|object| text(object, "/metadata/namespace") == target.namespace && selects(query, object))
        .collect();
    let version = if target.group.is_empty() { "v1" } else { "batch/v1" };
    let metadata = json!({ "resourceVersion": store.version().to_string() });
    axum::Json(
        json!({ "kind": format!("{}List", target.kind), "apiVersion": version, "metadata": metadata, "items": items }),
    )
    .into_response()
}

fn watch(shared: Arc<Shared>, target: Target, query: &BTreeMap<String, String>) -> Response {
    let from = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let bookmarks = query.get("allowWatchBookmarks").is_some_and(|value| value == "true");
    let changes = shared.changed.subscribe();
    let (query, version) = (query.clone(), if target.group.is_empty() { "v1" } else { "batch/v1" });
    let lines = stream::unfold(Some((from, changes)), move |state| {
        let (shared, query, plural) = (shared.clone(), query.clone(), target.plural);
        let (namespace, kind) = (target.namespace.clone(), target.kind);
        async move {
            let (mut from, mut changes) = state?;
            loop {
                changes.borrow_and_update();
                let (since, version_now) = {
                    let store = lock(&shared.store);
                    (store.since(from), store.version())
                };
                let Some(since) = since else {
                    let gone = json!({ "type": "ERROR",
                        "object": status(410, "Expired", &format!("too old resource version: {from} ({version_now})")) });
                    return Some((line(&gone), None));
                };
                let ours = |change: &&Change| {
                    change.plural == plural && change.namespace == namespace && selects(&query, &change.object)
                };
                let mut told: Vec<u8> = since
                    .iter()
                    .filter(ours)
                    .flat_map(|change| line(&json!({ "type": change.kind, "object": change.object })))
                    .collect();
                // A bookmark now and then, for what was passed over.
                if bookmarks && told.is_empty() && version_now > from + 5 {
                    let object = json!({ "kind": kind, "apiVersion": version,
                        "metadata": { "resourceVersion": version_now.to_string() } });
                    told = line(&json!({ "type": "BOOKMARK", "object": object }));
                }
                if !told.is_empty() {
                    from = version_now;
                    return Some((told, Some((from, changes))));
                }
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        }
    });
    let body = Body::from_stream(futures_util::StreamExt::map(lines, Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn create(shared: &Shared, target: &Target, body: &[u8]) -> Response {
    let Ok(mut object) = serde_json::from_slice::<Value>(body) else {
        return refuse(400, "BadRequest", "the object provided is unrecognized");
    };
    let version = if target.group.is_empty() { "v1" } else { "batch/v1" };
    if object["kind"] != target.kind || object["apiVersion"] != version {
        return refuse(400, "BadRequest", "the API version in the data does not match the expected API version");
    }
    if object["metadata"]["namespace"].as_str().is_some_and(|namespace| namespace != target.namespace) {
        return refuse(400, "BadRequest", "the namespace of the provided object does not match the namespace sent");
    }
    if let Err(why) = validation::created(target.plural, &object) {
        return refuse(422, "Invalid", &format!("{} is invalid: {why}", target.kind));
    }
    let name = text(&object, "/metadata/name").to_owned();
    let made = shared.change(|store| {
        if store.get(target.plural, &target.namespace, &name).is_some() {
            return None;
        }
        if target.plural != "jobs" {
            return Some(store.add(target.plural, &target.namespace, object));
        }
        let mut made = store.add("jobs", &target.namespace, object.take());
        let uid = made["metadata"]["uid"].clone();
        made["spec"]["selector"] = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } });
        let labels = &mut made["spec"]["template"]["metadata"]["labels"];
        for prefix in ["", "batch.kubernetes.io/"] {
            labels[format!("{prefix}controller-uid")] = uid.clone();
            labels[format!("{prefix}job-name")] = name.clone().into();
        }
        store.update("jobs", made.clone());
        Some(made)
    });
    let lost = {
        let mut settings = lock(&shared.settings);
        let lost = settings.lost_answers > 0;
        settings.lost_answers = settings.lost_answers.saturating_sub(1);
        lost
    };
    match made {
        Some(_) if lost => refuse(504, "Timeout", "request did not complete within requested timeout"),
        Some(made) => (StatusCode::CREATED, axum::Json(made)).into_response(),
        None => refuse(409, "AlreadyExists", &format!("{} \"{name}\" already exists", target.plural)),
    }
}

fn patch(shared: &Shared, target: &Target, name: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/merge-patch+json") {
        return refuse(415, "UnsupportedMediaType", "the body of the request was in an unknown format");
    }
    let Ok(change) = serde_json::from_slice::<Value>(body) else {
        return refuse(400, "BadRequest", "the patch is no JSON");
    };
    shared.change(|store| {
        let Some(old) = store.get(target.plural, &target.namespace, name).cloned() else {
            return not_found(target, name);
        };
        let mut new = old.clone();
        merge(&mut new, &change);
        if let Err(why) = validation::updated(&old, &new) {
            return refuse(422, "Invalid", &format!("{} \"{name}\" is invalid: {why}", target.kind));
        }
        if new["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return refuse(
                409,
                "Conflict",
                "the object has been modified; please apply your changes to the latest version",
            );
        }
        store.update(target.plural, new);
        store
            .get(target.plural, &target.namespace, name)
            .map_or_else(|| not_found(target, name), |new| axum::Json(new.clone()).into_response())
    })
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().map(|target| target.remove(key));
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn delete(shared: &Shared, target: &Target, name: &str, body: &[u8]) -> Response {
    let options: Value = serde_json::from_slice(body).unwrap_or_default();
    shared.change(|store| {
        let Some(object) = store.get(target.plural, &target.namespace, name).cloned() else {
            return not_found(target, name);
        };
        let answer = controller::delete(store, target.plural, &object, &options);
        let code = answer["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
        // What goes later is shown as it is now.
        match store.get(target.plural, &target.namespace, name) {
            Some(going) if code == 200 => axum::Json(going.clone()).into_response(),
            _ => (StatusCode::from_u16(code).unwrap_or(StatusCode::OK), axum::Json(answer)).into_response(),
        }
    })
}

fn log(shared: Arc<Shared>, target: &Target, name: &str, query: &BTreeMap<String, String>) -> Response {
    let Some(pod) = lock(&shared.store).get("pods", &target.namespace, name).cloned() else {
        return not_found(target, name);
    };
    let uid = text(&pod, "/metadata/uid").to_owned();
    let container = text(&pod, "/spec/containers/0/name");
    if query.get("container").is_some_and(|asked| asked != container) {
        return refuse(400, "BadRequest", &format!("container is not valid for pod {name}"));
    }
    let Some(entries) = lock(&shared.logs).get(&uid).cloned() else {
        let waiting = format!("container \"{container}\" in pod \"{name}\" is waiting to start: ContainerCreating");
        return refuse(400, "BadRequest", &waiting);
    };
    let is = |key: &str| query.get(key).is_some_and(|value| value == "true");
    let (follow, times) = (is("follow"), is("timestamps"));
    let since = match query.get("sinceTime").map(|time| time.parse::<jiff::Timestamp>()) {
        None => None,
        Some(Ok(time)) if time.subsec_nanosecond() == 0 => Some(time),
        Some(_) => return refuse(400, "BadRequest", "sinceTime is no time of whole seconds"),
    };
    let changes = shared.changed.subscribe();
    let lines = stream::unfold((0, true, changes), move |(mut from, mut fresh, mut changes)| {
        let (shared, uid, entries) = (shared.clone(), uid.clone(), entries.clone());
        async move {
            loop {
                changes.borrow_and_update();
                // Looked at before the log: what is said until the end is in it then.
                let ended = !lock(&shared.groups).contains_key(&uid);
                let mut told = Vec::new();
                {
                    let entries = lock(&entries);
                    for entry in entries.iter().skip(from).take(500) {
                        from += 1;
                        if since.is_some_and(|since| entry.at < since) {
                            continue;
                        }
                        if fresh && times {
                            told.extend_from_slice(format!("{} ", entry.at).as_bytes());
                        }
                        told.extend_from_slice(&entry.bytes);
                        fresh = entry.bytes.ends_with(b"\n");
                    }
                    if told.is_empty() && from < entries.len() {
                        continue;
                    }
                    if told.is_empty() && (ended || !follow) {
                        return None;
                    }
                }
                if !told.is_empty() {
                    return Some((Ok::<_, Infallible>(told), (from, fresh, changes)));
                }
                changes.changed().await.ok()?;
            }
        }
    });
    ([(header::CONTENT_TYPE, "text/plain")], Body::from_stream(lines)).into_response()
}
