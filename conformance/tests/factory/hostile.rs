//! Requests for boot assets that no good client makes: each gets a clear answer, and the factory stays well.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::world::{THREE, World};

/// Longest answer that is read; longer ones are not read to their end.
const MAX: u64 = 8 << 20;

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Sends a request as it stands, whatever it is.
fn send(address: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // A head that is too long is answered before it is read to its end.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let mut all = Vec::new();
    let _ = stream.take(MAX).read_to_end(&mut all);
    let end = all.windows(4).position(|window| window == b"\r\n\r\n").context("no head")?;
    let text = std::str::from_utf8(&all[..end])?;
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
    Ok(Answer { status, headers, body: all[end + 4..].to_vec() })
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The parts of a `multipart/byteranges` body (RFC 9110, section 14.6): first byte and contents.
    fn parts(&self) -> Result<Vec<(usize, Vec<u8>)>> {
        let boundary = self.header("content-type").split_once("boundary=").context("no boundary")?.1.to_owned();
        let mut rest = self.body.as_slice();
        let mut parts = Vec::new();
        loop {
            let line = rest.windows(2).position(|window| window == b"\r\n").context("no line")?;
            let found = std::str::from_utf8(&rest[..line])?;
            rest = &rest[line + 2..];
            if found == format!("--{boundary}--") {
                ensure!(rest.is_empty(), "more after the end");
                return Ok(parts);
            }
            ensure!(found == format!("--{boundary}"), "{found:?}");
            let end = rest.windows(4).position(|window| window == b"\r\n\r\n").context("no head of a part")?;
            let head = std::str::from_utf8(&rest[..end])?;
            let range = head.lines().find_map(|line| line.strip_prefix("Content-Range: bytes ")).context("no range")?;
            let (range, _) = range.split_once('/').context("no length")?;
            let (first, last) = range.split_once('-').context("no range")?;
            let (first, last): (usize, usize) = (first.parse()?, last.parse()?);
            rest = &rest[end + 4..];
            parts.push((first, rest[..=last - first].to_vec()));
            rest = rest[last - first + 1..].strip_prefix(b"\r\n").context("a part has no end")?;
        }
    }
}

fn joined(count: usize, range: impl Fn(usize) -> String) -> String {
    format!("bytes={}", (0..count).map(range).collect::<Vec<_>>().join(","))
}

fn check_ranges(address: &str, path: &str, whole: &[u8]) -> Result<()> {
    let len = whole.len();
    let etag = send(address, path, &[("Range", "bytes=0-0")])?.header("etag").to_owned();
    let ranges: Vec<(String, Vec<u16>)> = vec![
        (joined(5000, |n| format!("{n}-{n}")), vec![200, 400, 431]),
        (joined(1000, |n| format!("{n}-{n}")), vec![200]),
        (joined(1000, |_| "0-".to_owned()), vec![200]),
        (joined(30, |n| format!("{}-{}", n * 10, n * 10 + 9)), vec![206]),
        (joined(8, |n| format!("{}-{}", 1_000_000 - n * 1000, 1_000_999 - n * 1000)), vec![206]),
        (joined(6, |n| format!("{}-{}", 32_760 + n, 32_800 + n)), vec![206]),
        (format!("bytes={}-{},0-0", len - 1, len), vec![206]),
        (format!("bytes=-1,-2,{}-", len - 3), vec![206]),
        (format!("bytes=0-{}", u64::MAX), vec![200, 206]),
        ("bytes=9223372036854775808-".to_owned(), vec![416]),
        ("bytes=18446744073709551615-18446744073709551616".to_owned(), vec![416]),
        (format!("bytes={}-", "9".repeat(400)), vec![416]),
        (format!("bytes={len}-"), vec![416]),
        ("bytes=-0".to_owned(), vec![416]),
        ("bytes=5-4".to_owned(), vec![200]),
        ("bytes=9223372036854775808-1".to_owned(), vec![200]),
        ("bytes=--1".to_owned(), vec![200]),
        ("bytes=0x0-0xff".to_owned(), vec![200]),
        ("bytes=1.5-2".to_owned(), vec![200]),
        ("bytes= ,, ,".to_owned(), vec![200]),
        ("bytes=\u{7f}".to_owned(), vec![200, 400]),
        ("lines=1-2".to_owned(), vec![200]),
        ("bytes".to_owned(), vec![200]),
    ];
    for (header, statuses) in &ranges {
        let answer = send(address, path, &[("Range", header)])?;
        let shown = &header[..header.len().min(60)];
        assert!(statuses.contains(&answer.status), "{shown}: {} {}", answer.status, answer.header("content-range"));
        match answer.status {
            206 if answer.header("content-type").starts_with("multipart/byteranges") => {
                assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{shown}");
                let parts = answer.parts().unwrap_or_else(|error| panic!("{shown}: {error}"));
                assert!(parts.len() > 1, "{shown}");
                for (first, part) in parts {
                    assert!(whole[first..first + part.len()] == part, "{shown} at {first}");
                }
            }
            206 if answer.header("content-range") != format!("bytes 0-{}/{len}", len - 1) => {
                panic!("{shown}: {}", answer.header("content-range"))
            }
            416 => {
                assert_eq!(answer.header("content-range"), format!("bytes */{len}"), "{shown}");
                assert!(answer.text().contains(&len.to_string()), "{shown}: {}", answer.text());
            }
            _ => {}
        }
        if matches!(answer.status, 200 | 206) && !answer.header("content-type").starts_with("multipart") {
            assert!(whole.starts_with(&answer.body), "{shown}");
        }
    }
    for (headers, status) in [
        (vec![("If-None-Match", etag.as_str())], 304),
        (vec![("If-None-Match", "*")], 304),
        (vec![("If-None-Match", "\"other\"")], 200),
        (vec![("If-None-Match", "W/\"\u{1}\"")], 400),
        (vec![("If-Match", "\"other\"")], 412),
        (vec![("If-Range", etag.as_str()), ("Range", "bytes=1-2")], 206),
        (vec![("If-Range", "\"other\""), ("Range", "bytes=1-2")], 200),
        (vec![("If-Range", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Range", "bytes=1-2")], 200),
        (vec![("If-None-Match", etag.as_str()), ("Range", "bytes=1-2")], 304),
    ] {
        let answer = send(address, path, &headers)?;
        assert_eq!(answer.status, status, "{headers:?}");
        match status {
            304 => assert!(answer.body.is_empty() && answer.header("etag") == etag, "{headers:?}"),
            206 => assert_eq!(answer.body, whole[1..3], "{headers:?}"),
            _ => {}
        }
    }
    Ok(())
}

fn check_paths(address: &str, id: &str) -> Result<()> {
    let long = "a".repeat(100_000);
    let paths = [
        format!("/image/{id}/v1.13.2/metal-amd64.iso%00"),
        format!("/image/{id}/v1.13.2/%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
        format!("/image/{id}/v1.13.2/..%2fmetal-amd64.iso"),
        format!("/image/{id}/v1.13.2/%ff%fe.iso"),
        format!("/image/{id}/v1.13.2/%"),
        format!("/image/{id}/v1.13.2/%zz.iso"),
        format!("/image/{id}/v1.13.2/%c0%ae%c0%ae.iso"),
        format!("/image/{id}/v1.13.2/metal-amd64.iso.sha256.sha512.sha256"),
        format!("/image/{id}/v1.13.2/.sha256"),
        format!("/image/{id}/v1.13.2/.xz"),
        format!("/image/{id}/v1.13.2/-.iso"),
        format!("/image/{id}/v1.13.2/metal-amd64-secureboot-secureboot.iso"),
        format!("/image/{id}/v1.13.2/{}.iso", "%41".repeat(2000)),
        format!("/image/{id}/v1.13.2/{}.iso", &long[..5000]),
        format!("/image/{id}/v1.13.2/{long}.iso"),
        format!("/image/{id}/{}/metal-amd64.iso", &long[..3000]),
        format!("/image/{id}/v99999999999999999999.0.0/metal-amd64.iso"),
        format!("/image/{id}/v1.13.2%0d%0aX-Evil:%201/metal-amd64.iso"),
        format!("/image/{id}/v1.13.2-{}/metal-amd64.iso", "a.".repeat(1000)),
        format!("/image/{}/v1.13.2/metal-amd64.iso", &long[..3000]),
        format!("/image/{id}%20/v1.13.2/metal-amd64.iso"),
        "/image/%0a/v1.13.2/metal-amd64.iso".to_owned(),
        format!("/image/{id}/v1.13.2/metal-amd64.iso/../../.."),
        format!("/image{}", "/x".repeat(2000)),
        format!("/pxe/{id}/v1.13.2/metal-amd64%0achain%20http:%2f%2fevil"),
        format!("/pxe/{id}/v1.13.2/{}-amd64", &long[..3000]),
        format!("/pxe/{id}/%2e%2e/metal-amd64"),
    ];
    for path in &paths {
        let shown = &path[..path.len().min(140)];
        let answer = send(address, path, &[]).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert!(matches!(answer.status, 400 | 404 | 414 | 431), "{shown}: {} {}", answer.status, answer.text());
        if matches!(answer.status, 400 | 404) {
            let text = answer.text();
            assert!(text.ends_with('\n') && text.lines().count() == 1, "{shown}: {text:?}");
            assert!(text.len() < 12_000, "{shown}: {} bytes", text.len());
        }
        assert!(!answer.headers.contains_key("x-evil"), "{shown}");
    }
    Ok(())
}

fn check_filenames(address: &str, id: &str) -> Result<()> {
    let path = format!("/image/{id}/v1.13.2/cmdline-metal-amd64");
    let long = "n".repeat(256);
    for bad in [
        "%0d%0aX-Evil:%201",
        "a%0ab",
        "a%00",
        "%7f",
        "..",
        ".",
        "a%2fb",
        "%5c",
        "..%2f..%2fetc%2fpasswd",
        "%c2%85",
        &long,
    ] {
        for suffix in ["", ".sha256"] {
            let answer = send(address, &format!("{path}{suffix}?filename={bad}"), &[])?;
            assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
            assert!(
                answer.text().starts_with("filename") && answer.text().lines().count() == 1,
                "{bad}: {}",
                answer.text()
            );
            assert!(!answer.headers.contains_key("x-evil"), "{bad}");
        }
    }
    for (name, disposition) in [
        ("%22", r#"attachment; filename="\"""#),
        ("a%22;%20x=%22b", r#"attachment; filename="a\"; x=\"b""#),
        ("a+b", r#"attachment; filename="a b""#),
        ("%F0%9F%92%A3", "attachment; filename=\"_\"; filename*=UTF-8''%F0%9F%92%A3"),
        ("%ff", "attachment; filename=\"_\"; filename*=UTF-8''%EF%BF%BD"),
        ("%3Cscript%3E", r#"attachment; filename="<script>""#),
        ("&filename=x", r#"attachment; filename="cmdline-metal-amd64""#),
    ] {
        let answer = send(address, &format!("{path}?filename={name}"), &[])?;
        assert_eq!((answer.status, answer.header("content-disposition")), (200, disposition), "{name}");
    }
    Ok(())
}

#[test]
fn hostile_requests_get_clear_answers() {
    let world = World::start().unwrap();
    let id = world.factory.post_schematic(THREE).unwrap();
    let address = world.factory.address();
    let path = format!("/image/{id}/v1.13.2/metal-amd64.iso");
    let whole = world.get(&path).unwrap().error_for_status().unwrap().bytes().unwrap();
    check_ranges(address, &path, &whole).unwrap();
    check_paths(address, &id).unwrap();
    check_filenames(address, &id).unwrap();
    // As well as before: quick, and with no answer going on for nobody.
    let began = Instant::now();
    assert_eq!(world.get("/readyz").unwrap().status(), 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(world.get(&path).unwrap().bytes().unwrap() == whole);
}
