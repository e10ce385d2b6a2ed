//! What an index needs to know of a module, and of the tree that it lies in.

use std::io::Read;

use bytes::{Buf, Bytes};
use object::read::{Object, ObjectSection, ObjectSymbol};

/// Bytes of a module at most, unpacked.
const MAX_MODULE: u64 = 256 << 20;

/// Facts that cannot be read back.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the facts of kernel modules are cut short, damaged or of another version")]
pub struct FactsError;

/// What an index needs to know of a module. Texts that are no UTF-8 are taken with replacement characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleFacts {
    /// Path below the kernel's folder, such as `kernel/fs/ext4/ext4.ko.xz`.
    pub path: String,
    /// Symbols that it exports.
    pub exports: Vec<String>,
    /// Symbols that it needs.
    pub needs: Vec<String>,
    /// Its `alias`, `softdep` and `weakdep` entries, in order: key and value.
    pub info: Vec<(String, String)>,
}

/// Keys of module information that an index needs.
const KEYS: [&str; 3] = ["alias", "softdep", "weakdep"];

impl ModuleFacts {
    /// Gathers the facts of a module file, packed with gzip, xz or zstd or not at all. A file that is no module is one
    /// without facts, as for depmod.
    pub fn read(path: &str, bytes: &[u8]) -> Self {
        let mut facts = Self { path: path.to_owned(), ..Self::default() };
        let unpacked = match unpack(bytes) {
            Some(Ok(unpacked)) => Bytes::from(unpacked),
            Some(Err(error)) => {
                tracing::warn!(path, %error, "a kernel module cannot be unpacked");
                return facts;
            }
            None => Bytes::copy_from_slice(bytes),
        };
        if let Err(error) = facts.read_elf(&unpacked) {
            tracing::warn!(path, %error, "a kernel module cannot be read");
        }
        facts
    }

    fn read_elf(&mut self, bytes: &[u8]) -> Result<(), object::read::Error> {
        let file = object::read::File::parse(bytes)?;
        let section = |name: &[u8]| {
            let found = file.section_by_name_bytes(name);
            found.and_then(|section| section.data().ok()).unwrap_or_default()
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for symbol in file.symbols() {
            let Ok(name) = symbol.name_bytes() else { continue };
            if let Some(exported) = name.strip_prefix(b"__crc_") {
                self.exports.push(text(exported));
            }
            if symbol.is_undefined() && !name.is_empty() {
                self.needs.push(text(name));
            }
        }
        let strings = |bytes: &'_ [u8]| -> Vec<String> {
            bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty()).map(text).collect()
        };
        if self.exports.is_empty() {
            self.exports = strings(section(b"__ksymtab_strings"));
        }
        let crc = if file.is_64() { 8 } else { 4 };
        let known: std::collections::HashSet<String> = self.needs.iter().cloned().collect();
        for entry in section(b"__versions").chunks_exact(64) {
            let name = entry[crc..].split(|byte| *byte == 0).next().unwrap_or_default();
            let name = text(name);
            if !name.is_empty() && !known.contains(&name) {
                self.needs.push(name);
            }
        }
        for entry in strings(section(b".modinfo")) {
            if let Some((key, value)) = entry.split_once('=')
                && KEYS.contains(&key)
            {
                self.info.push((key.to_owned(), value.to_owned()));
            }
        }
        Ok(())
    }
}

/// The content of a packed module; `None` if it is not packed.
fn unpack(bytes: &[u8]) -> Option<std::io::Result<Vec<u8>>> {
    let source: Box<dyn Read + '_> = if bytes.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(bytes))
    } else if bytes.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        Box::new(liblzma::read::XzDecoder::new_multi_decoder(bytes))
    } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        match zstd::Decoder::with_buffer(bytes) {
            Ok(decoder) => Box::new(decoder),
            Err(error) => return Some(Err(error)),
        }
    } else {
        return None;
    };
    let mut out = Vec::new();
    let read = source.take(MAX_MODULE + 1).read_to_end(&mut out);
    Some(match read {
        Ok(_) if out.len() as u64 > MAX_MODULE => Err(std::io::Error::other("it is too large")),
        Ok(_) => Ok(out),
        Err(error) => Err(error),
    })
}

/// What depmod reads below one kernel's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeFacts {
    /// The kernel's release, which is the folder's name.
    pub kernel: String,
    /// The modules.
    pub modules: Vec<ModuleFacts>,
    /// `modules.order`
    pub order: Option<Vec<u8>>,
    /// `modules.builtin`
    pub builtin: Option<Vec<u8>>,
    /// `modules.builtin.modinfo`
    pub builtin_modinfo: Option<Vec<u8>>,
}

const MAGIC: &[u8; 4] = b"IFM1";

impl TreeFacts {
    /// The stored form: a magic number, then texts and lists, each behind its length (u32 little-endian).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put(&mut out, self.kernel.as_bytes());
        for file in [&self.order, &self.builtin, &self.builtin_modinfo] {
            out.push(u8::from(file.is_some()));
            put(&mut out, file.as_deref().unwrap_or_default());
        }
        count(&mut out, self.modules.len());
        for module in &self.modules {
            put(&mut out, module.path.as_bytes());
            for list in [&module.exports, &module.needs] {
                count(&mut out, list.len());
                list.iter().for_each(|text| put(&mut out, text.as_bytes()));
            }
            count(&mut out, module.info.len());
            for (key, value) in &module.info {
                put(&mut out, key.as_bytes());
                put(&mut out, value.as_bytes());
            }
        }
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`FactsError`] when the bytes are not exactly that.
    pub fn decode(stored: &[u8]) -> Result<Self, FactsError> {
        let mut rest = stored.strip_prefix(MAGIC).ok_or(FactsError)?;
        let kernel = text(&mut rest)?;
        let mut file = || {
            let there = rest.try_get_u8().map_err(|_| FactsError)? == 1;
            let bytes = take(&mut rest)?.to_vec();
            Ok(there.then_some(bytes))
        };
        let (order, builtin, builtin_modinfo) = (file()?, file()?, file()?);
        let modules = list(&mut rest, |rest| {
            Ok(ModuleFacts {
                path: text(rest)?,
                exports: list(rest, text)?,
                needs: list(rest, text)?,
                info: list(rest, |rest| Ok((text(rest)?, text(rest)?)))?,
            })
        })?;
        if rest.is_empty() { Ok(Self { kernel, modules, order, builtin, builtin_modinfo }) } else { Err(FactsError) }
    }
}

fn count(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&(n as u32).to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    count(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FactsError> {
    let len = rest.try_get_u32_le().map_err(|_| FactsError)? as usize;
    let (bytes, after) = rest.split_at_checked(len).ok_or(FactsError)?;
    *rest = after;
    Ok(bytes)
}

fn text(rest: &mut &[u8]) -> Result<String, FactsError> {
    String::from_utf8(take(rest)?.to_vec()).map_err(|_| FactsError)
}

fn list<T>(rest: &mut &[u8], mut item: impl FnMut(&mut &[u8]) -> Result<T, FactsError>) -> Result<Vec<T>, FactsError> {
    let n = rest.try_get_u32_le().map_err(|_| FactsError)? as usize;
    // Every item takes at least one length.
    if n > rest.len() / 4 {
        return Err(FactsError);
    }
    (0..n).map(|_| item(rest)).collect()
}
