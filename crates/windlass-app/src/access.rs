//! Who may do what: the settings of the server and the grants first, then the policies that decide about access.

use crate::affected::base_revision;
use crate::bundles::{Bundles, Fetch};
use crate::error::{AppError, AppResult, ErrorKind};
use crate::policy::{Author, Policies};
use crate::project::{Checkout, Detail, Project, git_error};
use crate::settings::{Settings, StateDirectory};
use serde::{Deserialize, Serialize};
use windlass_lang::tree::Tree;
use windlass_model::Micros;
use windlass_model::access::{Answer, Ground, Permission, Place, Question, Rules, Scope, Subject, decide};
use windlass_model::approval::Actor;
use windlass_model::definition::{DecisionKind, Definitions};
use windlass_model::diagnostic::{Diagnostic, has_errors};
use windlass_model::id::InstanceId;
use windlass_model::review::Level;
use windlass_model::stack::{Instance, Stack};
use windlass_policy::decision::input::{Access, AccessedThing, ActorFacts, Input};
use windlass_policy::limits::Worker;

/// Whether the actor may: by grants, or else by a policy that allows it; and by no policy that denies it. `rules` and `policies`
/// are those of the project that is asked about; what is of the server is decided without policies. `at` is the present time.
pub fn authorise(rules: &Rules<'_>, policies: &Policies, question: &Question<'_>, at: Micros) -> Answer {
    weigh(rules, policies, question, at).shown(question, |read| weigh(rules, policies, read, at).allowed)
}

fn weigh(rules: &Rules<'_>, policies: &Policies, question: &Question<'_>, at: Micros) -> Answer {
    let mut answer = decide(question, rules);
    // What a token is not for, and people nobody has checked, no policy lets in.
    let is_open = answer.allowed || answer.ground == Ground::Grants;
    let (Some(project), Scope::Project | Scope::Stacks) = (&question.subject.project, question.permission.scope())
    else {
        return answer;
    };
    if !is_open || !policies.has(DecisionKind::Access) {
        return answer;
    }
    let teams = rules.teams_of(question.actor).into_iter().map(str::to_owned).collect();
    let input = Input::access(&Access {
        project: project.clone(),
        actor: ActorFacts::new(question.actor, teams),
        action: question.permission.as_str().to_owned(),
        granted: answer.allowed,
        resource: AccessedThing::new(question.subject),
        at,
    });
    let decision = policies.decide(None, &input);
    let against: Vec<String> = decision
        .findings
        .iter()
        .filter_map(|finding| match finding.level {
            Level::Broken => Some(format!("{} could not decide, which denies: {}", finding.source, finding.message)),
            Level::Deny => Some(format!("{} denies it: {}", finding.source, finding.message)),
            Level::Warn => None,
        })
        .collect();
    match () {
        () if !against.is_empty() => Answer::new(false, Ground::Policy, against),
        () if answer.allowed => answer,
        // A rule about every instance holds where there is none, and would be for all stacks.
        () if decision.allowed
            && question.permission.scope() == Scope::Stacks
            && question.subject.places.is_empty() =>
        {
            answer.because.push("an access policy allows it only for stacks that are named".to_owned());
            answer
        }
        () if decision.allowed => Answer::new(true, Ground::Policy, vec!["an access policy allows it".to_owned()]),
        () => {
            answer.because.push("no access policy allows it".to_owned());
            answer
        }
    }
}

/// Whose definitions and policies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// Those of the default branch, as a server does.
    DefaultBranch,
    /// Those that are being written.
    WorkTree,
}

/// Why somebody may, or may not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    pub actor: Actor,
    /// Names of the teams that the actor belongs to.
    pub teams: Vec<String>,
    pub permission: Permission,
    pub subject: Subject,
    /// The commit whose definitions and policies decided; `None` for the work tree.
    pub commit: Option<String>,
    #[serde(flatten)]
    pub answer: Answer,
}

/// Asks for `permission` on these stacks or instances, for the project as a whole when there are none. `at` is the present time.
///
/// # Errors
/// The definitions or policies are wrong, a stack is not there, or git has no default branch.
pub fn explain(
    checkout: &Checkout,
    worker: Option<Worker>,
    decider: Decider,
    actor: Actor,
    permission: Permission,
    stacks: &[String],
    at: Micros,
) -> AppResult<Explained> {
    let (tree, commit, author): (Box<dyn Tree>, _, _) = match decider {
        Decider::DefaultBranch => {
            let git = checkout.git()?;
            // A server decides by the tip of the branch, wherever this one left it.
            let branch = base_revision(git, None, "HEAD")?.name;
            let commit = git.resolve(&branch).map_err(|error| git_error(&error))?;
            let tree = git.tree(&commit).map_err(|error| git_error(&error))?;
            (Box::new(tree), Some(commit), Author::Organisation)
        }
        Decider::WorkTree => (checkout.work_tree()?, None, Author::Anybody),
    };
    let (definitions, diagnostics) = windlass_lang::definitions::load(&*tree);
    if has_errors(&diagnostics) {
        return Err(AppError::many(ErrorKind::Definition, diagnostics));
    }
    let asked = definitions.policies.iter().any(|policy| policy.decides == DecisionKind::Access);
    // Only a policy that is asked needs room to work in.
    let directory = if asked { StateDirectory::create(&checkout.root)? } else { StateDirectory::at(&checkout.root) };
    let bundles = Bundles::new(&directory, Fetch::Missing).in_worker(worker);
    let limits = Settings::of_process()?.policy_limits;
    let policies = Policies::load(&*tree, &definitions, &bundles, author)?.within(limits);
    let subject = match permission.scope() {
        Scope::Server => Subject::server(),
        _ if stacks.is_empty() => Subject::project(checkout.name(&definitions)),
        _ => {
            let places = places(&*tree, &definitions, stacks)?;
            Subject::of(checkout.name(&definitions), "stack", stacks.join(", "), places)
        }
    };
    let rules = Rules::new(&definitions, &[]);
    let question = Question { actor: &actor, token: None, permission, subject: &subject };
    let answer = authorise(&rules, &policies, &question, at);
    let teams = rules.teams_of(&actor).into_iter().map(str::to_owned).collect();
    Ok(Explained { teams, permission, commit, answer, subject, actor })
}

/// The instances that are named, and all of each stack that is.
fn places(tree: &dyn Tree, definitions: &Definitions, names: &[String]) -> AppResult<Vec<Place>> {
    let found = windlass_lang::discovery::discover_with(tree, definitions, Detail::Edges);
    let project =
        Project { definitions: definitions.clone(), repository: found.repository, diagnostics: found.diagnostics };
    let mut places = Vec::new();
    for name in names {
        let stack = project.stack(name)?;
        let id = InstanceId::new(name.trim_start_matches("./").trim_end_matches('/'));
        let before = places.len();
        places.extend(stack.instances.iter().filter(|i| i.id == id || id.key().is_none()).map(|i| place(stack, i)));
        if places.len() == before {
            let ids: Vec<&str> = stack.instances.iter().map(|instance| instance.id.as_str()).collect();
            let diagnostic = Diagnostic::error("WL903", format!("there is no instance `{id}`")).help(format!(
                "stack `{}` has {}",
                stack.id,
                ids.join(", ")
            ));
            return Err(AppError::new(ErrorKind::NotFound, diagnostic));
        }
    }
    Ok(places)
}

/// An instance as access is asked for it.
pub fn place(stack: &Stack, instance: &Instance) -> Place {
    Place { instance: instance.id.clone(), environments: instance.environments.clone(), owner: stack.owner.clone() }
}

#[cfg(test)]
mod tests;
