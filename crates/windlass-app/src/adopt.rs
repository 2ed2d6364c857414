//! Adoption of what was made by hand: `import` blocks and generated configuration on a branch of their own, planned until the
//! plan takes them into the state and does nothing else. Neither the work tree nor the index is touched.

pub mod address;
mod generated;
pub mod lists;
pub(crate) mod states;

pub use states::{Managed, Unread};

use crate::error::{AppError, AppResult, ErrorKind};
use crate::project::{Detail, Project, git_error};
use crate::recover::Silent;
use crate::service::Service;
use crate::settings::disk;
use crate::steps::terraform::{directory_of, driver_error, placed};
use address::{Address, made};
use lists::{Named, What};
use states::{States, read_all, work_of};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;
use windlass_drivers::git::GitTree;
use windlass_drivers::terraform::{Plan, PlanResult, StackDirectory, preview};
use windlass_lang::discovery::{Modules, resource_span};
use windlass_lang::terraform::module::is_configuration;
use windlass_lang::tree::Tree;
use windlass_model::diagnostic::{Diagnostic, Severity};
use windlass_model::effect::{Action, Effect};
use windlass_model::id::InstanceId;
use windlass_model::journal::{Entry, Progress, import_block};
use windlass_model::review::Stage;
use windlass_model::stack::Stack;
use windlass_model::stack_plan::StackWork;

/// Rounds of taking out of the generated configuration what terraform refuses in it.
const ROUNDS: usize = 20;
const LOCK_FILE: &str = ".terraform.lock.hcl";
/// Branches of one stack.
const BRANCHES: u32 = 10_000;

/// What somebody wants to have adopted.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub stack: String,
    pub resources: Vec<Named>,
    /// Addresses may have configuration already; it has to fit then.
    pub configured: bool,
    /// Go on although states cannot be read, in which the ids may be managed.
    pub ignore_unread: bool,
}

/// One resource on the branch.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Adopted {
    pub address: String,
    pub id: String,
    /// Its configuration was there before.
    pub configured: bool,
    #[serde(skip)]
    kind: String,
}

/// A branch that was made.
#[derive(Debug, serde::Serialize)]
pub struct Adoption {
    pub instance: InstanceId,
    pub branch: String,
    pub commit: String,
    /// Paths that the branch adds.
    pub files: Vec<String>,
    pub resources: Vec<Adopted>,
    /// Applying the branch takes the resources into the state and does nothing else.
    pub clean: bool,
    /// What applying it would do; `None` when it cannot be planned.
    pub effect: Option<Effect>,
    /// Generated attributes that terraform refused, left out.
    pub left_out: Vec<String>,
    /// Why it cannot be planned, or what the plan does not import.
    pub diagnostics: Vec<Diagnostic>,
    /// States in which the ids may be managed as well.
    pub unread: Vec<Unread>,
}

/// A directory of ours for the time of an adoption.
struct Scratch(PathBuf);

impl Scratch {
    fn new(service: &Service) -> AppResult<Self> {
        let parent = service.directory.cache().join("adopt");
        let number = std::process::id();
        // What a process that was killed left can hold a plan, and so secrets.
        for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
            let owner = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            if owner.is_none_or(|owner| owner == number || is_dead(owner)) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let own = parent.join(number.to_string());
        std::fs::create_dir_all(&own).map_err(|error| disk(&own, &error))?;
        Ok(Self(own))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed by the next adoption.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn is_dead(process: u32) -> bool {
    let Ok(number) = i32::try_from(process) else { return true };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), None) == Err(nix::errno::Errno::ESRCH)
}

/// What no state has.
#[derive(Debug, serde::Serialize)]
pub struct Unmanaged {
    /// Entries of the listing, in its order.
    pub unmanaged: Vec<Listed>,
    /// How many entries the listing has.
    pub listed: usize,
    /// How many states there are.
    pub states: usize,
    /// When there are any, the answer is incomplete.
    pub unread: Vec<Unread>,
}

#[derive(Debug, serde::Serialize)]
pub struct Listed {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Entries of a listing that no state of the repository has, by type and id.
///
/// # Errors
/// Every entry that is not one, at once; a repository that cannot be understood.
pub async fn unmanaged(service: &Service, listing: Vec<Named>) -> AppResult<Unmanaged> {
    let cancel = CancellationToken::new();
    until_interrupted(&cancel, unmanaged_find(service, listing, &cancel)).await
}

/// The first interrupt of the terminal is handed to terraform, which is given its time to stop.
async fn until_interrupted<T>(cancel: &CancellationToken, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        answer = &mut work => answer,
        Ok(()) = tokio::signal::ctrl_c() => {
            cancel.cancel();
            work.await
        }
    }
}

async fn unmanaged_find(service: &Service, listing: Vec<Named>, cancel: &CancellationToken) -> AppResult<Unmanaged> {
    let mut diagnostics = Vec::new();
    let mut entries = Vec::new();
    for named in listing {
        let (kind, name) = match named.what {
            What::Listed { kind, name } => (address::identifier(&kind).map(|()| kind), name),
            What::Address(text) => (Address::parse(&text).map(|a| a.kind), None),
        };
        match kind {
            Err(why) => diagnostics.push(invalid(&named.place, &why)),
            Ok(_) if !is_id(&named.id) => diagnostics.push(invalid(&named.place, NO_ID)),
            Ok(kind) => entries.push(Listed { kind, id: named.id, name }),
        }
    }
    if !diagnostics.is_empty() {
        return Err(AppError::many(ErrorKind::Usage, diagnostics));
    }
    let scratch = Scratch::new(service)?;
    let tree = service.checkout.work_tree()?;
    let project = Project::load(&*tree).sound()?;
    let states = read_all(service, &[(&project, &*tree)], &scratch.0, cancel).await?;
    refuse_interrupted(cancel)?;
    let listed = entries.len();
    entries.retain(|entry| states.managed(&entry.kind, &entry.id).is_none());
    Ok(Unmanaged { unmanaged: entries, listed, states: states.count, unread: states.unread })
}

fn interrupted() -> AppError {
    let diagnostic = Diagnostic::error("WL689", "the command was interrupted; no branch was made");
    AppError::new(ErrorKind::Refused, diagnostic.help("run the same command again"))
}

fn refuse_interrupted(cancel: &CancellationToken) -> AppResult<()> {
    if cancel.is_cancelled() { Err(interrupted()) } else { Ok(()) }
}

const NO_ID: &str = "the id is empty or has control characters";

fn is_id(id: &str) -> bool {
    !id.is_empty() && !id.chars().any(char::is_control)
}

fn invalid(place: &str, why: &str) -> Diagnostic {
    Diagnostic::error("WL680", format!("{place}: {why}"))
        .help("write an address of the stack and the id the provider imports by, such as 'aws_vpc.main=vpc-0a1b2c'")
}

/// Makes a branch `adopt/STACK-N` on top of `HEAD` that has `import` blocks for the resources and configuration for those that
/// have none.
///
/// # Errors
/// Every mistake in the request, at once; what terraform says when nothing can be imported. No branch is made then.
pub async fn adopt(service: &Service, request: &Request) -> AppResult<Adoption> {
    let cancel = CancellationToken::new();
    until_interrupted(&cancel, adopt_create(service, request, &cancel)).await
}

async fn adopt_create(service: &Service, request: &Request, cancel: &CancellationToken) -> AppResult<Adoption> {
    let git = service.checkout.git()?;
    let head = git.resolve("HEAD").map_err(|e| git_error(&e))?;
    let tree = git.tree(&head).map_err(|e| git_error(&e))?;
    let project = Project::load_with(&tree, Detail::Outputs).sound()?;
    let stack = project.stack(&request.stack)?;
    let [instance] = stack.instances.as_slice() else {
        let diagnostic = Diagnostic::error("WL688", format!("{} has several instances", stack.id))
            .help("an import block would count for all of them: write it by hand, with a `for_each` that is empty for the others");
        return Err(AppError::new(ErrorKind::Usage, diagnostic));
    };
    let work =
        work_of(&project, &instance.id)?.ok_or_else(|| crate::error::internal("an instance without its work"))?;
    let scratch = Scratch::new(service)?;
    let files_now = service.checkout.work_tree()?;
    let now = Project::load(&*files_now).sound()?;
    let states = read_all(service, &[(&project, &tree), (&now, &*files_now)], &scratch.0, cancel).await?;
    refuse_interrupted(cancel)?;
    let resources = checked(request, stack, &instance.id, &tree, &states)?;
    let mut draft = Draft::new(service, &tree, &work, &*files_now, &scratch.0, resources).await?;
    draft.plan(service, &instance.id, cancel).await?;
    refuse_managed(&draft, &states)?;
    let ignored = git.is_ignored(&draft.path(&draft.lock_file())).map_err(|e| git_error(&e))?;
    let files = draft.files(ignored)?;
    let commit = git
        .commit_files(&head, &files, &draft.message(&instance.id), &scratch.0.join("index"))
        .map_err(|e| git_error(&e))?;
    let branch = branch(git, stack, &commit)?;
    draft.left_out.sort();
    Ok(Adoption {
        instance: instance.id.clone(),
        branch,
        commit,
        files: files.into_keys().collect(),
        clean: draft.is_clean(),
        resources: draft.resources,
        effect: draft.effect,
        left_out: draft.left_out,
        diagnostics: draft.diagnostics,
        unread: states.unread,
    })
}

/// The request as addresses and ids, or all that is wrong with it.
fn checked(
    request: &Request,
    stack: &Stack,
    instance: &InstanceId,
    tree: &GitTree,
    states: &States,
) -> AppResult<Vec<Adopted>> {
    let mut wrong = Vec::new();
    let in_state: BTreeSet<String> = states.addresses(instance).cloned().collect();
    let asked = request.resources.iter().filter_map(|named| match &named.what {
        What::Address(text) => Some(text.clone()),
        What::Listed { .. } => None,
    });
    let mut taken: BTreeSet<String> = in_state.iter().cloned().chain(asked).collect();
    let mut resources: Vec<Adopted> = Vec::new();
    if request.resources.is_empty() {
        wrong.push(
            Diagnostic::error("WL680", "nothing is named that could be adopted")
                .help("windlass adopt STACK 'aws_vpc.main=vpc-0a1b2c', or --from FILE, or --listing FILE"),
        );
    }
    let modules = Modules::all(tree);
    for named in &request.resources {
        let made_up = matches!(named.what, What::Listed { .. });
        let text = match &named.what {
            What::Address(text) => text.clone(),
            What::Listed { kind, name } => {
                let name = name.as_deref().unwrap_or(&named.id);
                loop {
                    let address = made(kind, name, &taken);
                    if taken.insert(address.clone()) && resource_span(&modules, &stack.id, &address).is_none() {
                        break address;
                    }
                }
            }
        };
        let address = match Address::parse(&text) {
            Ok(address) => address,
            Err(why) => {
                wrong.push(invalid(&named.place, &why));
                continue;
            }
        };
        if !is_id(&named.id) {
            wrong.push(invalid(&named.place, NO_ID));
            continue;
        }
        let before = wrong.len();
        if let Some(managed) = states.managed(&address.kind, &named.id) {
            wrong.push(is_managed(&address.kind, &named.id, managed));
        }
        if in_state.contains(&text) {
            let summary = format!("{text} is in the state of {instance} already");
            wrong.push(Diagnostic::error("WL682", summary).help("choose another address"));
        }
        if resources.iter().any(|r| r.address == text || (r.kind == address.kind && r.id == named.id)) {
            let summary =
                format!("{}: {text} or the {} with the id {} is named twice", named.place, address.kind, named.id);
            wrong.push(Diagnostic::error("WL684", summary).help("name each resource once"));
        }
        let span = if made_up { None } else { resource_span(&modules, &stack.id, &text) };
        let configured = span.is_some();
        match span {
            Some(span) if !request.configured => wrong.push(
                Diagnostic::error("WL681", format!("{text} has configuration already"))
                    .at(span)
                    .help("choose another address, or import into the configuration that is there with --configured"),
            ),
            None if address.in_module || address.indexed => {
                let why = if address.in_module { "lies in a module" } else { "has an index" };
                let summary = format!("no configuration can be generated for {text}: it {why}");
                wrong.push(Diagnostic::error("WL687", summary).help(
                    "write and commit its configuration first, then adopt with --configured; or adopt it as a resource of the stack itself",
                ));
            }
            _ => {}
        }
        if wrong.len() == before {
            resources.push(Adopted { address: text, id: named.id.clone(), configured, kind: address.kind });
        }
    }
    if !wrong.is_empty() {
        return Err(AppError::many(ErrorKind::Usage, wrong));
    }
    if !states.unread.is_empty() && !request.ignore_unread {
        let help =
            "whether the ids are managed there cannot be known: mend that, or go on without with --ignore-unread";
        let unread = states.unread.iter().map(|unread| unread.diagnostic().help(help)).collect();
        return Err(AppError::many(ErrorKind::Unavailable, unread));
    }
    Ok(resources)
}

fn is_managed(kind: &str, id: &str, managed: &Managed) -> Diagnostic {
    let Managed { instance, address } = managed;
    Diagnostic::error("WL683", format!("the {kind} with the id {id} is managed already, by {instance} as {address}"))
        .help("two states that manage one resource undo each other's work: leave it out, or move it with a `removed` block there")
}

/// What a resource is imported by need not be its id: the plan tells that.
fn refuse_managed(draft: &Draft, states: &States) -> AppResult<()> {
    let known = |resource: &Adopted| {
        let id = draft.ids.get(&resource.address)?;
        Some(is_managed(&resource.kind, id, states.managed(&resource.kind, id)?))
    };
    let wrong: Vec<Diagnostic> = draft.resources.iter().filter_map(known).collect();
    if wrong.is_empty() { Ok(()) } else { Err(AppError::many(ErrorKind::Usage, wrong)) }
}

/// The first `adopt/STACK-N` that there is none of yet.
fn branch(git: &windlass_drivers::git::GitRepository, stack: &Stack, commit: &str) -> AppResult<String> {
    let name = stack.id.as_str();
    let name = if name == "." { "root".to_owned() } else { branch_name(name) };
    for number in 1..=BRANCHES {
        let branch = format!("adopt/{name}-{number}");
        if git.branch_create(&branch, commit).map_err(|e| git_error(&e))? {
            return Ok(branch);
        }
    }
    let diagnostic = Diagnostic::error("WL689", format!("there are too many branches adopt/{name}-…"));
    Err(AppError::new(ErrorKind::Conflict, diagnostic.help(format!("delete old ones; the new one is commit {commit}"))))
}

/// A path as part of a branch's name, which may not have everything that a path may.
fn branch_name(path: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_./".contains(c) { c } else { '-' };
    let segments = path.split('/').map(|segment| {
        let text: String = segment.chars().map(plain).collect();
        let text = text.replace("..", "-").replace(".lock", "-lock");
        text.strip_prefix('.').map_or_else(|| text.clone(), |rest| format!("-{rest}"))
    });
    segments.collect::<Vec<_>>().join("/")
}

/// The files of a branch while they are made.
struct Draft {
    stack: StackDirectory,
    /// Directory of the stack relative to the root.
    directory: String,
    plan_file: PathBuf,
    imports: PathBuf,
    generated: PathBuf,
    /// `.terraform.lock.hcl` as the commit has it.
    locked: Option<Vec<u8>>,
    resources: Vec<Adopted>,
    effect: Option<Effect>,
    /// Ids as the provider has them, by address.
    ids: BTreeMap<String, String>,
    left_out: Vec<String>,
    diagnostics: Vec<Diagnostic>,
}

impl Draft {
    /// A copy of the stack as it is in `tree`, with the import blocks in it.
    async fn new(
        service: &Service,
        tree: &GitTree,
        work: &StackWork,
        now: &dyn Tree,
        scratch: &Path,
        resources: Vec<Adopted>,
    ) -> AppResult<Self> {
        let mut stack = placed(service, work, "adopt").await?;
        stack.reach.push(scratch.to_owned());
        let own = directory_of(work);
        let copy = scratch.join("copy");
        let io = |error: &std::io::Error| disk(&copy, error);
        let below = |path: &str| {
            work.directories
                .iter()
                .any(|d| d.is_empty() || path.strip_prefix(&**d).is_some_and(|rest| rest.starts_with('/')))
        };
        let mut content = BTreeMap::new();
        for path in tree.paths().iter().filter(|path| below(path) || work.files.iter().any(|f| f == *path)) {
            if let Some(bytes) = tree.read(path).map_err(|e| io(&e))? {
                content.insert(path.to_string(), bytes);
            }
        }
        // Every directory that gets a file is a real one: nothing is ever written through a link into the work tree.
        let mut directories = vec![own.clone()];
        directories
            .extend(content.keys().map(|path| path.rsplit_once('/').map_or(String::new(), |(d, _)| d.to_owned())));
        stack.directory = preview::prepare(&stack.root, &copy, &directories, &content).map_err(|e| io(&e))?;
        // What git ignores (states, values of variables that are nobody's business) belongs to it; what is merely not committed
        // does not.
        for path in now.paths().iter().filter(|path| is_read_unasked(path)) {
            let link = copy.join(&**path);
            // A link of ours, not one of the user's that is seen through a linked directory.
            let ours = std::fs::read_link(&link).is_ok_and(|target| target == stack.root.join(&**path));
            if ours && !content.contains_key(&**path) && tree.link(path).is_none() {
                std::fs::remove_file(&link).map_err(|e| io(&e))?;
            }
        }
        let free = |stem: &str| {
            let names = (1u32..).map(|n| if n == 1 { format!("{stem}.tf") } else { format!("{stem}_{n}.tf") });
            let exists = |name: &String| {
                std::fs::symlink_metadata(stack.directory.join(name)).is_ok()
                    || std::fs::symlink_metadata(stack.root.join(&own).join(name)).is_ok()
            };
            let mut names = names.skip_while(exists);
            stack.directory.join(names.next().unwrap_or_else(|| format!("{stem}.tf")))
        };
        let (imports, generated) = (free("windlass_import"), free("generated"));
        let blocks: Vec<String> = resources.iter().map(|r| import_block(&entry(r))).collect();
        std::fs::write(&imports, blocks.join("\n")).map_err(|error| disk(&imports, &error))?;
        stack.modules = work.directories.iter().map(|directory| copy.join(&**directory)).collect();
        stack.data = scratch.join("data");
        stack.root = copy;
        let lock_file = if own.is_empty() { LOCK_FILE.to_owned() } else { format!("{own}/{LOCK_FILE}") };
        Ok(Self {
            stack,
            locked: content.remove(&lock_file),
            directory: own,
            plan_file: scratch.join("plan"),
            imports,
            generated,
            resources,
            effect: None,
            ids: BTreeMap::new(),
            left_out: Vec::new(),
            diagnostics: Vec::new(),
        })
    }

    /// Plans until terraform has nothing to say against the configuration, or nothing more can be left out of it.
    async fn plan(&mut self, service: &Service, instance: &InstanceId, cancel: &CancellationToken) -> AppResult<()> {
        let mut sink = Silent;
        let mut planned = self.plan_first(cancel).await?;
        if let PlanResult::Failed { stage: Stage::Init, diagnostics } = &planned
            && self.lock_file().exists()
            && diagnostics.iter().any(|d| d.code == "WL506")
        {
            // Perhaps the lock file knows too little for the configuration as it is: the branch may renew it.
            let data = self.stack.data.with_extension("locking");
            let renewed = self.stack.renew_lock_file(data, cancel, &mut sink).await.map_err(|e| driver_error(&e))?;
            if renewed.success {
                planned = self.plan_first(cancel).await?;
            }
        }
        let written = self.generated.exists();
        if let PlanResult::Failed { diagnostics, .. } = &planned
            && !written
        {
            let what = Diagnostic::error("WL689", format!("what {instance} should adopt cannot be imported"))
                .help("mend what terraform says; no branch was made");
            let said = std::iter::once(what).chain(errors(diagnostics.clone())).collect();
            return Err(AppError::many(ErrorKind::Refused, said));
        }
        if written {
            let text = self.read_generated()?;
            let first = self.write_generated(generated::tidy(&text), cancel).await?;
            let mut refused = None;
            for _ in 0..ROUNDS {
                planned =
                    self.stack.plan(&self.plan_file, false, cancel, &mut sink).await.map_err(|e| driver_error(&e))?;
                let PlanResult::Failed { diagnostics, .. } = &planned else { break };
                refused.get_or_insert_with(|| diagnostics.clone());
                let Some((shorter, names)) = generated::without(&self.read_generated()?, &self.lines(diagnostics))
                else {
                    break;
                };
                self.left_out.extend(names);
                self.write_generated(shorter, cancel).await?;
            }
            if let PlanResult::Failed { diagnostics, .. } = &mut planned {
                // Leaving out did not help: as terraform wrote it, it tells more.
                self.left_out.clear();
                std::fs::write(&self.generated, first).map_err(|error| disk(&self.generated, &error))?;
                *diagnostics = refused.unwrap_or_default();
            }
        }
        match planned {
            PlanResult::Cancelled => Err(interrupted()),
            PlanResult::Failed { diagnostics, .. } => {
                self.diagnostics = errors(diagnostics).collect();
                Ok(())
            }
            PlanResult::Done(plan) => self.judge(service, instance, *plan),
        }
    }

    /// The plan that generates what has no configuration yet.
    async fn plan_first(&self, cancel: &CancellationToken) -> AppResult<PlanResult> {
        let generates = self.resources.iter().any(|r| !r.configured);
        let planned = if generates {
            self.stack.plan_generating(&self.plan_file, &self.generated, cancel, &mut Silent).await
        } else {
            self.stack.plan(&self.plan_file, false, cancel, &mut Silent).await
        };
        planned.map_err(|e| driver_error(&e))
    }

    fn lock_file(&self) -> PathBuf {
        self.stack.directory.join(LOCK_FILE)
    }

    fn judge(&mut self, service: &Service, instance: &InstanceId, plan: Plan) -> AppResult<()> {
        for change in plan.json["resource_changes"].as_array().into_iter().flatten() {
            let text = |pointer: &str| change.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
            if let (Some(address), Some(id), true) =
                (text("/address"), text("/change/before/id"), change.pointer("/change/importing").is_some())
            {
                self.ids.insert(address, id);
            }
        }
        let effect = Effect::from_plan_json(instance.clone(), &plan.json, &service.key).map_err(|error| {
            let summary = format!("the plan of {instance} cannot be read: {error}");
            AppError::new(ErrorKind::Internal, Diagnostic::error("WL515", summary))
        })?;
        let imported: BTreeSet<&str> =
            effect.changes.iter().filter(|c| c.import_id.is_some()).map(|c| c.address.as_str()).collect();
        let missing = self.resources.iter().filter(|r| !imported.contains(r.address.as_str()));
        self.diagnostics =
            missing.map(|r| Diagnostic::error("WL689", format!("the plan does not import {}", r.address))).collect();
        self.effect = Some(effect);
        Ok(())
    }

    fn is_clean(&self) -> bool {
        let only_imports =
            |e: &Effect| e.outputs.is_empty() && e.changes.iter().all(|change| change.action == Action::Import);
        self.diagnostics.is_empty() && self.effect.as_ref().is_some_and(only_imports)
    }

    fn read_generated(&self) -> AppResult<String> {
        std::fs::read_to_string(&self.generated).map_err(|error| disk(&self.generated, &error))
    }

    /// Writes and formats it, and gives what was written. What terraform cannot format stays as it is: planning it says why.
    async fn write_generated(&self, text: String, cancel: &CancellationToken) -> AppResult<String> {
        std::fs::write(&self.generated, text).map_err(|error| disk(&self.generated, &error))?;
        let files = [self.generated.clone(), self.imports.clone()];
        let _ = self.stack.format(&files, cancel, &mut Silent).await.map_err(|e| driver_error(&e))?;
        self.read_generated()
    }

    /// Lines of the generated file that errors point at.
    fn lines(&self, diagnostics: &[Diagnostic]) -> Vec<u32> {
        let file = self.path(&self.generated);
        let labels = diagnostics.iter().filter(|d| d.severity == Severity::Error).filter_map(|d| d.labels.first());
        labels.filter(|label| *label.span.file == *file).map(|label| label.span.line).collect()
    }

    /// Relative to the root of the repository.
    fn path(&self, file: &Path) -> String {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if self.directory.is_empty() { name.into_owned() } else { format!("{}/{name}", self.directory) }
    }

    /// What the branch adds or replaces: also the lock file, when it is another than the commit's and git is to know it at all.
    fn files(&self, lock_ignored: bool) -> AppResult<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        let found = self.stack.lock_file().filter(|found| Some(found) != self.locked.as_ref());
        if let Some(content) = found.filter(|_| self.locked.is_some() || !lock_ignored) {
            files.insert(self.path(&self.lock_file()), content);
        }
        for file in [&self.imports, &self.generated].into_iter().filter(|file| file.exists()) {
            files.insert(self.path(file), std::fs::read(file).map_err(|error| disk(file, &error))?);
        }
        Ok(files)
    }

    fn message(&self, instance: &InstanceId) -> String {
        let number = self.resources.len();
        let noun = if number == 1 { "resource" } else { "resources" };
        let mut text = format!("Adopt {number} {noun} into {instance}\n\n");
        if !self.is_clean() {
            text = format!("Adopt {number} {noun} into {instance} (not clean)\n\n");
            match &self.effect {
                Some(effect) => text.push_str(&format!("Not clean, applying it does more: {}.\n\n", effect.summary())),
                None => text.push_str("Not clean, it cannot be planned yet.\n\n"),
            }
        }
        for resource in &self.resources {
            text.push_str(&format!("- {} (id {})\n", resource.address, resource.id));
        }
        text
    }
}

/// Whether terraform reads a file of this name without being told to.
fn is_read_unasked(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    is_configuration(name) || name.ends_with(".tfvars") || name.ends_with(".tfvars.json")
}

fn entry(resource: &Adopted) -> Entry {
    Entry {
        address: resource.address.clone(),
        action: "create".into(),
        progress: Progress::Done,
        id_key: None,
        id_value: Some(resource.id.clone()),
    }
}

fn errors(diagnostics: Vec<Diagnostic>) -> impl Iterator<Item = Diagnostic> {
    diagnostics.into_iter().filter(|d| d.severity == Severity::Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_branches() {
        let check = |path: &str, want: &str| assert_eq!(branch_name(path), want);
        check("aws/network", "aws/network");
        check("aws/my net~1", "aws/my-net-1");
        check(".hidden/a..b/x.lock", "-hidden/a-b/x-lock");
    }
}
