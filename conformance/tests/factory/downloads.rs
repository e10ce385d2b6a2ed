//! Programs that download, resume, split and map files read an ISO image, and agree on what it is.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use conformance::{cache, run};
use serde_json::{Value, json};

use super::world::{THREE, World};

const ISO: &str = "metal-amd64.iso";

/// The first bytes of an earlier attempt.
fn begun(world: &World, whole: &Path, name: &str, len: usize) -> Result<std::path::PathBuf> {
    let part = world.at(name);
    fs::write(&part, fs::read(whole)?.get(..len).context("a short image")?)?;
    Ok(part)
}

/// curl, told to end in the middle, goes on where it stopped.
fn curl_resumes(url: &str, to: &Path) -> Result<()> {
    let mut curl = Command::new("curl");
    let mut child = curl.args(["-s", "-f", "--limit-rate", "8M", "-o"]).arg(to).arg(url).spawn()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while fs::metadata(to).map_or(0, |data| data.len()) < 1 << 20 {
        ensure!(Instant::now() < deadline, "curl gets nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()?;
    let kept = fs::metadata(to)?.len();
    let mut curl = Command::new("curl");
    curl.args(["-s", "-f", "-C", "-", "-w", "%{http_code} %{size_download}", "-o"]).arg(to).arg(url);
    let said = run::text(&mut curl)?;
    let size = fs::metadata(to)?.len();
    ensure!(said == format!("206 {}", size - kept), "{said}: {kept} of {size} bytes were there");
    Ok(())
}

#[test]
fn all_clients_agree_on_an_iso_image() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let path = format!("/image/{id}/v1.13.2/{ISO}");
    let url = world.factory.url(&path);

    let folder = world.at("sums");
    fs::create_dir_all(&folder).unwrap();
    let whole = folder.join(ISO);
    run::output(Command::new("curl").args(["-s", "-f", "-o"]).arg(&whole).arg(&url)).unwrap();
    for tool in ["sha256", "sha512"] {
        let line = world.get(&format!("{path}.{tool}")).unwrap().error_for_status().unwrap().bytes().unwrap();
        fs::write(folder.join(tool), line).unwrap();
        let mut check = Command::new(format!("{tool}sum"));
        let said = run::text(check.args(["--strict", "-c", tool]).current_dir(&folder)).unwrap();
        assert_eq!(said.trim(), format!("{ISO}: OK"));
    }
    let sha256 = cache::sha256_file(&whole).unwrap();
    let size = fs::metadata(&whole).unwrap().len();
    let agrees = |file: &Path| assert_eq!(cache::sha256_file(file).unwrap(), sha256, "{}", file.display());

    let resumed = world.at("curl.iso");
    curl_resumes(&url, &resumed).unwrap();
    agrees(&resumed);

    let mut aria2 = Command::new("aria2c");
    aria2.args(["-q", "-x16", "-s16", "-k1M", "--file-allocation=none", "--no-conf", "-o", "aria2.iso", "-d"]);
    aria2.arg(world.folder.path()).arg(format!("--checksum=sha-256={sha256}"));
    run::output(aria2.arg(&url)).unwrap();
    agrees(&world.at("aria2.iso"));

    let part = begun(&world, &whole, "wget.iso", 5_000_001).unwrap();
    run::output(Command::new("wget").args(["-q", "-c", "-O"]).arg(&part).arg(&url)).unwrap();
    agrees(&part);

    let mapped = world.at("nbdkit.iso");
    let mut nbdkit = Command::new("nbdkit");
    nbdkit.args(["-U", "-", "-r", "curl"]).arg(format!("url={url}"));
    run::output(nbdkit.arg("--run").arg(format!("nbdcopy \"$uri\" '{}'", mapped.display()))).unwrap();
    agrees(&mapped);

    let driver = json!({ "driver": "raw", "file": { "driver": "http", "url": url } });
    let source = format!("json:{driver}");
    let converted = world.at("qemu.iso");
    // One request at a time: with more, QEMU 7.2 loses the end of one now and then and waits for ever, nginx's, too.
    run::output(Command::new("qemu-img").args(["convert", "-m", "1", "-O", "raw", &source]).arg(&converted)).unwrap();
    agrees(&converted);
    let mut io = Command::new("qemu-io");
    let said = run::text(io.args(["-r", "-c", "read -v 32769 5", "-c", &format!("read {} 512", size - 512), &source]));
    let said = said.unwrap();
    assert!(said.contains("43 44 30 30 31") && said.contains("read 512/512"), "{said}");
}

/// What docker and podman load is the image that the registry serves.
#[test]
fn an_installers_archive_is_the_registrys_image() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    for (image, version, arch, n) in [("installer", "v1.13.2", "amd64", 1), ("aws-installer", "v1.9.5", "arm64", 2)] {
        let digest = &world.digests(&format!("{image}/{id}"), version).unwrap()[n];
        let manifest = world.json(&format!("/v2/{image}/{id}/manifests/{digest}")).unwrap();
        let config = manifest["config"]["digest"].as_str().unwrap();
        let config = world.json(&format!("/v2/{image}/{id}/blobs/{config}")).unwrap();

        let archive = world.at(&format!("{image}-{arch}.tar"));
        let mut answer = world.get(&format!("/image/{id}/{version}/{image}-{arch}.tar")).unwrap();
        assert_eq!(answer.status(), 200);
        answer.copy_to(&mut fs::File::create(&archive).unwrap()).unwrap();
        let reference = format!("docker-archive:{}", archive.display());
        let loaded: Value =
            serde_json::from_str(&run::text(Command::new("skopeo").args(["inspect", "--config", &reference])).unwrap())
                .unwrap();
        assert_eq!(loaded, config, "{image} {arch}");
        let layout = world.at(&format!("{image}-{arch}"));
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "-q", &reference]).arg(format!("dir:{}", layout.display()));
        run::output(&mut copy).unwrap();
        let copied: Value = serde_json::from_slice(&fs::read(layout.join("manifest.json")).unwrap()).unwrap();
        let layers = copied["layers"].as_array().unwrap();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(layers.len(), diff_ids.len());
        // Uncompressed layers have the digests that the configuration names.
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            let digest = layer["digest"].as_str().unwrap().trim_start_matches("sha256:");
            let file = fs::read(layout.join(digest)).unwrap();
            let plain = if file.starts_with(&[0x1f, 0x8b]) {
                let mut plain = Vec::new();
                std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&file[..]), &mut plain).unwrap();
                plain
            } else {
                file
            };
            assert_eq!(format!("sha256:{}", cache::sha256(&plain)), diff_id.as_str().unwrap());
        }
    }
}

/// The value of a metric without labels.
fn metric(world: &World, name: &str) -> Result<u64> {
    let url = format!("http://{}/metrics", world.factory.metrics_address());
    let text = run::text(Command::new("curl").args(["-s", "-f", &url]))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no metric {name}"))?.parse()?)
}

#[test]
fn a_client_that_hangs_up_costs_nothing_more() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let url = world.factory.url(&format!("/image/{id}/v1.13.2/{ISO}"));
    run::output(Command::new("curl").args(["-s", "-f", "-I", &url])).unwrap();
    let before = metric(&world, "image_factory_http_sent_bytes_total").unwrap();
    for _ in 0..20 {
        let mut curl = Command::new("curl");
        let mut child = curl.args(["-s", "--limit-rate", "100k", &url]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while metric(&world, "image_factory_http_requests_in_flight").unwrap() > 0 {
        assert!(Instant::now() < deadline, "answers to nobody go on");
        std::thread::sleep(Duration::from_millis(50));
    }
    // What the buffers of sockets take, and no more.
    let sent = metric(&world, "image_factory_http_sent_bytes_total").unwrap() - before;
    assert!(sent < 20 * (8 << 20), "{sent} bytes");
}
