use std::collections::HashMap;
use std::io::Read as _;
use std::ops::Range;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::assemble::uki::{UkiParts, uki};
use crate::format::pe::{HEAD_LEN, Stub};
use crate::types::Digest;
use crate::virtual_file::{ReadBlob, ReadError};

const MTIME: u32 = 1_559_424_892;

/// Blobs in memory, so that the layout cannot look into them.
#[derive(Default)]
struct Blobs(HashMap<Digest, Bytes>);

impl ReadBlob for &Blobs {
    fn read(&self, digest: &Digest, range: Range<u64>) -> Result<Bytes, ReadError> {
        let blob = self.0.get(digest).ok_or(ReadError::Missing(*digest))?;
        Ok(blob.slice(range.start as usize..range.end as usize))
    }
}

impl Blobs {
    fn add(&mut self, bytes: Vec<u8>) -> VirtualFile {
        let (digest, len) = (Digest::of(&bytes), bytes.len() as u64);
        self.0.insert(digest, bytes.into());
        VirtualFile::blob(digest, len)
    }

    /// `len` bytes that no other part has.
    fn noise(&mut self, seed: u8, len: usize) -> VirtualFile {
        self.add((0..len).map(|n| seed ^ (n as u8).wrapping_mul(31) ^ (n >> 8) as u8).collect())
    }
}

/// What an image is made of, but for the bytes.
#[derive(Clone, Debug)]
struct Recipe {
    loader: Bootloader,
    arch: Arch,
    version: &'static str,
    cmdline: String,
    kernel: usize,
    initramfs: usize,
    systemd_boot: usize,
    grub: usize,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let loader = prop_oneof![Just(Bootloader::DualBoot), Just(Bootloader::SdBoot), Just(Bootloader::Grub)];
    let arch = prop_oneof![Just(Arch::Amd64), Just(Arch::Arm64)];
    let version = prop_oneof![Just("1.2.0"), Just("1.9.5"), Just("1.13.2"), Just("1.14.0-beta.0")];
    let sizes = (1usize..300_000, 1usize..300_000, 1usize..70_000, 2560usize..50_000);
    (loader, arch, version, "[ -~]{0,300}", sizes).prop_map(|(loader, arch, version, cmdline, sizes)| {
        let (kernel, initramfs, systemd_boot, grub) = sizes;
        Recipe { loader, arch, version, cmdline, kernel, initramfs, systemd_boot, grub }
    })
}

fn make(recipe: &Recipe, blobs: &mut Blobs) -> (VirtualFile, Outline) {
    let version = TalosVersion::parse(recipe.version).unwrap();
    let (kernel, initramfs) = (blobs.noise(1, recipe.kernel), blobs.noise(2, recipe.initramfs));
    let mut stub = Vec::new();
    let golden: &[u8] = include_bytes!("../../../tests/golden/uki/stub-nosym.efi.gz");
    flate2::read::GzDecoder::new(golden).read_to_end(&mut stub).unwrap();
    let head = stub[..HEAD_LEN as usize].to_vec();
    let stub = Stub::parse(&head, blobs.add(stub)).unwrap();
    let uki = uki(&UkiParts {
        version: &version,
        // The stub at hand is one for it.
        arch: Arch::Amd64,
        stub: &stub,
        cmdline: &recipe.cmdline,
        uname: None,
        splash: blobs.noise(3, 1000),
        linux: kernel.clone(),
        initrd: initramfs.clone(),
        profile: None,
        timestamp: MTIME,
        alignment: UKI_ALIGNMENT,
    })
    .unwrap();
    let image = vec![0; recipe.grub];
    let facts = BootFile::of(&image);
    let bios = GrubBios { image: blobs.add(image), facts, boot_code: [7; BOOT_CODE_LEN] };
    let loader = blobs.noise(4, recipe.systemd_boot);
    let sd_boot = SdBoot { loader: loader.clone(), uki: &uki, enroll_keys: EnrollKeys::Off };
    let loaders = match recipe.loader {
        Bootloader::SdBoot => Loaders::SdBoot(sd_boot),
        Bootloader::Grub => Loaders::Grub { bios: &bios, efi: loader, kernel, initramfs },
        _ => Loaders::DualBoot(&bios, sd_boot),
    };
    let parts = IsoParts { version: &version, arch: recipe.arch, loaders, cmdline: &recipe.cmdline, mtime: MTIME };
    iso(&parts).unwrap()
}

/// The bytes of the first part whose name ends so.
fn part<'a>(outline: &Outline, whole: &'a [u8], name: &str) -> &'a [u8] {
    let len = whole.len() as u64;
    let mut cuts = vec![0];
    cuts.extend(outline.cuts(&(0..len)));
    cuts.push(len);
    let is_part = |at: u64| outline.name_at(at).is_some_and(|found| found.ends_with(name));
    let start = cuts.iter().copied().find(|at| is_part(*at)).unwrap();
    let end = cuts.iter().copied().find(|at| *at > start && !is_part(*at)).unwrap();
    &whole[start as usize..end as usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_ranges_of_any_image_are_slices_of_the_whole(
        recipe in recipe(),
        ranges in prop::collection::vec((any::<Index>(), any::<Index>(), any::<bool>()), 1..24),
        max in 64u64..100_000,
    ) {
        let mut blobs = Blobs::default();
        let (image, outline) = make(&recipe, &mut blobs);
        let whole = image.read_all(&&blobs).unwrap();
        prop_assert_eq!(whole.len() as u64, image.len());
        prop_assert_eq!(image.len() % u64::from(UKI_ALIGNMENT), 0);
        for (from, to, short) in ranges {
            let from = from.index(whole.len());
            let most = (whole.len() - from).min(if short { 5000 } else { 2_000_000 });
            let range = from as u64..(from + to.index(most + 1)) as u64;
            let want = &whole[range.start as usize..range.end as usize];
            prop_assert!(image.slice(range.clone()).read_all(&&blobs).unwrap() == want, "{:?}", range);
            let mut pieced = Vec::new();
            for piece in image.pieces(range.clone(), &blobs, max) {
                let piece = piece.unwrap();
                prop_assert!(piece.len() as u64 <= max);
                pieced.extend_from_slice(&piece);
            }
            prop_assert!(pieced == want, "{:?} by {}", range, max);
        }
        prop_assert_eq!(make(&recipe, &mut blobs).0.encode(), image.encode());
        // What the plan calls the kernel is the kernel, shared or not.
        let kernel = blobs.noise(1, recipe.kernel).read_all(&&blobs).unwrap();
        let name = if recipe.loader == Bootloader::SdBoot { ".linux" } else { "boot/vmlinuz" };
        prop_assert!(part(&outline, &whole, name).starts_with(&kernel));
    }
}
