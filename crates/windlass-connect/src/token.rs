//! Whether a token counts: its signature, issuer, audience and times.

use crate::claims::Claims;
use crate::discovery::{Document, Known, Remote};
use crate::error::{IdentityError, plain};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use openidconnect::core::{CoreIdToken, CoreIdTokenVerifier, CoreJwsSigningAlgorithm as Algorithm};
use openidconnect::{ClaimsVerificationError, ClientId, IssuerUrl, Nonce, NonceVerifier, SignatureVerificationError};
use std::str::FromStr;
use std::sync::Arc;
use windlass_model::Micros;

/// By how much clocks may differ.
pub(crate) const LEEWAY: Micros = 60_000_000;
/// A token, bytes; those with some hundred groups have ten thousand.
const LARGEST: usize = 64 << 10;

/// Only with keys that are in nobody's hands but the provider's: neither `none` nor HMAC, whose key would be one that is known here.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RsaSsaPkcs1V15Sha256,
    Algorithm::RsaSsaPkcs1V15Sha384,
    Algorithm::RsaSsaPkcs1V15Sha512,
    Algorithm::RsaSsaPssSha256,
    Algorithm::RsaSsaPssSha384,
    Algorithm::RsaSsaPssSha512,
    Algorithm::EcdsaP256Sha256,
    Algorithm::EcdsaP384Sha384,
    Algorithm::EdDsa,
];

/// A token that counts.
pub(crate) struct Checked {
    pub(crate) token: CoreIdToken,
    pub(crate) claims: Claims,
    pub(crate) verifier: CoreIdTokenVerifier<'static>,
}

/// Checks a token of this issuer for this audience; with a nonce it has to be that one. Asks for the keys again when the one it is
/// signed with is not known.
///
/// # Errors
/// The provider cannot be asked, or the token does not count.
pub(crate) fn check<D: Document + Clone>(
    remote: &Remote<D>,
    token: &str,
    audience: &str,
    nonce: Option<&Nonce>,
    now: Micros,
) -> Result<Checked, IdentityError> {
    let refuse = |problem: String| IdentityError::Token { provider: remote.provider.clone(), problem };
    if token.len() > LARGEST {
        return Err(refuse(format!("it has more than {} KiB", LARGEST >> 10)));
    }
    let claims = payload(token).ok_or_else(|| refuse("it is not a signed JSON web token".into()))?;
    let token = CoreIdToken::from_str(token)
        .map_err(|error| refuse(format!("it is no identity token: {}", plain(&error.to_string()))))?;
    let known = remote.known(now)?;
    let mut verifier = verifier(remote, &known, audience, now)?;
    let mut found = verify(&token, &verifier, nonce);
    if found.as_ref().is_err_and(may_be_rotated)
        && let Some(newer) = remote.newer(now, &known)
    {
        verifier = self::verifier(remote, &newer, audience, now)?;
        found = verify(&token, &verifier, nonce);
    }
    found.map_err(|error| refuse(sentence(&error)))?;
    // The library leaves these to its users.
    let latest = now.saturating_add(LEEWAY) as f64;
    if claims.get("nbf").is_some_and(|begin| begin.as_f64().is_none_or(|begin| begin * 1e6 > latest)) {
        return Err(refuse("it is not valid yet (`nbf`)".into()));
    }
    Ok(Checked { token, claims, verifier })
}

/// What it claims, unchecked.
pub(crate) fn payload(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

fn verifier<D: Document>(
    remote: &Remote<D>,
    known: &Arc<Known<D>>,
    audience: &str,
    now: Micros,
) -> Result<CoreIdTokenVerifier<'static>, IdentityError> {
    let issuer = IssuerUrl::new(remote.issuer.clone())
        .map_err(|error| IdentityError::Settings { provider: remote.provider.clone(), problem: error.to_string() })?;
    let latest = time(now.saturating_add(LEEWAY));
    Ok(CoreIdTokenVerifier::new_public_client(ClientId::new(audience.to_owned()), issuer, known.keys.clone())
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || time(now.saturating_sub(LEEWAY)))
        .set_issue_time_verifier_fn(move |issued| {
            if issued <= latest { Ok(()) } else { Err(format!("it is issued in the future, at {issued} (`iat`)")) }
        }))
}

/// A time beyond what can be written is the last one: then everything has expired.
fn time(at: Micros) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

struct Expected<'a>(Option<&'a Nonce>);

impl NonceVerifier for Expected<'_> {
    fn verify(self, nonce: Option<&Nonce>) -> Result<(), String> {
        self.0.map_or(Ok(()), |expected| expected.verify(nonce))
    }
}

fn verify(
    token: &CoreIdToken,
    verifier: &CoreIdTokenVerifier<'static>,
    nonce: Option<&Nonce>,
) -> Result<(), ClaimsVerificationError> {
    token.claims(verifier, Expected(nonce)).map(drop)
}

/// A key that is not known, or one that has another of the same name.
fn may_be_rotated(error: &ClaimsVerificationError) -> bool {
    use SignatureVerificationError::{CryptoError, NoMatchingKey};
    matches!(error, ClaimsVerificationError::SignatureVerification(NoMatchingKey | CryptoError(_)))
}

fn sentence(error: &ClaimsVerificationError) -> String {
    use ClaimsVerificationError as E;
    let text = match error {
        E::Expired(what) => format!("it has expired, or the clocks differ: {what}"),
        E::InvalidAudience(what) => format!("it is meant for somebody else (`aud`): {what}"),
        E::InvalidIssuer(what) => format!("another issued it (`iss`): {what}"),
        E::InvalidNonce(what) => format!("it belongs to another sign-in (`nonce`): {what}"),
        E::SignatureVerification(why) => match why {
            SignatureVerificationError::NoMatchingKey => {
                "none of the provider's keys has signed it; new keys are looked for once a minute".into()
            }
            SignatureVerificationError::CryptoError(_) => "its signature is wrong".into(),
            SignatureVerificationError::NoSignature => "it is not signed".into(),
            other => format!("its signature cannot be taken: {other}"),
        },
        other => other.to_string(),
    };
    plain(&text)
}
