//! Pages: each is a context (a plain value that says what is shown, with a sample for tests) and a template.

/// What every page has around its own content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Who is signed in, as people write it; empty on pages that need no sign-in.
    pub user: String,
    /// Goes into each form (`csrf`) and each request of a script (`X-CSRF-Token`).
    pub csrf: String,
    /// Which entry of the navigation is the present one.
    pub section: Section,
    /// Names of the repositories that this person may see.
    pub projects: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Home,
    Stacks,
    Reviews,
    Runs,
    Events,
    Settings,
    /// Sign-in and errors.
    Outside,
}

impl Frame {
    /// For tests.
    pub fn sample(section: Section) -> Self {
        let (user, csrf) = ("anna@example.com".into(), "token".into());
        Self { user, csrf, section, projects: vec!["shop".into(), "data".into()] }
    }
}
