#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::diagnostic::Span;
use crate::operation::MaintenanceWindow;
use crate::operation::trigger::{Freeze, Missed, ScheduleDefinition};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

const MINUTE: Micros = 60_000_000;
const HOUR: Micros = 60 * MINUTE;

fn at(text: &str) -> Micros {
    text.parse::<Timestamp>().unwrap().as_microsecond()
}

fn text(at: Micros) -> String {
    Timestamp::from_microsecond(at).unwrap().to_string()
}

/// The times after `from`, as many as are expected.
fn check(cron: &str, zone: &str, from: &str, want: &[&str]) {
    let times = Times::parse(cron, zone).unwrap();
    let found: Vec<String> = times.upcoming(at(from), want.len()).into_iter().map(text).collect();
    assert_eq!(found, want, "{cron} in {zone}");
}

#[test]
fn times_follow_the_clock_on_the_wall_as_in_vixies_cron() {
    // 2026-03-29T01:00Z: 02:00 becomes 03:00.
    let night = "2026-03-28T00:00:00Z";
    let skipped = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
    check("30 2 * * *", "Europe/Berlin", night, &skipped);
    // What is skipped and what is due at its end are one.
    let both = ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z", "2026-03-30T00:10:00Z", "2026-03-30T01:00:00Z"];
    check(
        "0,10 2,3 * * *",
        "Europe/Berlin",
        "2026-03-28T02:10:00Z",
        &[&both[..1], &["2026-03-29T01:10:00Z"], &both[1..]].concat(),
    );
    let shown = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
    check("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &shown);
    check("*/30 2 * * *", "Europe/Berlin", "2026-03-28T02:00:00Z", &["2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"]);
    // 2026-10-25T01:00Z: 03:00 becomes 02:00.
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    // Asked in the hour that comes again.
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", &["2026-10-26T01:30:00Z"]);
    let twice = ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:00:00Z"];
    check("*/30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", &twice);
    // Half an hour, and a gap at midnight.
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"],
    );
    check("0 0 * * *", "America/Santiago", "2026-09-05T05:00:00Z", &["2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"]);
    check("*/20 30 9 * * *", "UTC", "2026-01-01T00:00:00.5Z", &["2026-01-01T09:30:00Z", "2026-01-01T09:30:20Z"]);
    check("0 9 * * *", "Asia/Tokyo", "2026-01-01T00:00:00Z", &["2026-01-02T00:00:00Z"]);
    check("0 9 * * *", "Asia/Tokyo", "2025-12-31T23:59:59.999999Z", &["2026-01-01T00:00:00Z"]);
    check("@daily", "UTC", "2026-02-28T00:00:00Z", &["2026-03-01T00:00:00Z"]);
    check("0 0 15W * *", "UTC", "2026-02-01T00:00:00Z", &["2026-02-16T00:00:00Z"]);
    check("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
}

#[test]
fn ten_zones_over_five_years_are_as_in_another_implementation() {
    let (from, to) = (at("2021-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z"));
    let (mut zones, mut wrong) = (BTreeSet::new(), Vec::new());
    for line in include_str!("reference.tsv").lines() {
        let [zone, cron, count, digest] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        zones.insert(zone);
        let due: Vec<String> = Times::parse(cron, zone)
            .unwrap()
            .due_between(from, to)
            .map(|due| format!("{}\n", due / 1_000_000))
            .collect();
        let found: String = Sha256::digest(due.concat()).iter().map(|byte| format!("{byte:02x}")).collect();
        if (due.len().to_string().as_str(), found.as_str()) != (count, digest) {
            wrong.push(format!("{zone} {cron}: {} instead of {count}", due.len()));
        }
    }
    assert_eq!(zones.len(), 10);
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn what_is_wrong_is_named() {
    let check = |cron: &str, zone: &str, want: &str| {
        let error = Times::parse(cron, zone).unwrap_err().to_string();
        assert!(error.starts_with(want), "{cron}: {error}");
    };
    check("61 * * * *", "UTC", "`61` is no minute: it may be 0-59");
    check("0 24 * * *", "UTC", "`24` is no hour: it may be 0-23");
    check("0 0 * FOO *", "UTC", "`FOO` is no month: it may be 1-12 or JAN-DEC");
    check("0 0 * * 5#6", "UTC", "`5#6` is no day of the week");
    check("0 0 ? * MON", "UTC", "`?` is no day of the month");
    check("*/0 * * * *", "UTC", "`*/0` is no minute");
    check("5-1 * * * *", "UTC", "`5-1` is no minute");
    check("0 0 * *", "UTC", "`0 0 * *` has 4 fields");
    check("0 0 0 1 1 * 2026", "UTC", "`0 0 0 1 1 * 2026` has 7 fields");
    check("", "UTC", "`` has 0 fields");
    check("0 0 30 2 *", "UTC", "`0 0 30 2 *` is never due");
    check("0 0 * * *", "Asia/Tokio", "there is no time zone `Asia/Tokio`");
    assert!(zone_names().any(|name| name == "Asia/Tokyo"));
}

fn schedule(missed: Missed, within: Micros, jitter: Micros) -> ScheduleDefinition {
    ScheduleDefinition {
        name: "default".into(),
        cron: String::new(),
        timezone: "UTC".into(),
        missed,
        within,
        jitter,
        arguments: BTreeMap::new(),
        enabled: true,
        span: Span::file("windlass.hcl"),
    }
}

fn freeze(environments: &[&str], from: &str, to: &str) -> Freeze {
    Freeze {
        name: "f".into(),
        environments: environments.iter().map(|name| (*name).to_owned()).collect(),
        from: at(from),
        to: at(to),
        reason: "r".into(),
        span: Span::file("windlass.hcl"),
    }
}

#[test]
fn missed_times_are_made_up_for_as_was_said() {
    // Every hour, seen until 00:00.
    let check =
        |missed, within, freezes: &[Freeze], now: &str, start: &[&str], passed: u64, frozen: u64, next: &str| {
            let times = Times::parse("0 * * * *", "UTC").unwrap();
            let schedule = schedule(missed, within, 0);
            let environment = Some("production");
            let look = Look { project: "p", operation: "o", schedule: &schedule, times: &times, freezes, environment };
            let decision = decide(look, at("2026-01-01T00:00:00Z"), at(now));
            let started: Vec<String> = decision.start.iter().map(|due| text(*due)[11..16].to_owned()).collect();
            let count = |some: Option<(u64, Micros, Micros)>| some.map_or(0, |(count, ..)| count);
            let next_found = text(decision.next.unwrap());
            let found = (started, count(decision.passed), count(decision.frozen), &next_found[11..16]);
            let start: Vec<String> = start.iter().map(|due| (*due).to_owned()).collect();
            assert_eq!(found, (start, passed, frozen, next), "{missed:?} at {now}");
        };
    use Missed::{All, Latest, Skip};
    let day = 24 * HOUR;
    for missed in [Skip, Latest, All] {
        check(missed, day, &[], "2026-01-01T00:59:59Z", &[], 0, 0, "01:00");
        check(missed, day, &[], "2026-01-01T01:00:00Z", &["01:00"], 0, 0, "02:00");
        check(missed, day, &[], "2026-01-01T01:01:00Z", &["01:00"], 0, 0, "02:00");
    }
    check(Skip, day, &[], "2026-01-01T03:30:00Z", &[], 3, 0, "04:00");
    check(Skip, day, &[], "2026-01-01T03:00:01Z", &["03:00"], 2, 0, "04:00");
    check(Latest, day, &[], "2026-01-01T03:30:00Z", &["03:00"], 2, 0, "04:00");
    check(All, day, &[], "2026-01-01T03:30:00Z", &["01:00", "02:00", "03:00"], 0, 0, "04:00");
    check(All, 2 * HOUR, &[], "2026-01-01T05:30:00Z", &["04:00", "05:00"], 0, 0, "06:00");
    check(Latest, HOUR / 4, &[], "2026-01-01T03:30:00Z", &[], 0, 0, "04:00");
    // From 00:30 to 04:30 nothing begins there.
    let frozen = [freeze(&["production"], "2026-01-01T00:30:00Z", "2026-01-01T04:30:00Z")];
    check(Skip, day, &frozen, "2026-01-01T02:00:00Z", &[], 0, 2, "03:00");
    check(Latest, day, &frozen, "2026-01-01T02:00:00Z", &[], 0, 0, "04:30");
    check(Latest, day, &frozen, "2026-01-01T04:30:00Z", &["04:00"], 3, 4, "05:00");
    // The time of the freeze does not count.
    check(Latest, 5 * MINUTE, &frozen, "2026-01-01T04:30:00Z", &["04:00"], 3, 4, "05:00");
    check(All, 5 * MINUTE, &frozen, "2026-01-01T04:34:00Z", &["01:00", "02:00", "03:00", "04:00"], 0, 4, "05:00");
    check(Latest, 5 * MINUTE, &frozen, "2026-01-01T04:36:00Z", &[], 4, 4, "05:00");
    let elsewhere = [freeze(&["staging"], "2026-01-01T00:30:00Z", "2026-01-01T04:30:00Z")];
    check(Latest, day, &elsewhere, "2026-01-01T01:00:00Z", &["01:00"], 0, 0, "02:00");
}

#[test]
fn what_comes_every_second_is_not_lost_by_a_slow_look() {
    let times = Times::parse("* * * * * *", "UTC").unwrap();
    let schedule = schedule(Missed::Latest, HOUR, 0);
    let look =
        Look { project: "p", operation: "o", schedule: &schedule, times: &times, freezes: &[], environment: None };
    let seen = at("2026-01-01T00:00:00Z");
    assert_eq!(decide(look, seen, seen + 3_500_000).start.len(), 3);
    // A minute counts as missed, of which the newest is made up for where nothing newer came.
    let decision = decide(look, seen, seen + 10 * MINUTE);
    assert_eq!((decision.start.len(), decision.passed.unwrap().0), (61, 539));
}

#[test]
fn windows_open_on_their_days() {
    let window = |days: &[u8], from: u16, to: u16| MaintenanceWindow {
        days: days.to_vec(),
        from: from * 60,
        to: to * 60,
        zone: "Asia/Tokyo".into(),
    };
    let check = |window: &MaintenanceWindow, now: &str, open: bool, next: Option<&str>| {
        assert_eq!(window.is_open(at(now)).unwrap(), open, "{now}");
        assert_eq!(window.next_opening(at(now)).unwrap().map(text).as_deref(), next, "{now}");
    };
    // Monday and Tuesday nights, 22:00 to 02:00 in Tokyo, 13:00Z to 17:00Z; 2026-01-05 is a Monday.
    let night = window(&[1, 2], 22, 2);
    check(&night, "2026-01-05T12:59:59Z", false, Some("2026-01-05T13:00:00Z"));
    check(&night, "2026-01-05T13:00:00Z", true, Some("2026-01-05T13:00:00Z"));
    check(&night, "2026-01-05T16:59:59Z", true, Some("2026-01-05T16:59:59Z"));
    check(&night, "2026-01-05T17:00:00Z", false, Some("2026-01-06T13:00:00Z"));
    check(&night, "2026-01-06T17:00:00Z", false, Some("2026-01-12T13:00:00Z"));
    check(&window(&[6], 0, 0), "2026-01-10T14:59:59Z", true, Some("2026-01-10T14:59:59Z"));
    check(&window(&[6], 0, 0), "2026-01-10T15:00:00Z", false, Some("2026-01-16T15:00:00Z"));
    check(&window(&[6], 8, 24), "2026-01-10T14:59:59Z", true, Some("2026-01-10T14:59:59Z"));
    check(&window(&[6], 8, 24), "2026-01-10T15:00:00Z", false, Some("2026-01-16T23:00:00Z"));
    check(&window(&[], 0, 0), "2026-01-10T15:00:00Z", false, None);
    assert!(MaintenanceWindow { zone: "Nowhere".into(), ..night }.check().is_err());
}

#[test]
fn freezes_end_when_the_last_of_them_does() {
    let freezes = [
        freeze(&[], "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"),
        freeze(&["production"], "2026-01-01T01:00:00Z", "2026-01-01T03:00:00Z"),
    ];
    let check = |environment: Option<&str>, now: &str, want: &str| {
        assert_eq!(text(thaw(&freezes, environment, at(now))), want, "{environment:?} at {now}");
    };
    check(None, "2026-01-01T00:30:00Z", "2026-01-01T02:00:00Z");
    check(None, "2026-01-01T02:00:00Z", "2026-01-01T02:00:00Z");
    check(Some("production"), "2026-01-01T00:30:00Z", "2026-01-01T03:00:00Z");
    check(Some("staging"), "2025-12-31T23:59:59Z", "2025-12-31T23:59:59Z");
}

#[test]
fn jitter_spreads_and_is_always_the_same() {
    let of = |operation: &str, due| jitter("p", operation, "default", due, 5 * MINUTE);
    assert_eq!(of("a", 0), of("a", 0));
    assert_eq!(jitter("p", "a", "default", 0, 0), 0);
    let spread: BTreeSet<Micros> = (0..100).map(|n| of("a", n * HOUR)).collect();
    assert!(spread.len() > 90 && spread.iter().all(|jitter| (0..=5 * MINUTE).contains(jitter)));
    let low = spread.iter().filter(|jitter| **jitter < 5 * MINUTE / 2).count();
    assert!((25..75).contains(&low), "{low}");
}

fn patterns() -> impl Strategy<Value = (String, &'static str)> {
    let part = prop_oneof![
        Just("*".to_owned()),
        (0u8..24).prop_map(|n| n.to_string()),
        (1u8..23).prop_map(|n| format!("*/{n}"))
    ];
    let zone = prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Antarctica/Troll",
    ]);
    ((part.clone(), part, prop::sample::select(vec!["*", "1-5", "0", "5#2"])), zone)
        .prop_map(|((minute, hour, day), zone)| (format!("{minute} {hour} * * {day}"), zone))
}

proptest! {
    #[test]
    fn times_grow_and_do_not_depend_on_where_one_begins((cron, zone) in patterns(), from in 1_600_000_000i64..1_900_000_000, step in 0i64..40 * 86_400) {
        let (from, step) = (from * 1_000_000, step * 1_000_000);
        let times = Times::parse(&cron, zone).unwrap();
        let all: Vec<Micros> = times.due_between(from, from + 2 * step).collect();
        prop_assert!(all.windows(2).all(|two| two[0] < two[1]));
        prop_assert!(all.iter().all(|due| *due > from && due % 1_000_000 == 0));
        let parts: Vec<Micros> = times.due_between(from, from + step).chain(times.due_between(from + step, from + 2 * step)).collect();
        prop_assert_eq!(all, parts);
    }

    /// However often somebody looks, and whatever the jitter is, each time that is not too old starts once.
    #[test]
    fn looks_start_everything_once((cron, zone) in patterns(), from in 1_600_000_000i64..1_900_000_000, pauses in prop::collection::vec(1i64..20_000, 1..30), jitter in 0i64..7_200) {
        let from = from * 1_000_000;
        let times = Times::parse(&cron, zone).unwrap();
        let schedule = schedule(Missed::All, 1000 * HOUR, jitter * 1_000_000);
        let look = Look { project: "p", operation: "o", schedule: &schedule, times: &times, freezes: &[], environment: None };
        let (mut seen, mut now, mut started) = (from, from, Vec::new());
        for pause in pauses {
            now += pause * 1_000_000;
            let decision = decide(look, seen, now);
            prop_assert!(decision.next.is_none_or(|next| next > now));
            prop_assert!(decision.start.iter().all(|due| look.begins(*due) <= now));
            seen = decision.seen;
            started.extend(decision.start);
        }
        let last = started.last().copied().unwrap_or(from);
        prop_assert_eq!(started, times.due_between(from, last).collect::<Vec<_>>());
        prop_assert!(times.next_after(last).is_none_or(|due| look.begins(due) > now));
    }
}
