//! With the real terraform; its built-in provider needs no network.

use super::super::{Places, ToolBox};
use super::*;
use windlass_model::stack::Tool;

pub(super) struct Seen {
    pub log: String,
    completed: Vec<String>,
    pub commands: usize,
    cancel_at: Option<(&'static str, CancellationToken)>,
}

impl Sink for Seen {
    async fn started(&mut self, _: u32) -> Result<(), String> {
        self.commands += 1;
        Ok(())
    }
    async fn log(&mut self, bytes: &[u8]) {
        self.log.push_str(&String::from_utf8_lossy(bytes));
    }
    async fn event(&mut self, event: &Event) {
        match event {
            Event::ApplyComplete { address, .. } => self.completed.push(address.clone()),
            Event::ApplyStart { address, .. } => {
                if let Some((_, cancel)) = self.cancel_at.as_ref().filter(|(wanted, _)| address == wanted) {
                    cancel.cancel();
                }
            }
            _ => {}
        }
    }
}

pub(super) fn seen() -> Seen {
    Seen { log: String::new(), completed: Vec::new(), commands: 0, cancel_at: None }
}

pub(super) fn stack(directory: &tempfile::TempDir, files: &[(&str, &str)]) -> StackDirectory {
    let root = directory.path().canonicalize().unwrap();
    let own = root.join("a");
    for (name, content) in files {
        let path = own.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let tools = ToolBox::discover(&Places::of_process(), &root.join("tools.json"));
    let tool = tools.select(Tool::Any, &[], &[]).unwrap().clone();
    let data = root.join("data");
    let stack = StackDirectory::new(root, own, data, tool);
    StackDirectory { token: "r/s/1".into(), retry_wait: Duration::from_millis(1), ..stack }
}

async fn plan(stack: &StackDirectory, sink: &mut Seen) -> PlanResult {
    stack.plan(&stack.root.join("plans/p"), true, &CancellationToken::new(), sink).await.unwrap()
}

pub(super) async fn plan_of(stack: &StackDirectory, sink: &mut Seen) -> Plan {
    done(plan(stack, sink).await)
}

fn done(result: PlanResult) -> Plan {
    match result {
        PlanResult::Done(plan) => *plan,
        other => panic!("{other:?}"),
    }
}

fn codes(result: PlanResult) -> (Stage, Vec<String>) {
    match result {
        PlanResult::Failed { stage, diagnostics } => (stage, diagnostics.into_iter().map(|d| d.code).collect()),
        other => panic!("{other:?}"),
    }
}

fn output(stack: &StackDirectory) -> crate::process::OutputFiles {
    crate::process::OutputFiles { out: stack.data.join("apply.out"), err: stack.data.join("apply.err") }
}

#[tokio::test]
async fn a_plan_is_made_rendered_and_applied_and_init_is_not_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let mut stack = stack(
        &directory,
        &[
            (
                "main.tf",
                "variable \"v\" {}\nresource \"terraform_data\" \"x\" {\n  input = \"${terraform.workspace}-${var.v}\"\n}\noutput \"o\" {\n  value = terraform_data.x.output\n}\n",
            ),
            ("t.tfvars", "v = \"file\"\n"),
        ],
    );
    stack.workspace = "tokyo".into();
    stack.var_files = vec!["t.tfvars".into()];
    let mut sink = seen();
    let made = done(plan(&stack, &mut sink).await);
    assert_eq!(made.json["resource_changes"][0]["change"]["after"]["input"], "tokyo-file");
    assert_eq!(sink.commands, 3);
    assert!(matches!(
        stack.apply(&made.file, &output(&stack), &CancellationToken::new(), &mut sink).await.unwrap(),
        Applied::Done { .. }
    ));
    assert_eq!(sink.completed, ["terraform_data.x"]);
    assert!(stack.directory.join("terraform.tfstate.d/tokyo/terraform.tfstate").exists());
    let mut sink = seen();
    let again = done(plan(&stack, &mut sink).await);
    assert_eq!(again.json["resource_changes"][0]["change"]["actions"][0], "no-op");
    assert_eq!(sink.commands, 2);
    std::fs::write(stack.directory.join("more.tf"), "module \"m\" {\n  source = \"./m\"\n}\n").unwrap();
    std::fs::create_dir(stack.directory.join("m")).unwrap();
    std::fs::write(stack.directory.join("m/a.tf"), "locals {\n  a = 1\n}\n").unwrap();
    let mut sink = seen();
    done(plan(&stack, &mut sink).await);
    assert_eq!(sink.commands, 3);
}

#[tokio::test]
async fn the_environment_of_this_process_does_not_leak() {
    let directory = tempfile::tempdir().unwrap();
    let stack = stack(&directory, &[("main.tf", "")]);
    let environment = stack.environment("plan");
    let names: Vec<String> = environment.keys().map(|k| k.to_string_lossy().into_owned()).collect();
    assert!(names.iter().all(|n| !n.starts_with("CARGO") && !n.starts_with("TF_VAR_")), "{names:?}");
    assert_eq!(environment[&OsString::from("WINDLASS_TOKEN")], OsString::from("r/s/1"));
}

#[tokio::test]
async fn failures_have_a_stage_a_place_and_a_code() {
    let check = async |files: &[(&str, &str)], stage: Stage, code: &str| {
        let directory = tempfile::tempdir().unwrap();
        let stack = stack(&directory, files);
        let (found, codes) = codes(plan(&stack, &mut seen()).await);
        assert_eq!((found, codes.first().map(String::as_str)), (stage, Some(code)), "{files:?}");
    };
    check(&[("main.tf", "module \"m\" {\n  source = \"./missing\"\n}\n")], Stage::Init, "WL510").await;
    check(
        &[("main.tf", "variable \"v\" {}\nresource \"terraform_data\" \"x\" {\n  input = var.v\n}\n")],
        Stage::Validate,
        "WL509",
    )
    .await;
    check(&[("main.tf", "data \"terraform_remote_state\" \"n\" {\n  backend = \"local\"\n  config = {\n    path = \"../n/terraform.tfstate\"\n  }\n}\n")], Stage::Validate, "WL505").await;
    check(&[("main.tf", "resource \"terraform_data\" \"x\" {\n  input = nonsense.y\n}\n")], Stage::Validate, "WL503")
        .await;
}

#[tokio::test]
async fn a_failed_apply_keeps_the_siblings_that_were_made() {
    let directory = tempfile::tempdir().unwrap();
    let bad = "resource \"terraform_data\" \"bad\" {\n  depends_on = [terraform_data.good]\n  provisioner \"local-exec\" {\n    command = \"exit 1\"\n  }\n}\nresource \"terraform_data\" \"good\" {}\n";
    let stack = stack(&directory, &[("main.tf", bad)]);
    let mut sink = seen();
    let made = done(plan(&stack, &mut sink).await);
    let Applied::Failed { diagnostics } =
        stack.apply(&made.file, &output(&stack), &CancellationToken::new(), &mut sink).await.unwrap()
    else {
        panic!("must fail")
    };
    assert!(diagnostics.iter().any(|d| d.summary.contains("local-exec")), "{diagnostics:?}");
    assert_eq!(sink.completed, ["terraform_data.good"]);
    assert!(std::fs::read_to_string(stack.directory.join("terraform.tfstate")).unwrap().contains("\"good\""));
}

#[tokio::test]
async fn a_cancelled_apply_stops_gracefully_and_frees_its_lock() {
    let directory = tempfile::tempdir().unwrap();
    let slow = "resource \"terraform_data\" \"a\" {}\nresource \"terraform_data\" \"slow\" {\n  depends_on = [terraform_data.a]\n  provisioner \"local-exec\" {\n    command = \"sleep 1\"\n  }\n}\nresource \"terraform_data\" \"z\" {\n  depends_on = [terraform_data.slow]\n}\n";
    let stack = stack(&directory, &[("main.tf", slow)]);
    let mut sink = seen();
    let made = done(plan(&stack, &mut sink).await);
    let cancel = CancellationToken::new();
    sink.cancel_at = Some(("terraform_data.slow", cancel.clone()));
    assert!(matches!(stack.apply(&made.file, &output(&stack), &cancel, &mut sink).await.unwrap(), Applied::Cancelled));
    assert!(
        sink.completed.contains(&"terraform_data.a".to_owned())
            && !sink.completed.contains(&"terraform_data.z".to_owned()),
        "{:?}",
        sink.completed
    );
    let left = done(plan(&stack, &mut seen()).await);
    assert!(
        left.json["resource_changes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["address"] == "terraform_data.z" && r["change"]["actions"][0] == "create")
    );
}

#[tokio::test]
async fn init_beside_existing_states_of_a_local_backend_migrates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut stack = stack(
        &directory,
        &[("main.tf", "terraform {\n  backend \"local\" {}\n}\nresource \"terraform_data\" \"x\" {}\n")],
    );
    stack.workspace = "osaka".into();
    let made = done(plan(&stack, &mut seen()).await);
    stack.apply(&made.file, &output(&stack), &CancellationToken::new(), &mut seen()).await.unwrap();
    let state = std::fs::read(stack.directory.join("terraform.tfstate.d/osaka/terraform.tfstate")).unwrap();
    // Another instance of the same directory, and a fresh clone of the first.
    for (workspace, data, action) in [("tokyo", "data2", "create"), ("osaka", "data3", "no-op")] {
        stack.workspace = workspace.into();
        stack.data = stack.root.join(data);
        let made = done(plan(&stack, &mut seen()).await);
        assert_eq!(made.json["resource_changes"][0]["change"]["actions"][0], action, "{workspace}");
    }
    assert_eq!(std::fs::read(stack.directory.join("terraform.tfstate.d/osaka/terraform.tfstate")).unwrap(), state);
}

/// Answers every GET with `state` and every other request with nothing, as an `http` backend does; counts what it is asked.
fn http_backend(state: &'static str) -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/state", listener.local_addr().unwrap());
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
            reader.read_line(&mut first).unwrap();
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                line.clear();
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
            let method = first.split(' ').next().unwrap().to_owned();
            let body = if method == "GET" { state } else { "" };
            seen.lock().unwrap().push(method);
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            reader.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_state_of_a_newer_release_is_refused_before_terraform_sees_it() {
    let newer = "{\"version\":4,\"terraform_version\":\"99.0.0\",\"serial\":3,\"lineage\":\"l\",\"outputs\":{},\"resources\":[],\"check_results\":null}";
    let older = "{\"version\":4,\"terraform_version\":\"1.0.0\",\"serial\":3,\"lineage\":\"l\",\"outputs\":{},\"resources\":[],\"check_results\":null}";
    let resource = "resource \"terraform_data\" \"x\" {}\n";
    let directory = tempfile::tempdir().unwrap();
    let local = stack(&directory, &[("main.tf", resource), ("terraform.tfstate", newer)]);
    let mut sink = seen();
    let PlanResult::Failed { stage: Stage::Plan, diagnostics } = plan(&local, &mut sink).await else {
        panic!("refused")
    };
    assert_eq!(diagnostics[0].code, "WL518");
    assert!(diagnostics[0].help.as_ref().unwrap().contains("99.0.0"), "{diagnostics:?}");
    // Only init ran, and the state is as it was.
    assert_eq!(sink.commands, 1);
    assert_eq!(std::fs::read_to_string(local.directory.join("terraform.tfstate")).unwrap(), newer);
    std::fs::write(local.directory.join("terraform.tfstate"), older).unwrap();
    done(plan(&local, &mut seen()).await);
    // A pre-release writes the numbers of its release.
    std::fs::write(local.directory.join("terraform.tfstate"), newer).unwrap();
    let mut early = local.clone();
    early.tool.version = "99.0.0-rc1".into();
    done(plan(&early, &mut seen()).await);

    for (state, refused) in [(newer, true), (older, false)] {
        let (address, asked) = http_backend(state);
        let directory = tempfile::tempdir().unwrap();
        let main = format!(
            "terraform {{\n  backend \"http\" {{\n    address = \"{address}\"\n    lock_address = \"{address}\"\n    unlock_address = \"{address}\"\n  }}\n}}\n{resource}"
        );
        let mut remote = stack(&directory, &[("main.tf", &main)]);
        remote.backend = "http".into();
        let result = plan(&remote, &mut seen()).await;
        if refused {
            assert_eq!(codes(result).1, ["WL518"]);
        } else {
            done(result);
        }
        assert_eq!(asked.lock().unwrap().iter().any(|method| method == "LOCK"), !refused);
    }
}

/// A stack whose terraform fails at `command` with `message` the first `times`, and is the real one otherwise.
fn flaky(directory: &tempfile::TempDir, command: &str, times: u32, message: &str) -> StackDirectory {
    use std::os::unix::fs::PermissionsExt;
    let mut stack = stack(directory, &[("main.tf", "resource \"terraform_data\" \"x\" {}\n")]);
    let script = stack.root.join("flaky");
    let real = stack.tool.path.display();
    let fail = if command == "init" {
        format!("echo 'Error: {message}' >&2")
    } else {
        format!(
            "echo '{{\"type\":\"diagnostic\",\"diagnostic\":{{\"severity\":\"error\",\"summary\":\"failed\",\"detail\":\"{message}\"}}}}'"
        )
    };
    let counter = stack.root.join("count");
    let counter = counter.display();
    std::fs::write(
        &script,
        format!("#!/bin/sh\nif [ \"$1\" = {command} ]; then echo x >> {counter}; if [ $(wc -l < {counter}) -le {times} ]; then {fail}; exit 1; fi; fi\nexec {real} \"$@\"\n"),
    )
    .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    stack.tool.path = script;
    stack
}

#[tokio::test]
async fn transient_errors_of_init_and_plan_are_tried_again_and_others_are_not() {
    let check = async |command: &str, times: u32, message: &str, ran: usize, succeeds: bool| {
        let directory = tempfile::tempdir().unwrap();
        let stack = flaky(&directory, command, times, message);
        let mut sink = seen();
        let result = plan(&stack, &mut sink).await;
        assert_eq!(matches!(result, PlanResult::Done(_)), succeeds, "{command} {times} {message}: {result:?}");
        let count = std::fs::read_to_string(stack.root.join("count")).unwrap().lines().count();
        assert_eq!(count, ran, "{command} {times} {message}");
        assert_eq!(sink.log.matches("met a transient error").count(), ran - 1, "{}", sink.log);
    };
    let reset = "read: connection reset by peer";
    check("init", 1, reset, 2, true).await;
    check("init", 2, "net/http: TLS handshake timeout", 3, true).await;
    check("init", 3, reset, 3, false).await;
    check("init", 1, "Unreadable module directory", 1, false).await;
    check("plan", 2, "Unexpected HTTP response code 503", 3, true).await;
    check("plan", 3, reset, 3, false).await;
    check("plan", 1, "Unexpected HTTP response code 403", 1, false).await;
}

#[tokio::test]
async fn an_apply_is_never_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let stack = flaky(&directory, "apply", 1, "read: connection reset by peer");
    let made = done(plan(&stack, &mut seen()).await);
    let applied = stack.apply(&made.file, &output(&stack), &CancellationToken::new(), &mut seen()).await.unwrap();
    assert!(matches!(applied, Applied::Failed { .. }), "{applied:?}");
    assert_eq!(std::fs::read_to_string(stack.root.join("count")).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_cancel_ends_the_wait_for_the_next_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let mut stack = flaky(&directory, "init", 1, "TLS handshake timeout");
    stack.retry_wait = Duration::from_secs(3600);
    let cancel = CancellationToken::new();
    struct CancelAtNote(CancellationToken);
    impl Sink for CancelAtNote {
        async fn started(&mut self, _: u32) -> Result<(), String> {
            Ok(())
        }
        async fn log(&mut self, bytes: &[u8]) {
            if String::from_utf8_lossy(bytes).contains("transient error") {
                self.0.cancel();
            }
        }
        async fn event(&mut self, _: &Event) {}
    }
    let mut sink = CancelAtNote(cancel.clone());
    let result = stack.plan(&stack.root.join("plans/p"), true, &cancel, &mut sink).await.unwrap();
    assert!(matches!(result, PlanResult::Cancelled), "{result:?}");
}
