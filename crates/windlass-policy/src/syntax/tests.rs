use super::tree::*;
use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Source {
    Source::parse("a.rego".into(), text, None).unwrap_or_else(|d| panic!("{d:?}\n{text}"))
}

/// Text that says the same on the same lines.
fn check_round_trip(text: &str) {
    let first = parse(text);
    let printed = print::module(&first.module);
    let second = parse(&printed);
    assert_eq!(first.module, second.module, "{text}\n-->\n{printed}");
    for (a, b) in first.module.rules.iter().zip(&second.module.rules) {
        assert_eq!(a.loc.line, b.loc.line, "{text}\n-->\n{printed}");
        let lines = |rule: &Rule| -> Vec<u32> { rule.body.iter().flatten().map(|s| s.loc.line).collect() };
        assert_eq!(lines(a), lines(b), "{text}\n-->\n{printed}");
    }
}

const V1: &str = r##"package a.b["c-d"]

import rego.v1
import data.foo.bar as baz
import input.x

deny contains msg if {
	some i, r in input.resources # trailing

	r.a + 1 * 2 == (3 - 4) - (5 - 6)
	not r.b == 4
	every k, x in r.z { x > 1; x < 5 }
	msg := $"abc {r.a} {1 + 2} \{ \n {{1, 2}} {input.y with input.y as 3}"
	count([y | y := 1]) > 0
	l := [
		1, -2,
		3.5e2,
	]
	s := {(1 | true), 2}
	t := {k: v | some k, v in input}
	(1, 2 in [3]) == f(1, (3 in [4]), set(), {}, [], {"a": {"b": null}})
	f(1, 2) with input as 3 with data.foo as {"a": 1}
	`raw
text` == "x\ty é"
	u = input.abc["d-e"][i].foo[_]
	[p, {"q": q}] := g(x)[0]
}

p := 1 if true
else := 2 if { false }
else := 3

q[x] := y if {
	x := 1
	y := 2
}

default allow := false

allow if input.x == 1; f(x, [y, {"z": z}]) := x
h contains 1
a.b.c[d].e := 1 if d := "x"
if.foo := 1
w if { if.foo == 1; in.x.y; not not.x }
v if {x: 1 | x := "a"}["a"] == 1
"##;

const V0: &str = "package a\n\ndeny[msg] {\n  input.a\n  msg = \"x\"\n} {\n  msg := 2\n}\np[x] = y { x := 1; y := 2 }\nq = 1 { true } else = 2 { false } else = 3\nset_of[{\"a\": 1}]\nf(x) = x { in := x; in == 1 }\n";

#[test]
fn printing_gives_the_same_tree_on_the_same_lines() {
    check_round_trip(V1);
    check_round_trip(V0);
    assert_eq!(parse(V0).module.dialect, Dialect::V0);
    assert_eq!(parse(V1).module.dialect, Dialect::V1);
}

#[test]
fn syntax_errors_name_their_place_and_a_way_out() {
    let check = |text: &str, line: u32, column: u32, want: &str| {
        let diagnostic = Source::parse("a.rego".into(), text, None).err().unwrap_or_else(|| panic!("parsed: {text}"));
        let label = &diagnostic.labels[0];
        assert_eq!(diagnostic.code, "WL407");
        assert!(diagnostic.summary.contains(want), "{diagnostic:?}");
        assert_eq!((label.span.line, label.span.column), (line, column), "{diagnostic:?}");
        assert_eq!(label.excerpt, text.lines().nth(line as usize - 1).unwrap_or_default());
        assert!(diagnostic.help.is_some(), "{diagnostic:?}");
    };
    check("", 1, 1, "expected `package`");
    check("package a\n\nx := ", 3, 6, "expected a term, found the end");
    check("package a\nx := \"abc\n", 2, 6, "not closed on its line");
    check("package a\nx := 'b'\n", 2, 6, "no part of Rego");
    check("package a\nx := 012\n", 2, 6, "leading zero");
    check("package a\ndeny contains msg if {\n  msg := \n}\n", 4, 1, "expected a term, found `}`");
    check("package a\ndeny contains msg if {\n  msg := 1", 2, 22, "closed by no `}`");
    check("package a\np if { x := 1 y := 2 }\n", 2, 15, "`;` or a new line");
    check("package a\np if {}\n", 2, 6, "body is empty");
    check("package a\np { input.a }\nq if input.b\n", 2, 3, "Rego v1 needs `if`");
    check("package a\nimport rego.v1\np { input.a }\n", 3, 3, "Rego v1 needs `if`");
    check("package a\nimport foo\n", 2, 8, "cannot be imported");
    check("package a\np contains 1 if { true } else := 2\n", 2, 26, "`else` cannot follow a set rule");
    check("package a\ndefault p\n", 2, 1, "default needs a value");
    check("package a\np\n", 2, 1, "neither a value nor a body");
    check("package a\np if some x.y\n", 2, 11, "`some` declares variables");
    check("package a\np := $\"a {1 2}\"\n", 2, 13, "after one expression");
    check("package a\np if { with := 1 }\n", 2, 8, "expected a term, found `with`");
}

#[test]
fn nesting_is_read_in_linear_time_and_limited() {
    let nested = |depth: usize| format!("package a\nx := {}1{}\n", "[".repeat(depth), "]".repeat(depth));
    check_round_trip(&nested(100));
    for open in ["[", "{", "(", "{1: ", "[1 | x := ", "f(", "x[", "-", "not ", "$\"{"] {
        for depth in [130, 5_000] {
            let text = format!("package a\nx if {{ y := {} }}\n", open.repeat(depth));
            assert!(Source::parse("a.rego".into(), text, None).is_err(), "{open}");
        }
    }
    let row = format!("package a\nx := {}1\n", "1 + ".repeat(5_000));
    assert!(Source::parse("a.rego".into(), row, None).err().is_some_and(|d| d.summary.contains("in one row")));
    let long = format!("package a\nx := [{}]\n", "[1, {\"a\": \"b\"}], ".repeat(20_000));
    assert_eq!(parse(&long).module.rules.len(), 1);
}

#[test]
fn annotations_belong_to_what_follows_them() {
    let text = "# METADATA\n# description: d\n# scope: subpackages\npackage a\n\n# METADATA\n# title: T\n# custom:\n#   severity: HIGH\n# related_resources:\n# - https://x.example\n# - ref: https://y.example\n#   description: Y\n# authors:\n# - Jane <j@x.example>\ndeny contains 1 if true\n";
    let blocks = annotations::find(&parse(text)).unwrap();
    assert_eq!(blocks[0].0, annotations::Target::Package);
    assert_eq!(blocks[0].1.annotations.scope, "subpackages");
    let (target, block) = &blocks[1];
    assert_eq!(*target, annotations::Target::Rule(0));
    assert_eq!(block.annotations.title.as_deref(), Some("T"));
    assert_eq!(block.annotations.severity.as_deref(), Some("HIGH"));
    assert_eq!(
        block.annotations.related_resources,
        [("https://x.example".to_owned(), None), ("https://y.example".to_owned(), Some("Y".to_owned()))]
    );
    assert_eq!(block.annotations.all["authors"][0], serde_json::json!({"name": "Jane", "email": "j@x.example"}));
    for (text, want) in [
        ("package a\n# METADATA\n# title: [\np := 1\n", "no YAML"),
        ("package a\n# METADATA\np := 1\n", "no keys"),
        ("package a\np := 1\n# METADATA\n# title: x\n", "describes nothing"),
        ("package a\n# METADATA\n# scope: file\np := 1\n", "scope"),
        ("package a\n# METADATA\n# scope: package\np := 1\n", "above a rule"),
    ] {
        let wrong = annotations::find(&parse(text)).unwrap_err();
        assert!(wrong[0].code == "WL410" && wrong[0].summary.contains(want), "{wrong:?}");
    }
}

fn term() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("x".to_owned()),
        Just("input.a[\"b c\"].d".to_owned()),
        Just("xs[_]".to_owned()),
        Just("\"te\\\"xt\\n{\"".to_owned()),
        Just("-1.5e3".to_owned()),
        Just("null".to_owned()),
        Just("set()".to_owned()),
        Just("{}".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let op = prop::sample::select(vec!["+", "-", "*", "/", "%", "|", "&", "==", "!=", "<", ">=", "in"]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a}, {b} in {c})")),
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|items| format!("{{{},}}", items.join(", "))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: {b}, \"k\": {b}}}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[({a}) | y := {b}; not y]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: ({b}) | some k, v in {b}}}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("f({a}, {b})[{b}].c")),
            inner.clone().prop_map(|a| format!("$\"t {{{a}}} \\{{\"")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_term_is_printed_as_itself(a in term(), b in term()) {
        check_round_trip(&format!("package a\n\np contains {a} if {{\n  z := {b};\n  {a};\n  {a} = {b}\n  every e in ({b}) {{ e }}\n}}\n"));
    }

    #[test]
    fn no_text_breaks_the_parser(text in "\\PC{0,80}") {
        let _ = Source::parse("a.rego".into(), format!("package a\n{text}"), None);
        let _ = parse_query(&text);
    }

    #[test]
    fn no_soup_of_tokens_breaks_the_parser(tokens in prop::collection::vec(prop::sample::select(vec![
        "package", "import", "default", "else", "if", "contains", "some", "every", "in", "not", "with", "as", "a", "b", "_",
        "1", "\"s\"", "`r`", "$\"x{a}\"", "{", "}", "[", "]", "(", ")", ":=", "=", "==", "|", "&", "-", ".", ",", ";", ":",
        "\n", "# METADATA\n", "# c\n", "set(",
    ]), 0..60)) {
        for separator in ["", " "] {
            let text = format!("package a\n{}", tokens.join(separator));
            if let Ok(source) = Source::parse("a.rego".into(), text.as_str(), None) {
                let printed = print::module(&source.module);
                prop_assert_eq!(&parse(&printed).module, &source.module, "{}\n-->\n{}", text, printed);
                let _ = annotations::find(&source);
            }
        }
    }

    #[test]
    fn no_truncation_breaks_the_parser(at in 0usize..2000) {
        for text in [V0, V1] {
            let mut at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            let _ = Source::parse("a.rego".into(), &text[..at], None);
        }
    }
}

fn check_format(text: &str, want: &str) {
    let formatted = format("a.rego", text).unwrap_or_else(|d| panic!("{d:?}"));
    assert_eq!(formatted, want, "{formatted}");
    assert_eq!(format("a.rego", &formatted).unwrap(), want);
}

#[test]
fn formatting_gives_one_style_and_keeps_comments() {
    check_format(
        "# top\npackage a\nimport data.z\nimport data.b as c # why\n\nimport data.a\ndefault allow = false\nallow if input.x == 1\nallow if { input[\"y\"] }\nb:=1\n\n\n\nc := 2\nf(x) := a+b*c if { x }\n",
        "# top\npackage a\n\nimport data.b as c # why\nimport data.z\n\nimport data.a\n\ndefault allow := false\n\nallow if input.x == 1\nallow if input.y\nb := 1\n\nc := 2\nf(x) := a + (b * c) if x\n",
    );
    check_format(
        "package a\n# METADATA\n# title: T\ndeny contains msg if { # opening\n  # first\n  x := 1; y := 2 # two\n\n\n  # own\n  msg := sprintf(\"%s\", [\n x, # a\n   # b\n  y])\n  # last\n}\n# end\n",
        "package a\n\n# METADATA\n# title: T\ndeny contains msg if { # opening\n\t# first\n\tx := 1\n\ty := 2 # two\n\n\t# own\n\tmsg := sprintf(\"%s\", [\n\t\tx, # a\n\t\t# b\n\t\ty,\n\t])\n\t# last\n}\n\n# end\n",
    );
    check_format(
        "package a\np := 1 if {true} else := 2 if { x;y } else := 3\nq if { x with input as 1\n with data.b as 2 }\nr := [x|\n x := 1\n x > 0]\ns := {k:v|k := 1;v := `r`}\nt if every x in y { x > 1; not x == 2 }\nu if {\"a\": x} = y\nv := {\"a\":1,\n\"b\": $\"{x}\"}\nw if (a, b in c) == (d - (e - f))\n",
        "package a\n\np := 1 if true\n\nelse := 2 if {\n\tx\n\ty\n} else := 3\n\nq if x with input as 1\n\twith data.b as 2\n\nr := [x |\n\tx := 1\n\tx > 0\n]\n\ns := {k: v | k := 1; v := `r`}\nt if every x in y { x > 1; not x == 2 }\nu if {\"a\": x} = y\n\nv := {\n\t\"a\": 1,\n\t\"b\": $\"{x}\",\n}\n\nw if (a, b in c) == d - (e - f)\n",
    );
    check_format(
        "package a\ndeny[msg]{ msg = \"x\" }{msg := 2}\np[x]=y{x:=1;y:=2}\nq[\"k\"] = 1\n",
        "package a\n\ndeny[msg] {\n\tmsg = \"x\"\n} {\n\tmsg := 2\n}\n\np[x] = y {\n\tx := 1\n\ty := 2\n}\n\nq[\"k\"] = 1\n",
    );
    assert_eq!(format("a.rego", "package a\nx := \n").unwrap_err().code, "WL407");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn formatting_any_term_says_the_same(a in term(), b in term()) {
        let text = format!("package a\n\n# c\np contains {a} if {{\n  z := {b}; # d\n  {a};\n  {a} = {b}\n  every e in ({b}) {{ e }}\n}}\n");
        let formatted = format("a.rego", &text).unwrap_or_else(|d| panic!("{d:?}\n{text}"));
        prop_assert_eq!(format("a.rego", &formatted).unwrap(), formatted);
    }
}
