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

/// The reset line that PCs have on their keyboard controller, and nothing else of one: no keyboard is announced and
/// none answers. Kernels told `reboot=k`, as most command lines made for microVMs do, pulse it.
#[derive(Debug)]
pub struct ResetLine {
    ending: Arc<Ending>,
}

/// Number of its registers.
pub const RESET_LINE_LENGTH: u64 = 1;
/// "Pulse output port bit 0", which is the line.
const PULSE_RESET: u8 = 0xfe;

impl ResetLine {
    /// A line that ends the machine through `ending`.
    pub fn new(ending: Arc<Ending>) -> Self {
        Self { ending }
    }
}

impl BusDevice for ResetLine {
    /// Ready for a command. The void's ones would be "busy", and a kernel waits a second for that to change.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if data == [PULSE_RESET] {
            self.ending.end(Outcome::Reboot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_line_is_always_ready_and_takes_one_command() {
        let ending = Arc::new(Ending::new().unwrap());
        let line = ResetLine::new(ending.clone());
        let mut status = [0xff];
        line.read(0, &mut status);
        assert_eq!(status, [0]);
        line.write(0, &[0xd1]);
        line.write(0, &[PULSE_RESET, PULSE_RESET]);
        assert_eq!(ending.outcome(), None);
        line.write(0, &[PULSE_RESET]);
        assert_eq!(ending.outcome(), Some(Outcome::Reboot));
    }

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
