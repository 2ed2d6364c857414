//! Stories of changes: people at a forge that keeps the rules of GitHub, a server, and terraform.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::server::Server;
use common::wait;
use serde_json::Value;
use windlass_testkit::TestkitError;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::forge::Forge;
use windlass_testkit::forge::state::{ACCOUNT, ChangeState, Protection, REPOSITORY, TOKEN, Word};

const SECRET: &str = "told-to-the-forge-and-to-us";

const DEFINITIONS: &str = r#"
project "shop" {
  default_role = "viewer"
  changes {
    CHANGES
  }
  environment "production" {
    match = ["db"]
    approvals {
      count = 1
      from  = [team.sre]
    }
  }
}
team "sre" { members = ["github:company/sre"] }
team "dev" { members = ["github:anna", "github:dora"] }
grant "sre" {
  to   = [team.sre]
  role = "operator"
}
grant "dev" {
  to   = [team.dev]
  role = "operator"
}
"#;

/// A forge and how people are called there.
struct Place {
    start: fn() -> Result<Forge, TestkitError>,
    kind: &'static str,
    api: &'static str,
    /// What stands before a login, and the name of the team of bob.
    prefix: &'static str,
    team: &'static str,
    /// Its words for a status that is pending, and one that is good.
    pending: &'static str,
    good: &'static str,
}

const GITHUB: Place = Place {
    start: Forge::github,
    kind: "github",
    api: "/api/v3",
    prefix: "github:",
    team: "company/sre",
    pending: "pending",
    good: "success",
};

impl Place {
    fn definitions(&self, changes: &str) -> String {
        let text = DEFINITIONS.replace("CHANGES", changes);
        // Teams are not called by the ids of accounts.
        let scheme = self.prefix.split_inclusive(':').next().unwrap_or_default();
        text.replace("github:company/sre", &format!("{scheme}{}", self.team)).replace("github:", self.prefix)
    }
}

struct World {
    forge: Forge,
    env: CliEnv,
    configuration: String,
    server: Option<Server>,
}

impl World {
    /// `db` is of production and `web` of nothing; bob is of team sre. `changes` is what the project says of changes.
    fn new(changes: &str) -> Self {
        Self::at(&GITHUB, changes)
    }

    fn at(place: &Place, changes: &str) -> Self {
        let (forge, env) = ((place.start)().unwrap(), CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap());
        let (token, secret) = (env.home().join("token"), env.home().join("secret"));
        std::fs::write(&token, TOKEN).unwrap();
        std::fs::write(&secret, SECRET).unwrap();
        let files = [
            ("windlass.hcl".to_owned(), place.definitions(changes)),
            ("db/main.tf".to_owned(), stack(&env, "db", "1")),
            ("web/main.tf".to_owned(), stack(&env, "web", "1")),
            (".github/CODEOWNERS".to_owned(), "/db/ @company/dba\n".to_owned()),
        ];
        let files: Vec<(&str, Option<&str>)> =
            files.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect();
        let url = forge.with(|state| {
            state.teams.insert(place.team.into(), ["bob".to_owned()].into());
            for login in ["anna", "bob", "dora", "eve"] {
                state.person(login);
            }
            state.push("anna", REPOSITORY, "main", None, &files).unwrap();
            state.main().unwrap().path().display().to_string()
        });
        let configuration = format!(
            "webhook_secrets = [{secret:?}]\n[[repository]]\nname = \"shop\"\nurl = {url:?}\nbranch = \"main\"\nevery = 5\n\
             [repository.forge]\nkind = \"{}\"\napi = \"{}\"\nrepository = \"{REPOSITORY}\"\ntoken_file = {token:?}\n",
            place.kind,
            forge.url(place.api)
        );
        let server = Server::of(&env, &configuration);
        let world = Self { forge, env, configuration, server: Some(server) };
        world.listen();
        world
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Has the forge tell the server that runs now.
    fn listen(&self) {
        self.forge.deliveries().send_to(&format!("{}/webhooks", self.server().url), SECRET);
    }

    fn restart(&mut self) {
        // Killed, as by a crash.
        drop(self.server.take());
        self.server = Some(Server::of(&self.env, &self.configuration));
        self.listen();
    }

    /// Somebody pushes a version of a stack to a branch, from `main` where there is none yet.
    fn push(&self, login: &str, branch: &str, name: &str, version: &str) -> String {
        let text = stack(&self.env, name, version);
        let path = format!("{name}/main.tf");
        self.forge.with(|state| state.push(login, REPOSITORY, branch, None, &[(&path, Some(&text))]).unwrap())
    }

    fn open(&self, login: &str, branch: &str) -> u64 {
        self.forge.with(|state| state.open(login, branch, REPOSITORY, branch, "main").unwrap())
    }

    fn says(&self, login: &str, number: u64, text: &str) -> u64 {
        self.forge.with(|state| state.comment(login, number, text).unwrap().id)
    }

    /// Our comments on a change.
    fn comments(&self, number: u64) -> Vec<String> {
        self.forge.with(|state| {
            let change = state.change(number).unwrap();
            change.comments.iter().filter(|c| c.author == ACCOUNT).map(|c| c.body.clone()).collect()
        })
    }

    /// Waits until our one comment says something.
    #[track_caller]
    fn shows(&self, number: u64, texts: &[&str]) -> String {
        let mut last = Vec::new();
        let shown = common::wait_or(|| {
            last = self.comments(number);
            let [comment] = last.as_slice() else { return None };
            texts.iter().all(|text| comment.contains(text)).then(|| comment.clone())
        });
        shown.unwrap_or_else(|| {
            let log = std::fs::read_to_string(self.env.home().join("server.log")).unwrap_or_default();
            panic!("{texts:?} is not shown: {last:#?}\n{log}")
        })
    }

    /// The newest state of a status of the head, such as `pending`.
    fn status(&self, number: u64, name: &str) -> Option<(String, String)> {
        self.forge.with(|state| {
            let commit = state.change(number).unwrap().commit.clone();
            let found = state.statuses_of(&commit).into_iter().find(|status| status.name == name);
            found.map(|status| (status.state, status.text))
        })
    }

    #[track_caller]
    fn has_status(&self, number: u64, name: &str, want: &str) {
        let mut last = None;
        let found = common::wait_or(|| {
            last = self.status(number, name);
            last.as_ref().filter(|(state, _)| state == want).map(drop)
        });
        assert!(found.is_some(), "{name} is not {want}: {last:?}");
    }

    /// The answers to a comment.
    #[track_caller]
    fn is_answered(&self, number: u64, comment: u64, reaction: &str) {
        let mut last = Vec::new();
        let found = common::wait_or(|| {
            last = self.forge.with(|state| {
                let change = state.change(number).unwrap();
                let comment = change.comments.iter().find(|found| found.id == comment).unwrap();
                comment.reactions.iter().map(|(_, reaction)| reaction.clone()).collect::<Vec<_>>()
            });
            last.iter().any(|found| found == reaction).then_some(())
        });
        let log = || std::fs::read_to_string(self.env.home().join("server.log")).unwrap_or_default();
        assert!(
            found.is_some(),
            "it is not answered with {reaction}: {last:?}\n{:#?}\n{}",
            self.comments(number),
            log()
        );
    }

    fn state(&self, number: u64) -> ChangeState {
        self.forge.with(|state| state.change(number).unwrap().state)
    }

    /// Lets the apply of a version end.
    fn open_gate(&self, version: &str) {
        std::fs::write(self.env.home().join(format!("gate-{version}")), "").unwrap();
    }

    /// What terraform made of a stack.
    fn made(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.env.home().join(format!("{name}.tfstate"))).ok()?;
        let state: Value = serde_json::from_str(&text).ok()?;
        let input = &state["resources"][0]["instances"][0]["attributes"]["input"]["value"];
        input.as_str().map(str::to_owned)
    }
}

/// A stack with a state beside the server.
fn stack(env: &CliEnv, name: &str, version: &str) -> String {
    let state = env.home().join(format!("{name}.tfstate"));
    format!(
        "terraform {{\n  backend \"local\" {{\n    path = \"{}\"\n  }}\n}}\nresource \"terraform_data\" \"{name}\" {{\n  \
         input = \"{name}-{version}\"\n}}\n",
        state.display()
    )
}

/// The same, whose apply ends when its gate is opened.
fn gated(env: &CliEnv, name: &str, version: &str) -> String {
    let gate = env.home().join(format!("gate-{version}"));
    let wait = format!("for i in $(seq 1200); do [ -e {} ] && exit 0; sleep 0.05; done; exit 1", gate.display());
    let resource = format!(
        "  triggers_replace = \"{version}\"\n  provisioner \"local-exec\" {{\n    command = \"{wait}\"\n  }}\n}}\n"
    );
    let text = stack(env, name, version);
    format!("{}{resource}", text.trim_end().trim_end_matches('}'))
}

#[test]
fn a_change_is_planned_approved_applied_and_merged_in_one_comment() {
    let world = World::new("merge = true\ndelete_branch = true\nlabels = true");
    world.forge.with(|state| {
        state.protection = Protection { statuses: vec!["windlass".into(), "windlass/production".into()], approvals: 1 };
    });
    world.push("anna", "topic", "db", "2");
    let number = world.open("anna", "topic");
    let comment = world.shows(number, &["terraform_data.db", "asks for 1 approval from team sre", "@company/dba"]);
    assert!(comment.contains("windlass approve") && !comment.contains("windlass approve 0"), "{comment}");
    world.has_status(number, "windlass/production", "pending");
    world.has_status(number, "windlass", "pending");
    // Nobody approves their own, and who is of no team counts for nothing.
    let own = world.says("anna", number, "windlass approve");
    world.is_answered(number, own, "eyes");
    let early = world.says("dora", number, "windlass apply");
    world.is_answered(number, early, "-1");
    world.shows(number, &["is not approved"]);
    assert_eq!(world.made("db"), None);
    let stranger = world.says("eve", number, "windlass apply");
    world.is_answered(number, stranger, "-1");
    // A review of the forge is an approval here.
    world.forge.with(|state| state.review("bob", number, Word::Approves).unwrap());
    world.shows(number, &["`windlass apply`"]);
    let apply = world.says("dora", number, "windlass apply");
    world.is_answered(number, apply, "eyes");
    world.shows(number, &["Applied"]);
    world.has_status(number, "windlass", "success");
    assert_eq!(world.made("db").as_deref(), Some("db-2"));
    wait(|| (world.state(number) == ChangeState::Merged).then_some(()));
    wait(|| world.forge.with(|state| state.main().unwrap().commit("refs/heads/topic").is_none()).then_some(()));
    let labels = world.forge.with(|state| state.change(number).unwrap().labels.clone());
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), ["add-or-update"]);
    assert_eq!(world.comments(number).len(), 1);
    let calls = world.forge.calls(number);
    assert!(calls < 150, "{calls} requests for one change");
}

#[test]
fn every_forge_has_the_same_story() {
    let places = [
        Place { start: Forge::gitea, kind: "gitea", api: "/api/v1", prefix: "gitea:", ..GITHUB },
        Place { start: Forge::gitlab, kind: "gitlab", api: "/api/v4", prefix: "gitlab:", ..GITHUB },
        Place {
            start: Forge::bitbucket,
            kind: "bitbucket",
            api: "/2.0",
            prefix: "bitbucket:557058:",
            pending: "INPROGRESS",
            good: "SUCCESSFUL",
            ..GITHUB
        },
        Place {
            start: Forge::data_center,
            kind: "bitbucket_data_center",
            api: "/rest/api/latest",
            prefix: "bitbucket:",
            team: "sre",
            pending: "INPROGRESS",
            good: "SUCCESSFUL",
        },
    ];
    for place in places {
        eprintln!("{}", place.kind);
        let world = World::at(&place, "merge = true\ndelete_branch = true\nlabels = true");
        world.forge.with(|state| {
            let statuses = vec!["windlass".into(), "windlass/production".into()];
            state.protection = Protection { statuses, approvals: 1 };
        });
        world.push("anna", "feature/topic", "db", "2");
        let number = world.open("anna", "feature/topic");
        world.shows(number, &["terraform_data.db", "asks for 1 approval from team sre"]);
        world.has_status(number, "windlass/production", place.pending);
        world.says("dora", number, "windlass apply");
        world.shows(number, &["is not approved"]);
        world.forge.with(|state| state.review("bob", number, Word::Approves).unwrap());
        world.shows(number, &["Ready"]);
        world.says("dora", number, "windlass apply");
        world.shows(number, &["Applied"]);
        world.has_status(number, "windlass", place.good);
        assert_eq!(world.made("db").as_deref(), Some("db-2"));
        wait(|| (world.state(number) == ChangeState::Merged).then_some(()));
        let is_gone = || world.forge.with(|state| state.main().unwrap().commit("refs/heads/feature/topic").is_none());
        wait(|| is_gone().then_some(()));
        assert_eq!(world.comments(number).len(), 1);
    }
}

#[test]
fn two_people_approve_push_and_dismiss() {
    let world = World::new("");
    world.push("anna", "topic", "db", "2");
    let number = world.open("anna", "topic");
    world.shows(number, &["asks for 1 approval from team sre"]);
    world.forge.with(|state| state.review("bob", number, Word::Approves).unwrap());
    world.shows(number, &["Ready"]);
    // A push that changes nothing of what is done keeps the approval; one that does asks again.
    world.forge.with(|state| {
        state.push("anna", REPOSITORY, "topic", None, &[("db/README.md", Some("more\n"))]).unwrap();
    });
    let head = world.forge.with(|state| state.change(number).unwrap().commit.clone());
    world.shows(number, &[&head[..7], "windlass apply"]);
    world.has_status(number, "windlass", "pending");
    world.push("anna", "topic", "db", "3");
    world.shows(number, &["db-3", "asks for 1 approval from team sre"]);
    world.forge.with(|state| state.review("bob", number, Word::Approves).unwrap());
    world.shows(number, &["db-3", "Ready"]);
    world.forge.with(|state| state.dismiss("anna", number, "bob").unwrap());
    world.shows(number, &["db-3", "asks for 1 approval from team sre"]);
    let apply = world.says("dora", number, "windlass apply");
    world.is_answered(number, apply, "-1");
    assert_eq!(world.made("db"), None);
}

#[test]
fn nobody_approves_what_they_pushed_to_a_branch_of_somebody_else() {
    let world = World::new("");
    world.forge.with(|state| state.teams.get_mut("company/sre").unwrap().insert("carol".into()));
    world.push("anna", "topic", "db", "2");
    let number = world.open("anna", "topic");
    world.shows(number, &["db-2", "asks for 1 approval from team sre, has 0"]);
    world.push("bob", "topic", "db", "3");
    world.shows(number, &["db-3", "asks for 1 approval from team sre, has 0"]);
    world.forge.with(|state| state.review("bob", number, Word::Approves).unwrap());
    world.shows(number, &["db-3", "has 0", "an author of the change may not approve it"]);
    let own = world.says("bob", number, "windlass approve");
    world.is_answered(number, own, "eyes");
    let apply = world.says("dora", number, "windlass apply");
    world.is_answered(number, apply, "-1");
    world.forge.with(|state| state.review("carol", number, Word::Approves).unwrap());
    world.shows(number, &["db-3", "Ready"]);
    let asked = world.forge.heard().iter().filter(|heard| heard.path.contains("/commits?")).count();
    assert_eq!(asked, 2, "once for each head");
    // Whom the forge does not know may be the one who approves: it takes one more.
    world.forge.with(|state| assert!(state.nameless.insert("zoe".into())));
    world.push("zoe", "topic", "db", "4");
    world.shows(number, &["db-4", "`zoe <zoe@example.com>` has signed a commit", "asks for 2 approvals"]);
    world.forge.with(|state| state.review("carol", number, Word::Approves).unwrap());
    world.shows(number, &["db-4", "asks for 2 approvals from team sre, has 1"]);
    world.forge.with(|state| {
        state.teams.get_mut("company/sre").unwrap().insert("fred".into());
        state.review("fred", number, Word::Approves).unwrap();
    });
    world.shows(number, &["db-4", "Ready"]);
}

#[test]
fn two_changes_of_one_stack_go_one_after_the_other() {
    let world = World::new("");
    world.push("anna", "one", "web", "one");
    world.push("dora", "two", "web", "two");
    let (one, two) = (world.open("anna", "one"), world.open("dora", "two"));
    world.shows(one, &["web-one", "windlass apply"]);
    world.shows(two, &["web-two", "windlass apply"]);
    let apply = world.says("anna", one, "windlass apply");
    world.is_answered(one, apply, "eyes");
    world.shows(one, &["Applied", "held for it"]);
    // The other one waits, and says for whom.
    let late = world.says("dora", two, "windlass apply");
    world.is_answered(two, late, "eyes");
    world.shows(two, &["waits for", "windlass unlock", "Applied as soon as", "is merged or closed"]);
    assert_eq!(world.made("web").as_deref(), Some("web-one"));
    world.forge.with(|state| state.merge("anna", one, None, windlass_testkit::forge::Method::Merge).unwrap().unwrap());
    // It is free, and planned again as its base moved; both wrote the same file, which people solve.
    let text = stack(&world.env, "web", "two");
    world.forge.with(|state| {
        state.push("dora", REPOSITORY, "two", Some("refs/heads/main"), &[("web/main.tf", Some(&text))]).unwrap();
    });
    // It does something else now: who asked for it is asked again.
    world.shows(two, &["web-one", "web-two", "Ready", "the apply does not begin"]);
    let now = world.says("dora", two, "windlass apply");
    world.is_answered(two, now, "eyes");
    world.shows(two, &["Applied"]);
    assert_eq!(world.made("web").as_deref(), Some("web-two"));
    let unlock = world.says("dora", two, "windlass unlock");
    world.is_answered(two, unlock, "eyes");
}

#[test]
fn who_waits_in_a_queue_is_applied_when_it_is_their_turn() {
    let world = World::new("");
    let apply = |number: u64, who: &str| {
        let said = world.says(who, number, "windlass apply");
        world.is_answered(number, said, "eyes");
    };
    world.push("anna", "one", "web", "one");
    let one = world.open("anna", "one");
    world.shows(one, &["web-one", "Ready"]);
    apply(one, "anna");
    world.shows(one, &["Applied", "held for it"]);
    // Those after it build on it.
    for (name, who) in [("two", "dora"), ("three", "anna"), ("four", "dora")] {
        let text = stack(&world.env, "web", name);
        let from = Some("refs/heads/one");
        world.forge.with(|state| state.push(who, REPOSITORY, name, from, &[("web/main.tf", Some(&text))]).unwrap());
        let number = world.open(who, name);
        world.shows(number, &["web-one", &format!("web-{name}"), "Waits for"]);
        apply(number, who);
        let shown = world.shows(number, &["Applied as soon as", &format!("`{who}` asked for the apply")]);
        assert!(!shown.contains("`windlass apply`"), "{shown}");
    }
    let (two, three, four) = (one + 1, one + 2, one + 3);
    // Somebody who may not apply may not withdraw it either; who asked may, and a push does.
    let stranger = world.says("eve", two, "windlass cancel");
    world.is_answered(two, stranger, "-1");
    let cancel = world.says("anna", three, "windlass cancel");
    world.is_answered(three, cancel, "eyes");
    world.shows(three, &["the apply that waited is withdrawn"]);
    world.push("dora", "four", "web", "five");
    world.shows(four, &["web-five", "the apply does not begin: a newer commit was pushed"]);
    assert_eq!(world.made("web").as_deref(), Some("web-one"));
    // It is planned anew with what was merged, and does the same.
    world.forge.with(|state| state.merge("anna", one, None, windlass_testkit::forge::Method::Merge).unwrap().unwrap());
    world.shows(two, &["Applied: 1 instance", "held for it"]);
    assert_eq!(world.made("web").as_deref(), Some("web-two"));
    let (_, text) = world.status(four, "windlass").unwrap();
    assert_eq!(text, format!("Waits for #{two} to be merged or closed"));
}

#[test]
fn what_the_network_and_people_do_changes_nothing() {
    let mut world = World::new("");
    // Every delivery is lost: it is found by the push that was fetched, or by asking.
    world.forge.deliveries().lose(usize::MAX);
    world.push("anna", "topic", "web", "2");
    let number = world.open("anna", "topic");
    world.restart();
    world.shows(number, &["web-2", "windlass apply"]);
    world.forge.deliveries().lose(0);
    // The comment is deleted: it is made again, once.
    let id = world.forge.with(|state| {
        let id = state.change(number).unwrap().comments[0].id;
        state.comment_delete("eve", id).unwrap();
        id
    });
    let help = world.says("anna", number, "windlass help");
    world.is_answered(number, help, "eyes");
    world.shows(number, &["web-2", "windlass unlock"]);
    assert!(world.forge.with(|state| state.change(number).unwrap().comments.iter().all(|comment| comment.id != id)));
    // The answer to its creation is lost, and the same delivery comes three times.
    world.forge.deliveries().repeat(2);
    world.forge.answers_lose(1);
    world.push("anna", "other", "db", "2");
    let other = world.open("anna", "other");
    world.shows(other, &["db-2"]);
    // The forge is away for a while.
    world.forge.refuse(2, 502, None);
    let wrong = world.says("anna", number, "windlass aply");
    world.is_answered(number, wrong, "-1");
    world.shows(number, &["did you mean", "windlass apply"]);
    // The server dies in the middle of an apply, and the one after it says how it ended.
    let apply = world.says("anna", number, "windlass apply");
    wait(|| {
        let runs = world.server().get("/api/v1/projects/shop/runs?kind=apply").json();
        runs["items"].as_array().is_some_and(|runs| !runs.is_empty()).then_some(())
    });
    world.restart();
    world.is_answered(number, apply, "eyes");
    world.shows(number, &["Applied"]);
    assert_eq!(world.made("web").as_deref(), Some("web-2"));
    assert_eq!((world.comments(number).len(), world.comments(other).len()), (1, 1));
}

#[test]
fn what_is_being_applied_goes_on_whatever_happens() {
    let world = World::new("");
    let push = |version: &str, from: Option<&str>| {
        let text = gated(&world.env, "web", version);
        world
            .forge
            .with(|state| state.push("anna", REPOSITORY, "topic", from, &[("web/main.tf", Some(&text))]).unwrap())
    };
    push("2", None);
    let number = world.open("anna", "topic");
    world.shows(number, &["web-2", "windlass apply"]);
    let apply = world.says("anna", number, "windlass apply");
    world.is_answered(number, apply, "eyes");
    world.shows(number, &["Applying: 0 of 1"]);
    // Forced to something else meanwhile: that is planned when the apply has ended.
    push("3", Some("refs/heads/main"));
    let late = world.says("anna", number, "windlass plan");
    world.is_answered(number, late, "-1");
    assert_eq!(world.made("web"), None);
    world.open_gate("2");
    world.shows(number, &["web-3", "Ready"]);
    assert_eq!(world.made("web").as_deref(), Some("web-2"));
    // Merged by hand meanwhile: the result is told all the same, and what was applied counts.
    let again = world.says("anna", number, "windlass apply");
    world.is_answered(number, again, "eyes");
    world.shows(number, &["Applying: 0 of 1"]);
    world
        .forge
        .with(|state| state.merge("bob", number, None, windlass_testkit::forge::Method::Merge).unwrap().unwrap());
    world.open_gate("3");
    world.shows(number, &["Applied: 1 instance"]);
    assert_eq!(world.made("web").as_deref(), Some("web-3"));
    // Its place is free at once, and environments say what they run.
    let listed = wait(|| {
        let listed = world.server().get("/api/v1/projects/shop/changes?state=merged").json();
        (listed["items"][0]["says"] == "Applied").then_some(listed)
    });
    assert_eq!((&listed["items"][0]["number"], &listed["items"][0]["queued"]), (&number.into(), &false.into()));
    let one = world.server().get(&format!("/api/v1/projects/shop/changes/{number}")).json();
    assert_eq!(one, listed["items"][0]);
    assert_eq!(world.server().get("/api/v1/projects/shop/changes/99").status, 404);
    assert!(world.server().get("/changes").text().contains("topic"));
}

#[test]
fn a_base_that_moved_is_planned_again_where_it_matters() {
    let world = World::new("");
    world.push("anna", "topic", "db", "2");
    let number = world.open("anna", "topic");
    world.shows(number, &["db-2", "asks for 1 approval"]);
    let review =
        |world: &World| world.server().get(&format!("/api/v1/projects/shop/changes/{number}")).json()["review"].clone();
    let first = review(&world);
    // Another stack moves: nothing is planned again, which the next look knows.
    world.push("dora", "main", "web", "2");
    let moved = world.forge.with(|state| state.main().unwrap().commit("refs/heads/main").unwrap());
    let follows = |commit: &str| {
        wait(|| (world.server().get("/api/v1/projects/shop").json()["commit"] == commit).then_some(()));
    };
    follows(&moved);
    let help = world.says("anna", number, "windlass help");
    world.is_answered(number, help, "eyes");
    assert_eq!(review(&world), first);
    // Its own stack does.
    let more = "resource \"terraform_data\" \"more\" {}\n";
    world.forge.with(|state| {
        state.push("dora", REPOSITORY, "main", None, &[("db/more.tf", Some(more))]).unwrap();
    });
    wait(|| (review(&world) != first).then_some(()));
    // Closed while it is planned, or just after: it stops, and says so.
    world.forge.with(|state| state.close("anna", number).unwrap());
    world.shows(number, &["The change is closed"]);
    let closed = world.server().get("/api/v1/projects/shop/changes?state=open").json();
    assert_eq!(closed["items"], serde_json::json!([]));
}

#[test]
fn what_is_merged_is_applied_then_where_the_project_says_so() {
    let world = World::new("apply = \"on_merge\"");
    world.push("anna", "topic", "web", "2");
    let number = world.open("anna", "topic");
    world.shows(number, &["web-2", "applied as soon as it is merged"]);
    world.has_status(number, "windlass", "success");
    assert_eq!(world.made("web"), None);
    world
        .forge
        .with(|state| state.merge("anna", number, None, windlass_testkit::forge::Method::Squash).unwrap().unwrap());
    world.shows(number, &["Applied"]);
    assert_eq!(world.made("web").as_deref(), Some("web-2"));
    // Merged before anybody approved: the first page says so until it is applied.
    world.push("anna", "store", "db", "2");
    let number = world.open("anna", "store");
    world.shows(number, &["db-2", "asks for 1 approval"]);
    world
        .forge
        .with(|state| state.merge("anna", number, None, windlass_testkit::forge::Method::Merge).unwrap().unwrap());
    let unapplied = || world.server().get("/api/v1/projects/shop/changes?state=unapplied").json()["items"].clone();
    wait(|| (unapplied()[0]["number"] == number).then_some(()));
    let home = world.server().get("/").text();
    assert!(home.contains("Merged, not applied") && home.contains(&format!("{number} store")), "{home}");
    world.shows(number, &["Waits for approval"]);
    let approve = world.says("bob", number, "windlass approve");
    world.is_answered(number, approve, "eyes");
    world.shows(number, &["Applied"]);
    assert_eq!(world.made("db").as_deref(), Some("db-2"));
    wait(|| (unapplied() == serde_json::json!([])).then_some(()));
    let home = world.server().get("/").text();
    assert!(!home.contains("Merged, not applied"), "{home}");
    // What is closed while it is planned stops, and nothing of a fork runs by itself.
    let fork = world.forge.with(|state| state.fork("eve").unwrap());
    let text = stack(&world.env, "web", "evil");
    let strange = world.forge.with(|state| {
        state.push("eve", &fork, "topic", None, &[("web/main.tf", Some(&text))]).unwrap();
        state.open("eve", "from elsewhere", &fork, "topic", "main").unwrap()
    });
    world.shows(strange, &["Nothing of a fork is run by itself"]);
    let own = world.says("eve", strange, "windlass plan");
    world.is_answered(strange, own, "-1");
    let let_in = world.says("dora", strange, "windlass plan");
    world.is_answered(strange, let_in, "eyes");
    world.shows(strange, &["web-evil"]);
    world.forge.with(|state| state.close("eve", strange).unwrap());
    world.shows(strange, &["The change is closed"]);
    assert_eq!(world.made("web").as_deref(), Some("web-2"));
}
