//! Resources that were made by hand, from a list of ids to an apply that takes them into the state and does nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use std::collections::BTreeMap;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::git::Git;

fn git(env: &CliEnv, arguments: &[&str]) -> String {
    Git::open(&env.root()).run(arguments).unwrap()
}

fn branches(env: &CliEnv) -> Vec<String> {
    git(env, &["for-each-ref", "--format=%(refname:short)", "refs/heads/adopt"]).lines().map(str::to_owned).collect()
}

/// Every file beside `.windlass` and git's objects and references, and what git says of the work tree.
fn snapshot(env: &CliEnv) -> (BTreeMap<String, Vec<u8>>, String) {
    let root = env.root();
    let ours = |path: &String| {
        let relative = path.strip_prefix(&*root.to_string_lossy()).unwrap().trim_start_matches('/');
        let hidden = [".windlass/", ".git/objects/", ".git/refs/heads/adopt/", ".git/logs/"];
        !hidden.iter().any(|prefix| relative.starts_with(prefix))
    };
    let files = walk(&root).into_iter().filter(ours).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    (files, git(env, &["status", "--porcelain=v2", "--branch"]))
}

fn state(env: &CliEnv, stack: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(env.root().join(stack).join("terraform.tfstate")).unwrap()).unwrap()
}

fn ids(env: &CliEnv, stack: &str) -> Vec<String> {
    let state = state(env, stack);
    let instances = state["resources"].as_array().unwrap().iter().flat_map(|r| r["instances"].as_array().unwrap());
    instances.filter_map(|i| i["attributes"]["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn from_ids_to_an_apply_that_only_imports() {
    let env = env(&[("net/main.tf", NET), ("app/main.tf", APP)]);
    apply_all(&env);
    let texts = [
        "2 resources for net, on the branch adopt/net-1",
        "terraform_data.hand (id hand-${1}, configuration generated)",
        "net/generated.tf",
        "net/windlass_import.tf",
        "changes nothing",
        "git switch adopt/net-1",
    ];
    expect(&env, &["adopt", "net", "terraform_data.hand=hand-${1}", "terraform_data.second=2"], 0, &texts);
    assert_eq!(
        git(&env, &["show", "adopt/net-1:net/windlass_import.tf"]),
        "import {\n  to = terraform_data.hand\n  id = \"hand-$${1}\"\n}\n\nimport {\n  to = terraform_data.second\n  id = \"2\"\n}\n"
    );
    let generated = git(&env, &["show", "adopt/net-1:net/generated.tf"]);
    assert!(
        generated.contains("resource \"terraform_data\" \"hand\" {\n}\n") && !generated.contains("null"),
        "{generated}"
    );
    assert_eq!(
        git(&env, &["diff", "--name-only", "main", "adopt/net-1"]),
        "net/generated.tf\nnet/windlass_import.tf\n"
    );
    assert_eq!(git(&env, &["log", "-1", "--format=%s|%an", "adopt/net-1"]), "Adopt 2 resources into net|Test User\n");
    assert!(!env.root().join(".windlass/cache/adopt").read_dir().unwrap().any(|_| true));
    // The branch that is there already stays.
    expect(&env, &["adopt", "net", "terraform_data.other=3"], 0, &["adopt/net-2"]);
    assert_eq!(branches(&env), ["adopt/net-1", "adopt/net-2"]);

    git(&env, &["switch", "--quiet", "adopt/net-1"]);
    let review = expect(&env, &["review"], 0, &["import   terraform_data.hand", "2 to import", "Ready to apply"]);
    for word in ["to create", "to update", "to destroy", "is not formatted"] {
        assert!(!review.stdout.contains(word), "{}", review.stdout);
    }
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    assert!(ids(&env, "net").contains(&"hand-${1}".to_owned()), "{:?}", ids(&env, "net"));
    assert_eq!(ids(&env, "net").len(), 3);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply"]);
    // On a branch that has the files already, the next ones get names of their own.
    let json = expect(&env, &["adopt", "./net/", "terraform_data.third=33", "--json"], 0, &[]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["files"], serde_json::json!(["net/generated_2.tf", "net/windlass_import_2.tf"]));
    assert_eq!((&json["clean"], &json["branch"]), (&true.into(), &"adopt/net-3".into()));
}

#[test]
fn all_mistakes_are_told_at_once_and_nothing_is_made() {
    let env = env(&[("net/main.tf", NET), ("app/main.tf", APP)]);
    apply_all(&env);
    let net = ids(&env, "net").remove(0);
    let resources = [
        "terraform_data.9=a",
        "data.x.y=a",
        "terraform_data.no_id=",
        "terraform_data.net=b",
        &format!("terraform_data.stolen={net}"),
        "terraform_data.twice=c",
        "terraform_data.twice=d",
        "terraform_data.again=c",
        "terraform_data.many[0]=e",
        "module.m.terraform_data.x=f",
    ];
    let mut arguments = vec!["adopt", "app"];
    arguments.extend(resources);
    let texts = [
        "WL680",
        "`9` is not a valid name",
        "a data source is read",
        "the id is empty",
        "managed already, by net as terraform_data.net",
        "WL684",
        "`terraform_data.twice=d`",
        "`terraform_data.again=c`",
        "WL687",
        "terraform_data.many[0]: it has an index",
        "module.m.terraform_data.x: it lies in a module",
    ];
    let answer = expect(&env, &arguments, 2, &texts);
    assert_eq!(answer.stderr.matches("error[").count(), 8, "{}", answer.stderr);
    expect(&env, &["adopt", "net", "terraform_data.net=x"], 2, &["WL681", "net/main.tf:7", "WL682", "state of net"]);
    expect(&env, &["adopt", "net", "no-equals", "a"], 2, &["WL680", "`no-equals`", "`a`"]);
    expect(&env, &["adopt", "net"], 2, &["WL680", "nothing is named"]);
    expect(&env, &["adopt", "nothing", "a.b=c"], 2, &["WL903"]);
    expect(&env, &["adopt", "net", "--from", "missing.csv"], 2, &["WL686", "missing.csv"]);
    expect(&env, &["adopt", "net", "no_such_thing.x=1"], 1, &["WL689", "no branch was made"]);
    let json = run(&env, &["adopt", "net", "terraform_data.net=x", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["error"]["diagnostics"].as_array().unwrap().len(), 2);
    assert!(branches(&env).is_empty());
}

#[test]
fn uncommitted_work_stays_as_it_is_and_out_of_the_branch() {
    let env = env(&[("net/main.tf", NET), ("net/old.tf", "locals {\n  old = 1\n}\n"), ("app/main.tf", APP)]);
    apply_all(&env);
    env.write("net/main.tf", &NET.replace("net-", "changed-")).unwrap();
    env.write("app/staged.tf", "resource \"terraform_data\" \"staged\" {}\n").unwrap();
    git(&env, &["add", "app/staged.tf"]);
    env.write("net/draft.tf", "resource \"terraform_data\" \"hand\" {}\n").unwrap();
    std::fs::remove_file(env.root().join("net/old.tf")).unwrap();
    let before = snapshot(&env);
    // The draft has the address; the commit has not, and it is what counts.
    expect(&env, &["adopt", "net", "terraform_data.hand=h"], 0, &["adopt/net-1", "changes nothing"]);
    // Neither does what is staged count; what it reads beside its directory is there.
    expect(&env, &["adopt", "app", "terraform_data.hand=i"], 0, &["adopt/app-1", "changes nothing"]);
    assert!(before == snapshot(&env), "the work tree or the index was touched");
    assert_eq!(
        git(&env, &["diff", "--name-only", "main", "adopt/net-1"]),
        "net/generated.tf\nnet/windlass_import.tf\n"
    );
}

#[test]
fn what_would_do_more_than_import_is_shown_and_marked() {
    let tail = "resource \"terraform_data\" \"ready\" {\n  input = \"wanted\"\n}\n";
    let env = env(&[("net/main.tf", NET)]);
    apply_all(&env);
    env.write("net/main.tf", &format!("{NET}{tail}")).unwrap();
    env.commit("Configuration of what is there").unwrap();
    let resources = ["terraform_data.ready=r", "terraform_data.new=n"];
    expect(&env, &["adopt", "net", resources[0], resources[1]], 2, &["WL681", "--configured"]);
    let texts = ["Not clean", "update   terraform_data.ready", "input = \"wanted\"", "import   terraform_data.new"];
    expect(&env, &["adopt", "net", resources[0], resources[1], "--configured"], 1, &texts);
    let message = git(&env, &["log", "-1", "--format=%B", "adopt/net-1"]);
    assert!(message.starts_with("Adopt 2 resources into net (not clean)"), "{message}");
    assert!(message.contains("1 to update, 1 to import"), "{message}");
    let generated = git(&env, &["show", "adopt/net-1:net/generated.tf"]);
    assert!(generated.contains("\"new\"") && !generated.contains("\"ready\""), "{generated}");
}

/// Puts a terraform before the real one that changes what it generates by this script of sed.
fn generates(env: &mut CliEnv, change: &str) {
    use std::os::unix::fs::PermissionsExt;
    let real = windlass_testkit::cli::terraform().unwrap();
    let directory = env.home().join("generating");
    std::fs::create_dir(&directory).unwrap();
    let script = directory.join("terraform");
    let text = format!(
        "#!/bin/sh\n'{}' \"$@\"\ncode=$?\nfor a in \"$@\"; do case \"$a\" in -generate-config-out=*) sed -i '{change}' \"${{a#*=}}\";; esac; done\nexit $code\n",
        real.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    env.set("PATH", format!("{}:{}", directory.display(), std::env::var("PATH").unwrap()));
}

#[test]
fn generated_configuration_that_terraform_refuses_is_mended_where_it_can_be() {
    let mut env = env(&[("net/main.tf", NET)]);
    apply_all(&env);
    generates(&mut env, "/^resource/a nonsense = 1");
    let texts = ["left out: terraform_data.a: nonsense, terraform_data.b: nonsense", "changes nothing"];
    expect(&env, &["adopt", "net", "terraform_data.a=1", "terraform_data.b=2"], 0, &texts);
    assert!(!git(&env, &["show", "adopt/net-1:net/generated.tf"]).contains("nonsense"));
}

#[test]
fn generated_configuration_that_cannot_be_mended_is_left_for_people() {
    let mut env = env(&[("net/main.tf", NET)]);
    apply_all(&env);
    generates(&mut env, "$a resource \"terraform_data\" \"net\" {}");
    let texts = ["Not clean: it cannot be planned yet", "Duplicate resource", "generated.tf:7"];
    expect(&env, &["adopt", "net", "terraform_data.a=1"], 1, &texts);
    let generated = git(&env, &["show", "adopt/net-1:net/generated.tf"]);
    assert!(generated.contains("resource \"terraform_data\" \"net\""), "{generated}");
    assert!(git(&env, &["log", "-1", "--format=%s", "adopt/net-1"]).contains("(not clean)"));
}

#[test]
fn an_interrupt_leaves_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let mut env = env(&[("net/main.tf", NET)]);
    apply_all(&env);
    let real = windlass_testkit::cli::terraform().unwrap();
    let (directory, begun) = (env.home().join("slow"), env.home().join("begun"));
    std::fs::create_dir(&directory).unwrap();
    let script = directory.join("terraform");
    let (begun_at, real) = (begun.display(), real.display());
    let text = format!("#!/bin/sh\n[ \"$1\" = plan ] && touch '{begun_at}' && exec sleep 50\nexec '{real}' \"$@\"\n");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    env.set("PATH", format!("{}:{}", directory.display(), std::env::var("PATH").unwrap()));
    // What a process that was killed left goes as well.
    env.write(".windlass/cache/adopt/999999999/plan", "secret").unwrap();
    let before = snapshot(&env);
    let mut command = env.command(&["adopt", "net", "terraform_data.a=1"]);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    wait(|| begun.exists().then_some(()));
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("interrupted; no branch was made"), "{said}");
    assert!(branches(&env).is_empty() && before == snapshot(&env));
    assert!(!env.root().join(".windlass/cache/adopt").read_dir().unwrap().any(|_| true));
}

#[test]
fn a_listing_is_compared_with_all_states_and_adopted() {
    let regional = NET.replace(
        "backend \"local\" {}",
        "backend \"http\" {\n    address = \"http://127.0.0.1:9/state\"\n    retry_max = 0\n  }",
    );
    let env = env(&[("net/main.tf", NET), ("app/main.tf", APP)]);
    apply_all(&env);
    let (net, app) = (ids(&env, "net").remove(0), ids(&env, "app").remove(0));
    let listing = serde_json::json!([
        { "type": "terraform_data", "id": net, "name": "net" },
        { "type": "terraform_data", "id": "i-1", "name": "web server" },
        { "type": "terraform_data", "id": app },
        { "type": "terraform_data", "id": "i-2", "name": "web/server" },
        { "type": "terraform_data", "id": "i-3", "name": "net" },
    ]);
    env.write("all.json", &listing.to_string()).unwrap();
    expect(
        &env,
        &["adopt", "--unmanaged", "--listing", "all.json"],
        1,
        &["i-1", "web server", "3 of 5 resources listed are in none of 2 states"],
    );
    expect(
        &env,
        &["adopt", "net", "--listing", "all.json"],
        2,
        &["by net as terraform_data.net", "by app as terraform_data.app"],
    );
    let unmanaged = expect(&env, &["adopt", "--unmanaged", "--listing", "all.json", "--json"], 1, &[]).stdout;
    let value: serde_json::Value = serde_json::from_str(&unmanaged).unwrap();
    let found: Vec<&str> = value["unmanaged"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(found, ["i-1", "i-2", "i-3"]);
    env.write("new.json", &unmanaged).unwrap();
    let texts = [
        "terraform_data.web_server (id i-1",
        "terraform_data.web_server_2 (id i-2",
        "terraform_data.net_2 (id i-3",
        "changes nothing",
    ];
    expect(&env, &["adopt", "net", "--listing", "new.json"], 0, &texts);
    env.write("managed.json", &serde_json::json!([listing[0]]).to_string()).unwrap();
    expect(&env, &["adopt", "--unmanaged", "--listing", "managed.json"], 0, &["2 states have all of them"]);
    env.write("list.csv", "address,id\nterraform_data.csv,\"a,b\"\n").unwrap();
    expect(&env, &["adopt", "net", "--from", "list.csv"], 0, &["terraform_data.csv (id a,b"]);

    // A state that cannot be read is named, and what depends on it is not said.
    env.write("far/main.tf", &regional).unwrap();
    env.commit("Far").unwrap();
    let before = snapshot(&env);
    let answer = expect(
        &env,
        &["adopt", "--unmanaged", "--listing", "all.json"],
        3,
        &["i-1", "WL685", "the state of far cannot be read", "incomplete"],
    );
    assert!(answer.stdout.contains("none of 2 states"), "{}", answer.stdout);
    let answer = expect(&env, &["adopt", "--unmanaged", "--listing", "all.json", "--json"], 3, &[]);
    let value: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(value["unread"][0]["instance"], "far");
    expect(&env, &["adopt", "net", "terraform_data.x=1"], 3, &["WL685", "far", "--ignore-unread"]);
    assert!(before == snapshot(&env));
    expect(
        &env,
        &["adopt", "net", "terraform_data.x=1", "--ignore-unread"],
        0,
        &["state of far could not be read", "changes nothing"],
    );
}

#[test]
fn ids_in_hosted_states_are_found_without_their_providers() {
    let server = windlass_testkit::state_server::StateServer::start().unwrap();
    let hosted = NET.replace("backend \"local\" {}", &server.backend("far"));
    let env = env(&[("net/main.tf", NET), ("far/main.tf", &hosted)]);
    apply_all(&env);
    let json = expect(&env, &["adopt", "net", "terraform_data.x=nothing", "--json"], 0, &[]).stdout;
    assert!(json.contains("\"unread\": []"), "{json}");
    // A provider that cannot be had: the state is read all the same.
    env.write("far/more.tf", "resource \"null_resource\" \"x\" {}\n").unwrap();
    env.commit("A provider").unwrap();
    let state: serde_json::Value = serde_json::from_slice(&server.state("far").unwrap()).unwrap();
    let id = state["resources"][0]["instances"][0]["attributes"]["id"].as_str().unwrap();
    expect(&env, &["adopt", "net", &format!("terraform_data.x={id}")], 2, &["WL683", "by far as terraform_data.net"]);
}

#[test]
fn a_stack_with_several_instances_is_refused() {
    let env = env(&[("net/main.tf", NET), ("windlass.hcl", "stack \"net\" {\n  regions = [\"a\", \"b\"]\n}\n")]);
    expect(&env, &["adopt", "net", "terraform_data.x=1"], 2, &["WL688"]);
}
