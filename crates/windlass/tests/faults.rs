//! Refusals and faults, each on the real program with the real terraform: a clear message, the right exit code, and nothing lost
//! that was acknowledged.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::server::{Server, run_of};
use common::*;
use std::process::Stdio;
use windlass_testkit::cli::CliEnv;

#[test]
fn the_main_road_goes_along_the_edges_and_ends_with_nothing_to_do() {
    let env = env(&[("net/main.tf", NET), ("app/main.tf", APP)]);
    expect(&env, &["review"], 0, &["Nothing to review"]);
    let review =
        expect(&env, &["review", "--all"], 0, &["preview: planned with what net will output", "(known after apply)"]);
    assert!(review.stdout.find("\nnet  ").unwrap() < review.stdout.find("\napp  ").unwrap(), "{}", review.stdout);
    let applied = expect(&env, &["apply", "--yes"], 0, &["Applied 2 instances."]);
    let order: Vec<usize> = ["apply:net", "plan:app", "apply:app"]
        .iter()
        .map(|s| applied.stderr.find(&format!("✓ {s}")).unwrap())
        .collect();
    assert!(order.is_sorted(), "{}", applied.stderr);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
    expect(&env, &["apply", "--yes"], 0, &["Nothing to apply"]);
    // A change of the upstream that its dependant reads.
    env.write("net/size.auto.tfvars", "size = 2\n").unwrap();
    expect(&env, &["review"], 0, &["Includes uncommitted changes", "commit the changes"]);
    expect(&env, &["approve"], 1, &["WL608"]);
    expect(&env, &["apply", "--yes"], 1, &["WL608"]);
    env.commit("Grow").unwrap();
    expect(&env, &["review", "--base", "HEAD~1"], 0, &["input = \"net-1\" → \"net-2\"", "preview"]);
    expect(&env, &["logs", "latest"], 0, &["── plan:net"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied 2 instances."]);
}

#[test]
fn what_is_not_there_is_said() {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.write("a/main.tf", NET).unwrap();
    expect(&env, &["stacks"], 0, &["a/terraform.tfstate"]);
    expect(&env, &["affected"], 2, &["WL303", "git init"]);
    expect(&env, &["review"], 2, &["WL303"]);
    env.git_init().unwrap();
    expect(&env, &["affected"], 2, &["WL304"]);
    env.write(".gitignore", IGNORE).unwrap();
    env.commit("One").unwrap();
    expect(&env, &["affected", "--base", "nope"], 2, &["WL304", "nope"]);
    expect(&env, &["show", "aa"], 2, &["WL903", "windlass stacks"]);
    expect(&env, &["logs", "latest"], 2, &["no runs yet"]);
    expect(&env, &["approve"], 2, &["WL610"]);
    expect(&env, &["explain", "wl212"], 0, &["two stacks write the same state"]);
    expect(&env, &["explain", "WL000"], 2, &["WL905"]);
    expect(&env, &["nonsense"], 2, &["unrecognized subcommand"]);
}

#[test]
fn without_terraform_the_review_says_what_to_install() {
    let mut env = env(&[("net/main.tf", NET)]);
    env.only_programs(&["git", "sh"]).unwrap();
    expect(&env, &["stacks"], 0, &["net"]);
    expect(&env, &["review", "--all"], 1, &["neither terraform nor tofu is on the PATH"]);
    expect(&env, &["doctor"], 1, &["install OpenTofu"]);
}

#[test]
fn a_shallow_clone_says_how_to_get_the_history() {
    let env = env(&[("net/main.tf", NET)]);
    let git = windlass_testkit::git::Git::open(&env.root());
    git.run(&["switch", "--quiet", "--create", "side"]).unwrap();
    env.write("net/x.tf", "locals {\n  a = 1\n}\n").unwrap();
    env.commit("Side").unwrap();
    git.run(&["switch", "--quiet", "main"]).unwrap();
    env.write("net/y.tf", "locals {\n  b = 1\n}\n").unwrap();
    env.commit("Main").unwrap();
    let url = format!("file://{}", env.root().display());
    let clone = env.home().join("clone");
    git.run(&["clone", "--quiet", "--depth", "1", "--no-single-branch", &url, clone.to_str().unwrap()]).unwrap();
    expect(
        &env,
        &["-C", clone.to_str().unwrap(), "affected", "--base", "origin/side"],
        2,
        &["WL305", "git fetch --unshallow"],
    );
}

#[test]
fn mistakes_in_files_have_a_place_and_stop_only_what_needs_them() {
    let env = env(&[
        ("net/main.tf", NET),
        ("bad/main.tf", "variable \"x\" {\n  default = \n}\n"),
        ("windlass.hcl", "team \"a\" { membrs = [] }\n"),
    ]);
    expect(&env, &["stacks"], 0, &["bad/main.tf:2", "WL201", "did you mean `members`", "net"]);
    expect(&env, &["check"], 1, &["WL201", "WL102", "WL109"]);
    expect(&env, &["review", "--all"], 2, &["WL201", "WL102"]);
}

#[test]
fn a_stack_that_fails_stops_its_dependants_and_nobody_else() {
    let other = NET.replace("net", "other");
    let env = env(&[
        ("net/main.tf", &NET.replace("default = 1", "")),
        ("app/main.tf", APP),
        ("other/main.tf", &other),
        (
            "lost/main.tf",
            "module \"m\" {\n  source = \"git::file:///nowhere/at/all.git?ref=v1.0.0\"\n}\nresource \"terraform_data\" \"x\" {}\n",
        ),
    ]);
    expect(
        &env,
        &["review", "--all"],
        1,
        &[
            "No value for required variable",
            "failed at init",
            "not planned: net failed",
            "+ create   terraform_data.other",
            "Could not be planned in full",
        ],
    );
    expect(&env, &["apply", "--yes"], 1, &["WL607", "could not be planned in full"]);
}

#[test]
fn a_failed_apply_keeps_the_others_and_can_be_tried_again() {
    let flaky = "resource \"terraform_data\" \"good\" {}\nresource \"terraform_data\" \"flaky\" {\n  depends_on = [terraform_data.good]\n  provisioner \"local-exec\" {\n    command = \"test -e ${abspath(path.module)}/../mended\"\n  }\n}\noutput \"id\" {\n  value = terraform_data.flaky.id\n}\n";
    let env = env(&[
        ("net/main.tf", flaky),
        ("app/main.tf", APP),
        ("other/main.tf", &NET.replace("net", "other")),
        (".gitignore", "*.tfstate*\n.terraform*\nmended\n"),
    ]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let failed = expect(&env, &["apply", "--yes"], 1, &["✗ apply:net", "local-exec", "✓ apply:other", "- plan:app"]);
    assert!(!failed.stdout.contains("✓ apply:app"));
    assert!(std::fs::read_to_string(env.root().join("net/terraform.tfstate")).unwrap().contains("\"good\""));
    env.write("mended", "").unwrap();
    // What is left (a tainted resource is replaced) is part of what was reviewed.
    expect(&env, &["apply", "--yes"], 0, &["✓ apply:net", "✓ apply:app"]);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
}

#[test]
fn killed_at_any_step_boundary_nothing_is_lost_or_done_twice() {
    for (step, state) in [
        ("plan:net", "running"),
        ("gate:net", "succeeded"),
        ("apply:net", "running"),
        ("apply:net", "succeeded"),
        ("plan:app", "succeeded"),
        ("apply:app", "running"),
    ] {
        let env = env(&[("net/main.tf", &slow("net")), ("app/main.tf", APP)]);
        expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
        let mut child = start(&env, &["apply", "--yes"]);
        wait(|| {
            let reached = is_apply(&env)
                && steps(&env, "latest").iter().any(|(id, now)| id == step && (now == state || now == "succeeded"));
            (reached || child.try_wait().unwrap().is_some()).then_some(())
        });
        child.kill().unwrap();
        child.wait().unwrap();
        if steps(&env, "latest").iter().any(|(_, state)| state != "succeeded") {
            expect(&env, &["resume"], 0, &["Applied"]);
        }
        assert_eq!(made(&env), ["net-1", "net-2", "net-3"], "killed at {step} {state}");
        expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
    }
}

#[test]
fn a_killed_terraform_leaves_a_quarantine_that_a_person_lifts() {
    let env = env(&[("net/main.tf", &slow("net"))]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let mut child = start(&env, &["apply", "--yes"]);
    wait(|| (made(&env).len() == 1).then_some(()));
    let under_way = || {
        let log = run(&env, &["logs", "latest/apply:net"]).stdout;
        log.contains("terraform_data.r2: create started").then_some(())
    };
    wait(under_way);
    assert!(wait(|| kill_terraform(&env.root())));
    assert_eq!(child.wait().unwrap().code(), Some(1));
    expect(
        &env,
        &["runs", "latest"],
        0,
        &["failed", "[WL651]", "terraform_data.r2 was under way and may have happened"],
    );
    // Nothing is applied to it before somebody has looked.
    expect(&env, &["apply", "--yes"], 2, &["WL650", "windlass recover net"]);
    expect(&env, &["recover"], 1, &["net", "under way"]);
    let shown = expect(
        &env,
        &["recover", "net"],
        1,
        &["1. These were under way", "create terraform_data.r2", "to = terraform_data.r2"],
    );
    assert!(!shown.stdout.contains("terraform_data.r1"), "{}", shown.stdout);
    expect(&env, &["recover", "net", "--push"], 2, &["WL654"]);
    expect(&env, &["recover", "net", "--release"], 2, &["--why"]);
    expect(&env, &["recover", "net", "--release", "--why", "looked: it is not there"], 0, &["windlass review"]);
    expect(&env, &["recover"], 0, &["Nothing is quarantined"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
    expect(&env, &["history", "net"], 0, &["failed", "applied", "3 to create", "test@example.com"]);
}

#[test]
fn the_state_from_before_each_apply_is_kept_sealed() {
    let env = env(&[("net/main.tf", &NET.replace("net-${var.size}", "hush-${var.size}"))]);
    apply_all(&env);
    expect(&env, &["recover", "net", "--snapshot", "latest"], 2, &["WL655"]);
    env.write("net/size.auto.tfvars", "size = 2\n").unwrap();
    env.commit("Two").unwrap();
    expect(&env, &["review", "--base", "HEAD~1"], 0, &[]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    let before = expect(&env, &["recover", "net", "--snapshot", "latest"], 0, &["hush-1"]).stdout;
    let before: serde_json::Value = serde_json::from_str(&before).unwrap();
    assert!(before["serial"].as_u64().unwrap() > 0 && !before["lineage"].as_str().unwrap().is_empty());
    expect(&env, &["recover", "net"], 0, &["net is not quarantined", "1 state from before an apply"]);
    for file in walk(&env.root().join(".windlass/kept")) {
        let content = std::fs::read(&file).unwrap();
        assert!(!content.windows(4).any(|w| w == b"hush"), "{file} is in the clear");
    }
    let listed = expect(&env, &["history", "net", "--json"], 0, &[]);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let runs: Vec<&str> = listed.as_array().unwrap().iter().map(|a| a["run"].as_str().unwrap()).collect();
    expect(&env, &["diff", runs[1], runs[0]], 1, &["terraform_data.net", "create", "update", "input"]);
    expect(&env, &["diff", runs[0], runs[0]], 0, &["the same effect"]);
}

#[test]
fn locks_say_who_holds_them_and_only_dead_holders_lose_them() {
    let env = env(&[("net/main.tf", &slow("net"))]);
    expect(&env, &["locks"], 0, &["Nobody holds"]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let mut child = start(&env, &["apply", "--yes"]);
    wait(|| (made(&env).len() == 1).then_some(()));
    expect(&env, &["locks"], 0, &["stack:net", "held", "Apply net", "process lives", "test@example.com"]);
    expect(&env, &["unlock", "net", "--why", "impatience"], 2, &["WL661", "windlass cancel"]);
    expect(&env, &["unlock", "other", "--why", "x"], 2, &["WL660"]);
    child.kill().unwrap();
    child.wait().unwrap();
    expect(&env, &["locks"], 0, &["process is dead"]);
    expect(&env, &["unlock", "net", "--why", "its process was killed"], 0, &["taken away", "windlass resume"]);
    expect(&env, &["runs", "latest"], 0, &["its lock was taken away by", "--settle"]);
}

#[test]
fn a_cancel_from_another_process_stops_gracefully() {
    let env = env(&[("net/main.tf", &slow("net")), ("app/main.tf", APP)]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let mut child = start(&env, &["apply", "--yes"]);
    wait(|| (made(&env).len() == 1).then_some(()));
    expect(&env, &["cancel", "latest", "--reason", "enough"], 0, &["asked to stop"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    expect(&env, &["runs", "latest"], 0, &["cancelled"]);
    assert!(made(&env).len() < 3);
    expect(&env, &["cancel", "latest"], 1, &["had ended already"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    assert_eq!(made(&env), ["net-1", "net-2", "net-3"]);
}

#[test]
fn two_applies_at_once_are_one() {
    let env = env(&[("net/main.tf", &slow("net"))]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let mut first = start(&env, &["apply", "--yes"]);
    wait(|| steps(&env, "latest").iter().any(|(id, state)| id == "apply:net" && state == "running").then_some(()));
    expect(&env, &["apply", "--yes"], 2, &["WL611", "is being applied by run"]);
    // A second process may help; the steps are still done once.
    expect(&env, &["resume"], 0, &["Applied"]);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(made(&env), ["net-1", "net-2", "net-3"]);
}

#[test]
fn an_effect_that_is_not_the_preview_waits_for_a_new_approval() {
    // What the upstream leaves on the disk is nothing that a preview could know.
    let net = "terraform {\n  backend \"local\" {}\n}\nvariable \"size\" {\n  default = 1\n}\nresource \"terraform_data\" \"net\" {\n  triggers_replace = var.size\n  provisioner \"local-exec\" {\n    command = \"echo ${var.size} >> ../made.log\"\n  }\n}\noutput \"id\" {\n  value = terraform_data.net.id\n}\n";
    let app =
        format!("{APP}resource \"terraform_data\" \"log\" {{\n  input = try(file(\"../made.log\"), \"none\")\n}}\n");
    let env = env(&[("net/main.tf", net), ("app/main.tf", &app)]);
    expect(&env, &["review", "--all"], 0, &["preview", "Ready to apply"]);
    expect(&env, &["apply", "--yes"], 1, &["waiting", "app is not what was reviewed", "windlass approve"]);
    expect(&env, &["resume"], 1, &["is not what was reviewed"]);
    // No plan lies about in the clear while somebody makes up their mind.
    let (kept, files) = (env.root().join(".windlass/artefacts/plan"), walk(&env.root().join(".windlass/runs")));
    assert!(!walk(&kept).is_empty() && !files.iter().any(|file| file.contains(".tfplan")), "{files:?}");
    expect(&env, &["approve"], 0, &["windlass resume"]);
    expect(&env, &["resume"], 0, &["Applied"]);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
}

/// Each thing that a review is bound to is moved once between review and apply: each is refused for its own reason, and what it
/// is not bound to may move.
#[test]
fn what_moved_between_review_and_apply_is_named() {
    let declared = "stack \"net\" {\n  env = [\"TF_VAR_size\"]\n}\n";
    let two = NET.replace("output \"id\"", "output \"unread\" {\n  value = \"${var.size}\"\n}\noutput \"id\"");
    let prepare = || {
        let mut env = env(&[
            ("net/main.tf", &two.replace("net-${var.size}", "net")),
            ("app/main.tf", APP),
            ("windlass.hcl", declared),
        ]);
        env.set("TF_VAR_size", "1");
        apply_all(&env);
        env
    };
    let refused = |env: &CliEnv, texts: &[&str]| {
        expect(env, &["apply", "--yes"], 1, texts);
        // Nothing was done, and a new review is all it takes.
        expect(env, &["review", "--all"], 0, &[]);
    };
    let more = "resource \"terraform_data\" \"more\" {}\n";
    let reviewed = |env: &CliEnv| {
        for stack in ["net", "app"] {
            let main = std::fs::read_to_string(env.root().join(stack).join("main.tf")).unwrap();
            env.write(&format!("{stack}/main.tf"), &format!("{main}{more}")).unwrap();
        }
        env.commit("More").unwrap();
        expect(env, &["review", "--base", "HEAD~1"], 0, &["Ready to apply"]);
    };

    let env = prepare();
    reviewed(&env);
    by_hand(&env, "app", &["apply", "-auto-approve"]);
    refused(&env, &["WL644", "app is not what was reviewed: somebody wrote the state meanwhile: serial"]);

    let env = prepare();
    reviewed(&env);
    let state = env.root().join("app/terraform.tfstate");
    let text = std::fs::read_to_string(&state).unwrap();
    let lineage = text.split("\"lineage\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    std::fs::write(&state, text.replace(&lineage, "00000000-0000-0000-0000-000000000000")).unwrap();
    refused(&env, &["WL643", "lineage"]);

    let mut env = prepare();
    reviewed(&env);
    env.set("TF_VAR_size", "2");
    refused(&env, &["WL646", "variable `size`", "environment variable TF_VAR_size"]);

    let env = prepare();
    reviewed(&env);
    env.write("app/.terraform.lock.hcl", "# another\n").unwrap();
    refused(&env, &["WL647", "lock file .terraform.lock.hcl was made since"]);

    // The output that is read moves, behind the back of Windlass; the dependant alone is applied.
    let env = prepare();
    let app = std::fs::read_to_string(env.root().join("app/main.tf")).unwrap();
    env.write("app/main.tf", &format!("{app}{more}")).unwrap();
    env.commit("More").unwrap();
    expect(&env, &["review", "--base", "HEAD~1"], 0, &["Ready to apply"]);
    let net = std::fs::read_to_string(env.root().join("net/main.tf")).unwrap();
    std::fs::write(env.root().join("net/main.tf"), net.replace("input = \"net\"", "input = \"other\"")).unwrap();
    by_hand(&env, "net", &["apply", "-auto-approve"]);
    std::fs::write(env.root().join("net/main.tf"), &net).unwrap();
    refused(&env, &["WL645", "data.terraform_remote_state.net.id"]);

    // An output that nobody reads is not bound.
    let env = prepare();
    env.write("app/main.tf", &format!("{APP}{more}")).unwrap();
    env.commit("More").unwrap();
    expect(&env, &["review", "--base", "HEAD~1"], 0, &["Ready to apply"]);
    by_hand(&env, "net", &["apply", "-auto-approve", "-var=size=9"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
}

#[test]
fn another_commit_or_a_dirty_work_tree_is_refused() {
    let env = env(&[("net/main.tf", NET)]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    env.write("notes.txt", "dirt").unwrap();
    expect(&env, &["apply", "--yes"], 2, &["WL614", "notes.txt"]);
    env.commit("Notes").unwrap();
    expect(&env, &["apply", "--yes"], 2, &["WL613"]);
}

#[test]
fn protected_environments_ask_for_what_their_definition_says() {
    let windlass = "project \"p\" {\n  environment \"prod\" {\n    match = [\"**\"]\n    approvals {\n      from = [team.sre]\n      unverified = true\n    }\n  }\n}\nteam \"sre\" { members = [\"email:test@example.com\"] }\n";
    let env = env(&[("net/main.tf", NET), ("windlass.hcl", windlass)]);
    expect(&env, &["review", "--all"], 0, &["environment prod asks for 1 approval from team sre, has 0"]);
    expect(&env, &["apply", "--yes"], 1, &["WL612", "is not approved"]);
    expect(&env, &["approve", "--reason", "looked at it"], 0, &["unverified", "windlass apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    // The branch cannot lower the bar for itself.
    let git = windlass_testkit::git::Git::open(&env.root());
    git.run(&["switch", "--quiet", "--create", "feature"]).unwrap();
    env.write("windlass.hcl", "project \"p\" {}\n").unwrap();
    env.write("net/size.auto.tfvars", "size = 2\n").unwrap();
    env.commit("No approvals please").unwrap();
    expect(&env, &["review"], 0, &["environment prod asks for 1 approval from team sre"]);
    expect(&env, &["apply", "--yes"], 1, &["WL612"]);
}

#[test]
fn a_damaged_database_is_named_and_left_alone() {
    let env = env(&[("net/main.tf", NET)]);
    expect(&env, &["review", "--all"], 0, &[]);
    let path = env.root().join(".windlass/windlass.db");
    for name in ["windlass.db-wal", "windlass.db-shm"] {
        let _ = std::fs::remove_file(env.root().join(".windlass").join(name));
    }
    let rubbish = "rubbish ".repeat(1000);
    std::fs::write(&path, &rubbish).unwrap();
    expect(&env, &["runs"], 3, &["WL620", "is damaged", "windlass.db"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), rubbish);
    expect(&env, &["stacks"], 0, &["net"]);
}

#[test]
fn a_full_disk_ends_with_a_message_and_the_run_goes_on_later() {
    let env = env(&[("net/main.tf", NET)]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    // A limit on the size of files stands for a disk without room.
    let script = format!("ulimit -f 1; exec '{}' review --all", env!("CARGO_BIN_EXE_windlass"));
    let mut limited = std::process::Command::new("sh");
    let template = env.command(&[]);
    limited.args(["-c", &format!("trap '' XFSZ; {script}")]).current_dir(env.root()).env_clear();
    limited.envs(template.get_envs().filter_map(|(k, v)| Some((k, v?)))).stdin(Stdio::null());
    let output = limited.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("WL622") || text.contains("WL901") || text.contains("WL625"), "{text}");
    expect(&env, &["runs"], 0, &["succeeded"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
}

#[test]
fn init_runs_once_and_the_plan_is_rendered_once() {
    let mut env = env(&[("net/main.tf", NET), ("other/main.tf", &NET.replace("net", "other"))]);
    let calls = env.count_terraform().unwrap();
    expect(&env, &["review", "--all"], 0, &[]);
    let count = |what: &str| calls.all().iter().filter(|c| c.starts_with(what)).count();
    assert_eq!(
        (count("init"), count("plan"), count("show"), count("fmt"), count("validate")),
        (2, 2, 2, 1, 0),
        "{:?}",
        calls.all()
    );
    expect(&env, &["review", "--all"], 0, &[]);
    assert_eq!((count("init"), count("plan"), count("show"), count("version")), (2, 4, 4, 1), "{:?}", calls.all());
}

#[test]
fn an_edit_that_takes_a_directory_from_the_stacks_is_noticed() {
    let env = env(&[("net/main.tf", NET), ("app/main.tf", &NET.replace("net", "app"))]);
    let called = format!("{}module \"net\" {{\n  source = \"../net\"\n}}\n", NET.replace("net", "app"));
    env.write("app/main.tf", &called).unwrap();
    expect(&env, &["affected"], 0, &["app changed", "net deleted"]);
    env.commit("Call it").unwrap();
    env.write("app/main.tf", &NET.replace("net", "app")).unwrap();
    expect(&env, &["affected"], 0, &["app changed", "net new"]);
}

#[test]
fn what_terraform_leaves_beside_the_configuration_is_no_change() {
    let stacks: Vec<(String, String)> = (0..8).map(|n| (format!("s{n}/main.tf"), NET.to_owned())).collect();
    let files: Vec<(&str, &str)> = stacks.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
    let env = env(&files);
    // Nobody told git to ignore states.
    env.write(".gitignore", "made.log\n").unwrap();
    env.commit("Ignore less").unwrap();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied 8"]);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
}

#[test]
fn a_sensitive_output_of_another_stack_is_never_stored_or_shown() {
    let net = NET
        .replace("value = terraform_data.net.output\n", "value     = \"hush-hush-${var.size}\"\n  sensitive = true\n");
    let env = env(&[("net/main.tf", &net), ("app/main.tf", APP)]);
    let quiet = |text: &str| assert!(!text.contains("hush-hush"), "{text}");
    quiet(&expect(&env, &["review", "--all"], 0, &["(sensitive"]).stdout);
    // What was previewed as sensitive is the same when it is planned for real, although terraform forgets that it is.
    expect(&env, &["apply", "--yes"], 0, &["Applied 2"]);
    env.write("net/size.auto.tfvars", "size = 2\n").unwrap();
    env.commit("Two").unwrap();
    quiet(&expect(&env, &["review", "--base", "HEAD~1", "--json"], 0, &[]).stdout);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    for file in walk(&env.root().join(".windlass")) {
        let content = std::fs::read(&file).unwrap();
        assert!(!content.windows(9).any(|w| w == b"hush-hush"), "{file}");
    }
}

#[test]
fn a_plan_that_is_killed_has_the_machine_for_itself_the_next_time() {
    // A terraform before the real one that dies in its first plan of `big`, as the kernel ends what takes too much memory.
    let mut env = env(&[("big/main.tf", NET), ("small/main.tf", &NET.replace("net", "small"))]);
    let real = windlass_testkit::cli::terraform().unwrap();
    let place = env.home().join("bin");
    std::fs::create_dir_all(&place).unwrap();
    let script = place.join("terraform");
    let mark = env.home().join("killed-once");
    let log = env.home().join("plans");
    let text = format!(
        "#!/bin/sh\nstack=${{PWD##*/}}\nif [ \"$1\" != plan ]; then exec '{real}' \"$@\"; fi\nif [ $stack = big ] && [ ! -e '{mark}' ]; then\n  touch '{mark}'\n  kill -KILL $$\nfi\necho \"$stack begins\" >> '{log}'\n'{real}' \"$@\"\nended=$?\necho \"$stack ends\" >> '{log}'\nexit $ended\n",
        real = real.display(),
        mark = mark.display(),
        log = log.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    env.set("PATH", format!("{}:{path}", place.display()));
    expect(
        &env,
        &["review", "--all"],
        1,
        &["was killed from outside", "the next run of big has this machine for itself"],
    );
    // It is planned alone, and measured again.
    std::fs::remove_file(&log).unwrap();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let plans = std::fs::read_to_string(&log).unwrap();
    assert!(plans.contains("big begins\nbig ends\n"), "{plans}");
    expect(&env, &["apply", "--yes"], 0, &["Applied 2"]);
}

#[test]
fn a_step_without_room_for_its_files_waits_for_it() {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    let git = env.git_init().unwrap();
    env.write("windlass.hcl", "operation \"look\" {\n  step \"here\" { run = [\"true\"] }\n}\n").unwrap();
    env.commit("Operations").unwrap();
    let server = Server::start(&env, "");
    let runs = "/api/v1/projects/shop/operations/look/runs";
    assert_eq!(server.ended(&run_of(&server.post(runs, &serde_json::json!({})))), "succeeded");
    // Others have all that there may be of its commit.
    let repositories = std::fs::read_dir(server.data.join("repositories")).unwrap();
    let work = repositories.map(|entry| entry.unwrap().path().join("work")).find(|work| work.is_dir()).unwrap();
    let commit = git.run(&["rev-parse", "HEAD"]).unwrap();
    let taken: Vec<std::fs::File> = (0..=250)
        .map(|number| {
            let path = work.join(format!("{}-{number}.lock", &commit[..16]));
            let file = std::fs::File::options().create(true).truncate(false).write(true).open(path).unwrap();
            file.lock().unwrap();
            file
        })
        .collect();
    let run = run_of(&server.post(runs, &serde_json::json!({})));
    wait(|| server.get(&format!("/api/v1/runs/{run}")).text().contains("work trees").then_some(()));
    drop(taken);
    assert_eq!(server.ended(&run), "succeeded");
}
