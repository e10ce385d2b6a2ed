//! Signing what we make: ECDSA P-256 with deterministic nonces (RFC 6979), so that every replica says the same.

pub mod cosign;

use base64::Engine as _;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};

use crate::types::Digest;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Not a PEM file with an unencrypted ECDSA P-256 private key.
    #[error("the signing key is not an unencrypted ECDSA P-256 private key in PEM (PKCS#8 or SEC1): {0}")]
    Key(String),
}

/// The key that signs what is made.
pub struct ImageSigner {
    key: SigningKey,
    public_pem: String,
    hint: String,
}

impl ImageSigner {
    /// Reads a private key from PEM, PKCS#8 (`PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`).
    ///
    /// # Errors
    /// [`SignError::Key`]
    pub fn from_pem(pem: &str) -> Result<Self, SignError> {
        let key = if pem.contains("BEGIN EC PRIVATE KEY") {
            p256::SecretKey::from_sec1_pem(pem).map(SigningKey::from).map_err(|error| error.to_string())
        } else {
            SigningKey::from_pkcs8_pem(pem).map_err(|error| error.to_string())
        };
        Self::from_key(key.map_err(SignError::Key)?)
    }

    /// Makes a new key; returns it with its PEM (PKCS#8), to be kept.
    ///
    /// # Errors
    /// [`SignError::Key`] when the system has no randomness to give.
    pub fn generate() -> Result<(Self, String), SignError> {
        let failed = |error: &dyn std::fmt::Display| SignError::Key(error.to_string());
        let mut seed = [0u8; 32];
        // A seed outside the group's order is possible, if hardly ever: try again.
        let key = loop {
            rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut seed).map_err(|error| failed(&error))?;
            if let Ok(key) = SigningKey::from_slice(&seed) {
                break key;
            }
        };
        let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| failed(&error))?;
        Ok((Self::from_key(key)?, pem.to_string()))
    }

    fn from_key(key: SigningKey) -> Result<Self, SignError> {
        let public_pem =
            key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|error| SignError::Key(error.to_string()))?;
        let der = key.verifying_key().to_public_key_der().map_err(|error| SignError::Key(error.to_string()))?;
        let hint = base64::engine::general_purpose::STANDARD.encode(Digest::of(der.as_bytes()).raw());
        Ok(Self { key, public_pem, hint })
    }

    /// The public key as PEM (`PUBLIC KEY`).
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Names the key inside bundles: base64 of the SHA-256 of its DER form (`SubjectPublicKeyInfo`), as cosign does.
    pub fn hint(&self) -> &str {
        &self.hint
    }

    /// The ASN.1 DER signature over the SHA-256 of `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: DerSignature = self.key.sign(message);
        signature.as_bytes().to_vec()
    }

    /// The same signature, made when only the SHA-256 is at hand.
    ///
    /// # Errors
    /// [`SignError::Key`] when the key cannot sign it.
    pub fn sign_digest(&self, digest: &Digest) -> Result<Vec<u8>, SignError> {
        let signature: Result<DerSignature, _> = self.key.sign_prehash(digest.raw());
        signature.map(|signature| signature.as_bytes().to_vec()).map_err(|error| SignError::Key(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Verifier as _;

    use super::*;

    #[test]
    fn one_key_and_message_give_one_signature() {
        let (signer, pem) = ImageSigner::generate().unwrap();
        let again = ImageSigner::from_pem(&pem).unwrap();
        assert_eq!(signer.public_pem(), again.public_pem());
        let signature = signer.sign(b"message");
        assert_eq!(signature, again.sign(b"message"));
        assert_eq!(signature, again.sign_digest(&Digest::of(b"message")).unwrap());
        let parsed = DerSignature::try_from(signature.as_slice()).unwrap();
        assert!(signer.key.verifying_key().verify(b"message", &parsed).is_ok());
        assert!(signer.key.verifying_key().verify(b"massage", &parsed).is_err());
    }

    /// RFC 6979, appendix A.2.5, P-256 with SHA-256 and the message "sample".
    #[test]
    fn nonces_are_those_of_rfc_6979() {
        let key = hex::decode("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721").unwrap();
        let signer = ImageSigner::from_key(SigningKey::from_slice(&key).unwrap()).unwrap();
        let signature = hex::encode_upper(signer.sign(b"sample"));
        assert!(signature.contains("EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"));
        assert!(signature.contains("F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"));
    }

    #[test]
    fn other_files_are_refused() {
        for pem in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "x"] {
            assert!(ImageSigner::from_pem(pem).is_err());
        }
    }
}
