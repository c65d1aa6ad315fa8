//! Signs of life of the daemon's own parts.
//!
//! Duty: when which part has shown that it works. Not here: what a silent one leads to (`hearth-core`).
//! Invariant: a part's sign is given only by what would not come about without it; without a watchdog there are none,
//! and nobody wakes up for them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use hearth_core::{Moment, Subsystem};
use smol::{LocalExecutor, Task, Timer};

use crate::clock;

/// The core waits for several of them before a part is late.
const EVERY: Duration = Duration::from_secs(2);
/// A beat of the tasks that is older than this is none.
const FRESH: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Vitals {
    /// None: nobody wants to know.
    due: Option<Moment>,
    /// The last beat of a task beside those that talk with the monitors: what starves them starves it.
    beat: Rc<Cell<Moment>>,
    _beating: Option<Task<()>>,
}

impl Vitals {
    pub(crate) fn new(executor: &LocalExecutor<'_>, wanted: bool) -> Vitals {
        let now = clock::now();
        let beat = Rc::new(Cell::new(now));
        let beating = Rc::clone(&beat);
        let task = async move {
            loop {
                Timer::after(EVERY).await;
                beating.set(clock::now());
            }
        };
        Vitals { due: wanted.then_some(now), beat, _beating: wanted.then(|| executor.spawn(task)) }
    }

    /// When somebody has to ask at the latest.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.due
    }

    /// The loop asks, after the store has taken all that it was given: both work.
    pub(crate) fn signs(&mut self, now: Moment) -> Vec<Subsystem> {
        let Some(due) = self.due.filter(|due| *due <= now) else { return Vec::new() };
        self.due = Some(now.max(due).after(EVERY));
        let mut signs = vec![Subsystem::Loop, Subsystem::Store];
        if now.since(self.beat.get()) <= FRESH {
            signs.push(Subsystem::Machines);
        }
        signs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_given_when_they_are_due_and_the_tasks_only_while_their_beat_is_fresh() {
        let executor = LocalExecutor::new();
        let mut vitals = Vitals::new(&executor, true);
        let begin = vitals.beat.get();
        let all = [Subsystem::Loop, Subsystem::Store, Subsystem::Machines];
        let now = begin.after(EVERY);
        assert_eq!(vitals.signs(now), all);
        assert_eq!(vitals.signs(now), [], "not before they are due again");
        let later = now.after(FRESH);
        assert_eq!(vitals.signs(later), [Subsystem::Loop, Subsystem::Store]);
        vitals.beat.set(later);
        assert_eq!(vitals.signs(later.after(EVERY)), all);
    }

    #[test]
    fn without_a_watchdog_nobody_wakes_up() {
        let mut vitals = Vitals::new(&LocalExecutor::new(), false);
        assert_eq!(vitals.due(), None);
        assert_eq!(vitals.signs(Moment::from_millis(u64::MAX)), []);
    }
}
