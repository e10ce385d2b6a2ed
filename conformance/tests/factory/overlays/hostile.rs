//! Overlays whose programs do what none should: each ends in a clear answer, and leaves nothing behind.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use conformance::factory::{Factory, Settings, program};
use conformance::oci::tree::Tree;
use conformance::oci::{Config, Family, Layout, Packing};
use conformance::registry::Registry;
use conformance::release::{self, Size};
use conformance::{golang, packages, publish, run};
use nix::sys::signal::Signal;

use super::{explain, explain_by};
use crate::world::{World, get};

/// The machine's architecture by its Go name.
const NATIVE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// A world whose only overlay is hostile; temporary files go to its folder `tmp`.
fn world() -> Result<(World, Settings)> {
    let release = release::ensure(Size::Mini)?;
    let registry = Registry::scratch(&release)?;
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("layout");
    let mut layout = Layout::create(&root)?;
    let program = folder.path().join("hostile");
    golang::build(include_str!("../../../overlay/hostile/main.go"), NATIVE, &program)?;
    let mut tree = Tree::new();
    tree.file("artifacts/u-boot.bin", 0o644, "boot");
    tree.copy("installers/hostile", &program)?;
    tree.file("installers/no-program", 0o755, "#!/bin/sh\necho 'name: x'\n");
    let layer = layout.layer(&tree.tar()?, Packing::Gzip)?;
    let image = |arch| Ok((arch, layout.image(Family::Oci, arch, std::slice::from_ref(&layer), &Config::default())?));
    let images = ["amd64", "arm64"].into_iter().map(image).collect::<Result<Vec<_>>>()?;
    let overlay = layout.index(Family::Oci, &images)?;
    let mut catalog = "overlays:\n".to_owned();
    for name in ["hostile", "no-program"] {
        let image = "ghcr.io/siderolabs/sbc-hostile:v1";
        catalog.push_str(&format!("- name: {name}\n  image: {image}\n  digest: {}\n", overlay.digest));
    }
    let mut tree = Tree::new();
    tree.file("overlays.yaml", 0o644, catalog);
    let layer = layout.layer(&tree.tar()?, Packing::Gzip)?;
    let catalog = layout.image(Family::Docker, "amd64", &[layer], &Config::default())?;
    layout.tag("siderolabs/sbc-hostile", "v1", &overlay);
    layout.tag("siderolabs/overlays", "v1.13.2", &catalog);
    let tags = layout.finish()?;
    publish::push(&registry, &root, &tags)?;
    publish::sign(&registry, &tags, &release.private_key())?;
    let tmp = folder.path().join("tmp");
    fs::create_dir(&tmp)?;
    let settings = Settings::on(&registry, &release, &folder.path().join("store")).with("TMPDIR", tmp.display());
    let factory = Factory::start(&settings, &folder.path().join("factory.log"))?;
    let settings = settings.with("IF_STORE_PATH", folder.path().join("other").display());
    Ok((World { release, registry, factory, folder }, settings))
}

fn schematic(options: &str) -> String {
    format!("overlay: {{image: siderolabs/sbc-hostile, name: hostile, options: {{{options}}}}}")
}

/// Nothing runs but the factory, and nothing of a program is left.
fn check_clean(world: &World) -> Result<()> {
    let pid = world.factory.pid();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        ensure!(children.trim().is_empty(), "processes {children} are left");
    }
    let left = programs(world)?;
    ensure!(left.is_empty(), "{left:?} is left");
    let left: Vec<_> = fs::read_dir(world.at("tmp"))?.collect::<std::io::Result<_>>()?;
    ensure!(left.is_empty(), "{left:?} is left");
    Ok(())
}

/// Programs that run out of the world's temporary folders.
fn programs(world: &World) -> Result<Vec<PathBuf>> {
    let processes = fs::read_dir("/proc")?.collect::<std::io::Result<Vec<_>>>()?;
    let programs = processes.iter().filter_map(|process| fs::read_link(process.path().join("exe")).ok());
    Ok(programs.filter(|program| program.starts_with(world.at("tmp"))).collect())
}

/// What the program is told to do when asked for its options, the status, and what the answer says.
const ASKED: &[(&str, u16, &str)] = &[
    ("fail", 400, "it ended with status 3: no such console: ttyX"),
    ("crash", 400, "it ended with status 2: panic: "),
    ("fork", 400, "cannot fork"),
    ("memory", 400, "fatal error: "),
    ("shared-memory", 400, "operation not permitted"),
    ("big-file", 400, "file too large"),
    ("hang", 502, "did not end within 15 s"),
    ("spin", 502, "did not end within 15 s"),
    ("threads", 502, "started more than 512 threads"),
    ("disk", 502, "wrote more than 512 MiB"),
    ("files", 502, "made more than 10000 files and folders"),
    ("deep", 502, "made files that cannot be looked at"),
    ("print", 502, "printed more than 1024 KiB"),
    ("complain", 502, "printed more than 1024 KiB"),
    ("garbage", 502, "answers get-options with"),
    ("argument", 502, "the kernel argument \"a\\nb=c\""),
];

#[test]
fn hostile_programs_end_in_clear_answers() {
    let (world, _) = world().unwrap();
    for (what, status, text) in ASKED {
        let id = world.factory.post_schematic(&schematic(&format!("do: {what}"))).unwrap();
        let path = format!("/image/{id}/v1.13.2/metal-arm64-uki.efi");
        let started = Instant::now();
        let answer = get(&world.factory, &path).unwrap();
        let found = answer.status();
        let said = answer.text().unwrap();
        assert_eq!(found, *status, "{what}: {said}");
        assert!(said.contains(text), "{what}: {said}");
        assert!(said.contains("hostile") && said.lines().count() == 1, "{what}: {said}");
        println!("{what}: {:?}: {said}", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        check_clean(&world).with_context(|| (*what).to_owned()).unwrap();
        // The failure is remembered: asking again costs nothing.
        let again = Instant::now();
        assert_eq!(get(&world.factory, &path).unwrap().status(), *status, "{what}");
        assert!(again.elapsed() < Duration::from_secs(2), "{what}");
    }
    // What is no program for this machine.
    let id = world.factory.post_schematic("overlay: {image: siderolabs/sbc-hostile, name: no-program}").unwrap();
    let answer = world.get(&format!("/image/{id}/v1.13.2/metal-arm64.iso")).unwrap();
    assert_eq!(answer.status(), 502);
    let said = answer.text().unwrap();
    assert!(said.contains("the program cannot be started"), "{said}");
    check_clean(&world).unwrap();
    // The factory is well.
    let id = world.factory.post_schematic(&schematic("do: nothing")).unwrap();
    assert_eq!(world.get(&format!("/image/{id}/v1.13.2/metal-arm64-uki.efi")).unwrap().status(), 200);
    check_clean(&world).unwrap();
}

#[test]
fn a_program_that_installs_where_it_should_not_is_refused() {
    let (world, settings) = world().unwrap();
    for (what, text) in [
        ("fail", "no such console: ttyX"),
        ("elsewhere", "wrote \"work/mnt/boot/vmlinuz\", which is neither"),
        ("no-disk", "took the disk away"),
        ("link", "symlink /etc/passwd work/mnt/boot/EFI/passwd: operation not permitted"),
        ("files", "made more than 10000 files and folders"),
    ] {
        let output = explain(&world, &settings, &schematic(&format!("do: {what}, step: install")), &[]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(text), "{what}: {said}");
        check_clean(&world).unwrap();
    }
}

/// The calls that programs made, of all their threads; `strace -ff` wrote a file a thread to `folder`.
fn calls_of_programs(folder: &Path) -> Result<Vec<String>> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let thread = path.extension().and_then(|number| number.to_str()).context("no number")?.to_owned();
        threads.insert(thread, fs::read_to_string(&path)?);
    }
    let started = |text: &str| {
        let at = text.find("execve(\"./program\"")?;
        Some(text[at..].lines().skip_while(|line| !line.ends_with("= 0")).map(str::to_owned).collect::<Vec<_>>())
    };
    let mut calls: Vec<String> = threads.values().filter_map(|text| started(text)).flatten().collect();
    let mut seen = 0;
    // Threads of threads are found behind those that started them.
    while let Some(call) = calls.get(seen) {
        let thread = call.strip_prefix("clone(").and_then(|rest| rest.rsplit_once("= ")).map(|(_, number)| number);
        if let Some(text) = thread.and_then(|thread| threads.get(thread)) {
            calls.extend(text.lines().map(str::to_owned));
        }
        seen += 1;
    }
    Ok(calls)
}

/// No system call of a program reached a network, or a file outside of its folder for writing.
fn check_trace(folder: &Path) -> Result<()> {
    let network = ["socket(", "socketpair(", "connect(", "bind(", "sendto(", "sendmsg(", "accept4("];
    let (mut refused, mut opened) = (0, 0);
    for call in calls_of_programs(folder)? {
        let failed = call.contains("= -1 E");
        if network.iter().any(|name| call.starts_with(name)) {
            ensure!(failed, "{call}");
            refused += 1;
        }
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"].iter().any(|flag| call.contains(flag));
        if call.starts_with("open") && writes && !failed {
            ensure!(call.contains("\"work/") && !call.contains(".."), "{call}");
            opened += 1;
        }
        let changes = ["unlink", "rmdir", "mkdir", "rename", "link", "symlink", "mknod", "truncate", "mount", "clone3"];
        if changes.iter().any(|name| call.starts_with(name)) {
            ensure!(failed || call.starts_with("mkdir") && call.contains("\"work/"), "{call}");
        }
    }
    ensure!(refused > 10 && opened > 0, "{refused} sockets refused, {opened} files written");
    Ok(())
}

/// A factory that is killed takes its programs with it, and the next one what they left.
#[test]
fn programs_die_with_their_factory() {
    let (world, _) = world().unwrap();
    let id = world.factory.post_schematic(&schematic("do: hang")).unwrap();
    let url = world.factory.url(&format!("/image/{id}/v1.13.2/metal-arm64-uki.efi"));
    let waiting = std::thread::spawn(move || reqwest::blocking::get(url).is_err());
    let deadline = Instant::now() + Duration::from_secs(20);
    let running = || !programs(&world).unwrap().is_empty();
    while !running() {
        assert!(Instant::now() < deadline && !waiting.is_finished(), "the program does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    world.factory.signal(Signal::SIGKILL).unwrap();
    assert!(waiting.join().unwrap());
    while running() {
        assert!(Instant::now() < deadline, "the program goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = || fs::read_dir(world.at("tmp")).unwrap().count();
    assert_eq!(left(), 1);
    std::thread::sleep(Duration::from_secs(6));
    let settings = Settings::on(&world.registry, &world.release, &world.at("again"));
    let settings = settings.with("TMPDIR", world.at("tmp").display());
    let output = explain(&world, &settings, &schematic("do: nothing"), &[]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(left(), 0);
}

#[test]
fn no_way_leads_out() {
    packages::install(packages::MACHINE).unwrap();
    let (world, settings) = world().unwrap();
    let secret = world.at("secret");
    fs::write(&secret, "secret").unwrap();
    let before = fs::metadata(&secret).unwrap();
    let options = format!(
        "do: escape, step: get-options, address: \"{}\", secret: \"{}\"",
        world.factory.address(),
        secret.display()
    );
    // What nobody may not read lies elsewhere.
    let (key, copy) = (world.at("key.pub"), world.at("image-factory"));
    fs::copy(world.release.public_key(), &key).unwrap();
    fs::copy(program().unwrap(), &copy).unwrap();
    for path in [world.folder.path().to_owned(), world.at("tmp"), key.clone(), copy.clone()] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let traces = world.at("traces");
    fs::create_dir(&traces).unwrap();
    let trace = traces.join("thread").display().to_string();
    // As root, as nobody, and where namespaces are forbidden: Landlock and seccomp hold by themselves.
    let people: [(&str, &[&str]); 3] = [
        ("root", &["strace", "-ff", "-qq", "-o", &trace]),
        ("nobody", &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]),
        ("without namespaces", &["python3", "-c", FORBID, "unshare"]),
    ];
    for (who, wrapper) in people {
        let store = tempfile::tempdir_in(world.folder.path()).unwrap();
        let settings = settings.clone().with("IF_STORE_PATH", store.path().display());
        let settings = settings.with("IF_CONTAINERSIGNATURE_PUBLICKEYFILE", key.display());
        fs::set_permissions(store.path(), Permissions::from_mode(0o777)).unwrap();
        let output = explain_by(&copy, &world, &settings, &schematic(&options), wrapper).unwrap();
        let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("argument escaped=nothing"), "{who}: {said} {wrong}");
        if who == "root" {
            check_trace(&traces).unwrap();
        }
        let after = fs::metadata(&secret).unwrap();
        assert_eq!((before.mode(), before.uid(), before.len()), (after.mode(), after.uid(), after.len()), "{who}");
        for place in [world.at("tmp/escaped"), "/tmp/escaped".into(), "/escaped".into(), "/dev/shm/escaped".into()] {
            assert!(!place.exists(), "{who}: {}", place.display());
        }
        check_clean(&world).unwrap();
        // Programs for boards make folders into which only root can go.
        let output = explain_by(&copy, &world, &settings, &schematic("do: closed, step: install"), wrapper).unwrap();
        let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(" 4 closed/inner/file"), "{who}: {said} {wrong}");
        check_clean(&world).unwrap();
    }
}

/// Runs what follows with one system call missing, as a kernel or a container may lack it.
pub(super) const FORBID: &str = r"
import ctypes, os, struct, sys
numbers = {'unshare': (272, 97), 'landlock_create_ruleset': (444, 444), 'seccomp': (317, 277)}
number = numbers[sys.argv[1]][os.uname().machine == 'aarch64']
code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7fff0000)]
program = b''.join(struct.pack('HBBI', *line) for line in code)
buffer = ctypes.create_string_buffer(program)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack('HxxxxxxP', len(code), ctypes.addressof(buffer)), 0, 0) == 0
os.execvp(sys.argv[2], sys.argv[2:])
";

#[test]
fn nothing_runs_unconfined() {
    let (world, settings) = world().unwrap();
    for (missing, text) in [("landlock_create_ruleset", "Landlock: "), ("seccomp", "seccomp: ")] {
        let output =
            explain(&world, &settings, &schematic("do: nothing"), &["python3", "-c", FORBID, missing]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{missing}");
        assert!(said.contains("cannot be run safely on this machine") && said.contains(text), "{missing}: {said}");
        check_clean(&world).unwrap();
    }
    // What a client is told, here where nothing can be executed in the folder for temporary files.
    let id = world.factory.post_schematic(&schematic("do: nothing")).unwrap();
    let tmp = world.at("tmp");
    run::output(Command::new("mount").args(["-t", "tmpfs", "-o", "noexec", "none"]).arg(&tmp)).unwrap();
    let answer = world.get(&format!("/image/{id}/v1.13.2/metal-arm64.iso"));
    run::output(Command::new("umount").arg(&tmp)).unwrap();
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 501);
    let said = answer.text().unwrap();
    assert!(said.contains("cannot be run safely on this machine") && said.contains("noexec"), "{said}");
}
