//! Why somebody may, or may not.

use crate::access::{Explained, place};
use crate::caller::{Caller, not_found};
use crate::error::AppResult;
use crate::installation::Installation;
use windlass_model::access::{Permission, Place, Rules, Scope, Subject};
use windlass_model::approval::Actor;
use windlass_model::id::InstanceId;

/// Whether the caller, or somebody else, has `permission` on these stacks or instances; on the project as a whole when there are
/// none, and on the server without a project. Who else may what is for those who may search the audit record.
///
/// # Errors
/// There is no such project that the caller may see, no such stack, or the caller may not ask for others.
pub async fn explain(
    installation: &Installation,
    caller: &Caller,
    other: Option<Actor>,
    permission: Permission,
    project: Option<&str>,
    stacks: &[String],
) -> AppResult<Explained> {
    let project = project.filter(|_| permission.scope() != Scope::Server);
    let whole = project.map_or_else(Subject::server, Subject::project);
    if project.is_some() {
        caller.must(installation, Permission::ProjectRead, &whole).await?;
    }
    if other.is_some() {
        caller.must(installation, Permission::AuditRead, &whole).await?;
    }
    let asked = match other {
        Some(actor) => Caller { actor, token: None, ..caller.clone() },
        None => caller.clone(),
    };
    let Some(project) = project else {
        let answer = asked.may(installation, permission, &whole).await?;
        return Ok(Explained {
            actor: asked.actor,
            teams: Vec::new(),
            permission,
            subject: whole,
            commit: None,
            answer,
        });
    };
    let good = installation.good(project)?;
    let mut places: Vec<Place> = Vec::new();
    for name in stacks {
        let stack = good.project.stack(name)?;
        let id = InstanceId::new(name.trim_start_matches("./").trim_end_matches('/'));
        let before = places.len();
        places.extend(stack.instances.iter().filter(|i| i.id == id || id.key().is_none()).map(|i| place(stack, i)));
        if places.len() == before {
            return Err(not_found("instance", id.as_str()));
        }
    }
    let subject = if places.is_empty() { whole } else { Subject::of(project, "stack", stacks.join(", "), places) };
    let answer = asked.may(installation, permission, &subject).await?;
    let admins = installation.admins();
    let rules = Rules::new(&good.deciding.definitions, &admins);
    let teams = rules.teams_of(&asked.actor).into_iter().map(str::to_owned).collect();
    Ok(Explained { actor: asked.actor, teams, permission, subject, commit: Some(good.commit.clone()), answer })
}
