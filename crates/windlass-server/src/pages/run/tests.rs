use super::*;
use crate::pages::Section;
use crate::pages::parts::check;

fn page(run: &Run) -> String {
    let html = render(&Frame::sample(Section::Runs), run);
    check::page(&html);
    html
}

#[track_caller]
fn check(run: &Run, there: &[&str], absent: &[&str]) {
    let html = page(run);
    for wanted in there {
        assert!(html.contains(wanted), "{wanted} is not in {html}");
    }
    for unwanted in absent {
        assert!(!html.contains(unwanted), "{unwanted} is in {html}");
    }
}

#[test]
fn each_state_shows_what_can_be_done() {
    let cancel = "action=\"/runs/01k9zzzzzzzzzzzzzzzzzzzzzz/cancel\"";
    let (waiting, settle) = ("Why is it waiting?", "/settle\"");
    check(
        &Run::sample(),
        &[cancel, "class=\"gantt\"", "class=\"steps-graph\"", "class=\"now\"", "3 min 1 s by now", "data-log"],
        &[waiting, settle, "Run it again", "Resume"],
    );
    check(&Run::sample_waiting(), &[waiting, "Approve this effect", &"e".repeat(64), cancel], &[settle]);
    check(
        &Run::sample_unknown(),
        &[
            settle,
            "value=\"repeat\"",
            "the lock of the state is held",
            "<strong>Settling it</strong> is not possible",
            "only team queues may settle",
            "<strong>Approving</strong> is not possible: you are the author",
            "<strong>Cancelling</strong> is not possible: a step is being settled",
        ],
        &[cancel, "Approve this effect"],
    );
    check(
        &Run::sample_failed(),
        &["Why it failed:", "WL503", "/rerun\"", "<strong>Resuming</strong> is not possible: it has ended"],
        &[cancel, waiting, "class=\"now\""],
    );
    check(
        &Run::sample_empty(),
        &["there was nothing to do", "No step has written anything"],
        &["class=\"gantt\"", "data-bytes"],
    );
}

#[test]
fn a_run_of_an_operation_says_what_of_and_asks() {
    let run = Run::sample_of_operation();
    check(
        &run,
        &[
            "The glass was broken",
            "the schedule nightly",
            "OPS-12",
            "a secret",
            "value=\"refuse\"",
            "it asks team sre",
            "Taken back",
            "Afterwards",
            "10000 steps",
            "9990 succeeded",
            "Support was <em>told</em>",
            "name=\"value\" value=\"done\"",
            "<code>restore-store</code>",
            "repeats=01k9zzzzzzzzzzzzzzzzzzzzzz",
            "/runs/01k9x1/compare/01k9zzzzzzzzzzzzzzzzzzzzzz",
            "<a href=\"/api/v1/runs/01k9zzzzzzzzzzzzzzzzzzzzzz/artefacts/f1\" download>out/dump.sql</a>",
            "rowspan=\"2\" class=\"mono\">dump<",
            "attempt 2",
            "files are kept for 1 day",
            "href=\"/runs/01k?artefacts=f1\" rel=\"next\"",
        ],
        &["download>told.txt<"],
    );
    let mut closed = operation::Operation::sample();
    closed.artefacts.closed = Some("you have no permission artefact.read".into());
    let closed = Run { operation: Some(closed), ..Run::sample() };
    check(&closed, &["Downloading</strong> them is not possible: you have no", "out/dump.sql"], &["/artefacts/f1"]);
    let each =
        Each { id: "y".into(), title: "member".into(), links: vec![("all".into(), "/runs/x?each=y".into(), true)] };
    check(&Run { each: Some(each), ..run }, &["Steps of member", "aria-current=\"page\""], &[]);
    let mut hostile = operation::Operation::sample();
    let text = crate::pages::parts::check::HOSTILE;
    (hostile.name, hostile.origin, hostile.reason) = (text.into(), text.into(), text.into());
    hostile.parameters = vec![(text.into(), text.into())];
    for ask in &mut hostile.asks {
        (ask.title, ask.told, ask.choices) = (text.into(), text.into(), vec![(text.into(), text.into())]);
    }
    for item in hostile.checklist.iter_mut().flat_map(|list| &mut list.phases).flat_map(|(_, items)| items) {
        (item.text, item.told) = (text.into(), text.into());
    }
    for file in &mut hostile.artefacts.rows {
        (file.step, file.name, file.removed) = (text.into(), text.into(), Some(text.into()));
    }
    crate::pages::parts::check::inert(&render(
        &Frame::sample(Section::Runs),
        &Run { operation: Some(hostile), ..Run::sample() },
    ));
}

#[test]
fn time_that_was_waited_is_apart_from_work() {
    let run = Run::sample();
    assert_eq!((run.steps[0].waited(run.now), run.steps[0].worked(run.now)), ("15 s".into(), "45 s".into()));
    assert_eq!((run.steps[3].waited(run.now), run.steps[3].worked(run.now)), ("20 s".into(), "–".into()));
    assert_eq!((run.steps[5].waited(run.now), run.steps[5].worked(run.now)), ("–".into(), "15 s".into()));
}

#[test]
fn a_step_is_found_by_its_link() {
    let html = page(&Run::sample());
    let link = anchor("apply:aws/db[tokyo]");
    assert_eq!(link, "#step-apply%3Aaws%2Fdb%5Btokyo%5D");
    assert!(html.contains("class=\"node  pending\"") && html.contains(&format!("href=\"{link}\"")));
    assert!(html.contains(&format!("<tr id=\"{}\"", &link[1..])), "the row has the id that the link names");
    let mut run = Run::sample();
    run.steps[0].id = "plan:a-b_c.d~e/ü[x y]!*'()".into();
    let link = anchor(&run.steps[0].id);
    assert_eq!(link, "#step-plan%3Aa-b_c.d~e%2F%C3%BC%5Bx%20y%5D%21%2A%27%28%29", "as in log.test.js");
    let html = page(&run);
    assert_eq!((html.matches(&format!("id=\"{}\"", &link[1..])).count(), html.matches(&link).count()), (1, 2));
}

#[test]
fn a_run_of_many_steps_shows_one_page_of_them() {
    let mut run = Run::sample();
    let step = run.steps[0].clone();
    run.steps = (0..500).map(|n| Step { id: format!("plan:s{n}"), ..step.clone() }).collect();
    run.total = 30_000;
    run.paging.next = Some("/runs/x?after=plan:s499".into());
    check(&run, &["500 of 30000 steps", "rel=\"next\"", "The first 200 of these steps are drawn"], &["steps-graph"]);
    assert!(page(&run).len() < 1_500_000, "{}", page(&run).len());
}

#[test]
fn hostile_values_stay_text() {
    let mut run = Run::sample_unknown();
    let hostile = || check::HOSTILE.to_owned();
    (run.id, run.project, run.kind, run.title) = (hostile(), hostile(), hostile(), hostile());
    (run.actor, run.why, run.waits, run.reason) = (hostile(), hostile(), Some(hostile()), Some(hostile()));
    for (number, step) in run.steps.iter_mut().enumerate() {
        step.id = format!("{number}{}", check::HOSTILE);
        (step.title, step.reason, step.code, step.after) =
            (hostile(), Some(hostile()), Some(hostile()), vec![format!("0{}", check::HOSTILE)]);
    }
    for step in &mut run.log.steps {
        (step.id, step.title) = (hostile(), hostile());
    }
    run.log.chosen = Some(hostile());
    run.changes[0].differences = vec![hostile()];
    run.changes[0].instance = hostile();
    (run.unknown[0].step, run.unknown[0].known, run.unknown[0].title) = (hostile(), vec![hostile()], hostile());
    run.links[0].text = hostile();
    check::inert(&render(&Frame::sample(Section::Runs), &run));
}
