//! Reading an initramfs: archives one after another, each plain or compressed on its own.
//!
//! What the kernel accepts (`init/initramfs.c`): segments of plain cpio, gzip, xz or zstd, with zeros between them.
//! Entries come as a stream; nothing but one header and name is held.

use std::io::{self, BufRead, BufReader, Read};

use super::{HEADER, TRAILER};

/// Longest name with its NUL, in bytes: what the kernel takes.
const MAX_NAME: u32 = 4096;
/// Most memory that an xz segment may ask for, in bytes: a dictionary of 64 MiB and its tables.
const XZ_MEMORY: u64 = 96 << 20;
/// Largest window of a zstd segment, as a power of two: the 128 MiB that the kernel's decoder is bound to.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Why an initramfs could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source ended or failed, or compressed data is damaged.
    #[error("initramfs, entry {entry}: {source}")]
    Io {
        /// How many entries were read before.
        entry: u64,
        /// What happened.
        source: io::Error,
    },
    /// Neither an archive nor a compression that is known.
    #[error("initramfs: bytes {0:02x?} start no cpio archive (newc), gzip, xz or zstd segment")]
    Magic([u8; 6]),
    /// A header that is none.
    #[error("initramfs, entry {entry}: {what}")]
    Header {
        /// How many entries were read before.
        entry: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// More data or entries than allowed.
    #[error("initramfs: more than {0}")]
    TooMuch(String),
}

/// How much a reader takes before it refuses.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all archives together, decompressed.
    pub bytes: u64,
    /// Entries, trailers included.
    pub entries: u64,
}

impl Default for Limits {
    /// 4 GiB and a million entries.
    fn default() -> Self {
        Self { bytes: 4 << 30, entries: 1_000_000 }
    }
}

/// What an entry's header says. Numbers are as they stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name without its NUL, as it stands there: it may be absolute or hold `..`.
    pub name: Vec<u8>,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// Inode number; equal numbers in one archive are hard links.
    pub inode: u32,
    /// Number of names.
    pub links: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Time of modification in seconds since 1970.
    pub mtime: u32,
    /// Length of the data in bytes.
    pub size: u32,
    /// Major and minor number of a device file.
    pub device: (u32, u32),
    /// Which segment it stands in, from 0.
    pub segment: u32,
}

impl Entry {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

/// A segment's bytes; the source comes back out of it when the segment has ended.
enum Segment<R: Read> {
    Plain(BufReader<R>),
    Gzip(flate2::bufread::GzDecoder<BufReader<R>>),
    Xz(liblzma::bufread::XzDecoder<BufReader<R>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<R>>),
    /// Only while one is exchanged for another, or after an error.
    Gone,
}

impl<R: Read> Read for Segment<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buf),
            Self::Gzip(source) => source.read(buf),
            Self::Xz(source) => source.read(buf),
            Self::Zstd(source) => source.read(buf),
            Self::Gone => Ok(0),
        }
    }
}

/// Walks through the entries of an initramfs.
///
/// Call [`Reader::next_entry`]; then, if wanted, read the entry's data through the reader's own [`io::Read`], which ends
/// with that data. What is left unread is skipped.
pub struct Reader<R: Read> {
    segment: Segment<R>,
    limits: Limits,
    /// Decompressed bytes read so far.
    read: u64,
    /// Entries met so far, trailers included.
    entries: u64,
    segments: u32,
    /// Bytes of data of the present entry that are unread.
    data: u64,
    /// Zeros between that data and the next header.
    padding: u64,
    /// Whether an archive has begun and not ended.
    inside: bool,
}

impl<R: Read> Reader<R> {
    /// A reader of everything in `source`.
    pub fn new(source: R, limits: Limits) -> Self {
        Self {
            segment: Segment::Plain(BufReader::with_capacity(1 << 16, source)),
            limits,
            read: 0,
            entries: 0,
            segments: 0,
            data: 0,
            padding: 0,
            inside: false,
        }
    }

    /// The next entry, trailers left out; `None` at the end of the last segment.
    ///
    /// # Errors
    /// [`ReadError`]; no entry can be read after one.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        let result = self.advance();
        if result.is_err() {
            self.segment = Segment::Gone;
            self.inside = false;
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Entry>, ReadError> {
        self.skip()?;
        loop {
            let mut header = [0; HEADER];
            if self.inside {
                self.fill(&mut header)?;
            } else {
                let Some(first) = self.find_archive()? else { return Ok(None) };
                header[0] = first;
                self.fill(&mut header[1..])?;
                self.segments += 1;
                self.inside = true;
            }
            let entry = self.parse(&header)?;
            if entry.name == TRAILER {
                self.inside = false;
                self.skip()?;
                continue;
            }
            return Ok(Some(entry));
        }
    }

    /// Skips the rest of an entry's data and its padding.
    fn skip(&mut self) -> Result<(), ReadError> {
        let mut buf = [0; 8192];
        let mut left = std::mem::take(&mut self.data) + std::mem::take(&mut self.padding);
        while left > 0 {
            let n = left.min(buf.len() as u64) as usize;
            self.fill(&mut buf[..n])?;
            left -= n as u64;
        }
        Ok(())
    }

    /// Skips zeros to the first byte of an archive and takes it; opens and closes compressed segments on the way.
    fn find_archive(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            match std::mem::replace(&mut self.segment, Segment::Gone) {
                Segment::Gone => return Ok(None),
                Segment::Plain(mut source) => {
                    let Some(magic) = self.find_segment(&mut source)? else { return Ok(None) };
                    let wrap = |source: io::Error| ReadError::Io { entry: self.entries, source };
                    self.segment = match magic {
                        Magic::Plain => {
                            source.consume(1);
                            self.segment = Segment::Plain(source);
                            return self.count(1).map(|()| Some(b'0'));
                        }
                        Magic::Gzip => Segment::Gzip(flate2::bufread::GzDecoder::new(source)),
                        Magic::Xz => {
                            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0)
                                .map_err(|error| wrap(error.into()))?;
                            Segment::Xz(liblzma::bufread::XzDecoder::new_stream(source, stream))
                        }
                        Magic::Zstd => {
                            let mut decoder = zstd::stream::read::Decoder::with_buffer(source).map_err(wrap)?;
                            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(wrap)?;
                            Segment::Zstd(decoder.single_frame())
                        }
                    };
                }
                mut compressed => {
                    let mut byte = [0];
                    let got = compressed.read(&mut byte);
                    self.segment = compressed;
                    match got.map_err(|source| self.io(source))? {
                        0 => self.close_segment(),
                        _ => {
                            self.count(1)?;
                            match byte[0] {
                                0 => {}
                                b'0' => return Ok(Some(b'0')),
                                other => return Err(ReadError::Magic([other, 0, 0, 0, 0, 0])),
                            }
                        }
                    }
                }
            }
        }
    }

    /// Skips zeros, then says what begins; `None` at the end.
    fn find_segment(&self, source: &mut BufReader<R>) -> Result<Option<Magic>, ReadError> {
        loop {
            let buffer = source.fill_buf().map_err(|source| self.io(source))?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                break;
            }
            source.consume(zeros);
        }
        // The first byte tells them apart; the decoders check the rest.
        let first = source.buffer().first().copied().unwrap_or_default();
        match first {
            b'0' => Ok(Some(Magic::Plain)),
            0x1f => Ok(Some(Magic::Gzip)),
            0xfd => Ok(Some(Magic::Xz)),
            0x28 => Ok(Some(Magic::Zstd)),
            _ => {
                let mut magic = [0; 6];
                let n = source.buffer().len().min(6);
                magic[..n].copy_from_slice(&source.buffer()[..n]);
                Err(ReadError::Magic(magic))
            }
        }
    }

    /// Gets the source back from a decoder that has come to its end.
    fn close_segment(&mut self) {
        self.segment = match std::mem::replace(&mut self.segment, Segment::Gone) {
            Segment::Gzip(decoder) => Segment::Plain(decoder.into_inner()),
            Segment::Xz(decoder) => Segment::Plain(decoder.into_inner()),
            Segment::Zstd(decoder) => Segment::Plain(decoder.finish()),
            other => other,
        };
    }

    fn parse(&mut self, header: &[u8; HEADER]) -> Result<Entry, ReadError> {
        let refuse = |what| Err(ReadError::Header { entry: self.entries, what });
        // 070702 has checksums that nothing checks.
        if !matches!(&header[..6], b"070701" | b"070702") {
            return refuse("no newc header");
        }
        let mut fields = [0_u32; 13];
        for (field, digits) in fields.iter_mut().zip(header[6..].chunks_exact(8)) {
            let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
            match text.and_then(|text| u32::from_str_radix(text, 16).ok()) {
                Some(value) => *field = value,
                None => return refuse("a number of its header is not hexadecimal"),
            }
        }
        let [inode, mode, uid, gid, links, mtime, size, _, _, major, minor, name_len, _] = fields;
        if !(1..=MAX_NAME).contains(&name_len) {
            return refuse("its name is empty or longer than 4095 bytes");
        }
        let mut name = vec![0; (HEADER + name_len as usize).next_multiple_of(4) - HEADER];
        self.fill(&mut name)?;
        let end = name.iter().position(|byte| *byte == 0);
        let Some(end) = end.filter(|end| *end < name_len as usize && *end > 0) else {
            return Err(ReadError::Header { entry: self.entries, what: "its name is empty or not ended by a NUL" });
        };
        name.truncate(end);
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(ReadError::TooMuch(format!("{} entries", self.limits.entries)));
        }
        self.data = u64::from(size);
        self.padding = self.data.next_multiple_of(4) - self.data;
        let segment = self.segments.saturating_sub(1);
        Ok(Entry { name, mode, inode, links, owner: (uid, gid), mtime, size, device: (major, minor), segment })
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<(), ReadError> {
        self.count(buf.len() as u64)?;
        self.segment.read_exact(buf).map_err(|source| self.io(source))
    }

    fn count(&mut self, bytes: u64) -> Result<(), ReadError> {
        self.read += bytes;
        if self.read > self.limits.bytes {
            return Err(ReadError::TooMuch(format!("{} bytes", self.limits.bytes)));
        }
        Ok(())
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
        let n = self.segment.read(&mut buf[..want])?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the initramfs ends inside a file"));
        }
        self.count(n as u64).map_err(io::Error::other)?;
        self.data -= n as u64;
        Ok(n)
    }
}

/// How a segment begins.
enum Magic {
    Plain,
    Gzip,
    Xz,
    Zstd,
}
