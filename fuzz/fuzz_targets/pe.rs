//! Reading any bytes as a PE stub; what can be read can be appended to, and the outcome holds the same sections.
#![no_main]

use image_factory::format::pe::{HEAD_LEN, Section, Stub};
use image_factory::virtual_file::{Extent, VirtualFile};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let head = &data[..data.len().min(HEAD_LEN as usize)];
    let Ok(stub) = Stub::parse(head, VirtualFile::inline(data.to_vec())) else { return };
    let sections = [Section { name: ".linux", data: VirtualFile::zeros(1000) }];
    let Ok(image) = stub.append(&sections, 0) else { return };
    let Some(Extent::Inline(headers)) = image.extents().first() else { panic!("no headers") };
    let head = &headers[..headers.len().min(HEAD_LEN as usize)];
    let again = Stub::parse(head, image.clone()).expect("what was laid out can be read");
    assert_eq!(again.sections().len(), stub.sections().len() + 1);
    let last = again.sections().last().expect("one was appended");
    assert_eq!(again.data(last), VirtualFile::zeros(1000));
});
