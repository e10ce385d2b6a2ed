use std::io::Read as _;

use proptest::prelude::*;

use super::*;
use crate::virtual_file::NoBlobs;

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// Debian 12's stub, with COFF symbols.
fn stub_bytes() -> Vec<u8> {
    gunzip(include_bytes!("../../../tests/golden/uki/linuxx64.efi.stub.gz"))
}

/// The same without symbols.
fn bare_stub_bytes() -> Vec<u8> {
    gunzip(include_bytes!("../../../tests/golden/uki/stub-nosym.efi.gz"))
}

fn parse(bytes: &[u8]) -> Result<Stub, PeError> {
    let head = &bytes[..bytes.len().min(HEAD_LEN as usize)];
    Stub::parse(head, VirtualFile::inline(bytes.to_vec()))
}

fn patched(at: usize, with: &[u8]) -> Result<Stub, PeError> {
    let mut bytes = bare_stub_bytes();
    bytes[at..at + with.len()].copy_from_slice(with);
    parse(&bytes)
}

#[test]
fn symbols_are_left_behind() {
    let section = [Section { name: ".linux", data: VirtualFile::inline("kernel") }];
    let with = parse(&stub_bytes()).unwrap().append(&section, 7).unwrap();
    let without = parse(&bare_stub_bytes()).unwrap().append(&section, 7).unwrap();
    assert_eq!(with.read_all(&NoBlobs).unwrap(), without.read_all(&NoBlobs).unwrap());
}

/// Offsets in this stub: PE signature at 0x80, optional header at 0x98, section table at 0x188.
#[test]
fn refusals_name_the_cause() {
    let refused = |result: Result<Stub, PeError>, text: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    refused(parse(b""), "no DOS signature");
    refused(parse(b"MZ"), "cut short");
    refused(patched(0x3c, &[0xff; 4]), "cut short");
    refused(patched(0x80, b"NE"), "no PE signature");
    refused(patched(0x86, &[0, 0]), "0 sections");
    refused(patched(0x86, &[97, 0]), "97 sections");
    refused(patched(0x98, &[0x0b, 1]), "0x10b");
    refused(patched(0x98 + 68, &[3, 0]), "subsystem 3");
    refused(patched(0x98 + 108, &[17, 0]), "17 data directories");
    refused(patched(0x98 + 36, &[0, 1, 0, 0]), "file alignment 256");
    refused(patched(0x98 + 32, &[1, 1, 0, 0]), "section alignment 257");
    refused(patched(0x188, b"/4"), "string table");
    refused(patched(0x188 + 16, &[0, 0, 0, 1]), "behind the file's end");
    refused(patched(0x188 + 40 + 12, &[0; 4]), "overlaps");
}

#[test]
fn a_signature_and_debug_information_are_left_behind() {
    let plain = parse(&bare_stub_bytes()).unwrap().append(&[], 0).unwrap();
    for directory in [4, 6] {
        let stub = patched(0x98 + 112 + directory * 8, &[1; 8]).unwrap();
        assert_eq!(stub.append(&[], 0).unwrap(), plain, "{directory}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let stub = parse(&bare_stub_bytes()).unwrap();
    let refused = |sections: &[Section], text: &str| {
        let error = stub.append(sections, 0).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    let huge = |len| Section { name: ".initrd", data: VirtualFile::zeros(len) };
    refused(&[huge(1 << 32)], ".initrd");
    refused(&[huge(3 << 30), huge(3 << 30)], "4 GiB");
    refused(&[Section { name: ".nine.chr", data: VirtualFile::empty() }], ".nine.chr");
    refused(&vec![huge(1); 89], "97 sections");
    assert!(stub.append(&[huge((1 << 32) - (1 << 20))], 0).is_ok());
    // The first section of this one starts where the headers of one more section would end.
    let close = patched(0x188 + 12, &0x300u32.to_le_bytes()).unwrap();
    assert!(close.append(&[], 0).unwrap_err().to_string().contains("headers before the first section"));
}

proptest! {
    /// Any bytes, and any change to a good stub, give a stub or an error; a stub can be appended to, and what comes out
    /// holds the same sections.
    #[test]
    fn mutated_stubs_never_panic(
        changes in prop::collection::vec((0usize..0x300, any::<u8>()), 0..6),
        cut in prop::option::of(0usize..80_000),
        appended in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..5),
    ) {
        let mut bytes = bare_stub_bytes();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        if let Ok(stub) = parse(&bytes) {
            let sections: Vec<Section> =
                appended.iter().map(|data| Section { name: ".x", data: VirtualFile::inline(data.clone()) }).collect();
            if let Ok(image) = stub.append(&sections, 0) {
                let image = parse(&image.read_all(&NoBlobs).unwrap()).unwrap();
                prop_assert_eq!(image.sections().len(), stub.sections().len() + sections.len());
                let (own, more) = image.sections().split_at(stub.sections().len());
                for (ours, theirs) in own.iter().zip(stub.sections()) {
                    prop_assert_eq!(ours.virtual_address, theirs.virtual_address);
                    // Padding to the file's alignment may have lengthened what the file gives of a section.
                    let (ours, theirs) = (image.data(ours), stub.data(theirs));
                    prop_assert_eq!(ours.slice(0..theirs.len()), theirs.clone());
                    let padding = ours.slice(theirs.len()..ours.len()).read_all(&NoBlobs).unwrap();
                    prop_assert!(padding.iter().all(|byte| *byte == 0));
                }
                for (header, section) in more.iter().zip(&sections) {
                    prop_assert_eq!(header.virtual_address % stub.section_alignment, 0);
                    prop_assert_eq!(header.raw_offset % stub.file_alignment, 0);
                    prop_assert_eq!(image.data(header), section.data.clone());
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..1000), pe in any::<bool>()) {
        if pe && bytes.len() > 0x80 {
            bytes[..2].copy_from_slice(b"MZ");
            bytes[60..64].copy_from_slice(&64u32.to_le_bytes());
            bytes[64..68].copy_from_slice(b"PE\0\0");
        }
        let _ = parse(&bytes);
    }
}
