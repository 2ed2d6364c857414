//! What a pod and its Job say about how far a program is.

use super::manifest::CONTAINER;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// How far a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Its program has not begun; with the reason, where it is not simply on its way.
    Waiting(Option<String>),
    Running,
    /// With what there is to say besides the status.
    Ended {
        status: ExitStatus,
        note: Option<String>,
        out_of_memory: bool,
    },
}

/// Reasons for which every pod waits a little.
const ON_ITS_WAY: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// A reason that no time mends.
pub const HOPELESS: &str = "InvalidImageName";

pub fn progress(pod: &Pod) -> Progress {
    let Some(status) = &pod.status else { return Progress::Waiting(None) };
    let container = status.container_statuses.iter().flatten().find(|container| container.name == CONTAINER);
    let state = container.and_then(|container| container.state.as_ref());
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        let out_of_memory = ended.reason.as_deref() == Some("OOMKilled");
        // The signals that containers are sent are told as the status that a shell would make of them.
        let sent = [KILL, TERMINATE].into_iter().find(|signal| ended.exit_code == 128 + signal);
        let signal = ended.signal.or(out_of_memory.then_some(KILL)).or(sent);
        let note = match ended.reason.as_deref() {
            _ if ended.exit_code == 0 => None,
            Some("OOMKilled") => Some("the program was killed because it took more memory than it may have".into()),
            Some(reason) if !["Completed", "Error"].contains(&reason) => {
                disruption(pod).or_else(|| Some(because(reason, ended.message.as_deref())))
            }
            _ => disruption(pod),
        };
        let status = signal.map_or_else(|| exited(ended.exit_code), ExitStatus::from_raw);
        return Progress::Ended { status, note, out_of_memory };
    }
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        let note = disruption(pod).unwrap_or_else(|| because("the pod failed", status.message.as_deref()));
        return Progress::Ended { status: killed(), note: Some(note), out_of_memory: false };
    }
    if state.is_some_and(|state| state.running.is_some()) {
        return Progress::Running;
    }
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        let reason = waiting.reason.as_deref().filter(|reason| !ON_ITS_WAY.contains(reason));
        return Progress::Waiting(reason.map(|reason| because(reason, waiting.message.as_deref())));
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    Progress::Waiting(
        unscheduled
            .map(|condition| because(condition.reason.as_deref().unwrap_or("Pending"), condition.message.as_deref())),
    )
}

/// Why the cluster ended the pod, where it did.
fn disruption(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if let Some(reason) = &status.reason {
        return Some(because(reason, status.message.as_deref()));
    }
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == "DisruptionTarget");
    if let Some(condition) = condition.filter(|condition| condition.status == "True") {
        let reason = condition.reason.as_deref().unwrap_or("DisruptionTarget");
        return Some(because(reason, condition.message.as_deref()));
    }
    pod.metadata.deletion_timestamp.as_ref().map(|_| "somebody deleted the pod while its program ran".into())
}

const KILL: i32 = 9;
const TERMINATE: i32 = 15;

/// As a process of this machine would end.
fn exited(code: i32) -> ExitStatus {
    ExitStatus::from_raw((code & 0xff) << 8)
}

/// The end of a program whose own was not seen.
pub fn killed() -> ExitStatus {
    ExitStatus::from_raw(KILL)
}

/// The end of a program that never began, because it was asked to stop.
pub fn stopped() -> ExitStatus {
    ExitStatus::from_raw(TERMINATE)
}

/// Whether a Job has a program that runs, or is about to.
pub fn lives(job: &Job) -> bool {
    let conditions = job.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let mut ended = conditions.filter(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed"));
    let held = job.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true));
    !held && !ended.any(|condition| condition.status == "True")
}

/// Why the Job has failed as a whole.
pub fn failure(job: &Job) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let failed = conditions.iter().find(|condition| condition.type_ == "Failed" && condition.status == "True")?;
    Some(because(failed.reason.as_deref().unwrap_or("Failed"), failed.message.as_deref()))
}

/// Why no pod was made, from the events about the Job.
pub fn refusal(events: &[Event]) -> Option<String> {
    let refused = events.iter().filter(|event| event.reason.as_deref() == Some("FailedCreate"));
    let last = refused.max_by_key(|event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
        let made = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
        series.or(event.last_timestamp.as_ref().map(|time| time.0)).or(made)
    })?;
    Some(because("FailedCreate", last.message.as_deref()))
}

fn because(reason: &str, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(status: Value, wanted: &Progress) {
        let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap();
        assert_eq!(progress(&pod), *wanted, "{pod:?}");
    }

    fn container(state: Value) -> Value {
        let sidecar = json!({ "name": "other", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": {} } });
        let own =
            json!({ "name": "step", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state });
        json!({ "phase": "Running", "containerStatuses": [sidecar, own] })
    }

    #[test]
    fn a_pod_tells_how_far_its_program_is() {
        let waiting = |reason: &str| Progress::Waiting(Some(reason.to_owned()));
        let ended = |status, note: Option<&str>| Progress::Ended {
            status,
            note: note.map(str::to_owned),
            out_of_memory: note.is_some_and(|note| note.contains("memory than")),
        };
        check(json!({ "phase": "Pending" }), &Progress::Waiting(None));
        check(
            json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/3 nodes are available" }] }),
            &waiting("Unschedulable: 0/3 nodes are available"),
        );
        check(container(json!({ "waiting": { "reason": "ContainerCreating" } })), &Progress::Waiting(None));
        check(
            container(json!({ "waiting": { "reason": "ErrImagePull", "message": " not found " } })),
            &waiting("ErrImagePull: not found"),
        );
        check(container(json!({ "running": {} })), &Progress::Running);
        check(container(json!({ "terminated": { "exitCode": 3, "reason": "Error" } })), &ended(exited(3), None));
        check(container(json!({ "terminated": { "exitCode": 0, "reason": "Completed" } })), &ended(exited(0), None));
        check(container(json!({ "terminated": { "exitCode": 137, "reason": "Error" } })), &ended(killed(), None));
        check(container(json!({ "terminated": { "exitCode": 143, "reason": "Error" } })), &ended(stopped(), None));
        check(
            container(json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } })),
            &ended(killed(), Some("the program was killed because it took more memory than it may have")),
        );
        check(
            json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." }),
            &ended(killed(), Some("Evicted: The node was low on resource: memory.")),
        );
        let mut evicted = container(json!({ "terminated": { "exitCode": 137, "reason": "Error" } }));
        evicted["reason"] = "Evicted".into();
        evicted["message"] = "The node was low on resource: memory.".into();
        check(evicted, &ended(killed(), Some("Evicted: The node was low on resource: memory.")));
        for (code, status, wanted) in
            [(1, exited(1), Some("EvictionByEvictionAPI: Eviction API: evicting")), (0, exited(0), None)]
        {
            let mut drained = container(json!({ "terminated": { "exitCode": code, "reason": "Error" } }));
            drained["conditions"] = json!([{ "type": "DisruptionTarget", "status": "True",
                "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting" }]);
            check(drained, &ended(status, wanted));
        }
    }
}
