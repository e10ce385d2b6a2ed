//! The annotations of the older form, and the same signature as a Sigstore bundle.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sigstore_types::Bundle;

use super::root::TrustedRoot;

/// A payload larger than this is refused unread, in bytes.
pub const MAX_PAYLOAD: u64 = 64 << 10;

/// Annotations larger than this together are refused unread, in bytes.
const MAX_ANNOTATIONS: usize = 1 << 20;

/// At most so many certificates of a chain are looked at.
const MAX_CHAIN: usize = 8;

/// The annotations of one layer of a `.sig` manifest; empty ones count as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// `dev.cosignproject.cosign/signature`: base64 of the signature over the payload.
    pub signature: Option<String>,
    /// `dev.sigstore.cosign/certificate`: the Fulcio certificate, PEM.
    pub certificate: Option<String>,
    /// `dev.sigstore.cosign/chain`: the certificates above it, PEM.
    pub chain: Option<String>,
    /// `dev.sigstore.cosign/bundle`: Rekor's signed promise, JSON.
    pub bundle: Option<String>,
    /// `dev.sigstore.cosign/rfc3161timestamp`: a timestamp over the signature, JSON.
    pub timestamp: Option<String>,
}

impl Annotations {
    /// Picks them out of all annotations of a layer.
    pub fn of(all: &BTreeMap<String, String>) -> Self {
        let get = |key: &str| all.get(key).filter(|text| !text.is_empty()).cloned();
        Self {
            signature: get("dev.cosignproject.cosign/signature"),
            certificate: get("dev.sigstore.cosign/certificate"),
            chain: get("dev.sigstore.cosign/chain"),
            bundle: get("dev.sigstore.cosign/bundle"),
            timestamp: get("dev.sigstore.cosign/rfc3161timestamp"),
        }
    }

    fn len(&self) -> usize {
        let all = [&self.signature, &self.certificate, &self.chain, &self.bundle, &self.timestamp];
        all.into_iter().flatten().map(String::len).sum()
    }
}

/// Rekor's promise, as cosign writes it into the annotation.
#[derive(Deserialize)]
struct Promise {
    #[serde(rename = "SignedEntryTimestamp")]
    signed_entry_timestamp: String,
    #[serde(rename = "Payload")]
    payload: PromisePayload,
}

#[derive(Deserialize)]
struct PromisePayload {
    body: String,
    #[serde(rename = "integratedTime")]
    integrated_time: i64,
    #[serde(rename = "logIndex")]
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
struct EntryKind {
    kind: String,
    #[serde(rename = "apiVersion")]
    version: String,
}

#[derive(Deserialize)]
struct Timestamp {
    #[serde(rename = "SignedRFC3161Timestamp")]
    token: String,
}

/// The signature's bytes.
pub(super) fn signature(annotations: &Annotations) -> Result<Vec<u8>, String> {
    let text = annotations.signature.as_deref().ok_or("the annotation with the signature is missing")?;
    STANDARD.decode(text).map_err(|error| format!("the signature is no base64: {error}"))
}

/// The same signature as a bundle of version 0.1 or 0.2. With a root, by certificate; its authorities are left out of the chain,
/// for the root vouches for them and a bundle may not bring its own. Without one, by public key.
pub(super) fn as_bundle(
    payload: &[u8],
    annotations: &Annotations,
    root: Option<&TrustedRoot>,
) -> Result<Bundle, String> {
    let sizes = [(payload.len(), MAX_PAYLOAD as usize, "payload"), (annotations.len(), MAX_ANNOTATIONS, "annotations")];
    if let Some((size, max, what)) = sizes.into_iter().find(|(size, max, _)| size > max) {
        return Err(format!("{what} of {size} bytes; at most {max} are accepted"));
    }
    // Version 0.1 demands a promise of the log's; what has none is put into the next one.
    let version = if annotations.bundle.is_some() { "0.1" } else { "0.2" };
    let mut material = match root {
        Some(root) => json!({"x509CertificateChain": {"certificates": chain(annotations, root)?}}),
        None => json!({"publicKey": {"hint": ""}}),
    };
    if let Some(text) = &annotations.bundle {
        material["tlogEntries"] = json!([log_entry(text)?]);
    }
    if let Some(text) = &annotations.timestamp {
        let timestamp: Timestamp = serde_json::from_str(text).map_err(|error| format!("timestamp: {error}"))?;
        let stamps = json!([{"signedTimestamp": timestamp.token}]);
        material["timestampVerificationData"] = json!({"rfc3161Timestamps": stamps});
    }
    let bundle = json!({
        "mediaType": format!("application/vnd.dev.sigstore.bundle+json;version={version}"),
        "verificationMaterial": material,
        "messageSignature": {"signature": STANDARD.encode(signature(annotations)?)},
    });
    serde_json::from_value(bundle).map_err(|error| format!("annotations: {error}"))
}

fn chain(annotations: &Annotations, root: &TrustedRoot) -> Result<Value, String> {
    let text = annotations.certificate.as_deref().ok_or("no certificate; a public key's signature, or none")?;
    let leaf = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| format!("certificate: {error}"))?;
    let mut certificates = vec![json!({"rawBytes": STANDARD.encode(&leaf)})];
    let above = annotations.chain.as_deref().unwrap_or_default();
    for certificate in CertificateDer::pem_slice_iter(above.as_bytes()).take(MAX_CHAIN) {
        let certificate = certificate.map_err(|error| format!("certificate chain: {error}"))?;
        if !root.is_authority(&certificate) {
            certificates.push(json!({"rawBytes": STANDARD.encode(&certificate)}));
        }
    }
    Ok(certificates.into())
}

fn log_entry(text: &str) -> Result<Value, String> {
    let promise: Promise = serde_json::from_str(text).map_err(|error| format!("Rekor bundle: {error}"))?;
    let entry = promise.payload;
    let log =
        hex::decode(&entry.log_id).map_err(|error| format!("Rekor bundle: log ID {:?}: {error}", entry.log_id))?;
    let body = STANDARD.decode(&entry.body).map_err(|error| format!("Rekor bundle: body: {error}"))?;
    let kind: EntryKind = serde_json::from_slice(&body).map_err(|error| format!("Rekor bundle: body: {error}"))?;
    Ok(json!({
        "logIndex": entry.log_index.to_string(),
        "logId": {"keyId": STANDARD.encode(log)},
        "kindVersion": {"kind": kind.kind, "version": kind.version},
        "integratedTime": entry.integrated_time.to_string(),
        "inclusionPromise": {"signedEntryTimestamp": promise.signed_entry_timestamp},
        "canonicalizedBody": entry.body,
    }))
}
