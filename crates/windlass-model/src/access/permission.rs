//! The permissions, and which role has which: one table.

use serde::{Deserialize, Serialize};

/// What a permission is about, which says who can give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The whole installation: its settings name who has it, no project can give it.
    Server,
    /// A project as a whole.
    Project,
    /// Stack instances: a grant can be narrowed to some of them.
    Stacks,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Project => "project",
            Self::Stacks => "stacks",
        }
    }
}

/// A set of permissions with a name. Each has everything that those before it have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Viewer,
    Developer,
    Operator,
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Developer, Self::Operator, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether somebody of this role in a project has the permission there.
    pub fn has(self, permission: Permission) -> bool {
        permission.least().is_some_and(|least| self >= least)
    }
}

/// `Name "text" Scope Role|None "what it lets do";` makes the enum and everything that is known about each.
macro_rules! permissions {
    ($($name:ident $text:literal $scope:ident $least:tt $about:literal;)*) => {
        /// What somebody may be allowed to do: one for each use case of the service.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Permission {
            $(#[doc = $about] #[serde(rename = $text)] $name,)*
        }

        impl Permission {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in Windlass files, tokens and policies.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            pub fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope,)* }
            }
            /// The least role in a project that has it; `None` for what is of the server.
            pub fn least(self) -> Option<Role> {
                match self { $(Self::$name => permissions!(@$least),)* }
            }
            /// What it lets one do, one sentence.
            pub fn about(self) -> &'static str {
                match self { $(Self::$name => $about,)* }
            }
        }
    };
    (@None) => { None };
    (@$role:ident) => { Some(Role::$role) };
}

permissions! {
    ProjectRead "project.read" Project Viewer "See stacks, graph, drift, reviews, runs, logs and events of the project.";
    ArtefactRead "artefact.read" Stacks Viewer "Download the artefacts that runs left.";
    ReviewCreate "review.create" Stacks Developer "Have a change, a destruction or a rollback planned and reviewed.";
    DriftCheck "drift.check" Stacks Developer "Look for drift now.";
    RunCancel "run.cancel" Stacks Developer "Ask a run to stop.";
    TokenOwn "token.own" Project Developer "Make, list and revoke one's own API tokens for the project.";
    ReviewApprove "review.approve" Stacks Operator "Approve or refuse a review or a changed effect; the approval rules decide whether it counts.";
    ReviewWaive "review.waive" Stacks Operator "Waive a finding; the waiver rules decide whether one may.";
    ReviewApply "review.apply" Stacks Operator "Apply an approved review.";
    RunResume "run.resume" Stacks Operator "Go on with a run that waits or whose process died.";
    RunSettle "run.settle" Stacks Operator "Say what became of a step whose end is unknown.";
    LockTakeAway "lock.take_away" Stacks Operator "Take the lock of a stack away from a run.";
    StackRecover "stack.recover" Stacks Operator "Push a kept state, break a lock at the backend, lift a quarantine.";
    OperationRun "operation.run" Stacks Operator "Run any operation, also without being of a team that it allows.";
    OperationAnswer "operation.answer" Stacks Operator "Answer what a run of an operation asks of people; whom it asks decides whether it counts.";
    ScheduleManage "schedule.manage" Project Operator "Pause and resume schedules, make up for their times, take back starts at a time.";
    StackAdopt "stack.adopt" Stacks Operator "Take what was made by hand into a stack.";
    StateRead "state.read" Stacks Operator "Read kept states of a stack, with their secrets in the clear.";
    AuditRead "audit.read" Project Operator "Search who did what, when, from where and why.";
    AuditExport "audit.export" Project Admin "Take the whole audit record out.";
    OperationBreakGlass "operation.break_glass" Stacks Admin "Run an operation at once: without approvals, in a freeze, outside of its window.";
    ProjectManage "project.manage" Project Admin "Fetch the repository now, and reload its definitions.";
    MetricsRead "metrics.read" Server None "Read the metrics of the installation.";
    WorkerJoin "worker.join" Server None "Take steps as a worker.";
    TokenManage "token.manage" Server None "List and revoke everybody's API tokens.";
    ServerManage "server.manage" Server None "Change repositories and settings, back up, stop.";
}

impl Permission {
    /// The permission of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.as_str() == text)
    }
}

impl std::fmt::Display for Permission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which role has which permission, as a Markdown table.
pub fn matrix() -> String {
    let mut out = "| permission | of | viewer | developer | operator | admin | server's admins | what it lets do |\n\
                   |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for permission in Permission::ALL {
        let roles: String = Role::ALL.iter().map(|role| if role.has(*permission) { " yes |" } else { " |" }).collect();
        let (scope, about) = (permission.scope().as_str(), permission.about());
        out.push_str(&format!("| `{permission}` | {scope} |{roles} yes | {about} |\n"));
    }
    out
}
