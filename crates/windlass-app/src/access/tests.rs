use super::*;
use Permission::{AuditExport, ProjectRead, ReviewApply, ReviewWaive, ServerManage};
use windlass_lang::tree::MemoryTree;
use windlass_model::access::TokenScope;

const WINDLASS: &str = r#"
team "sre" { members = ["user:ops"] }
team "dev" { members = ["user:dev"] }
grant "operators" {
  to   = [team.sre]
  role = "operator"
}
grant "readers" {
  to   = [team.dev]
  role = "viewer"
}
policy "access" {
  decides = "access"
  paths   = ["policies"]
}
"#;

/// Definitions and the policy with these rules, loaded as a server does.
struct World {
    definitions: Definitions,
    policies: Policies,
}

impl World {
    fn new(rules: &str) -> Self {
        let rego = format!("package access\n\nimport rego.v1\n\n{rules}\n");
        let tree = MemoryTree::new([("windlass.hcl", WINDLASS.to_owned()), ("policies/a.rego", rego)]);
        let (definitions, diagnostics) = windlass_lang::definitions::load(&tree);
        assert_eq!(diagnostics, vec![]);
        let directory = StateDirectory::at(std::path::Path::new("/nonexistent"));
        let bundles = Bundles::new(&directory, Fetch::Never);
        let policies = Policies::load(&tree, &definitions, &bundles, Author::Organisation).unwrap();
        Self { definitions, policies }
    }

    fn ask(&self, who: &str, token: Option<&TokenScope>, permission: Permission) -> Answer {
        let places = vec![Place {
            instance: "aws/shop[tokyo]".into(),
            environments: vec!["production".into()],
            owner: Some("dev".into()),
        }];
        self.ask_about(who, token, permission, places)
    }

    fn ask_about(&self, who: &str, token: Option<&TokenScope>, permission: Permission, places: Vec<Place>) -> Answer {
        let verified = !who.starts_with('?');
        let name = who.trim_start_matches('?').to_owned();
        let actor = Actor { identities: vec![format!("user:{name}")], name, verified };
        let subject = match permission.scope() {
            Scope::Server => Subject::server(),
            _ => Subject::of("p", "review", "01k", places),
        };
        let admins = ["user:root".to_owned()];
        let question = Question { actor: &actor, token, permission, subject: &subject };
        authorise(&Rules::new(&self.definitions, &admins), &self.policies, &question, 1_000_000)
    }

    #[track_caller]
    fn check(&self, who: &str, permission: Permission, want: (bool, Ground), text: &str) -> Answer {
        let answer = self.ask(who, None, permission);
        assert_eq!((answer.allowed, answer.ground), want, "{who} {permission}: {answer:?}");
        assert!(answer.because.iter().any(|because| because.contains(text)), "{who} {permission}: {answer:?}");
        answer
    }
}

#[test]
fn a_policy_allows_what_no_grant_gives() {
    let world = World::new(
        "allow if {\n\tinput.action == \"review.apply\"\n\tevery i in input.resource.instances { i.owner in input.actor.teams }\n}",
    );
    let own = world.check("dev", ReviewApply, (true, Ground::Policy), "an access policy allows it");
    assert!(!own.hides());
    world.check("dev", ReviewWaive, (false, Ground::Grants), "no access policy allows it");
    world.check("ops", ReviewApply, (true, Ground::Grants), "grant `operators`");
    assert!(world.check("stranger", ReviewApply, (false, Ground::Grants), "of no team").hides());
    let none = world.ask_about("dev", None, ReviewApply, Vec::new());
    assert!(!none.allowed && none.because.iter().any(|b| b.contains("only for stacks that are named")), "{none:?}");
    // It lets in nobody whom nobody has checked, and decides nothing about the server.
    world.check("?dev", ReviewApply, (false, Ground::Identity), "nobody checked");
    let everything = World::new("allow := true");
    everything.check("dev", ServerManage, (false, Ground::Server), "only the admins");
    everything.check("stranger", AuditExport, (true, Ground::Policy), "allows it");
}

#[test]
fn a_denial_wins_over_grants_and_admins_of_the_server() {
    let world = World::new(
        "deny contains \"it is frozen\" if {\n\tinput.action == \"review.apply\"\n\t\"production\" in input.resource.environments\n\tinput.granted\n}\n\nallow := true",
    );
    let denied = world.check("ops", ReviewApply, (false, Ground::Policy), "policy access denies it: it is frozen");
    assert!(!denied.hides(), "they still see the project");
    world.check("root", ReviewApply, (false, Ground::Policy), "it is frozen");
    world.check("root", ReviewWaive, (true, Ground::Server), "the server's settings name root");
    world.check("root", ServerManage, (true, Ground::Server), "admin");
    let closed = World::new("deny contains \"closed\" if true");
    assert!(closed.check("ops", ReviewApply, (false, Ground::Policy), "closed").hides());
    closed.check("root", ServerManage, (true, Ground::Server), "admin");
}

#[test]
fn a_policy_that_errs_denies_and_says_why() {
    let world = World::new("allow if to_number(input.action) > 1");
    world.check("ops", ReviewApply, (false, Ground::Policy), "policy access could not decide, which denies: [WL406]");
    let wrong = World::new("allow := \"yes\" if input.granted");
    wrong.check("ops", ReviewApply, (false, Ground::Policy), "neither true nor false");
    wrong.check("stranger", ReviewApply, (false, Ground::Grants), "no access policy allows it");
}

#[test]
fn the_documented_policy_decides() {
    let page = include_str!("../../../../docs/access.md");
    let rego = page.split("```rego\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let world = World::new(rego.split_once("import rego.v1\n").unwrap().1);
    world.check("dev", ReviewApply, (false, Ground::Policy), "production rests until the freeze ends");
    world.check("ops", ReviewApply, (true, Ground::Grants), "operators");
    let staging = vec![Place { instance: "aws/shop".into(), environments: vec![], owner: Some("dev".into()) }];
    let answer = world.ask_about("dev", None, ReviewApply, staging);
    assert_eq!((answer.allowed, answer.ground), (true, Ground::Policy), "{answer:?}");
}

#[test]
fn a_policy_widens_no_token() {
    let world = World::new("allow := true");
    let token = TokenScope { permissions: Some([ProjectRead].into()), projects: None };
    let answer = world.ask("dev", Some(&token), ReviewApply);
    assert_eq!((answer.allowed, answer.ground, answer.hides()), (false, Ground::Token, false), "{answer:?}");
    assert!(world.ask("dev", Some(&token), ProjectRead).allowed);
    let elsewhere = TokenScope { permissions: None, projects: Some(["q".to_owned()].into()) };
    let answer = world.ask("ops", Some(&elsewhere), ReviewApply);
    assert_eq!((answer.allowed, answer.ground, answer.hides()), (false, Ground::Token, true), "{answer:?}");
}

#[test]
fn without_a_policy_grants_alone_decide() {
    let (definitions, _) = windlass_lang::definitions::load(&MemoryTree::new([(
        "windlass.hcl",
        WINDLASS.split("policy").next().unwrap_or_default(),
    )]));
    let directory = StateDirectory::at(std::path::Path::new("/nonexistent"));
    let bundles = Bundles::new(&directory, Fetch::Never);
    let none: [(&str, &str); 0] = [];
    let policies = Policies::load(&MemoryTree::new(none), &definitions, &bundles, Author::Organisation).unwrap();
    let world = World { definitions, policies };
    let answer = world.check("dev", ReviewApply, (false, Ground::Grants), "ask somebody of team sre");
    assert!(!answer.because.iter().any(|because| because.contains("policy")), "{answer:?}");
    world.check("ops", ReviewApply, (true, Ground::Grants), "grant `operators` (windlass.hcl:4)");
}
