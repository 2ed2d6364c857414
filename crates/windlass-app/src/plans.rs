//! A review of plans that were made elsewhere: judged and shown like any other, never applied and not kept.

mod parts;

use crate::error::{AppError, AppResult, ErrorKind};
use crate::service::{Deciding, Service};
use parts::Parts;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::effect::{self, Effect, Mask};
use windlass_model::id::{InstanceId, RunId};
use windlass_model::review::document::{Context, Document};
use windlass_model::review::{AffectedKind, Finding, Outcome, Reason, Review, Revision, StackReview, references};
use windlass_model::{risk, secrets};

/// One rendered plan (`terraform show -json`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenPlan {
    pub instance: InstanceId,
    /// `-` is standard input.
    pub path: PathBuf,
}

impl GivenPlan {
    /// `INSTANCE=FILE`, or a file: its instance is the directory it lies in where that is a stack, else its name.
    pub fn parse(service: &Service, text: &str) -> AppResult<Self> {
        if let Some((instance, path)) = text.split_once('=') {
            return Ok(Self { instance: InstanceId::new(instance), path: path.into() });
        }
        let path = PathBuf::from(text);
        let root = std::fs::canonicalize(&service.checkout.root).unwrap_or_else(|_| service.checkout.root.clone());
        let parent = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        let directory = parent.and_then(|parent| std::fs::canonicalize(parent).ok());
        let inside = directory.as_deref().and_then(|directory| directory.strip_prefix(&root).ok());
        let inside = inside.map(|inside| inside.display().to_string());
        let project = service.checkout.project()?;
        let is_stack = |id: &&String| project.repository.stacks.iter().any(|stack| stack.id.as_str() == id.as_str());
        let name = || match path.file_stem() {
            Some(stem) if text != "-" => stem.to_string_lossy().into_owned(),
            _ => "plan".to_owned(),
        };
        Ok(Self { instance: InstanceId::new(inside.filter(|id| is_stack(&id)).unwrap_or_else(name)), path })
    }
}

/// The review of all of them, and how it is shown. The definitions and policies are those of the work tree: who has the plans can
/// have the files.
///
/// # Errors
/// A file is no rendered plan; the policies do not load.
pub fn plans_review(service: &Service, plans: &[GivenPlan]) -> AppResult<(Review, Document)> {
    let tree = service.checkout.work_tree()?;
    let deciding = service.deciding_of(&*tree)?;
    let stacks = plans.iter().map(|plan| judged(service, plan, &deciding)).collect::<AppResult<Vec<_>>>()?;
    let commit = service.checkout.git_if_any().and_then(|git| git.resolve("HEAD").ok()).unwrap_or_default();
    let mut review = Review {
        run: RunId::new(""),
        project: service.checkout.name(&deciding.definitions),
        base: None,
        head: Revision { name: "given plans".into(), commit },
        dirty: Vec::new(),
        authors: Vec::new(),
        unknown_authors: Vec::new(),
        effect_digest: effect::digest_all(stacks.iter().filter_map(|stack| stack.outcome.effect())),
        stacks,
        findings: Vec::new(),
        diagnostics: Vec::new(),
        policy_digest: deciding.policies.digest.clone(),
        verdict: windlass_model::review::Verdict::Ready,
        readers_beyond: Default::default(),
    };
    review.add_readers(&service.checkout.project()?.repository);
    review.verdict = crate::decisions::verdict(&review, false);
    let document = Document::new(&review, Context { given: true, ..Context::default() });
    Ok((review, document))
}

fn judged(service: &Service, given: &GivenPlan, deciding: &Deciding) -> AppResult<StackReview> {
    let instance = &given.instance;
    let stack = instance.stack();
    let definition = deciding.definitions.stacks.iter().find(|definition| definition.id == stack);
    let owner = definition.and_then(|definition| definition.owner.clone());
    let protected = definition.is_some_and(|definition| definition.protect);
    let text = Arc::new(read(&given.path)?);
    let facts = crate::decisions::plan_facts(service, deciding, instance, owner.clone());
    let environments = facts.environments.clone();
    let facts = serde_json::to_value(facts).map_err(crate::error::internal)?;
    let unreadable = |error: String| refused(&given.path, &error);
    // What policies say and what changes are two readings of the same text, on a processor each: the
    // policies read it in their process.
    let (asked, read) = std::thread::scope(|scope| {
        let (stack, own) = (&stack, text.clone());
        let asked = scope.spawn(move || -> Vec<Finding> {
            let document = windlass_policy::Document::text(own).with("windlass", facts);
            deciding.policies.decide_plan(stack, document).findings
        });
        let read = changes(&text, instance, &service.key);
        (asked.join(), read)
    });
    let Read { effect, dependants, unmarked, mask } = read.map_err(unreadable)?;
    let mut findings = asked.map_err(|_| crate::error::internal("the policies panicked"))?;
    for finding in &mut findings {
        finding.message = mask.text(&finding.message);
    }
    findings.extend(secrets::findings(&unmarked));
    crate::steps::plan::locate(service, &stack, &mut findings)?;
    let risk = (!effect.is_empty())
        .then(|| risk::rank(&effect, &risk::Context { protected, dependants: 0, history: Vec::new() }));
    let cause = given.path.display().to_string();
    Ok(StackReview {
        instance: instance.clone(),
        kind: AffectedKind::Changed,
        reasons: vec![Reason { cause, change: "given".into(), chain: Vec::new() }],
        after: Vec::new(),
        environments,
        owner,
        outcome: Outcome::Planned { effect },
        findings,
        binding: None,
        risk,
        readers: Vec::new(),
        dependants,
    })
}

/// What a plan says about its changes.
struct Read {
    effect: Effect,
    dependants: BTreeMap<String, Vec<String>>,
    /// Texts that look like secrets and are not marked.
    unmarked: BTreeMap<String, secrets::Reason>,
    mask: Mask,
}

fn changes(text: &str, instance: &InstanceId, key: &[u8]) -> Result<Read, String> {
    let parts = Parts::of(text).map_err(|error| error.to_string())?;
    let (mut hidden, mut unmarked) = (BTreeSet::new(), BTreeMap::new());
    let mut look = |plan: &Value| {
        hidden.extend(effect::marked_secrets(plan, |_, _| false));
        unmarked.extend(secrets::find(plan));
        Ok(())
    };
    parts.each(&mut look)?;
    look(parts.rest())?;
    unmarked.retain(|text, _| !hidden.contains(text));
    hidden.extend(unmarked.keys().cloned());
    // What is hidden in one part is hidden in all of them.
    let reader = effect::Reader::new(key, &hidden);
    let mut effect = reader.effect(instance.clone(), parts.rest()).map_err(|error| error.to_string())?;
    parts.each(|plan| {
        effect.add(reader.effect(instance.clone(), plan).map_err(|error| error.to_string())?);
        Ok(())
    })?;
    let dependants = references::dependants(parts.rest(), &effect);
    Ok(Read { effect, dependants, unmarked, mask: Mask::new(hidden.iter().map(String::as_str)) })
}

fn read(path: &Path) -> AppResult<String> {
    let mut bytes = Vec::new();
    let content = if path == Path::new("-") {
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = content.map_err(|error| refused(path, &error.to_string()))?;
    if bytes.starts_with(b"PK\x03\x04") {
        return Err(refused(path, "it is a plan file that was not rendered"));
    }
    String::from_utf8(bytes).map_err(|_| refused(path, "it is not UTF-8 text"))
}

fn refused(path: &Path, why: &str) -> AppError {
    let diagnostic = Diagnostic::error("WL691", format!("{} cannot be reviewed: {why}", path.display()))
        .at(Span::file(path.display().to_string()))
        .help("render the plan with `terraform show -json PLAN > plan.json`, and give that file");
    AppError::new(ErrorKind::Definition, diagnostic)
}
