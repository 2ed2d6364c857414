//! A review with something of everything, and its neighbours, for tests.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use windlass_model::diagnostic::{Diagnostic, Span};
use windlass_model::effect::{Effect, digest_all};
use windlass_model::id::{InstanceId, RunId};
use windlass_model::review::document::{Context, Document, Earlier};
use windlass_model::review::{
    AffectedKind, Finding, Level, Outcome, Reader, Reason, Review, Revision, Severity, StackReview, Stage, Verdict,
};
use windlass_model::risk;
use windlass_model::waiver::Waived;

/// Text that wants to be more than text, in every sink.
pub const HOSTILE: &str =
    "</details><script>alert(1)</script> @octocat #12 | `tick` ```\n~~~ [x](javascript:1) **b** <!-- -->";

/// What nobody may see.
pub const SECRET: &str = "hunter2-but-longer";

pub fn effect(instance: &str, resources: Value, outputs: Value) -> Effect {
    let plan = json!({"format_version": "1.2", "resource_changes": resources, "output_changes": outputs});
    Effect::from_plan_json(instance.into(), &plan, b"key").unwrap()
}

/// A change as a plan has it: `ACTION ADDRESS`.
pub fn change(text: &str, before: Value, after: Value) -> Value {
    let (action, address) = text.split_once(' ').unwrap();
    let actions = match action {
        "replace" => json!(["delete", "create"]),
        "destroy" => json!(["delete"]),
        other => json!([other]),
    };
    let kind = address.rsplit_once('.').unwrap().0.rsplit('.').next().unwrap();
    json!({"address": address, "type": kind, "provider_name": "p", "change": {"actions": actions, "before": before, "after": after}})
}

pub fn stack(instance: &str, outcome: Outcome) -> StackReview {
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

pub fn planned(instance: &str, resources: Value) -> StackReview {
    let effect = effect(instance, resources, json!({}));
    stack(instance, Outcome::Planned { effect })
}

pub fn review(stacks: Vec<StackReview>, verdict: Verdict) -> Review {
    let revision = |name: &str, digit: &str| Revision { name: name.into(), commit: digit.repeat(40) };
    let effect_digest = digest_all(stacks.iter().filter_map(|s| s.outcome.effect()));
    Review {
        run: RunId::new("01k9zzzzzzzzzzzzzzzzzzzzzz"),
        project: "shop".into(),
        base: Some(revision("main", "b")),
        head: revision("bigger-database", "a"),
        dirty: Vec::new(),
        authors: vec!["Dev <dev@example.com>".into()],
        unknown_authors: Vec::new(),
        stacks,
        findings: Vec::new(),
        diagnostics: Vec::new(),
        policy_digest: "d".repeat(64),
        effect_digest,
        verdict,
        readers_beyond: BTreeMap::new(),
    }
}

fn database(region: &str, class: &str) -> StackReview {
    let instance = format!("aws/db[{region}]");
    let mut main = change(
        "replace aws_db_instance.main",
        json!({"engine_version": "14.9", "instance_class": "db.t3.small", "password": SECRET, "id": "db-1"}),
        json!({"engine_version": "16.1", "instance_class": class, "password": format!("{SECRET}-new")}),
    );
    main["change"]["replace_paths"] = json!([["engine_version"]]);
    main["change"]["before_sensitive"] = json!({"password": true});
    main["change"]["after_sensitive"] = json!({"password": true});
    main["change"]["after_unknown"] = json!({"id": true, "arn": true, "endpoint": true});
    let mut stack = planned(
        &instance,
        json!([
            main,
            change(
                "update aws_db_parameter_group.main",
                json!({"family": "postgres14"}),
                json!({"family": "postgres16"})
            )
        ]),
    );
    stack.environments = vec!["production".into()];
    stack.owner = Some("data".into());
    stack.reasons = vec![Reason {
        cause: "modules/db/main.tf".into(),
        change: "modified".into(),
        chain: vec!["module \"db\" (aws/db/main.tf:3)".into()],
    }];
    stack.dependants = BTreeMap::from([("aws_db_instance.main".to_owned(), vec!["aws_route53_record.db".to_owned()])]);
    stack.findings = vec![backups()];
    stack
}

fn backups() -> Finding {
    Finding {
        rule: Some("data.main.deny_backups".into()),
        address: Some("aws_db_instance.main".into()),
        code: Some(Span { line: 12, ..Span::file("modules/db/main.tf") }),
        policy: Some(Span { line: 7, ..Span::file("policy/backups.rego") }),
        severity: Some(Severity::High),
        help: Some("https://wiki.example.com/backups".into()),
        ..Finding::new(Level::Deny, "policy backups", "databases keep backups for 7 days: set backup_retention_period")
    }
}

fn network() -> StackReview {
    let policy = |action: &str| {
        json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]})
            .to_string()
    };
    let script = |port: u32| {
        let lines: Vec<String> =
            (1..=12).map(|n| if n == 6 { format!("listen {port}") } else { format!("line {n}") }).collect();
        lines.join("\n")
    };
    let resources = json!([
        change("update aws_security_group_rule.web", json!({"cidr_blocks": ["10.0.0.0/8"], "type": "ingress"}), json!({"cidr_blocks": ["10.0.0.0/8", "0.0.0.0/0"], "type": "ingress"})),
        change("update aws_iam_role_policy.app", json!({"policy": policy("s3:GetObject")}), json!({"policy": policy("s3:*")})),
        change("update aws_instance.gate", json!({"user_data": script(80), "tags": {"Name": "gate"}}), json!({"user_data": script(443), "tags": {"Name": HOSTILE}})),
        {"address": "aws_vpc.new", "previous_address": "aws_vpc.old", "type": "aws_vpc", "change": {"actions": ["no-op"]}},
        {"address": "aws_eip.hand", "type": "aws_eip", "change": {"actions": ["no-op"], "importing": {"id": "eip-1"}}},
        {"address": "aws_eip.left", "type": "aws_eip", "change": {"actions": ["forget"]}},
    ]);
    let outputs = json!({
        "subnet": {"actions": ["update"], "before": "subnet-1", "after": "subnet-2"},
        "token": {"actions": ["update"], "before": SECRET, "after": format!("{SECRET}-2"), "before_sensitive": true, "after_sensitive": true},
        "gate": {"actions": ["create"], "before": null, "after_unknown": true},
    });
    let mut effect = effect("aws/network", resources, outputs);
    let drifted = json!([change("update aws_nat_gateway.main", json!({"tags": {"by": "hand"}}), json!({"tags": {}}))]);
    effect.drift = self::effect("aws/network", drifted, json!({})).changes;
    let mut stack = stack("aws/network", Outcome::Planned { effect });
    let reads = |instance: &str, outputs: &[&str]| Reader {
        instance: instance.into(),
        outputs: Some(outputs.iter().map(|o| (*o).to_owned()).collect()),
    };
    stack.readers = vec![reads("aws/app", &["subnet", "gate"]), reads("aws/monitor", &["subnet"])];
    let waived =
        Waived { by: "Lead <lead@example.com>".into(), reason: "moves next week".into(), until: 1_790_000_000_000_000 };
    stack.findings = vec![
        Finding::new(
            Level::Warn,
            "terraform fmt",
            "aws/network/main.tf is not formatted: run `terraform fmt aws/network/main.tf`",
        ),
        Finding {
            waived: Some(waived),
            ..Finding::new(Level::Warn, "policy regions", "aws_nat_gateway.main is in a region that is being left")
        },
    ];
    stack
}

fn app() -> StackReview {
    let mut made = change("create aws_instance.app", Value::Null, json!({"ami": "ami-1", "subnet_id": "subnet-2"}));
    made["change"]["after_unknown"] = json!({"id": true, "arn": true, "private_ip": true});
    let effect = effect("aws/app", json!([made]), json!({}));
    let mut stack = stack("aws/app", Outcome::Preview { effect, because: vec!["aws/network".into()] });
    stack.kind = AffectedKind::Dependant;
    stack.after = vec!["aws/network".into()];
    stack
}

/// The review.
pub fn rich() -> Review {
    let diagnostics = vec![
        Diagnostic::error("WL503", "Invalid provider configuration")
            .detail("No region was given.")
            .at_source(
                Span { line: 2, column: 3, end_line: 2, end_column: 9, ..Span::file("azure/x/main.tf") },
                "provider \"azurerm\" {\n  features {}\n}\n",
                "",
            )
            .help("set `location`"),
    ];
    let mut review = review(
        vec![
            network(),
            app(),
            database("tokyo", "db.m6g.large"),
            database("nagoya", "db.m6g.large"),
            database("osaka", "db.m6g.small"),
            stack("azure/x", Outcome::Failed { stage: Stage::Plan, diagnostics }),
            stack("azure/y", Outcome::Skipped { because: "azure/x".into() }),
            stack("gcp/old", Outcome::Deleted),
            stack("gcp/still", Outcome::Unaffected),
        ],
        Verdict::Denied,
    );
    let reader = Reader { instance: "aws/alerts".into(), outputs: None };
    review.findings =
        vec![Finding::new(Level::Deny, "policy freeze", "nothing is applied before the inventory is done")];
    review.readers_beyond = BTreeMap::from([(InstanceId::new("aws/monitor"), vec![reader])]);
    review
}

/// The push before it, which was approved.
pub fn earlier() -> Review {
    let mut earlier = rich();
    earlier.run = RunId::new("01k8zzzzzzzzzzzzzzzzzzzzzz");
    earlier.head.commit = "abc1234".repeat(6)[..40].to_owned();
    earlier.verdict = Verdict::NeedsApproval;
    earlier.findings.clear();
    for stack in &mut earlier.stacks {
        stack.findings.retain(|f| f.level == Level::Warn);
        if let Outcome::Planned { effect } = &mut stack.outcome
            && effect.instance.as_str().starts_with("aws/db")
        {
            effect.changes.retain(|c| c.resource_type != "aws_db_instance");
        }
    }
    earlier.stacks[0].findings.push(Finding::new(Level::Deny, "policy tags", "aws_instance.gate has no owner tag"));
    earlier
}

/// As people see it.
pub fn document() -> Document {
    let earlier = earlier();
    let context = Context {
        given: false,
        missing_approvals: Vec::new(),
        last: Some(&earlier),
        approved: Some(&earlier),
        history: vec![Earlier::of(&earlier, 1_763_700_000_000_000, true)],
        link: None,
        progress: None,
    };
    Document::new(&rich(), context)
}

/// One stack with many resources: every tenth destroyed, among them databases.
pub fn large(resources: usize) -> Document {
    let rows: Vec<Value> = (0..resources)
        .map(|n| match n % 10 {
            0 if n % 100 == 0 => change(&format!("destroy aws_db_instance.d{n}"), json!({"size": n}), Value::Null),
            0 => change(&format!("destroy aws_instance.d{n}"), json!({"size": n}), Value::Null),
            1 => change(
                &format!("create aws_instance.c{n}"),
                Value::Null,
                json!({"size": n, "tags": {"Name": format!("n{n}")}}),
            ),
            _ => change(
                &format!("update aws_instance.u{n}"),
                json!({"size": n, "tags": {"a": "b"}}),
                json!({"size": n + 1, "tags": {"a": "c"}}),
            ),
        })
        .collect();
    let mut stack = planned("big", Value::Array(rows));
    stack.findings = vec![backups()];
    Document::new(&review(vec![stack], Verdict::Denied), Context::default())
}
