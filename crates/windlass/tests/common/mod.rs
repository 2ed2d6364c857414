//! What the stories of the real program share.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

pub mod place;
pub mod program;
pub mod server;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use windlass_testkit::cli::{Answer, CliEnv};

pub const NET: &str = "terraform {\n  backend \"local\" {}\n}\nvariable \"size\" {\n  default = 1\n}\nresource \"terraform_data\" \"net\" {\n  input = \"net-${var.size}\"\n}\noutput \"id\" {\n  value = terraform_data.net.output\n}\n";
pub const APP: &str = "terraform {\n  backend \"local\" {}\n}\ndata \"terraform_remote_state\" \"net\" {\n  backend = \"local\"\n  config = {\n    path = \"../net/terraform.tfstate\"\n  }\n}\nresource \"terraform_data\" \"app\" {\n  input = data.terraform_remote_state.net.outputs.id\n}\n";
pub const IGNORE: &str = "*.tfstate*\n.terraform*\nmade.log\n";

pub fn env(files: &[(&str, &str)]) -> CliEnv {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    env.write(".gitignore", IGNORE).unwrap();
    for (path, content) in files {
        env.write(path, content).unwrap();
    }
    env.commit("Stacks").unwrap();
    env
}

pub fn run(env: &CliEnv, arguments: &[&str]) -> Answer {
    env.run(arguments).unwrap()
}

#[track_caller]
pub fn expect(env: &CliEnv, arguments: &[&str], code: i32, texts: &[&str]) -> Answer {
    let answer = run(env, arguments);
    let all = format!("{}{}", answer.stdout, answer.stderr);
    assert_eq!(answer.code, Some(code), "{arguments:?}\n{all}");
    for text in texts {
        assert!(all.contains(text), "{arguments:?} does not say `{text}`:\n{all}");
    }
    answer
}

pub fn apply_all(env: &CliEnv) {
    expect(env, &["review", "--all"], 0, &["Ready to apply"]);
    expect(env, &["apply", "--yes"], 0, &["Applied"]);
}

/// Waits until `until` answers, for at most a minute.
#[track_caller]
pub fn wait<T>(until: impl FnMut() -> Option<T>) -> T {
    wait_or(until).unwrap_or_else(|| panic!("it did not happen within a minute"))
}

/// `None` when it did not happen within a minute.
pub fn wait_or<T>(mut until: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Some(value) = until() {
            return Some(value);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

pub fn start(env: &CliEnv, arguments: &[&str]) -> Child {
    env.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

pub fn steps(env: &CliEnv, run_id: &str) -> Vec<(String, String)> {
    let answer = run(env, &["runs", run_id, "--json"]);
    let value: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
    let steps = value["steps"].as_array().cloned().unwrap_or_default();
    steps
        .iter()
        .map(|s| (s["id"].as_str().unwrap_or_default().into(), s["state"].as_str().unwrap_or_default().into()))
        .collect()
}

/// Whether the newest run is an apply.
pub fn is_apply(env: &CliEnv) -> bool {
    run(env, &["runs", "latest", "--json"]).stdout.contains("\"kind\": \"apply\"")
}

pub fn made(env: &CliEnv) -> Vec<String> {
    let text = std::fs::read_to_string(env.root().join("made.log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Runs terraform in a stack's directory behind the back of Windlass.
/// Runs terraform itself, and gives what it printed.
pub fn by_hand(env: &CliEnv, stack: &str, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(windlass_testkit::cli::terraform().unwrap());
    command
        .args(arguments)
        .current_dir(env.root().join(stack))
        .env("TF_DATA_DIR", env.root().join(".windlass/terraform").join(stack))
        .env("CHECKPOINT_DISABLE", "1");
    let output = command.stderr(Stdio::null()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

pub fn walk(directory: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { out.extend(walk(&path)) } else { out.push(path.to_string_lossy().into_owned()) }
    }
    out
}

/// A stack whose three resources note when they are made, each taking a while.
pub fn slow(name: &str) -> String {
    let mut text = "terraform {\n  backend \"local\" {}\n}\n".to_owned();
    let mut before = String::new();
    for n in 1..=3 {
        text.push_str(&format!("resource \"terraform_data\" \"r{n}\" {{\n{before}  provisioner \"local-exec\" {{\n    command = \"sleep 0.3; echo {name}-{n} >> ../made.log\"\n  }}\n}}\n"));
        before = format!("  depends_on = [terraform_data.r{n}]\n");
    }
    text.push_str("output \"id\" {\n  value = terraform_data.r3.id\n}\n");
    text
}

/// Kills the terraform that works below `root`, by its own process id.
pub fn kill_terraform(root: &std::path::Path) -> Option<bool> {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let directory = entry.path();
        let command = std::fs::read(directory.join("cmdline")).unwrap_or_default();
        let place = std::fs::read_link(directory.join("cwd")).unwrap_or_default();
        if place.starts_with(root) && String::from_utf8_lossy(&command).contains("apply\0-json") {
            let pid = entry.file_name().to_string_lossy().into_owned();
            return Some(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
        }
    }
    None
}
