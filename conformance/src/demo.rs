//! `./conformance/demo`: from nothing to a booted, customized Talos, then a server to play with.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::factory::{Factory, Settings};
use crate::qemu::{Firmware, Machine, Medium};
use crate::registry::Registry;
use crate::release::{self, Size};
use crate::{oci, qemu, run};

/// The version that the demo asks for.
const VERSION: &str = "v1.13.2";

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

    step("the server goes on; Ctrl-C ends everything");
    let url = factory.url("");
    println!(
        "Try next:\n\
         \x20 curl {url}/versions\n\
         \x20 curl {url}/version/{VERSION}/extensions/official\n\
         \x20 curl --data-binary @schematic.yaml {url}/schematics\n\
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
