//! How a review is shown: formats, files, templates, and what is told of earlier pushes. On the real program with the real
//! terraform.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use serde_json::Value;
use windlass_testkit::cli::{Answer, CliEnv};

/// Two stacks that are applied, with a change of the first that the second reads.
fn grown() -> CliEnv {
    let env = env(&[("net/main.tf", NET), ("app/main.tf", APP)]);
    apply_all(&env);
    let git = windlass_testkit::git::Git::open(&env.root());
    git.run(&["switch", "--quiet", "--create", "bigger"]).unwrap();
    env.write("net/size.auto.tfvars", "size = 2\n").unwrap();
    env.commit("Grow").unwrap();
    expect(&env, &["review"], 0, &["Ready to apply", "Next: apply it: windlass apply"]);
    env
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.stdout).unwrap()
}

#[test]
fn one_review_in_every_format() {
    let env = grown();
    let terminal = expect(
        &env,
        &["review", "--show"],
        0,
        &["with net.id = (known after apply)", "read by app", "2 to update", "input = \"net-1\" → \"net-2\""],
    );
    assert!(terminal.stdout.starts_with("Ready to apply. Next: apply it: windlass apply 01"), "{}", terminal.stdout);
    assert!(!terminal.stdout.contains('\u{1b}'));

    let markdown = expect(
        &env,
        &["review", "--show", "--format", "markdown"],
        0,
        &["```diff\n- input = \"net-1\"\n+ input = \"net-2\""],
    );
    assert!(
        markdown.stdout.starts_with("<!-- windlass:review repo -->\n### ✅ Ready to apply: apply it\n"),
        "{}",
        markdown.stdout
    );
    for text in ["with `net.id` = `(known after apply)`", "output `id` is changed, read by app", "<details>"] {
        assert!(markdown.stdout.contains(text), "{text}\n{}", markdown.stdout);
    }
    let plain = expect(
        &env,
        &["review", "--show", "--format", "markdown", "--forge", "bitbucket"],
        0,
        &["[//]: # (windlass:review repo)"],
    );
    assert!(!plain.stdout.contains("<details>"), "{}", plain.stdout);

    let page = expect(&env, &["review", "--show", "--format", "html"], 0, &["<h1>Ready to apply</h1>"]);
    assert!(page.stdout.starts_with("<!doctype html>"));

    let document = json(&expect(&env, &["review", "--show", "--format", "json"], 0, &[]));
    assert_eq!(document["version"], 1);
    assert_eq!(document["headline"]["title"], "Ready to apply");
    assert_eq!(document["stacks"][0]["outputs"][0]["readers"], serde_json::json!(["app"]));

    let summary = json(&expect(&env, &["review", "--show", "--format", "summary"], 0, &[]));
    assert_eq!(summary["label"], "add-or-update");
    assert_eq!(summary["effect"]["update"], 2);
    let stacks: Vec<_> =
        summary["stacks"].as_array().unwrap().iter().map(|s| (&s["instance"], &s["label"], &s["preview"])).collect();
    assert_eq!(
        serde_json::json!(stacks),
        serde_json::json!([["net", "add-or-update", false], ["app", "add-or-update", true]])
    );

    // What programs have always read.
    let old = json(&expect(&env, &["review", "--show", "--json"], 0, &[]));
    assert_eq!((&old["state"], &old["review"]["verdict"]), (&"open".into(), &"ready".into()));
}

#[test]
fn a_review_goes_into_a_file() {
    let env = grown();
    let answer = expect(&env, &["review", "--show", "--format", "html", "--output", "review.html"], 0, &[]);
    assert_eq!(answer.stdout, "");
    let page = std::fs::read_to_string(env.root().join("review.html")).unwrap();
    assert!(page.contains("Content-Security-Policy") && page.contains("net-2"));
    expect(&env, &["review", "--show", "--output", "no/such/review.txt"], 3, &["WL901", "no/such/review.txt"]);
    let answer = expect(&env, &["review", "--format", "summary", "--output", ".windlass/summary.json"], 0, &[]);
    assert_eq!(answer.stdout, "", "progress goes to standard error");
    let text = std::fs::read_to_string(env.root().join(".windlass/summary.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["verdict"], "ready");
}

#[test]
fn templates_replace_the_text_and_broken_ones_do_not_cost_the_review() {
    let env = grown();
    let show = |template: &str, more: &[&str]| {
        let mut arguments = vec!["review", "--show", "--template", template];
        arguments.extend(more);
        run(&env, &arguments)
    };
    env.write(
        ".windlass/own.md",
        "{{ headline.title }}: {{ summary.label }}\n{% for s in stacks %}{{ s.stack|code }} {% endfor %}",
    )
    .unwrap();
    let own = show(".windlass/own.md", &[]);
    assert_eq!(
        (own.code, own.stdout.as_str()),
        (Some(0), "<!-- windlass:review repo -->\nReady to apply: add-or-update\n`net` `app` "),
        "{}",
        own.stderr
    );
    env.write(".windlass/own.html", "<p>{{ project }}</p>").unwrap();
    assert_eq!(show(".windlass/own.html", &[]).stdout, "<p>repo</p>");
    env.write(".windlass/broken.md", "fine\n{{ headline.titel }}").unwrap();
    let broken = show(".windlass/broken.md", &[]);
    assert_eq!(broken.code, Some(0));
    assert!(broken.stderr.contains("WL690") && broken.stderr.contains("broken.md:2"), "{}", broken.stderr);
    assert!(
        broken.stdout.contains("### ✅ Ready to apply") && broken.stdout.contains("broken.md:2"),
        "{}",
        broken.stdout
    );
    let missing = show("nope.md", &[]);
    assert!(missing.code == Some(2) && missing.stderr.contains("WL902"), "{}", missing.stderr);
    let mixed = show(".windlass/own.md", &["--format", "json"]);
    assert!(mixed.code == Some(2) && mixed.stderr.contains("WL904"), "{}", mixed.stderr);
}

#[test]
fn a_push_after_an_approval_says_what_nobody_has_approved() {
    let env = grown();
    expect(&env, &["approve"], 0, &["Approved"]);
    env.write("net/size.auto.tfvars", "size = 3\n").unwrap();
    env.commit("Grow more").unwrap();
    let second = expect(&env, &["review"], 0, &["1 resource differs from the plan approved at"]);
    assert!(second.stdout.contains("terraform_data.net `input` gets another value (net)"), "{}", second.stdout);
    let markdown = expect(&env, &["review", "--show", "--format", "markdown"], 0, &["1 review before this one"]);
    assert!(
        markdown.stdout.contains(", approved\n") && markdown.stdout.contains(", not as it was"),
        "{}",
        markdown.stdout
    );
    // Without a branch nothing tells which reviews are of the same change.
    let git = windlass_testkit::git::Git::open(&env.root());
    git.run(&["switch", "--quiet", "--detach"]).unwrap();
    for _ in 0..2 {
        let detached = json(&expect(&env, &["review", "--base", "main", "--format", "json"], 0, &[]));
        assert_eq!((&detached["since"], &detached["history"]), (&Value::Null, &serde_json::json!([])));
    }
    git.run(&["switch", "--quiet", "bigger"]).unwrap();
    expect(&env, &["review"], 0, &[]);
    // Once it is applied, earlier plans say nothing any more.
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    env.write("net/size.auto.tfvars", "size = 4\n").unwrap();
    env.commit("Grow again").unwrap();
    let third = expect(&env, &["review"], 0, &["input = \"net-3\" → \"net-4\""]);
    assert!(!third.stdout.contains("differs from"), "{}", third.stdout);
}

#[test]
fn findings_are_told_once_and_as_new_or_fixed() {
    let env = grown();
    env.write("net/size.auto.tfvars", "size   = 2\n").unwrap();
    env.commit("Untidy").unwrap();
    // Other checks may have something to say as well.
    let of_format = |review: &Value, list: &str| -> Vec<Value> {
        let found = review[list].as_array().unwrap().iter().filter(|finding| finding["source"] == "terraform fmt");
        found.map(|finding| finding["state"].clone()).collect()
    };
    let untidy = json(&expect(&env, &["review", "--format", "json"], 0, &[]));
    assert_eq!(of_format(&untidy, "findings"), ["new"]);
    env.write("app/more.tf", "locals {\n  a = 1\n}\n").unwrap();
    env.commit("More").unwrap();
    let same = json(&expect(&env, &["review", "--format", "json"], 0, &[]));
    assert_eq!(of_format(&same, "findings"), ["unchanged"]);
    env.write("net/size.auto.tfvars", "size = 2\n").unwrap();
    env.commit("Tidy").unwrap();
    let tidy = json(&expect(&env, &["review", "--format", "json"], 0, &[]));
    assert_eq!((of_format(&tidy, "findings").len(), of_format(&tidy, "fixed")), (0, vec!["fixed".into()]));
    expect(&env, &["review", "--show"], 0, &["fixed net/size.auto.tfvars is not formatted"]);
}

#[test]
fn where_nothing_is_affected_every_format_says_so() {
    let env = env(&[("net/main.tf", NET)]);
    expect(&env, &["review"], 0, &["Nothing to review"]);
    let summary = json(&expect(&env, &["review", "--format", "summary"], 0, &[]));
    assert_eq!((&summary["label"], &summary["verdict"]), (&"no-changes".into(), &"nothing".into()));
    expect(&env, &["review", "--format", "markdown"], 0, &["### ✅ Nothing to apply"]);
}

#[test]
fn what_is_destroyed_comes_first_with_what_refers_to_it() {
    let two = "terraform {\n  backend \"local\" {}\n}\nvariable \"key\" {\n  default = \"a\"\n}\nresource \"terraform_data\" \"base\" {\n  triggers_replace = var.key\n}\nresource \"terraform_data\" \"user\" {\n  input = terraform_data.base.id\n}\nresource \"terraform_data\" \"late\" {\n  triggers_replace = terraform_data.base.id\n}\n";
    let env = env(&[("net/main.tf", two)]);
    apply_all(&env);
    env.write("net/key.auto.tfvars", "key = \"b\"\n").unwrap();
    env.commit("Other key").unwrap();
    let shown = expect(
        &env,
        &["review", "--base", "HEAD~1"],
        0,
        &[
            "read by terraform_data.late and terraform_data.user",
            "replaced because of triggers_replace ← terraform_data.base is replaced",
            "triggers_replace = \"a\" → \"b\"  forces replacement",
        ],
    );
    let first = shown
        .stdout
        .find("Destroyed or replaced\n  ∓ replace  terraform_data.base in net, because of triggers_replace")
        .unwrap();
    assert!(first < shown.stdout.find("\nnet  ").unwrap(), "{}", shown.stdout);
    let document = json(&expect(&env, &["review", "--show", "--format", "json"], 0, &[]));
    assert_eq!(document["summary"]["labels"], serde_json::json!(["destroy"]));
    assert_eq!(document["dangers"][0]["kind"], "replaced");
}
