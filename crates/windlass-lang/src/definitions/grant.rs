//! `grant` blocks, and roles wherever they are named.

use super::reader::Reader;
use super::schema::GrantValues;
use super::{Block, Loader};
use windlass_model::access::{Permission, Role, Scope};
use windlass_model::definition::Grant;

impl Loader<'_> {
    /// A grant with a mistake in it is left out, so that none gives more than was meant.
    pub(super) fn grant(&mut self, file: usize, block: &Block) {
        let Some((name, span)) = self.name(file, block, "") else { return };
        let before = self.diagnostics.len();
        let (values, mut reader) = self.read::<GrantValues>(file, block);
        let role = values.role.and_then(|name| role(&mut reader, "role", &name));
        let permissions = values.permissions.iter().filter_map(|name| permission(&mut reader, name)).collect();
        let written = |attribute: &str| block.body.value(attribute).is_some();
        if !written("role") && values.permissions.is_empty() {
            let help = "add `role = \"operator\"`, or `permissions = [ … ]`; `windlass access matrix` lists both";
            reader.mistake("permissions", "WL109", "grant needs `role` or `permissions`", help);
        }
        if written("to") && values.to.is_empty() {
            reader.mistake("to", "WL106", "nobody is granted anything", "name a team, or remove the block");
        }
        for (attribute, is_empty) in
            [("stacks", values.stacks.is_empty()), ("environments", values.environments.is_empty())]
        {
            // A list that came out empty would give it everywhere.
            if written(attribute) && is_empty {
                let what = format!("`{attribute}` names none");
                reader.mistake(attribute, "WL106", &what, "name some, or remove it: the grant is for all of them then");
            }
        }
        let grant = Grant {
            name,
            to: values.to,
            role,
            permissions,
            stacks: values.stacks,
            environments: values.environments,
            span,
        };
        let whole = |permission: &&Permission| permission.scope() != Scope::Stacks;
        if grant.is_narrowed()
            && let Some(permission) = grant.permissions.iter().find(whole)
        {
            let what = format!("`{permission}` is of the project as a whole, and cannot be narrowed");
            let help = "give it by a grant without `stacks` and `environments`";
            reader.mistake("permissions", "WL114", &what, help);
        }
        if self.diagnostics.len() == before {
            self.definitions.grants.push(grant);
        }
    }
}

/// The role of that name; a mistake of `attribute` when there is none.
pub(super) fn role(reader: &mut Reader<'_>, attribute: &str, name: &str) -> Option<Role> {
    let role = Role::parse(name);
    if role.is_none() {
        let names = Role::ALL.map(Role::as_str);
        let help = match crate::suggest(name, names.into_iter()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("it is one of {}", names.join(", ")),
        };
        reader.mistake(attribute, "WL106", &format!("there is no role \"{name}\""), &help);
    }
    role
}

/// The permission of that name, where a project can give it.
fn permission(reader: &mut Reader<'_>, name: &str) -> Option<Permission> {
    match Permission::parse(name) {
        Some(permission) if permission.scope() == Scope::Server => {
            let what = format!("`{permission}` is of the server, and no project can give it");
            reader.mistake("permissions", "WL114", &what, "the settings of the server name its admins");
            None
        }
        Some(permission) => Some(permission),
        None => {
            let names = Permission::ALL.iter().map(|permission| permission.as_str());
            let help = match crate::suggest(name, names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "`windlass access matrix` lists all of them".to_owned(),
            };
            reader.mistake("permissions", "WL106", &format!("there is no permission \"{name}\""), &help);
            None
        }
    }
}
