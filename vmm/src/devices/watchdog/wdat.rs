//! A watchdog that ACPI describes: the Watchdog Action Table says what to read and write for which action.
//!
//! Duty: six bytes of registers of our own making; `arch/x86_64/wdat.rs` writes the table that explains them.
//!
//! ```text
//! 0  u8   RW  1 while it counts; writing 1 starts it anew, 0 stops it
//! 1  u8   W   any value: counts from the start again
//! 2  u16  RW  from where it counts, in periods; for the next start or pet
//! 4  u16  R   periods that are left
//! ```

use std::time::Duration;

use super::{Watchdog, WatchdogState};
use crate::snapshot::Unfit;

/// Bytes of registers.
pub const LENGTH: u64 = 6;
/// Running or not.
pub const RUNNING: u16 = 0;
/// Pets it.
pub const PET: u16 = 1;
/// Periods to count.
pub const COUNT: u16 = 2;
/// Periods left.
pub const LEFT: u16 = 4;

/// One period, in milliseconds: the least that the table can say is 1.
pub const PERIOD_MS: u16 = 100;
/// The least count that the table offers: a second.
pub const COUNT_MIN: u16 = 10;
/// The greatest: 109 minutes.
pub const COUNT_MAX: u16 = u16::MAX;

/// The registers.
#[derive(Debug)]
pub struct Wdat {
    count: [u8; 2],
    deadline: Option<Duration>,
}

impl Default for Wdat {
    fn default() -> Self {
        Self { count: COUNT_MAX.to_le_bytes(), deadline: None }
    }
}

impl Wdat {
    fn timeout(&self) -> Duration {
        let periods = u32::from(u16::from_le_bytes(self.count));
        Duration::from_millis(PERIOD_MS.into()).saturating_mul(periods)
    }

    fn left(&self, now: Duration) -> [u8; 2] {
        let left = self.deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_sub(now));
        let periods = left.as_millis().div_ceil(PERIOD_MS.into());
        u16::try_from(periods).unwrap_or(u16::MAX).to_le_bytes()
    }

    fn register(&self, now: Duration, offset: u64) -> u8 {
        let [count_low, count_high] = self.count;
        let [left_low, left_high] = self.left(now);
        match offset {
            0 => u8::from(self.deadline.is_some()),
            2 => count_low,
            3 => count_high,
            4 => left_low,
            5 => left_high,
            _ => 0,
        }
    }
}

impl Watchdog for Wdat {
    const NAME: &'static str = "WDAT";

    fn read(&self, now: Duration, offset: u64, data: &mut [u8]) {
        for (offset, byte) in (offset..).zip(data) {
            *byte = self.register(now, offset);
        }
    }

    fn write(&mut self, now: Duration, offset: u64, data: &[u8]) {
        let [low, high] = &mut self.count;
        for (offset, value) in (offset..).zip(data) {
            match offset {
                2 => *low = *value,
                3 => *high = *value,
                _ => {}
            }
        }
        for (offset, value) in (offset..).zip(data) {
            match offset {
                0 if value & 1 == 0 => self.deadline = None,
                0 => self.deadline = Some(now.saturating_add(self.timeout())),
                1 if self.deadline.is_some() => self.deadline = Some(now.saturating_add(self.timeout())),
                _ => {}
            }
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    fn save(&self) -> WatchdogState {
        WatchdogState::Wdat { count: self.count, deadline: self.deadline }
    }

    fn restore(&mut self, state: &WatchdogState) -> Result<(), Unfit> {
        let WatchdogState::Wdat { count, deadline } = state else { return Err(Unfit::KIND) };
        *self = Self { count: *count, deadline: *deadline };
        Ok(())
    }
}
