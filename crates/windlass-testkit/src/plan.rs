//! Plans as `terraform show -json` renders them, of any size, made by a seed: the resource types of four large providers with
//! nested blocks, sets, policies as text, long texts, masks and values that are known after apply.

use crate::synthetic::Random;
use serde_json::{Map, Value, json};

/// Resource types: provider, type, attributes as `name:kind`.
const TYPES: [(&str, &str, &str); 36] = [
    (
        "aws",
        "aws_instance",
        "ami:id instance_type:word subnet_id:id user_data:script root_block_device:blocks tags:tags private_ip:known",
    ),
    (
        "aws",
        "aws_security_group",
        "name:word description:text vpc_id:id ingress:rules egress:rules tags:tags arn:known",
    ),
    ("aws", "aws_s3_bucket", "bucket:word force_destroy:flag policy:policy tags:tags arn:known versioning:blocks"),
    ("aws", "aws_s3_bucket_policy", "bucket:word policy:policy"),
    ("aws", "aws_iam_role", "name:word assume_role_policy:policy managed_policy_arns:texts tags:tags arn:known"),
    ("aws", "aws_iam_policy", "name:word path:word policy:policy description:text"),
    ("aws", "aws_iam_role_policy_attachment", "role:word policy_arn:id"),
    ("aws", "aws_lambda_function", "function_name:word role:id environment:blocks memory_size:number timeout:number"),
    (
        "aws",
        "aws_db_instance",
        "identifier:word engine:word instance_class:word password:secret allocated_storage:number storage_encrypted:flag deletion_protection:flag endpoint:known tags:tags",
    ),
    ("aws", "aws_dynamodb_table", "name:word billing_mode:word attribute:blocks hash_key:word tags:tags"),
    ("aws", "aws_vpc", "cidr_block:cidr enable_dns_hostnames:flag tags:tags default_route_table_id:known"),
    ("aws", "aws_subnet", "vpc_id:id cidr_block:cidr availability_zone:word tags:tags"),
    ("aws", "aws_route_table", "vpc_id:id route:rules tags:tags"),
    ("aws", "aws_lb", "name:word subnets:texts security_groups:texts internal:flag tags:tags dns_name:known"),
    ("aws", "aws_lb_listener", "load_balancer_arn:id port:number protocol:word default_action:blocks"),
    ("aws", "aws_ecs_task_definition", "family:word container_definitions:policy cpu:number memory:number"),
    (
        "aws",
        "aws_autoscaling_group",
        "name:word min_size:number max_size:number desired_capacity:number tag:blocks vpc_zone_identifier:texts",
    ),
    ("aws", "aws_cloudwatch_metric_alarm", "alarm_name:word threshold:number alarm_actions:texts dimensions:tags"),
    ("aws", "aws_kms_key", "description:text policy:policy enable_key_rotation:flag tags:tags"),
    ("aws", "aws_route53_record", "zone_id:id name:word type:word ttl:number records:texts"),
    (
        "azurerm",
        "azurerm_linux_virtual_machine",
        "name:word size:word admin_password:secret custom_data:script os_disk:blocks tags:tags",
    ),
    ("azurerm", "azurerm_storage_account", "name:word account_tier:word network_rules:blocks tags:tags id:known"),
    ("azurerm", "azurerm_network_security_group", "name:word location:word security_rule:rules tags:tags"),
    ("azurerm", "azurerm_kubernetes_cluster", "name:word default_node_pool:blocks identity:blocks kube_config:known"),
    ("azurerm", "azurerm_key_vault", "name:word access_policy:blocks purge_protection_enabled:flag tags:tags"),
    ("azurerm", "azurerm_mssql_database", "name:word sku_name:word max_size_gb:number tags:tags"),
    ("google", "google_compute_instance", "name:word machine_type:word metadata:tags boot_disk:blocks labels:tags"),
    ("google", "google_compute_firewall", "name:word allow:rules source_ranges:cidrs target_tags:texts"),
    ("google", "google_container_cluster", "name:word location:word node_config:blocks master_auth:known"),
    ("google", "google_storage_bucket", "name:word location:word lifecycle_rule:blocks labels:tags"),
    ("google", "google_sql_database_instance", "name:word settings:blocks root_password:secret"),
    ("google", "google_project_iam_binding", "project:word role:word members:texts"),
    ("kubernetes", "kubernetes_deployment", "metadata:blocks spec:blocks"),
    ("kubernetes", "kubernetes_config_map", "metadata:blocks data:scripts"),
    ("kubernetes", "kubernetes_service", "metadata:blocks spec:blocks wait_for_load_balancer:flag"),
    ("helm", "helm_release", "name:word chart:word version:word values:yaml namespace:word"),
];

const WORDS: [&str; 16] = [
    "payments", "ledger", "orders", "identity", "search", "media", "tokyo", "osaka", "primary", "replica", "internal",
    "public", "batch", "edge", "audit", "core",
];

/// A value, what of it is sensitive, and what is known after apply only; the latter two shaped as terraform has them.
struct Attribute {
    value: Value,
    sensitive: Value,
    unknown: Value,
}

fn plain(value: Value) -> Attribute {
    let unknown = match &value {
        Value::Array(items) => Value::Array(items.iter().map(mask_of).collect()),
        Value::Object(_) => json!({}),
        _ => Value::Bool(false),
    };
    Attribute { value, sensitive: unknown.clone(), unknown }
}

fn mask_of(value: &Value) -> Value {
    match value {
        Value::Object(_) => json!({}),
        _ => Value::Bool(false),
    }
}

fn word(random: &mut Random) -> String {
    format!("{}-{}-{}", WORDS[random.below(16)], WORDS[random.below(16)], random.below(1000))
}

fn id(random: &mut Random, prefix: &str) -> String {
    format!("{prefix}-{:016x}", random.number())
}

fn cidr(random: &mut Random) -> String {
    format!("10.{}.{}.0/24", random.below(256), random.below(256))
}

fn script(random: &mut Random) -> String {
    let mut text = String::from("#!/bin/sh\nset -eu\n");
    for step in 0..34 + random.below(64) {
        text.push_str(&format!("echo 'step {step}: {}' >> /var/log/setup.log\n", word(random)));
    }
    text
}

fn policy(random: &mut Random) -> String {
    let statements: Vec<Value> = (0..4 + random.below(6))
        .map(|n| {
            json!({
                "Sid": format!("Statement{n}"),
                "Effect": if random.below(8) == 0 { "Deny" } else { "Allow" },
                "Action": [format!("s3:Get{}", WORDS[random.below(16)]), "s3:ListBucket", "kms:Decrypt"],
                "Resource": [format!("arn:aws:s3:::{}/*", word(random)), format!("arn:aws:s3:::{}", word(random))],
                "Condition": {"StringEquals": {"aws:SourceVpc": id(random, "vpc")}},
            })
        })
        .collect();
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn rules(random: &mut Random) -> Value {
    (0..4 + random.below(8))
        .map(|_| {
            let port = 1024 + random.below(40_000);
            json!({
                "from_port": port, "to_port": port, "protocol": "tcp", "description": word(random),
                "cidr_blocks": [cidr(random), cidr(random)], "security_groups": [], "self": false,
            })
        })
        .collect()
}

fn attribute(kind: &str, random: &mut Random) -> Attribute {
    let value = match kind {
        "word" => json!(word(random)),
        "text" => json!(format!("Managed by the platform team for {} and {}", word(random), word(random))),
        "id" => json!(id(random, "vpc")),
        "cidr" => json!(cidr(random)),
        "cidrs" => (0..4).map(|_| cidr(random)).collect(),
        "number" => json!(random.below(1000)),
        "flag" => json!(random.below(2) == 0),
        "texts" => (0..3).map(|_| id(random, "subnet")).collect(),
        "tags" => json!({
            "Name": word(random), "Team": WORDS[random.below(16)], "Environment": "production",
            "CostCenter": format!("{}", random.below(9000)), "ManagedBy": "terraform",
        }),
        "policy" => json!(policy(random)),
        "script" => json!(script(random)),
        "scripts" => json!({"setup.sh": script(random), "teardown.sh": script(random)}),
        "yaml" => json!([format!(
            "replicas: {}\nimage:\n  repository: registry.example.com/{}\n  tag: v{}\nresources:\n  limits:\n    memory: {}Mi\n",
            random.below(9),
            word(random),
            random.below(99),
            random.below(4096)
        )]),
        "rules" => rules(random),
        "blocks" => (0..2 + random.below(4))
            .map(|_| {
                json!({
                    "name": word(random), "size": random.below(500), "encrypted": true, "kms_key_id": id(random, "key"),
                    "labels": {"tier": WORDS[random.below(16)], "zone": WORDS[random.below(16)]},
                })
            })
            .collect(),
        "secret" => {
            let secret = json!(format!("pw-{:016x}", random.number()));
            return Attribute { value: secret, sensitive: json!(true), unknown: json!(false) };
        }
        // "known": after apply.
        _ => return Attribute { value: Value::Null, sensitive: json!(false), unknown: json!(true) },
    };
    plain(value)
}

struct Made {
    values: Map<String, Value>,
    sensitive: Map<String, Value>,
    unknown: Map<String, Value>,
}

fn make(attributes: &str, random: &mut Random) -> Made {
    let mut made = Made { values: Map::new(), sensitive: Map::new(), unknown: Map::new() };
    for (name, kind) in attributes.split_whitespace().filter_map(|attribute| attribute.split_once(':')) {
        let Attribute { value, sensitive, unknown } = attribute(kind, random);
        let is_unknown = unknown == Value::Bool(true);
        if !is_unknown {
            made.values.insert(name.into(), value);
        }
        if sensitive != Value::Bool(false) {
            made.sensitive.insert(name.into(), sensitive);
        }
        if unknown != Value::Bool(false) {
            made.unknown.insert(name.into(), unknown);
        }
    }
    made
}

/// A plan of `resources` changes. Of a hundred, 55 are created, 30 updated, 6 replaced, 4 destroyed, and 5 stay.
pub fn synthetic_plan(resources: usize, seed: u64) -> Value {
    let random = &mut Random::new(seed);
    let mut changes = Vec::with_capacity(resources);
    let mut planned = Vec::with_capacity(resources);
    let mut prior = Vec::new();
    let mut configured = Vec::with_capacity(resources);
    for n in 0..resources {
        let (provider, kind, attributes) = TYPES[n % TYPES.len()];
        let name = format!("{}_{n}", WORDS[random.below(16)]);
        let module = (n % 3 == 0).then(|| format!("module.{}", WORDS[n % 16]));
        let address = module.iter().fold(format!("{kind}.{name}"), |rest, module| format!("{module}.{rest}"));
        let provider_name = format!("registry.terraform.io/hashicorp/{provider}");
        let mut after = make(attributes, random);
        let mut before = after.values.clone();
        let identity = json!(id(random, "res"));
        before.insert("id".into(), identity.clone());
        let (actions, paths) = match random.below(100) {
            0..55 => (json!(["create"]), Value::Null),
            55..85 => (json!(["update"]), Value::Null),
            85..91 => (json!(["delete", "create"]), json!([["name"]])),
            91..95 => (json!(["delete"]), Value::Null),
            _ => (json!(["no-op"]), Value::Null),
        };
        let is = |word: &str| actions.as_array().is_some_and(|all| all.iter().any(|action| action == word));
        if is("create") {
            after.unknown.insert("id".into(), json!(true));
        } else {
            after.values.insert("id".into(), identity);
        }
        if is("update") || is("create") && is("delete") {
            // Two attributes are another value now.
            for (name, kind) in attributes.split_whitespace().filter_map(|a| a.split_once(':')).take(2) {
                before.insert(name.into(), attribute(kind, random).value);
            }
        }
        let mut change = json!({
            "actions": actions,
            "before": if is("create") && !is("delete") { Value::Null } else { Value::Object(before.clone()) },
            "after": if is("delete") && !is("create") { Value::Null } else { Value::Object(after.values.clone()) },
            "after_unknown": after.unknown,
            "before_sensitive": if is("create") && !is("delete") { json!(false) } else { json!(after.sensitive) },
            "after_sensitive": after.sensitive,
        });
        if !paths.is_null() {
            change["replace_paths"] = paths;
        }
        let base = |extra: Value| {
            let mut resource = json!({
                "address": address, "mode": "managed", "type": kind, "name": name, "provider_name": provider_name,
            });
            if let (Some(resource), Value::Object(extra)) = (resource.as_object_mut(), extra) {
                resource.extend(extra);
                resource.extend(module.iter().map(|module| ("module_address".to_owned(), json!(module))));
            }
            resource
        };
        if !change["after"].is_null() {
            planned.push(base(
                json!({"schema_version": 1, "values": after.values, "sensitive_values": change["after_sensitive"]}),
            ));
        }
        if !change["before"].is_null() {
            prior.push(base(
                json!({"schema_version": 1, "values": before, "sensitive_values": change["before_sensitive"]}),
            ));
        }
        let expressions: Map<String, Value> = attributes
            .split_whitespace()
            .filter_map(|attribute| attribute.split_once(':'))
            .filter(|(_, kind)| *kind != "known")
            .map(|(name, _)| (name.to_owned(), json!({"references": [format!("var.{name}"), "local.common"]})))
            .collect();
        configured.push(json!({
            "address": format!("{kind}.{name}"), "mode": "managed", "type": kind, "name": name,
            "provider_config_key": provider, "expressions": expressions, "schema_version": 1,
        }));
        changes.push(base(json!({ "change": change })));
    }
    json!({
        "format_version": "1.2", "terraform_version": "1.11.4",
        "variables": {"environment": {"value": "production"}},
        "planned_values": {"outputs": {"endpoint": {"sensitive": false}}, "root_module": {"resources": planned}},
        "resource_changes": changes,
        "output_changes": {"endpoint": {
            "actions": ["create"], "before": null, "after_unknown": true, "before_sensitive": false, "after_sensitive": false,
        }},
        "prior_state": {
            "format_version": "1.0", "terraform_version": "1.11.4", "values": {"root_module": {"resources": prior}},
        },
        "configuration": {
            "provider_config": {"aws": {"name": "aws", "full_name": "registry.terraform.io/hashicorp/aws"}},
            "root_module": {"resources": configured, "variables": {"environment": {}}},
        },
        "timestamp": "2025-01-01T00:00:00Z", "applyable": true, "complete": true, "errored": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_the_same_for_the_same_seed_and_looks_like_one() {
        let plan = synthetic_plan(200, 7);
        assert_eq!(plan, synthetic_plan(200, 7));
        assert_ne!(plan, synthetic_plan(200, 8));
        let changes = plan["resource_changes"].as_array().unwrap();
        assert_eq!(changes.len(), 200);
        let types: std::collections::BTreeSet<&str> = changes.iter().filter_map(|c| c["type"].as_str()).collect();
        assert_eq!(types.len(), TYPES.len());
        let actions: std::collections::BTreeSet<String> =
            changes.iter().map(|c| c["change"]["actions"].to_string()).collect();
        assert_eq!(actions.len(), 5);
        assert!(changes.iter().any(|c| c["change"]["after_sensitive"]["password"] == true));
        assert!(changes.iter().any(|c| c["change"]["after_unknown"]["arn"] == true));
    }
}
