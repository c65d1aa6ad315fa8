//! ARM's SP805 watchdog (TRM, DDI 0270): a counter that runs down twice.
//!
//! ```text
//!               INTEN                   counted down             counted down again
//!  Disabled ────────────▶ First count ─────────────▶ Second count ──────────────▶ resets, if RESEN
//!     ▲                     ▲     ▲                   │     │ (RESEN off: it only goes round)
//!     │                     │     └────INTCLR─────────┘     │
//!     └─────INTEN off───────┴────────────────────────────────┘
//! ```
//!
//! Its driver loads half of the timeout. The interrupt after the first half is not wired: no driver listens to
//! it; drivers read it in RIS to tell how much time is left.

use std::time::Duration;

use super::{Watchdog, WatchdogState};
use crate::devices::primecell::{self, Identity};
use crate::snapshot::Unfit;

/// What the device tree and the identification registers say.
pub const IDENTITY: Identity = Identity(0x0014_1805);
/// The clock that it counts. Each tick is a microsecond, and the longest timeout 2 hours and 23 minutes.
pub const CLOCK_HZ: u32 = 1_000_000;

/// RW: from where it counts; writing counts from there at once.
const LOAD: u64 = 0x000;
/// R: the counter.
const VALUE: u64 = 0x004;
/// RW: [`INTEN`] and [`RESEN`].
const CONTROL: u64 = 0x008;
/// W: takes the interrupt back and counts from the start.
const INTCLR: u64 = 0x00c;
/// R: the interrupt.
const RIS: u64 = 0x010;
/// R: the interrupt, if enabled.
const MIS: u64 = 0x014;
/// RW: any value but [`KEY`] locks all the others.
const LOCK: u64 = 0xc00;

/// Counts, and interrupts.
const INTEN: u32 = 1 << 0;
/// Resets when the interrupt is still there at the end of the next count.
const RESEN: u32 = 1 << 1;
/// Unlocks the registers.
const KEY: u32 = 0x1acc_e551;

/// A running counter.
#[derive(Debug, Clone, Copy)]
struct Counting {
    /// When it began to count from the load value.
    since: Duration,
    /// The interrupt was there by then.
    interrupt: bool,
}

/// The registers.
#[derive(Debug)]
pub struct Sp805 {
    load: u32,
    control: u32,
    locked: bool,
    counting: Option<Counting>,
    /// Shown while nothing counts.
    stopped_at: u32,
}

impl Default for Sp805 {
    fn default() -> Self {
        Self { load: u32::MAX, control: 0, locked: false, counting: None, stopped_at: u32::MAX }
    }
}

impl Sp805 {
    /// Ticks of one count: the counter passes the load value, all below it, and zero.
    const fn ticks(&self) -> u64 {
        (self.load as u64).saturating_add(1)
    }

    /// Whole counts, and ticks of the current one.
    fn counted(&self, counting: Counting, now: Duration) -> (u64, u64) {
        let passed = u64::try_from(now.saturating_sub(counting.since).as_micros()).unwrap_or(u64::MAX);
        // One tick at least, see `ticks`.
        (passed.checked_div(self.ticks()).unwrap_or(0), passed.checked_rem(self.ticks()).unwrap_or(0))
    }

    fn value(&self, now: Duration) -> u32 {
        let Some(counting) = self.counting else { return self.stopped_at };
        let (_, ticks) = self.counted(counting, now);
        self.load.saturating_sub(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    fn interrupt(&self, now: Duration) -> bool {
        self.counting.is_some_and(|counting| counting.interrupt || self.counted(counting, now).0 > 0)
    }

    /// Leaves whole counts behind, so that the next zero is the one that matters.
    fn settle(&mut self, now: Duration) {
        let Some(counting) = self.counting else { return };
        let (counts, _) = self.counted(counting, now);
        if counts > 0 {
            let passed = Duration::from_micros(self.ticks().saturating_mul(counts));
            self.counting = Some(Counting { since: counting.since.saturating_add(passed), interrupt: true });
        }
    }

    /// Counts from the load value, with the interrupt as it is or taken back.
    const fn count(&mut self, since: Duration, interrupt: bool) {
        if self.control & INTEN != 0 {
            self.counting = Some(Counting { since, interrupt });
        } else {
            self.stopped_at = self.load;
        }
    }

    fn set_control(&mut self, now: Duration, value: u32) {
        let (before, wanted) = (self.control & INTEN, value & INTEN);
        if before != 0 && wanted == 0 {
            self.stopped_at = self.value(now);
            self.counting = None;
        }
        self.control = value & (INTEN | RESEN);
        if before == 0 && wanted != 0 {
            self.count(now, false);
        }
    }

    fn register(&self, now: Duration, offset: u64) -> u32 {
        match offset {
            LOAD => self.load,
            VALUE => self.value(now),
            CONTROL => self.control,
            RIS => u32::from(self.interrupt(now)),
            MIS => u32::from(self.interrupt(now) && self.control & INTEN != 0),
            LOCK => u32::from(self.locked),
            _ => IDENTITY.register(offset).unwrap_or(0),
        }
    }
}

impl Watchdog for Sp805 {
    const NAME: &'static str = "SP805";

    fn read(&self, now: Duration, offset: u64, data: &mut [u8]) {
        primecell::answer(data, self.register(now, offset));
    }

    fn write(&mut self, now: Duration, offset: u64, data: &[u8]) {
        let Some(value) = primecell::word(data) else { return };
        self.settle(now);
        match offset {
            LOCK => self.locked = value != KEY,
            _ if self.locked => {}
            LOAD => {
                let interrupt = self.counting.is_some_and(|counting| counting.interrupt);
                self.load = value;
                self.count(now, interrupt);
            }
            CONTROL => self.set_control(now, value),
            INTCLR => self.count(now, false),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Duration> {
        let counting = self.counting.filter(|_| self.control & RESEN != 0)?;
        let counts: u64 = if counting.interrupt { 1 } else { 2 };
        let ticks = self.ticks().saturating_mul(counts);
        Some(counting.since.saturating_add(Duration::from_micros(ticks)))
    }

    fn save(&self) -> WatchdogState {
        let Self { load, control, locked, counting, stopped_at } = *self;
        let counting = counting.map(|counting| (counting.since, counting.interrupt));
        WatchdogState::Sp805 { load, control, locked, counting, stopped_at }
    }

    fn restore(&mut self, state: &WatchdogState) -> Result<(), Unfit> {
        let &WatchdogState::Sp805 { load, control, locked, counting, stopped_at } = state else {
            return Err(Unfit::KIND);
        };
        let control = control & (INTEN | RESEN);
        if counting.is_some() != (control & INTEN != 0) {
            return Err(Unfit("its counter contradicts its control register"));
        }
        let counting = counting.map(|(since, interrupt)| Counting { since, interrupt });
        *self = Self { load, control, locked, counting, stopped_at };
        Ok(())
    }
}
