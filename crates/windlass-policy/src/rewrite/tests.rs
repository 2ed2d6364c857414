//! Each row of the differences between the engine and OPA. What is wanted here is what OPA answers.

use crate::engine::{EvalError, Options, Rego};
use proptest::prelude::*;
use regorus::Value;
use serde_json::{Value as Json, json};

fn load(modules: &[&str], options: &Options) -> Result<Rego, Vec<windlass_model::diagnostic::Diagnostic>> {
    let modules: Vec<_> =
        modules.iter().enumerate().map(|(n, text)| (format!("m{n}.rego").into(), (*text).to_owned())).collect();
    Rego::load(&modules, options)
}

fn input() -> Json {
    json!({
        "xs": [1, 2, 3], "nothing": null, "text": "s", "names": {"a": "b", "b": "c", "c": "b"},
        "nest": {"a": [1, 2], "b": {"c": 2}}, "objects": [{"name": "n1", "k": 1}, {"name": "n2", "k": 2}],
        "id": 9_007_199_254_740_993_u64,
    })
}

/// The value of `data.t.x`, or null when it is undefined.
fn value(modules: &[&str], options: &Options) -> Json {
    let mut rego = load(modules, options).unwrap_or_else(|d| panic!("{d:#?}\n{modules:?}"));
    rego.set_input(Value::from(input()));
    let answers = rego.eval_query("x := data.t.x").unwrap_or_else(|e| panic!("{e}\n{modules:?}"));
    answers.first().map_or(Json::Null, |row| serde_json::to_value(&row["x"]).unwrap())
}

fn check(rules: &str, want: Json) {
    check_modules(&[&format!("package t\nimport rego.v1\n{rules}\n")], want);
}

fn check_modules(modules: &[&str], want: Json) {
    for strict_builtin_errors in [true, false] {
        let options = Options { strict_builtin_errors, ..Options::default() };
        assert_eq!(value(modules, &options), want, "{modules:?}");
    }
}

/// Lenient, as OPA is by default; strict ends with an error.
fn check_failing(rules: &str, want: Json) {
    let text = format!("package t\nimport rego.v1\n{rules}\n");
    assert_eq!(value(&[&text], &Options { strict_builtin_errors: false, ..Options::default() }), want, "{rules}");
    let mut rego = load(&[&text], &Options::default()).unwrap();
    rego.set_input(Value::from(input()));
    assert!(matches!(rego.eval_query("x := data.t.x"), Err(EvalError::Evaluation(_))), "{rules}");
}

fn check_refused(rules: &str, code: &str, line: u32, want: &str) {
    let diagnostics = load(&[&format!("package t\nimport rego.v1\n{rules}\n")], &Options::default())
        .err()
        .unwrap_or_else(|| panic!("loaded: {rules}"));
    let first = &diagnostics[0];
    assert!(first.code == code && first.summary.contains(want), "{diagnostics:#?}");
    assert_eq!(first.labels[0].span.line, line, "{diagnostics:#?}");
    assert!(!first.labels[0].excerpt.is_empty() && first.help.is_some(), "{diagnostics:#?}");
}

#[test]
fn walk_gives_all_paths_in_every_form() {
    let all = json!([["a"], ["a", 1], ["b"], ["b", "c"]]);
    for form in ["walk(input.nest, [p, v])", "[p, v] := walk(input.nest)", "[p, v] = walk(input.nest)"] {
        check(&format!("x := [p | {form}; p[0]; not v == 1]"), all.clone());
    }
    check("x contains v if walk(input.nest, [[\"a\", _], v])", json!([1, 2]));
    check("x contains p if walk(input.nest, [p, 2])", json!([["a", 1], ["b", "c"]]));
    check("x if not walk(input.missing)", Json::Null);
}

#[test]
fn variables_are_not_taken_for_rules() {
    check("r := 7\nx contains r if { some r; input.xs[r] == 2 }", json!([1]));
    check("r := 7\nx contains r if { some r in input.xs }", json!([1, 2, 3]));
    check("input_x := 1\nx := [a | a := 1; b := [a | a := 2][0]; b == 2]", json!([1]));
    check("x := [n, i] if { n := count([i | input.xs[i]]); i := 9 }", json!([3, 9]));
    check("x := [n | n := 1; m := [n | n == 1; n := 2]; m == [2]]", json!([1]));
    check("p := 1\nf(p) := p + 1\nx := f(4)", json!(5));
    check("f(a, a) := \"same\"\nx := [f(1, 1) | not f(1, 2)]", json!(["same"]));
}

#[test]
fn iteration_over_scalars_and_undefined_is_empty() {
    for collection in ["input.nothing", "input.text", "input.missing", "1"] {
        check(&format!("x := [y | some y in {collection}]"), json!([]));
    }
    check("x := [k | some k, \"b\" in input.names]", json!(["a", "c"]));
    check("x := [n | some {\"name\": n, \"k\": 2} in input.objects]", json!(["n2"]));
    check("x := [n | some {\"name\": n} in input.objects]", json!([]));
    check("x if every y in input.nothing { y }", Json::Null);
    check("x := 1 in input.missing", Json::Null);
    check("x if not 1 in input.missing", Json::Null);
    check("x := [1 in input.nothing, 2 in input.xs, (\"a\", \"b\" in input.names)]", json!([false, true, true]));
}

#[test]
fn failing_operators_are_undefined_or_errors() {
    check_failing("x := 1 + input.nothing", Json::Null);
    check_failing("x := input.text * 2", Json::Null);
    check_failing("x := 1 / 0", Json::Null);
    check_failing("x if not 1 + input.nothing == 2", Json::Null);
    check_failing("x contains to_number(v) if some v in [\"1\", \"y\"]", json!([1]));
    check_failing("x := 1 if to_number(\"y\") else := 2", json!(2));
}

#[test]
fn operands_of_negated_calls_are_evaluated_outside() {
    for body in [
        "f(input.missing) == 1",
        "input.missing < 1",
        "input.missing != 1",
        "count(input.missing) > 0",
        "startswith(input.missing, \"x\")",
        "[input.missing] == [1]",
        "input.xs[count(input.missing)]",
    ] {
        let rules = format!("package t\nimport rego.v1\nf(y) := y\nx if not {body}\n");
        assert_eq!(value(&[&rules], &Options::default()), Json::Null, "{body}");
        let inside = Options { operands_inside_not: true, ..Options::default() };
        assert_eq!(value(&[&rules], &inside), json!(true), "{body}");
    }
    for body in ["input.missing", "input.missing == 1", "input.xs[0] == 9", "{\"a\": 1} = input.names", "f(2, 1)"] {
        check(&format!("f(y) := 1 if y == 1\nx if not {body}"), json!(true));
    }
}

#[test]
fn with_replaces_rules_functions_and_documents() {
    let rules = "helper := 1\nallow if helper == 5\nf(a) := a + 1\ng(a) := a + 100\nchk if input.xs[0] == 5\n";
    for (body, want) in [
        ("x if allow with helper as 5", json!(true)),
        ("x if allow with data.t.helper as 5", json!(true)),
        ("x := y if y := f(1) with f as g", json!(101)),
        ("x := y if y := f(1) with data.t.f as 42", json!(42)),
        ("x := y if y := count([1]) with count as 9", json!(9)),
        ("x := y if y := f([1, 2]) with f as count", json!(2)),
        ("x := y if y := crypto.sha256(\"a\") with crypto.sha256 as \"mock\"", json!("mock")),
        ("x := y if y := input with input as {\"a\": 1} with input.b as 2", json!({"a": 1, "b": 2})),
        ("x if chk with input as {\"xs\": [five]}\nfive := 5", json!(true)),
        ("x if own_five with input as {\"v\": five}\nown_five if input.v == five\nfive := 5", json!(true)),
        (
            "x := y if y := own_five with input as made(five)\nown_five if is_five(input.v)\nis_five(v) := v == five\nmade(v) := {\"v\": v}\nfive := 5",
            json!(true),
        ),
        ("x if { chk with input.xs as [5]; not chk }", json!(true)),
        ("x if every n in [5] { chk with input.xs as [n] }", json!(true)),
        ("x := y if y := data.cfg.a with data.cfg as {\"a\": 3}", json!(3)),
        ("x := [y | some y in input.xs with input.xs as [7, 8]]", json!([7, 8])),
    ] {
        check(&format!("{rules}{body}"), want);
    }
}

#[test]
fn interpolation_shows_what_opa_shows() {
    check(
        "x := $\"a {input.xs} b {input.missing} c {1 + 2} {\"s\"} { {\"a\": null} } \\{\"",
        json!("a [1, 2, 3] b <undefined> c 3 s {\"a\": null} {"),
    );
    check("x := $\"{input.xs[0] with input.xs as [9]}\"", json!("9"));
}

#[test]
fn imports_and_packages_reach_their_targets() {
    let lib = "package lib.deep\nimport rego.v1\nk := \"real\"\nbroken := 1\nbroken := 2 if input.xs\nh(a) := a * 10\n";
    let user = |body: &str| format!("package t\n{body}\n");
    for (body, want) in [
        ("import data.lib.deep\nimport data.lib as l\nx := [deep.k, l.deep.k, deep.h(1)]", json!(["real", "real", 10])),
        ("import data.lib.deep.h as times\nx := times(2)", json!(20)),
        ("import input.names as n\nx := n.a", json!("b")),
        ("y := 1\nimport data.lib.deep\nx := deep.k", json!("real")),
        ("import data.lib.deep\nx := y if y := deep.k with data.lib.deep.k as \"mock\"", json!("mock")),
        ("import data.lib.deep\nx := [deep | deep := 1]", json!([1])),
    ] {
        check_modules(&[&user(body), lib], want);
    }
    check_modules(&["package t\nx := data[\"if\"].in.not.k\n", "package a\n", "package data_if\n"], Json::Null);
    check_modules(
        &[
            "package t\nimport data.kw\nx := [kw.if.foo, kw[\"in\"].bar(1)]\n",
            "package kw\nif.foo := 1\nin.bar(y) := y\n",
        ],
        json!([1, 1]),
    );
}

#[test]
fn older_rego_is_read_as_it_is_meant() {
    let rules = "package t\nx[m] { m := \"a\"; input.xs[_] == 2 } { m := \"chained\" }\nx[\"const\"]\nx[{\"k\": 1}]\nx[{\"k\": 2}]\n";
    check_modules(&[rules], json!(["a", "chained", "const", {"k": 1}, {"k": 2}]));
    check_modules(&["package t\nx[k] = v { v := input.names[k] }\n"], input()["names"].clone());
    check_modules(&["package t\nx = 1 { input.missing } else = 2 { input.text }\n"], json!(2));
    check_modules(
        &["package t\nf(\"a\", _)\nf(\"b\", y) { y == 1 }\nx = [f(\"a\", 9), f(\"b\", 1)]\n"],
        json!([true, true]),
    );
    check_modules(&["package t\nx { in := 1; in == 1 }\n"], json!(true));
    check_modules(
        &["package t\nimport future.keywords\nx contains y if { some y in [1] }\np[y] { y := 1 }\n"],
        json!([1]),
    );
}

#[test]
fn references_and_patterns_bind_as_in_opa() {
    check("x if { {\"a\": _} = input.names }", Json::Null);
    check("x := y if { {\"a\": y, \"b\": _, \"c\": _} := input.names }", json!("b"));
    check("x := [y, z] if { [y, {\"a\": z}] = [1, {\"a\": 2}] }", json!([1, 2]));
    check("f({\"a\": y}) := y\nx := [f({\"a\": 1}) | not f(input.names)]", json!([1]));
    check("p[q] contains r if { some q, r in input.names }\np.b contains \"more\"\nx := p.b", json!(["c", "more"]));
    check("p[q].r := 1 if q := \"a\"\np.b.r := 2\nx := p", json!({"a": {"r": 1}, "b": {"r": 2}}));
    check_modules(
        &["package t\nroot := \"other\"\nx := data[root].deep.value\n", "package other.deep\nvalue := 3\n"],
        json!(3),
    );
    check("x := [i | input.xs[i] > 1; input.xs[i] < 3]", json!([1]));
}

#[test]
fn values_are_ordered_as_in_opa() {
    check(
        "x := [[1] < {}, {} < set(), {\"a\": 1} < {1}, {\"b\": 0} < {\"a\": 1}, {1, 2} < {1, 3}]",
        json!([true, true, true, false, true]),
    );
    check("x if input.objects[0] > {\"a\", 1}", Json::Null);
    check(
        "x := [null < false, true < 0, 9 < \"\", \"z\" < [], [1, 2] < [2], [1] < [1, 0]]",
        json!([true, true, true, true, true, true]),
    );
}

#[test]
fn unification_binds_wherever_it_stands() {
    check("x if { every o in input.objects { {\"name\": _, \"k\": k} = o; k > 0 } }", json!(true));
    check("x if { every k, o in input.xs { [p, q] = [o, k]; p == q + 1 } }", json!(true));
    check("r := 7\nx := [p, r] if { [p, r] := [1 | input.objects[r]] }", json!([1, 1]));
    check("x if not input.names[1] = []", json!(true));
    check("x := c if { c = input.xs[c] }", Json::Null);
    check("x := c if { ys := [3, 1]; c = ys[c] }", json!(1));
    check("x := y if { y = z; z = 3 }", json!(3));
}

#[test]
fn statements_may_stand_in_any_order() {
    for (rules, want) in [
        ("bad contains 2\nx contains y if { not bad[y]; y = input.xs[_] }", json!([1, 3])),
        ("bad contains 2\nx := [y | not bad[y]; y = input.xs[_]]", json!([1, 3])),
        ("x := y if { y > 1; y = z * 2; z = input.xs[_]; z == 2 }", json!(4)),
        ("x := y if { [y, z] = [z, 3] }", json!(3)),
        ("x if { every q in list { q < limit }; list = input.xs; limit = 4 }", json!(true)),
        ("x := y if { startswith(y, \"a\"); y = concat(\"\", [z, \"b\"]); z = \"a\" }", json!("ab")),
    ] {
        check(rules, want);
    }
}

#[test]
fn deep_and_large_literals_load_quickly() {
    let deep = format!("{}1{}", "{\"a\": [".repeat(30), "]}".repeat(30));
    let start = std::time::Instant::now();
    let options = Options::default();
    let nested = value(&[&format!("package t\nx := {deep}\n")], &options);
    assert_eq!(nested.to_string().matches("\"a\"").count(), 30);
    let nested = value(&[&format!("package t\nx := {}\n", deep.replace('1', "input.xs[0]"))], &options);
    assert_eq!(nested.to_string().matches("\"a\"").count(), 30);
    // Exponential time would be hours.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn nested_comprehensions_load_quickly() {
    let mut body = "1 > 0".to_owned();
    for level in 0..20 {
        body = format!("count([x{level} | x{level} := 1; {body}]) > 0");
    }
    let start = std::time::Instant::now();
    check(&format!("x if {{ {body} }}"), json!(true));
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "\"a\"",
        "null",
        "true",
        "input.xs",
        "input.names",
        "input.missing",
        "input.xs[_]",
        "r",
        "y",
        "set()",
        "{}",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        let op = prop::sample::select(vec!["+", "-", "|", "==", "<", "in"]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            inner.clone().prop_map(|a| format!("{{\"a\": {a}}}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[({a}) | y := {b}; not y == {a}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{z | some z in {a}; walk({b}, [_, z])}}")),
            inner.clone().prop_map(|a| format!("count({a})")),
            inner.prop_map(|a| format!("$\"t {{{a}}}\"")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_written_loads_or_is_refused_with_its_place(a in expression(), b in expression(), c in expression()) {
        let text = format!(
            "package t\nimport rego.v1\nr contains 1\nx contains y if {{\n  y := {a}\n  not {b} == y\n  every e in {c} {{ e != {b} }}\n}}\n"
        );
        match load(&[&text], &Options { strict_builtin_errors: false, ..Options::default() }) {
            Ok(mut rego) => {
                rego.set_input(Value::from(input()));
                // An error is an answer, too; a panic is none.
                let _ = rego.eval_rule("data.t.x");
            }
            Err(diagnostics) => for diagnostic in diagnostics {
                prop_assert!(!diagnostic.labels.is_empty() && !diagnostic.summary.contains("panicked"), "{:?}", diagnostic);
            }
        }
    }
}

#[test]
fn large_numbers_stay_exact() {
    check("x := input.id", json!(9_007_199_254_740_993_u64));
    check("x := input.id + 1", json!(9_007_199_254_740_994_u64));
    check("x := 9007199254740993", json!(9_007_199_254_740_993_u64));
}

#[test]
fn metadata_is_known_to_its_rule() {
    let text = "# METADATA\n# title: P\npackage t\n\n# METADATA\n# title: T\n# custom:\n#   severity: LOW\nx := [rego.metadata.rule().title, rego.metadata.chain()[1].annotations.title]\n";
    check_modules(&[text], json!(["T", "P"]));
    let rego = load(&[text], &Options::default()).unwrap();
    assert_eq!(rego.rules[0].annotations.as_ref().unwrap().severity.as_deref(), Some("LOW"));
}

#[test]
fn what_opa_refuses_is_refused_with_its_place() {
    check_refused("x if count(y) > 0", "WL413", 3, "var y is unsafe");
    check_refused("x := [y | not y]", "WL413", 3, "var y is unsafe");
    check_refused("x if { not input.xs[_] == 1 }", "WL413", 3, "var _ is unsafe");
    check_refused("f(y) := z", "WL413", 3, "var z is unsafe");
    check_refused("x if { y := 1\ny := 2 }", "WL411", 4, "assigned above");
    check_refused("x if { y == 1\ny := 2 }", "WL411", 4, "referenced above");
    check_refused("x if { some y; some y; input.xs[y] }", "WL411", 3, "declared above");
    check_refused("x if { 1 := 2 }", "WL411", 3, "cannot assign");
    check_refused("x := cuont(input.xs)", "WL412", 3, "no function `cuont`");
    check_refused("x := count(1, 2, 3)", "WL412", 3, "takes 1 operands");
    check_refused("f(y) := y\nx := f(1, 2, 3)", "WL412", 4, "takes 1 operands");
    check_refused("x := graphql.parse_query(input.text)", "WL404", 3, "graphql.parse_query");
    check_refused("x if y\ny if x", "WL414", 3, "data.t.x -> data.t.y -> data.t.x");
    check_refused("x := data.t", "WL414", 3, "recursive");
    let chain = |rules: usize| -> String { (1..=rules).map(|n| format!("r{n} := [r{}]\n", n - 1)).collect() };
    check_refused(&format!("r0 := 1\n{}", chain(501)), "WL404", 504, "more than 500 rules");
    check_refused(
        &format!("r0(x) := x\n{}", chain(501).replace(" :=", "(x) :=").replace(']', "(x)]")),
        "WL404",
        504,
        "data.t.r501",
    );
    check_refused("x := 1\nx contains 2", "WL415", 4, "conflicting rules");
    check_refused("f(y) := 1\nf(y, z) := 1", "WL415", 4, "conflicting rules");
    check_refused("default x := 1\ndefault x := 2", "WL415", 4, "multiple default");
    check_refused("x := 1\nx.y := 2", "WL415", 4, "conflicts with");
    let two = load(&["package a\nb := 1\n", "package a.b\nc := 1\n"], &Options::default());
    assert!(two.err().is_some_and(|d| d[0].code == "WL415"));
}

#[test]
fn contradicting_answers_are_errors() {
    for rules in [
        "x := 1\nx := 2 if input.xs",
        "f(a) := 1 if a\nf(a) := 2 if a == true\nx := f(true)",
        "x[k] := v if { k := \"a\"; v := input.xs[_] }",
        "x := {\"k\": v | v := input.xs[_]}",
    ] {
        for strict_builtin_errors in [true, false] {
            let options = Options { strict_builtin_errors, ..Options::default() };
            let mut rego = load(&[&format!("package t\nimport rego.v1\n{rules}\n")], &options).unwrap();
            rego.set_input(Value::from(input()));
            assert!(rego.eval_query("x := data.t.x").is_err(), "{rules}");
        }
    }
}

#[test]
fn queries_answer_with_their_variables() {
    let mut rego = load(
        &["package t\nimport rego.v1\np[k] := v if some k, v in input.names\nf(y) := y + 1\n"],
        &Options::default(),
    )
    .unwrap();
    rego.set_input(Value::from(input()));
    let mut check = |query: &str, want: Json| {
        let rows = rego.eval_query(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert_eq!(serde_json::to_value(rows).unwrap(), want, "{query}");
    };
    check("x := data.t.f(1); y = x + 1", json!([{"x": 2, "y": 3}]));
    check("data.t.p[k] == \"b\"", json!([{"k": "a"}, {"k": "c"}]));
    check("input.xs[0] == 1", json!([{}]));
    check("input.xs[0] == 2", json!([]));
    check("some x in input.xs; x > 1", json!([{"x": 2}, {"x": 3}]));
    check("input.missing", json!([]));
    for (query, code) in [("x := ", "WL407"), ("x == 1", "WL413"), ("nothing(1)", "WL412")] {
        let Err(EvalError::Query(diagnostics)) = rego.eval_query(query) else { panic!("{query}") };
        assert_eq!(diagnostics[0].code, code);
    }
}

#[test]
fn every_rule_has_its_value_by_its_path() {
    let text = "package t\nimport rego.v1\ndeny contains 1\nobj.a := 1\nobj.b := 2\npo[k] := v if some k, v in input.names\npo.extra := 3\nif.foo := 4\ndefault d := 5\nnone if input.missing\n";
    let mut rego = load(&[text, "package a[\"b-c\"]\nx := 6\n"], &Options::default()).unwrap();
    rego.set_input(Value::from(input()));
    let paths: Vec<String> = rego.rules.iter().map(crate::engine::Rule::path).collect();
    let mut seen = Vec::new();
    for path in paths {
        seen.push((path.clone(), serde_json::to_value(rego.eval_rule(&path).unwrap()).unwrap()));
    }
    let want = [
        ("data.a[\"b-c\"].x", json!(6)),
        ("data.t.d", json!(5)),
        ("data.t.deny", json!([1])),
        ("data.t.if.foo", json!(4)),
        ("data.t.none", json!("<undefined>")),
        ("data.t.obj.a", json!(1)),
        ("data.t.obj.b", json!(2)),
        ("data.t.po", json!({"a": "b", "b": "c", "c": "b", "extra": 3})),
        ("data.t.po.extra", json!(3)),
    ];
    assert_eq!(seen, want.map(|(path, value)| (path.to_owned(), value)));
    assert!(rego.eval_rule("data.t.nothing").is_err_and(|why| why.contains("no rule")));
}

#[test]
fn prints_and_coverage_keep_their_places() {
    let text = "package t\nimport rego.v1\n\nx contains y if {\n  some y in input.xs\n  y > 1\n  print(\"saw\", y,\n    input.missing)\n}\n\nz := 1 if {\n  input.missing\n  input.xs\n}\n";
    let mut rego = load(&[text], &Options::default()).unwrap();
    rego.set_input(Value::from(input()));
    rego.enable_coverage();
    rego.eval_rule("data.t.x").unwrap();
    rego.eval_rule("data.t.z").unwrap();
    let prints = rego.take_prints().unwrap();
    let seen: Vec<_> = prints.iter().map(|p| (p.file.as_str(), p.line, p.text.as_str())).collect();
    assert_eq!(seen, [("m0.rego", 7, "saw 2 <undefined>"), ("m0.rego", 7, "saw 3 <undefined>")]);
    let coverage = &rego.take_coverage().unwrap()["m0.rego"];
    for line in [4, 5, 6, 7, 12] {
        assert!(coverage.covered.contains(&line), "{line} {coverage:?}");
    }
    assert!(coverage.not_covered.contains(&13), "{coverage:?}");
    assert!(rego.take_prints().unwrap().is_empty());
}
