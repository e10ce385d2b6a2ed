//! Paths and names as clients send them: routes, names of assets, `filename=` and what it becomes.
#![no_main]

use image_factory::factory::{AssetKind, AssetPath, Repository};
use image_factory::frontend::{Found, attachment, find};
use image_factory::types::{Digest, TalosVersion};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let on_platform = AssetPath::on_platform(AssetKind::Uki, &text);
    for path in [AssetPath::parse(&text), on_platform].into_iter().flatten() {
        assert_eq!(AssetPath::parse(&path.to_string()).as_ref(), Ok(&path));
        assert!(!path.content_type().is_empty());
        attachment(&path.to_string()).expect("a path's last element names a file");
    }
    // Another spelling of a path leads to a path that is spelt right, on this server.
    if let Found::Moved(to) = find(&text) {
        assert!(matches!(find(&to), Found::Route(_)), "{to:?}");
        assert!(to.starts_with('/') && !to.starts_with("//"));
    }
    if let Ok(header) = attachment(&text) {
        let header = header.to_str().expect("plain text").to_owned();
        let rest = header.strip_prefix("attachment; filename=\"").expect("a quoted name");
        // What a client reads up to the closing quote is a name and no path, and no quote is left open.
        let mut plain = String::new();
        let mut characters = rest.chars();
        loop {
            match characters.next().expect("a closing quote") {
                '"' => break,
                '\\' => plain.extend(characters.next()),
                other => plain.push(other),
            }
        }
        assert!(!plain.contains(['/', '\\', '\r', '\n']) && plain.chars().count() == text.chars().count());
        let rest = characters.as_str();
        if rest.is_empty() {
            assert_eq!(plain, text);
        } else {
            let encoded = rest.strip_prefix("; filename*=UTF-8''").expect("the other form of the name");
            assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b';' | b',' | b'\'')));
            let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8().expect("UTF-8");
            assert_eq!(decoded, text);
        }
    }
    let _ = Repository::parse(&text);
    let _ = text.parse::<Digest>();
    if let Ok(version) = TalosVersion::parse(&text) {
        assert_eq!(TalosVersion::parse(&version.to_string()).as_ref(), Ok(&version));
    }
});
