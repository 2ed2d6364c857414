//! Keys, digests and signatures with their text forms.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key is written `ed25519:` and 32 bytes in Base64, unlike `{0}`")]
    Text(String),
    #[error("not {bytes} bytes in Base64: `{text}`")]
    Bytes { text: String, bytes: usize },
    #[error("not an Ed25519 key in PKCS#8: {0}")]
    Pkcs8(String),
    #[error("the source of randomness failed")]
    Randomness,
}

/// `N` bytes, in text as Base64 with padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes<const N: usize>(pub [u8; N]);

/// A SHA-256.
pub type Digest = Bytes<32>;
/// Of Ed25519.
pub type Signature = Bytes<64>;

impl<const N: usize> fmt::Display for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> FromStr for Bytes<N> {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| KeyError::Bytes { text: start(text), bytes: N })
    }
}

impl<const N: usize> TryFrom<String> for Bytes<N> {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl<const N: usize> From<Bytes<N>> for String {
    fn from(bytes: Bytes<N>) -> Self {
        bytes.to_string()
    }
}

/// A public key; `ed25519:` and Base64 in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifyingKey(Bytes<32>);

impl VerifyingKey {
    /// Whether `signature` is this key's of `message`.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0.0).verify(message, &signature.0).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", self.0)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = text.strip_prefix("ed25519:").and_then(|rest| rest.parse().ok());
        bytes.map(Self).ok_or_else(|| KeyError::Text(start(text)))
    }
}

impl TryFrom<String> for VerifyingKey {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<VerifyingKey> for String {
    fn from(key: VerifyingKey) -> Self {
        key.to_string()
    }
}

/// Enough of a text to know it again.
fn start(text: &str) -> String {
    text.chars().take(80).collect()
}

/// A private key. It is never shown.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// Reads a key in PKCS#8 (DER), version 1 (as `openssl genpkey -algorithm ed25519 -outform DER` writes it) or 2.
    ///
    /// # Errors
    /// [`KeyError::Pkcs8`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der);
        pair.map(Self).map_err(|error| KeyError::Pkcs8(error.to_string()))
    }

    /// A new key in PKCS#8 (DER, version 2), to be kept secret and given to [`Self::from_pkcs8`].
    ///
    /// # Errors
    /// [`KeyError::Randomness`].
    pub fn generate_pkcs8(random: &dyn SecureRandom) -> Result<Vec<u8>, KeyError> {
        let der = Ed25519KeyPair::generate_pkcs8(random).map_err(|_| KeyError::Randomness)?;
        Ok(der.as_ref().to_vec())
    }

    pub fn verifying_key(&self) -> VerifyingKey {
        let mut bytes = [0; 32];
        // Ring's Ed25519 keys have this length by their definition.
        bytes.copy_from_slice(self.0.public_key().as_ref());
        VerifyingKey(Bytes(bytes))
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        // As with the key.
        bytes.copy_from_slice(self.0.sign(message).as_ref());
        Bytes(bytes)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_text_forms() {
        let key =
            SigningKey::from_pkcs8(&SigningKey::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap()).unwrap();
        let public = key.verifying_key();
        let text = public.to_string();
        assert!(text.starts_with("ed25519:") && text.len() == 8 + 44, "{text}");
        assert_eq!(text.parse::<VerifyingKey>().unwrap(), public);
        assert_eq!(serde_json::to_value(public).unwrap(), serde_json::json!(text));
        assert_eq!(format!("{key:?}"), format!("SigningKey({text})"));
        let signature = key.sign(b"message");
        assert!(public.verify(b"message", &signature) && !public.verify(b"messagf", &signature));
        for wrong in ["", "ed25519:", "ed25519:AAAA", &text[8..], &text.replace("ed", "rs"), &format!("{text}A")] {
            assert!(wrong.parse::<VerifyingKey>().is_err(), "{wrong}");
        }
        assert!(SigningKey::from_pkcs8(b"not a key").is_err());
    }

    #[test]
    fn signatures_are_those_of_rfc_8032() {
        // Section 7.1, test 2; the private key with the head that PKCS#8 version 1 puts before it.
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let der =
            hex("302e020100300506032b6570042204204ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SigningKey::from_pkcs8(&der).unwrap();
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(key.verifying_key().0.0.to_vec(), public);
        let want = hex(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        );
        assert_eq!(key.sign(&[0x72]).0.to_vec(), want);
    }
}
