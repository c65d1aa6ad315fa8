//! pvpanic: one byte into which a guest's kernel writes that it crashed (QEMU, `docs/specs/pvpanic`).
//!
//! Its driver (`pvpanic-mmio`) writes from the panic notifier, before anything that the crash may have broken,
//! so a machine ends as [`Outcome::Panic`] at once and not as the reboot that a panic leads to.

use std::sync::Arc;

use crate::Outcome;
use crate::logger::Quota;
use crate::machine::{BusDevice, Ending};

/// Bytes of registers.
pub const LENGTH: u64 = 1;

/// The kernel crashed, and nothing in the guest goes on.
const PANICKED: u8 = 1 << 0;
/// The kernel crashed, and its crash kernel takes over.
const CRASH_LOADED: u8 = 1 << 1;

/// The byte on the bus.
#[derive(Debug)]
pub struct Pvpanic {
    ending: Arc<Ending>,
    told: Quota,
}

impl Pvpanic {
    /// A byte that ends the machine through `ending`.
    #[must_use]
    pub fn new(ending: Arc<Ending>) -> Self {
        Self { ending, told: Quota::default() }
    }
}

impl BusDevice for Pvpanic {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        // What may be written.
        data.fill(PANICKED | CRASH_LOADED);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        let Some(events) = data.first() else { return };
        if events & PANICKED != 0 {
            self.ending.end(Outcome::Panic);
        } else if events & CRASH_LOADED != 0 && self.told.allow() {
            log::warn!("the guest's kernel crashed; its crash kernel takes over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome_of(writes: &[u8]) -> Option<Outcome> {
        let ending = Arc::new(Ending::new().unwrap());
        let device = Pvpanic::new(ending.clone());
        for byte in writes {
            device.write(0, &[*byte]);
        }
        ending.outcome()
    }

    #[test]
    fn a_crash_ends_the_machine_unless_a_crash_kernel_takes_over() {
        assert_eq!(outcome_of(&[PANICKED]), Some(Outcome::Panic));
        assert_eq!(outcome_of(&[CRASH_LOADED]), None);
        assert_eq!(
            outcome_of(&[CRASH_LOADED, PANICKED]),
            Some(Outcome::Panic),
            "the crash kernel crashed too"
        );
        assert_eq!(outcome_of(&[0, 4, 0x80]), None, "events that are not offered");
    }

    #[test]
    fn it_tells_which_events_it_takes() {
        let device = Pvpanic::new(Arc::new(Ending::new().unwrap()));
        let mut byte = [0];
        device.read(0, &mut byte);
        assert_eq!(byte, [3]);
    }
}
