//! The setup header of a bzImage: may it be loaded, where, and how much (Linux `Documentation/x86/boot.rst`).
//!
//! `linux-loader` asks for the load address before it tells what the header says; so the header is read here, and
//! loading is one read. The kernel that is packed inside unpacks itself, from where it is loaded to where it runs.
//!
//! Invariant: what a plan loads is in the file, above the boot data, and `end` counts the room to unpack.

use linux_loader::loader::bootparam::setup_header;
use vm_memory::ByteValued;

use super::layout;

/// Offset of the setup header in the file and in the boot parameters.
pub(super) const HEADER_OFFSET: usize = 0x1f1;
/// Bytes from the start of the file to the end of the setup header.
pub(super) const HEADER_END: usize = HEADER_OFFSET + size_of::<setup_header>();

const BOOT_FLAG: u16 = 0xaa55;
const MAGIC: u32 = 0x5372_6448;
/// 2.12 (Linux 3.8) is the first that tells whether there is a 64-bit entry.
const OLDEST_PROTOCOL: u16 = 0x20c;
/// `loadflags`: loaded at 1 MiB and above.
const LOADED_HIGH: u8 = 1;
/// `xloadflags`: there is a 64-bit entry.
const KERNEL_64: u16 = 1;
/// Where that entry is, from the load address on.
const ENTRY_64: u64 = 0x200;
const SECTOR: u64 = 512;
/// What a `setup_sects` of 0 stands for.
const OLD_SETUP_SECTORS: u64 = 4;

/// Why a bzImage is not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BzImageFault {
    /// The file ends before the kernel does.
    #[error("a bzImage that is cut short")]
    Short,
    /// From before 64-bit entries were told.
    #[error(
        "a bzImage of boot protocol {}.{}, expected 2.12 or later",
        .0 >> 8,
        .0 & 0xff
    )]
    Old(u16),
    /// A kernel for 32-bit processors.
    #[error("a bzImage without a 64-bit entry")]
    No64BitEntry,
    /// It would lie over the boot data or wrap around.
    #[error("a bzImage for address {0:#x}, expected one above {low:#x}", low = layout::HIGH_MEMORY.0)]
    Address(u64),
}

/// How to load a sound one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    /// As in the file: the kernel gets it back in its boot parameters.
    pub(super) header: setup_header,
    /// First byte of the kernel in the file.
    pub(super) offset: u64,
    /// Bytes of it.
    pub(super) length: u64,
    /// Where they go.
    pub(super) address: u64,
    /// First address that the kernel leaves alone before it knows its memory map.
    pub(super) end: u64,
}

impl Plan {
    /// First instruction, in long mode.
    pub(super) const fn entry(&self) -> u64 {
        self.address + ENTRY_64
    }

    /// Addresses where this kernel finds an initrd.
    pub(super) fn initrd_end(&self) -> u64 {
        u64::from(self.header.initrd_addr_max) + 1
    }
}

/// Whether a file that begins with `bytes` is a bzImage at all.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    header(bytes).is_some_and(|header| {
        let (flag, magic) = (header.boot_flag, header.header);
        flag == BOOT_FLAG && magic == MAGIC
    })
}

/// Checks the header of a file of `length` bytes.
pub(super) fn plan(bytes: &[u8], length: u64) -> Result<Plan, BzImageFault> {
    let header = header(bytes).ok_or(BzImageFault::Short)?;
    let version = header.version;
    if version < OLDEST_PROTOCOL {
        return Err(BzImageFault::Old(version));
    }
    if header.loadflags & LOADED_HIGH == 0 || header.xloadflags & KERNEL_64 == 0 {
        return Err(BzImageFault::No64BitEntry);
    }
    let sectors = match u64::from(header.setup_sects) {
        0 => OLD_SETUP_SECTORS,
        sectors => sectors,
    };
    let offset = (sectors + 1) * SECTOR;
    // In paragraphs of 16 bytes; what comes after it in the file (a signature) is not the kernel's.
    let paragraphs: u32 = header.syssize;
    let kernel = u64::from(paragraphs) * 16;
    if kernel <= ENTRY_64 || offset + kernel > length {
        return Err(BzImageFault::Short);
    }
    let (address, room): (u64, u32) = (header.pref_address, header.init_size);
    let end = address.checked_add(kernel.max(room.into()));
    match end {
        Some(end) if address >= layout::HIGH_MEMORY.0 => {
            Ok(Plan { header, offset, length: kernel, address, end })
        }
        _ => Err(BzImageFault::Address(address)),
    }
}

fn header(bytes: &[u8]) -> Option<setup_header> {
    let mut header = setup_header::default();
    header.as_mut_slice().copy_from_slice(bytes.get(HEADER_OFFSET..HEADER_END)?);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of Debian's kernels, with a kernel of 64 KiB.
    fn sound() -> setup_header {
        setup_header {
            setup_sects: 39,
            syssize: 0x1000,
            boot_flag: BOOT_FLAG,
            header: MAGIC,
            version: 0x20f,
            loadflags: LOADED_HIGH,
            xloadflags: KERNEL_64,
            initrd_addr_max: 0x7fff_ffff,
            pref_address: 0x100_0000,
            init_size: 0x320_0000,
            ..Default::default()
        }
    }

    fn planned(header: setup_header, length: u64) -> Result<Plan, BzImageFault> {
        let mut bytes = vec![0; HEADER_OFFSET];
        bytes.extend_from_slice(header.as_slice());
        assert!(is_one(&bytes));
        plan(&bytes, length)
    }

    const LENGTH: u64 = 40 * 512 + 0x1_0000;

    #[test]
    fn a_sound_one_goes_where_it_prefers_with_room_to_unpack() {
        let plan = planned(sound(), LENGTH).unwrap();
        assert_eq!((plan.offset, plan.length, plan.address), (40 * 512, 0x1_0000, 0x100_0000));
        assert_eq!((plan.end, plan.entry(), plan.initrd_end()), (0x420_0000, 0x100_0200, 0x8000_0000));
    }

    #[test]
    fn what_is_appended_is_left_and_what_is_missing_is_told() {
        assert_eq!(planned(sound(), LENGTH + 2000).unwrap().length, 0x1_0000);
        assert_eq!(planned(sound(), LENGTH - 1), Err(BzImageFault::Short));
        assert_eq!(planned(setup_header { syssize: u32::MAX, ..sound() }, LENGTH), Err(BzImageFault::Short));
        assert_eq!(planned(setup_header { syssize: 0, ..sound() }, LENGTH), Err(BzImageFault::Short));
        assert_eq!(plan(&[0; HEADER_END - 1], LENGTH), Err(BzImageFault::Short));
    }

    #[test]
    fn kernels_without_a_64_bit_entry_are_refused() {
        let refused = |header| planned(header, LENGTH).unwrap_err();
        assert_eq!(refused(setup_header { xloadflags: 0, ..sound() }), BzImageFault::No64BitEntry);
        let old = refused(setup_header { version: 0x205, ..sound() });
        assert_eq!(old.to_string(), "a bzImage of boot protocol 2.5, expected 2.12 or later");
    }

    #[test]
    fn an_address_over_the_boot_data_or_past_the_last_is_refused() {
        for address in [0, 0xf_ffff, u64::MAX, u64::MAX - 0x100_0000] {
            let header = setup_header { pref_address: address, ..sound() };
            assert_eq!(planned(header, LENGTH), Err(BzImageFault::Address(address)));
        }
    }
}
