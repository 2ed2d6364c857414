//! `run`, `shell`, `script`: success, refusal and fault; killed in the middle; cancelled.

use super::{World, argv, lives, operation, shell, step, until, x};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use windlass_model::id::RunId;
use windlass_model::run::{RunState, StepState};
use windlass_store::ArtefactKind;

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_what_is_declared_and_give_outputs() {
    let world = World::new(&[("bin/say", "#!/bin/sh\necho \"said $1 in $(pwd)\"\n"), ("sub/x", "")]).await;
    let steps = vec![
        step(
            "plain",
            json!({ "run": { "argv": argv(&["sh", "-c", "env | cut -d= -f1 | sort; echo \"$HOME\" >&2"]) } }),
            json!({ "outputs": "text", "env": { "MINE": x("param.who") } }),
        ),
        step(
            "tell",
            shell("echo '{\"path\": \"/tmp/x\", \"list\": [1, \"b\"]}'; echo to people >&2"),
            json!({ "outputs": "json" }),
        ),
        step(
            "use",
            json!({ "run": { "argv": x("[\"./say\", \"${step.tell.outputs.path}-${param.who}\"]") } }),
            json!({ "directory": x("\"bin\""), "outputs": "text" }),
        ),
        step(
            "pairs",
            shell("echo begun; echo a=1; echo b=x=y; echo c=3 >> \"$WINDLASS_OUTPUT\"; echo \"$WINDLASS_TOKEN\" >&2"),
            json!({ "outputs": "key_value" }),
        ),
        step(
            "text",
            json!({ "script": { "interpreter": ["/bin/sh", "-e"], "text": x("\"echo text $1 >> out/$2.log\\n\""), "file": null, "arguments": x("[param.who, \"b\"]") } }),
            json!({ "artefacts": ["out/*.log"] }),
        ),
        step(
            "file",
            json!({ "script": { "interpreter": [], "text": null, "file": x("\"bin/say\""), "arguments": x("[\"hello\"]") } }),
            json!({ "outputs": "text", "directory": x("\"sub\"") }),
        ),
    ];
    std::fs::create_dir(world.path().join("out")).unwrap();
    let ran = world.run(steps, json!({}), json!({ "who": "anna" })).await;
    assert_eq!(ran.state, RunState::Succeeded, "{:?}", ran.steps);
    let names = ran.output("plain")["text"].as_str().unwrap().to_owned();
    let expected = [
        "HOME",
        "LANG",
        "MINE",
        "PATH",
        "PWD",
        "WINDLASS_ATTEMPT",
        "WINDLASS_OUTPUT",
        "WINDLASS_PROJECT",
        "WINDLASS_RUN",
        "WINDLASS_STEP",
        "WINDLASS_TOKEN",
    ];
    let allowed = ["LC_ALL", "TZ", "SSL_CERT_FILE", "OLDPWD", "SHLVL", "_"];
    let found: Vec<&str> = names.lines().filter(|name| !allowed.contains(name)).collect();
    assert_eq!(found, expected);
    assert!(world.log(&ran.id, "plain").await.contains(&format!("runs/{}/home", ran.id)));
    assert_eq!(*ran.output("tell"), json!({ "path": "/tmp/x", "list": [1, "b"] }));
    let bin = world.path().canonicalize().unwrap().join("bin");
    assert!(ran.output("use")["text"].as_str().unwrap().ends_with("/bin"), "{bin:?}");
    assert!(ran.output("use")["text"].as_str().unwrap().starts_with("said /tmp/x-anna in "));
    assert_eq!(*ran.output("pairs"), json!({ "a": "1", "b": "x=y", "c": "3" }));
    assert!(world.log(&ran.id, "pairs").await.contains(&format!("{}/pairs/1", ran.id)));
    assert!(ran.output("file")["text"].as_str().unwrap().ends_with("/sub"));
    let kept = world.service.store.artefact_list(ArtefactKind::File, Some(&ran.id), None).await.unwrap();
    assert_eq!(kept.iter().map(|kept| kept.of.subject.as_str()).collect::<Vec<_>>(), ["text/out/b.log"]);
    assert_eq!(world.service.store.artefact_read(&kept[0].id).await.unwrap(), b"text anna\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_success_fails_as_the_step_says() {
    let world = World::new(&[]).await;
    let check = async |action, more, want: (&str, &str), attempts: u32| {
        let ran = world.run(vec![step("s", action, more)], json!({}), json!({})).await;
        let (code, reason) = ran.failure("s");
        assert!(code == want.0 && reason.contains(want.1), "{code}: {reason} instead of {want:?}");
        assert_eq!(ran.steps["s"].attempt, attempts, "{want:?}");
    };
    let twice = json!({ "attempts": 2, "backoff": 1000, "max_backoff": 1000 });
    check(shell("echo why >&2; exit 3"), json!({ "retry": twice }), ("WL530", "`sh` ended with status 3: why"), 2)
        .await;
    check(shell("exit 3"), json!({ "retry": twice, "give_up": [3] }), ("WL530", "status 3"), 1).await;
    check(shell("exit 0"), json!({ "success": [4] }), ("WL530", "status 0"), 1).await;
    check(shell("kill -9 $$"), json!({}), ("WL530", "was ended by signal: 9"), 1).await;
    check(shell("echo no"), json!({ "outputs": "json" }), ("WL531", "not one JSON object"), 1).await;
    check(shell("echo { > \"$WINDLASS_OUTPUT\""), json!({}), ("WL531", "not one JSON object"), 1).await;
    check(
        json!({ "run": { "argv": argv(&["no-such-program"]) } }),
        json!({ "retry": twice }),
        ("WL530", "`no-such-program` cannot be started"),
        1,
    )
    .await;
    check(json!({ "run": { "argv": x("[]") } }), json!({}), ("WL532", "no program to run"), 1).await;
    check(json!({ "run": { "argv": x("param.missing") } }), json!({}), ("WL532", "`param` has no `missing`"), 1).await;
    check(shell("true"), json!({ "directory": x("\"../other\"") }), ("WL534", "../other"), 1).await;
    check(
        shell("head -c 17000000 /dev/zero > big"),
        json!({ "artefacts": ["big"] }),
        ("WL535", "larger than 16 MiB"),
        1,
    )
    .await;
    let ran = world.run(vec![step("s", shell("exit 7"), json!({ "success": [0, 7] }))], json!({}), json!({})).await;
    assert_eq!(ran.state, RunState::Succeeded);
    // What a failed step leaves is kept for whoever looks why.
    let ran = world
        .run(
            vec![step("s", shell("echo trace > why.log; exit 1"), json!({ "artefacts": ["why.log"] }))],
            json!({}),
            json!({}),
        )
        .await;
    assert_eq!(world.service.store.artefact_list(ArtefactKind::File, Some(&ran.id), None).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_programs_and_nothing_else() {
    let world = World::new(&[]).await;
    let file = world.path().join("token.txt");
    std::fs::write(&file, "from-a-file\n").unwrap();
    let secrets = json!([
        { "name": "file", "from": { "file": file }, "span": super::span() },
        { "name": "said", "from": { "command": ["sh", "-c", "echo from-a-command"] }, "span": super::span() },
        { "name": "unused", "from": { "file": "/no/such/file" }, "span": super::span() },
    ]);
    let line = "test \"$F\" = from-a-file; test \"$S\" = from-a-command; test \"$P\" = from-a-person; echo \"$F $S $P\"; echo \"$F-${P}\" > kept.log; echo out=\"$P\"";
    let env = json!({ "F": x("secret.file"), "S": x("secret.said"), "P": x("param.password") });
    let steps = vec![step("s", shell(line), json!({ "env": env, "outputs": "key_value", "artefacts": ["kept.log"] }))];
    let mut input = world.input(operation(steps, json!({ "secrets": secrets })), json!({}));
    input.secrets = vec!["password".into()];
    let run = world.create(&world.chain(&input)).await;
    let given = BTreeMap::from([("password".to_owned(), "from-a-person".to_owned())]);
    super::super::secrets::seal(&world.service.store, &world.service.key, &run, &given).await.unwrap();
    let record = world.drive(&run).await;
    let ran = world.ran(&run, record.state).await;
    let output = ran.output("s").to_string();
    let kept = world.service.store.artefact_list(ArtefactKind::File, Some(&run), None).await.unwrap();
    let kept = String::from_utf8(world.service.store.artefact_read(&kept[0].id).await.unwrap()).unwrap();
    for left in [world.log(&run, "s").await, output, kept] {
        assert!(!left.contains("from-a-"), "{left}");
    }
    crate::runs::run_end(&world.service, &run).await.unwrap();
    let gone = super::super::secrets::open(&world.service.store, &world.service.key, &run).await.unwrap_err();
    assert_eq!(gone.diagnostics[0].code, "WL548");
    let missing = step("s", shell("true"), json!({ "env": { "U": x("secret.unused") } }));
    let ran = world.run(vec![missing], json!({ "secrets": secrets }), json!({})).await;
    assert_eq!(ran.failure("s").0, "WL533");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_grandchildren_and_says_what_is_left() {
    let world = World::new(&[]).await;
    // One stays in the group and hears nothing; the other leaves it.
    let line = "(trap '' INT TERM; sleep 600) & echo $! > inner; setsid sleep 600 & echo $! > outer; trap '' INT; echo ready > ready; wait; sleep 600";
    let input = world.input(operation(vec![step("s", shell(line), json!({}))], json!({})), json!({}));
    let run = world.create(&world.chain(&input)).await;
    let engine = world.engine().await;
    let driven = {
        let run = run.clone();
        tokio::spawn(async move { engine.run_until_settled(&run).await.unwrap() })
    };
    until("it is ready", async || world.path().join("ready").exists().then_some(())).await;
    world.service.store.run_cancel(&run, "os:anna, unverified", None).await.unwrap();
    assert_eq!(driven.await.unwrap().state, RunState::Cancelled);
    let pid = |name: &str| std::fs::read_to_string(world.path().join(name)).unwrap();
    until("the group is gone", async || (!lives(&pid("inner"))).then_some(())).await;
    let log = world.log(&run, "s").await;
    let outer = pid("outer");
    assert!(log.contains("was killed with all that it had started"), "{log}");
    assert!(
        log.contains(&format!("still running, apart from what was ended: sleep (process {})", outer.trim())),
        "{log}"
    );
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(outer.trim().parse().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_engine_died_is_ended_or_asked_about() {
    let world = World::new(&[]).await;
    let dies = async |repeat: &str, line: &str, probe: &str| {
        let probe = (repeat == "checkable").then(|| argv(&["sh", "-c", probe]));
        let definition = step("s", shell(line), json!({ "repeat": repeat, "probe": probe, "outputs": "key_value" }));
        let input = world.input(operation(vec![definition], json!({})), json!({}));
        let run = world.create(&world.chain(&input)).await;
        let _ = std::fs::remove_file(world.path().join("ready"));
        let engine = world.engine().await;
        let driven = tokio::spawn({
            let run = run.clone();
            async move { engine.run_until_settled(&run).await }
        });
        until("it is ready", async || world.path().join("ready").exists().then_some(())).await;
        driven.abort();
        run
    };
    // A shell that waits for its child is deaf to an interrupt.
    let go_on =
        async |run: &RunId| world.engine_with(Duration::from_secs(5)).await.run_until_settled(run).await.unwrap();
    // The first attempt waits for ever, the second finds that it was there.
    let line =
        "if [ \"$WINDLASS_ATTEMPT\" = 1 ]; then sleep 600 & echo $! > child; echo ready > ready; wait; fi; echo n=2";
    let run = dies("idempotent", line, "").await;
    let child = std::fs::read_to_string(world.path().join("child")).unwrap();
    let record = go_on(&run).await;
    let ran = world.ran(&run, record.state).await;
    assert_eq!((ran.output("s"), ran.steps["s"].attempt), (&json!({ "n": "2" }), 2));
    until("its grandchild is gone", async || (!lives(&child)).then_some(())).await;
    // A checkable one is left to its end, and its probe and its outputs tell.
    let line = "echo a=1; echo ready > ready; sleep 1; echo b=2; echo done > done";
    let run = dies("checkable", line, "test -e done").await;
    let record = go_on(&run).await;
    let ran = world.ran(&run, record.state).await;
    assert_eq!((ran.output("s"), ran.steps["s"].attempt), (&json!({ "a": "1", "b": "2" }), 1));
    // One that had not happened is done again.
    for name in ["done", "gone"] {
        let _ = std::fs::remove_file(world.path().join(name));
    }
    let line = "echo ready > ready; test \"$WINDLASS_ATTEMPT\" = 2 || kill -9 $$; echo n=2";
    let run = dies(
        "checkable",
        &format!("test -e gone || {{ touch gone; echo ready > ready; sleep 1; kill -9 $$; }}; {line}"),
        "test -e done",
    )
    .await;
    let record = go_on(&run).await;
    let ran = world.ran(&run, record.state).await;
    assert_eq!((ran.output("s"), ran.steps["s"].attempt), (&json!({ "n": "2" }), 2));
    let run = dies("once", "echo ready > ready; sleep 600", "").await;
    let record = go_on(&run).await;
    let ran = world.ran(&run, record.state).await;
    assert_eq!(ran.steps["s"].state, StepState::Unknown);
    assert_eq!(ran.state, RunState::Waiting);
}
