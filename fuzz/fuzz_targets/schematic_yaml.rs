//! Any body of `POST /schematics`: no panic, bounded work, and what is accepted can be stored and read back.

#![no_main]

use image_factory::schematic::Schematic;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Schematic::from_stored(text);
    }
    let Ok(schematic) = Schematic::parse(data) else { return };
    let _ = schematic.validate(true);
    let canonical = schematic.canonical();
    let back = Schematic::from_stored(&canonical).expect("what was written can be read");
    assert_eq!(back.canonical(), canonical);
});
