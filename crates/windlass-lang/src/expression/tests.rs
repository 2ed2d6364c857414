use super::*;
use proptest::prelude::*;
use serde_json::json;

fn written(text: &str) -> Expression {
    Expression {
        text: text.to_owned(),
        span: Span { file: "w.hcl".into(), line: 7, column: 11, end_line: 7, end_column: 20 },
    }
}

fn scope() -> Scope {
    Scope::default()
        .with("param", json!({ "cluster": "a", "n": 3, "yes": true, "hosts": ["x", "y"], "wait": "5m", "none": null }))
        .with("step", json!({ "dump": { "state": "succeeded", "outputs": { "path": "/p", "members": { "m": 1 } } } }))
        .with("each", json!({ "key": "x", "value": { "host": "h" }, "index": 2 }))
        .with("local", json!({ "base": "b" }))
}

#[test]
fn expressions_have_the_values_of_the_moment() {
    let check = |text: &str, want: serde_json::Value| {
        assert_eq!(evaluate(&written(text), &scope()), Ok(want), "{text}");
    };
    check("\"db-${param.cluster}\"", json!("db-a"));
    check("[\"ssh\", each.value.host, param.n]", json!(["ssh", "h", 3]));
    check("step.dump.outputs.members", json!({ "m": 1 }));
    check("step.dump.outputs[\"path\"]", json!("/p"));
    check("step[\"dump\"].outputs.path", json!("/p"));
    check("param.n > 2 && param.cluster == \"a\"", json!(true));
    check("[for h in param.hosts : upper(h) if h != \"x\"]", json!(["Y"]));
    check("try(step.dump.outputs.none, \"d\")", json!("d"));
    check("try(step.other.outputs.none, jsondecode(\"{\"), \"d\")", json!("d"));
    check("can(param.zone)", json!(false));
    check("coalesce(param.none, \"d\")", json!("d"));
    check("stack.aws/network[tokyo]", json!("aws/network[tokyo]"));
    check("\"${local.base}-${each.index}\"", json!("b-2"));
    check("team.sre", json!("sre"));
    check("<<EOT\n  x ${param.cluster}\n  y\nEOT", json!("  x a\n  y\n"));
    check("<<-EOT\n    x\n      y\n    EOT", json!("x\n  y\n"));
    check("range(3)", json!([0, 1, 2]));
    check("concat([\"a\"], param.hosts)", json!(["a", "x", "y"]));
}

#[test]
fn what_has_no_value_is_told_with_its_place() {
    let check = |text: &str, want: &str| {
        let error = evaluate(&written(text), &scope()).unwrap_err();
        assert_eq!(error.to_string(), want, "{text}");
    };
    check("param.clustr", "w.hcl:7: `param` has no `clustr`; did you mean `param.cluster`?");
    check("[\"a\",\n  step.dmp.outputs.path]", "w.hcl:8: `step` has no `dmp`; did you mean `step.dump`?");
    check("\"x${step.dump.outputs.zzz}\"", "w.hcl:7: `step.dump.outputs` has no `zzz`, only members, path");
    check("parm.cluster", "w.hcl:7: `parm` is not known here; did you mean `param`?");
    check("secret.x", "w.hcl:7: `secret` is not known here");
    check(
        "param.n + param.cluster",
        "w.hcl:7: `param.n + param.cluster` has no value: arithmetic on something that is no number",
    );
    check(
        "nothing(1)",
        "w.hcl:7: `nothing(1)` has no value: function nothing() is not evaluated here with such arguments",
    );
    check(
        "\"a-${param.hosts}\"",
        "w.hcl:7: `\"a-${param.hosts}\"` has no value: a template has a part that is no text",
    );
    check("[for h in param.hosts : h.x]", "w.hcl:7: `[for h in param.hosts : h.x]` is not known here");
    let error = evaluate(&written("param."), &scope()).unwrap_err();
    assert!(matches!(&error, ExpressionError::Syntax { .. }) && error.to_string().starts_with("w.hcl:7: `param.`"));
    let error = evaluate(&written("stack.aws/2024-net"), &scope()).unwrap_err();
    assert!(error.to_string().contains("write `stack[\"aws/2024-net\"]`"), "{error}");
}

#[test]
fn values_are_what_is_needed_or_a_mistake() {
    let scope = scope();
    assert_eq!(text(&written("param.n"), &scope).unwrap(), "3");
    assert_eq!(texts(&written("[\"a\", param.n, param.yes]"), &scope).unwrap(), ["a", "3", "true"]);
    assert!(boolean(&written("param.yes"), &scope).unwrap());
    assert_eq!(duration(&written("param.wait"), &scope).unwrap(), 300_000_000);
    let wrong = |found: Result<String, ExpressionError>| found.unwrap_err().to_string();
    assert_eq!(wrong(text(&written("param.hosts"), &scope)), "w.hcl:7: `param.hosts` is a list, and has to be a text");
    let list = texts(&written("param.cluster"), &scope).map(|texts| texts.join(" "));
    assert_eq!(wrong(list), "w.hcl:7: `param.cluster` is a text, and has to be a list of texts");
    let nested = texts(&written("[param.hosts]"), &scope).map(|texts| texts.join(" "));
    assert!(wrong(nested).ends_with("has to be a list of texts"));
    let bool = boolean(&written("param.n"), &scope).map(|value| value.to_string());
    assert_eq!(wrong(bool), "w.hcl:7: `param.n` is a number, and has to be true or false");
    let time = duration(&written("param.cluster"), &scope).map(|value| value.to_string());
    assert_eq!(wrong(time), "w.hcl:7: `param.cluster` is a text, and has to be a time such as \"5m\"");
}

#[test]
fn what_is_named_is_found() {
    let check = |text: &str, want: &[&str]| {
        let found: Vec<String> = references(&written(text))
            .unwrap()
            .into_iter()
            .map(|r| std::iter::once(r.root).chain(r.name).chain(r.rest).collect::<Vec<_>>().join("."))
            .collect();
        assert_eq!(found, want, "{text}");
    };
    check("\"x${step.dump.outputs.path}\"", &["step.dump.outputs.path"]);
    check("step[\"a\"].outputs.hosts[param.n]", &["param.n", "step.a.outputs.hosts"]);
    check("[for step in step.a.outputs.x : step.b if param.y]", &["step.a.outputs.x", "param.y"]);
    check("{ (param.a) = f(each.value, 1) }", &["param.a", "each.value"]);
    check("step.a.outputs.x[*].host", &["step.a.outputs.x"]);
    check("stack.aws/network[tokyo]", &[]);
    check("param.a ? run.id : secret.b", &["param.a", "run.id", "secret.b"]);
    check("\"plain\"", &[]);
    check("step.m[each.key].outputs", &["each.key", "step.m.outputs"]);
}

#[test]
fn the_texts_of_a_gate_are_expressions() {
    let source = Gate::Http {
        url: "\"https://${param.cluster}/\"".into(),
        status: (200, 200),
        contains: Some("param.n".into()),
        timeout: 1,
        interval: 2,
    };
    let definition = GateDefinition { gate: source, within: 3, span: written("").span };
    let Gate::Http { url, contains, .. } = gate(&definition, &scope()).unwrap() else { panic!() };
    assert_eq!((url.as_str(), contains.as_deref()), ("https://a/", Some("3")));
}

#[test]
fn a_run_is_planned_with_parameters_and_members() {
    let scope = Scope::default().with("param", serde_json::json!({ "cluster": "a" }));
    let member = |key: &str| Member { name: "m".into(), key: key.into(), value: 7.into(), index: 0 };
    let lock = written("\"${param.cluster}-${each.key}-${each.value}\"");
    assert_eq!(scope.text(&lock, &[member("x"), member("y")]).unwrap(), "a-y-7");
    assert!(scope.text(&lock, &[]).is_err());
    assert_eq!(scope.nodes(&written("\"${step.dump.outputs.x}${param.cluster}\"")), ["dump"]);
}

proptest! {
    #[test]
    fn no_expression_panics(text in "([a-z0-9 .\"\\[\\](){}?:,=<>!+*/%$&|\n-]|param|step|each|for|in|if|\\$\\{){0,24}") {
        let expression = written(&text);
        if let Ok(parsed) = parse(&expression) {
            let _ = (parsed.references(), parsed.evaluate(&scope()).map_err(|error| error.to_string()));
        }
    }
}
