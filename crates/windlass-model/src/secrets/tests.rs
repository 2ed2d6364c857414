use super::*;
use serde_json::json;

fn plan(attributes: Value, mask: Value) -> Value {
    json!({"resource_changes": [{"address": "t.x", "change": {
        "actions": ["create"], "before": null, "after": attributes, "after_sensitive": mask}}]})
}

/// The texts that are found in an attribute of this name with this value.
fn found(name: &str, value: &str) -> Vec<String> {
    find(&plan(json!({ name: value }), json!({}))).into_keys().collect()
}

/// A token put together here, so that no scanner takes this file for a leak.
fn token(begins: &str, length: usize) -> String {
    const LETTERS: &[u8] = b"a9Bc3DeF7gHi2JkLm5NoPq8RsT4uVwX6yZ0";
    let mut out = begins.to_owned();
    out.extend((0..length).map(|at| char::from(LETTERS[(at * 7 + length) % LETTERS.len()])));
    out
}

#[test]
fn tokens_are_known_by_their_shape() {
    let check = |secret: String, why: &str| {
        for (name, text) in [
            ("x", format!("value {secret} end")),
            ("user_data", format!("#!/bin/sh\nexport A={secret}\n")),
            ("doc", json!({ "a": [{ "b": secret }] }).to_string()),
        ] {
            // The id of an AWS key alone is one.
            if name == "doc" && secret.starts_with("AKIA") {
                continue;
            }
            let all = find(&plan(json!({ name: text }), json!({})));
            assert_eq!(all.get(&secret).map(|r| r.why.contains(why)), Some(true), "{secret} in {text}: {all:?}");
        }
    };
    check(format!("AKIA{}", "2OGYBAH6QWERTY7Z"), "an AWS access key");
    check(token("ghp_", 36), "a GitHub token");
    check(token("gho_", 36), "a GitHub token");
    check(token("ghs_", 36), "a GitHub token");
    check(format!("{}_{}", token("github_pat_", 22), token("", 59)), "a GitHub token");
    check(token("glpat-", 20), "a GitLab token");
    check(token("glrt-", 20), "a GitLab token");
    check(format!("xoxb-123456789012-1234567890123-{}", token("", 24)), "a Slack token");
    check(token("xapp-1-A012345-", 30), "a Slack token");
    check(format!("https://hooks.slack.com/services/T0123456/B0123456/{}", token("", 24)), "a Slack webhook");
    check(token("AIza", 35), "a Google API key");
    check(token("GOCSPX-", 28), "a Google client secret");
    check(token("sk_live_", 24), "a Stripe key");
    check(token("rk_live_", 24), "a Stripe key");
    check(token("npm_", 36), "an npm token");
    check(token("pypi-AgEIcHlwaS5vcmc", 60), "a PyPI token");
    check(format!("dop_v1_{}", "0123456789abcdef".repeat(4)), "a DigitalOcean token");
    check(token("hvs.", 90), "a Vault token");
    check(format!("SG.{}.{}", token("", 22), token("", 43)), "a SendGrid key");
    check(format!("{}.atlasv1.{}", token("", 14), token("", 67)), "a Terraform token");
    check(format!("{}8Q~{}", token("", 3), token("", 34)), "an Azure client secret");
    check(format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{}", token("", 43)), "a JSON web token");
    // base64 of `-----BEGIN PRIVATE KEY-----` and `-----BEGIN RSA PRIVATE KEY-----`.
    check(token("LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t", 60), "a private key in base64");
    check(token("LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQ", 60), "a private key in base64");
    let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----";
    check(key.to_owned(), "a private key");
}

#[test]
fn secrets_are_found_where_they_stand_in_a_text() {
    let check = |name: &str, text: &str, want: &[&str]| assert_eq!(found(name, text), want, "{name} = {text}");
    check("url", "postgres://app:s3cr3t-pw@db:5432/x", &["s3cr3t-pw"]);
    check("url", "https://user:p%40ss@host/", &["user:p%40ss@"].map(|_| "p%40ss"));
    check("url", "amqp://u:pw@host", &["u:pw@"]);
    let key = token("", 86);
    check(
        "cs",
        &format!("DefaultEndpointsProtocol=https;AccountName=x;AccountKey={key}==;EndpointSuffix=y"),
        &[&format!("{key}==")],
    );
    check("cs", "Server=db;Database=x;User Id=app;Password=Hunter2hunter2;", &["Hunter2hunter2"]);
    check("dsn", "host=db user=app password=hunter2hunter2 dbname=x", &["hunter2hunter2"]);
    check("user_data", "#!/bin/sh\nexport DB_PASSWORD='s3cr3tpassw0rd'\n", &["s3cr3tpassw0rd"]);
    check("values", "auth:\n  password: s3cr3tpassw0rd\n", &["s3cr3tpassw0rd"]);
    check(
        "x",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYzz0Q3KlmNo",
        &["wJalrXUtnFEMI/K7MDENG/bPxRfiCYzz0Q3KlmNo"],
    );
    let signature = token("", 43);
    check(
        "url",
        &format!("https://x.blob.core.windows.net/c?sv=2022-11-02&se=2024&sig={signature}%3D"),
        &[&format!("{signature}%3D")],
    );
    check(
        "definitions",
        r#"[{"name":"app","environment":[{"name":"DB_PASSWORD","value":"hunter2!"}]}]"#,
        &["hunter2!"],
    );
}

#[test]
fn secrets_are_found_by_name() {
    let check = |name: &str, value: &str| assert_eq!(found(name, value), [value], "{name}");
    check("password", "hunter2");
    check("master_password", "correct horse battery");
    check("admin_password_prod", "letmein!");
    check("DB_PASSWORD", "abcdef");
    check("dbPassword2", "abcdef");
    check("client_secret", "aaaaaaaaaa");
    check("apiKey", "whatever-it-is");
    check("secret_string", "plain words");
    check("auth_token", "0123456789abcdef0123456789abcdef");
    check("secret", "kD8sjQ2nXv93LmPz");
    check("token", "3f2b9c1d8e7a6f504132babc9d8e7f60");
    check("some_key", "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA==");
    check("password", "$2b$12$KIXQ4x8u1YV2m9h7GqZ1eO");
}

/// Of what looks like it and is none.
#[test]
fn what_is_no_secret_is_left_alone() {
    let check = |name: &str, value: &str| assert_eq!(found(name, value), Vec::<String>::new(), "{name} = {value}");
    check("password_policy", "arn-or-anything-1A2b3C4d5E6f");
    check("secret_name", "prod/db/password1");
    check("secret_id", "my-secret-Id1234567890AbC");
    check("kms_key_id", "1234abcd-12ab-34cd-56ef-1234567890ab");
    check("key_id", "Kx83jd92kd93jd92kdX1");
    check("id", &format!("AKIA{}", "2OGYBAH6QWERTY7Z"));
    check("key_name", "Deploy-Key-2024-Abc123");
    check("password", "${var.password}");
    check("password", "$DB_PASSWORD");
    check("password", "{{ .Values.password }}");
    check("password", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf");
    check("password", "/run/secrets/db");
    check("password", "********");
    check("password", "required");
    check("password", "ssm:/prod/db/pw");
    check("private_key", "keys/deploy.pem");
    check("private_key_path", "Keys1/Deploy2Abc3");
    check("secret", "projects/p1/secrets/db-password");
    check("secret", "my-app-tls-secret-2");
    check("token", "production");
    check("key", "builds/3f2b9c1d8e7a6f504132babc9d8e7f60/app.zip");
    check("key", "terraform-state-2024.tfstate");
    check("hash_key", "Kx83jd92kd93jd92kdX1");
    check("creation_token", "Kx83jd92kd93jd92kdX1");
    check("public_key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8kd93jd92kdX1 me@host");
    check("signing_key", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 me");
    check("certificate", "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIE\n-----END CERTIFICATE-----");
    check("private_key", "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0B\n-----END PUBLIC KEY-----");
    check("certificate_authority", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSURCVENDQWUyZ0F3SUJBZ0lJ");
    check("ami", "ami-0abcdef1234567890");
    check("subnet", "subnet-0abcdef1234567890");
    check("image", "repo/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    check("source_code_hash", "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=");
    check("etag", "d41d8cd98f00b204e9800998ecf8427e");
    check("key", "1234abcd-12ab-34cd-56ef-1234567890ab");
    check("role", "arn:aws:iam::123456789012:role/Kx83jd92kd93jd92kdX1");
    check("url", "https://example.com:8443/a@b");
    check("url", "postgres://app:${PASSWORD}@db/x");
    check("url", "git::ssh://git@github.com/org/repo.git");
    check("url", "https://x.blob.core.windows.net/c?sig=short&sv=1");
    check("user_data", "export DB_PASSWORD=$(aws ssm get-parameter --name /db/pw1)\ntoken=${TOKEN1}\n");
    check("values", "secret: app-tls-2\ntokenTTL: 30m\npasswordSecret: db-1\n");
    check("description", "the password: ask somebody; token refresh every 15m");
    check("policy", r#"{"Statement":[{"Action":"secretsmanager:GetSecretValue","Resource":"*"}]}"#);
    check("text", "see -----BEGIN CERTIFICATE REQUEST----- for more");
    check("x", "eyJhbGciOiJIUzI1NiJ9 is only a head");
    check("x", "sk_live_ and ghp_ are how they begin, AKIA too");
    check("last_modified", "2024-01-02T03:04:05Z");
    check("master_password_secret_arn", "Kx83jd92kd93jd92kdX1");
    check("next_token", "Kx83jd92kd93jd92kdX1");
    check("password_length", "1234567");
}

#[test]
fn what_is_marked_is_not_found_and_what_is_found_is_masked() {
    let attributes =
        json!({"password": "hunter2x", "list": [{"token": "kD8sjQ2nXv93LmPz"}], "url": "x://u:hunter2x@h"});
    assert!(find(&plan(json!({"password": "hunter2x"}), json!({"password": true}))).is_empty());
    assert!(find(&plan(attributes.clone(), json!(true))).is_empty());
    let mut plan = plan(attributes, json!({"list": [{}]}));
    plan["format_version"] = json!("1.2");
    plan["output_changes"] = json!({"db_password": {"actions": ["create"], "after": "swordfish-9"}});
    let found = find(&plan);
    let places: Vec<(&str, &str)> = found.values().map(|r| (r.address.as_str(), r.attribute.as_str())).collect();
    assert_eq!(places, [("t.x", "password"), ("t.x", "list[0].token"), ("output db_password", "")]);
    let findings = findings(&found);
    assert_eq!(findings.len(), 3);
    assert_eq!(
        findings[1].message,
        "t.x `list[0].token` looks like a secret and is not marked sensitive (its name ends in `token` and it looks random): give it by a variable with `sensitive = true`, or keep it in a secret store"
    );
    let effect = crate::effect::Effect::from_plan_json("a".into(), &plan, b"k").unwrap();
    let all = format!("{findings:?}{}", serde_json::to_string(&effect).unwrap());
    for secret in found.keys() {
        assert!(!all.contains(secret.as_str()), "{secret} in {all}");
    }
}
