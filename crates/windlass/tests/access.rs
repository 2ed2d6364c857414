//! Who may do what, asked of the real program.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use windlass_testkit::cli::CliEnv;

const WINDLASS: &str = r#"
project "shop" {
  default_role = "viewer"
  environment "production" { match = ["app[tokyo]", "net"] }
}
team "sre" { members = ["oidc-group:sre", "email:test@example.com"] }
team "shop" { members = ["oidc-group:shop"] }
stack "app" {
  owner   = team.shop
  regions = ["tokyo", "osaka"]
}
grant "operators" {
  to   = [team.sre]
  role = "operator"
}
grant "own" {
  to          = [team.shop]
  permissions = ["review.apply"]
  stacks      = ["app[osaka]"]
}
"#;

const POLICY: &str = "policy \"access\" {\n  decides = \"access\"\n  paths   = [\"policies\"]\n}\n";

fn shop() -> CliEnv {
    env(&[("net/main.tf", NET), ("app/main.tf", APP), ("windlass.hcl", WINDLASS)])
}

fn explain(env: &CliEnv, arguments: &str, code: i32, texts: &[&str]) -> String {
    let all: Vec<&str> = ["access", "explain"].into_iter().chain(arguments.split(' ')).collect();
    let answer = expect(env, &all, code, texts);
    format!("{}{}", answer.stdout, answer.stderr)
}

#[test]
fn who_may_is_told_with_the_grant_that_gives_it() {
    let env = shop();
    // The mail address is the one that git knows.
    let texts = [
        "Allowed: ",
        "review.apply for net",
        "grant `operators` (windlass.hcl:12) gives team sre",
        "email:test@example.com",
    ];
    explain(&env, "review.apply net", 0, &texts);
    explain(&env, "review.apply", 0, &["Allowed", "for all stacks", "of the default branch"]);
    explain(&env, "review.apply net app", 0, &["for 3 instances of net, app"]);
    explain(&env, "project.read --actor user:x", 0, &["everybody who is signed in is viewer here", "of no team"]);
    let own = ["for app[osaka]", "grant `own` (windlass.hcl:16) gives team shop"];
    explain(&env, "--actor oidc-group:shop review.apply ./app[osaka]", 0, &own);
    let value = expect(&env, &["access", "explain", "review.apply", "app", "--json"], 0, &[]).stdout;
    let value: serde_json::Value = serde_json::from_str(&value).unwrap();
    assert_eq!(
        (&value["allowed"], &value["ground"], &value["hidden"]),
        (&true.into(), &"grants".into(), &false.into())
    );
    assert_eq!(value["teams"], serde_json::json!(["sre"]));
    let places = value["subject"]["places"].as_array().unwrap();
    assert_eq!(places.len(), 2, "{value}");
    assert_eq!(
        places[0],
        serde_json::json!({ "instance": "app[tokyo]", "environments": ["production"], "owner": "shop" })
    );
    assert!(!env.root().join(".windlass").exists(), "nothing is left behind");
}

#[test]
fn who_may_not_is_told_what_is_missing_and_who_could_help() {
    let env = shop();
    let texts = [
        "Refused: oidc-group:shop review.apply for 2 instances of app",
        "nothing gives oidc-group:shop (of team shop) `review.apply` for app[tokyo]",
        "grant `own` gives it for app[osaka] only",
        "ask somebody of team sre, who have it by grant `operators`",
    ];
    let told = explain(&env, "--actor oidc-group:shop review.apply app", 1, &texts);
    assert!(!told.contains("do not see the project"), "{told}");
    explain(&env, "server.manage", 1, &["Refused", "only the admins"]);
    explain(&env, "audit.export", 1, &["no grant gives it to anybody here", "`role = \"admin\"`"]);
    let value =
        expect(&env, &["access", "explain", "--json", "--actor", "user:x", "lock.take_away", "net"], 1, &[]).stdout;
    let value: serde_json::Value = serde_json::from_str(&value).unwrap();
    assert_eq!((&value["allowed"], &value["permission"]), (&false.into(), &"lock.take_away".into()));
}

#[test]
fn the_default_branch_decides_and_not_what_is_being_written() {
    let env = shop();
    let git = windlass_testkit::git::Git::open(&env.root());
    git.run(&["switch", "--quiet", "--create", "change"]).unwrap();
    let more = WINDLASS.replace("role = \"operator\"", "role = \"admin\"").replace("default_role = \"viewer\"", "");
    env.write("windlass.hcl", &more).unwrap();
    env.commit("Make ourselves admins").unwrap();
    explain(&env, "audit.export", 1, &["Refused"]);
    explain(&env, "--work-tree audit.export", 0, &["Allowed", "by the work tree"]);
    explain(&env, "--actor user:x project.read", 0, &["viewer"]);
    explain(&env, "--actor user:x --work-tree project.read", 1, &["Refused", "do not see the project"]);
    // The default branch went on since this one left it.
    git.run(&["switch", "--quiet", "main"]).unwrap();
    env.write("windlass.hcl", &WINDLASS.replace("role = \"operator\"", "role = \"viewer\"")).unwrap();
    env.commit("Nobody operates").unwrap();
    git.run(&["switch", "--quiet", "change"]).unwrap();
    explain(&env, "review.apply net", 1, &["Refused", "no grant gives it"]);
}

#[test]
fn policies_have_the_last_word() {
    let env = shop();
    let rego = "package access\n\nimport rego.v1\n\nallow if {\n\tinput.action == \"drift.check\"\n\tevery i in input.resource.instances { i.owner in input.actor.teams }\n}\n\ndeny contains \"tokyo is frozen\" if {\n\tinput.action == \"review.apply\"\n\tinput.resource.instances[_].region == \"tokyo\"\n}\n";
    env.write("policies/access.rego", rego).unwrap();
    env.write("windlass.hcl", &format!("{WINDLASS}{POLICY}")).unwrap();
    // Not asked before it is on the branch; from the work tree in a process of its own.
    explain(&env, "review.apply app", 0, &["Allowed"]);
    explain(&env, "--work-tree review.apply app", 1, &["policy access denies it: tokyo is frozen"]);
    env.commit("Freeze tokyo").unwrap();
    explain(&env, "review.apply app", 1, &["Refused", "policy access denies it: tokyo is frozen"]);
    explain(&env, "review.apply app[osaka]", 0, &["Allowed"]);
    explain(&env, "--actor oidc-group:shop drift.check app", 0, &["an access policy allows it"]);
    explain(&env, "--actor oidc-group:shop drift.check net", 1, &["no access policy allows it"]);
    env.write("policies/access.rego", "package access\n\nimport rego.v1\n\nallow if to_number(input.project) > 1\n")
        .unwrap();
    env.commit("Break it").unwrap();
    explain(
        &env,
        "project.read",
        1,
        &["policy access could not decide, which denies", "WL406", "do not see the project"],
    );
}

#[test]
fn what_makes_no_sense_is_told() {
    let env = shop();
    explain(&env, "review.aply", 2, &["invalid value 'review.aply'", "review.apply"]);
    explain(&env, "review.apply --actor anna", 2, &["expected an identity, which begins with user:"]);
    explain(&env, "review.apply nett", 2, &["WL903", "did you mean `net`?"]);
    explain(&env, "review.apply app[kyoto]", 2, &["WL903", "stack `app` has app[tokyo], app[osaka]"]);
    env.write("windlass.hcl", &WINDLASS.replace("\"operator\"", "\"operater\"")).unwrap();
    explain(&env, "review.apply", 0, &["Allowed"]);
    let texts = ["WL106", "there is no role \"operater\"", "did you mean \"operator\"?", "windlass.hcl:14"];
    explain(&env, "--work-tree review.apply", 2, &texts);
    expect(&env, &["check"], 1, &texts);
    let empty = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    explain(&empty, "review.apply", 2, &["WL3"]);
    explain(&empty, "--work-tree review.apply", 1, &["no grant gives it to anybody here"]);
}

#[test]
fn the_matrix_lists_every_permission() {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    let text = expect(&env, &["access", "matrix"], 0, &["PERMISSION", "VIEWER"]).stdout;
    let line = text.lines().find(|line| line.starts_with("review.apply")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..6], ["review.apply", "stacks", "yes", "yes", "Apply", "an"]);
    let value = expect(&env, &["access", "matrix", "--json"], 0, &[]).stdout;
    let value: Vec<serde_json::Value> = serde_json::from_str(&value).unwrap();
    assert_eq!(value.len(), windlass_model::access::Permission::ALL.len());
    assert_eq!(value[0]["permission"], "project.read");
    assert_eq!((&value[0]["of"], &value[0]["role"]), (&"project".into(), &"viewer".into()));
    let server = value.iter().find(|row| row["permission"] == "server.manage").unwrap();
    assert_eq!((&server["of"], &server["role"]), (&"server".into(), &serde_json::Value::Null));
}
