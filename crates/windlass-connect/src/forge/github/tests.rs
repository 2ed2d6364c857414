//! Against a GitHub that keeps the documented rules, over real repositories.

use super::super::{AppSettings, ForgeKind, ForgeSettings, connect, connect_as};
use super::*;
use std::path::PathBuf;
use std::time::Duration;
use windlass_testkit::forge::Forge as Fake;
use windlass_testkit::forge::github::App;
use windlass_testkit::forge::state::{ACCOUNT, Budget as Asked, Protection, REPOSITORY, Right, TOKEN, Word};

/// A change of anna's, `#1`, and who follows it.
struct World {
    fake: Fake,
    folder: tempfile::TempDir,
    settings: ForgeSettings,
    forge: Box<dyn Forge>,
}

impl World {
    fn new() -> Self {
        let (fake, folder) = (Fake::github().unwrap(), tempfile::tempdir().unwrap());
        let token = folder.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        let settings = ForgeSettings {
            kind: ForgeKind::Github,
            api: Some(fake.url("/api/v3")),
            repository: Some(REPOSITORY.into()),
            token_file: Some(token),
            app: None,
            root_certificates: None,
        };
        fake.with(|state| {
            state.push("anna", REPOSITORY, "vpc", None, &[("main.tf", Some("# vpc\n"))]).unwrap();
            assert_eq!(state.open("anna", "A wider net", REPOSITORY, "vpc", "main").unwrap(), 1);
        });
        let forge = connect(&settings, "/srv/infra.git").unwrap();
        Self { fake, folder, settings, forge }
    }

    fn head(&self) -> String {
        self.forge.change(1).unwrap().unwrap().head.commit
    }

    fn app(&self, app: &App) -> Box<dyn Forge> {
        let key_file = self.folder.path().join("key.pem");
        std::fs::write(&key_file, &app.key).unwrap();
        let app = AppSettings { id: app.id.clone(), key_file, installation: None };
        let settings = ForgeSettings { token_file: None, app: Some(app), ..self.settings.clone() };
        connect(&settings, "/srv/infra.git").unwrap()
    }

    /// Requests of this method and path.
    fn asked(&self, method: &str, part: &str) -> usize {
        let heard = self.fake.heard();
        heard.iter().filter(|heard| heard.method == method && heard.path.contains(part)).count()
    }
}

fn check(name: &str, state: CheckState, text: &str) -> Check {
    Check { name: name.into(), state, text: text.into(), url: Some("https://windlass.example/runs/1".into()) }
}

#[test]
fn a_change_is_read_as_it_is() {
    let world = World::new();
    let change = world.forge.change(1).unwrap().unwrap();
    assert_eq!((change.number, change.title.as_str(), change.author.login.as_str()), (1, "A wider net", "anna"));
    assert_eq!((change.state, change.draft, change.base.as_str()), (ChangeState::Open, false, "main"));
    assert_eq!((change.head.branch.as_str(), change.head.fork.as_deref()), ("vpc", None));
    assert_eq!(change.head.reference.as_deref(), Some("refs/pull/1/head"));
    assert_eq!(change.merged_as, None, "what GitHub tried is no merge");
    let real = world.fake.with(|state| state.main().unwrap().commit("refs/pull/1/head"));
    assert_eq!(Some(change.head.commit), real);
    assert_eq!(world.forge.change(99).unwrap(), None);
    // Of a fork, and of one that is not there any more.
    let fork = world.fake.with(|state| {
        let fork = state.fork("carl").unwrap();
        state.push("carl", &fork, "patch", None, &[("x.tf", Some("# x\n"))]).unwrap();
        assert_eq!(state.open("carl", "From elsewhere", &fork, "patch", "main").unwrap(), 2);
        fork
    });
    assert_eq!(world.forge.change(2).unwrap().unwrap().head.fork.as_deref(), Some("carl/infra"));
    world.fake.with(|state| state.fork_delete(&fork).unwrap());
    assert_eq!(world.forge.change(2).unwrap().unwrap().head.fork.as_deref(), Some(""));
    world.fake.with(|state| state.draft_set("anna", 1, true).unwrap());
    assert!(world.forge.change(1).unwrap().unwrap().draft);
}

#[test]
fn changes_are_listed_as_far_as_they_are_wanted() {
    let world = World::new();
    world.fake.with(|state| {
        for number in 2..=230 {
            assert_eq!(state.open("anna", "One of many", REPOSITORY, "vpc", "main").unwrap(), number);
        }
        state.close("anna", 7).unwrap();
        state.comment("bert", 3, "newest").unwrap();
    });
    let numbers = |states: &[ChangeState], since, most| -> Vec<u64> {
        world.forge.changes(states, since, most).unwrap().iter().map(|change| change.number).collect()
    };
    let open = numbers(&[ChangeState::Open], None, 1_000);
    assert_eq!((open.len(), open[0], open[1], open[228]), (229, 3, 230, 1));
    assert_eq!(numbers(&[ChangeState::Open], None, 2), [3, 230]);
    assert_eq!(numbers(&[ChangeState::Closed], None, 1_000), [7]);
    assert_eq!(numbers(&[ChangeState::Merged], None, 1_000), [0; 0]);
    let every = [ChangeState::Open, ChangeState::Merged, ChangeState::Closed];
    assert_eq!(numbers(&every, None, 3), [3, 7, 230]);
    // What was touched in the second of `since` comes again: the forge tells no less.
    let newest = world.forge.changes(&every, None, 1).unwrap()[0].updated_at;
    assert!(numbers(&every, Some(newest), 1_000).contains(&3));
    assert_eq!(numbers(&every, Some(newest + 60_000_000), 1_000), [0; 0]);
}

#[test]
fn a_comment_is_made_changed_found_and_answered() {
    let world = World::new();
    let forge = &world.forge;
    let me = forge.me().unwrap();
    assert_eq!(me.login, ACCOUNT);
    let ours = forge.comment_create(1, "<!-- windlass -->\nplanned").unwrap();
    assert_eq!((&ours.author, ours.body.as_str()), (&me, "<!-- windlass -->\nplanned"));
    let said = world.fake.with(|state| state.comment("bert", 1, "windlass apply").unwrap());
    assert!(forge.comment_update(1, &ours.id, "applied").unwrap());
    let bodies =
        |since| -> Vec<String> { forge.comments(1, since).unwrap().into_iter().map(|comment| comment.body).collect() };
    assert_eq!(bodies(None), ["applied", "windlass apply"]);
    assert_eq!(bodies(Some(ours.created_at + 60_000_000)), [""; 0]);
    let id = said.id.to_string();
    for _ in 0..2 {
        assert!(forge.react(1, &id, Reaction::Seen).unwrap());
        assert!(forge.react(1, &id, Reaction::Refused).unwrap());
    }
    let reactions = world.fake.with(|state| state.comment_find(said.id).unwrap().1.reactions.clone());
    let given = |word: &str| (ACCOUNT.to_owned(), word.to_owned());
    assert_eq!(reactions.into_iter().collect::<Vec<_>>(), [given("-1"), given("eyes")]);
    // Somebody deletes both.
    let ids = [ours.id.parse().unwrap(), said.id];
    world.fake.with(|state| ids.into_iter().for_each(|id| state.comment_delete("anna", id).unwrap()));
    assert!(!forge.comment_update(1, &ours.id, "again").unwrap());
    assert!(forge.react(1, &id, Reaction::Seen).unwrap());
    assert_eq!(bodies(None), [""; 0]);
    // Many of them come in pages.
    world.fake.with(|state| (0..205).for_each(|at| drop(state.comment("bert", 1, &format!("{at}")).unwrap())));
    assert_eq!(bodies(None), (0..205).map(|at| at.to_string()).collect::<Vec<_>>());
    let longest = forge.limits().comment_chars;
    assert!(forge.comment_create(1, &"x".repeat(longest)).is_ok());
    let refused = forge.comment_create(1, &"x".repeat(longest + 1)).unwrap_err();
    assert_eq!((refused.code(), refused.retryable()), ("WL783", false));
    assert!(refused.to_string().contains("Body is too long"), "{refused}");
    assert_eq!(forge.comment_create(1, "").unwrap_err().code(), "WL783");
}

#[test]
fn the_newest_review_of_each_person_counts() {
    let world = World::new();
    let check = |want: &[(&str, Opinion)]| {
        let mut found = world.forge.reviews(1).unwrap();
        found.sort_by(|a, b| a.person.login.cmp(&b.person.login));
        let found: Vec<_> = found.iter().map(|review| (review.person.login.as_str(), review.opinion)).collect();
        assert_eq!(found, want);
    };
    let review = |login: &str, word| world.fake.with(|state| state.review(login, 1, word)).map(drop);
    check(&[]);
    review("bert", Word::Remarks).unwrap();
    check(&[]);
    review("bert", Word::Approves).unwrap();
    review("carl", Word::Refuses).unwrap();
    check(&[("bert", Opinion::Approves), ("carl", Opinion::Refuses)]);
    review("carl", Word::Approves).unwrap();
    review("bert", Word::Remarks).unwrap();
    check(&[("bert", Opinion::Approves), ("carl", Opinion::Approves)]);
    let first = world.head();
    world.fake.with(|state| {
        state.dismiss("anna", 1, "bert").unwrap();
        state.push("anna", REPOSITORY, "vpc", None, &[("more.tf", Some("# more\n"))]).unwrap();
    });
    check(&[("carl", Opinion::Approves)]);
    assert_ne!(world.head(), first);
    assert_eq!(world.forge.reviews(1).unwrap()[0].commit.as_deref(), Some(&*first), "it was given for that one");
    // Nobody approves what is their own.
    assert!(review("anna", Word::Approves).is_err());
}

#[test]
fn statuses_and_labels_are_as_they_were_set_last() {
    let world = World::new();
    let (forge, head) = (&world.forge, world.head());
    forge.check_set(&head, &check("windlass/production", CheckState::Pending, "planning")).unwrap();
    let long = "é".repeat(200);
    forge.check_set(&head, &check("windlass/production", CheckState::Success, &long)).unwrap();
    forge.check_set(&head, &check("windlass", CheckState::Error, "?")).unwrap();
    let statuses = world.fake.with(|state| state.statuses_of(&head));
    let found: Vec<_> = statuses.iter().map(|status| (status.name.as_str(), status.state.as_str())).collect();
    assert_eq!(found, [("windlass", "error"), ("windlass/production", "success")]);
    assert_eq!(statuses[1].text, format!("{}…", "é".repeat(139)));
    let missing = forge.check_set(&"0".repeat(40), &check("windlass", CheckState::Failure, "?")).unwrap_err();
    assert!(missing.to_string().contains("No commit found"), "{missing}");
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    forge.labels_change(1, &names(&["destroy", "a b/c"]), &names(&["no-changes"])).unwrap();
    assert_eq!(forge.change(1).unwrap().unwrap().labels, ["a b/c", "destroy"]);
    forge.labels_change(1, &[], &names(&["a b/c", "error"])).unwrap();
    assert_eq!(forge.change(1).unwrap().unwrap().labels, ["destroy"]);
}

#[test]
fn merging_is_done_once_or_refused_with_words() {
    let world = World::new();
    let (forge, head) = (&world.forge, world.head());
    let merge = |commit: &str| forge.merge(1, commit, MergeMethod::Merge).unwrap();
    let refused = |commit: &str, want: &str| match merge(commit) {
        Merged::Refused(words) => assert!(words.contains(want), "{words}"),
        done => panic!("{done:?}"),
    };
    world.fake.with(|state| {
        state.protection = Protection { statuses: vec!["windlass".into()], approvals: 1 };
    });
    refused(&"0".repeat(40), "Head branch was modified");
    refused(&head, "Required status check \"windlass\"");
    forge.check_set(&head, &check("windlass", CheckState::Success, "applied")).unwrap();
    refused(&head, "approving review");
    world.fake.with(|state| state.review("bert", 1, Word::Approves).unwrap());
    world.fake.with(|state| state.draft_set("anna", 1, true).unwrap());
    refused(&head, "draft");
    world.fake.with(|state| state.draft_set("anna", 1, false).unwrap());
    let Merged::Done(Some(commit)) = merge(&head) else { panic!("it is not merged") };
    let main = world.fake.with(|state| state.main().unwrap().commit("refs/heads/main"));
    assert_eq!(main.as_ref(), Some(&commit));
    assert_eq!(merge(&head), Merged::Done(Some(commit.clone())), "it is merged already");
    let change = forge.change(1).unwrap().unwrap();
    assert_eq!((change.state, change.merged_as), (ChangeState::Merged, Some(commit)));
    // The branch of a change is deleted once.
    forge.branch_delete("vpc").unwrap();
    forge.branch_delete("vpc").unwrap();
    assert_eq!(world.fake.with(|state| state.main().unwrap().commit("refs/heads/vpc")), None);
    assert_eq!(forge.change(1).unwrap().unwrap().head.commit, head, "it is remembered all the same");
    // Two that write the same file differently.
    world.fake.with(|state| {
        for (branch, text) in [("one", "1"), ("two", "2")] {
            state.push("anna", REPOSITORY, branch, Some("refs/heads/main"), &[("same.tf", Some(text))]).unwrap();
            state.open("anna", branch, REPOSITORY, branch, "main").unwrap();
            state.review("bert", if branch == "one" { 2 } else { 3 }, Word::Approves).unwrap();
        }
    });
    for (number, method) in [(2, MergeMethod::Squash), (3, MergeMethod::Rebase)] {
        let head = forge.change(number).unwrap().unwrap().head.commit;
        forge.check_set(&head, &check("windlass", CheckState::Success, "applied")).unwrap();
        let merged = forge.merge(number, &head, method).unwrap();
        assert_eq!(matches!(merged, Merged::Done(_)), number == 2, "{merged:?}");
    }
}

#[test]
fn teams_are_asked_for_their_members() {
    let world = World::new();
    world.fake.with(|state| {
        let members = ["bert".to_owned(), "invited:carl".to_owned()];
        state.teams.insert("company/sre".into(), members.into());
        ["bert", "carl", "dora"].map(|login| state.person(login))
    });
    let person = |login: &str| Person { id: "1".into(), login: login.into() };
    let is = |team: &str, login: &str| world.forge.is_member(team, &person(login));
    assert_eq!(is("company/sre", "bert"), Ok(true));
    assert_eq!(is("company/sre", "carl"), Ok(false), "who is invited is not in it yet");
    assert_eq!(is("company/sre", "dora"), Ok(false));
    assert_eq!(is("sre", "bert"), Ok(false));
    assert_eq!(is("company/none", "bert").unwrap_err().code(), "WL782", "a team that is not shown is no answer");
}

#[test]
fn what_is_not_allowed_is_told_without_the_token() {
    let world = World::new();
    let (forge, head) = (&world.forge, world.head());
    let comment = forge.comment_create(1, "x").unwrap().id;
    let check_set = || forge.check_set(&head, &check("windlass", CheckState::Success, "x"));
    type Act<'a> = (Right, &'a dyn Fn() -> Result<(), ForgeError>);
    let acts: [Act<'_>; 8] = [
        (Right::Comment, &|| forge.comment_create(1, "y").map(drop)),
        (Right::Comment, &|| forge.comment_update(1, &comment, "y").map(drop)),
        (Right::Comment, &|| forge.react(1, &comment, Reaction::Seen).map(drop)),
        (Right::Status, &check_set),
        (Right::Label, &|| forge.labels_change(1, &["x".into()], &[])),
        (Right::Merge, &|| forge.merge(1, &head, MergeMethod::Merge).map(drop)),
        (Right::Members, &|| forge.is_member("company/sre", &forge.me()?).map(drop)),
        // What may not be seen is not there, which is not the same as that there is no such change.
        (Right::Read, &|| forge.change(1).map(drop)),
    ];
    for (right, act) in acts {
        let others: Vec<Right> = Right::ALL.into_iter().filter(|other| *other != right).collect();
        world.fake.allow(&others);
        let error = act().unwrap_err();
        assert_eq!((error.code(), error.retryable(), error.unsure()), ("WL782", false, false), "{right:?} {error}");
        assert!(!error.to_string().contains("4711"), "{error}");
    }
    world.fake.allow(&Right::ALL);
    let file = world.settings.token_file.clone().unwrap();
    std::fs::write(&file, "another-4711").unwrap();
    let wrong = forge.change(1).unwrap_err();
    assert_eq!(wrong.code(), "WL782");
    assert!(wrong.to_string().ends_with("401 Bad credentials"), "{wrong}");
    std::fs::write(&file, TOKEN).unwrap();
    assert!(forge.change(1).is_ok(), "a new token counts at once");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(forge.change(1).unwrap_err().code(), "WL780");
}

#[test]
fn an_outage_a_limit_and_a_lost_answer_are_told_apart() {
    let world = World::new();
    let forge = &world.forge;
    world.fake.refuse(1, 502, None);
    let out = forge.comment_create(1, "x").unwrap_err();
    assert_eq!((out.code(), out.retryable(), out.unsure(), out.after()), ("WL781", true, true, None));
    world.fake.refuse(1, 429, Some(17));
    let limited = forge.change(1).unwrap_err();
    assert_eq!((limited.after(), limited.unsure()), (Some(Duration::from_secs(17)), false));
    assert!(forge.comments(1, None).unwrap().is_empty());
    world.fake.answers_lose(1);
    let lost = forge.comment_create(1, "once").unwrap_err();
    assert_eq!((lost.code(), lost.unsure()), ("WL781", true), "{lost}");
    let me = forge.me().unwrap();
    let ours = forge.comments(1, None).unwrap();
    assert_eq!(
        ours.iter().map(|comment| (&comment.author, comment.body.as_str())).collect::<Vec<_>>(),
        [(&me, "once")]
    );
    // Requests are counted, and told.
    assert_eq!(forge.budget(), None);
    let now = api_now();
    world.fake.with(|state| state.budget = Some(Asked { limit: 5_000, remaining: 2, resets_at: now + 600 }));
    forge.change(1).unwrap();
    forge.change(1).unwrap();
    let budget = forge.budget().unwrap();
    assert_eq!((budget.limit, budget.remaining, budget.resets_at), (5_000, 0, (now + 600) * 1_000_000));
    let spent = forge.change(1).unwrap_err();
    let after = spent.after().unwrap().as_secs();
    assert!((500..=601).contains(&after), "{spent} {after}");
    assert_eq!(spent.code(), "WL781");
}

/// Seconds of the epoch.
fn api_now() -> i64 {
    super::super::api::now() / 1_000_000
}

#[test]
fn an_app_signs_for_itself_and_asks_for_a_token_only_when_it_needs_one() {
    let world = World::new();
    let app = App::new("windlass").unwrap();
    world.fake.with(|state| state.app = Some(app.clone()));
    let forge = world.app(&app);
    let me = forge.me().unwrap();
    assert_eq!(me.login, "windlass[bot]");
    let comment = forge.comment_create(1, "from an app").unwrap();
    assert_eq!(comment.author, me);
    assert_eq!((world.asked("GET", "/installation"), world.asked("POST", "/access_tokens")), (1, 1));
    // A token that ends within a minute is as good as none.
    let other = world.app(&app);
    world.fake.with(|state| state.app.as_mut().unwrap().lasts = 30);
    other.change(1).unwrap();
    other.change(1).unwrap();
    assert_eq!(world.asked("POST", "/access_tokens"), 3);
    // One that was taken away is replaced with the request after.
    world.fake.with(|state| state.app.as_mut().unwrap().lasts = 3_600);
    other.change(1).unwrap();
    world.fake.with(|state| state.tokens.retain(|token, _| !token.starts_with("ghs_")));
    assert_eq!(other.change(1).unwrap_err().code(), "WL782");
    other.change(1).unwrap();
    // A token of a job of Actions is one of an installation, too.
    let token = world.fake.with(|state| state.tokens.keys().rfind(|token| token.starts_with("ghs_")).unwrap().clone());
    let job = connect_as(&world.settings, Account::Token(token), "/srv/infra.git").unwrap();
    assert_eq!(job.me().unwrap(), me);
}

#[test]
fn an_app_that_cannot_be_says_why() {
    let world = World::new();
    let app = App::new("windlass").unwrap();
    let refused = |forge: Box<dyn Forge>, code: &str, want: &str| {
        let error = forge.change(1).unwrap_err();
        assert!(error.code() == code && error.to_string().contains(want), "{error}");
    };
    refused(world.app(&app), "WL782", "401 A JSON web token could not be decoded");
    let mut installed = app.clone();
    installed.installation = 9;
    world.fake.with(|state| state.app = Some(installed));
    let settings = |key_file: PathBuf, installation| {
        let app = AppSettings { id: app.id.clone(), key_file, installation };
        let settings = ForgeSettings { token_file: None, app: Some(app), ..world.settings.clone() };
        connect(&settings, "/srv/infra.git").unwrap()
    };
    let file = |name: &str, text: &str| {
        let path = world.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let good = file("good.pem", &app.key);
    refused(settings(good, Some(8)), "WL782", "not installed there");
    refused(settings(file("empty.pem", "\n"), None), "WL780", "is empty");
    refused(settings(file("none.pem", "a key"), None), "WL780", "holds no private key");
    refused(settings(world.folder.path().join("missing.pem"), None), "WL780", "cannot be read");
    let other = App::new("windlass").unwrap();
    refused(settings(file("other.pem", &other.key), None), "WL782", "401");
}
