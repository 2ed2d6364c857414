//! What is sent to a cluster for one program: a Job, and a Secret with its variables that the Job owns.

use super::KubernetesError;
use crate::process::{Spec, Token};
use k8s_openapi::api::batch::v1::{Job as BatchJob, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvFromSource, EnvVar, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec,
    PodTemplateSpec, ResourceRequirements, SeccompProfile, Secret, SecretEnvSource, SecurityContext, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::{ByteString, Resource};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use windlass_model::place::Job;

/// Name of the only container.
pub const CONTAINER: &str = "step";
/// Labels of a Job and its pod; a value that labels cannot hold is a digest there, and in full in the annotation of that name.
pub const RUN: &str = "windlass.run";
pub const STEP: &str = "windlass.step";
pub const ATTEMPT: &str = "windlass.attempt";
/// How long a Job that has ended stays, seconds: long enough to be looked at, and for an engine that was away meanwhile to find
/// that a newer attempt has been here.
const STAYS: i32 = 600;

/// Selects the Jobs of all attempts of a step.
pub fn selector(token: &Token) -> String {
    format!("{RUN}={},{STEP}={}", label(&token.run), label(&token.step))
}

fn labels(token: &Token) -> BTreeMap<String, String> {
    let attempt = token.attempt.to_string();
    [(RUN, &token.run), (STEP, &token.step), (ATTEMPT, &attempt)]
        .map(|(name, value)| (name.to_owned(), label(value)))
        .into()
}

fn annotations(token: &Token) -> BTreeMap<String, String> {
    [(RUN, &token.run), (STEP, &token.step)].map(|(name, value)| (name.to_owned(), value.clone())).into()
}

/// The text itself where a label can hold it (at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends),
/// otherwise a digest of it.
pub fn label(text: &str) -> String {
    let at_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let fits = bytes.len() <= 63
        && at_end(bytes.first())
        && at_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
    if fits { text.to_owned() } else { format!("sha256-{}", &digest(text)[..40]) }
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name that no other program has, of at most 63 characters: that of a pod is made from it.
///
/// # Errors
/// The machine has no randomness.
pub fn name(token: &Token) -> std::io::Result<String> {
    let mut random = [0; 5];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("windlass-{}-{random}", &digest(&format!("{}/{}/{}", token.run, token.step, token.attempt))[..12]))
}

/// The Job, which does not begin yet: its Secret needs its id, and older attempts have to end first. `data` is where the volume is
/// mounted.
///
/// # Errors
/// The program cannot be told in JSON, or writes into files that it could not reach.
pub fn job(place: &Job, spec: &Spec, token: &Token, name: &str, data: &Path) -> Result<BatchJob, KubernetesError> {
    let volume = place.volume_claim.as_ref();
    let grace = i64::try_from(spec.grace.as_millis().div_ceil(1000)).unwrap_or(i64::MAX).max(1);
    let limits: BTreeMap<String, Quantity> = [
        ("memory", place.memory_mib.map(|mib| format!("{mib}Mi"))),
        ("cpu", place.cpu_milli.map(|milli| format!("{milli}m"))),
    ]
    .into_iter()
    .filter_map(|(name, quantity)| Some((name.to_owned(), Quantity(quantity?))))
    .collect();
    // Files on the volume are shared with this process, so they belong to the same user.
    let user = volume.map(|_| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    // What the image does by itself, in its own directory.
    let is_own = spec.program.as_os_str().is_empty();
    if is_own && spec.output.is_some() {
        let why = "its output goes into files, which takes a program of its own (`run`)";
        return Err(KubernetesError::Spec(why.into()));
    }
    let container = Container {
        name: CONTAINER.into(),
        image: Some(place.image.clone()),
        command: if is_own { None } else { Some(command(spec, volume.is_some(), data)?) },
        env: Some(
            place
                .environment
                .iter()
                .filter(|(name, _)| !spec.environment.contains_key(OsStr::new(name)))
                .map(|(name, value)| EnvVar { name: name.clone(), value: Some(unexpanded(value)), value_from: None })
                .collect(),
        ),
        env_from: Some(vec![EnvFromSource {
            secret_ref: Some(SecretEnvSource { name: name.to_owned(), optional: Some(false) }),
            ..EnvFromSource::default()
        }]),
        working_dir: if volume.is_some() && !is_own { Some(text(spec.directory.as_os_str())?) } else { None },
        resources: Some(ResourceRequirements {
            requests: Some(limits.clone()),
            limits: Some(limits),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: match volume {
            Some(_) => Some(vec![VolumeMount {
                name: "data".into(),
                mount_path: text(data.as_os_str())?,
                ..VolumeMount::default()
            }]),
            None => None,
        },
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".into()),
        termination_grace_period_seconds: Some(grace),
        service_account_name: place.service_account.clone(),
        // Credentials of the cluster only for those that were given an account on purpose.
        automount_service_account_token: Some(place.service_account.is_some()),
        enable_service_links: Some(false),
        node_selector: Some(place.node_selector.clone()).filter(|selector| !selector.is_empty()),
        security_context: Some(PodSecurityContext {
            run_as_user: user.map(|(user, _)| i64::from(user)),
            run_as_group: user.map(|(_, group)| i64::from(group)),
            run_as_non_root: user.map(|(user, _)| user != 0),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        volumes: volume.map(|claim| {
            vec![Volume {
                name: "data".into(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.clone(),
                    read_only: None,
                }),
                ..Volume::default()
            }]
        }),
        ..PodSpec::default()
    };
    let metadata = |name: Option<String>| ObjectMeta {
        name,
        labels: Some(labels(token)),
        annotations: Some(annotations(token)),
        ..ObjectMeta::default()
    };
    Ok(BatchJob {
        metadata: metadata(Some(name.to_owned())),
        spec: Some(JobSpec {
            suspend: Some(true),
            parallelism: Some(1),
            completions: Some(1),
            backoff_limit: Some(0),
            // Never two pods at a time, not even while one of them is about to end.
            pod_replacement_policy: Some("Failed".into()),
            ttl_seconds_after_finished: Some(STAYS),
            template: PodTemplateSpec { metadata: Some(metadata(None)), spec: Some(pod) },
            ..JobSpec::default()
        }),
        status: None,
    })
}

/// The variables of the program: all of them may be confidential, so none is in the Job itself. Goes with its owner.
///
/// # Errors
/// A name or a value that a variable in a container cannot have.
pub fn secret(spec: &Spec, owner: &BatchJob) -> Result<Secret, KubernetesError> {
    let mut data = BTreeMap::new();
    for (name, value) in &spec.environment {
        let name = text(name)?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err(KubernetesError::Spec(format!("a variable cannot be named `{name}` in a cluster")));
        }
        data.insert(name, ByteString(text(value)?.into_bytes()));
    }
    let reference = OwnerReference {
        api_version: BatchJob::API_VERSION.into(),
        kind: BatchJob::KIND.into(),
        name: owner.metadata.name.clone().unwrap_or_default(),
        uid: owner.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    Ok(Secret {
        metadata: ObjectMeta {
            name: owner.metadata.name.clone(),
            labels: owner.metadata.labels.clone(),
            owner_references: Some(vec![reference]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..Secret::default()
    })
}

/// The program and its arguments. One that writes into files does it by a shell, as in a process of this machine.
fn command(spec: &Spec, shared: bool, data: &Path) -> Result<Vec<String>, KubernetesError> {
    let mut command = Vec::new();
    if let Some(files) = &spec.output {
        if !shared {
            let why = "its output goes into files, which takes a `volume_claim` with the data directory";
            return Err(KubernetesError::Spec(why.into()));
        }
        command.extend(
            ["/bin/sh", "-c", "out=$1 err=$2; shift 2; exec \"$@\" >>\"$out\" 2>>\"$err\"", "sh"].map(Into::into),
        );
        command.extend([text(files.out.as_os_str())?, text(files.err.as_os_str())?]);
    }
    // A program of this machine is another one in the image, and is found there by its name; one in the data directory is shared.
    let program = match spec.program.file_name() {
        Some(name) if spec.program.is_absolute() && !(shared && spec.program.starts_with(data)) => name,
        _ => spec.program.as_os_str(),
    };
    command.push(text(program)?);
    for argument in &spec.arguments {
        command.push(text(argument)?);
    }
    Ok(command.iter().map(|word| unexpanded(word)).collect())
}

/// Kubernetes replaces `$(NAME)` in commands and variables, and reads `$$` as one dollar.
fn unexpanded(text: &str) -> String {
    text.replace('$', "$$")
}

fn text(text: &OsStr) -> Result<String, KubernetesError> {
    let plain = text.to_str().filter(|text| !text.contains('\0'));
    plain.map(str::to_owned).ok_or_else(|| {
        KubernetesError::Spec(format!("`{}` is not UTF-8, and a Job is told in JSON", text.to_string_lossy()))
    })
}
