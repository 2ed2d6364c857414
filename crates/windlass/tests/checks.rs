//! Static checks in `check` and in the review: our own, and those of other programs.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;

/// A checker that calls the first line of `net/main.tf` an error, and something outside of any stack too.
const SCAN: &str = r#"#!/bin/sh
echo "scanning" >&2
cat <<'END'
{"version": "2.1.0", "runs": [{
  "tool": {"driver": {"name": "scan", "rules": [{"id": "S1", "helpUri": "https://example.com/s1"}]}},
  "results": [
    {"ruleId": "S1", "level": "error", "message": {"text": "the backend keeps no history"},
     "locations": [{"physicalLocation": {"artifactLocation": {"uri": "net/main.tf"}, "region": {"startLine": 2}}}]},
    {"ruleId": "S1", "level": "error", "message": {"text": "elsewhere"},
     "locations": [{"physicalLocation": {"artifactLocation": {"uri": "Dockerfile"}}}]}
  ]
}]}
END
exit 2
"#;

fn lint(content: &str) -> String {
    format!("project \"p\" {{\n  lint {{\n{content}\n  }}\n}}\n")
}

fn tool(enforcement: &str) -> String {
    lint(&format!(
        "    tool \"scan\" {{\n      command     = [\"sh\", \"scan.sh\"]\n      enforcement = \"{enforcement}\"\n    }}"
    ))
}

#[test]
fn what_terraform_accepts_and_a_reader_would_not_is_said() {
    let more = format!(
        "{NET}variable \"nobody\" {{\n  default = 1\n}}\noutput \"db_password\" {{\n  value = terraform_data.net.output\n}}\n"
    );
    let env = env(&[("net/main.tf", &more), ("app/main.tf", APP)]);
    let texts = ["[WL701]", "variable `nobody` is not used", "net/main.tf:13", "[WL705]", "nothing to mend"];
    let checked = expect(&env, &["check"], 0, &texts[..4]);
    assert!(!checked.stdout.contains(texts[4]), "{}", checked.stdout);
    // In the review they stand at the stack that they are about.
    expect(&env, &["review", "--stack", "net"], 0, &["variable `nobody` is not used: remove it", "net/main.tf:13"]);
    let all = expect(&env, &["review", "--all", "--json"], 0, &[]).stdout;
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    let findings = |stack: usize| all["review"]["stacks"][stack]["findings"].to_string();
    assert!(findings(0).contains("nobody") && !findings(1).contains("nobody"), "{all}");
    env.write("windlass.hcl", &lint("    disable = [\"WL701\", \"WL705\"]")).unwrap();
    expect(&env, &["check"], 0, &["2 stacks: nothing to mend"]);
    let operation = |step: &str| format!("operation \"o\" {{\n  step \"s\" {{ run = [{step}] }}\n}}\n");
    env.write("o.windlass.hcl", &operation("\"true\"")).unwrap();
    expect(&env, &["check"], 0, &["2 stacks, 1 operation: nothing to mend"]);
    env.write("o.windlass.hcl", &operation("param.x")).unwrap();
    expect(&env, &["check"], 1, &["[WL120]", "o.windlass.hcl:2", "`param` has no `x`", "2 stacks: 1 error"]);
    env.write("o.windlass.hcl", "").unwrap();
    env.write("windlass.hcl", &lint("    disable = [\"WL201\"]\n    tool \"mine\" {}")).unwrap();
    expect(&env, &["check"], 1, &["`WL201` is no check of `lint`", "how tool \"mine\" is run is not known"]);
}

#[test]
fn other_checkers_join_the_review() {
    let env = env(&[("net/main.tf", NET), ("scan.sh", SCAN), ("windlass.hcl", &tool("warn"))]);
    let texts = ["the backend keeps no history", "net/main.tf:2", "scan", "Ready to apply"];
    let warned = expect(&env, &["review", "--all"], 0, &texts);
    assert!(!warned.stdout.contains("elsewhere"), "{}", warned.stdout);
    expect(&env, &["logs", "latest/checks"], 0, &["sh scan.sh", "scanning"]);
    env.write("windlass.hcl", &tool("deny")).unwrap();
    env.commit("Deny").unwrap();
    expect(&env, &["review", "--all"], 1, &["Denied by policy", "the backend keeps no history"]);
    // One that does not report is no pass where it may block.
    env.write("scan.sh", "echo 'no such file' >&2; exit 1\n").unwrap();
    env.commit("Break it").unwrap();
    expect(&env, &["review", "--all"], 1, &["broken", "scan could not check", "not JSON", "no such file"]);
    env.write("windlass.hcl", &tool("warn")).unwrap();
    env.commit("Warn").unwrap();
    expect(&env, &["review", "--all"], 0, &["warn", "scan could not check"]);
    env.write("windlass.hcl", &lint("    tool \"tflint\" {\n      command = [\"no-such-program\"]\n    }")).unwrap();
    env.commit("Not there").unwrap();
    expect(&env, &["review", "--all"], 0, &["tflint could not check", "no-such-program"]);
}

#[test]
fn a_report_is_handed_in() {
    let env = env(&[("net/main.tf", NET), ("scan.sh", SCAN)]);
    let report: String = SCAN.lines().skip_while(|l| !l.starts_with('{')).take_while(|l| *l != "END").collect();
    env.write("report.sarif", &report).unwrap();
    let path = env.root().join("report.sarif").display().to_string();
    expect(&env, &["review", "--all", "--report", &path], 0, &["the backend keeps no history", "net/main.tf:2"]);
    env.write("report.sarif", "{}").unwrap();
    expect(&env, &["review", "--all", "--report", &path], 2, &["[WL710]", "`version` is missing"]);
    expect(&env, &["review", "--all", "--report", "nowhere"], 2, &["[WL710]", "nowhere"]);
}
