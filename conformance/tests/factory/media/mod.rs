//! Boot media as outside programs see them: nothing to complain about, whole files, and the layout that the reference
//! was recorded with.

mod archives;
pub mod facts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use conformance::{packages, run};
use serde_json::Value;

use super::world::World;
use facts::{Facts, recorded, sections, served, uki};

/// Where our images differ from the recorded ones on purpose: which (those with this boot loader, or all),
/// `-` for what only theirs have and `+` for what only ours have, the fact (`*` stands for anything), and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("", "-Preparer Id  : XORRISO*", NAMELESS),
    ("", "+Preparer Id  :", NAMELESS),
    ("sd-boot", "-System area summary: MBR cyl-align-all", "partitions start at multiples of 1 MiB, not of a cylinder"),
    ("sd-boot", "+System area summary: MBR cyl-align-on", "partitions start at multiples of 1 MiB, not of a cylinder"),
    ("dual-boot", "-GPT partition 2 is called Appended2", "named for what it is"),
    ("dual-boot", "+GPT partition 2 is called EFI", "named for what it is"),
    ("dual-boot", "-GPT partition 3 *", "the padding at the end is in no partition"),
    ("dual-boot", "-file boot/grub/i386-pc/*", MODULES),
    ("dual-boot", "-folder boot/grub/*", MODULES),
    ("grub", "-file boot/grub/*", MODULES),
    ("grub", "-folder boot/grub/*", MODULES),
    ("grub", "-file .disk/*.uuid 644", "it names the day of the build; ours is found by the file it boots"),
    ("grub", "-folder .disk 755", "it names the day of the build; ours is found by the file it boots"),
    ("grub", "-file System/*", MACINTOSH),
    ("grub", "-folder System*", MACINTOSH),
    ("grub", "-file mach_kernel 644", MACINTOSH),
    ("grub", "-GPT partition 3 *", MACINTOSH),
    ("grub", "-System area summary: *GPT APM", MACINTOSH),
    ("grub", "+System area summary: *GPT", MACINTOSH),
    ("grub", "-GPT partition 4 *", "the padding at the end is in no partition"),
    ("grub", "-GPT partition 1 is called Gap0", "partition 1 is the ISO 9660 part, as with both loaders"),
    ("grub", "+GPT partition 1 is called ISO9660", "partition 1 is the ISO 9660 part, as with both loaders"),
    ("grub", "-GPT partition 2 *", "the FAT image lies at the end, as with both loaders"),
    ("grub", "+GPT partition 2 *", "the FAT image lies at the end, as with both loaders"),
    ("grub", "-El Torito img path :   2  /efi.img", ONCE),
    ("grub", "-file efi.img 644", ONCE),
    ("grub", "-file efi/boot/*.efi 644", ONCE),
    ("grub", "-folder efi*", ONCE),
    ("grub", "-FAT type FAT12", SMALL),
    ("grub", "+FAT type FAT16", SMALL),
    ("grub", "-boot image 2 *, 5760 sectors", SMALL),
    ("grub", "+boot image 2 *, 8192 sectors", SMALL),
];

const NAMELESS: &str = "no tool is named: the bytes are a function of what was asked for";
const MODULES: &str = "GRUB's modules are linked into its images; what else its tools leave beside them is not read";
const MACINTOSH: &str = "nothing for Apple's partition map and HFS+: their firmware boots by UEFI, too";
const ONCE: &str = "the FAT image is in the boot catalog and the partition table; no second copy in the tree";
const SMALL: &str = "one architecture in a FAT image of 4 MiB instead of two in one of a floppy disk's size";

/// What a layout's name says: the names of schematics stand in `schematics.json` beside the recorded layouts.
struct Medium {
    name: String,
    id: String,
    version: String,
    path: String,
    arch: String,
    recorded: Value,
}

const SCHEMATICS: &[(&str, &str)] = &[
    ("EMPTY", "customization: {}\n"),
    ("GRUB", "customization:\n    bootloader: grub\n"),
    ("SD", "customization:\n    bootloader: sd-boot\n"),
    ("DUAL", "customization:\n    bootloader: dual-boot\n"),
    (
        "THREE",
        "customization:\n    systemExtensions:\n        officialExtensions:\n            - siderolabs/hello\n            \
         - siderolabs/qemu-guest-agent\n            - siderolabs/dummy-driver\n",
    ),
];

/// The recorded layouts, but for those of secure boot, which is not available yet.
fn media(world: &World) -> Result<Vec<Medium>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/layouts/iso");
    let mut media = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        let name =
            file.file_name().and_then(|name| name.to_str()).context("a name")?.trim_end_matches(".json").to_owned();
        if name.contains("-secureboot") {
            continue;
        }
        let words: Vec<&str> = name.split('-').collect();
        let [schematic, version, platform, arch] = words[..] else { bail!("{name}") };
        let yaml = SCHEMATICS.iter().find(|(of, _)| *of == schematic).with_context(|| name.clone())?.1;
        media.push(Medium {
            id: world.factory.post_schematic(yaml)?,
            version: version.to_owned(),
            path: format!("{platform}-{arch}"),
            arch: arch.trim_end_matches(".iso").to_owned(),
            recorded: serde_json::from_slice(&fs::read(&file)?)?,
            name,
        });
    }
    Ok(media)
}

impl Medium {
    /// Downloads another asset of the same schematic and version.
    fn fetch(&self, world: &World, path: &str) -> Result<PathBuf> {
        let file = world.at(&format!("{}-{path}", self.name));
        let mut answer = world.get(&format!("/image/{}/{}/{path}", self.id, self.version))?.error_for_status()?;
        answer.copy_to(&mut fs::File::create(&file)?)?;
        Ok(file)
    }

    fn loader(&self) -> &'static str {
        let has = |path: &str| {
            self.recorded["tree"]
                .as_array()
                .is_some_and(|tree| tree.iter().any(|line| line.as_str().is_some_and(|line| line.ends_with(path))))
        };
        match (has("/boot/vmlinuz"), has("/loader.conf")) {
            (true, true) => "dual-boot",
            (true, false) => "grub",
            _ => "sd-boot",
        }
    }
}

/// Runs a program that must say nothing in any of these words.
pub fn quiet(command: &mut Command, words: &[&str]) -> Result<String> {
    let done = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    ensure!(done.status.success(), "{command:?} ended with {}: {said}", done.status);
    if let Some(word) = words.iter().find(|word| said.contains(**word)) {
        bail!("{command:?} says {word}: {said}");
    }
    Ok(said)
}

/// The trees that several programs copy out of an image must be equal; gives one of them, and what xorriso reports.
fn copies(iso: &Path, to: &Path) -> Result<(PathBuf, String)> {
    let bad = ["WARNING", "SORRY", "MISHAP", "FAILURE", "FATAL", "ABORT"];
    let tree = |name: &str| -> Result<PathBuf> {
        let folder = to.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    };
    let [xorriso, bsdtar, seven, mounted] = [tree("xorriso")?, tree("bsdtar")?, tree("7z")?, tree("mounted")?];
    let mut command = Command::new("xorriso");
    command.arg("-indev").arg(iso).args(["-report_el_torito", "plain", "-report_system_area", "plain", "-pvd_info"]);
    let said = quiet(command.args(["-check_media", "--"]), &bad)?;
    let mut command = Command::new("xorriso");
    command.args(["-osirrox", "on", "-indev"]).arg(iso).args(["-extract", "/"]).arg(&xorriso);
    quiet(&mut command, &bad)?;
    quiet(Command::new("bsdtar").arg("-xf").arg(iso).arg("-C").arg(&bsdtar), &["Ignoring"])?;
    let mut command = Command::new("7z");
    quiet(
        command.args(["x", "-y", "-x![BOOT]"]).arg(format!("-o{}", seven.display())).arg(iso),
        &["WARNING", "ERROR"],
    )?;
    let mut copies = vec![bsdtar, seven];
    if fs::read_to_string("/proc/filesystems")?.contains("iso9660") {
        run::output(Command::new("mount").args(["-t", "iso9660", "-o", "ro,loop"]).arg(iso).arg(&mounted))?;
        copies.push(mounted.clone());
    } else {
        eprintln!("this kernel mounts no ISO 9660 images");
    }
    let compared = copies
        .iter()
        .try_for_each(|copy| run::output(Command::new("diff").arg("-r").arg(&xorriso).arg(copy)).map(drop));
    if copies.contains(&mounted) {
        run::output(Command::new("umount").arg(&mounted))?;
    }
    compared?;
    Ok((xorriso, said))
}

/// Copies the FAT image out: at the place of the last boot record, as long as its own header says.
fn fat(iso: &Path, said: &str, to: &Path) -> Result<PathBuf> {
    let record = said.lines().filter(|line| line.starts_with("El Torito boot img")).find(|line| line.contains("UEFI"));
    let sector = record.and_then(|line| line.split_whitespace().last()).context("no boot record for UEFI")?;
    let bytes = fs::read(iso)?;
    let bytes = bytes.get(2048 * sector.parse::<usize>()?..).context("the boot record points nowhere")?;
    let number =
        |at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let sectors = if number(19, 2) == 0 { number(32, 4) } else { number(19, 2) };
    let file = to.join("fat.img");
    fs::write(&file, bytes.get(..sectors * number(11, 2)).context("the FAT image is cut off")?)?;
    Ok(file)
}

/// Everything about one image that needs no recorded layout; gives its facts.
fn inspect(world: &World, medium: &Medium, iso: &Path) -> Result<Facts> {
    let to = world.at(&format!("{}.d", medium.name));
    fs::create_dir_all(&to)?;
    let (tree, said) = copies(iso, &to)?;
    ensure!(quiet(&mut run::command("isovfy", &[iso]), &[])?.contains("No errors found"), "isovfy");
    quiet(Command::new("isoinfo").args(["-d", "-l", "-R", "-i"]).arg(iso), &["rror"])?;
    ensure!(quiet(Command::new("sgdisk").arg("-v").arg(iso), &[])?.contains("No problems found"), "sgdisk");
    let fat = fat(iso, &said, &to)?;
    quiet(Command::new("fsck.vfat").arg("-n").arg(&fat), &["ifference", "ree cluster summary", "Bad", "Orphan"])?;
    let copied = to.join("fat");
    fs::create_dir_all(&copied)?;
    run::output(Command::new("mcopy").args(["-s", "-n", "-i"]).arg(&fat).arg("::/*").arg(&copied))?;

    let efi = if medium.arch == "arm64" { "--is-arm64-efi" } else { "--is-x86_64-efi" };
    let boot = if medium.arch == "arm64" { "BOOTAA64.EFI" } else { "BOOTX64.EFI" };
    run::output(Command::new("grub-file").arg(efi).arg(copied.join("EFI/BOOT").join(boot)))?;
    let (kernel, initramfs) = (
        medium.fetch(world, &format!("kernel-{}", medium.arch))?,
        medium.fetch(world, &format!("initramfs-{}.xz", medium.arch))?,
    );
    let linux = if medium.arch == "arm64" { "--is-arm64-linux" } else { "--is-x86-linux32" };
    let same = |one: &Path, other: &Path| run::output(Command::new("cmp").arg(one).arg(other)).map(drop);
    if tree.join("boot").is_dir() {
        run::output(Command::new("grub-file").arg(linux).arg(tree.join("boot/vmlinuz")))?;
        same(&tree.join("boot/vmlinuz"), &kernel)?;
        same(&tree.join("boot/initramfs.xz"), &initramfs)?;
    }
    if tree.join("EFI").is_dir() {
        for folder in ["EFI", "loader"] {
            run::output(Command::new("diff").arg("-r").arg(tree.join(folder)).arg(copied.join(folder)))?;
        }
        check_uki(&uki(&tree)?, &medium.arch, &kernel, &initramfs)?;
    }
    served(&said, &tree, &fat, &medium.arch)
}

/// A UKI holds the kernel and the initramfs that are served, and no program that reads PE images minds it.
pub fn check_uki(uki: &Path, arch: &str, kernel: &Path, initramfs: &Path) -> Result<()> {
    // Debian's objdump for this machine reads no images for arm64.
    if arch == "amd64" {
        let said = quiet(Command::new("objdump").arg("-h").arg(uki), &["warning", "Warning", "rror"])?;
        ensure!(said.contains(".linux") && said.contains(".initrd"), "{said}");
    }
    let mut inspect = packages::unpacked()?.ukify()?;
    let inspected = run::text(inspect.arg("inspect").arg(uki).arg("--json=short"))?;
    let inspected: Value = serde_json::from_str(&inspected)?;
    let image = fs::read(uki)?;
    for (name, file) in [(".linux", kernel), (".initrd", initramfs)] {
        let want = fs::read(file)?;
        let found = sections(&image, arch)?.into_iter().find(|(of, _)| of == name).with_context(|| name.to_owned())?;
        ensure!(found.1 == want, "{name} of {} is not {}", uki.display(), file.display());
        ensure!(inspected[name]["size"] == want.len(), "{inspected}");
    }
    Ok(())
}

/// Whether a pattern, in which `*` stands for anything, matches a text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(end)
}

#[test]
fn iso_images_are_whole_and_look_as_recorded() {
    let world = World::start().unwrap();
    let (mut wrong, mut used) = (Vec::new(), vec![false; DIFFERENCES.len()]);
    let media = media(&world).unwrap();
    assert_eq!(media.len(), 11);
    for medium in media {
        let iso = medium.fetch(&world, &medium.path).unwrap();
        let ours = inspect(&world, &medium, &iso).unwrap_or_else(|error| panic!("{}: {error:?}", medium.name));
        let theirs = recorded(&medium.recorded).unwrap();
        let only = |sign: char, one: &Facts, other: &Facts| -> Vec<String> {
            one.difference(other).map(|fact| format!("{sign}{fact}")).collect()
        };
        for fact in only('-', &theirs, &ours).into_iter().chain(only('+', &ours, &theirs)) {
            let row = DIFFERENCES
                .iter()
                .position(|(of, pattern, _)| (of.is_empty() || medium.loader() == *of) && matches(pattern, &fact));
            match row {
                Some(at) => used[at] = true,
                None => wrong.push(format!("{} ({}): {fact}", medium.name, medium.loader())),
            }
        }
        fs::remove_dir_all(world.at(&format!("{}.d", medium.name))).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let idle: Vec<_> = DIFFERENCES.iter().zip(used).filter(|(_, used)| !used).map(|(row, _)| row).collect();
    assert!(idle.is_empty(), "rows of the table that nothing needs: {idle:?}");
}
