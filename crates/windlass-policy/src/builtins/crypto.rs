//! Digests and keyed digests, all in lower-case hexadecimal.

use super::{Answer, Builtin, text};
use hmac::digest::{Digest, KeyInit, Mac};
use hmac::{EagerHash, Hmac};

pub(super) const FUNCTIONS: &[Builtin] = &[
    ("crypto.hmac.equal", 2, hmac_equal),
    ("crypto.hmac.md5", 2, hmac::<md5::Md5>),
    ("crypto.hmac.sha1", 2, hmac::<sha1::Sha1>),
    ("crypto.hmac.sha256", 2, hmac::<sha2::Sha256>),
    ("crypto.hmac.sha512", 2, hmac::<sha2::Sha512>),
    ("crypto.md5", 1, digest::<md5::Md5>),
    ("crypto.sha1", 1, digest::<sha1::Sha1>),
    ("crypto.sha256", 1, digest::<sha2::Sha256>),
];

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest<D: Digest>(operands: &[regorus::Value]) -> Answer {
    Ok(hexadecimal(&D::digest(text(operands, 0)?)).into())
}

/// Of a message with a key.
fn hmac<D: EagerHash>(operands: &[regorus::Value]) -> Answer
where
    Hmac<D>: KeyInit + Mac,
{
    let (message, key) = (text(operands, 0)?, text(operands, 1)?);
    let mut mac = <Hmac<D> as KeyInit>::new_from_slice(key.as_bytes())
        .map_err(|error| super::BuiltinError::failed(error.to_string()))?;
    mac.update(message.as_bytes());
    Ok(hexadecimal(&mac.finalize().into_bytes()).into())
}

/// Whether two digests are the same text, in a time that does not depend on where they differ.
fn hmac_equal(operands: &[regorus::Value]) -> Answer {
    let (a, b) = (text(operands, 0)?.as_bytes(), text(operands, 1)?.as_bytes());
    let differences = a.iter().zip(b).fold(0_u8, |found, (a, b)| found | (a ^ b));
    Ok((a.len() == b.len() && differences == 0).into())
}
