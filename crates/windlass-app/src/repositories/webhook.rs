//! Webhooks of forges. All that one can do is to have a repository fetched sooner.

use super::Repository;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// Which repositories a delivery is about; `None` when none of `secrets` signed it (answer 401 then), an empty list when it is
/// about nothing that is followed (answer as if it were).
///
/// `header` gives a header by its name in lower case; `body` is the raw bytes, which the signature is over. Verified are
/// GitHub, Gitea and Forgejo, Bitbucket and `X-Windlass-Signature: sha256=…` (HMAC-SHA256), and GitLab's token. Everything is
/// compared in constant time. A delivery that comes twice does no harm, so nothing is remembered.
pub fn webhook_matches<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    body: &[u8],
    secrets: &[&[u8]],
    repositories: &[Repository],
) -> Option<Vec<String>> {
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
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Some(Vec::new()) };
    let (addresses, name) = (addresses(&body), body["repository"].as_str());
    let wanted = repositories.iter().filter(|repository| {
        let place = place(&repository.url);
        name == Some(&repository.name) || place.is_some_and(|place| addresses.contains(&place))
    });
    Some(wanted.map(|repository| repository.name.clone()).collect())
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

/// Where the forges say that the repository lies.
fn addresses(body: &Value) -> Vec<(String, String)> {
    let plain = [
        "/repository",
        "/repository/clone_url",
        "/repository/ssh_url",
        "/repository/html_url",
        "/repository/git_url",
        "/repository/git_http_url",
        "/repository/git_ssh_url",
        "/repository/homepage",
        "/project/git_http_url",
        "/project/git_ssh_url",
        "/project/web_url",
        "/repository/links/html/href",
    ];
    let listed = body.pointer("/repository/links/clone").and_then(Value::as_array);
    let listed = listed.into_iter().flatten().map(|link| &link["href"]);
    plain.iter().filter_map(|path| body.pointer(path)).chain(listed).filter_map(|url| place(url.as_str()?)).collect()
}

/// Host and path of an address, whatever way leads there; `None` for a path of this machine.
fn place(url: &str) -> Option<(String, String)> {
    let rest = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.to_owned(),
        None => {
            let (host, path) = url.split_once(':').filter(|(host, _)| !host.contains('/'))?;
            format!("{host}/{path}")
        }
    };
    let (authority, path) = rest.split_once('/')?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let path = path.trim_matches('/');
    Some((host.to_lowercase(), path.strip_suffix(".git").unwrap_or(path).to_lowercase()))
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
        assert_eq!(found, wanted, "{headers:?} {body}");
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
}
