//! Which instances differ between two states of the repository.

use crate::error::{AppError, AppResult, ErrorKind};
use crate::project::{Checkout, Detail, Project, git_error};
use windlass_drivers::git::{GitRepository, Target, with_untracked};
use windlass_model::affected::{PathChange, affected, base_needed, is_configuration};
use windlass_model::diagnostic::Diagnostic;
use windlass_model::review::{Affected, Revision};

/// The answer, with what it was made from.
#[derive(Debug)]
pub struct AffectedAnswer {
    pub base: Revision,
    /// `None` for the work tree.
    pub head: Option<Revision>,
    pub changes: Vec<PathChange>,
    pub affected: Vec<Affected>,
    /// The project at the head.
    pub project: Project,
}

/// Compares the merge base of `base` (default: the default branch) and the head with the head: a commit, or the work tree
/// when `head` is `None`.
pub fn affected_find(
    checkout: &Checkout,
    base: Option<&str>,
    head: Option<&str>,
    detail: Detail,
) -> AppResult<AffectedAnswer> {
    let git = checkout.git()?;
    let head = match head {
        Some(name) => {
            let commit = git.resolve(name).map_err(|e| git_error(&e))?;
            Some(Revision { name: name.to_owned(), commit })
        }
        None => None,
    };
    let base = base_revision(git, base, head.as_ref().map_or("HEAD", |head| &head.commit))?;
    let target = head.as_ref().map_or(Target::WorkTree, |head| Target::Commit(head.commit.clone()));
    // git compares while the stacks are discovered.
    let (changes, read) = std::thread::scope(|scope| {
        let changes = scope.spawn(|| git.changes(&base.commit, &target));
        let read = match &head {
            Some(head) => git.tree(&head.commit).map(|tree| (Project::load_with(&tree, detail), None)),
            None => git.work_tree().map(|tree| (Project::load_with(&tree, detail), Some(tree))),
        };
        (changes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), read)
    });
    let (changes, (project, tree)) = (changes.map_err(|e| git_error(&e))?, read.map_err(|e| git_error(&e))?);
    let changes = match &tree {
        Some(tree) => with_untracked(changes, tree),
        None => changes,
    };
    let before = if base_needed(&changes) || reshaped(git, &base.commit, &tip_of(&head), checkout, &changes) {
        Some(Project::load_with(&git.tree(&base.commit).map_err(|e| git_error(&e))?, Detail::Edges))
    } else {
        None
    };
    let affected = affected(&project.repository, before.as_ref().map(|p| &p.repository), &changes);
    Ok(AffectedAnswer { base, head, changes, affected, project })
}

fn tip_of(head: &Option<Revision>) -> Option<String> {
    head.as_ref().map(|head| head.commit.clone())
}

/// Beyond this many edited files the base is simply read.
const FEW: usize = 16;

/// Whether an edited configuration file says something else about what is a stack: its `terraform`, `module` and `provider`
/// blocks differ. A call that came or went makes another directory a stack, or none.
fn reshaped(
    git: &GitRepository,
    base: &str,
    head: &Option<String>,
    checkout: &Checkout,
    changes: &[PathChange],
) -> bool {
    let edited: Vec<&PathChange> = changes
        .iter()
        .filter(|c| is_configuration(c.path.rsplit('/').next().unwrap_or_default()) && !c.path.contains(".tfvars"))
        .collect();
    if edited.len() > FEW {
        return true;
    }
    edited.into_iter().any(|change| {
        let before = git.file_at(base, &change.path);
        let after = match head {
            Some(commit) => git.file_at(commit, &change.path),
            None => std::fs::read(checkout.root.join(&change.path)).ok(),
        };
        shape(before.as_deref()) != shape(after.as_deref())
    })
}

/// The blocks that decide; the whole text where it cannot be cut.
fn shape(content: Option<&[u8]>) -> Vec<String> {
    let text = String::from_utf8_lossy(content.unwrap_or_default()).into_owned();
    match windlass_lang::terraform::scan::items(&text) {
        Some(items) => items
            .into_iter()
            .map(|(start, end)| text[start..end].to_owned())
            .filter(|item| ["terraform", "module", "provider"].iter().any(|kind| item.starts_with(kind)))
            .collect(),
        None => vec![text],
    }
}

/// The commit a change is compared with: the merge base of the revision `tip` and `base`, which is the default branch when not given.
pub fn base_revision(git: &GitRepository, base: Option<&str>, tip: &str) -> AppResult<Revision> {
    let name = match base {
        Some(name) => name.to_owned(),
        None => match git.default_branch() {
            Some(name) => name,
            None => {
                // A repository without a commit has no branch either, and that is what has to be told.
                git.resolve(tip).map_err(|e| git_error(&e))?;
                let diagnostic = Diagnostic::error("WL301", "there is no default branch to compare with")
                    .detail("looked for the branch that origin/HEAD names, and for main and master")
                    .help("name what to compare with, e.g. `--base HEAD~1`");
                return Err(AppError::new(ErrorKind::Usage, diagnostic));
            }
        },
    };
    // One question answers when all is well; what is wrong is then asked for in turn.
    let commit = match git.merge_base(&name, tip) {
        Ok(commit) if name != tip => Ok(commit),
        _ => git.resolve(tip).and_then(|tip| git.merge_base(&git.resolve(&name)?, &tip)),
    };
    Ok(Revision { name, commit: commit.map_err(|e| git_error(&e))? })
}
