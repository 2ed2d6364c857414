//! The only node: places a pod, waits for its image, its Secrets and its volumes, runs its program, and ends it.

use super::store::{now, text};
use super::{Shared, lock};
use base64::Engine;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// What a runtime takes down at once: a line, or a part of one that is longer than [`PART`].
#[derive(Debug, Clone)]
pub struct Entry {
    pub at: jiff::Timestamp,
    pub bytes: Vec<u8>,
}

/// A longer line is taken down in parts of this many bytes.
const PART: usize = 16 * 1024;
/// How often the memory of a pod is looked at.
const LOOK: Duration = Duration::from_millis(20);

pub fn signal(group: i32, signal: Signal) {
    // One that has ended is no error.
    let _ = killpg(Pid::from_raw(group), signal);
}

/// All of a pod's life.
pub async fn run(shared: Arc<Shared>, pod: Value) {
    let mut changes = shared.changed.subscribe();
    let Some(environment) = prepare(&shared, &pod, &mut changes).await else { return };
    let container = &pod["spec"]["containers"][0];
    let words = ["command", "args"].iter().flat_map(|key| container[*key].as_array().into_iter().flatten());
    let mut words = words.filter_map(Value::as_str).map(|word| expand(word, &environment));
    let program = words.next().unwrap_or_default();
    let mut command = tokio::process::Command::new(&program);
    command.args(words).env_clear().envs(&environment).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.current_dir(container["workingDir"].as_str().unwrap_or("/"));
    let uid = text(&pod, "/metadata/uid").to_owned();
    // Nobody sees what it does before it counts as running.
    let spawned = {
        let mut groups = lock(&shared.groups);
        let spawned = command.spawn();
        let id = spawned.as_ref().ok().and_then(tokio::process::Child::id).and_then(|id| i32::try_from(id).ok());
        groups.extend(id.map(|id| (uid.clone(), id)));
        spawned.map(|child| (child, id.unwrap_or(i32::MAX)))
    };
    let (mut child, group) = match spawned {
        Ok(spawned) => spawned,
        Err(error) => {
            let message = format!("failed to create containerd task: exec: \"{program}\": {error}");
            end(&shared, &pod, json!({ "exitCode": 128, "reason": "StartError", "message": message }));
            return leave(&shared, &pod, &mut changes).await;
        }
    };
    let log = Arc::new(Mutex::default());
    lock(&shared.logs).insert(uid.clone(), log.clone());
    state(&shared, &pod, "Running", json!({ "running": { "startedAt": now() } }));
    let logs = [
        tokio::spawn(take_down(shared.clone(), log.clone(), child.stdout.take())),
        tokio::spawn(take_down(shared.clone(), log, child.stderr.take())),
    ];
    let limit = container["resources"]["limits"]["memory"].as_str().and_then(super::validation::quantity);
    let mut look = tokio::time::interval(LOOK);
    let (mut out_of_memory, mut evicted, mut asked) = (false, false, None);
    let status = loop {
        let grace = asked.map(|(at, grace): (tokio::time::Instant, u64)| at + Duration::from_secs(grace));
        tokio::select! {
            status = child.wait() => break status.unwrap_or_else(|_| ExitStatus::from_raw(9)),
            _ = look.tick() => {
                if limit.is_some_and(|limit| resident(group).is_some_and(|bytes| bytes as f64 > limit)) {
                    out_of_memory = true;
                    signal(group, Signal::SIGKILL);
                }
            }
            _ = changes.changed() => {
                if shared.settings().pressure {
                    evicted = true;
                    signal(group, Signal::SIGKILL);
                }
                let grace = deletion(&shared, &pod);
                match (grace, &mut asked) {
                    (Some(grace), None) => {
                        // The first process alone is asked.
                        let _ = nix::sys::signal::kill(Pid::from_raw(group), Signal::SIGTERM);
                        asked = Some((tokio::time::Instant::now(), grace));
                    }
                    (Some(shorter), Some((_, grace))) => *grace = shorter.min(*grace),
                    (None, _) => {}
                }
            }
            () = tokio::time::sleep_until(grace.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3600))),
                if grace.is_some() => signal(group, Signal::SIGKILL),
        }
    };
    // The namespace of its processes ends with the first of them.
    signal(group, Signal::SIGKILL);
    for log in logs {
        let _ = log.await;
    }
    lock(&shared.groups).remove(&uid);
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    let reason = if out_of_memory {
        "OOMKilled"
    } else if code == 0 {
        "Completed"
    } else {
        "Error"
    };
    let terminated = json!({ "exitCode": code, "reason": reason, "finishedAt": now() });
    if evicted {
        shared.change(|store| {
            store.edit("pods", &pod, |pod| {
                let message = "The node was low on resource: memory.";
                pod["status"]["reason"] = "Evicted".into();
                pod["status"]["message"] = message.into();
            })
        });
    }
    end(&shared, &pod, terminated);
    leave(&shared, &pod, &mut changes).await;
}

/// Grace of a pod that is to go, seconds. One that was struck off is killed, as far as the node knows.
fn deletion(shared: &Shared, pod: &Value) -> Option<u64> {
    if shared.settings().node_away {
        return None;
    }
    let Some(pod) = current(shared, pod) else { return Some(0) };
    pod["metadata"]["deletionTimestamp"]
        .is_string()
        .then(|| pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or_default())
}

fn current(shared: &Shared, pod: &Value) -> Option<Value> {
    let store = lock(&shared.store);
    let found = store.get("pods", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    found.filter(|found| found["metadata"]["uid"] == pod["metadata"]["uid"]).cloned()
}

/// Waits for a place and for all that the program needs, and gives its environment; `None` when the pod is to go.
async fn prepare(shared: &Shared, pod: &Value, changes: &mut watch::Receiver<u64>) -> Option<BTreeMap<String, String>> {
    let container = &pod["spec"]["containers"][0];
    loop {
        // What changes while it is looked at is looked at again.
        changes.borrow_and_update();
        let now = current(shared, pod)?;
        if now["metadata"]["deletionTimestamp"].is_string() {
            shared.change(|store| store.remove("pods", pod));
            return None;
        }
        match needs(shared, pod, container) {
            Ok(environment) => return Some(environment),
            Err(Need::Place(message)) => shared.change(|store| {
                store.edit("pods", pod, |pod| {
                    pod["status"]["conditions"] = json!([{ "type": "PodScheduled", "status": "False",
                        "reason": "Unschedulable", "message": message }]);
                });
            }),
            Err(Need::Thing(reason, message)) => {
                shared.change(|store| store.edit("pods", pod, |pod| pod["spec"]["nodeName"] = "node".into()));
                state(shared, pod, "Pending", json!({ "waiting": { "reason": reason, "message": message } }));
            }
        }
        if changes.changed().await.is_err() {
            return None;
        }
    }
}

enum Need {
    Place(String),
    Thing(&'static str, String),
}

fn needs(shared: &Shared, pod: &Value, container: &Value) -> Result<BTreeMap<String, String>, Need> {
    let settings = shared.settings();
    let selector = pod["spec"]["nodeSelector"].as_object();
    if !selector.into_iter().flatten().all(|(key, value)| settings.node.get(key).map(String::as_str) == value.as_str())
    {
        let message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
        return Err(Need::Place(message.into()));
    }
    if settings.pressure {
        let message =
            "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/memory-pressure: }.";
        return Err(Need::Place(message.into()));
    }
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let claim = text(volume, "/persistentVolumeClaim/claimName");
        if !settings.claims.contains(claim) {
            return Err(Need::Place(format!("persistentvolumeclaim \"{claim}\" not found")));
        }
    }
    let image = text(container, "/image");
    if image.contains(|c: char| c.is_whitespace() || c.is_uppercase()) {
        let message = format!("Failed to apply default image tag \"{image}\": couldn't parse image name");
        return Err(Need::Thing("InvalidImageName", message));
    }
    if !settings.images.contains(image) {
        return Err(Need::Thing("ImagePullBackOff", format!("Back-off pulling image \"{image}\": not found")));
    }
    let mut environment = BTreeMap::from([(
        "PATH".to_owned(),
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    )]);
    for from in container["envFrom"].as_array().into_iter().flatten() {
        let name = text(from, "/secretRef/name");
        let store = lock(&shared.store);
        let Some(secret) = store.get("secrets", text(pod, "/metadata/namespace"), name) else {
            return Err(Need::Thing("CreateContainerConfigError", format!("secret \"{name}\" not found")));
        };
        for (name, value) in secret["data"].as_object().into_iter().flatten() {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default());
            environment.insert(name.clone(), String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned());
        }
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let value = expand(text(variable, "/value"), &environment);
        environment.insert(text(variable, "/name").to_owned(), value);
    }
    Ok(environment)
}

/// `$(NAME)` is the value of a variable that is known; `$$` is a dollar.
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'))
            && let Some(value) = environment.get(name)
        {
            expanded.push_str(value);
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}

/// Takes down what a stream says, line by line.
async fn take_down(shared: Arc<Shared>, log: Arc<Mutex<Vec<Entry>>>, stream: Option<impl AsyncRead + Unpin>) {
    let Some(mut stream) = stream else { return };
    let (mut buffer, mut line) = (vec![0; 8192], Vec::new());
    loop {
        let n = stream.read(&mut buffer).await.unwrap_or(0);
        line.extend_from_slice(&buffer[..n]);
        let mut entries = Vec::new();
        while let Some(end) = line.iter().position(|byte| *byte == b'\n').map(|at| at + 1) {
            entries.push(line.drain(..end.min(PART)).collect());
        }
        while line.len() >= PART || (n == 0 && !line.is_empty()) {
            entries.push(line.drain(..line.len().min(PART)).collect());
        }
        if !entries.is_empty() {
            let now = jiff::Timestamp::now();
            let coarse = shared.settings().coarse.then(|| now.round(jiff::Unit::Millisecond).unwrap_or(now));
            let at = coarse.unwrap_or(now);
            lock(&log).extend(entries.into_iter().map(|bytes| Entry { at, bytes }));
            shared.wake();
        }
        if n == 0 {
            return;
        }
    }
}

/// Resident bytes of all processes of a group.
fn resident(group: i32) -> Option<u64> {
    let mut pages = 0;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        if fields.get(2).and_then(|field| field.parse::<i32>().ok()) == Some(group) {
            pages += fields.get(21).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
        }
    }
    Some(pages * 4096)
}

fn state(shared: &Shared, pod: &Value, phase: &str, state: Value) {
    let container = &pod["spec"]["containers"][0];
    let ready = state["running"].is_object();
    shared.change(|store| {
        store.edit("pods", pod, |pod| {
            pod["spec"]["nodeName"] = "node".into();
            pod["status"]["phase"] = phase.into();
            pod["status"]["conditions"] = json!([{ "type": "PodScheduled", "status": "True" }]);
            pod["status"]["containerStatuses"] = json!([{ "name": container["name"], "image": container["image"],
                "imageID": "", "ready": ready, "restartCount": 0, "state": state }]);
        });
    });
}

fn end(shared: &Shared, pod: &Value, terminated: Value) {
    let phase = if terminated["exitCode"] == 0 { "Succeeded" } else { "Failed" };
    state(shared, pod, phase, json!({ "terminated": terminated }));
}

/// Strikes an ended pod off when that is asked for.
async fn leave(shared: &Shared, pod: &Value, changes: &mut watch::Receiver<u64>) {
    loop {
        changes.borrow_and_update();
        let Some(now) = current(shared, pod) else { break };
        if now["metadata"]["deletionTimestamp"].is_string() {
            shared.change(|store| store.remove("pods", pod));
            break;
        }
        if changes.changed().await.is_err() {
            break;
        }
    }
    lock(&shared.logs).remove(text(pod, "/metadata/uid"));
    shared.wake();
}
