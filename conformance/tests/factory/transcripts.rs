//! Recorded exchanges of the reference implementation, replayed: same status and meaning, but for the table.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result};
use serde_json::Value;

use super::world::World;

/// Where we differ on purpose: name of the exchange (a prefix if it ends in `*`), part of its path, the reference's
/// status, ours, and why.
const DEVIATIONS: &[(&str, &str, u64, u16, &str)] = &[
    ("schematic-get-empty-before-any-post", "", 404, 200, "the empty schematic always exists"),
    ("llms-head", "", 405, 200, HEAD),
    ("versions-method", "", 405, 200, HEAD),
    ("extensions-head", "", 405, 200, HEAD),
    ("overlays-head", "", 405, 200, HEAD),
    ("talosctl-list-head", "", 405, 200, HEAD),
    ("schematic-head", "", 405, 200, HEAD),
    ("cosign-key", "", 405, 200, HEAD),
    ("extensions-official", "/v1.14.0-alpha.0/", 500, 404, "the upstream has no catalog of it"),
    ("extensions-official", "/v1.2.0/", 500, 404, "the upstream has no catalog of it"),
    ("extensions-official", "/v1.12.5/", 500, 404, PHANTOM),
    ("overlays-official", "/v1.12.5/", 500, 404, PHANTOM),
    ("v2-manifest-phantom", "", 500, 404, PHANTOM),
    ("extensions-official", "", 500, 400, MALFORMED),
    ("overlays-official", "", 500, 400, MALFORMED),
    ("talosctl-list", "/foo", 500, 400, MALFORMED),
    ("talosctl-list", "/v1.13", 200, 400, MALFORMED),
    ("talosctl-file-bad-version", "", 500, 400, MALFORMED),
    ("v2-manifest-v", "", 500, 400, MALFORMED),
    ("v2-manifest-bad", "", 500, 400, MALFORMED),
    ("v2-manifest-short", "", 500, 400, MALFORMED),
    ("v2-manifest-plus", "", 500, 400, MALFORMED),
    ("v2-manifest-digest-bad", "", 500, 400, MALFORMED),
    ("talosctl-file", "plan9", 500, 404, "no such file, and we say so"),
    ("talosctl-file", "/.", 200, 404, "a folder is no file"),
    ("talosctl-file-range", "", 200, 206, "ranges work"),
    ("schematic-enroll-never", "", 201, 400, VALUES),
    ("schematic-enroll-OFF", "", 201, 400, VALUES),
    ("schematic-sector-513", "", 201, 400, VALUES),
    ("schematic-sector-4294967296", "", 201, 400, VALUES),
    ("schematic-sector-1e3", "", 201, 400, VALUES),
    ("schematic-create", "", 201, 400, VALUES),
    ("schematic-big-*", "", 201, 413, "a schematic has 1 MiB at most"),
    ("v2-*", "secureboot", 200, 400, "secure boot is not available yet"),
    ("v2-tags-list", "", 404, 200, "the versions are listed"),
    ("v2-manifest-accept-*", "", 404, 200, "an Accept header never refuses"),
    ("v2-source-noaccept", "", 404, 200, "an Accept header never refuses"),
    ("v2-manifest-nov", "", 404, 200, "tags with and without v"),
    ("v2-image-name", "", 500, 400, "what cannot be made is the caller's to mend"),
    ("v2-incompatible-ext", "", 500, 400, "what cannot be made is the caller's to mend"),
    ("v2-unsigned", "", 500, 502, "the upstream's image is at fault, and named"),
    ("v2-blob-range-bad", "", 0, 416, "the reference closes the connection"),
    ("v2-referrers-tag", "", 404, 200, "the referrers tag for clients without the API"),
    ("v2-signature-amd64", "", 404, 200, "manifests are signed, too"),
    ("v2-referrers-bad", "", 404, 400, "the distribution specification asks for 400"),
    ("v2-referrers-tag-as-digest", "", 404, 400, "the distribution specification asks for 400"),
    ("v2-source-referrers", "", 404, 200, "referrers of source images are listed: none of what does not exist"),
    ("v2-write", "", 301, 404, "the reference redirects to its own backing store"),
    ("v2-blob-get", "sha256:09f2ea3da", 200, 404, RECORDED),
    ("v2-blob-head", "sha256:09f2ea3da", 200, 404, RECORDED),
    ("v2-blob-source-through-generated", "", 200, 404, RECORDED),
    ("v2-signature-blob", "", 200, 404, RECORDED),
    ("v2-source-by-digest", "", 200, 404, RECORDED),
    ("v2-source-bundle-fallback-tag", "", 200, 404, RECORDED),
    ("v2-source-config", "", 200, 404, RECORDED),
    ("v2-source-layer-*", "", 200, 404, RECORDED),
    ("v2-source-layer-range", "", 206, 404, RECORDED),
    ("image-empty-schematic-before-any-post", "", 404, 200, "the empty schematic always exists"),
    ("image-cmdline-platform", "", 500, 400, PLATFORM),
    ("image-uki", "/foo-", 500, 400, PLATFORM),
    ("image-iso", "", 500, 400, PLATFORM),
    ("image-installer-tar", "/foo-", 500, 400, PLATFORM),
    ("image-disk", "/foo-", 500, 400, PLATFORM),
    ("pxe", "/foo-", 500, 400, PLATFORM),
    ("image-version", "/v1.12.5/", 500, 404, PHANTOM),
    ("image-version", "", 500, 400, MALFORMED),
    ("pxe-bad-version", "", 500, 400, MALFORMED),
    ("pxe-head", "", 405, 200, HEAD),
    ("image-initramfs-incompatible-ext", "", 500, 400, "what cannot be made is the caller's to mend"),
    ("image-initramfs-unsigned-ext", "", 500, 502, "the upstream's image is at fault, and named"),
    ("image-uki-v1.2", "", 500, 404, "the upstream has no catalog of it"),
    ("image-*", "-secureboot", 200, 400, "secure boot is not available yet"),
    ("pxe", "-secureboot", 200, 400, "secure boot is not available yet"),
    ("image-iso-bootloader-enroll-bad", "", 400, 404, VALUES),
    ("image-disk-sector-513", "", 500, 404, VALUES),
    ("image-nopath", "", 301, 404, "the reference redirects to a path that leads nowhere"),
    ("image-disk", ".ova", 500, 200, "its converter was not at hand where the recording was made"),
    ("image-disk-overlay-board", "", 500, 502, "the image lacks the installer that the catalog names"),
    ("image-disk-arm64-dual", "", 500, 400, "what cannot be made is the caller's to mend"),
    ("image-iso-range", "", 200, 206, "ranges work"),
    ("image-iso-range-bad", "", 200, 416, "ranges work"),
    ("image-iso-if-none-match", "", 200, 304, "conditional requests work"),
    ("image-filename-query", "=..%2f..%2fx", 200, 400, "a file name holds no slash"),
    ("image-filename-query", "=%0d%0aX-Evil:1", 200, 400, "a file name holds no control characters"),
    ("image-sidecar", ".sigstore.json.sha256", 402, 400, "a signature has no checksum"),
    ("image-sidecar", ".sigstore.json", 402, 200, "signatures are there for everybody"),
    ("image-sidecar", ".sha256.sha256", 402, 400, "a checksum has no checksum"),
    ("image-sidecar", "", 402, 200, CHECKSUMS),
    ("image-sidecar-head", "", 402, 200, CHECKSUMS),
    ("image-sidecar-unknown-schematic", "", 402, 404, CHECKSUMS),
];

/// Headers of 200 that differ on purpose: name of the exchange, part of its path, what ours is, and why.
const HEADERS: &[(&str, &str, &str, &str)] = &[
    ("image-filename-query", "%22x%22", r#"attachment; filename="\"x\".iso""#, "quotes are quoted"),
    ("image-filename-query", "%C3%A9", "attachment; filename=\"_.iso\"; filename*=UTF-8''%C3%A9.iso", "RFC 8187"),
];

/// Words in front of causes in the reference's answers; ours begin with the cause.
const PREFIXES: &[&str] = &["failed to get kernel: ", "error enhancing profile from schematic: "];

const HEAD: &str = "HEAD wherever GET is";
const PHANTOM: &str = "a tag without v is not listed";
const MALFORMED: &str = "a malformed version or digest is the caller's to mend";
const VALUES: &str = "values that would fail later are refused at once";
const PLATFORM: &str = "an unknown platform is the caller's to mend";
const CHECKSUMS: &str = "checksums are there for everybody";
const RECORDED: &str = "a digest of the release that the recording was made with; ours has others";

/// Exchanges of routes that come with later assets.
const LATER: &[&str] = &["ui", "secureboot"];

/// Longest body that is read: whole images are compared elsewhere.
const MAX_BODY: u64 = 1 << 20;

/// The schematic that most exchanges of the registry use.
const SCHEMATIC: &str = "4cb752c6595e15c963a038bbc4fc3e96a85abe01da3d43a06c4e1a0f299217cc";

/// One answer, read from the wire: paths such as `//x` and `/..` must reach the server as they are.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn send(address: &str, method: &str, path: &str, headers: &[(String, String)], body: Option<&[u8]>) -> Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body.unwrap_or_default())?;
    let mut all = Vec::new();
    stream.take(MAX_BODY).read_to_end(&mut all)?;
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").context("no head")?;
    let text = std::str::from_utf8(&all[..end])?;
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
    Ok(Answer { status, headers, body: all[end + 4..].to_vec() })
}

/// What stands for the masked digests of a recording in this world.
fn masks(world: &World) -> Result<BTreeMap<String, String>> {
    let mut masks = BTreeMap::new();
    let image = format!("installer/{SCHEMATIC}");
    let [index, amd64, arm64] = world.digests(&image, "v1.13.2")?;
    for name in ["installer", "metal-installer"] {
        masks.insert(format!("{name}-v1.13.2-index"), index.clone());
        for (arch, digest) in [("amd64", &amd64), ("arm64", &arm64)] {
            let manifest = world.json(&format!("/v2/{image}/manifests/{digest}"))?;
            let at = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            masks.insert(format!("{name}-v1.13.2-{arch}-manifest"), digest.clone());
            masks.insert(format!("{name}-v1.13.2-{arch}-config"), at("/config/digest"));
            masks.insert(format!("{name}-v1.13.2-{arch}-layer1"), at("/layers/1/digest"));
        }
    }
    Ok(masks)
}

fn unmask(text: &str, masks: &BTreeMap<String, String>) -> String {
    let mut out = text.to_owned();
    for (name, digest) in masks {
        out = out.replace(&format!("{{digest:{name}}}"), digest);
        out = out.replace(&format!("{{hex:{name}}}"), digest.trim_start_matches("sha256:"));
    }
    out
}

fn body(recorded: &Value) -> Option<Vec<u8>> {
    match recorded {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Object(map) => match map.get("hex").and_then(Value::as_str) {
            Some(text) => hex::decode(text).ok(),
            None => Some(vec![b'x'; usize::try_from(map.get("length")?.as_u64()?).ok()?]),
        },
        _ => None,
    }
}

/// The status that we should give, and whether the table says so.
fn expected(name: &str, path: &str, golden: u64) -> Option<(u16, usize)> {
    DEVIATIONS
        .iter()
        .position(|(of, part, status, ..)| {
            let named = of.strip_suffix('*').map_or(name == *of, |prefix| name.starts_with(prefix));
            named && path.contains(part) && *status == golden
        })
        .map(|at| (DEVIATIONS[at].3, at))
}

/// What is wrong about an answer for an asset or a script whose status is the recorded one.
fn compare_asset(host: &str, exchange: &Value, answer: &Answer, used: &mut [bool]) -> Vec<String> {
    let (name, path) = (exchange["name"].as_str().unwrap_or_default(), exchange["path"].as_str().unwrap_or_default());
    let mut wrong = Vec::new();
    let text = String::from_utf8_lossy(&answer.body);
    let base = match exchange["request_headers"]["Authorization"].as_str() {
        // The reference carries credentials only where it asks for them.
        Some("Basic dTpw") => format!("http://u:p@{host}"),
        _ => format!("http://{host}"),
    };
    let golden = exchange["body"].as_str().map(|body| body.replace("{base}", &base));
    if answer.status != 200 {
        let cause = PREFIXES
            .iter()
            .fold(golden.as_deref().unwrap_or_default(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
        // The overlay that the reference does not name.
        let cause = if name == "image-initramfs-overlay-unknown" { "official overlay \"nosuch\"" } else { cause };
        if !matches!(answer.status, 301 | 405) && !text.starts_with(cause.trim_end()) {
            wrong.push(format!("{name} {path}: {text:?} is not {cause:?}"));
        }
        return wrong;
    }
    if golden.as_deref().is_some_and(|golden| *golden != *text) {
        wrong.push(format!("{name} {path}: {text:?} is not {golden:?}"));
    }
    for header in ["Content-Type", "Content-Disposition"] {
        let recorded = exchange["headers"].as_array().into_iter().flatten().find(|pair| pair[0] == header);
        let recorded = recorded.and_then(|pair| pair[1].as_str());
        let listed = HEADERS
            .iter()
            .position(|(of, part, ..)| header == "Content-Disposition" && *of == name && path.contains(part));
        if let Some(at) = listed {
            used[at] = true;
        }
        let want = listed.map_or(recorded, |at| Some(HEADERS[at].2));
        let ours = answer.headers.get(&header.to_lowercase()).map(String::as_str);
        if ours != want {
            wrong.push(format!("{name} {path}: {header} {ours:?} is not {want:?}"));
        }
    }
    wrong
}

#[test]
fn recorded_exchanges_go_as_they_went() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/http/transcripts.jsonl.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(golden).unwrap()).read_to_string(&mut text).unwrap();
    let world = World::start().unwrap();
    let mut known = BTreeMap::new();
    let (mut replayed, mut wrong, mut used) = (0, Vec::new(), vec![false; DEVIATIONS.len()]);
    let mut headers_used = vec![false; HEADERS.len()];
    for line in text.lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        let name = exchange["name"].as_str().unwrap();
        if LATER.iter().any(|later| name.starts_with(later)) {
            continue;
        }
        let (method, path) = (exchange["method"].as_str().unwrap(), exchange["path"].as_str().unwrap());
        if known.is_empty() && line.contains("-v1.13.2-") && name.starts_with("v2-") && path.contains('{') {
            known = masks(&world).unwrap();
        }
        let headers: Vec<(String, String)> = exchange["request_headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), unmask(value.as_str().unwrap_or_default(), &known)))
            .collect();
        let request = body(&exchange["request_body"]);
        let answer =
            send(world.factory.address(), method, &unmask(path, &known), &headers, request.as_deref()).unwrap();
        replayed += 1;

        let golden = exchange["status"].as_u64().unwrap();
        let listed = expected(name, path, golden);
        let same = u64::from(answer.status) == golden;
        match listed {
            Some((ours, at)) if answer.status == ours => used[at] = true,
            _ if same => {}
            _ => wrong.push(format!(
                "{name} {method} {path}: {golden} is {}: {:?}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )),
        }
        if !answer.headers.contains_key("x-request-id") || !answer.headers.contains_key("server") {
            wrong.push(format!("{name}: no request ID or server"));
        }
        if answer.status >= 400 && method != "HEAD" && !path.starts_with("/v2") && answer.body.last() != Some(&b'\n') {
            wrong.push(format!("{name}: {:?} is no line", String::from_utf8_lossy(&answer.body)));
        }
        if same && (name.starts_with("image") || name.starts_with("pxe")) {
            wrong.extend(compare_asset(world.factory.address(), &exchange, &answer, &mut headers_used));
        }
        if golden == 201 && answer.status == 201 {
            let (ours, golden): (Value, Value) = (
                serde_json::from_slice(&answer.body).unwrap(),
                serde_json::from_str(exchange["body"].as_str().unwrap()).unwrap(),
            );
            if (&ours["id"], &ours["schematic"]) != (&golden["id"], &golden["schematic"]) {
                wrong.push(format!("{name}: {ours} is not {golden}"));
            }
        }
        if same && golden == 200 && matches!(name, "versions-broken" | "schematic-get") {
            assert_eq!(String::from_utf8_lossy(&answer.body), exchange["body"].as_str().unwrap(), "{name}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(replayed > 600, "{replayed} exchanges");
    let idle: Vec<_> = DEVIATIONS.iter().zip(used).filter(|(_, used)| !used).map(|(row, _)| row).collect();
    assert!(idle.is_empty(), "rows of the table that nothing needs: {idle:?}");
    let idle: Vec<_> = HEADERS.iter().zip(headers_used).filter(|(_, used)| !used).map(|(row, _)| row).collect();
    assert!(idle.is_empty(), "rows of the table of headers that nothing needs: {idle:?}");
}
