//! The rest of a watchdog: its place on the bus, and the timer in the event loop.
//!
//! The vCPU that pets only moves the deadline; the timer is set again when it runs out and finds itself early.
//! So petting costs no system call beyond the exit.
//!
//! Invariant: whenever the model has a deadline and the loop serves the timer, the timer is set to that deadline
//! or to an earlier one.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::timerfd::TimerFd;

use super::Watchdog;
use crate::Outcome;
use crate::machine::{BusDevice, Ending, MachineClock};
use crate::snapshot::{Part, PartState, Unfit};

/// The least that a timer is set to: zero would disarm it.
const SOON: Duration = Duration::from_micros(10);

struct State<W> {
    model: W,
    timer: TimerFd,
    /// What the timer is set to.
    set_to: Option<Duration>,
}

/// A watchdog on the bus.
pub struct Watch<W> {
    clock: Arc<MachineClock>,
    ending: Arc<Ending>,
    state: Mutex<State<W>>,
}

impl<W> std::fmt::Debug for Watch<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl<W: Watchdog + Default> Watch<W> {
    /// A watchdog that counts by `clock` and ends the machine through `ending`.
    pub fn new(clock: Arc<MachineClock>, ending: Arc<Ending>) -> io::Result<Arc<Self>> {
        let state = State { model: W::default(), timer: TimerFd::new()?, set_to: None };
        Ok(Arc::new(Self { clock, ending, state: Mutex::new(state) }))
    }
}

impl<W: Watchdog> Watch<W> {
    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the machine if the time has come.
    fn look(&self, state: &mut State<W>, now: Duration) {
        if state.model.deadline().is_some_and(|deadline| deadline <= now) && self.ending.outcome().is_none() {
            log::warn!("{}: the guest did not pet its watchdog in time", W::NAME);
            self.ending.end(Outcome::WatchdogExpired);
        }
    }

    /// Sets the timer if nothing wakes it early enough.
    fn set(&self, state: &mut State<W>, now: Duration) {
        let Some(deadline) = state.model.deadline() else { return };
        if state.set_to.is_some_and(|set_to| set_to <= deadline) {
            return;
        }
        match state.timer.reset(deadline.saturating_sub(now).max(SOON), None) {
            Ok(()) => state.set_to = Some(deadline),
            Err(error) => log::error!("{}: its time cannot be kept: {error}", W::NAME),
        }
    }

    /// The timer ran out, or what it is set to is worth nothing after a pause.
    fn wake(&self, now: Instant) {
        let mut state = self.state();
        let now = self.clock.at(now);
        // Disarmed and not read: a vCPU may have set it anew since the event, and a read would wait for that.
        let _ = state.timer.clear();
        state.set_to = None;
        self.look(&mut state, now);
        self.set(&mut state, now);
    }
}

impl<W: Watchdog> BusDevice for Watch<W> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        // The time is taken under the lock: the model must not see it go back.
        let state = self.state();
        state.model.read(self.clock.at(Instant::now()), offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut state = self.state();
        let now = self.clock.at(Instant::now());
        // Too late is too late, even if the event loop has not come to it yet.
        self.look(&mut state, now);
        state.model.write(now, offset, data);
        self.set(&mut state, now);
    }
}

impl<W: Watchdog> Part for Watch<W> {
    fn name(&self) -> &'static str {
        W::NAME
    }

    fn save(&self) -> PartState {
        PartState::Watchdog(self.state().model.save())
    }

    fn restore(&self, state: &PartState) -> Result<(), Unfit> {
        let PartState::Watchdog(saved) = state else { return Err(Unfit::KIND) };
        let mut state = self.state();
        state.model.restore(saved)?;
        let now = self.clock.at(Instant::now());
        self.set(&mut state, now);
        Ok(())
    }
}

/// A watchdog in the event loop.
#[derive(Debug)]
pub struct Timer<W>(pub Arc<Watch<W>>);

impl<W: Watchdog> MutEventSubscriber for Timer<W> {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        self.0.wake(Instant::now());
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(&self.0.state().timer, EventSet::IN)) {
            log::error!("{}: its timer cannot be watched: {error}", W::NAME);
        }
        self.0.wake(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use event_manager::{EventManager, SubscriberOps};

    use super::super::ib700::Ib700;
    use super::*;

    const START: u64 = 2;
    /// From the table of the board.
    const NOTHING: u8 = 0xf;
    const THIRTY_SECONDS: u8 = 0;

    fn watch() -> (Arc<Watch<Ib700>>, Arc<MachineClock>, Arc<Ending>) {
        let clock = Arc::new(MachineClock::started(Instant::now()));
        let ending = Arc::new(Ending::new().unwrap());
        (Watch::new(clock.clone(), ending.clone()).unwrap(), clock, ending)
    }

    fn after(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_watchdog_that_nobody_pets_ends_the_machine() {
        let (watch, _, ending) = watch();
        watch.write(START, &[THIRTY_SECONDS]);
        watch.wake(after(29));
        assert_eq!(ending.outcome(), None);
        watch.wake(after(31));
        assert_eq!(ending.outcome(), Some(Outcome::WatchdogExpired));
    }

    #[test]
    fn a_pause_is_not_counted() {
        let (watch, clock, ending) = watch();
        watch.write(START, &[THIRTY_SECONDS]);
        clock.stop(after(20));
        watch.wake(after(3600));
        clock.start(after(3600));
        watch.wake(after(3608));
        assert_eq!(ending.outcome(), None);
        watch.wake(after(3612));
        assert_eq!(ending.outcome(), Some(Outcome::WatchdogExpired));
    }

    #[test]
    fn a_pet_that_comes_too_late_does_not_hide_it() {
        let (watch, _, ending) = watch();
        watch.write(START, &[NOTHING]);
        watch.write(START, &[THIRTY_SECONDS]);
        assert_eq!(ending.outcome(), Some(Outcome::WatchdogExpired));
    }

    #[test]
    fn the_event_loop_sees_it_and_again_after_it_was_taken_out_of_the_loop() {
        for pauses in [false, true] {
            let (watch, _, ending) = watch();
            let mut events = EventManager::<Box<dyn MutEventSubscriber>>::new().unwrap();
            let id = events.add_subscriber(Box::new(Timer(watch.clone())));
            if pauses {
                let subscriber = events.remove_subscriber(id).unwrap();
                watch.write(START, &[NOTHING]);
                events.add_subscriber(subscriber);
            } else {
                watch.write(START, &[NOTHING]);
            }
            while ending.outcome().is_none() {
                assert_eq!(events.run_with_timeout(20_000).unwrap(), 1, "the timer never ran out");
            }
        }
    }
}
