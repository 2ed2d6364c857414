//! Secrets of steps, by the real program: whatever prints them, in whatever form, they are neither stored nor shown.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::server::Server;
use std::path::{Path, PathBuf};
use std::process::Command;
use windlass_testkit::cli::CliEnv;
use windlass_testkit::postgres::Postgres;

/// In the server's environment, and passed on to terraform by name.
const CANARY: &str = "C4n/ry+\"q&o$t'e w1th=all";
/// In a file that a variable names.
const FILED: &str = "f1l3d-cr3d3nt14l";
/// Marked by terraform alone.
const MARKED: &str = "m4rk3d/by terraform?";

/// Prints what its environment has in all forms, with everything that tears them apart.
const SAY: &str = r#"
say() {
  printf 'plain: %s\n' "$1"
  printf 'base64: %s\n' "$(printf '%s' "$1" | base64 -w0)" "$(printf 'x%s' "$1" | base64 -w0)" "$(printf 'xy%s' "$1" | base64 -w0)"
  printf 'wrapped:\n'; printf 'xyz%sabc' "$1" | base64 -w9
  printf 'url-safe: %s\n' "$(printf '%s' "$1" | base64 -w0 | tr '+/' '-_' | tr -d =)"
  hex=$(printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n')
  printf 'hex: %s %s\n' "$hex" "$(printf '%s' "$hex" | tr a-f A-F)"
  printf 'url: %s\n' "$(printf '%s' "$hex" | sed 's/../%&/g')"
  printf 'url: %s\n' "$(printf '%s' "$1" | sed 's/%/%25/g; s/ /%20/g; s/"/%22/g; s/\$/%24/g; s/&/%26/g; s/'"'"'/%27/g; s/+/%2B/g; s|/|%2F|g; s/=/%3D/g; s/?/%3F/g')"
  printf 'json: "%s"\n' "$(printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g')"
  printf "shell: '%s'\n" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
  head=$(printf '%s' "$1" | cut -c1-7); tail=$(printf '%s' "$1" | cut -c8-)
  printf 'torn: %s' "$head"; sleep 0.4; printf '%s\n' "$tail"
  printf 'two lines: %s\n%s\n' "$head" "$tail"
  printf 'letters: '; printf '%s' "$1" | sed 's/./&\n/g' | while IFS= read -r c; do printf '%s' "$c"; done; printf '\n'
  printf 'error: %s\n' "$1" >&2
}
say "$CANARY"
say "$(cat "$KEY_FILE")"
say "$(cat "$MARKED")"
echo said everything
"#;

/// All ways in which a secret could be found.
fn forms(secret: &str) -> Vec<(String, Vec<u8>)> {
    let hex = secret.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    let json = serde_json::to_string(secret).unwrap();
    let json = json[1..json.len() - 1].to_owned();
    let percent = |kept: &str| {
        let of = |b: u8| {
            if b.is_ascii_alphanumeric() || kept.contains(char::from(b)) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        };
        secret.bytes().map(of).collect::<String>()
    };
    // Letters of base64 that depend on the secret alone, less one at each end.
    let base64 = |before: usize| {
        let all = base64(&[&b"xyz"[..before], secret.as_bytes()].concat());
        all[before + 2..all.len() - 4].to_owned()
    };
    let mut out = vec![
        ("plain", secret.to_owned()),
        ("json", json.clone()),
        ("json in json", json.replace('\\', "\\\\").replace('"', "\\\"")),
        ("html", secret.replace('&', "&amp;").replace('"', "&quot;").replace('\'', "&#39;")),
        ("html", secret.replace('&', "&#38;").replace('"', "&#34;").replace('\'', "&#39;")),
        ("hex", hex.clone()),
        ("HEX", hex.to_uppercase()),
        ("url", percent("-._~")),
        ("url in lower case", percent("-._~").to_lowercase()),
        ("all of url", hex.as_bytes().chunks(2).map(|two| format!("%{}", std::str::from_utf8(two).unwrap())).collect()),
        ("shell", secret.replace('\'', "'\\''")),
        ("its first letters", secret[..12].to_owned()),
        ("its last letters", secret[secret.len() - 12..].to_owned()),
    ];
    for before in 0..3 {
        out.push(("base64", base64(before)));
        out.push(("url-safe base64", base64(before).replace('+', "-").replace('/', "_")));
    }
    out.into_iter().map(|(name, text)| (format!("{secret} as {name}"), text.into_bytes())).collect()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).map(|chunk| {
        let number = (0..3).fold(0_usize, |n, at| n << 8 | usize::from(*chunk.get(at).unwrap_or(&0)));
        let letters = (0..4).map(|at| char::from(LETTERS[number >> (18 - 6 * at) & 63]));
        let kept: String = letters.take(chunk.len() + 1).collect();
        format!("{kept:=<4}")
    });
    groups.collect()
}

fn found(haystack: &[u8], needle: &[u8]) -> bool {
    needle.len() >= 4 && haystack.windows(needle.len()).any(|window| window == needle)
}

/// What of the secrets is in `bytes`.
fn leaks(place: &str, bytes: &[u8], also_hex: bool) -> Vec<String> {
    let mut out = Vec::new();
    for (what, form) in [CANARY, FILED, MARKED].into_iter().flat_map(forms) {
        let as_hex = form.iter().map(|b| format!("{b:02x}")).collect::<String>();
        if found(bytes, &form) || (also_hex && found(bytes, as_hex.as_bytes())) {
            out.push(format!("{place}: {what}"));
        }
    }
    out
}

fn files(directory: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), out);
        } else if kind.is_file() {
            out.push(entry.path());
        }
    }
}

fn repository() -> CliEnv {
    let mut env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.git_init().unwrap();
    let (key, marked) = (env.home().join("key"), env.home().join("marked"));
    std::fs::write(&key, format!("{FILED}\n")).unwrap();
    std::fs::write(&marked, MARKED).unwrap();
    let stack = |name: &str, after: &str| {
        format!(
            "terraform {{\n  backend \"local\" {{\n    path = \"{}\"\n  }}\n}}\nresource \"terraform_data\" \"said\" {{\n  input = sensitive(file(\"{}\"))\n}}\nresource \"terraform_data\" \"say\" {{\n  provisioner \"local-exec\" {{\n    command = \"MARKED={} sh ${{path.module}}/say.sh{after}\"\n  }}\n}}\n",
            env.home().join(format!("{name}.tfstate")).display(),
            marked.display(),
            marked.display(),
        )
    };
    for (name, after) in [("good", ""), ("bad", "; exit 3")] {
        env.write(&format!("{name}/main.tf"), &stack(name, after)).unwrap();
        env.write(&format!("{name}/say.sh"), SAY).unwrap();
    }
    let names = "env = [\"CANARY\", \"KEY_FILE\"]";
    let text = format!("project \"shop\" {{}}\nstack \"good\" {{\n  {names}\n}}\nstack \"bad\" {{\n  {names}\n}}\n");
    env.write("windlass.hcl", &text).unwrap();
    env.commit("Stacks").unwrap();
    env.set("CANARY", CANARY);
    env.set("KEY_FILE", key);
    env
}

/// Applies both stacks with everything that they print, asks for all that there is to read, and gives what leaked.
fn story(env: &CliEnv, configuration: &str, mut stored: impl FnMut() -> Vec<(String, Vec<u8>)>) {
    let mut server = Server::start(env, configuration);
    let (review, good, state) = server.apply(&["good"]);
    assert_eq!(state, "succeeded");
    let (_, bad, state) = server.apply(&["bad"]);
    assert_eq!(state, "failed");
    let log = server.log(&good, "apply:good").text();
    // What is no secret is all there.
    for text in ["plain: (sensitive)\n", "url-safe: (sensitive)", "torn: (sensitive)\n", "said everything"] {
        assert!(log.contains(text), "no `{text}` in\n{log}");
    }
    let mut leaked = Vec::new();
    let paths = [
        format!("/api/v1/runs/{good}"),
        format!("/api/v1/runs/{bad}"),
        format!("/api/v1/runs/{good}/steps/apply%3Agood/log"),
        format!("/api/v1/runs/{good}/steps/apply%3Agood/log?from=0"),
        format!("/api/v1/runs/{bad}/steps/apply%3Abad/log"),
        format!("/api/v1/runs/{bad}/steps/apply%3Abad/log?from=0"),
        format!("/api/v1/reviews/{review}?format=json"),
        format!("/api/v1/reviews/{review}?format=markdown"),
        "/api/v1/events?project=shop".into(),
        "/api/v1/audit/export".into(),
        "/api/v1/projects/shop/quarantines".into(),
        "/api/v1/projects/shop/stacks/good".into(),
        "/metrics".into(),
        "/".into(),
        "/events".into(),
        "/runs".into(),
        format!("/runs/{good}"),
        format!("/runs/{bad}"),
        format!("/reviews/{review}"),
        "/stacks/shop/good".into(),
        "/stacks/shop/bad".into(),
    ];
    for path in paths {
        let answer = server.get(&path);
        assert!(matches!(answer.status, 200 | 303), "{path}: {} {}", answer.status, answer.text());
        leaked.extend(leaks(&path, &answer.bytes, false));
    }
    let token = server.post("/api/v1/tokens", &serde_json::json!({ "name": "t", "days": 1 }))["secret"].clone();
    let own =
        [server.link.clone(), server.cookie.split('=').nth(1).unwrap().to_owned(), token.as_str().unwrap().to_owned()];
    assert!(Command::new("kill").arg(server.child.id().to_string()).status().unwrap().success());
    server.child.wait().unwrap();
    let mut all = Vec::new();
    files(&server.data, &mut all);
    assert!(all.iter().any(|file| file.starts_with(server.data.join("artefacts"))), "nothing is kept: {all:?}");
    let mut places: Vec<(String, Vec<u8>)> =
        all.iter().map(|file| (file.display().to_string(), std::fs::read(file).unwrap())).collect();
    places.extend(stored());
    let log = env.home().join("server.log");
    places.push((log.display().to_string(), std::fs::read(&log).unwrap()));
    for (place, bytes) in &places {
        leaked.extend(leaks(place, bytes, true));
        for secret in &own {
            if found(bytes, secret.as_bytes()) {
                leaked.push(format!("{place}: a secret of the server, {secret}"));
            }
        }
    }
    assert!(leaked.is_empty(), "{}", leaked.join("\n"));
}

#[test]
fn secrets_that_a_stack_prints_are_nowhere() {
    story(&repository(), "", Vec::new);
}

#[test]
fn secrets_that_a_stack_prints_are_nowhere_in_postgresql() {
    let env = repository();
    let postgres = Postgres::start().unwrap();
    let url = postgres.database("windlass");
    let dump = || {
        let own = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let program = own.map(|entry| entry.path().join("bin/pg_dump")).find(|path| path.exists());
        let output = Command::new(program.unwrap_or_else(|| "pg_dump".into())).arg(&url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(found(&output.stdout, b"step_logs") || found(&output.stdout, b"logs"), "no logs");
        vec![("the dump".to_owned(), output.stdout)]
    };
    story(&env, &format!("database = \"{url}\""), dump);
}
