//! Webhooks of forges. All that one can do is to have a repository fetched, or a change looked at, sooner.

use super::Repository;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use windlass_connect::forge::touched;

/// What a delivery is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Names of repositories that are followed.
    pub repositories: Vec<String>,
    /// The number of a change of them.
    pub change: Option<u64>,
    /// The id of the account at the forge that did it.
    pub by: Option<String>,
}

/// What a delivery is about; `None` when none of `secrets` signed it (answer 401 then), no repository when it is about nothing
/// that is followed (answer as if it were).
///
/// `header` gives a header by its name in lower case; `body` is the raw bytes, which the signature is over. Verified are
/// GitHub, Gitea and Forgejo, Bitbucket and `X-Windlass-Signature: sha256=…` (HMAC-SHA256), and GitLab's token. Everything is
/// compared in constant time. A delivery that comes twice does no harm, so nothing is remembered.
pub fn webhook_matches<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    body: &[u8],
    secrets: &[&[u8]],
    repositories: &[Repository],
) -> Option<Delivered> {
    let signed = ["x-hub-signature-256", "x-hub-signature", "x-windlass-signature"]
        .into_iter()
        .filter_map(|name| header(name)?.strip_prefix("sha256="))
        .chain(["x-gitea-signature", "x-forgejo-signature"].into_iter().filter_map(&header))
        .filter_map(unhex);
    let signatures: Vec<[u8; 32]> = signed.collect();
    let token = header("x-gitlab-token");
    let known = secrets.iter().filter(|secret| !secret.is_empty()).any(|secret| {
        signatures.iter().any(|signature| mac(secret, body).is_some_and(|mac| mac.verify_slice(signature).is_ok()))
            || token.is_some_and(|token| same(secret, token.as_bytes()))
    });
    if !known {
        return None;
    }
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Some(Delivered::default()) };
    let (touched, name) = (touched(&body), body["repository"].as_str());
    // What is followed by a copy of it, its forge knows by its own name.
    let of_forge = |repository: &Repository| {
        let known = repository.forge.as_ref().and_then(|forge| forge.repository.as_ref());
        known.is_some_and(|known| touched.is_named(known))
    };
    let wanted = |repository: &&Repository| {
        name == Some(&repository.name) || touched.is_about(&repository.url) || of_forge(repository)
    };
    let repositories = repositories.iter().filter(wanted).map(|repository| repository.name.clone()).collect();
    Some(Delivered { repositories, change: touched.change, by: touched.by })
}

fn mac(key: &[u8], message: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(message);
    Some(mac)
}

/// Compares digests, so that neither content nor length can be told from the time it takes.
fn same(a: &[u8], b: &[u8]) -> bool {
    let (Some(a), Some(b)) = (mac(b"token", a), mac(b"token", b)) else { return false };
    a.verify_slice(&b.finalize().into_bytes()).is_ok()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hex;

    const SECRET: &[u8] = b"It's a Secret to Everybody";

    fn signed(body: &str) -> String {
        hex(&mac(SECRET, body.as_bytes()).unwrap().finalize().into_bytes())
    }

    fn check(headers: &[(&str, &str)], body: &str, wanted: Option<&[&str]>) {
        let repositories = [
            Repository::new("infra", "https://git.example/Team/infra.git"),
            Repository::new("again", "git@git.example:team/infra"),
            Repository::new("other", "ssh://git@git.example:2222/team/other.git"),
            Repository::new("local", "/srv/infra"),
        ];
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let found = webhook_matches(header, body.as_bytes(), &[b"", b"older", SECRET], &repositories);
        let wanted = wanted.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(found.map(|found| found.repositories), wanted, "{headers:?} {body}");
    }

    #[test]
    fn the_signature_is_the_documented_one() {
        // GitHub's documentation gives this secret, body and signature.
        let wanted = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(signed("Hello, World!"), wanted);
        check(&[("x-hub-signature-256", &format!("sha256={wanted}"))], "Hello, World!", Some(&[]));
    }

    #[test]
    fn only_what_is_signed_is_heard() {
        let body = r#"{"repository":{"clone_url":"https://git.example/team/infra.git"}}"#;
        let (good, both) = (signed(body), Some(&["infra", "again"][..]));
        let prefixed = format!("sha256={good}");
        check(&[("x-hub-signature-256", &prefixed)], body, both);
        check(&[("x-hub-signature", &prefixed)], body, both);
        check(&[("x-gitea-signature", &good)], body, both);
        check(&[("x-forgejo-signature", &good)], body, both);
        check(&[("x-windlass-signature", &prefixed)], body, both);
        check(&[("x-gitlab-token", "It's a Secret to Everybody")], body, both);
        check(&[("x-gitlab-token", "older")], body, both);
        for headers in [
            &[][..],
            &[("x-hub-signature-256", good.as_str())],
            &[("x-hub-signature-256", "sha256=")],
            &[("x-hub-signature", "sha1=0000000000000000000000000000000000000000")],
            &[("x-gitea-signature", &signed("{}"))],
            &[("x-gitlab-token", "")],
            &[("x-gitlab-token", "It's a Secret to Everybod")],
        ] {
            check(headers, body, None);
        }
        check(&[("x-gitea-signature", &good)], &format!("{body} "), None);
    }

    #[test]
    fn a_repository_is_found_by_any_of_its_addresses() {
        let rows: [(&str, &[&str]); 9] = [
            (r#"{"project":{"git_ssh_url":"git@git.example:team/infra.git"}}"#, &["infra", "again"]),
            (r#"{"repository":{"ssh_url":"ssh://git@git.example:22/team/other"}}"#, &["other"]),
            (r#"{"repository":{"links":{"html":{"href":"https://git.example/team/other"}}}}"#, &["other"]),
            (r#"{"repository":{"links":{"clone":[{"href":"https://git.example/team/other.git"}]}}}"#, &["other"]),
            (r#"{"repository":"local"}"#, &["local"]),
            (r#"{"repository":"https://git.example/team/other/"}"#, &["other"]),
            (r#"{"repository":{"clone_url":"https://evil.example/team/infra.git"}}"#, &[]),
            (r#"{"repository":{"clone_url":7}}"#, &[]),
            ("[]", &[]),
        ];
        for (body, wanted) in rows {
            check(&[("x-gitea-signature", &signed(body))], body, Some(wanted));
        }
    }

    #[test]
    fn deliveries_of_a_forge_say_which_change_is_to_be_looked_at() {
        use windlass_testkit::forge::Forge;
        use windlass_testkit::forge::state::{REPOSITORY, Word};
        let plain = "/company/infra.git";
        let forges = [
            (Forge::github(), plain),
            (Forge::gitea(), plain),
            (Forge::gitlab(), plain),
            (Forge::bitbucket(), plain),
            (Forge::data_center(), "/scm/company/infra.git"),
        ];
        for (forge, path) in forges {
            let forge = forge.unwrap();
            let secret = std::str::from_utf8(SECRET).unwrap();
            // Nobody listens there: what was sent is read from the forge.
            forge.deliveries().send_to("http://127.0.0.1:1/", secret);
            forge.with(|state| {
                state.push("anna", REPOSITORY, "vpc", None, &[("main.tf", Some("# vpc\n"))]).unwrap();
                let number = state.open("anna", "A wider net", REPOSITORY, "vpc", "main").unwrap();
                state.comment("bert", number, "windlass plan").unwrap();
                state.review("bert", number, Word::Approves).unwrap();
                state.close("anna", number).unwrap();
            });
            assert!(forge.deliveries().settle());
            let repositories = [Repository::new("infra", forge.url(path))];
            let mut found = Vec::new();
            for delivery in forge.deliveries().done() {
                let header = |name: &str| {
                    let named = delivery.headers.iter().find(|(known, _)| known == name);
                    named.map(|(_, value)| value.as_str())
                };
                let delivered = webhook_matches(header, &delivery.body, &[SECRET], &repositories).unwrap();
                assert_eq!(delivered.repositories, ["infra"], "{} {}", forge.name(), delivery.event);
                assert_eq!(webhook_matches(header, &delivery.body, &[b"another"], &repositories), None);
                found.push(delivered.change);
            }
            let of_it = Some(1);
            assert_eq!(found, [None, of_it, of_it, of_it, of_it], "{}", forge.name());
        }
    }
}
