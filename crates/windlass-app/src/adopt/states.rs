//! What the states of a repository have. Nothing is written into the work tree for it: a local state is a file, and any other
//! is asked for beside the repository, with its backend's block and nothing else.

use super::address::kind_of;
use crate::error::{AppResult, internal};
use crate::project::Project;
use crate::recover::Silent;
use crate::service::Service;
use crate::steps::terraform::{directory_of, driver_error, placed};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use windlass_drivers::terraform::{StackDirectory, preview};
use windlass_lang::terraform::module::is_configuration;
use windlass_lang::terraform::scan::{self, Part};
use windlass_lang::tree::Tree;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::InstanceId;
use windlass_model::journal::addresses;
use windlass_model::review::{Affected, AffectedKind};
use windlass_model::stack_plan::{StackWork, stack_works};

/// A state that could not be read.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Unread {
    pub instance: InstanceId,
    /// One line.
    pub why: String,
}

impl Unread {
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic::error("WL685", format!("the state of {} cannot be read: {}", self.instance, self.why))
    }
}

/// A resource that a state has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Managed {
    pub instance: InstanceId,
    pub address: String,
}

/// All resources of the states that could be read.
#[derive(Debug, Default)]
pub struct States {
    by_id: BTreeMap<(String, String), Managed>,
    addresses: BTreeMap<InstanceId, BTreeSet<String>>,
    pub unread: Vec<Unread>,
    /// How many states there are.
    pub count: usize,
}

impl States {
    /// The resource with this type and id.
    pub fn managed(&self, kind: &str, id: &str) -> Option<&Managed> {
        self.by_id.get(&(kind.to_owned(), id.to_owned()))
    }

    /// Addresses of an instance; empty when it has no state yet.
    pub fn addresses(&self, instance: &InstanceId) -> impl Iterator<Item = &String> {
        self.addresses.get(instance).into_iter().flatten()
    }

    fn add(&mut self, instance: &InstanceId, state: &serde_json::Value) {
        let of = self.addresses.entry(instance.clone()).or_default();
        for (address, id) in addresses(state) {
            of.insert(address.clone());
            if let (Some(kind), Some(id)) = (kind_of(&address), id) {
                self.by_id.entry((kind, id)).or_insert(Managed { instance: instance.clone(), address });
            }
        }
    }
}

/// What running terraform for one instance takes; `None` for one that is not there.
///
/// # Errors
/// Its environments name several places to run it.
pub fn work_of(project: &Project, id: &InstanceId) -> AppResult<Option<StackWork>> {
    let Some((stack, _)) = project.repository.instance(id) else { return Ok(None) };
    let item =
        Affected { instance: id.clone(), stack: stack.id.clone(), kind: AffectedKind::Changed, reasons: Vec::new() };
    let Some(mut work) = stack_works(&project.repository, &[item]).pop() else { return Ok(None) };
    work.place = crate::project::place_of(&project.definitions, id)?;
    Ok(Some(work))
}

/// Reads every state of these projects, each with its files; an instance of an earlier one goes before the same of a later one.
pub async fn read_all(
    service: &Service,
    projects: &[(&Project, &dyn Tree)],
    scratch: &Path,
    cancel: &CancellationToken,
) -> AppResult<States> {
    let mut states = States::default();
    let (mut instances, mut places) = (BTreeSet::new(), BTreeSet::new());
    let room = Arc::new(tokio::sync::Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)));
    let mut asked = tokio::task::JoinSet::new();
    for (project, tree) in projects {
        for (_, instance) in project.repository.instances() {
            let fresh = instances.insert(instance.id.clone());
            if !fresh || instance.state.clone().is_some_and(|state| !places.insert(state)) {
                continue;
            }
            states.count += 1;
            if let Some(state) = local_state(service, instance.state.as_deref()) {
                states.add(&instance.id, &state);
                continue;
            }
            let Some(work) = work_of(project, &instance.id)? else { continue };
            match beside(service, *tree, &work, scratch).await {
                Err(error) => states.unread.push(Unread { instance: instance.id.clone(), why: error.to_string() }),
                Ok(stack) => {
                    let (id, room, cancel) = (instance.id.clone(), room.clone(), cancel.clone());
                    asked.spawn(async move {
                        // It is never closed.
                        let _permit = room.acquire_owned().await;
                        (id, pull(&stack, &cancel).await)
                    });
                }
            }
        }
    }
    while let Some(answer) = asked.join_next().await {
        let (instance, answer) = answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        match answer? {
            Ok(state) => states.add(&instance, &state),
            Err(why) => states.unread.push(Unread { instance, why }),
        }
    }
    states.unread.sort_by(|a, b| a.instance.cmp(&b.instance));
    Ok(states)
}

/// The state of one instance; why it cannot be read.
///
/// # Errors
/// There is no room for what terraform needs, or it could not be run.
pub async fn read_one(
    service: &Service,
    tree: &dyn Tree,
    project: &Project,
    id: &InstanceId,
    cancel: &CancellationToken,
) -> AppResult<Result<serde_json::Value, String>> {
    let instance = project.repository.stack(&id.stack()).and_then(|stack| stack.instances.iter().find(|i| i.id == *id));
    let (Some(instance), Some(work)) = (instance, work_of(project, id)?) else {
        return Ok(Err(format!("there is no stack {id}")));
    };
    if let Some(state) = local_state(service, instance.state.as_deref()) {
        return Ok(Ok(state));
    }
    let scratch = tempfile::tempdir_in(service.directory.cache()).map_err(internal)?;
    let stack = beside(service, tree, &work, scratch.path()).await?;
    pull(&stack, cancel).await
}

/// A state that is a file of the format we know, or is not there yet. Anything else (encrypted, of an old format) is for
/// terraform to read.
fn local_state(service: &Service, place: Option<&str>) -> Option<serde_json::Value> {
    let path = service.checkout.root.join(place?.strip_prefix("local:")?);
    let content = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(serde_json::Value::Null),
        content => content.ok()?,
    };
    let state: serde_json::Value = serde_json::from_slice(&content).ok()?;
    (state["version"] == 4 && state["resources"].is_array()).then_some(state)
}

/// The instance's commands in a directory that has its backend's block only, so that neither providers nor modules are needed;
/// in a copy of its own where that does not do.
async fn beside(service: &Service, tree: &dyn Tree, work: &StackWork, scratch: &Path) -> AppResult<StackDirectory> {
    let mut stack = placed(service, work, "adopt").await?;
    stack.reach.push(scratch.to_owned());
    let place = scratch.join("states").join(work.instance.id.file_name());
    stack.data = place.join("data");
    let relative = work.instance.backend_config.values().any(|value| value.starts_with('.'));
    let Some(block) =
        backend_block(tree, &directory_of(work)).filter(|_| work.instance.backend != "local" && !relative)
    else {
        let copy = place.join("copy");
        stack.directory = preview::prepare(&stack.root, &copy, &[directory_of(work)], &BTreeMap::new())
            .map_err(|error| crate::settings::disk(&copy, &error))?;
        stack.modules = work.directories.iter().map(|directory| copy.join(&**directory)).collect();
        stack.root = copy;
        return Ok(stack);
    };
    let own = place.join("stack");
    let file = own.join("backend.tf");
    std::fs::create_dir_all(&own)
        .and_then(|()| std::fs::write(&file, format!("terraform {{\n  {block}\n}}\n")))
        .map_err(|error| crate::settings::disk(&file, &error))?;
    stack.root = place;
    stack.modules = vec![own.clone()];
    stack.directory = own;
    Ok(stack)
}

/// The `backend` or `cloud` block of a directory as written. `None` when it is not plain: written in JSON or in two files, or
/// with a value that depends on something else.
fn backend_block(tree: &dyn Tree, directory: &str) -> Option<String> {
    let mut found: Vec<String> = Vec::new();
    for path in tree.paths() {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if parent != directory || !is_configuration(name) {
            continue;
        }
        let text = String::from_utf8(tree.read(path).ok()??).ok()?;
        if name.ends_with(".json") {
            if text.contains("\"backend\"") || text.contains("\"cloud\"") {
                return None;
            }
            continue;
        }
        for (start, end) in scan::items(&text)? {
            let Some(head) = scan::head(&text, start).filter(|head| head.kind == "terraform") else { continue };
            for part in scan::parts(&text, head.body, end)? {
                if let Part::Block(start, end) = part
                    && matches!(scan::head(&text, start)?.kind, "backend" | "cloud")
                {
                    found.push(text[start..end].to_owned());
                }
            }
        }
    }
    let [only] = found.as_slice() else { return None };
    let depends = ["var.", "local.", "path.", "\"./", "\"../"].iter().any(|needle| only.contains(needle));
    (!depends).then(|| only.clone())
}

/// `init` and `state pull`; the inner error says in one line why it cannot be read.
async fn pull(stack: &StackDirectory, cancel: &CancellationToken) -> AppResult<Result<serde_json::Value, String>> {
    let why = |diagnostics: &[Diagnostic]| {
        diagnostics.first().map_or_else(|| "terraform failed".to_owned(), |first| first.summary.clone())
    };
    if let Some(init) = stack.init(cancel, &mut Silent).await.map_err(|e| driver_error(&e))?
        && !init.success
    {
        return Ok(Err(why(&init.diagnostics)));
    }
    let state = stack.state(cancel, &mut Silent).await.map_err(|e| driver_error(&e))?;
    Ok(state.map_err(|diagnostics| why(&diagnostics)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_lang::tree::MemoryTree;

    #[test]
    fn backends_are_cut_out() {
        let check = |files: &[(&str, &str)], want: Option<&str>| {
            let tree = MemoryTree::new(files.iter().map(|(path, text)| (*path, *text)));
            assert_eq!(backend_block(&tree, "a").as_deref(), want, "{files:?}");
        };
        let s3 = "terraform {\n  required_version = \"1\"\n  backend \"s3\" {\n    key = \"k\"\n  }\n}\n";
        check(
            &[("a/b.tf", s3), ("a/c.tf", "resource \"x\" \"y\" {}\n"), ("a/d/e.tf", s3)],
            Some("backend \"s3\" {\n    key = \"k\"\n  }"),
        );
        check(&[("a/b.tf", s3), ("a/b_override.tf", s3)], None);
        check(&[("a/b.tf", &s3.replace("\"k\"", "var.key"))], None);
        check(&[("a/b.tf", &s3.replace("\"k\"", "\"./k\""))], None);
        check(&[("a/b.tf.json", "{\"terraform\":{\"backend\":{}}}")], None);
        check(&[("a/b.tf", "resource \"x\" \"y\" {}\n")], None);
    }
}
