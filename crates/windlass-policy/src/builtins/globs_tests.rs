//! The answers in these tables are OPA's.

use super::tests::{Fails, Json, check};

#[test]
fn globs_stop_at_delimiters() {
    check(&[
        (r#"glob.match("*.com", [], "a.com")"#, Json("true")),
        (r#"glob.match("*.com", [], "a.b.com")"#, Json("false")),
        (r#"glob.match("**.com", [], "a.b.com")"#, Json("true")),
        (r#"glob.match("*", null, "a.b/c")"#, Json("true")),
        (r#"glob.match("*:x", [":"], "a.b:x")"#, Json("true")),
        (r#"glob.match("a/**", [".", "/"], "a.com")"#, Json("false")),
        (r#"glob.match("a/**", [".", "/"], "a/b.c/d")"#, Json("true")),
        (r#"glob.match("a?c", ["/"], "a/c")"#, Json("false")),
        (r#"glob.match("a?c", ["/"], "abc")"#, Json("true")),
        (r#"glob.match("[a-c][!a-c]", [], "bx")"#, Json("true")),
        (r#"glob.match("[a-c][!a-c]", [], "bb")"#, Json("false")),
        (r#"glob.match("[-a]", [], "-")"#, Json("true")),
        (r#"glob.match("{cat,b?t,[fr]at}", [], "bat")"#, Json("true")),
        (r#"glob.match("{cat,b?t,[fr]at}", [], "rat")"#, Json("true")),
        (r#"glob.match("{cat,b?t,[fr]at}", [], "mat")"#, Json("false")),
        (r#"glob.match("a\\*b", [], "a*b")"#, Json("true")),
        (r#"glob.match("[!a]", [], "")"#, Json("true")),
        (r#"glob.match("a\nb", [], "a\nb")"#, Json("true")),
        (r#"glob.match("[a", [], "a")"#, Fails("glob.match: glob \"[a\": a class has no end")),
    ]);
}
