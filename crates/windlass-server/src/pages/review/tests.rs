use super::*;
use crate::pages::Section;
use crate::pages::parts::check;

#[track_caller]
fn check(review: &Review, there: &[&str], absent: &[&str]) {
    let html = render(&Frame::sample(Section::Reviews), review);
    check::page(&html);
    for wanted in there {
        assert!(html.contains(wanted), "{wanted} is not in {html}");
    }
    for unwanted in absent {
        assert!(!html.contains(unwanted), "{unwanted} is in {html}");
    }
}

#[test]
fn each_state_shows_what_can_be_done() {
    let action = |what: &str| format!("action=\"/reviews/01k9zzzzzzzzzzzzzzzzzzzzzz/{what}\"");
    let (approve, refuse, apply, waive) = (action("approve"), action("refuse"), action("apply"), action("waive"));
    let digest = Review::sample().document.effect_digest;
    check(
        &Review::sample(),
        &[
            "class=\"wl-review\"",
            &approve,
            &refuse,
            &format!("name=\"effect\" value=\"{digest}\""),
            "asks for 2 approvals from team data, has 1",
            "It does not count: it was given for commit 3f3f3f3f3f3f",
            "<strong>Applying</strong> is not possible: 1 approval is missing",
            "/reviews/01k8zzzzzzzzzzzzzzzzzzzzzz",
        ],
        &[&apply, &waive, "review-live-title"],
    );
    check(
        &Review::sample_denied(),
        &[
            &waive,
            "value=\"1a2b3c4d\"",
            "max=\"30\" value=\"7\"",
            "only team security may waive",
            "is not possible: a policy denies it",
        ],
        &[&approve, "value=\"5e6f7a8b\""],
    );
    check(
        &Review::sample_approved(),
        &[&apply, "All that were asked for are given", "name=\"confirm\" value=\"aws/old[osaka]\" required"],
        &[&approve],
    );
    check(
        &Review::sample_refused(),
        &["refused it</strong>", "in business hours", "failed at plan"],
        &[&approve, &refuse, &apply],
    );
    check(
        &Review::sample_applying(),
        &[
            "<progress max=\"8\" value=\"3\" aria-label=\"aws/app\">",
            "3 of 8 · creating aws_instance.app",
            "data-countdown=\"1763715725000000\"",
            "in 12 min",
            ">hold</span> shop answers",
            "and 40 instances more",
            "<h1>Applying: 3 of 9 instances</h1>",
            "and 7 waves more",
            "/runs/01k9a#run-deeds",
            "action=\"/runs/01k9a/halt\"",
            "action=\"/runs/01k9a/resume\"",
            "<strong>Rolling back</strong> is not possible",
        ],
        &[&approve, "action=\"/runs/01k9a/rollback\""],
    );
}

#[test]
fn a_bar_is_never_more_than_full_or_out_of_nothing() {
    let bar = |state, done, total| Bar {
        instance: "a".into(),
        state,
        done,
        total,
        current: None,
        reason: None,
        href: "/".into(),
    };
    #[track_caller]
    fn check(bar: &Bar, max: u32, value: u32) {
        assert_eq!((bar.total_or_one(), bar.done_shown()), (max, value));
    }
    check(&bar(BarState::Waiting, 0, 0), 1, 0);
    check(&bar(BarState::Done, 0, 0), 1, 1);
    check(&bar(BarState::Running, 9, 8), 8, 8);
    check(&bar(BarState::Done, 7, 8), 8, 8);
}

#[test]
fn hostile_values_stay_text() {
    let hostile = || check::HOSTILE.to_owned();
    let mut review = Review { live: Review::sample_applying().live, ..Review::sample_denied() };
    review.id = hostile();
    (review.authors, review.missing, review.state) = (hostile(), vec![hostile()], hostile());
    review.document.head.name = hostile();
    review.document.project = hostile();
    review.document.stacks[0].resources[0].address = hostile();
    (review.approvals, review.earlier[0].commit) = (Review::sample().approvals, hostile());
    (review.approvals[0].who, review.approvals[0].reason) = (hostile(), Some(hostile()));
    review.refused = Some(Refusal { who: hostile(), at: review.made.clone(), reason: hostile() });
    (review.waivable[0].message, review.waivable[0].instance) = (hostile(), Some(hostile()));
    let live = review.live.as_mut().unwrap();
    (live.run, live.waits, live.waves[0].name) = (hostile(), Some(hostile()), hostile());
    (live.waves[1].bars[0].instance, live.waves[1].bars[0].current) = (hostile(), Some(hostile()));
    (live.waves[0].gates[0].title, live.waves[0].gates[0].told) = (hostile(), Some(hostile()));
    check::inert(&render(&Frame::sample(Section::Reviews), &review));
}
