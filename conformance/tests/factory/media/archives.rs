//! The archives and file systems of an initramfs, read by the programs that distributions read theirs with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use conformance::run;

use super::quiet;
use crate::world::World;

/// Splits an initramfs into its segments, each in a file of its own: `<n>.cpio`, `<n>.zst` or `<n>.xz`.
const SPLIT: &str = r#"
import ctypes, ctypes.util, lzma, sys
data, folder = open(sys.argv[1], 'rb').read(), sys.argv[2]
z = ctypes.CDLL(ctypes.util.find_library('zstd'))
z.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
z.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
at, n = 0, 0
while at < len(data):
    if data[at] == 0:
        at += 1
        continue
    if data[at:at + 4] == bytes.fromhex('28b52ffd'):
        size, kind = z.ZSTD_findFrameCompressedSize(data[at:], len(data) - at), 'zst'
    elif data[at:at + 6] == b'\xfd7zXZ\0':
        xz = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        xz.decompress(data[at:])
        size, kind = len(data) - at - len(xz.unused_data), 'xz'
    else:
        assert data[at:at + 6] == b'070701' and at % 4 == 0, (at, data[at:at + 16])
        size, kind, name = 0, 'cpio', b''
        while name != b'TRAILER!!!':
            head = data[at + size:at + size + 110]
            length, named = int(head[54:62], 16), int(head[94:102], 16)
            name = data[at + size + 110:at + size + 110 + named - 1]
            size = (size + 110 + named + 3) // 4 * 4
            size = (size + length + 3) // 4 * 4
    open(f'{folder}/{n}.{kind}', 'wb').write(data[at:at + size])
    at, n = at + size, n + 1
"#;

/// The lines that a command prints.
fn lines(command: &mut Command) -> Result<BTreeSet<String>> {
    let said = quiet(command, &["premature", "malformed", "skipped", "junk"])?;
    Ok(said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn shell(script: &str, args: &[&Path]) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script, "bash"]).args(args);
    command
}

/// Takes an initramfs apart; gives all names in it, and how many segments it has.
fn inspect(initramfs: &Path, folder: &Path) -> Result<(BTreeSet<String>, usize)> {
    let (segments, tree) = (folder.join("segments"), folder.join("tree"));
    fs::create_dir_all(&segments)?;
    fs::create_dir_all(&tree)?;
    run::output(Command::new("/usr/bin/python3").args(["-c", SPLIT]).arg(initramfs).arg(&segments))?;
    let mut files = fs::read_dir(&segments)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    let kind = |path: &Path| path.extension().and_then(|kind| kind.to_str()).unwrap_or_default().to_owned();
    let (mut names, mut plain, mut plain_names) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    let mut compressed = Vec::new();
    for file in files.iter().filter(|file| kind(file) == "cpio") {
        let listed = lines(&mut shell("cpio -t --quiet < \"$1\"", &[file]))?;
        plain_names.extend(listed);
        plain.push(file.as_path());
        run::output(&mut shell("cd \"$2\" && cpio -idmu --quiet < \"$1\"", &[file, &tree]))?;
    }
    names.extend(plain_names.iter().cloned());
    for file in files.iter().filter(|file| kind(file) != "cpio") {
        let unpack = if kind(file) == "xz" { "xz" } else { "zstd" };
        run::output(Command::new(unpack).arg("-tq").arg(file))?;
        let listed = lines(&mut shell(&format!("{unpack} -dcq \"$1\" | cpio -t --quiet"), &[file]))?;
        run::output(&mut shell(&format!("cd \"$2\" && {unpack} -dcq \"$1\" | cpio -idmu --quiet"), &[file, &tree]))?;
        compressed.push((file, listed.clone()));
        names.extend(listed);
    }
    // Debian's tool reads plain archives with zeros between them, then one compressed archive, and no other order.
    let (base, listed) = compressed.first().context("nothing is compressed")?;
    let ordered = folder.join("ordered");
    let mut bytes = Vec::new();
    for plain in &plain {
        bytes.extend(fs::read(plain)?);
        bytes.extend([0; 8]);
    }
    bytes.extend(fs::read(base)?);
    fs::write(&ordered, bytes)?;
    let found: BTreeSet<String> = plain_names.union(listed).cloned().collect();
    let listed_by_tool = lines(Command::new("lsinitramfs").arg(&ordered))?;
    let odd: Vec<_> = listed_by_tool.symmetric_difference(&found).collect();
    ensure!(odd.is_empty(), "lsinitramfs finds other names: {odd:?}");
    for name in names.iter().filter(|name| name.ends_with(".sqsh")) {
        let image = tree.join(name);
        quiet(Command::new("unsquashfs").arg("-s").arg(&image), &["rror", "orrupt"])?;
        let to = folder.join("unsquashed");
        let mut unsquashfs = Command::new("unsquashfs");
        quiet(unsquashfs.args(["-n", "-q", "-f", "-d"]).arg(&to).arg(&image), &["rror", "orrupt", "ailed"])?;
        fs::remove_dir_all(&to)?;
    }
    Ok((names, files.len()))
}

#[test]
fn archives_and_file_systems_of_an_initramfs_are_sound() {
    let world = World::start().unwrap();
    let all = "customization:\n    systemExtensions:\n        officialExtensions:\n            - siderolabs/intel-ucode\n            \
               - siderolabs/hello\n            - siderolabs/amd-ucode\n            - siderolabs/qemu-guest-agent\n            \
               - siderolabs/dummy-driver\n            - siderolabs/big-firmware\n";
    let all = world.factory.post_schematic(all).unwrap();
    let empty = world.factory.post_schematic("customization: {}\n").unwrap();
    let microcode = ["kernel/x86/microcode/GenuineIntel.bin", "kernel/x86/microcode/AuthenticAMD.bin"];
    for (id, version, arch, images, firmware) in [
        (&all, "v1.13.2", "amd64", 8, ["usr/lib/firmware/big/fw0.bin"].as_slice()),
        (&all, "v1.13.2", "arm64", 8, &["usr/lib/firmware/big/fw0.bin"]),
        (&all, "v1.9.5", "amd64", 8, &microcode),
        (&empty, "v1.2.0", "amd64", 1, &[]),
    ] {
        let folder = world.at(&format!("{version}-{arch}"));
        fs::create_dir_all(&folder).unwrap();
        let initramfs: PathBuf = folder.join("initramfs");
        let answer = world.get(&format!("/image/{id}/{version}/initramfs-{arch}.xz")).unwrap();
        fs::write(&initramfs, answer.error_for_status().unwrap().bytes().unwrap()).unwrap();
        let (names, segments) =
            inspect(&initramfs, &folder).unwrap_or_else(|error| panic!("{version} {arch}: {error:?}"));
        let extensions = names.iter().filter(|name| name.ends_with(".sqsh") && *name != "rootfs.sqsh");
        assert_eq!(extensions.count(), images, "{version} {arch}: {names:?}");
        for name in ["init", "rootfs.sqsh", "extensions.yaml"].iter().chain(firmware) {
            assert!(names.contains(*name), "{version} {arch}: {name} in {names:?}");
        }
        assert!(segments >= 2, "{version} {arch}: {segments}");
    }
}
