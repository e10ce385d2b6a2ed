//! Public keys that operators pin: ECDSA P-256 and P-384, RSA, Ed25519.
//!
//! What is signed is either a message or its DSSE pre-authentication encoding; both are plain bytes here. Tools do not
//! agree on the hash that goes with a key, and a signature does not name it, so two are tried: the configured one, and
//! the customary one of the key's kind (SHA-384 for P-384, else SHA-256). Ed25519 is accepted pure and prehashed
//! (RFC 8032, Ed25519ph with SHA-512 and no context; what cosign 3 makes).

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::pkcs8::DecodePublicKey;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use sigstore_types::{DerPublicKey, SignatureBytes};
use sigstore_verify::crypto::{KeyAlgorithm, SigningScheme, VerificationKey, validate_raw_public_key};

use super::error::VerifyError;
use crate::types::Digest;

/// A hash that goes with an ECDSA or RSA key (`containerSignature.publicKeyHashAlgo`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// `sha256`.
    #[default]
    Sha256,
    /// `sha384`.
    Sha384,
    /// `sha512`.
    Sha512,
}

impl HashAlgorithm {
    /// The name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Reads `sha256`, `sha384` or `sha512`, whatever the case.
    ///
    /// # Errors
    /// [`VerifyError::Policy`] for anything else.
    pub fn parse(text: &str) -> Result<Self, VerifyError> {
        [Self::Sha256, Self::Sha384, Self::Sha512]
            .into_iter()
            .find(|hash| hash.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| VerifyError::policy("publicKeyHashAlgo", format!("{text:?}: use sha256, sha384 or sha512")))
    }

    fn hash(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// How a signature turned out to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    EcdsaP256(HashAlgorithm),
    EcdsaP384(HashAlgorithm),
    RsaPkcs1(HashAlgorithm),
    Ed25519,
    Ed25519ph,
}

impl Scheme {
    pub fn name(self) -> String {
        match self {
            Self::EcdsaP256(hash) => format!("ECDSA P-256 with {}", hash.as_str()),
            Self::EcdsaP384(hash) => format!("ECDSA P-384 with {}", hash.as_str()),
            Self::RsaPkcs1(hash) => format!("RSA PKCS#1 v1.5 with {}", hash.as_str()),
            Self::Ed25519 => "Ed25519".to_owned(),
            Self::Ed25519ph => "Ed25519ph".to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
enum Key {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    Rsa(DerPublicKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// A public key, and the hash that it is used with.
#[derive(Clone, Debug)]
pub struct PublicKey {
    key: Key,
    der: Vec<u8>,
    hash: HashAlgorithm,
}

impl PublicKey {
    /// Reads a PEM block `PUBLIC KEY` (SubjectPublicKeyInfo, RFC 5280).
    ///
    /// # Errors
    /// [`VerifyError::Policy`] for another block, another kind of key, or RSA of other than 2048 to 8192 bits.
    pub fn from_pem(pem: &str, hash: HashAlgorithm) -> Result<Self, VerifyError> {
        let bad = |reason: String| VerifyError::policy("publicKeyFile", reason);
        let der = DerPublicKey::from_pem(pem).map_err(|error| bad(error.to_string()))?;
        let kind = KeyAlgorithm::from_spki(&der).map_err(|error| bad(error.to_string()))?;
        let bytes = der.as_bytes().to_vec();
        let key = match kind {
            KeyAlgorithm::EcdsaP256 => Key::P256(read(&bytes)?),
            KeyAlgorithm::EcdsaP384 => Key::P384(read(&bytes)?),
            KeyAlgorithm::Ed25519 => Key::Ed25519(read(&bytes)?),
            KeyAlgorithm::Rsa => {
                let raw = VerificationKey::from_spki(&der).map_err(|error| bad(error.to_string()))?;
                validate_raw_public_key(raw.scheme(), raw.as_bytes()).map_err(|error| bad(error.to_string()))?;
                Key::Rsa(der)
            }
            other => return Err(bad(format!("{other:?}: use ECDSA P-256, ECDSA P-384, RSA or Ed25519"))),
        };
        Ok(Self { key, der: bytes, hash })
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo in DER.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The configured hash.
    pub const fn hash(&self) -> HashAlgorithm {
        self.hash
    }

    /// SubjectPublicKeyInfo in DER.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// How `signature` over `message` was made with this key; `None` when it was not.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Option<Scheme> {
        if let Key::Ed25519(key) = &self.key {
            let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
            if key.verify_strict(message, &signature).is_ok() {
                return Some(Scheme::Ed25519);
            }
            let hasher = Sha512::new_with_prefix(message);
            return key.verify_prehashed_strict(hasher, None, &signature).is_ok().then_some(Scheme::Ed25519ph);
        }
        self.hashes().find_map(|hash| self.verify_hashed(hash, &hash.hash(message), signature))
    }

    /// The same for a message of which only the SHA-256 is known.
    pub(super) fn verify_sha256(&self, digest: &Digest, signature: &[u8]) -> Option<Scheme> {
        self.hashes()
            .find(|hash| *hash == HashAlgorithm::Sha256)
            .and_then(|hash| self.verify_hashed(hash, digest.raw(), signature))
    }

    /// Whether a signature can be checked without the whole message.
    pub(super) const fn takes_digests(&self) -> bool {
        !matches!(self.key, Key::Ed25519(_))
    }

    fn hashes(&self) -> impl Iterator<Item = HashAlgorithm> {
        let customary = if matches!(self.key, Key::P384(_)) { HashAlgorithm::Sha384 } else { HashAlgorithm::Sha256 };
        std::iter::once(self.hash).chain((customary != self.hash).then_some(customary))
    }

    fn verify_hashed(&self, hash: HashAlgorithm, hashed: &[u8], signature: &[u8]) -> Option<Scheme> {
        match &self.key {
            Key::P256(key) => {
                let signature = p256::ecdsa::Signature::from_der(signature).ok()?;
                key.verify_prehash(hashed, &signature).ok().map(|()| Scheme::EcdsaP256(hash))
            }
            Key::P384(key) => {
                let signature = p384::ecdsa::Signature::from_der(signature).ok()?;
                key.verify_prehash(hashed, &signature).ok().map(|()| Scheme::EcdsaP384(hash))
            }
            Key::Rsa(key) => {
                let scheme = match hash {
                    HashAlgorithm::Sha256 => SigningScheme::RsaPkcs1Sha256,
                    HashAlgorithm::Sha384 => SigningScheme::RsaPkcs1Sha384,
                    HashAlgorithm::Sha512 => SigningScheme::RsaPkcs1Sha512,
                };
                let key = VerificationKey::from_spki_with_scheme(key, scheme).ok()?;
                key.verify_prehashed(hashed, &SignatureBytes::from_bytes(signature)).ok()?;
                Some(Scheme::RsaPkcs1(hash))
            }
            Key::Ed25519(_) => None,
        }
    }
}

fn read<K: DecodePublicKey>(der: &[u8]) -> Result<K, VerifyError> {
    K::from_public_key_der(der).map_err(|error| VerifyError::policy("publicKeyFile", error))
}

#[cfg(test)]
mod tests;
