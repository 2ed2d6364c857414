//! Stories with a provider whose resources live outside of the state: they drift, are found, are adopted, are lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::depot::{ADDRESS, Depot, head, platform};
use windlass_testkit::git::Git;
use windlass_testkit::registry::{self, H1, Registry, ZH};

/// The configuration of an item.
fn item(name: &str, rest: &str) -> String {
    format!("resource \"depot_item\" \"{name}\" {{\n  name = \"{name}\"\n{rest}}}\n")
}

fn stack(items: &[(&str, &str)]) -> String {
    head(ADDRESS) + &items.iter().map(|(name, rest)| item(name, rest)).collect::<String>()
}

/// Stacks with the provider installed and everything applied.
fn applied(files: &[(&str, &str)]) -> (CliEnv, Depot) {
    let env = env(files);
    let depot = Depot::install(&env).unwrap();
    apply_all(&env);
    (env, depot)
}

fn json(env: &CliEnv, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(env, arguments).stdout).unwrap()
}

/// A change by somebody who does not know of terraform.
fn by_alice(depot: &Depot, name: &str, mut attributes: Value) {
    attributes["updated_by"] = "alice".into();
    attributes["updated_at"] = "2026-03-01T10:00:00Z".into();
    depot.change(&depot.id(name), attributes).unwrap();
}

#[test]
fn drift_of_the_world_is_shown_with_who_did_it_and_put_back() {
    let items =
        [("front", "  size = 1\n  labels = [\"a\", \"b\"]\n  password = \"hunter22\"\n"), ("back", "  size = 2\n")];
    let (env, depot) = applied(&[("web/main.tf", &stack(&items)), ("net/main.tf", NET)]);
    expect(&env, &["drift"], 0, &["0 instances drifted, 2 did not"]);
    by_alice(&depot, "front", json!({ "size": 7, "labels": ["b", "a"], "password": "changed-by-hand" }));
    depot.remove(&depot.id("back")).unwrap();
    let texts = [
        "The world is not as the state says",
        "- deleted  depot_item.back  (web/main.tf:",
        "~ changed  depot_item.front  (web/main.tf:",
        "changed by alice at 2026-03-01T10:00:00Z",
        "size = 1 → 7",
        "password = (sensitive)",
        "windlass review --stack 'web'",
        "write what is there now into the code, and take out what is deleted",
        "1 instance drifted, 1 did not",
    ];
    let said = expect(&env, &["drift"], 1, &texts).stdout;
    // A set has no order; the code is as it was applied; nobody is told who deleted it; and nothing secret is shown.
    for word in ["labels", "The configuration would change", "hunter22", "changed-by-hand"] {
        assert!(!said.contains(word), "{said}");
    }
    let since =
        |json: &Value| json["instances"].as_array().unwrap().iter().find(|i| i["instance"] == "web").unwrap().clone();
    let first = since(&json(&env, &["drift", "--json"]));
    assert_eq!(first["drift"]["touched"]["depot_item.front"]["by"], "alice");
    assert!(!first.to_string().contains("hunter22") && !first.to_string().contains("changed-by-hand"), "{first}");
    // The same finding again is as old as it was; another one is history.
    by_alice(&depot, "front", json!({ "size": 8 }));
    let second = since(&json(&env, &["drift", "--json"]));
    assert_eq!(second["since"], first["since"]);
    assert_eq!((first["history"].as_array().unwrap().len(), second["history"].as_array().unwrap().len()), (1, 2));

    expect(&env, &["review", "--stack", "web"], 0, &["create   depot_item.back", "size = 8 → 1"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    assert_eq!(depot.items().len(), 2);
    expect(&env, &["drift"], 0, &["0 instances drifted, 2 did not"]);
    let third = since(&json(&env, &["drift", "--last", "--json"]));
    assert!(third["since"].is_null() && third["history"].as_array().unwrap().len() == 3, "{third}");
}

#[test]
fn drift_of_the_code_and_of_the_world_are_told_apart_and_can_be_adopted() {
    let of = |size: u32| stack(&[("front", &format!("  size = {size}\n")), ("back", "")]);
    let (env, depot) = applied(&[("web/main.tf", &of(1))]);
    // The code was changed, and never applied.
    env.write("web/main.tf", &of(5)).unwrap();
    env.commit("Five").unwrap();
    let said = expect(&env, &["drift"], 1, &["The configuration would change", "size = 1 → 5", "never applied"]).stdout;
    assert!(!said.contains("The world"), "{said}");
    // Beside it the world was changed: both are there.
    by_alice(&depot, "front", json!({ "size": 7 }));
    expect(&env, &["drift"], 1, &["size = 1 → 5", "size = 1 → 7", "changed by alice"]);
    // What is there goes into the code: nobody has to do anything, and the next apply of something else records it.
    env.write("web/main.tf", &of(7)).unwrap();
    env.commit("As it is").unwrap();
    expect(&env, &["drift"], 0, &["0 instances drifted, 1 did not"]);
    expect(&env, &["review", "--stack", "web"], 0, &["Nothing to apply"]);
    by_alice(&depot, "back", json!({ "zone": "north" }));
    expect(&env, &["drift"], 1, &["changed  depot_item.back", "No drift: depot_item.front; code and world agree"]);
}

#[test]
fn declared_noise_is_no_drift() {
    let windlass = "stack \"web\" {\n  drift_ignore = [\"depot_item.*.size\", \"*.updated_*\"]\n}\n";
    let (env, depot) = applied(&[("web/main.tf", &stack(&[("front", "  size = 1\n")])), ("windlass.hcl", windlass)]);
    by_alice(&depot, "front", json!({ "size": 7 }));
    expect(&env, &["drift"], 0, &["0 instances drifted"]);
    by_alice(&depot, "front", json!({ "size": 7, "zone": "north" }));
    let said = expect(&env, &["drift"], 1, &["zone = \"north\"", "changed by alice"]).stdout;
    assert!(!said.contains("size") && !said.contains("updated_at"), "{said}");
    // A scheduler hears of it, and of nothing else.
    expect(&env, &["drift", "--schedule-ready"], 1, &["zone"]);
    depot.change(&depot.id("front"), json!({ "zone": null })).unwrap();
    assert_eq!(expect(&env, &["drift", "--schedule-ready"], 0, &[]).stdout, "");
}

/// Commits `.gitignore` without the lock file in it, as a repository of people who know what they do.
fn tracks_lock_files(env: &CliEnv) {
    env.write(".gitignore", "*.tfstate*\n.terraform/\n").unwrap();
    env.commit("Lock files are ours").unwrap();
}

fn git(env: &CliEnv, arguments: &[&str]) -> String {
    Git::open(&env.root()).run(arguments).unwrap()
}

/// What somebody made in a console.
fn hand_made(depot: &Depot) {
    let common = json!({ "token": "t-0123456789", "updated_by": "bob", "updated_at": "2026-01-01T00:00:00Z" });
    for (id, more) in [
        ("i-1", json!({ "name": "Web front", "size": 3, "labels": ["x", "y"], "tags": { "team": "a" } })),
        ("i-2", json!({ "name": "queue", "zone": "north" })),
        ("i-3", json!({ "name": "vault", "password": "hunter22" })),
    ] {
        let mut item = common.clone();
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        depot.change(id, item).unwrap();
    }
}

#[test]
fn what_a_provider_lists_and_no_state_has_is_adopted() {
    let (env, depot) = applied(&[("web/main.tf", &stack(&[("front", "")])), ("net/main.tf", NET)]);
    tracks_lock_files(&env);
    env.write("net/main.tf", &NET.replace("terraform {\n  backend \"local\" {}\n}\n", &head(ADDRESS))).unwrap();
    env.commit("The provider").unwrap();
    let managed = depot.id("front");
    hand_made(&depot);
    env.write("listing.json", &depot.listing().unwrap()).unwrap();
    let answer =
        expect(&env, &["adopt", "--unmanaged", "--listing", "listing.json"], 1, &["3 of 4 resources", "i-1", "vault"]);
    assert!(!answer.stdout.contains(&managed), "{}", answer.stdout);
    let texts = ["WL683", &managed, "managed already, by web as depot_item.front"];
    expect(&env, &["adopt", "net", "--listing", "listing.json"], 2, &texts);
    let json = run(&env, &["adopt", "--unmanaged", "--listing", "listing.json", "--json"]).stdout;
    env.write("unmanaged.json", &json).unwrap();
    // What is sensitive is not generated: somebody has to write it.
    let texts = [
        "net/.terraform.lock.hcl",
        "depot_item.Web_front (id i-1",
        "Not clean",
        "update   depot_item.vault",
        "password = (sensitive) → (removed)",
    ];
    expect(&env, &["adopt", "net", "--listing", "unmanaged.json"], 1, &texts);
    assert!(git(&env, &["show", "adopt/net-1:net/.terraform.lock.hcl"]).contains("h1:"));
    // The rest is clean at once.
    env.write("list.txt", "depot_item.web = i-1\ndepot_item.queue=i-2\n").unwrap();
    let texts = ["2 resources for net", "net/.terraform.lock.hcl", "changes nothing", "adopt/net-2"];
    expect(&env, &["adopt", "net", "--from", "list.txt"], 0, &texts);
    let generated = git(&env, &["show", "adopt/net-2:net/generated.tf"]);
    for text in ["labels   = [\"x\", \"y\"]", "zone     = \"north\"", "team = \"a\""] {
        assert!(generated.contains(text), "{generated}");
    }
    assert!(!generated.contains("updated_by") && !generated.contains("t-0123456789"), "{generated}");
    for name in ["listing.json", "unmanaged.json", "list.txt"] {
        std::fs::remove_file(env.root().join(name)).unwrap();
    }
    git(&env, &["switch", "--quiet", "adopt/net-2"]);
    expect(&env, &["review"], 0, &["2 to import", "Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    let items = depot.items();
    assert!(
        items.len() == 4 && items.iter().all(|i| i["id"] == managed.as_str() || i["updated_by"] == "bob"),
        "{items:?}"
    );
    expect(&env, &["drift"], 0, &["0 instances drifted"]);
    expect(&env, &["adopt", "net", "depot_item.none=i-9"], 1, &["WL689", "no branch was made"]);
}

#[test]
fn a_lock_file_that_knows_too_little_is_renewed_on_the_branch_only() {
    let env = env(&[("net/main.tf", NET)]);
    let depot = Depot::install(&env).unwrap();
    hand_made(&depot);
    tracks_lock_files(&env);
    env.write("net/main.tf", &stack(&[])).unwrap();
    env.write("net/.terraform.lock.hcl", "# Nothing yet.\n").unwrap();
    env.commit("A lock file of before the provider").unwrap();
    let texts = ["net/.terraform.lock.hcl", "net/generated.tf", "changes nothing"];
    expect(&env, &["adopt", "net", "depot_item.web=i-1"], 0, &texts);
    assert!(git(&env, &["show", "adopt/net-1:net/.terraform.lock.hcl"]).contains("depot.test/acme/depot"));
    assert_eq!(git(&env, &["status", "--porcelain"]), "");
    // One that git passes over stays out of the branch, and one that is as it was as well.
    git(&env, &["switch", "--quiet", "adopt/net-1"]);
    let said = expect(&env, &["adopt", "net", "depot_item.queue=i-2"], 0, &["changes nothing"]).stdout;
    assert!(!said.contains(".terraform.lock.hcl"), "{said}");
    git(&env, &["switch", "--quiet", "main"]);
    git(&env, &["rm", "--quiet", "net/.terraform.lock.hcl"]);
    env.write(".gitignore", IGNORE).unwrap();
    env.commit("Nobody wants lock files").unwrap();
    let said = expect(&env, &["adopt", "net", "depot_item.queue=i-2"], 0, &["changes nothing"]).stdout;
    assert!(!said.contains(".terraform.lock.hcl"), "{said}");
}

#[test]
fn a_provider_that_dies_in_an_apply_leaves_nothing_unsaid() {
    let after = "  depends_on = [depot_item.front]\n";
    let env = env(&[("web/main.tf", &stack(&[("front", ""), ("boom", after)]))]);
    let depot = Depot::install(&env).unwrap();
    depot.behave("boom", "crash-after").unwrap();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 1, &["WL651", "depot_item.boom was under way and may have happened"]);
    expect(&env, &["review", "--all"], 0, &["web"]);
    expect(&env, &["apply", "--yes"], 2, &["WL650"]);
    // It was made, no state has it, and it is named with all that is needed to take it in.
    let texts = ["create depot_item.boom", "import {", "to = depot_item.boom", "<look the id up"];
    let said = expect(&env, &["recover", "web"], 1, &texts).stdout;
    assert!(!said.contains("depot_item.front"), "{said}");
    env.write("listing.json", &depot.listing().unwrap()).unwrap();
    let boom = depot.id("boom");
    expect(&env, &["adopt", "--unmanaged", "--listing", "listing.json"], 1, &[&boom, "1 of 2 resources"]);
    std::fs::remove_file(env.root().join("listing.json")).unwrap();
    // Its way home.
    depot.behave("boom", "well").unwrap();
    expect(&env, &["recover", "web", "--release", "--why", "it is in the depot"], 0, &[]);
    env.write("web/import.tf", &format!("import {{\n  to = depot_item.boom\n  id = \"{boom}\"\n}}\n")).unwrap();
    env.commit("Take it in").unwrap();
    let said = expect(&env, &["review", "--all"], 0, &["1 to import", "Ready to apply"]).stdout;
    assert!(!said.contains("to create"), "{said}");
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    assert_eq!(depot.items().len(), 2);
    expect(&env, &["drift"], 0, &["0 instances drifted"]);
}

#[test]
fn only_what_may_have_happened_is_in_doubt() {
    let items = [("well", ""), ("other", "  depends_on = [depot_item.well]\n")];
    let check = |how: &str, code: &str, in_doubt: bool| {
        let env = env(&[("web/main.tf", &stack(&items))]);
        let depot = Depot::install(&env).unwrap();
        depot.behave("other", how).unwrap();
        expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
        expect(&env, &["apply", "--yes"], 1, &[code]);
        let quarantined = json(&env, &["recover", "--json"]);
        assert_eq!(quarantined.to_string().contains("depot_item.other"), in_doubt, "{how}: {quarantined}");
        assert_eq!(depot.items().len(), if how == "crash-after" { 2 } else { 1 }, "{how}");
        if !in_doubt {
            depot.behave("other", "well").unwrap();
            apply_all(&env);
            assert_eq!(depot.items().len(), 2);
        }
    };
    // A refusal is an answer: nothing was made, and the next apply may try again.
    check("fail", "other cannot be changed", false);
    // Whether it died before or after cannot be seen from here.
    check("crash", "WL651", true);
    check("crash-after", "WL651", true);
}

/// Two stacks whose provider comes from a registry, with their lock files committed.
fn from_registry(hashes: &[&str]) -> (CliEnv, Depot, Registry) {
    let registry = Registry::start().unwrap();
    let main = |name: &str| head(&registry.address()) + &item(name, "");
    let mut env = env(&[("a/main.tf", &main("one")), ("b/main.tf", &main("two"))]);
    tracks_lock_files(&env);
    for stack in ["a", "b"] {
        env.write(&format!("{stack}/.terraform.lock.hcl"), &registry.lock_file(hashes)).unwrap();
    }
    env.commit("Locked").unwrap();
    registry::trust(&registry, &mut env).unwrap();
    let depot = Depot::without_package(&env).unwrap();
    (env, depot, registry)
}

/// The provider in the mirror, and the places that link to it.
fn mirrored(env: &CliEnv, registry: &Registry) -> (PathBuf, Vec<PathBuf>) {
    let below = format!("{}/1.0.0/{}", registry.address(), platform());
    let package = env.home().join(".cache/windlass/providers/packages").join(&below);
    let data = std::fs::read_dir(env.root().join(".windlass/terraform")).unwrap().flatten();
    let links = data.map(|entry| entry.path().join("providers").join(&below)).filter(|path| path.is_symlink());
    (package, links.collect())
}

#[test]
fn a_provider_is_fetched_once_started_from_the_mirror_and_refused_when_it_was_changed() {
    use std::os::unix::fs::PermissionsExt;
    let (env, depot, registry) = from_registry(&[H1, ZH]);
    apply_all(&env);
    assert_eq!((depot.items().len(), registry.fetched()), (2, 1));
    let (package, links) = mirrored(&env, &registry);
    assert!(links.len() == 2 && links.iter().all(|link| std::fs::read_link(link).unwrap() == package), "{links:?}");
    let program = package.join("terraform-provider-depot_v1.0.0");
    assert_eq!(std::fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o555);
    expect(&env, &["doctor"], 0, &["1 packages", "2 links to them here save"]);
    assert_eq!(git(&env, &["status", "--porcelain"]), "");

    // Somebody changed the program: it is never started.
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&program, "#!/bin/sh\ntouch \"$HOME/taken-over\"\nexec \"$HOME/.depot/provider\" \"$@\"\n").unwrap();
    by_alice(&depot, "one", json!({ "size": 7 }));
    expect(&env, &["review", "--all"], 1, &["WL506", "does not match any of the checksums"]);
    // The next init notices whose fault it is, throws it away and fetches it again.
    expect(&env, &["review", "--all"], 0, &["update   depot_item.one"]);
    assert!(!env.home().join("taken-over").exists());
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    assert_eq!(depot.items()[0]["updated_by"], "terraform");
}

#[test]
fn a_provider_that_is_not_the_locked_one_is_not_started() {
    let (env, depot, registry) = from_registry(&["h1:AAAAqXFaBkBMi5p+xVruSOxSy3orMeaV7YPUCDoIhCI="]);
    expect(&env, &["review", "--all"], 1, &["WL520", "the lock file allows neither"]);
    let (package, links) = mirrored(&env, &registry);
    assert!(!package.exists() && links.is_empty() && depot.items().is_empty());
}

/// Whether both programs are on the `PATH`. A test that needs them and cannot have them says so past what cargo hides.
fn both_programs(test: &str) -> bool {
    use std::io::Write;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |name: &str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let both = has("terraform") && has("tofu");
    if !both {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: it needs terraform and tofu on the PATH");
    }
    both
}

#[test]
fn terraform_and_tofu_side_by_side() {
    if !both_programs("terraform_and_tofu_side_by_side") {
        return;
    }
    let reads = "data \"terraform_remote_state\" \"net\" {\n  backend = \"local\"\n  config = {\n    path = \"../net/terraform.tfstate\"\n  }\n}\n";
    let uses = "resource \"depot_item\" \"app\" {\n  name = data.terraform_remote_state.net.outputs.id\n}\n";
    let net = stack(&[("net", "")]) + "output \"id\" {\n  value = depot_item.net.id\n}\n";
    let (env, depot) = applied(&[
        ("net/main.tf", &net),
        ("net/.opentofu-version", "latest-allowed\n"),
        ("app/main.tf", &(head(ADDRESS) + reads + uses)),
        ("windlass.hcl", "stack \"other\" {\n  tool = \"tofu\"\n}\n"),
        ("other/main.tf", &stack(&[("other", "")])),
    ]);
    // Each was run by what its files say.
    let writer = |stack: &str| {
        let state: Value =
            serde_json::from_slice(&std::fs::read(env.root().join(stack).join("terraform.tfstate")).unwrap()).unwrap();
        state["terraform_version"].as_str().unwrap().to_owned()
    };
    let version = |program: &str| {
        let output = std::process::Command::new(program).args(["version", "-json"]).output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        said["terraform_version"].as_str().unwrap().split('-').next().unwrap().to_owned()
    };
    let (terraform, tofu) = (version("terraform"), version("tofu"));
    assert_eq!([writer("net"), writer("app"), writer("other")], [&tofu, &terraform, &tofu].map(String::clone));
    by_alice(&depot, "other", json!({ "size": 7 }));
    depot.remove(&depot.id("net")).unwrap();
    expect(&env, &["drift"], 1, &["deleted  depot_item.net", "size = 7", "2 instances drifted, 1 did not"]);
    depot.behave("other", "crash-after").unwrap();
    expect(&env, &["review", "--stack", "other"], 0, &["update   depot_item.other"]);
    expect(&env, &["apply", "--yes"], 1, &["depot_item.other was under way and may have happened"]);
    let config = "required_version = \"< 1.0\"\n";
    env.write("other/main.tf", &stack(&[("other", "")]).replacen("backend", &format!("{config}  backend"), 1)).unwrap();
    env.commit("Too old").unwrap();
    let texts = ["WL502", "< 1.0 (required_version)", "tofu"];
    expect(&env, &["review", "--stack", "other"], 1, &texts);
}

/// Processes of this environment whose command line has `word`.
fn processes(env: &CliEnv, word: &str) -> Vec<i32> {
    let home = env.home();
    let ours = |pid: &i32| {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let has = |bytes: Vec<u8>, needle: &str| String::from_utf8_lossy(&bytes).contains(needle);
        has(read("environ"), &format!("HOME={}", home.display())) && has(read("cmdline"), word)
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(ours).collect()
}

#[test]
fn nothing_is_made_after_terraform_was_killed() {
    let env = env(&[("web/main.tf", &stack(&[("front", ""), ("slow", "  depends_on = [depot_item.front]\n")]))]);
    let depot = Depot::install(&env).unwrap();
    depot.behave("slow", "hang").unwrap();
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let mut child = start(&env, &["apply", "--yes"]);
    wait(|| run(&env, &["logs", "latest/apply:web"]).stdout.contains("depot_item.slow: create started").then_some(()));
    let provider = wait(|| processes(&env, "provider").first().copied());
    let terraform = wait(|| processes(&env, "apply\0-json").first().copied());
    assert_ne!(provider, terraform);
    let kill = |pid: i32| std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(kill(terraform).success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    // Its provider died with it: what it waited for happens, and nobody is there to go on.
    wait(|| processes(&env, "provider").is_empty().then_some(()));
    depot.behave("slow", "well").unwrap();
    assert_eq!(depot.id("slow"), "");
    expect(&env, &["recover", "web"], 1, &["create depot_item.slow", "to = depot_item.slow"]);
}
