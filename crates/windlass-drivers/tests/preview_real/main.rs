//! Previews against what the real terraform plans once the upstream is applied, through the functions that a review uses.

#![allow(clippy::unwrap_used)]

mod rows;

use rows::{ADDED, Outcome, Row, UPSTREAM, rows};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_drivers::process::OutputFiles;
use windlass_drivers::terraform::Places;
use windlass_drivers::terraform::events::Event;
use windlass_drivers::terraform::{Applied, Plan, PlanResult, Sink, StackDirectory, ToolBox, preview};
use windlass_lang::preview::{Outputs, rewrite};
use windlass_lang::terraform::module::is_configuration;
use windlass_model::effect::{Effect, Shown, matches_preview, planned_outputs};
use windlass_model::stack::Tool;

struct Quiet;

impl Sink for Quiet {
    async fn started(&mut self, _: u32) -> Result<(), String> {
        Ok(())
    }
    async fn log(&mut self, _: &[u8]) {}
    async fn event(&mut self, _: &Event) {}
}

struct Bench {
    root: PathBuf,
    tools: ToolBox,
}

impl Bench {
    fn stack(&self, root: &Path, name: &str, data: &str) -> StackDirectory {
        let tool = self.tools.select(Tool::Any, &[], &[]).unwrap().clone();
        let data = self.root.join(".windlass").join(data);
        StackDirectory {
            modules: vec![root.join(name), root.join(name).join("m")],
            token: "r/s/1".into(),
            retry_wait: Duration::ZERO,
            ..StackDirectory::new(root.to_owned(), root.join(name), data, tool)
        }
    }

    async fn plan(&self, stack: &StackDirectory, name: &str) -> Result<Plan, String> {
        let file = self.root.join(".windlass/plans").join(name);
        match stack.plan(&file, true, &CancellationToken::new(), &mut Quiet).await.unwrap() {
            PlanResult::Done(plan) => Ok(*plan),
            PlanResult::Failed { diagnostics, .. } => {
                Err(diagnostics.iter().map(|d| format!("{}: {}\n", d.summary, d.detail)).collect())
            }
            PlanResult::Cancelled => panic!("nobody cancels"),
        }
    }

    async fn apply(&self, stack: &StackDirectory, plan: &Plan) {
        let output = OutputFiles { out: stack.data.join("out"), err: stack.data.join("err") };
        let applied = stack.apply(&plan.file, &output, &CancellationToken::new(), &mut Quiet).await.unwrap();
        assert!(matches!(applied, Applied::Done { .. }), "{applied:?}");
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn upstream(&self, generation: &str) -> StackDirectory {
        let mut stack = self.stack(&self.root, "net", "data/net");
        stack.variables = BTreeMap::from([("gen".to_owned(), generation.into())]);
        stack
    }

    /// As the review does it.
    async fn preview(&self, row: &Row, name: &str, outputs: &Outputs) -> Result<Effect, String> {
        let replaced = BTreeMap::from([("net".to_owned(), outputs.clone())]);
        let mut directories = vec![name.to_owned()];
        let mut rewritten = BTreeMap::new();
        for read in row.reads {
            let module = format!("{name}/{read}").trim_end_matches('/').to_owned();
            let files: Vec<(String, String)> = std::fs::read_dir(self.root.join(&module))
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
                .filter(|(name, _)| is_configuration(name))
                .map(|(name, path)| (name, std::fs::read_to_string(path).unwrap()))
                .collect();
            for (file, content) in rewrite(&files, &replaced).map_err(|error| error.to_string())? {
                rewritten.insert(format!("{module}/{file}"), content.into_bytes());
            }
            directories.push(module);
        }
        let scratch = self.root.join(".windlass/preview").join(name);
        let directory = preview::prepare(&self.root, &scratch, &directories, &rewritten).unwrap();
        let stack = self.stack(&scratch, name, &format!("data-preview/{name}"));
        assert_eq!(stack.directory, directory);
        let plan = self.plan(&stack, &format!("{name}-preview")).await?;
        Ok(effect(&plan))
    }
}

fn effect(plan: &Plan) -> Effect {
    Effect::from_plan_json("app".into(), &plan.json, b"key").unwrap()
}

fn shown(value: &Shown) -> String {
    match value {
        Shown::Absent => "-".into(),
        Shown::Value(value) => value.to_string(),
        Shown::Sensitive(_) => "***".into(),
        Shown::Unknown => "?".into(),
    }
}

/// One line for each change.
fn told(effect: &Effect) -> String {
    let changes = effect.changes.iter().map(|change| {
        let attributes: String =
            change.attributes.iter().map(|(path, change)| format!(" {path}={}", shown(&change.after))).collect();
        format!("{} {}{attributes}", change.address, change.action.as_str())
    });
    let outputs = effect.outputs.iter().map(|(name, output)| format!("output {name}={}", shown(&output.after)));
    changes.chain(outputs).collect::<Vec<_>>().join("\n")
}

async fn before(bench: &Bench, row: &Row, name: &str) {
    for (path, content) in row.files {
        bench.write(&format!("{name}/{path}"), content);
    }
    if row.applied {
        let stack = bench.stack(&bench.root, name, &format!("data/{name}"));
        let plan = bench.plan(&stack, &format!("{name}-before")).await.unwrap_or_else(|e| panic!("{}: {e}", row.name));
        bench.apply(&stack, &plan).await;
    }
}

/// What is wrong with a row, if anything.
async fn compare(bench: &Bench, row: &Row, name: &str, seen: Result<Effect, String>) -> Option<String> {
    let stack = bench.stack(&bench.root, name, &format!("data/{name}"));
    let now = match bench.plan(&stack, &format!("{name}-real")).await {
        Ok(plan) => effect(&plan),
        Err(error) => return Some(format!("{}: the real plan fails: {error}", row.name)),
    };
    let seen = match (seen, &row.outcome) {
        (Ok(seen), _) => seen,
        (Err(error), Outcome::Refused(part, _)) if error.contains(part) => return None,
        (Err(error), _) => return Some(format!("{}: no preview: {error}", row.name)),
    };
    let mut wrong = String::new();
    if told(&seen) != row.seen {
        wrong.push_str(&format!("says\n{}\nnot\n{}\n", told(&seen), row.seen));
    }
    let differences: Vec<String> =
        matches_preview(&seen, &now).err().unwrap_or_default().iter().map(ToString::to_string).collect();
    let expected = match row.outcome {
        Outcome::Same => differences.is_empty(),
        Outcome::Differs(what, _) => differences.iter().any(|d| d.contains(what)),
        Outcome::Refused(..) => false,
    };
    if !expected {
        wrong.push_str(&format!("is compared: {differences:?}\nreal:\n{}\n", told(&now)));
    }
    (!wrong.is_empty()).then(|| format!("{}: {wrong}", row.name))
}

/// Runs `work` for all rows, a few at a time.
async fn all<T: Send + 'static, F: Future<Output = T> + Send + 'static>(work: impl Iterator<Item = F>) -> Vec<T> {
    let slots = Arc::new(tokio::sync::Semaphore::new(3));
    let tasks: Vec<_> = work
        .map(|work| {
            let slots = slots.clone();
            tokio::spawn(async move {
                let _slot = slots.acquire().await.unwrap();
                work.await
            })
        })
        .collect();
    let mut out = Vec::new();
    for task in tasks {
        out.push(task.await.unwrap());
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn previews_are_what_terraform_plans_after_the_upstream_was_applied() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap();
    std::fs::create_dir(root.join(".windlass")).unwrap();
    let tools = ToolBox::discover(&Places::of_process(), &root.join(".windlass/tools.json"));
    let bench = Arc::new(Bench { root, tools });
    bench.write("net/main.tf", UPSTREAM);
    let net = bench.upstream("1");
    let plan = bench.plan(&net, "net-1").await.unwrap();
    bench.apply(&net, &plan).await;

    let rows: Arc<Vec<Row>> = Arc::new(rows());
    let name = |index: usize| format!("app{index}");
    let each = || (0..rows.len()).map(|index| (bench.clone(), rows.clone(), index, name(index)));
    all(each().map(|(bench, rows, index, name)| async move { before(&bench, &rows[index], &name).await })).await;

    bench.write("net/added.tf", ADDED);
    let net = bench.upstream("2");
    let plan = bench.plan(&net, "net-2").await.unwrap();
    let outputs = Arc::new(planned_outputs(&plan.json));
    let previews = all(each().map(|(bench, rows, index, name)| {
        let outputs = outputs.clone();
        async move { bench.preview(&rows[index], &name, &outputs).await }
    }))
    .await;
    bench.apply(&net, &plan).await;

    let wrong = all(each()
        .zip(previews)
        .map(|((bench, rows, index, name), seen)| async move { compare(&bench, &rows[index], &name, seen).await }))
    .await;
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} of {} rows\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
