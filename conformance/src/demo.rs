//! `./conformance/demo`: from nothing to a customized Talos that boots, as an installer and as an ISO image, then a
//! server to play with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::factory::{Factory, Settings};
use crate::qemu::{Firmware, Machine, Medium};
use crate::registry::Registry;
use crate::release::{self, Size};
use crate::{oci, qemu, run};

/// The version that the demo asks for.
const VERSION: &str = "v1.13.2";

/// The image that it downloads.
const ISO: &str = "metal-amd64.iso";

/// The schematic that it posts.
const SCHEMATIC: &str = "customization:
    extraKernelArgs:
        - console=ttyS0
        - demo=hello
    systemExtensions:
        officialExtensions:
            - siderolabs/hello
            - siderolabs/qemu-guest-agent
            - siderolabs/dummy-driver
";

/// Runs the whole demo; returns when the server ends.
pub fn run() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    step("making the miniature Talos release (kept for the next time)");
    let release = release::ensure(Size::Mini)?;
    let registry = Registry::read_only(&release)?;
    println!("its registry: {}", registry.address());

    step("starting image-factory serve");
    let settings = Settings::on(&registry, &release, &at("store"));
    let factory = Factory::start(&settings, &at("factory.log"))?;
    println!("the factory: {}", factory.url("/"));

    step("posting a schematic");
    println!("{SCHEMATIC}");
    let id = factory.post_schematic(SCHEMATIC)?;
    println!("its ID: {id}");

    let image = format!("{}/installer/{id}:{VERSION}", factory.address());
    step(&format!("pulling {image} with skopeo"));
    let start = Instant::now();
    pull(&image, "amd64", &at("pulled"))?;
    println!("pulled in {:.1} s: an image that did not exist before", start.elapsed().as_secs_f64());

    step("booting the pulled UKI in QEMU under UEFI");
    let uki = at("pulled/root/usr/install/amd64/vmlinuz.efi");
    let machine = Machine { arch: "amd64", firmware: Firmware::Uefi, medium: Medium::Uki(&uki) };
    let console = qemu::boot(&machine, Duration::from_secs(600))?;
    print_console(&console)?;

    step("downloading an ISO image with curl on a bad line");
    let folder = format!("/image/{id}/{VERSION}");
    let iso = download(&factory.url(&format!("{folder}/{ISO}")), scratch.path())?;

    step("booting the ISO image as a CD in QEMU by BIOS");
    let machine = Machine { arch: "amd64", firmware: Firmware::Bios, medium: Medium::Cd(&iso) };
    let console = qemu::boot(&machine, Duration::from_secs(600))?;
    print_console(&console)?;

    step("the server goes on; Ctrl-C ends everything");
    let url = factory.url("");
    println!(
        "Try next:\n\
         \x20 curl {url}/versions\n\
         \x20 curl {url}/version/{VERSION}/extensions/official\n\
         \x20 curl --data-binary @schematic.yaml {url}/schematics\n\
         \x20 curl {url}/pxe/{id}/{VERSION}/metal-amd64\n\
         \x20 curl -sr 32768-32847 {url}{folder}/metal-arm64.iso | od -c\n\
         \x20 curl -OJ \"{url}{folder}/metal-amd64-uki.efi?filename=mine.efi\"\n\
         \x20 curl {url}{folder}/installer-amd64.tar | docker load\n\
         \x20 (also kernel-amd64, initramfs-amd64.xz, cmdline-metal-amd64; .sha256 or .sha512 behind each)\n\
         \x20 skopeo inspect --tls-verify=false docker://{image}\n\
         \x20 curl -o key.pub {url}/oci/cosign/signing-key.pub\n\
         \x20 cosign verify --key key.pub --insecure-ignore-tlog=true --allow-http-registry {image}\n\
         Its log: {}",
        at("factory.log").display()
    );
    factory.wait()
}

fn step(what: &str) {
    println!("\n== {what}");
}

/// Pulls one architecture of an image with skopeo into the layout `<to>/oci` and unpacks it into `<to>/root`.
pub fn pull(image: &str, arch: &str, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let layout = to.join("oci");
    let mut command = Command::new("skopeo");
    command.args(["--override-os", "linux", "--override-arch", arch, "copy", "--quiet", "--src-tls-verify=false"]);
    command.arg(format!("docker://{image}")).arg(format!("oci:{}:pulled", layout.display()));
    run::output(&mut command)?;
    let index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let digest = index["manifests"][0]["digest"].as_str().context("skopeo wrote no manifest")?;
    oci::unpack::image(&layout, digest, arch, &to.join("root"))
}

/// Downloads a file into a folder with curl: interrupted in the middle, continued, held against its checksum.
fn download(url: &str, folder: &Path) -> Result<PathBuf> {
    let curl = |args: &[&str]| {
        println!("$ curl {}", args.join(" "));
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail"]).args(args).current_dir(folder);
        command
    };
    let head = run::text(&mut curl(&["--head", url]))?;
    print!("{head}");
    let header = |line: &str| line.to_lowercase().strip_prefix("content-length:").map(|value| value.trim().to_owned());
    let length: u64 = head.lines().find_map(header).context("the answer has no length")?.parse()?;
    let (_, name) = url.rsplit_once('/').context("the URL has no path")?;
    let file = folder.join(name);
    let there = || file.metadata().map_or(0, |metadata| metadata.len());

    // Slow enough to be caught in the middle.
    let rate = (length / 4).to_string();
    let mut child = curl(&["--limit-rate", &rate, "--remote-name", url]).spawn().context("cannot start curl")?;
    while there() < length / 3 && child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    if child.try_wait()?.is_none() {
        // Not SIGINT: that is ignored by what is started in the background.
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    }
    let (status, first) = (child.wait()?, there());
    ensure!(!status.success() && first > 0, "curl was not interrupted in the middle: {status}, {first} bytes");
    println!("ended in the middle: {first} of {length} bytes are there");

    let answer = "%{http_code} %{size_download}";
    let answer = run::text(&mut curl(&["--continue-at", "-", "--write-out", answer, "--remote-name", url]))?;
    ensure!(answer == format!("206 {}", length - first), "the answer to the rest: {answer}");
    println!("status {answer} bytes");

    run::output(&mut curl(&["--remote-name", &format!("{url}.sha256")]))?;
    println!("$ sha256sum -c {name}.sha256");
    print!("{}", run::text(run::command("sha256sum", &["-c", &format!("{name}.sha256")]).current_dir(folder))?);
    Ok(file)
}

fn print_console(console: &qemu::Console) -> Result<()> {
    println!("kernel: {}\ncommand line: {}", console.kernel, console.cmdline);
    ensure!(console.failures.is_empty(), "the booted system says: {}", console.failures.join("; "));
    println!("extensions that the booted system sees:");
    for layer in console.listed()? {
        let files = console.extensions.iter().find(|(image, _)| *image == layer.image);
        let (_, files) = files.with_context(|| format!("{} was not mounted", layer.image))?;
        println!(
            "  {:18} {:24} {:16} {} files",
            layer.image,
            layer.metadata.name,
            short(&layer.metadata.version),
            files.len()
        );
    }
    println!("modules loaded from extensions: {}", console.modules.join(" "));
    Ok(())
}

fn short(version: &str) -> &str {
    version.get(..16).unwrap_or(version)
}
