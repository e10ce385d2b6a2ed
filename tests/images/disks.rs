//! qcow2, VHD, VMDK and OVA.

use std::path::Path;

use image_factory::format::{ova, qcow2, vhd, vmdk};
use image_factory::types::Digest;
use image_factory::virtual_file::{Outline, ReadBlob, VirtualFile};
use proptest::prelude::*;
use serde_json::Value;

use super::world::{Blobs, disk, parts, release, run, write};

/// 2019-06-01.
const TIME: u32 = 1_559_424_892;

/// QEMU's names of formats, whether it checks them, and the image of a disk.
fn images(disk: &VirtualFile) -> [(&'static str, bool, VirtualFile); 3] {
    let none = Outline::default();
    [
        ("qcow2", true, qcow2::lay_out(disk, &none).unwrap().0),
        ("vpc", false, vhd::lay_out(disk, TIME).unwrap()),
        ("vmdk", true, vmdk::lay_out(disk, &none, "disk.vmdk").unwrap().0),
    ]
}

fn info(folder: &Path, format: &str) -> Value {
    serde_json::from_str(&run(folder, &format!("qemu-img info --output=json -f {format} image"))).unwrap()
}

/// QEMU finds no fault in any image, and the disk in each.
fn read_with_qemu(disk: &VirtualFile, blobs: &Blobs) {
    let scratch = tempfile::tempdir().unwrap();
    write(disk, blobs, &scratch.path().join("disk"));
    for (format, is_checked, image) in images(disk) {
        write(&image, blobs, &scratch.path().join("image"));
        if is_checked {
            let verdict = run(scratch.path(), &format!("qemu-img check -f {format} image"));
            assert!(verdict.contains("No errors were found"), "{format}: {verdict}");
        }
        let verdict = run(scratch.path(), &format!("qemu-img compare -f raw -F {format} disk image"));
        assert_eq!(verdict, "Images are identical.\n", "{format}");
        assert_eq!(info(scratch.path(), format)["virtual-size"], disk.len(), "{format}");
    }
}

#[test]
fn qemu_finds_a_release_in_every_format() {
    let mut blobs = Blobs::default();
    let disk = release(8192 << 20, &mut blobs);
    read_with_qemu(&disk, &blobs);
}

#[test]
fn qemu_knows_the_formats_as_the_reference_makes_them() {
    let (mut blobs, scratch) = (Blobs::default(), tempfile::tempdir().unwrap());
    let disk = release(1246 << 20, &mut blobs);
    let [qcow2, _, vmdk] = images(&disk);
    write(&qcow2.2, &blobs, &scratch.path().join("image"));
    let info_of_qcow2 = info(scratch.path(), "qcow2");
    assert_eq!((&info_of_qcow2["cluster-size"], &info_of_qcow2["dirty-flag"]), (&8192.into(), &false.into()));
    let specific = &info_of_qcow2["format-specific"]["data"];
    assert_eq!((&specific["compat"], &specific["refcount-bits"]), (&"1.1".into(), &16.into()));
    write(&vmdk.2, &blobs, &scratch.path().join("image"));
    let specific = &info(scratch.path(), "vmdk")["format-specific"]["data"];
    assert_eq!(specific["create-type"], "streamOptimized");
    let extent = &specific["extents"][0];
    assert_eq!((&extent["compressed"], &extent["cluster-size"]), (&true.into(), &65_536.into()));
}

/// A qcow2 is written to where it is used: QEMU must find its tables good enough to go on with.
#[test]
fn qemu_writes_to_a_qcow2() {
    let (mut blobs, scratch) = (Blobs::default(), tempfile::tempdir().unwrap());
    let disk = release(100 << 20, &mut blobs);
    write(&qcow2::lay_out(&disk, &Outline::default()).unwrap().0, &blobs, &scratch.path().join("image"));
    let write_zeros = "qemu-io -c 'write -P 9 0 3M' -c 'write -P 8 60M 20M' -c 'discard 4M 1M' -f qcow2 image";
    run(scratch.path(), write_zeros);
    let verdict = run(scratch.path(), "qemu-img check -f qcow2 image");
    assert!(verdict.contains("No errors were found"), "{verdict}");
}

#[test]
fn tar_and_the_manifest_agree_on_an_ova() {
    let (mut blobs, scratch) = (Blobs::default(), tempfile::tempdir().unwrap());
    let disk = release(1246 << 20, &mut blobs);
    write(&ova::lay_out(&disk, &Outline::default(), TIME).unwrap().0, &blobs, &scratch.path().join("disk.ova"));
    assert_eq!(run(scratch.path(), "tar -tf disk.ova"), "disk.ovf\ndisk.mf\ndisk.vmdk\n");
    run(
        scratch.path(),
        "tar -xf disk.ova && sed -E 's/^SHA256\\((.*)\\)= (.*)$/\\2  \\1/' disk.mf | sha256sum -c --quiet",
    );
    let length = run(scratch.path(), "stat -c %s disk.vmdk");
    let ovf = run(scratch.path(), "cat disk.ovf");
    assert!(ovf.contains(&format!("ovf:size=\"{}\"", length.trim())), "{ovf}");
    run(scratch.path(), "mv disk.vmdk image");
    assert_eq!(info(scratch.path(), "vmdk")["virtual-size"], disk.len());
}

/// Lengths and digests of the images of one disk: they change with the layout, and then the layout's revision must.
#[test]
fn images_have_their_known_digests() {
    let mut blobs = Blobs::default();
    let disk = release(100 << 20, &mut blobs);
    let digests = images(&disk)
        .map(|(format, _, image)| (format, image.len(), Digest::of(&image.read_all(&blobs).unwrap()).to_string()));
    let expected = [
        ("qcow2", 8_503_296, "sha256:a0feac4f49265ee23b6b18bf3de2664142b8b292e3443aaa9b50be33f8af3de2"),
        ("vpc", 104_858_112, "sha256:143ffb11ee7b7734b5e5b6940957249c6ace187dae64279b300a4167fd22a0e7"),
        ("vmdk", 8_794_112, "sha256:1a0036fa6b0dda85d610de3316ac956d59e72af0dcbb6c94d0949191c3ae0a9b"),
    ];
    assert_eq!(digests.each_ref().map(|(format, len, digest)| (*format, *len, digest.as_str())), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn qemu_finds_any_disk_in_every_format(parts in parts()) {
        let mut blobs = Blobs::default();
        let disk = disk(&parts, 64 << 10, &mut blobs);
        read_with_qemu(&disk, &blobs);
    }

    #[test]
    fn ranges_are_slices_of_the_whole(
        parts in parts(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0u64..300_000), 8),
    ) {
        let mut blobs = Blobs::default();
        let disk = disk(&parts, 64 << 10, &mut blobs);
        let ova = ova::lay_out(&disk, &Outline::default(), TIME).unwrap().0;
        for image in images(&disk).into_iter().map(|(_, _, image)| image).chain([ova]) {
            let all = image.read_all(&blobs).unwrap();
            prop_assert_eq!(all.len() as u64, image.len());
            for (at, len) in &cuts {
                let from = at.index(all.len()) as u64;
                let to = (from + len).min(image.len());
                let want = &all[from as usize..to as usize];
                prop_assert!(image.slice(from..to).read_all(&blobs).unwrap() == want);
                let pieces = image.pieces(from..to, &blobs as &dyn ReadBlob, 64 << 10);
                prop_assert!(pieces.collect::<Result<Vec<_>, _>>().unwrap().concat() == want);
            }
            prop_assert_eq!(VirtualFile::decode(image.encode()).unwrap(), image);
        }
    }
}
