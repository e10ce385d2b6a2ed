//! Tables that are mostly one byte over and over: zero, or all ones.

use bytes::Bytes;

use crate::virtual_file::{Extent, VirtualFile};

/// The shortest run of one byte that is smaller as an extent of its own, in bytes: a repeat and the head of the next
/// inline extent take 19 bytes in the stored form.
const RUN: usize = 32;

/// The bytes as a file whose long runs of one byte are repeats, so that neither memory nor a stored extent list holds
/// them.
pub(crate) fn sparse(bytes: &[u8]) -> VirtualFile {
    let mut extents = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (literal, run) = next(rest);
        extents.push(Extent::Inline(Bytes::copy_from_slice(&rest[..literal])));
        let unit = rest.get(literal).map_or(Bytes::new(), |byte| Bytes::copy_from_slice(&[*byte]));
        extents.push(Extent::Repeat { unit, times: run as u64 });
        rest = &rest[literal + run..];
    }
    VirtualFile::from_extents(extents)
}

/// Lengths of what comes before the next long run, and of that run.
fn next(bytes: &[u8]) -> (usize, usize) {
    let mut start = 0;
    for run in bytes.chunk_by(|one, next| one == next) {
        if run.len() >= RUN {
            return (start, run.len());
        }
        start += run.len();
    }
    (start, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtual_file::NoBlobs;

    #[test]
    fn runs_become_extents_and_bytes_stay() {
        let mut bytes = vec![0; 100];
        bytes.extend([1; 5]);
        bytes.extend(vec![0; RUN - 1]);
        bytes.push(2);
        bytes.extend(vec![0; RUN]);
        bytes.extend(vec![0xff; RUN]);
        let file = sparse(&bytes);
        assert_eq!(file.read_all(&NoBlobs).unwrap(), bytes);
        let inline = |extent: &&Extent| matches!(extent, Extent::Inline(_));
        let lengths: Vec<u64> = file.extents().iter().filter(inline).map(Extent::len).collect();
        assert_eq!(lengths, [5 + RUN as u64 - 1 + 1]);
        assert_eq!(file.extents().len(), 4);
        assert!(sparse(&[]).is_empty());
    }
}
