use super::document::{Context, DangerKind, Document, FindingState, Label, Status};
use super::progress::{Phase, Progress};
use super::*;
use crate::effect::digest_all;
use crate::risk;
use crate::stack::{ConsumedOutputs, Edge, EdgeKind, Instance, Repository, Stack, Tool};
use serde_json::{Value, json};

/// Changes as `ACTION ADDRESS`, with the value that `size` gets.
fn effect(instance: &str, changes: &[(&str, Value)], outputs: Value) -> Effect {
    let rows: Vec<Value> = changes
        .iter()
        .map(|(text, after)| {
            let (action, address) = text.split_once(' ').unwrap();
            let actions = match action {
                "replace" => json!(["delete", "create"]),
                "destroy" => json!(["delete"]),
                other => json!([other]),
            };
            let change = json!({"actions": actions, "before": {"size": 0}, "after": {"size": after}});
            json!({"address": address, "type": address.split_once('.').unwrap().0, "provider_name": "p", "change": change})
        })
        .collect();
    let plan = json!({"format_version": "1.2", "resource_changes": rows, "output_changes": outputs});
    Effect::from_plan_json(instance.into(), &plan, b"key").unwrap()
}

fn stack(instance: &str, outcome: Outcome) -> StackReview {
    let risk = outcome.effect().filter(|e| !e.is_empty()).map(|e| risk::rank(e, &risk::Context::default()));
    StackReview {
        instance: instance.into(),
        kind: AffectedKind::Changed,
        reasons: Vec::new(),
        after: Vec::new(),
        environments: Vec::new(),
        owner: None,
        outcome,
        findings: Vec::new(),
        binding: None,
        risk,
        readers: Vec::new(),
        dependants: BTreeMap::new(),
    }
}

fn planned(instance: &str, changes: &[(&str, Value)]) -> StackReview {
    stack(instance, Outcome::Planned { effect: effect(instance, changes, json!({})) })
}

fn failed(instance: &str, why: &str) -> StackReview {
    stack(instance, Outcome::Failed { stage: Stage::Plan, diagnostics: vec![Diagnostic::error("WL503", why)] })
}

fn review(stacks: Vec<StackReview>) -> Review {
    let revision = |name: &str| Revision { name: name.into(), commit: name.repeat(10) };
    Review {
        run: RunId::new("01"),
        project: "p".into(),
        base: Some(revision("main")),
        head: revision("side"),
        dirty: Vec::new(),
        authors: Vec::new(),
        unknown_authors: Vec::new(),
        effect_digest: digest_all(stacks.iter().filter_map(|s| s.outcome.effect())),
        stacks,
        findings: Vec::new(),
        diagnostics: Vec::new(),
        policy_digest: String::new(),
        verdict: Verdict::Ready,
        readers_beyond: BTreeMap::new(),
    }
}

fn document(stacks: Vec<StackReview>) -> Document {
    Document::new(&review(stacks), Context::default())
}

#[test]
fn instances_with_the_same_effect_are_one_entry() {
    let check = |stacks: Vec<StackReview>, want: &[&str]| {
        let titles: Vec<String> = document(stacks).stacks.into_iter().map(|entry| entry.title).collect();
        assert_eq!(titles, want);
    };
    let size = |instance: &str, n: i32| planned(instance, &[("update a.x", json!(n)), ("update a.y", json!(1))]);
    check(vec![size("s", 1)], &["s"]);
    check(vec![size("s[a]", 1), size("s[b]", 1)], &["s: same in 2 instances (a, b)"]);
    check(
        vec![size("s[a]", 1), size("s[osaka]", 2), size("s[b]", 1)],
        &["s: same in 2 instances (a, b), differs in osaka"],
    );
    check(vec![size("s[a]", 1), size("s[b]", 2)], &["s[a], differs in b"]);
    // The same effect of another stack is another entry.
    check(vec![size("s[a]", 1), size("t[a]", 1)], &["s[a]", "t[a]"]);
    // What is destroyed in one of them only is never told in passing.
    let destroys = planned("s[c]", &[("update a.x", json!(1)), ("update a.y", json!(1)), ("destroy a.z", json!(null))]);
    check(vec![size("s[a]", 1), size("s[b]", 1), destroys], &["s[c]", "s: same in 2 instances (a, b)"]);
    let replaces = planned("s[c]", &[("update a.x", json!(1)), ("replace a.y", json!(1))]);
    check(vec![size("s[a]", 1), replaces], &["s[c]", "s[a]"]);
    // More differences than what is shared is no group.
    let other = planned("s[c]", &[("create b.x", json!(1)), ("create b.y", json!(1)), ("create b.z", json!(1))]);
    check(vec![size("s[a]", 1), other], &["s[a]", "s[c]"]);
    // Instances that say nothing are no entry, failures of several are told apart from plans.
    check(vec![size("s[a]", 1), planned("s[b]", &[]), failed("s[c]", "no")], &["s[a]", "s[c]"]);
    let many = (1..=7).map(|n| size(&format!("s[r{n}]"), 1)).collect();
    check(many, &["s: same in 7 instances (r1, r2, r3 and 4 more)"]);
}

#[test]
fn a_secret_of_its_own_does_not_set_an_instance_apart() {
    let of = |instance: &str, secret: &str| {
        let change = json!({"actions": ["update"], "before": {"p": "old-secret"}, "after": {"p": secret}, "before_sensitive": {"p": true}, "after_sensitive": {"p": true}});
        let plan =
            json!({"format_version": "1.2", "resource_changes": [{"address": "a.x", "type": "a", "change": change}]});
        stack(instance, Outcome::Planned { effect: Effect::from_plan_json(instance.into(), &plan, b"key").unwrap() })
    };
    let found = document(vec![of("s[a]", "secret-of-a"), of("s[b]", "secret-of-b")]).stacks;
    assert_eq!((found.len(), found[0].title.as_str()), (1, "s: same in 2 instances (a, b)"));
}

#[test]
fn what_differs_in_a_group_is_named() {
    let check = |base: &[(&str, Value)], other: &[(&str, Value)], want: Value| {
        let entry =
            document(vec![planned("s[a]", base), planned("s[b]", base), planned("s[c]", other)]).stacks.remove(0);
        let found: Vec<Value> = entry.variants[0]
            .differences
            .iter()
            .map(|d| json!([d.subject, d.what, d.rows.iter().map(|r| &r.path).collect::<Vec<_>>()]))
            .collect();
        assert_eq!(json!(found), want);
    };
    let base = [("update a.x", json!(1)), ("update a.y", json!(1))];
    check(&base, &[("update a.x", json!(2)), ("update a.y", json!(1))], json!([["a.x", "", ["size"]]]));
    check(&base, &[("update a.x", json!(1))], json!([["a.y", "is not updated here", []]]));
    check(
        &base,
        &[("update a.x", json!(1)), ("update a.y", json!(1)), ("create a.z", json!(1))],
        json!([["a.z", "is created here only", ["size"]]]),
    );
    check(
        &base,
        &[("update a.x", json!(1)), ("create a.y", json!(1))],
        json!([["a.y", "is created, not updated", []]]),
    );
}

#[test]
fn the_worst_comes_first() {
    let found = document(vec![
        planned("calm", &[("create a.x", json!(1))]),
        planned("plain", &[("destroy aws_instance.x", json!(null))]),
        planned(
            "data",
            &[("update a.x", json!(1)), ("destroy aws_db_instance.x", json!(null)), ("destroy aws_eip.a", json!(null))],
        ),
        failed("broken", "no"),
    ]);
    let order: Vec<&str> = found.stacks.iter().map(|s| s.title.as_str()).collect();
    assert_eq!(order[0], "data");
    assert_eq!(order[3], "broken", "{order:?}");
    let resources: Vec<&str> = found.stacks[0].resources.iter().map(|r| r.address.as_str()).collect();
    assert_eq!(resources, ["aws_db_instance.x", "aws_eip.a", "a.x"]);
    let dangers: Vec<(DangerKind, &str)> = found.dangers.iter().map(|d| (d.kind, d.address.as_str())).collect();
    assert_eq!(
        dangers,
        [
            (DangerKind::DataDestroyed, "aws_instance.x"),
            (DangerKind::DataDestroyed, "aws_db_instance.x"),
            (DangerKind::Destroyed, "aws_eip.a"),
        ]
    );
    assert_eq!(found.dangers[1].loss.as_deref(), Some("database: data in it is lost unless restored"));
}

#[test]
fn a_replacement_is_followed_to_where_it_begins() {
    let replaced = |address: &str, unknown: bool| {
        let (after, mask) = if unknown { (json!({}), json!({"up": true})) } else { (json!({"up": 2}), json!({})) };
        let change = json!({"actions": ["delete", "create"], "before": {"up": 1}, "after": after, "after_unknown": mask, "replace_paths": [["up"]]});
        json!({"address": address, "type": "a", "change": change})
    };
    let rows = json!([
        replaced("a.first", false),
        replaced("a.second[0]", true),
        replaced("a.third", true),
        replaced("a.other", true)
    ]);
    let plan = json!({"format_version": "1.2", "resource_changes": rows});
    let effect = Effect::from_plan_json("s".into(), &plan, b"key").unwrap();
    let mut stack = stack("s", Outcome::Planned { effect });
    let reads = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    stack.dependants = BTreeMap::from([
        ("a.first".to_owned(), reads(&["a.second"])),
        // In a circle nothing goes on for ever.
        ("a.second[0]".to_owned(), reads(&["a.third"])),
        ("a.third".to_owned(), reads(&["a.third"])),
    ]);
    let resources = document(vec![stack]).stacks.remove(0).resources;
    let found: Vec<(&str, &[String])> =
        resources.iter().map(|r| (r.address.as_str(), r.cause_path.as_slice())).collect();
    let want: Vec<(&str, Vec<String>)> = vec![
        ("a.first", reads(&[])),
        ("a.other", reads(&[])),
        ("a.second[0]", reads(&["a.first"])),
        ("a.third", reads(&["a.second[0]", "a.first"])),
    ];
    let want: Vec<(&str, &[String])> = want.iter().map(|(name, path)| (*name, path.as_slice())).collect();
    assert_eq!(found, want);
}

#[test]
fn labels_and_counts() {
    let check = |stacks: Vec<StackReview>, labels: &[Label]| {
        let found = document(stacks).summary;
        assert_eq!(found.labels, labels);
        assert_eq!(found.label, labels[0]);
        found
    };
    check(vec![], &[Label::NoChanges]);
    check(vec![planned("a", &[])], &[Label::NoChanges]);
    check(vec![planned("a", &[]), planned("b", &[("create a.x", json!(1))])], &[Label::AddOrUpdate]);
    check(vec![planned("b", &[("replace a.x", json!(1))])], &[Label::Destroy]);
    let found = check(
        vec![
            failed("f", "no"),
            planned("b", &[("destroy aws_s3_bucket.x", json!(null))]),
            planned("c", &[("create a.x", json!(1))]),
        ],
        &[Label::Error, Label::Destroy, Label::AddOrUpdate],
    );
    assert_eq!((found.instances.all, found.instances.changed, found.instances.failed), (3, 2, 1));
    assert_eq!((found.dangers.data_destroyed, found.effect.destroy), (1, 1));
    let mut broken = planned("a", &[]);
    broken.findings.push(Finding::new(Level::Broken, "policy", "it did not end"));
    assert_eq!(check(vec![broken], &[Label::Error]).findings.broken, 1);
}

fn finding(message: &str, line: u32) -> Finding {
    let code = Some(Span { line, ..Span::file("m.tf") });
    Finding { code, ..Finding::new(Level::Deny, "policy p", message) }
}

fn with_findings(instance: &str, findings: &[Finding]) -> StackReview {
    StackReview { findings: findings.to_vec(), ..planned(instance, &[]) }
}

#[test]
fn same_findings_are_one_with_what_became_of_them() {
    let last = review(vec![
        with_findings("s[a]", &[finding("old", 1), finding("gone", 2)]),
        with_findings("t", &[finding("of t", 3)]),
        with_findings("u", &[finding("of u", 3)]),
    ]);
    let now = review(vec![
        // Code moves between pushes.
        with_findings("s[a]", &[finding("old", 9), finding("fresh", 4)]),
        with_findings("s[b]", &[finding("fresh", 4)]),
        failed("t", "no"),
    ]);
    let check = |last: Option<&Review>, now: &Review, want: &[(&str, usize, Option<FindingState>)], fixed: &[&str]| {
        let found = Document::new(now, Context { last, ..Context::default() });
        let rows: Vec<_> = found.findings.iter().map(|f| (f.message.as_str(), f.instances.len(), f.state)).collect();
        assert_eq!(rows, want);
        assert_eq!(found.fixed.iter().map(|f| f.message.as_str()).collect::<Vec<_>>(), fixed);
        assert_eq!(found.summary.findings.fixed, fixed.len());
    };
    check(None, &now, &[("fresh", 2, None), ("old", 1, None)], &[]);
    // Nobody knows about `t`: it could not be planned. `u` is not affected any more.
    let states = [("fresh", 2, Some(FindingState::New)), ("old", 1, Some(FindingState::Unchanged))];
    check(Some(&last), &now, &states, &["gone", "of u"]);
    // A review of chosen stacks says nothing of those that were not chosen.
    let chosen = Review { base: None, ..now.clone() };
    check(Some(&last), &chosen, &states, &["gone"]);
    // Another place is another finding to mend.
    let twice = review(vec![with_findings("s", &[finding("same", 1), finding("same", 2)])]);
    check(None, &twice, &[("same", 1, None), ("same", 1, None)], &[]);
}

#[test]
fn the_gravest_finding_comes_first() {
    let of = |level: Level, severity: Option<Severity>, message: &str| Finding {
        severity,
        ..Finding::new(level, "p", message)
    };
    let found = document(vec![with_findings(
        "s",
        &[
            of(Level::Warn, Some(Severity::Critical), "warn"),
            of(Level::Deny, Some(Severity::Low), "low"),
            of(Level::Deny, None, "plain"),
            of(Level::Deny, Some(Severity::High), "high"),
            of(Level::Broken, None, "broken"),
        ],
    )]);
    let order: Vec<&str> = found.findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(order, ["broken", "high", "plain", "low", "warn"]);
}

#[test]
fn same_failures_are_one_with_what_waits_for_them() {
    let skipped = |instance: &str, because: &str| stack(instance, Outcome::Skipped { because: because.into() });
    let found = document(vec![
        failed("a[1]", "no"),
        failed("a[2]", "no"),
        failed("b", "other"),
        skipped("c", "a[2]"),
        skipped("d", "b"),
    ]);
    let rows: Vec<Value> =
        found.failures.iter().map(|f| json!([f.instances, f.skipped, f.diagnostics[0].summary])).collect();
    assert_eq!(json!(rows), json!([[["a[1]", "a[2]"], ["c"], "no"], [["b"], ["d"], "other"]]));
}

#[test]
fn what_differs_from_an_earlier_review_is_told() {
    let before = review(vec![
        planned(
            "s",
            &[
                ("update a.same", json!(1)),
                ("update a.value", json!(1)),
                ("update a.gone", json!(1)),
                ("update a.worse", json!(1)),
            ],
        ),
        planned("other", &[("create a.x", json!(1))]),
    ]);
    let now = review(vec![planned(
        "s",
        &[
            ("update a.same", json!(1)),
            ("update a.value", json!(2)),
            ("create a.new", json!(1)),
            ("destroy a.worse", json!(null)),
        ],
    )]);
    let check = |context: Context<'_>, now: &Review, text: &str, want: &[&str]| {
        let since = Document::new(now, context).since.unwrap();
        let rows: Vec<String> =
            since.items.iter().map(|i| format!("{}: {} {}", i.instances[0], i.subject, i.what)).collect();
        assert_eq!(rows, want);
        assert_eq!(since.text, text);
    };
    let mut rows = vec![
        "s: a.gone is not updated any more",
        "s: a.new is created now",
        "s: a.value `size` gets another value",
        "s: a.worse is destroyed now, not updated",
        "other: a.x is not created any more",
    ];
    let approved = || Context { approved: Some(&before), ..Context::default() };
    check(approved(), &now, "5 resources differ from the plan approved at sidesid", &rows);
    check(
        Context { last: Some(&before), ..Context::default() },
        &now,
        "5 resources differ from the last review, of sidesid",
        &rows,
    );
    check(approved(), &before, "nothing differs from the plan approved at sidesid", &[]);
    // Of chosen stacks only those are compared that are in both.
    rows.pop();
    check(
        approved(),
        &Review { base: None, ..now.clone() },
        "4 resources differ from the plan approved at sidesid",
        &rows,
    );
    assert_eq!(Document::new(&now, Context::default()).since, None);
    let marked = Document::new(&now, approved());
    let new: Vec<(&str, bool)> = marked.stacks[0].resources.iter().map(|r| (r.address.as_str(), r.new)).collect();
    assert_eq!(new, [("a.worse", true), ("a.same", false), ("a.value", true), ("a.new", true)]);
}

fn repository(ids: &[&str], edges: &[(&str, &str, Option<&[&str]>)]) -> Repository {
    let instance = |id: &str| Instance {
        id: id.into(),
        workspace: "default".into(),
        var_files: Vec::new(),
        variables: BTreeMap::new(),
        backend_config: BTreeMap::new(),
        backend: "local".into(),
        state: None,
        state_unknown: None,
        environments: Vec::new(),
    };
    let stacks = ids.iter().map(|id| Stack {
        id: (*id).into(),
        why: "test".into(),
        owner: None,
        required_version: Vec::new(),
        tool: Tool::Any,
        env: Vec::new(),
        instances: vec![instance(id)],
        variables: Vec::new(),
        outputs: Vec::new(),
        inputs: Default::default(),
    });
    let edges = edges.iter().map(|(from, to, outputs)| Edge {
        from: (*from).into(),
        to: (*to).into(),
        kind: EdgeKind::RemoteState {
            name: "up".into(),
            backend: "local".into(),
            module: "".into(),
            outputs: match outputs {
                Some(names) => ConsumedOutputs::Named(names.iter().map(|n| ((*n).to_owned(), Vec::new())).collect()),
                None => ConsumedOutputs::All,
            },
        },
        gate: None,
        evidence: Span::file("x.tf"),
    });
    Repository { stacks: stacks.collect(), edges: edges.collect() }
}

#[test]
fn a_risky_change_says_whom_it_reaches() {
    let repository = repository(
        &["db", "app", "web", "report", "mail"],
        &[
            ("db", "app", Some(&["url"])),
            ("db", "report", None),
            ("app", "web", Some(&["host"])),
            ("report", "mail", Some(&["id"])),
            // In a circle nothing goes on for ever.
            ("mail", "report", Some(&["x"])),
        ],
    );
    let outputs = json!({
        "url": {"actions": ["update"], "before": "a", "after": "b"},
        "unused": {"actions": ["update"], "before": 1, "after": 2},
        "gone": {"actions": ["delete"], "before": 1, "after": null},
    });
    let db =
        stack("db", Outcome::Planned { effect: effect("db", &[("destroy aws_db_instance.x", json!(null))], outputs) });
    let preview =
        Outcome::Preview { effect: effect("app", &[("update a.x", json!(1))], json!({})), because: vec!["db".into()] };
    let mut review = review(vec![db, stack("app", preview)]);
    review.add_readers(&repository);
    let found = Document::new(&review, Context::default());
    let tree = |branches: &[document::Branch]| -> Value {
        fn walk(branches: &[document::Branch]) -> Value {
            branches.iter().map(|b| json!([b.stack, b.outputs, b.planned, walk(&b.branches)])).collect()
        }
        walk(branches)
    };
    assert_eq!(
        tree(&found.stacks[0].reach),
        json!([
            ["app", ["url"], "preview: 1 to update", [["web", ["host"], null, []]]],
            ["report", null, null, [["mail", ["id"], null, []]]],
        ])
    );
    // The calm one tells nobody.
    assert_eq!(found.stacks[1].reach, []);
    let readers: Vec<Value> = found.stacks[0].outputs.iter().map(|o| json!([o.name, o.readers])).collect();
    assert_eq!(json!(readers), json!([["gone", ["report"]], ["unused", ["report"]], ["url", ["app", "report"]]]));
    // The values that the preview was made with are those it reads.
    let Status::Preview { values, .. } = &found.stacks[1].status else { panic!() };
    let values: Vec<Value> = values.iter().map(|v| json!([v.from, v.output, v.value])).collect();
    assert_eq!(json!(values), json!([["db", "url", {"value": "b"}]]));
}

#[test]
fn no_secret_and_no_digest_of_one_is_in_the_document() {
    let change = json!({
        "actions": ["update"], "before": {"password": "hunter2!", "list": [{"token": "hunter2!"}]}, "after": {"password": "hunter3!", "list": [{"token": "x"}]},
        "before_sensitive": {"password": true}, "after_sensitive": {"password": true}
    });
    let outputs = json!({"p": {"actions": ["update"], "before": "hunter2!", "after": "hunter3!", "before_sensitive": true, "after_sensitive": true}});
    let plan = json!({"format_version": "1.2", "resource_changes": [{"address": "a.x", "type": "a", "change": change}], "output_changes": outputs});
    let with = |key: &[u8]| {
        let of = |instance: &str| Effect::from_plan_json(instance.into(), &plan, key).unwrap();
        let reads = Outcome::Preview { effect: of("b"), because: vec!["a".into()] };
        let mut review = review(vec![stack("a", Outcome::Planned { effect: of("a") }), stack("b", reads)]);
        review.effect_digest = String::new();
        let text = serde_json::to_string(&Document::new(&review, Context::default())).unwrap();
        text.replace("\"effect_digest\":\"\"", "")
    };
    let text = with(b"one");
    assert!(text.contains("password") && !text.contains("hunter"), "{text}");
    assert_eq!(text, with(b"another"));
}

#[test]
fn a_review_of_an_earlier_release_can_be_read() {
    let mut stored = serde_json::to_value(review(vec![planned("s", &[("update a.x", json!(1))])])).unwrap();
    for name in ["readers", "dependants"] {
        stored["stacks"][0].as_object_mut().unwrap().remove(name);
    }
    stored.as_object_mut().unwrap().remove("readers_beyond");
    let review: Review = serde_json::from_value(stored).unwrap();
    let document = Document::new(&review, Context::default());
    let text = serde_json::to_string(&document).unwrap();
    assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document);
}

#[test]
fn once_it_is_applied_the_headline_says_how_that_goes() {
    let check = |progress: Option<(Phase, usize, Option<&str>)>, title: &str, command: Option<&str>| {
        let progress =
            progress.map(|(phase, done, at)| Progress { phase, done, all: 3, stopped_at: at.map(Into::into) });
        let phase = progress.as_ref().map(|progress| progress.phase);
        let missing_approvals = vec!["1 is missing".to_owned()];
        let context = Context { progress, missing_approvals, ..Context::default() };
        let now = Review { verdict: Verdict::NeedsApproval, ..review(Vec::new()) };
        let headline = Document::new(&now, context).headline;
        let found = (headline.title.as_str(), headline.command.as_deref(), headline.missing.is_empty(), headline.phase);
        assert_eq!(found, (title, command, phase.is_some(), phase));
    };
    check(None, "Needs approval", Some("windlass approve 01"));
    check(Some((Phase::Applying, 1, None)), "Applying: 1 of 3 instances", None);
    check(Some((Phase::Waiting, 0, None)), "Waiting, with 0 of 3 instances applied", None);
    check(Some((Phase::Applied, 3, None)), "Applied: 3 instances", None);
    let at = Some("aws/db[tokyo]");
    let stopped = "Stopped at aws/db[tokyo], with 1 of 3 instances applied";
    check(Some((Phase::Stopped, 1, at)), stopped, Some("windlass review"));
    check(Some((Phase::Cancelled, 2, None)), "Cancelled, with 2 of 3 instances applied", Some("windlass apply 01"));
}
