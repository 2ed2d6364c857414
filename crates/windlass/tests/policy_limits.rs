//! What policies may use, the organisation's own ones and others, what they see, and that nothing of it passes.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use std::path::PathBuf;
use std::process::Stdio;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::git::Git;

fn rego(rules: &str) -> String {
    format!("package main\n\nimport rego.v1\n\n{rules}\n")
}

/// Does not end by itself.
const ENDLESS: &str = "deny contains \"x\" if {\n\tsome a in numbers.range(1, 1000000)\n\tsome b in numbers.range(1, 1000000)\n\ta + b == 0\n}";
/// A text twice as long as the one before, 40 times.
fn doubling() -> String {
    let mut text = String::from("t0 := \"x\" if input.resource_changes\n\n");
    for n in 1..=40 {
        text.push_str(&format!("t{n} := concat(\"\", [t{0}, t{0}])\n\n", n - 1));
    }
    format!("{text}deny contains \"x\" if t40 == \"\"")
}
/// A value nested twice as deeply as the one before, 22 times.
fn nesting() -> String {
    let mut text = String::from("d0 := {\"a\": {}} if input.resource_changes\n\n");
    for n in 1..=22 {
        let (before, levels) = (n - 1, 1 << (n - 1));
        text.push_str(&format!(
            "d{n} := json.patch(d{before}, [{{\"op\": \"add\", \"path\": [\"a\" | some _ in numbers.range(1, {levels})], \"value\": d{before}}}])\n\n"
        ));
    }
    format!("{text}deny contains \"x\" if d22 == {{}}")
}

/// More texts than there is room for, none of them long.
const MANY: &str = "deny contains \"x\" if {\n\tinput.resource_changes\n\tall := [sprintf(\"%1000d\", [i]) | some i in numbers.range(1, 1000000)]\n\tcount(all) == 0\n}";
/// Every value of a plan with every other one, four times over.
const WALKS: &str = "deny contains \"x\" if {\n\tinput.resource_changes\n\tall := [[a, b, c, d] | walk(input, a); walk(input, b); walk(input, c); walk(input, d)]\n\tcount(all) == 0\n}";
/// A text that one step makes out of little.
const ONE_STEP: &str = "deny contains \"x\" if {\n\tinput.resource_changes\n\tlong := sprintf(\"%1000000d\", [1])\n\ttext := concat(\"\", [long | some _ in numbers.range(1, 100000)])\n\ttext == \"\"\n}";

/// A repository whose only policies come from another one, at the commit that it has now.
struct Company {
    env: CliEnv,
    bundle: PathBuf,
}

impl Company {
    fn new() -> Self {
        let env = env(&[("net/main.tf", NET)]);
        let bundle = env.home().join("policies");
        std::fs::create_dir(&bundle).unwrap();
        Git::init(&bundle).unwrap();
        Self { env, bundle }
    }

    /// Pins a bundle with these rules, on the branch that decides.
    fn pin(&self, rules: &str) {
        self.pin_for(rules, "embedded");
    }

    fn pin_for(&self, rules: &str, engine: &str) {
        std::fs::write(self.bundle.join("a.rego"), rego(rules)).unwrap();
        let git = Git::open(&self.bundle);
        git.run(&["add", "--all"]).unwrap();
        git.commit(("Dev", "dev@example.com"), "2026-01-05T09:00:00Z", "Policies").unwrap();
        let commit = std::fs::read_to_string(self.bundle.join(".git/refs/heads/main")).unwrap();
        let source = format!("git::file://{}?ref={}", self.bundle.display(), commit.trim());
        self.env
            .write(
                "windlass.hcl",
                &format!("policy \"company\" {{\n  source = \"{source}\"\n  engine = \"{engine}\"\n}}\n"),
            )
            .unwrap();
        self.env.commit("Pin").unwrap();
    }
}

#[test]
fn a_bundle_that_uses_too_much_is_broken_and_the_program_goes_on() {
    let mut company = Company::new();
    company.env.set("WINDLASS_POLICY_TIME", "20");
    company.env.set("WINDLASS_POLICY_MEMORY", "256");
    let check = |company: &Company, rules: &str, want: &str| {
        company.pin(rules);
        let texts = ["broken", "[WL406]", want, "policy company", "Denied by policy"];
        let answer = expect(&company.env, &["review", "--all"], 1, &texts);
        assert!(answer.stdout.contains("bundle:company/a.rego"), "{}", answer.stdout);
        expect(&company.env, &["apply", "--yes"], 1, &["WL607"]);
    };
    check(&company, &doubling(), "needed more than 256 MiB of memory");
    company.env.set("WINDLASS_POLICY_MEMORY", "4096");
    check(&company, &nesting(), "json.patch: the value is nested");
    company.env.set("WINDLASS_POLICY_TIME", "1");
    check(&company, ENDLESS, "took longer than 1 s");
    // One that keeps within them decides as always.
    company.env.set("WINDLASS_POLICY_TIME", "20");
    company.pin("deny contains \"net-1 is a bad name\" if input.resource_changes[_].change.after.input == \"net-1\"");
    expect(&company.env, &["review", "--all"], 1, &["deny net-1 is a bad name", "bundle:company/a.rego:5"]);
    company.pin("deny contains \"never\" if input.resource_changes[_].change.after.input == \"net-9\"");
    expect(&company.env, &["review", "--all"], 0, &["Ready to apply"]);
    company.env.set("WINDLASS_POLICY_TIME", "soon");
    expect(&company.env, &["review", "--all"], 2, &["WL906", "WINDLASS_POLICY_TIME"]);
}

#[test]
fn an_own_policy_that_uses_too_much_is_broken_and_the_program_goes_on() {
    let mut env = env(&[("net/main.tf", NET)]);
    env.set("WINDLASS_POLICY_TIME", "20");
    env.set("WINDLASS_POLICY_MEMORY", "256");
    let check = |env: &CliEnv, rules: &str, want: &str| {
        env.write("policy/a.rego", &rego(rules)).unwrap();
        env.commit("Policy").unwrap();
        let texts = ["broken", "[WL406]", want, "policy policy", "policy/a.rego", "Denied by policy"];
        expect(env, &["review", "--all"], 1, &texts);
        expect(env, &["apply", "--yes"], 1, &["WL607"]);
    };
    for rules in [&doubling(), MANY, WALKS, ONE_STEP] {
        check(&env, rules, "needed more than 256 MiB of memory");
    }
    env.set("WINDLASS_POLICY_MEMORY", "4096");
    check(&env, &nesting(), "json.patch: the value is nested");
    env.set("WINDLASS_POLICY_TIME", "1");
    check(&env, ENDLESS, "took longer than 1 s");
    // One that keeps within them decides as always.
    env.set("WINDLASS_POLICY_TIME", "20");
    env.set("WINDLASS_POLICY_MEMORY", "256");
    env.write("policy/a.rego", &rego("deny contains \"never\" if input.errored")).unwrap();
    env.commit("Policy").unwrap();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
}

#[test]
fn an_own_policy_over_approvals_that_uses_too_much_refuses_the_apply() {
    let mut env = env(&[("net/main.tf", NET)]);
    env.set("WINDLASS_POLICY_TIME", "20");
    env.set("WINDLASS_POLICY_MEMORY", "256");
    env.write("windlass.hcl", "policy \"who\" {\n  decides = \"approval\"\n  paths   = [\"who\"]\n}\n").unwrap();
    let rules = |body: &str| rego(&body.replace("deny contains \"x\"", "require contains {\"count\": 1}"));
    let check = |env: &CliEnv, body: &str, want: &str| {
        env.write("who/a.rego", &rules(&body.replace("input.resource_changes", "input.risk"))).unwrap();
        env.commit("Policy").unwrap();
        let answer = run(env, &["review", "--all"]);
        let refused = run(env, &["apply", "--yes"]);
        for (what, answer) in [("review", answer), ("apply", refused)] {
            let all = format!("{}{}", answer.stdout, answer.stderr);
            assert!(matches!(answer.code, Some(1 | 2)), "{what}: {:?} {all}", answer.code);
            assert!(what == "apply" || all.contains(want) && all.contains("policy who"), "{what}: {all}");
        }
        assert!(!env.root().join("net/terraform.tfstate").exists());
    };
    check(&env, &doubling(), "needed more than 256 MiB of memory");
    env.set("WINDLASS_POLICY_TIME", "1");
    check(&env, ENDLESS, "took longer than 1 s");
}

#[test]
fn policies_on_files_have_the_same_limits() {
    let mut env = env(&[("big.json", "{\"resource_changes\": []}"), ("small.json", "{}")]);
    env.set("WINDLASS_POLICY_TIME", "20");
    env.set("WINDLASS_POLICY_MEMORY", "256");
    let check = |env: &CliEnv, rules: &str, want: &str| {
        env.write("policy/a.rego", &rego(&format!("{rules}\n\nwarn contains \"small\" if not input.resource_changes")))
            .unwrap();
        let test = "test_x if count(deny) == 0 with input as {\"resource_changes\": []}\n\ntest_y if count(warn) == 1 with input as {}";
        env.write("policy/a_test.rego", &rego(test)).unwrap();
        // The other file is judged nevertheless.
        let texts = ["WL406", want, "policy/a.rego:", "small.json", "1 warning"];
        expect(env, &["policy", "check", "big.json", "small.json"], 3, &texts);
        expect(env, &["policy", "eval", "data.main.deny", "--input", "big.json"], 3, &["WL438", want]);
        expect(env, &["policy", "eval", "data.main.deny", "--input", "small.json"], 0, &["[]"]);
        expect(env, &["policy", "test"], 3, &["BROKE", "data.main.test_x", want, "1 passed"]);
    };
    check(&env, &doubling(), "needed more than 256 MiB of memory");
    check(&env, ONE_STEP, "needed more than 256 MiB of memory");
    env.set("WINDLASS_POLICY_TIME", "2");
    check(&env, &ENDLESS.replace("if {", "if {\n\tinput.resource_changes"), "took longer than 2 s");
    env.set("WINDLASS_POLICY_MEMORY", "much");
    expect(&env, &["policy", "check", "small.json"], 2, &["WL906", "WINDLASS_POLICY_MEMORY"]);
}

#[test]
fn a_policy_sees_nothing_of_the_process() {
    let mut company = Company::new();
    company.env.set("WINDLASS_TEST_SECRET", "hunter22-hunter22");
    company.pin("deny contains msg if {\n\tcount(input.resource_changes) > 0\n\tmsg := sprintf(\"sees %v\", [opa.runtime().env])\n}");
    expect(&company.env, &["review", "--all"], 1, &["deny sees {}"]);
    // Nor does its process: looked at while it runs.
    company.env.set("WINDLASS_POLICY_TIME", "3600");
    company.pin(ENDLESS);
    let mut review =
        company.env.command(&["review", "--all"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let process = wait(|| policy_process(review.id()));
    let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap();
    assert_eq!(String::from_utf8_lossy(&environment), "MIMALLOC_ARENA_RESERVE=0\0");
    let own = std::fs::read(format!("/proc/{}/environ", review.id())).unwrap();
    assert!(String::from_utf8_lossy(&own).contains("hunter22"));
    kill(process);
    assert_eq!(review.wait().unwrap().code(), Some(1));
}

#[test]
fn a_process_that_is_killed_has_not_decided() {
    let mut company = Company::new();
    company.env.set("WINDLASS_POLICY_TIME", "3600");
    company.pin(ENDLESS);
    let review =
        company.env.command(&["review", "--all"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let process = wait(|| policy_process(review.id()));
    kill(process);
    let answer = review.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert_eq!(answer.status.code(), Some(1), "{text}");
    for want in ["broken", "ended without an answer (signal: 9 (SIGKILL))", "Denied by policy"] {
        assert!(text.contains(want), "{want}: {text}");
    }
    // And it goes with the program, when that is what is killed.
    let mut review =
        company.env.command(&["review", "--all"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let process = wait(|| policy_process(review.id()));
    review.kill().unwrap();
    review.wait().unwrap();
    // One that nobody has waited for yet has no command line any more.
    let is_there = || std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|words| !words.is_empty());
    wait(|| (!is_there()).then_some(()));
}

#[test]
fn policies_of_a_change_run_apart() {
    let mut env = env(&[("net/main.tf", NET), ("policy/a.rego", &rego("deny contains \"no\" if input.errored"))]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    Git::open(&env.root()).run(&["switch", "--quiet", "--create", "change"]).unwrap();
    env.set("WINDLASS_POLICY_TIME", "20");
    env.set("WINDLASS_POLICY_MEMORY", "256");
    env.write("policy/a.rego", &rego(&doubling())).unwrap();
    let texts = ["newly broken net", "needed more than 256 MiB of memory"];
    expect(&env, &["policy", "replay"], 1, &texts);
    env.write("net/more.tf", "resource \"terraform_data\" \"other\" {}\n").unwrap();
    env.commit("Eats memory").unwrap();
    // What decides is on the branch that it goes to.
    let texts = ["with the policies of this change", "newly broken, policy policy", "Ready to apply"];
    expect(&env, &["review"], 0, &texts);
    env.write("policy/a.rego", &rego("deny contains \"no more\" if input.resource_changes")).unwrap();
    expect(&env, &["policy", "replay"], 1, &["newly denied net: no more"]);
}

#[test]
fn opa_has_limits() {
    let mut company = Company::new();
    company.env.only_programs(&["git", "terraform", "tofu", "cat", "sh", "env"]).unwrap();
    company.env.set("WINDLASS_POLICY_MEMORY", "256");
    company.pin_for("deny contains \"x\" if input.resource_changes", "opa");
    expect(&company.env, &["review", "--all"], 1, &["broken", "[WL452]", "no opa on the PATH"]);
    let programs = company.env.home().parent().unwrap().join("only");
    let opa = |eval: &str| {
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in\ncapabilities) echo '{{\"builtins\": []}}' ;;\neval) cat > /dev/null\n{eval} ;;\nesac\n"
        );
        let draft = programs.join("draft");
        std::fs::write(&draft, script).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&draft, programs.join("opa")).unwrap();
    };
    // What it may use, and what it reserves before it does anything: a GiB.
    opa("echo '{\"result\": [{\"expressions\": [{\"value\": [[[\"has '$(ulimit -v)' KiB\"]]]}]}]}'");
    expect(&company.env, &["review", "--all"], 1, &["deny has 1310720 KiB"]);
    opa("echo 'fatal error: runtime: out of memory' >&2\n exit 2");
    expect(&company.env, &["review", "--all"], 1, &["broken", "[WL406]", "needed more than 256 MiB of memory"]);
    // Nor may an own policy use more.
    company.env.write("policy/a.rego", &rego("deny contains \"x\" if input.resource_changes")).unwrap();
    company.env.write("windlass.hcl", "policy \"own\" {\n  paths  = [\"policy\"]\n  engine = \"opa\"\n}\n").unwrap();
    company.env.commit("Own").unwrap();
    expect(&company.env, &["review", "--all"], 1, &["policy own", "[WL406]", "needed more than 256 MiB of memory"]);
}

/// The number of the process that has policies for this one.
fn policy_process(parent: u32) -> Option<u32> {
    let numbers =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.into_iter().find(|number: &u32| {
        let read = |name: &str| std::fs::read(format!("/proc/{number}/{name}")).unwrap_or_default();
        let (status, words) = (read("stat"), read("cmdline"));
        let status = String::from_utf8_lossy(&status).into_owned();
        // The name, which may hold anything, is in brackets; then the state and the parent.
        let of = status.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        of == Some(parent) && words.split(|byte| *byte == 0).any(|word| word == b"__policy")
    })
}

fn kill(process: u32) {
    let status = std::process::Command::new("kill").args(["-9", &process.to_string()]).status().unwrap();
    assert!(status.success());
}
