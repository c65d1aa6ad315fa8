//! ARM's PL031 real-time clock: what time it is when the guest starts, and after a pause.
//!
//! Duty: a counter of seconds (PL031 TRM, DDI 0224). Not its duty: alarms. Nothing sleeps in a microVM that an
//! alarm would have to wake, so the match interrupt is not wired; the register keeps what is written to it.
//!
//! `vm-superio` has such a clock too, but it reads the host's clock inside the model.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::primecell::{self, Identity};
use crate::machine::BusDevice;
use crate::snapshot::{Part, PartState, Unfit};

/// What the device tree and the identification registers say.
pub const IDENTITY: Identity = Identity(0x0004_1031);

/// R: seconds.
const DATA: u64 = 0x00;
/// RW: the alarm.
const MATCH: u64 = 0x04;
/// RW: sets the seconds.
const LOAD: u64 = 0x08;
/// RW: one while the clock runs, which is always.
const CONTROL: u64 = 0x0c;
/// RW: bit 0 lets an alarm interrupt.
const MASK: u64 = 0x10;

/// The registers. Seconds are counted modulo 2^32, as the hardware does: the year 2106.
#[derive(Debug, Default)]
pub struct Pl031 {
    /// The guest's clock minus the host's, in seconds.
    ahead: u32,
    load: u32,
    alarm: u32,
    mask: u32,
}

/// The registers of a clock that was saved. Any value of each is one that a guest can bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pl031State {
    ahead: u32,
    load: u32,
    alarm: u32,
    mask: bool,
}

impl Pl031 {
    fn save(&self) -> Pl031State {
        Pl031State { ahead: self.ahead, load: self.load, alarm: self.alarm, mask: self.mask != 0 }
    }

    fn saved(state: &Pl031State) -> Self {
        Self { ahead: state.ahead, load: state.load, alarm: state.alarm, mask: state.mask.into() }
    }

    /// What the register at `offset` shows when the host's clock shows `host` seconds.
    #[must_use]
    pub fn read(&self, host: u32, offset: u64) -> u32 {
        match offset {
            DATA => host.wrapping_add(self.ahead),
            MATCH => self.alarm,
            LOAD => self.load,
            CONTROL => 1,
            MASK => self.mask,
            _ => IDENTITY.register(offset).unwrap_or(0),
        }
    }

    /// Writes the register at `offset`.
    pub const fn write(&mut self, host: u32, offset: u64, value: u32) {
        match offset {
            MATCH => self.alarm = value,
            LOAD => {
                self.load = value;
                self.ahead = value.wrapping_sub(host);
            }
            MASK => self.mask = value & 1,
            _ => {}
        }
    }
}

/// The clock on the bus, on the host's wall clock.
#[derive(Debug, Default)]
pub struct Rtc {
    registers: Mutex<Pl031>,
}

impl Rtc {
    fn registers(&self) -> MutexGuard<'_, Pl031> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part for Rtc {
    fn name(&self) -> &'static str {
        "rtc"
    }

    fn save(&self) -> PartState {
        PartState::Clock(self.registers().save())
    }

    fn restore(&self, state: &PartState) -> Result<(), Unfit> {
        let PartState::Clock(state) = state else { return Err(Unfit::KIND) };
        *self.registers() = Pl031::saved(state);
        Ok(())
    }
}

/// The host's seconds, cut to the width of the registers.
fn host_seconds() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    u32::try_from(seconds & u64::from(u32::MAX)).unwrap_or(0)
}

impl BusDevice for Rtc {
    fn read(&self, offset: u64, data: &mut [u8]) {
        primecell::answer(data, self.registers().read(host_seconds(), offset));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(value) = primecell::word(data) {
            self.registers().write(host_seconds(), offset, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_shows_the_host_s_time_until_it_is_set_and_goes_on_from_there() {
        let mut clock = Pl031::default();
        assert_eq!(clock.read(1_700_000_000, DATA), 1_700_000_000);
        clock.write(1_700_000_010, LOAD, 5);
        assert_eq!(clock.read(1_700_000_010, DATA), 5);
        assert_eq!(clock.read(1_700_000_011, DATA), 6);
        assert_eq!(clock.read(1_700_000_000, LOAD), 5);
        assert_eq!(clock.read(0, CONTROL), 1);
    }

    #[test]
    fn a_driver_recognises_it() {
        let clock = Pl031::default();
        assert_eq!((clock.read(0, 0xfe0), clock.read(0, 0xfe4), clock.read(0, 0xffc)), (0x31, 0x10, 0xb1));
    }

    #[test]
    fn on_the_bus_only_whole_words_count() {
        let rtc = Rtc::default();
        rtc.write(LOAD, &[1]);
        rtc.write(LOAD, &[1, 0, 0, 0, 0, 0, 0, 0]);
        let mut word = [0xff; 4];
        rtc.read(LOAD, &mut word);
        assert_eq!(word, [0; 4]);
        rtc.write(MATCH, &[7, 0, 0, 0]);
        rtc.read(MATCH, &mut word);
        assert_eq!(word, [7, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn whatever_is_written_the_clock_runs_a_second_per_second(
            writes in proptest::collection::vec((any::<u32>(), 0u64..0x1000, any::<u32>()), 0..20),
            host in any::<u32>(),
            later in any::<u32>(),
        ) {
            let mut clock = Pl031::default();
            for (host, offset, value) in writes {
                clock.write(host, offset, value);
            }
            let passed = clock.read(host.wrapping_add(later), DATA).wrapping_sub(clock.read(host, DATA));
            prop_assert_eq!(passed, later);
        }
    }
}
