//! Steps whose programs run in containers: the real program with the real terraform in the real Podman, and steps of operations.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::*;
use std::io::{Read, Write};
use windlass_testkit::cli::{CliEnv, terraform};
use windlass_testkit::podman::Podman;

const IMAGE: &str = "localhost/windlass-terraform:1";

/// A project whose only environment runs in containers of `image`. What its stacks do says where it was done.
fn project(podman: &Podman, image: &str, stacks: &[(&str, &str)]) -> CliEnv {
    let definitions = format!(
        "project \"p\" {{\n  environment \"all\" {{\n    match  = [\"**\"]\n    runner = \"inside\"\n  }}\n}}\n\
         runner \"inside\" {{\n  container {{\n    image       = \"{image}\"\n    network     = \"host\"\n    \
         pull        = \"never\"\n    environment = {{ WHERE = \"inside\" }}\n  }}\n}}\n"
    );
    let ignore = format!("{IGNORE}go\n");
    let mut files = vec![("windlass.hcl", definitions.as_str()), (".gitignore", ignore.as_str())];
    files.extend(stacks);
    let mut env = env(&files);
    env.set("DOCKER_HOST", podman.host());
    env
}

/// As [`slow`], with what only the container has in its notes. Its second resource waits for the file `go`.
fn slow_inside() -> String {
    let wait = "while [ ! -e ../go ]; do sleep 0.1; done; echo $WHERE-2";
    slow("net").replace("echo net-2", wait).replace("echo net-", "echo $WHERE-")
}

/// Lets the second resource go on.
fn go(env: &CliEnv) {
    std::fs::write(env.root().join("go"), "").unwrap();
}

const MADE: [&str; 3] = ["inside-1", "inside-2", "inside-3"];

/// One Podman for all stories: an image with terraform in it is large.
#[test]
fn stacks_are_reviewed_and_applied_in_containers() {
    let podman = Podman::start().unwrap();
    podman.image(IMAGE, &[&terraform().unwrap()]).unwrap();
    let containers = |all: bool| {
        let arguments: &[&str] = if all { &["ps", "--all", "--quiet"] } else { &["ps", "--quiet"] };
        podman.run(arguments).unwrap().lines().count()
    };

    let env = project(&podman, IMAGE, &[("net/main.tf", &slow_inside()), ("app/main.tf", APP)]);
    expect(&env, &["check"], 0, &[]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply", "preview"]);
    expect(&env, &["logs", "latest"], 0, &[&format!("windlass: terraform runs in a container of {IMAGE} (")]);
    go(&env);
    expect(&env, &["apply", "--yes"], 0, &["Applied 2 instances."]);
    assert_eq!(made(&env), MADE);
    expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
    assert_eq!(containers(true), 0);

    // Cancelled: one interrupt, and what was begun is ended in good order.
    let env = project(&podman, IMAGE, &[("net/main.tf", &slow_inside())]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    let mut child = start(&env, &["apply", "--yes"]);
    wait(|| (made(&env).len() == 1).then_some(()));
    expect(&env, &["cancel", "latest"], 0, &[]);
    assert_ne!(child.wait().unwrap().code(), Some(0));
    assert_eq!((made(&env), containers(true)), (vec!["inside-1".to_owned()], 0));
    go(&env);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    assert_eq!(made(&env), MADE);

    // Killed in the middle of an apply: the container goes on, and is waited for.
    for ended in [false, true] {
        let env = project(&podman, IMAGE, &[("net/main.tf", &slow_inside())]);
        expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
        let mut child = start(&env, &["apply", "--yes"]);
        wait(|| (made(&env).len() == 1).then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(containers(true), 1);
        go(&env);
        if ended {
            wait(|| (containers(false) == 0).then_some(()));
        }
        expect(&env, &["resume"], 0, &["Applied"]);
        assert_eq!(made(&env), MADE, "the container had ended: {ended}");
        assert_eq!(containers(true), 0);
        let done = run(&env, &["runs", "latest", "--json"]).stdout;
        assert!(done.contains("already in place"), "{done}");
        expect(&env, &["review", "--all"], 0, &["Nothing to apply."]);
    }

    let env = project(&podman, "localhost/none:1", &[("net/main.tf", NET)]);
    expect(&env, &["review", "--all"], 1, &["localhost/none:1", "is not on this machine"]);
    let mut env = project(&podman, IMAGE, &[("net/main.tf", NET)]);
    env.set("DOCKER_HOST", "unix:///not/there.sock");
    expect(&env, &["review", "--all"], 1, &["no container engine answers at unix:///not/there.sock"]);
    assert_eq!(containers(true), 0);
}

/// Says where it runs, and passes where that is a container.
const INSIDE: &str = r#"["sh", "-c", "echo I am $WHERE; test \"$WHERE\" = inside"]"#;

/// Answers whoever asks that all is well, until the test has ended; its address.
fn well() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell");
        }
    });
    address
}

/// What connects or asks over HTTP does so from where the programs run, too.
#[test]
fn gates_are_asked_from_containers() {
    let podman = Podman::start().unwrap();
    podman.image(IMAGE, &[&terraform().unwrap()]).unwrap();
    let address = well();
    let asked = |network: &str| {
        let env = project(&podman, IMAGE, &[("net/main.tf", NET)]);
        let definitions = std::fs::read_to_string(env.root().join("windlass.hcl")).unwrap();
        let definitions = definitions.replace("\"host\"", &format!("\"{network}\""));
        let gates = format!(
            "stack \"net\" {{\n  ready {{\n    tcp     = \"{address}\"\n    timeout = \"30s\"\n  }}\n  rollout {{\n    gate {{\n      http     = \"http://{address}/\"\n      \
             contains = \"well\"\n    }}\n  }}\n}}\noperation \"look\" {{\n  runner = \"inside\"\n  step \"well\" {{\n    wait {{\n      gate {{\n        \
             http     = \"http://{address}/\"\n        contains = \"well\"\n        within   = \"20s\"\n      }}\n    }}\n  }}\n}}\n"
        );
        env.write("windlass.hcl", &format!("{definitions}{gates}")).unwrap();
        env.commit("Gates").unwrap();
        env
    };
    let env = asked("host");
    expect(&env, &["check"], 0, &[]);
    expect(&env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied"]);
    let wave = "latest/wave-gate:stack net/1.1";
    for (step, said) in [("latest/ready:net", "accepts connections"), (wave, "answers 200 with `well`")] {
        expect(&env, &["logs", step], 0, &["windlass runs in a container of", said]);
    }
    expect(&env, &["run", "look", "--yes"], 0, &[]);
    expect(&env, &["logs", "latest"], 0, &["windlass runs in a container of", "answers 200 with `well`"]);
    // What only this machine reaches is not well.
    let env = asked("none");
    expect(&env, &["run", "look", "--yes"], 1, &["WL541"]);
    expect(&env, &["logs", "latest"], 0, &[&format!("http://{address}/ refuses connections")]);
    assert!(podman.run(&["ps", "--all", "--quiet"]).unwrap().trim().is_empty());
}

/// Of a machine that has no terraform all is done in containers: formats, gates, adoption, and the look of a destroy.
#[test]
fn a_machine_without_terraform_needs_none() {
    let podman = Podman::start().unwrap();
    podman.image(IMAGE, &[&terraform().unwrap()]).unwrap();
    let none_left = || podman.run(&["ps", "--all", "--quiet"]).unwrap().trim().is_empty();
    let app = APP.replace("  input = data", "  input   = data");
    let mut env = project(&podman, IMAGE, &[("net/main.tf", NET), ("app/main.tf", &app)]);
    let file = env.root().join("windlass.hcl");
    let definitions = std::fs::read_to_string(&file).unwrap();
    let stacks = format!(
        "stack \"net\" {{\n  ready {{\n    command = {INSIDE}\n  }}\n  rollout {{\n    gate {{\n      command = {INSIDE}\n    }}\n  }}\n}}\n\
         operation \"look\" {{\n  runner = \"inside\"\n  step \"well\" {{\n    wait {{\n      gate {{\n        command = {INSIDE}\n      }}\n    }}\n  }}\n}}\n"
    );
    env.write("windlass.hcl", &format!("{definitions}{stacks}")).unwrap();
    env.commit("Gates").unwrap();
    env.only_programs(&["git"]).unwrap();

    expect(&env, &["review", "--all"], 0, &["app/main.tf is not formatted", "Ready to apply"]);
    expect(&env, &["apply", "--yes"], 0, &["Applied 2 instances."]);
    for step in ["latest/ready:net", "latest/wave-gate:stack net/1.1"] {
        expect(&env, &["logs", step], 0, &["runs in a container of", "I am inside"]);
    }
    expect(&env, &["run", "look", "--yes"], 0, &[]);
    expect(&env, &["logs", "latest"], 0, &["runs in a container of", "I am inside"]);

    expect(&env, &["adopt", "net", "terraform_data.hand=hand-1"], 0, &["adopt/net-1", "changes nothing"]);
    expect(&env, &["destroy", "net"], 1, &["[WL670]", "app depends on net, and it exists"]);
    assert!(none_left());
}

const OPERATIONS: &str = r#"
operation "report" {
  step "make" {
    container {
      image       = "localhost/windlass-tools:1"
      pull        = "never"
      environment = { WHERE = "inside" }
      run         = ["sh", "-ec", "mkdir -p out; echo from $WHERE >out/told.txt; echo where=$WHERE; ls /proc/1/exe >&2"]
    }
    outputs   = "key_value"
    artefacts = ["out/*"]
  }
  step "use" { run = ["test", "${step.make.outputs.where}", "=", "inside"] }
}
operation "bad" {
  step "fail" {
    container {
      image = "localhost/windlass-tools:1"
      pull  = "never"
      run   = ["sh", "-c", "echo no luck >&2; exit 3"]
    }
    undo { run = ["touch", "undone"] }
  }
}
operation "absent" {
  step "none" {
    container {
      image = "localhost/none:1"
      pull  = "never"
    }
  }
}
operation "long" {
  step "wait" {
    container {
      image = "localhost/windlass-tools:1"
      pull  = "never"
      run   = ["sh", "-c", "touch begun; trap 'touch ended; exit 1' INT TERM; while :; do sleep 0.1; done"]
    }
  }
}
"#;

#[test]
fn steps_of_operations_run_in_containers() {
    let podman = Podman::start().unwrap();
    podman.image("localhost/windlass-tools:1", &[]).unwrap();
    let none_left = || podman.run(&["ps", "--all", "--quiet"]).unwrap().trim().is_empty();
    let mut env = env(&[("windlass.hcl", OPERATIONS)]);
    env.set("DOCKER_HOST", podman.host());
    let there = |name: &str| env.root().join(name).exists();

    expect(&env, &["run", "report", "--yes"], 0, &[]);
    assert_eq!(expect(&env, &["artefacts", "latest/make/out/told.txt", "-o", "-"], 0, &[]).stdout, "from inside\n");
    assert!(none_left());

    expect(&env, &["run", "bad", "--yes"], 1, &["WL530", "`sh` ended with status 3: no luck"]);
    assert!(there("undone"), "it may have done a part of it");
    expect(&env, &["run", "absent", "--yes"], 1, &["localhost/none:1", "is not on this machine"]);
    assert!(none_left());

    // Cancelled: one interrupt, and the container goes with its program.
    let mut child = start(&env, &["run", "long", "--yes"]);
    wait(|| there("begun").then_some(()));
    assert!(!none_left());
    expect(&env, &["cancel", "latest"], 0, &["was asked to stop"]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(there("ended") && none_left());
    expect(&env, &["runs", "latest"], 0, &["cancelled"]);
}
