//! Everything that can be said about the files alone: Windlass files, Terraform configuration, the graph.

use crate::error::AppResult;
use crate::project::{Checkout, Project};
use windlass_model::diagnostic::Diagnostic;

pub struct CheckAnswer {
    pub stacks: usize,
    /// Those without a mistake, batches included.
    pub operations: usize,
    /// Sorted by file and line, each once.
    pub diagnostics: Vec<Diagnostic>,
}

pub fn check(checkout: &Checkout) -> AppResult<CheckAnswer> {
    let tree = checkout.work_tree()?;
    let project = Project::load(&*tree);
    let directory = crate::settings::StateDirectory::at(&checkout.root);
    let bundles = crate::bundles::Bundles::new(&directory, crate::bundles::Fetch::Missing);
    let mut diagnostics = project.diagnostics;
    diagnostics.extend(windlass_lang::discovery::check(&*tree, &project.definitions));
    let modules = windlass_lang::discovery::Modules::all(&*tree);
    diagnostics.extend(crate::steps::checks::own(&modules, &project.definitions.lint, |_| true));
    diagnostics.extend(crate::policy::check(&*tree, &project.definitions, &bundles));
    let place = |d: &Diagnostic| d.labels.first().map(|l| l.span.clone());
    diagnostics.sort_by(|a, b| {
        place(a).cmp(&place(b)).then_with(|| a.code.cmp(&b.code)).then_with(|| a.summary.cmp(&b.summary))
    });
    diagnostics.dedup();
    let (stacks, operations) = (project.repository.stacks.len(), project.definitions.operations.len());
    Ok(CheckAnswer { stacks, operations, diagnostics })
}
