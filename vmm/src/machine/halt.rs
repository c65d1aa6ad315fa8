//! A guest that halted for good: every vCPU asleep, and nothing that could wake one.
//!
//! With KVM's interrupt controllers a halted vCPU does not come back to the monitor, so a guest that halts ("cli;
//! hlt" on x86_64, CPU_OFF on ARM64) looks like one that has nothing to do. The difference is asked for, in three
//! looks at a bounded distance, and at the price of a clock reading unless there is a suspicion:
//!
//! ```text
//!             no vCPU ran since the last look      each says: nothing can wake me     none ran since
//!  Watching ───────────────────────────────▶ Asked ─────────────────────────▶ Sure ──────────────▶ halted
//!     ▲                                        │ one could be woken             │ one ran
//!     └────────────────────────────────────────┴────────────────────────────────┘
//! ```
//!
//! The last look is there because vCPUs answer one after the other: only if none ran after its answer were all of
//! them asleep at once, and then no one is left to wake another.
//!
//! Not seen: a guest that "halts" by running in circles, which is what Linux does on ARM64. Its watchdog sees that.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Between two looks. A guest that halted has no hurry; a look costs a clock reading per vCPU.
const EVERY: Duration = Duration::from_secs(2);

/// What a look leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Verdict {
    /// Nothing special.
    Lives,
    /// Ask every vCPU whether anything could wake it.
    Ask,
    /// It never runs again.
    Halted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Watching,
    Asked,
    Sure,
}

/// The suspicion against one guest.
#[derive(Debug)]
pub(super) struct HaltWatch {
    state: State,
    next: Instant,
    /// CPU time of each vCPU at the last look.
    times: Vec<Option<Duration>>,
}

impl HaltWatch {
    pub(super) const fn new(now: Instant) -> Self {
        Self { state: State::Watching, next: now, times: Vec::new() }
    }

    /// When to look next.
    pub(super) const fn due(&self) -> Instant {
        self.next
    }

    /// A pause, or something else in which silence means nothing.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.state = State::Watching;
        self.times.clear();
        self.next = later(now);
    }

    /// A look: the CPU times of all vCPUs, and whether all said that nothing can wake them.
    pub(super) fn look(&mut self, now: Instant, times: Vec<Option<Duration>>, all_asleep: bool) -> Verdict {
        let still = !times.is_empty() && times.iter().all(Option::is_some) && times == self.times;
        self.times = times;
        self.next = later(now);
        let (state, verdict) = match self.state {
            State::Watching if still => (State::Asked, Verdict::Ask),
            State::Asked if all_asleep => (State::Sure, Verdict::Lives),
            State::Sure if still => (State::Sure, Verdict::Halted),
            State::Watching | State::Asked | State::Sure => (State::Watching, Verdict::Lives),
        };
        self.state = state;
        verdict
    }
}

fn later(now: Instant) -> Instant {
    now.checked_add(EVERY).unwrap_or(now)
}

/// Where vCPUs answer whether anything can wake them. One bit each.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    asked: AtomicBool,
    asleep: AtomicU32,
}

impl Sleepers {
    /// Wants to know, from now on, of every vCPU that comes out of the guest.
    pub(super) fn ask(&self) {
        self.asleep.store(0, Ordering::Relaxed);
        self.asked.store(true, Ordering::Release);
    }

    /// Takes the answers: whether all of `vcpus` sleep for good. Wants to know no more.
    pub(super) fn take(&self, vcpus: usize) -> bool {
        let asked = self.asked.swap(false, Ordering::Acquire);
        asked && usize::try_from(self.asleep.load(Ordering::Acquire).count_ones()) == Ok(vcpus)
    }

    /// A vCPU's answer, found out only if it is wanted.
    pub(super) fn answer(&self, index: u8, sleeps_for_good: impl FnOnce() -> bool) {
        if self.asked.load(Ordering::Acquire) && sleeps_for_good() {
            self.asleep.fetch_or(1u32.checked_shl(index.into()).unwrap_or(0), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(vcpus: &[u64]) -> Vec<Option<Duration>> {
        vcpus.iter().map(|&micros| Some(Duration::from_micros(micros))).collect()
    }

    struct Guest {
        watch: HaltWatch,
        now: Instant,
    }

    impl Guest {
        fn new() -> Self {
            let now = Instant::now();
            Self { watch: HaltWatch::new(now), now }
        }

        fn look(&mut self, vcpus: &[u64], all_asleep: bool) -> Verdict {
            self.now = self.watch.due();
            self.watch.look(self.now, times(vcpus), all_asleep)
        }
    }

    #[test]
    fn silence_is_asked_about_answered_and_kept() {
        let mut guest = Guest::new();
        assert_eq!(guest.look(&[5, 7], false), Verdict::Lives);
        assert_eq!(guest.look(&[5, 7], false), Verdict::Ask);
        assert_eq!(guest.look(&[6, 8], true), Verdict::Lives, "the answer itself took time");
        assert_eq!(guest.look(&[6, 8], false), Verdict::Halted);
    }

    #[test]
    fn a_guest_that_only_has_nothing_to_do_lives() {
        let mut guest = Guest::new();
        for _ in 0..10 {
            let _ = guest.look(&[5], false);
            assert_ne!(guest.look(&[5], false), Verdict::Halted);
        }
    }

    #[test]
    fn one_that_was_woken_after_its_answer_lives() {
        let mut guest = Guest::new();
        let _ = guest.look(&[5, 7], false);
        assert_eq!(guest.look(&[5, 7], false), Verdict::Ask);
        assert_eq!(guest.look(&[6, 8], true), Verdict::Lives);
        assert_eq!(guest.look(&[9, 8], false), Verdict::Lives);
        assert_eq!(guest.look(&[9, 8], false), Verdict::Ask, "and is suspected anew");
    }

    #[test]
    fn silence_in_a_pause_means_nothing_and_neither_does_a_clock_that_is_missing() {
        let mut guest = Guest::new();
        let _ = guest.look(&[5], false);
        guest.watch.excuse(guest.now);
        assert_eq!(guest.look(&[5], false), Verdict::Lives);
        assert_eq!(guest.look(&[5], false), Verdict::Ask);
        let mut clockless = HaltWatch::new(guest.now);
        for _ in 0..4 {
            assert_eq!(clockless.look(guest.now, vec![None], true), Verdict::Lives);
        }
    }

    #[test]
    fn answers_count_only_when_asked_for_and_only_if_all_agree() {
        let sleepers = Sleepers::default();
        sleepers.answer(0, || unreachable!("nobody asked"));
        assert!(!sleepers.take(0), "nobody asked");
        sleepers.ask();
        sleepers.answer(0, || true);
        sleepers.answer(0, || true);
        sleepers.answer(1, || false);
        assert!(!sleepers.take(2));
        sleepers.ask();
        sleepers.answer(0, || true);
        sleepers.answer(1, || true);
        assert!(sleepers.take(2));
        assert!(!sleepers.take(2), "taken");
    }
}
