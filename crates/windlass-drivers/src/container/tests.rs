use super::*;
use std::collections::BTreeMap;
use std::ffi::OsString;
use windlass_model::place::Place;
use windlass_testkit::podman::Podman;

#[test]
fn the_engine_is_the_one_that_is_named_or_there() {
    let check = |variables: &[(&str, &str)], sockets: &[&str], want: &str| {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(host(variable, |path| sockets.iter().any(|s| path == Path::new(s))), want);
    };
    let (docker, podman) = ("/var/run/docker.sock", "/run/podman/podman.sock");
    check(&[], &[], "unix:///var/run/docker.sock");
    check(&[], &[podman], "unix:///run/podman/podman.sock");
    check(&[], &[docker, podman], "unix:///var/run/docker.sock");
    let own = "/run/user/7/podman/podman.sock";
    check(&[("XDG_RUNTIME_DIR", "/run/user/7")], &[own, podman], &format!("unix://{own}"));
    check(&[("DOCKER_HOST", "tcp://h:1"), ("CONTAINER_HOST", "unix:///x")], &[docker], "tcp://h:1");
    check(&[("DOCKER_HOST", ""), ("CONTAINER_HOST", "unix:///x")], &[docker], "unix:///x");
}

#[test]
fn a_signal_is_told_from_a_code() {
    let check = |code: i64, want: Option<i32>| assert_eq!(status(code).code(), want, "{code}");
    check(0, Some(0));
    check(2, Some(2));
    check(128, Some(128));
    check(137, None);
    check(255, Some(255));
}

#[test]
fn what_a_program_needs_is_mounted_once() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a/b/c", "d", "ab"] {
        std::fs::create_dir_all(root.path().join(name)).unwrap();
    }
    let at = |name: &str| root.path().join(name);
    let check = |directory: &str, reach: &[&str], own: &[&str], want: &[&str]| {
        let container = Container { mounts: own.iter().map(|m| (*m).to_owned()).collect(), ..Container::default() };
        let here = Spec::here("x".into(), Vec::new(), at(directory), Duration::ZERO);
        let spec = Spec { reach: reach.iter().map(|name| at(name)).collect(), ..here };
        let shown = mounts(&container, &spec).into_iter().map(|mount| {
            let text = format!("{}:{}", mount.source.unwrap(), mount.target.unwrap());
            let text = text.replace(&format!("{}/", root.path().display()), "");
            if mount.read_only == Some(true) { format!("{text}:ro") } else { text }
        });
        assert_eq!(shown.collect::<Vec<_>>(), want, "{directory} {reach:?}");
    };
    check("a", &[], &[], &["a:a"]);
    check("a/b/c", &["a", "d", "a/b", "missing"], &[], &["a:a", "d:d"]);
    check("a/b", &["ab"], &["/x:/y:ro", "/z:/z"], &["a/b:a/b", "ab:ab", "/x:/y:ro", "/z:/z"]);
    // The whole machine is never what is meant.
    check("/", &["d"], &[], &["d:d"]);
}

const IMAGE: &str = "localhost/windlass-busybox:1";

/// What a program said, and until what it is left alone.
#[derive(Default)]
struct Heard {
    out: Vec<u8>,
    err: String,
    elsewhere: Vec<String>,
    cancel_at: Option<(String, CancellationToken)>,
    refuse: bool,
}

impl Listener for Heard {
    async fn started(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
    async fn elsewhere(&mut self, what: &str) -> Result<(), String> {
        self.elsewhere.push(what.to_owned());
        if self.refuse { Err("no room".into()) } else { Ok(()) }
    }
    async fn output(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Out => self.out.extend_from_slice(bytes),
            Stream::Err => self.err.push_str(&String::from_utf8_lossy(bytes)),
        }
        if let Some((_, cancel)) = self.cancel_at.as_ref().filter(|(at, _)| self.text().contains(at.as_str())) {
            cancel.cancel();
        }
    }
}

impl Heard {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

struct Bench {
    podman: Podman,
    engine: Engine,
    directory: tempfile::TempDir,
}

impl Bench {
    fn container(&self) -> Container {
        Container { image: IMAGE.into(), network: Some("host".into()), pull: Pull::Never, ..Container::default() }
    }

    fn spec(&self, script: &str, attempt: u32) -> Spec {
        // The host's program is not there: only its name is looked for.
        let arguments: Vec<OsString> = vec!["-c".into(), script.into()];
        let token = Token { run: "run".into(), step: "plan/a".into(), attempt };
        let here =
            Spec::here("/usr/local/bin/sh".into(), arguments, self.directory.path().into(), Duration::from_secs(30));
        Spec {
            environment: BTreeMap::from([("ONLY".into(), "this".into())]),
            place: Place::Container(self.container()),
            token: Some(token),
            ..here
        }
    }

    async fn run(&self, container: &Container, spec: &Spec, heard: &mut Heard) -> Result<Ended, ProcessError> {
        let cancel = heard.cancel_at.as_ref().map(|(_, cancel)| cancel.clone()).unwrap_or_default();
        run(&self.engine, container, spec, &cancel, heard).await
    }

    /// Ids of all containers.
    fn left(&self) -> String {
        self.podman.run(&["ps", "--all", "--quiet"]).unwrap()
    }
}

/// One Podman for all: what each part leaves behind is looked at.
#[tokio::test]
async fn programs_run_in_containers_as_they_do_here() {
    let podman = Podman::start().unwrap();
    podman.image(IMAGE, &[]).unwrap();
    let engine = Engine::connect(&podman.host()).await.unwrap();
    let bench = Bench { podman, engine, directory: tempfile::tempdir().unwrap() };
    streams_environment_and_place(&bench).await;
    much_is_said(&bench).await;
    cancel(&bench).await;
    mistakes(&bench).await;
    recovery(&bench).await;
}

async fn streams_environment_and_place(bench: &Bench) {
    let script = "echo out $ONLY $MORE; echo err >&2; env | head -n 20 >&2; id -u; pwd; echo made > made; exit 3";
    let container = Container {
        environment: BTreeMap::from([("MORE".into(), "that".into())]),
        mounts: vec![format!("{}:/elsewhere:ro", bench.directory.path().display())],
        ..bench.container()
    };
    let mut heard = Heard::default();
    let ended = bench.run(&container, &bench.spec(script, 1), &mut heard).await.unwrap();
    assert_eq!((ended.status.code(), ended.cancelled, ended.killed), (Some(3), false, false));
    let (directory, user) = (bench.directory.path(), nix::unistd::geteuid());
    assert_eq!(heard.text(), format!("out this that\n{user}\n{}\n", directory.display()));
    assert!(heard.err.starts_with("err\n") && !heard.err.contains("CARGO"), "{}", heard.err);
    assert_eq!(std::fs::read_to_string(directory.join("made")).unwrap(), "made\n");
    assert!(heard.elsewhere[0].starts_with(&format!("sh runs in a container of {IMAGE} (")), "{:?}", heard.elsewhere);
    let mut heard = Heard::default();
    bench.run(&container, &bench.spec("cat /elsewhere/made; echo x > /elsewhere/no", 1), &mut heard).await.unwrap();
    assert!(heard.text() == "made\n" && heard.err.contains("Read-only"), "{}", heard.err);
    let mut heard = Heard { refuse: true, ..Heard::default() };
    let refused = bench.run(&container, &bench.spec("echo x > never", 1), &mut heard).await;
    assert!(matches!(refused, Err(ProcessError::Recorded(_))) && !directory.join("never").exists());
    assert_eq!(bench.left(), "");
}

async fn much_is_said(bench: &Bench) {
    let mut heard = Heard::default();
    let ended = bench.run(&bench.container(), &bench.spec("yes | head -c 8000000", 1), &mut heard).await.unwrap();
    assert_eq!((ended.status.code(), heard.out.len()), (Some(0), 8_000_000));
    assert!(heard.out.chunks(2).all(|pair| pair == b"y\n"));
    // One line, and a file that keeps it.
    let files = OutputFiles { out: bench.directory.path().join("o/out"), err: bench.directory.path().join("o/err") };
    let script = "yes a | head -n 50000 | while read x; do echo -n $x; done; echo; echo said >&2";
    let spec = Spec { output: Some(files.clone()), ..bench.spec(script, 1) };
    let mut heard = Heard::default();
    bench.run(&bench.container(), &spec, &mut heard).await.unwrap();
    assert_eq!((heard.text(), heard.err.as_str()), (format!("{}\n", "a".repeat(50_000)), "said\n"));
    assert_eq!(std::fs::read(files.out).unwrap(), heard.out);
    assert_eq!(std::fs::read_to_string(files.err).unwrap(), "said\n");
}

async fn cancel(bench: &Bench) {
    let stops = "n=0; trap 'n=$((n+1)); echo got $n' INT; echo ready; while [ $n -eq 0 ]; do :; done; i=0; \
                 while [ $i -lt 50000 ]; do i=$((i+1)); done; exit 0";
    let at = |text: &str| Heard { cancel_at: Some((text.into(), CancellationToken::new())), ..Heard::default() };
    let mut heard = at("ready");
    let ended = bench.run(&bench.container(), &bench.spec(stops, 1), &mut heard).await.unwrap();
    assert_eq!((ended.status.code(), ended.cancelled, ended.killed), (Some(0), true, false));
    assert_eq!(heard.text(), "ready\ngot 1\n");
    let mut heard = at("ready");
    let spec = Spec { grace: Duration::from_millis(200), ..bench.spec("trap '' INT; echo ready; sleep 600", 1) };
    let ended = bench.run(&bench.container(), &spec, &mut heard).await.unwrap();
    assert!(ended.cancelled && ended.killed && ended.status.code().is_none(), "{ended:?}");
    assert_eq!(bench.left(), "");
}

async fn mistakes(bench: &Bench) {
    let check = async |container: Container, program: &str, code: &str, says: &str| {
        let spec = Spec { program: program.into(), ..bench.spec("echo x", 1) };
        let error = bench.run(&container, &spec, &mut Heard::default()).await.unwrap_err();
        let diagnostic = error.diagnostic().unwrap();
        assert_eq!(diagnostic.code, code, "{}", diagnostic.summary);
        assert!(diagnostic.summary.contains(says), "{}", diagnostic.summary);
    };
    let own = bench.container();
    check(Container { image: "localhost/none:1".into(), ..own.clone() }, "sh", "WL874", "pull = \"never\"").await;
    let fetched = Container { image: "127.0.0.1:1/none".into(), pull: Pull::Missing, ..own.clone() };
    check(fetched, "sh", "WL874", "cannot be fetched").await;
    check(own.clone(), "terraform", "WL875", "refuses to run `terraform`").await;
    check(Container { network: Some("not-there".into()), ..own }, "sh", "WL875", "refuses to run `sh`").await;
    let nobody = Engine::connect("unix:///not/there.sock").await.map(drop).unwrap_err();
    assert_eq!(nobody.diagnostic().code, "WL873");
    assert_eq!(bench.left(), "");
}

/// A container whose starter died: nobody follows it, and another process finds it.
async fn recovery(bench: &Bench) {
    let files = OutputFiles { out: bench.directory.path().join("r/out"), err: bench.directory.path().join("r/err") };
    let script = "trap 'echo interrupted; exit 1' INT; echo begun; while :; do sleep 0.1; done";
    let abandoned = async |attempt: u32, output: Option<OutputFiles>| {
        let spec = Spec { output, ..bench.spec(script, attempt) };
        let id = bench.engine.create(&bench.container(), &spec).await.unwrap();
        bench.engine.0.start_container(&id, None).await.unwrap();
        id
    };
    let token = |attempt| Token { run: "run".into(), step: "plan/a".into(), attempt };
    let id = abandoned(1, Some(files.clone())).await;
    std::fs::create_dir_all(files.out.parent().unwrap()).unwrap();
    std::fs::write(&files.out, "beg").unwrap();
    let begun = async || bench.engine.said(&id).await.unwrap().0 == b"begun\n";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !begun().await {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(bench.engine.lives(&token(1)).await.unwrap());
    let other = Token { step: "plan/b".into(), ..token(1) };
    assert!(!bench.engine.lives(&other).await.unwrap());
    bench.engine.end(&other, 1, Duration::from_secs(30)).await.unwrap();
    assert!(bench.engine.lives(&token(1)).await.unwrap());
    bench.engine.end(&token(1), 1, Duration::from_secs(30)).await.unwrap();
    assert!(!bench.engine.lives(&token(1)).await.unwrap());
    assert_eq!(std::fs::read_to_string(&files.out).unwrap(), "begun\ninterrupted\n");
    assert_eq!(bench.left(), "");
    // The next attempt ends the one before it, and not a later one.
    abandoned(1, None).await;
    let later = abandoned(3, None).await;
    let mut heard = Heard::default();
    bench.run(&bench.container(), &bench.spec("echo second", 2), &mut heard).await.unwrap();
    assert_eq!(heard.text(), "second\n");
    assert!(later.starts_with(bench.left().trim()), "{} of {later}", bench.left());
    bench.engine.end(&token(3), 3, Duration::ZERO).await.unwrap();
    assert_eq!(bench.left(), "");
}
