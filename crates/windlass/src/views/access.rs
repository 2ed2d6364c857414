//! Who may do what.

use super::{count, short};
use crate::terminal::{Terminal, clean, table};
use serde::Serialize;
use windlass_app::access::Explained;
use windlass_model::access::{Permission, Role, Scope};

/// A permission, for programs.
#[derive(Debug, Serialize)]
pub struct Row {
    permission: Permission,
    of: Scope,
    /// The least role that has it; `None` for what only the admins of a server have.
    role: Option<Role>,
    about: &'static str,
}

pub fn permissions() -> Vec<Row> {
    let row = |permission: &Permission| Row {
        permission: *permission,
        of: permission.scope(),
        role: permission.least(),
        about: permission.about(),
    };
    Permission::ALL.iter().map(row).collect()
}

pub fn matrix(terminal: Terminal) -> String {
    let row = |permission: &Permission| {
        let mark = |role: Role| if role.has(*permission) { "yes" } else { "" }.to_owned();
        let mut cells = vec![permission.as_str().to_owned(), permission.scope().as_str().to_owned()];
        cells.extend(Role::ALL.map(mark));
        cells.push(permission.about().trim_end_matches('.').to_owned());
        cells
    };
    let mut head = vec!["permission", "of"];
    head.extend(Role::ALL.map(Role::as_str));
    head.push("what it lets do");
    let mut out = table(terminal, &head, Permission::ALL.iter().map(row).collect());
    out.push_str("\nWhat is of the server only its admins have, who are named in its settings.\n");
    out
}

pub fn explained(terminal: Terminal, explained: &Explained) -> String {
    let Explained { actor, teams, permission, subject, commit, answer } = explained;
    let verdict = if answer.allowed { terminal.green("Allowed") } else { terminal.red_bold("Refused") };
    let place = match subject.places.as_slice() {
        [] if permission.scope() == Scope::Stacks => " for all stacks".to_owned(),
        [] => String::new(),
        [only] => format!(" for {}", clean(only.instance.as_str())),
        several => format!(" for {} of {}", count(several.len(), "instance"), clean(&subject.name)),
    };
    let mut out = format!("{verdict}: {} {}{place}\n", clean(&actor.name), terminal.bold(permission.as_str()));
    for because in &answer.because {
        out.push_str(&format!("  {}\n", clean(because)));
    }
    if answer.hides() {
        out.push_str("  they do not see the project either: a server answers that there is nothing\n");
    }
    let identities = actor.identities.iter().map(|identity| clean(identity)).collect::<Vec<_>>().join(", ");
    let teams = if teams.is_empty() { "no team".to_owned() } else { clean(&teams.join(", ")) };
    let decider = match commit {
        Some(commit) => format!("commit {} of the default branch", short(commit)),
        None => "the work tree".to_owned(),
    };
    let note = format!("asked as if {identities} (of {teams}) had signed in, by {decider}");
    out.push_str(&format!("{}\n", terminal.dim(&note)));
    out
}
