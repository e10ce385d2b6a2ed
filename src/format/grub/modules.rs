//! The block of modules, configuration and prefix behind the kernel; GRUB itself relocates the modules at run time.

use super::{Core, GrubError, GrubFolder, MAX_IMAGE, bound, damaged};

/// The bytes `mimg`.
const MAGIC: u32 = 0x676d_696d;
/// Length of a record's header in bytes: type, and length with header and padding.
const RECORD_HEADER_LEN: usize = 8;

/// Types of records. Others are for what is not made here: memory disks, keys, device trees, switches of lockdown.
const MODULE: u32 = 0;
const CONFIG: u32 = 2;
const PREFIX: u32 = 3;

/// The block: a header of magic number, offset of the first record and length, then the records.
pub(super) fn module_block(folder: &GrubFolder, core: &Core<'_>) -> Result<Vec<u8>, GrubError> {
    let word = folder.platform().word();
    let header_len = word * 3;
    let mut out = vec![0; header_len];
    for name in folder.closure(core.modules)? {
        let file = format!("{name}.mod");
        let module = folder.file(&file)?;
        // Class 1 is 32 bits, class 2 is 64 bits.
        if !module.starts_with(b"\x7fELF") || module.get(4).copied().map(usize::from) != Some(word / 4) {
            return Err(damaged(&file, format!("it is no ELF file of {} bits", word * 8)));
        }
        record(&mut out, word, MODULE, module, 0)?;
    }
    if let Some(config) = core.config {
        record(&mut out, word, CONFIG, config.as_bytes(), 1)?;
    }
    record(&mut out, word, PREFIX, core.prefix.as_bytes(), 1)?;
    let fields = [u64::from(MAGIC), header_len as u64, out.len() as u64];
    for (slot, value) in out.chunks_exact_mut(word).zip(fields) {
        slot.copy_from_slice(&value.to_le_bytes()[..word]);
    }
    Ok(out)
}

/// Appends a record: its data, at least `zeros` zero bytes, and more up to a multiple of a word.
fn record(out: &mut Vec<u8>, word: usize, kind: u32, data: &[u8], zeros: usize) -> Result<(), GrubError> {
    let len = (RECORD_HEADER_LEN + data.len() + zeros).next_multiple_of(word);
    let end = out.len() + len;
    bound("block of modules", end as u64, MAX_IMAGE as u64)?;
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(data);
    out.resize(end, 0);
    Ok(())
}
