use super::*;
use crate::terraform::syntax::parse_expression;

struct Names;

impl Scope for Names {
    fn lookup(&self, root: &str, name: Option<&str>) -> Option<Value> {
        match (root, name) {
            ("var", Some("env")) => Some(Value::string("prod")),
            ("var", Some("targets")) => Some(Value::List(vec![Value::string("cassandra"), Value::string("scalardl")])),
            ("var", Some("tags")) => Some(Value::from_json(&serde_json::json!({"a": "1", "n": {"x": 2}}))),
            ("var", Some("secret")) => Some(Value::unknown("variable `secret` has no value")),
            ("path", Some("module")) => Some(Value::string(".")),
            _ => None,
        }
    }
    fn file(&self, path: &str) -> Option<Vec<u8>> {
        (path == "./name.txt").then(|| b"abc\n".to_vec())
    }
}

fn check(text: &str, want: serde_json::Value) {
    let value = evaluate(&parse_expression(text, 0).unwrap(), &Names);
    assert_eq!(value.to_json(), Some(want), "{text}: {value:?}");
}

fn unknown(text: &str, why: &str) {
    let value = evaluate(&parse_expression(text, 0).unwrap(), &Names);
    let found = value.why_unknown().unwrap_or_else(|| panic!("{text} is known: {value:?}"));
    assert!(found.contains(why), "{text}: {found}");
}

#[test]
fn known_values() {
    check(r#""${var.env}/network/terraform.tfstate""#, "prod/network/terraform.tfstate".into());
    check(r#"format("%s-%03d-%%", var.env, 7)"#, "prod-007-%".into());
    check(r#"format("%[2]s%[1]s", "a", "b")"#, "ba".into());
    check(r#"join("-", concat(["a"], var.targets))"#, "a-cassandra-scalardl".into());
    check(r#"split("/", "a/b")[1]"#, "b".into());
    check(r#"lookup(var.tags, "a", "x")"#, "1".into());
    check(r#"lookup(var.tags, "b", "x")"#, "x".into());
    check(r#"merge(var.tags, {a = "2"}).a"#, "2".into());
    check(r#"var.tags.n["x"] + 1"#, 3.into());
    check(r#"contains(var.targets, "cassandra") ? 1 : 0"#, 1.into());
    check(r#"try(var.tags.missing, "fallback")"#, "fallback".into());
    check(r#"can(var.tags.missing)"#, false.into());
    check(r#"coalesce(null, "", "x")"#, "x".into());
    check(r#"[for t in var.targets : upper(t) if t != "scalardl"]"#, serde_json::json!(["CASSANDRA"]));
    check(r#"{for k, v in var.tags : k => k}"#, serde_json::json!({"a": "a", "n": "n"}));
    check(r#"[{a = 1}, {a = 2}][*].a"#, serde_json::json!([1, 2]));
    check(r#"trimprefix(replace("x.y", ".", "-"), "x")"#, "-y".into());
    check(r#"chomp(file("${path.module}/name.txt"))"#, "abc".into());
    check(r#"!(1 > 2) && var.env == "prod""#, true.into());
    check(r#"element(["a", "b"], 3)"#, "b".into());
    check(r#"substr("hello", 1, 3)"#, "ell".into());
    check(r#"title("hello world")"#, "Hello World".into());
    check("jsonencode({a = [1]})", r#"{"a":[1]}"#.into());
    check(r#"false && var.secret"#, false.into());
    check(r#"lookup({a = var.secret, b = "2"}, "b", "")"#, "2".into());
    check(r#"var.secret == "x" ? "same" : "same""#, "same".into());
}

#[test]
fn unknown_stays_unknown_and_says_why() {
    unknown(r#""${var.secret}/x""#, "variable `secret` has no value");
    unknown("aws_vpc.main.id", "`aws_vpc.main` is not known before a plan");
    unknown(r#"md5("x")"#, "function md5()");
    unknown("[var.secret]", "variable `secret`");
    unknown(r#"merge({a = 1}, var.secret)"#, "variable `secret`");
    unknown(r#"try(var.secret, "fallback")"#, "variable `secret`");
}
