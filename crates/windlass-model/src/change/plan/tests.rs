//! What is done next, as tables: from what is so to what follows.

use super::super::Head;
use super::super::settings::Forks;
use super::*;

const MINUTE: Micros = 60_000_000;
const NOW: Micros = 100 * MINUTE;

fn person(login: &str) -> Person {
    Person { id: login.into(), login: login.into() }
}

fn seen() -> Seen {
    let head = Head { branch: "topic".into(), commit: "c1".into(), fork: None, reference: None };
    let change = Change {
        number: 7,
        title: "More".into(),
        url: "https://forge.example/7".into(),
        author: person("dev"),
        state: ChangeState::Open,
        draft: false,
        head,
        base: "main".into(),
        merged_as: None,
        labels: vec![],
        updated_at: NOW,
    };
    Seen { change, comments: vec![], reviews: vec![], me: person("windlass"), now: NOW }
}

fn pushed(commit: &str) -> Seen {
    let mut seen = seen();
    seen.change.head.commit = commit.into();
    seen
}

fn in_state(state: ChangeState) -> Seen {
    let mut seen = seen();
    seen.change.state = state;
    seen.change.merged_as = (state == ChangeState::Merged).then(|| "m1".into());
    seen
}

fn says(text: &str) -> Seen {
    at(seen(), text, NOW)
}

fn at(mut seen: Seen, text: &str, at: Micros) -> Seen {
    let id = format!("k{}", seen.comments.len() + 1);
    let comment = Comment { id, author: person("ops"), body: text.into(), created_at: at, updated_at: at };
    seen.comments.push(comment);
    seen
}

fn reviewed_by(login: &str, opinion: Opinion, commit: &str, at: Micros) -> ForgeReview {
    ForgeReview { person: person(login), opinion, commit: Some(commit.into()), at }
}

fn reviewed(run: &str, of: Of, commit: &str) -> Reviewed {
    Reviewed {
        run: RunId::new(run),
        of,
        commit: commit.into(),
        base: "b1".into(),
        only: vec![],
        by: None,
        comment: None,
        stage: Stage::Made,
        carried: true,
    }
}

fn applied(of: Of, commit: &str) -> Applied {
    let (run, review) = (RunId::new("a1"), RunId::new("r1"));
    Applied { run, review, of, commit: commit.into(), whole: true, by: None, comment: None }
}

/// Looked at before, with a review of its head whose effect the comment shows since minute 50.
fn known() -> Known {
    let shown = Shown { commit: "c1".into(), effect: "e1".into(), policy: "p1".into(), at: 50 * MINUTE };
    Known { since: MINUTE, review: Some(reviewed("r1", Of::Head, "c1")), shown: vec![shown], ..Known::default() }
}

fn row() -> Row {
    Row {
        stand: Stand::Open,
        verdict: Verdict::Ready,
        commit: "c1".into(),
        effect: "e1".into(),
        policy: "p1".into(),
        missing: vec![],
        when: ApplyWhen::BeforeMerge,
        instances: vec![InstanceId::new("aws/db"), InstanceId::new("aws/net[tokyo]")],
        destroys: false,
        environments: vec![],
    }
}

fn with(row: Row) -> Record {
    let review = Some(ReviewNow { run: RunState::Succeeded, row: Some(row) });
    Record { review, base: "b1".into(), followed: true, ..Record::default() }
}

fn record() -> Record {
    with(row())
}

fn planning() -> Record {
    Record { review: Some(ReviewNow { run: RunState::Running, row: None }), ..record() }
}

fn applying(state: RunState) -> Record {
    Record { apply: Some(state), ..with(Row { stand: Stand::Applying, ..row() }) }
}

/// In a few words.
fn words(act: &Act) -> String {
    let by =
        |asked: &Option<Asked>| asked.as_ref().map_or(String::new(), |asked| format!(" for {}", asked.person.login));
    match act {
        Act::Review { of, commit, only, asked } => {
            let only = if only.is_empty() { String::new() } else { format!(" only {}", only.join(" ")) };
            format!("review {of:?} {commit}{only}{}", by(asked))
        }
        Act::Allow { commit, asked } => format!("allow {commit} for {}", asked.person.login),
        Act::Cancel { run, why, kill, asked } => {
            format!("{} {run}: {why}{}", if *kill { "kill" } else { "cancel" }, by(asked))
        }
        Act::Approve { run, by: By::Command(asked), .. } => format!("approve {run} for {}", asked.person.login),
        Act::Approve { run, by: By::Review(review), .. } => format!("approve {run} by {}", review.person.login),
        Act::Withdraw { given } => format!("withdraw {} by {}", given.review, given.person.login),
        Act::Carry { from, to } => format!("carry {} to {to}", from.as_ref().map_or("nothing", RunId::as_str)),
        Act::Apply { review, confirmed, asked, .. } => {
            let confirmed =
                if confirmed.is_empty() { String::new() } else { format!(" confirmed {}", confirmed.join(" ")) };
            format!("apply {review}{confirmed}{}", by(asked))
        }
        Act::Forget { why, asked } => format!("forget {}{}", why.as_deref().unwrap_or_default(), by(asked)),
        Act::GiveBack { stacks, asked } => format!("give back {}{}", stacks.join(" "), by(asked)),
        Act::Merge { commit } => format!("merge {commit}"),
        Act::DeleteBranch { branch } => format!("delete {branch}"),
        Act::Answer { reaction, text, .. } => format!("{reaction:?} {}", text.as_deref().unwrap_or_default()),
    }
}

#[track_caller]
fn check(seen: &Seen, known: &Known, record: &Record, want: &str) {
    let found = next(seen, known, record);
    assert_eq!(found.as_ref().map_or(String::new(), words), want);
}

#[test]
fn what_was_pushed_is_reviewed_once() {
    let fresh = Known { since: NOW, ..Known::default() };
    let nothing = Record { review: None, ..record() };
    check(&seen(), &fresh, &nothing, "review Head c1");
    check(&seen(), &known(), &planning(), "");
    check(&seen(), &known(), &record(), "");
    // The server died before the run was made, or before it was known.
    let mut wanted = known();
    wanted.review.as_mut().unwrap().stage = Stage::Wanted;
    check(&seen(), &wanted, &nothing, "review Head c1");
    check(&seen(), &wanted, &planning(), "");
    check(&seen(), &wanted, &record(), "review Head c1");
    for stage in [Stage::Nothing, Stage::Impossible("syntax".into())] {
        let mut known = known();
        known.review.as_mut().unwrap().stage = stage;
        check(&seen(), &known, &nothing, "");
        check(&pushed("c2"), &known, &nothing, "review Head c2");
    }
    // Pushed or force-pushed: an older plan is of no use.
    check(&pushed("c2"), &known(), &planning(), "cancel r1: a newer commit was pushed");
    let cancelled = Known { cancelled: Some(RunId::new("r1")), ..known() };
    check(&pushed("c2"), &cancelled, &planning(), "review Head c2");
    check(&pushed("c2"), &known(), &record(), "review Head c2");
    // What is being applied is not planned at the same time.
    let apply = Known { apply: Some(applied(Of::Head, "c1")), ..known() };
    check(&pushed("c2"), &apply, &applying(RunState::Running), "");
    check(&pushed("c2"), &apply, &applying(RunState::Succeeded), "review Head c2");
    check(&seen(), &known(), &with(Row { stand: Stand::Superseded, ..row() }), "review Head c1");
    check(&seen(), &known(), &with(Row { stand: Stand::Refused, ..row() }), "");
}

#[test]
fn nothing_is_planned_that_nobody_wants() {
    let (fresh, nothing) = (Known { since: NOW, ..Known::default() }, Record { review: None, ..record() });
    let mut draft = seen();
    draft.change.draft = true;
    check(&draft, &fresh, &nothing, "");
    check(&at(draft, "windlass plan", NOW), &fresh, &nothing, "review Head c1 for ops");
    let mut asked = nothing.clone();
    asked.settings.autoplan = false;
    check(&seen(), &fresh, &asked, "");
    check(&says("windlass plan aws/db"), &fresh, &asked, "review Head c1 only aws/db for ops");
    let elsewhere = Record { followed: false, ..nothing };
    check(&seen(), &fresh, &elsewhere, "");
    check(
        &says("windlass plan"),
        &fresh,
        &elsewhere,
        "Refused this change goes into a branch that Windlass does not follow",
    );
    check(
        &seen(),
        &known(),
        &Record { followed: false, ..planning() },
        "cancel r1: the change goes into another branch now",
    );
}

#[test]
fn a_base_that_moved_matters_where_it_is_touched() {
    check(&seen(), &known(), &Record { moved: true, ..record() }, "review Head c1");
    check(&seen(), &known(), &Record { moved: true, ..planning() }, "");
    check(&seen(), &known(), &Record { moved: true, ..with(Row { stand: Stand::Applied, ..row() }) }, "");
    let mut asked = Record { moved: true, ..record() };
    asked.settings.autoplan = false;
    check(&seen(), &known(), &asked, "");
}

#[test]
fn a_change_that_was_closed_stops_and_gives_back() {
    let closed = in_state(ChangeState::Closed);
    check(&closed, &known(), &planning(), "cancel r1: the change was closed");
    let held = Known { queued: true, ..known() };
    check(&closed, &held, &record(), "give back ");
    check(&closed, &known(), &record(), "");
    let apply = Known { apply: Some(applied(Of::Head, "c1")), ..held };
    check(&closed, &apply, &applying(RunState::Running), "");
    let no = "Refused the change is closed: open it again first";
    check(&at(closed, "windlass apply", NOW), &known(), &record(), no);
}

#[test]
fn approvals_of_the_forge_count_for_what_was_shown_when_they_were_given() {
    let of = |reviews: &[ForgeReview]| Seen { reviews: reviews.to_vec(), ..seen() };
    let needs = || with(Row { verdict: Verdict::NeedsApproval, missing: vec!["one".into()], ..row() });
    let approves = |at| reviewed_by("lead", Opinion::Approves, "c1", at);
    check(&of(&[approves(60 * MINUTE)]), &known(), &needs(), "approve r1 by lead");
    check(&of(&[approves(40 * MINUTE)]), &known(), &needs(), "");
    check(&of(&[reviewed_by("lead", Opinion::Approves, "c0", 60 * MINUTE)]), &known(), &needs(), "");
    check(&of(&[reviewed_by("lead", Opinion::Refuses, "c1", 60 * MINUTE)]), &known(), &needs(), "");
    let given = Given { person: person("lead"), at: 60 * MINUTE, review: RunId::new("r1"), refused: None };
    let given = |refused: Option<&str>| Known {
        given: vec![Given { refused: refused.map(str::to_owned), ..given.clone() }],
        ..known()
    };
    check(&of(&[approves(60 * MINUTE)]), &given(None), &needs(), "");
    check(&of(&[approves(60 * MINUTE)]), &given(Some("may not")), &needs(), "");
    check(&of(&[approves(70 * MINUTE)]), &given(Some("may not")), &needs(), "approve r1 by lead");
    // Dismissed, or taken back by another opinion.
    check(&of(&[]), &given(None), &needs(), "withdraw r1 by lead");
    check(&of(&[]), &given(Some("may not")), &needs(), "");
    check(&of(&[reviewed_by("lead", Opinion::Refuses, "c1", NOW)]), &given(None), &needs(), "withdraw r1 by lead");
    // A push with the same effect keeps it, one with another does not.
    let mut next_commit = known();
    next_commit.review = Some(reviewed("r2", Of::Head, "c2"));
    next_commit.shown.push(Shown { commit: "c2".into(), at: 70 * MINUTE, ..next_commit.shown[0].clone() });
    let mut seen = pushed("c2");
    seen.reviews = vec![approves(60 * MINUTE)];
    let same = with(Row { commit: "c2".into(), verdict: Verdict::NeedsApproval, ..row() });
    check(&seen, &next_commit, &same, "approve r2 by lead");
    let other = with(Row { effect: "e2".into(), commit: "c2".into(), verdict: Verdict::NeedsApproval, ..row() });
    check(&seen, &next_commit, &other, "");
    let denied = with(Row { verdict: Verdict::Denied, ..row() });
    check(&of(&[approves(60 * MINUTE)]), &known(), &denied, "");
}

#[test]
fn approvals_of_the_review_before_are_looked_at_once() {
    let mut known = known();
    known.review.as_mut().unwrap().carried = false;
    check(&seen(), &known, &record(), "carry nothing to r1");
    known.before = Some(reviewed("r0", Of::Head, "c0"));
    check(&seen(), &known, &record(), "carry r0 to r1");
    check(&seen(), &known, &planning(), "");
}

#[test]
fn nothing_of_a_fork_runs_until_somebody_says_so_for_that_commit() {
    let mut strange = seen();
    strange.change.head.fork = Some("eve/infra".into());
    let fresh = Known { since: NOW, ..Known::default() };
    let nothing = Record { review: None, ..record() };
    check(&strange, &fresh, &nothing, "");
    let asked = at(strange.clone(), "windlass plan", NOW);
    check(&asked, &fresh, &nothing, "Refused look at c1 first, which was pushed just now, and say it again");
    let told = Known { stranger: Some(("c1".into(), 90 * MINUTE)), ..fresh.clone() };
    check(&asked, &told, &nothing, "allow c1 for ops");
    // A commit that came after they looked.
    let other = Known { stranger: Some(("c0".into(), 90 * MINUTE)), ..fresh.clone() };
    check(&asked, &other, &nothing, "Refused look at c1 first, which was pushed just now, and say it again");
    let late = Known { stranger: Some(("c1".into(), NOW + MINUTE)), ..fresh.clone() };
    check(&asked, &late, &nothing, "Refused look at c1 first, which was pushed just now, and say it again");
    let allowed = Known { allowed: Some("c1".into()), ..told };
    check(&asked, &allowed, &nothing, "review Head c1 for ops");
    check(&strange, &allowed, &nothing, "review Head c1");
    let mut pushed = strange;
    pushed.change.head.commit = "c2".into();
    check(&pushed, &allowed, &nothing, "");
    let mut never = nothing;
    never.settings.forks = Forks::Never;
    let no = "Refused changes of forks are not planned here (`forks = \"never\"`)";
    check(&asked, &fresh, &never, no);
}

#[test]
fn a_command_is_about_what_the_comment_showed() {
    check(&says("windlass apply"), &known(), &record(), "apply r1 for ops");
    let all = says("windlass apply aws/* -- confirm=aws/db");
    check(&all, &known(), &record(), "apply r1 confirmed aws/db for ops");
    let part = "Refused the plan is of aws/net[tokyo] as well: `windlass plan aws/db` plans those stacks alone";
    check(&says("windlass apply aws/db"), &known(), &record(), part);
    let before = "Refused the comment did not show yet what it does: look at that, and say it again";
    check(&at(seen(), "windlass apply", 45 * MINUTE), &Known { since: 44 * MINUTE, ..known() }, &record(), before);
    let mut again = known();
    again.shown.push(Shown { effect: "e2".into(), at: 90 * MINUTE, ..again.shown[0].clone() });
    let moved = "Refused what the comment shows is not what it showed then: look at it, and say it again";
    let now = with(Row { effect: "e2".into(), ..row() });
    check(&at(seen(), "windlass apply", 80 * MINUTE), &again, &now, moved);
    check(&at(seen(), "windlass approve", 80 * MINUTE), &again, &now, moved);
    check(&at(seen(), "windlass apply", 95 * MINUTE), &again, &now, "apply r1 for ops");
    check(&says("windlass approve -- reason=fine"), &known(), &record(), "approve r1 for ops");
}

#[test]
fn commands_are_refused_with_why() {
    let no =
        |seen: &Seen, known: &Known, record: &Record, why: &str| check(seen, known, record, &format!("Refused {why}"));
    let apply = says("windlass apply");
    no(&says("windlass aply"), &known(), &record(), "there is no command `aply`: did you mean `windlass apply`?");
    no(&apply, &known(), &planning(), "it is being planned: wait for the plan, and look at it");
    let nothing = Record { review: None, ..record() };
    no(&apply, &Known { review: None, ..known() }, &nothing, "there is no plan to apply: `windlass plan` makes one");
    no(
        &at(pushed("c2"), "windlass apply", NOW),
        &known(),
        &record(),
        "the plan is of an older commit: `windlass plan` makes a new one",
    );
    let under_way = Known { apply: Some(applied(Of::Head, "c1")), ..known() };
    no(&apply, &under_way, &applying(RunState::Running), "it is being applied already");
    no(
        &says("windlass plan"),
        &under_way,
        &applying(RunState::Running),
        "it is being applied: wait for its end, or `windlass cancel`",
    );
    no(
        &says("windlass approve"),
        &under_way,
        &applying(RunState::Running),
        "it is being applied, and waits for nobody",
    );
    check(&says("windlass approve"), &under_way, &applying(RunState::Waiting), "approve a1 for ops");
    let of = |verdict| with(Row { verdict, ..row() });
    no(&apply, &known(), &of(Verdict::Nothing), "there is nothing to apply");
    no(&apply, &known(), &of(Verdict::Denied), "it is denied by policy");
    no(&apply, &known(), &of(Verdict::Failed), "it could not be planned in full");
    no(&apply, &known(), &with(Row { stand: Stand::Applied, ..row() }), "it is applied already");
    no(&apply, &known(), &with(Row { stand: Stand::Refused, ..row() }), "somebody refused it");
    let when = |when| with(Row { when, ..row() });
    no(&apply, &known(), &when(ApplyWhen::OnMerge), "it is applied by itself as soon as it is merged");
    no(&apply, &known(), &when(ApplyWhen::AfterMerge), "it is applied once it is merged: say so again then");
    no(&apply, &known(), &when(ApplyWhen::Never), "what it touches is never applied from a change");
    let mut draft = apply.clone();
    draft.change.draft = true;
    no(&draft, &known(), &record(), "the change is a draft: say that it is ready first");
    no(&says("windlass cancel"), &known(), &record(), "nothing is under way");
    no(&says("windlass unlock"), &known(), &record(), "this change has no place in any queue");
    let mut edited = says("windlass apply");
    edited.comments[0].created_at -= MINUTE;
    let why = "a comment that was changed is no command, as somebody else may have changed it: write a new one";
    no(&edited, &known(), &record(), why);
    check(&edited, &Known { cursor: Some(NOW - 1), ..known() }, &record(), "");
}

#[test]
fn commands_are_done_once_and_in_order() {
    let both = at(says("windlass approve"), "windlass apply", NOW);
    check(&both, &known(), &record(), "approve r1 for ops");
    let mut after = known();
    let asked = |comment: &str| Asked { comment: comment.into(), at: NOW, person: person("ops") };
    after.answer(&asked("k1"), None);
    check(&both, &after, &record(), "apply r1 for ops");
    after.answer(&asked("k2"), Some("done".into()));
    check(&both, &after, &record(), "");
    after.read_to(&both);
    assert_eq!((after.cursor, after.taken.len(), after.answers.len()), (Some(NOW), 2, 1));
    check(&both, &after, &record(), "");
    // A later comment lets the earlier ones be forgotten.
    let later = at(seen(), "thanks", NOW + 1);
    after.read_to(&later);
    assert!(after.taken.is_empty());
    check(&both, &after, &record(), "");
    // Its apply was begun, and then we died.
    let begun = Applied { comment: Some("k1".into()), ..applied(Of::Head, "c1") };
    let begun = Known { apply: Some(begun), ..known() };
    check(&says("windlass apply"), &begun, &applying(RunState::Running), "Seen ");
    check(&says("windlass apply"), &begun, &record(), "apply r1 for ops");
    // Ours, older than anything that is known, or of other people's programs.
    let mut own = says("windlass apply");
    own.comments[0].author = person("windlass");
    check(&own, &known(), &record(), "");
    check(&at(seen(), "windlass apply", -OLD), &known(), &record(), "");
    check(&says("nice"), &known(), &record(), "");
}

#[test]
fn what_is_under_way_is_cancelled_by_whoever_asks() {
    check(&says("windlass cancel"), &known(), &planning(), "cancel r1: asked for in a comment for ops");
    let under_way = Known { apply: Some(applied(Of::Head, "c1")), queued: true, ..known() };
    let running = applying(RunState::Running);
    check(&says("windlass cancel -- kill reason=wrong one"), &under_way, &running, "kill a1: wrong one for ops");
    check(&says("windlass unlock"), &under_way, &running, "Refused it is being applied: the places are needed");
    let held = Known { queued: true, ..known() };
    check(&says("windlass unlock aws/db"), &held, &record(), "give back aws/db for ops");
    check(&says("windlass plan"), &known(), &planning(), "cancel r1: planned anew");
}

#[test]
fn an_apply_that_waits_begins_when_it_is_its_turn() {
    let asked = Asked { comment: "k9".into(), at: 60 * MINUTE, person: person("ops") };
    let waiting = |known: Known| Known {
        waiting: Some(Waiting { asked: asked.clone(), confirmed: vec!["aws/db".into()] }),
        queued: true,
        ..known
    };
    let other = |record: Record| Record {
        before: vec![Before { instance: InstanceId::new("aws/db"), number: 6, since: 1 }],
        ..record
    };
    let known = || waiting(known());
    check(&seen(), &known(), &other(record()), "");
    check(&seen(), &known(), &record(), "apply r1 confirmed aws/db for ops");
    // Planned anew first, where the base has moved in what it touches.
    check(&seen(), &known(), &Record { moved: true, ..record() }, "review Head c1");
    check(&seen(), &known(), &planning(), "");
    // With the same effect it begins, with another one somebody looks first, whether or not it is its turn.
    let no = |known: &Known, record: &Record, why: &str| check(&seen(), known, record, &format!("forget {why}"));
    let differs = "what the comment shows is not what it showed then: look at it, and say it again";
    no(&known(), &with(Row { effect: "e2".into(), ..row() }), differs);
    no(&known(), &other(with(Row { policy: "p2".into(), ..row() })), differs);
    no(&known(), &with(Row { verdict: Verdict::Denied, ..row() }), "it is denied by policy");
    no(&known(), &with(Row { stand: Stand::Refused, ..row() }), "somebody refused it");
    no(&known(), &with(Row { stand: Stand::Applied, ..row() }), "it is applied already");
    let mut draft = seen();
    draft.change.draft = true;
    check(&draft, &known(), &other(record()), "forget the change is a draft: say that it is ready first");
    let pushed = pushed("c2");
    let newer = "forget a newer commit was pushed: look at what it does, and say it again";
    check(&pushed, &known(), &other(record()), newer);
    check(&at(pushed, "windlass cancel", NOW), &known(), &other(record()), "forget  for ops");
    check(&says("windlass cancel"), &known(), &other(record()), "forget  for ops");
    check(&says("windlass cancel"), &known(), &planning(), "forget  for ops");
    check(&in_state(ChangeState::Closed), &known(), &other(record()), "give back ");
    let merged = in_state(ChangeState::Merged);
    let meanwhile = "forget the change was merged: look at what that does, and say it again";
    check(&merged, &known(), &other(record()), meanwhile);
    // What is merged waits alike.
    let of_merged = |row: Row| with(Row { when: ApplyWhen::AfterMerge, commit: "m1".into(), ..row });
    let shown = Shown { commit: "m1".into(), ..known().shown[0].clone() };
    let after = Known { review: Some(reviewed("r2", Of::Merged, "m1")), shown: vec![shown], ..known() };
    check(&merged, &after, &other(of_merged(row())), "");
    check(&merged, &after, &of_merged(row()), "apply r2 confirmed aws/db for ops");
    // It was begun, and then we died.
    let begun = Applied { comment: Some("k9".into()), ..applied(Of::Head, "c1") };
    let begun = Known { apply: Some(begun), ..known() };
    check(&seen(), &begun, &applying(RunState::Running), "");
    check(&seen(), &begun, &applying(RunState::Failed), "forget ");
    let told = super::super::tell::told(&seen(), &known(), &other(record()), |number| format!("#{number}"), None);
    assert_eq!(told.title, "Applied as soon as #6 is merged or closed");
    assert!(told.lines.iter().any(|line| line.starts_with("`ops` asked for the apply")), "{:?}", told.lines);
}

#[test]
fn all_that_was_applied_is_merged_where_the_project_says_so() {
    let mut known = Known { apply: Some(applied(Of::Head, "c1")), queued: true, ..known() };
    known.said.commit = "c1".into();
    let mut done = Record { apply: Some(RunState::Succeeded), ..with(Row { stand: Stand::Applied, ..row() }) };
    check(&seen(), &known, &done, "");
    done.settings.merge = true;
    check(&seen(), &known, &done, "merge c1");
    // What protects the base waits for our statuses.
    let check_of = |state| Check { name: "windlass".into(), state, text: String::new(), url: None };
    known.said.checks = vec![check_of(crate::change::CheckState::Pending)];
    check(&seen(), &known, &done, "");
    known.said.checks = vec![check_of(crate::change::CheckState::Success)];
    known.not_merged = Some(NotMerged { commit: "c1".into(), why: "a review is missing".into(), at: NOW });
    check(&seen(), &known, &done, "");
    let later = Seen { now: NOW + AGAIN, ..seen() };
    check(&later, &known, &done, "merge c1");
    known.not_merged = None;
    check(&seen(), &known, &Record { apply: Some(RunState::Failed), ..done.clone() }, "");
    // Only a part was applied: the rest is planned first.
    known.apply.as_mut().unwrap().whole = false;
    known.review.as_mut().unwrap().only = vec!["aws/db".into()];
    check(&seen(), &known, &done, "review Head c1");
}

#[test]
fn what_was_merged_is_applied_as_its_environments_ask() {
    let merged = in_state(ChangeState::Merged);
    let head = known();
    // Applied before: its places are free.
    let before = Known { apply: Some(applied(Of::Head, "c1")), queued: true, ..known() };
    let done = Record { apply: Some(RunState::Succeeded), ..record() };
    check(&merged, &before, &done, "give back ");
    check(&merged, &before, &applying(RunState::Running), "");
    // Merged by hand, unapplied, or with something that came after the apply.
    check(&merged, &head, &record(), "review Merged m1");
    let mut later = merged.clone();
    later.change.head.commit = "c2".into();
    check(&later, &before, &done, "review Merged m1");
    check(&merged, &head, &planning(), "cancel r1: the change was merged");
    check(&merged, &head, &with(Row { verdict: Verdict::Nothing, ..row() }), "");
    check(&merged, &head, &with(Row { when: ApplyWhen::Never, ..row() }), "");
    check(&merged, &Known { since: 1, ..Known::default() }, &Record { review: None, ..record() }, "");
    // Reviewed as it was merged.
    let after = Known { review: Some(reviewed("r2", Of::Merged, "m1")), ..known() };
    check(&merged, &after, &planning(), "");
    check(&merged, &after, &record(), "");
    check(&merged, &after, &with(Row { when: ApplyWhen::AfterMerge, ..row() }), "");
    let on = |row: Row| with(Row { when: ApplyWhen::OnMerge, commit: "m1".into(), ..row });
    check(&merged, &after, &on(row()), "apply r2");
    check(&merged, &after, &on(Row { missing: vec!["one".into()], ..row() }), "");
    check(&merged, &after, &on(Row { verdict: Verdict::Denied, ..row() }), "");
    let shown = Shown { commit: "m1".into(), ..after.shown[0].clone() };
    let after = Known { shown: vec![shown], ..after };
    check(&at(merged.clone(), "windlass apply", NOW), &after, &on(row()), "apply r2 for ops");
    // It stopped: somebody looks before it is tried again.
    let tried = Applied { review: RunId::new("r2"), ..applied(Of::Merged, "m1") };
    let tried = Known { apply: Some(tried), ..after.clone() };
    check(&merged, &tried, &Record { apply: Some(RunState::Failed), ..on(row()) }, "");
    check(&merged, &tried, &Record { apply: None, ..on(row()) }, "apply r2");
    // Another change holds one of its stacks.
    let waits =
        Record { before: vec![Before { instance: InstanceId::new("aws/db"), number: 6, since: 1 }], ..on(row()) };
    check(&merged, &after, &waits, "apply r2");
    check(&merged, &Known { queued: true, ..after.clone() }, &waits, "");
    // Its branch goes where the project says so, those of others stay.
    let mut delete = record();
    delete.settings.delete_branch = true;
    check(&merged, &after, &delete, "delete topic");
    check(&merged, &Known { branch_deleted: true, ..after.clone() }, &delete, "");
    let mut fork = merged;
    fork.change.head.fork = Some("eve/infra".into());
    check(&fork, &after, &delete, "");
}

#[test]
fn what_is_said_follows_from_what_is() {
    use super::super::CheckState::{self, Error, Failure, Pending, Success};
    use super::super::tell::told;
    #[track_caller]
    fn check(seen: &Seen, known: &Known, record: &Record, state: CheckState, title: &str) {
        let told = told(seen, known, record, |number| format!("#{number}"), None);
        assert_eq!((told.state, told.title.as_str()), (state, title));
        let whole = told.checks.last().unwrap();
        assert_eq!((whole.name.as_str(), whole.state, whole.text.as_str()), ("windlass", state, title));
    }
    let of = |row| with(row);
    let nothing = Record { review: None, ..record() };
    let fresh = Known { since: NOW, ..Known::default() };
    check(&seen(), &fresh, &nothing, Pending, "It is about to be planned");
    check(&seen(), &known(), &planning(), Pending, "Being planned");
    check(&seen(), &known(), &record(), Pending, "Ready: `windlass apply` applies it");
    let needs = Row { missing: vec!["environment prod asks for 1 approval, has 0".into()], ..row() };
    check(
        &seen(),
        &known(),
        &of(needs.clone()),
        Pending,
        "Waits for approval: environment prod asks for 1 approval, has 0",
    );
    check(&seen(), &known(), &of(Row { verdict: Verdict::Denied, ..row() }), Failure, "Denied by policy");
    check(&seen(), &known(), &of(Row { verdict: Verdict::Failed, ..row() }), Error, "It could not be planned in full");
    check(&seen(), &known(), &of(Row { verdict: Verdict::Nothing, ..row() }), Success, "Nothing would change");
    check(&seen(), &known(), &of(Row { stand: Stand::Refused, ..row() }), Failure, "Somebody refused it");
    // What is applied later lets the merge through.
    let when = |when| of(Row { when, ..row() });
    let on = "Approved: it is applied as soon as it is merged";
    check(&seen(), &known(), &when(ApplyWhen::OnMerge), Success, on);
    check(&seen(), &known(), &when(ApplyWhen::AfterMerge), Success, "Approved: it is applied once it is merged");
    check(&seen(), &known(), &when(ApplyWhen::Never), Success, "It is not applied from a change");
    let apply = Known { apply: Some(applied(Of::Head, "c1")), ..known() };
    check(&seen(), &apply, &applying(RunState::Running), Pending, "Being applied");
    let stopped = Record { apply: Some(RunState::Failed), ..record() };
    check(&seen(), &apply, &stopped, Failure, "Its apply stopped: `windlass apply` tries again");
    let done = Record { apply: Some(RunState::Succeeded), ..of(Row { stand: Stand::Applied, ..row() }) };
    check(&seen(), &apply, &done, Success, "Applied");
    let mut part = apply.clone();
    part.review.as_mut().unwrap().only = vec!["aws/db".into()];
    part.apply.as_mut().unwrap().whole = false;
    check(&seen(), &part, &done, Pending, "Only some of its stacks were planned");
    let before = vec![Before { instance: InstanceId::new("aws/db"), number: 6, since: NOW }];
    let waits = Record { before, ..record() };
    check(&seen(), &known(), &waits, Pending, "Waits for #6 to be merged or closed");
    let lines = told(&seen(), &known(), &waits, |number| format!("!{number}"), None).lines;
    assert!(
        lines[0].starts_with("`aws/db` waits for !6, which has its place in the queue since 1970-01-01 01:40 UTC"),
        "{lines:?}"
    );
    let mut strange = seen();
    strange.change.head.fork = Some("eve/infra".into());
    check(&strange, &fresh, &nothing, Pending, "Of a fork: somebody who may has to let it be planned");
    check(&in_state(ChangeState::Merged), &fresh, &nothing, Pending, "Merged, and not planned");
    check(&in_state(ChangeState::Closed), &known(), &record(), Pending, "The change is closed");
    assert_eq!(told(&in_state(ChangeState::Closed), &known(), &record(), |_| String::new(), None).commit, None);
    // By environment: one that nothing changes in waits for nobody.
    let environment = |name: &str, changes, missing: &[&str]| EnvironmentNow {
        name: name.into(),
        changes,
        missing: missing.iter().map(|text| (*text).to_owned()).collect(),
        ..EnvironmentNow::default()
    };
    let environments = vec![environment("dev", false, &[]), environment("prod", true, &["one more"])];
    let found =
        told(&seen(), &known(), &of(Row { environments, destroys: true, ..needs }), |_| String::new(), Some("u"));
    let shown: Vec<_> = found.checks.iter().map(|c| (c.name.as_str(), c.state, c.text.as_str())).collect();
    assert_eq!(
        shown[..2],
        [("windlass/dev", Success, "Nothing would change"), ("windlass/prod", Pending, "Waits for approval: one more"),]
    );
    assert_eq!((found.label, found.checks[0].url.as_deref()), (Some("destroy"), Some("u")));
}
