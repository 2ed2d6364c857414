use super::types::rows;
use super::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Changes as `ACTION TYPE.NAME`, e.g. `destroy aws_sqs_queue.a`, with attributes that change.
fn effect(changes: &[(&str, Value)]) -> Effect {
    let rows: Vec<Value> = changes
        .iter()
        .map(|(text, after)| {
            let (action, address) = text.split_once(' ').unwrap();
            let actions = match action {
                "replace" => json!(["delete", "create"]),
                "replace_create_first" => json!(["create", "delete"]),
                "destroy" => json!(["delete"]),
                other => json!([other]),
            };
            let change = json!({"actions": actions, "before": {}, "after": after});
            json!({"address": address, "type": address.split_once('.').unwrap().0, "provider_name": "p", "change": change})
        })
        .collect();
    let plan = json!({"format_version": "1.2", "resource_changes": rows});
    Effect::from_plan_json("a".into(), &plan, b"key").unwrap()
}

fn plain(changes: &[&str]) -> Effect {
    effect(&changes.iter().map(|text| (*text, json!({}))).collect::<Vec<_>>())
}

fn check(effect: &Effect, context: &Context, level: Level, score: u32, reasons: &[&str]) {
    let risk = rank(effect, context);
    let texts: Vec<&str> = risk.reasons.iter().map(|reason| reason.text.as_str()).collect();
    assert_eq!(texts, reasons);
    assert_eq!((risk.level, risk.score), (level, score), "{reasons:?}");
}

#[test]
fn what_a_reviewer_reads() {
    let calm = Context::default();
    let is = |changes: &[&str], level, score, reasons: &[&str]| check(&plain(changes), &calm, level, score, reasons);
    is(&[], Level::Low, 0, &[]);
    is(&["create aws_db_instance.main", "update aws_db_instance.other"], Level::Low, 0, &[]);
    is(&["forget aws_db_instance.main"], Level::Low, 0, &[]);
    is(
        &["replace aws_db_instance.main"],
        Level::High,
        60,
        &["replaces aws_db_instance.main: the database is destroyed first, data in it is lost unless restored"],
    );
    is(
        &["replace_create_first aws_kms_key.k"],
        Level::High,
        60,
        &[
            "replaces aws_kms_key.k: a new one is made, then the old one destroyed, whatever is encrypted with it becomes unreadable",
        ],
    );
    is(
        &["destroy aws_sqs_queue.a", "destroy aws_sqs_queue.b"],
        Level::Medium,
        45,
        &["destroys 2 queues (aws_sqs_queue.a, aws_sqs_queue.b): messages in them are lost"],
    );
    is(
        &["replace aws_instance.a", "destroy null_resource.n", "update aws_iam_role.r", "create aws_eip.e"],
        Level::High,
        60,
        &[
            "changes who may do what: aws_iam_role.r",
            "changes what can be reached over the network: aws_eip.e",
            "replaces aws_instance.a: the machine is destroyed first, what is on its own disks is lost",
            "destroys or replaces null_resource.n",
        ],
    );
}

#[test]
fn the_surroundings_count() {
    let queue = plain(&["destroy aws_sqs_queue.a"]);
    let lost = "destroys aws_sqs_queue.a: messages in it are lost";
    let context = |protected, dependants, history: &[usize]| Context { protected, dependants, history: history.into() };
    check(&queue, &context(false, 1, &[]), Level::Medium, 45, &[lost, "1 other instance reads from it"]);
    check(
        &queue,
        &context(true, 20, &[]),
        Level::Critical,
        85,
        &[lost, "20 other instances read from it, directly or through others", "the stack is protected"],
    );
    // Nothing happens: nothing to warn of.
    check(&plain(&[]), &context(true, 20, &[]), Level::Low, 0, &[]);
    let names: Vec<String> = (0..12).map(|n| format!("create terraform_data.x{n}")).collect();
    let dozen = plain(&names.iter().map(String::as_str).collect::<Vec<_>>());
    check(&dozen, &context(false, 0, &[1, 2]), Level::Low, 5, &["touches 12 resources"]);
    check(
        &dozen,
        &context(false, 0, &[1, 2, 3]),
        Level::Medium,
        30,
        &["touches 12 resources; its last 3 applies touched at most 3 (95th percentile)"],
    );
}

#[test]
fn checks_that_fail_count() {
    let mut effect = plain(&[]);
    for (address, status) in [("check.a", "unknown"), ("check.b", "fail"), ("check.c", "error")] {
        let result = crate::effect::CheckResult { status: status.into(), problems: vec![] };
        effect.checks.insert(address.into(), result);
    }
    check(&effect, &Context::default(), Level::Medium, 30, &["2 checks (check.b, check.c) fail"]);
    effect.checks.remove("check.c");
    check(&effect, &Context::default(), Level::Medium, 30, &["check.b fails"]);
}

#[test]
fn what_opens_to_everybody() {
    let check = |change: &str, after: Value, open: bool| {
        let risk = rank(&effect(&[(change, after.clone())]), &Context::default());
        let found = risk.reasons.iter().any(|reason| reason.code == ReasonCode::OpenToAll);
        assert_eq!(found, open, "{change} {after}");
    };
    let world = json!(["10.0.0.0/8", "0.0.0.0/0"]);
    check("create aws_security_group_rule.a", json!({"type": "ingress", "cidr_blocks": world}), true);
    check("create aws_security_group_rule.a", json!({"type": "egress", "cidr_blocks": world}), false);
    check("create aws_security_group_rule.a", json!({"type": "ingress", "cidr_blocks": ["10.0.0.0/8"]}), false);
    check("destroy aws_security_group_rule.a", json!(null), false);
    check("create aws_security_group.a", json!({"ingress": [{"cidr_blocks": world}]}), true);
    check("create aws_security_group.a", json!({"egress": [{"cidr_blocks": world}]}), false);
    check("create aws_vpc_security_group_ingress_rule.a", json!({"cidr_ipv6": "::/0"}), true);
    check("create aws_vpc_security_group_egress_rule.a", json!({"cidr_ipv6": "::/0"}), false);
    check("create aws_route.a", json!({"destination_cidr_block": "0.0.0.0/0"}), false);
    check("create google_compute_firewall.a", json!({"source_ranges": world}), true);
    check("create google_compute_firewall.a", json!({"source_ranges": world, "direction": "EGRESS"}), false);
    check("create azurerm_network_security_rule.a", json!({"source_address_prefix": "*"}), true);
    check(
        "create azurerm_network_security_rule.a",
        json!({"source_address_prefix": "10.0.0.0/8", "destination_address_prefix": "*"}),
        false,
    );
    check("create terraform_data.a", json!({"input": "0.0.0.0/0"}), false);
}

#[test]
fn an_effect_out_of_proportion() {
    let check = |touched: usize, history: &[usize], usual: Option<usize>| {
        assert_eq!(unexpectedly_large(touched, history).map(|l| l.usual), usual, "{touched} {history:?}");
    };
    check(100, &[], None);
    check(100, &[1, 1], None);
    check(100, &[1, 1, 1], Some(1));
    check(9, &[0, 0, 0], None);
    check(10, &[0, 0, 0], Some(0));
    check(12, &[4, 4, 4], None);
    check(13, &[4, 4, 4], Some(4));
    // One large apply among twenty is not the usual.
    let mut history = vec![2; 19];
    history.push(40);
    check(30, &history, Some(2));
    history.push(40);
    check(30, &history, None);
    // Only the last twenty are looked at.
    let old: Vec<usize> = [1000; 30].into_iter().chain([2; 20]).collect();
    check(30, &old, Some(2));
}

#[test]
fn types_have_their_class() {
    let check = |resource_type: &str, want: Option<Class>| assert_eq!(class_of(resource_type), want, "{resource_type}");
    check("aws_s3_bucket", Some(Class::Data(Holds::Bucket)));
    check("aws_s3_bucket_policy", Some(Class::Access));
    check("aws_s3_bucket_versioning", None);
    check("aws_db_parameter_group", None);
    check("aws_fsx_lustre_file_system", Some(Class::Data(Holds::Volume)));
    check("aws_fsx_backup", Some(Class::Data(Holds::Backup)));
    check("aws_iam_role_policy_attachment", Some(Class::Access));
    check("aws_iam_service_linked_role", Some(Class::Plain));
    check("aws_route53_zone", Some(Class::Data(Holds::Zone)));
    check("aws_route_table_association", Some(Class::Network));
    check("azurerm_private_dns_zone", Some(Class::Data(Holds::Zone)));
    check("azurerm_private_dns_a_record", Some(Class::Network));
    check("azurerm_cosmosdb_cassandra_table", Some(Class::Data(Holds::Table)));
    check("google_storage_bucket", Some(Class::Data(Holds::Bucket)));
    check("google_storage_bucket_iam_member", Some(Class::Access));
    check("google_compute_firewall", Some(Class::Network));
    check("kubernetes_persistent_volume_claim_v1", Some(Class::Data(Holds::Volume)));
    check("kubernetes_deployment", None);
    check("oci_objectstorage_bucket", Some(Class::Data(Holds::Bucket)));
    check("hcloud_firewall", Some(Class::Network));
    check("terraform_data", None);
}

#[test]
fn the_table_has_one_star_at_an_end_and_no_row_twice() {
    let rows = rows();
    assert!(rows.len() > 300);
    let bad: Vec<&&str> = rows
        .iter()
        .filter(|row| row.trim_start_matches('*').trim_end_matches('*').contains('*') || row.matches('*').count() > 1)
        .collect();
    assert_eq!(bad, [&""; 0]);
    let mut seen = BTreeSet::new();
    let twice: Vec<&&str> = rows.iter().filter(|row| !seen.insert(**row)).collect();
    assert_eq!(twice, [&""; 0]);
}

#[test]
fn a_risk_is_stored_and_read() {
    let risk = rank(&plain(&["destroy aws_sqs_queue.a"]), &Context { protected: true, ..Context::default() });
    let text = serde_json::to_value(&risk).unwrap();
    assert_eq!((&text["level"], &text["reasons"][0]["code"]), (&json!("high"), &json!("data_destroyed")));
    assert_eq!(serde_json::from_value::<Risk>(text).unwrap(), risk);
}
