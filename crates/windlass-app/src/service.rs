//! What every use case stands on: the checkout, the store, the tools, the actor; and the policies that decide, loaded once.

use crate::artefacts::Place;
use crate::bundles::{Bundles, Fetch};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::policy::{Author, Policies};
use crate::project::{Checkout, git_error};
use crate::secrets::Hidden;
use crate::settings::{Settings, StateDirectory};
use crate::unmoved::Unmoved;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use windlass_drivers::terraform::{Places, ToolBox};
use windlass_lang::tree::Tree;
use windlass_model::Micros;
use windlass_model::approval::Actor;
use windlass_model::definition::Definitions;
use windlass_model::diagnostic::{Diagnostic, has_errors};
use windlass_model::effect::PlannedOutput;
use windlass_model::id::{InstanceId, RunId};
use windlass_model::operation::parameter::Choice;
use windlass_model::run::Cost;
use windlass_model::stack_plan::Costs;
use windlass_policy::limits::Worker;
use windlass_store::{Store, StoreError};

/// Definitions and policies of the commit that decides.
pub struct Deciding {
    pub definitions: Definitions,
    pub policies: Policies,
}

/// Outputs an upstream will have, by name. Real values: they stay in memory.
pub type PlannedOutputs = std::collections::BTreeMap<String, PlannedOutput>;

/// Code of a terraform that was killed from outside.
pub const KILLED: &str = "WL513";

/// How many lists of choices are remembered for a project.
const CHOICES: usize = 1_000;

/// One project as one actor sees it; cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub checkout: Arc<Checkout>,
    pub directory: StateDirectory,
    pub settings: Settings,
    pub store: Store,
    pub tools: Arc<ToolBox>,
    pub actor: Actor,
    /// Key of the digests of sensitive values.
    pub key: Vec<u8>,
    /// What no step may leave behind.
    pub hidden: Hidden,
    /// What policies from elsewhere run in.
    worker: Option<Worker>,
    known: Arc<Known>,
    /// The commit whose files git found in the work tree, and how the tree looked then.
    clean: Arc<Mutex<Option<(String, Unmoved)>>>,
}

/// What is known of a project, whichever of its commits is checked out.
#[derive(Default)]
pub struct Known {
    deciding: Mutex<HashMap<Option<String>, Arc<Deciding>>>,
    outputs: Mutex<HashMap<(RunId, InstanceId), Arc<PlannedOutputs>>>,
    /// What terraform marked as sensitive in plans of an instance, as long as this process lives.
    secrets: Mutex<HashMap<InstanceId, BTreeSet<String>>>,
    /// Tools that are elsewhere, by image and place.
    tools: Mutex<HashMap<String, Arc<ToolBox>>>,
    /// What there was to choose from for parameters of operations, and until when (µs) that is good.
    choices: Mutex<HashMap<String, (Micros, Vec<Choice>)>>,
}

/// What the services of an installation have in common.
#[derive(Clone)]
pub struct Common {
    pub settings: Settings,
    pub store: Store,
    pub tools: Arc<ToolBox>,
    pub key: Vec<u8>,
    pub worker: Option<Worker>,
    pub hidden: Hidden,
}

impl Service {
    /// Opens the store of the checkout that `directory` lies in; it has to be a git repository. Without a worker, policies from
    /// elsewhere are not asked, which refuses what they would decide about.
    pub async fn open(directory: &Path, worker: Option<Worker>) -> AppResult<Self> {
        let settings = Settings::of_process()?;
        let checkout = Checkout::open(directory)?;
        checkout.git()?;
        let state = StateDirectory::create(&checkout.root)?;
        let store = Store::open(&state.database()).await?;
        let key = state.key()?;
        crate::artefacts::keep(&store, &Place::Directory(state.artefacts()), &key)?;
        let tools = tools(&state);
        let actor = crate::actor::local(checkout.git_if_any());
        let common = Common { settings, store, tools, key, worker, hidden: Hidden::default() };
        Ok(Self::of(common, checkout, state, actor, Arc::default()))
    }

    /// A service from its parts: a checkout, and the directory where what is kept of its project lies.
    pub fn of(common: Common, checkout: Checkout, directory: StateDirectory, actor: Actor, known: Arc<Known>) -> Self {
        let Common { settings, store, tools, key, worker, hidden } = common;
        let (checkout, clean) = (Arc::new(checkout), Arc::default());
        Self { checkout, directory, settings, store, tools, actor, key, hidden, worker, known, clean }
    }

    /// The same for another actor, whose store tells what belongs together.
    #[must_use]
    pub fn acting(&self, actor: Actor, store: Store) -> Self {
        Self { actor, store, ..self.clone() }
    }

    /// Definitions and policies of `commit`; of nothing when there is none.
    pub async fn deciding(&self, commit: Option<&str>) -> AppResult<Arc<Deciding>> {
        let key = commit.map(str::to_owned);
        if let Some(found) = lock(&self.known.deciding).get(&key) {
            return Ok(found.clone());
        }
        let tree = match commit {
            Some(commit) => self.checkout.git()?.tree(commit).map_err(|e| git_error(&e))?,
            None => return Err(crate::error::internal("a run without a deciding commit")),
        };
        let deciding = Arc::new(self.deciding_of(&tree)?);
        lock(&self.known.deciding).insert(key, deciding.clone());
        Ok(deciding)
    }

    /// Definitions and policies of a tree.
    pub(crate) fn deciding_of(&self, tree: &dyn Tree) -> AppResult<Deciding> {
        let (definitions, diagnostics) = windlass_lang::definitions::load(tree);
        if has_errors(&diagnostics) {
            return Err(AppError::many(ErrorKind::Definition, diagnostics));
        }
        let policies = Policies::load(tree, &definitions, &self.bundles(Fetch::Missing), Author::Organisation)?
            .within(self.settings.policy_limits);
        Ok(Deciding { definitions, policies })
    }

    /// The bundles of this installation, and where they run.
    pub(crate) fn bundles(&self, fetch: Fetch) -> Bundles {
        Bundles::new(&self.directory, fetch).in_worker(self.worker.clone())
    }

    /// Whether the work tree still is, as far as the file system tells, what git found to be `commit` without changes.
    pub(crate) fn is_unmoved(&self, commit: &str, look: Option<&Unmoved>) -> bool {
        let clean = lock(&self.clean);
        clean.as_ref().zip(look).is_some_and(|((known, tree), look)| known == commit && tree == look)
    }

    /// Remembers that git found the work tree to be `commit` without changes, after this look at it.
    pub(crate) fn clean_put(&self, commit: &str, look: Option<Unmoved>) {
        *lock(&self.clean) = look.map(|look| (commit.to_owned(), look));
    }

    pub(crate) fn tools_get(&self, key: &str) -> Option<Arc<ToolBox>> {
        lock(&self.known.tools).get(key).cloned()
    }

    pub(crate) fn tools_put(&self, key: String, tools: ToolBox) -> Arc<ToolBox> {
        lock(&self.known.tools).entry(key).or_insert(Arc::new(tools)).clone()
    }

    /// What is still good of what there was to choose from.
    pub(crate) fn choices_get(&self, key: &str, now: Micros) -> Option<Vec<Choice>> {
        lock(&self.known.choices).get(key).filter(|(until, _)| *until > now).map(|(_, found)| found.clone())
    }

    pub(crate) fn choices_put(&self, key: String, until: Micros, now: Micros, found: Vec<Choice>) {
        let mut choices = lock(&self.known.choices);
        // What is not good any more makes room.
        choices.retain(|_, (until, _)| *until > now);
        if until > now && choices.len() < CHOICES {
            choices.insert(key, (until, found));
        }
    }

    pub fn outputs_put(&self, run: &RunId, instance: &InstanceId, outputs: PlannedOutputs) {
        lock(&self.known.outputs).insert((run.clone(), instance.clone()), Arc::new(outputs));
    }

    pub fn outputs_get(&self, run: &RunId, instance: &InstanceId) -> Option<Arc<PlannedOutputs>> {
        lock(&self.known.outputs).get(&(run.clone(), instance.clone())).cloned()
    }

    /// Remembers secrets of an instance for its later steps. They stay in memory.
    pub fn secrets_put(&self, instance: &InstanceId, secrets: impl IntoIterator<Item = String>) {
        lock(&self.known.secrets).entry(instance.clone()).or_default().extend(secrets);
    }

    /// `None` before the first plan.
    pub fn secrets_get(&self, instance: &InstanceId) -> Option<BTreeSet<String>> {
        lock(&self.known.secrets).get(instance).cloned()
    }

    /// Remembers what an instance took, a quarter more than was seen, for the budget of later runs.
    pub async fn cost_learned(&self, instance: &InstanceId, cost: Cost) -> AppResult<()> {
        let text = serde_json::to_string(&cost).map_err(crate::error::internal)?;
        Ok(self.store.kv_set("cost", instance.as_str(), &text).await?)
    }

    /// A terraform that was killed from outside was most likely killed for its memory: the next run of the instance has the
    /// machine for itself, until it is measured again.
    pub async fn run_alone_next(&self, instance: &InstanceId, diagnostics: &mut [Diagnostic]) -> AppResult<()> {
        for diagnostic in diagnostics.iter_mut().filter(|d| d.code == KILLED) {
            diagnostic.help = Some(format!(
                "look whether the machine ran out of memory; the next run of {instance} has this machine for itself"
            ));
            let whole = Cost { memory_mib: u32::MAX, ..windlass_model::stack_plan::UNMEASURED };
            self.cost_learned(instance, whole).await?;
        }
        Ok(())
    }

    /// What each instance cost the last time.
    pub async fn costs(&self) -> AppResult<Costs> {
        let rows = self.store.kv_list("cost").await?;
        Ok(rows
            .into_iter()
            .filter_map(|(instance, text)| Some((InstanceId::new(instance), serde_json::from_str::<Cost>(&text).ok()?)))
            .collect())
    }
}

/// The tools of this machine.
pub fn tools(directory: &StateDirectory) -> Arc<ToolBox> {
    Arc::new(ToolBox::discover(&Places::of_process(), &directory.cache().join("tools.json")))
}

/// A panic in another thread does not make the map wrong: every entry is complete when it is put in.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        let kind = if error.is_conflict() {
            ErrorKind::Conflict
        } else if error.is_not_found() {
            ErrorKind::NotFound
        } else {
            ErrorKind::Unavailable
        };
        AppError::new(kind, Diagnostic::error(error.code(), error.to_string()))
    }
}
