//! Whether somebody may do something, and why: a pure function of who asks, what is asked for, and the rules.

use super::permission::{Permission, Role, Scope};
use crate::approval::{Actor, is_member};
use crate::definition::{Definitions, Grant, Team};
use crate::id::InstanceId;
use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How the name of a [`Place`] begins that is an operation and no stack. Grants that are narrowed to stacks say nothing of it.
pub const OPERATION: &str = "operation:";

/// How many names a sentence lists before it counts the rest.
const LISTED: usize = 3;

/// Who asks for what.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub actor: &'a Actor,
    /// What the API token that is used is limited to; `None` where somebody acts in person.
    pub token: Option<&'a TokenScope>,
    pub permission: Permission,
    pub subject: &'a Subject,
}

/// What an API token is limited to, of what its owner has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenScope {
    /// `None`: whatever its owner has.
    pub permissions: Option<BTreeSet<Permission>>,
    /// Names of projects; `None`: all, and what is of the server.
    pub projects: Option<BTreeSet<String>>,
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// `None` for what is of the server.
    pub project: Option<String>,
    /// `server`, `project`, `stack`, `review`, `run`, …; for policies.
    pub kind: String,
    /// Its name or id; for policies.
    pub name: String,
    /// All stack instances that it touches. Without any, only who may do it everywhere may do what is of stacks.
    pub places: Vec<Place>,
    /// Whom it lets do it by itself, beside those who are granted it. Whether they may see it was asked before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lets: Vec<Lets>,
}

/// `allow = [team.ledger]` in the definition of what is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lets {
    /// Names of teams; `None`: whoever may see it.
    pub teams: Option<Vec<String>>,
    /// Where that is said, e.g. `` operation `restart` (windlass.hcl:3) ``.
    pub by: String,
}

/// A stack instance, with what grants and policies ask about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub instance: InstanceId,
    /// Names of the environments that it belongs to.
    pub environments: Vec<String>,
    /// A team.
    pub owner: Option<String>,
}

impl Subject {
    pub fn server() -> Self {
        Self { project: None, kind: "server".into(), name: "server".into(), places: Vec::new(), lets: Vec::new() }
    }

    pub fn project(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { project: Some(name.clone()), kind: "project".into(), name, places: Vec::new(), lets: Vec::new() }
    }

    /// Something in a project (`review` and its id), and the stack instances that it touches.
    pub fn of(
        project: impl Into<String>,
        kind: impl Into<String>,
        name: impl Into<String>,
        places: Vec<Place>,
    ) -> Self {
        Self { project: Some(project.into()), kind: kind.into(), name: name.into(), places, lets: Vec::new() }
    }

    /// The same, which lets these do it by itself.
    #[must_use]
    pub fn letting(self, lets: Vec<Lets>) -> Self {
        Self { lets, ..self }
    }
}

/// What decides: grants and teams of the project that is asked about, from its protected branch. Made once for many questions.
#[derive(Debug, Clone)]
pub struct Rules<'a> {
    teams: &'a [Team],
    grants: Vec<Reach<'a>>,
    /// Of everybody who is signed in.
    default_role: Option<Role>,
    admins: &'a [String],
}

impl<'a> Rules<'a> {
    /// `admins` are identities, in the syntax of team members, that the settings of the server name: they may do everything
    /// everywhere.
    pub fn new(definitions: &'a Definitions, admins: &'a [String]) -> Self {
        let Definitions { teams, grants, default_role, .. } = definitions;
        Self { teams, grants: grants.iter().map(Reach::new).collect(), default_role: *default_role, admins }
    }

    /// Those for what is of the server.
    pub fn server(admins: &'a [String]) -> Self {
        Self { teams: &[], grants: Vec::new(), default_role: None, admins }
    }

    /// Names of the teams that somebody belongs to, in order of definition.
    pub fn teams_of(&self, actor: &Actor) -> Vec<&'a str> {
        let member = |team: &&Team| is_member(actor, std::slice::from_ref(&team.name), std::slice::from_ref(*team));
        self.teams.iter().filter(member).map(|team| team.name.as_str()).collect()
    }
}

/// What settled an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ground {
    /// The settings of the server: they name the actor an admin, or only such a one may.
    Server,
    /// The token is limited to something else.
    Token,
    /// Nobody checked who it is.
    Identity,
    /// Grants and the default role, or that there is none which gives it.
    Grants,
    /// A policy that decides about access.
    Policy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub allowed: bool,
    pub ground: Ground,
    /// Sentences without a full stop: what gives it, or what is missing and who could help.
    pub because: Vec<String>,
    hidden: bool,
}

impl Answer {
    pub fn new(allowed: bool, ground: Ground, because: Vec<String>) -> Self {
        Self { allowed, ground, because, hidden: false }
    }

    /// A refusal has to look as if nothing was there: the actor may not even see the project.
    pub fn hides(&self) -> bool {
        self.hidden
    }

    /// Itself, as the answer to `question`: what is refused is hidden from whom `may_read` says no to.
    #[must_use]
    pub fn shown(mut self, question: &Question<'_>, may_read: impl FnOnce(&Question<'_>) -> bool) -> Self {
        self.hidden = !self.allowed
            && question.permission.scope() != Scope::Server
            && (question.permission == Permission::ProjectRead
                || !may_read(&Question { permission: Permission::ProjectRead, ..question.clone() }));
        self
    }
}

/// Whether the actor may, by the settings of the server, the grants and the default role. Policies are not asked.
pub fn decide(question: &Question<'_>, rules: &Rules<'_>) -> Answer {
    weigh(question, rules).shown(question, |read| weigh(read, rules).allowed)
}

fn weigh(question: &Question<'_>, rules: &Rules<'_>) -> Answer {
    let Question { actor, permission, .. } = *question;
    let limits = outside_token(question);
    if !limits.is_empty() {
        return Answer::new(false, Ground::Token, limits);
    }
    if actor.identities.iter().any(|identity| rules.admins.contains(identity)) {
        return Answer::new(true, Ground::Server, vec![format!("the server's settings name {actor} an admin")]);
    }
    if permission.scope() == Scope::Server {
        let why =
            format!("`{permission}` is of the server: only the admins that its settings name have it, ask one of them");
        return Answer::new(false, Ground::Server, vec![why]);
    }
    if !actor.verified {
        let why = format!("nobody checked who {} is: grants are for people who signed in", actor.name);
        return Answer::new(false, Ground::Identity, vec![why]);
    }
    granted(question, rules)
}

/// Why the token is not for this; nothing when it is, or none is used.
fn outside_token(question: &Question<'_>) -> Vec<String> {
    let Some(token) = question.token else { return Vec::new() };
    let permission = question.permission;
    let mut because = Vec::new();
    if let Some(limit) = token.permissions.as_ref().filter(|limit| !limit.contains(&permission)) {
        let has = names(limit.iter().map(|permission| format!("`{permission}`")), "nothing");
        because.push(format!("the token is limited to {has}: use one that has `{permission}`"));
    }
    if let Some(limit) = &token.projects
        && question.subject.project.as_ref().is_none_or(|project| !limit.contains(project))
    {
        let of = question.subject.project.as_deref().unwrap_or("the server");
        let has = names(limit.iter().cloned(), "no project");
        because.push(format!("the token is limited to {has}: use one that is for {of}"));
    }
    because
}

fn granted(question: &Question<'_>, rules: &Rules<'_>) -> Answer {
    let permission = question.permission;
    let allowed = |because| Answer::new(true, Ground::Grants, because);
    if let Some(role) = rules.default_role.filter(|role| role.has(permission)) {
        return allowed(vec![format!("everybody who is signed in is {} here, who has `{permission}`", role.as_str())]);
    }
    let teams = rules.teams_of(question.actor);
    if let Some(sentence) = question.subject.lets.iter().find_map(|lets| lets.whom(&teams)) {
        return allowed(vec![sentence]);
    }
    let (own, others): (Vec<&Reach<'_>>, Vec<&Reach<'_>>) = rules
        .grants
        .iter()
        .filter(|reach| reach.gives(permission))
        .partition(|reach| reach.grant.to.iter().any(|team| teams.contains(&team.as_str())));
    if let Some(reach) = own.iter().find(|reach| !reach.is_narrow(permission)) {
        return allowed(vec![reach.sentence(permission)]);
    }
    // Several grants may cover together what none does alone.
    let mut left: Vec<&Place> = question.subject.places.iter().collect();
    let mut because = Vec::new();
    for reach in &own {
        let before = left.len();
        left.retain(|place| !reach.covers(place));
        if left.len() < before {
            because.push(reach.sentence(permission));
        }
    }
    if left.is_empty() && !question.subject.places.is_empty() {
        return allowed(because);
    }
    Answer::new(false, Ground::Grants, missing(question, &teams, &own, &others, &left))
}

/// What is missing, and who could help.
fn missing(
    question: &Question<'_>,
    teams: &[&str],
    own: &[&Reach<'_>],
    others: &[&Reach<'_>],
    left: &[&Place],
) -> Vec<String> {
    let permission = question.permission;
    let teams = match teams {
        [] => "of no team".to_owned(),
        [team] => format!("of team {team}"),
        several => format!("of teams {}", several.join(", ")),
    };
    let place = match permission.scope() {
        Scope::Stacks if left.is_empty() && question.subject.kind == "operation" => {
            format!(" for operation {}", question.subject.name)
        }
        Scope::Stacks if left.is_empty() => " for all stacks".to_owned(),
        Scope::Stacks => format!(" for {}", names(left.iter().map(|place| place.instance.to_string()), "")),
        Scope::Project | Scope::Server => String::new(),
    };
    let mut because = vec![format!("nothing gives {} ({teams}) `{permission}`{place}", question.actor.name)];
    because.extend(own.iter().map(|reach| format!("grant `{}` gives it for {} only", reach.grant.name, reach.place())));
    because.extend(question.subject.lets.iter().filter_map(Lets::sentence));
    let helps = |reach: &&&Reach<'_>| {
        !reach.is_narrow(permission) || left.is_empty() || left.iter().any(|place| reach.covers(place))
    };
    let mut asked: BTreeSet<&[String]> = BTreeSet::new();
    for reach in others.iter().filter(helps).filter(|reach| asked.insert(&reach.grant.to)).take(LISTED) {
        let Grant { to, name, .. } = reach.grant;
        let team = if to.len() == 1 { "team" } else { "teams" };
        let place = if reach.is_narrow(permission) { format!(" for {}", reach.place()) } else { String::new() };
        because.push(format!("ask somebody of {team} {}, who have it{place} by grant `{name}`", to.join(" or ")));
    }
    if because.len() == 1 {
        let role = permission.least().map_or(String::new(), |role| format!("`role = \"{}\"` or ", role.as_str()));
        because.push(format!(
            "no grant gives it to anybody here: one with {role}`permissions = [\"{permission}\"]` would"
        ));
    }
    because
}

impl Lets {
    /// Why somebody of these teams may.
    fn whom(&self, teams: &[&str]) -> Option<String> {
        match &self.teams {
            None => Some(format!("{} lets everybody who sees it", self.by)),
            Some(own) => {
                let team = own.iter().find(|team| teams.contains(&team.as_str()))?;
                Some(format!("{} lets team {team}", self.by))
            }
        }
    }

    /// Whom somebody else could ask.
    fn sentence(&self) -> Option<String> {
        let teams = self.teams.as_ref().filter(|teams| !teams.is_empty())?;
        let team = if teams.len() == 1 { "team" } else { "teams" };
        Some(format!("{} lets {team} {}: ask somebody of them", self.by, teams.join(" or ")))
    }
}

/// A grant, and the stacks that it is narrowed to.
#[derive(Debug, Clone)]
struct Reach<'a> {
    grant: &'a Grant,
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    matcher: GlobMatcher,
    /// It names instances, not stacks.
    instances: bool,
}

impl<'a> Reach<'a> {
    fn new(grant: &'a Grant) -> Self {
        Self { grant, patterns: grant.stacks.iter().filter_map(|text| Pattern::new(text)).collect() }
    }

    /// Whether it gives the permission, anywhere.
    fn gives(&self, permission: Permission) -> bool {
        let grant = self.grant;
        // Whoever answers for some stacks does not manage the project: outside of them a narrowed role is a developer's at most.
        let outside = grant.is_narrowed() && permission.scope() != Scope::Stacks;
        let role = grant.role.map(|role| if outside { role.min(Role::Developer) } else { role });
        role.is_some_and(|role| role.has(permission)) || (!outside && grant.permissions.contains(&permission))
    }

    /// Whether it gives the permission for some stacks only.
    fn is_narrow(&self, permission: Permission) -> bool {
        self.grant.is_narrowed() && permission.scope() == Scope::Stacks
    }

    /// Whether it is for this instance, as far as it is narrowed.
    fn covers(&self, place: &Place) -> bool {
        let Grant { stacks, environments, .. } = self.grant;
        let is_stack = !place.instance.as_str().starts_with(OPERATION);
        (stacks.is_empty() || (is_stack && self.patterns.iter().any(|pattern| pattern.matches(&place.instance))))
            && (environments.is_empty() || environments.iter().any(|name| place.environments.contains(name)))
    }

    fn sentence(&self, permission: Permission) -> String {
        let Grant { name, span, to, .. } = self.grant;
        let team = if to.len() == 1 { "team" } else { "teams" };
        let place = if self.is_narrow(permission) { format!(", for {}", self.place()) } else { String::new() };
        format!("grant `{name}` ({span}) gives {team} {} `{permission}`{place}", to.join(", "))
    }

    fn place(&self) -> String {
        let Grant { stacks, environments, .. } = self.grant;
        match (stacks.as_slice(), environments.as_slice()) {
            (stacks, []) => stacks.join(", "),
            ([], environments) => format!("environment {}", environments.join(", ")),
            (stacks, environments) => format!("{} in environment {}", stacks.join(", "), environments.join(", ")),
        }
    }
}

impl Pattern {
    /// A pattern that is no pattern matches nothing; the definitions say so where it is read.
    fn new(text: &str) -> Option<Self> {
        // The bracket of an instance is meant as it stands, not as a class of characters.
        let glob = GlobBuilder::new(&text.replace('[', "[[]")).literal_separator(true).build().ok()?;
        Some(Self { matcher: glob.compile_matcher(), instances: text.contains('[') })
    }

    fn matches(&self, instance: &InstanceId) -> bool {
        if self.instances {
            self.matcher.is_match(instance.as_str())
        } else {
            self.matcher.is_match(instance.stack().as_str())
        }
    }
}

/// `a, b, c and 4 more`; `none` when there are none.
fn names(all: impl Iterator<Item = String>, none: &str) -> String {
    let all: Vec<String> = all.collect();
    match all.len() {
        0 => none.to_owned(),
        count if count <= LISTED => all.join(", "),
        count => format!("{} and {} more", all[..LISTED].join(", "), count - LISTED),
    }
}
