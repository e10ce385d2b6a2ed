use proptest::prelude::*;

use super::*;

#[test]
fn a_table_is_small_as_extents() {
    let mut gpt = Gpt::disk(Guid::of("disk"), 1 << 40, 4096, 0).unwrap();
    gpt.allocate("A", Guid::EFI_SYSTEM, Some(1 << 30), 0).unwrap();
    gpt.allocate("B", Guid::LINUX_DATA, None, 0).unwrap();
    let stored = gpt.head().encode().len() + gpt.tail().encode().len();
    assert!(stored < 1100, "{stored}");
}

#[test]
fn refusals_name_the_cause() {
    let gpt = || Gpt::disk(Guid::of("disk"), 8 << 20, 512, 0).unwrap();
    let partition = |name: &str, sectors| Partition {
        name: name.to_owned(),
        type_guid: Guid::LINUX_DATA,
        guid: Guid::of(name),
        sectors,
        attributes: 0,
    };
    let text = |result: Result<(), GptError>| result.unwrap_err().to_string();
    let last = (8 << 20) / 512 - 33;
    let mut table = gpt();
    table.add(partition("first", 2048..4096)).unwrap();
    for sectors in [2047..2050, 4095..4097, 2048..4096, 5000..5000, 5000..last + 1] {
        assert!(text(table.add(partition("x", sectors))).starts_with("gpt: partition \"x\": no room at sectors"));
    }
    table.add(partition("last", 4096..last)).unwrap();
    assert!(text(gpt().add(partition(&"n".repeat(37), 2048..2049))).contains("longer than 36 UTF-16 units"));
    let mut full = gpt();
    (0..128).for_each(|at| full.add(partition("p", 2048 + at..2049 + at)).unwrap());
    assert_eq!(
        text(full.add(partition("one more", 3000..3001))),
        "gpt: partition \"one more\": 128 partitions at most"
    );
    for (len, offset) in [(0, 0), (1 << 20, 0), (8 << 20, 20_000), (u64::MAX, u64::MAX)] {
        assert_eq!(Gpt::disk(Guid::of("disk"), len, 512, offset).unwrap_err(), GptError::TooSmall { len });
    }
    assert_eq!(Gpt::disk(Guid::of("disk"), 1 << 30, 511, 0).unwrap_err(), GptError::SectorSize(511));
}

proptest! {
    /// Whatever is asked for: no panic, no overlap, and head and tail keep off the partitions.
    #[test]
    fn partitions_keep_apart(
        len in 0u64..1 << 42,
        sector_size in prop::sample::select(vec![512u32, 520, 1024, 2048, 4096, 65536]),
        offset in 0u64..100_000,
        sizes in prop::collection::vec(prop::option::weighted(0.9, 0u64..1 << 34), 0..10),
    ) {
        let Ok(mut gpt) = Gpt::disk(Guid::of("disk"), len, sector_size, offset) else { return Ok(()) };
        let mut end = gpt.head().len();
        for size in sizes {
            if let Ok(range) = gpt.allocate("name", Guid::LINUX_DATA, size, 0) {
                prop_assert!(end <= range.start && range.start < range.end);
                end = range.end;
            }
        }
        prop_assert!(end <= gpt.tail_at());
        prop_assert!(gpt.tail_at() + gpt.tail().len() <= len);
    }
}

/// MBR, header and 32 sectors of entries, one sector, the entries and the header again.
#[test]
fn a_table_has_a_sector_between_its_copies() {
    let new = |sectors: u64| Gpt::new(Guid::of("disk"), sectors * 512, 512, 0, 0);
    assert_eq!(new(34 + 33).unwrap_err(), GptError::TooSmall { len: 67 * 512 });
    let mut smallest = new(34 + 1 + 33).unwrap();
    let partition = Partition {
        name: "x".into(),
        type_guid: Guid::LINUX_DATA,
        guid: Guid::of("x"),
        sectors: 34..35,
        attributes: 0,
    };
    smallest.add(partition).unwrap();
}
