//! What a server begins by itself, tells by itself, and does not begin; and runs that are under way at the same time.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::server::{Server, run_of};
use common::wait;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use windlass_testkit::chat::Chat;
use windlass_testkit::cli::CliEnv;

/// A server of a repository with these definitions, whose team `sre` has the one who is signed in.
fn server(definitions: &str, more: &[(&str, &str)]) -> (Server, CliEnv) {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let member = windlass_app::actor::local(None).identities.remove(0);
    let tale = env.home().join("tale").display().to_string();
    let text = format!("team \"sre\" {{ members = [\"{member}\"] }}\n{}", definitions.replace("TALE", &tale));
    env.write("windlass.hcl", &text).unwrap();
    for (path, content) in more {
        env.write(path, content).unwrap();
    }
    env.commit("Operations").unwrap();
    (Server::start(&env, ""), env)
}

/// Events of this kind, oldest first.
fn events(server: &Server, kind: &str) -> Vec<Value> {
    let found = server.get(&format!("/api/v1/events?project=shop&kind={kind}&limit=500")).json();
    found["items"].as_array().unwrap().iter().rev().cloned().collect()
}

/// States of the runs of an operation, newest first.
fn runs(server: &Server, operation: &str) -> Vec<Value> {
    let found = server.get(&format!("/api/v1/projects/shop/runs?operation={operation}")).json();
    found["items"].as_array().unwrap().clone()
}

#[test]
fn a_batch_that_does_not_succeed_is_told_of_until_it_does() {
    let chat = Chat::start().unwrap();
    let definitions = format!(
        "notifier \"ops\" {{\n  webhook {{\n    url = \"{}\"\n  }}\n}}\n\
         batch \"report\" {{\n  allow       = [team.sre]\n  command     = [\"sh\", \"-c\", \"test -e TALE.well\"]\n  \
         alert_after = 2\n  schedule {{\n    cron = \"* * * * * *\"\n  }}\n  notify {{\n    to = [notifier.ops]\n    \
         on = [\"recovered\"]\n  }}\n}}\n",
        chat.hook()
    );
    let (server, env) = server(&definitions, &[]);
    let overdue = wait(|| events(&server, "operation.overdue").pop());
    assert_eq!((&overdue["subject"], &overdue["data"]["intervals"]), (&"report".into(), &2.into()), "{overdue}");
    let told = |text: &str| chat.posts().iter().filter(|post| post.text == text).count();
    wait(|| (told("report has not succeeded for too long") == 1).then_some(()));
    assert!(runs(&server, "report").iter().any(|run| run["state"] == "failed"));
    std::fs::write(env.home().join("tale.well"), "").unwrap();
    wait(|| (told("report works again") == 1).then_some(()));
    assert_eq!(told("report has not succeeded for too long"), 1, "it is told once");
}

/// A registry that has one image, whose tag can be moved.
fn registry(digest: &Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let digest = digest.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let asked = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let answer = match asked.starts_with("HEAD /v2/shop/tools/manifests/stable ") {
                true => format!("200 OK\r\nDocker-Content-Digest: {}", digest.lock().unwrap()),
                false => "404 Not Found".to_owned(),
            };
            // Who asked may have gone.
            let _ = write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    address.to_string()
}

#[test]
fn another_image_behind_a_tag_starts_a_run() {
    let sha = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let digest = Arc::new(Mutex::new(sha("a")));
    let registry = registry(&digest);
    let definitions = format!(
        "operation \"restart\" {{\n  allow = [team.sre]\n  param \"digest\" {{ type = string }}\n  \
         step \"tell\" {{\n    shell = \"echo $DIGEST >>TALE\"\n    env   = {{ DIGEST = param.digest }}\n  }}\n  \
         trigger \"new\" {{\n    image {{\n      reference = \"{registry}/shop/tools:stable\"\n      every     = \"1m\"\n    }}\n    \
         arguments = {{ digest = trigger.payload.digest }}\n  }}\n}}\n"
    );
    let (mut server, env) = server(&definitions, &[]);
    let told = || std::fs::read_to_string(env.home().join("tale")).unwrap_or_default();
    let database = |server: &Server| rusqlite::Connection::open(server.data.join("windlass.db")).unwrap();
    // What is there at first is no news.
    wait(|| {
        let known = format!("%{}%", sha("a"));
        database(&server).query_row("SELECT 1 FROM kv WHERE value LIKE ?1", [known], |_| Ok(())).ok()
    });
    assert_eq!(runs(&server, "restart").len(), 0);
    let mut want = String::new();
    for digit in ["b", "a"] {
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        *digest.lock().unwrap() = sha(digit);
        // As if a minute had passed.
        assert_eq!(database(&server).execute("DELETE FROM tickets WHERE kind = 'image'", []).unwrap(), 1);
        server = Server::start(&env, "");
        want.push_str(&format!("{}\n", sha(digit)));
        wait(|| (told() == want).then_some(()));
        // What is in the middle of a step when its server is killed is done again.
        wait(|| runs(&server, "restart").iter().all(|run| run["state"] == "succeeded").then_some(()));
    }
    assert_eq!(runs(&server, "restart").len(), 2);
    assert!(runs(&server, "restart")[0]["actor"].as_str().unwrap().contains("windlass"));
}

#[test]
fn a_policy_refuses_what_would_start_by_itself() {
    let operation = |name: &str| {
        format!(
            "operation \"{name}\" {{\n  allow = [team.sre]\n  step \"tell\" {{ shell = \"echo {name} >>TALE\" }}\n  \
             schedule {{ cron = \"* * * * * *\" }}\n}}\n"
        )
    };
    let policy = "policy \"starts\" {\n  paths   = [\"policy\"]\n  decides = \"trigger\"\n}\n";
    let rego = "package starts\n\nimport rego.v1\n\ndeny contains msg if {\n\tinput.event.kind == \"schedule\"\n\t\
                input.subject.name == \"denied\"\n\tmsg := \"not by the clock\"\n}\n";
    let definitions = format!("{}{}{policy}", operation("denied"), operation("allowed"));
    let (server, env) = server(&definitions, &[("policy/starts.rego", rego)]);
    let refused = wait(|| events(&server, "operation.not_started").pop());
    assert!(refused.to_string().contains("not by the clock"), "{refused}");
    wait(|| (runs(&server, "allowed").iter().any(|run| run["state"] == "succeeded")).then_some(()));
    assert_eq!(runs(&server, "denied").len(), 0);
    // A person is not a schedule.
    let run = run_of(&server.post("/api/v1/projects/shop/operations/denied/runs", &json!({ "arguments": {} })));
    assert_eq!(server.ended(&run), "succeeded");
    let told = std::fs::read_to_string(env.home().join("tale")).unwrap();
    assert_eq!(told.lines().filter(|line| *line == "denied").count(), 1, "{told}");
}

#[test]
fn runs_of_one_commit_do_not_find_the_files_of_each_other() {
    let definitions = "operation \"own\" {\n  allow = [team.sre]\n  param \"name\" { type = string }\n  step \"write\" {\n    \
                       shell     = \"test ! -e told.txt; echo $NAME >told.txt; touch TALE.$NAME; while [ ! -e TALE.go ]; do sleep 0.1; done\"\n    \
                       env       = { NAME = param.name }\n    artefacts = [\"told.txt\"]\n  }\n  step \"read\" {\n    \
                       after = [\"write\"]\n    shell = \"test $NAME = $(cat told.txt)\"\n    env   = { NAME = param.name }\n  }\n}\n";
    let (server, env) = server(definitions, &[]);
    let begin = |name: &str| {
        let arguments = json!({ "arguments": { "name": name } });
        run_of(&server.post("/api/v1/projects/shop/operations/own/runs", &arguments))
    };
    let begun = ["a", "b"].map(|name| (name, begin(name)));
    for (name, _) in &begun {
        wait(|| env.home().join(format!("tale.{name}")).exists().then_some(()));
    }
    std::fs::write(env.home().join("tale.go"), "").unwrap();
    for (name, run) in &begun {
        assert_eq!(server.ended(run), "succeeded");
        let left = server.get(&format!("/api/v1/runs/{run}/artefacts/write/told.txt")).text();
        assert_eq!(left, format!("{name}\n"));
    }
    // One that comes later finds nothing of them either.
    assert_eq!(server.ended(&begin("c")), "succeeded");
}
