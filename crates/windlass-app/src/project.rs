//! A checkout and what is in it: definitions, stacks, edges, diagnostics.

use crate::error::{AppError, AppResult, ErrorKind};
use std::path::{Path, PathBuf};
use windlass_drivers::git::{GitError, GitRepository};
use windlass_lang::tree::{DirTree, Tree};
use windlass_model::definition::Definitions;
use windlass_model::diagnostic::{Diagnostic, has_errors};
use windlass_model::place::Place;
use windlass_model::stack::{Repository, Stack};

/// A directory somebody works in. With git it is the root of the repository the directory lies in.
#[derive(Debug)]
pub struct Checkout {
    pub root: PathBuf,
    git: Result<GitRepository, GitError>,
    called: Option<String>,
}

impl Checkout {
    pub fn open(directory: &Path) -> AppResult<Self> {
        let directory = directory.canonicalize().map_err(|error| {
            AppError::new(
                ErrorKind::Usage,
                Diagnostic::error("WL902", format!("cannot open directory {}: {error}", directory.display())),
            )
        })?;
        let git = GitRepository::open(&directory);
        let root = git.as_ref().map_or(directory, |git| git.root().to_owned());
        Ok(Self { root, git, called: None })
    }

    /// Commits of a repository without its files: for what is decided and shown.
    pub fn of_commits(git: GitRepository) -> Self {
        Self { root: git.root().to_owned(), git: Ok(git), called: None }
    }

    /// The same where something else than the directory says what the project is called.
    #[must_use]
    pub fn called(self, name: &str) -> Self {
        Self { called: Some(name.to_owned()), ..self }
    }

    /// The repository, or why there is none.
    pub fn git(&self) -> AppResult<&GitRepository> {
        self.git.as_ref().map_err(git_error)
    }

    pub fn git_if_any(&self) -> Option<&GitRepository> {
        self.git.as_ref().ok()
    }

    /// The files as they are now.
    pub fn work_tree(&self) -> AppResult<Box<dyn Tree>> {
        match &self.git {
            Ok(git) => Ok(Box::new(git.work_tree().map_err(|error| git_error(&error))?)),
            Err(_) => {
                let tree = DirTree::open(&self.root).map_err(|error| {
                    AppError::new(
                        ErrorKind::Unavailable,
                        Diagnostic::error("WL902", format!("cannot read {}: {error}", self.root.display())),
                    )
                })?;
                Ok(Box::new(tree))
            }
        }
    }

    /// The project as it is now, whatever is wrong with it.
    pub fn project(&self) -> AppResult<Project> {
        Ok(Project::load(&*self.work_tree()?))
    }

    /// Name of the project: as defined, else as it is called, else the directory's.
    pub fn name(&self, definitions: &Definitions) -> String {
        definitions.project.clone().or_else(|| self.called.clone()).unwrap_or_else(|| {
            self.root.file_name().map_or_else(|| "project".to_owned(), |name| name.to_string_lossy().into_owned())
        })
    }
}

/// What a tree of files says.
#[derive(Debug, Clone, Default)]
pub struct Project {
    pub definitions: Definitions,
    pub repository: Repository,
    pub diagnostics: Vec<Diagnostic>,
}

impl Project {
    pub fn load(tree: &dyn Tree) -> Self {
        Self::load_with(tree, Detail::Outputs)
    }

    /// With as much detail as is asked for.
    pub fn load_with(tree: &dyn Tree, detail: Detail) -> Self {
        let (definitions, mut diagnostics) = windlass_lang::definitions::load(tree);
        let discovery = windlass_lang::discovery::discover_with(tree, &definitions, detail);
        diagnostics.extend(discovery.diagnostics);
        Self { definitions, repository: discovery.repository, diagnostics }
    }

    /// Itself, unless a Windlass or Terraform file is wrong in a way that makes what follows a guess.
    pub fn sound(self) -> AppResult<Self> {
        if has_errors(&self.diagnostics) {
            Err(AppError::many(ErrorKind::Definition, self.diagnostics))
        } else {
            Ok(self)
        }
    }

    /// The stack with this path; a trailing `/` and a leading `./` are forgiven, an instance stands for its stack.
    pub fn stack(&self, name: &str) -> AppResult<&Stack> {
        let name = name.trim_start_matches("./").trim_end_matches('/');
        let id = windlass_model::id::InstanceId::new(if name.is_empty() { "." } else { name }).stack();
        self.repository.stack(&id).ok_or_else(|| {
            let ids: Vec<&str> = self.repository.stacks.iter().map(|s| s.id.as_str()).collect();
            let help = match windlass_lang::suggest(id.as_str(), ids.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? `windlass stacks` lists all of them"),
                None => "`windlass stacks` lists all of them".to_owned(),
            };
            AppError::new(
                ErrorKind::NotFound,
                Diagnostic::error("WL903", format!("there is no stack `{id}`")).help(help),
            )
        })
    }
}

pub use windlass_lang::discovery::{Detail, environments_of};

/// The labels that steps of an instance ask for: its stack's, otherwise those of its environments.
pub fn labels_of(definitions: &Definitions, instance: &windlass_model::id::InstanceId) -> Vec<String> {
    let stack = definitions.stacks.iter().find(|stack| stack.id == instance.stack());
    if let Some(label) = stack.and_then(|stack| stack.runner.clone()) {
        return vec![label];
    }
    let names = environments_of(definitions, instance);
    let of = definitions.environments.iter().filter(|environment| names.contains(&environment.name));
    let mut labels: Vec<String> = of.filter_map(|environment| environment.runner.clone()).collect();
    labels.sort();
    labels.dedup();
    labels
}

/// Where the programs of an instance run: as the runner with one of its labels says.
///
/// # Errors
/// Its environments name several.
pub fn place_of(definitions: &Definitions, instance: &windlass_model::id::InstanceId) -> AppResult<Place> {
    let labels = labels_of(definitions, instance);
    let mut found = definitions.runners.iter().filter(|runner| labels.contains(&runner.name));
    let Some(first) = found.next() else { return Ok(Place::Here) };
    match found.find(|other| other.place != first.place) {
        None => Ok(first.place.clone()),
        Some(other) => {
            let names = format!("\"{}\" and \"{}\"", first.name, other.name);
            let diagnostic =
                Diagnostic::error("WL877", format!("the environments of {instance} name the runners {names}"))
                    .at(first.span.clone())
                    .at(other.span.clone())
                    .help("write `runner` in the `stack` block: it goes before the environments'");
            Err(AppError::new(ErrorKind::Definition, diagnostic))
        }
    }
}

/// The commit that is checked out, and the paths with uncommitted changes. What terraform itself leaves beside the configuration
/// while it works (states, their locks and backups) is no change of anything that is reviewed.
pub fn head_and_dirty(git: &GitRepository) -> AppResult<(String, Vec<String>)> {
    let (head, mut paths) = git.status().map_err(|e| git_error(&e))?;
    paths.retain(|path| !is_left_by_terraform(path));
    Ok((head, paths))
}

pub(crate) fn is_left_by_terraform(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ends = [".tfstate", ".tfstate.backup", ".tfstate.lock.info"];
    ends.iter().any(|end| name.ends_with(end))
        || (name.contains(".tfstate.") && name.ends_with(".backup"))
        || path.split('/').any(|segment| matches!(segment, "terraform.tfstate.d" | ".terraform"))
}

/// A git error as the user sees it.
pub fn git_error(error: &GitError) -> AppError {
    let kind = if error.is_usage() { ErrorKind::Usage } else { ErrorKind::Unavailable };
    AppError::new(kind, error.diagnostic())
}

#[cfg(test)]
mod tests {
    use super::{Checkout, Definitions, labels_of, place_of};
    use windlass_lang::tree::MemoryTree;
    use windlass_model::id::InstanceId;
    use windlass_model::place::Place;

    #[test]
    fn a_project_is_called_as_it_says_then_as_it_is_followed_then_as_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("9cbe24cd-0");
        std::fs::create_dir(&directory).unwrap();
        let named = Definitions { project: Some("company".into()), ..Definitions::default() };
        let open = || Checkout::open(&directory).unwrap();
        assert_eq!(open().name(&Definitions::default()), "9cbe24cd-0");
        assert_eq!(open().called("shop").name(&Definitions::default()), "shop");
        assert_eq!(open().called("shop").name(&named), "company");
    }

    #[test]
    fn a_stack_says_where_its_steps_run_before_its_environments_do() {
        let text = "project \"p\" {\n  environment \"one\" {\n    match  = [\"aws/**\"]\n    runner = \"inside\"\n  }\n  \
                    environment \"two\" {\n    match  = [\"aws/db\"]\n    runner = \"data\"\n  }\n}\n\
                    stack \"aws/gpu\" {\n  runner = \"gpu\"\n}\n";
        let (definitions, diagnostics) = windlass_lang::definitions::load(&MemoryTree::new([("windlass.hcl", text)]));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let check = |instance: &str, want: &[&str]| {
            assert_eq!(labels_of(&definitions, &InstanceId::new(instance)), want, "{instance}");
        };
        check("aws/net", &["inside"]);
        check("aws/db", &["data", "inside"]);
        check("aws/gpu", &["gpu"]);
        check("global/dns", &[]);
        let (_, wrong) = windlass_lang::definitions::load(&MemoryTree::new([(
            "windlass.hcl",
            "stack \"a\" {\n  runner = \"a b\"\n}\n",
        )]));
        assert_eq!(wrong.iter().map(|diagnostic| diagnostic.code.as_str()).collect::<Vec<_>>(), ["WL106"]);
    }

    #[test]
    fn a_label_with_a_runner_says_where_programs_run() {
        let text = "project \"p\" {\n  environment \"one\" {\n    match  = [\"aws/**\"]\n    runner = \"inside\"\n  }\n  \
                    environment \"two\" {\n    match  = [\"aws/db\", \"global/dns\"]\n    runner = \"data\"\n  }\n}\n\
                    stack \"aws/gpu\" {\n  runner = \"gpu\"\n}\n\
                    runner \"inside\" {\n  container {\n    image = \"i\"\n  }\n}\n\
                    runner \"data\" {\n  job {\n    image = \"d\"\n  }\n}\n";
        let (definitions, diagnostics) = windlass_lang::definitions::load(&MemoryTree::new([("windlass.hcl", text)]));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let check = |instance: &str, want: &str| {
            let found = match place_of(&definitions, &InstanceId::new(instance)) {
                Ok(Place::Here) => "here".to_owned(),
                Ok(Place::Container(container)) => format!("container of {}", container.image),
                Ok(Place::Job(job)) => format!("job of {}", job.image),
                Err(error) => format!("{} {:?}", error.diagnostics[0].code, error.diagnostics[0].labels.len()),
            };
            assert_eq!(found, want, "{instance}");
        };
        check("aws/net", "container of i");
        check("global/dns", "job of d");
        check("aws/db", "WL877 2");
        check("aws/gpu", "here");
        check("other", "here");
    }
}
