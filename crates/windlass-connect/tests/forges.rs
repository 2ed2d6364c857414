//! The same conversation with every forge, against ones that keep the rules of each.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::time::Duration;
use tempfile::NamedTempFile;
use windlass_connect::forge::{Forge, ForgeError, ForgeKind, ForgeSettings, connect, touched};
use windlass_model::change::authors::Authors;
use windlass_model::change::{
    Change, ChangeState, Check, CheckState, Head, MergeMethod, Merged, Opinion, Person, Reaction,
};
use windlass_testkit::forge::state::{ACCOUNT, Budget, Protection, REPOSITORY, Right, State, TOKEN, Word};
use windlass_testkit::forge::{Forge as Server, bitbucket};

/// A forge and what is its own.
struct Case {
    server: Server,
    port: Box<dyn Forge>,
    settings: ForgeSettings,
    /// The token is read when it is needed.
    _token: NamedTempFile,
    /// How the port calls an account.
    login: fn(&str) -> String,
    /// Under which reference the head of a change is.
    reference: fn(u64) -> Option<String>,
    /// Its words for pending, success, failure and error.
    words: [&'static str; 4],
    /// Whether a person who is no part of the repository has a say, commits are told with reviews, changes have labels, and
    /// comments are answered without a word.
    outsiders: bool,
    commits: bool,
    labels: bool,
    /// For what was seen, and for what was refused.
    reactions: Option<[&'static str; 2]>,
}

fn same(login: &str) -> String {
    login.to_owned()
}

fn case(kind: ForgeKind) -> Case {
    let (server, api) = match kind {
        ForgeKind::Gitea | ForgeKind::Forgejo => (Server::gitea().unwrap(), "/api/v1"),
        ForgeKind::Gitlab => (Server::gitlab().unwrap(), "/api/v4"),
        ForgeKind::Bitbucket => (Server::bitbucket().unwrap(), "/2.0"),
        ForgeKind::BitbucketDataCenter => (Server::data_center().unwrap(), "/rest/api/latest"),
        ForgeKind::Github => (Server::github().unwrap(), ""),
    };
    let token = NamedTempFile::new().unwrap();
    std::fs::write(token.path(), format!("{TOKEN}\n")).unwrap();
    let settings = ForgeSettings {
        kind,
        api: Some(server.url(api)),
        repository: Some(REPOSITORY.into()),
        token_file: Some(token.path().to_owned()),
        app: None,
        root_certificates: None,
    };
    let port = connect(&settings, "/srv/infra.git").unwrap();
    let common = Case {
        server,
        port,
        settings,
        _token: token,
        login: same,
        reference: |number| Some(format!("refs/pull/{number}/head")),
        words: ["pending", "success", "failure", "error"],
        outsiders: true,
        commits: true,
        labels: true,
        reactions: Some(["eyes", "-1"]),
    };
    match kind {
        ForgeKind::Gitea | ForgeKind::Forgejo => Case { outsiders: false, ..common },
        ForgeKind::Gitlab => Case {
            reference: |number| Some(format!("refs/merge-requests/{number}/head")),
            words: ["pending", "success", "failed", "failed"],
            commits: false,
            reactions: Some(["eyes", "thumbsdown"]),
            ..common
        },
        ForgeKind::Bitbucket => Case {
            login: bitbucket::account_id,
            reference: |_| None,
            words: ["INPROGRESS", "SUCCESSFUL", "FAILED", "FAILED"],
            commits: false,
            labels: false,
            reactions: None,
            ..common
        },
        ForgeKind::BitbucketDataCenter => Case {
            reference: |number| Some(format!("refs/pull-requests/{number}/from")),
            words: ["INPROGRESS", "SUCCESSFUL", "FAILED", "FAILED"],
            labels: false,
            reactions: Some(["eyes", "thumbsdown"]),
            ..common
        },
        ForgeKind::Github => common,
    }
}

const KINDS: [ForgeKind; 5] =
    [ForgeKind::Github, ForgeKind::Gitea, ForgeKind::Gitlab, ForgeKind::Bitbucket, ForgeKind::BitbucketDataCenter];

/// Does it with every forge.
fn each(talk: impl Fn(&Case)) {
    for kind in KINDS {
        let case = case(kind);
        eprintln!("{}", case.server.name());
        talk(&case);
    }
}

/// A branch of bob's with one new file, and the change that wants it in `main`.
fn proposed(state: &mut State, branch: &str) -> u64 {
    state.push("bob", REPOSITORY, branch, Some("refs/heads/main"), &[(branch, Some("x\n"))]).unwrap();
    state.open("bob", "a bucket", REPOSITORY, branch, "main").unwrap()
}

fn head(case: &Case, number: u64) -> String {
    case.server.with(|state| state.change(number).unwrap().commit.clone())
}

fn person(case: &Case, login: &str) -> Person {
    let number = case.server.with(|state| {
        let main = state.main().unwrap().commit("refs/heads/main").unwrap();
        state.push(login, REPOSITORY, login, Some(&main), &[(login, Some("x\n"))]).unwrap();
        state.open(login, login, REPOSITORY, login, "main").unwrap()
    });
    case.port.change(number).unwrap().unwrap().author
}

#[test]
fn a_change_is_read_as_it_is() {
    each(|case| {
        assert_eq!(case.port.me().unwrap().login, (case.login)(ACCOUNT));
        assert_eq!(case.port.changes(&[ChangeState::Open], None, 10).unwrap(), []);
        assert_eq!(case.port.change(1).unwrap(), None);
        let number = case.server.with(|state| proposed(state, "feature/one"));
        let read = case.port.change(number).unwrap().unwrap();
        let url = read.url.clone();
        assert!(url.starts_with("http") && url.ends_with('1'), "{url}");
        let want = Change {
            number,
            title: "a bucket".into(),
            url,
            author: Person { id: read.author.id.clone(), login: (case.login)("bob") },
            state: ChangeState::Open,
            draft: false,
            head: Head {
                branch: "feature/one".into(),
                commit: head(case, number),
                fork: None,
                reference: (case.reference)(number),
            },
            base: "main".into(),
            merged_as: None,
            labels: Vec::new(),
            updated_at: read.updated_at,
        };
        assert_eq!(read, want);
        assert_eq!(case.port.changes(&[ChangeState::Open], None, 10).unwrap(), [want]);
        let before = read;
        let commit = case.server.with(|state| {
            state.draft_set("bob", number, true).unwrap();
            state.push("bob", REPOSITORY, "feature/one", None, &[("b", Some("1\n"))]).unwrap()
        });
        let read = case.port.change(number).unwrap().unwrap();
        assert!(read.draft && read.head.commit == commit && read.updated_at >= before.updated_at);
        let fork = case.server.with(|state| {
            let fork = state.fork("mallory").unwrap();
            state.push("mallory", &fork, "theirs", None, &[("c", Some("1\n"))]).unwrap();
            state.open("mallory", "theirs", &fork, "theirs", "main").unwrap();
            fork
        });
        let read = case.port.change(2).unwrap().unwrap();
        assert_eq!((read.head.fork.as_deref(), read.head.commit), (Some(&*fork), head(case, 2)));
        assert_eq!(read.head.reference, (case.reference)(2));
        case.server.with(|state| {
            state.fork_delete(&fork).unwrap();
            state.close("bob", number).unwrap();
        });
        assert_eq!(case.port.change(2).unwrap().unwrap().head.fork.as_deref(), Some(""));
        assert_eq!(case.port.change(number).unwrap().unwrap().state, ChangeState::Closed);
    });
}

#[test]
fn lists_have_pages_and_ends() {
    each(|case| {
        case.server.with(|state| {
            proposed(state, "one");
            for _ in 1..120 {
                state.open("bob", "again", REPOSITORY, "one", "main").unwrap();
            }
            state.close("bob", 120).unwrap();
            for at in 0..230 {
                state.comment("anna", 1, &format!("{at}")).unwrap();
            }
        });
        let numbers = |states: &[ChangeState], since, most| -> Vec<u64> {
            case.port.changes(states, since, most).unwrap().iter().map(|change| change.number).collect()
        };
        let (open, all) = ([ChangeState::Open], [ChangeState::Open, ChangeState::Merged, ChangeState::Closed]);
        assert_eq!(numbers(&open, None, 1_000).len(), 119);
        assert_eq!(numbers(&all, None, 1_000).len(), 120);
        assert_eq!(numbers(&open, None, 1_000)[0], 1, "it was commented on");
        assert_eq!(numbers(&open, None, 70).len(), 70);
        assert_eq!(numbers(&[ChangeState::Closed], None, 70), [120]);
        assert_eq!(numbers(&[ChangeState::Merged], None, 70), [0; 0]);
        let bodies: Vec<String> = case.port.comments(1, None).unwrap().into_iter().map(|it| it.body).collect();
        assert_eq!(bodies, (0..230).map(|at| at.to_string()).collect::<Vec<_>>());
        // Clocks of forges have no parts of a second, or some.
        let since = case.port.change(1).unwrap().unwrap().updated_at;
        assert!(numbers(&all, Some(since), 1_000).contains(&1));
        assert_eq!(numbers(&all, Some(since + 2_000_000), 1_000), [0; 0]);
        let last = case.port.comments(1, None).unwrap().pop().unwrap().updated_at;
        let newer = case.port.comments(1, Some(last)).unwrap();
        assert_eq!(newer.last().map(|it| it.body.as_str()), Some("229"));
        assert_eq!(case.port.comments(1, Some(since + 2_000_000)).unwrap(), []);
    });
}

#[test]
fn comments_are_made_changed_and_answered() {
    each(|case| {
        let number = case.server.with(|state| proposed(state, "one"));
        let me = case.port.me().unwrap();
        let ours = case.port.comment_create(number, "<!-- windlass -->\nplans").unwrap();
        assert_eq!((&ours.author, ours.body.as_str()), (&me, "<!-- windlass -->\nplans"));
        let theirs = case.server.with(|state| state.comment("anna", number, "windlass plan").unwrap());
        assert!(case.port.comment_update(number, &ours.id, "other plans").unwrap());
        let read = case.port.comments(number, None).unwrap();
        let said: Vec<_> = read.iter().map(|it| (it.id.clone(), it.author.login.clone(), it.body.as_str())).collect();
        let want = [
            (ours.id.clone(), me.login.clone(), "other plans"),
            (theirs.id.to_string(), (case.login)("anna"), "windlass plan"),
        ];
        assert_eq!(said, want);
        assert!(read[0].updated_at >= read[0].created_at && read[0].created_at > 0);
        assert_eq!(case.port.comments(number, Some(read[0].updated_at)).unwrap()[0].id, ours.id, "it was changed");
        let id = theirs.id.to_string();
        match case.port.comment_update(number, &id, "windlass plan") {
            // Who may write there may write in the name of others.
            Ok(true) => assert!(matches!(case.settings.kind, ForgeKind::Github | ForgeKind::Gitea)),
            other => assert!(matches!(other, Err(ForgeError::Forbidden { .. })), "{other:?}"),
        }
        for (reaction, at) in [(Reaction::Seen, 0), (Reaction::Seen, 0), (Reaction::Refused, 1)] {
            assert_eq!(case.port.react(number, &id, reaction).unwrap(), case.reactions.is_some());
            let has = case.server.with(|state| state.comment_find(theirs.id).unwrap().1.reactions.clone());
            let want = case.reactions.map(|words| (ACCOUNT.to_owned(), words[at].to_owned()));
            assert!(want.is_none_or(|want| has.contains(&want)), "{has:?}");
        }
        let most = "x".repeat(case.port.limits().comment_chars);
        assert!(case.port.comment_update(number, &ours.id, &most).unwrap());
        case.server.with(|state| {
            state.comment_delete("anna", theirs.id).unwrap();
            state.comment_delete("anna", ours.id.parse().unwrap()).unwrap();
        });
        assert!(!case.port.comment_update(number, &ours.id, "too late").unwrap());
        case.port.react(number, &id, Reaction::Seen).unwrap();
        assert_eq!(case.port.comments(number, None).unwrap(), []);
    });
}

#[test]
fn the_newest_reviews_count() {
    each(|case| {
        let number = case.server.with(|state| proposed(state, "one"));
        let first = head(case, number);
        let counted = || -> Vec<(String, Opinion)> {
            let mut reviews = case.port.reviews(number).unwrap();
            reviews.sort_by(|a, b| a.person.cmp(&b.person));
            for review in &reviews {
                assert_eq!(review.commit.as_ref(), case.commits.then_some(&first), "{review:?}");
                assert!(review.at > 1_700_000_000_000_000, "{review:?}");
            }
            reviews.into_iter().map(|review| (review.person.login, review.opinion)).collect()
        };
        assert_eq!(counted(), []);
        let name = case.login;
        case.server.with(|state| {
            state.outsiders.insert("zoe".into());
            state.review("anna", number, Word::Refuses).unwrap();
            state.review("anna", number, Word::Approves).unwrap();
            state.review("carol", number, Word::Refuses).unwrap();
            state.review("carol", number, Word::Remarks).unwrap();
            state.review("dave", number, Word::Remarks).unwrap();
        });
        assert_eq!(counted(), [(name("anna"), Opinion::Approves), (name("carol"), Opinion::Refuses)]);
        case.server.with(|state| {
            state.dismiss("anna", number, "anna").unwrap();
            state.review("carol", number, Word::Approves).unwrap();
            state.review("zoe", number, Word::Approves).unwrap();
            state.push("bob", REPOSITORY, "one", None, &[("b", Some("1\n"))]).unwrap();
        });
        let mut want = vec![(name("carol"), Opinion::Approves)];
        if case.outsiders {
            want.push((name("zoe"), Opinion::Approves));
        }
        assert_eq!(counted(), want);
    });
}

#[test]
fn commits_have_the_accounts_of_those_who_signed_them() {
    each(|case| {
        let number = case.server.with(|state| {
            state.nameless.insert("carl".into());
            let number = proposed(state, "one");
            state.push_many("anna", "one", 120).unwrap();
            state.push("carl", REPOSITORY, "one", None, &[("b", Some("c\n"))]).unwrap();
            number
        });
        let commits = case.port.commits(number).unwrap();
        assert_eq!(commits.len(), 122);
        let commit = head(case, number);
        let authors = Authors::of(&commits, &commit).unwrap();
        let people: Vec<&str> = authors.people.iter().map(|person| person.login.as_str()).collect();
        let mut want = [(case.login)("anna"), (case.login)("bob")];
        want.sort();
        assert_eq!(
            (people, authors.unknown),
            (want.iter().map(String::as_str).collect(), vec!["carl <carl@example.com>".to_owned()])
        );
        assert_eq!(case.port.change(number).unwrap().unwrap().author, authors.people[1]);
        assert_eq!(Authors::of(&commits, &"0".repeat(40)), None);
    });
}

#[test]
fn statuses_and_labels_are_set_again_and_again() {
    each(|case| {
        let number = case.server.with(|state| proposed(state, "one"));
        let commit = head(case, number);
        let states = [CheckState::Pending, CheckState::Success, CheckState::Failure, CheckState::Error];
        for (state, word) in states.into_iter().zip(case.words) {
            for url in [None, Some("https://windlass.example/runs/1".to_owned())] {
                let text = "x".repeat(2_000);
                let check = Check { name: "windlass/production".into(), state, text, url };
                case.port.check_set(&commit, &check).unwrap();
            }
            let seen = case.server.with(|server| server.statuses_of(&commit));
            assert_eq!((seen.len(), seen[0].state.as_str(), seen[0].name.as_str()), (1, word, "windlass/production"));
            assert!(seen[0].text.ends_with('…') || seen[0].text.is_empty(), "{}", seen[0].text);
        }
        let unknown = Check { name: "windlass".into(), state: CheckState::Pending, text: String::new(), url: None };
        let error = case.port.check_set(&"0".repeat(40), &unknown).unwrap_err();
        // Gitea fails when it is asked about what it does not have.
        assert!(error.retryable() == (case.settings.kind == ForgeKind::Gitea), "{error}");
        let labels = || {
            let has = case.server.with(|state| state.change(number).unwrap().labels.clone());
            assert_eq!(case.port.change(number).unwrap().unwrap().labels, has.iter().cloned().collect::<Vec<_>>());
            has.into_iter().collect::<Vec<_>>().join(" ")
        };
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for _ in 0..2 {
            case.port.labels_change(number, &list(&["destroy", "error"]), &list(&["no-changes"])).unwrap();
            assert_eq!(labels(), if case.labels { "destroy error" } else { "" });
        }
        case.port.labels_change(number, &list(&["no-changes"]), &list(&["destroy", "error"])).unwrap();
        assert_eq!(labels(), if case.labels { "no-changes" } else { "" });
        case.port.labels_change(number, &[], &[]).unwrap();
    });
}

#[test]
fn changes_are_merged_when_the_forge_lets_them() {
    each(|case| {
        for method in [MergeMethod::Merge, MergeMethod::Squash, MergeMethod::Rebase] {
            let branch = format!("feature/{method:?}");
            let number = case.server.with(|state| {
                state.protection = Protection { statuses: Vec::new(), approvals: 1 };
                proposed(state, &branch)
            });
            let commit = head(case, number);
            let refused = |commit: &str| match case.port.merge(number, commit, method).unwrap() {
                Merged::Refused(why) => assert!(!why.is_empty()),
                done => panic!("{done:?}"),
            };
            refused(&commit);
            case.server.with(|state| state.review("anna", number, Word::Approves)).unwrap();
            refused(&"0".repeat(40));
            case.server.with(|state| state.checking = 1);
            let Merged::Done(Some(merged)) = case.port.merge(number, &commit, method).unwrap() else { panic!() };
            let there = case.server.with(|state| state.main().unwrap().commit("refs/heads/main"));
            assert_eq!(there.as_ref(), Some(&merged), "{method:?}");
            let change = case.port.change(number).unwrap().unwrap();
            assert_eq!((change.state, change.merged_as.as_ref()), (ChangeState::Merged, Some(&merged)));
            let again = case.port.merge(number, &commit, method).unwrap();
            assert_eq!(again, Merged::Done(Some(merged)));
            for _ in 0..2 {
                case.port.branch_delete(&branch).unwrap();
                let gone = case.server.with(|state| state.main().unwrap().commit(&format!("refs/heads/{branch}")));
                assert_eq!(gone, None);
            }
            assert_eq!(case.port.change(number).unwrap().unwrap().head.branch, branch);
        }
        let error = case.port.branch_delete("main").unwrap_err();
        assert!(matches!(error, ForgeError::Refused { .. } | ForgeError::Forbidden { .. }), "{error}");
        let number = case.server.with(|state| {
            state.protection = Protection::default();
            let number = proposed(state, "closed");
            state.close("bob", number).unwrap();
            number
        });
        let refused = case.port.merge(number, &head(case, number), MergeMethod::Merge).unwrap();
        assert!(matches!(refused, Merged::Refused(_)), "{refused:?}");
    });
}

#[test]
fn what_is_pushed_right_before_a_merge_is_not_merged() {
    each(|case| {
        let number = case.server.with(|state| proposed(state, "one"));
        let commit = head(case, number);
        case.server.overtake(|state| {
            state.push("bob", REPOSITORY, "one", None, &[("b", Some("unseen\n"))]).unwrap();
        });
        let merged = case.port.merge(number, &commit, MergeMethod::Merge).unwrap();
        let change = case.port.change(number).unwrap().unwrap();
        assert_ne!(change.head.commit, commit);
        match case.settings.kind {
            // It cannot be told what to merge; what was merged shows.
            ForgeKind::Bitbucket => assert_eq!(merged, Merged::Done(change.merged_as)),
            _ => {
                assert!(matches!(merged, Merged::Refused(_)), "{merged:?}");
                assert_eq!(change.state, ChangeState::Open);
                // Another title is another version, and the same commit.
                case.server.overtake(move |state| state.draft_set("bob", number, false).unwrap());
                let merged = case.port.merge(number, &change.head.commit, MergeMethod::Merge).unwrap();
                assert!(matches!(merged, Merged::Done(Some(_))), "{merged:?}");
            }
        }
    });
}

#[test]
fn who_is_in_a_team() {
    each(|case| {
        let team = match case.settings.kind {
            ForgeKind::BitbucketDataCenter => "operators",
            _ => "company/operators",
        };
        case.server.with(|state| {
            for team in [team.to_owned(), format!("{team}-abroad")] {
                state.teams.insert(team, ["anna".to_owned()].into());
            }
        });
        assert!(case.port.is_member(team, &person(case, "anna")).unwrap());
        assert!(!case.port.is_member(team, &person(case, "ann")).unwrap());
        // What may be the name of an account may be somebody else's.
        assert!(!case.port.is_member("bob", &person(case, "anna")).unwrap());
        if case.settings.kind != ForgeKind::BitbucketDataCenter {
            let error = case.port.is_member("company/nobody", &person(case, "anna")).unwrap_err();
            assert!(matches!(error, ForgeError::Forbidden { .. }), "{error}");
        }
    });
}

#[test]
fn what_is_not_allowed_is_told_without_the_token() {
    each(|case| {
        let number = case.server.with(|state| proposed(state, "one"));
        let check = |error: ForgeError, code: &str| {
            let text = format!("{error} {:?}", error.diagnostic());
            assert!(error.code() == code && !text.contains(TOKEN) && !error.unsure(), "{text}");
            assert!(!error.retryable());
        };
        let other = ForgeSettings { repository: Some("company/other".into()), ..case.settings.clone() };
        let hidden = connect(&other, "/srv/infra.git").unwrap();
        check(hidden.change(number).unwrap_err(), "WL782");
        check(hidden.comments(number, None).unwrap_err(), "WL782");
        check(hidden.comment_update(number, "1", "x").unwrap_err(), "WL782");
        check(hidden.changes(&[ChangeState::Open], None, 1).unwrap_err(), "WL782");
        let wrong = NamedTempFile::new().unwrap();
        std::fs::write(wrong.path(), "another-4711").unwrap();
        let file = |path: &Path| ForgeSettings { token_file: Some(path.to_owned()), ..case.settings.clone() };
        let stranger = connect(&file(wrong.path()), "/srv/infra.git").unwrap();
        check(stranger.me().unwrap_err(), "WL782");
        check(connect(&file(Path::new("/nowhere/4711")), "/srv/infra.git").unwrap().me().unwrap_err(), "WL780");
        case.server.allow(&[Right::Read]);
        let status = Check { name: "windlass".into(), state: CheckState::Pending, text: String::new(), url: None };
        let commit = head(case, number);
        check(case.port.comment_create(number, "x").unwrap_err(), "WL782");
        check(case.port.check_set(&commit, &status).unwrap_err(), "WL782");
        check(case.port.merge(number, &commit, MergeMethod::Merge).unwrap_err(), "WL782");
        check(case.port.branch_delete("one").unwrap_err(), "WL782");
        if case.labels {
            check(case.port.labels_change(number, &["error".into()], &[]).unwrap_err(), "WL782");
        }
        case.server.allow(&[]);
        check(case.port.change(number).unwrap_err(), "WL782");
    });
}

#[test]
fn what_does_not_work_now_works_later() {
    each(|case| {
        let number = case.server.with(|state| proposed(state, "one"));
        let away = |status: u16, after: Option<u64>, want: Option<u64>| {
            case.server.refuse(2, status, after);
            let asked = case.port.change(number).unwrap_err();
            let made = case.port.comment_create(number, "x").unwrap_err();
            for error in [&asked, &made] {
                assert!(error.retryable() && error.code() == "WL781", "{error}");
                assert_eq!(error.after(), want.map(Duration::from_secs), "{error}");
            }
            assert_eq!((asked.unsure(), made.unsure()), (false, status >= 500), "{status}");
        };
        away(429, Some(7), Some(7));
        away(429, None, Some(60));
        away(503, Some(3), Some(3));
        away(502, None, None);
        assert_eq!(case.port.comments(number, None).unwrap(), []);
        // It was made, and nobody heard of it.
        case.server.answers_lose(1);
        let error = case.port.comment_create(number, "once").unwrap_err();
        assert!(error.unsure(), "{error}");
        assert_eq!(case.port.comments(number, None).unwrap().len(), 1);
        let resets_at = jiff::Timestamp::now().as_second() + 1_000;
        case.server.with(|state| state.budget = Some(Budget { limit: 500, remaining: 2, resets_at }));
        assert!(case.port.change(number).is_ok());
        if matches!(case.settings.kind, ForgeKind::Github | ForgeKind::Gitlab) {
            let budget = case.port.budget().unwrap();
            assert_eq!((budget.limit, budget.resets_at), (500, resets_at * 1_000_000));
        }
        while case.port.me().is_ok() {}
        let after = case.port.me().unwrap_err().after().unwrap();
        assert!((900..=1_001).contains(&after.as_secs()), "{after:?}");
    });
}

#[test]
fn deliveries_say_what_they_are_about() {
    each(|case| {
        // Nobody listens there; what was sent is kept.
        let receiver = Server::gitea().unwrap();
        case.server.deliveries().send_to(&receiver.url("/hook"), "a secret");
        let number = case.server.with(|state| {
            let number = proposed(state, "one");
            let comment = state.comment("anna", number, "windlass plan").unwrap();
            state.comment_edit("anna", comment.id, "windlass apply").unwrap();
            state.review("anna", number, Word::Approves).unwrap();
            state.push("bob", REPOSITORY, "one", None, &[("b", Some("1\n"))]).unwrap();
            state.close("bob", number).unwrap();
            number
        });
        assert!(case.server.deliveries().settle());
        let url = case.server.url(&match case.settings.kind {
            ForgeKind::BitbucketDataCenter => format!("/scm/{REPOSITORY}.git"),
            _ => format!("/{REPOSITORY}.git"),
        });
        let mut changes = Vec::new();
        for delivered in case.server.deliveries().done() {
            let about = touched(&serde_json::from_slice(&delivered.body).unwrap());
            assert!(about.is_about(&url), "{}: {:?}", delivered.event, about.addresses);
            changes.push(about.change);
        }
        let is_push = |change: &&Option<u64>| change.is_none();
        assert_eq!((changes.iter().filter(is_push).count(), changes.len()), (2, 8), "{changes:?}");
        assert!(changes.iter().flatten().all(|change| *change == number));
    });
}
