//! Partition tables of any disk: partitions lie apart and inside, and both copies say the same, with right checksums.
//!
//! The input is: how the table is made (1 byte), length (8), sector size (4), first array and first usable sector (8 each),
//! then partitions: how (1 byte), start or length (8), length (8), name.
#![no_main]

use fuzz::{Input, bytes, hold_ranges};
use image_factory::format::gpt::{Gpt, Guid, Partition};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let choice = input.number(1);
    // Lengths of every magnitude.
    let len = input.number(8) >> (choice >> 2);
    let sector_size = match choice & 3 {
        0 => 512,
        1 => 4096,
        _ => input.number(4) as u32,
    };
    let guid = Guid::of("fuzz");
    let table = if choice & 2 != 0 {
        Gpt::disk(guid, len, sector_size, input.number(2))
    } else {
        let (entries_at, first_usable) = (input.number(8), input.number(8));
        let small = |number: u64| number >> (number & 63);
        Gpt::new(guid, len, sector_size, small(entries_at), small(first_usable))
    };
    let Ok(mut table) = table else { return };
    if choice & 4 != 0 {
        table = table.with_boot_code([0x90; 440]);
    }
    while !input.is_empty() {
        let (how, a, b, name) = (input.number(1), input.number(8), input.number(8), input.text());
        let (a, b) = (a >> (how & 63), b >> (how & 63));
        if how & 0x80 != 0 {
            let partition =
                Partition { name, type_guid: Guid::LINUX_DATA, guid, sectors: a..a.saturating_add(b), attributes: how };
            let _ = table.add(partition);
        } else if let Ok(range) = table.allocate(&name, Guid::EFI_SYSTEM, (how & 0x40 != 0).then_some(a), b) {
            assert!(range.start < range.end && range.end <= len);
        }
    }

    let size = u64::from(sector_size);
    let (head, tail) = (table.head(), table.tail());
    let sectors = len / size;
    assert_eq!(table.tail_at() + tail.len(), sectors * size);
    for (n, partition) in table.partitions().iter().enumerate() {
        let range = table.bytes(partition);
        assert!(head.len() <= range.start && range.start < range.end && range.end <= table.tail_at());
        let apart = |other: &Partition| {
            other.sectors.end <= partition.sectors.start || partition.sectors.end <= other.sectors.start
        };
        assert!(table.partitions()[..n].iter().all(apart));
    }
    let mbr = bytes(&head.slice(0..512));
    assert_eq!(mbr[510..], [0x55, 0xaa]);
    assert_eq!(mbr[446 + 4], 0xee);
    let first = bytes(&head.slice(size..size + 92));
    let last = bytes(&tail.slice(tail.len() - size..tail.len() - size + 92));
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!((number(&first, 24), number(&first, 32)), (1, sectors - 1));
    assert_eq!((number(&last, 24), number(&last, 32)), (sectors - 1, 1));
    let arrays = [
        bytes(&head.slice(number(&first, 72) * size..number(&first, 72) * size + 16384)),
        bytes(
            &tail.slice(number(&last, 72) * size - table.tail_at()..number(&last, 72) * size - table.tail_at() + 16384),
        ),
    ];
    assert!(arrays[0] == arrays[1]);
    let checksum = crc32(&arrays[0]).to_le_bytes();
    for header in [&first, &last] {
        assert_eq!(header[..12], *b"EFI PART\0\0\x01\0");
        let mut blank = header.clone();
        blank[16..20].fill(0);
        assert_eq!(header[16..20], crc32(&blank).to_le_bytes());
        assert_eq!(header[88..92], checksum);
        assert!(number(header, 40) <= number(header, 48), "usable sectors");
    }
    let entries = arrays[0].chunks(128);
    let partitions = table.partitions().iter().map(Some).chain(std::iter::repeat(None));
    for (entry, partition) in entries.zip(partitions) {
        let Some(partition) = partition else {
            assert!(entry.iter().all(|byte| *byte == 0));
            continue;
        };
        assert_eq!((number(entry, 32), number(entry, 40) + 1), (partition.sectors.start, partition.sectors.end));
        let name: Vec<u16> = entry[56..].chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        assert!(
            String::from_utf16(&name)
                .is_ok_and(|name| name.trim_end_matches('\0') == partition.name.trim_end_matches('\0'))
        );
    }
    hold_ranges(&head, &mut Input::new(data));
    hold_ranges(&tail, &mut Input::new(data));
});

/// As IEEE 802.3 has it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 0 { sum >> 1 } else { sum >> 1 ^ 0xedb8_8320 })
    })
}
