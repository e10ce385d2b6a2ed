//! The reader of foreign archives.

use std::io::{self, Read};

use bytes::Bytes;

use super::{BLOCK, PAX_SELINUX};

/// Longest PAX header or GNU long name in bytes.
const MAX_EXTRA: u64 = 1 << 20;
/// Most extra headers in front of one entry.
const MAX_EXTRAS: u32 = 16;

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source ended or failed.
    #[error("tar, entry {entry}: {source}")]
    Io {
        /// How many entries were read before.
        entry: u64,
        /// What happened.
        source: io::Error,
    },
    /// A header that is none, or asks for what is not supported.
    #[error("tar, entry {entry}: {what}")]
    Header {
        /// How many entries were read before.
        entry: u64,
        /// What is wrong.
        what: String,
    },
    /// A name that leads out of the archive's root.
    #[error("tar, entry {entry}: name {name:?} has a component \"..\" or a NUL")]
    Name {
        /// How many entries were read before.
        entry: u64,
        /// The name.
        name: String,
    },
    /// More data or entries than allowed.
    #[error("tar, entry {entry}: more than {limit}")]
    TooMuch {
        /// How many entries were read before.
        entry: u64,
        /// The limit.
        limit: String,
    },
}

/// How much a reader takes before it refuses.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the archive, headers included.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for Limits {
    /// 4 GiB and 500,000 entries.
    fn default() -> Self {
        Self { bytes: 4 << 30, entries: 500_000 }
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its data can be read.
    File,
    /// A further name of the entry with this (normalised) name.
    HardLink(Vec<u8>),
    /// A symbolic link with its target as it stands there.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// An entry's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the archive's root: no leading slash, no `.` or `..`, no final slash. Empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits (`0o7777`).
    pub mode: u16,
    /// Length of its data in bytes; 0 for all but files.
    pub size: u64,
    /// The label of its PAX records, without a final NUL.
    pub selinux: Option<Bytes>,
}

/// Walks through an archive.
///
/// Call [`Reader::next_entry`]; then, if wanted, read the entry's data through the reader's own [`io::Read`], which ends
/// with that data. What is left unread is skipped.
pub struct Reader<R> {
    source: R,
    limits: Limits,
    /// Bytes read so far.
    read: u64,
    entries: u64,
    /// Bytes of data of the present entry that are unread.
    data: u64,
    /// Zeros between that data and the next header.
    padding: u64,
    done: bool,
}

/// What extra headers say about the entry behind them.
#[derive(Default)]
struct Extra {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    selinux: Option<Bytes>,
}

impl<R: Read> Reader<R> {
    /// A reader of the (decompressed) archive in `source`.
    pub fn new(source: R, limits: Limits) -> Self {
        Self { source, limits, read: 0, entries: 0, data: 0, padding: 0, done: false }
    }

    /// Bytes and entries read so far.
    pub fn consumed(&self) -> (u64, u64) {
        (self.read, self.entries)
    }

    /// The next entry; `None` at the end of the archive. What follows the end is not read.
    ///
    /// # Errors
    /// [`ReadError`]; no entry can be read after one.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        if self.done {
            return Ok(None);
        }
        let result = self.advance();
        if !matches!(result, Ok(Some(_))) {
            self.done = true;
            self.data = 0;
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Entry>, ReadError> {
        let mut left = std::mem::take(&mut self.data) + std::mem::take(&mut self.padding);
        let mut buf = [0; 8192];
        while left > 0 {
            let n = left.min(buf.len() as u64) as usize;
            self.fill(&mut buf[..n])?;
            left -= n as u64;
        }
        let mut extra = Extra::default();
        for _ in 0..=MAX_EXTRAS {
            let Some(block) = self.block()? else { return Ok(None) };
            let size = match number(&block[124..136]) {
                Some(size) => size,
                None => return Err(self.refuse("its size is no number")),
            };
            match block[156] {
                b'x' => {
                    let body = self.extra(size)?;
                    self.pax(&body, &mut extra)?;
                }
                // Records for all that follows: nothing here depends on them.
                b'g' => drop(self.extra(size)?),
                b'L' => extra.path = Some(until_nul(&self.extra(size)?).to_vec()),
                b'K' => extra.link = Some(until_nul(&self.extra(size)?).to_vec()),
                kind => return self.entry(&block, kind, size, extra).map(Some),
            }
        }
        Err(self.refuse("more than 16 extra headers in a row"))
    }

    /// The next header; `None` at the end of the archive.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ReadError> {
        let mut block = [0; BLOCK];
        // Some writers leave the closing zeros out.
        let mut got = 0;
        while got < BLOCK {
            match self.source.read(&mut block[got..]) {
                Ok(0) if got == 0 => return Ok(None),
                Ok(0) => return Err(self.io(io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => got += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io(error)),
            }
        }
        self.count(BLOCK as u64)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = number(&block[148..156]).ok_or_else(|| self.refuse("its checksum is no number"))?;
        let blanked = |at: usize| if (148..156).contains(&at) { b' ' } else { block[at] };
        let unsigned: u64 = (0..BLOCK).map(|at| u64::from(blanked(at))).sum();
        let signed: i64 = (0..BLOCK).map(|at| i64::from(blanked(at) as i8)).sum();
        if sum != unsigned && i64::try_from(sum) != Ok(signed) {
            return Err(self.refuse("its header's checksum is wrong"));
        }
        Ok(Some(block))
    }

    fn entry(&mut self, block: &[u8; BLOCK], kind: u8, size: u64, extra: Extra) -> Result<Entry, ReadError> {
        // The prefix is POSIX's; GNU's magic ("ustar  ") has other fields there.
        let prefix = if &block[257..263] == b"ustar\0" { until_nul(&block[345..500]) } else { b"" };
        let name = until_nul(&block[..100]);
        let raw = match extra.path {
            Some(path) => path,
            None if prefix.is_empty() => name.to_vec(),
            None => [prefix, b"/", name].concat(),
        };
        let link = extra.link.unwrap_or_else(|| until_nul(&block[157..257]).to_vec());
        let size = extra.size.unwrap_or(size);
        let device = |this: &Self| {
            let parse = |range| number(range).and_then(|value| u32::try_from(value).ok());
            match (parse(&block[329..337]), parse(&block[337..345])) {
                (Some(major), Some(minor)) => Ok((major, minor)),
                _ => Err(this.refuse("its device number is none")),
            }
        };
        let kind = match kind {
            0 | b'0' | b'7' if raw.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink(self.normalise(&link)?),
            b'2' if link.contains(&0) => return Err(self.refuse("its symlink target holds a NUL")),
            b'2' => EntryKind::Symlink(link),
            b'3' => device(self).map(|(major, minor)| EntryKind::CharDevice(major, minor))?,
            b'4' => device(self).map(|(major, minor)| EntryKind::BlockDevice(major, minor))?,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => return Err(self.refuse("GNU sparse files are not supported")),
            other => return Err(self.refuse(format!("type {:?} is not known", char::from(other)))),
        };
        let path = self.normalise(&raw)?;
        self.data = if kind == EntryKind::File { size } else { 0 };
        if self.data > self.limits.bytes.saturating_sub(self.read) {
            let what = format!("{:?} has {size} bytes, which is beyond", String::from_utf8_lossy(&path));
            return Err(self.refuse(format!("{what} the limit of {} bytes", self.limits.bytes)));
        }
        self.padding = self.data.next_multiple_of(BLOCK as u64) - self.data;
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(self.too_much(format!("{} entries", self.limits.entries)));
        }
        let mode = number(&block[100..108]).ok_or_else(|| self.refuse("its mode is no number"))?;
        Ok(Entry { path, kind, mode: (mode & 0o7777) as u16, size: self.data, selinux: extra.selinux })
    }

    /// The body of an extra header.
    fn extra(&mut self, size: u64) -> Result<Vec<u8>, ReadError> {
        if size > MAX_EXTRA {
            return Err(self.refuse(format!("an extra header of {size} bytes (at most {MAX_EXTRA})")));
        }
        let mut body = vec![0; size.next_multiple_of(BLOCK as u64) as usize];
        self.fill(&mut body)?;
        body.truncate(size as usize);
        Ok(body)
    }

    fn pax(&self, body: &[u8], extra: &mut Extra) -> Result<(), ReadError> {
        let bad = || self.refuse("a PAX record is malformed");
        let mut rest = body;
        while !rest.is_empty() {
            let space = rest.iter().take(20).position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length = decimal(&rest[..space]).filter(|n| *n > space as u64 + 2).ok_or_else(bad)?;
            let record = usize::try_from(length).ok().and_then(|n| rest.get(..n)).ok_or_else(bad)?;
            rest = &rest[record.len()..];
            let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            // An empty value takes back what stood before.
            let some = (!value.is_empty()).then(|| value.to_vec());
            match key {
                b"path" => extra.path = some,
                b"linkpath" => extra.link = some,
                b"size" => extra.size = some.map(|digits| decimal(&digits).ok_or_else(bad)).transpose()?,
                _ if key == PAX_SELINUX.as_bytes() => {
                    let label = value.strip_suffix(b"\0").unwrap_or(value);
                    extra.selinux = (!label.is_empty()).then(|| Bytes::copy_from_slice(label));
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(self.refuse("GNU sparse files are not supported"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Drops leading slashes, empty and `.` components; a `..` is refused.
    fn normalise(&self, name: &[u8]) -> Result<Vec<u8>, ReadError> {
        let mut path = Vec::with_capacity(name.len());
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                _ if part == b".." || part.contains(&0) => {
                    let name = String::from_utf8_lossy(name).chars().take(200).collect();
                    return Err(ReadError::Name { entry: self.entries, name });
                }
                _ => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(part);
                }
            }
        }
        Ok(path)
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), ReadError> {
        self.count(buf.len() as u64)?;
        self.source.read_exact(buf).map_err(|source| self.io(source))
    }

    fn count(&mut self, bytes: u64) -> Result<(), ReadError> {
        self.read += bytes;
        if self.read > self.limits.bytes {
            return Err(self.too_much(format!("{} bytes", self.limits.bytes)));
        }
        Ok(())
    }

    fn refuse(&self, what: impl Into<String>) -> ReadError {
        ReadError::Header { entry: self.entries, what: what.into() }
    }

    fn too_much(&self, limit: String) -> ReadError {
        ReadError::TooMuch { entry: self.entries, limit }
    }

    fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io { entry: self.entries, source }
    }
}

impl<R: Read> Read for Reader<R> {
    /// The data of the present entry; 0 at its end. A source that ends inside it is an error.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = self.data.min(buf.len() as u64) as usize;
        if want == 0 {
            return Ok(0);
        }
        let n = self.source.read(&mut buf[..want])?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends inside a file"));
        }
        self.count(n as u64).map_err(io::Error::other)?;
        self.data -= n as u64;
        Ok(n)
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Decimal digits and nothing else.
fn decimal(digits: &[u8]) -> Option<u64> {
    let text = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

/// A number of the header: octal digits among spaces and NULs, or base 256 where the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Bit 6 is the sign: nothing here is negative.
        if first & 0x40 != 0 {
            return None;
        }
        return rest
            .iter()
            .try_fold(u64::from(first & 0x3f), |sum, byte| sum.checked_mul(256).map(|sum| sum | u64::from(*byte)));
    }
    let from = field.iter().position(|byte| !matches!(byte, b' ' | 0)).unwrap_or(field.len());
    let digits = &field[from..];
    let to = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    digits[..to].iter().try_fold(0_u64, |sum, digit| {
        let digit = u64::from(*digit).checked_sub(u64::from(b'0')).filter(|digit| *digit < 8)?;
        sum.checked_mul(8).map(|sum| sum | digit)
    })
}
