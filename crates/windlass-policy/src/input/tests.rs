use super::*;
use serde_json::json;

fn read(parser: &str, text: &str) -> Result<Value, Box<Diagnostic>> {
    parse(Parser::named(parser).unwrap(), &"file".into(), text)
}

#[track_caller]
fn check(parser: &str, text: &str, want: Value) {
    assert_eq!(read(parser, text).unwrap_or_else(|d| panic!("{d:?}")), want, "{parser}: {text}");
}

#[test]
fn yaml_reads_as_version_one_point_one() {
    check(
        "yaml",
        "a: yes\nb: on\nc: 1\nd: 1.0\ne: 0x1F\nf: 0o17\ng: 017\nh: 1_000\ni: ~\nj: 2001-01-01\no: \"yes\"\n1: num\ntrue: t\np: |\n  block\nq: 1e3\ns: 'n'\nt: y\nu: !custom foo\nv: 1:30\nw: .5\nx: -0x1\n",
        json!({"a": true, "b": true, "c": 1, "d": 1, "e": 31, "f": 15, "g": 15, "h": 1000, "i": null, "j": "2001-01-01", "o": "yes",
            "1": "num", "true": "t", "p": "block\n", "q": 1000, "s": "n", "t": true, "u": "foo", "v": "1:30", "w": 0.5, "x": -1}),
    );
    check(
        "yaml",
        "m: &x {q: 1, r: 2}\nk:\n  <<: *x\n  w: 2\n  r: 3\n",
        json!({"m": {"q": 1, "r": 2}, "k": {"w": 2, "r": 3, "q": 1}}),
    );
    check("yaml", "---\na: 1\n---\nb: 2\n", json!([{"a": 1}, {"b": 2}]));
    check("yaml", "a: !!binary aGk=\nb: !!str 1\nc: !!int \"2\"\n", json!({"a": "hi", "b": "1", "c": 2}));
    check("yaml", "a: >\n  l1\n  l2", json!({"a": "l1 l2"}));
    check("yaml", "a: |\n  l1\n  l2", json!({"a": "l1\nl2"}));
    check("yaml", "a: |\n  l1\nb: 1", json!({"a": "l1\n", "b": 1}));
    check("yaml", "- |\n  l1\n- é", json!(["l1\n", "é"]));
    check("yaml", "", Value::Null);
    check("yaml", "# nothing\n", Value::Null);
    check("yaml", "a: |\n  x\n  ---\n  y\n", json!({"a": "x\n---\ny\n"}));
    check("yaml", "a: 1\na: 2\n", json!({"a": 2}));
    check("yaml", "{\"a\": [1, {\"b\": null}]}", json!({"a": [1, {"b": null}]}));
}

#[test]
fn aliases_do_not_explode() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let before = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    assert!(read("yaml", &text).unwrap_err().summary.contains("aliases expand"));
    assert!(read("yaml", &"[".repeat(100_000)).is_err());
}

#[test]
fn json_and_its_relatives() {
    check("json", "{\"a\": 1, \"a\": 2}", json!({"a": 2}));
    check("jsonc", "{\"a\": \"//\", // c\n /* x\n , */ \"b\": [1, 2,], }", json!({"a": "//", "b": [1, 2]}));
    check("cyclonedx", "{\"bomFormat\": \"CycloneDX\"}", json!({"bomFormat": "CycloneDX"}));
    assert!(read("cyclonedx", "<bom/>").unwrap_err().summary.contains("give it in JSON"));
    assert!(read("spdx", "{}").unwrap_err().summary.contains("spdxVersion"));
    assert_eq!(parse(Parser::Json, &"f".into(), "\u{feff}{}").unwrap(), json!({}));
}

#[test]
fn toml_dates_become_texts() {
    check(
        "toml",
        "a = 1\nb = 1.5\nd = 1979-05-27T07:32:00Z\nld = 1979-05-27\nlt = 07:32:00\nldt = 1979-05-27T07:32:00\ninf = 1e10\n[t]\nx = [1,2]\n[[arr]]\ny = \"z\"\n",
        json!({"a": 1, "b": 1.5, "d": "1979-05-27T07:32:00Z", "ld": "1979-05-27T00:00:00Z", "lt": "0000-01-01T07:32:00Z",
            "ldt": "1979-05-27T07:32:00Z", "inf": 10_000_000_000i64, "t": {"x": [1, 2]}, "arr": [{"y": "z"}]}),
    );
}

#[test]
fn hcl_keeps_expressions_as_texts() {
    let text = r#"
terraform {
  required_version = ">= 1"
  backend "s3" { bucket = "x" }
}
variable "a" {
  type    = map(object({ x = string }))
  default = { x = "y", "z k" = 2, (var.k) = 3 }
}
resource "aws_s3_bucket" "b" {
  bucket = "pre-${var.a.x}-post"
  n      = -5
  neg    = -var.x
  nul    = null
  list   = [1, "a", var.b, [for x in y : x]]
  tags   = merge(local.t, { A = "b" })
  w      = "${var.a}"
  cond   = var.x ? 1 : 2
  splat  = aws_x.y[*].id
  h      = <<-EOT
    line ${var.x}
      two
  EOT
  dir    = "%{if var.x}yes%{else}no%{endif} %{ for i in var.l ~}${i}%{ endfor }"
  esc    = "a\"b\\ $${x} %%{y} \n"
  p      = (1)
  fe     = 1e3
  not    = !var.x
  nott   = !true
  dynamic "x" {
    for_each = var.x
    content { a = 1 }
  }
  lifecycle { prevent_destroy = true }
  lifecycle { x = 2 }
}
resource "aws_s3_bucket" "c" {}
"#;
    check(
        "hcl2",
        text,
        json!({
            "terraform": [{"required_version": ">= 1", "backend": {"s3": [{"bucket": "x"}]}}],
            "variable": {"a": [{"type": "${map(object({ x = string }))}", "default": {"x": "y", "z k": 2, "${(var.k)}": 3}}]},
            "resource": {"aws_s3_bucket": {
                "b": [{
                    "bucket": "pre-${var.a.x}-post", "n": -5, "neg": "${-var.x}", "nul": null,
                    "list": [1, "a", "${var.b}", "${[for x in y : x]}"], "tags": "${merge(local.t, { A = \"b\" })}",
                    "w": "${var.a}", "cond": "${var.x ? 1 : 2}", "splat": "${aws_x.y[*].id}", "h": "line ${var.x}\n  two\n",
                    "dir": "%{if var.x}yes%{else}no%{endif} %{for i in var.l}${i}%{endfor}", "esc": "a\"b\\ $${x} %%{y} \n",
                    "p": "${(1)}", "fe": 1000, "not": "${!var.x}", "nott": false,
                    "dynamic": {"x": [{"for_each": "${var.x}", "content": [{"a": 1}]}]},
                    "lifecycle": [{"prevent_destroy": true}, {"x": 2}],
                }],
                "c": [{}],
            }},
        }),
    );
}

#[test]
fn old_hcl_is_lists_of_objects() {
    check(
        "hcl1",
        "variable \"a\" { default = \"x\" }\nresource \"aws_s3_bucket\" \"b\" {\n  bucket = \"pre-${var.a.x}-post\"\n  tags { A = \"b\" }\n  m = { A = \"b\" }\n  l = [1, \"a\", { x = 1 }]\n}\nresource \"aws_s3_bucket\" \"c\" {}\n",
        json!({
            "resource": [
                {"aws_s3_bucket": [{"b": [{"bucket": "pre-${var.a.x}-post", "l": [1, "a", {"x": 1}], "m": [{"A": "b"}], "tags": [{"A": "b"}]}]}]},
                {"aws_s3_bucket": [{"c": [{}]}]},
            ],
            "variable": [{"a": [{"default": "x"}]}],
        }),
    );
}

#[test]
fn dockerfiles_are_lists_of_instructions() {
    let text = "# syntax=docker/dockerfile:1\nARG V=1\nFROM golang:1.2 AS build\nCOPY --from=x --chown=a:b . /src\nRUN go build \\\n  # comment\n  -o x && \\\n  ls\nRUN [\"a\", \"b c\"]\nHEALTHCHECK --interval=5s CMD curl x\nONBUILD RUN foo bar\nENV A=b C=\"d e\"\nENV OLD value here\nEXPOSE 80 443/tcp\nRUN <<EOF\necho hi\nEOF\nfrom alpine\nUSER root\n";
    let command = |name: &str, sub: &str, flags: &[&str], values: &[&str], json: bool, stage: i32| json!({"Cmd": name, "SubCmd": sub, "Flags": flags, "Value": values, "JSON": json, "Stage": stage});
    check(
        "dockerfile",
        text,
        json!([[
            command("arg", "", &[], &["V=1"], false, 0),
            command("from", "", &[], &["golang:1.2", "AS", "build"], false, 0),
            command("copy", "", &["--from=x", "--chown=a:b"], &[".", "/src"], false, 0),
            command("run", "", &[], &["go build   -o x &&   ls"], false, 0),
            command("run", "", &[], &["a", "b c"], true, 0),
            command("healthcheck", "", &["--interval=5s"], &["CMD", "curl x"], false, 0),
            command("onbuild", "RUN", &[], &["foo bar"], false, 0),
            command("env", "", &[], &["A", "b", "=", "C", "\"d e\"", "="], false, 0),
            command("env", "", &[], &["OLD", "value here", ""], false, 0),
            command("expose", "", &[], &["80", "443/tcp"], false, 0),
            command("run", "", &[], &["<<EOF"], false, 0),
            command("from", "", &[], &["alpine"], false, 1),
            command("user", "", &[], &["root"], false, 1),
        ]]),
    );
    let comment = |text: &str, stage: i32| json!({"Cmd": "comment", "SubCmd": "", "Flags": null, "Value": [text], "JSON": false, "Stage": stage});
    check(
        "dockerfile",
        "# escape=\\\n# one\n\n# two\nFROM a\n# lost\n#\nRUN x \\\n # in\n y\n  # deep\nFROM b\n# end\n",
        json!([[
            comment("one", 0),
            comment("two", 0),
            command("from", "", &[], &["a"], false, 0),
            command("run", "", &[], &["x  y"], false, 0),
            comment("# deep", 1),
            command("from", "", &[], &["b"], false, 1),
        ]]),
    );
    check(
        "dockerfile",
        "FROM a\nCMD []\nENV A x\\\\\nUSER b\n",
        json!([[
            command("from", "", &[], &["a"], false, 0),
            {"Cmd": "cmd", "SubCmd": "", "Flags": [], "Value": null, "JSON": true, "Stage": 0},
            command("env", "", &[], &["A", "x\\\\", ""], false, 0),
            command("user", "", &[], &["b"], false, 0),
        ]]),
    );
    assert!(read("dockerfile", "FROM a\nRUNN x\n").unwrap_err().summary.contains("no instruction `RUNN`"));
    assert!(read("dockerfile", "FROM a\nHEALTHCHECK\n").is_err());
    assert!(read("dockerfile", "FROM a\nCMD [1, 2]\n").unwrap_err().summary.contains("strings only"));
    assert!(read("dockerfile", "FROM a\nENV A=b D\n").unwrap_err().labels[0].span.line == 2);
}

#[test]
fn ini_dotenv_and_properties() {
    check(
        "ini",
        "; c\ntop = 1\n[sec]\na = true\nb = 1.5\nc = hello world ; tail\nd = \"quoted\"\ne=\nf = 012\ng = 1e3\nh=yes\ni=0x10\nj=1_000\nk=NaN\nl=-3\n[sec.sub]\nx: y\n[Sec Two]\n[sec]\nz=1\n",
        json!({"sec": {"a": true, "b": 1.5, "c": "hello world", "d": "quoted", "e": "", "f": 12, "g": 1000, "h": "yes", "i": "0x10",
            "j": 1000, "k": "NaN", "l": -3, "z": 1}, "sec.sub": {"x": "y"}, "Sec Two": {}}),
    );
    check(
        "ini",
        "[a]\nk=\"\"\"x\n y=1\nz\"\"\" # c\nl = \"\"\"one\"\"\"\nm=`a\nb`\n\"1+1=2\" = true\n`p:q` = r\nq=\"x\", \"y\"\n-: s\n-: t\n",
        json!({"a": {"k": "x\n y=1\nz", "l": "one", "m": "a\nb", "1+1=2": true, "p:q": "r", "q": "\"x\", \"y\"", "#1": "s", "#2": "t"}}),
    );
    assert_eq!(read("ini", "[a]\nflag\n").unwrap_err().labels[0].span.line, 2);
    check(
        "dotenv",
        "# c\nA=1\nB=\"two words\"\nexport C='x $A'\nD=$A-x\nE=a # tail\nF=\"l1\\nl2\"\nG: c\nH='a\nb'\nI=\nJ=a#b\nK=\"x${A}\" # c\n",
        json!({"A": "1", "B": "two words", "C": "x $A", "D": "1-x", "E": "a", "F": "l1\nl2", "G": "c", "H": "a\nb", "I": "", "J": "a",
            "K": "x1"}),
    );
    assert!(read("dotenv", "A=1\nexport J\n").unwrap_err().summary.contains("export J"));
    check(
        "properties",
        "# c\n! d\na.b = 1\nc: d\ne f\ng = ${a.b}x\nh = a\\\n  b\ni=\\u0041\nj\nk = x\\ty\n",
        json!({"a.b": "1", "c": "d", "e": "f", "g": "${a.b}x", "h": "ab", "i": "A", "j": "", "k": "x\ty"}),
    );
}

#[test]
fn xml_has_attributes_and_contents() {
    check(
        "xml",
        "<?xml version=\"1.0\"?>\n<!-- c -->\n<root a=\"1\" xmlns:x=\"urn:x\">\n  <item id=\"1\">one</item>\n  <item id=\"2\">two</item>\n  <single>text</single>\n  <empty/>\n  <x:n>5</x:n>\n  <mix>a<b>c</b>d</mix>\n  <cd><![CDATA[<x>]]></cd>\n<h xmlns=\"u\">z</h></root>\n",
        json!({"root": {"-a": "1", "-x": "urn:x", "item": [{"-id": "1", "#content": "one"}, {"-id": "2", "#content": "two"}],
            "single": "text", "empty": "", "n": "5", "mix": {"b": "c", "#content": "d"}, "cd": "<x>", "h": {"-xmlns": "u", "#content": "z"}}}),
    );
}

#[test]
fn lists_of_lines() {
    check(
        "ignore",
        "# c\n*.log\n!keep.log\n\n/dir/\n",
        json!([[
            {"Kind": "Comment", "Original": "# c", "Value": "c"}, {"Kind": "Path", "Original": "*.log", "Value": "*.log"},
            {"Kind": "NegatedPath", "Original": "!keep.log", "Value": "keep.log"}, {"Kind": "Empty", "Original": "", "Value": ""},
            {"Kind": "Path", "Original": "/dir/", "Value": "/dir/"}, {"Kind": "Empty", "Original": "", "Value": ""},
        ]]),
    );
    check(
        "codeowners",
        "# c\n* @a\n/x/ @b @org/t me@example.com # tail\n",
        json!({"rules": [
            {"pattern": "*", "owners": [{"type": "username", "value": "a"}], "comment": "", "lineNumber": 2},
            {"pattern": "/x/", "owners": [{"type": "username", "value": "b"}, {"type": "team", "value": "org/t"},
                {"type": "email", "value": "me@example.com"}], "comment": "tail", "lineNumber": 3},
        ]}),
    );
}

#[test]
fn parsers_are_chosen_by_name() {
    for (path, want) in [
        ("a/Dockerfile", "dockerfile"),
        ("Dockerfile.dev", "dockerfile"),
        ("x.dockerfile", "dockerfile"),
        (".gitignore", "ignore"),
        ("docs/CODEOWNERS", "codeowners"),
        (".env", "dotenv"),
        ("main.tf", "hcl2"),
        ("a.tfvars", "hcl2"),
        ("a.tf.json", "json"),
        ("-", "yaml"),
        ("Makefile", "yaml"),
        ("a.YML", "yaml"),
    ] {
        assert_eq!(Parser::of_path(path).map(Parser::name), Ok(want), "{path}");
    }
    assert!(Parser::of_path("Jenkinsfile").unwrap_err().contains("groovy is not read here"));
    assert!(is_guess("Makefile", &json!("all: x")) && is_guess("-", &json!("x")));
    assert!(!is_guess("a.yaml", &json!("x")) && !is_guess("-", &json!({"a": "x"})));
    assert!(Parser::of_path("a.cue").unwrap_err().contains("cue export"));
    assert!(Parser::of_path("a.unknown").unwrap_err().contains("there is no parser `unknown`"));
}

#[test]
fn texts_are_decoded() {
    assert_eq!(decode("f", b"\xff\xfea\0\xe9\0".to_vec()).unwrap(), "aé");
    assert_eq!(decode("f", b"\xfe\xff\0a".to_vec()).unwrap(), "a");
    assert_eq!(decode("f", "é".into()).unwrap(), "é");
    assert_eq!(decode("f", b"a\n\xe9\n".to_vec()).unwrap_err().labels[0].span.line, 2);
}

#[test]
fn mistakes_have_a_place() {
    for (parser, text, line) in [
        ("json", "{\"a\":\n 1,, }", 2),
        ("jsonc", "{\"a\": // x\n ]", 2),
        ("yaml", "a: 1\nb: [c\n", 3),
        ("yaml", "a:\n\tb: 1", 2),
        ("yaml", "x: {{ a }}\n", 1),
        ("toml", "a = 1\nb = \n", 2),
        ("hcl2", "a = 1\nb = \"x\" c\n", 2),
        ("xml", "<a>\n<b></a>", 2),
        ("dockerfile", "FROM a\nLABEL x\n", 2),
        ("properties", "a=1\nb=\\u12\n", 2),
    ] {
        let diagnostic = read(parser, text).unwrap_err();
        assert_eq!(
            (diagnostic.code.as_str(), diagnostic.labels[0].span.line),
            ("WL430", line),
            "{parser}: {diagnostic:?}"
        );
    }
}

#[test]
fn nothing_panics_on_cut_texts() {
    let texts = [
        ("yaml", "a: &x {b: [1, \"é\", 'y']}\nc: *x\n--- |\n é\n"),
        ("json", "{\"a\": [1, \"é\", null]}"),
        ("jsonc", "{\"a\": /* é */ [1, \"\\\"é\", null], // x\n}"),
        ("toml", "a = \"é\"\n[b.c]\nd = 1979-05-27T07:32:00Z\n"),
        ("hcl2", "a \"b\" {\n  c = \"é${d ? 1 : 2}\"\n  e = <<-X\n    é ${f}\n  X\n}\n"),
        ("dockerfile", "FROM é\nRUN <<X\né\nX\nENV A=\"é\\\" b\" C=d\n"),
        ("dotenv", "A=\"é\\n\"\nB='${é}'\nC=${A}$A\\$\nD: é # x\n"),
        ("ini", "[é]\na = `é` ; x\nb: \"é\"\\\n c\n"),
        ("properties", "é = \\u00e9\\\n  é\nb\\ c: d\n"),
        ("xml", "<é a=\"é\"><b>é</b><![CDATA[é]]></é>"),
        ("ignore", "# é\n!é\n"),
        ("codeowners", "é @é # é\n"),
    ];
    for (parser, text) in texts {
        for (end, _) in text.char_indices() {
            // Any answer will do.
            let _ = read(parser, &text[..end]);
        }
        assert!(read(parser, text).is_ok(), "{parser}: {:?}", read(parser, text));
    }
}
