//! Everything that is put together of any parts: initramfs, unified kernel image, ISO image, installer archive; each is taken apart again.
//!
//! The input is: version (1 byte), choices (1), exponent of the UKI's alignment (1), then texts and files.
#![no_main]

use std::collections::BTreeMap;
use std::io::Read;

use fuzz::{Blobs, Input, SMALL, bytes, hold_ranges, iso_files};
use image_factory::assemble::cmdline::Profile;
use image_factory::assemble::extension::Metadata;
use image_factory::assemble::initramfs::{Extension, FirmwareEntry, MTIME, initramfs};
use image_factory::assemble::installer::{ArchivedLayer, archive};
use image_factory::assemble::iso::{GrubBios, IsoParts, Loaders, SdBoot, UKI_ALIGNMENT, iso};
use image_factory::assemble::uki::{Uki, UkiParts, uki};
use image_factory::format::grub::BootFile;
use image_factory::format::pe::{HEAD_LEN, Stub};
use image_factory::format::{cpio, tar};
use image_factory::schematic::EnrollKeys;
use image_factory::types::{Arch, Digest, TalosVersion};
use image_factory::virtual_file::VirtualFile;

const VERSIONS: [&str; 6] = ["v1.3.7", "v1.5.0", "v1.9.5", "v1.10.7", "v1.13.2", "v1.14.0-alpha.0"];
/// Stubs of two small sections.
const STUBS: [(Arch, &[u8]); 2] =
    [(Arch::Amd64, include_bytes!("../corpus/pe/x86_64")), (Arch::Arm64, include_bytes!("../corpus/pe/aarch64"))];
/// Longest file that may not be read whole, in bytes: more than an archive or an image in the sum can hold.
const HUGE: u64 = 3 << 30;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let version = TalosVersion::parse(VERSIONS[input.number(1) as usize % 6]).expect("it is one");
    let choice = input.number(1);
    let (arch, stub) = STUBS[(choice & 1) as usize];
    let alignment = 1u32 << (input.number(1) % 17);
    let cmdline = input.text();
    let most = if choice & 2 == 0 { SMALL >> 4 } else { HUGE };
    let kernel = input.file(most);
    let microcode = [input.file(4096), input.file(4096)];
    let mut extensions = Vec::new();
    while !input.is_empty() && extensions.len() < 12 {
        extensions.push(extension(&mut input, &microcode, most));
    }
    let Some(initrd) = check_initramfs(&extensions, choice & 4 != 0, most) else { return };
    hold_ranges(&initrd, &mut Input::new(data));

    let stub = Stub::parse(&stub[..stub.len().min(HEAD_LEN as usize)], VirtualFile::inline(stub)).expect("it is one");
    let profile = Profile { id: "x", title: "X", cmdline: cmdline.clone() };
    let parts = |alignment| UkiParts {
        version: &version,
        arch,
        stub: &stub,
        cmdline: &cmdline,
        uname: (choice & 8 != 0).then_some("6.12.9"),
        splash: VirtualFile::zeros(100),
        linux: kernel.clone(),
        initrd: initrd.clone(),
        profile: (choice & 16 != 0).then_some(&profile),
        timestamp: 1,
        alignment,
    };
    let Ok(first) = uki(&parts(alignment)) else {
        assert!(kernel.len() + initrd.len() > 1 << 31, "small parts find room");
        return;
    };
    check_uki(&first, alignment, &parts(alignment));
    hold_ranges(&first.file, &mut Input::new(data));

    let second = uki(&parts(UKI_ALIGNMENT)).expect("it found room with another alignment");
    check_iso(&second, &version, arch, &kernel, &initrd, choice, data);
    check_archive(&extensions);
});

/// An extension whose firmware is packed as it is prepared: an archive of its own.
fn extension(input: &mut Input<'_>, microcode: &[VirtualFile; 2], most: u64) -> Extension {
    let choice = input.number(1);
    let metadata = Metadata { name: input.text(), description: input.text(), ..Metadata::default() };
    let mut extension = Extension::plain(metadata, input.file(most));
    if choice & 1 != 0 {
        let path = format!("usr/lib/firmware/{}", input.number(1) % 4);
        let mut archive = cpio::Archive::new(MTIME);
        archive.add_file(&path, input.file(1000)).expect("the path is one");
        extension.firmware.push(FirmwareEntry { path, archive: archive.finish() });
    }
    if choice & 2 != 0 {
        [extension.intel_microcode, extension.amd_microcode] = microcode.clone();
    }
    extension
}

/// The initramfs, where its parts can be held; all of them are found in it.
fn check_initramfs(extensions: &[Extension], modules: bool, most: u64) -> Option<VirtualFile> {
    let mut base = cpio::Archive::new(1);
    base.add_file("init", VirtualFile::inline(&b"#!"[..])).expect("the path is one");
    let modules = modules.then(|| Extension::plain(Metadata::default(), VirtualFile::zeros(4096)));
    // Of lengths that are no multiple of 4, too.
    let base = VirtualFile::concat([base.finish(), VirtualFile::zeros(most % 4 + extensions.len() as u64)]);
    let made = initramfs(&base, extensions, modules.as_ref()).expect("no file is too long");
    if made.len() > 16 * SMALL {
        return Some(made);
    }
    let mut reader = cpio::Reader::new(made.reader(Blobs), cpio::Limits { bytes: 32 * SMALL, entries: 1000 });
    let mut found = BTreeMap::new();
    while let Some(entry) = reader.next_entry().expect("what was put together can be read") {
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).expect("contents can be read");
        assert!(found.insert(String::from_utf8(entry.name).expect("text"), contents).is_none());
    }
    assert_eq!(found["init"], b"#!");
    assert!(found.contains_key("extensions.yaml") && found.contains_key("modules.dep.sqsh") == modules.is_some());
    for (n, extension) in extensions.iter().enumerate() {
        assert!(found[&format!("{n}.sqsh")] == bytes(&extension.image), "image {n}");
        assert!(extension.firmware.iter().all(|entry| found.contains_key(&entry.path)));
    }
    let intel = extensions.iter().map(|extension| extension.intel_microcode.clone());
    let intel = bytes(&VirtualFile::concat(intel));
    let name = "kernel/x86/microcode/GenuineIntel.bin";
    assert_eq!(found.get(name), (!intel.is_empty()).then_some(&intel));
    Some(made)
}

/// Every section is where the image says, at the alignment asked for.
fn check_uki(made: &Uki, alignment: u32, parts: &UkiParts<'_>) {
    let head = bytes(&made.file.slice(0..HEAD_LEN));
    let again = Stub::parse(&head, made.file.clone()).expect("what was put together can be read");
    let own = parts.stub.sections().len();
    assert_eq!(again.sections().len(), own + made.sections.len());
    for (header, (name, offset, len)) in again.sections()[own..].iter().zip(&made.sections) {
        assert_eq!(header.name.iter().copied().filter(|byte| *byte != 0).collect::<Vec<_>>(), name.as_bytes());
        assert_eq!((u64::from(header.raw_offset), u64::from(header.virtual_size)), (*offset, *len));
        assert_eq!(offset % u64::from(alignment), 0);
    }
    for (name, file) in [(".linux", &parts.linux), (".initrd", &parts.initrd)] {
        let (offset, len) = made.section(name).expect("it has one");
        assert_eq!(made.file.slice(offset..offset + len), *file);
    }
    for header in &parts.stub.sections()[..own] {
        let placed =
            again.sections().iter().find(|placed| placed.name == header.name).expect("the stub's sections stay");
        assert_eq!(again.data(placed), parts.stub.data(header));
    }
}

/// The ISO image shows kernel, initramfs and UKI by any loader.
fn check_iso(
    uki: &Uki,
    version: &TalosVersion,
    arch: Arch,
    kernel: &VirtualFile,
    initrd: &VirtualFile,
    choice: u64,
    data: &[u8],
) {
    let boot_file = vec![7; 2048 + 512 + choice as usize];
    let facts = BootFile::of(&boot_file);
    let grub = GrubBios { image: VirtualFile::inline(boot_file), facts, boot_code: [0; 440] };
    let loader = VirtualFile::blob(Digest::of(b"loader"), 100_000 + choice);
    let sd_boot = SdBoot { loader: loader.clone(), uki, enroll_keys: EnrollKeys::IfSafe };
    let loaders = match choice >> 5 & 3 {
        0 => Loaders::DualBoot(&grub, sd_boot),
        1 => Loaders::SdBoot(sd_boot),
        _ => Loaders::Grub { bios: &grub, efi: loader, kernel: kernel.clone(), initramfs: initrd.clone() },
    };
    let by_grub = !matches!(loaders, Loaders::SdBoot(_));
    let by_uki = !matches!(loaders, Loaders::Grub { .. });
    let parts = IsoParts { version, arch, loaders, cmdline: "a b", mtime: 1 };
    let Ok((image, outline)) = iso(&parts) else {
        // FAT ends at 4 GiB.
        assert!(uki.file.len() > u64::from(u32::MAX), "a small UKI finds room");
        return;
    };
    assert_eq!(image.len() % 2048, 0);
    for at in [0, image.len() / 2, image.len() - 1] {
        assert!(outline.cuts(&(0..image.len())).iter().all(|cut| *cut < image.len()));
        let _ = outline.name_at(at);
    }
    let files = iso_files(&image);
    if by_grub {
        assert_eq!(files["boot/vmlinuz"], *kernel);
        assert_eq!(files["boot/initramfs.xz"], *initrd);
        assert!(files.contains_key("boot/grub/grub.cfg"));
    }
    if by_uki {
        assert_eq!(files[&format!("EFI/Linux/Talos-{version}.efi")], uki.file);
    }
    hold_ranges(&image, &mut Input::new(data));
}

/// An archive with layers of every kind, one of them twice.
fn check_archive(extensions: &[Extension]) {
    let types = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip", "x+zstd"];
    let layers = extensions.iter().zip(types.iter().cycle()).map(|(extension, media_type)| ArchivedLayer {
        media_type,
        digest: Digest::of(&extension.image.encode()),
        file: extension.image.clone(),
    });
    let layers: Vec<_> = layers.collect();
    if layers.iter().map(|layer| layer.file.len()).sum::<u64>() > 16 * SMALL {
        return;
    }
    let made = archive("r.example/installer:v1", b"{}", &layers).expect("its names are names");
    let mut reader = tar::Reader::new(made.reader(Blobs), tar::Limits { bytes: 32 * SMALL, entries: 1000 });
    let mut found = BTreeMap::new();
    while let Some(entry) = reader.next_entry().expect("what was put together can be read") {
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).expect("contents can be read");
        assert!(found.insert(entry.path, contents).is_none(), "an entry twice");
    }
    assert!(found.contains_key(b"manifest.json".as_slice()));
    for layer in &layers {
        let hex = layer.digest.hex();
        let entry = found.iter().find(|(path, _)| path.starts_with(hex.as_bytes())).expect("every layer is there");
        assert!(*entry.1 == bytes(&layer.file));
    }
}
