//! Signed tokens (RFC 7515, 7517, 7519): read and verified, never made.

use super::{Answer, Builtin, BuiltinError, text, wrong};
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use hmac::digest::{KeyInit, Mac};
use hmac::{EagerHash, Hmac};
use regorus::Value;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value as Json;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

macro_rules! verifiers {
    ($($name:literal $algorithm:literal,)*) => {
        pub(super) const FUNCTIONS: &[Builtin] = &[
            ("io.jwt.decode", 1, decode),
            ("io.jwt.decode_verify", 2, decode_verify),
            $(($name, 2, |operands| verify($algorithm, operands)),)*
        ];
    };
}

verifiers! {
    "io.jwt.verify_eddsa" "EdDSA",
    "io.jwt.verify_es256" "ES256",
    "io.jwt.verify_es384" "ES384",
    "io.jwt.verify_es512" "ES512",
    "io.jwt.verify_hs256" "HS256",
    "io.jwt.verify_hs384" "HS384",
    "io.jwt.verify_hs512" "HS512",
    "io.jwt.verify_ps256" "PS256",
    "io.jwt.verify_ps384" "PS384",
    "io.jwt.verify_ps512" "PS512",
    "io.jwt.verify_rs256" "RS256",
    "io.jwt.verify_rs384" "RS384",
    "io.jwt.verify_rs512" "RS512",
}

/// As Go reads it: the bits that are left over may be anything.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
);

/// The three parts of a token, and what is signed.
struct Token {
    header: Json,
    payload: Vec<u8>,
    signature: Vec<u8>,
    signed: String,
}

fn part(text: &str, what: &str) -> Result<Vec<u8>, BuiltinError> {
    // Padding is not allowed, and met.
    BASE64.decode(text.trim_end_matches('=')).map_err(|_| BuiltinError::failed(format!("JWT {what} is not base64url")))
}

fn read(token: &str) -> Result<Token, BuiltinError> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        return Err(BuiltinError::failed(format!("encoded JWT must have 3 sections, found {}", parts.len())));
    };
    let signed = format!("{header}.{payload}");
    let header: Json = serde_json::from_slice(&part(header, "header")?)
        .map_err(|error| BuiltinError::failed(format!("JWT header is no JSON: {error}")))?;
    if header.get("enc").is_some() {
        return Err(BuiltinError::failed("JWT is a JWE object, which is not supported"));
    }
    Ok(Token { header, payload: part(payload, "payload")?, signature: part(signature, "signature")?, signed })
}

impl Token {
    /// Whether the payload is a token itself.
    fn is_nested(&self) -> bool {
        self.header["cty"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("JWT"))
    }

    fn payload_text(&self) -> Result<&str, BuiltinError> {
        let text = std::str::from_utf8(&self.payload).map_err(|_| BuiltinError::failed("JWT payload is no text"))?;
        Ok(text.trim_matches('"'))
    }

    fn claims(&self) -> Result<Json, BuiltinError> {
        serde_json::from_slice(&self.payload)
            .map_err(|error| BuiltinError::failed(format!("JWT payload is no JSON: {error}")))
    }
}

/// `[header, payload, signature in hexadecimal]` of the innermost token; nothing is verified.
fn decode(operands: &[Value]) -> Answer {
    let mut token = read(text(operands, 0)?)?;
    while token.is_nested() {
        token = read(token.payload_text()?)?;
    }
    let signature: String = token.signature.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(vec![Value::from(token.header.clone()), token.claims()?.into(), signature.into()].into())
}

/// A key to verify with.
enum Key {
    /// What stands in a certificate or a public key: for RSA the two numbers in DER, else the point.
    Public(Vec<u8>),
    /// The two numbers of an RSA key.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    Secret(Vec<u8>),
}

/// A PEM text of a certificate or public key, or a JSON Web Key or a set of them. Keys that are for another algorithm are left out.
fn keys(text: &str, algorithm: &str, kid: Option<&str>) -> Result<Vec<Key>, BuiltinError> {
    if let Ok(json) = serde_json::from_str::<Json>(text) {
        let listed = json.get("keys").and_then(Json::as_array).cloned().unwrap_or_else(|| vec![json]);
        // The key that the token names, when there is one.
        let named: Vec<&Json> = listed.iter().filter(|key| kid.is_some() && key["kid"].as_str() == kid).collect();
        let chosen = if named.is_empty() { listed.iter().collect() } else { named };
        let found: Result<Vec<Option<Key>>, _> = chosen.into_iter().map(|key| web_key(key, algorithm)).collect();
        return Ok(found?.into_iter().flatten().collect());
    }
    let end = text.find("-----END ").and_then(|at| Some(at + 9 + text[at + 9..].find("-----")? + 5));
    if end.is_some_and(|end| !text[end..].trim().is_empty()) {
        return Err(BuiltinError::failed("extra data after a PEM block"));
    }
    let mut found = Vec::new();
    let mut some = false;
    for pem in Pem::iter_from_buffer(text.as_bytes()) {
        let pem = pem.map_err(|error| BuiltinError::failed(format!("failed to parse a PEM key: {error}")))?;
        let bad = |what: &str| BuiltinError::failed(format!("failed to parse a PEM {what}"));
        let (kind, key) = match pem.label.as_str() {
            "CERTIFICATE" => {
                let certificate = pem.parse_x509().map_err(|_| bad("certificate"))?;
                let key = certificate.public_key();
                (key.algorithm.algorithm.to_id_string(), key.subject_public_key.data.to_vec())
            }
            "PUBLIC KEY" => {
                let (_, key) = SubjectPublicKeyInfo::from_der(&pem.contents).map_err(|_| bad("public key"))?;
                (key.algorithm.algorithm.to_id_string(), key.subject_public_key.data.to_vec())
            }
            "RSA PUBLIC KEY" => (RSA.to_owned(), pem.contents.clone()),
            other => return Err(BuiltinError::failed(format!("failed to extract a Key from the PEM {other}"))),
        };
        let fits = match &algorithm[..2] {
            "RS" | "PS" => kind == RSA,
            "ES" => kind == "1.2.840.10045.2.1",
            "Ed" => kind == "1.3.101.112",
            _ => false,
        };
        some = true;
        if fits {
            found.push(Key::Public(key));
        }
    }
    if some { Ok(found) } else { Err(BuiltinError::failed("failed to parse a PEM key")) }
}

const RSA: &str = "1.2.840.113549.1.1.1";

/// A key, or nothing when it is for another algorithm.
fn web_key(key: &Json, algorithm: &str) -> Result<Option<Key>, BuiltinError> {
    let bad = || BuiltinError::failed("failed to parse a JWK key (set)");
    let field =
        |name: &str| key[name].as_str().and_then(|text| BASE64.decode(text.trim_end_matches('=')).ok()).ok_or_else(bad);
    Ok(match (key["kty"].as_str().ok_or_else(bad)?, &algorithm[..2]) {
        ("RSA", "RS" | "PS") => Some(Key::Rsa { n: field("n")?, e: field("e")? }),
        ("EC", "ES") => Some(Key::Public([vec![4], field("x")?, field("y")?].concat())),
        ("OKP", "Ed") => Some(Key::Public(field("x")?)),
        ("oct", "HS") => Some(Key::Secret(field("k")?)),
        ("RSA" | "EC" | "OKP" | "oct", _) => None,
        _ => return Err(bad()),
    })
}

fn signed_by(token: &Token, key: &Key, algorithm: &str) -> Result<bool, BuiltinError> {
    let message = token.signed.as_bytes();
    let public = |how: &'static dyn VerificationAlgorithm, key: &[u8]| {
        UnparsedPublicKey::new(how, key).verify(message, &token.signature).is_ok()
    };
    let rsa = match algorithm {
        "RS256" => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Some(&signature::RSA_PSS_2048_8192_SHA256),
        "PS384" => Some(&signature::RSA_PSS_2048_8192_SHA384),
        "PS512" => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    };
    Ok(match (algorithm, key, rsa) {
        (_, Key::Rsa { n, e }, Some(how)) => {
            RsaPublicKeyComponents { n, e }.verify(how, message, &token.signature).is_ok()
        }
        (_, Key::Public(key), Some(how)) => public(how, key),
        ("ES256", Key::Public(key), _) => public(&signature::ECDSA_P256_SHA256_FIXED, key),
        ("ES384", Key::Public(key), _) => public(&signature::ECDSA_P384_SHA384_FIXED, key),
        ("ES512", ..) => return Err(BuiltinError::Refused("ES512 (the curve P-521) is not supported here")),
        ("EdDSA", Key::Public(key), _) => public(&signature::ED25519, key),
        ("HS256", Key::Secret(key), _) => mac::<sha2::Sha256>(message, key, &token.signature),
        ("HS384", Key::Secret(key), _) => mac::<sha2::Sha384>(message, key, &token.signature),
        ("HS512", Key::Secret(key), _) => mac::<sha2::Sha512>(message, key, &token.signature),
        _ => false,
    })
}

fn mac<D: EagerHash>(message: &[u8], key: &[u8], signature: &[u8]) -> bool
where
    Hmac<D>: KeyInit + Mac,
{
    <Hmac<D> as KeyInit>::new_from_slice(key).is_ok_and(|mut mac| {
        mac.update(message);
        mac.verify_slice(signature).is_ok()
    })
}

fn verify(algorithm: &str, operands: &[Value]) -> Answer {
    let (token, key) = (read(text(operands, 0)?)?, text(operands, 1)?);
    let keys = if algorithm.starts_with("HS") {
        vec![Key::Secret(key.as_bytes().to_vec())]
    } else {
        keys(key, algorithm, token.header["kid"].as_str())?
    };
    for key in keys {
        if signed_by(&token, &key, algorithm)? {
            return Ok(true.into());
        }
    }
    Ok(false.into())
}

const ALGORITHMS: [&str; 13] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "HS256", "HS384", "HS512", "EdDSA",
];

/// What a token has to fulfil.
#[derive(Default)]
struct Constraints<'a> {
    certificate: Option<&'a str>,
    secret: Option<&'a str>,
    algorithm: Option<&'a str>,
    issuer: Option<&'a str>,
    audience: Option<&'a str>,
    /// Nanoseconds since 1970.
    time: Option<f64>,
}

fn constraints(operands: &[Value]) -> Result<Constraints<'_>, BuiltinError> {
    let Value::Object(fields) = &operands[1] else { return Err(wrong(operands, 1, "object")) };
    let mut found = Constraints::default();
    for (name, value) in fields.iter() {
        let Value::String(name) = name else { continue };
        let place = match &**name {
            "cert" => &mut found.certificate,
            "secret" => &mut found.secret,
            "alg" => &mut found.algorithm,
            "iss" => &mut found.issuer,
            "aud" => &mut found.audience,
            "time" => {
                let Value::Number(time) = value else {
                    return Err(BuiltinError::failed("token time constraint: must be a number"));
                };
                found.time = time.as_f64().or_else(|| time.as_i64().map(|time| time as f64));
                continue;
            }
            other => return Err(BuiltinError::failed(format!("unknown token validation constraint: {other}"))),
        };
        let Value::String(value) = value else {
            return Err(BuiltinError::failed(format!("token {name} constraint: must be a string")));
        };
        *place = Some(value);
    }
    match (found.certificate, found.secret) {
        (Some(_), Some(_)) => Err(BuiltinError::failed("duplicate key constraints")),
        (None, None) => Err(BuiltinError::failed("no key constraint")),
        _ => Ok(found),
    }
}

/// Whether the header has something that it calls critical: that would have to be understood, and nothing is.
fn has_critical(header: &Json) -> Result<bool, BuiltinError> {
    match header.get("crit") {
        None => Ok(false),
        Some(Json::Array(names)) if !names.is_empty() && names.iter().all(Json::is_string) => {
            Ok(names.iter().filter_map(Json::as_str).any(|name| header.get(name).is_some()))
        }
        Some(Json::Array(_)) => Err(BuiltinError::failed("crit: must be a nonempty list")),
        Some(_) => Err(BuiltinError::failed("crit: must be a list")),
    }
}

/// `[true, header, payload]` when the token is signed, in time and for us, else `[false, {}, {}]`.
fn decode_verify(operands: &[Value]) -> Answer {
    let constraints = constraints(operands)?;
    let no = || Ok(vec![false.into(), Value::new_object(), Value::new_object()].into());
    if let Some(certificate) = constraints.certificate {
        // What is no key at all is told, also when the token would need none.
        keys(certificate, "RS256", None)?;
    }
    let mut token = read(text(operands, 0)?)?;
    loop {
        let Some(algorithm) = token.header["alg"].as_str() else { return no() };
        let wanted = constraints.algorithm.is_none_or(|wanted| wanted == algorithm);
        if !ALGORITHMS.contains(&algorithm) || !wanted || has_critical(&token.header)? {
            return no();
        }
        let kid = token.header["kid"].as_str();
        let keys = match (constraints.certificate, constraints.secret) {
            (Some(certificate), _) if !algorithm.starts_with("HS") => keys(certificate, algorithm, kid)?,
            (None, Some(secret)) if algorithm.starts_with("HS") => vec![Key::Secret(secret.as_bytes().to_vec())],
            _ => return no(),
        };
        let mut signed = false;
        for key in &keys {
            signed |= signed_by(&token, key, algorithm)?;
        }
        if !signed {
            return no();
        }
        if !token.is_nested() {
            break;
        }
        token = read(token.payload_text()?)?;
    }
    let claims = token.claims()?;
    let audience = match (&claims["aud"], constraints.audience) {
        (Json::Null, None) => true,
        (Json::String(one), Some(wanted)) => one == wanted,
        (Json::Array(many), Some(wanted)) => many.iter().any(|one| one == wanted),
        _ => false,
    };
    if !audience || constraints.issuer.is_some_and(|wanted| claims["iss"] != wanted) {
        return no();
    }
    let now = constraints.time.unwrap_or_else(|| {
        // A clock before 1970 makes no token valid.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_nanos() as f64)
    });
    for (claim, fits) in
        [("exp", (|limit, now| now < limit) as fn(f64, f64) -> bool), ("nbf", |limit, now| now >= limit)]
    {
        match &claims[claim] {
            Json::Null => {}
            Json::Number(seconds) if seconds.as_f64().is_some_and(|seconds| fits(seconds * 1e9, now)) => {}
            Json::Number(_) => return no(),
            _ => return Err(BuiltinError::failed(format!("{claim} value must be a number"))),
        }
    }
    Ok(vec![true.into(), token.header.clone().into(), claims.into()].into())
}
