//! Promises about the daemon's own duties: its timers, the watchdog, its alarms.
//!
//! Duty: a look after each step, at each pet and at each announcement. Not here: machines (`machines`).
//! Invariant: who is late is judged by the time that the core was told: a clock that went back deceives about
//! everything alike.

use std::time::Duration;

use hearth_core::{Announcement, Breaker, MOST_REBOOTS, REBOOTS_FORGIVEN, WorkloadId};

use crate::trouble::Trouble;
use crate::wishes::{NAMES, PET_PERIOD, SUBSYSTEMS};
use crate::world::World;

use super::REQUEST_LASTS;

/// A pet may come so much after its period: steps are at most that far apart.
const PET_SLACK: Duration = Duration::from_secs(1);

impl World {
    /// After a step and all that it wanted done.
    pub(crate) fn check_step(&mut self) {
        let now = self.now;
        self.settle_ends();
        let Some(daemon) = &mut self.daemon else { return };
        if daemon.core.next_deadline().is_some_and(|deadline| deadline <= daemon.clock) {
            return self.found(Trouble::TimerLeftDue);
        }
        // The limits are configured with the first configuration.
        if !daemon.is_up() {
            (daemon.timely_since, daemon.alive) = (now, [now; SUBSYSTEMS.len()]);
            return;
        }
        let told = daemon.clock;
        let late =
            SUBSYSTEMS.iter().zip(daemon.alive).any(|((.., limit), alive)| told.since(alive) >= *limit);
        if late {
            daemon.timely_since = now;
        }
        let waited = told.since(self.last_pet.max(daemon.timely_since));
        if waited > PET_PERIOD + PET_SLACK && !self.finished {
            let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            return self.found(Trouble::Starved { millis });
        }
        let silent = daemon.core.ids().find_map(|id| {
            let name = daemon.core.name(id)?;
            let place = NAMES.iter().position(|known| *known == name)?;
            if matches!(daemon.core.breaker(id), Some(Breaker::Open { .. })) {
                return (!self.checks.alarms.contains(&place)).then_some(place);
            }
            // Lifted: the next one is another alarm.
            self.checks.alarms.remove(&place);
            None
        });
        if let Some(place) = silent {
            self.found(Trouble::SilentQuarantine { name: NAMES[place].to_owned() });
        }
    }

    pub(crate) fn check_pet(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        // By the time that the core was told: a clock that went back deceives it about everything alike.
        let now = daemon.clock;
        let late =
            SUBSYSTEMS.iter().zip(daemon.alive).find(|((.., limit), alive)| now.since(*alive) >= *limit);
        if let Some(((_, subsystem, ..), _)) = late {
            self.found(Trouble::PettedWhileLate { subsystem });
        }
    }

    /// A box may be healed by reboots, but not all day.
    pub(crate) fn check_reboot(&mut self) {
        let now = self.now;
        self.stats.healing_reboots += 1;
        self.reboots.retain(|at| now.since(*at) < REBOOTS_FORGIVEN);
        self.reboots.push(now);
        let reboots = self.reboots.len();
        if reboots > usize::from(MOST_REBOOTS) {
            self.found(Trouble::RebootStorm { reboots });
        }
    }

    pub(crate) fn check_announcement(&mut self, announcement: &Announcement) {
        match announcement {
            Announcement::Quarantined { workload, .. } => {
                if let Some(place) = self.place_by_id(*workload) {
                    self.checks.alarms.insert(place);
                }
            }
            Announcement::RolloutWaits { .. } => self.stats.held_back += 1,
            // By a person, or with a new version: another budget, and a reason to take machines away.
            Announcement::Retried { workload }
            | Announcement::RolloutBegan { workload, .. }
            | Announcement::RollingBack { workload, .. } => {
                if let Some(place) = self.place_by_id(*workload) {
                    self.check_window(place, announcement);
                    self.checks.forget(NAMES[place]);
                    self.checks.asked.insert(place, self.now.after(REQUEST_LASTS));
                }
            }
            Announcement::RestartIn { replica, choice, .. }
            | Announcement::ProcessRestart { replica, choice, .. } => {
                self.check_choice(*replica, *choice);
            }
            _ => {}
        }
    }

    pub(crate) fn place_by_id(&self, id: WorkloadId) -> Option<usize> {
        let name = self.daemon.as_ref()?.core.name(id)?;
        NAMES.iter().position(|known| *known == name)
    }
}
