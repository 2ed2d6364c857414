//! The step that fills the mirror of providers with what the lock files of a run name, before the first `init`.

use super::input;
use super::terraform::{directory_of, placed};
use crate::doctor::{provider_usage, size};
use crate::error::AppResult;
use crate::service::Service;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_drivers::terraform::events::Event;
use windlass_drivers::terraform::lock_file::{self, Locked};
use windlass_drivers::terraform::{Provided, Sink, StackDirectory};
use windlass_engine::{Executor, StepContext, StepResult};
use windlass_lang::tree::Tree;
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_model::id::InstanceId;
use windlass_model::run::RunPlan;
use windlass_model::stack_plan::{ApplyWork, ProvidersInput, StackWork, driver};

/// How many are fetched at once: registries limit the rate, and a line is shared anyway.
const AT_ONCE: usize = 4;
/// What was not fetched after this is left to each `init`.
const LIMIT: Duration = Duration::from_secs(50 * 60);

/// What the step came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ProvidersOutput {
    /// Provider versions that lay in the mirror.
    pub there: usize,
    pub fetched: usize,
    /// Size of the archives that were fetched, bytes.
    pub bytes: u64,
    /// What could not be fetched.
    pub missing: Vec<Lacking>,
    /// What was refused.
    pub refused: Vec<Lacking>,
}

/// A provider version that some have to do without.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lacking {
    /// `WL521` when it could not be fetched, `WL520` when it was refused.
    pub diagnostic: Diagnostic,
    pub instances: Vec<InstanceId>,
}

impl ProvidersOutput {
    /// What is said of what an instance lacks because it could not be fetched.
    pub fn missing_of(self, instance: &InstanceId) -> impl Iterator<Item = Diagnostic> {
        self.missing
            .into_iter()
            .filter(|lacking| lacking.instances.contains(instance))
            .map(|lacking| lacking.diagnostic)
    }
}

pub struct Providers(pub Arc<Service>);

#[async_trait::async_trait]
impl Executor for Providers {
    async fn execute(&self, cx: &StepContext) -> StepResult {
        match self.fill(cx).await {
            Ok(_) if cx.cancel.is_cancelled() => StepResult::Cancelled,
            Ok(output) => super::succeeded(&output),
            Err(error) => super::failed(error),
        }
    }
}

/// Stacks that lock a provider version in the same way and would ask for it in the same way.
struct Variant {
    stack: StackDirectory,
    locked: Locked,
    instances: Vec<InstanceId>,
}

/// One provider version, with everything that is to be told of it at the end.
struct Wanted {
    name: String,
    variants: Vec<Variant>,
}

/// What became of one provider version.
#[derive(Default)]
struct Got {
    there: bool,
    fetched: Option<u64>,
    missing: Option<Lacking>,
    refused: Vec<Lacking>,
    /// On the disk, bytes; 0 when it is not in the mirror.
    size: u64,
    instances: usize,
}

impl Providers {
    async fn fill(&self, cx: &StepContext) -> AppResult<ProvidersOutput> {
        let service = &self.0;
        let asked: ProvidersInput = input(&cx.input)?;
        let record = service.store.run_get(&cx.run).await?;
        let works: Vec<StackWork> =
            works_of(&record.plan)?.into_iter().filter(|work| asked.instances.contains(&work.instance.id)).collect();
        let (wanted, notes) = self.wanted(cx, &works).await;
        for note in notes {
            cx.log(format!("{note}\n").as_bytes()).await;
        }
        let all = wanted.len();
        let limit = cx.cancel.child_token();
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = JoinSet::new();
        for one in wanted {
            let (cx, limit, permits) = (cx.clone(), limit.clone(), permits.clone());
            tasks.spawn(async move {
                // Nobody closes it.
                let _permit = permits.acquire().await;
                one.get(&cx, &limit).await
            });
        }
        let mut got = Vec::with_capacity(all);
        let late = tokio::time::sleep(LIMIT);
        tokio::pin!(late);
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(Ok(one)) => got.push(one),
                    Some(Err(error)) => return Err(crate::error::internal(error)),
                    None => break,
                },
                () = &mut late, if !limit.is_cancelled() => limit.cancel(),
            }
        }
        if cx.cancel.is_cancelled() {
            return Ok(ProvidersOutput::default());
        }
        let output = ProvidersOutput {
            there: got.iter().filter(|one| one.there).count(),
            fetched: got.iter().filter(|one| one.fetched.is_some()).count(),
            bytes: got.iter().filter_map(|one| one.fetched).sum(),
            missing: got.iter().filter_map(|one| one.missing.clone()).collect(),
            refused: got.iter().flat_map(|one| one.refused.iter().cloned()).collect(),
        };
        let (there, fetched) = (output.there, output.fetched);
        let mut said = format!("{there} of {all} there already, {fetched} downloaded ({})", size(output.bytes));
        if all > there + fetched {
            said.push_str(&format!(", {} not in the mirror", all - there - fetched));
        }
        let (copies, once) =
            got.iter().fold((0, 0), |(copies, once), one| (copies + one.size * one.instances as u64, once + one.size));
        let state = service.directory.clone();
        let usage =
            tokio::task::spawn_blocking(move || provider_usage(&state)).await.map_err(crate::error::internal)?;
        let text = format!(
            "{said}\nthe stacks of this run link to {} instead of holding {}: {} saved\nmirror of providers {usage}\n",
            size(once),
            size(copies),
            size(copies - once),
        );
        cx.log(text.as_bytes()).await;
        Ok(output)
    }

    /// Every provider version of these works once, and what has to be said of works whose provider cannot be asked for.
    async fn wanted(&self, cx: &StepContext, works: &[StackWork]) -> (Vec<Wanted>, Vec<String>) {
        let service = &self.0;
        let mut stacks = BTreeMap::new();
        let mut notes = Vec::new();
        let mut files = Vec::new();
        let mut texts = LockFiles::new(service);
        for (at, work) in works.iter().enumerate() {
            match placed(service, work, &cx.token).await {
                Ok(stack) => drop(stacks.insert(at, stack)),
                // Its own step says so in full.
                Err(error) => {
                    let why = error.diagnostics.first().map(|d| d.summary.clone()).unwrap_or_default();
                    notes.push(format!("nothing is fetched for {}: {why}", work.instance.id));
                    continue;
                }
            }
            files.push((at, texts.of(work)));
        }
        let mut wanted = Vec::new();
        for ((address, version), all) in lock_file::union(files) {
            let short = address.strip_prefix("registry.terraform.io/").unwrap_or(&address);
            let mut one = Wanted { name: format!("{short} {version}"), variants: Vec::new() };
            for (at, mut locked) in all {
                let Some(stack) = stacks.get(&at) else { continue };
                locked.hashes.sort();
                let instance = works[at].instance.id.clone();
                let alike = |v: &&mut Variant| {
                    v.locked == locked
                        && v.stack.tool.name == stack.tool.name
                        && v.stack.env == stack.env
                        && v.stack.place == stack.place
                };
                match one.variants.iter_mut().find(alike) {
                    Some(variant) => variant.instances.push(instance),
                    None => one.variants.push(Variant { stack: stack.clone(), locked, instances: vec![instance] }),
                }
            }
            wanted.push(one);
        }
        (wanted, notes)
    }
}

impl Wanted {
    async fn get(self, cx: &StepContext, cancel: &CancellationToken) -> Got {
        let mut got = Got::default();
        let mut missing: Option<(String, Vec<InstanceId>)> = None;
        let Self { name, variants } = self;
        for Variant { stack, locked, instances } in variants {
            if cx.cancel.is_cancelled() {
                break;
            }
            let names: Vec<String> = instances.iter().map(InstanceId::to_string).collect();
            let platform = stack.mirror.as_ref().map(|m| m.platform().to_owned()).unwrap_or_default();
            let mut sink = Lines { cx: cx.clone(), name: name.clone(), rest: Vec::new() };
            let mut lack = |why: String| missing.get_or_insert_with(|| (why, Vec::new())).1.extend(instances.clone());
            let said = match stack.provide(&locked, cancel, &mut sink).await {
                Ok(Provided::There) => {
                    got.there |= got.fetched.is_none();
                    got.instances += names.len();
                    format!("{platform}: there already")
                }
                Ok(Provided::Fetched { bytes }) => {
                    got.fetched = Some(bytes);
                    got.instances += names.len();
                    format!("{platform}: downloaded {}", size(bytes))
                }
                Ok(Provided::Elsewhere(why)) => format!("left to `init` of {}: {why}", names.join(", ")),
                Ok(Provided::Missing(why)) => {
                    lack(why.clone());
                    format!("{platform}: {why}")
                }
                Ok(Provided::Cancelled) if cx.cancel.is_cancelled() => break,
                Ok(Provided::Cancelled) => {
                    let why = format!("the time for it was over after {LIMIT:?}");
                    lack(why.clone());
                    why
                }
                Err(error) => match error.diagnostic() {
                    Some(mut diagnostic) => {
                        diagnostic.detail = format!("Locked so by {}. {}", names.join(", "), diagnostic.detail);
                        let said = format!("{}: {}", diagnostic.code, diagnostic.summary);
                        got.refused.push(Lacking { diagnostic, instances: instances.clone() });
                        said
                    }
                    None => {
                        lack(error.to_string());
                        error.to_string()
                    }
                },
            };
            sink.end().await;
            cx.log(format!("{name} {said}\n").as_bytes()).await;
            if let Some(mirror) = stack.mirror.clone().filter(|_| got.size == 0 && got.instances > 0) {
                got.size = tokio::task::spawn_blocking(move || mirror.size(&locked)).await.unwrap_or_default();
            }
        }
        if let Some((why, instances)) = missing.filter(|_| !got.there && got.fetched.is_none()) {
            let names = instances.iter().map(InstanceId::to_string).collect::<Vec<_>>().join(", ");
            let summary =
                format!("{name} is not in the mirror and could not be fetched; {names} cannot be planned without it");
            let diagnostic = Diagnostic::new(Severity::Warning, "WL521", summary).detail(why).help(
                "see whether its registry can be reached from here and has this version, then run the same command again",
            );
            let help = diagnostic.help.clone().unwrap_or_default();
            cx.log(format!("{}: {}\n  {help}\n", diagnostic.code, diagnostic.summary).as_bytes()).await;
            got.missing = Some(Lacking { diagnostic, instances });
        }
        cx.flush().await;
        got
    }
}

/// What several commands say at once, line by line, each with the name of what it is about.
struct Lines {
    cx: StepContext,
    name: String,
    rest: Vec<u8>,
}

impl Lines {
    async fn end(&mut self) {
        if !self.rest.is_empty() {
            self.log(b"\n").await;
        }
    }
}

impl Sink for Lines {
    async fn started(&mut self, pid: u32) -> Result<(), String> {
        self.cx.process_started(pid).await.map_err(|error| error.to_string())
    }

    async fn elsewhere(&mut self, what: &str) -> Result<(), String> {
        super::terraform::starts_elsewhere(&self.cx, what).await
    }

    async fn log(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        let text = String::from_utf8_lossy(&whole);
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let said: String = lines.map(|line| format!("{} | {line}\n", self.name)).collect();
        self.cx.log(said.as_bytes()).await;
    }

    async fn event(&mut self, _: &Event) {}
}

/// Lock files as the work tree or a commit has them.
struct LockFiles<'a> {
    service: &'a Service,
    commits: BTreeMap<String, Option<Box<dyn Tree + 'a>>>,
}

impl<'a> LockFiles<'a> {
    fn new(service: &'a Service) -> Self {
        Self { service, commits: BTreeMap::new() }
    }

    /// What the lock file of a work names. One that cannot be read locks nothing here: `init` will tell.
    fn of(&mut self, work: &StackWork) -> Vec<Locked> {
        let path = Path::new(&directory_of(work)).join(".terraform.lock.hcl");
        let here = || std::fs::read(self.service.checkout.root.join(&path)).ok();
        let service = self.service;
        let text = match &work.source {
            None => here(),
            Some(commit) => {
                let tree = self.commits.entry(commit.clone()).or_insert_with(|| {
                    let tree = service.checkout.git().ok()?.tree(commit).ok()?;
                    Some(Box::new(tree))
                });
                let read = tree.as_ref().and_then(|tree| tree.read(&path.to_string_lossy()).ok().flatten());
                // One that is not in git is linked from the work tree.
                read.or_else(here)
            }
        };
        let mut locked = lock_file::parse(&String::from_utf8_lossy(&text.unwrap_or_default()));
        locked.retain(|locked| !locked.address.starts_with("terraform.io/builtin/"));
        locked
    }
}

/// Which of these works need providers that have to come from somewhere.
pub fn locked<'a>(service: &Service, works: impl IntoIterator<Item = &'a StackWork>) -> ProvidersInput {
    let mut files = LockFiles::new(service);
    let wanted = works.into_iter().filter(|work| !files.of(work).is_empty());
    ProvidersInput { instances: wanted.map(|work| work.instance.id.clone()).collect() }
}

/// The works of the steps of a run that run `init`.
fn works_of(plan: &RunPlan) -> AppResult<Vec<StackWork>> {
    let of = |step: &windlass_model::run::StepSpec| match step.work.driver.as_str() {
        driver::PLAN | driver::DRIFT => Some(input::<StackWork>(&step.work.input)),
        driver::PREPARE => Some(input::<ApplyWork>(&step.work.input).map(|work| work.work)),
        _ => None,
    };
    plan.steps.iter().filter_map(of).collect()
}
