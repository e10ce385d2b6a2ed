//! The initramfs inside a pulled installer, taken apart with the system's own tools.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use conformance::{demo, packages, run};

use super::world::{THREE, World};

/// Runs a shell script in a folder.
fn shell(folder: &Path, script: &str) -> Result<Vec<u8>> {
    run::output(Command::new("bash").arg("-euo").arg("pipefail").arg("-c").arg(script).current_dir(folder))
}

/// Takes the kernel's and the extensions' modules apart below `work`, and has depmod index them anew; the folder of the
/// kernel in what depmod wrote, and in our index.
fn indexed_anew(work: &Path, arch_folder: &str, modules: &str, tool: Command) -> Result<(String, Command)> {
    shell(
        work,
        &format!(
            "/usr/bin/python3 - <<'EOF'
import subprocess, pefile
image = pefile.PE('{arch_folder}/vmlinuz.efi', fast_load=True)
section = next(section for section in image.sections if section.Name.rstrip(bytes(1)) == b'.initrd')
data = section.get_data()[:section.Misc_VirtualSize]
at, members = 0, 0
# One archive after another, plain or compressed, zeros between them.
while at < len(data):
    if data[at] == 0:
        at += 1
        continue
    if data[at:at + 4] == bytes.fromhex('28b52ffd'):
        # The end of a zstd frame is found by its own tool: the next archive begins behind it.
        import ctypes, ctypes.util
        z = ctypes.CDLL(ctypes.util.find_library('zstd'))
        z.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
        z.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        buffer = ctypes.create_string_buffer(data[at:], len(data) - at)
        size = z.ZSTD_findFrameCompressedSize(buffer, len(data) - at)
        plain = subprocess.run(['zstd', '-dc'], input=data[at:at + size], stdout=subprocess.PIPE, check=True).stdout
    else:
        assert data[at:at + 6] == b'070701', data[at:at + 16]
        end = data.index(b'TRAILER!!!', at)
        size = (end + 11 - at + 3) // 4 * 4
        plain = data[at:at + size]
    subprocess.run(['cpio', '-idmu', '--quiet'], input=plain, cwd='tree', check=True)
    at += size
    members += 1
print(members)
EOF
             unsquashfs -q -n -d merged tree/rootfs.sqsh {modules} >/dev/null
             for image in tree/[0-9]*.sqsh; do
                 unsquashfs -q -n -f -d merged \"$image\" {modules} >/dev/null 2>&1 || true
             done
             unsquashfs -q -n -d index tree/modules.dep.sqsh >/dev/null
             test -e merged/lib || ln -s usr/lib merged/lib
             mkdir -p config
             echo 'search extras built-in' > config/talos.conf"
        ),
    )?;
    let kernel = fs::read_dir(work.join("merged").join(modules))?.next().context("no kernel")??;
    let kernel = kernel.file_name().into_string().ok().context("a kernel's name")?;
    let mut depmod = tool;
    depmod.arg("-b").arg(work.join("merged")).arg("-C").arg(work.join("config")).arg(&kernel);
    run::output(&mut depmod)?;
    Ok((kernel, depmod))
}

#[test]
fn the_module_index_is_depmods_own() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    for arch in ["amd64", "arm64"] {
        let to = world.at(arch);
        demo::pull(&format!("{}/installer/{id}:v1.13.2", world.factory.address()), arch, &to).unwrap();
        fs::create_dir_all(to.join("tree")).unwrap();
        let modules = "usr/lib/modules";
        let tool = packages::unpacked().unwrap().depmod().unwrap();
        let (kernel, _) = indexed_anew(&to, &format!("root/usr/install/{arch}"), modules, tool).unwrap();
        let (ours, theirs) =
            (to.join("index").join(modules).join(&kernel), to.join("merged").join(modules).join(&kernel));
        let mut compared = 0;
        for entry in fs::read_dir(&theirs).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_file() && name.starts_with("modules.") {
                let mine = fs::read(ours.join(&name)).unwrap_or_else(|error| panic!("{arch} {name}: {error}"));
                assert!(mine == fs::read(&path).unwrap(), "{arch}: {name} differs");
                compared += 1;
            }
        }
        assert!(compared >= 14, "{compared} files");
        assert_eq!(fs::read_dir(&ours).unwrap().count(), compared, "{arch}: no more files than depmod has");
    }
}
