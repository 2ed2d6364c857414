use super::*;
use crate::discovery::Modules;
use crate::tree::MemoryTree;

fn found(files: &[(&str, &str)]) -> Vec<String> {
    let tree = MemoryTree::new(files.iter().map(|(path, content)| (path.to_string(), content.to_string())));
    let found = lint(&Modules::all(&tree), |_| true);
    found.iter().map(|d| format!("{} {} {}", d.labels[0].span, d.code, d.summary)).collect()
}

#[track_caller]
fn check(files: &[(&str, &str)], want: &[&str]) {
    assert_eq!(found(files), want);
}

#[test]
fn what_nobody_uses_is_told() {
    let text = r#"variable "used" {}
variable "unused" {
  validation {
    condition     = var.unused != ""
    error_message = "${var.used} is not it"
  }
}
locals {
  a = local.b
  b = 1
}
resource "x" "y" {
  z {
    dynamic "b" {
      for_each = var.used
    }
  }
}
"#;
    check(
        &[("m/main.tf", text)],
        &["m/main.tf:2 WL701 variable `unused` is not used", "m/main.tf:9 WL702 local `a` is not used"],
    );
    let json = r#"{"variable": {"a": {}, "b": {}}, "resource": {"x": {"y": {"z": [{"w": "${var.a}"}]}}}}"#;
    check(&[("m/main.tf.json", json)], &["m/main.tf.json:1 WL701 variable `b` is not used"]);
    // What cannot be read may use anything.
    check(&[("m/main.tf", "variable \"a\" {}\n"), ("m/b.tf", "resource {{{\n")], &[]);
}

#[test]
fn outputs_that_no_caller_uses_are_told() {
    let outputs = ["a", "b", "c"].map(|name| format!("output \"{name}\" {{\n  value = 1\n}}\n")).concat();
    let call = |rest: &str| format!("module \"m\" {{\n  source = \"../m\"\n  count  = 2\n}}\n{rest}");
    let unused = |rest: &str, want: &[&str]| {
        let caller = call(rest);
        let lines = [("a", 1), ("b", 4), ("c", 7)];
        let want: Vec<String> = lines
            .iter()
            .filter(|(name, _)| want.contains(name))
            .map(|(name, line)| format!("m/main.tf:{line} WL703 output `{name}` is used by no caller of this module"))
            .collect();
        assert_eq!(found(&[("m/main.tf", &outputs), ("s/main.tf", &caller)]), want, "{rest}");
    };
    unused("", &["a", "b", "c"]);
    unused("resource \"x\" \"y\" {\n  z = module.m[0].a\n}\n", &["b", "c"]);
    unused("resource \"x\" \"y\" {\n  z = \"${module.m[count.index].a}${module.m[1].b}\"\n}\n", &["c"]);
    unused("resource \"x\" \"y\" {\n  z = module.m[*].a\n}\n", &["b", "c"]);
    unused("resource \"x\" \"y\" {\n  z = module.m\n}\n", &[]);
    // The caller goes up to it.
    let up = "module \"m\" {\n  source = \"../..\"\n}\noutput \"x\" {\n  value = module.m.a\n}\n";
    assert_eq!(found(&[("r/main.tf", &outputs), ("r/examples/one/main.tf", up)]).len(), 2);
    // Nobody here calls it: it may be meant for others.
    check(&[("m/main.tf", &outputs)], &[]);
}

#[test]
fn modules_that_move_are_told() {
    let module = |source: &str, version: &str| format!("module \"m\" {{\n  source = \"{source}\"\n{version}}}\n");
    let told = |source: &str, version: &str, want: &[&str]| check(&[("s/main.tf", &module(source, version))], want);
    told("git::https://e.com/x.git", "", &["s/main.tf:1 WL704 module \"m\" is not pinned: it has no `ref`"]);
    told(
        "git::https://e.com/x.git?ref=master",
        "",
        &["s/main.tf:1 WL704 module \"m\" is not pinned: it moves with `master`"],
    );
    told("a/b/c", "", &["s/main.tf:1 WL704 module \"m\" is not pinned: it has no `version`"]);
    told(
        "a/b/c",
        "  version = \"~> 1.0\"\n",
        &["s/main.tf:1 WL704 module \"m\" is not pinned: it moves with `~> 1.0`"],
    );
    told("a/b/c", "  version = \"1.2.3\"\n", &[]);
    told("git::https://e.com/x.git?ref=v1.2.3", "", &[]);
}

#[test]
fn secrets_in_outputs_are_told() {
    let told = |name: &str, rest: &str, want: bool| {
        let text = format!("output \"{name}\" {{\n  {rest}\n}}\n");
        assert_eq!(found(&[("s/main.tf", &text)]).len(), usize::from(want), "{text}");
    };
    told("db_password", "value = aws_db_instance.x.password", true);
    told("db", "value = aws_db_instance.x[0].password", true);
    told("db", "value = aws_db_instance.x.endpoint", false);
    told("db_password", "value = aws_db_instance.x.password\n  sensitive = true", false);
    told("db_password", "value = nonsensitive(aws_db_instance.x.password)", false);
    told("password_policy", "value = x.y.z", false);
    told("secret_arn", "value = aws_secretsmanager_secret.x.arn", false);
}

#[test]
fn paths_of_one_machine_are_told() {
    let told = |value: &str, want: bool| {
        let text = format!("resource \"x\" \"y\" {{\n  z = file(\"{value}\")\n}}\n");
        assert_eq!(found(&[("s/main.tf", &text)]).len(), usize::from(want), "{value}");
    };
    told("/home/anna/.ssh/id_rsa", true);
    told("/Users/anna/key", true);
    told("~/.ssh/id_rsa", true);
    told("C:\\\\Users\\\\anna\\\\key", true);
    told("/home/ubuntu/app", false);
    told("/etc/hosts", false);
    told("${path.module}/x", false);
}

#[test]
fn shared_modules_describe_what_they_take() {
    let text = "variable \"a\" {\n  type = string\n}\noutput \"b\" {\n  value = var.a\n}\nvariable \"c\" {\n  description = \"It.\"\n  default = 1\n}\nresource \"x\" \"y\" {\n  z = var.c\n}\n";
    check(
        &[("modules/m/main.tf", text)],
        &["modules/m/main.tf:1 WL707 a shared module does not describe variable `a`, output `b`"],
    );
    check(&[("aws/m/main.tf", text)], &[]);
}

#[test]
fn a_comment_takes_a_warning_back() {
    let text = "# windlass:ignore WL701\nvariable \"a\" {}\nvariable \"b\" {} # windlass:ignore WL704, WL701\n\nvariable \"c\" {} # windlass:ignore WL702\n";
    check(&[("m/main.tf", text)], &["m/main.tf:5 WL701 variable `c` is not used"]);
}
