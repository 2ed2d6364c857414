//! What the program is shipped with: alert rules, the unit of systemd, the image, the chart.

#![allow(clippy::unwrap_used, reason = "a test")]

use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(path)
}

/// Whether the program is on this machine; where it is not, its test has nothing to ask.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("{program} is not installed: left out");
    }
    found.is_ok()
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let answer = command.output().unwrap();
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.status.success(), "{command:?}\n{said}{}", String::from_utf8_lossy(&answer.stderr));
    said
}

#[test]
fn alert_rules_say_what_they_should() {
    if has("promtool") {
        succeeds(Command::new("promtool").args(["check", "rules"]).arg(packaging("prometheus/alerts.yml")));
        succeeds(Command::new("promtool").args(["test", "rules"]).arg(packaging("prometheus/alerts_test.yml")));
    }
}

#[test]
fn the_unit_of_systemd_is_well_formed() {
    if !has("systemd-analyze") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let unit = std::fs::read_to_string(packaging("systemd/windlass.service")).unwrap();
    // It looks for the program as well, which is not installed here.
    let unit = unit.replace("/usr/local/bin/windlass", "/bin/true");
    let file = directory.path().join("windlass.service");
    std::fs::write(&file, unit).unwrap();
    succeeds(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file));
}

fn helm(arguments: &[&str], sets: &[&str]) -> Output {
    let mut command = Command::new("helm");
    // One that was built from its module takes the cluster for an old one.
    command.args(arguments).arg(packaging("helm/windlass")).arg("--kube-version=1.30.0");
    command.args(sets.iter().map(|set| format!("--set={set}"))).output().unwrap()
}

/// The objects of the chart with these values, by kind.
#[track_caller]
fn objects(sets: &[&str]) -> Vec<(String, Value)> {
    let answer = helm(&["template", "ops"], sets);
    assert!(answer.status.success(), "{sets:?}: {}", String::from_utf8_lossy(&answer.stderr));
    let text = String::from_utf8(answer.stdout).unwrap();
    let documents = yaml_serde::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap());
    let mut objects: Vec<_> =
        documents.filter(|one| !one.is_null()).map(|one| (one["kind"].as_str().unwrap().to_owned(), one)).collect();
    objects.sort_by(|(one, _), (other, _)| one.cmp(other));
    objects
}

const LEAST: &str = "ConfigMap Deployment PersistentVolumeClaim Service ServiceAccount";
const MANY: [&str; 3] = ["replicas=3", "database.secret=db", "persistence.accessModes={ReadWriteMany}"];
/// Pods that share nothing.
const APART: [&str; 4] = ["replicas=3", "database.secret=db", "artefacts=s3://b/p", "keys.secret=keys"];
const HOST: [&str; 4] =
    ["url=https://w.example.com", "ingress.enabled=true", "ingress.host=w.example.com", "ingress.tlsSecret=tls"];

#[test]
fn the_chart_is_what_a_cluster_wants() {
    if !has("helm") {
        return;
    }
    let check = |sets: &[&str], kinds: &str, wanted: &[(&str, &str, Value)]| {
        let linted = helm(&["lint", "--strict"], sets);
        assert!(linted.status.success(), "{sets:?}: {}", String::from_utf8_lossy(&linted.stdout));
        let objects = objects(sets);
        let found = objects.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>().join(" ");
        assert_eq!(found, kinds, "{sets:?}");
        for (kind, pointer, value) in wanted {
            let object = &objects.iter().find(|(one, _)| one == kind).unwrap().1;
            let found = object.pointer(pointer).unwrap_or(&Value::Null);
            assert_eq!(found, value, "{sets:?}: {kind} {pointer} of {object:#}");
        }
        // What one object names in another is there.
        let of = |kind: &str| &objects.iter().find(|(one, _)| one == kind).unwrap().1;
        let (deployment, service) = (of("Deployment"), of("Service"));
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        for selector in [&deployment["spec"]["selector"]["matchLabels"], &service["spec"]["selector"]] {
            assert!(selector.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value), "{selector}");
        }
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], of("ServiceAccount")["metadata"]["name"]);
        let volumes: Vec<&Value> = pod["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().all(|mount| volumes.contains(&&mount["name"])) && mounts.len() == volumes.len());
    };
    let container = "/spec/template/spec/containers/0";
    let at = |rest: &str| format!("{container}{rest}");
    check(
        &[],
        LEAST,
        &[
            ("Deployment", "/spec/replicas", json!(1)),
            // Two servers never share one file.
            ("Deployment", "/spec/strategy/type", json!("Recreate")),
            ("Deployment", "/spec/template/spec/securityContext/runAsNonRoot", json!(true)),
            ("Deployment", "/spec/template/spec/securityContext/runAsUser", json!(10001)),
            ("Deployment", "/spec/template/spec/securityContext/seccompProfile/type", json!("RuntimeDefault")),
            ("Deployment", &at("/securityContext/readOnlyRootFilesystem"), json!(true)),
            ("Deployment", &at("/securityContext/allowPrivilegeEscalation"), json!(false)),
            ("Deployment", &at("/securityContext/capabilities/drop"), json!(["ALL"])),
            ("Deployment", &at("/startupProbe/httpGet/path"), json!("/healthz")),
            ("Deployment", &at("/livenessProbe/httpGet/path"), json!("/healthz")),
            ("Deployment", &at("/readinessProbe/httpGet/path"), json!("/readyz")),
            ("Deployment", &at("/resources/requests/cpu"), json!("250m")),
            ("Deployment", &at("/resources/limits/memory"), json!("4Gi")),
            ("Deployment", &at("/ports/0/containerPort"), json!(7670)),
            ("PersistentVolumeClaim", "/metadata/annotations/helm.sh~1resource-policy", json!("keep")),
            ("Service", "/spec/ports/0/targetPort", json!("http")),
            ("ServiceAccount", "/automountServiceAccountToken", json!(false)),
        ],
    );
    check(
        &MANY,
        &LEAST.replace("Claim", "Claim PodDisruptionBudget"),
        &[
            ("Deployment", "/spec/replicas", json!(3)),
            ("Deployment", "/spec/strategy", Value::Null),
            ("Deployment", &at("/env/2/valueFrom/secretKeyRef"), json!({ "name": "db", "key": "url" })),
            ("PodDisruptionBudget", "/spec/maxUnavailable", json!(1)),
        ],
    );
    let volume = |number: usize, rest: &str| format!("/spec/template/spec/volumes/{number}{rest}");
    check(
        &APART,
        &LEAST.replace("PersistentVolumeClaim", "PodDisruptionBudget"),
        &[
            ("Deployment", &at("/env/3"), json!({ "name": "WINDLASS_ARTEFACTS", "value": "s3://b/p" })),
            ("Deployment", &at("/env/4/value"), json!("/run/secrets/windlass-keys/installation")),
            ("Deployment", &at("/env/5/value"), json!("/run/secrets/windlass-keys/audit")),
            (
                "Deployment",
                &volume(0, "/ephemeral/volumeClaimTemplate/spec"),
                json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "20Gi" } } }),
            ),
            ("Deployment", &volume(3, "/secret"), json!({ "secretName": "keys", "defaultMode": 0o440 })),
        ],
    );
    check(
        &[&APART[..], &["persistence.enabled=false"]].concat(),
        &LEAST.replace("PersistentVolumeClaim", "PodDisruptionBudget"),
        &[("Deployment", &volume(0, "/emptyDir"), json!({}))],
    );
    check(
        &HOST,
        &LEAST.replace("Deployment", "Deployment Ingress"),
        &[
            ("Deployment", &at("/env/2"), json!({ "name": "WINDLASS_EXTERNAL_URL", "value": "https://w.example.com" })),
            ("Ingress", "/spec/tls/0", json!({ "secretName": "tls", "hosts": ["w.example.com"] })),
            ("Ingress", "/spec/rules/0/http/paths/0/backend/service/port/name", json!("http")),
        ],
    );
    check(
        &["networkPolicy.enabled=true", "networkPolicy.from[0].podSelector.matchLabels.app=ingress"],
        &LEAST.replace("Deployment", "Deployment NetworkPolicy"),
        &[
            ("NetworkPolicy", "/spec/policyTypes", json!(["Ingress"])),
            ("NetworkPolicy", "/spec/ingress/0/ports/0/port", json!("http")),
            ("NetworkPolicy", "/spec/ingress/0/from/0/podSelector/matchLabels/app", json!("ingress")),
        ],
    );
    check(
        &["serviceMonitor.enabled=true", "serviceMonitor.tokenSecret=token", "secrets=files"],
        &format!("{LEAST} ServiceMonitor"),
        &[
            ("ServiceMonitor", "/spec/endpoints/0/authorization/credentials/name", json!("token")),
            (
                "Deployment",
                "/spec/template/spec/volumes/3/secret",
                json!({ "secretName": "files", "defaultMode": 0o440 }),
            ),
        ],
    );
}

#[test]
fn the_chart_refuses_what_cannot_work() {
    if !has("helm") {
        return;
    }
    let check = |sets: &[&str], wanted: &str| {
        let answer = helm(&["template", "ops"], sets);
        let said = String::from_utf8_lossy(&answer.stderr);
        assert!(!answer.status.success() && said.contains(wanted), "{sets:?}: {said}");
    };
    check(&["replicas=2"], "more than one replica needs PostgreSQL");
    check(&["replicas=2", "database.secret=db"], "more than one replica needs a volume that all can write");
    check(&["replicas=2", "database.secret=db", "artefacts=database"], "more than one replica needs a volume");
    check(
        &["persistence.enabled=false", "artefacts=database", "keys.secret=k"],
        "go with the pod: set database.secret",
    );
    check(&["ingress.enabled=true"], "ingress.host is the name in url");
    check(&["serviceMonitor.enabled=true"], "serviceMonitor.tokenSecret holds a token");
}
