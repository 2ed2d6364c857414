//! The record, exported and verified far from its server.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::{expect, run};
use std::io::Write;
use std::process::Stdio;
use windlass_model::audit::export::Header;
use windlass_model::audit::{AuditEvent, Seal, Sealing, SigningKey, VerifyingKey};
use windlass_testkit::cli::CliEnv;

const VERIFY: [&str; 4] = ["audit", "verify", "--export", "audit.jsonl"];

/// A key that is the same each time: 32 bytes with the head of PKCS#8 before them.
fn key(number: u8) -> SigningKey {
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    SigningKey::from_pkcs8(&[&head[..], &[number; 32]].concat()).unwrap()
}

fn public(number: u8) -> String {
    VerifyingKey::to_string(&key(number).verifying_key())
}

fn event(id: i64) -> AuditEvent {
    AuditEvent {
        id,
        project: "shop".into(),
        run: Some(format!("run-{id}")),
        step: None,
        kind: "run.started".into(),
        data: serde_json::json!({ "stack": "aws/network", "by": ["ü", 1.5] }),
        actor: Some("ana@example.com".into()),
        at: 1_763_683_200_000_000 + id * 60_000_000,
        correlation: None,
        subject: None,
        reason: None,
    }
}

/// Lines of a record with nine events, six of them in seals 1 and 2 (lines 5 and 9), and the last seal.
fn record() -> (Vec<String>, Seal) {
    let events: Vec<AuditEvent> = (1..=9).map(|number| event(number * 10)).collect();
    let signer = key(1);
    let sealing = |previous, at| Sealing { log: "acme", previous, at, key: &signer, next_key: None };
    let first = sealing(None, 1_763_690_000_000_000).seal(&events[..3]).unwrap();
    let second = sealing(Some(&first), 1_763_700_000_000_000).seal(&events[3..6]).unwrap();
    let mut lines = vec![Header::new("acme", &[signer.verifying_key()], 1_763_800_000_000_000).line().unwrap()];
    lines.extend(events[..3].iter().map(AuditEvent::line));
    lines.push(first.line().unwrap());
    lines.extend(events[3..6].iter().map(AuditEvent::line));
    lines.push(second.line().unwrap());
    lines.extend(events[6..].iter().map(AuditEvent::line));
    (lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect(), second)
}

/// No repository, no database: only the file.
fn env(lines: &[String]) -> CliEnv {
    let env = CliEnv::new(env!("CARGO_BIN_EXE_windlass")).unwrap();
    env.write("audit.jsonl", &lines.concat()).unwrap();
    env
}

#[test]
fn an_intact_record_is_verified_offline() {
    let (lines, head) = record();
    let env = env(&lines);
    let answer = run(&env, &[&VERIFY[..], &["--key", &public(1)]].concat());
    insta::assert_snapshot!(format!("{}{}{}", answer.stdout, answer.stderr, answer.code.unwrap()), @"
    acme: 9 events and 2 seals, exported 2025-11-22 08:26:40
    signed by ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=

    Intact up to event 60, by seal 2 of 2025-11-21 04:40:00.
    That nothing was cut off at the end shows only with a checkpoint that was kept elsewhere.
    Not sealed yet: 3 events, from event 70 of 2025-11-21 01:10:00 on.
    0
    ");
    let trusting =
        expect(&env, &VERIFY, 0, &["warning[WL823]: the key was taken from the file itself", "--key ed25519:"]);
    assert_eq!(trusting.stderr, "");

    // What is answered for programs gives the checkpoint to keep.
    let json: serde_json::Value =
        serde_json::from_str(&run(&env, &[&VERIFY[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!((&json["intact"], &json["events"], &json["unsealed"]["count"]), (&true.into(), &9.into(), &3.into()));
    assert_eq!((&json["key_source"], &json["diagnostics"][0]["code"]), (&"file".into(), &"WL823".into()));
    assert_eq!(serde_json::from_value::<Seal>(json["head"].clone()).unwrap(), head.checkpoint());
    env.write("kept.json", &json["head"].to_string()).unwrap();
    let kept = [&VERIFY[..], &["--checkpoint", "kept.json"]].concat();
    let answer = expect(&env, &kept, 0, &["Intact up to event 60"]);
    assert!(!answer.stdout.contains("cut off"), "{}", answer.stdout);
    // A whole seal, with its list, is as good.
    env.write("kept.json", &serde_json::to_string(&head).unwrap()).unwrap();
    expect(&env, &kept, 0, &["Intact up to event 60"]);

    let mut child = env
        .command(&["audit", "verify", "--export", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.concat().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["seals"], 2);
}

#[test]
fn the_first_damage_is_named() {
    let (lines, head) = record();
    let check = |deed: &dyn Fn(&mut Vec<String>), more: &[&str], texts: &[&str]| {
        let mut damaged = lines.clone();
        deed(&mut damaged);
        let env = env(&damaged);
        env.write("kept.json", &serde_json::to_string(&head.checkpoint()).unwrap()).unwrap();
        let own = public(1);
        let arguments = [&VERIFY[..], &["--key", &own], more].concat();
        expect(&env, &arguments, 1, &[texts, &["Damaged."]].concat());
        let json = run(&env, &[&arguments[..], &["--json"]].concat());
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["intact"], false);
        json
    };
    let kept = ["--checkpoint", "kept.json"];
    let json = check(
        &|lines| lines[6] = lines[6].replace("ana@", "mallory@"),
        &[],
        &["error[WL825]: event 50 (run.started, 2025-11-21 00:50:00) was changed", "up to event 40 is intact"],
    );
    assert_eq!((&json["damage"]["damage"], &json["damage"]["id"]), (&"changed".into(), &50.into()));
    check(&|lines| drop(lines.remove(6)), &[], &["event 50 (run.started, 2025-11-21 00:50:00) was removed"]);
    check(&|lines| lines.swap(1, 3), &[], &["was reordered"]);
    let extra = String::from_utf8(event(45).line()).unwrap();
    check(&|lines| lines.insert(6, extra.clone()), &[], &["event 45 (run.started, 2025-11-21 00:45:00) was inserted"]);
    check(
        &|lines| lines.insert(6, lines[1].clone()),
        &[],
        &["event 10 (run.started, 2025-11-21 00:10:00) was inserted"],
    );
    // Two deeds: the first.
    let both = |lines: &mut Vec<String>| {
        lines.remove(7);
        lines[2] = lines[2].replace("started", "ended");
    };
    check(&both, &[], &["event 20 (run.started, 2025-11-21 00:20:00) was changed"]);

    check(&|lines| drop(lines.remove(4)), &[], &["error[WL826]: seal 1 is missing"]);
    check(&|lines| lines.insert(5, lines[4].clone()), &[], &["seal 1 (2025-11-21 01:53:20) is there twice"]);
    check(&|lines| lines[8] = lines[8].replace("\"count\":3", "\"count\":2"), &[], &["seal 2 was altered"]);
    check(&|lines| lines.truncate(8), &kept, &["error[WL827]: the end of the log was cut off: its last seal is 1"]);
    let other = key(2);
    let forged: Vec<AuditEvent> = (1..=3).map(|number| event(number * 10)).collect();
    let forged = Sealing { log: "acme", previous: None, at: 1, key: &other, next_key: None }.seal(&forged).unwrap();
    let forged = String::from_utf8(forged.line().unwrap()).unwrap();
    check(&|lines| lines[4] = forged.clone(), &[], &["seal 1 (1970-01-01 00:00:00) was signed by a key", &public(2)]);
}

#[test]
fn another_key_than_the_one_given_is_named() {
    let (lines, _) = record();
    let texts = ["seal 1 (2025-11-21 01:53:20) was signed by a key that may not sign it", &public(1), "Damaged."];
    expect(&env(&lines), &[&VERIFY[..], &["--key", &public(2)]].concat(), 1, &texts);
}

#[test]
fn damaged_lines_are_named_with_their_numbers() {
    let (mut lines, _) = record();
    lines[2] = "{\"event\":{\"id\":20,\n".into();
    lines[10].insert(1, ' ');
    let env = env(&lines);
    let texts = [
        "event 20 (run.started, 2025-11-21 00:20:00) was removed",
        "error[WL821]: line 3 is damaged: it is not a line of an export: EOF",
        "--> audit.jsonl:3:1",
        "line 11 is damaged: it is not in the canonical form",
    ];
    expect(&env, &VERIFY, 1, &texts);
    // Bytes that are no text, and the end of the file in the middle of a line.
    let (lines, _) = record();
    let mut bytes = lines.concat().into_bytes();
    let second = lines[0].len() + 12;
    bytes[second] = 0xff;
    bytes.truncate(bytes.len() - 20);
    std::fs::write(env.root().join("audit.jsonl"), bytes).unwrap();
    expect(
        &env,
        &VERIFY,
        1,
        &["line 2 is damaged: it is not UTF-8", "line 12 is damaged: the file ends in the middle"],
    );
    // Many of them are counted.
    let reformatted: Vec<String> = std::iter::once(lines[0].clone()).chain((0..30).map(|_| "x\n".into())).collect();
    env.write("audit.jsonl", &reformatted.concat()).unwrap();
    expect(&env, &VERIFY, 1, &["line 21 is damaged", "10 more lines are damaged"]);
}

#[test]
fn what_is_no_record_is_refused() {
    let (lines, head) = record();
    let env = env(&lines);
    let check = |arguments: &[&str], texts: &[&str]| {
        expect(&env, arguments, 2, texts);
    };
    check(&["audit", "verify", "--export", "none.jsonl"], &["WL820", "none.jsonl", "No such file"]);
    check(&["audit", "verify", "--export", "."], &["WL820", "directory"]);
    for (content, text) in [
        ("", "it is empty"),
        ("hello\n", "does not begin with the header"),
        (&lines[1..].concat(), "its first line is no header"),
        (&lines.concat().replacen("\"version\":1", "\"version\":7", 1), "version 7"),
    ] {
        env.write("other.jsonl", content).unwrap();
        check(
            &["audit", "verify", "--export", "other.jsonl"],
            &["error[WL820]: other.jsonl is no exported record", text],
        );
    }
    check(&[&VERIFY[..], &["--key", "ed25519:short"]].concat(), &["--key", "a key is written `ed25519:`"]);
    check(&["audit", "verify"], &["--export"]);
    let altered = Seal { at: 1, ..head.checkpoint() };
    let foreign =
        Sealing { log: "other", previous: None, at: 1, key: &key(1), next_key: None }.seal(&[event(1)]).unwrap();
    for (content, text) in [
        ("{}".to_owned(), "missing field"),
        (serde_json::to_string(&altered).unwrap(), "its signature does not fit"),
        (serde_json::to_string(&foreign).unwrap(), "the checkpoint is of the log `other`"),
    ] {
        env.write("kept.json", &content).unwrap();
        check(&[&VERIFY[..], &["--checkpoint", "kept.json"]].concat(), &["WL822", text]);
    }
    check(&[&VERIFY[..], &["--checkpoint", "none.json"]].concat(), &["WL822", "No such file"]);
    let json = run(&env, &["audit", "verify", "--export", "none.jsonl", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["error"]["diagnostics"][0]["code"], "WL820");
}
