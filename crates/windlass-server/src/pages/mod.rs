//! Pages: each is a context (a plain value that says what is shown, with a sample for tests) and a template.

pub mod access;
pub mod assets;
pub mod changes;
pub mod code;
pub mod common;
pub mod drift;
pub mod error;
pub mod events;
pub mod gantt;
pub mod graph;
pub mod home;
pub mod link;
pub mod log;
pub mod markdown;
pub mod operations;
pub mod parts;
pub mod review;
pub mod reviews;
pub mod run;
pub mod runs;
pub mod settings;
pub mod sign_in;
pub mod stack;
pub mod stacks;
pub mod terminal;
#[cfg(test)]
mod testing;

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
    /// The one of them that the page is limited to (`?project=NAME`); empty for all.
    pub project: String,
    /// What was just done, one sentence; empty for nothing.
    pub notice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Home,
    Stacks,
    Operations,
    Reviews,
    Runs,
    Events,
    Settings,
    /// Sign-in and errors.
    Outside,
}

impl Section {
    /// Those of the navigation, in order.
    pub const ALL: [Self; 7] =
        [Self::Home, Self::Stacks, Self::Operations, Self::Reviews, Self::Runs, Self::Events, Self::Settings];

    pub fn label(self) -> &'static str {
        match self {
            Self::Home => "Home",
            Self::Stacks => "Stacks",
            Self::Operations => "Operations",
            Self::Reviews => "Reviews",
            Self::Runs => "Runs",
            Self::Events => "Events",
            Self::Settings => "Settings",
            Self::Outside => "Windlass",
        }
    }

    /// Where its first page is.
    pub fn path(self) -> &'static str {
        match self {
            Self::Home | Self::Outside => "/",
            Self::Stacks => "/stacks",
            Self::Operations => "/operations",
            Self::Reviews => "/reviews",
            Self::Runs => "/runs",
            Self::Events => "/events",
            Self::Settings => "/settings",
        }
    }
}

/// One link of the navigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub label: &'static str,
    pub href: String,
    pub current: bool,
}

impl Frame {
    /// The sections as links that keep the chosen repository.
    pub fn navigation(&self) -> Vec<Entry> {
        let entry = |section: Section| Entry {
            label: section.label(),
            href: link::query(section.path(), &[("project", &self.project)]),
            current: section == self.section,
        };
        Section::ALL.into_iter().map(entry).collect()
    }

    /// For tests.
    pub fn sample(section: Section) -> Self {
        let (user, csrf) = ("anna@example.com".into(), "token".into());
        Self {
            user,
            csrf,
            section,
            projects: vec!["shop".into(), "data".into()],
            project: String::new(),
            notice: String::new(),
        }
    }

    /// Nobody is signed in.
    pub fn outside() -> Self {
        let section = Section::Outside;
        let (user, csrf, project, notice) = Default::default();
        Self { user, csrf, section, projects: Vec::new(), project, notice }
    }

    /// For tests: nobody is signed in.
    pub fn sample_outside() -> Self {
        let (user, csrf) = (String::new(), "token".into());
        Self {
            user,
            csrf,
            section: Section::Outside,
            projects: Vec::new(),
            project: String::new(),
            notice: String::new(),
        }
    }
}

/// The text of a page. What templates escaped is made harmless as well: no text turns the direction of writing of what
/// stands beside it.
fn rendered(page: &impl askama::Template) -> String {
    // Fails only where a value's own `Display` does, and ours do not; the tests of each page would see an empty one.
    windlass_render::clean(&page.render().unwrap_or_default())
}
