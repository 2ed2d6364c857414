//! Who a person of a forge is here.

use super::At;
use super::look::{Looker, Stop};
use crate::caller::Caller;
use crate::installation::ITSELF;
use crate::review::Around;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use windlass_connect::forge::{Forge, ForgeKind};
use windlass_model::approval::Actor;
use windlass_model::change::authors::Authors;
use windlass_model::change::{Change, Person};
use windlass_model::definition::Definitions;

/// How long it is believed that somebody is in a team, or is not.
const BELIEVED: Duration = Duration::from_secs(300);

/// How somebody is called in the record, and as the author of a change.
pub fn name(kind: ForgeKind, person: &Person) -> String {
    format!("{}:{}", kind.prefix(), person.login)
}

/// What a person is known by, without teams.
pub fn identities(kind: ForgeKind, person: &Person) -> Vec<String> {
    let mut identities = vec![name(kind, person)];
    if kind == ForgeKind::Github {
        // What commits say that were made on its pages: nobody approves what they made themselves.
        let (id, login) = (&person.id, &person.login);
        identities.push(format!("email:{id}+{login}@users.noreply.github.com"));
        identities.push(format!("email:{login}@users.noreply.github.com"));
    }
    identities
}

/// Teams of the forge that the definitions name, and that a person may be in.
pub fn teams<'a>(kind: ForgeKind, definitions: &'a Definitions, person: &Person) -> BTreeSet<&'a str> {
    let named = definitions.teams.iter().flat_map(|team| &team.members);
    let named = named.filter_map(|member| member.strip_prefix(kind.prefix())?.strip_prefix(':'));
    // Of some forges a team has a name as an account has.
    let deep = matches!(kind, ForgeKind::Github | ForgeKind::Gitea | ForgeKind::Forgejo);
    named.filter(|team| *team != person.login && (!deep || team.contains('/'))).collect()
}

/// What a review of a change is told of those who made it.
pub fn around(kind: ForgeKind, change: &Change, made: Authors, deciding: Option<String>) -> Around {
    let people = [&change.author].into_iter().chain(&made.people).map(|person| name(kind, person));
    let authors = people.chain(made.names).collect();
    Around { authors, unknown: made.unknown, deciding }
}

/// What runs by itself.
pub fn itself() -> Caller {
    let actor = Actor { name: ITSELF.into(), identities: Vec::new(), verified: true };
    Caller { actor, token: None, correlation: windlass_store::Store::run_id().to_string(), creates: None }
}

impl Looker {
    /// A person, with the teams that the definitions in force name and the forge says they are in.
    pub async fn caller(&self, at: &At, project: &str, person: &Person) -> Result<Caller, Stop> {
        let good = self.installation.good(project)?;
        let mut identities = identities(at.kind, person);
        for team in teams(at.kind, &good.deciding.definitions, person) {
            if self.is_member(at, project, team, person).await? {
                identities.push(format!("{}:{team}", at.kind.prefix()));
            }
        }
        let actor = Actor { name: name(at.kind, person), identities, verified: true };
        Ok(Caller { actor, ..itself() })
    }

    async fn is_member(&self, at: &At, project: &str, team: &str, person: &Person) -> Result<bool, Stop> {
        let key = (project.to_owned(), team.to_owned(), person.id.clone());
        if let Some((is, _)) = self.members().get(&key).filter(|(_, since)| since.elapsed() < BELIEVED) {
            return Ok(*is);
        }
        let (name, who) = (team.to_owned(), person.clone());
        let is = self.ask(at, move |forge: &dyn Forge| forge.is_member(&name, &who)).await?;
        let mut members = self.members();
        members.retain(|_, (_, since)| since.elapsed() < BELIEVED);
        members.insert(key, (is, Instant::now()));
        Ok(is)
    }
}
