//! What the init of the miniature release says on the serial console.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// What the booted system said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    /// Release of the kernel.
    pub kernel: String,
    /// The kernel command line, as the kernel saw it.
    pub cmdline: String,
    /// The text of `extensions.yaml`.
    pub extensions_yaml: String,
    /// Mounted extension images in order, each with its files (paths from `/`).
    pub extensions: Vec<(String, Vec<String>)>,
    /// Firmware files beside the extensions.
    pub firmware: Vec<String>,
    /// Modules of extensions that loaded through their index.
    pub modules: Vec<String>,
    /// Names of the disk's partitions in order, each with the bytes a sector that Linux sees.
    pub partitions: Vec<(String, u32)>,
    /// What the partition META holds, by key; nothing where it has no values.
    pub meta: Option<Vec<(u32, String)>>,
    /// What went wrong inside.
    pub failures: Vec<String>,
    /// All of the console's text.
    pub text: String,
}

/// An entry of `extensions.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Listed {
    /// The image, a file beside the list.
    pub image: String,
    /// What the manifest of the extension says.
    pub metadata: Metadata,
}

/// What is read of an extension's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    /// Name of the extension.
    pub name: String,
    /// Version of the extension.
    pub version: String,
}

impl Console {
    /// Reads the init's lines; an error when the end mark is missing.
    pub fn parse(text: &str) -> Result<Self> {
        let mut console = Self { text: text.to_owned(), ..Self::default() };
        let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut images = Vec::new();
        let mut started = false;
        let mut done = false;
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            let Some((word, rest)) = line.split_once(':') else { continue };
            let value = rest.strip_prefix(' ').unwrap_or(rest);
            match (word, value) {
                ("TALOS-MINI", "start") => started = true,
                ("TALOS-MINI", "done") => done = true,
                _ if !started => {}
                ("kernel", _) => console.kernel = value.to_owned(),
                ("cmdline", _) => console.cmdline = value.to_owned(),
                ("yaml", _) => {
                    console.extensions_yaml.push_str(value);
                    console.extensions_yaml.push('\n');
                }
                ("extension", _) => images.push(value.to_owned()),
                ("file", _) => {
                    let (image, path) = value.split_once(' ').with_context(|| format!("odd line: {line}"))?;
                    files.entry(image.to_owned()).or_default().push(path.to_owned());
                }
                ("firmware", _) => console.firmware.push(value.to_owned()),
                ("modprobe", _) if !value.contains(' ') => console.modules.push(value.to_owned()),
                ("partition", _) => {
                    let (name, sector) = value.rsplit_once(" of ").with_context(|| format!("odd line: {line}"))?;
                    console.partitions.push((name.to_owned(), sector.parse().context("no number")?));
                }
                ("meta", _) => console.meta = Some(meta(&hex::decode(value).context("META is no hex")?)?),
                ("failed", _) => console.failures.push(value.to_owned()),
                _ => {}
            }
        }
        if !done {
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!("the console ends without the end mark:\n{}", tail.join("\n"));
        }
        console.extensions =
            images.into_iter().map(|image| (image.clone(), files.remove(&image).unwrap_or_default())).collect();
        Ok(console)
    }

    /// The extensions that the booted system knows of, in order.
    pub fn listed(&self) -> Result<Vec<Listed>> {
        #[derive(Deserialize)]
        struct List {
            layers: Vec<Listed>,
        }
        let list: List = serde_yaml::from_str(&self.extensions_yaml).context("cannot read extensions.yaml")?;
        Ok(list.layers)
    }

    /// Whether UEFI firmware gave the kernel its tables.
    pub fn by_uefi(&self) -> bool {
        self.text.contains("efi: EFI v")
    }
}

/// The values in the first bytes of a META partition: magic; key, length (big-endian) and bytes of each; zeros.
pub fn meta(partition: &[u8]) -> Result<Vec<(u32, String)>> {
    let Some(mut rest) = partition.strip_prefix(&[0x5a, 0x4b, 0x3c, 0x2d]) else {
        ensure!(partition.iter().all(|byte| *byte == 0), "META begins with {:x?}", partition.get(..4));
        return Ok(Vec::new());
    };
    let mut values = Vec::new();
    loop {
        let ([key, len], more) = numbers(rest).context("META is cut off")?;
        if key == 0 {
            return Ok(values);
        }
        let value = more.get(..len as usize).context("a META value is cut off")?;
        values.push((key, String::from_utf8(value.to_vec())?));
        rest = &more[len as usize..];
    }
}

/// Two big-endian numbers, and what follows.
fn numbers(bytes: &[u8]) -> Option<([u32; 2], &[u8])> {
    let (one, rest) = bytes.split_first_chunk::<4>()?;
    let (two, rest) = rest.split_first_chunk::<4>()?;
    Some(([u32::from_be_bytes(*one), u32::from_be_bytes(*two)], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "file: 0.sqsh /of/the/firmware\r\n\
        [    0.0] efi: EFI v2.7 by EDK II\r\n\
        TALOS-MINI: start\r\n\
        kernel: 6.12\r\n\
        cmdline: console=ttyS0 a=b:c\r\n\
        yaml: layers:\r\n\
        yaml:     - image: 0.sqsh\r\n\
        yaml:       metadata:\r\n\
        yaml:         name: hello\r\n\
        yaml:         version: 1.0.0\r\n\
        extension: 0.sqsh\r\n\
        file: 0.sqsh /usr/bin/a b\r\n\
        firmware: /usr/lib/firmware/x\r\n\
        modprobe: dummy\r\n\
        modprobe: can't change directory\r\n\
        partition: EFI of 512\r\n\
        partition: META of 512\r\n\
        meta: 5a4b3c2d0000000a0000000261620000001100000009\
        6475616c2d626f6f740000000000000000\r\n\
        failed: modprobe ifb\r\n";

    #[test]
    fn reads_what_the_init_says() {
        let console = Console::parse(&format!("{SAID}TALOS-MINI: done\r\n")).unwrap();
        assert_eq!(console.kernel, "6.12");
        assert_eq!(console.cmdline, "console=ttyS0 a=b:c");
        assert_eq!(console.extensions, [("0.sqsh".to_owned(), vec!["/usr/bin/a b".to_owned()])]);
        assert_eq!(console.firmware, ["/usr/lib/firmware/x"]);
        assert_eq!(console.modules, ["dummy"]);
        assert_eq!(console.partitions, [("EFI".to_owned(), 512), ("META".to_owned(), 512)]);
        assert_eq!(console.meta.as_deref().unwrap(), [(10, "ab".to_owned()), (17, "dual-boot".to_owned())]);
        assert_eq!(console.failures, ["modprobe ifb"]);
        assert!(console.by_uefi());
        let metadata = Metadata { name: "hello".to_owned(), version: "1.0.0".to_owned() };
        assert_eq!(console.listed().unwrap(), [Listed { image: "0.sqsh".to_owned(), metadata }]);
        let error = Console::parse(SAID).unwrap_err().to_string();
        assert!(error.contains("without the end mark") && error.contains("failed: modprobe ifb"), "{error}");
    }
}
