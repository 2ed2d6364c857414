use super::*;
use crate::diagnostic::Span;

const SECOND: Micros = 1_000_000;

fn past(before: Option<RunState>, durations: &[Micros]) -> Past {
    Past { before, durations: durations.iter().map(|seconds| seconds * SECOND).collect() }
}

fn names(list: &[Occasion]) -> String {
    list.iter().map(|occasion| occasion.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_happening_is_an_occasion() {
    let check = |happening, past: &Past, want: &str| {
        assert_eq!(names(&occasions(happening, past)), want, "{happening:?} {past:?}");
    };
    let none = Past::default();
    let after = |state| past(Some(state), &[]);
    check(Happening::BrokeGlass, &none, "break_glass");
    check(Happening::Waits, &none, "waiting");
    check(Happening::WentOn, &none, "");
    check(Happening::Missed, &none, "dead_man");
    check(Happening::Began(60 * SECOND), &none, "");
    check(Happening::Began(60 * SECOND + 1), &none, "late");
    check(Happening::Began(-5), &none, "");
    check(Happening::Ended(RunState::Succeeded), &none, "success");
    check(Happening::Ended(RunState::Succeeded), &after(RunState::Succeeded), "success");
    check(Happening::Ended(RunState::Succeeded), &after(RunState::Failed), "recovered success");
    check(Happening::Ended(RunState::Succeeded), &after(RunState::Abandoned), "recovered success");
    check(Happening::Ended(RunState::Failed), &after(RunState::Failed), "failure");
    check(Happening::Ended(RunState::Abandoned), &none, "failure");
    check(Happening::Ended(RunState::Cancelled), &none, "");
}

#[test]
fn slow_is_longer_than_nine_of_ten() {
    let check = |durations: &[Micros], seconds: Micros, want: bool| {
        let found = occasions(Happening::UnderWay(seconds * SECOND), &past(None, durations));
        assert_eq!(found == [Occasion::Slow], want, "{seconds} s after {durations:?}");
    };
    let twenty: Vec<Micros> = (1..=20).collect();
    check(&twenty, 18, false);
    check(&twenty, 19, true);
    check(&twenty, 20, true);
    check(&[5; 20], 5, false);
    check(&[5; 20], 6, true);
    // One of ten took as long.
    check(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 90], 2, true);
    check(&[1, 1, 1, 1, 1, 1, 1, 1, 90, 90], 2, false);
    check(&[1; 9], 100, false);
    check(&[], 100, false);
}

fn rule(to: &[&str], on: &[Occasion]) -> NotifyRule {
    let to = to.iter().map(|name| (*name).to_owned()).collect();
    NotifyRule { to, on: on.to_vec(), span: Span::file("w.hcl") }
}

#[test]
fn rules_say_who_is_told_of_what() {
    let check = |rules: &[NotifyRule], want: &[(&str, &str)]| {
        let found = wanted(rules, &["all-a".into(), "all-b".into()]);
        let found: Vec<(String, String)> =
            found.into_iter().map(|(name, on)| (name, names(&on.into_iter().collect::<Vec<_>>()))).collect();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, on)| (name.as_str(), on.as_str())).collect();
        assert_eq!(found, want);
    };
    check(&[], &[("all-a", "break_glass dead_man"), ("all-b", "break_glass dead_man")]);
    check(&[rule(&["ops"], &[])], &[("ops", "failure waiting recovered break_glass dead_man")]);
    check(
        &[rule(&["ops", "mail"], &[Occasion::Success]), rule(&["ops"], &[Occasion::Late])],
        &[("mail", "success break_glass dead_man"), ("ops", "success late break_glass dead_man")],
    );
}

#[test]
fn whoever_was_told_is_told_what_became_of_it() {
    let check = |happening, on: &[Occasion], told: bool, want: Option<Option<Occasion>>| {
        let wanted = wanted(&[rule(&["ops"], on)], &[]);
        let told: BTreeSet<String> = told.then(|| "ops".to_owned()).into_iter().collect();
        let found = tellings(happening, &past(Some(RunState::Failed), &[]), &wanted, &told);
        assert_eq!(found.into_iter().next().map(|(_, as_what)| as_what), want, "{happening:?} {on:?}");
    };
    let ended = Happening::Ended;
    check(ended(RunState::Succeeded), &[Occasion::Failure], false, None);
    check(ended(RunState::Succeeded), &[Occasion::Failure], true, Some(None));
    check(ended(RunState::Succeeded), &[], false, Some(Some(Occasion::Recovered)));
    check(ended(RunState::Succeeded), &[Occasion::Success], true, Some(Some(Occasion::Success)));
    check(ended(RunState::Cancelled), &[], true, Some(None));
    check(ended(RunState::Cancelled), &[], false, None);
    check(Happening::Waits, &[], false, Some(Some(Occasion::Waiting)));
    check(Happening::Waits, &[Occasion::Failure], false, None);
    check(Happening::WentOn, &[], true, Some(None));
    check(Happening::WentOn, &[], false, None);
    check(Happening::UnderWay(1), &[Occasion::Slow], true, None);
    check(Happening::BrokeGlass, &[Occasion::Success], false, Some(Some(Occasion::BreakGlass)));
}

fn notice(text: &str) -> Notice {
    let (occasion, state) = match text {
        "goes-on" => (None, RunState::Running),
        "end" => (None, RunState::Succeeded),
        "failure" => (Some(Occasion::Failure), RunState::Failed),
        "waiting" => (Some(Occasion::Waiting), RunState::Waiting),
        "break_glass" => (Some(Occasion::BreakGlass), RunState::Queued),
        _ => (Occasion::parse(text), RunState::Running),
    };
    Notice {
        occasion,
        state: Some(state),
        project: "shop".into(),
        operation: None,
        run: None,
        title: text.into(),
        text: String::new(),
        facts: vec![],
        links: vec![],
        at: 0,
    }
}

#[test]
fn old_news_are_left_out() {
    let check = |manner, told, queue: &str, want: &str| {
        let queue: Vec<Notice> = queue.split(' ').map(notice).collect();
        let worth = worth(manner, told, &queue);
        let sent = queue.iter().zip(worth).filter(|(_, worth)| *worth).map(|(notice, _)| notice.title.as_str());
        assert_eq!(sent.collect::<Vec<_>>().join(" "), want, "{manner:?} {told}");
    };
    use Manner::{Apart, Every, InPlace};
    check(Every, false, "waiting goes-on end", "waiting goes-on end");
    check(InPlace, false, "waiting", "waiting");
    check(InPlace, true, "waiting goes-on end", "end");
    check(InPlace, true, "goes-on", "goes-on");
    // Nobody has heard of it and nobody has to.
    check(InPlace, false, "waiting goes-on end", "");
    check(InPlace, false, "slow end", "");
    check(InPlace, false, "break_glass end", "end");
    check(InPlace, false, "waiting goes-on failure", "failure");
    check(Apart, false, "waiting", "waiting");
    check(Apart, true, "waiting", "waiting");
    check(Apart, true, "goes-on", "");
    check(Apart, true, "end", "end");
    check(Apart, false, "waiting goes-on end", "");
    check(Apart, true, "waiting goes-on end", "end");
    check(Apart, false, "slow", "slow");
    check(Apart, true, "slow", "");
    check(Apart, false, "late waiting", "late waiting");
    check(Apart, false, "late end", "late end");
    check(Apart, true, "late", "");
    check(InPlace, false, "late end", "end");
    check(Apart, false, "break_glass waiting goes-on end", "break_glass end");
    check(Apart, false, "break_glass waiting failure", "break_glass failure");
}

#[test]
fn programs_are_told_by_kind() {
    let check = |text: &str, want: &str| assert_eq!(notice(text).kind(), want);
    check("goes-on", "run.running");
    check("end", "run.succeeded");
    check("failure", "run.failed");
    check("recovered", "run.running");
    check("waiting", "run.waiting");
    check("slow", "run.slow");
    check("break_glass", "run.break_glass");
    check("dead_man", "operation.dead_man");
    assert_eq!(Notice { occasion: None, state: None, ..notice("end") }.kind(), "message");
}
