//! One plan of one instance: for real, or as a preview with what its upstreams will output.

use super::terraform::{Recorder, directory_of, driver_error, stack_directory};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::secrets::TOO_SHORT;
use crate::service::{Deciding, PlannedOutputs, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use windlass_drivers::terraform::plan_file::{self, Opened};
use windlass_drivers::terraform::{Plan, PlanResult, StackDirectory, preview};
use windlass_engine::StepContext;
use windlass_lang::discovery::{Modules, resource_span};
use windlass_lang::terraform::module::is_configuration;
use windlass_model::binding::{self, Binding, StateVersion, keyed_digest};
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_model::effect::{self, Effect, planned_outputs};
use windlass_model::id::{InstanceId, RunId, StackId};
use windlass_model::review::{Finding, Level, Stage};
use windlass_model::run::Cost;
use windlass_model::stack_plan::{Read, StackWork, UNMEASURED};
use windlass_store::{ArtefactKind, NewArtefact};

pub enum PlanKind {
    Real,
    /// These remote states are replaced by what their upstreams will output.
    Preview(Vec<Read>),
}

/// Where the plan of an attempt is while it is not under seal.
pub(super) fn plan_path(service: &Service, cx: &StepContext, instance: &InstanceId, attempt: u32) -> PathBuf {
    service.directory.run(&cx.run).join("plans").join(format!("{}.{attempt}.tfplan", instance.file_name()))
}

/// What a sealed plan may be used for: this plan of this instance in this run, and nothing else.
pub fn purpose(run: &RunId, instance: &InstanceId, effect_digest: &str, binding: &Binding) -> String {
    format!("plan of {instance} in run {run} with effect {effect_digest} on {binding:?}")
}

pub enum Planned {
    Failed { stage: Stage, diagnostics: Vec<Diagnostic> },
    Done(Box<Judged>),
}

/// A plan that was made, and what was found in it.
pub struct Judged {
    pub effect: Effect,
    pub findings: Vec<Finding>,
    pub changed_outputs: Vec<String>,
    /// The sealed plan file.
    pub artefact: String,
    pub binding: Binding,
    /// By address of a resource that changes: the resources of the same plan that refer to it.
    pub dependants: BTreeMap<String, Vec<String>>,
}

/// Plans, reads the effect, judges it. `None` when it was cancelled.
pub async fn plan_instance(
    service: &Service,
    cx: &StepContext,
    work: &StackWork,
    kind: &PlanKind,
    deciding: &Deciding,
) -> AppResult<Option<Planned>> {
    let policies = &deciding.policies;
    let protected = deciding.definitions.stacks.iter().any(|d| d.id == work.stack && d.protect);
    let mut stack = stack_directory(service, cx, work).await?;
    for name in crate::secrets::too_short(work.env.iter().map(String::as_str), |name| std::env::var(name).ok()) {
        cx.log(format!("windlass: {name} {TOO_SHORT}\n").as_bytes()).await;
    }
    let file = plan_path(service, cx, &work.instance.id, cx.attempt);
    let real = matches!(kind, PlanKind::Real);
    if let PlanKind::Preview(reads) = kind {
        prepare_preview(service, cx, work, reads, &mut stack).await?;
    }
    let plan = match stack.plan(&file, real, &cx.cancel, &mut Recorder::new(cx)).await.map_err(|e| driver_error(&e))? {
        PlanResult::Cancelled => return Ok(None),
        PlanResult::Failed { stage, mut diagnostics } => {
            service.run_alone_next(&work.instance.id, &mut diagnostics).await?;
            crate::secrets::mask_diagnostics(&*cx.mask().await, &mut diagnostics);
            if !real {
                diagnostics.iter_mut().for_each(|d| in_the_repository(d, service, cx, work));
            }
            return Ok(Some(Planned::Failed { stage, diagnostics }));
        }
        PlanResult::Done(plan) => *plan,
    };
    let Plan { file, json, state, peak_kib, .. } = plan;
    if peak_kib > 0 {
        let memory_mib = u32::try_from(peak_kib / 1024 * 5 / 4).unwrap_or(u32::MAX).max(64);
        service.cost_learned(&work.instance.id, Cost { memory_mib, ..UNMEASURED }).await?;
    }
    let mut secrets = effect::marked_secrets(&json, |data, output| work.is_sensitive(data, output));
    if let PlanKind::Preview(reads) = kind {
        // The state still has what the upstream output before.
        for read in reads {
            let outputs = upstream_outputs(service, cx, &read.from).await?;
            secrets.extend(outputs.values().flat_map(effect::secrets_of_output));
        }
    }
    secrets.extend(crate::secrets::of_work(work));
    let mut secrets = with_known_secrets(service, &work.instance.id, &json, secrets).await?;
    // They are not remembered: what only looked like a secret is shown again once it does not.
    let mut unmarked = windlass_model::secrets::find(&json);
    unmarked.retain(|text, _| !secrets.contains(text));
    secrets.extend(unmarked.keys().cloned());
    service.secrets_put(&work.instance.id, secrets.iter().cloned());
    cx.hide(secrets.iter().cloned()).await;
    let mut effect = Effect::from_plan(work.instance.id.clone(), &json, &service.key, &secrets).map_err(|error| {
        AppError::new(
            ErrorKind::Internal,
            Diagnostic::error("WL515", format!("the plan of {} cannot be read: {error}", work.instance.id)),
        )
    })?;
    stack.mark_sets(&mut effect, &service.directory.cache(), &cx.cancel, &mut Recorder::new(cx)).await;
    let binding = binding(service, work, &stack, &json, state.version).await?;
    let purpose = purpose(&cx.run, &work.instance.id, &effect.digest(), &binding);
    let artefact = seal(service, cx, &work.instance.id, &file, &purpose).await?;
    let outputs = planned_outputs(&json);
    let changed_outputs = outputs.iter().filter(|(_, output)| output.changed).map(|(name, _)| name.clone()).collect();
    service.outputs_put(&cx.run, &work.instance.id, outputs);
    let dependants = windlass_model::review::references::dependants(&json, &effect);
    let mask = cx.mask().await;
    let asked = crate::decisions::plan_input(service, work, json, !real, deciding);
    let mut findings = policies.decide(Some(&work.stack), &asked).findings;
    crate::decisions::keep_plan(service, cx, work, asked, |text| mask.text(text)).await?;
    for finding in &mut findings {
        finding.message = mask.text(&finding.message);
    }
    findings.extend(windlass_model::secrets::findings(&unmarked));
    if work.destroy && protected {
        let message = format!("{} is protected: its definition says `protect = true`", work.stack);
        findings.push(Finding::new(Level::Deny, "protect", message));
    }
    if !findings.is_empty() {
        locate(service, &work.stack, &mut findings)?;
    }
    Ok(Some(Planned::Done(Box::new(Judged { effect, findings, changed_outputs, artefact, binding, dependants }))))
}

/// Secrets that were seen at earlier plans of the instance are secrets still: terraform keeps the old value of another stack's
/// sensitive output in the clear. They are remembered as keyed digests.
async fn with_known_secrets(
    service: &Service,
    instance: &InstanceId,
    plan: &serde_json::Value,
    mut secrets: BTreeSet<String>,
) -> AppResult<BTreeSet<String>> {
    let digest = |text: &String| keyed_digest(&service.key, text.as_bytes());
    let known = service.store.kv_get(SECRETS, instance.as_str()).await?;
    let mut known: BTreeSet<String> = known.iter().flat_map(|d| d.split(' ')).map(str::to_owned).collect();
    if !known.is_empty() {
        let found: Vec<String> = effect::texts(plan).into_iter().filter(|text| known.contains(&digest(text))).collect();
        secrets.extend(found);
    }
    let before = known.len();
    known.extend(secrets.iter().map(digest));
    if known.len() > before {
        let digests = known.into_iter().filter(|d| !d.is_empty()).collect::<Vec<_>>().join(" ");
        service.store.kv_set(SECRETS, instance.as_str(), &digests).await?;
    }
    Ok(secrets)
}

const SECRETS: &str = "secret-digests";

/// What the plan stands on.
async fn binding(
    service: &Service,
    work: &StackWork,
    stack: &StackDirectory,
    plan: &serde_json::Value,
    state: Option<StateVersion>,
) -> AppResult<Binding> {
    let key = &service.key;
    let instance = &work.instance;
    let backend = instance.state.as_deref().map_or_else(|| instance.backend.clone(), str::to_owned);
    let value = |name: &String| std::env::var_os(name).map(std::ffi::OsString::into_encoded_bytes).unwrap_or_default();
    Ok(Binding {
        made_at: service.store.now().await?,
        workspace: instance.workspace.clone(),
        backend,
        backend_digest: keyed_digest(key, stack.backend_identity().as_bytes()),
        state,
        upstream: binding::upstream_of(plan, key, |data, output| work.consumes(data, output)),
        variables: binding::variables_of(plan, key),
        lock_file: stack.lock_file().map(|content| keyed_digest(key, &content)),
        tool: format!("{} {}", stack.tool.name, stack.tool.version),
        environment: work.env.iter().map(|name| (name.clone(), keyed_digest(key, &value(name)))).collect(),
    })
}

/// Puts a plan file under seal where all that may need it can have it; no other copy stays.
async fn seal(
    service: &Service,
    cx: &StepContext,
    instance: &InstanceId,
    file: &Path,
    purpose: &str,
) -> AppResult<String> {
    let failed = |error: plan_file::PlanFileError| {
        let diagnostic = Diagnostic::error("WL901", format!("the plan of {instance} cannot be sealed: {error}"));
        AppError::new(ErrorKind::Unavailable, diagnostic.help("make room on the disk, then run the same command again"))
    };
    let content = std::fs::read(file).map_err(|error| failed(error.into()))?;
    let sealed = plan_file::seal(&content, &service.key, purpose).map_err(failed)?;
    let number = i64::from(cx.attempt);
    let of = NewArtefact { kind: ArtefactKind::Plan, run: cx.run.clone(), subject: instance.to_string(), number };
    let artefact = service.store.artefact_put(&of, sealed).await?;
    std::fs::remove_file(file).map_err(|error| failed(error.into()))?;
    Ok(artefact)
}

/// Where each finding can be mended: the resource it names, by address field or in its message.
pub(crate) fn locate(service: &Service, stack: &StackId, findings: &mut [Finding]) -> AppResult<()> {
    let tree = service.checkout.work_tree()?;
    let modules = Modules::all(&*tree);
    for finding in findings.iter_mut().filter(|f| f.code.is_none()) {
        let named = finding.address.clone().or_else(|| {
            let words = finding.message.split(|c: char| c.is_whitespace() || "'`,;:()".contains(c));
            words.map(|w| w.trim_end_matches('.')).find(|w| w.contains('.') && !w.contains('/')).map(str::to_owned)
        });
        if let Some(address) = named {
            finding.code = resource_span(&modules, stack, &address);
        }
    }
    Ok(())
}

/// A scratch copy in which the remote states of `reads` are locals; `stack` is pointed at it.
async fn prepare_preview(
    service: &Service,
    cx: &StepContext,
    work: &StackWork,
    reads: &[Read],
    stack: &mut StackDirectory,
) -> AppResult<()> {
    let mut by_module: BTreeMap<Arc<str>, BTreeMap<String, PlannedOutputs>> = BTreeMap::new();
    for read in reads {
        let outputs = upstream_outputs(service, cx, &read.from).await?;
        by_module.entry(read.module.clone()).or_default().insert(read.name.clone(), (*outputs).clone());
    }
    // The work tree, or the copy of another commit.
    let root = &stack.root.clone();
    let io = |path: &std::path::Path, error: &std::io::Error| crate::settings::disk(path, error);
    let mut rewritten = BTreeMap::new();
    let mut directories = vec![directory_of(work)];
    for (module, replaced) in &by_module {
        let directory = root.join(&**module);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(|e| io(&directory, &e))? {
            let name = entry.map_err(|e| io(&directory, &e))?.file_name().to_string_lossy().into_owned();
            if is_configuration(&name) {
                let path = directory.join(&name);
                files.push((name, std::fs::read_to_string(&path).map_err(|e| io(&path, &e))?));
            }
        }
        let prefix = if module.is_empty() { String::new() } else { format!("{module}/") };
        for (name, content) in windlass_lang::preview::rewrite(&files, replaced).map_err(|error| {
            AppError::new(
                ErrorKind::Definition,
                Diagnostic::error("WL516", error.to_string())
                    .help("apply the upstream stack first; this one is then planned for real"),
            )
        })? {
            rewritten.insert(format!("{prefix}{name}"), content.into_bytes());
        }
        if !directories.iter().any(|d| **d == **module) {
            directories.push(module.to_string());
        }
    }
    let scratch = scratch(service, cx, work);
    stack.directory =
        preview::prepare(root, &scratch, &directories, &rewritten).map_err(|error| io(&scratch, &error))?;
    stack.root = scratch.clone();
    stack.modules = work.directories.iter().map(|directory| scratch.join(&**directory)).collect();
    stack.data = service.directory.run(&cx.run).join("data").join(work.instance.id.file_name());
    Ok(())
}

fn scratch(service: &Service, cx: &StepContext, work: &StackWork) -> PathBuf {
    service.directory.run(&cx.run).join("preview").join(work.instance.id.file_name())
}

/// Files of the scratch copy stand for those of the repository.
fn in_the_repository(diagnostic: &mut Diagnostic, service: &Service, cx: &StepContext, work: &StackWork) {
    let scratch = format!("{}/", scratch(service, cx, work).display());
    for label in &mut diagnostic.labels {
        if let Some(rest) = label.span.file.strip_prefix(&scratch) {
            label.span.file = rest.into();
        }
    }
}

/// What an upstream of the same run will output. When this process did not plan it itself, its plan file is rendered again.
async fn upstream_outputs(
    service: &Service,
    cx: &StepContext,
    upstream: &InstanceId,
) -> AppResult<Arc<PlannedOutputs>> {
    if let Some(outputs) = service.outputs_get(&cx.run, upstream) {
        return Ok(outputs);
    }
    let plans = service.store.artefact_list(ArtefactKind::Plan, Some(&cx.run), Some(upstream.as_str())).await?;
    let gone = |what: &str| {
        let diagnostic =
            Diagnostic::error("WL517", format!("the plan of {upstream} {what}, and this one needs what it outputs"))
                .help("run `windlass review` again");
        AppError::new(ErrorKind::Conflict, diagnostic)
    };
    let Some(plan) = plans.last() else { return Err(gone("is gone")) };
    let planned = service.store.step_get(&cx.run, &windlass_model::stack_plan::plan_step(upstream)).await?;
    let planned: super::review::PlanOutput = super::input(&planned.output.unwrap_or_default())?;
    let (Some(effect), Some(binding)) = (planned.outcome.effect(), &planned.binding) else {
        return Err(gone("was not made"));
    };
    let sealed = service.store.artefact_read(&plan.id).await?;
    let attempt = u32::try_from(plan.of.number).unwrap_or_default();
    let open = plan_path(service, cx, upstream, attempt).with_extension("tfplan.open");
    let opened = Opened::new(&sealed, open, &service.key, &purpose(&cx.run, upstream, &effect.digest(), binding))
        .map_err(|error| gone(&format!("cannot be opened ({error})")))?;
    let record = service.store.run_get(&cx.run).await?;
    let step = windlass_model::stack_plan::plan_step(upstream);
    let spec = record
        .plan
        .steps
        .iter()
        .find(|s| s.id == step)
        .ok_or_else(|| crate::error::internal("an upstream without its step"))?;
    let stack = stack_directory(service, cx, &super::input(&spec.work.input)?).await?;
    let json = stack.show(opened.path(), &cx.cancel, &mut Recorder::new(cx)).await.map_err(|e| driver_error(&e))?;
    let json = json.ok_or_else(|| {
        AppError::new(
            ErrorKind::Unavailable,
            Diagnostic::error("WL517", format!("the plan of {upstream} cannot be rendered again"))
                .help("run `windlass review` again"),
        )
    })?;
    let outputs = planned_outputs(&json);
    service.outputs_put(&cx.run, upstream, outputs);
    service.outputs_get(&cx.run, upstream).ok_or_else(|| crate::error::internal("outputs were not kept"))
}

/// Errors among diagnostics.
pub fn errors(diagnostics: &[Diagnostic]) -> impl Iterator<Item = &Diagnostic> {
    diagnostics.iter().filter(|d| d.severity == Severity::Error)
}
