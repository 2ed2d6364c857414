//! Makes pods of Jobs, tells how Jobs ended, and collects what belongs to what was deleted.

use super::store::{Store, now, status, text};
use super::{Shared, lock, node};
use serde_json::{Value, json};
use std::sync::Arc;

const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const FOREGROUND: &str = "foregroundDeletion";

/// Looks at everything after every change.
pub async fn run(shared: Arc<Shared>) {
    let mut changes = shared.changed.subscribe();
    loop {
        let quota = shared.settings().pods;
        let before = lock(&shared.store).version();
        let made = {
            let mut store = lock(&shared.store);
            let made = store.all("jobs").iter().filter_map(|job| reconcile(&mut store, job, quota)).collect::<Vec<_>>();
            for secret in store.all("secrets") {
                collect(&mut store, &secret);
            }
            made
        };
        for pod in made {
            tokio::spawn(node::run(shared.clone(), pod));
        }
        if lock(&shared.store).version() != before {
            shared.wake();
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Gives the pod that was made.
fn reconcile(store: &mut Store, job: &Value, quota: Option<usize>) -> Option<Value> {
    let pods: Vec<Value> = store.all("pods").into_iter().filter(|pod| is_owned(pod, job)).collect();
    let deleting = job["metadata"]["deletionTimestamp"].is_string();
    for pod in &pods {
        let ended = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        if deleting || ended {
            store.edit("pods", pod, |pod| drop_finalizer(pod, TRACKING));
        }
        if deleting && !pod["metadata"]["deletionTimestamp"].is_string() {
            delete_pod(store, pod, None);
        }
    }
    if deleting {
        if pods.is_empty() {
            store.edit("jobs", job, |job| drop_finalizer(job, FOREGROUND));
        }
        return None;
    }
    let finished = job.pointer("/status/conditions").and_then(Value::as_array).is_some_and(|conditions| {
        conditions.iter().any(|condition| matches!(text(condition, "/type"), "Complete" | "Failed"))
    });
    if finished || job["spec"]["suspend"] == json!(true) {
        return None;
    }
    if let Some(pod) = pods.first() {
        let condition = match text(pod, "/status/phase") {
            "Succeeded" => json!({ "type": "Complete", "status": "True", "reason": "CompletionsReached" }),
            "Failed" => json!({ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
                "message": "Job has reached the specified backoff limit" }),
            _ => return None,
        };
        store.edit("jobs", job, |job| {
            job["status"]["conditions"] = json!([condition]);
            job["status"]["completionTime"] = now().into();
        });
        return None;
    }
    // What had a pod and has none failed.
    if job.pointer("/status/startTime").is_some() {
        let condition = json!({ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
            "message": "Job has reached the specified backoff limit" });
        store.edit("jobs", job, |job| job["status"]["conditions"] = json!([condition]));
        return None;
    }
    let pods_there = store.all("pods").len();
    if quota.is_some_and(|quota| pods_there >= quota) {
        let message = format!(
            "Error creating: pods \"{}-x\" is forbidden: exceeded quota: pods, requested: pods=1, used: pods={pods_there}",
            text(job, "/metadata/name")
        );
        let known = store.all("events").iter().any(|event| event["involvedObject"]["uid"] == job["metadata"]["uid"]);
        if !known {
            let number = store.unique();
            let event = json!({ "apiVersion": "v1", "kind": "Event",
                "metadata": { "name": format!("{}.{number:x}", text(job, "/metadata/name")) },
                "involvedObject": { "kind": "Job", "apiVersion": "batch/v1", "uid": job["metadata"]["uid"],
                    "name": job["metadata"]["name"], "namespace": job["metadata"]["namespace"] },
                "type": "Warning", "reason": "FailedCreate", "message": message, "lastTimestamp": now(), "count": 1 });
            store.add("events", text(job, "/metadata/namespace"), event);
        }
        return None;
    }
    let number = store.unique();
    let template = &job["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    metadata["name"] = format!("{}-{number:05x}", text(job, "/metadata/name")).into();
    metadata["finalizers"] = json!([TRACKING]);
    metadata["ownerReferences"] = json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true }]);
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"],
        "status": { "phase": "Pending" } });
    let pod = store.add("pods", text(job, "/metadata/namespace"), pod);
    store.edit("jobs", job, |job| job["status"] = json!({ "active": 1, "startTime": now() }));
    Some(pod)
}

/// Objects whose owner is gone, or goes, go as well.
fn collect(store: &mut Store, object: &Value) {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let Some(uid) = owners.and_then(|owners| owners.first()).map(|owner| owner["uid"].clone()) else { return };
    let owner = store.all("jobs").into_iter().find(|job| job["metadata"]["uid"] == uid);
    if owner.is_none_or(|owner| owner["metadata"]["deletionTimestamp"].is_string()) {
        store.remove("secrets", object);
    }
}

fn is_owned(object: &Value, owner: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.is_some_and(|owners| owners.iter().any(|reference| reference["uid"] == owner["metadata"]["uid"]))
}

fn drop_finalizer(object: &mut Value, name: &str) {
    if let Some(all) = object.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut) {
        all.retain(|finalizer| finalizer != name);
    }
}

/// As the API deletes: Jobs by the policy, pods after their grace, the rest at once. `options` are those of the request.
pub fn delete(store: &mut Store, plural: &'static str, object: &Value, options: &Value) -> Value {
    let wanted = &options["preconditions"]["uid"];
    if wanted.is_string() && *wanted != object["metadata"]["uid"] {
        return status(409, "Conflict", "the UID in the precondition does not match the UID in record");
    }
    match plural {
        "pods" => delete_pod(store, object, options["gracePeriodSeconds"].as_i64()),
        "jobs" => {
            let foreground = options["propagationPolicy"] == "Foreground";
            if foreground {
                store.edit("jobs", object, |job| {
                    if !job["metadata"]["deletionTimestamp"].is_string() {
                        job["metadata"]["deletionTimestamp"] = now().into();
                        job["metadata"]["finalizers"] = json!([FOREGROUND]);
                    }
                });
            } else {
                let pods = store.all("pods").into_iter().filter(|pod| is_owned(pod, object)).collect::<Vec<_>>();
                store.remove("jobs", object);
                for pod in pods {
                    store.edit("pods", &pod, |pod| drop_finalizer(pod, TRACKING));
                    delete_pod(store, &pod, None);
                }
            }
        }
        _ => store.remove(plural, object),
    }
    status(200, "", "")
}

/// One that no node has goes at once; the others when their node has ended them. A grace can be made shorter, never longer.
fn delete_pod(store: &mut Store, pod: &Value, grace: Option<i64>) {
    let whole = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let grace = grace.unwrap_or(whole);
    let ended = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    if grace == 0 || ended || !pod["spec"]["nodeName"].is_string() {
        store.remove("pods", pod);
        return;
    }
    store.edit("pods", pod, |pod| {
        let before = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
        pod["metadata"]["deletionGracePeriodSeconds"] = before.map_or(grace, |before| before.min(grace)).into();
        if !pod["metadata"]["deletionTimestamp"].is_string() {
            pod["metadata"]["deletionTimestamp"] = now().into();
        }
    });
}
