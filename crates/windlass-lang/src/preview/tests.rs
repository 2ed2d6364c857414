use super::*;
use serde_json::{Value, json};

fn outputs(value: Value, unknown: Value, sensitive: bool) -> Outputs {
    BTreeMap::from([("id".to_owned(), PlannedOutput { value, before: Value::Null, unknown, sensitive, changed: true })])
}

fn rewritten(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let files: Vec<(String, String)> = files.iter().map(|(n, c)| ((*n).to_owned(), (*c).to_owned())).collect();
    let replaced = BTreeMap::from([("net".to_owned(), outputs(json!("v"), json!(false), false))]);
    let out: BTreeMap<String, String> = rewrite(&files, &replaced).unwrap().into_iter().collect();
    for (name, content) in &out {
        match name.ends_with(".tf") {
            true => drop(crate::terraform::syntax::parse_native(content, 0).unwrap()),
            false => drop(serde_json::from_str::<Value>(content).unwrap()),
        }
    }
    out
}

/// One file with a plain data source beside it: what becomes of the file.
fn check(name: &str, text: &str, want: &str) {
    let out = rewritten(&[("net.tf", "data \"terraform_remote_state\" \"net\" {\n}\n"), (name, text)]);
    assert_eq!(out.get(name).map_or(text, String::as_str), want);
}

const ID: &str = "{ \"id\" = jsondecode(\"\\\"v\\\"\") }";

#[test]
fn references_become_locals_and_nothing_else_changes() {
    let same = |text: &str| check("a.tf", text, text);
    check(
        "a.tf",
        "locals {\n  a = \"x-${data.terraform_remote_state.net.outputs.id}\" # keep\n  b = data.terraform_remote_state.network.outputs.id\n}\n",
        "locals {\n  a = \"x-${local.windlass_preview_net.outputs.id}\" # keep\n  b = data.terraform_remote_state.network.outputs.id\n}\n",
    );
    check(
        "a.tf",
        "locals {\n  a = <<-EOT\n    é ${data.terraform_remote_state.net.outputs.id}\n    %{ for x in data.terraform_remote_state.net[*].outputs.id ~}\n    ${x}\n    %{ endfor }\n  EOT\n  b = { (data.terraform_remote_state.net.outputs.id) = [for k, v in (data.terraform_remote_state.net).outputs : v if k != data.terraform_remote_state.net[0].outputs[\"id\"]] }\n}\n",
        "locals {\n  a = <<-EOT\n    é ${local.windlass_preview_net.outputs.id}\n    %{ for x in local.windlass_preview_net[*].outputs.id ~}\n    ${x}\n    %{ endfor }\n  EOT\n  b = { (local.windlass_preview_net.outputs.id) = [for k, v in (local.windlass_preview_net).outputs : v if k != local.windlass_preview_net[0].outputs[\"id\"]] }\n}\n",
    );
    same("resource \"t\" \"x\" {\n  depends_on = [data.terraform_remote_state.net[0], t.y]\n}\n");
    same(
        "# data.terraform_remote_state.net\nlocals {\n  a = \"data.terraform_remote_state.net $${data.terraform_remote_state.net}\"\n}\n",
    );
}

#[test]
fn a_data_source_keeps_its_block_and_its_conditions_see_the_new_outputs() {
    check(
        "net.tf",
        "data \"terraform_remote_state\" \"net\" {\n  count   = var.n\n  backend = \"s3\"\n  lifecycle {\n    postcondition {\n      condition     = self.outputs.id != \"\"\n      error_message = \"m\"\n    }\n  }\n}\n",
        &format!(
            "data \"terraform_remote_state\" \"net\" {{\n  count   = var.n\n  backend = \"s3\"\n  lifecycle {{\n    postcondition {{\n      condition     = merge(self, {{ outputs = merge(self.outputs, {ID}) }}).outputs.id != \"\"\n      error_message = \"m\"\n    }}\n  }}\n}}\n"
        ),
    );
}

#[test]
fn the_local_has_the_form_of_the_data_source_after_overrides() {
    let check = |files: &[(&str, &str)], want: &str| {
        let out = rewritten(files);
        let local = out[FILE].strip_prefix("locals {\n  windlass_preview_net = ").unwrap();
        assert_eq!(local.strip_suffix("\n}\n").unwrap().replace(ID, "OUT"), want, "{files:?}");
    };
    let one =
        "merge(data.terraform_remote_state.net, { outputs = merge(data.terraform_remote_state.net.outputs, OUT) })";
    let counted = "[for windlass_state in data.terraform_remote_state.net : merge(windlass_state, { outputs = merge(windlass_state.outputs, OUT) })]";
    let each = "{ for windlass_key, windlass_state in data.terraform_remote_state.net : windlass_key => merge(windlass_state, { outputs = merge(windlass_state.outputs, OUT) }) }";
    let plain = "data \"terraform_remote_state\" \"net\" {\n}\n";
    let with = |line: &str| format!("data \"terraform_remote_state\" \"net\" {{\n  {line}\n}}\n");
    check(&[("a.tf", plain)], one);
    check(&[("a.tf", &with("count = 1"))], counted);
    check(&[("a.tf", &with("for_each = {}"))], each);
    check(&[("a.tf", plain), ("x_override.tf", &with("count = 1"))], counted);
    check(
        &[("a.tf", plain), ("override.tf.json", r#"{"data":{"terraform_remote_state":{"net":{"for_each":{}}}}}"#)],
        each,
    );
    check(&[("a.tf", &with("count = 1")), ("a.tofu", plain)], one);
    for json in [
        r#"{"data":{"terraform_remote_state":{"net":{"count":1}}}}"#,
        r#"{"data":[{"terraform_remote_state":{"net":{"count":1}}}]}"#,
        r#"{"data":[{"x":{}},{"terraform_remote_state":[{"other":{}},{"net":[{"count":"${1}"}]}]}]}"#,
        r#"[{"locals":{}},{"data":{}},{"data":{"terraform_remote_state":{"net":{"count":1}}}}]"#,
        r#"{"data":{"terraform_remote_state":{"net":{"count":1}}},"data":{"x":{"y":{}}}}"#,
    ] {
        check(&[("a.tf.json", json)], counted);
    }
}

#[test]
fn strings_of_json_are_templates_and_the_rest_stays_byte_for_byte() {
    check(
        "a.tf.json",
        "{ \"//\": \"${data.terraform_remote_state.net}\", \"n\": 1e20,\n \"output\": [{\"o\": {\"value\": \"\\u00e9\\n${data.terraform_remote_state.net[0].outputs.id} $${data.terraform_remote_state.net}\",\n  \"depends_on\": [\"data.terraform_remote_state.net\"]}}],\n \"locals\": {\"a\": {\"${data.terraform_remote_state.net.outputs.id}\": \"%{ if true }${ data.terraform_remote_state.net.outputs.id }%{ endif }\"}, \"b\": \"data.terraform_remote_state.net\", \"c\": \"${\" } }",
        "{ \"//\": \"${data.terraform_remote_state.net}\", \"n\": 1e20,\n \"output\": [{\"o\": {\"value\": \"é\\n${local.windlass_preview_net[0].outputs.id} $${data.terraform_remote_state.net}\",\n  \"depends_on\": [\"data.terraform_remote_state.net\"]}}],\n \"locals\": {\"a\": {\"${local.windlass_preview_net.outputs.id}\": \"%{ if true }${ local.windlass_preview_net.outputs.id }%{ endif }\"}, \"b\": \"data.terraform_remote_state.net\", \"c\": \"${\" } }",
    );
    check(
        "a_override.tf.json",
        r#"{"data":[{"terraform_remote_state":{"net":[{"lifecycle":{"postcondition":[{"condition":"${self.outputs.id != 1}"}]}}]}}]}"#,
        &format!(
            r#"{{"data":[{{"terraform_remote_state":{{"net":[{{"lifecycle":{{"postcondition":[{{"condition":{}}}]}}}}]}}}}]}}"#,
            Value::from(format!("${{merge(self, {{ outputs = merge(self.outputs, {ID}) }}).outputs.id != 1}}"))
        ),
    );
}

#[test]
fn the_override_comes_after_those_of_the_repository() {
    let check = |others: &[&str], want: &str| {
        let files: Vec<(String, String)> = others.iter().map(|n| ((*n).to_owned(), String::new())).collect();
        assert_eq!(override_name(&files), want);
    };
    check(&["a.tf", "override.tf", "z.tf"], "windlass_preview_override.tf");
    check(&["z_override.tf"], "\u{10fffd}windlass_preview_override.tf");
    check(&["é_override.tf.json"], "\u{10fffd}windlass_preview_override.tf");
    check(&["\u{10fffd}z_override.tf"], "\u{10fffd}\u{10fffd}windlass_preview_override.tf");
}

#[test]
fn what_cannot_be_previewed_is_refused() {
    let check = |files: &[(&str, &str)], want: &str| {
        let files: Vec<(String, String)> = files.iter().map(|(n, c)| ((*n).to_owned(), (*c).to_owned())).collect();
        let replaced = BTreeMap::from([("net".to_owned(), outputs(Value::Null, json!(true), true))]);
        assert_eq!(rewrite(&files, &replaced).unwrap_err().to_string(), want);
    };
    let block = "data \"terraform_remote_state\" \"net\" {\n}\n";
    let reads =
        |what: &str| format!("a.tf reads `{what}` of data.terraform_remote_state.net, which a preview has to replace");
    let missing = "data.terraform_remote_state.net, which a preview has to replace, is in none of the files";
    check(&[("a.tf", "locals {\n  a = data.terraform_remote_state.net.outputs\n}\n")], missing);
    check(
        &[("a.tf", &format!("{block}locals {{\n  a = data.terraform_remote_state.net.config.path\n}}\n"))],
        &reads("config"),
    );
    check(
        &[("a.tf", &format!("{block}locals {{\n  a = data.terraform_remote_state.net[*].workspace\n}}\n"))],
        &reads("workspace"),
    );
    check(
        &[("a.tf.json", "{\"data\": \"terraform_remote_state\"")],
        "a.tf.json cannot be rewritten for a preview: EOF while parsing an object at line 1 column 33",
    );
}
