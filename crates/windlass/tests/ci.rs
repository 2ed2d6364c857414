//! Jobs of somebody else's CI, each with a fresh clone, around forges that keep the rules of each.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use serde_json::json;
use std::path::PathBuf;
use windlass_testkit::TestkitError;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::forge::Forge;
use windlass_testkit::forge::state::{ACCOUNT, REPOSITORY, TOKEN, Word};
use windlass_testkit::git::Git;

const DEFINITIONS: &str = "project \"infra\" {\n  environment \"production\" {\n    match = [\"**\"]\n    approvals {\n      from = [team.sre]\n    }\n  }\n}\n\
                           team \"sre\" {\n  members = [\"github:bert\", \"github:company/sre\"]\n}\n";

/// A CI, and the forge that it belongs to.
#[derive(Clone, Copy)]
struct Ci {
    name: &'static str,
    start: fn() -> Result<Forge, TestkitError>,
    /// What stands before a login.
    prefix: &'static str,
    /// What the environment of a job about the commit of a change says, beside where the key is.
    says: fn(&World, u64, &str) -> Vec<(&'static str, String)>,
    /// What the forge calls a status that is good, and one of something that could not be planned.
    good: &'static str,
    bad: &'static str,
}

const ACTIONS: Ci = Ci {
    name: "GitHub Actions",
    start: Forge::github,
    prefix: "github:",
    says: |world, number, head| {
        let event = json!({
            "number": number,
            "pull_request": { "number": number, "base": { "ref": "main" }, "head": { "sha": head } },
        });
        let file = world.path(&format!("event-{head}.json"));
        std::fs::write(&file, event.to_string()).unwrap();
        vec![
            ("GITHUB_ACTIONS", "true".into()),
            ("GITHUB_SERVER_URL", world.forge.url("")),
            ("GITHUB_API_URL", world.forge.url("")),
            ("GITHUB_REPOSITORY", REPOSITORY.into()),
            ("GITHUB_RUN_ID", "99".into()),
            ("GITHUB_TOKEN", TOKEN.into()),
            ("GITHUB_EVENT_PATH", file),
        ]
    },
    good: "success",
    bad: "error",
};

const OTHERS: [Ci; 4] = [
    Ci {
        name: "GitLab CI",
        start: Forge::gitlab,
        prefix: "gitlab:",
        says: |world, number, head| {
            vec![
                ("GITLAB_CI", "true".into()),
                ("CI_PROJECT_URL", world.forge.url(&format!("/{REPOSITORY}"))),
                ("CI_PROJECT_PATH", REPOSITORY.into()),
                ("CI_API_V4_URL", world.forge.url("/api/v4")),
                ("CI_MERGE_REQUEST_IID", number.to_string()),
                ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main".into()),
                ("CI_COMMIT_SHA", head.into()),
                ("CI_JOB_URL", "https://gitlab.example/jobs/99".into()),
                ("GITLAB_TOKEN", TOKEN.into()),
            ]
        },
        good: "success",
        bad: "failed",
    },
    Ci {
        name: "Bitbucket Pipelines",
        start: Forge::bitbucket,
        prefix: "bitbucket:557058:",
        says: |world, number, head| {
            vec![
                ("BITBUCKET_BUILD_NUMBER", "99".into()),
                ("BITBUCKET_REPO_FULL_NAME", REPOSITORY.into()),
                ("BITBUCKET_PR_ID", number.to_string()),
                ("BITBUCKET_PR_DESTINATION_BRANCH", "main".into()),
                // It is shortened there.
                ("BITBUCKET_COMMIT", head[..12].into()),
                ("BITBUCKET_TOKEN", TOKEN.into()),
                ("WINDLASS_FORGE_API", world.forge.url("/2.0")),
            ]
        },
        good: "SUCCESSFUL",
        bad: "FAILED",
    },
    Ci {
        name: "Jenkins",
        start: Forge::data_center,
        prefix: "bitbucket:",
        says: |world, number, _| {
            let (project, name) = REPOSITORY.split_once('/').unwrap();
            let change = format!("/projects/{project}/repos/{name}/pull-requests/{number}/overview");
            jenkins(world.forge.url(&change))
        },
        good: "SUCCESSFUL",
        bad: "FAILED",
    },
    Ci {
        name: "Jenkins",
        start: Forge::gitea,
        prefix: "gitea:",
        says: |world, number, _| jenkins(world.forge.url(&format!("/{REPOSITORY}/pulls/{number}"))),
        good: "success",
        bad: "error",
    },
];

fn jenkins(change: String) -> Vec<(&'static str, String)> {
    vec![
        ("JENKINS_URL", "https://jenkins.example".into()),
        ("BUILD_URL", "https://jenkins.example/job/99".into()),
        ("CHANGE_URL", change),
        ("CHANGE_TARGET", "main".into()),
        ("WINDLASS_FORGE_TOKEN", TOKEN.into()),
    ]
}

/// A forge with a change, `#1`, and what its jobs share.
struct World {
    ci: Ci,
    forge: Forge,
    /// The state of the stack, the key and what is passed on.
    shared: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::of(ACTIONS)
    }

    fn of(ci: Ci) -> Self {
        let (forge, shared) = ((ci.start)().unwrap(), tempfile::tempdir().unwrap());
        let stack = format!(
            "terraform {{\n  backend \"local\" {{\n    path = \"{}/net.tfstate\"\n  }}\n}}\nvariable \"size\" {{\n  default = 1\n}}\n\
             resource \"terraform_data\" \"net\" {{\n  input = \"net-${{var.size}}\"\n}}\n",
            shared.path().display()
        );
        std::fs::write(shared.path().join("key"), "4711".repeat(16)).unwrap();
        let definitions = DEFINITIONS.replace("github:bert", &format!("{}bert", ci.prefix));
        // Some forges would be asked for the team, which they do not have.
        let definitions = match ci.prefix {
            "github:" => definitions,
            _ => definitions.replace(", \"github:company/sre\"", ""),
        };
        forge.with(|state| {
            let files =
                [("windlass.hcl", Some(&*definitions)), ("net/main.tf", Some(&*stack)), (".gitignore", Some(IGNORE))];
            state.push("dora", REPOSITORY, "main", None, &files).unwrap();
            state.push("anna", REPOSITORY, "bigger", None, &[("net/size.auto.tfvars", Some("size = 2\n"))]).unwrap();
            assert_eq!(state.open("anna", "Grow", REPOSITORY, "bigger", "main").unwrap(), 1);
        });
        Self { ci, forge, shared }
    }

    fn path(&self, name: &str) -> String {
        self.shared.path().join(name).display().to_string()
    }

    fn head(&self, number: u64) -> String {
        self.forge.with(|state| state.change(number).unwrap().commit.clone())
    }

    /// A job about the newest commit of a change, with a clone of its own.
    fn job(&self, number: u64) -> CliEnv {
        let mut env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
        let (from, head) = (self.forge.with(|state| state.main().unwrap().path().to_owned()), self.head(number));
        let git = Git::open(&env.root());
        git.run(&["clone", "--quiet", &from.display().to_string(), "."]).unwrap();
        if self.ci.name == ACTIONS.name {
            // Of a fork nothing else is there.
            git.run(&["fetch", "--quiet", "origin", &format!("refs/pull/{number}/head")]).unwrap();
        }
        git.run(&["checkout", "--quiet", "--detach", &head]).unwrap();
        env.set("WINDLASS_KEY_FILE", self.path("key"));
        for (name, value) in (self.ci.says)(self, number, &head) {
            env.set(name, value);
        }
        env
    }

    /// Comments of a change: who wrote them, and how they begin.
    fn comments(&self, number: u64) -> Vec<(String, String)> {
        let comments = self.forge.with(|state| state.change(number).unwrap().comments.clone());
        comments.into_iter().map(|comment| (comment.author, comment.body)).collect()
    }

    /// The statuses of a commit: name, state, text.
    fn statuses(&self, commit: &str) -> Vec<(String, String, String)> {
        let statuses = self.forge.with(|state| state.statuses_of(commit));
        statuses.into_iter().map(|status| (status.name, status.state, status.text)).collect()
    }

    fn is_applied(&self) -> bool {
        PathBuf::from(self.path("net.tfstate")).is_file()
    }
}

fn status(name: &str, state: &str, text: &str) -> (String, String, String) {
    (name.to_owned(), state.to_owned(), text.to_owned())
}

#[test]
fn a_change_is_reviewed_by_one_job_and_applied_by_another_when_it_is_approved() {
    let world = World::new();
    let plan = world.path("plan");
    let said = expect(&world.job(1), &["ci", "review", "--out", &plan], 0, &["GitHub Actions: change 1", "Kept in"]);
    assert!(said.stdout.contains("Needs approval"), "{}", said.stdout);
    let comments = world.comments(1);
    assert_eq!(comments.len(), 1);
    let (author, body) = &comments[0];
    assert_eq!(author, ACCOUNT);
    assert!(body.starts_with("<!-- windlass:review ci/"), "{body}");
    for text in ["Needs approval", "net-2", "/company/infra/actions/runs/99"] {
        assert!(body.contains(text), "{text}\n{body}");
    }
    let head = world.head(1);
    let wanted = [
        status("windlass", "success", "1 to create; needs approval to be applied"),
        status("windlass/production", "success", "1 to create"),
    ];
    assert_eq!(world.statuses(&head), wanted);

    // The key is nowhere in what is passed on.
    let record = std::fs::read(format!("{plan}/record.backup")).unwrap();
    let key: Vec<u8> = [0x47, 0x11].repeat(16);
    assert!(!record.windows(32).any(|part| part == key) && !String::from_utf8_lossy(&record).contains("47114711"));
    let mut files: Vec<_> = std::fs::read_dir(&plan).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, [".gitignore", "record.backup"]);

    // Nobody has approved, somebody has who may not, and somebody did before there was a plan.
    let apply = |code: i32, texts: &[&str]| expect(&world.job(1), &["ci", "apply", "--from", &plan], code, texts);
    apply(1, &["approval"]);
    world.forge.with(|state| {
        state.review("carl", 1, Word::Approves).unwrap();
        state.review("bert", 1, Word::Approves).unwrap();
        state.change(1).unwrap().reviews.last_mut().unwrap().at -= 3_600_000_000;
    });
    apply(1, &["Approved by github:carl", "warning[WL782]", "company/sre", "approval"]);
    assert!(!world.is_applied());

    world.forge.with(|state| state.review("bert", 1, Word::Approves).unwrap());
    let said = apply(0, &["Approved by github:bert", "Applied 1 instance"]);
    assert!(world.is_applied(), "{}", said.stdout);
    let comments = world.comments(1);
    assert_eq!(comments.len(), 1, "there is one comment");
    assert!(comments[0].1.contains("Applied"), "{}", comments[0].1);
    let wanted = [status("windlass", "success", "Applied"), status("windlass/production", "success", "Applied")];
    assert_eq!(world.statuses(&head), wanted);
}

#[test]
fn every_ci_has_the_same_story() {
    for ci in OTHERS {
        eprintln!("{} with {}", ci.name, ci.prefix);
        let world = World::of(ci);
        let plan = world.path("plan");
        let told = format!("{}: change 1", ci.name);
        let said = expect(&world.job(1), &["ci", "review", "--out", &plan], 0, &[&told, "Needs approval", "Kept in"]);
        assert!(!said.stdout.contains("windlass approve"), "{}", said.stdout);
        let comment = || {
            let comments = world.comments(1);
            assert_eq!(comments.len(), 1, "there is one comment");
            assert_eq!(comments[0].0, ACCOUNT);
            comments[0].1.clone()
        };
        let first = comment();
        assert!(first.contains("run the job that applies it") && first.contains("99"), "{first}");
        let states = |commit: &str| -> Vec<(String, String)> {
            world.statuses(commit).into_iter().map(|(name, state, _)| (name, state)).collect()
        };
        let both =
            |word: &str| ["windlass", "windlass/production"].map(|name| (name.to_owned(), word.to_owned())).to_vec();
        assert_eq!(states(&world.head(1)), both(ci.good));

        // Who pushed to it does not approve it; somebody else does.
        let apply = |code: i32, texts: &[&str]| expect(&world.job(1), &["ci", "apply", "--from", &plan], code, texts);
        apply(1, &["approval"]);
        assert!(!world.is_applied());
        world.forge.with(|state| state.review("bert", 1, Word::Approves).unwrap());
        apply(0, &[&format!("Approved by {}bert", ci.prefix), "Applied 1 instance"]);
        assert!(world.is_applied());
        assert!(comment().contains("Applied"));
        assert_eq!(states(&world.head(1)), both(ci.good));

        world.forge.with(|state| {
            let files = [("net/size.auto.tfvars", Some("size = no\n"))];
            state.push("bert", REPOSITORY, "bigger", None, &files).unwrap();
        });
        expect(&world.job(1), &["ci", "review"], 1, &["Could not be planned"]);
        assert_eq!(states(&world.head(1)), both(ci.bad));
        assert!(comment().contains("Could not be planned"));
        world.forge.with(|state| {
            state.push("anna", REPOSITORY, "bigger", None, &[("net/size.auto.tfvars", Some("size = 3\n"))]).unwrap();
        });
        let again = world.path("again");
        expect(&world.job(1), &["ci", "review", "--out", &again], 0, &["Needs approval"]);
        world.forge.with(|state| state.review("bert", 1, Word::Approves).unwrap());
        expect(&world.job(1), &["ci", "apply", "--from", &again], 1, &["an author of the change may not approve it"]);
    }
}

#[test]
fn a_member_of_a_team_of_the_forge_approves() {
    let world = World::new();
    let plan = world.path("plan");
    expect(&world.job(1), &["ci", "review", "--out", &plan], 0, &[]);
    world.forge.with(|state| {
        state.teams.insert("company/sre".into(), ["erik".to_owned()].into());
        state.review("erik", 1, Word::Approves).unwrap();
    });
    expect(&world.job(1), &["ci", "apply", "--from", &plan], 0, &["Approved by github:erik", "Applied 1 instance"]);
}

#[test]
fn the_comment_is_changed_in_place_and_never_by_an_older_job() {
    let world = World::new();
    let (first, old) = (world.job(1), world.head(1));
    // Nobody hears that it was made.
    world.forge.answers_lose(1);
    expect(&first, &["ci", "review"], 0, &[]);
    assert_eq!(world.comments(1).len(), 1);
    world.forge.with(|state| {
        state.comment("carl", 1, "<!-- windlass:review ci/infra -->\nnot ours").unwrap();
        let files = [("net/size.auto.tfvars", Some("size = 3\n"))];
        state.push("anna", REPOSITORY, "bigger", None, &files).unwrap();
    });
    expect(&world.job(1), &["ci", "review"], 0, &[]);
    let newer = world.comments(1);
    assert_eq!(newer.len(), 2);
    assert!(newer[0].1.contains("net-3") && newer[1].1.ends_with("not ours"), "{newer:?}");
    // A job that was slow.
    expect(&first, &["ci", "review"], 0, &["net-2"]);
    assert_eq!(world.comments(1), newer);
    assert_eq!(world.statuses(&old).len(), 2);
}

#[test]
fn what_a_job_may_not_do_or_does_not_have_is_told() {
    let world = World::new();
    let mut silent = world.job(1);
    silent.set("GITHUB_TOKEN", "");
    expect(&silent, &["ci", "review"], 0, &["warning[WL784]", "there is no token", "GITHUB_TOKEN", "Needs approval"]);
    assert_eq!(world.comments(1), []);

    let mut keyless = world.job(1);
    keyless.set("WINDLASS_KEY_FILE", "");
    let plan = world.path("plan");
    expect(&keyless, &["ci", "review", "--out", &plan], 2, &["WL784", "WINDLASS_KEY_FILE"]);
    expect(&world.job(1), &["ci", "review", "--out", &plan], 0, &[]);
    std::fs::write(world.path("other"), "1147".repeat(16)).unwrap();
    let mut other = world.job(1);
    other.set("WINDLASS_KEY_FILE", world.path("other"));
    expect(&other, &["ci", "apply", "--from", &plan], 2, &["WL894"]);

    // What an earlier job has left is in the way, and what it did not leave is missed.
    let used = world.job(1);
    expect(&used, &["ci", "apply", "--from", &plan], 1, &["approval"]);
    expect(&used, &["ci", "apply", "--from", &plan], 2, &["WL784", "a record of its own", "begin with a fresh clone"]);
    expect(&world.job(1), &["ci", "apply", "--from", "nothing"], 2, &["WL784", "windlass ci review --out DIR"]);

    // A forge that is away is told, and what was found is shown all the same.
    world.forge.refuse(1, 503, None);
    expect(&world.job(1), &["ci", "review"], 3, &["WL781"]);

    let fork = world.forge.with(|state| {
        let fork = state.fork("carl").unwrap();
        state.push("carl", &fork, "evil", None, &[("net/size.auto.tfvars", Some("size = 9\n"))]).unwrap();
        state.open("carl", "From elsewhere", &fork, "evil", "main").unwrap()
    });
    expect(&world.job(fork), &["ci", "review"], 1, &["WL784", "carl/infra", "--fork"]);
    assert_eq!(world.comments(fork), []);
    expect(&world.job(fork), &["ci", "review", "--fork"], 0, &["net-9"]);
    assert_eq!(world.comments(fork).len(), 1);

    let nowhere = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    expect(&nowhere, &["ci", "review"], 2, &["WL784", "no job of a CI"]);
}

/// The script of a job, with the program on its path, ends so and says this.
#[track_caller]
fn script(env: &CliEnv, shell: &str, script: &str, code: i32, texts: &[&str]) {
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_windlass")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let job = env.command(&[]);
    let mut command = std::process::Command::new(shell);
    let variables = job.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.env_clear().envs(variables).env("PATH", path).current_dir(env.root()).args(["-e", "-c", script]);
    let answer = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    assert_eq!(answer.status.code(), Some(code), "{script}\n{said}");
    for text in texts {
        assert!(said.contains(text), "it does not say `{text}`:\n{said}");
    }
}

fn shipped(path: &str) -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

#[test]
fn the_action_of_github_does_both() {
    let action: serde_json::Value = yaml_serde::from_str(&shipped("action.yml")).unwrap();
    let steps = action["runs"]["steps"].as_array().unwrap();
    let run = |at: usize| steps[at]["run"].as_str().unwrap();
    let world = World::new();
    // As `with` of a job says, the others as they are when nothing is said.
    let job = |given: &[(&str, &str)]| {
        let mut env = world.job(1);
        for (name, expression) in steps[1]["env"].as_object().unwrap() {
            let input = expression.as_str().unwrap().trim_start_matches("${{ inputs.").trim_end_matches(" }}");
            let usual = action["inputs"][input]["default"].as_str().unwrap();
            let value = given.iter().find(|(name, _)| *name == input).map_or(usual, |(_, value)| value);
            env.set(name, if input == "token" { TOKEN } else { value });
        }
        env.set("WINDLASS_KEY_FILE", "");
        env
    };
    let key = "4711".repeat(16);
    script(&job(&[]), "bash", run(0), 0, &[]);
    script(&job(&[]), "bash", run(1), 0, &["Needs approval"]);
    let review = job(&[("record", "plan"), ("key", &key)]);
    script(&review, "bash", run(1), 0, &["Kept in"]);
    world.forge.with(|state| state.review("bert", 1, Word::Approves).unwrap());
    let apply = job(&[("command", "apply"), ("record", "plan"), ("key", &key)]);
    std::fs::create_dir(apply.root().join("plan")).unwrap();
    let record = "plan/record.backup";
    std::fs::copy(review.root().join(record), apply.root().join(record)).unwrap();
    script(&apply, "bash", run(1), 0, &["Applied 1 instance"]);
    assert!(world.is_applied());
    script(&job(&[("command", "destroy")]), "bash", run(1), 2, &["has to be review or apply"]);
}

#[test]
fn the_component_of_gitlab_does_both() {
    let text = shipped("packaging/gitlab/templates/windlass.yml");
    let (spec, jobs) = text.split_once("\n---\n").unwrap();
    let spec: serde_json::Value = yaml_serde::from_str(spec).unwrap();
    let inputs = spec["spec"]["inputs"].as_object().unwrap();
    let filled = inputs.iter().fold(jobs.to_owned(), |jobs, (name, input)| {
        jobs.replace(
            &format!("$[[ inputs.{name} ]]"),
            input["default"].as_str().unwrap_or("registry.example.com/windlass"),
        )
    });
    assert!(!filled.contains("$[["), "{filled}");
    let jobs: serde_json::Value = yaml_serde::from_str(&filled).unwrap();
    let lines = |job: &str| {
        let lines = jobs[job]["script"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    };
    // The forge is another one here: what the jobs run is what is tried.
    let world = World::new();
    let job = || {
        let mut env = world.job(1);
        env.set("CI_PROJECT_DIR", env.root());
        env
    };
    let review = job();
    script(&review, "sh", &lines("windlass review"), 0, &["Kept in"]);
    world.forge.with(|state| state.review("bert", 1, Word::Approves).unwrap());
    let apply = job();
    let record = ".windlass-record/record.backup";
    std::fs::create_dir(apply.root().join(".windlass-record")).unwrap();
    std::fs::copy(review.root().join(record), apply.root().join(record)).unwrap();
    script(&apply, "sh", &lines("windlass apply"), 0, &["Applied 1 instance"]);
    assert!(world.is_applied());
}
