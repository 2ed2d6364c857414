//! The answers in these tables are OPA's.

use super::{Failures, names, register};
use regorus::{Engine, Value};

/// What an expression gives: its value as JSON, `undefined`, or an error with a part of its text.
pub(super) enum Want {
    Json(&'static str),
    Fails(&'static str),
}
pub(super) use Want::{Fails, Json};

fn engine(failures: Failures) -> Engine {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(failures == Failures::EndEvaluation);
    register(&mut engine, failures);
    engine
}

fn evaluate(failures: Failures, expression: &str) -> Result<Value, String> {
    let mut results =
        engine(failures).eval_query(format!("x := {expression}"), false).map_err(|error| error.to_string())?;
    let row = results.result.pop();
    Ok(row.map_or(Value::Undefined, |row| row.bindings[&Value::from("x")].clone()))
}

pub(super) fn check(cases: &[(&str, Want)]) {
    for (expression, want) in cases {
        let found = evaluate(Failures::EndEvaluation, expression);
        match (want, &found) {
            (Json(want), Ok(found)) => {
                let want: serde_json::Value = serde_json::from_str(want).unwrap();
                assert_eq!(serde_json::to_value(found).unwrap(), want, "{expression}");
            }
            (Fails(want), Err(found)) => {
                assert!(found.contains(want), "{expression}: {found}");
                assert_eq!(evaluate(Failures::AreUndefined, expression), Ok(Value::Undefined), "{expression}");
            }
            (Json(want), found) => panic!("{expression}: wanted {want}, found {found:?}"),
            (Fails(want), found) => panic!("{expression}: wanted an error with {want}, found {found:?}"),
        }
    }
}

#[test]
fn every_name_is_registered_once() {
    let mut seen: Vec<&str> = names().map(|(name, _)| name).collect();
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
    // The engine tells a wrong number of operands apart from an unknown function.
    for (name, arity) in names() {
        let operands = vec!["1"; usize::from(arity) + 1].join(", ");
        let error = evaluate(Failures::EndEvaluation, &format!("{name}({operands})")).unwrap_err();
        assert!(error.contains("incorrect number of parameters"), "{name}: {error}");
    }
}

#[test]
fn what_is_refused_is_an_error_in_both_modes() {
    for failures in [Failures::EndEvaluation, Failures::AreUndefined] {
        let error = evaluate(failures, r#"http.send({"url": "http://localhost", "method": "get"})"#).unwrap_err();
        assert!(error.contains("http.send: a decision must not depend on the network"), "{error}");
        let error = evaluate(failures, r#"net.lookup_ip_addr("localhost")"#).unwrap_err();
        assert!(error.contains("names are not looked up"), "{error}");
    }
}
#[test]
fn flattening_goes_one_level_deep() {
    check(&[
        ("array.flatten([1, [2, [3]], {4}])", Json("[1, 2, [3], [4]]")),
        ("array.flatten([])", Json("[]")),
        ("array.flatten({1})", Fails("array.flatten: operand 1 must be array but got set")),
    ]);
}

#[test]
fn subsets_of_objects_sets_and_arrays() {
    check(&[
        ("object.subset([], [])", Json("true")),
        ("object.subset([1], [])", Json("true")),
        ("object.subset([1, 2], {2})", Json("true")),
        ("object.subset([1, 2], {3})", Json("false")),
        (
            "object.subset({1}, [1])",
            Fails("object.subset: both arguments object.subset must be of the same type or array and set"),
        ),
        (r#"object.subset({"a": {"b": [1, 2, 3]}, "c": 2}, {"a": {"b": [2, 3]}})"#, Json("true")),
        (r#"object.subset({"a": {"b": [1, 2, 3]}, "c": 2}, {"a": {"b": [1, 3]}})"#, Json("false")),
        (r#"object.subset({"a": {1, 2}}, {"a": {1}})"#, Json("true")),
        (r#"object.subset({"a": [1, 2]}, {"a": {1}})"#, Json("false")),
        ("object.subset([[1, 2], [3]], [[1, 2]])", Json("true")),
        ("object.subset([[1, 2], [3]], [[1]])", Json("false")),
        (r#"object.subset([{"a": 1, "b": 2}, {"c": 3}], [{"a": 1}])"#, Json("false")),
    ]);
}

#[test]
fn ranges_go_both_ways() {
    check(&[
        ("numbers.range_step(0, 10, 3)", Json("[0, 3, 6, 9]")),
        ("numbers.range_step(0, -10, 3)", Json("[0, -3, -6, -9]")),
        ("numbers.range_step(0, 10, 99999999999999999999)", Json("[0]")),
        (
            "numbers.range_step(9223372036854775806, 9223372036854775809, 1)",
            Json("[9223372036854775806, 9223372036854775807, 9223372036854775808, 9223372036854775809]"),
        ),
        ("numbers.range_step(0, 10, 0)", Fails("numbers.range_step: step must be a positive integer")),
        (
            "numbers.range_step(0, 10, 1.5)",
            Fails("numbers.range_step: operand 3 must be integer number but got floating-point number"),
        ),
        (r#"numbers.range_step("a", 10, 1)"#, Fails("numbers.range_step: operand 1 must be number but got string")),
    ]);
}

#[test]
fn occurrences_are_counted_without_overlap() {
    check(&[
        (r#"strings.count("", "")"#, Json("1")),
        (r#"strings.count("é\ud83d\ude00", "")"#, Json("3")),
        (r#"strings.count("aaaa", "aa")"#, Json("2")),
        (r#"strings.count("abc", 1)"#, Fails("strings.count: operand 2 must be string but got number")),
    ]);
}

#[test]
fn addresses_in_ranges() {
    check(&[
        (r#"net.cidr_contains("10.0.0.0/8", "10.1.2.3")"#, Json("true")),
        (r#"net.cidr_contains("10.0.0.0/8", "10.1.2.0/24")"#, Json("true")),
        (r#"net.cidr_contains("10.0.0.0/8", "0.0.0.0/0")"#, Json("false")),
        (r#"net.cidr_contains("10.0.0.0/8", "fe80::1")"#, Json("false")),
        (r#"net.cidr_contains("::/0", "10.0.0.1")"#, Json("false")),
        (r#"net.cidr_contains("::ffff:10.0.0.0/104", "10.0.0.1")"#, Json("true")),
        (r#"net.cidr_contains("10.0.0.0/8", "::ffff:10.0.0.1")"#, Json("true")),
        (r#"net.cidr_contains("10.0.0.1/8", "10.255.255.255")"#, Json("true")),
        (r#"net.cidr_contains("10.0.0.0", "10.0.0.0")"#, Fails("net.cidr_contains: invalid CIDR address: 10.0.0.0")),
        (
            r#"net.cidr_contains("010.0.0.0/8", "10.0.0.0")"#,
            Fails("net.cidr_contains: invalid CIDR address: 010.0.0.0/8"),
        ),
        (r#"net.cidr_contains("10.0.0.0/8", "x")"#, Fails("net.cidr_contains: invalid CIDR address: x")),
        (r#"net.cidr_intersects("10.0.0.0/8", "10.1.0.0/16")"#, Json("true")),
        (r#"net.cidr_intersects("10.0.0.0/8", "11.1.0.0/16")"#, Json("false")),
        (r#"net.cidr_intersects("0.0.0.0/0", "::/0")"#, Json("false")),
        (
            r#"net.cidr_intersects("10.0.0.0", "10.0.0.0/8")"#,
            Fails("net.cidr_intersects: invalid CIDR address: 10.0.0.0"),
        ),
        (r#"net.lookup_ip_addr("10.0.0.1")"#, Json(r#"["10.0.0.1"]"#)),
        (r#"net.lookup_ip_addr("::0:1")"#, Json(r#"["::1"]"#)),
    ]);
}

#[test]
fn ranges_are_merged_and_expanded() {
    check(&[
        (r#"net.cidr_merge(["10.0.0.0/24", "10.0.1.0/24", "10.0.3.0/24"])"#, Json(r#"["10.0.0.0/23", "10.0.3.0/24"]"#)),
        (r#"net.cidr_merge(["10.0.0.1"])"#, Json(r#"["10.0.0.1/8"]"#)),
        (
            r#"net.cidr_merge(["172.16.0.1", "192.168.1.1", "224.0.0.1"])"#,
            Json(r#"["172.16.0.1/16", "192.168.1.1/24", "224.0.0.1/24"]"#),
        ),
        (r#"net.cidr_merge(["192.0.2.112", "192.0.2.116/31"])"#, Json(r#"["192.0.2.0/24"]"#)),
        (r#"net.cidr_merge(["fe80::/120", "fe80::100/120"])"#, Json(r#"["fe80::/119"]"#)),
        (r#"net.cidr_merge({"0.0.0.0/1", "128.0.0.0/1"})"#, Json(r#"["0.0.0.0/0"]"#)),
        (r#"net.cidr_merge(["10.0.0.0/8", "::/3"])"#, Json(r#"["::/3"]"#)),
        (r#"net.cidr_merge(["255.255.255.255/32", "255.255.255.254/32"])"#, Json(r#"["255.255.255.254/31"]"#)),
        (r#"net.cidr_merge(["::/1", "8000::/1"])"#, Json(r#"["::/0"]"#)),
        ("net.cidr_merge([])", Json("[]")),
        (r#"net.cidr_merge(["fe80::1"])"#, Fails("net.cidr_merge: IPv6 invalid: needs prefix length")),
        (r#"net.cidr_merge(["x"])"#, Fails("net.cidr_merge: invalid CIDR address: x")),
        (r#"net.cidr_expand("10.0.0.5/30")"#, Json(r#"["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"]"#)),
        (r#"net.cidr_expand("fe80::/126")"#, Json(r#"["fe80::", "fe80::1", "fe80::2", "fe80::3"]"#)),
        (r#"net.cidr_expand("10.0.0.5")"#, Fails("net.cidr_expand: invalid CIDR address: 10.0.0.5")),
    ]);
}

#[test]
fn ranges_and_addresses_are_matched_by_key() {
    check(&[
        (r#"net.cidr_contains_matches("10.0.0.0/8", ["10.1.1.1", "11.1.1.1"])"#, Json(r#"[["10.0.0.0/8", 0]]"#)),
        (
            r#"net.cidr_contains_matches({"a": "10.0.0.0/8", "b": ["10.1.0.0/16", 1]}, {"10.1.1.1", "10.2.2.2"})"#,
            Json(r#"[["a", "10.1.1.1"], ["a", "10.2.2.2"], ["b", "10.1.1.1"]]"#),
        ),
        (r#"net.cidr_contains_matches([["10.0.0.0/8"]], "10.1.1.1")"#, Json(r#"[[0, "10.1.1.1"]]"#)),
        (
            r#"net.cidr_contains_matches([[]], "10.1.1.1")"#,
            Fails("net.cidr_contains_matches: operand 1: element must be string or non-empty array"),
        ),
    ]);
}

#[test]
fn digests_are_hexadecimal() {
    check(&[
        (r#"crypto.md5("a")"#, Json(r#""0cc175b9c0f1b6a831c399e269772661""#)),
        (r#"crypto.sha1("a")"#, Json(r#""86f7e437faa5a7fce15d1ddcb9eaeaea377667b8""#)),
        (r#"crypto.sha256("é")"#, Json(r#""4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c""#)),
        (r#"crypto.hmac.md5("a", "b")"#, Json(r#""5e69fae25f4b4f3e8cc5de09a8163520""#)),
        (r#"crypto.hmac.sha1("a", "b")"#, Json(r#""8abe0fd691e3da3035f7b7ac91be45d99e942b9e""#)),
        (
            r#"crypto.hmac.sha256("a", "")"#,
            Json(r#""9615a95d4a336118c435b9cd54c5e8644ab956b573aa2926274a1280b6674713""#),
        ),
        (
            r#"crypto.hmac.sha512("a", "b")"#,
            Json(
                r#""68c1687fa7cb5170ff800580a0cec29dc0ccb515aaf95587bdfe5c923730a7852e2beefefd6be31d97aa612ad8b8569bba61ed2c339cd9b28409751b0b9e96a0""#,
            ),
        ),
        (r#"crypto.hmac.equal("a", "a")"#, Json("true")),
        (r#"crypto.hmac.equal("a", "ab")"#, Json("false")),
    ]);
}

#[test]
fn operators_have_names() {
    check(&[
        ("plus(1, 2.5)", Json("3.5")),
        ("minus({1, 2}, {2})", Json("[1]")),
        ("minus(3, 5)", Json("-2")),
        ("mul(3, -5)", Json("-15")),
        ("div(1, 4)", Json("0.25")),
        ("div(1, 0)", Fails("div: divide by zero")),
        ("rem(7, 3)", Json("1")),
        ("rem(-7, 3)", Json("-1")),
        ("rem(7, 0)", Fails("rem: modulo by zero")),
        ("rem(7.5, 2)", Fails("rem: modulo on floating-point number")),
        ("and({1, 2}, {2, 3})", Json("[2]")),
        ("or({1}, {2})", Json("[1, 2]")),
        (r#"gt(1, "a")"#, Json("false")),
        ("lte([1], [1, 2])", Json("true")),
        ("equal({1}, {1})", Json("true")),
        ("neq(null, false)", Json("true")),
    ]);
}

#[test]
fn globs_have_a_text_in_common() {
    check(&[
        (r#"regex.globs_match("a.a.[0-9]+z", ".b.b2359825792*594823z")"#, Json("true")),
        (r#"regex.globs_match("[a-z]+", "[0-9]*")"#, Json("false")),
        (r#"regex.globs_match("a*", "b*")"#, Json("false")),
        (r#"regex.globs_match("", "")"#, Json("true")),
        (r#"regex.globs_match("a*", "")"#, Json("false")),
        (r#"regex.globs_match("a?", "ab")"#, Json("false")),
        (r#"regex.globs_match("[^a]", "b")"#, Json("false")),
        (r#"regex.globs_match("c+b", ".*")"#, Json("true")),
        (r#"regex.globs_match("a+a*", "[a]")"#, Json("true")),
        (r#"regex.globs_match("[a-c]", "a[a]*")"#, Json("false")),
        (r#"regex.globs_match("\\d", "d")"#, Json("true")),
        (r#"regex.globs_match(".", "[]")"#, Json("true")),
        (
            r#"regex.globs_match("pqrs]", "[a-b]+")"#,
            Fails(
                "regex.globs_match: input:pqrs], pos:5, set-close ']' with no preceding '[': the input provided is invalid",
            ),
        ),
        (
            r#"regex.globs_match("a**", "a")"#,
            Fails(
                "regex.globs_match: input:a**, pos:3, flag '*' must be preceded by a non-flag: the input provided is invalid",
            ),
        ),
        (
            r#"regex.globs_match("[a", "a")"#,
            Fails("regex.globs_match: input:[a, pos:2, found [ without matching ]: the input provided is invalid"),
        ),
        (
            r#"regex.globs_match("[b-a]", "a")"#,
            Fails(
                "regex.globs_match: input:[b-a], pos:4, range is out of order: 'a' comes before 'b' in Unicode: the input provided is invalid",
            ),
        ),
        (
            r#"regex.globs_match("[a-]", "-")"#,
            Fails(
                "regex.globs_match: input:[a-], pos:3, range character '-' must be followed by a Unicode character: the input provided is invalid",
            ),
        ),
        (
            r#"regex.globs_match("a\\", "a")"#,
            Fails(
                "regex.globs_match: input:a\\, pos:1, input ends with a \\ (escape) character: the input provided is invalid",
            ),
        ),
    ]);
}

#[test]
fn verbs_of_each_type() {
    check(&[
        (r#"sprintf("%v|%v|%v|%v", [1, 1.5, "x", true])"#, Json(r#""1|1.5|x|true""#)),
        (r#"sprintf("%s %s", ["x", null])"#, Json(r#""x null""#)),
        (r#"sprintf("%d %d %s", [1.25, 1.5, 5])"#, Json(r#""%!d(float64=1.25) %!d(float64=1.5) %!s(int=5)""#)),
        (
            r#"sprintf("%v %s", [{"a": [1, {2}], "b": set()}, ["é\u0001\"\n"]])"#,
            Json(r#""{\"a\": [1, {2}], \"b\": set()} [\"é\\x01\\\"\\n\"]""#),
        ),
        (r#"sprintf("%t %t", [true, "true"])"#, Json(r#""%!t(string=true) %!t(string=true)""#)),
        (r#"sprintf("%x %X %q", ["hi", "hi", "a\"b\u0001\u200b"])"#, Json(r#""6869 6869 \"a\\\"b\\x01\\u200b\"""#)),
        (
            r#"sprintf("%x %X %o %O %b %c %q %U", [255, 255, 8, 8, 5, 65, 65, 128512])"#,
            Json(r#""ff FF 10 0o10 101 A 'A' U+1F600""#),
        ),
        (
            r#"sprintf("%e %E %f %F %g %G", [1234.5678, 1234.5678, 0.5, 0.5, 1.5e-7, 1.5e-7])"#,
            Json(r#""1.234568e+03 1.234568E+03 0.500000 0.500000 1.5e-07 1.5E-07""#),
        ),
        (r#"sprintf("%v %v %v", [1234567.5, 123456.5, 0.00001])"#, Json(r#""1.2345675e+06 123456.5 1e-05""#)),
        (
            r#"sprintf("%d %x %T %s", [123456789012345678901234567890, 123456789012345678901234567890, 123456789012345678901234567890, -9223372036854775809])"#,
            Json(r#""123456789012345678901234567890 18ee90ff6c373e0ee4e3f0ad2 *big.Int -9223372036854775809""#),
        ),
        (r#"sprintf("%T %T %T", [1, 1.5, "x"])"#, Json(r#""int float64 string""#)),
        (r#"sprintf("%#v %#v %+v %+d %#x %#q", ["hi", 1.5, 3, 3, 255, "x"])"#, Json(r#""\"hi\" 1.5 3 +3 0xff `x`""#)),
        (r#"sprintf("100%%", [])"#, Json(r#""100%""#)),
    ]);
}

#[test]
fn width_precision_and_flags() {
    check(&[
        (
            r#"sprintf("%5.2f|%-10s|%10s|%.2s|%.1f", [3.14159, "ab", "cd", "efg", 0.25])"#,
            Json(r#"" 3.14|ab        |        cd|ef|0.2""#),
        ),
        (
            r#"sprintf("%010d|%+.3e|% d|%05s|%-05d|%+d", [-42, 12345.678, 5, "ab", 7, 0])"#,
            Json(r#""-000000042|+1.235e+04| 5|000ab|7    |+0""#),
        ),
        (
            r#"sprintf("%8.3d|%x|%#o|%+.2g|%#g", [7, -255, 8, 1234.5, 1.5])"#,
            Json(r#""     007|-ff|010|+1.2e+03|1.50000""#),
        ),
        (r#"sprintf("%*d|%-*d|%.*f", [5, 1, 4, 2, 2, 3.14159])"#, Json(r#""    1|2   |3.14""#)),
        (r#"sprintf("%[2]d %[1]d", [1, 2])"#, Json(r#""2 1""#)),
        (r#"sprintf("%6.2f%%", [99.5])"#, Json(r#"" 99.50%""#)),
        (r#"sprintf("%-8q|%8q", ["é", "日本"])"#, Json(r#""\"é\"     |    \"日本\"""#)),
        (r#"sprintf("%# x|% x|%#X", ["abc", "abc", "abc"])"#, Json(r#""0x61 0x62 0x63|61 62 63|0X616263""#)),
    ]);
}

#[test]
fn what_does_not_fit_is_told_in_the_text() {
    check(&[
        (r#"sprintf("%d", ["x"])"#, Json(r#""%!d(string=x)""#)),
        (r#"sprintf("%s %s", ["x"])"#, Json(r#""x %!s(MISSING)""#)),
        (r#"sprintf("%s", ["x", 1, 2.5])"#, Json(r#""x%!(EXTRA int=1, float64=2.5)""#)),
        (r#"sprintf("%!", [1])"#, Json(r#""%!!(int=1)""#)),
        (r#"sprintf("%", [])"#, Json(r#""%!(NOVERB)""#)),
        (r#"sprintf("%z %d", [1])"#, Json(r#""%!z(int=1) %!d(MISSING)""#)),
        (r#"sprintf("%[5]d %[x]d", [1])"#, Json(r#""%!d(BADINDEX) %!d(BADINDEX)""#)),
        (r#"sprintf("%*d", ["x", 1])"#, Json(r#""%!(BADWIDTH)1""#)),
        (r#"sprintf("%.*d", [-1, 1])"#, Json(r#""%!(BADPREC)1""#)),
        (
            r#"sprintf("%c", [123456789012345678901234567890])"#,
            Json(r#""%!c(big.Int=123456789012345678901234567890)""#),
        ),
        (r#"sprintf("%d", "x")"#, Fails("sprintf: operand 2 must be array but got string")),
        ("sprintf(1, [])", Fails("sprintf: operand 1 must be string but got number")),
    ]);
}
#[test]
fn paths_end_where_they_would_turn_back() {
    check(&[
        (
            r#"graph.reachable_paths({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, {"a"})"#,
            Json(r#"[["a", "b", "d"], ["a", "c", "d"]]"#),
        ),
        (r#"graph.reachable_paths({"a": ["b"], "b": ["a"]}, ["a"])"#, Json(r#"[["a", "b"]]"#)),
        (r#"graph.reachable_paths({"a": ["b"], "b": ["x"]}, ["a", "zz"])"#, Json(r#"[["a", "b"]]"#)),
        (r#"graph.reachable_paths({"a": ["a"]}, ["a"])"#, Json(r#"[["a", "a"]]"#)),
        (
            r#"graph.reachable_paths({"a": ["b", "c"], "b": ["c"], "c": ["a", "d"], "d": ["b"]}, ["a"])"#,
            Json(r#"[["a", "b", "c"], ["a", "b", "c", "d"], ["a", "c"], ["a", "c", "d", "b"]]"#),
        ),
        (
            r#"graph.reachable_paths({"a": ["c", "d", "a"], "b": [], "c": ["a", "b"]}, ["a", "b"])"#,
            Json(r#"[["a"], ["a", "a"], ["a", "a", "c"], ["a", "a", "c", "b"], ["a", "c"], ["a", "c", "b"], ["b"]]"#),
        ),
        (
            "graph.reachable_paths({}, 5)",
            Fails("graph.reachable_paths: operand 2 must be one of {array, set} but got number"),
        ),
    ]);
}
#[test]
fn texts_that_are_json_or_yaml() {
    check(&[
        (r#"json.is_valid("{}")"#, Json("true")),
        (r#"json.is_valid("{")"#, Json("false")),
        (r#"yaml.is_valid("a: {")"#, Json("false")),
        (r#"yaml.is_valid("a: 1")"#, Json("true")),
    ]);
}

#[test]
fn documents_match_schemas() {
    check(&[
        (
            r#"json.match_schema({"a": 1}, {"properties": {"a": {"type": "integer"}}, "required": ["a"]})"#,
            Json("[true, []]"),
        ),
        (r#"json.match_schema("{\"a\": 1}", "{\"required\": [\"a\"]}")"#, Json("[true, []]")),
        (r#"json.match_schema("[1]", {"type": "array"})"#, Json("[true, []]")),
        (
            r#"json.match_schema({"a": "x"}, {"properties": {"a": {"type": "integer"}}, "required": ["b", "c"]})"#,
            Json(
                r#"[false, [{"desc": "b is required", "error": "(Root): b is required", "field": "(Root)", "type": "required"}, {"desc": "c is required", "error": "(Root): c is required", "field": "(Root)", "type": "required"}, {"desc": "Invalid type. Expected: integer, given: string", "error": "a: Invalid type. Expected: integer, given: string", "field": "a", "type": "invalid_type"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"n": {"m": [1, "x"]}}, {"properties": {"n": {"properties": {"m": {"items": {"type": "integer"}}}}}})"#,
            Json(
                r#"[false, [{"desc": "Invalid type. Expected: integer, given: string", "error": "n.m.1: Invalid type. Expected: integer, given: string", "field": "n.m.1", "type": "invalid_type"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"a": 1}, {"properties": {"a": {"type": ["string", "null"]}}})"#,
            Json(
                r#"[false, [{"desc": "Invalid type. Expected: [string,null], given: integer", "error": "a: Invalid type. Expected: [string,null], given: integer", "field": "a", "type": "invalid_type"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"a": 1.5}, {"properties": {"a": {"type": "integer"}}})"#,
            Json(
                r#"[false, [{"desc": "Invalid type. Expected: integer, given: number", "error": "a: Invalid type. Expected: integer, given: number", "field": "a", "type": "invalid_type"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"a": 1}, {"additionalProperties": false})"#,
            Json(
                r#"[false, [{"desc": "Additional property a is not allowed", "error": "(Root): Additional property a is not allowed", "field": "(Root)", "type": "additional_property_not_allowed"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"a": 1, "b": 2}, {"additionalProperties": false, "properties": {"a": {}}})"#,
            Json(
                r#"[false, [{"desc": "Additional property b is not allowed", "error": "(Root): Additional property b is not allowed", "field": "(Root)", "type": "additional_property_not_allowed"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"n": 5}, {"properties": {"n": {"enum": ["a", 1, null]}}})"#,
            Json(
                r#"[false, [{"desc": "n must be one of the following: \"a\", 1, null", "error": "n: n must be one of the following: \"a\", 1, null", "field": "n", "type": "enum"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"n": 5}, {"properties": {"n": {"const": "a"}}})"#,
            Json(
                r#"[false, [{"desc": "n does not match: \"a\"", "error": "n: n does not match: \"a\"", "field": "n", "type": "const"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"n": 5}, {"properties": {"n": {"minimum": 6, "multipleOf": 5}}})"#,
            Json(
                r#"[false, [{"desc": "Must be greater than or equal to 6", "error": "n: Must be greater than or equal to 6", "field": "n", "type": "number_gte"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"n": 5}, {"properties": {"n": {"exclusiveMaximum": 5}}})"#,
            Json(
                r#"[false, [{"desc": "Must be less than 5", "error": "n: Must be less than 5", "field": "n", "type": "number_lt"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"s": "abc"}, {"properties": {"s": {"minLength": 4}}})"#,
            Json(
                r#"[false, [{"desc": "String length must be greater than or equal to 4", "error": "s: String length must be greater than or equal to 4", "field": "s", "type": "string_gte"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"s": "abc"}, {"properties": {"s": {"pattern": "^b"}}})"#,
            Json(
                r#"[false, [{"desc": "Does not match pattern '^b'", "error": "s: Does not match pattern '^b'", "field": "s", "type": "pattern"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"s": "300.1.1.1"}, {"properties": {"s": {"format": "ipv4"}}})"#,
            Json(
                r#"[false, [{"desc": "Does not match format 'ipv4'", "error": "s: Does not match format 'ipv4'", "field": "s", "type": "format"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"l": [1, 1]}, {"properties": {"l": {"minItems": 3}}})"#,
            Json(
                r#"[false, [{"desc": "Array must have at least 3 items", "error": "l: Array must have at least 3 items", "field": "l", "type": "array_min_items"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"l": [1, 1]}, {"properties": {"l": {"uniqueItems": true}}})"#,
            Json(
                r#"[false, [{"desc": "array items[0,1] must be unique", "error": "l: array items[0,1] must be unique", "field": "l", "type": "unique"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"a": 1}, {"minProperties": 2})"#,
            Json(
                r#"[false, [{"desc": "Must have at least 2 properties", "error": "(Root): Must have at least 2 properties", "field": "(Root)", "type": "array_min_properties"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"a": 1}, {"dependencies": {"a": ["b"]}})"#,
            Json(
                r#"[false, [{"desc": "Has a dependency on b", "error": "(Root): Has a dependency on b", "field": "(Root)", "type": "missing_dependency"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"a": 1}, {"properties": {"a": {"not": {"type": "integer"}}}})"#,
            Json(
                r#"[false, [{"desc": "Must not validate the schema (not)", "error": "a: Must not validate the schema (not)", "field": "a", "type": "number_not"}]]"#,
            ),
        ),
        (
            r##"json.match_schema({"a": 1}, {"$ref": "#/definitions/x", "definitions": {"x": {"required": ["b"]}}})"##,
            Json(
                r#"[false, [{"desc": "b is required", "error": "(Root): b is required", "field": "(Root)", "type": "required"}]]"#,
            ),
        ),
        (
            r#"json.match_schema({"a": 1}, {"type": "thing"})"#,
            Fails(
                "json.match_schema: has a primitive type that is NOT VALID -- given: /thing/ Expected valid values are:[array boolean integer number null object string]",
            ),
        ),
        (r#"json.match_schema("x", {"type": "string"})"#, Fails("json.match_schema: invalid JSON string")),
    ]);
}

#[test]
fn schemas_are_verified() {
    check(&[
        (r#"json.verify_schema({"type": "object"})"#, Json("[true, null]")),
        (r#"json.verify_schema("{\"type\": \"boolean\"}")"#, Json("[true, null]")),
        (
            r#"json.verify_schema({"properties": {"a": {"type": "thing"}}})"#,
            Json(
                r#"[false, "jsonschema: has a primitive type that is NOT VALID -- given: /thing/ Expected valid values are:[array boolean integer number null object string]"]"#,
            ),
        ),
        (r#"json.verify_schema("x")"#, Json(r#"[false, "jsonschema: invalid JSON string"]"#)),
    ]);
}
#[test]
fn texts_are_found_and_replaced() {
    check(&[
        (r#"indexof("é日本", "本")"#, Json("2")),
        (r#"indexof("abc", "x")"#, Json("-1")),
        (r#"indexof("abc", "")"#, Fails("indexof: empty search character")),
        (r#"indexof_n("aXbX", "X")"#, Json("[1, 3]")),
        (r#"indexof_n("aaa", "aa")"#, Json("[0, 1]")),
        (r#"indexof_n("abc", "")"#, Fails("indexof_n: empty search character")),
        (r#"strings.replace_n({"a": "b", "b": "c"}, "aXbXc")"#, Json(r#""bXcXc""#)),
        (r#"strings.replace_n({"aX": "1", "a": "2"}, "aXa")"#, Json(r#""2X2""#)),
        (r#"strings.replace_n({"": "x"}, "ab")"#, Json(r#""xaxbx""#)),
        (
            r#"strings.replace_n({"a": 1}, "ab")"#,
            Fails("strings.replace_n: operand 1: non-string key or value found in pattern object"),
        ),
        (r#"to_number("1e3")"#, Json("1000")),
        (r#"to_number(" 1")"#, Fails("to_number: parsing \" 1\": invalid syntax")),
        ("to_number(null)", Json("0")),
        (r#"to_number("1x")"#, Fails("to_number: could not parse string as number")),
    ]);
}

#[test]
fn numbers_with_units() {
    check(&[
        (r#"units.parse("1.5G")"#, Json("1500000000")),
        (r#"units.parse("100m")"#, Json("0.1")),
        (r#"units.parse("1.")"#, Json("1")),
        (r#"units.parse("1GB")"#, Fails("units.parse: the operands do not fit")),
        (r#"units.parse("1_0")"#, Fails("units.parse: \"1_0\" is no amount")),
        (r#"units.parse_bytes("1.5GiB")"#, Json("1610612736")),
        (r#"units.parse_bytes("1KK")"#, Fails("units.parse_bytes: the operands do not fit")),
        (r#"units.parse_bytes("")"#, Fails("units.parse_bytes: could not parse number")),
    ]);
}

#[test]
fn marshalled_texts_can_stand_in_a_page() {
    check(&[
        (r#"json.marshal({"a": "<é>&\u2028"})"#, Json(r#""{\"a\":\"\\u003cé\\u003e\\u0026\\u2028\"}""#)),
        ("json.marshal([1, {2}, null])", Json(r#""[1,[2],null]""#)),
        (
            r#"json.marshal_with_options({"a": "<", "b": [1]}, {"prefix": "=> ", "indent": "<>"})"#,
            Json(r#""=> {\n=> <>\"a\": \"\\u003c\",\n=> <>\"b\": [\n=> <><>1\n=> <>]\n=> }""#),
        ),
        (r#"json.marshal_with_options({"a": "<"}, {"pretty": false})"#, Json(r#""{\"a\":\"\\u003c\"}""#)),
        ("json.marshal_with_options([], {})", Json(r#""[]""#)),
    ]);
}

#[test]
fn patches_apply_or_fail() {
    check(&[
        (
            r#"json.patch({"a": [1, 2]}, [{"op": "add", "path": "/a/-", "value": 3}, {"op": "remove", "path": "a/0"}])"#,
            Json(r#"{"a": [2, 3]}"#),
        ),
        (r#"json.patch({"a": {1, 2}}, [{"op": "remove", "path": ["a", 2]}])"#, Json(r#"{"a": [1]}"#)),
        (
            r#"json.patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])"#,
            Fails("json.patch: the patch does not apply"),
        ),
        (
            r#"json.patch({"a": 1}, [{"op": "add", "path": "/x/y", "value": 1}])"#,
            Fails("json.patch: the patch does not apply"),
        ),
        (r#"json.patch({"a": 1}, [{"op": "change", "path": "/a"}])"#, Fails("json.patch: the patch does not apply")),
    ]);
}

#[test]
fn versions_are_compared() {
    check(&[
        (r#"semver.compare("1.2.3-alpha.1", "1.2.3")"#, Json("-1")),
        (r#"semver.compare("v1.10.0", "1.9.0")"#, Json("1")),
        (r#"semver.compare("1.2", "1.2.3")"#, Fails("semver.compare: invalid semver")),
    ]);
}

#[test]
fn regular_expressions_replace_split_and_match() {
    check(&[
        (r#"regex.replace("abc", "(b)", "<${1}>$1")"#, Json(r#""a<b>bc""#)),
        (r#"regex.replace("abc", "(b", "x")"#, Fails("unclosed group")),
        (r#"regex.split("", "ab")"#, Json(r#"["a", "b"]"#)),
        (r#"regex.split("x*", "axbxxc")"#, Json(r#"["a", "b", "c"]"#)),
        (r#"regex.split("^a", "ab")"#, Json(r#"["", "b"]"#)),
        (r#"regex.split("b$", "ab")"#, Json(r#"["a", ""]"#)),
        (r#"regex.split(",", "")"#, Json(r#"[""]"#)),
        (r#"regex.split("(", "ab")"#, Fails("unclosed group")),
        (r#"regex.template_match("urn:foo:{.*}", "urn:foo:bar", "{", "}")"#, Json("true")),
        (r#"regex.template_match("urn:foo:{.*}", "urn:bar:bar", "{", "}")"#, Json("false")),
        (r#"regex.template_match("a.b:<x{2}>", "a.b:xx", "<", ">")"#, Json("true")),
        (
            r#"regex.template_match("urn:{a|b", "urn:a", "{", "}")"#,
            Fails("regex.template_match: unbalanced braces in \"urn:{a|b\""),
        ),
        (
            r#"regex.template_match("urn:{a|b}", "urn:a", "{{", "}")"#,
            Fails("regex.template_match: operand 3 must be one character"),
        ),
        (r#"glob.quote_meta("*.{a}[b]?\\")"#, Json(r#""\\*.\\{a\\}\\[b\\]\\?\\\\""#)),
    ]);
}

#[test]
fn dates_run_over() {
    check(&[
        ("time.add_date(1709164800000000000, 1, 0, 0)", Json("1740787200000000000")),
        ("time.add_date(1709164800000000000, -1, -1, -1)", Json("1674864000000000000")),
        ("time.add_date(1700000000000000000, 0, 13, 40)", Json("1737670400000000000")),
        (
            r#"time.add_date("x", 0, 0, 0)"#,
            Fails("time.add_date: operand 1 must be either number (ns) or [number (ns), string (tz)] but got string"),
        ),
        ("time.add_date(1700000000000000000, 1.5, 0, 0)", Fails("time.add_date: time arguments out of allowed range")),
        (
            r#"time.format([1700000000123456789, "Asia/Tokyo", "Mon Jan _2 15:04:05 MST 2006"])"#,
            Json(r#""Wed Nov 15 07:13:20 JST 2023""#),
        ),
        (
            r#"time.format([1709251199000000000, "America/New_York", "RFC1123"])"#,
            Json(r#""Thu, 29 Feb 2024 18:59:59 EST""#),
        ),
        (r#"time.format([1709251199000000000, "UTC", "2006-01-02"])"#, Json(r#""2024-02-29""#)),
        ("time.format(1700000000123456789)", Json(r#""2023-11-14T22:13:20.123456789Z""#)),
        (
            r#"time.format([1709251199000000000, "Nowhere", "MST"])"#,
            Fails("time.format: failed to find time zone `Nowhere` in time zone database"),
        ),
    ]);
}

#[test]
fn queries_are_encoded_and_decoded() {
    check(&[
        (r#"urlquery.encode("a b&c=é*~")"#, Json(r#""a+b%26c%3D%C3%A9%2A~""#)),
        (r#"urlquery.decode("a+b%26c&d=_")"#, Json(r#""a b&c&d=_""#)),
        (r#"urlquery.decode("a%zz")"#, Fails("urlquery.decode: invalid URL escape \"%zz\"")),
        (r#"urlquery.decode_object("a=1&b=2&a=3&c")"#, Json(r#"{"a": ["1", "3"], "b": ["2"], "c": [""]}"#)),
        (r#"urlquery.decode_object("a;b")"#, Fails("urlquery.decode_object: invalid semicolon separator in query")),
        (
            r#"urlquery.encode_object({"a": "b c", "d": ["1", "2"], "e": {"y", "x"}})"#,
            Json(r#""a=b+c&d=1&d=2&e=x&e=y""#),
        ),
        (
            r#"urlquery.encode_object({"a": 1})"#,
            Fails("urlquery.encode_object: operand 1: values must be strings, or arrays or sets of them"),
        ),
        (r#"trace("x")"#, Json("true")),
    ]);
}

#[test]
fn parts_by_their_paths() {
    check(&[
        (r#"json.filter({"a": {"b": 1, "c": [1, 2]}, "d": 2}, ["a/c/1", "d"])"#, Json(r#"{"a": {"c": [2]}, "d": 2}"#)),
        (r#"json.filter({"a": {"b": 1}}, {"/a/b"})"#, Json(r#"{"a": {"b": 1}}"#)),
        (r#"json.filter({"a": 1}, ["a/b"])"#, Json(r#"{"a": 1}"#)),
        (r#"json.filter({"a": 1}, [["x", "y"]])"#, Json("{}")),
        (r#"json.filter({"a/b": 1, "c": 2}, ["a~1b"])"#, Json(r#"{"a/b": 1}"#)),
        (r#"json.filter({"a": 1}, [])"#, Json("{}")),
        (r#"json.remove({"a": {"b": 1, "c": [1, 2]}, "d": 2}, ["a/c/1", "d"])"#, Json(r#"{"a": {"b": 1, "c": [1]}}"#)),
        (r#"json.remove({"a": {"b": 1}}, {"/a/b"})"#, Json(r#"{"a": {}}"#)),
        (r#"json.remove({"a": 1}, ["a/b"])"#, Json(r#"{"a": 1}"#)),
        (r#"json.remove({"a": {1: 2}}, [["a", 1]])"#, Json(r#"{"a": {}}"#)),
        (r#"json.remove({"a": 1}, [])"#, Json(r#"{"a": 1}"#)),
        (r#"json.remove({"a": 1}, "a")"#, Fails("json.remove: operand 2 must be one of {array, set} but got string")),
    ]);
}

/// Here the answer is ours: OPA tells the environment of its process.
#[test]
fn nothing_of_the_process_is_told() {
    check(&[
        ("opa.runtime().env", Json("{}")),
        ("opa.runtime().version", Json(r#""1.17.1""#)),
        (
            "object.keys(opa.runtime())",
            Json(r#"["authorization_enabled", "commit", "env", "skip_known_schema_check", "version"]"#),
        ),
    ]);
}
#[test]
fn matches_have_groups() {
    check(&[
        (r#"regex.find_all_string_submatch_n("(a)(b)?", "abac", -1)"#, Json(r#"[["ab", "a", "b"], ["a", "a", ""]]"#)),
        (r#"regex.find_all_string_submatch_n("(a)(b)?", "abac", 1)"#, Json(r#"[["ab", "a", "b"]]"#)),
        (r#"regex.find_all_string_submatch_n("x*", "axbxxc", -1)"#, Json(r#"[[""], ["x"], ["xx"], [""]]"#)),
        (r#"regex.find_all_string_submatch_n("a", "aaa", 0)"#, Json("[]")),
        (r#"regex.find_all_string_submatch_n("(a", "aaa", 1)"#, Fails("regex parse error")),
    ]);
}
