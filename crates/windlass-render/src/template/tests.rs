use super::*;
use crate::markdown::Forge;
use crate::sample;

fn template(source: &str) -> Template {
    Template { name: "ci/review.md.j2".into(), source: source.into() }
}

fn rendered(source: &str) -> Rendered {
    markdown(&template(source), &sample::document(), &Forge::GitHub.options())
}

#[test]
fn a_template_reads_the_document() {
    let check = |source: &str, want: &str| {
        let found = rendered(source);
        assert_eq!(found.problem, None, "{source}");
        assert_eq!(found.text, format!("<!-- windlass:review -->\n{want}"), "{source}");
    };
    check("{{ headline.title }}", "Denied by policy");
    check("{{ summary.label }} {{ summary.labels|join(' ') }}", "error error destroy add-or-update");
    check(
        "{% for d in dangers %}{{ d.address|code }} {{ d.loss }};{% endfor %}",
        "`aws_db_instance.main` database: data in it is lost unless restored;",
    );
    check("{{ head.commit|short|code }} {{ 2|count('entry') }}", "`aaaaaaaaaaaa` 2 entries");
    check("{{ stacks[0].resources[0]|diff }}", "```diff\n+ cidr_blocks[1] = \"0.0.0.0/0\"\n```\n");
    check("{{ stacks[2].status.values[1].value|shown }}", "\"subnet-2\"");
    check("{{ history[0].at|time }}", "2025-11-21 04:40 UTC");
    check("{{ '<b>@x</b>' }} {{ '<b>'|safe }}", "\\<b\\>@\u{200b}x\\</b\\> <b>");
    check("{{ headline.command if headline.command else 'none' }}", "windlass review");
    let own = rendered("# Ours\n\n{{ built_in() }}");
    assert!(
        own.text.starts_with("<!-- windlass:review -->\n# Ours\n\n<!-- windlass:review -->\n### ❌"),
        "{}",
        own.text
    );
}

#[test]
fn text_of_others_is_escaped_for_the_sink() {
    let source = "{% for s in stacks %}{% for r in s.resources %}{% for row in r.rows %}{{ row }}{% endfor %}{% endfor %}{% endfor %}";
    let text = rendered(source).text;
    assert!(text.contains("\\<script\\>alert(1)") && !text.contains("<script>"), "{text}");
    let page = Template { name: "page.html".into(), source: source.into() };
    let text = html(&page, &sample::document()).text;
    assert!(text.contains("&lt;script&gt;") && !text.contains("<script>"), "{text}");
}

#[test]
fn a_broken_template_gives_the_built_in_text_with_a_note() {
    let check = |source: &str, line: usize, says: &str| {
        let found = rendered(source);
        let Some(TemplateError::Broken { name, line: at, message }) = &found.problem else {
            panic!("{source}: {:?}", found.problem)
        };
        assert_eq!((name.as_str(), *at), ("ci/review.md.j2", line), "{source}: {message}");
        assert!(message.contains(says), "{message}");
        assert!(found.text.contains("### ❌ Denied by policy"), "{}", found.text);
        assert!(found.text.contains(&format!("ci/review.md.j2:{line}")), "{}", found.text);
    };
    check("one\n{{ headlin.title }}", 2, "undefined");
    check("one\n\n{% for %}", 3, "syntax error");
    check("{{ head|nope }}", 1, "unknown filter");
    check("{% include 'other' %}", 1, "template not found");
    check("{{ 'x'|shown }}", 1, "not what the filter takes");
    check(
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
        1,
        "fuel",
    );
}

#[test]
fn what_is_too_large_for_the_forge_gives_the_built_in_text() {
    let found = rendered("{% for i in range(9000) %}0123456789{% endfor %}");
    assert!(matches!(found.problem, Some(TemplateError::TooLarge { characters: 90_025, .. })), "{:?}", found.problem);
    assert!(Size::of(&found.text).fits(Forge::GitHub.options().limit));
    assert!(found.text.contains("at most 65000 fit"), "{}", found.text);
}

#[test]
fn a_template_for_a_page_gives_what_it_says_or_the_built_in_page() {
    let page = |source: &str| html(&Template { name: "page.html".into(), source: source.into() }, &sample::document());
    let own = page("<style>{{ style }}</style>{{ project }}{{ built_in() }}");
    assert_eq!(own.problem, None);
    assert!(own.text.contains("shop<article class=\"wl-review\">"));
    let broken = page("{{ nothing }}");
    assert!(broken.problem.is_some());
    assert!(broken.text.starts_with("<!doctype html>") && broken.text.contains("page.html:1"), "{}", broken.text);
}
