//! The machine's own time: it stands still while the machine is paused.
//!
//! Duty: what a watchdog counts by, so that a guest is not blamed for a pause it knew nothing of.
//! Not its duty: the guest's clocks, which KVM keeps.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
struct State {
    /// Time of all runs but the current one.
    before: Duration,
    /// Since when the machine runs; none while it is paused.
    running: Option<Instant>,
}

/// A stopwatch that runs whenever the machine does.
#[derive(Debug)]
pub struct MachineClock(Mutex<State>);

impl MachineClock {
    /// A clock that starts running at `now`.
    #[must_use]
    pub const fn started(now: Instant) -> Self {
        Self(Mutex::new(State { before: Duration::ZERO, running: Some(now) }))
    }

    /// A clock that goes on at `now` where another one was: the machine has run for `before` already.
    #[must_use]
    pub const fn resumed(before: Duration, now: Instant) -> Self {
        Self(Mutex::new(State { before, running: Some(now) }))
    }

    /// How long the machine has run at `now`.
    #[must_use]
    pub fn at(&self, now: Instant) -> Duration {
        self.state().at(now)
    }

    /// The machine is paused.
    pub fn stop(&self, now: Instant) {
        let mut state = self.state();
        state.before = state.at(now);
        state.running = None;
    }

    /// The machine goes on.
    pub fn start(&self, now: Instant) {
        self.state().running.get_or_insert(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn at(&self, now: Instant) -> Duration {
        let current = self.running.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.before.saturating_add(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_do_not_count_however_often_they_are_told() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let clock = MachineClock::started(start);
        assert_eq!(clock.at(after(3)), Duration::from_secs(3));
        clock.stop(after(3));
        clock.stop(after(4));
        assert_eq!(clock.at(after(100)), Duration::from_secs(3));
        clock.start(after(100));
        clock.start(after(101));
        assert_eq!(clock.at(after(102)), Duration::from_secs(5));
        assert_eq!(clock.at(start), Duration::from_secs(3), "a clock that goes back does nothing");
    }
}
