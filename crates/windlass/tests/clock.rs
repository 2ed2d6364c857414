//! The real program on a machine whose clock is set while it works.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod common;

use common::place::Place;
use common::wait;
use std::path::Path;

/// Where Debian puts what shows a program another time.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

#[test]
fn a_clock_that_is_set_loses_nothing_and_does_nothing_twice() {
    if !Path::new(FAKETIME).exists() {
        eprintln!("faketime is not installed: left out");
        return;
    }
    // It goes on when it has been told to, or after a minute.
    let place = Place::new(
        "resource \"terraform_data\" \"net\" {\n  provisioner \"local-exec\" {\n    \
         command = \"echo x >> $HOME/made; timeout 60 sh -c 'until [ -e $HOME/go ]; do sleep 0.02; done'\"\n  }\n}\n",
    );
    let (home, clock) = (place.env.home().to_owned(), place.env.home().join("clock"));
    let set = |offset: &str| {
        let draft = home.join("clock.draft");
        std::fs::write(&draft, offset).unwrap();
        std::fs::rename(draft, &clock).unwrap();
    };
    set("+0");
    let (mut server, url) = place.serve(&[
        ("LD_PRELOAD", FAKETIME),
        ("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        // Many leases end within the test.
        ("WINDLASS_LEASE", "2"),
    ]);
    let (review, _) = place.review(&url);
    let (seen, _) = place.ask("GET", &format!("{url}/api/v1/reviews/{review}?format=json"), None, "");
    let seen = serde_json::json!({ "commit": seen["head"]["commit"], "effect": seen["effect_digest"] }).to_string();
    let (made, _) = place.ask("POST", &format!("{url}/api/v1/reviews/{review}/apply"), Some(&seen), "");
    let apply = made["run"].as_str().unwrap().to_owned();
    wait(|| home.join("made").exists().then_some(()));
    let created = |run: &str| {
        let (answer, _) = place.ask("GET", &format!("{url}/api/v1/runs/{run}"), None, "");
        answer["run"]["created_at"].as_i64().unwrap()
    };
    let begun = || {
        let reviews = format!("{url}/api/v1/projects/repo/reviews");
        let run = place.ask("POST", &reviews, Some(r#"{"all":true}"#), "").0["run"].as_str().unwrap().to_owned();
        wait(|| {
            let (answer, _) = place.ask("GET", &format!("{url}/api/v1/runs/{run}"), None, "");
            (answer["run"]["state"] != "queued").then_some(())
        });
        run
    };
    let before = created(&apply);
    set("+1d");
    let tomorrow = begun();
    assert!(created(&tomorrow) - before > 86_000_000_000, "the clock was not set");
    set("-1h");
    let earlier = begun();
    assert!(created(&earlier) - before < -3_000_000_000, "the clock was not set");
    std::fs::write(home.join("go"), "").unwrap();
    for run in [&apply, &tomorrow, &earlier] {
        place.ended(&url, run);
    }
    assert_eq!(std::fs::read_to_string(home.join("made")).unwrap(), "x\n", "applied once");
    let (runs, _) = place.ask("GET", &format!("{url}/api/v1/projects/repo/runs"), None, "");
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(4), "{runs}");
    server.signal("-TERM");
    assert_eq!(server.code(), Some(0), "{}", server.all());
}
