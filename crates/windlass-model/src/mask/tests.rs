use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

const SECRET: &str = "s3cr\u{e9}t/\"p&ss+w<rd\\";

/// The secret in a longer text, in each encoding; and not where it is not.
#[test]
fn secrets_are_found_in_their_encodings() {
    let mask = Mask::new([SECRET, "hunter22", "it's $HOME's", "abc"]);
    let check = |text: &str, want: &str| assert_eq!(mask.text(text), want, "{text}");
    check("nothing here", "nothing here");
    check("abc: texts of three letters stay", "abc: texts of three letters stay");
    check(&format!("a {SECRET} b"), "a (sensitive) b");
    check("hunter22hunter22", "(sensitive)");
    check("hunterhunter22!", "hunter(sensitive)!");
    check("68756e7465723232", "(sensitive)");
    check("x68756E7465723232x", "x(sensitive)x");
    check(&format!("{{\"k\":{}}}", Value::from(SECRET)), "{\"k\":\"(sensitive)\"}");
    check("s3cr\u{e9}t/\\\"p\\u0026ss+w\\u003crd\\\\", "(sensitive)");
    check("s3cr\\u00e9t/\\\"p&ss+w<rd\\\\", "(sensitive)");
    check("u:s3cr%C3%A9t%2F%22p%26ss%2Bw%3Crd%5C@h", "u:(sensitive)@h");
    check("u:s3cr%c3%a9t%2f%22p%26ss%2bw%3crd%5c@h", "u:(sensitive)@h");
    // printf 'user:hunter22' | base64; with one and two letters less before.
    check("dXNlcjpodW50ZXIyMg==", "dXNlcj(sensitive)==");
    check("c2VyOmh1bnRlcjIy", "c2VyO(sensitive)");
    check("ZXI6aHVudGVyMjI=", "ZXI(sensitive)=");
    // As bash prints them with `set -x`, `printf %q`, `declare -p` and `${x@Q}`, and as Python's shlex does.
    check(r"x='it'\''s $HOME'\''s'", "x='(sensitive)'");
    check(r"x=it\'s\ \$HOME\'s", "x=(sensitive)");
    check(r#"x="it's \$HOME's""#, "x=\"(sensitive)\"");
    check(r"x=$'it\'s $HOME\'s'", "x=$'(sensitive)'");
    check(r#"x='it'"'"'s $HOME'"'"'s'"#, "x='(sensitive)'");
}

#[test]
fn line_ends_within_secrets_do_not_hide_them() {
    let mask = Mask::new(["hunter22", "line one\nline two"]);
    let check = |text: &str, want: &str| assert_eq!(mask.text(text), want, "{text:?}");
    check("a hun\nter22 b", "a (sensitive) b");
    check("a hun\r\nter\n22 b", "a (sensitive) b");
    check("a hun\n\nter22 b", "a hun\n\nter22 b");
    check("aHVu\ndGVy\nMjI=", "(sensitive)=");
    check("x\nline one\nline two\ny", "x\n(sensitive)\ny");
    check("line one\r\nline two\r\n", "(sensitive)\r\n");
}

#[test]
fn keys_are_found_where_they_are_indented() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\nggSjAgEAAoIBAQC7VJTUt9Us8cKj\n-----END PRIVATE KEY-----\n";
    let mask = Mask::new([key]);
    let text = key.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let masked = mask.text(&text);
    assert!(!masked.contains("MII") && !masked.contains("ggSj") && masked.contains("END"), "{masked}");
}

#[test]
fn marks_tell_secrets_apart_and_are_read_away() {
    let mask = Mask::new(["hunter22", "hunter33"]);
    let (a, b) = (mask.marked("x hunter22", b"k").unwrap(), mask.marked("x hunter33", b"k").unwrap());
    assert_ne!(a, b);
    assert_eq!((without_marks(&a), mark_of(&a)), ("x (sensitive)".into(), None));
    assert_eq!(mask.marked("hunter22", b"k").as_deref().and_then(mark_of).map(str::len), Some(16));
    assert_eq!(without_marks("(sensitive data) (sensitive "), "(sensitive data) (sensitive ");
}

#[test]
fn values_are_masked_to_their_leaves() {
    let mask = Mask::new(["hunter22"]);
    let mut value = serde_json::json!({"a": ["x hunter22", 7, null], "hunter22": {"b": "aHVudGVyMjI="}, "n": 22});
    mask.value(&mut value);
    let want = serde_json::json!({"a": ["x (sensitive)", 7, null], "(sensitive)": {"b": "(sensitive)="}, "n": 22});
    assert_eq!(value, want);
}

#[test]
fn nothing_is_held_back_but_what_may_be_a_secret() {
    let mask = Mask::new(["hunter22"]);
    let mut stream = Stream::default();
    let mut check = |piece: &str, want: &str| {
        let mut out = Vec::new();
        stream.push(piece.as_bytes());
        stream.give(&mask, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), want, "{piece:?}");
    };
    check("a line\n", "a line\n");
    check("another, open: ", "another, open: ");
    check("hunt", "");
    check("ed\n", "hunted\n");
    check("+ hun", "+ ");
    check("\nter", "");
    check("22!", "(sensitive)!");
    // What is a secret already is told at once, whatever follows.
    check("hunter22", "(sensitive)");
    check("hunter22\n", "\n");
}

#[test]
fn a_secret_goes_on_behind_the_name_of_who_says_it() {
    let mask = Mask::new(["hunter22"]);
    let mut stream = Stream::default();
    for (who, line) in [("a.b (local-exec): ", "is hun\n"), ("a.b (local-exec): ", "ter\n"), ("a.b: ", "22 so\n")] {
        stream.push_aside(who.as_bytes());
        stream.push(line.as_bytes());
    }
    let mut out = Vec::new();
    stream.finish(&mask, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), "a.b (local-exec): is (sensitive) so\n");
}

#[test]
fn what_is_held_is_bounded() {
    let mask = Mask::new(["aaaaaaaaab"]);
    let (mut stream, mut given) = (Stream::default(), Vec::new());
    for piece in [&b"aaaaaaa"[..], b"\n", b"a\n\n", b"\n"].iter().cycle().take(4000) {
        stream.push(piece);
        stream.give(&mask, &mut given);
        assert!(stream.held() < 100);
    }
}

/// The ways in which a test writes a secret, made without the code that finds them.
fn written(secret: &str, how: usize) -> String {
    let bytes = secret.as_bytes();
    let hex = |upper: bool| {
        let digit = |byte: &u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        bytes.iter().map(digit).collect::<String>()
    };
    let percent = |lower: bool| {
        let encoded = percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC).to_string();
        // What no encoder of URLs escapes.
        let encoded =
            ["-", ".", "_"].iter().fold(encoded, |e, kept| e.replace(&format!("%{:02X}", kept.as_bytes()[0]), kept));
        let encoded = encoded.replace("%7E", "~");
        if !lower {
            return encoded;
        }
        let mut parts = encoded.split('%');
        let head = parts.next().unwrap().to_owned();
        parts.fold(head, |out, part| format!("{out}%{}{}", part[..2].to_ascii_lowercase(), &part[2..]))
    };
    match how {
        0 => secret.to_owned(),
        1..=3 => STANDARD.encode([&b"xyz"[..how - 1], bytes, b"pq"].concat()),
        4..=6 => URL_SAFE_NO_PAD.encode([&b"xyz"[..how - 4], bytes].concat()),
        7 => percent(false),
        8 => percent(true),
        9 => serde_json::to_string(secret).unwrap(),
        10 => hex(false),
        11 => hex(true),
        12 => format!("'{}'", secret.replace('\'', r"'\''")),
        _ => secret
            .chars()
            .map(|c| if c.is_ascii_punctuation() || c == ' ' { format!("\\{c}") } else { c.into() })
            .collect(),
    }
}

fn streamed(mask: &Mask, bytes: &[u8], cuts: &[usize]) -> Vec<u8> {
    let (mut stream, mut out, mut from) = (Stream::default(), Vec::new(), 0);
    for cut in cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect::<std::collections::BTreeSet<_>>() {
        stream.push(&bytes[from..cut]);
        stream.give(mask, &mut out);
        from = cut;
    }
    stream.push(&bytes[from..]);
    stream.finish(mask, &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// However it is written and cut, nothing of a secret comes through, and all else does.
    #[test]
    fn secrets_never_come_through_and_all_else_does(
        secrets in proptest::collection::vec("[!-9;-~]{3}[a-zA-Z0-9'\"\\\\$&<>/+é~ ]{1,40}[!-~]", 1..4),
        parts in proptest::collection::vec((0_usize..14, 0_usize..4, "[ .:,#\n]{2,9}", proptest::option::of(0_usize..60)), 1..8),
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let mask = Mask::new(secrets.iter().map(String::as_str));
        let (mut text, mut want) = (Vec::new(), Vec::new());
        for (how, which, around, broken) in &parts {
            let secret = &secrets[which % secrets.len()];
            let mut form = written(secret, *how).into_bytes();
            // A line ends within it.
            if let Some(at) = broken.filter(|at| *at > 0 && *at < form.len()) {
                form.insert(at, b'\n');
            }
            // The text around cannot be part of a secret: it has none of their letters at its ends.
            let around = format!("\u{1}{around}\u{1}");
            text.extend_from_slice(around.as_bytes());
            want.extend_from_slice(around.as_bytes());
            text.extend_from_slice(&form);
            want.push(0);
        }
        let masked = streamed(&mask, &text, &cuts);
        // Byte for byte what it gives of the whole at once.
        prop_assert_eq!(&masked, &streamed(&mask, &text, &[]));
        // The texts around stand, in order; between them there is a mark, and at most the letters of base64 and the quotes that
        // belong to what is around the secret.
        let mut rest = &masked[..];
        for ((how, which, around, _), _) in parts.iter().zip(0..) {
            let around = format!("\u{1}{around}\u{1}");
            prop_assert!(rest.starts_with(around.as_bytes()), "{:?}", String::from_utf8_lossy(&masked));
            rest = &rest[around.len()..];
            let end = rest.iter().position(|b| *b == 1).unwrap_or(rest.len());
            let between = String::from_utf8_lossy(&rest[..end]).replace(SENSITIVE, "");
            let between: String = between.chars().filter(|c| *c != '\n').collect();
            let most = match how { 1..=6 => 8, 9 | 12 => 2, _ => 0 };
            prop_assert!(between.len() <= most, "{} of {} as {}: {between}", which, secrets.join(" | "), how);
            rest = &rest[end..];
        }
    }

    /// Bytes of any kind, cut anywhere, are the same as those of the whole at once.
    #[test]
    fn cuts_change_nothing(
        secret in "[ab]{4,7}",
        text in "[ab\n\r ]{0,60}",
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let mask = Mask::new([secret.as_str()]);
        let masked = streamed(&mask, text.as_bytes(), &cuts);
        prop_assert_eq!(&masked, &streamed(&mask, text.as_bytes(), &[]));
        let shown = String::from_utf8_lossy(&masked).into_owned();
        prop_assert!(!shown.contains(&secret), "{}", shown);
        if !mask.finds(&text) {
            prop_assert_eq!(shown, text);
        }
    }

    #[test]
    fn what_is_no_text_passes_through(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let mask = Mask::new(["a secret that is not there", "another one, longer than what there is of bytes here"]);
        prop_assert_eq!(streamed(&mask, &bytes, &cuts), bytes);
    }
}
