//! With the real terraform; its built-in provider needs no network.

use super::super::{Places, ToolBox};
use super::*;
use windlass_model::stack::Tool;

struct Seen {
    log: String,
    completed: Vec<String>,
    commands: usize,
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

fn seen() -> Seen {
    Seen { log: String::new(), completed: Vec::new(), commands: 0, cancel_at: None }
}

fn stack(directory: &tempfile::TempDir, files: &[(&str, &str)]) -> StackDirectory {
    let root = directory.path().canonicalize().unwrap();
    let own = root.join("a");
    for (name, content) in files {
        let path = own.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let tools = ToolBox::discover(&Places::of_process(), &root.join("tools.json"));
    StackDirectory {
        directory: own.clone(),
        modules: vec![own],
        data: root.join("data"),
        tool: tools.select(Tool::Any, &[], &[]).unwrap().clone(),
        root,
        workspace: "default".into(),
        backend: "local".into(),
        var_files: vec![],
        variables: BTreeMap::new(),
        backend_config: BTreeMap::new(),
        env: vec![],
        grace: Duration::from_secs(30),
        token: "r/s/1".into(),
        destroy: false,
        lock_timeout: "60s".into(),
    }
}

async fn plan(stack: &StackDirectory, sink: &mut Seen) -> PlanResult {
    stack.plan(&stack.root.join("plans/p"), true, &CancellationToken::new(), sink).await.unwrap()
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
