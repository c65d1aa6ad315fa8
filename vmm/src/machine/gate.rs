//! Where vCPUs wait while the machine is paused, and learn that they are to go home.
//!
//! Duty: hold every vCPU thread that was kicked out of the guest for as long as a pause lasts, and say when
//! all are there. Not its duty: kicking them (see `kick`).
//!
//! ```text
//!            hold                    release
//!   Open ───────────▶ Closed ───────────────────▶ Open
//!     └──────┬──────────┘
//!            ▼ dismiss
//!        Dismissed      (no way back)
//! ```
//!
//! Invariant: between the moment in which [`Gate::all_held`] says so and the next `release` or `dismiss`, no
//! vCPU is in the guest.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Open,
    Closed,
    Dismissed,
}

/// What a vCPU does after it passed the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Way {
    /// Into the guest; it did not have to wait.
    Straight,
    /// Into the guest, after a pause.
    Rested,
    /// To the end of its thread.
    Home,
}

#[derive(Debug)]
struct State {
    position: Position,
    /// vCPUs that wait, or have been let go and do not run yet.
    held: u8,
    /// vCPUs that have started, and of them those that are home.
    started: u8,
    home: u8,
}

/// One for all vCPUs of a machine.
#[derive(Debug)]
pub(super) struct Gate {
    vcpus: u8,
    state: Mutex<State>,
    moved: Condvar,
    full: EventFd,
}

impl Gate {
    /// An open gate for so many vCPUs.
    pub(super) fn new(vcpus: u8) -> io::Result<Self> {
        Ok(Self {
            vcpus,
            state: Mutex::new(State { position: Position::Open, held: 0, started: 0, home: 0 }),
            moved: Condvar::new(),
            full: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        })
    }

    /// A vCPU comes by, and stays as long as the gate is closed.
    pub(super) fn pass(&self) -> Way {
        let mut state = self.lock();
        if state.position == Position::Open {
            return Way::Straight;
        }
        state.held = state.held.saturating_add(1);
        self.tell_if_full(&state);
        while state.position == Position::Closed {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.held = state.held.saturating_sub(1);
        if state.position == Position::Dismissed { Way::Home } else { Way::Rested }
    }

    /// Closes the gate. Every vCPU is to be kicked then.
    pub(super) fn hold(&self) {
        let mut state = self.lock();
        if state.position == Position::Open {
            state.position = Position::Closed;
            // After a release that nobody woke up from yet.
            self.tell_if_full(&state);
        }
    }

    /// Lets all go on.
    pub(super) fn release(&self) {
        self.turn_to(Position::Open);
    }

    /// Sends all home, those that come later, too. Every vCPU is to be kicked then.
    pub(super) fn dismiss(&self) {
        self.turn_to(Position::Dismissed);
    }

    /// A vCPU has started.
    pub(super) fn expect_one_more(&self) {
        let mut state = self.lock();
        state.started = state.started.saturating_add(1);
    }

    /// A vCPU has left for good.
    pub(super) fn come_home(&self) {
        let mut state = self.lock();
        state.home = state.home.saturating_add(1);
        drop(state);
        self.moved.notify_all();
    }

    /// Until every vCPU has.
    pub(super) fn wait_until_home(&self) {
        let mut state = self.lock();
        while state.home < state.started {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the gate is closed and every vCPU stands before it.
    pub(super) fn all_held(&self) -> bool {
        let state = self.lock();
        state.position == Position::Closed && state.held == self.vcpus
    }

    /// Becomes readable when [`all_held`](Self::all_held) may have become true.
    pub(super) const fn full(&self) -> &EventFd {
        &self.full
    }

    fn turn_to(&self, position: Position) {
        let mut state = self.lock();
        if state.position != Position::Dismissed {
            state.position = position;
        }
        drop(state);
        self.moved.notify_all();
    }

    fn tell_if_full(&self, state: &State) {
        if state.held == self.vcpus
            && let Err(error) = self.full.write(1)
        {
            log::error!("cannot tell that the vCPUs rest: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn full(gate: &Gate) -> bool {
        gate.full().read().is_ok()
    }

    fn wait_until_full(gate: &Gate) {
        while !gate.all_held() {
            thread::yield_now();
        }
    }

    #[test]
    fn an_open_gate_holds_nobody_up() {
        let gate = Gate::new(1).unwrap();
        assert_eq!(gate.pass(), Way::Straight);
        assert!(!gate.all_held());
        assert!(!full(&gate));
    }

    #[test]
    fn all_wait_until_they_are_released() {
        let gate = Arc::new(Gate::new(2).unwrap());
        for _ in 0..20 {
            gate.hold();
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let gate = gate.clone();
                    thread::spawn(move || gate.pass())
                })
                .collect();
            wait_until_full(&gate);
            assert!(full(&gate));
            gate.release();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), Way::Rested);
            }
            assert!(!gate.all_held());
        }
    }

    #[test]
    fn those_that_wait_go_home_and_nobody_passes_any_more() {
        let gate = Arc::new(Gate::new(1).unwrap());
        gate.hold();
        let waiting = thread::spawn({
            let gate = gate.clone();
            move || gate.pass()
        });
        wait_until_full(&gate);
        gate.dismiss();
        assert_eq!(waiting.join().unwrap(), Way::Home);
        gate.hold();
        gate.release();
        assert_eq!(gate.pass(), Way::Home);
    }

    #[test]
    fn a_second_hold_before_anybody_woke_up_is_full_at_once() {
        let gate = Gate::new(0).unwrap();
        gate.hold();
        assert!(full(&gate) && gate.all_held());
        gate.release();
        gate.hold();
        assert!(full(&gate), "told again, for who asks again");
    }
}
