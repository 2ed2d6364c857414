//! What secrets look like, and the names of what holds them.

use aho_corasick::AhoCorasick;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Shorter texts are not looked at: they cannot be masked either.
pub(super) const SHORTEST: usize = 6;

/// A kind of token: what it begins with, the letters it goes on with, and at least how many.
struct Token {
    begins: &'static str,
    letters: fn(u8) -> bool,
    least: usize,
    what: &'static str,
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}
fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
fn url_safe(byte: u8) -> bool {
    word(byte) || byte == b'-'
}
fn dotted(byte: u8) -> bool {
    url_safe(byte) || byte == b'.'
}
fn base64(byte: u8) -> bool {
    alphanumeric(byte) || matches!(byte, b'+' | b'/' | b'=')
}
fn hexadecimal(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}
fn path(byte: u8) -> bool {
    url_safe(byte) || byte == b'/'
}

macro_rules! tokens {
    ($($begins:literal $letters:ident $least:literal $what:literal,)*) => {
        &[$(Token { begins: $begins, letters: $letters, least: $least, what: $what }),*]
    };
}

static TOKENS: &[Token] = tokens![
    "AKIA" alphanumeric 16 "an AWS access key",
    "ASIA" alphanumeric 16 "an AWS access key",
    "FwoGZXIvYXdz" base64 80 "an AWS session token",
    "IQoJb3JpZ2lu" base64 80 "an AWS session token",
    "ghp_" alphanumeric 36 "a GitHub token",
    "gho_" alphanumeric 36 "a GitHub token",
    "ghu_" alphanumeric 36 "a GitHub token",
    "ghs_" alphanumeric 36 "a GitHub token",
    "ghr_" alphanumeric 36 "a GitHub token",
    "github_pat_" word 40 "a GitHub token",
    "glpat-" dotted 20 "a GitLab token",
    "gldt-" dotted 20 "a GitLab token",
    "glrt-" dotted 20 "a GitLab token",
    "glcbt-" dotted 20 "a GitLab token",
    "glptt-" dotted 20 "a GitLab token",
    "glsoat-" dotted 20 "a GitLab token",
    "xoxb-" url_safe 20 "a Slack token",
    "xoxp-" url_safe 20 "a Slack token",
    "xoxa-" url_safe 20 "a Slack token",
    "xoxr-" url_safe 20 "a Slack token",
    "xoxs-" url_safe 20 "a Slack token",
    "xapp-" url_safe 20 "a Slack token",
    "https://hooks.slack.com/services/T" path 30 "a Slack webhook",
    "https://discord.com/api/webhooks/" path 60 "a Discord webhook",
    "AIza" url_safe 35 "a Google API key",
    "GOCSPX-" url_safe 24 "a Google client secret",
    "ya29." dotted 40 "a Google access token",
    "AccountKey=" base64 64 "an Azure storage key",
    "SharedAccessKey=" base64 40 "an Azure shared access key",
    "sk_live_" alphanumeric 16 "a Stripe key",
    "rk_live_" alphanumeric 16 "a Stripe key",
    "sk_test_" alphanumeric 16 "a Stripe key",
    "whsec_" base64 24 "a Stripe webhook secret",
    "npm_" alphanumeric 36 "an npm token",
    "pypi-AgE" url_safe 40 "a PyPI token",
    "rubygems_" hexadecimal 40 "a RubyGems token",
    "dckr_pat_" url_safe 20 "a Docker token",
    "dop_v1_" hexadecimal 64 "a DigitalOcean token",
    "hvs." url_safe 24 "a Vault token",
    "hvb." url_safe 24 "a Vault token",
    "SG." dotted 60 "a SendGrid key",
    "NRAK-" alphanumeric 24 "a New Relic key",
    "glsa_" word 32 "a Grafana token",
    "shpat_" hexadecimal 32 "a Shopify token",
    "lin_api_" alphanumeric 32 "a Linear key",
    "sk-ant-" url_safe 40 "an Anthropic key",
    "sk-proj-" url_safe 40 "an OpenAI key",
    "AGE-SECRET-KEY-1" alphanumeric 50 "an age key",
    // `-----BEGIN PRIVATE KEY-----` and its kin.
    "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS" base64 40 "a private key in base64",
    "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVkt" base64 40 "a private key in base64",
    "LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS" base64 40 "a private key in base64",
    "LS0tLS1CRUdJTiBPUEVOU1NIIFBSSVZBVEUgS0VZ" base64 40 "a private key in base64",
];

/// What other kinds begin with; they are read by functions of their own.
const JWT: &str = "eyJ";
const PEM: &str = "-----BEGIN ";
const URL: &str = "://";
const TERRAFORM: &str = ".atlasv1.";
const SIGNATURE: &str = "sig=";
/// Azure client secrets have it after three letters and a digit.
const AZURE: &str = "Q~";

static BEGINNINGS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let others = [JWT, PEM, URL, TERRAFORM, SIGNATURE, AZURE];
    AhoCorasick::new(TOKENS.iter().map(|token| token.begins).chain(others)).ok()
});

/// Names before `=` or `:` in a text; longer ones first where one begins with another.
const ASSIGNED: [&str; 13] = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret_access_key",
    "secretaccesskey",
    "client_secret",
    "secret",
    "token",
    "api_key",
    "apikey",
    "account_key",
    "private_key",
];

static ASSIGNMENTS: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(ASSIGNED).ok());

/// One of these is in every name of a secret.
static NAMES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let parts = ["pass", "pwd", "secret", "token", "key", "credential", "auth", "salt"];
    AhoCorasick::builder().ascii_case_insensitive(true).build(parts).ok()
});

/// Whether reading a text as data can tell more of secrets in it: most policies say nothing of the kind.
pub(super) fn may_hold(text: &str) -> bool {
    [&NAMES, &BEGINNINGS].iter().any(|automaton| automaton.as_ref().is_none_or(|automaton| automaton.is_match(text)))
}

/// The text that a text is in base64, when it is long enough to hold more than a token.
pub(super) fn decoded(text: &str) -> Option<String> {
    use base64::Engine as _;
    let text = text.trim_end();
    let plausible = text.len() >= 32 && text.len().is_multiple_of(4) && text.bytes().all(base64);
    let bytes = plausible.then(|| base64::engine::general_purpose::STANDARD.decode(text).ok()).flatten()?;
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(|c| c.is_control() && !c.is_whitespace()))
}

/// Secrets within a text, with why.
pub(super) fn in_text(text: &str) -> Vec<(&str, &'static str)> {
    let mut out = Vec::new();
    for hit in BEGINNINGS.iter().flat_map(|automaton| automaton.find_overlapping_iter(text)) {
        let (start, end) = (hit.start(), hit.end());
        let found = match TOKENS.get(hit.pattern().as_usize()) {
            Some(token) => of_token(text, start, token).map(|secret| (secret, shape_of(token.what))),
            None => match &text[start..end] {
                JWT => jwt(text, start).map(|secret| (secret, "it has the shape of a JSON web token")),
                PEM => pem(text, start).map(|secret| (secret, "it is a private key")),
                URL => in_url(text, end).map(|secret| (secret, "it is a password in a URL")),
                TERRAFORM => around(text, start, end, 14, 60).map(|s| (s, "it has the shape of a Terraform token")),
                SIGNATURE => signature(text, end).map(|s| (s, "it is the signature of an Azure access URL")),
                _ => azure(text, start, end).map(|s| (s, "it has the shape of an Azure client secret")),
            },
        };
        out.extend(found);
    }
    if !text.contains(['=', ':']) {
        return out;
    }
    for hit in ASSIGNMENTS.iter().flat_map(|automaton| automaton.find_overlapping_iter(text)) {
        out.extend(assigned(text, hit.end()).map(|secret| (secret, "it is set in a text like a password")));
    }
    out
}

/// The sentence of a token's kind; one for each, made once.
fn shape_of(what: &'static str) -> &'static str {
    static SENTENCES: LazyLock<BTreeSet<(&'static str, &'static str)>> = LazyLock::new(|| {
        let sentence = |token: &Token| (token.what, &*format!("it has the shape of {}", token.what).leak());
        let kinds: std::collections::BTreeMap<&str, &Token> = TOKENS.iter().map(|t| (t.what, t)).collect();
        kinds.into_values().map(sentence).collect()
    });
    SENTENCES.iter().find(|(known, _)| *known == what).map_or("it has the shape of a token", |(_, sentence)| sentence)
}

fn run(text: &str, from: usize, letters: fn(u8) -> bool) -> usize {
    text.as_bytes()[from..].iter().take_while(|byte| letters(**byte)).count()
}

fn begins_word(text: &str, start: usize) -> bool {
    start == 0 || !word(text.as_bytes()[start - 1])
}

fn of_token<'a>(text: &'a str, start: usize, token: &Token) -> Option<&'a str> {
    let from = start + token.begins.len();
    let length = run(text, from, token.letters);
    if length < token.least || !begins_word(text, start) {
        return None;
    }
    let tail = &text[from..from + length];
    match token.begins {
        // Exactly so long, upper case and digits; the id of a key alone, in its place, is none.
        "AKIA" | "ASIA" => {
            let right = length == 16 && !tail.bytes().any(|b| b.is_ascii_lowercase()) && has_digit(tail);
            (right && text.len() > 20).then(|| &text[start..from + length])
        }
        // The name is not part of the secret.
        "AccountKey=" | "SharedAccessKey=" => Some(tail),
        _ => Some(&text[start..from + length]),
    }
}

fn jwt(text: &str, start: usize) -> Option<&str> {
    let end = start + run(text, start, dotted);
    let token = &text[start..end];
    let parts: Vec<&str> = token.split('.').collect();
    let right = matches!(parts.as_slice(), [head, body, signature]
        if head.len() >= 10 && body.len() >= 10 && body.starts_with("eyJ") && signature.len() >= 10);
    (right && begins_word(text, start)).then_some(token)
}

fn pem(text: &str, start: usize) -> Option<&str> {
    let rest = &text[start..];
    let kind = rest[PEM.len()..].split("-----").next()?;
    if !kind.contains("PRIVATE KEY") || kind.contains('\n') {
        return None;
    }
    let end = format!("-----END {kind}-----");
    let length = rest.find(&end).map_or(rest.len(), |at| at + end.len());
    Some(&rest[..length])
}

/// `user:password@` after `://`; with its surroundings where it is too short to be searched for alone.
fn in_url(text: &str, from: usize) -> Option<&str> {
    let rest = &text[from..];
    let end = rest.find(|c: char| c.is_whitespace() || "/?#\"'<>`".contains(c)).unwrap_or(rest.len());
    let (user_info, _) = rest[..end].rsplit_once('@')?;
    let (user, password) = user_info.split_once(':')?;
    if password.is_empty() || is_reference(password) {
        return None;
    }
    Some(if password.len() >= SHORTEST { password } else { &rest[..user.len() + password.len() + 2] })
}

/// A word with `before` to `after` letters at both sides.
fn around(text: &str, start: usize, end: usize, before: usize, after: usize) -> Option<&str> {
    let head = text.as_bytes()[..start].iter().rev().take_while(|byte| alphanumeric(**byte)).count();
    let tail = run(text, end, url_safe);
    (head >= before && tail >= after).then(|| &text[start - head..end + tail])
}

fn signature(text: &str, from: usize) -> Option<&str> {
    let before = &text[..from - SIGNATURE.len()];
    let length = run(text, from, |byte| base64(byte) || byte == b'%');
    let in_place = before.ends_with(['?', '&']) && (text.contains("sv=") || text.contains("se="));
    (in_place && length >= 40).then(|| &text[from..from + length])
}

fn azure(text: &str, start: usize, end: usize) -> Option<&str> {
    let head = text.as_bytes()[..start].iter().rev().take_while(|byte| dotted(**byte)).count();
    let tail = run(text, end, |byte| dotted(byte) || byte == b'~');
    let digit = start > 0 && text.as_bytes()[start - 1].is_ascii_digit();
    (head == 4 && digit && (31..=34).contains(&tail)).then(|| &text[start - head..end + tail])
}

/// What is assigned, in a text, to a name that ends at `end`.
fn assigned(text: &str, end: usize) -> Option<&str> {
    let mut rest = text[end..].trim_start_matches(['"', '\'', '\\']).trim_start_matches([' ', '\t']);
    rest = rest.strip_prefix([':', '=']).filter(|rest| !rest.starts_with([':', '=']))?;
    let quoted = rest.trim_start_matches([' ', '\t', '\\']);
    let value = match quoted.chars().next()? {
        quote @ ('"' | '\'') => quoted[1..].split([quote, '\n']).next()?.trim_end_matches('\\'),
        _ => quoted.split(|c: char| c.is_whitespace() || ";,&\"'`)}]".contains(c)).next()?,
    };
    let plausible = value.len() >= SHORTEST + 2 && has_digit(value) && value.bytes().any(|b| b.is_ascii_alphabetic());
    (plausible && !value.contains(char::is_whitespace) && !is_reference(value) && !is_identifier(value))
        .then_some(value)
}

/// Last words of names whose values are secrets, whatever they look like.
const STRONG: [&str; 22] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "api_key",
    "apikey",
    "secret_key",
    "secret_access_key",
    "client_secret",
    "private_key",
    "private_key_pem",
    "auth_token",
    "access_token",
    "refresh_token",
    "bearer_token",
    "api_token",
    "sas_token",
    "account_key",
    "shared_key",
    "webhook_secret",
    "signing_secret",
    "secret_string",
];

/// Last words of names whose values are secrets when they look like it.
const WEAK: [&str; 10] =
    ["secret", "token", "key", "credential", "credentials", "auth", "pass", "access_key", "secret_value", "salt"];

/// Names that end like that and hold none.
const HARMLESS: [&str; 24] = [
    "public_key",
    "kms_key",
    "ssh_key",
    "partition_key",
    "range_key",
    "hash_key",
    "sort_key",
    "foreign_key",
    "object_key",
    "s3_key",
    "source_key",
    "host_key",
    "tag_key",
    "label_key",
    "topology_key",
    "cache_key",
    "next_token",
    "page_token",
    "client_request_token",
    "creation_token",
    "idempotency_token",
    "kms_master_key",
    "master_password_secret",
    "user_secret",
];

/// Words that may follow and change nothing.
const TRAILING: [&str; 12] = [
    "value",
    "plaintext",
    "prod",
    "production",
    "dev",
    "staging",
    "old",
    "new",
    "current",
    "primary",
    "secondary",
    "default",
];

/// Why the value of something with this name is a secret.
pub(super) fn by_name(name: &str, value: &str) -> Option<String> {
    let name = snake_case(name);
    let mut name = name.as_str();
    while let Some((head, tail)) = name.rsplit_once('_') {
        if !TRAILING.contains(&tail) && !tail.bytes().all(|b| b.is_ascii_digit()) {
            break;
        }
        name = head;
    }
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let ends = |with: &&&str| name.strip_suffix(**with).is_some_and(|head| head.is_empty() || head.ends_with('_'));
    if HARMLESS.iter().any(|with| ends(&with)) || is_reference(value) || !could_be(value) {
        return None;
    }
    if let Some(word) = STRONG.iter().find(|with| ends(with)) {
        return Some(format!("its name ends in `{word}`"));
    }
    let word = WEAK.iter().find(|with| ends(with))?;
    is_random(value).then(|| format!("its name ends in `{word}` and it looks random"))
}

/// `dbPassword`, `DB-Password` and `DB_PASSWORD` → `db_password`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && lower {
            out.push('_');
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    out
}

/// Says where the value is, not what it is.
fn is_reference(value: &str) -> bool {
    let starts = [
        "${",
        "$(",
        "{{",
        "<",
        "arn:",
        "/",
        "./",
        "../",
        "~/",
        "file:",
        "http://",
        "https://",
        "ssm:",
        "vault:",
        "op://",
        "sm://",
        "gs://",
        "s3://",
        "projects/",
        "var.",
        "local.",
        "data.",
        "module.",
        "secrets.",
        "env:",
        "@Microsoft.",
        "resolve:",
        "{resolve:",
        "(sensitive",
        "(known",
        "%",
        "***",
    ];
    let extensions = [".pem", ".key", ".json", ".crt", ".cer", ".p12", ".pfx", ".jks", ".txt", ".yaml", ".yml"];
    starts.iter().any(|start| value.starts_with(start))
        || value.strip_prefix('$').is_some_and(|rest| rest.bytes().all(word))
        || value.contains("${")
        || value.contains("}}")
        || (!value.contains(char::is_whitespace) && extensions.iter().any(|end| value.ends_with(end)))
        || value.chars().all(|c| "*x.•-_X".contains(c))
}

/// Neither an everyday word, which a search would find everywhere, nor a switch.
fn could_be(value: &str) -> bool {
    let words = [
        "password",
        "passwd",
        "secret",
        "default",
        "disabled",
        "enabled",
        "required",
        "optional",
        "preferred",
        "postgres",
        "production",
        "staging",
        "development",
        "example",
        "generated",
        "managed",
        "redacted",
        "placeholder",
        "changeme",
        "plaintext",
        "string",
        "rotate",
        "SecureString",
    ];
    value.len() >= SHORTEST && !words.iter().any(|word| value.eq_ignore_ascii_case(word)) && !is_public(value)
}

/// Public by its kind: certificates and public keys.
fn is_public(value: &str) -> bool {
    (value.contains("-----BEGIN") && !value.contains("PRIVATE KEY"))
        || ["ssh-rsa ", "ssh-ed25519 ", "ssh-dss ", "ecdsa-sha2-", "sk-ssh-", "age1"]
            .iter()
            .any(|s| value.starts_with(s))
}

fn has_digit(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit())
}

/// An id, a checksum, a version, a date or words with hyphens: `i-0abc…`, `sha256:…`, a UUID, `my-secret-2`.
fn is_identifier(value: &str) -> bool {
    let uuid = value.len() == 36
        && value
            .bytes()
            .enumerate()
            .all(|(at, b)| if [8, 13, 18, 23].contains(&at) { b == b'-' } else { hexadecimal(b) });
    let checksum = ["sha256:", "sha512:", "sha256-", "sha384-", "sha512-", "h1:", "zh:", "md5:"];
    let id = value.split_once('-').is_some_and(|(kind, rest)| {
        (1..=8).contains(&kind.len())
            && kind.bytes().all(|b| b.is_ascii_lowercase())
            && rest.len() >= 8
            && rest.bytes().all(hexadecimal)
    });
    let words = || value.split(['-', '_', '.', '/', ':']);
    let wordy = words().count() > 1
        && words().all(|part| {
            part.bytes().all(|b| b.is_ascii_digit())
                || (part.len() <= 20
                    && part.trim_end_matches(|c: char| c.is_ascii_digit()).bytes().all(|b| b.is_ascii_lowercase()))
        });
    let number = value.bytes().all(|b| b.is_ascii_digit() || b".:-TZ+".contains(&b));
    uuid || id || wordy || number || checksum.iter().any(|start| value.starts_with(start)) || value.starts_with("AKIA")
}

/// Long, of several kinds of letters, without order.
fn is_random(value: &str) -> bool {
    let plain = value.len() >= 16 && value.bytes().all(|b| b.is_ascii_graphic()) && has_digit(value);
    let letters = value.bytes().any(|b| b.is_ascii_alphabetic());
    let path = value.contains('/') && !(value.ends_with('=') || value.contains('+'));
    plain && letters && !path && !is_identifier(value) && bits_per_letter(value) >= 3.0
}

/// Shannon's entropy of the letters of a text.
fn bits_per_letter(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let length = text.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / length)
        .map(|share| -share * share.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_secret_is_noticed_in_a_text() {
        for name in STRONG.iter().chain(&WEAK).chain(&ASSIGNED) {
            assert!(may_hold(&format!("{{\"{}\":1}}", name.to_uppercase())), "{name}");
        }
        assert!(!may_hold(r#"{"Statement":[{"Action":"s3:GetObject","Effect":"Allow"}]}"#));
    }
}
