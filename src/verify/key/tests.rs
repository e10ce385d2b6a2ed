use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::EncodePublicKey as _;
use p256::pkcs8::LineEnding;

use super::*;

const MESSAGE: &[u8] = b"what is signed";

fn p384() -> (p384::ecdsa::SigningKey, String) {
    let key = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let pem = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    (key, pem)
}

#[test]
fn the_configured_hash_and_the_customary_one_are_accepted() {
    let (signer, pem) = p384();
    let sign = |hash: HashAlgorithm| {
        let signature: p384::ecdsa::Signature = signer.sign_prehash(&hash.hash(MESSAGE)).unwrap();
        signature.to_der().as_bytes().to_vec()
    };
    let [by256, by384, by512] = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512].map(sign);
    let default = PublicKey::from_pem(&pem, HashAlgorithm::Sha256).unwrap();
    assert_eq!(default.verify(MESSAGE, &by256), Some(Scheme::EcdsaP384(HashAlgorithm::Sha256)));
    assert_eq!(default.verify(MESSAGE, &by384), Some(Scheme::EcdsaP384(HashAlgorithm::Sha384)));
    assert_eq!(default.verify(MESSAGE, &by512), None);
    let long = PublicKey::from_pem(&pem, HashAlgorithm::Sha512).unwrap();
    assert_eq!(long.verify(MESSAGE, &by512), Some(Scheme::EcdsaP384(HashAlgorithm::Sha512)));
    assert_eq!(long.verify(MESSAGE, &by256), None);
    assert_eq!(default.verify_sha256(&Digest::of(MESSAGE), &by256), Some(Scheme::EcdsaP384(HashAlgorithm::Sha256)));
    assert_eq!(default.verify_sha256(&Digest::of(MESSAGE), &by384), None);
    assert_eq!(default.verify_sha256(&Digest::of(b"other"), &by256), None);
}

#[test]
fn p256_takes_every_hash() {
    let signer = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let pem = signer.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
        let signature: p256::ecdsa::Signature = signer.sign_prehash(&hash.hash(MESSAGE)).unwrap();
        let der = signature.to_der();
        let key = PublicKey::from_pem(&pem, hash).unwrap();
        assert_eq!(key.verify(MESSAGE, der.as_bytes()), Some(Scheme::EcdsaP256(hash)));
        assert_eq!(key.verify(b"other", der.as_bytes()), None);
    }
}

#[test]
fn ed25519_is_accepted_pure_and_prehashed() {
    let signer = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let pem = signer.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    let key = PublicKey::from_pem(&pem, HashAlgorithm::default()).unwrap();
    let pure = signer.sign(MESSAGE).to_bytes();
    let prehashed = signer.sign_prehashed(Sha512::new_with_prefix(MESSAGE), None).unwrap().to_bytes();
    assert_eq!(key.verify(MESSAGE, &pure), Some(Scheme::Ed25519));
    assert_eq!(key.verify(MESSAGE, &prehashed), Some(Scheme::Ed25519ph));
    let context = signer.sign_prehashed(Sha512::new_with_prefix(MESSAGE), Some(b"context")).unwrap().to_bytes();
    assert_eq!(key.verify(MESSAGE, &context), None);
    assert_eq!(key.verify(b"other", &pure), None);
    assert_eq!(key.verify(MESSAGE, &pure[..63]), None);
    assert!(!key.takes_digests());
}

#[test]
fn keys_that_we_do_not_take_are_named() {
    let error = |pem: &str| PublicKey::from_pem(pem, HashAlgorithm::default()).unwrap_err().to_string();
    assert!(error("").starts_with("containerSignature.publicKeyFile: "));
    assert!(error("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").contains("CERTIFICATE"));
    // An RSA key of 1024 bits: SEQUENCE { SEQUENCE { rsaEncryption, NULL }, BIT STRING { SEQUENCE { n, 65537 } } }.
    let head = "30819f300d06092a864886f70d010101050003818d0030818902818100";
    let der = hex::decode(format!("{head}{}0203010001", "c5".repeat(128))).unwrap();
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let text = error(&format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"));
    assert!(text.contains("1024"), "{text}");
    assert!(HashAlgorithm::parse("md5").unwrap_err().to_string().contains("\"md5\""));
    assert_eq!(HashAlgorithm::parse("SHA384").unwrap(), HashAlgorithm::Sha384);
}
