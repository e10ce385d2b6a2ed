//! ISO images against programs that read them: xorriso, isoinfo, isovfy, bsdtar, 7z, GRUB, sgdisk, and Linux itself
//! where it can be asked to mount.
//!
//! Debian packages: dosfstools, gdisk, genisoimage, grub-common, libarchive-tools, mtools, p7zip-full, xorriso.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytes::Bytes;
use image_factory::format::iso9660::{BiosBoot, Content, GptGuids, Image, PartitionTable};
use image_factory::types::Digest;
use image_factory::virtual_file::{ReadBlob, ReadError, VirtualFile};

const EPOCH: u32 = 1_559_424_892;

/// Everything here is inline.
struct NoBlobs;

impl ReadBlob for NoBlobs {
    fn read(&self, digest: &Digest, _: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Missing(*digest))
    }
}

fn output(tool: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(tool);
    // The image's dates are in UTC, and so are those that are compared.
    command.args(arguments).env("TZ", "UTC").env("LC_ALL", "C.UTF-8").env("MTOOLS_SKIP_CHECK", "1");
    command.output().unwrap_or_else(|error| panic!("{tool}: {error}"))
}

/// Runs a tool to its end; all that it says.
fn run(tool: &str, arguments: &[&str]) -> String {
    let output = output(tool, arguments);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{tool} {arguments:?}: {said}");
    said
}

/// Bytes that no other seed gives and that do not repeat.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn write(path: &Path, file: &VirtualFile) {
    io::copy(&mut file.reader(NoBlobs), &mut File::create(path).unwrap()).unwrap();
}

/// What a tree should hold: contents by path, `None` for a directory.
type Expected = BTreeMap<String, Option<Vec<u8>>>;

/// What a folder holds.
fn folder(root: &Path) -> Expected {
    let mut all = Expected::new();
    let mut todo = vec![root.to_path_buf()];
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if entry.is_dir() {
                all.insert(name, None);
                todo.push(entry);
            } else {
                all.insert(name, Some(fs::read(&entry).unwrap()));
            }
        }
    }
    all
}

/// A FAT file system as a UEFI image, and what lies in it: kernel and initial file system inside of the "UKI".
struct Fat {
    image: VirtualFile,
    files: BTreeMap<&'static str, Vec<u8>>,
}

/// Where the kernel lies in the UKI, and its length.
const KERNEL: Range<usize> = 4096..4096 + 700_001;
/// The same of the initial file system.
const INITRAMFS: Range<usize> = 704_512..704_512 + 999_999;

fn fat(folder: &Path, options: &[&str]) -> Fat {
    let path = folder.join("fat.img");
    File::create(&path).unwrap().set_len(36 << 20).unwrap();
    let image = path.to_str().unwrap();
    run("mkfs.vfat", &[options, &["-F", "16", "-n", "EFI", "-i", "1234abcd", image]].concat());
    run("mmd", &["-i", image, "::EFI", "::EFI/BOOT", "::EFI/Linux", "::loader"]);
    let files = BTreeMap::from([
        ("EFI/BOOT/BOOTX64.EFI", noise(1, 124_416)),
        ("EFI/Linux/Talos-v1.13.2.efi", noise(2, 2_000_000)),
        ("loader/loader.conf", noise(3, 65)),
        ("loader/random-seed", noise(4, 32)),
    ]);
    for (name, contents) in &files {
        let from = folder.join("contents");
        fs::write(&from, contents).unwrap();
        run("mcopy", &["-i", image, from.to_str().unwrap(), &format!("::{name}")]);
    }
    Fat { image: VirtualFile::inline(fs::read(&path).unwrap()), files }
}

impl Fat {
    /// Where bytes lie in the image, found by nothing but search.
    fn shared(&self, contents: &[u8]) -> Content {
        let image = self.image.read_all(&NoBlobs).unwrap();
        let mut starts = (0..image.len()).step_by(2048);
        let offset = starts.find(|at| image[*at..].starts_with(contents)).expect("a file is not in the FAT image");
        Content::Shared { offset: offset as u64, len: contents.len() as u64 }
    }

    /// Records for all files.
    fn records(&self) -> BTreeMap<String, Content> {
        self.files.iter().map(|(name, contents)| ((*name).to_owned(), self.shared(contents))).collect()
    }
}

/// An image with all that can be in one, and what readers should find.
struct Sample {
    files: BTreeMap<String, Content>,
    expected: Expected,
}

impl Sample {
    fn add(&mut self, path: &str, content: Content, contents: Option<Vec<u8>>) {
        for (at, _) in path.match_indices('/') {
            self.expected.insert(path[..at].to_owned(), None);
        }
        self.expected.insert(path.to_owned(), contents);
        self.files.insert(path.to_owned(), content);
    }

    fn own(&mut self, path: &str, contents: Vec<u8>) {
        self.add(path, Content::File(VirtualFile::inline(contents.clone())), Some(contents));
    }

    fn shared(fat: &Fat) -> Self {
        let mut sample = Self { files: BTreeMap::new(), expected: BTreeMap::new() };
        for (path, content) in fat.records() {
            sample.add(&path, content, Some(fat.files[path.as_str()].clone()));
        }
        sample
    }

    /// A GRUB tree beside it.
    fn dual_boot(fat: &Fat) -> Self {
        let mut sample = Self::shared(fat);
        let uki = &fat.files["EFI/Linux/Talos-v1.13.2.efi"];
        for (path, range) in [("boot/vmlinuz", KERNEL), ("boot/initramfs.xz", INITRAMFS)] {
            sample.add(path, fat.shared(&uki[range.clone()]), Some(uki[range].to_vec()));
        }
        sample.own("boot/grub/grub.cfg", b"set timeout=3\n".to_vec());
        for module in 0..150 {
            // So many that the directory has several sectors; names differ only in what identifiers cannot hold.
            let name =
                format!("boot/grub/i386-pc/a-rather-long-module-name-{}{module}.mod", ["-", "_", "+"][module % 3]);
            sample.own(&name, noise(module as u32 + 10, module * 31));
        }
        sample.add("boot/grub/fonts", Content::Directory, None);
        sample.own("empty", Vec::new());
        sample.own(&format!("{}.txt", "n".repeat(116)), noise(7, 3000));
        sample.own("grün & blau.txt", noise(8, 5));
        sample.own("1/2/3/4/5/6/7/deep", noise(9, 2048));
        sample
    }
}

const BOOT_IMAGE: &str = "boot/grub/i386-pc/eltorito.img";

/// A hybrid image that a BIOS takes for GRUB's, at `iso`; what is in it.
fn hybrid(fat: &Fat, iso: &Path) -> Expected {
    let mut sample = Sample::dual_boot(fat);
    let blob = VirtualFile::inline(noise(100, 48_379));
    let patches = boot_info(&blob);
    let boot_code = |lba: u32| {
        let mut code = [0; 440];
        code.copy_from_slice(&noise(101, 440));
        code[0x1b0..].copy_from_slice(&(u64::from(lba) * 4 + 4).to_le_bytes());
        code
    };
    let image = Image {
        volume_id: "TALOS_V1_13_2",
        volume_set_id: "Talos-v1.13.2",
        mtime: EPOCH,
        files: &sample.files,
        bios: Some(BiosBoot { path: BOOT_IMAGE, image: &blob, patches: &patches, boot_code: &boot_code }),
        uefi: Some(&fat.image),
        partitions: PartitionTable::Gpt(GptGuids::of("Talos-v1.13.2")),
    };
    write(iso, &image.layout().unwrap());
    let lba = iso_lba(iso, BOOT_IMAGE);
    let mut patched = blob.read_all(&NoBlobs).unwrap().to_vec();
    for (at, bytes) in patches(lba) {
        patched[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
    }
    sample.expected.insert(BOOT_IMAGE.to_owned(), Some(patched));
    sample.expected
}

/// The boot information table and block list that GRUB wants in its El Torito image.
fn boot_info(blob: &VirtualFile) -> impl Fn(u32) -> Vec<(u64, Bytes)> {
    let bytes = blob.read_all(&NoBlobs).unwrap().to_vec();
    move |lba| {
        let mut bytes = bytes.clone();
        let block = (u64::from(lba) * 4 + 5).to_le_bytes();
        bytes[2548..2556].copy_from_slice(&block);
        let len = bytes.len() as u32;
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let words = bytes[64..].chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        let sum = words.fold(0u32, u32::wrapping_add);
        let mut table: Vec<u8> = [16, lba, len, sum].iter().flat_map(|word| word.to_le_bytes()).collect();
        table.resize(56, 0);
        vec![(8, table.into()), (2548, block.to_vec().into())]
    }
}

/// The first sector of a file, as xorriso tells it.
fn iso_lba(iso: &Path, path: &str) -> u32 {
    let find = ["-indev", iso.to_str().unwrap(), "-find", &format!("/{path}"), "-exec", "report_lba", "--"];
    let said = run("xorriso", &find);
    let line = said.lines().find(|line| line.starts_with("File data lba:")).unwrap_or_else(|| panic!("{said}"));
    line.split([':', ',']).nth(2).unwrap().trim().parse().unwrap()
}

/// All readers find all that is there. The catalog is a file, too.
fn assert_read(iso: &Path, expected: &Expected) {
    let place = tempfile::tempdir().unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let image = text(iso);
    let same = |name: &str, folder: Expected| {
        let mut folder = folder;
        assert_eq!(folder.remove("boot.catalog").flatten().map(|bytes| bytes.len()), Some(2048), "{name}");
        for (path, contents) in expected {
            assert!(folder.get(path) == Some(contents), "{name}: {path}");
        }
        assert_eq!(folder.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}");
    };
    let sub = |name: &str| {
        let path = place.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };

    let xorriso = sub("xorriso");
    let said = run("xorriso", &["-osirrox", "on", "-indev", &image, "-extract", "/", &text(&xorriso)]);
    assert!(!said.contains("FAILURE") && !said.contains("SORRY") && !said.contains("WARNING"), "{said}");
    same("xorriso", folder(&xorriso));
    let said = run("xorriso", &["-indev", &image, "-check_media", "--"]);
    assert!(said.contains("Media region :") && !said.contains("- unreadable"), "{said}");
    assert!(said.contains("Media checks :") || said.contains("+ good"), "{said}");

    let bsdtar = sub("bsdtar");
    assert_eq!(run("bsdtar", &["-xf", &image, "-C", &text(&bsdtar)]), "");
    same("bsdtar", folder(&bsdtar));

    let seven = sub("7z");
    run("7z", &["t", "-bd", &image]);
    run("7z", &["x", "-bd", &format!("-o{}", text(&seven)), &image]);
    let mut unpacked = folder(&seven);
    unpacked.retain(|path, _| !path.starts_with("[BOOT]"));
    same("7z", unpacked);

    let listing = run("isoinfo", &["-l", "-R", "-i", &image]);
    for path in expected.keys() {
        let name = path.rsplit('/').next().unwrap();
        assert!(listing.lines().any(|line| line.trim_end().ends_with(name)), "isoinfo: {path}\n{listing}");
    }
    let verdict = run("isovfy", &[&image]);
    assert!(verdict.contains("No errors found"), "{verdict}");

    if let Some(mounted) = Mounted::new(iso, &sub("mnt"), "iso9660", 0) {
        same("Linux", folder(&mounted.0));
    }
}

/// A file system that Linux has mounted; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` on a machine without loop devices or the right to mount.
    fn new(image: &Path, on: &Path, kind: &str, offset: u64) -> Option<Self> {
        let options = format!("ro,loop,offset={offset}");
        let (image, folder) = (image.to_str().unwrap(), on.to_str().unwrap());
        let output = output("mount", &["-t", kind, "-o", &options, image, folder]);
        if output.status.success() {
            return Some(Self(on.to_path_buf()));
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // A file system that the kernel has refused is a mistake of ours; a missing device or right is not.
        assert!(!said.contains("wrong fs type"), "{said}");
        let _ = writeln!(io::stderr(), "Linux could not be asked to mount {kind}: {said}");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// The lines of xorriso's reports on booting, in words with single spaces between them.
fn reports(iso: &Path) -> String {
    let system = "-report_system_area";
    let said =
        run("xorriso", &["-indev", iso.to_str().unwrap(), "-report_el_torito", "plain", system, "plain", "-pvd_info"]);
    said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn assert_lines(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.lines().any(|other| other == *line), "no line {line:?} in:\n{said}");
    }
}

#[test]
fn a_hybrid_image_is_read_by_all() {
    let place = tempfile::tempdir().unwrap();
    let fat = fat(place.path(), &["-s", "4"]);
    let iso = place.path().join("hybrid.iso");
    let expected = hybrid(&fat, &iso);
    assert_read(&iso, &expected);

    let said = reports(&iso);
    let blocks = fs::metadata(&iso).unwrap().len() / 512;
    let uefi = 2048;
    assert_lines(
        &said,
        &[
            "Volume Id : TALOS_V1_13_2",
            "Volume Set Id: Talos-v1.13.2",
            "Creation Time: 2019060121345200",
            "Modif. Time : 2019060121345200",
            "El Torito cat path : /boot.catalog",
            &format!("El Torito boot img : 1 BIOS y none 0x0000 0x00 4 {}", iso_lba(&iso, BOOT_IMAGE)),
            &format!("El Torito img path : 1 /{BOOT_IMAGE}"),
            "El Torito img opts : 1 boot-info-table grub2-boot-info",
            &format!("El Torito boot img : 2 UEFI y none 0x0000 0x00 0 {}", uefi / 4),
            "System area summary: MBR protective-msdos-label grub2-mbr cyl-align-off GPT",
            &format!("ISO image size/512 : {blocks}"),
            &format!("MBR partition : 1 0x00 0xee 1 {}", blocks - 1),
            "GPT type GUID : 1 a2a0d0ebe5b9334487c068b6b72699c7",
            "GPT partition flags: 1 0x1000000000000001",
            &format!("GPT start and size : 1 64 {}", uefi - 64),
            "GPT type GUID : 2 28732ac11ff8d211ba4b00a0c93ec93b",
            "GPT partition flags: 2 0x0000000000000000",
            &format!("GPT start and size : 2 {uefi} 73728"),
        ],
    );
    let verdict = run("sgdisk", &["-v", iso.to_str().unwrap()]);
    assert!(verdict.contains("No problems found"), "{verdict}");

    // GRUB itself finds files by their true names, and reads them.
    for (path, contents) in &expected {
        if let Some(contents) = contents {
            let read = output("grub-fstest", &[iso.to_str().unwrap(), "cat", &format!("/{path}")]);
            assert!(read.status.success() && read.stdout == *contents, "{path}: {read:?}");
        }
    }

    let mount = place.path().join("mnt");
    fs::create_dir(&mount).unwrap();
    if let Some(mounted) = Mounted::new(&iso, &mount, "vfat", uefi * 512) {
        let found = folder(&mounted.0);
        for (path, contents) in &fat.files {
            assert!(found[*path].as_ref() == Some(contents), "{path}");
        }
    }
}

/// Partition types are those of the reference's ISOs that boot by UEFI alone.
#[test]
fn an_image_for_uefi_alone_is_read_by_all() {
    let place = tempfile::tempdir().unwrap();
    let fat = fat(place.path(), &["-s", "8"]);
    let iso = place.path().join("uefi.iso");
    let sample = Sample::shared(&fat);
    let image = Image {
        volume_id: "TALOS_V1_13_2",
        volume_set_id: "Talos-v1.13.2",
        mtime: EPOCH,
        files: &sample.files,
        bios: None,
        uefi: Some(&fat.image),
        partitions: PartitionTable::Mbr,
    };
    write(&iso, &image.layout().unwrap());
    assert_read(&iso, &sample.expected);
    assert_lines(
        &reports(&iso),
        &[
            "El Torito boot img : 1 UEFI y none 0x0000 0x00 0 512",
            "MBR partition : 1 0x00 0x83 64 1984",
            "MBR partition : 2 0x00 0xef 2048 73728",
        ],
    );
    // A pipe cannot be read twice, and this form does not ask for it.
    let pipe = format!("cat {} | bsdtar -tf - > {}/listing", iso.display(), place.path().display());
    assert_eq!(run("sh", &["-c", &pipe]), "");

    let gpt = Image { partitions: PartitionTable::Gpt(GptGuids::of("x")), ..image };
    write(&iso, &gpt.layout().unwrap());
    assert_read(&iso, &sample.expected);
    assert!(run("sgdisk", &["-v", iso.to_str().unwrap()]).contains("No problems found"));
}

/// As Talos before 1.10: the UEFI image is a floppy's, and a file in the tree as well.
#[test]
fn a_uefi_image_may_be_a_file_too() {
    let place = tempfile::tempdir().unwrap();
    let floppy = noise(5, 2880 << 10);
    let mut sample = Sample { files: BTreeMap::new(), expected: BTreeMap::new() };
    let whole = Content::Shared { offset: 0, len: floppy.len() as u64 };
    sample.add("efi.img", whole, Some(floppy.clone()));
    sample.own("boot/vmlinuz", noise(6, 99_999));
    let floppy = VirtualFile::inline(floppy);
    let image = Image {
        volume_id: "ISOIMAGE",
        volume_set_id: "",
        mtime: EPOCH,
        files: &sample.files,
        bios: None,
        uefi: Some(&floppy),
        partitions: PartitionTable::Gpt(GptGuids::of("Talos-v1.9.5")),
    };
    let iso = place.path().join("floppy.iso");
    write(&iso, &image.layout().unwrap());
    assert_read(&iso, &sample.expected);
    let uefi = iso_lba(&iso, "efi.img");
    assert_lines(
        &reports(&iso),
        &[
            &format!("El Torito boot img : 1 UEFI y none 0x0000 0x00 5760 {uefi}"),
            "El Torito img path : 1 /efi.img",
            "GPT type GUID : 2 28732ac11ff8d211ba4b00a0c93ec93b",
            &format!("GPT start and size : 2 {} 5760", uefi * 4),
            "GPT partition path : 2 /efi.img",
        ],
    );
    assert!(run("sgdisk", &["-v", iso.to_str().unwrap()]).contains("No problems found"));
}

/// A file of more than 4 GiB has several sections, which readers join. It is sparse on disk.
#[test]
fn a_huge_file_is_read_across_its_sections() {
    let place = tempfile::tempdir().unwrap();
    let seam = (1u64 << 32) - 2048;
    let (front, back) = (noise(20, 5000), noise(21, 70_000));
    let parts = [
        VirtualFile::inline(front.clone()),
        VirtualFile::zeros(seam - 5000 - 30_000),
        VirtualFile::inline(back.clone()),
    ];
    let huge = VirtualFile::concat(parts);
    let files = BTreeMap::from([("huge".to_owned(), Content::File(huge.clone()))]);
    let image = Image {
        volume_id: "HUGE",
        volume_set_id: "",
        mtime: EPOCH,
        files: &files,
        bios: None,
        uefi: None,
        partitions: PartitionTable::Mbr,
    };
    let image = image.layout().unwrap();
    let iso = place.path().join("huge.iso");
    let file = File::create(&iso).unwrap();
    file.set_len(image.len()).unwrap();
    // All but the zeros in the middle.
    for range in [0..1 << 20, seam - (1 << 20)..image.len()] {
        let bytes = image.slice(range.clone()).read_all(&NoBlobs).unwrap();
        file.write_all_at(&bytes, range.start).unwrap();
    }
    let listing = run("isoinfo", &["-l", "-R", "-i", iso.to_str().unwrap()]);
    assert!(listing.contains("HUGE.;1") || listing.contains("huge"), "{listing}");
    let listing = run("xorriso", &["-indev", iso.to_str().unwrap(), "-lsl", "/huge", "--"]);
    assert!(listing.contains(&format!(" {} ", huge.len())), "{listing}");
    assert_eq!(huge.len(), seam - 30_000 + 70_000);
    let sought = place.path().join("seam");
    let cut = ["-extract_cut", "/huge", &(seam - 30_000).to_string(), "70000", sought.to_str().unwrap()];
    run("xorriso", &[&["-osirrox", "on", "-indev", iso.to_str().unwrap()], &cut[..]].concat());
    assert!(fs::read(&sought).unwrap() == back, "the bytes at the seam");
}
