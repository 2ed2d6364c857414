//! Programs as Jobs in a cluster that really runs them, with the rights of the role that ships.

#![allow(clippy::unwrap_used, reason = "tests")]

use kube::{Client, Config};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_drivers::kubernetes::{Cluster, KubernetesError, Patience};
use windlass_drivers::process::{Ended, Listener, OutputFiles, Spec, Stream, Token};
use windlass_model::place::Job;
use windlass_testkit::kubernetes::Kubernetes;

const IMAGE: &str = "registry.test/tools:1";

/// What was heard, by whoever looks while it is written.
#[derive(Debug, Clone, Default)]
struct Heard {
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    notes: Arc<Mutex<Vec<String>>>,
    /// Cancelled when the output or a note has this text.
    cancel_at: Option<(&'static str, CancellationToken)>,
}

impl Heard {
    fn out(&self) -> String {
        String::from_utf8(self.out.lock().unwrap().clone()).unwrap()
    }

    fn notes(&self) -> String {
        self.notes.lock().unwrap().join("\n")
    }

    fn cancel(&self, text: &str) {
        if let Some((_, cancel)) = self.cancel_at.as_ref().filter(|(wanted, _)| text.contains(wanted)) {
            cancel.cancel();
        }
    }
}

impl Listener for Heard {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        Err(format!("a Job has no process of this machine, so not {pid}"))
    }

    async fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let to = if stream == Stream::Out { &self.out } else { &self.err };
        to.lock().unwrap().extend_from_slice(bytes);
        self.cancel(&String::from_utf8_lossy(bytes));
    }

    async fn note(&mut self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
        self.cancel(text);
    }
}

struct Story {
    kubernetes: Kubernetes,
    directory: tempfile::TempDir,
    patience: Patience,
}

/// Rules of the role that ships.
fn role() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/kubernetes/runner-role.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let mut documents = yaml_serde::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap());
    let role = documents.find(|document| document["kind"] == "Role").unwrap();
    role["rules"].as_array().unwrap().clone()
}

fn place() -> Job {
    Job { image: IMAGE.into(), ..Job::default() }
}

fn token(attempt: u32) -> Token {
    Token::parse(&format!("01K0RUN/apply:network/{attempt}")).unwrap()
}

impl Story {
    async fn begin() -> Self {
        Self::of(role()).await
    }

    async fn of(rules: Vec<Value>) -> Self {
        let patience = Patience {
            outage: Duration::from_secs(30),
            start: Duration::from_secs(60),
            stop: Duration::from_secs(30),
            look: Duration::from_millis(50),
        };
        Self { kubernetes: Kubernetes::start(rules).await.unwrap(), directory: tempfile::tempdir().unwrap(), patience }
    }

    fn cluster(&self) -> Cluster {
        let client = Client::try_from(Config::new(self.kubernetes.url().parse().unwrap())).unwrap();
        Cluster::new(client, "ops".into(), self.patience)
    }

    fn spec(&self, script: &str) -> Spec {
        let arguments = vec!["-c".into(), script.into()];
        Spec::here("/bin/sh".into(), arguments, self.directory.path().to_owned(), Duration::from_secs(20))
    }

    async fn run(&self, place: &Job, spec: &Spec, attempt: u32) -> (Result<Ended, KubernetesError>, Heard) {
        self.run_until(place, spec, attempt, None).await
    }

    /// Cancelled at some text, where there is one.
    async fn run_until(
        &self,
        place: &Job,
        spec: &Spec,
        attempt: u32,
        cancel_at: Option<&'static str>,
    ) -> (Result<Ended, KubernetesError>, Heard) {
        let cancel = CancellationToken::new();
        let heard = Heard { cancel_at: cancel_at.map(|text| (text, cancel.clone())), ..Heard::default() };
        let ended = self.run_as(place, spec, attempt, &cancel, &mut heard.clone()).await;
        (ended, heard)
    }

    async fn run_as(
        &self,
        place: &Job,
        spec: &Spec,
        attempt: u32,
        cancel: &CancellationToken,
        heard: &mut Heard,
    ) -> Result<Ended, KubernetesError> {
        let spec = Spec { token: Some(token(attempt)), ..spec.clone() };
        self.cluster().run(place, &spec, self.directory.path(), cancel, heard).await
    }

    /// The same, while the story goes on.
    fn spawn(&self, script: &str, attempt: u32) -> (tokio::task::JoinHandle<Result<Ended, KubernetesError>>, Heard) {
        self.spawn_in(place(), self.spec(script), attempt)
    }

    fn spawn_in(
        &self,
        place: Job,
        spec: Spec,
        attempt: u32,
    ) -> (tokio::task::JoinHandle<Result<Ended, KubernetesError>>, Heard) {
        let (cluster, heard) = (self.cluster(), Heard::default());
        let (mut listener, directory) = (heard.clone(), self.directory.path().to_owned());
        let spec = Spec { token: Some(token(attempt)), ..spec };
        let running = tokio::spawn(async move {
            cluster.run(&place, &spec, &directory, &CancellationToken::new(), &mut listener).await
        });
        (running, heard)
    }

    /// Makes a file that a program waits for.
    fn let_go(&self) {
        std::fs::write(self.directory.path().join("go"), "").unwrap();
    }

    fn wait_script(&self) -> String {
        format!("while [ ! -e {}/go ]; do sleep 0.02; done", self.directory.path().display())
    }
}

fn code(ended: &Result<Ended, KubernetesError>) -> Option<i32> {
    ended.as_ref().unwrap().status.code()
}

#[tokio::test]
async fn a_program_runs_with_what_was_declared_and_nothing_else() {
    let story = Story::begin().await;
    let mut place = Job {
        memory_mib: Some(512),
        cpu_milli: Some(1500),
        service_account: Some("deployer".into()),
        volume_claim: Some("data".into()),
        environment: [("HOME".into(), "/nowhere".into()), ("RAW".into(), "$(SECRET) $$".into())].into(),
        ..place()
    };
    place.node_selector.insert("kubernetes.io/os".into(), "linux".into());
    let mut spec = story.spec(
        "echo \"$SECRET|$HOME|$RAW|$1|$PWD\"; echo bad >&2; env -0 | cut -z -d= -f1 | sort -z | tr '\\0' ' '; echo",
    );
    spec.arguments.extend(["sh".into(), "$(SECRET) $$ $".into()]);
    spec.environment =
        BTreeMap::from([("SECRET".into(), "p$(HOME)w\nd".into()), ("HOME".into(), "/the/step's".into())]);
    let (ended, heard) = story.run(&place, &spec, 1).await;
    let ended = ended.unwrap();
    assert_eq!((ended.status.code(), ended.cancelled, ended.killed), (Some(0), false, false));
    let directory = story.directory.path().display();
    let mut lines: Vec<String> = heard.out().lines().map(str::to_owned).collect();
    // Both streams come as one, in an order that the cluster does not keep.
    lines.retain(|line| line != "bad");
    assert_eq!(lines[..2], ["p$(HOME)w", &format!("d|/the/step's|$(SECRET) $$|$(SECRET) $$ $|{directory}")]);
    assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["HOME", "PATH", "PWD", "RAW", "SECRET"]);
    assert!(heard.out().contains("bad\n") && heard.notes().is_empty(), "{heard:?}");
    // The Job stays to be seen, without the value that was confidential; that is gone.
    let jobs = story.kubernetes.objects("jobs");
    assert_eq!((jobs.len(), story.kubernetes.objects("secrets").len()), (1, 0));
    assert!(!jobs[0].to_string().contains("p$(HOME)w"));
    assert_eq!(jobs[0]["metadata"]["annotations"]["windlass.step"], "apply:network");
}

#[tokio::test]
async fn ten_thousand_lines_come_once_over_connections_that_break() {
    let story = Story::begin().await;
    story.kubernetes.set(|settings| settings.coarse = true);
    story.kubernetes.break_after(Some(20_000));
    let script = format!(
        "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); echo \"line $i\"; [ $i = 5000 ] && {}; done; \
         head -c 50000 /dev/zero | tr '\\0' x; echo; printf end",
        story.wait_script()
    );
    let (running, heard) = story.spawn(&script, 1);
    story.kubernetes.until(|_| heard.out().contains("line 5000\n")).await.unwrap();
    // The watch, too, has to begin anew.
    story.kubernetes.compact();
    story.let_go();
    let ended = running.await.unwrap();
    assert_eq!(code(&ended), Some(0));
    let wanted: String = (1..=10000).map(|i| format!("line {i}\n")).collect::<String>() + &"x".repeat(50_000) + "\nend";
    let out = heard.out();
    let differs = out.bytes().zip(wanted.bytes()).position(|(a, b)| a != b);
    assert!(out == wanted, "{} of {} bytes; differs at {differs:?}", out.len(), wanted.len());
    assert_eq!(heard.notes(), "");
}

#[tokio::test]
async fn the_end_of_a_program_is_told() {
    let story = Story::begin().await;
    let (ended, heard) = story.run(&place(), &story.spec("echo failing; exit 7"), 1).await;
    assert_eq!((code(&ended), heard.out().as_str()), (Some(7), "failing\n"));
    let (ended, _) = story.run(&place(), &story.spec("kill -9 $$"), 2).await;
    assert_eq!(code(&ended), None);
    let mut unknown = story.spec("");
    unknown.program = "no-such-program".into();
    let (ended, heard) = story.run(&place(), &unknown, 3).await;
    assert_eq!(code(&ended), Some(128));
    assert!(heard.notes().contains("StartError: failed to create containerd task"), "{heard:?}");
}

#[tokio::test]
async fn a_program_that_takes_too_much_memory_is_said_to() {
    let story = Story::begin().await;
    let place = Job { memory_mib: Some(40), ..place() };
    let script = "echo begins; x=$(head -c 200000000 /dev/zero | tr '\\0' x); sleep 600";
    let (ended, heard) = story.run(&place, &story.spec(script), 1).await;
    assert_eq!((code(&ended), heard.out().as_str()), (None, "begins\n"));
    assert!(heard.notes().contains("more memory"), "{heard:?}");
}

#[tokio::test]
async fn a_cancel_is_one_signal_and_then_a_kill() {
    let story = Story::begin().await;
    let script = "trap 'echo stopped; exit 3' TERM; echo ready; while :; do sleep 0.02; done";
    let (ended, heard) = story.run_until(&place(), &story.spec(script), 1, Some("ready")).await;
    let ended = ended.unwrap();
    assert_eq!((ended.status.code(), ended.cancelled, ended.killed), (Some(3), true, false));
    assert_eq!(heard.out(), "ready\nstopped\n");
    let mut stubborn = story.spec("trap '' TERM; echo ready; while :; do sleep 0.02; done");
    stubborn.grace = Duration::from_millis(500);
    let (ended, _) = story.run_until(&place(), &stubborn, 1, Some("ready")).await;
    let ended = ended.unwrap();
    assert_eq!((ended.status.code(), ended.cancelled, ended.killed), (None, true, true));
    story.kubernetes.until(|all| all.objects("jobs").is_empty() && all.running() == 0).await.unwrap();
    assert_eq!(story.kubernetes.objects("secrets").len(), 0);
}

#[tokio::test]
async fn what_waits_says_why_and_goes_on_or_fails() {
    let mut story = Story::begin().await;
    let spec = story.spec("echo ran");
    // It can be pulled after a while.
    let late = Job { image: "registry.test/late:1".into(), ..place() };
    let (running, heard) = story.spawn_in(late, spec.clone(), 1);
    let told = || heard.notes().contains("ImagePullBackOff: Back-off pulling image");
    story.kubernetes.until(|_| told()).await.unwrap();
    story.kubernetes.set(|settings| settings.images.extend(["registry.test/late:1".into()]));
    assert_eq!((code(&running.await.unwrap()), heard.out().as_str()), (Some(0), "ran\n"));
    // These cannot, within the time that is given.
    story.patience.start = Duration::from_secs(4);
    let selector = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
    let cases = [
        (Job { image: "registry.test/none:1".into(), ..place() }, "ImagePullBackOff: Back-off pulling image"),
        (Job { image: "Not An Image".into(), ..place() }, "InvalidImageName: "),
        (Job { node_selector: selector, ..place() }, "Unschedulable: 0/1 nodes are available"),
        (Job { volume_claim: Some("none".into()), ..place() }, "Unschedulable: persistentvolumeclaim"),
    ];
    let runs = cases.iter().map(|(place, _)| story.run(place, &spec, 2));
    for ((ended, heard), (place, why)) in futures_util::future::join_all(runs).await.into_iter().zip(&cases) {
        match ended {
            Err(error @ KubernetesError::NotStarted { .. }) => {
                assert!(error.to_string().contains(why) && error.code() == "WL887", "{error}");
            }
            other => panic!("{place:?}: {other:?}"),
        }
        assert!(heard.out().is_empty() && (heard.notes().contains(why) || why.starts_with("Invalid")), "{heard:?}");
    }
    story.kubernetes.set(|settings| settings.pods = Some(0));
    let (ended, heard) = story.run(&place(), &spec, 2).await;
    assert!(ended.unwrap_err().to_string().contains("exceeded quota"));
    assert!(heard.notes().contains("FailedCreate: Error creating: pods"), "{heard:?}");
    // What did not begin does not begin later.
    story.kubernetes.set(|settings| settings.pods = None);
    story.kubernetes.until(|all| all.objects("jobs").is_empty() && all.objects("pods").is_empty()).await.unwrap();
}

#[tokio::test]
async fn a_cluster_that_is_away_for_a_while_is_waited_for() {
    let story = Story::begin().await;
    story.kubernetes.set(|settings| settings.lost_answers = 2);
    let script = format!("echo one; {}; echo two; exit 5", story.wait_script());
    let (running, heard) = story.spawn(&script, 1);
    story.kubernetes.until(|_| heard.out() == "one\n").await.unwrap();
    assert_eq!((story.kubernetes.objects("jobs").len(), story.kubernetes.objects("secrets").len()), (1, 1));
    story.kubernetes.away(true);
    story.let_go();
    story.kubernetes.until(|all| all.running() == 0).await.unwrap();
    assert!(!running.is_finished());
    story.kubernetes.away(false);
    assert_eq!((code(&running.await.unwrap()), heard.out().as_str()), (Some(5), "one\ntwo\n"));
}

#[tokio::test]
async fn an_older_attempt_is_over_before_the_next_begins() {
    let story = Story::begin().await;
    let trace = story.directory.path().join("trace");
    let trace = trace.display();
    let older = format!(
        "trap 'sleep 0.3; echo old ends >>{trace}; exit 1' TERM; echo old >>{trace}; echo ready; while :; do sleep 0.02; done"
    );
    let (running, heard) = story.spawn(&older, 1);
    story.kubernetes.until(|_| heard.out() == "ready\n").await.unwrap();
    let newer = story.spec(&format!("echo new >>{trace}"));
    let (ended, _) = story.run(&place(), &newer, 2).await;
    assert_eq!(code(&ended), Some(0));
    let trace = std::fs::read_to_string(story.directory.path().join("trace")).unwrap();
    assert_eq!(trace, "old\nold ends\nnew\n");
    // Whoever followed the older one hears of its end.
    assert_eq!(code(&running.await.unwrap()), Some(1));
    // An older one does not begin any more, and leaves nothing.
    let (ended, _) = story.run(&place(), &story.spec("echo late"), 1).await;
    assert!(matches!(ended, Err(KubernetesError::Superseded { newer: 2 })), "{ended:?}");
    story.kubernetes.until(|all| all.objects("jobs").len() == 1).await.unwrap();
    // Programs of one attempt follow each other, and steps do not know each other.
    let (ended, _) = story.run(&place(), &story.spec("echo more"), 2).await;
    assert_eq!(code(&ended), Some(0));
    let other = Token::parse("01K0RUN/apply:other/1").unwrap();
    story.cluster().end_older(&other).await.unwrap();
    assert_eq!(story.kubernetes.objects("jobs").len(), 2);
    assert!(!story.cluster().lives(&token(2)).await.unwrap());
    story.cluster().end(&token(2)).await.unwrap();
    assert_eq!(story.kubernetes.objects("jobs").len(), 0);
}

#[tokio::test]
async fn nobody_says_that_a_program_ended_where_no_node_does() {
    let mut story = Story::begin().await;
    story.kubernetes.set(|settings| settings.pods = Some(0));
    let (running, heard) = story.spawn("echo ready; while :; do sleep 0.02; done", 1);
    story.kubernetes.until(|_| heard.notes().contains("FailedCreate")).await.unwrap();
    story.kubernetes.set(|settings| settings.pods = None);
    story.kubernetes.until(|_| heard.out() == "ready\n").await.unwrap();
    story.kubernetes.set(|settings| settings.node_away = true);
    story.patience.stop = Duration::from_millis(300);
    let fenced = tokio::spawn({
        let cluster = story.cluster();
        async move { cluster.end_older(&token(2)).await }
    });
    // The first pod of the older attempt is asked twice: with its grace, and with the least there is.
    let hastened =
        |all: &Kubernetes| all.objects("pods").iter().any(|pod| pod["metadata"]["deletionGracePeriodSeconds"] == 1);
    story.kubernetes.until(hastened).await.unwrap();
    assert!(story.cluster().lives(&token(2)).await.unwrap());
    let refused = fenced.await.unwrap().unwrap_err();
    assert!(matches!(refused, KubernetesError::NotEnded { .. }) && refused.code() == "WL888", "{refused}");
    // The node is back.
    story.kubernetes.set(|settings| settings.node_away = false);
    assert_eq!(code(&running.await.unwrap()), None);
    story.cluster().end_older(&token(2)).await.unwrap();
    assert!(story.kubernetes.objects("jobs").is_empty() && !story.cluster().lives(&token(2)).await.unwrap());
    // All that the role allows was needed, but for the Secret of a program that comes to its own end.
    let (ended, _) = story.run(&place(), &story.spec(":"), 2).await;
    assert_eq!(code(&ended), Some(0));
    let names = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let allowed: BTreeSet<String> = role()
        .iter()
        .flat_map(|rule| {
            let verbs = names(&rule["verbs"]);
            names(&rule["resources"])
                .into_iter()
                .flat_map(move |resource| verbs.clone().into_iter().map(move |verb| format!("{verb} {resource}")))
        })
        .collect();
    let asked = story.kubernetes.asked();
    assert_eq!(allowed.difference(&asked).collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test]
async fn what_is_refused_is_said_in_the_words_of_the_cluster() {
    let story = Story::of(Vec::new()).await;
    let (ended, _) = story.run(&place(), &story.spec(":"), 1).await;
    let error = ended.unwrap_err();
    assert_eq!(error.code(), "WL886");
    let wanted = "the cluster refuses to make a Job: jobs is forbidden: User \"system:serviceaccount:ops:windlass\" cannot create";
    assert!(error.to_string().starts_with(wanted), "{error}");
    // Who may not read a log does not run a program that nobody sees.
    let rules: Vec<Value> = role().into_iter().filter(|rule| rule["resources"][0] != "pods/log").collect();
    let story = Story::of(rules).await;
    let (ended, _) = story.run(&place(), &story.spec("sleep 600"), 1).await;
    assert!(ended.unwrap_err().to_string().contains("pods/log is forbidden"));
    story.kubernetes.until(|all| all.objects("jobs").is_empty() && all.running() == 0).await.unwrap();
    let story = Story::begin().await;
    for (name, value) in [("A=B", "x"), ("LARGE", &"x".repeat(2 << 20))] {
        let mut spec = story.spec(":");
        spec.environment.insert(name.into(), value.into());
        let (ended, _) = story.run(&place(), &spec, 1).await;
        assert_eq!(ended.unwrap_err().code(), "WL886");
    }
    story.kubernetes.until(|all| all.objects("jobs").is_empty()).await.unwrap();
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_nothing() {
    let story = Story::begin().await;
    let (running, heard) = story.spawn("echo ready; sleep 600", 1);
    story.kubernetes.until(|_| heard.out() == "ready\n").await.unwrap();
    running.abort();
    story.kubernetes.until(|all| all.objects("jobs").is_empty() && all.running() == 0).await.unwrap();
}

#[tokio::test]
async fn output_goes_into_files_on_the_volume() {
    let story = Story::begin().await;
    let files = OutputFiles { out: story.directory.path().join("a/out"), err: story.directory.path().join("a/err") };
    let mut spec = story.spec("echo one; echo bad >&2; sleep 0.5; echo two; exit 4");
    spec.output = Some(files.clone());
    let (ended, _) = story.run(&place(), &spec, 1).await;
    assert!(ended.unwrap_err().to_string().contains("volume_claim"));
    let (ended, heard) = story.run(&Job { volume_claim: Some("data".into()), ..place() }, &spec, 1).await;
    assert_eq!((code(&ended), heard.out().as_str()), (Some(4), "one\ntwo\n"));
    assert_eq!(*heard.err.lock().unwrap(), b"bad\n");
    assert_eq!(std::fs::read_to_string(files.out).unwrap(), "one\ntwo\n");
}
