//! The Watchdog Action Table: which access to which register does what to the watchdog (Microsoft, "Hardware
//! Watchdog Timers Design Specification").
//!
//! Duty: describe `devices::watchdog::wdat`. Actions that a machine which is gone after it was bitten has no use for
//! (the status of the boot, what happens on expiry) are left out; drivers ask whether they are there.

use acpi_tables::Aml;
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::sdt::Sdt;

use super::acpi::{HEADER, OEM, OEM_REVISION, OEM_TABLE};
use super::layout;
use crate::devices::watchdog::wdat::{COUNT, COUNT_MAX, COUNT_MIN, LEFT, PERIOD_MS, PET, RUNNING};

/// Bytes of the table's own header.
const WATCHDOG_HEADER: u32 = 32;
/// "No PCI device": in every one of the four fields.
const NOT_PCI: u8 = 0xff;
/// There is a watchdog.
const ENABLED: u8 = 1;

/// What an entry does with its register.
#[derive(Clone, Copy)]
enum Instruction {
    ReadValue = 0,
    ReadCountdown = 1,
    WriteValue = 2,
    WriteCountdown = 3,
}

use Instruction::{ReadCountdown, ReadValue, WriteCountdown, WriteValue};

/// Action, instruction, register, its bytes, value.
const ENTRIES: [(u8, Instruction, u16, u8, u32); 8] = [
    (1, WriteValue, PET, 1, 1),       // pet
    (4, ReadCountdown, LEFT, 2, 0),   // how much is left
    (5, ReadCountdown, COUNT, 2, 0),  // from where it counts
    (6, WriteCountdown, COUNT, 2, 0), // choose from where
    (8, ReadValue, RUNNING, 1, 1),    // does it count?
    (9, WriteValue, RUNNING, 1, 1),   // start
    (10, ReadValue, RUNNING, 1, 0),   // does it stand?
    (11, WriteValue, RUNNING, 1, 0),  // stop
];

pub(super) fn table() -> Sdt {
    let mut body = Vec::new();
    body.extend(WATCHDOG_HEADER.to_le_bytes());
    body.extend([NOT_PCI, 0, NOT_PCI, NOT_PCI, NOT_PCI, 0, 0, 0]);
    for number in [u32::from(PERIOD_MS), COUNT_MAX.into(), COUNT_MIN.into(), ENABLED.into()] {
        body.extend(number.to_le_bytes());
    }
    body.extend(u32::try_from(ENTRIES.len()).unwrap_or(0).to_le_bytes());
    for (action, instruction, register, bytes, value) in ENTRIES {
        body.extend([action, instruction as u8, 0, 0]);
        let (access, mask) = match bytes {
            1 => (AccessSize::ByteAccess, u32::from(u8::MAX)),
            _ => (AccessSize::WordAccess, u32::from(u16::MAX)),
        };
        let port = u64::from(layout::WDAT_PORT + register);
        GAS::new(AddressSpace::SystemIo, bytes * 8, 0, access, port).to_aml_bytes(&mut body);
        body.extend(value.to_le_bytes());
        body.extend(mask.to_le_bytes());
    }
    let mut table = Sdt::new(*b"WDAT", HEADER, 1, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(&body);
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::devices::watchdog::Watchdog;
    use crate::devices::watchdog::wdat::Wdat;

    /// What a driver makes of an entry of the table.
    fn run(table: &[u8], model: &mut Wdat, now: Duration, action: u8, parameter: u16) -> u32 {
        let entry = table[68..].chunks(24).find(|entry| entry[0] == action).unwrap();
        let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
        let (offset, value, mask) = (u64::from(word(8) - u32::from(layout::WDAT_PORT)), word(16), word(20));
        let bytes = usize::from(entry[5] / 8);
        let mut data = [0; 4];
        match entry[1] {
            2 => model.write(now, offset, &(value & mask).to_le_bytes()[..bytes]),
            3 => model.write(now, offset, &u32::from(parameter).to_le_bytes()[..bytes]),
            _ => model.read(now, offset, &mut data[..bytes]),
        }
        let read = u32::from_le_bytes(data) & mask;
        if entry[1] == 0 { u32::from(read == value) } else { read }
    }

    #[test]
    fn a_driver_that_follows_the_table_works_the_watchdog() {
        let (table, mut model) = (table(), Wdat::default());
        let mut act = |seconds, action, parameter| {
            let result = run(table.as_slice(), &mut model, Duration::from_secs(seconds), action, parameter);
            (result, model.deadline().map(|deadline| deadline.as_secs()))
        };
        assert_eq!(act(0, 8, 0), (0, None), "does not run");
        assert_eq!(act(0, 10, 0), (1, None), "stands");
        assert_eq!(act(0, 6, 300), (0, None), "30 seconds");
        assert_eq!(act(1, 9, 0), (0, Some(31)), "start");
        assert_eq!(act(11, 4, 0), (200, Some(31)), "20 seconds left");
        assert_eq!(act(11, 8, 0), (1, Some(31)), "runs");
        assert_eq!(act(11, 1, 0), (0, Some(41)), "pet");
        assert_eq!(act(12, 5, 0), (300, Some(41)), "the whole count");
        assert_eq!(act(12, 11, 0), (0, None), "stop");
    }

    #[test]
    fn the_table_has_the_form_that_the_specification_gives_it() {
        let table = table();
        let bytes = table.as_slice();
        assert_eq!(bytes.len(), 36 + 32 + 8 * 24);
        assert_eq!(bytes[36..48], [32, 0, 0, 0, 0xff, 0, 0xff, 0xff, 0xff, 0, 0, 0]);
        assert_eq!(bytes[48..68], [100, 0, 0, 0, 0xff, 0xff, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0]);
        // The first entry: pet, write a value, one byte of port space.
        assert_eq!(bytes[68..80], [1, 2, 0, 0, 1, 8, 0, 1, 0x21, 0x06, 0, 0]);
    }
}
