//! A plain HTTP/1.1 client over a blocking socket: it costs the machine little, so that what is measured is the server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

/// Media types of manifests that clients accept.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";

/// Bytes read at a time by clients in a hurry.
const BUFFER: usize = 256 * 1024;

/// A connection that is kept alive.
pub struct Connection {
    stream: BufReader<TcpStream>,
    address: String,
}

/// What comes before a body.
#[derive(Clone, Debug)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// `Content-Length`, in bytes.
    pub length: u64,
    /// `Docker-Content-Digest`.
    pub digest: Option<String>,
}

impl Connection {
    /// Connects to `host:port`.
    pub fn open(address: &str) -> Result<Self> {
        Self::with_buffer(address, BUFFER)
    }

    /// As [`Connection::open`]; at most `buffer` bytes are read at a time.
    pub fn with_buffer(address: &str, buffer: usize) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self { stream: BufReader::with_capacity(buffer, stream), address: address.to_owned() })
    }

    /// Sends a request and reads the head of the answer. After a GET or POST the body must be read.
    pub fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Head> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: {ACCEPT}\r\n", self.address);
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes)?;
        let status = self.line().with_context(|| format!("{method} {path}"))?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut head = Head { status: status.context("not an HTTP answer")?, length: 0, digest: None };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                ensure!(line.is_empty(), "not a header: {line}");
                return Ok(head);
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse().context("Content-Length")?,
                "transfer-encoding" => bail!("{path}: the answer has no length"),
                "docker-content-digest" => head.digest = Some(value.to_owned()),
                _ => {}
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the server closed the connection");
        Ok(line.trim_end().to_owned())
    }

    /// Reads some of a body of which `left` bytes are left: gives it to `take`, and says how much it was.
    pub fn some(&mut self, left: u64, mut take: impl FnMut(&[u8])) -> Result<u64> {
        let bytes = self.stream.fill_buf()?;
        ensure!(!bytes.is_empty(), "the body ended {left} bytes too soon");
        let part = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        take(&bytes[..part]);
        self.stream.consume(part);
        Ok(part as u64)
    }

    /// Reads a body to its end.
    pub fn body(&mut self, head: &Head, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut left = head.length;
        while left > 0 {
            left -= self.some(left, &mut take)?;
        }
        Ok(())
    }

    /// GET of something small that must be there.
    pub fn get(&mut self, path: &str) -> Result<(Head, Vec<u8>)> {
        let head = self.request("GET", path, &[])?;
        let mut bytes = Vec::new();
        self.body(&head, |part| bytes.extend_from_slice(part))?;
        ensure!(head.status == 200, "GET {path}: {} {}", head.status, String::from_utf8_lossy(&bytes));
        Ok((head, bytes))
    }

    /// GET of something big that must be there: its length, and its SHA-256 in hex if `hash`.
    pub fn pull(&mut self, path: &str, hash: bool) -> Result<(u64, Option<String>)> {
        let head = self.request("GET", path, &[])?;
        ensure!(head.status == 200, "GET {path}: {}", head.status);
        let mut hasher = hash.then(Sha256::new);
        self.body(&head, |part| {
            if let Some(hasher) = &mut hasher {
                hasher.update(part);
            }
        })?;
        Ok((head.length, hasher.map(|hasher| hex::encode(hasher.finalize()))))
    }
}
