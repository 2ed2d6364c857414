use super::input::*;
use super::*;
use serde_json::json;
use std::collections::BTreeSet;
use windlass_model::affected::{ChangeKind, PathChange};
use windlass_model::approval::{Actor, ApprovalRecord};
use windlass_model::definition::ApprovalRule;
use windlass_model::review::Review;

fn actor() -> ActorFacts {
    let identities = vec!["email:a@example.com".to_owned()];
    ActorFacts::new(&Actor { name: "a".into(), identities, verified: true }, vec!["sre".into()])
}

/// A review that has something everywhere.
fn review() -> Review {
    let value = |value: &str| json!({ "value": value });
    let effect = json!({
        "instance": "aws/db[tokyo]",
        "changes": [{
            "address": "aws_db_instance.main", "previous_address": "aws_db_instance.old",
            "resource_type": "aws_db_instance", "provider": "registry.terraform.io/hashicorp/aws", "action": "replace",
            "attributes": {
                "engine": { "before": value("a"), "after": value("b") },
                "password": { "before": { "sensitive": "aa" }, "after": { "sensitive": "bb" } },
                "arn": { "before": value("x"), "after": "unknown" },
                "tags.Name": { "before": "absent", "after": value("n") },
            },
            "replace_paths": ["engine"], "reason": "replace_because_cannot_update",
        }],
        "outputs": { "id": { "action": "update", "before": value("a"), "after": "unknown" } },
        "checks": { "check.up": { "status": "fail", "problems": ["down"] } },
    });
    serde_json::from_value(json!({
        "run": "01k", "project": "p", "base": { "name": "main", "commit": "c0" },
        "head": { "name": "change", "commit": "c1" }, "dirty": ["a.tf"], "authors": ["Dev <dev@example.com>"],
        "stacks": [
            {
                "instance": "aws/db[tokyo]", "kind": { "kind": "renamed", "from": "aws/old" }, "reasons": [],
                "after": ["aws/net"], "environments": ["production"], "owner": "sre",
                "outcome": { "outcome": "planned", "effect": effect },
                "findings": [{ "level": "deny", "source": "policy p", "rule": "data.p.deny", "message": "no",
                               "address": "aws_db_instance.main", "code": null, "policy": null }],
                "risk": { "level": "high", "score": 60, "reasons": [
                    { "code": "data_replaced", "text": "t", "addresses": ["aws_db_instance.main"], "points": 60 }] },
            },
            { "instance": "aws/app", "kind": { "kind": "dependant" }, "reasons": [], "after": [], "environments": ["test"],
              "owner": null, "outcome": { "outcome": "unaffected" }, "findings": [] },
        ],
        "diagnostics": [], "policy_digest": "d", "effect_digest": "e", "verdict": "denied",
    }))
    .unwrap()
}

fn change(question: Question) -> Change {
    let files = [PathChange { path: "b.tf".into(), old_path: Some("a.tf".into()), kind: ChangeKind::Renamed }];
    Change::new(&review(), &files, question)
}

fn subject() -> Subject {
    let environments = vec!["production".into()];
    Subject { kind: "operation".into(), name: "backup".into(), owner: Some("sre".into()), environments }
}

fn plan() -> Value {
    json!({
        "format_version": "1.2",
        "resource_changes": [{ "address": "t.a", "mode": "managed", "type": "t", "name": "a", "provider_name": "p",
            "change": { "actions": ["create"], "before": null, "after": { "x": 1 }, "after_unknown": {},
                        "before_sensitive": false, "after_sensitive": {} } }],
    })
}

fn facts() -> PlanFacts {
    PlanFacts {
        project: "p".into(),
        instance: "aws/net".into(),
        stack: "aws/net".into(),
        region: None,
        environments: vec!["production".into()],
        owner: None,
        change: "changed",
        preview: false,
        destroy: false,
    }
}

/// One input of each kind, with something in each list.
fn inputs() -> Vec<Input> {
    let record = ApprovalRecord {
        actor: Actor { name: "a".into(), identities: vec!["user:a".into()], verified: false },
        commit: "c1".into(),
        effect_digest: "e".into(),
        policy_digest: "d".into(),
        at: 1,
        reason: Some("seen".into()),
    };
    let given = vec![Approval::new(&record, vec!["sre".into()])];
    let rule = ApprovalRule { count: 1, from: vec!["sre".into()], author_may_approve: false, unverified: true };
    let rules = vec![Rule { subject: "environment production".into(), rule }];
    vec![
        Input::plan(plan(), &facts()),
        Input::review(&change(Question::Review { approvals: Some(given) })),
        Input::approval(&change(Question::Approval { rules })),
        Input::operation(&Operation {
            project: "p".into(),
            operation: subject(),
            parameters: [("keyspace".to_owned(), json!("x"))].into(),
            actor: actor(),
            from: "web".into(),
            reason: Some("r".into()),
            environments: vec!["production".into()],
            at: 1,
        }),
        Input::access(&Access {
            project: "p".into(),
            actor: actor(),
            action: "review.approve".into(),
            granted: false,
            resource: AccessedThing::new(&windlass_model::access::Subject::of(
                "p",
                "review",
                "01k",
                vec![windlass_model::access::Place {
                    instance: "aws/db[tokyo]".into(),
                    environments: vec!["production".into()],
                    owner: Some("sre".into()),
                }],
            )),
            at: 1,
        }),
        Input::trigger(&Trigger {
            project: "p".into(),
            event: Event { kind: "push".into(), name: "main".into(), data: json!({ "commit": "c" }) },
            subject: subject(),
            actor: Some(actor()),
            last: Some(LastRun { run: "01k".into(), state: "failed".into(), ended_at: Some(1) }),
            at: 1,
        }),
    ]
}

#[test]
fn every_input_is_as_its_schema_says() {
    for input in inputs() {
        let schema: Value = serde_json::from_str(schema(input.kind)).unwrap();
        jsonschema::draft202012::meta::validate(&schema).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&input.value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert_eq!(errors, [""; 0], "{}", input.kind.as_str());
        // And the other way round: a name that is not documented is a mistake.
        if input.kind != DecisionKind::Plan {
            let mut more = input.value.clone();
            more["surprise"] = json!(1);
            assert!(!validator.is_valid(&more), "{}", input.kind.as_str());
        }
    }
}

/// Names of all properties of a schema, at any depth.
fn names(schema: &Value, out: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                if let ("properties", Value::Object(properties)) = (key.as_str(), value) {
                    out.extend(properties.keys().cloned());
                }
                names(value, out);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, out)),
        _ => {}
    }
}

fn keys(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| {
            out.insert(key.clone());
            keys(value, out);
        }),
        Value::Array(items) => items.iter().for_each(|item| keys(item, out)),
        _ => {}
    }
}

#[test]
fn no_schema_has_a_name_that_its_input_has_not() {
    for input in inputs().into_iter().filter(|input| input.kind != DecisionKind::Plan) {
        let (mut documented, mut there) = (BTreeSet::new(), BTreeSet::new());
        names(&serde_json::from_str(schema(input.kind)).unwrap(), &mut documented);
        keys(&input.value, &mut there);
        let missing: Vec<_> = documented.difference(&there).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", input.kind.as_str());
    }
}

#[test]
fn sensitive_values_are_not_in_a_change() {
    let text = inputs()[1].value.to_string();
    assert!(text.contains(r#""password":{"before":"(sensitive)","after":"(sensitive)"}"#), "{text}");
    assert!(text.contains(r#""arn":{"before":"x","after":"(known after apply)"}"#), "{text}");
}

fn references(kind: DecisionKind, body: &str) -> Vec<String> {
    let text = format!("package p\nimport rego.v1\n{body}\n");
    let found = check_references(kind, &[("p.rego".into(), text)]);
    let line = |d: &Diagnostic| d.labels[0].span.line - 2;
    found.iter().map(|d| format!("{} {} | {}", line(d), d.summary, d.help.clone().unwrap_or_default())).collect()
}

#[test]
fn references_are_looked_up_in_the_schema() {
    let check = |kind: DecisionKind, body: &str, want: &[&str]| {
        let found = references(kind, body);
        assert_eq!(found.len(), want.len(), "{body}: {found:?}");
        for (found, want) in found.iter().zip(want) {
            let (place, near) = want.split_once('|').unwrap();
            assert!(found.starts_with(place.trim()) || found.contains(place.trim()), "{found} / {want}");
            assert!(found.contains(near.trim()), "{found} / {want}");
        }
    };
    use DecisionKind::{Access, Approval, Plan, Review, Trigger};
    check(Review, "deny contains \"x\" if input.risk == \"high\"", &[]);
    check(
        Review,
        "deny contains \"x\" if input.rsk == \"high\"",
        &["1 the input of review policies has no `input.rsk`|did you mean `risk`"],
    );
    check(Review, "deny contains \"x\" if {\n  input.stacks[_].efect.destroy > 0\n}", &["2 |did you mean `effect`"]);
    check(
        Review,
        "deny contains \"x\" if {\n  some stack in input.stacks\n  stack.effect.destroyed > 0\n}",
        &["`input.stacks[_].effect.destroyed`|did you mean `destroy`"],
    );
    check(
        Review,
        "deny contains \"x\" if {\n  some i, stack in input.stacks\n  e := stack.effect\n  e.resources[i].kind == \"x\"\n}",
        &["`input.stacks[_].effect.resources[_].kind`|it has address"],
    );
    check(
        Review,
        "deny contains \"x\" if {\n  every s in input.stacks { s.outcom == \"planned\" }\n}",
        &["outcom|did you mean `outcome`"],
    );
    check(Review, "deny contains \"x\" if input.stacks.first", &["`input.stacks` is a list|some x in"]);
    check(Review, "deny contains \"x\" if input.risk.level == \"high\"", &["`input.risk` is a text|schema review"]);
    check(Review, "deny contains \"x\" if input[\"moments\"] == \"apply\"", &["1 |did you mean `moment`"]);
    check(Review, "deny contains \"x\" if input.rules", &["input.rules|"]);
    check(Approval, "require contains {} if input.rules[_].count > 1", &[]);
    check(Review, "import input.hed as h\ndeny contains \"x\" if h.commit", &["1 |did you mean `head`"]);
    check(Review, "import input.head as h\ndeny contains \"x\" if h.comit", &["2 |did you mean `commit`"]);
    // What belongs to somebody else.
    check(Review, "deny contains \"x\" if data.input.rsk", &[]);
    check(Review, "f(stack) := stack.whatever\ndeny contains \"x\" if {\n  some s in input.stacks\n  f(s)\n}", &[]);
    check(
        Review,
        "deny contains \"x\" if {\n  some stack in input.stacks\n  stack.instance\n}\nwarn contains \"y\" if {\n  some stack in data.others\n  stack.anything\n}",
        &[],
    );
    check(Review, "deny contains \"x\" if {\n  x := count(input.stacks)\n  x.y\n}", &[]);
    check(Review, "deny contains `input.rsk` if input.risk # input.rsk", &[]);
    check(
        Review,
        "deny contains \"x\" if input.stacks[_].effect.resources[_].attributes[\"tags.Name\"].after == 1",
        &[],
    );
    check(Access, "allow if input.actor.team == \"sre\"", &["1 |did you mean `teams`"]);
    check(Trigger, "deny contains \"x\" if input.event.data.head.whatever", &[]);
    // Terraform's own names, and what it leaves open.
    check(Plan, "deny contains \"x\" if input.resource_changes[_].change.after.tags.Name", &[]);
    check(Plan, "deny contains \"x\" if input.planned_values.root_module.child_modules[_].resources[_].values.x", &[]);
    check(Plan, "deny contains \"x\" if input.resource_change[_]", &["1 |did you mean `resource_changes`"]);
    check(Plan, "deny contains \"x\" if input.windlass.enviroments[_]", &["1 |did you mean `environments`"]);
    let severity =
        |body: &str| check_references(Plan, &[("p.rego".into(), format!("package p\n{body}\n"))])[0].severity;
    use windlass_model::diagnostic::Severity;
    assert_eq!(severity("deny[x] { x := input.resource.aws_s3_bucket }"), Severity::Warning);
    assert_eq!(severity("deny[x] { x := input.windlass.stak }"), Severity::Error);
    // Tests give inputs of their own.
    assert!(check_references(Review, &[("p_test.rego".into(), "package p\nx := input.nothing\n".into())]).is_empty());
}

fn terms(kind: DecisionKind) -> Terms {
    Terms {
        name: "p".into(),
        kind,
        engine: PolicyEngine::Embedded,
        teams: vec!["sre".into(), "dba".into()],
        origin: Origin::Own(None),
        scratch: std::env::temp_dir(),
    }
}

fn load(kind: DecisionKind, body: &str) -> Result<Policy, Vec<Diagnostic>> {
    let files = vec![("p.rego".into(), format!("package p\nimport rego.v1\n{body}\n"))];
    Policy::load(terms(kind), &Sources { files, ..Sources::default() }).map(|(policy, _)| policy)
}

fn decide(kind: DecisionKind, body: &str) -> Decision {
    let input = inputs().into_iter().find(|input| input.kind == kind).unwrap();
    load(kind, body).unwrap_or_else(|d| panic!("{d:?}")).decide(&input.value, &Limits::default())
}

#[test]
fn each_kind_decides_with_its_rules() {
    use DecisionKind::{Access, Approval, Operation, Plan, Review, Trigger};
    let check = |kind: DecisionKind, body: &str, allowed: bool, want: &[&str]| {
        let decision = decide(kind, body);
        let found: Vec<String> = decision.findings.iter().map(|f| format!("{:?} {}", f.level, f.message)).collect();
        assert_eq!(decision.is_allowed(), allowed, "{body}: {found:?}");
        assert_eq!(found.len(), want.len(), "{body}: {found:?}");
        assert!(found.iter().zip(want).all(|(found, want)| found.contains(want)), "{body}: {found:?}");
        assert!(decision.findings.iter().all(|finding| finding.source == "policy p"));
    };
    check(Plan, "deny contains \"x\" if \"production\" in input.windlass.environments", false, &["Deny x"]);
    check(Plan, "deny contains \"x\" if input.windlass.preview", true, &[]);
    check(Review, "deny contains \"two\" if count(input.stacks) == 2", false, &["Deny two"]);
    check(Review, "warn contains \"high\" if input.risk == \"high\"", true, &["Warn high"]);
    check(
        Review,
        "deny contains \"late\" if {\n  input.moment == \"apply\"\n  count(input.approvals) < 2\n}",
        false,
        &["Deny late"],
    );
    check(Operation, "deny contains \"no\" if input.parameters.keyspace == \"x\"", false, &["Deny no"]);
    check(Trigger, "deny contains \"no\" if input.last.state == \"failed\"", false, &["Deny no"]);
    check(Access, "allow if \"sre\" in input.actor.teams", true, &[]);
    check(Access, "default allow := false\nallow if \"dba\" in input.actor.teams", false, &[]);
    check(Access, "allow if \"dba\" in input.actor.teams", false, &[]);
    check(Access, "allow := true\ndeny contains \"not him\" if input.actor.name == \"a\"", false, &["Deny not him"]);
    let own = "allow if {\n  not input.granted\n  every i in input.resource.instances { i.owner in input.actor.teams; i.region == \"tokyo\" }\n}";
    check(Access, own, true, &[]);
    check(Access, "allow if \"test\" in input.resource.environments", false, &[]);
    check(Access, "allow := 1 if input.actor.verified", false, &["[WL405] rule data.p.allow is 1"]);
    check(
        Approval,
        "require contains {\"count\": 2} if to_number(input.risk) > 1",
        false,
        &["[WL406] rule data.p.require"],
    );
    check(
        Access,
        "allow if {\n  count([1 | some a in numbers.range(1, 200); some b in numbers.range(1, 200); a == b]) == 0\n}",
        false,
        &[],
    );
    assert!(!Decision::new(Access).is_allowed() && Decision::new(Review).is_allowed());
}

#[test]
fn a_policy_out_of_time_denies() {
    let body = "require contains {} if {\n  count([1 | some a in numbers.range(1, 4000); some b in numbers.range(1, 4000); a == b]) == 0\n}";
    let policy = load(DecisionKind::Approval, body).unwrap();
    #[allow(clippy::needless_update, reason = "what else is limited stays as it is")]
    let limits = Limits { time: std::time::Duration::from_millis(50), ..Limits::default() };
    let decision = policy.decide(&inputs()[2].value, &limits);
    assert!(!decision.is_allowed() && decision.findings[0].message.contains("took longer"), "{decision:?}");
}

#[test]
fn approvals_are_asked_for_in_full_or_not_at_all() {
    type Want<'a> = Result<(u32, &'a [&'a str], bool, Option<&'a str>), &'a str>;
    let check = |member: &str, want: Want<'_>| {
        let decision = decide(DecisionKind::Approval, &format!("require contains {member} if input.risk == \"high\""));
        match want {
            Ok((count, from, author, reason)) => {
                let [found] = decision.required.as_slice() else { panic!("{member}: {decision:?}") };
                let rule = ApprovalRule {
                    count,
                    from: from.iter().map(ToString::to_string).collect(),
                    author_may_approve: author,
                    unverified: false,
                };
                assert_eq!((&found.rule, found.reason.as_deref()), (&rule, reason), "{member}");
                assert!(decision.is_allowed());
            }
            Err(text) => {
                assert!(decision.required.is_empty() && !decision.is_allowed(), "{member}: {decision:?}");
                assert!(decision.findings[0].message.contains(text), "{member}: {decision:?}");
                assert_eq!(decision.findings[0].level, Level::Broken);
            }
        }
    };
    check("{}", Ok((1, &[], false, None)));
    check("{\"count\": 2, \"from\": [\"dba\"], \"reason\": \"data\"}", Ok((2, &["dba"], false, Some("data"))));
    check("{\"author_may_approve\": true}", Ok((1, &[], true, None)));
    check("{\"count\": 0}", Err("`count` is a whole number from 1"));
    check("{\"from\": [\"ghosts\"]}", Err("there is no team \"ghosts\""));
    check("{\"from\": \"dba\"}", Err("`from` is a list"));
    check("{\"cout\": 2}", Err("`cout` is none of count"));
    check("{\"author_may_approve\": \"yes\"}", Err("is true or false"));
    check("\"dba\"", Err("that is no object"));
    let decision = decide(DecisionKind::Approval, "require := {\"count\": 2}");
    assert!(decision.findings[0].message.contains("neither a set nor an array"), "{decision:?}");
}

#[test]
fn what_would_never_be_asked_is_refused() {
    let check = |kind: DecisionKind, body: &str, want: &str| {
        let found = load(kind, body).err().unwrap_or_else(|| panic!("loaded: {body}"));
        assert!(found.iter().any(|d| d.code == "WL451" && d.summary.contains(want)), "{body}: {found:?}");
    };
    use DecisionKind::{Access, Approval};
    check(Approval, "requires contains {} if true", "has no rule named require");
    check(Approval, "require contains {}\ndeny contains \"x\" if input.risk", "rule data.p.deny is never asked");
    check(Access, "require contains {}", "has no rule named allow or deny");
    // An indented rule is a rule.
    let found = decide(Approval, "  require contains {\"count\": 2} if {\n    input.risk == \"high\"\n  }");
    assert_eq!(found.required.len(), 1, "{found:?}");
    let sources = Sources {
        files: vec![("p.rego".into(), "package p\nimport rego.v1\nallow if input.actor.verified\n".into())],
        namespaces: vec!["p".into(), "q".into()],
        ..Sources::default()
    };
    for engine in [PolicyEngine::Embedded, PolicyEngine::Opa] {
        let found = Policy::load(Terms { engine, ..terms(Access) }, &sources).err().unwrap();
        assert_eq!((found.len(), found[0].code.as_str()), (1, "WL403"), "{found:?}");
    }
    let wrong = load(DecisionKind::Review, "deny contains \"x\" if input.rsk").err().unwrap();
    assert_eq!(wrong[0].code, "WL450");
}

#[test]
fn a_plan_is_kept_without_what_is_sensitive() {
    let mut plan = json!({
        "variables": { "token": { "value": 7 }, "size": { "value": 7 } },
        "configuration": { "root_module": { "variables": { "token": { "sensitive": true }, "size": {} } } },
        "planned_values": {
            "outputs": { "a": { "sensitive": true, "value": { "x": 1 } }, "b": { "sensitive": false, "value": "hunter22!" } },
            "root_module": { "resources": [
                { "address": "t.a", "values": { "pin": 1234, "name": "n", "list": [1, 2], "none": null },
                  "sensitive_values": { "pin": true, "list": [false, true], "none": true } }] },
        },
        "resource_changes": [{ "address": "t.a", "change": {
            "before": { "pin": 1 }, "before_sensitive": { "pin": true },
            "after": { "pin": 2, "url": "https://hunter22!@h" }, "after_sensitive": true } }],
    });
    masked_plan(&mut plan, &|text| text.replace("hunter22!", SENSITIVE));
    let at = |pointer: &str| plan.pointer(pointer).unwrap().clone();
    assert_eq!(at("/variables/token/value"), SENSITIVE);
    assert_eq!(at("/variables/size/value"), 7);
    assert_eq!(at("/planned_values/outputs/a/value"), SENSITIVE);
    assert_eq!(at("/planned_values/outputs/b/value"), SENSITIVE);
    let values = at("/planned_values/root_module/resources/0/values");
    assert_eq!(values, json!({ "pin": SENSITIVE, "name": "n", "list": [1, SENSITIVE], "none": null }));
    assert_eq!(at("/resource_changes/0/change/before"), json!({ "pin": SENSITIVE }));
    assert_eq!(at("/resource_changes/0/change/after"), SENSITIVE);
    assert!(!plan.to_string().contains("hunter22"));
}

#[test]
fn any_text_is_read_without_a_panic() {
    let words = [
        "input", ".", "[", "]", "{", "}", "(", ")", ":=", "some ", " in ", "every ", "import ", "\"", "\\", "`", "#",
        "\n", "é", "stacks", "x", "_", "1", " as ", "default ", "package ", "deny", ",", ";", "_test", "\"é", "\\é",
        "with ",
    ];
    // A fixed sequence: the same texts at each run.
    let mut state = 7u64;
    let mut next = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for _ in 0..2000 {
        let length = next(40);
        let text: String = (0..length).map(|_| words[next(words.len())]).collect();
        let path: Arc<str> = "a.rego".into();
        for token in scan::tokens(&text) {
            assert!(token.start < token.end && text.get(token.start..token.end).is_some(), "{text:?}");
            assert_eq!(token.line as usize, text[..token.start].matches('\n').count() + 1, "{text:?}");
        }
        scan::heads(&path, &text);
        for kind in DecisionKind::ALL {
            check_references(kind, &[(path.clone(), text.clone())]);
        }
    }
}
