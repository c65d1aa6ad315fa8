//! The registers through which a guest with ACPI switches itself off or resets itself.
//!
//! Three bytes: sleep control and sleep status as hardware-reduced ACPI defines them (ACPI 6.5, 4.8.3.7),
//! and a reset register. ARM guests need none of it: PSCI calls end in KVM and come out as system events.

use std::sync::Arc;

use crate::Outcome;
use crate::machine::{BusDevice, Ending};

/// W: sleep type and sleep enable.
pub const SLEEP_CONTROL: u16 = 0;
/// R: wake status, always zero: a microVM that sleeps is gone.
pub const SLEEP_STATUS: u16 = 1;
/// W: [`RESET_VALUE`] resets.
pub const RESET: u16 = 2;
/// Number of registers.
pub const LENGTH: u64 = 3;

/// What the kernel writes to [`RESET`].
pub const RESET_VALUE: u8 = 1;
/// The sleep type of "soft off", as `_S5_` announces it.
pub const SLEEP_TYPE_OFF: u8 = 5;

const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u8 = 2;
const SLEEP_TYPE_MASK: u8 = 0b111;

/// What a write to the registers asks for.
#[must_use]
fn request(offset: u64, value: u8) -> Option<Outcome> {
    if offset == u64::from(SLEEP_CONTROL) && value & SLEEP_ENABLE != 0 {
        let kind = (value >> SLEEP_TYPE_SHIFT) & SLEEP_TYPE_MASK;
        return (kind == SLEEP_TYPE_OFF).then_some(Outcome::PowerOff);
    }
    (offset == u64::from(RESET) && value == RESET_VALUE).then_some(Outcome::Reboot)
}

/// The registers on the bus.
#[derive(Debug)]
pub struct Power {
    ending: Arc<Ending>,
}

impl Power {
    /// Registers that end the machine through `ending`.
    pub fn new(ending: Arc<Ending>) -> Self {
        Self { ending }
    }
}

impl BusDevice for Power {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        for (offset, value) in (offset..).zip(data) {
            if let Some(outcome) = request(offset, *value) {
                self.ending.end(outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_soft_off_and_the_reset_value_end_the_machine() {
        assert_eq!(request(0, (5 << 2) | (1 << 5)), Some(Outcome::PowerOff));
        assert_eq!(request(0, 5 << 2), None, "sleep type without sleep enable");
        assert_eq!(request(0, (3 << 2) | (1 << 5)), None, "suspend to RAM is not offered");
        assert_eq!(request(2, 1), Some(Outcome::Reboot));
        assert_eq!(request(2, 6), None);
        assert_eq!(request(1, 0xff), None);
    }
}
