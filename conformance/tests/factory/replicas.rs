//! Two factories that know nothing of each other, but for the key and the address, give the same bytes.

use std::collections::BTreeSet;
use std::io::Read as _;

use anyhow::{Context, Result, ensure};
use conformance::factory::{Factory, Settings};
use conformance::registry::Registry;
use conformance::release::{self, Size};
use reqwest::blocking::Client;
use sha2::{Digest as _, Sha256};

/// Models that are asked for.
const MODELS: usize = 200;
/// Each of this many is read to its end, too.
const READ: usize = 20;

/// Numbers that look random and are the same every time (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// Some of a list, in any order.
    fn some<'a>(&mut self, list: &[&'a str]) -> Vec<&'a str> {
        let mut rest = list.to_vec();
        (0..self.below(list.len() + 1)).map(|_| rest.swap_remove(self.below(rest.len()))).collect()
    }
}

const EXTENSIONS: [&str; 6] =
    ["hello", "qemu-guest-agent", "dummy-driver", "intel-ucode", "amd-ucode", "v4l-uvc-drivers"];
const ARGS: [&str; 5] = ["console=ttyS0", "-slab_nomerge", "net.ifnames=0", "quiet", "a=\"b c\""];
const PLATFORMS: [&str; 6] = ["metal", "aws", "digital-ocean", "nocloud", "vmware", "openstack"];

/// A schematic, a version and a path that can be made.
fn model(random: &mut Random) -> (String, String) {
    let version = random.of(&["v1.9.5", "v1.10.7", "v1.11.2", "v1.12.1", "v1.13.0", "v1.13.2", "v1.14.0-beta.0"]);
    let mut yaml = "customization:\n".to_owned();
    let args = random.some(&ARGS);
    if !args.is_empty() {
        yaml.push_str("  extraKernelArgs:\n");
        args.iter().for_each(|arg| yaml.push_str(&format!("    - '{arg}'\n")));
    }
    let meta = random.below(4);
    if meta > 0 {
        yaml.push_str("  meta:\n");
        (0..meta).for_each(|n| yaml.push_str(&format!("    - {{key: {}, value: '{}'}}\n", 14 - n, random.next())));
    }
    let extensions = random.some(&EXTENSIONS);
    if !extensions.is_empty() {
        yaml.push_str("  systemExtensions:\n    officialExtensions:\n");
        extensions.iter().for_each(|name| yaml.push_str(&format!("      - siderolabs/{name}\n")));
    }
    if version >= "v1.12" && version != "v1.9.5" && random.below(2) == 0 {
        yaml.push_str(&format!("  bootloader: {}\n", random.of(&["dual-boot", "sd-boot", "grub"])));
    }
    let (platform, arch) = (random.of(&PLATFORMS), random.of(&["amd64", "arm64"]));
    let path = match random.below(8) {
        0 => format!("kernel-{arch}"),
        1 => format!("initramfs-{arch}.xz"),
        2 => format!("cmdline-{platform}-{arch}"),
        3 => format!("{platform}-{arch}-uki.efi"),
        4 => format!("{platform}-installer-{arch}.tar"),
        _ => format!("{platform}-{arch}.iso"),
    };
    if yaml.lines().count() == 1 {
        yaml = "customization: {}\n".to_owned();
    }
    (yaml, format!("{version}/{path}"))
}

/// What a factory says of a path: entity tag, length, and the digest of all bytes if they are to be read.
fn answer(client: &Client, url: &str, read: bool) -> Result<(String, u64, Option<String>)> {
    let request = if read { client.get(url) } else { client.head(url) };
    let mut answer = request.send()?;
    let status = answer.status();
    ensure!(status == 200, "{url}: {status} {}", answer.text().unwrap_or_default());
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (etag, len) = (header("etag").context("no entity tag")?, header("content-length").context("no length")?);
    let digest = if read {
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            match answer.read(&mut buffer)? {
                0 => break Some(hex::encode(hasher.finalize())),
                n => hasher.update(&buffer[..n]),
            }
        }
    } else {
        None
    };
    Ok((etag, len.parse()?, digest))
}

#[test]
fn factories_with_stores_of_their_own_give_the_same_bytes() {
    let release = release::ensure(Size::Mini).unwrap();
    let registry = Registry::read_only(&release).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let start = |name: &str| {
        let settings = Settings::on(&registry, &release, &at(name))
            .with("IF_HTTP_EXTERNALURL", "http://factory.example/")
            .with("IF_CACHE_SIGNINGKEYPATH", at("key.pem").display());
        Factory::start(&settings, &at(&format!("{name}.log"))).unwrap()
    };
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]).arg(at("key.pem"));
    conformance::run::output(&mut openssl).unwrap();
    let (one, other) = (start("one"), start("other"));
    let client = Client::builder().timeout(None).build().unwrap();
    let mut random = Random(4);
    let models: Vec<(String, String)> = (0..MODELS).map(|_| model(&mut random)).collect();
    let ask = |factory: &Factory, order: &mut dyn Iterator<Item = usize>| {
        let mut answers = vec![(String::new(), 0, None); MODELS];
        for n in order {
            let (yaml, path) = &models[n];
            let id = factory.post_schematic(yaml).unwrap();
            let url = factory.url(&format!("/image/{id}/{path}"));
            answers[n] =
                answer(&client, &url, n % (MODELS / READ) == 0).unwrap_or_else(|error| panic!("{yaml}{error:?}"));
        }
        answers
    };
    // In another order, so that what is at hand differs; at one time, as replicas do.
    let (first, second) = std::thread::scope(|scope| {
        let backwards = scope.spawn(|| ask(&other, &mut (0..MODELS).rev()));
        let forwards = ask(&one, &mut (0..MODELS));
        (forwards, backwards.join().unwrap())
    });
    for (n, (yaml, path)) in models.iter().enumerate() {
        assert_eq!(first[n], second[n], "{path} of\n{yaml}");
    }
    let tags: BTreeSet<&String> = first.iter().map(|(etag, ..)| etag).collect();
    assert!(tags.len() > MODELS / 2, "{} different models", tags.len());
    assert_eq!(first.iter().filter(|(.., digest)| digest.is_some()).count(), READ);
}
