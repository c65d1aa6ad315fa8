//! Is this ELF file a kernel that can be loaded as it asks to be?
//!
//! Duty: look at every header before the first byte is loaded, and name what is wrong. Not here: loading
//! (`kernel.rs`, with `linux-loader`), which looks at less: neither at class and machine, nor at segments that lie
//! over each other or over the boot data.
//!
//! Invariant: a plan's segments lie in the file, above the boot data, apart from each other, and wrap nowhere.

use std::ops::Range;

use super::layout;

/// Bytes that every ELF file begins with.
pub(super) const MAGIC: [u8; 4] = *b"\x7fELF";
/// Length of the ELF header.
const HEADER: usize = 64;
/// Length of one program header.
const PROGRAM_HEADER: usize = 56;

const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Kernels have five; a table longer than this is no kernel's, and would be walked pair by pair.
const MAX_PROGRAM_HEADERS: u16 = 64;
/// Bytes of notes: a kernel's take some hundred, and each is read with a system call of its own.
const MAX_NOTES: u64 = 64 << 10;

/// Why an ELF file is not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ElfFault {
    /// The file ends within its headers.
    #[error("cut short within its headers")]
    Short,
    /// A program for something else.
    #[error("an ELF file, but not of a 64-bit x86 program")]
    OtherMachine,
    /// No table of program headers, or one that no kernel has.
    #[error("{0} program headers of {1} bytes, expected 1 to {MAX_PROGRAM_HEADERS} of {PROGRAM_HEADER}")]
    Table(u16, u16),
    /// Nothing to load.
    #[error("nothing in it is to be loaded")]
    Empty,
    /// The segment's bytes are not all there.
    #[error("program header {0} points beyond the end of the file")]
    BeyondFile(usize),
    /// More bytes in the file than in memory.
    #[error("program header {0} has more bytes in the file than in memory")]
    LargerInFile(usize),
    /// It would lie over the boot data or wrap around.
    #[error("program header {0} is for addresses below {low:#x} or past the last", low = layout::HIGH_MEMORY.0)]
    Address(usize),
    /// Two segments lie over each other.
    #[error("program headers {0} and {1} lie over each other in memory")]
    Overlap(usize, usize),
    /// A note segment that nobody needs.
    #[error("program header {0} has more than {MAX_NOTES} bytes of notes")]
    Notes(usize),
    /// The first instruction is in no segment.
    #[error("starts at {0:#x}, where nothing is loaded")]
    Entry(u64),
}

/// Where the segments of a sound file go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    segments: Vec<(usize, Range<u64>)>,
}

impl Plan {
    /// First address after all segments.
    pub(super) fn end(&self) -> u64 {
        self.segments.iter().map(|(_, range)| range.end).max().unwrap_or(0)
    }

    /// Refuses a start where there is no code.
    pub(super) fn check_entry(&self, address: u64) -> Result<(), ElfFault> {
        let inside = self.segments.iter().any(|(_, range)| range.contains(&address));
        inside.then_some(()).ok_or(ElfFault::Entry(address))
    }
}

/// Where the table of program headers is, from the ELF header.
pub(super) fn table(header: &[u8]) -> Result<Range<u64>, ElfFault> {
    let header: &[u8; HEADER] = header.first_chunk().ok_or(ElfFault::Short)?;
    let [_, _, _, _, class, order, ..] = *header;
    let machine = u16::from_le_bytes(bytes(header, 18));
    if class != CLASS_64 || order != LITTLE_ENDIAN || machine != MACHINE_X86_64 {
        return Err(ElfFault::OtherMachine);
    }
    let start = u64::from_le_bytes(bytes(header, 32));
    let (length, count) = (u16::from_le_bytes(bytes(header, 54)), u16::from_le_bytes(bytes(header, 56)));
    if count == 0 || count > MAX_PROGRAM_HEADERS || usize::from(length) != PROGRAM_HEADER {
        return Err(ElfFault::Table(count, length));
    }
    let end = start.checked_add(u64::from(count) * u64::from(length)).ok_or(ElfFault::Short)?;
    Ok(start..end)
}

/// What this module looks at of a program header.
#[derive(Debug, Clone, Copy)]
struct ProgramHeader {
    kind: u32,
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
}

impl ProgramHeader {
    fn read(header: &[u8; PROGRAM_HEADER]) -> Self {
        Self {
            kind: u32::from_le_bytes(bytes(header, 0)),
            offset: u64::from_le_bytes(bytes(header, 8)),
            address: u64::from_le_bytes(bytes(header, 24)),
            in_file: u64::from_le_bytes(bytes(header, 32)),
            in_memory: u64::from_le_bytes(bytes(header, 40)),
        }
    }
}

/// A field of a header. All of them lie within, by the constants above.
fn bytes<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

/// Checks the program headers of a file of `length` bytes.
pub(super) fn plan(table: &[u8], length: u64) -> Result<Plan, ElfFault> {
    let mut segments: Vec<(usize, Range<u64>)> = Vec::new();
    for (index, header) in table.as_chunks().0.iter().map(ProgramHeader::read).enumerate() {
        if header.kind != PT_LOAD && header.kind != PT_NOTE {
            continue;
        }
        if header.offset.checked_add(header.in_file).is_none_or(|end| end > length) {
            return Err(ElfFault::BeyondFile(index));
        }
        if header.kind == PT_NOTE {
            if header.in_file > MAX_NOTES {
                return Err(ElfFault::Notes(index));
            }
            continue;
        }
        if header.in_file > header.in_memory {
            return Err(ElfFault::LargerInFile(index));
        }
        if header.in_memory == 0 {
            continue;
        }
        let range = match header.address.checked_add(header.in_memory) {
            Some(end) if header.address >= layout::HIGH_MEMORY.0 => header.address..end,
            _ => return Err(ElfFault::Address(index)),
        };
        let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        if let Some((other, _)) = segments.iter().find(|(_, other)| overlaps(other)) {
            return Err(ElfFault::Overlap(*other, index));
        }
        segments.push((index, range));
    }
    if segments.is_empty() {
        return Err(ElfFault::Empty);
    }
    Ok(Plan { segments })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = 0x1000;

    fn header(kind: u32, offset: u64, address: u64, in_file: u64, in_memory: u64) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        for word in [offset, 0, address, in_file, in_memory, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    fn load(offset: u64, address: u64, in_file: u64, in_memory: u64) -> Vec<u8> {
        header(PT_LOAD, offset, address, in_file, in_memory)
    }

    fn planned(headers: &[Vec<u8>]) -> Result<Plan, ElfFault> {
        plan(&headers.concat(), LENGTH)
    }

    #[test]
    fn a_sound_kernel_ends_with_its_last_segment_whatever_their_order() {
        let plan =
            planned(&[load(0x200, 0x20_0000, 0x100, 0x9000), load(0x300, 0x10_0000, 0x100, 0x100)]).unwrap();
        assert_eq!(plan.end(), 0x20_9000);
        assert_eq!(plan.check_entry(0x10_00ff), Ok(()));
        assert_eq!(plan.check_entry(0x10_0100), Err(ElfFault::Entry(0x10_0100)));
    }

    #[test]
    fn memory_that_the_file_does_not_fill_counts_too() {
        let bss = load(0, 0x30_0000, 0, 0x5000);
        assert_eq!(planned(&[load(0, 0x10_0000, 1, 1), bss]).unwrap().end(), 0x30_5000);
    }

    #[test]
    fn segments_past_the_end_of_the_file_are_named() {
        let sound = load(0, 0x10_0000, 1, 1);
        for offset in [LENGTH, LENGTH + 1, u64::MAX - 1, u64::MAX] {
            assert_eq!(
                planned(&[sound.clone(), load(offset, 0x20_0000, 2, 2)]),
                Err(ElfFault::BeyondFile(1))
            );
        }
        assert_eq!(planned(&[load(1, 0x10_0000, LENGTH, LENGTH)]), Err(ElfFault::BeyondFile(0)));
        let note = header(PT_NOTE, LENGTH, 0, 1, 0);
        assert_eq!(planned(&[note]), Err(ElfFault::BeyondFile(0)));
    }

    #[test]
    fn segments_that_lie_over_each_other_or_over_boot_data_are_named() {
        let first = load(0, 0x10_0000, 0x100, 0x2000);
        let second = |address| planned(&[first.clone(), load(0, address, 1, 1)]);
        assert_eq!(second(0x10_1fff), Err(ElfFault::Overlap(0, 1)));
        assert_eq!(second(0x10_0010), Err(ElfFault::Overlap(0, 1)));
        assert!(second(0x10_2000).is_ok());
        assert_eq!(planned(&[load(0, 0x7000, 1, 1)]), Err(ElfFault::Address(0)));
        assert_eq!(planned(&[load(0, u64::MAX - 3, 1, 8)]), Err(ElfFault::Address(0)));
        assert_eq!(planned(&[load(0, 0x10_0000, 9, 8)]), Err(ElfFault::LargerInFile(0)));
        assert_eq!(planned(&[]), Err(ElfFault::Empty));
    }

    #[test]
    fn programs_for_other_machines_are_none_of_ours() {
        let file = |machine: u16, start: u64, length: u16, count: u16| {
            let mut header = b"\x7fELF\x02\x01".to_vec();
            header.resize(HEADER, 0);
            header[18..20].copy_from_slice(&machine.to_le_bytes());
            header[32..40].copy_from_slice(&start.to_le_bytes());
            header[54..56].copy_from_slice(&length.to_le_bytes());
            header[56..58].copy_from_slice(&count.to_le_bytes());
            header
        };
        assert_eq!(table(&file(MACHINE_X86_64, 64, 56, 1)), Ok(64..120));
        assert_eq!(table(&file(MACHINE_X86_64, 64, 56, 1)[1..]), Err(ElfFault::Short));
        for (count, length) in [(0, 56), (65, 56), (1, 32), (u16::MAX, u16::MAX)] {
            assert_eq!(table(&file(MACHINE_X86_64, 64, length, count)), Err(ElfFault::Table(count, length)));
        }
        assert_eq!(table(&file(MACHINE_X86_64, u64::MAX, 56, 1)), Err(ElfFault::Short));
        assert_eq!(table(&file(183, 64, 56, 1)), Err(ElfFault::OtherMachine));
    }
}
