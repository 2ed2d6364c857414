use super::*;
use proptest::prelude::*;

fn check(text: &str, want: &str) {
    let formatted = format("w", text).unwrap();
    assert_eq!(formatted, want);
    assert_eq!(format("w", &formatted).unwrap(), formatted);
    let crlf = format("w", &text.replace('\n', "\r\n")).unwrap();
    assert_eq!(crlf, want.replace('\n', "\r\n"));
}

#[test]
fn files_are_indented_and_aligned() {
    check(
        "project \"x\" {\n\n\n environment \"p\" {\nmatch=[\n\"a\", # one\n\"b\"]\n   approvals {\ncount = 1\n  author_may_approve   =    false   \n}\n\n }\n}\n\n\n\nteam \"a\" { members = [\"user:a\"] }\n\n",
        "project \"x\" {\n  environment \"p\" {\n    match = [\n      \"a\", # one\n      \"b\"]\n    approvals {\n      count              = 1\n      author_may_approve = false\n    }\n  }\n}\n\nteam \"a\" { members = [\"user:a\"] }\n",
    );
    check(
        "locals {\n  t = <<-EOT\n     keep  =  this\n  EOT\n a = \"}\"\n}\n",
        "locals {\n  t = <<-EOT\n     keep  =  this\n  EOT\n  a = \"}\"\n}\n",
    );
    check("a = <<MY-EOT\n  x  =  1\nMY-EOT\n", "a = <<MY-EOT\n  x  =  1\nMY-EOT\n");
    check(
        "operation \"o\" {\nparam \"p\" { type = choice  choices = [\"a\"] }\n    allow = [team.a]\n  timeout=\"1h\"\n}\n",
        "operation \"o\" {\n  param \"p\" { type = choice  choices = [\"a\"] }\n  allow   = [team.a]\n  timeout = \"1h\"\n}\n",
    );
    check("a  = x[*][0]\n", "a = x[*][0]\n");
    check("", "");
}

#[test]
fn what_is_no_layout_stays() {
    check(
        "a {\n    /* one\n x   =   1  \n\n\n yy = 2 */\n   b   = 1 /* c\n  d = 1 */\n}\n",
        "a {\n  /* one\n x   =   1  \n\n\n yy = 2 */\n  b = 1 /* c\n  d = 1 */\n}\n",
    );
    check("a {\nx = \"${f(\n \"}\",   {b  =  1}\n   )}\"\n}\n", "a {\n  x = \"${f(\n \"}\",   {b  =  1}\n   )}\"\n}\n");
    check(
        "a = <<EOT\n${join(\"\", [\n\"EOT\",\nEOT\n])}\n  EOT\nbb=1\n",
        "a = <<EOT\n${join(\"\", [\n\"EOT\",\nEOT\n])}\n  EOT\nbb = 1\n",
    );
    check("# {\n\n\na = 1 // [\n", "# {\n\na = 1 // [\n");
}

#[test]
fn broken_files_are_not_touched() {
    assert_eq!(format("w", "a {").unwrap_err().code, "WL101");
}

/// Where layout is free within a line.
fn blank() -> impl Strategy<Value = &'static str> + Clone {
    prop::sample::select(vec!["", " ", "   ", "\t", " \t "])
}

/// Where lines may end too.
fn gap() -> impl Strategy<Value = &'static str> + Clone {
    let gaps = vec![
        "",
        " ",
        "\n",
        "\n\n\n   ",
        " # {c = \"\n",
        " // ${ [\n\t",
        "/* ( */",
        "/* one\n   two  =  2 }\n\n\n  three*/",
        "  \n ",
    ];
    prop::sample::select(gaps)
}

const COMMENTS: [&str; 8] = [
    "# a  =  {",
    "//b",
    "/* c = \" */",
    "/*\n   d   =   1  \n\n\n<<EOT\n  }\n*/",
    "/** e\n * f\n **/",
    "# <<EOT",
    "/* # */ // g",
    "#",
];

const ATOMS: [&str; 18] = [
    "1",
    "null",
    "local.a-b",
    "-x",
    "!y",
    "a.b[0].c",
    "a[*].b",
    "stack.aws/net",
    "a ? b : c",
    "a == b",
    "\"plain = {\"",
    "\"\"",
    "\"# no /* comment\"",
    "\"$${ %%{ \\\" \\\\\"",
    "\"<<EOT ${x}\"",
    "\"a ${f(\"}\", { b = \"c ${d}\" })} %{ if x }(%{ else }[%{ endif }\"",
    "\"${\n   join(\n \",\",   [ x ])\n}\"",
    "\"é = 😀\"",
];

// Not an empty one: the parser then looks for its end in the rest of the file, and trips over a `${` in a comment.
const HEREDOCS: [&str; 5] = [
    "<<EOT\n  a  =  {\n\n\n\nEOTX\n b \"${x}\" \nEOT",
    "<<-EOT\n    a\n      ${f({ b = \"}\" })}\n   /* \n   EOT",
    "<<E-1\n$${ %%{ [\n%{ for a in b ~}\n  c   \n%{ endfor }\nE-1",
    "<<EOT\n${[\n\"EOT\",\n  EOT,\n][0]}\n\t EOT",
    "<<EOT\n\nEOT",
];

fn expression() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(ATOMS.to_vec()).prop_map(str::to_owned);
    atom.prop_recursive(4, 24, 4, |inner| {
        let item = (gap(), inner.clone(), gap());
        let list = prop::collection::vec(item.clone(), 0..4);
        let text = |items: Vec<(&str, String, &str)>| {
            items.iter().map(|(a, e, b)| format!("{a}{e}{b}")).collect::<Vec<_>>().join(",")
        };
        let entry = (
            blank(),
            prop::sample::select(vec!["a@", "bb-b@", "\"c d@\"", "(e.f@)"]),
            blank(),
            prop::sample::select(vec!["=", ":"]),
            blank(),
            inner.clone(),
            blank(),
            prop::sample::select(vec!["\n", ",\n\n", " # h\n", "\n/* i\n   j = 1 */\n"]),
        );
        let object = prop::collection::vec(entry, 0..4).prop_map(|entries| {
            let entries: String =
                entries.into_iter().map(|(a, k, b, e, c, v, d, n)| format!("{a}{k}{b}{e}{c}{v}{d}{n}")).collect();
            format!("{{{}{entries}}}", if entries.is_empty() { "" } else { "\n" })
        });
        prop_oneof![
            list.clone().prop_map(move |items| format!("[{}]", text(items))),
            list.prop_map(move |items| format!("f({})", text(items))),
            object,
            item.clone().prop_map(|(a, e, b)| format!("({a}{e}{b})")),
            (item, blank()).prop_map(|((a, e, b), c)| format!("[for k, v in{a} x{c} :{b} {e} if{c} v]")),
        ]
    })
}

/// The lines of a body, without the braces around it.
fn body() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a@", "bb@", "a-long_name@", "x@"]);
    let value = prop_oneof![6 => expression(), 1 => prop::sample::select(HEREDOCS.to_vec()).prop_map(str::to_owned)];
    let heredoc = |text: &str| text.starts_with("<<");
    let attribute = (
        blank(),
        name(),
        blank(),
        blank(),
        value,
        blank(),
        prop::sample::select(vec!["", "# k = 1", "// {", "/* l */"]),
    )
        .prop_map(move |(a, n, b, c, v, d, comment)| match heredoc(&v) {
            true => format!("{a}{n}{b}={c}{v}"),
            false => format!("{a}{n}{b}={c}{v}{d}{comment}"),
        });
    let comment =
        (blank(), prop::sample::select(COMMENTS.to_vec()), blank()).prop_map(|(a, c, b)| format!("{a}{c}{b}"));
    let item = prop_oneof![4 => attribute, 1 => comment, 1 => blank().prop_map(str::to_owned), 1 => Just("one \"l\" { a  =  1 }".to_owned())];
    prop::collection::vec(item, 0..6)
        .prop_map(|items| items.into_iter().map(|item| item + "\n").collect::<String>())
        .prop_recursive(3, 12, 4, |inner| {
            prop::collection::vec((inner.clone(), blank(), blank(), inner), 1..4).prop_map(|parts| {
                parts
                    .into_iter()
                    .map(|(before, a, b, inner)| format!("{before}{a}block{b} \"l\" {{{b}\n{inner}{a}}}{b}\n"))
                    .collect()
            })
        })
}

/// Every name of an attribute is its own.
fn numbered(text: &str) -> String {
    let mut parts = text.split('@');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.enumerate().fold(first, |text, (number, part)| format!("{text}{number}{part}"))
}

#[derive(Debug, Clone, Copy)]
enum Endings {
    Lf,
    CrLf,
    Mixed,
}

fn with_endings(text: &str, endings: Endings) -> String {
    let mut number = 0;
    let mut out = String::new();
    for c in text.chars() {
        number += usize::from(c == '\n');
        let carriage = match endings {
            Endings::Lf => false,
            Endings::CrLf => true,
            Endings::Mixed => number % 3 == 0,
        };
        if c == '\n' && carriage {
            out.push('\r');
        }
        out.push(c);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_layout_changes_and_only_once(
        text in body(),
        endings in prop::sample::select(vec![Endings::Lf, Endings::CrLf, Endings::Mixed]),
        last in prop::bool::ANY,
    ) {
        let text = numbered(&text);
        let text = with_endings(if last { &text } else { text.trim_end_matches('\n') }, endings);
        let parsed = hcl_edit::parser::parse_body(&text);
        prop_assert!(parsed.is_ok(), "the generator is wrong: {:?}\n{text}", parsed.err());
        // Without the check that leaves alone what is not understood.
        let formatted = layout(&text);
        prop_assert!(same(&text, &formatted), "\n{text}\n---\n{formatted}");
        prop_assert_eq!(&layout(&formatted), &formatted, "\n{}\n---\n{}", &text, &formatted);
        for comment in COMMENTS.iter().chain(&HEREDOCS) {
            let comment = with_endings(comment, endings);
            if !matches!(endings, Endings::Mixed) {
                prop_assert_eq!(text.matches(&comment).count(), formatted.matches(&comment).count(), "{}", comment);
            }
        }
        let feeds = formatted.matches('\n').count();
        let carriages = formatted.matches("\r\n").count();
        match endings {
            Endings::Lf => prop_assert_eq!(carriages, 0),
            Endings::CrLf if text.contains('\n') => prop_assert_eq!(carriages, feeds),
            Endings::CrLf | Endings::Mixed => {}
        }
    }
}
