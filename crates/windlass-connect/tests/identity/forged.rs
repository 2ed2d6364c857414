//! Providers that lie, are broken, or are not who they should be.

use crate::issuer::{Answer, Issuer, Key, SECOND, now, token, with};
use ring::hmac;
use serde_json::{Value, json};
use windlass_connect::IdentityError;
use windlass_connect::oidc::{Identity, Provider};

const REDIRECT: &str = "http://127.0.0.1:4711/sign-in";

fn provider(issuer: &str, more: Value) -> Provider {
    let settings = json!({ "name": "company", "issuer": issuer, "client_id": "windlass", "client_secret": "x" });
    Provider::new(serde_json::from_value(with(&settings, more)).unwrap()).unwrap()
}

/// Exchanges a code for what the token endpoint gives.
fn exchange(issuer: &Issuer, provider: &Provider, id_token: &str) -> Result<Identity, IdentityError> {
    let answer = json!({ "access_token": "access", "token_type": "Bearer", "id_token": id_token });
    issuer.set("/token", Answer::Json(answer));
    provider.exchange("code", &"v".repeat(43), "nonce", REDIRECT, now())
}

fn claims(issuer: &Issuer) -> Value {
    let seconds = now() / SECOND;
    json!({
        "iss": issuer.url, "aud": "windlass", "sub": "17", "nonce": "nonce", "iat": seconds, "exp": seconds + 300,
        "name": "Alice", "email": "a@b.example", "email_verified": true, "groups": [],
    })
}

fn check(found: Result<Identity, IdentityError>, code: &str, want: &str) {
    let error = found.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(want), "{error}");
}

#[test]
fn only_a_token_that_the_provider_made_for_this_sign_in_counts() {
    let (key, stranger) = (Key::new("one"), Key::new("one"));
    let issuer = Issuer::start(&[&key]);
    let provider = provider(&issuer.url, json!({}));
    let sound = claims(&issuer);
    let header = json!({ "alg": "ES256", "kid": "one" });
    assert_eq!(exchange(&issuer, &provider, &key.sign(&sound)).unwrap().subject, "17");

    let refused = |token: &str, want: &str| check(exchange(&issuer, &provider, token), "WL806", want);
    refused(&key.sign(&with(&sound, json!({ "aud": "another" }))), "`aud`");
    refused(&key.sign(&with(&sound, json!({ "aud": ["windlass", "another"] }))), "`aud`");
    refused(&key.sign(&with(&sound, json!({ "azp": "another" }))), "`azp`");
    refused(&key.sign(&with(&sound, json!({ "iss": "https://evil.example.com" }))), "`iss`");
    refused(&key.sign(&with(&sound, json!({ "nonce": "another" }))), "`nonce`");
    refused(&key.sign(&with(&sound, json!({ "nonce": null }))), "`nonce`");
    refused(&key.sign(&with(&sound, json!({ "exp": now() / SECOND - 61 }))), "expired");
    refused(&key.sign(&with(&sound, json!({ "nbf": now() / SECOND + 90 }))), "`nbf`");
    let endless = key.sign(&with(&sound, json!({ "exp": null })));
    check(exchange(&issuer, &provider, &endless), "WL803", "missing field `exp`");
    refused(&key.sign(&with(&sound, json!({ "at_hash": "AAAAAAAAAAAAAAAAAAAAAA" }))), "`at_hash`");
    refused(&stranger.sign(&sound), "signature is wrong");
    refused(&Key::new("two").sign(&sound), "none of the provider's keys");

    // No signature, whatever its case, and one for which everybody has the key.
    refused(&token(&json!({ "alg": "none" }), &sound, |_| Vec::new()), "not signed");
    let unknown = token(&json!({ "alg": "None" }), &sound, |_| Vec::new());
    check(exchange(&issuer, &provider, &unknown), "WL803", "unrecognized JSON Web Algorithm");
    refused(&token(&header, &sound, |_| Vec::new()), "signature is wrong");
    for alg in ["HS256", "HS384", "HS512"] {
        let jwk = key.jwk().to_string();
        for shared in [key.public(), jwk.as_bytes(), b"x"] {
            let algorithm = match alg {
                "HS256" => hmac::HMAC_SHA256,
                "HS384" => hmac::HMAC_SHA384,
                _ => hmac::HMAC_SHA512,
            };
            let sign = |text: &[u8]| hmac::sign(&hmac::Key::new(algorithm, shared), text).as_ref().to_vec();
            refused(&token(&json!({ "alg": alg, "kid": "one" }), &sound, sign), "signature cannot be taken");
        }
    }
    // A key that the token itself brings.
    let own = json!({ "alg": "ES256", "kid": "one", "jwk": stranger.jwk(), "jku": "http://127.0.0.1:1/keys" });
    refused(&stranger.sign_as(&own, &sound), "signature is wrong");
    refused(&key.sign_as(&json!({ "alg": "ES256", "kid": "one", "crit": ["b64"], "b64": false }), &sound), "critical");
    // Of another kind, such as an access token.
    refused(&key.sign_as(&json!({ "alg": "ES256", "kid": "one", "typ": "at+jwt" }), &sound), "at+jwt");
    // Parts of two.
    let (one, two) = (key.sign(&sound), key.sign(&with(&sound, json!({ "sub": "18" }))));
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    refused(&format!("{}.{}.{}", parts(&one)[0], parts(&two)[1], parts(&one)[2]), "signature is wrong");
    refused(&key.sign(&with(&sound, json!({ "filler": "x".repeat(70_000) }))), "more than 64 KiB");
}

#[test]
fn an_email_is_verified_when_the_provider_says_so_of_this_one() {
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]);
    let sound = claims(&issuer);
    let check = |more: Value, changes: Value, userinfo: Option<Value>, want: Option<&str>| {
        let answer = userinfo.clone().map_or(Answer::Status(500), Answer::Json);
        issuer.set("/me", answer);
        let provider = provider(&issuer.url, more);
        let found = exchange(&issuer, &provider, &key.sign(&with(&sound, changes.clone()))).unwrap();
        assert_eq!(found.email.as_deref(), want, "{changes} {userinfo:?}");
        let mails = found.actor().identities.into_iter().filter(|identity| identity.starts_with("email:")).count();
        assert_eq!(mails, usize::from(want.is_some()));
    };
    check(json!({}), json!({}), None, Some("a@b.example"));
    check(json!({}), json!({ "email_verified": "true" }), None, Some("a@b.example"));
    check(json!({}), json!({ "email_verified": false }), None, None);
    check(json!({}), json!({ "email_verified": "false" }), None, None);
    check(json!({ "trust_email": true }), json!({ "email_verified": false }), None, None);
    check(json!({}), json!({ "email_verified": null }), None, None);
    check(json!({ "trust_email": true }), json!({ "email_verified": null }), None, Some("a@b.example"));
    check(json!({}), json!({ "email": "a@b.example> <boss@b.example" }), None, None);
    check(json!({}), json!({ "email": "nobody" }), None, None);
    // The userinfo endpoint is asked when something is missing, and speaks of its own address.
    let asked = json!({ "email_verified": null, "groups": null });
    let other = json!({ "sub": "17", "email": "b@b.example", "email_verified": true });
    check(json!({}), asked.clone(), Some(other), None);
    let same = json!({ "sub": "17", "email": "a@b.example", "email_verified": true });
    check(json!({}), asked.clone(), Some(same), Some("a@b.example"));
    let away = json!({ "email": null, "email_verified": null });
    let silent = json!({ "sub": "17", "email": "c@b.example" });
    check(json!({ "trust_email": true }), away.clone(), Some(silent.clone()), Some("c@b.example"));
    check(json!({}), away, Some(silent), None);
    let only = json!({ "sub": "17", "email_verified": true });
    check(json!({}), asked, Some(only), None);
}

#[test]
fn what_is_missing_is_not_taken_from_another_person() {
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]);
    let provider = provider(&issuer.url, json!({}));
    let thin = key.sign(&with(&claims(&issuer), json!({ "groups": null })));
    issuer.set("/me", Answer::Json(json!({ "sub": "18", "groups": ["sre"] })));
    check(exchange(&issuer, &provider, &thin), "WL803", "/me");
    // Without it, who knows which groups: nobody is let in with none.
    issuer.set("/me", Answer::Status(500));
    check(exchange(&issuer, &provider, &thin), "WL802", "answers 500");
    issuer.set("/me", Answer::Json(json!({ "sub": "17", "groups": ["sre"] })));
    assert_eq!(exchange(&issuer, &provider, &thin).unwrap().groups, ["sre"]);
}

#[test]
fn a_broken_provider_is_named_with_what_it_does() {
    let check = |change: &dyn Fn(&Issuer), code: &str, want: &str| {
        let key = Key::new("one");
        let issuer = Issuer::start(&[&key]);
        change(&issuer);
        let error = provider(&issuer.url, json!({})).discover(now()).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(want), "{error}");
    };
    const DOCUMENT: &str = "/.well-known/openid-configuration";
    check(&|issuer| issuer.set(DOCUMENT, Answer::Text("<html>Sign in to the proxy</html>")), "WL803", "expected value");
    check(&|issuer| issuer.set(DOCUMENT, Answer::Json(json!([]))), "WL803", "openid-configuration");
    check(&|issuer| issuer.set(DOCUMENT, Answer::Status(404)), "WL802", "answers 404");
    check(&|issuer| issuer.set(DOCUMENT, Answer::Status(503)), "WL802", "answers 503");
    check(&|issuer| issuer.set(DOCUMENT, Answer::Redirect(format!("{}/keys", issuer.url))), "WL802", "answers 302");
    check(&|issuer| issuer.set(DOCUMENT, Answer::Endless(100 << 20)), "WL803", "more than 1024 KiB");
    check(
        &|issuer| {
            let document = with(&issuer.document(), json!({ "issuer": format!("{}/", issuer.url) }));
            issuer.set(DOCUMENT, Answer::Json(document));
        },
        "WL803",
        "it names its issuer",
    );
    check(
        &|issuer| {
            let document = with(&issuer.document(), json!({ "jwks_uri": "http://keys.example.com" }));
            issuer.set(DOCUMENT, Answer::Json(document));
        },
        "WL803",
        "at http://keys.example.com that cannot be used: it is not an https address",
    );
    check(&|issuer| issuer.set("/keys", Answer::Json(json!({ "keys": [] }))), "WL803", "no key");
    check(&|issuer| issuer.set("/keys", Answer::Json(json!({ "keys": [{ "kty": "?" }] }))), "WL803", "no key");
    check(&|issuer| issuer.set("/keys", Answer::Endless(100 << 20)), "WL803", "more than 1024 KiB");
}

#[test]
fn token_answers_that_are_none_are_refused_without_showing_them() {
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]);
    let provider = provider(&issuer.url, json!({}));
    let check = |answer: Answer, code: &str, want: &str| {
        issuer.set("/token", answer);
        let error = provider.exchange("code", &"v".repeat(43), "nonce", REDIRECT, now()).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(want) && !error.to_string().contains("hidden"), "{error}");
    };
    let access = |token: &str| json!({ "access_token": token, "token_type": "Bearer" });
    check(Answer::Text("<html>hidden</html>"), "WL803", "/token");
    check(Answer::Json(access("hidden")), "WL803", "no identity token");
    check(Answer::Json(with(&access("hidden"), json!({ "id_token": "hidden" }))), "WL803", "/token");
    check(Answer::Endless(100 << 20), "WL803", "more than 1024 KiB");
    check(Answer::Redirect("http://127.0.0.1:1/".into()), "WL803", "/token");
    let thin = key.sign(&with(&claims(&issuer), json!({ "groups": null })));
    let odd = with(&access("hidden\r\nCookie: a=b"), json!({ "id_token": thin }));
    check(Answer::Json(odd), "WL803", "no header");
}

#[test]
fn many_who_come_at_once_ask_once() {
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]);
    let (provider, begun) = (provider(&issuer.url, json!({})), now());
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| provider.discover(begun).unwrap());
        }
    });
    assert_eq!(issuer.asked("/keys"), 1);
}

#[test]
fn a_failed_look_is_not_repeated_by_everybody_at_once() {
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]);
    issuer.set("/keys", Answer::Status(500));
    let (provider, begun) = (provider(&issuer.url, json!({})), now());
    for _ in 0..5 {
        assert!(provider.discover(begun).is_err());
    }
    assert_eq!(issuer.asked("/keys"), 1);
    issuer.publish(&[&key]);
    assert!(provider.discover(begun + 5 * SECOND).is_err());
    assert!(provider.discover(begun + 10 * SECOND).is_ok());
}

#[test]
fn keys_that_a_provider_withdraws_count_for_an_hour() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let issuer = Issuer::start(&[&old, &new]);
    let (provider, begun) = (provider(&issuer.url, json!({})), now());
    provider.discover(begun).unwrap();
    issuer.publish(&[&new]);
    let sound = with(&claims(&issuer), json!({ "exp": begun / SECOND + 7200 }));
    let answer = json!({ "access_token": "access", "token_type": "Bearer", "id_token": old.sign(&sound) });
    issuer.set("/token", Answer::Json(answer));
    let exchange = |at| provider.exchange("code", &"v".repeat(43), "nonce", REDIRECT, at);
    assert!(exchange(begun + 3_599 * SECOND).is_ok());
    check(exchange(begun + 3_601 * SECOND), "WL806", "none of the provider's keys");
}

#[test]
fn a_companys_own_authority_is_trusted_when_it_is_declared() {
    let key = Key::new("one");
    let issuer = Issuer::start_tls(&[&key]);
    let error = provider(&issuer.url, json!({})).discover(now()).unwrap_err();
    assert_eq!(error.code(), "WL802", "{error}");
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, issuer.certificate.as_ref().unwrap()).unwrap();
    let provider = provider(&issuer.url, json!({ "root_certificates": roots }));
    provider.discover(now()).unwrap();
    assert_eq!(exchange(&issuer, &provider, &key.sign(&claims(&issuer))).unwrap().subject, "17");
}

#[test]
fn settings_are_checked_before_anybody_signs_in() {
    let check = |more: Value, want: &str| {
        let settings = json!({ "name": "company", "issuer": "https://login.example.com", "client_id": "windlass" });
        let found = match serde_json::from_value(with(&settings, more.clone())) {
            Ok(settings) => Provider::new(settings).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        assert!(found.as_ref().is_some_and(|found| found.contains(want)), "{more}: {found:?}");
    };
    check(json!({ "issuer": "http://login.example.com" }), "has to begin with https://");
    check(json!({ "client_id": "" }), "`client_id` is empty");
    check(json!({ "name": "link" }), "the links to sign in by");
    check(json!({ "clientid": "" }), "unknown field `clientid`");
    check(json!({ "claims": { "hd": [] } }), "`hd` has no pattern");
    check(json!({ "root_certificates": "/nowhere.pem" }), "/nowhere.pem cannot be read");
    check(json!({ "client_secret_file": "/nowhere" }), "`client_secret_file` /nowhere cannot be read");
    check(json!({ "client_secret_file": "/dev/null" }), "`client_secret_file` /dev/null is empty");
    check(json!({ "client_secret_file": "/dev/null", "client_secret": "x" }), "it has both");
    let secret = json!({ "name": "a", "issuer": "https://a.example", "client_id": "b", "client_secret": "hidden" });
    let settings: windlass_connect::oidc::ProviderSettings = serde_json::from_value(secret).unwrap();
    assert!(!format!("{settings:?}").contains("hidden"));
}
