//! `image-factory asset`: the server's bytes without a server.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::Result;
use conformance::factory::{Settings, program};
use conformance::{cache, run};

use super::world::{THREE, World};

const ISO: &str = "metal-amd64.iso";

struct Tool<'a> {
    world: &'a World,
    settings: Settings,
}

impl Tool<'_> {
    /// The command on the store of the world's factory, in a folder of its own.
    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(program()?);
        command.arg("asset").args(args).envs(&self.settings.variables).current_dir(self.folder());
        Ok(command)
    }

    fn folder(&self) -> std::path::PathBuf {
        self.world.at("command")
    }

    fn run(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args)?.output()?)
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ends_well(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, said(output));
}

/// The lines of a plan name every byte once, in order, and what is known of it is so.
fn check_plan(plan: &str, whole: &[u8]) -> Result<()> {
    let mut at = 0;
    for line in plan.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (offset, len): (usize, usize) = (words[0].parse()?, words[1].parse()?);
        assert_eq!(offset, at, "{line}");
        assert!(len > 0, "{line}");
        let bytes = &whole[offset..offset + len];
        match words[2] {
            "zeros" => assert!(bytes.iter().all(|byte| *byte == 0), "{line}"),
            "inline" => assert_eq!(words[3], hex::encode(&bytes[..len.min(12)]), "{line}"),
            "blob" => assert!(words[3].starts_with("sha256:") && words[4] == "from", "{line}"),
            _ => assert!(line.contains("numbers of") || line.contains("times"), "{line}"),
        }
        at += len;
    }
    assert_eq!(at, whole.len());
    for part in [
        "boot/grub/grub.cfg",
        "boot/grub/i386-pc/eltorito.img",
        "boot/vmlinuz",
        "boot/initramfs.xz",
        "extension hello image",
        "release usr/install/amd64/initramfs.xz",
        "UKI: .cmdline",
        "FAT",
        "loader/loader.conf",
    ] {
        assert!(plan.contains(part), "{part} in\n{plan}");
    }
    Ok(())
}

/// In every format of a disk image the lines of a plan name every byte once, in order, and what it is.
fn check_disk_plans(tool: &Tool<'_>, id: &str) -> Result<()> {
    let formats: [(&str, &[&str]); 6] = [
        (
            "raw.zst",
            &["frame header", "compressed: EFI: UKI: .linux", "one byte repeated: partition EFI", "last block"],
        ),
        ("raw.xz", &["stream header", "stored: EFI: UKI", "index of blocks", "stream footer"]),
        ("raw.tar.gz", &["stored: header of disk.raw", "compressed: BOOT: A/vmlinuz", "CRC-32 of the contents"]),
        ("qcow2", &["refcounts", "L2 tables", "EFI: UKI: .linux; release usr/install/amd64/vmlinuz", "partition META"]),
        ("ova", &["header of disk.mf", "descriptor", "grains: partition BOOT", "grain table", "footer"]),
        ("vhd", &["EFI: UKI: .initrd", "partition META", "footer"]),
    ];
    for (format, parts) in formats {
        let path = format!("metal-amd64.{format}");
        let plan = tool.run(&["three.yaml", "v1.13.2", &path, "--plan"])?;
        ends_well(&plan);
        let plan = String::from_utf8(plan.stdout)?;
        let mut at = 0;
        for line in plan.lines() {
            let columns: Vec<&str> = line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
            let (offset, len): (u64, u64) = (columns[0].parse()?, columns[1].parse()?);
            assert!(offset == at && len > 0, "{format}: {line}");
            // Between the parts of a disk there are zeros without a name.
            assert!(columns.len() == 4 || columns[2] == "zeros", "{format}: {line}");
            at += len;
        }
        let answer = tool.world.get(&format!("/image/{id}/v1.13.2/{path}"))?;
        assert_eq!(answer.headers()["content-length"], at.to_string().as_str(), "{format}");
        for part in parts {
            assert!(plan.contains(part), "{format}: {part} in\n{plan}");
        }
    }
    Ok(())
}

#[test]
fn the_command_gives_the_servers_bytes() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let settings = Settings::on(&world.registry, &world.release, &world.at("store"))
        .with("IF_HTTP_EXTERNALURL", world.factory.url("/"));
    let tool = Tool { world: &world, settings };
    let folder = tool.folder();
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("three.yaml"), THREE).unwrap();

    let answer = world.get(&format!("/image/{id}/v1.13.2/{ISO}")).unwrap();
    let part = format!("out.iso.{}.part", &answer.headers()["etag"].to_str().unwrap()[1..17]);
    let whole = answer.bytes().unwrap();
    let wanted = ["three.yaml", "v1.13.2", ISO];
    let with = |args: &[&'static str]| [&wanted[..], args].concat();

    for path in ["cmdline-metal-amd64", "installer-arm64.tar", ISO] {
        ends_well(&tool.run(&["three.yaml", "1.13.2", path]).unwrap());
        let served = world.get(&format!("/image/{id}/v1.13.2/{path}")).unwrap().bytes().unwrap();
        assert!(fs::read(folder.join(path)).unwrap() == served, "{path}");
    }

    // A pipe gets the bytes and nothing else.
    let piped = tool.run(&with(&["-o", "-", "--sha256"])).unwrap();
    ends_well(&piped);
    assert!(piped.stdout == whole);
    assert!(said(&piped).ends_with(&format!("{}  -\n", cache::sha256(&whole))), "{}", said(&piped));
    let script = format!("{} | head -c 70000 | sha256sum", "\"$@\"");
    let mut cut = Command::new("bash");
    cut.args(["-c", &script, "bash"]).arg(program().unwrap()).arg("asset").args(with(&["-o", "-"]));
    let cut = run::text(cut.envs(&tool.settings.variables).current_dir(&folder)).unwrap();
    assert!(cut.starts_with(&cache::sha256(&whole[..70_000])), "{cut}");

    // Ended by the system in the middle, with a part that is on the disk; then again.
    let mut limited = Command::new("prlimit");
    limited.args(["--fsize=20000000", "--core=0"]).arg(program().unwrap()).arg("asset").args(with(&["-o", "out.iso"]));
    let ended = limited.envs(&tool.settings.variables).current_dir(&folder).output().unwrap();
    assert!(!ended.status.success() && !folder.join("out.iso").exists());
    assert_eq!(fs::metadata(folder.join(&part)).unwrap().len(), 20_000_000);
    let again = tool.run(&with(&["-o", "out.iso", "--sha256"])).unwrap();
    ends_well(&again);
    let kept =
        said(&again).lines().find_map(|line| line.strip_suffix(" bytes of an earlier attempt are kept")?.parse().ok());
    let kept: u64 = kept.unwrap_or_else(|| panic!("{}", said(&again)));
    assert!((19_000_000..=20_000_000).contains(&kept), "{kept}");
    assert!(fs::read(folder.join("out.iso")).unwrap() == whole);
    assert!(!folder.join(&part).exists());
    fs::write(folder.join("sum"), &again.stdout).unwrap();
    run::output(Command::new("sha256sum").args(["--strict", "-c", "sum"]).current_dir(&folder)).unwrap();

    // A part that is not what it should be is not kept beyond where it is wrong.
    let mut wrong = whole[..15_000_000].to_vec();
    wrong[7_000_000] ^= 1;
    fs::write(folder.join(&part), wrong).unwrap();
    ends_well(&tool.run(&with(&["-o", "out.iso"])).unwrap());
    assert!(fs::read(folder.join("out.iso")).unwrap() == whole);

    let plan = tool.run(&with(&["--plan"])).unwrap();
    ends_well(&plan);
    check_plan(&String::from_utf8(plan.stdout).unwrap(), &whole).unwrap();
    check_disk_plans(&tool, &id).unwrap();
    check_refusals(&tool, &folder).unwrap();
}

/// What cannot be made is said in a line, and nothing is left behind.
fn check_refusals(tool: &Tool<'_>, folder: &Path) -> Result<()> {
    fs::write(folder.join("bad.yaml"), "customization: [1\n")?;
    fs::write(
        folder.join("nosuch.yaml"),
        "customization: {systemExtensions: {officialExtensions: [siderolabs/helo]}}",
    )?;
    let before = fs::read_dir(folder)?.count();
    for (args, cause) in [
        (["three.yaml", "v1.13.2", "metal-amd64.floppy"], "metal-amd64.floppy"),
        (["three.yaml", "v1.13.2", "metal-riscv64.iso"], "riscv64"),
        (["three.yaml", "v1.13.2", "toaster-amd64.iso"], "toaster"),
        (["three.yaml", "v1.99.0", ISO], "1.99.0"),
        (["three.yaml", "one", ISO], "one"),
        (["bad.yaml", "v1.13.2", ISO], "line"),
        (["nosuch.yaml", "v1.13.2", ISO], "siderolabs/helo"),
        (["none.yaml", "v1.13.2", ISO], "none.yaml"),
    ] {
        let refused = tool.run(&args)?;
        assert!(!refused.status.success(), "{args:?}");
        assert!(refused.stdout.is_empty(), "{args:?}");
        let text = said(&refused);
        let last = text.lines().last().unwrap_or_default();
        assert!(text.contains(cause) && !text.contains("panicked") && last.len() > 10, "{args:?}: {text}");
    }
    assert_eq!(fs::read_dir(folder)?.count(), before, "files were left behind");
    Ok(())
}

/// A loop device over a file.
struct Loop(String);

impl Loop {
    fn over(file: &Path) -> Result<Self> {
        Ok(Self(run::text(Command::new("losetup").args(["--show", "-f", "-P"]).arg(file))?.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // A device that is left over does no harm to the test.
        let _ = run::output(Command::new("losetup").args(["-d", &self.0]));
    }
}

#[test]
fn disks_are_written_with_holes_and_to_devices_that_are_free() {
    let world = World::start().unwrap();
    let settings = Settings::on(&world.registry, &world.release, &world.at("store"))
        .with("IF_HTTP_EXTERNALURL", world.factory.url("/"));
    let tool = Tool { world: &world, settings };
    let folder = tool.folder();
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("empty.yaml"), "customization: {}\n").unwrap();
    let wanted = ["empty.yaml", "v1.9.5", "metal-amd64.raw"];
    let with = |args: &[&str]| [&wanted[..], args].concat().iter().map(ToString::to_string).collect::<Vec<_>>();
    let run = |args: &[&str]| tool.run(&with(args).iter().map(String::as_str).collect::<Vec<_>>()).unwrap();

    let made = run(&["-o", "disk.raw", "--sha256"]);
    ends_well(&made);
    fs::write(folder.join("sum"), &made.stdout).unwrap();
    run::output(Command::new("sha256sum").args(["--strict", "-c", "sum"]).current_dir(&folder)).unwrap();
    let disk = fs::metadata(folder.join("disk.raw")).unwrap();
    let allocated = std::os::unix::fs::MetadataExt::blocks(&disk) * 512;
    assert!(disk.len() > 1 << 30 && allocated < 200 << 20, "{allocated} of {} bytes are allocated", disk.len());
    ends_well(&run(&["-o", "again.raw"]));
    run::output(Command::new("cmp").args(["disk.raw", "again.raw"]).current_dir(&folder)).unwrap();
    // An attempt that ended inside a hole, and in front of data.
    let etag = world
        .get(&format!("/image/{}/v1.9.5/metal-amd64.raw", world.factory.post_schematic("customization: {}").unwrap()));
    let part = format!("disk.raw.{}.part", &etag.unwrap().headers()["etag"].to_str().unwrap()[1..17]);
    for len in [900_000, 1 << 20, 100_000_000] {
        fs::rename(folder.join("disk.raw"), folder.join(&part)).unwrap();
        fs::OpenOptions::new().write(true).open(folder.join(&part)).unwrap().set_len(len).unwrap();
        let again = run(&["-o", "disk.raw"]);
        ends_well(&again);
        assert!(said(&again).contains(&format!("{len} bytes of an earlier attempt are kept")), "{}", said(&again));
        run::output(Command::new("cmp").args(["disk.raw", "again.raw"]).current_dir(&folder)).unwrap();
    }

    let backing = folder.join("backing");
    fs::File::create(&backing).unwrap().set_len(2 << 30).unwrap();
    let device = Loop::over(&backing).unwrap();
    let refused = |args: &[&str], reason: &str| {
        let refused = run(args);
        assert!(!refused.status.success() && said(&refused).contains(reason), "{reason}: {}", said(&refused));
    };
    refused(&["-o", &device.0], "would be lost: say --yes");
    let packed = tool.run(&["empty.yaml", "v1.9.5", "metal-amd64.raw.zst", "-o", &device.0, "--yes"]).unwrap();
    assert!(!packed.status.success() && said(&packed).contains("only a .raw or .iso asset boots"), "{}", said(&packed));
    ends_well(&run(&["-o", &device.0, "--yes"]));
    let compare = format!("cmp -n {} disk.raw {}", disk.len(), device.0);
    run::output(Command::new("sh").args(["-c", &compare]).current_dir(&folder)).unwrap();
    // In use: the disk's BOOT partition, alone on the device, is mounted.
    let copy = format!("dd if=disk.raw of={} bs=1M skip=102 count=1000 status=none", device.0);
    run::output(Command::new("sh").args(["-c", &copy]).current_dir(&folder)).unwrap();
    let mounted = folder.join("mounted");
    fs::create_dir(&mounted).unwrap();
    run::output(Command::new("mount").args(["-t", "xfs", &device.0]).arg(&mounted)).unwrap();
    let menu = fs::read_to_string(mounted.join("grub/grub.cfg")).unwrap_or_default();
    let busy = run(&["-o", &device.0, "--yes"]);
    run::output(Command::new("umount").arg(&mounted)).unwrap();
    assert!(menu.contains("A - Talos v1.9.5"), "{menu}");
    assert!(!busy.status.success() && said(&busy).contains("is in use"), "{}", said(&busy));
    drop(device);
    fs::OpenOptions::new().write(true).open(&backing).unwrap().set_len(1 << 30).unwrap();
    let small = Loop::over(&backing).unwrap();
    refused(&["-o", &small.0, "--yes"], "has 1073741824 bytes, the asset ");
    refused(&["-o", "/dev/null"], "neither a file nor a block device");
}
