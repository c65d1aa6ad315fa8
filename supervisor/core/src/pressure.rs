//! What the box does when memory or disk run short.
//!
//! ```text
//! disk:    Calm --short--> Trimmed --still full--> Collected --still full--> Told --later--> Trimmed
//!            ^----------------------- calm again ------------------------------|
//! memory:  a target for every balloon, and no new machines while it is full
//! ```
//!
//! Duty: which measure comes next. Not here: carrying measures out, balloons of single machines (`state`).
//! Invariant: no measure ends a machine or loses what a workload wrote.

use serde::{Deserialize, Serialize};

use crate::deadlines::{MEASURE_WAIT, MEASURES_AGAIN};
use crate::moment::Moment;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Resource {
    Memory,
    Disk,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    #[default]
    Calm,
    /// Work is slowed down.
    Short,
    /// Next to nothing is left.
    Full,
}

/// What is done about a full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    TrimLogs,
    /// Of versions that nobody needs.
    CollectImages,
    /// People have to help.
    Tell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Disk {
    Calm,
    Trimmed { next: Moment },
    Collected { next: Moment },
    Told { next: Moment },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pressure {
    pub(crate) memory: Level,
    disk_level: Level,
    disk: Disk,
}

impl Pressure {
    pub(crate) const CALM: Pressure =
        Pressure { memory: Level::Calm, disk_level: Level::Calm, disk: Disk::Calm };

    /// How much of its memory a machine is asked for.
    pub(crate) fn balloon_target(&self, memory_mib: u32) -> u32 {
        match self.memory {
            Level::Calm => 0,
            Level::Short => memory_mib / 4,
            Level::Full => memory_mib / 2,
        }
    }

    /// Gives the level before.
    pub(crate) fn disk_is(&mut self, level: Level) -> Level {
        if level == Level::Calm {
            self.disk = Disk::Calm;
        }
        core::mem::replace(&mut self.disk_level, level)
    }

    /// For what the box can do without.
    pub(crate) fn disk_has_room(&self) -> bool {
        self.disk_level == Level::Calm
    }

    /// The measure that is due.
    pub(crate) fn disk_turn(&mut self, now: Moment) -> Option<Measure> {
        let full = self.disk_level == Level::Full;
        let (measure, next) = match self.disk {
            Disk::Calm if self.disk_level > Level::Calm => {
                (Measure::TrimLogs, Disk::Trimmed { next: now.after(MEASURE_WAIT) })
            }
            Disk::Trimmed { next } if next <= now && full => {
                (Measure::CollectImages, Disk::Collected { next: now.after(MEASURE_WAIT) })
            }
            Disk::Collected { next } if next <= now && full => {
                (Measure::Tell, Disk::Told { next: now.after(MEASURES_AGAIN) })
            }
            // Short only: trimming is repeated, nothing more.
            Disk::Trimmed { next } | Disk::Collected { next } | Disk::Told { next } if next <= now => {
                let wait = if full { MEASURE_WAIT } else { MEASURES_AGAIN };
                (Measure::TrimLogs, Disk::Trimmed { next: now.after(wait) })
            }
            _ => return None,
        };
        self.disk = next;
        Some(measure)
    }

    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.disk {
            Disk::Calm => None,
            Disk::Trimmed { next } | Disk::Collected { next } | Disk::Told { next } => Some(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn a_full_disk_is_met_by_one_measure_after_the_other_and_then_again() {
        let mut pressure = Pressure::CALM;
        assert_eq!(pressure.disk_is(Level::Full), Level::Calm);
        let mut now = Moment::START;
        let mut taken = Vec::new();
        for _ in 0..5 {
            taken.extend(pressure.disk_turn(now));
            assert_eq!(pressure.disk_turn(now), None, "one at a time");
            now = pressure.deadline().expect("there is a next one");
        }
        assert_eq!(
            taken,
            [
                Measure::TrimLogs,
                Measure::CollectImages,
                Measure::Tell,
                Measure::TrimLogs,
                Measure::CollectImages
            ]
        );
        assert_eq!(pressure.disk_is(Level::Calm), Level::Full);
        assert_eq!(pressure.disk_turn(now.after(Duration::from_secs(1))), None);
        assert_eq!(pressure.deadline(), None);
    }

    #[test]
    fn balloons_take_more_as_memory_gets_shorter_and_nothing_when_it_is_calm() {
        let target = |memory| Pressure { memory, ..Pressure::CALM }.balloon_target(512);
        assert_eq!([target(Level::Calm), target(Level::Short), target(Level::Full)], [0, 128, 256]);
    }
}
