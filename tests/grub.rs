//! GRUB images against those of `grub-mkimage`, and their places against those that xorriso gives them.
//!
//! Debian packages: grub-common, grub-pc-bin, grub-efi-amd64-bin, xorriso; and, unpacked by `conformance prepare`, the
//! `grub-*-bin` packages of Debian 13.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use image_factory::assemble::grub_cfg::{DISK_BIOS, DISK_EFI, ISO_BIOS, ISO_EFI};
use image_factory::format::grub::*;
use image_factory::types::Digest;
use image_factory::virtual_file::{ReadBlob, ReadError, VirtualFile};

/// Everything here is inline.
struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &Digest, _: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Folders of GRUB's platforms: of the machine's packages (2.06 on Debian 12), and of the unpacked ones (2.12).
fn folders(platform: GrubPlatform) -> Vec<PathBuf> {
    let package = match platform {
        GrubPlatform::I386Pc => "grub-pc-bin:amd64",
        GrubPlatform::X86_64Efi => "grub-efi-amd64-bin:amd64",
        GrubPlatform::Arm64Efi => "grub-efi-arm64-bin:arm64",
    };
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let packages = cache.join("image-factory-conformance/packages");
    let lock = fs::read(packages.join("lock.json")).expect("packages unpacked by `conformance prepare`");
    let lock: serde_json::Value = serde_json::from_slice(&lock).unwrap();
    let unpacked = packages.join(lock["packages"][package]["sha256"].as_str().expect(package));
    let mut folders = vec![unpacked.join("usr/lib/grub").join(platform.folder())];
    if platform != GrubPlatform::Arm64Efi {
        folders.push(Path::new("/usr/lib/grub").join(platform.folder()));
    }
    folders
}

fn load(platform: GrubPlatform, path: &Path) -> GrubFolder {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().unwrap().is_file());
    let read = |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap().into());
    GrubFolder::new(platform, files.map(read)).unwrap()
}

/// What `grub-mkimage` makes of the same.
fn mkimage(format: &str, folder: &Path, core: &Core<'_>) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let (out, config) = (scratch.path().join("out"), scratch.path().join("config"));
    let mut command = Command::new("grub-mkimage");
    command.args(["-O", format, "-p", core.prefix, "-d"]).arg(folder).arg("-o").arg(&out);
    if let Some(text) = core.config {
        fs::write(&config, text).unwrap();
        command.arg("-c").arg(config);
    }
    run(command.args(core.modules));
    fs::read(out).unwrap()
}

/// The plain image in a core image, and the core image without its stream and that stream's length.
fn unpack(core: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let field = |at: usize| u32::from_le_bytes(core[at..at + 4].try_into().unwrap()) as usize;
    let (stream_len, plain_len) = (field(512 + 8), field(512 + 12));
    let stream_start = core.len() - stream_len;
    let count = u16::from_le_bytes(core[0x1fc..0x1fe].try_into().unwrap());
    assert_eq!(usize::from(count), (core.len() - 512).div_ceil(512), "sectors behind the first");
    let mut options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
    options.literal_context_bits(3).literal_position_bits(0).position_bits(2);
    let mut decoder =
        liblzma::stream::Stream::new_raw_decoder(liblzma::stream::Filters::new().lzma1(&options)).unwrap();
    let mut plain = Vec::with_capacity(plain_len);
    decoder.process_vec(&core[stream_start..], &mut plain, liblzma::stream::Action::Run).unwrap();
    assert_eq!(plain.len(), plain_len);
    let mut head = core[..stream_start].to_vec();
    head[0x1fc..0x1fe].fill(0);
    head[512 + 8..512 + 12].fill(0);
    (plain, head)
}

fn assert_same(ours: &[u8], reference: &[u8], what: &str) {
    let differs = ours.iter().zip(reference).position(|(a, b)| a != b);
    assert!(
        differs.is_none() && ours.len() == reference.len(),
        "{what}: {} and {} bytes, {differs:x?}",
        ours.len(),
        reference.len()
    );
}

/// Core images to compare: what is served, a small one, one with a configuration of a length that needs no padding.
fn cores(platform: GrubPlatform) -> Vec<Core<'static>> {
    let small = Core { modules: &["normal"], prefix: "/boot/grub", config: None };
    let configured = Core { modules: &["linux", "ls", "linux"], prefix: "(,gpt3)/grub", config: Some("1234567") };
    let served = if platform == GrubPlatform::I386Pc { [ISO_BIOS, DISK_BIOS] } else { [ISO_EFI, DISK_EFI] };
    [served.as_slice(), &[small, configured]].concat()
}

#[test]
fn uefi_applications_are_those_of_grub_mkimage() {
    let mut seen = HashMap::new();
    for (platform, check) in [(GrubPlatform::X86_64Efi, "--is-x86_64-efi"), (GrubPlatform::Arm64Efi, "--is-arm64-efi")]
    {
        for path in folders(platform) {
            let folder = load(platform, &path);
            for core in cores(platform) {
                let ours = efi_application(&folder, &core).unwrap();
                let reference = mkimage(platform.folder(), &path, &core);
                assert_same(&ours, &reference, &format!("{} {core:?}", path.display()));
                let file = tempfile::NamedTempFile::new().unwrap();
                fs::write(&file, &ours).unwrap();
                run(Command::new("grub-file").arg(check).arg(file.path()));
            }
            *seen.entry((platform, folder.version().unwrap())).or_insert(0) += 1;
        }
    }
    assert!(seen.keys().filter(|(_, version)| *version == GrubVersion(2, 12)).count() == 2, "{seen:?}");
}

#[test]
fn bios_cores_unpack_to_those_of_grub_mkimage() {
    for path in folders(GrubPlatform::I386Pc) {
        let folder = load(GrubPlatform::I386Pc, &path);
        for core in cores(GrubPlatform::I386Pc) {
            let what = format!("{} {core:?}", path.display());
            let (ours, reference) = (core_image(&folder, &core).unwrap(), mkimage("i386-pc", &path, &core));
            let ((our_plain, our_head), (plain, head)) = (unpack(&ours), unpack(&reference));
            assert_same(&our_plain, &plain, &what);
            assert_same(&our_head, &head, &what);
            assert!(ours.len() <= reference.len() + reference.len() / 100, "{} and {}", ours.len(), reference.len());
        }
    }
}

/// xorriso writes the boot information table and the two sector numbers of GRUB itself, into an image that it makes of
/// a boot file; what we write into the same boot file must be the same.
#[test]
fn places_on_an_iso_are_those_of_xorriso() {
    for path in folders(GrubPlatform::I386Pc) {
        let folder = load(GrubPlatform::I386Pc, &path);
        let image = el_torito_image(&folder, &ISO_BIOS).unwrap();
        let reference = mkimage("i386-pc-eltorito", &path, &ISO_BIOS);
        assert_same(&image[64..2048], &reference[64..2048], "cdboot");

        let scratch = tempfile::tempdir().unwrap();
        let (root, iso) = (scratch.path().join("root"), scratch.path().join("iso"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("filler"), vec![7; 100_000]).unwrap();
        fs::write(root.join("eltorito.img"), &image).unwrap();
        let mut command = Command::new("xorriso");
        command.args(["-as", "mkisofs", "-r", "-b", "eltorito.img", "-no-emul-boot", "-boot-load-size", "4"]);
        command.args(["-boot-info-table", "--grub2-boot-info", "--grub2-mbr"]).arg(path.join("boot_hybrid.img"));
        run(command.arg("-o").arg(&iso).arg(root));
        let iso = fs::read(iso).unwrap();

        // El Torito: the boot record names the catalog, whose first entry names the boot file.
        let field = |at: usize| u32::from_le_bytes(iso[at..at + 4].try_into().unwrap());
        let block = field(field(17 * 2048 + 0x47) as usize * 2048 + 0x28);
        let start = block as usize * 2048;
        let placed = BootFile::of(&image).place(&VirtualFile::inline(image.clone()), block).read_all(&NoBlobs).unwrap();
        assert_same(&placed, &iso[start..start + image.len()], "boot file");
        let code = place_hybrid_boot_code(&hybrid_boot_code(&folder).unwrap(), block);
        assert_same(&code, &iso[..BOOT_CODE_LEN], "hybrid boot code");
    }
}

#[test]
fn places_on_a_disk_start_one_another() {
    for path in folders(GrubPlatform::I386Pc) {
        let folder = load(GrubPlatform::I386Pc, &path);
        let boot = fs::read(path.join("boot.img")).unwrap();
        let code = place_disk_boot_code(&disk_boot_code(&folder).unwrap(), 0x1_0000_0003);
        let changed: Vec<usize> = (0..BOOT_CODE_LEN).filter(|at| code[*at] != boot[*at]).collect();
        assert!(changed.iter().all(|at| (0x5c..0x64).contains(at) || (0x66..0x68).contains(at)), "{changed:x?}");
        assert_eq!(code[0x5c..0x64], 0x1_0000_0003u64.to_le_bytes());
        assert_eq!((code[0x64], &code[0x66..0x68]), (0xff, &[0x90, 0x90][..]));

        let core = core_image(&folder, &DISK_BIOS).unwrap();
        let placed = place_core(&VirtualFile::inline(core.clone()), 2048).read_all(&NoBlobs).unwrap();
        assert_eq!(placed[0x1f4..0x1fc], 2049u64.to_le_bytes());
        assert_same(&placed[0x1fc..], &core[0x1fc..], "behind the sector");
        assert_same(&placed[..0x1f4], &core[..0x1f4], "before the sector");

        let protected = protect(core.clone(), 2048).unwrap();
        let sectors = core.len().div_ceil(512) * 2;
        assert_eq!(protected.len(), sectors * 512);
        assert_eq!(protected[0x1fc..0x1fe], (sectors as u16 - 1).to_le_bytes());
        assert_eq!(protected[512 + 0x10..512 + 0x14], ((protected.len() - core.len()) as u32).to_le_bytes());
    }
}
