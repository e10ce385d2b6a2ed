use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use base64::Engine as _;
use flate2::read::GzDecoder;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn golden(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/extensions").join(file);
    let opened = File::open(&path).unwrap();
    let reader: Box<dyn Read> = if file.ends_with(".gz") { Box::new(GzDecoder::new(opened)) } else { Box::new(opened) };
    BufReader::new(reader).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

#[test]
fn manifests_are_written_without_folding() {
    let rows = golden("schematic-extension.jsonl.gz");
    assert_eq!(rows.len(), 18);
    for row in rows {
        let text = |key: &str| row[key].as_str().unwrap();
        let mut metadata = vec![
            ("name", Node::string("schematic")),
            ("version", Node::string(text("id"))),
            ("author", Node::string(format!("Image Factory ({})", text("external_url")))),
            (
                "description",
                Node::string("Virtual extension which specifies the schematic of the image built with schematic."),
            ),
            ("compatibility", Node::map([("talos", Node::map([("version", Node::string(">= 1.0.0"))]))])),
        ];
        if row["extra_info"].as_bool().unwrap() {
            metadata.push(("extraInfo", Node::string(text("schematic"))));
        }
        let manifest = Node::map([("version", Node::string("v1alpha1")), ("metadata", Node::map(metadata))]);

        let archive = base64::engine::general_purpose::STANDARD.decode(text("tar_gzip_base64")).unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(&archive[..]));
        let mut wanted = String::new();
        let mut first = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(first.path().unwrap().to_str(), Some("manifest.yaml"));
        first.read_to_string(&mut wanted).unwrap();
        assert_eq!(emit(&manifest, Width::Unlimited), wanted);
    }
}

/// What another parser reads, as a node.
fn node(value: &serde_yaml::Value) -> Node {
    match value {
        serde_yaml::Value::String(text) => Node::string(text.as_str()),
        serde_yaml::Value::Sequence(items) => Node::Seq(items.iter().map(node).collect()),
        serde_yaml::Value::Mapping(pairs) => Node::Map(pairs.iter().map(|(k, v)| (node(k), node(v))).collect()),
        other => panic!("extensions.yaml holds texts only, not {other:?}"),
    }
}

#[test]
fn the_list_of_extensions_is_folded() {
    let (mut seen, mut folded) = (0, 0);
    for row in golden("initramfs.jsonl.gz") {
        let Some(wanted) = row["extensions_yaml"].as_str() else { continue };
        let list = node(&serde_yaml::from_str(wanted).unwrap());
        assert_eq!(emit(&list, Width::Folded), wanted, "{}", row["name"]);
        seen += 1;
        folded += usize::from(emit(&list, Width::Unlimited) != wanted);
    }
    assert!(seen == 30 && folded > 0, "{seen} lists, {folded} folded");
}

#[test]
fn long_texts_fold_at_single_spaces_beyond_column_80() {
    let words = "word ".repeat(20);
    let line = words.trim_end();
    let folded = format!("key: {}\n    word word word word\n", "word ".repeat(16).trim_end());
    let cases =
        [(line.to_owned(), folded), (format!("{line}: x"), String::new()), (format!("{line}\u{7}"), String::new())];
    for (text, wanted) in cases {
        let out = emit(&Node::map([("key", Node::string(text.as_str()))]), Width::Folded);
        assert!(wanted.is_empty() || out == wanted, "{out}");
        assert!(out.lines().count() > 1 && out.lines().all(|line| line.len() < 90), "{out}");
        let tree = Tree::parse(out.as_bytes()).unwrap();
        let Content::Map(pairs) = &tree.node(tree.root()).content else { panic!("{out}") };
        let Content::Scalar { text: read, .. } = &tree.node(pairs[0].1).content else { panic!("{out}") };
        assert_eq!(*read, text);
    }
}

#[test]
fn a_text_stops_at_its_limit() {
    let list = Node::Seq(vec![Node::string("x".repeat(100)); 1000]);
    let length = emit(&list, Width::Unlimited).len();
    assert_eq!(emit_within(&list, Width::Unlimited, length).map(|text| text.len()), Some(length));
    assert_eq!(emit_within(&list, Width::Unlimited, length - 1), None);
}

#[test]
fn plain_scalars_resolve() {
    let int = |value| Resolved::Int(value);
    let cases = [
        ("0o17", int(15)),
        ("017", int(15)),
        ("08", Resolved::Float(8.0)),
        ("-0x1F", int(-31)),
        ("1_000", int(1000)),
        ("9223372036854775808", Resolved::Uint(1 << 63)),
        ("+9223372036854775808", Resolved::Float(9_223_372_036_854_775_808.0)),
        ("-9223372036854775808", int(i64::MIN)),
        ("0x", Resolved::Str),
        ("1e400", Resolved::Str),
        (".5_0", Resolved::Float(0.5)),
        ("._5", Resolved::Str),
        ("yes", Resolved::Str),
        ("<<", Resolved::Merge),
        ("", Resolved::Null),
        ("2001-1-2", Resolved::Timestamp("2001-01-02T00:00:00Z".to_owned())),
        ("2001-1-2 3:4:5,60", Resolved::Timestamp("2001-01-02T03:04:05.6Z".to_owned())),
        ("2001-1-2t3:4:5-00:30", Resolved::Timestamp("2001-01-02T03:04:05-00:30".to_owned())),
        ("2000-2-29", Resolved::Timestamp("2000-02-29T00:00:00Z".to_owned())),
        ("1900-2-29", Resolved::Str),
        ("2001-1-2T3:4:5", Resolved::Str),
    ];
    for (text, wanted) in cases {
        assert_eq!(resolve(text, true), wanted, "{text}");
    }
    assert_eq!(resolve("2001-01-02", false), Resolved::Str);
    assert_eq!(resolve_tagged("!!float", "1"), Some(Resolved::Float(1.0)));
    assert_eq!(resolve_tagged("!!int", "1.5"), None);
}

#[test]
fn floats_are_written_short() {
    let cases = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (123_456.0, "123456"),
        (1e6, "1e+06"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (-7_426_993_002_466_061.0 / 4.0, "-1.8567482506165152e+15"), // a tie: the even digit
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
    ];
    for (value, wanted) in cases {
        assert_eq!(emit(&Node::Float(value), Width::Folded).trim_end(), wanted);
    }
}

#[test]
fn keys_sort_in_natural_order() {
    let wanted = ["", "A", "a", "a-1", "a1", "a01", "a2", "a10", "a10b", "aa", "b"];
    let pairs = wanted.iter().rev().map(|key| (Node::string(*key), Node::Null)).collect();
    let sorted: Vec<String> = sort_pairs(pairs)
        .into_iter()
        .map(|(key, _)| if let Node::String(key) = key { key.to_string() } else { panic!() })
        .collect();
    assert_eq!(sorted, wanted);
}

#[test]
fn errors_name_the_place() {
    let cases = [
        ("a: 1\nb: [1, 2\nc: 3\n", "line 3, column 2"),
        ("a: \"x", "line 1, column 4: the quoted text that begins here has no end"),
        ("a:\n\tb: 2\n", "line 2, column 1: found '\\t'"),
        ("a: 1\n\tb: 2\n", "line 2, column 1: a tab stands"),
        ("a: *x\n", "line 1, column 4: the anchor &x is not defined"),
        ("a: \"\\q\"\n", "line 1, column 5: unknown escape"),
        ("%YAML 1.2\n---\n", "line 1, column 1: %YAML 1.2 is not supported"),
        ("a: b: c\n", "line 1, column 5: a mapping value"),
        ("a: 1\nb\u{1}", "line 2: control characters are not allowed (U+0001) at byte 6"),
    ];
    for (text, wanted) in cases {
        let error = Tree::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
    assert_eq!(Tree::parse(b"# nothing\n").unwrap_err(), YamlError::Empty);
}

#[test]
fn depth_and_tokens_are_bounded() {
    for deep in ["[".repeat(100_000), "{a: ".repeat(50_000), (0..2000).map(|n| " ".repeat(n) + "a:\n").collect()] {
        let error = Tree::parse(deep.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("nested more than 100 deep"), "{error}");
    }
    let error = Tree::parse(format!("[{}]", "a,".repeat(200_000)).as_bytes()).unwrap_err().to_string();
    assert!(error.contains("more than 200000 tokens"), "{error}");
}

/// Any characters, and many of those that matter to an emitter.
pub(crate) const ANY_TEXT: &str = "([a-c ]|\\PC|[ \t\n\r\u{7}\u{85}\u{a0}\u{2028}\u{feff}\u{1f600}:#'\"\\\\-]){0,60}";

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Tree::parse(&bytes);
    }

    #[test]
    fn no_text_of_indicators_makes_the_parser_panic(
        text in "([-?:,\\[\\]{}&*!|>'\"%@`#ab1 \t\n]|\r\n|- |: |\\? |---|\\.\\.\\.|\u{2028}|\u{feff}|\\\\x41|<<: |\\*a|&a |!!str ){0,60}"
    ) {
        let _ = Tree::parse(text.as_bytes());
        let _ = Tree::parse_emitted(&text);
    }

    #[test]
    fn every_text_is_read_back_as_it_was_written(texts in proptest::collection::vec(ANY_TEXT, 1..5)) {
        let list = Node::Seq(texts.iter().map(|text| Node::string(text.as_str())).collect());
        for width in [Width::Folded, Width::Unlimited] {
            let written = emit(&list, width);
            let tree = Tree::parse_emitted(&written).unwrap();
            let Content::Seq(items) = &tree.node(tree.root()).content else { panic!("{written}") };
            let read: Vec<_> = items.iter().map(|id| match &tree.node(*id).content {
                Content::Scalar { text, .. } => text.clone(),
                other => panic!("{other:?}"),
            }).collect();
            prop_assert_eq!(&read, &texts, "{}", written);
        }
    }
}
