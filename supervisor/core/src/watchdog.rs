//! Whether the hardware's watchdog is petted.
//!
//! ```text
//! each subsystem:  Timely --its deadline passes--> Late(since) --it speaks--> Timely
//! the watchdog:    petted while all are timely; not petted while one is late
//! ```
//!
//! Duty: the deadlines of the daemon's own critical parts, and when a pet is due. Not here: petting (a thread of the
//! shell), what is done about a late part (`state`).
//! Invariant: a pet is granted if and only if every critical subsystem has met its own deadline. Connectivity is
//! none of them: a box without a network is a healthy box.

use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// A part of the daemon without which the box is not cared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subsystem {
    /// The loop that feeds the core.
    Loop,
    /// Journal and store.
    Store,
    /// The talk with the monitors.
    Machines,
    /// Who asks the probes' questions.
    Probes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchdogSpec {
    /// How often the hardware is to be petted; a third of its timeout is a good choice. None: there is no watchdog,
    /// and late subsystems are told all the same.
    pub period: Option<Duration>,
    /// Each critical subsystem and the longest that it may be silent.
    pub critical: Vec<(Subsystem, Duration)>,
    /// How long a subsystem may be late before the daemon is started again in place.
    pub patience: Duration,
    /// Whether a box may be rebooted when starting the daemon again did not help.
    pub reboot: bool,
}

impl Default for WatchdogSpec {
    fn default() -> WatchdogSpec {
        WatchdogSpec { period: None, critical: Vec::new(), patience: Duration::from_secs(10), reboot: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Watched {
    subsystem: Subsystem,
    limit: Duration,
    due: Moment,
    late: Option<Moment>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watchdog {
    watched: Vec<Watched>,
    period: Option<Duration>,
    pet_due: Option<Moment>,
}

/// What a look at the watchdog found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a pet that is not given resets the box"]
pub(crate) enum Verdict {
    Pet,
    Wait,
    Starve,
}

impl Watchdog {
    /// A subsystem that was watched before keeps its deadline.
    pub(crate) fn configure(&mut self, spec: &WatchdogSpec, now: Moment) {
        let before = core::mem::take(&mut self.watched);
        self.watched = spec
            .critical
            .iter()
            .map(|(subsystem, limit)| {
                let known = before.iter().find(|old| old.subsystem == *subsystem && old.limit == *limit);
                known.copied().unwrap_or_else(|| Watched {
                    subsystem: *subsystem,
                    limit: *limit,
                    due: now.after(*limit),
                    late: None,
                })
            })
            .collect();
        if self.period != spec.period {
            self.period = spec.period;
            self.pet_due = spec.period.map(|_| now);
        }
    }

    /// Says whether it had been late.
    pub(crate) fn alive(&mut self, subsystem: Subsystem, now: Moment) -> bool {
        let mut was_late = false;
        for watched in self.watched.iter_mut().filter(|watched| watched.subsystem == subsystem) {
            watched.due = now.after(watched.limit);
            was_late |= watched.late.take().is_some();
        }
        was_late
    }

    /// Subsystems that have just become late.
    pub(crate) fn find_late(&mut self, now: Moment) -> Option<Subsystem> {
        let late = self.watched.iter_mut().find(|watched| watched.late.is_none() && watched.due <= now)?;
        late.late = Some(now);
        Some(late.subsystem)
    }

    /// The one that is late for the longest, and since when.
    pub(crate) fn latest(&self) -> Option<(Subsystem, Moment)> {
        let late = self.watched.iter().filter_map(|watched| Some((watched.subsystem, watched.late?)));
        late.min_by_key(|(_, since)| *since)
    }

    pub(crate) fn verdict(&mut self, now: Moment) -> Verdict {
        let Some((period, due)) = self.period.zip(self.pet_due) else { return Verdict::Wait };
        if self.watched.iter().any(|watched| watched.due <= now) {
            // Petted again in the very step in which the last late one speaks.
            self.pet_due = Some(now);
            return Verdict::Starve;
        }
        if due > now {
            return Verdict::Wait;
        }
        self.pet_due = Some(now.after(period));
        Verdict::Pet
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        let lateness =
            self.watched.iter().filter(|watched| watched.late.is_none()).map(|watched| watched.due);
        // While one is late there is nothing to wake up for.
        let pet = self.pet_due.filter(|_| self.latest().is_none());
        lateness.chain(pet).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Moment {
        Moment::from_millis(second * 1000)
    }

    fn watchdog() -> Watchdog {
        let mut watchdog = Watchdog::default();
        let critical =
            [(Subsystem::Loop, Duration::from_secs(10)), (Subsystem::Store, Duration::from_secs(30))];
        let spec = WatchdogSpec {
            period: Some(Duration::from_secs(5)),
            critical: critical.to_vec(),
            ..WatchdogSpec::default()
        };
        watchdog.configure(&spec, at(0));
        watchdog
    }

    #[test]
    fn it_is_petted_on_time_while_all_are_timely() {
        let mut watchdog = watchdog();
        assert_eq!(watchdog.verdict(at(0)), Verdict::Pet);
        assert_eq!(watchdog.verdict(at(4)), Verdict::Wait);
        assert_eq!(watchdog.verdict(at(5)), Verdict::Pet);
    }

    #[test]
    fn one_late_subsystem_starves_it_and_its_word_feeds_it_at_once() {
        let mut watchdog = watchdog();
        let _ = watchdog.alive(Subsystem::Store, at(9));
        assert_eq!(watchdog.verdict(at(10)), Verdict::Starve);
        assert_eq!(watchdog.find_late(at(10)), Some(Subsystem::Loop));
        assert_eq!(watchdog.find_late(at(10)), None, "told once");
        assert_eq!(watchdog.latest(), Some((Subsystem::Loop, at(10))));
        assert!(watchdog.alive(Subsystem::Loop, at(12)));
        assert_eq!(watchdog.verdict(at(12)), Verdict::Pet);
    }

    #[test]
    fn a_changed_configuration_gives_nobody_a_new_deadline_who_is_late() {
        let mut watchdog = watchdog();
        let spec = WatchdogSpec {
            period: Some(Duration::from_secs(5)),
            critical: [(Subsystem::Loop, Duration::from_secs(10))].to_vec(),
            ..WatchdogSpec::default()
        };
        watchdog.configure(&spec, at(9));
        assert_eq!(watchdog.verdict(at(10)), Verdict::Starve);
    }
}
