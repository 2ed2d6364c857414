use super::*;
use crate::approval::Actor;
use crate::definition::{Definitions, Grant, Team};
use crate::diagnostic::Span;

fn team(name: &str, members: &[&str]) -> Team {
    Team { name: name.into(), members: members.iter().map(|m| (*m).to_owned()).collect(), span: Span::file("w.hcl") }
}

/// `name: team,team; role; permission,permission; stack,stack; environment,environment`.
fn grant(text: &str) -> Grant {
    let (name, rest) = text.split_once(": ").unwrap();
    let mut parts = rest
        .split("; ")
        .map(|part| part.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect::<Vec<_>>());
    let mut next = || parts.next().unwrap_or_default();
    Grant {
        name: name.into(),
        to: next(),
        role: next().first().map(|role| Role::parse(role).unwrap()),
        permissions: next().iter().map(|p| Permission::parse(p).unwrap()).collect(),
        stacks: next(),
        environments: next(),
        span: Span::file("w.hcl"),
    }
}

fn actor(name: &str) -> Actor {
    Actor { name: name.into(), identities: vec![format!("user:{name}")], verified: true }
}

/// `aws/net[tokyo] in production`.
fn place(text: &str) -> Place {
    let (instance, environments) = text.split_once(" in ").unwrap_or((text, ""));
    let environments = environments.split(',').filter(|e| !e.is_empty()).map(str::to_owned).collect();
    Place { instance: instance.into(), environments, owner: None }
}

struct World(Definitions);

impl World {
    fn new(grants: &[&str]) -> Self {
        let teams = vec![team("sre", &["user:ops", "user:both"]), team("dev", &["user:dev", "user:both"])];
        let grants = grants.iter().map(|text| grant(text)).collect();
        Self(Definitions { teams, grants, ..Definitions::default() })
    }

    fn with_default(mut self, role: Role) -> Self {
        self.0.default_role = Some(role);
        self
    }

    fn ask(&self, actor: &Actor, token: Option<&TokenScope>, permission: &str, places: &[&str]) -> Answer {
        let permission = Permission::parse(permission).unwrap();
        let subject = match permission.scope() {
            Scope::Server => Subject::server(),
            _ => Subject { places: places.iter().map(|text| place(text)).collect(), ..Subject::project("p") },
        };
        let admins = ["user:root".to_owned()];
        decide(&Question { actor, token, permission, subject: &subject }, &Rules::new(&self.0, &admins))
    }

    #[track_caller]
    fn check(&self, who: &str, permission: &str, places: &[&str], allowed: bool, want: &[&str]) {
        let answer = self.ask(&actor(who), None, permission, places);
        assert_eq!(answer.allowed, allowed, "{who} {permission} {places:?}: {answer:?}");
        assert_eq!(answer.because.len(), want.len(), "{who} {permission} {places:?}: {answer:?}");
        assert!(answer.because.iter().zip(want).all(|(found, want)| found.contains(want)), "{answer:?}\n{want:?}");
    }
}

#[test]
fn permissions_and_roles_are_found_by_name_and_each_role_has_what_is_below_it() {
    for permission in Permission::ALL {
        assert_eq!(Permission::parse(permission.as_str()), Some(*permission));
        let json = serde_json::to_string(permission).unwrap();
        assert_eq!(json, format!("\"{permission}\""));
        assert!(permission.about().ends_with('.'), "{permission}");
        assert_eq!(permission.least().is_none(), permission.scope() == Scope::Server, "{permission}");
        let having = Role::ALL.map(|role| role.has(*permission));
        assert!(having.is_sorted(), "{permission}: {having:?}");
    }
    for role in Role::ALL {
        assert_eq!(Role::parse(role.as_str()), Some(role));
    }
    assert_eq!((Permission::parse("review"), Role::parse("Admin")), (None, None));
}

#[test]
fn the_documented_matrix_is_the_one_that_decides() {
    let page = include_str!("../../../../docs/access.md");
    let (_, rest) = page.split_once("<!-- matrix -->\n").unwrap();
    let (documented, _) = rest.split_once("<!-- /matrix -->").unwrap();
    assert_eq!(documented, matrix(), "docs/access.md between the markers has to be:\n{}", matrix());
}

#[test]
fn what_nobody_gives_is_refused_and_hidden() {
    let world = World::new(&[]);
    for permission in Permission::ALL {
        let answer = world.ask(&actor("dev"), None, permission.as_str(), &["a"]);
        assert!(!answer.allowed && !answer.because.is_empty(), "{permission}: {answer:?}");
        assert_eq!(answer.hides(), permission.scope() != Scope::Server, "{permission}");
    }
    let nothing = ["nothing gives dev (of team dev) `review.apply` for a", "`role = \"operator\"` or `permissions"];
    world.check("dev", "review.apply", &["a"], false, &nothing);
    world.check("dev", "server.manage", &[], false, &["only the admins"]);
}

#[test]
fn a_role_gives_what_is_in_its_column() {
    for role in Role::ALL {
        let world = World::new(&[&format!("g: dev; {}", role.as_str())]);
        let everybody = World::new(&[]).with_default(role);
        for permission in Permission::ALL {
            for (world, who) in [(&world, "dev"), (&everybody, "stranger")] {
                let answer = world.ask(&actor(who), None, permission.as_str(), &["a"]);
                assert_eq!(answer.allowed, role.has(*permission), "{role:?} {permission}: {answer:?}");
                // Whoever has a role sees the project, and is told why.
                assert!(!answer.hides(), "{role:?} {permission}");
            }
            assert!(!world.ask(&actor("ops"), None, permission.as_str(), &["a"]).allowed);
        }
    }
}

#[test]
fn grants_are_narrowed_to_stacks_and_environments() {
    let world = World::new(&[
        "aws: sre; operator; ; aws/**",
        "prod: dev; viewer; review.apply,state.read; ; production",
        "one: dev; ; review.apply; gcp/net[tokyo],gcp/app; test",
    ]);
    let ok = |who: &str, permission: &str, places: &[&str]| {
        let answer = world.ask(&actor(who), None, permission, places);
        assert!(answer.allowed, "{who} {permission} {places:?}: {answer:?}");
    };
    ok("ops", "review.apply", &["aws/net[tokyo]", "aws/a/b"]);
    ok("dev", "review.apply", &["x in production", "y in test,production"]);
    ok("dev", "review.apply", &["gcp/net[tokyo] in test", "gcp/app[osaka] in test"]);
    // Two grants cover together what none does alone, and those of two teams.
    ok("dev", "review.apply", &["gcp/app in test", "gcp/app in production"]);
    ok("both", "review.apply", &["aws/net", "x in production"]);
    world.check("both", "review.apply", &["aws/net", "x in production"], true, &["grant `aws` (w.hcl:1)", "`prod`"]);
    // A narrowed role is still allowed to look, and is no operator of the project as a whole.
    ok("ops", "project.read", &[]);
    ok("ops", "token.own", &[]);
    let refused = ["nothing gives ops (of team sre) `audit.read`", "no grant gives it to anybody here"];
    world.check("ops", "audit.read", &[], false, &refused);
    world.check(
        "ops",
        "review.apply",
        &["aws/net", "gcp/app in test", "x in production"],
        false,
        &[
            "`review.apply` for gcp/app, x",
            "grant `aws` gives it for aws/** only",
            "ask somebody of team dev, who have it for environment production by grant `prod`",
        ],
    );
    world.check(
        "dev",
        "review.apply",
        &["gcp/net[osaka] in test"],
        false,
        &[
            "for gcp/net[osaka]",
            "`prod` gives it for environment production only",
            "`one` gives it for gcp/net[tokyo], gcp/app in environment test only",
        ],
    );
    // Where no stack is named, it is about all of them.
    let all = ["for all stacks", "grant `aws` gives it for aws/** only", "ask somebody of team dev"];
    world.check("ops", "review.apply", &[], false, &all);
    world.check("dev", "review.waive", &["gcp/app"], false, &["nothing gives", "no grant gives it"]);
    let many = ["a", "b", "c", "d", "e"];
    world.check("ops", "review.apply", &many, false, &["for a, b, c and 2 more", "`aws`"]);
}

#[test]
fn what_is_of_the_server_needs_no_project() {
    let admins = ["email:root@example.com".to_owned()];
    let ask = |identity: &str| {
        let actor = Actor { identities: vec![identity.into()], ..actor("x") };
        let question =
            Question { actor: &actor, token: None, permission: Permission::WorkerJoin, subject: &Subject::server() };
        decide(&question, &Rules::server(&admins)).allowed
    };
    assert_eq!((ask("email:root@example.com"), ask("email:dev@example.com")), (true, false));
}

#[test]
fn somebody_who_could_help_is_named() {
    let world = World::new(&["ops: sre; operator", "again: sre; admin", "dev: dev; developer"]);
    let want = [
        "nothing gives dev (of team dev) `review.apply` for a",
        "ask somebody of team sre, who have it by grant `ops`",
    ];
    world.check("dev", "review.apply", &["a"], false, &want);
    world.check("stranger", "project.read", &[], false, &["(of no team)", "team sre", "team dev"]);
    assert!(world.ask(&actor("stranger"), None, "review.apply", &["a"]).hides());
    assert!(!world.ask(&actor("dev"), None, "review.apply", &["a"]).hides());
}

#[test]
fn admins_may_everything_and_nobody_unchecked_may_anything_else() {
    let world = World::new(&["g: dev; admin"]).with_default(Role::Admin);
    for permission in Permission::ALL {
        let ask = |actor: &Actor| world.ask(actor, None, permission.as_str(), &["a"]);
        let root = ask(&actor("root"));
        assert!(root.allowed && root.ground == Ground::Server, "{root:?}");
        // The user of the machine that the server runs on is an admin by its settings, checked or not.
        assert!(ask(&Actor { verified: false, ..actor("root") }).allowed);
        let unchecked = ask(&Actor { verified: false, ..actor("dev") });
        assert!(!unchecked.allowed, "{permission}: {unchecked:?}");
        let want = if permission.scope() == Scope::Server { Ground::Server } else { Ground::Identity };
        assert_eq!(unchecked.ground, want);
    }
}

#[test]
fn a_token_narrows_and_never_widens() {
    let world = World::new(&["g: dev; developer"]);
    let scope = |permissions: Option<&[Permission]>, projects: Option<&[&str]>| TokenScope {
        permissions: permissions.map(|list| list.iter().copied().collect()),
        projects: projects.map(|list| list.iter().map(|name| (*name).to_owned()).collect()),
    };
    let check = |who: &str, token: TokenScope, permission: &str, want: Result<(), &str>| {
        let answer = world.ask(&actor(who), Some(&token), permission, &["a"]);
        match want {
            Ok(()) => assert!(answer.allowed, "{who} {token:?} {permission}: {answer:?}"),
            Err(text) => {
                assert!(
                    !answer.allowed && answer.because[0].contains(text),
                    "{who} {token:?} {permission}: {answer:?}"
                );
            }
        }
    };
    use Permission::{MetricsRead, ProjectRead, ReviewApply, ReviewCreate};
    check("dev", scope(None, None), "review.create", Ok(()));
    check("dev", scope(Some(&[ReviewCreate]), Some(&["p", "q"])), "review.create", Ok(()));
    check(
        "dev",
        scope(Some(&[ProjectRead]), None),
        "review.create",
        Err("limited to `project.read`: use one that has"),
    );
    check("dev", scope(Some(&[]), None), "review.create", Err("limited to nothing"));
    check("dev", scope(None, Some(&["q"])), "review.create", Err("limited to q: use one that is for p"));
    check("dev", scope(None, Some(&[])), "project.read", Err("limited to no project"));
    // It names more than its owner has.
    check("dev", scope(Some(&[ReviewApply]), None), "review.apply", Err("nothing gives dev"));
    // An admin's, too, and what is of the server is of no project.
    check("root", scope(Some(&[MetricsRead]), None), "metrics.read", Ok(()));
    check("root", scope(Some(&[MetricsRead]), None), "project.read", Err("limited to `metrics.read`"));
    check("root", scope(None, Some(&["p"])), "server.manage", Err("use one that is for the server"));
    check("root", scope(None, Some(&["p"])), "review.apply", Ok(()));
    // A token that does not read sees nothing where it is refused.
    let blind = scope(Some(&[ReviewCreate]), None);
    assert!(world.ask(&actor("dev"), Some(&blind), "drift.check", &["a"]).hides());
}

#[test]
fn what_lets_teams_by_itself_is_for_those_teams() {
    let world = World::new(&["g: sre; operator", "see: dev; viewer"]);
    let check = |who: &str, lets: Vec<Lets>, token: Option<&TokenScope>, allowed: bool, want: &[&str]| {
        let subject = Subject::of("p", "operation", "restart", Vec::new()).letting(lets);
        let (actor, permission) = (actor(who), Permission::OperationRun);
        let answer =
            decide(&Question { actor: &actor, token, permission, subject: &subject }, &Rules::new(&world.0, &[]));
        assert_eq!(answer.allowed, allowed, "{who}: {answer:?}");
        assert!(
            want.iter().all(|want| answer.because.iter().any(|found| found.contains(want))),
            "{answer:?}\n{want:?}"
        );
    };
    let lets = |teams: &[&str]| {
        let teams = Some(teams.iter().map(|team| (*team).to_owned()).collect());
        vec![Lets { teams, by: "operation `restart` (w.hcl:3)".into() }]
    };
    check("dev", lets(&["dev"]), None, true, &["operation `restart` (w.hcl:3) lets team dev"]);
    check(
        "dev",
        lets(&["sre"]),
        None,
        false,
        &["lets team sre: ask somebody of them", "nothing gives dev (of team dev)"],
    );
    check("dev", Vec::new(), None, false, &["ask somebody of team sre, who have it by grant `g`"]);
    check("ops", lets(&["dev"]), None, true, &["grant `g`"]);
    check("dev", vec![Lets { teams: None, by: "it".into() }], None, true, &["lets everybody who sees it"]);
    // A token is for what it is for, and people nobody has checked are of no team.
    let token = TokenScope { permissions: Some([Permission::ProjectRead].into()), projects: None };
    check("dev", lets(&["dev"]), Some(&token), false, &["limited to `project.read`"]);
    let subject = Subject::of("p", "operation", "restart", Vec::new()).letting(lets(&["dev"]));
    let dev = Actor { verified: false, ..actor("dev") };
    let question = Question { actor: &dev, token: None, permission: Permission::OperationRun, subject: &subject };
    assert!(!decide(&question, &Rules::new(&world.0, &[])).allowed);
}
