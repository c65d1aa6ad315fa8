//! Numbers of the monitors.
//!
//! Duty: ask them beside everything else, one after the other, and hold the answers until somebody looks. Not here: rates
//! of single machines (`mod.rs`). Invariant: one round at a time, and a monitor that does not answer is missing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hearth_core::Vm;
use hearth_wire::control::{Answer, Order};
use smol::{LocalExecutor, Task};

use super::reading::real;
use crate::monitor;

/// For an answer: one that takes longer is told by other means.
const PATIENCE: Duration = Duration::from_secs(1);

/// A guest's words about its memory count for so long: it is asked once a minute, and one that hangs says nothing new.
const FRESH_MS: u64 = 60_000;

/// What a machine's devices have moved so far.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counters {
    at: Instant,
    disk: Option<u64>,
    network: Option<u64>,
    /// Bytes that its balloon holds.
    pub(super) balloon: Option<f32>,
    /// Bytes that its guest says it could use without harm, and how long ago it said so.
    available: Option<f32>,
    age_ms: Option<u64>,
}

impl Counters {
    fn new(at: Instant) -> Counters {
        Counters { at, disk: None, network: None, balloon: None, available: None, age_ms: None }
    }

    fn take(&mut self, name: &str, value: u64) {
        let sum = |sum: &mut Option<u64>| *sum = Some(sum.unwrap_or(0).wrapping_add(value));
        match name {
            "read_bytes" | "written_bytes" => sum(&mut self.disk),
            "received_bytes" | "sent_bytes" => sum(&mut self.network),
            "available_bytes" => self.available = Some(real(value)),
            "age_ms" => self.age_ms = Some(value),
            "size_bytes" => self.balloon = Some(real(value)),
            _ => {}
        }
    }

    /// Bytes that its guest does without: those in its balloon, and those that it calls available.
    pub(super) fn spare(&self) -> Option<f32> {
        let is_fresh = self.age_ms.is_some_and(|age| age <= FRESH_MS);
        Some(self.balloon? + self.available.filter(|_| is_fresh)?)
    }

    /// Bytes per second of disks and of networks; none: it has no such device.
    pub(super) fn since(&self, before: &Counters) -> (Option<f32>, Option<f32>) {
        let passed = self.at.saturating_duration_since(before.at).as_secs_f32();
        let rate = |now: Option<u64>, before: Option<u64>| {
            let moved = now?.checked_sub(before?)?;
            (passed > 0.0).then(|| real(moved) / passed)
        };
        (rate(self.disk, before.disk), rate(self.network, before.network))
    }
}

#[derive(Debug, Default)]
pub(super) struct Monitors {
    answers: Rc<RefCell<BTreeMap<Vm, Counters>>>,
    asking: Option<Task<()>>,
}

impl Monitors {
    /// What it answered since the last look.
    pub(super) fn take(&self, vm: Vm) -> Option<Counters> {
        self.answers.borrow_mut().remove(&vm)
    }

    pub(super) fn ask(&mut self, executor: &LocalExecutor<'_>, sockets: Vec<(Vm, PathBuf)>) {
        if self.asking.as_ref().is_some_and(|asking| !asking.is_finished()) {
            return;
        }
        let answers = Rc::clone(&self.answers);
        answers.borrow_mut().clear();
        self.asking = Some(executor.spawn(async move {
            for (vm, socket) in sockets {
                let mut counters = Counters::new(Instant::now());
                let asked = monitor::ask(&socket, Order::Statistics, PATIENCE, |answer| {
                    if let Answer::Figures { figures, .. } = answer {
                        figures.iter().for_each(|figure| counters.take(figure.name, figure.value));
                    }
                });
                if asked.await.is_ok() {
                    answers.borrow_mut().insert(vm, counters);
                }
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_devices_moved_becomes_rates_and_a_machine_without_them_has_none() {
        let begin = Instant::now();
        let mut before = Counters::new(begin);
        before.take("read_bytes", 1000);
        before.take("written_bytes", 1000);
        let mut after = Counters::new(begin + Duration::from_secs(2));
        after.take("read_bytes", 2000);
        after.take("written_bytes", 4000);
        after.take("size_bytes", 7);
        after.take("exits", 7);
        assert_eq!(after.since(&before), (Some(2000.0), None));
        assert_eq!(after.balloon, Some(7.0));
        assert_eq!(before.since(&after).0, None, "another machine");
    }

    #[test]
    fn a_guest_can_do_without_what_it_gave_and_what_it_calls_available_if_it_said_so_just_now() {
        let mut counters = Counters::new(Instant::now());
        counters.take("size_bytes", 100);
        assert_eq!(counters.spare(), None, "it does not tell");
        counters.take("available_bytes", 50);
        assert_eq!(counters.spare(), None, "nobody knows when that was");
        counters.take("age_ms", 1000);
        assert_eq!(counters.spare(), Some(150.0));
        counters.take("age_ms", FRESH_MS + 1);
        assert_eq!(counters.spare(), None);
    }
}
