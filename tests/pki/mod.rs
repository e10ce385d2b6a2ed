//! A small Sigstore of our own, for signatures in the older form that nobody's data has: a certificate authority, a
//! certificate transparency log and a Rekor log, each a P-256 key, and what they issue, byte by byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image_factory::types::Digest;
use image_factory::verify::Annotations;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;
use serde_json::{Value, json};

/// When everything here was signed, in seconds since 1970: 2025-07-01 12:00:00 UTC.
pub const NOW: i64 = 1_751_371_200;
pub const IDENTITY: &str = "release@siderolabs.com";
pub const ISSUER: &str = "https://accounts.google.com";

const ECDSA_SHA256: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";

/// One DER element.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(length as u8),
        length @ 0x80..=0xff => out.extend([0x81, length as u8]),
        length => out.extend([&[0x82][..], &(length as u16).to_be_bytes()].concat()),
    }
    out.extend(content);
    out
}

/// One certificate extension.
fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { b"\x01\x01\xff" } else { b"" };
    der(0x30, &[&der(0x06, &[oid]), critical, &der(0x04, &[value])])
}

fn name(text: &str) -> Vec<u8> {
    let attribute = der(0x30, &[b"\x06\x03\x55\x04\x03", &der(0x0c, &[text.as_bytes()])]);
    der(0x30, &[&der(0x31, &[&attribute])])
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn spki(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_public_key_der().unwrap().as_bytes().to_vec()
}

fn sign(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    let signature: DerSignature = key.sign(message);
    signature.as_bytes().to_vec()
}

fn certificate(tbs: &[u8], signed_by: &SigningKey) -> Vec<u8> {
    let signature = der(0x03, &[&[0], &sign(signed_by, tbs)]);
    der(0x30, &[tbs, ECDSA_SHA256, &signature])
}

fn tbs(issuer: &str, subject: &[u8], validity: [&str; 2], public_key: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let validity = validity.map(|time| der(0x17, &[time.as_bytes()]));
    let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
    der(
        0x30,
        &[
            b"\xa0\x03\x02\x01\x02\x02\x01\x07",
            ECDSA_SHA256,
            &name(issuer),
            &der(0x30, &[&validity[0], &validity[1]]),
            subject,
            public_key,
            &der(0xa3, &[&der(0x30, &extensions)]),
        ],
    )
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

/// The three services, and the key that a release is signed with.
pub struct Pki {
    authority: SigningKey,
    transparency: SigningKey,
    rekor: SigningKey,
    /// The key that the certificate is for.
    pub signer: SigningKey,
}

/// What to sign, and what of it to get wrong.
#[derive(Clone)]
pub struct Order {
    pub payload: Vec<u8>,
    pub identity: &'static str,
    pub issuer: &'static str,
    /// When Rekor took the entry, in seconds since 1970.
    pub integrated: i64,
    /// Whether the certificate holds a promise of the transparency log.
    pub with_sct: bool,
}

impl Order {
    pub fn of(payload: Vec<u8>) -> Self {
        Self { payload, identity: IDENTITY, issuer: ISSUER, integrated: NOW, with_sct: true }
    }
}

/// The payload that cosign signs in the older form.
pub fn payload(image: &Digest, kind: &str) -> Vec<u8> {
    json!({"critical": {"identity": {"docker-reference": "127.0.0.1/image"},
        "image": {"docker-manifest-digest": image}, "type": kind}, "optional": null})
    .to_string()
    .into_bytes()
}

impl Pki {
    /// Keys from a seed, so that two seeds give two worlds.
    pub fn new(seed: u8) -> Self {
        let [authority, transparency, rekor, signer] = [1, 2, 3, 4].map(|at| key(seed * 8 + at));
        Self { authority, transparency, rekor, signer }
    }

    fn authority_certificate(&self) -> Vec<u8> {
        let extensions = [
            extension(b"\x55\x1d\x0f", true, b"\x03\x02\x01\x06"), // key usage: certificates
            extension(b"\x55\x1d\x13", true, b"\x30\x03\x01\x01\xff"), // basic constraints: an authority
        ];
        let tbs = tbs(
            "authority",
            &name("authority"),
            ["250101000000Z", "350101000000Z"],
            &spki(&self.authority),
            &extensions,
        );
        certificate(&tbs, &self.authority)
    }

    /// The signer's certificate, valid for ten minutes from [`NOW`].
    fn signer_certificate(&self, order: &Order) -> Vec<u8> {
        let mut extensions = vec![
            extension(b"\x55\x1d\x0f", true, b"\x03\x02\x07\x80"), // key usage: signatures
            extension(b"\x55\x1d\x25", false, b"\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03"), // of code
            extension(b"\x55\x1d\x11", true, &der(0x30, &[&der(0x81, &[order.identity.as_bytes()])])), // email
            extension(b"\x2b\x06\x01\x04\x01\x83\xbf\x30\x01\x01", false, order.issuer.as_bytes()), // OIDC issuer
        ];
        let validity = ["250701120000Z", "250701121000Z"];
        let make =
            |extensions: &[Vec<u8>]| tbs("authority", &der(0x30, &[]), validity, &spki(&self.signer), extensions);
        if order.with_sct {
            let list = self.sct_list(&make(&extensions));
            let list = der(0x04, &[&list]);
            extensions.push(extension(b"\x2b\x06\x01\x04\x01\xd6\x79\x02\x04\x02", false, &list));
        }
        certificate(&make(&extensions), &self.authority)
    }

    /// RFC 6962, sections 3.2 and 3.3.
    fn sct_list(&self, tbs: &[u8]) -> Vec<u8> {
        let time = ((NOW * 1000) as u64).to_be_bytes();
        let issuer = Digest::of(&spki(&self.authority));
        let length = &(tbs.len() as u32).to_be_bytes()[1..];
        let signed = [&[0, 0], &time[..], &[0, 1], issuer.raw(), length, tbs, &[0, 0]].concat();
        let signature = sign(&self.transparency, &signed);
        let log = Digest::of(&spki(&self.transparency));
        let length = (signature.len() as u16).to_be_bytes();
        let sct = [&[0], &log.raw()[..], &time, &[0, 0, 4, 3], &length, &signature].concat();
        let inner = [&(sct.len() as u16).to_be_bytes()[..], &sct].concat();
        [&(inner.len() as u16).to_be_bytes()[..], &inner].concat()
    }

    /// The trusted root that believes these services.
    pub fn trusted_root(&self) -> String {
        let since = json!({"start": "2025-01-01T00:00:00Z"});
        let log = |key: &SigningKey, host: &str| {
            json!({"baseUrl": host, "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": STANDARD.encode(spki(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": since},
                "logId": {"keyId": STANDARD.encode(Digest::of(&spki(key)).raw())}})
        };
        let authority = json!({"rawBytes": STANDARD.encode(self.authority_certificate())});
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(&self.rekor, "https://rekor.test")],
            "certificateAuthorities": [{"subject": {"organization": "test", "commonName": "authority"},
                "uri": "https://fulcio.test", "certChain": {"certificates": [authority]}, "validFor": since}],
            "ctlogs": [log(&self.transparency, "https://ct.test")],
            "timestampAuthorities": [],
        })
        .to_string()
    }

    /// A signature in the older form, as all its annotations.
    pub fn sign(&self, order: &Order) -> Annotations {
        let certificate = pem(&self.signer_certificate(order));
        let signature = STANDARD.encode(sign(&self.signer, &order.payload));
        let bundle = self.promise(&order.payload, &signature, &certificate, order.integrated);
        Annotations {
            signature: Some(signature),
            certificate: Some(certificate),
            chain: Some(pem(&self.authority_certificate())),
            bundle: Some(bundle.to_string()),
            timestamp: None,
        }
    }

    /// Rekor's promise to include an entry about this payload, signature and verifier (a certificate or key, PEM).
    pub fn promise(&self, payload: &[u8], signature: &str, verifier: &str, integrated: i64) -> Value {
        let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": Digest::of(payload).hex()}},
            "signature": {"content": signature, "publicKey": {"content": STANDARD.encode(verifier)}}}});
        let body = STANDARD.encode(body.to_string());
        let log = Digest::of(&spki(&self.rekor)).hex();
        let signed = format!(r#"{{"body":"{body}","integratedTime":{integrated},"logID":"{log}","logIndex":17}}"#);
        json!({"SignedEntryTimestamp": STANDARD.encode(sign(&self.rekor, signed.as_bytes())),
            "Payload": {"body": body, "integratedTime": integrated, "logIndex": 17, "logID": log}})
    }
}
