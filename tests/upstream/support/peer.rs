//! A server that says exactly what a test wants it to say, right or wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What is sent back; the connection is closed behind it.
pub enum Reply {
    /// These bytes.
    Raw(Vec<u8>),
    /// These bytes, then spaces until the client hangs up.
    Endless(Vec<u8>),
    /// These bytes, then a space every 20 ms until the client hangs up.
    Dripping(Vec<u8>),
    /// These bytes, then silence until the client hangs up.
    Stall(Vec<u8>),
}

/// A server on a free port that answers every request (but `GET /v2/`) by a function of the request and its number.
pub struct Peer {
    pub port: u16,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Peer {
    pub fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let log: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (answer, kept) = (Arc::new(answer), Arc::clone(&log));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&kept));
                std::thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Self { port, log }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&Asked, usize) -> Reply, log: &Mutex<Vec<Asked>>) {
    let mut first = [0];
    if stream.peek(&mut first).is_err() || first[0] == 0x16 {
        return; // TLS is not spoken here
    }
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let _ = reader.read_line(&mut line);
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
    let mut asked = Asked { method, path, headers: Vec::new(), body: String::new() };
    loop {
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let _ = (&mut reader).take(length).read_to_string(&mut asked.body);
    let reply = if asked.path == "/v2/" {
        ok("application/json", b"{}")
    } else {
        let number = {
            let mut log = log.lock().unwrap();
            log.push(asked.clone());
            log.len() - 1
        };
        answer(&asked, number)
    };
    let mut stream = reader.into_inner();
    match reply {
        Reply::Raw(bytes) => drop(stream.write_all(&bytes)),
        Reply::Endless(bytes) => {
            let _ = stream.write_all(&bytes);
            while stream.write_all(&[b' '; 4096]).is_ok() {}
        }
        Reply::Dripping(bytes) => {
            let _ = stream.write_all(&bytes);
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Reply::Stall(bytes) => {
            let _ = stream.write_all(&bytes);
            let _ = stream.read(&mut [0]);
        }
    }
}

/// A whole answer. `headers` are lines with `\r\n` behind each.
pub fn reply(status: &str, headers: &str, body: &[u8]) -> Reply {
    Reply::Raw(head(status, &format!("{headers}Content-Length: {}\r\n", body.len()), body))
}

/// An answer of exactly these headers, whatever the body is.
pub fn head(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub fn ok(media_type: &str, body: &[u8]) -> Reply {
    reply("200 OK", &format!("Content-Type: {media_type}\r\n"), body)
}
