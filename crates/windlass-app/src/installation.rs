//! What a server stands on: one store, the repositories it follows, and a service of any of their commits for any caller.

use crate::artefacts::{self, Place};
use crate::audit::keys::Keys;
use crate::bundles::{Bundles, Fetch};
use crate::caller::Caller;
use crate::configuration::Configuration;
use crate::error::{AppError, AppResult, ErrorKind, internal};
use crate::project::Checkout;
use crate::repositories::{Followed, Good, Loader, Repository};
use crate::secrets::Hidden;
use crate::service::{Common, Known, Service};
use crate::settings::{Settings, StateDirectory};
use crate::traces::Traces;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use windlass_drivers::git::mirror::{Limits, WorkTree};
use windlass_model::approval::Actor;
use windlass_model::diagnostic::Diagnostic;
use windlass_model::id::RunId;
use windlass_model::review::Revision;
use windlass_policy::limits::Worker;
use windlass_store::Store;

/// Who the server itself is, where nobody asked.
pub const ITSELF: &str = "windlass";

pub struct Installation {
    pub common: Common,
    pub followed: Arc<Followed>,
    /// Identities that may do everything everywhere.
    admins: RwLock<Arc<[String]>>,
    configured: Mutex<Configured>,
    /// Where traces go, when they are to go somewhere.
    pub traces: Option<Arc<dyn Traces>>,
    data: PathBuf,
    known: Mutex<BTreeMap<String, Arc<Known>>>,
    trees: Mutex<HashMap<Use, Arc<Mutex<Weak<WorkTree>>>>>,
}

/// What came of reading the configuration.
#[derive(Debug, Clone, Default)]
pub struct Configured {
    /// Why what was read before stays in force.
    pub wrong: Vec<Diagnostic>,
    /// Keys whose new values need a restart.
    pub restart: Vec<&'static str>,
}

impl Configured {
    /// One sentence for everybody, when there is something to say: what the file says is for those who keep the server.
    pub fn warning(&self) -> Option<String> {
        if !self.wrong.is_empty() {
            return Some("the configuration is wrong: what was read before stays in force; the log says more".into());
        }
        let keys = self.restart.join("`, `");
        (!keys.is_empty()).then(|| format!("a restart is needed for what the configuration says of `{keys}`"))
    }
}

/// A service of a commit whose files are there as long as this is.
#[derive(Clone)]
pub struct Workspace {
    pub service: Arc<Service>,
    _tree: Arc<WorkTree>,
}

/// What a server has in common for all that it does: the store, in PostgreSQL or in a file in `data`; its key; and where artefacts are.
///
/// # Errors
/// The database cannot be used or was written with another key, the directory cannot be written, or the environment is wrong.
pub async fn common(configuration: &Configuration, data: &Path, worker: Worker) -> AppResult<Common> {
    let directory = StateDirectory::create_as(data.to_owned())?;
    let store = match &configuration.database {
        Some(url) => Store::connect(url).await?,
        None => Store::open(&directory.database()).await?,
    };
    let key = match &configuration.key_file {
        Some(file) => artefacts::key_of(file)?,
        None => directory.key()?,
    };
    artefacts::same_key(&store, &key, configuration.accept_key.as_deref()).await?;
    let usual = || Place::Directory(directory.artefacts());
    let place = configuration.artefacts.as_deref().map_or_else(usual, Place::parse);
    artefacts::keep(&store, &place, &key)?;
    if let Some(file) = &configuration.audit_key_file {
        Keys::of(data).adopt(file)?;
    }
    let url = configuration.url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
    let (settings, tools) = (Settings { url, ..Settings::of_process()? }, crate::service::tools(&directory));
    let hidden = Hidden::default();
    hidden.add(configuration.database.iter().flat_map(|url| windlass_model::secrets::in_text(url)));
    Ok(Common { settings, store, tools, key, worker: Some(worker), hidden })
}

/// Keeps a second server from the SQLite file in `data`, for as long as the answer lives; commands of the terminal may still read it.
///
/// # Errors
/// A server has it, or the directory cannot be written.
pub fn alone(data: &Path) -> AppResult<File> {
    let path = StateDirectory::create_as(data.to_owned())?.database().with_file_name("server.lock");
    let disk = |error: std::io::Error| crate::settings::disk(&path, &error);
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(disk)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(disk)?;
            Ok(file)
        }
        Err(TryLockError::Error(error)) => Err(disk(error)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // It is only for the message.
            let _ = file.read_to_string(&mut holder);
            let summary = format!("the database in {} is in use by another server (process {holder})", data.display());
            let diagnostic = Diagnostic::error("WL627", summary)
                .help("stop that one, give this one another `--data`, or use PostgreSQL, which several servers share");
            Err(AppError::new(ErrorKind::Unavailable, diagnostic))
        }
    }
}

impl Installation {
    /// Takes up what is in the directory `data`. Blocks; nothing is fetched.
    ///
    /// # Errors
    /// The settings of repositories are wrong, or the directory cannot be used.
    pub fn open(data: &Path, common: Common, repositories: &[Repository], admins: Vec<String>) -> AppResult<Self> {
        let of_all = StateDirectory::create_as(data.join("shared"))?;
        let bundles = Bundles::new(&of_all, Fetch::Missing).in_worker(common.worker.clone());
        let loader = Loader { bundles, limits: common.settings.policy_limits };
        let followed = Followed::open(&data.join("repositories"), repositories, loader, Limits::default())?;
        Ok(Self {
            common,
            followed: Arc::new(followed),
            admins: RwLock::new(admins.into()),
            configured: Mutex::default(),
            traces: None,
            data: data.to_owned(),
            known: Mutex::default(),
            trees: Mutex::default(),
        })
    }

    /// Identities that may do everything everywhere.
    pub fn admins(&self) -> Arc<[String]> {
        self.admins.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows these repositories from now on, and lets these identities do everything. Blocks; nothing is fetched.
    ///
    /// # Errors
    /// The settings of repositories are wrong, or the directory cannot be used; then everything is as it was.
    pub fn change(&self, repositories: &[Repository], admins: Vec<String>) -> AppResult<()> {
        self.followed.change(repositories)?;
        *self.admins.write().unwrap_or_else(PoisonError::into_inner) = admins.into();
        Ok(())
    }

    /// What came of reading the configuration the last time.
    pub fn configured(&self) -> Configured {
        lock(&self.configured).clone()
    }

    /// Keeps what came of reading the configuration again.
    pub fn set_configured(&self, configured: Configured) {
        *lock(&self.configured) = configured;
    }

    /// The same, whose traces go somewhere.
    #[must_use]
    pub fn traced(self, traces: Option<Arc<dyn Traces>>) -> Self {
        Self { traces, ..self }
    }

    /// A run that was made just now, linked to the trace of what made it.
    pub(crate) fn made(&self, run: RunId) -> RunId {
        crate::traces::made(self.traces.as_deref(), &run);
        run
    }

    /// The store as a project sees it, for what a caller does.
    pub fn store(&self, caller: &Caller, project: &str) -> Store {
        let store = self.common.store.of_project(project).correlated(&caller.correlation);
        match &caller.creates {
            Some(run) => store.creating(run),
            None => store,
        }
    }

    /// Definitions in force and stacks of a project.
    ///
    /// # Errors
    /// There is none of that name, or nothing good was fetched yet.
    pub fn good(&self, project: &str) -> AppResult<Arc<Good>> {
        let status = self.followed.status(project).ok_or_else(|| crate::caller::not_found("project", project))?;
        status.good.clone().ok_or_else(|| {
            let diagnostics = match (&status.bad, &status.failure) {
                (Some(bad), _) => bad.diagnostics.clone(),
                (None, Some(failure)) => vec![failure.diagnostic.clone()],
                (None, None) => vec![
                    Diagnostic::error("WL842", format!("the repository `{project}` was not fetched yet"))
                        .help("wait some seconds and ask again"),
                ],
            };
            AppError::many(ErrorKind::Unavailable, diagnostics)
        })
    }

    /// A service that knows commits and the record, but has no files: for what is shown and decided.
    ///
    /// # Errors
    /// There is no such project, or its directory cannot be used.
    pub fn service(&self, caller: &Caller, project: &str) -> AppResult<Service> {
        let mirror = self.followed.mirror(project).ok_or_else(|| crate::caller::not_found("project", project))?;
        let service = self.of(project, Checkout::of_commits(mirror.commits()))?;
        Ok(service.acting(caller.actor.clone(), self.store(caller, project)))
    }

    /// A service with the files of a commit, on a branch of that name, to look at.
    ///
    /// # Errors
    /// The commit is not there, or there is no room for its files.
    pub async fn workspace(self: &Arc<Self>, project: &str, head: &Revision) -> AppResult<Workspace> {
        self.workspace_for(Use { project: project.to_owned(), head: head.clone(), run: None }).await
    }

    /// As [`Installation::workspace`], with files that are a run's own: what its steps write there no other run finds. Where there is no
    /// room for so many, runs of one commit share one.
    ///
    /// # Errors
    /// As of [`Installation::workspace`].
    pub async fn workspace_of_run(
        self: &Arc<Self>,
        project: &str,
        head: &Revision,
        run: &RunId,
    ) -> AppResult<Workspace> {
        let own = Use { project: project.to_owned(), head: head.clone(), run: Some(run.clone()) };
        match self.workspace_for(own).await {
            Err(error) if is_full(&error) => self.workspace(project, head).await,
            found => found,
        }
    }

    async fn workspace_for(self: &Arc<Self>, of: Use) -> AppResult<Workspace> {
        let installation = self.clone();
        tokio::task::spawn_blocking(move || installation.checkout(of)).await.map_err(internal)?
    }

    fn checkout(&self, of: Use) -> AppResult<Workspace> {
        let Use { project, head, .. } = of.clone();
        let project = project.as_str();
        let mirror = self.followed.mirror(project).ok_or_else(|| crate::caller::not_found("project", project))?;
        let place = {
            let mut trees = lock(&self.trees);
            // One that somebody has in hand is being made.
            trees.retain(|_, place| Arc::strong_count(place) > 1 || lock(place).strong_count() > 0);
            trees.entry(of).or_default().clone()
        };
        // Whoever wants the same meanwhile waits for it.
        let mut place = lock(&place);
        let tree = match place.upgrade() {
            Some(tree) => tree,
            None => {
                let branch = Some(head.name.as_str()).filter(|name| *name != "HEAD");
                let made = mirror.checkout(&head.commit, branch, &Limits::default());
                let tree = Arc::new(made.map_err(|e| AppError::new(ErrorKind::Unavailable, e.diagnostic()))?);
                *place = Arc::downgrade(&tree);
                tree
            }
        };
        // Of the repository, which git was given to fetch it with.
        self.common.hidden.add(mirror.secret());
        let service = self.of(project, Checkout::open(tree.path())?)?;
        Ok(Workspace { service: Arc::new(service), _tree: tree })
    }

    fn of(&self, project: &str, checkout: Checkout) -> AppResult<Service> {
        let directory = StateDirectory::create_as(self.data.join("projects").join(project))?;
        let known = lock(&self.known).entry(project.to_owned()).or_default().clone();
        let common = Common { store: self.common.store.of_project(project), ..self.common.clone() };
        let actor = Actor { name: ITSELF.into(), identities: Vec::new(), verified: true };
        // The directory of a work tree says nothing to anybody.
        Ok(Service::of(common, checkout.called(project), directory, actor, known))
    }
}

impl Workspace {
    /// The same as somebody else sees it.
    pub fn acting(&self, installation: &Installation, caller: &Caller) -> Service {
        let store = installation.store(caller, self.service.store.project());
        self.service.acting(caller.actor.clone(), store)
    }
}

/// What the files of a commit are for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Use {
    project: String,
    head: Revision,
    /// `None` for all that only look.
    run: Option<RunId>,
}

/// Whether there cannot be another work tree now.
pub(crate) fn is_full(error: &AppError) -> bool {
    error.diagnostics.iter().any(|diagnostic| diagnostic.code == "WL834")
}

/// A panic in another thread does not make the maps wrong: every entry is complete when it is put in.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
