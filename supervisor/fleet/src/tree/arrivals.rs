//! Desired states that arrive, and how fast they are looked at.
//!
//! ```text
//! arrived --allowed--> looked at
//!    \--too many--> waits --a newer one came--> passed over
//!                       \--its time came--> looked at
//! ```
//!
//! Duty: pace. Each look is written down before it begins, so whoever may publish could otherwise wear the disk out and
//! keep the thread busy. Not here: what a look comes to (`super`).
//! Invariant: the last one that arrived is looked at, sooner or later, or is known: it is the one that counts. One waits.

use std::time::Duration;

use hearth_core::Moment;

/// Looks at once: people who try something out.
const LOOKS: u32 = 8;
/// For one more.
const LOOK_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Arrivals {
    spent: u32,
    /// When the last look was given back, or nothing was spent.
    since: Option<Moment>,
    waiting: Option<Vec<u8>>,
}

impl Arrivals {
    /// Whether it may be looked at now; if not, it waits.
    pub(super) fn arrive(&mut self, now: Moment, payload: &[u8]) -> Arrival {
        let passed_over = self.waiting.take().is_some();
        self.give_back(now);
        if self.spent < LOOKS {
            self.spent += 1;
            return Arrival { look: true, passed_over };
        }
        self.waiting = Some(payload.to_vec());
        Arrival { look: false, passed_over }
    }

    /// Something newer came that needs no look.
    pub(super) fn forget(&mut self) {
        self.waiting = None;
    }

    /// When the one that waits may be looked at.
    pub(super) fn due(&self) -> Option<Moment> {
        self.waiting.as_ref().and(self.since).map(|since| since.after(LOOK_EVERY))
    }

    pub(super) fn take_due(&mut self, now: Moment) -> Option<Vec<u8>> {
        self.due().filter(|due| *due <= now)?;
        self.give_back(now);
        self.spent += 1;
        self.waiting.take()
    }

    fn give_back(&mut self, now: Moment) {
        let since = self.since.filter(|_| self.spent > 0).unwrap_or(now);
        let looks = u32::try_from(now.since(since).as_millis() / LOOK_EVERY.as_millis()).unwrap_or(u32::MAX);
        self.spent = self.spent.saturating_sub(looks);
        self.since = Some(since.after(LOOK_EVERY.saturating_mul(looks)));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Arrival {
    pub(super) look: bool,
    /// One before it will never be looked at.
    pub(super) passed_over: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::START.after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_flood_is_looked_at_now_and_then_and_its_last_one_in_the_end() {
        let mut arrivals = Arrivals::default();
        let mut looked = Vec::new();
        for number in 0..100_u8 {
            let now = at(u64::from(number) / 10);
            looked.extend(arrivals.take_due(now).map(|payload| payload[0]));
            if arrivals.arrive(now, &[number]).look {
                looked.push(number);
            }
        }
        assert_eq!(looked, [0, 1, 2, 3, 4, 5, 6, 7, 49]);
        assert_eq!(arrivals.due(), Some(at(10)));
        assert_eq!(arrivals.take_due(at(9)), None);
        assert_eq!(arrivals.take_due(at(10)), Some(vec![99]));
        assert_eq!(arrivals.due(), None);
    }

    #[test]
    fn after_a_while_all_looks_are_back_and_no_more() {
        let mut arrivals = Arrivals::default();
        let burst =
            |arrivals: &mut Arrivals, now| (0..20).filter(|_| arrivals.arrive(now, &[1]).look).count();
        assert_eq!(burst(&mut arrivals, at(3)), 8);
        assert_eq!(burst(&mut arrivals, at(14)), 2);
        assert_eq!(burst(&mut arrivals, at(1000)), 8);
        arrivals.forget();
        assert_eq!(arrivals.due(), None);
    }
}
