//! Identity tokens of CI jobs, with the claims that GitHub and GitLab make.

use crate::issuer::{Answer, Issuer, Key, SECOND, now, token, with};
use ring::hmac;
use serde_json::{Value, json};
use windlass_connect::IdentityError;
use windlass_connect::workload::{Issuers, Workload};

const AUDIENCE: &str = "https://windlass.example.com";

/// Declared with these settings besides name, issuer and audience.
fn declared(issuer: &Issuer, settings: &[Value]) -> Issuers {
    let base = json!({ "name": "ci", "issuer": issuer.url, "audience": AUDIENCE, "claims": { "sub": ["**"] } });
    let settings = settings.iter().map(|more| serde_json::from_value(with(&base, more.clone())).unwrap());
    Issuers::new(settings.collect()).unwrap()
}

fn times(issuer: &Issuer) -> Value {
    let seconds = now() / SECOND;
    json!({ "iss": issuer.url, "aud": AUDIENCE, "jti": "a1", "iat": seconds, "nbf": seconds - 300, "exp": seconds + 300 })
}

fn github(issuer: &Issuer) -> Value {
    with(
        &times(issuer),
        json!({
            "sub": "repo:org/infra:environment:production", "repository": "org/infra", "repository_id": "74",
            "repository_owner": "org", "repository_visibility": "private", "ref": "refs/heads/main", "ref_type": "branch",
            "ref_protected": "true", "sha": "0123456789abcdef0123456789abcdef01234567", "workflow": "deploy",
            "workflow_ref": "org/infra/.github/workflows/deploy.yml@refs/heads/main", "event_name": "push",
            "environment": "production", "actor": "octocat", "actor_id": "1", "run_id": "17", "run_attempt": "1",
            "runner_environment": "github-hosted",
        }),
    )
}

fn gitlab(issuer: &Issuer) -> Value {
    with(
        &times(issuer),
        json!({
            "sub": "project_path:group/infra:ref_type:branch:ref:main", "project_path": "group/infra", "project_id": "22",
            "namespace_path": "group", "namespace_id": "7", "user_login": "tanuki", "user_id": "3",
            "user_email": "tanuki@example.com", "pipeline_id": "574", "pipeline_source": "push", "job_id": "302",
            "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
            "environment": "production", "environment_protected": "true", "runner_environment": "self-hosted",
        }),
    )
}

#[test]
fn an_actor_says_what_runs_where_and_who_started_it() {
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]);
    let check = |kind: &str, claims: Value, name: &str, identities: &[&str]| {
        let issuers = declared(&issuer, &[json!({ "kind": kind })]);
        let found = issuers.verify(&key.sign(&claims), now()).unwrap();
        assert_eq!(found.actor.name, name);
        assert_eq!(found.actor.identities, identities);
        assert!(found.actor.verified);
        // An identity of people never comes out of a job's token.
        assert!(found.actor.identities.iter().all(|identity| identity.starts_with("ci:")));
    };
    let hub = github(&issuer);
    check(
        "github",
        hub.clone(),
        "workflow \"deploy\" of org/infra started by octocat",
        &[
            "ci:ci",
            "ci:ci:subject=repo:org/infra:environment:production",
            "ci:ci:repository=org/infra",
            "ci:ci:environment=production",
            "ci:ci:ref=refs/heads/main",
        ],
    );
    // Whoever names a workflow cannot pass it for another.
    let named = json!({ "workflow": "deploy\" of org/safe started by boss \n", "environment": null });
    check(
        "github",
        with(&hub, named),
        "workflow \"deploy\\\" of org/safe started by boss  \" of org/infra started by octocat",
        &[
            "ci:ci",
            "ci:ci:subject=repo:org/infra:environment:production",
            "ci:ci:repository=org/infra",
            "ci:ci:ref=refs/heads/main",
        ],
    );
    let lab = gitlab(&issuer);
    let of_lab = |reference: &[&'static str]| -> Vec<&'static str> {
        let first = ["ci:ci", "ci:ci:subject=project_path:group/infra:ref_type:branch:ref:main"];
        let more = ["ci:ci:repository=group/infra", "ci:ci:environment=production"];
        [&first[..], &more, reference].concat()
    };
    let name = "pipeline 574 of group/infra on \"main\" started by tanuki";
    check("gitlab", lab.clone(), name, &of_lab(&["ci:ci:ref=refs/heads/main"]));
    check("gitlab", with(&lab, json!({ "ref_path": null })), name, &of_lab(&["ci:ci:ref=refs/heads/main"]));
    let tag = json!({ "ref_path": null, "ref_type": "tag" });
    check("gitlab", with(&lab, tag), name, &of_lab(&["ci:ci:ref=refs/tags/main"]));
    check("gitlab", with(&lab, json!({ "ref_path": null, "ref_type": null })), name, &of_lab(&[]));
    // Of others only the subject is known to be the issuer's own word.
    check(
        "oidc",
        with(&hub, json!({ "sub": "system:serviceaccount:ops:deployer" })),
        "ci \"system:serviceaccount:ops:deployer\"",
        &["ci:ci", "ci:ci:subject=system:serviceaccount:ops:deployer"],
    );
}

#[test]
fn only_tokens_for_this_server_with_the_declared_claims_count() {
    let (key, stranger) = (Key::new("one"), Key::new("one"));
    let issuer = Issuer::start(&[&key]);
    let claims = json!({ "repository": ["org/*"], "ref": ["refs/heads/main"], "ref_protected": ["true"] });
    let issuers = declared(&issuer, &[json!({ "kind": "github", "claims": claims })]);
    let sound = github(&issuer);
    let check = |token: &str, code: &str, want: &str| {
        let error = issuers.verify(token, now()).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(want), "{error}");
    };
    let changed = |changes: Value| key.sign(&with(&sound, changes));
    assert!(issuers.verify(&key.sign(&sound), now()).is_ok());

    check(&changed(json!({ "repository": "organic/infra" })), "WL807", "claim `repository` is `organic/infra`");
    check(&changed(json!({ "ref": "refs/heads/main/x" })), "WL807", "claim `ref`");
    check(&changed(json!({ "ref": "refs/pull/7/merge" })), "WL807", "claim `ref`");
    check(&changed(json!({ "ref_protected": "false" })), "WL807", "claim `ref_protected`");
    check(&changed(json!({ "repository": null })), "WL807", "there is no claim `repository`");

    check(&changed(json!({ "aud": "https://github.com/org" })), "WL806", "`aud`");
    check(&changed(json!({ "aud": [AUDIENCE, "https://vault.example.com"] })), "WL806", "`aud`");
    check(&changed(json!({ "aud": format!("{AUDIENCE}/") })), "WL806", "`aud`");
    check(&changed(json!({ "iss": format!("{}/", issuer.url) })), "WL808", "not declared here");
    check(&changed(json!({ "iss": "https://evil.example.com" })), "WL808", "issued by `https://evil.example.com`");
    check(&changed(json!({ "iss": null })), "WL808", "not declared here");

    let seconds = now() / SECOND;
    check(&changed(json!({ "exp": seconds - 61 })), "WL806", "expired");
    assert!(issuers.verify(&changed(json!({ "exp": seconds - 30 })), now()).is_ok());
    check(&changed(json!({ "nbf": seconds + 90 })), "WL806", "`nbf`");
    check(&changed(json!({ "nbf": "tomorrow" })), "WL806", "`nbf`");
    assert!(issuers.verify(&changed(json!({ "nbf": seconds + 30 })), now()).is_ok());
    check(&changed(json!({ "iat": seconds + 90 })), "WL806", "`iat`");
    check(&changed(json!({ "exp": null })), "WL806", "no identity token");

    check(&stranger.sign(&sound), "WL806", "signature is wrong");
    check(&token(&json!({ "alg": "none" }), &sound, |_| Vec::new()), "WL806", "not signed");
    let shared = |text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.public()), text).as_ref().to_vec();
    check(&token(&json!({ "alg": "HS256", "kid": "one" }), &sound, shared), "WL806", "signature cannot be taken");
    for text in ["", "x", "a.b", "a.b.c", "a.b.c.d", "{}.{}.{}"] {
        check(text, "WL808", "not a signed JSON web token");
    }
}

/// Wherever one character of a token is another, or it ends early, it does not count, and nothing breaks.
#[test]
fn a_changed_token_never_counts() {
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]);
    let issuers = declared(&issuer, &[json!({})]);
    let sound = key.sign(&with(&times(&issuer), json!({ "sub": "x", "jti": null })));
    let found = issuers.verify(&sound, now()).unwrap();
    // But for the last, which has bits that are no part of the signature: that is no other token.
    let (begin, last) = sound.split_at(sound.len() - 1);
    let same =
        ["A", "Q", "g", "w"].iter().position(|letter| *letter == last).map(|at| ["B", "R", "h", "x"][at]).unwrap();
    assert_eq!(issuers.verify(&format!("{begin}{same}"), now()).unwrap().token_id, found.token_id);
    for at in 0..begin.len() {
        assert!(issuers.verify(&sound[..at], now()).is_err(), "until {at}: {sound}");
        let other = if &sound[at..=at] == "Q" { "R" } else { "Q" };
        let changed = format!("{}{other}{}", &sound[..at], &sound[at + 1..]);
        assert!(issuers.verify(&changed, now()).is_err(), "at {at}: {sound}");
    }
}

#[test]
fn a_second_use_can_be_told() {
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]);
    let issuers = declared(&issuer, &[json!({})]);
    let take = |token: &str| -> Workload { issuers.verify(token, now()).unwrap() };
    let sound = github(&issuer);
    let (first, again) = (key.sign(&sound), key.sign(&sound));
    // Two signatures of one token.
    assert_ne!(first, again);
    assert_eq!(take(&first).token_id, format!("{} a1", issuer.url));
    assert_eq!(take(&first), take(&again));
    assert_eq!(take(&first).expires, (sound["exp"].as_i64().unwrap() + 60) * SECOND);
    assert_ne!(take(&first).token_id, take(&key.sign(&with(&sound, json!({ "jti": "a2" })))).token_id);
    // Without an id of its own.
    let bare = with(&sound, json!({ "jti": null }));
    assert_eq!(take(&key.sign(&bare)).token_id, take(&key.sign(&bare)).token_id);
    let other = with(&bare, json!({ "sub": "another" }));
    assert_ne!(take(&key.sign(&bare)).token_id, take(&key.sign(&other)).token_id);
}

#[test]
fn new_keys_are_looked_for_once_a_minute() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let issuer = Issuer::start(&[&old]);
    let issuers = declared(&issuer, &[json!({})]);
    let begun = now();
    let sound = github(&issuer);
    assert!(issuers.verify(&old.sign(&sound), begun).is_ok());
    issuer.publish(&[&new]);
    for _ in 0..5 {
        assert!(issuers.verify(&new.sign(&sound), begun + 59 * SECOND).is_err());
    }
    assert_eq!(issuer.asked("/keys"), 1);
    assert!(issuers.verify(&new.sign(&sound), begun + 60 * SECOND).is_ok());
    assert_eq!(issuer.asked("/keys"), 2);
    // Known ones need no look, and forged ones make few.
    let forged = Key::new("new");
    for _ in 0..5 {
        assert!(issuers.verify(&new.sign(&sound), begun + 61 * SECOND).is_ok());
        assert!(issuers.verify(&forged.sign(&sound), begun + 61 * SECOND).is_err());
    }
    assert_eq!(issuer.asked("/keys"), 2);
    assert!(issuers.verify(&old.sign(&sound), begun + 61 * SECOND).is_err());
}

#[test]
fn an_issuer_may_have_a_bare_document_or_none() {
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]);
    let issuers = declared(&issuer, &[json!({})]);
    // GitHub's has no endpoint for the sign-in of people.
    let document = json!({ "issuer": issuer.url, "jwks_uri": format!("{}/keys", issuer.url) });
    issuer.set("/.well-known/openid-configuration", Answer::Json(document));
    assert!(issuers.verify(&key.sign(&github(&issuer)), now()).is_ok());

    issuer.set("/.well-known/openid-configuration", Answer::Status(404));
    let error = declared(&issuer, &[json!({})]).verify(&key.sign(&github(&issuer)), now()).unwrap_err();
    assert!(matches!(error, IdentityError::Unreachable { .. }) && error.retryable(), "{error}");
    let given = declared(&issuer, &[json!({ "jwks_url": format!("{}/keys", issuer.url) })]);
    assert!(given.verify(&key.sign(&github(&issuer)), now()).is_ok());
}

#[test]
fn of_several_declarations_for_one_issuer_the_fitting_one_counts() {
    let key = Key::new("one");
    let issuer = Issuer::start(&[&key]);
    let issuers = declared(
        &issuer,
        &[
            json!({ "name": "staging", "kind": "github", "claims": { "repository": ["org/staging"] } }),
            json!({ "name": "production", "kind": "github", "claims": { "repository": ["org/infra"] } }),
            json!({ "name": "elsewhere", "kind": "github", "audience": "https://elsewhere.example.com" }),
        ],
    );
    let sound = github(&issuer);
    let found = issuers.verify(&key.sign(&sound), now()).unwrap();
    assert_eq!(found.actor.identities[0], "ci:production");
    let error = issuers.verify(&key.sign(&with(&sound, json!({ "repository": "org/web" }))), now()).unwrap_err();
    assert_eq!(error.code(), "WL807", "{error}");
}

/// The tables of the server's configuration that are about identity.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Tables {
    oidc: Vec<windlass_connect::oidc::ProviderSettings>,
    ci: Vec<windlass_connect::workload::IssuerSettings>,
}

/// What the documentation tells people to write.
#[test]
fn the_documented_settings_are_settings() {
    let page = include_str!("../../../../docs/identity.md");
    let examples = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let (mut providers, mut issuers) = (0, 0);
    for example in examples {
        // The file is on another machine.
        let example: Vec<_> = example.lines().filter(|line| !line.starts_with("client_secret_file")).collect();
        let tables: Tables = toml::from_str(&example.join("\n")).unwrap();
        providers += tables.oidc.len();
        issuers += tables.ci.len();
        for settings in tables.oidc {
            windlass_connect::oidc::Provider::new(settings).unwrap();
        }
        Issuers::new(tables.ci).unwrap();
    }
    assert_eq!((providers, issuers), (4, 3));
}

#[test]
fn settings_that_would_let_strangers_in_are_refused() {
    let base =
        json!({ "name": "ci", "issuer": "https://ci.example.com", "audience": AUDIENCE, "claims": { "sub": ["x"] } });
    let found = |more: Value| match serde_json::from_value(with(&base, more)) {
        Ok(settings) => Issuers::new(vec![settings]).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    let check = |more: Value, want: &str| {
        let found = found(more.clone());
        assert!(found.as_ref().is_some_and(|found| found.contains(want)), "{more}: {found:?}");
    };
    assert_eq!(found(json!({})), None);
    assert_eq!(found(json!({ "kind": "github", "issuer": null, "claims": { "repository": ["org/infra"] } })), None);
    assert_eq!(found(json!({ "kind": "gitlab", "issuer": null, "claims": { "project_path": ["org/**"] } })), None);
    // A GitLab of one's own has no strangers.
    assert_eq!(found(json!({ "kind": "gitlab", "claims": { "ref_protected": ["true"] } })), None);
    check(json!({ "claims": {} }), "`claims` is empty");
    check(json!({ "claims": null }), "missing field `claims`");
    check(json!({ "audience": "" }), "`audience` is empty");
    check(json!({ "issuer": null }), "`issuer` is missing");
    check(json!({ "issuer": "http://ci.example.com" }), "https://");
    check(json!({ "name": "ci:x" }), "`name` may hold");
    check(json!({ "kind": "jenkins" }), "unknown variant `jenkins`");
    check(json!({ "audiences": [] }), "unknown field `audiences`");
    let main = json!({ "ref": ["refs/heads/main"] });
    check(json!({ "kind": "github", "issuer": null, "claims": main }), "everybody can have one there");
    check(json!({ "kind": "gitlab", "issuer": null, "claims": main }), "`project_path`");
    check(
        json!({ "issuer": "https://token.actions.githubusercontent.com/org", "claims": main }),
        "everybody can have one there",
    );
    let two = serde_json::from_value::<Vec<_>>(json!([base, base])).unwrap();
    assert!(Issuers::new(two).unwrap_err().to_string().contains("two of this name"));
}
