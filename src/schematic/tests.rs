use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::format::yaml::ANY_TEXT;

/// The lines of a golden file, each with its input.
fn golden(file: &str) -> Vec<(Value, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schematics").join(file);
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    let lines = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        let input = match row["input"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => base64::engine::general_purpose::STANDARD.decode(row["input_base64"].as_str().unwrap()).unwrap(),
        };
        (row, input)
    });
    lines.collect()
}

fn shown(failures: &[String]) -> String {
    format!("{} failures, among them\n{}", failures.len(), failures[..failures.len().min(12)].join("\n"))
}

#[test]
fn every_golden_schematic_has_its_canonical_form_and_id() {
    let rows = golden("vectors.jsonl.gz");
    assert_eq!(rows.len(), 5107);
    let mut failures = Vec::new();
    for (row, input) in rows {
        let (name, wanted) = (&row["name"], row["canonical"].as_str().unwrap());
        match Schematic::parse(&input) {
            Err(error) => failures.push(format!("{name}: refused: {error}")),
            Ok(schematic) if schematic.canonical() != wanted => {
                failures.push(format!("{name}:\n{wanted:?}\n{:?}", schematic.canonical()));
            }
            Ok(schematic) => assert_eq!(schematic.id().to_string(), row["id"].as_str().unwrap(), "{name}"),
        }
    }
    assert!(failures.is_empty(), "{}", shown(&failures));
}

/// Values without the numeric types that the canonical form cannot tell apart.
fn without_options(schematic: &Schematic) -> Schematic {
    let mut out = schematic.clone();
    if let Some(overlay) = &mut out.overlay {
        overlay.options.clear();
    }
    out
}

#[test]
fn every_golden_schematic_is_read_back_from_its_canonical_form() {
    let mut failures = Vec::new();
    let mut unreadable_by_the_reference = 0;
    for (row, input) in golden("vectors.jsonl.gz") {
        let schematic = Schematic::parse(&input).unwrap();
        unreadable_by_the_reference += usize::from(row.get("reload_error").is_some());
        match Schematic::from_stored(row["canonical"].as_str().unwrap()) {
            Err(error) => failures.push(format!("{}: {error}", row["name"])),
            Ok(back) if back.id() != schematic.id() || without_options(&back) != without_options(&schematic) => {
                failures.push(format!("{}: {:?}", row["name"], back.canonical()));
            }
            Ok(_) => {}
        }
    }
    assert!(failures.is_empty(), "{}", shown(&failures));
    assert_eq!(unreadable_by_the_reference, 38);
}

/// The first line number that a golden error names, in any of its notations.
fn golden_line(error: &str) -> Option<usize> {
    let rest = error.split_once(": line ").or_else(|| error.split_once(" at L")).map(|(_, rest)| rest)?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[test]
fn every_golden_invalid_input_is_refused_with_cause_and_line() {
    let rows = golden("invalid.jsonl.gz");
    assert_eq!(rows.len(), 1106);
    let mut failures = Vec::new();
    for (row, input) in rows {
        let (name, reference) = (row["name"].as_str().unwrap(), row["error"].as_str().unwrap());
        let parsed = Schematic::parse(&input);
        let refused = match (row["stage"].as_str().unwrap(), parsed) {
            ("validate", Ok(schematic)) => schematic.validate(false),
            ("validate", Err(error)) => panic!("{name}: refused while parsing: {error}"),
            (_, parsed) => parsed.map(|_| ()),
        };
        let Err(error) = refused else {
            failures.push(format!("{name}: accepted; reference: {reference}"));
            continue;
        };
        let text = error.to_string();
        if golden_line(reference).is_some() && !text.contains("line ") {
            failures.push(format!("{name}: no line in {text:?}; reference: {reference}"));
        }
        if text.contains('\n') {
            failures.push(format!("{name}: more than one line: {text:?}"));
        }
        // Wrong values stand where the reference says; for broken grammar it names beginnings and ends of its own.
        if let Some(line) = golden_line(reference).filter(|_| reference.starts_with("yaml: construct errors"))
            && !text.contains(&format!("line {line}, column "))
        {
            failures.push(format!("{name}: line {line} is not in {text:?}; reference: {reference}"));
        }
    }
    assert!(failures.is_empty(), "{}", shown(&failures));
}

fn refusal(text: &str) -> String {
    Schematic::parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn refusals_name_place_value_and_what_is_accepted() {
    let cases = [
        ("foo: 1\n", "line 1, column 1: a schematic has no field \"foo\"; there are owner, overlay, customization"),
        (
            "customization:\n  extraKernelArgs: a\n",
            "line 2, column 20: extraKernelArgs takes a list, not the text \"a\"",
        ),
        ("customization: {meta: [{key: 256}]}\n", "key takes an integer from 0 to 255, not the integer \"256\""),
        (
            "customization: {bootloader: lilo}\n",
            "bootloader takes none, dual-boot, sd-boot or grub, not the text \"lilo\"",
        ),
        ("owner: a\nowner: b\n", "line 2, column 1: the key \"owner\" is already there, on line 1"),
        ("overlay: {name: 2001-01-01}\n", "name takes a text (quote it), not the time stamp \"2001-01-01\""),
        ("overlay: {options: {<<: 1}}\n", "the merge key << takes a mapping or a list of mappings, not the integer"),
        ("a: 1\nb: 2\n", "; line 2, column 1: "),
        ("- a\n", "a schematic takes a mapping (owner, overlay, customization), not a list"),
        ("", "holds no YAML document"),
    ];
    for (text, wanted) in cases {
        assert!(refusal(text).contains(wanted), "{text:?}: {}", refusal(text));
    }
    let many: String = (0..1000).map(|n| format!("x{n}: 1\n")).collect();
    assert_eq!(refusal(&many).matches("has no field").count(), 20);
}

#[test]
fn sizes_and_expansion_are_bounded() {
    let long = vec![b'#'; MAX_INPUT + 1];
    assert_eq!(Schematic::parse(&long), Err(SchematicError::TooLarge { size: MAX_INPUT + 1, limit: MAX_INPUT }));

    let mut laughs = "overlay:\n  options:\n    a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let aliases = vec![format!("*a{}", n - 1); 9].join(", ");
        laughs.push_str(&format!("    a{n}: &a{n} [{aliases}]\n"));
    }
    assert!(refusal(&laughs).contains("aliases repeat too much"));

    let long = format!("customization:\n  extraKernelArgs: [&a {}{}]\n", "x".repeat(10_000), ", *a".repeat(1000));
    assert!(refusal(&long).contains("aliases repeat too much"));

    let chain: String = (1..200).map(|n| format!("    a{n}: &a{n} [*a{}]\n", n - 1)).collect();
    let chain = format!("overlay:\n  options:\n    a0: &a0 x\n{chain}");
    assert!(refusal(&chain).contains("nested more than 100 deep"), "{}", refusal(&chain));

    // 90 levels of indentation for each of many short items.
    let wide = format!("overlay: {{options: {{a: {}{}{}}}}}", "[".repeat(90), "a,".repeat(50_000), "]".repeat(90));
    assert_eq!(Schematic::parse(wide.as_bytes()), Err(SchematicError::CanonicalTooLarge { limit: MAX_CANONICAL }));
    assert!(refusal("overlay: {options: &a {x: *a}}").contains("contains itself"));
}

#[test]
fn validation_lists_what_is_accepted() {
    let parse = |text: &str| Schematic::parse(text.as_bytes()).unwrap();
    let owned = parse("owner: alice\n");
    assert_eq!(owned.validate(true), Ok(()));
    assert!(owned.validate(false).unwrap_err().to_string().contains("\"alice\""));

    for (name, wanted) in [
        ("off", EnrollKeys::Off),
        ("manual", EnrollKeys::Manual),
        ("if-safe", EnrollKeys::IfSafe),
        ("force", EnrollKeys::Force),
    ] {
        let schematic = parse(&format!("customization: {{secureboot: {{enrollKeys: {name}}}}}"));
        assert_eq!((schematic.validate(false), schematic.enroll_keys()), (Ok(()), Some(wanted)));
        assert_eq!(wanted.as_str(), name);
    }
    assert_eq!(parse("{}").enroll_keys(), None);
    let error = parse("customization: {secureboot: {enrollKeys: FORCE}}").validate(false).unwrap_err().to_string();
    assert!(error.contains("\"FORCE\"; accepted are off, manual, if-safe and force"), "{error}");

    for (size, fine) in [(0, true), (512, true), (4096, true), (513, false), (2048, false)] {
        let schematic = parse(&format!("customization: {{diskImage: {{sectorSize: {size}}}}}"));
        assert_eq!(schematic.validate(false).is_ok(), fine, "{size}");
    }
    let binary = parse("customization: {extraKernelArgs: [a, !!binary gIGCg4Q=]}");
    assert_eq!(binary.validate(false), Err(SchematicError::NotText("customization.extraKernelArgs")));
    assert_eq!(parse("customization: {extraKernelArgs: [!!binary aGVsbG8=]}").validate(false), Ok(()));
}

#[test]
fn fields_are_read_in_order() {
    let text = "overlay: {image: i, name: n, options: {b: 2, a: [1, null, {c: x}]}}\n\
                customization:\n  embeddedMachineConfiguration: |\n    machine: {}\n  extraKernelArgs: [b, -a, b]\n  \
                meta: [{key: 0xa, value: v}, {key: 9}]\n  systemExtensions: {officialExtensions: [z, y]}\n  \
                bootloader: SD-Boot\n  secureboot: {includeWellKnownCertificates: yes}\n  diskImage: {sectorSize: 4096}\n";
    let schematic = Schematic::parse(text.as_bytes()).unwrap();
    let overlay = schematic.overlay.as_ref().unwrap();
    let customization = &schematic.customization;
    assert_eq!((&*overlay.image, &*overlay.name), ("i", "n"));
    let list = Node::Seq(vec![Node::Int(1), Node::Null, Node::map([("c", Node::string("x"))])]);
    assert_eq!(overlay.options_node(), Node::map([("a", list), ("b", Node::Int(2))]));
    assert_eq!(customization.embedded_machine_configuration, "machine: {}\n");
    assert_eq!(customization.extra_kernel_args, ["b", "-a", "b"]);
    assert_eq!(customization.official_extensions, ["z", "y"]);
    let meta: Vec<_> = customization.meta.iter().map(|meta| (meta.key, &*meta.value)).collect();
    assert_eq!(meta, [(10, "v"), (9, "")]);
    assert_eq!(customization.bootloader, Some(Bootloader::SdBoot));
    assert!(customization.secureboot.include_well_known_certificates);
    assert_eq!(customization.disk_image.sector_size, 4096);
}

#[test]
fn ids_are_64_lower_case_digits() {
    let text = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba";
    let id: SchematicId = text.parse().unwrap();
    assert_eq!((id, id.to_string()), (Schematic::default().id(), text.to_owned()));
    assert_eq!(id.digest().hex(), text);
    for bad in ["", &text[1..], &text.to_uppercase(), &format!("sha256:{text}"), &format!("{text}0")] {
        assert!(bad.parse::<SchematicId>().is_err(), "{bad}");
    }
}

#[test]
fn keys_that_are_written_alike_are_read_back() {
    for options in ["{1: a, 1.0: b}", "{0x1: a, '1': b}", "{.nan: a, x: b}", "{a: 2001-01-01T00:00:00+24:60}"] {
        let schematic = Schematic::parse(format!("overlay: {{options: {{m: {options}}}}}").as_bytes()).unwrap();
        let canonical = schematic.canonical();
        assert_eq!(Schematic::from_stored(&canonical).unwrap().canonical(), canonical);
    }
}

/// A golden input with some of its bytes changed.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let inputs: Vec<Vec<u8>> = golden("vectors.jsonl.gz").into_iter().map(|(_, input)| input).step_by(7).collect();
    let piece = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        "[-?:,\\[\\]{}&*!|>'\"%@`# \t\n]|\r\n|<<: |&a |\\*a|!!str |!!binary |2001-01-01|0x1f|\u{2028}|---\n|\n    "
            .prop_map(String::into_bytes),
    ];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), 0..4usize, piece), 1..6);
    (prop::sample::select(inputs), changes).prop_map(|(mut bytes, changes)| {
        for (at, removed, piece) in changes {
            let start = at.index(bytes.len() + 1);
            let end = (start + removed).min(bytes.len());
            bytes.splice(start..end, piece);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_accepted_can_be_stored_and_read_back(bytes in mutated()) {
        if let Ok(schematic) = Schematic::parse(&bytes) {
            let canonical = schematic.canonical();
            let back = Schematic::from_stored(&canonical).unwrap();
            prop_assert_eq!(back.canonical(), canonical);
            prop_assert_eq!(without_options(&back), without_options(&schematic));
        }
    }

    #[test]
    fn any_texts_can_be_stored_and_read_back(args in proptest::collection::vec(ANY_TEXT, 0..4), name in ANY_TEXT, key: u8, value in ANY_TEXT) {
        let overlay = (!name.is_empty()).then(|| Overlay {
            name: name.as_str().into(),
            options: vec![(Node::string(name.as_str()), Node::string(value.as_str()))],
            ..Overlay::default()
        });
        let customization = Customization {
            extra_kernel_args: args.into_iter().map(Text::from).collect(),
            meta: vec![MetaValue { key, value: value.into() }],
            ..Customization::default()
        };
        let schematic = Schematic { overlay, customization, ..Schematic::default() };
        prop_assert_eq!(Schematic::from_stored(&schematic.canonical()), Ok(schematic));
    }
}

#[test]
fn where_the_reference_varies_the_answer_is_always_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schematics/nondeterministic.jsonl");
    let rows: Vec<Value> =
        std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let schematic = Schematic::parse(row["input"].as_str().unwrap().as_bytes()).unwrap();
        let canonical = schematic.canonical();
        let seen = row["canonicals_seen"].as_array().unwrap();
        assert!(seen.iter().any(|text| text.as_str() == Some(&canonical)), "{canonical}");
        assert_eq!(Schematic::from_stored(&canonical).unwrap().canonical(), canonical);
    }
}
