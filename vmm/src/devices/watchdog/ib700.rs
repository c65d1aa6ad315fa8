//! IB700: two ports of a single-board computer of the nineties, which QEMU made known.
//!
//! ```text
//! 0x441  W  any value stops it
//! 0x443  W  starts it anew: value 0xf is 0 seconds, each one less is 2 seconds more, 0 is 30 seconds
//! ```
//!
//! Reads are of the void, as on the board.

use std::time::Duration;

use super::{Watchdog, WatchdogState};
use crate::snapshot::Unfit;

/// The first port.
pub const BASE: u16 = 0x441;
/// Ports, one more than the last register: programs write 16 bits to it.
pub const LENGTH: u64 = 4;

const STOP: u64 = 0;
const START: u64 = 2;
/// The bits of [`START`] that choose the time.
const LEVEL: u8 = 0xf;
/// What one level less adds.
const STEP: Duration = Duration::from_secs(2);

/// The registers.
#[derive(Debug, Default)]
pub struct Ib700 {
    deadline: Option<Duration>,
}

/// How long the value that is written to the start port gives.
#[must_use]
pub fn timeout(value: u8) -> Duration {
    STEP.saturating_mul(u32::from(LEVEL.saturating_sub(value & LEVEL)))
}

impl Watchdog for Ib700 {
    const NAME: &'static str = "IB700";

    fn read(&self, _now: Duration, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write(&mut self, now: Duration, offset: u64, data: &[u8]) {
        for (offset, value) in (offset..).zip(data) {
            match offset {
                STOP => self.deadline = None,
                START => self.deadline = Some(now.saturating_add(timeout(*value))),
                _ => {}
            }
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    fn save(&self) -> WatchdogState {
        WatchdogState::Ib700 { deadline: self.deadline }
    }

    fn restore(&mut self, state: &WatchdogState) -> Result<(), Unfit> {
        let WatchdogState::Ib700 { deadline } = state else { return Err(Unfit::KIND) };
        self.deadline = *deadline;
        Ok(())
    }
}
