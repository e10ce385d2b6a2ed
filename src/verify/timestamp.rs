//! The frame of an RFC 3161 timestamp token: what surrounds the signed part and is itself not signed.
//!
//! The verifier believes the signed part alone. The frame says which algorithms were used and what else is inside; here
//! it is held to what RFC 3161 section 2.4.2 and RFC 5652 section 5 demand of it, so that no bit of a token can change
//! unnoticed. Certificates that a token brings along are not looked at, here or there: the trusted root has them.

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed.
const TAGGED_0: u8 = 0xa0;
/// `[0]`, primitive: a signer named by key identifier.
const KEY_IDENTIFIER: u8 = 0x80;

/// A digest algorithm, and the algorithms that a signature over such a digest may be said to have: object identifiers in
/// DER, without tag and length. `rsaEncryption` and the keys' own identifiers go with any digest.
const ALGORITHMS: [(&[u8], [&[u8]; 2]); 3] = [
    (
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x01",
        [b"\x2a\x86\x48\xce\x3d\x04\x03\x02", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"],
    ),
    (
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x02",
        [b"\x2a\x86\x48\xce\x3d\x04\x03\x03", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"],
    ),
    (
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x03",
        [b"\x2a\x86\x48\xce\x3d\x04\x03\x04", b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d"],
    ),
];
const RSA_ENCRYPTION: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";

/// Reads DER elements one after another.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next element's tag and content; lengths in their shortest form only, below 64 KiB.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => {
                let (&length, rest) = rest.split_first()?;
                (usize::from(length), rest)
            }
            0x82 => {
                let (bytes, rest) = rest.split_first_chunk::<2>()?;
                (usize::from(u16::from_be_bytes(*bytes)), rest)
            }
            _ => return None,
        };
        let shortest = match first {
            0x81 => length > 0x7f,
            0x82 => length > 0xff,
            _ => true,
        };
        let (content, rest) = rest.split_at_checked(length).filter(|_| shortest)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The next element's content, when it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// The one element that `bytes` are.
fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let mut reader = Reader(bytes);
    let content = reader.take(tag)?;
    reader.end().map(|()| content)
}

/// An algorithm's object identifier; its parameters must be absent or NULL.
fn algorithm(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let mut fields = Reader(reader.take(SEQUENCE)?);
    let oid = fields.take(OID)?.to_vec();
    matches!(fields.0, b"" | b"\x05\x00").then_some(oid)
}

/// Holds the frame of a token, as `TimeStampResp` or bare, to its specification. Says what is wrong with it.
pub(super) fn check_frame(token: &[u8]) -> Result<(), String> {
    let outer = only(token, SEQUENCE).ok_or("no timestamp token")?;
    let mut fields = Reader(outer);
    let content_info = match fields.next() {
        Some((SEQUENCE, status)) => {
            let mut status = Reader(status);
            if status.take(INTEGER) != Some(&[0]) {
                return Err("the timestamp's status is not \"granted\"".to_owned());
            }
            fields.take(SEQUENCE).filter(|_| fields.end().is_some()).ok_or("no token beside the timestamp's status")?
        }
        _ => outer,
    };
    signed_data(content_info).ok_or_else(|| "the timestamp's frame is not as RFC 3161 and RFC 5652 demand".to_owned())
}

fn signed_data(content_info: &[u8]) -> Option<()> {
    let mut fields = Reader(content_info);
    fields.take(OID)?;
    let mut data = Reader(only(fields.take(TAGGED_0)?, SEQUENCE)?);
    // Version 3, for the content is not plain data.
    (data.take(INTEGER)? == [3]).then_some(())?;
    let mut digests = Reader(data.take(SET)?);
    let digest = algorithm(&mut digests)?;
    digests.end()?;
    let mut content = Reader(data.take(SEQUENCE)?);
    content.take(OID)?;
    only(content.take(TAGGED_0)?, OCTET_STRING)?;
    content.end()?;
    let signers = match data.next()? {
        (TAGGED_0, _) => data.take(SET)?,
        (SET, signers) => signers,
        _ => return None,
    };
    data.end()?;
    let mut signer = Reader(only(signers, SEQUENCE)?);
    let version = signer.take(INTEGER)?;
    let named_by = signer.next()?.0;
    matches!((version, named_by), ([1], SEQUENCE) | ([3], KEY_IDENTIFIER)).then_some(())?;
    (algorithm(&mut signer)? == digest).then_some(())?;
    signer.take(TAGGED_0)?;
    let signature = algorithm(&mut signer)?;
    let (_, fitting) = ALGORITHMS.iter().find(|(known, _)| *known == digest)?;
    (signature == RSA_ENCRYPTION || fitting.contains(&signature.as_slice())).then_some(())?;
    signer.take(OCTET_STRING)?;
    signer.end()
}

#[cfg(test)]
mod tests;
