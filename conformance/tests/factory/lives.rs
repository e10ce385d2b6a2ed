//! A factory's life: slow clients, restarts, an upstream that is down.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use conformance::factory::{Factory, Settings};
use conformance::registry::Registry;
use conformance::release::{self, Size};
use conformance::run;
use nix::sys::signal::Signal;

use super::world::{THREE, World, digests, get};

#[test]
fn digests_survive_a_restart_while_the_upstream_is_down() {
    let release = release::ensure(Size::Mini).unwrap();
    let registry = Registry::read_only(&release).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // The address is a part of what is made, so it must not move with the port.
    let settings = Settings::on(&registry, &release, &folder.path().join("store"))
        .with("IF_HTTP_EXTERNALURL", "http://factory.example/");
    let start = |log: &str| Factory::start(&settings, &folder.path().join(log)).unwrap();

    let first = start("first.log");
    let id = first.post_schematic(THREE).unwrap();
    let image = format!("installer/{id}");
    let before = digests(&first, &image, "v1.13.2").unwrap();
    let manifest = get(&first, &format!("/v2/{image}/manifests/{}", before[1])).unwrap().text().unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layers: Vec<String> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect();
    let bodies: Vec<_> = layers
        .iter()
        .map(|layer| get(&first, &format!("/v2/{image}/blobs/{layer}")).unwrap().bytes().unwrap())
        .collect();
    let extensions = get(&first, "/version/v1.13.2/extensions/official").unwrap().text().unwrap();
    first.stop(Duration::from_secs(30)).unwrap();
    drop(registry);

    let second = start("second.log");
    for (layer, body) in layers.iter().zip(&bodies) {
        let again = get(&second, &format!("/v2/{image}/blobs/{layer}")).unwrap();
        assert_eq!(again.status(), 200);
        assert!(again.bytes().unwrap() == body, "{layer}");
    }
    assert_eq!(digests(&second, &image, "v1.13.2").unwrap(), before);
    assert_eq!(get(&second, "/version/v1.13.2/extensions/official").unwrap().text().unwrap(), extensions);
    assert_eq!(get(&second, "/versions").unwrap().status(), 200, "the last good list stays");
    assert_eq!(get(&second, "/v2/siderolabs/imager/manifests/v1.13.2").unwrap().status(), 200);
    let never = get(&second, &format!("/v2/{image}/manifests/v1.12.1")).unwrap();
    assert_eq!(never.status(), 503, "never fetched, and the upstream is down");
    assert!(never.headers().contains_key("retry-after"));
}

#[test]
fn without_an_upstream_it_starts_and_says_not_ready() {
    let release = release::ensure(Size::Mini).unwrap();
    let registry = Registry::read_only(&release).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::on(&registry, &release, &folder.path().join("store"));
    drop(registry);
    let factory = Factory::start_unready(&settings, &folder.path().join("log")).unwrap();
    let ready = get(&factory, "/readyz").unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().unwrap().contains("not ready"));
    factory.post_schematic(THREE).unwrap();
    assert_eq!(get(&factory, "/versions").unwrap().status(), 503);
}

#[test]
fn a_silent_client_is_let_go_and_a_drain_lets_a_download_finish() {
    let release = release::ensure(Size::Mini).unwrap();
    let registry = Registry::read_only(&release).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings =
        Settings::on(&registry, &release, &folder.path().join("store")).with("IF_HTTP_HEADERREADTIMEOUT", "1s");
    let factory = Factory::start(&settings, &folder.path().join("log")).unwrap();
    let mut silent = TcpStream::connect(factory.address()).unwrap();
    silent.write_all(b"GET /heal").unwrap();
    let began = Instant::now();
    let mut nothing = Vec::new();
    let _ = silent.read_to_end(&mut nothing);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    let id = factory.post_schematic(THREE).unwrap();
    let image = format!("installer/{id}");
    let [_, amd64, _] = digests(&factory, &image, "v1.13.2").unwrap();
    let manifest = get(&factory, &format!("/v2/{image}/manifests/{amd64}")).unwrap().text().unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layer = manifest["layers"][1]["digest"].as_str().unwrap().to_owned();
    let size = manifest["layers"][1]["size"].as_u64().unwrap();
    let mut download = get(&factory, &format!("/v2/{image}/blobs/{layer}")).unwrap();
    let mut first = [0; 1024];
    download.read_exact(&mut first).unwrap();
    factory.signal(Signal::SIGTERM).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(TcpStream::connect(factory.address()).is_err(), "no new connections");
    let rest = std::io::copy(&mut download, &mut std::io::sink()).unwrap();
    assert_eq!(rest + 1024, size);
    drop(download);
    factory.stop(Duration::from_secs(30)).unwrap();
}

#[test]
fn http2_tls_and_other_tools_on_the_store() {
    let world = World::start().unwrap();
    let version = run::text(Command::new("curl").args([
        "-s",
        "--http2-prior-knowledge",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version}",
        &world.factory.url("/healthz"),
    ]));
    assert_eq!(version.unwrap(), "2");
    let metrics = format!("http://{}/metrics", world.factory.metrics_address());
    let metrics = run::text(Command::new("curl").args(["-s", &metrics])).unwrap();
    assert!(metrics.contains("image_factory_http_requests_total{"), "{metrics}");

    let (cert, key) = (world.at("cert.pem"), world.at("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]);
    run::output(openssl.arg("-keyout").arg(&key).arg("-out").arg(&cert)).unwrap();
    let settings = Settings::on(&world.registry, &world.release, &world.at("tls-store"))
        .with("IF_HTTP_CERTFILE", cert.display())
        .with("IF_HTTP_KEYFILE", key.display());
    let port = conformance::registry::free_port().unwrap();
    let mut serve = Command::new(conformance::factory::program().unwrap());
    serve.arg("serve").envs(&settings.variables);
    serve.env("IF_HTTP_HTTPLISTENADDR", format!("127.0.0.1:{port}")).env("IF_METRICS_ADDR", "");
    let mut child = serve.stderr(std::process::Stdio::null()).spawn().unwrap();
    let curl = || {
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "-w",
            "%{http_version} %{http_code}",
            "--retry",
            "20",
            "--retry-connrefused",
            "--retry-delay",
            "1",
        ]);
        run::text(curl.arg("--cacert").arg(&cert).arg(format!("https://127.0.0.1:{port}/healthz")))
    };
    let answer = curl();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answer.unwrap(), "2 200");

    let id = world.factory.post_schematic(THREE).unwrap();
    world.digests(&format!("installer/{id}"), "v1.13.2").unwrap();
    let image = format!("oci:{}:siderolabs/imager:v1.13.2", world.at("store").display());
    run::output(Command::new("skopeo").args(["inspect", &image])).unwrap();
    let image = format!("{}:siderolabs/imager:v1.13.2-amd64", world.at("store").display());
    run::output(Command::new("umoci").args(["stat", "--image", &image])).unwrap();
}
