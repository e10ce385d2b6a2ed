//! Signatures of images in the two forms in which cosign finds them, and bundles over files.
//!
//! The *tag* form: a manifest under the tag `sha256-<hex>.sig`, whose layer is the simple-signing payload and carries the
//! signature as an annotation. The *referrer* form: a manifest with the image as its subject, whose layer is a Sigstore
//! bundle v0.3 with a DSSE envelope around an in-toto statement. Both say the same and neither needs a transparency log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::{ImageSigner, SignError};
use crate::types::Digest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Artifact type of the referrer form, and media type of bundles.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const STATEMENT: &str = "application/vnd.in-toto+json";

/// A JSON document with its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureObject {
    /// Digest of `text`.
    pub digest: Digest,
    /// Media type.
    pub media_type: &'static str,
    /// The document.
    pub text: String,
}

impl SignatureObject {
    fn new(media_type: &'static str, text: String) -> Self {
        Self { digest: Digest::of(text.as_bytes()), media_type, text }
    }

    fn descriptor(&self) -> serde_json::Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.text.len() })
    }
}

/// What is served for one signed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Manifest of the tag form.
    pub tag_manifest: SignatureObject,
    /// Manifest of the referrer form.
    pub referrer: SignatureObject,
    /// Annotations of the referrer, for lists of referrers.
    pub annotations: serde_json::Value,
    /// Blobs that the two manifests name.
    pub blobs: Vec<SignatureObject>,
}

/// Signs the manifest `digest` (`media_type`, `size` bytes) of the repository `reference`, such as `factory.example/installer/<id>`.
pub fn sign(signer: &ImageSigner, reference: &str, digest: &Digest, media_type: &str, size: usize) -> Signature {
    let empty = SignatureObject::new("application/vnd.oci.empty.v1+json", "{}".to_owned());
    let (tag_manifest, mut blobs) = tag_form(signer, reference, digest);
    let bundle = SignatureObject::new(BUNDLE, bundle(signer, digest));
    let annotations = json!({
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": PREDICATE,
        "org.opencontainers.image.created": "1970-01-01T00:00:00Z",
    });
    let referrer = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": empty.descriptor(),
        "layers": [bundle.descriptor()],
        "subject": { "mediaType": media_type, "digest": digest, "size": size },
        "annotations": annotations,
    });
    blobs.extend([bundle, empty]);
    Signature { tag_manifest, referrer: SignatureObject::new(MANIFEST, referrer.to_string()), annotations, blobs }
}

/// Predicate of cosign's own statements about images.
const PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

fn tag_form(signer: &ImageSigner, reference: &str, digest: &Digest) -> (SignatureObject, Vec<SignatureObject>) {
    let payload = json!({
        "critical": {
            "identity": { "docker-reference": reference },
            "image": { "docker-manifest-digest": digest },
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let payload = SignatureObject::new("application/vnd.dev.cosign.simplesigning.v1+json", payload.to_string());
    let config = json!({
        "architecture": "",
        "created": "0001-01-01T00:00:00Z",
        "history": [{ "created": "0001-01-01T00:00:00Z" }],
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": [payload.digest] },
        "config": {},
    });
    let config = SignatureObject::new("application/vnd.oci.image.config.v1+json", config.to_string());
    let mut layer = payload.descriptor();
    layer["annotations"] =
        json!({ "dev.cosignproject.cosign/signature": BASE64.encode(signer.sign(payload.text.as_bytes())) });
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(), "layers": [layer] });
    (SignatureObject::new(MANIFEST, manifest.to_string()), vec![payload, config])
}

/// A bundle over a file whose SHA-256 is `digest`, as `cosign verify-blob` reads it.
///
/// # Errors
/// [`SignError`]
pub fn file_bundle(signer: &ImageSigner, digest: &Digest) -> Result<String, SignError> {
    let bundle = json!({
        "mediaType": BUNDLE,
        "verificationMaterial": { "publicKey": { "hint": signer.hint() } },
        "messageSignature": {
            "messageDigest": { "algorithm": "SHA2_256", "digest": BASE64.encode(digest.raw()) },
            "signature": BASE64.encode(signer.sign_digest(digest)?),
        },
    });
    Ok(bundle.to_string())
}

fn bundle(signer: &ImageSigner, digest: &Digest) -> String {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": digest.hex() } }],
        "predicateType": PREDICATE,
        "predicate": {},
    })
    .to_string();
    // DSSE v1, "pre-authentication encoding".
    let signed = format!("DSSEv1 {} {STATEMENT} {} {statement}", STATEMENT.len(), statement.len());
    json!({
        "mediaType": BUNDLE,
        "verificationMaterial": { "publicKey": { "hint": signer.hint() } },
        "dsseEnvelope": {
            "payload": BASE64.encode(&statement),
            "payloadType": STATEMENT,
            "signatures": [{ "sig": BASE64.encode(signer.sign(signed.as_bytes())) }],
        },
    })
    .to_string()
}
