//! Sign-in at a certified provider, as a browser and a server do it.

use crate::issuer::{now, with};
use openidconnect::url::Url;
use serde_json::{Value, json};
use windlass_connect::IdentityError;
use windlass_connect::oidc::{Authorisation, Callback, Identity, Provider};
use windlass_model::Micros;
use windlass_testkit::oidc::{CONFIDENTIAL, OidcProvider, POSTING, PUBLIC, SECRET};

const REDIRECT: &str = "http://127.0.0.1:4711/sign-in/company";
const MINUTE: Micros = 60_000_000;

/// A client of it, with more settings.
fn client(of: &OidcProvider, more: Value) -> Provider {
    let settings = json!({
        "name": "company", "issuer": of.issuer(), "client_id": CONFIDENTIAL, "client_secret": SECRET,
        "scopes": ["email", "profile", "groups"], "username_claim": "preferred_username",
    });
    Provider::new(serde_json::from_value(with(&settings, more)).unwrap()).unwrap()
}

fn callback(url: &str) -> Callback {
    let url = Url::parse(url).unwrap();
    assert!(url.as_str().starts_with(REDIRECT), "{url}");
    let query: serde_json::Map<String, Value> =
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect();
    serde_json::from_value(query.into()).unwrap()
}

/// The code of a person who has signed in, and what was kept for it.
fn code(of: &OidcProvider, client: &Provider, login: &str) -> (String, Authorisation) {
    let begun = client.authorise(REDIRECT, now()).unwrap();
    let back = callback(&of.sign_in(&begun.url, login).unwrap());
    (client.code(&back, &begun.state).unwrap(), begun)
}

fn exchange(client: &Provider, code: &str, kept: &Authorisation, at: Micros) -> Result<Identity, IdentityError> {
    client.exchange(code, &kept.pkce_verifier, &kept.nonce, REDIRECT, at)
}

fn signed_in(of: &OidcProvider, client: &Provider, login: &str) -> Result<Identity, IdentityError> {
    let (code, kept) = code(of, client, login);
    exchange(client, &code, &kept, now())
}

#[test]
fn a_person_is_who_the_provider_says_as_far_as_that_is_verified() {
    let of = OidcProvider::start().unwrap();
    let host = of.issuer().strip_prefix("http://").unwrap();
    let check = |more: Value, login: &str, name: &str, want: &[String]| {
        let found = signed_in(&of, &client(&of, more), login).unwrap();
        assert_eq!((found.subject.as_str(), found.issuer.as_str()), (login, of.issuer()));
        let actor = found.actor();
        assert!(actor.verified);
        assert_eq!((actor.name.as_str(), actor.identities.as_slice()), (name, want));
    };
    let all = |login: &str, more: &[&str]| -> Vec<String> {
        std::iter::once(format!("oidc:{host}:{login}")).chain(more.iter().map(|more| (*more).to_owned())).collect()
    };
    let alice = all("alice", &["user:alice", "email:alice@example.com", "oidc-group:dev", "oidc-group:sre"]);
    check(json!({}), "alice", "alice", &alice);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    check(json!({ "client_secret": null, "client_secret_file": file }), "alice", "alice", &alice);
    check(json!({ "client_id": POSTING }), "alice", "alice", &alice);
    check(json!({ "client_id": PUBLIC, "client_secret": null }), "alice", "alice", &alice);
    // Bob has entered the address of Alice: whatever is trusted, it is none of his.
    check(json!({}), "bob", "bob", &all("bob", &["user:bob"]));
    check(json!({ "trust_email": true, "username_claim": null }), "bob", "bob", &all("bob", &[]));
    check(json!({}), "carol", "carol", &all("carol", &["oidc-group:ledger"]));
    // Nobody has declared that this claim is a person's own.
    check(json!({ "username_claim": null }), "alice", "alice@example.com", &all("alice", &alice_without_user()));
    check(
        json!({ "groups_claim": "teams" }),
        "alice",
        "alice",
        &all("alice", &["user:alice", "email:alice@example.com"]),
    );
    // What was not asked for is not told.
    check(json!({ "scopes": [] }), "alice", "alice", &all("alice", &[]));
    // The same when the token holds it all.
    of.fill_tokens().unwrap();
    check(json!({}), "alice", "alice", &alice);
    check(json!({}), "bob", "bob", &all("bob", &["user:bob"]));
}

fn alice_without_user() -> [&'static str; 3] {
    ["email:alice@example.com", "oidc-group:dev", "oidc-group:sre"]
}

#[test]
fn declared_claims_keep_others_out() {
    let of = OidcProvider::start().unwrap();
    let of_sre = client(&of, json!({ "claims": { "groups": ["sre"] } }));
    assert_eq!(signed_in(&of, &of_sre, "alice").unwrap().name, "Alice Example");
    let error = signed_in(&of, &of_sre, "bob").unwrap_err();
    assert_eq!(
        error.to_string(),
        "identity provider `company` vouches for somebody who is not let in: there is no claim `groups`, which has to match `sre`"
    );
    assert_eq!(error.code(), "WL807");
}

/// Whoever takes one part of a sign-in to another one gets nothing.
#[test]
fn the_parts_of_a_sign_in_belong_together() {
    let of = OidcProvider::start().unwrap();
    let client = client(&of, json!({}));
    let check = |found: Result<Identity, IdentityError>, code: &str, want: &str| {
        let error = found.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(want), "{error}");
        assert!(error.diagnostic().help.is_some_and(|help| !help.is_empty()));
    };
    let other = client.authorise(REDIRECT, now()).unwrap();

    // The state of another browser's sign-in, none, and one that was never kept.
    let begun = client.authorise(REDIRECT, now()).unwrap();
    let back = of.sign_in(&begun.url, "alice").unwrap();
    for (state, change) in [(other.state.as_str(), None), (begun.state.as_str(), Some("state")), ("", None)] {
        let mut back = callback(&back);
        if change.is_some() {
            back.state = None;
        }
        let error = client.code(&back, state).unwrap_err();
        assert_eq!(error.code(), "WL805", "{error}");
    }
    let elsewhere = Callback { iss: Some("https://evil.example.com".into()), ..callback(&back) };
    assert!(client.code(&elsewhere, &begun.state).unwrap_err().to_string().contains("`iss`"));
    let empty = Callback { state: Some(String::new()), ..callback(&back) };
    assert_eq!(client.code(&empty, "").unwrap_err().code(), "WL805");

    // A verifier of another: the code is lost, too.
    let (one, kept) = code(&of, &client, "alice");
    let stolen = Authorisation { pkce_verifier: other.pkce_verifier.clone(), ..kept };
    check(exchange(&client, &one, &stolen, now()), "WL804", "invalid_grant");

    // A nonce of another: an injected code.
    let (one, kept) = code(&of, &client, "alice");
    let injected = Authorisation { nonce: other.nonce.clone(), ..kept };
    check(exchange(&client, &one, &injected, now()), "WL806", "`nonce`");

    // A code is used once.
    let (one, kept) = code(&of, &client, "alice");
    assert!(exchange(&client, &one, &kept, now()).is_ok());
    check(exchange(&client, &one, &kept, now()), "WL804", "invalid_grant");

    // A redirect address that the code was not asked for.
    let (one, kept) = code(&of, &client, "alice");
    let moved = client.exchange(&one, &kept.pkce_verifier, &kept.nonce, "http://127.0.0.1:4711/other", now());
    check(moved, "WL804", "invalid_grant");

    // A code that was given to another client.
    let (one, kept) = code(&of, &client, "alice");
    let public = self::client(&of, json!({ "client_id": PUBLIC, "client_secret": null }));
    check(exchange(&public, &one, &kept, now()), "WL804", "invalid_grant");

    // A wrong secret.
    let wrong = self::client(&of, json!({ "client_secret": "guessed" }));
    let (one, kept) = code(&of, &wrong, "alice");
    check(exchange(&wrong, &one, &kept, now()), "WL804", "invalid_client");
}

#[test]
fn a_person_who_turns_back_is_told_so() {
    let of = OidcProvider::start().unwrap();
    let client = client(&of, json!({}));
    let begun = client.authorise(REDIRECT, now()).unwrap();
    let back = callback(&of.turn_back(&begun.url).unwrap());
    let error = client.code(&back, &begun.state).unwrap_err();
    assert_eq!(error.to_string(), "identity provider `company` refuses: access_denied (End-User aborted interaction)");
}

#[test]
fn a_token_counts_between_its_times_with_some_leeway() {
    let of = OidcProvider::start().unwrap();
    let client = client(&of, json!({}));
    // Its tokens live for an hour.
    let check = |away: Micros, want: Option<&str>| {
        let (code, kept) = code(&of, &client, "alice");
        match (exchange(&client, &code, &kept, now() + away), want) {
            (Ok(_), None) => {}
            (Err(error), Some(want)) => {
                assert_eq!(error.code(), "WL806", "{error}");
                assert!(error.to_string().contains(want), "{error}");
            }
            (found, want) => panic!("{away}: {found:?}, not {want:?}"),
        }
    };
    check(59 * MINUTE, None);
    check(60 * MINUTE + MINUTE / 2, None);
    check(62 * MINUTE, Some("expired"));
    check(-MINUTE / 2, None);
    check(-2 * MINUTE, Some("issued in the future"));
}

#[test]
fn new_keys_are_looked_for_once_a_minute() {
    let of = OidcProvider::start().unwrap();
    let client = client(&of, json!({}));
    let begun = now();
    assert!(client.discover(begun).is_ok());
    let (first, kept) = code(&of, &client, "alice");
    assert!(exchange(&client, &first, &kept, begun).is_ok());

    of.rotate().unwrap();
    let (second, kept) = code(&of, &client, "alice");
    let error = exchange(&client, &second, &kept, begun + MINUTE / 2).unwrap_err();
    assert!(error.to_string().contains("once a minute"), "{error}");
    let (third, kept) = code(&of, &client, "alice");
    assert!(exchange(&client, &third, &kept, begun + MINUTE).is_ok());
}

#[test]
fn a_provider_that_goes_away_is_named_and_asked_again_later() {
    let of = OidcProvider::start().unwrap();
    let (client, begun) = (client(&of, json!({})), now());
    let issuer = of.issuer().to_owned();
    let (code, kept) = code(&of, &client, "alice");
    drop(of);
    // What is known suffices to begin; the rest needs the provider.
    assert!(client.authorise(REDIRECT, begun).is_ok());
    let error = exchange(&client, &code, &kept, begun).unwrap_err();
    assert_eq!(error.code(), "WL802");
    assert!(error.retryable() && error.to_string().contains(&format!("{issuer}/token")), "{error}");
    // Keys that are old are kept while nobody gives newer ones.
    assert!(client.authorise(REDIRECT, begun + 120 * MINUTE).is_ok());
}
