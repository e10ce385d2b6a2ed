use proptest::prelude::*;

use super::*;

const SHA256: &[u8] = ALGORITHMS[0].0;
const ECDSA_SHA256: &[u8] = ALGORITHMS[0].1[0];
const ECDSA_SHA384: &[u8] = ALGORITHMS[1].1[0];

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len();
    let head = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [head, content].concat()
}

/// What a test may change about a token's frame.
#[derive(Clone)]
struct Frame {
    status: Option<u8>,
    version: u8,
    digests: Vec<Vec<u8>>,
    content_tag: u8,
    after_content: Vec<u8>,
    signer_version: u8,
    signer_name: u8,
    digest: Vec<u8>,
    signature: Vec<u8>,
    signers: usize,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            status: Some(0),
            version: 3,
            digests: vec![SHA256.to_vec()],
            content_tag: OCTET_STRING,
            after_content: der(TAGGED_0, &[]),
            signer_version: 1,
            signer_name: SEQUENCE,
            digest: SHA256.to_vec(),
            signature: ECDSA_SHA256.to_vec(),
            signers: 1,
        }
    }
}

impl Frame {
    fn token(&self) -> Vec<u8> {
        let algorithm = |oid: &Vec<u8>| der(SEQUENCE, &[&der(OID, &[oid])]);
        let digests: Vec<u8> = self.digests.iter().flat_map(algorithm).collect();
        let content = der(TAGGED_0, &[&der(self.content_tag, &[&[9; 200]])]);
        let signer = der(
            SEQUENCE,
            &[
                &der(INTEGER, &[&[self.signer_version]]),
                &der(self.signer_name, &[b"a signer"]),
                &algorithm(&self.digest),
                &der(TAGGED_0, &[&[1; 300]]),
                &algorithm(&self.signature),
                &der(OCTET_STRING, &[b"a signature"]),
            ],
        );
        let data = der(
            SEQUENCE,
            &[
                &der(INTEGER, &[&[self.version]]),
                &der(SET, &[&digests]),
                &der(SEQUENCE, &[&der(OID, &[b"content"]), &content]),
                &self.after_content,
                &der(SET, &[&signer.repeat(self.signers)]),
            ],
        );
        let info = der(SEQUENCE, &[&der(OID, &[b"signed data"]), &der(TAGGED_0, &[&data])]);
        match self.status {
            Some(status) => der(SEQUENCE, &[&der(SEQUENCE, &[&der(INTEGER, &[&[status]])]), &info]),
            None => info,
        }
    }
}

#[test]
fn frames_as_specified_pass() {
    let good = Frame::default();
    let certificates = der(TAGGED_0, &[b"certificates are the root's"]);
    let by_key = Frame { signer_version: 3, signer_name: KEY_IDENTIFIER, ..good.clone() };
    let rsa = Frame { signature: RSA_ENCRYPTION.to_vec(), ..good.clone() };
    for frame in [
        good.clone(),
        Frame { status: None, ..good.clone() },
        Frame { after_content: Vec::new(), ..good.clone() },
        Frame { after_content: certificates, ..good },
        by_key,
        rsa,
    ] {
        assert_eq!(check_frame(&frame.token()), Ok(()));
    }
}

#[test]
fn every_deviation_is_refused() {
    let good = Frame::default;
    for (what, frame) in [
        ("granted with changes", Frame { status: Some(1), ..good() }),
        ("version", Frame { version: 1, ..good() }),
        ("no digest algorithm", Frame { digests: Vec::new(), ..good() }),
        ("another digest algorithm", Frame { digests: vec![ALGORITHMS[1].0.to_vec()], ..good() }),
        ("two digest algorithms", Frame { digests: vec![SHA256.to_vec(); 2], ..good() }),
        ("content of another type", Frame { content_tag: 0x0c, ..good() }),
        ("revocation lists", Frame { after_content: der(0xa1, &[]), ..good() }),
        ("signer version", Frame { signer_version: 3, ..good() }),
        ("signer named otherwise", Frame { signer_name: SET, ..good() }),
        ("unknown digest", Frame { digests: vec![b"x".to_vec()], digest: b"x".to_vec(), ..good() }),
        ("signature over another digest", Frame { signature: ECDSA_SHA384.to_vec(), ..good() }),
        ("unknown signature", Frame { signature: b"x".to_vec(), ..good() }),
        ("no signer", Frame { signers: 0, ..good() }),
        ("two signers", Frame { signers: 2, ..good() }),
    ] {
        assert!(check_frame(&frame.token()).is_err(), "{what}");
    }
    let mut trailing = good().token();
    trailing.push(0);
    assert!(check_frame(&trailing).is_err());
}

proptest! {
    #[test]
    fn bytes_of_any_kind_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = check_frame(&bytes);
    }

    #[test]
    fn a_cut_token_is_refused(at in 0..Frame::default().token().len()) {
        prop_assert!(check_frame(&Frame::default().token()[..at]).is_err());
    }

    #[test]
    fn a_changed_length_is_refused(at in 0..Frame::default().token().len(), to in any::<u8>()) {
        let mut token = Frame::default().token();
        let was = std::mem::replace(&mut token[at], to);
        // Content may be anything here; it is the verifier's. Tags and lengths of the frame may not.
        if matches!(was, SEQUENCE | SET | INTEGER | OCTET_STRING | 0x82 | 0x81) && to != was {
            prop_assert!(check_frame(&token).is_err());
        }
    }
}
