//! gzip, xz and Zstandard streams.

use image_factory::encode::{Codec, encode};
use image_factory::format::tar::Layout;
use image_factory::virtual_file::{Outline, VirtualFile};
use proptest::prelude::*;

use super::world::{Blobs, disk, parts, release, run, same, write};

/// Codecs with the end of their files' names, and who must unpack them.
const PROGRAMS: [(Codec, &str, &[&str]); 3] = [
    (Codec::Gz, "gz", &["gzip -t disk.gz && gzip -dc disk.gz", "pigz -t disk.gz && pigz -dc disk.gz"]),
    (Codec::Xz, "xz", &["xz -t disk.xz && xz -dc disk.xz", "xz -T2 -dc disk.xz"]),
    (Codec::Zst, "zst", &["zstd -qt disk.zst && zstd -qdc disk.zst"]),
];

fn unpack_with_programs(disk: &VirtualFile, blobs: &Blobs) {
    let scratch = tempfile::tempdir().unwrap();
    for (codec, ending, programs) in PROGRAMS {
        write(
            &encode(codec, disk, &Outline::default(), blobs).0,
            blobs,
            &scratch.path().join(format!("disk.{ending}")),
        );
        for program in programs {
            run(scratch.path(), &format!("{program} > disk.raw"));
            assert!(same(disk, blobs, &scratch.path().join("disk.raw")), "{program}");
        }
    }
}

#[test]
fn programs_give_back_a_release() {
    let mut blobs = Blobs::default();
    let disk = release(150 << 20, &mut blobs);
    unpack_with_programs(&disk, &blobs);
}

#[test]
fn programs_say_what_is_in_streams() {
    let (mut blobs, scratch) = (Blobs::default(), tempfile::tempdir().unwrap());
    let disk = release(100 << 20, &mut blobs);
    for (codec, ending, _) in PROGRAMS {
        write(
            &encode(codec, &disk, &Outline::default(), &blobs).0,
            &blobs,
            &scratch.path().join(format!("disk.{ending}")),
        );
    }
    let xz = run(scratch.path(), "xz --robot -lv disk.xz");
    let totals = xz.lines().find(|line| line.starts_with("totals")).unwrap();
    let totals: Vec<&str> = totals.split('\t').collect();
    assert_eq!((totals[1], totals[4], totals[6]), ("1", "104857600", "CRC32"), "{xz}");
    let zst = run(scratch.path(), "zstd -lv disk.zst 2>&1");
    assert!(zst.contains("104857600 B"), "{zst}");
    let gz = run(scratch.path(), "gzip -lv disk.gz");
    assert!(gz.contains("104857600"), "{gz}");
}

/// At most 1.03 times what the usual programs make of the same image.
#[test]
fn streams_are_hardly_longer_than_those_of_programs() {
    let (mut blobs, scratch) = (Blobs::default(), tempfile::tempdir().unwrap());
    let disk = release(64 << 20, &mut blobs);
    write(&disk, &blobs, &scratch.path().join("disk"));
    for (codec, program) in [(Codec::Gz, "pigz -9"), (Codec::Xz, "xz -6"), (Codec::Zst, "zstd -q -18")] {
        let theirs: u64 = run(scratch.path(), &format!("{program} -c disk | wc -c")).trim().parse().unwrap();
        let ours = encode(codec, &disk, &Outline::default(), &blobs).0.len();
        println!("{program}: {theirs} bytes, ours {ours}: {:.4}", ours as f64 / theirs as f64);
        assert!(ours * 100 <= theirs * 103, "{program}: {theirs}, ours {ours}");
    }
}

#[test]
fn tar_finds_the_disk_in_its_archive() {
    let (mut blobs, scratch) = (Blobs::default(), tempfile::tempdir().unwrap());
    let disk = release(400 << 20, &mut blobs);
    let mut tar = Layout::new(1_559_424_892);
    tar.add_file("disk.raw", 0o644, disk).unwrap();
    write(
        &encode(Codec::Gz, &tar.finish(), &Outline::default(), &blobs).0,
        &blobs,
        &scratch.path().join("disk.tar.gz"),
    );
    let listing = run(scratch.path(), "TZ=UTC tar -tvzf disk.tar.gz");
    assert_eq!(listing, "-rw-r--r-- 0/0       419430400 2019-06-01 21:34 disk.raw\n");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn programs_give_back_any_disk(parts in parts()) {
        let mut blobs = Blobs::default();
        let disk = disk(&parts, 512, &mut blobs);
        unpack_with_programs(&disk, &blobs);
    }
}
