//! From what is free to a level.
//!
//! ```text
//! Calm --below short--> Short --below full--> Full
//!   ^                   |  ^                   |
//!   +--half more than---+  +---half more than--+
//!      short                   full
//! ```
//!
//! Duty: levels that do not flutter. Not here: measuring.
//! Invariant: a level is left only when half more is free than it was entered with.

use hearth_config::device::Limits;
use hearth_core::Level;

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) free: u64,
    pub(super) all: u64,
}

impl Room {
    /// What nobody can measure is no shortage.
    pub(super) const PLENTY: Room = Room { free: u64::MAX, all: u64::MAX };

    /// Thousandths that are free.
    pub(super) fn permille(self) -> u64 {
        // A file system without blocks, as those of the kernel's own, takes nothing anyway.
        u64::try_from(u128::from(self.free) * 1000 / u128::from(self.all).max(1)).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauge {
    level: Level,
}

impl Gauge {
    /// The level, if it is another one now. With `enough` free, it is calm.
    pub(super) fn read(&mut self, room: Room, limits: Limits, enough: u64) -> Option<Level> {
        let free = if room.free >= enough || room.all == 0 { 1000 } else { room.permille() };
        let level = [(Level::Full, limits.full), (Level::Short, limits.short)]
            .into_iter()
            .find(|(level, percent)| {
                let entered = u64::from(*percent) * 10;
                // Above nine tenths there is no half more.
                let limit =
                    if self.level >= *level { (entered * 3 / 2).min(entered.max(990)) } else { entered };
                free < limit
            })
            .map_or(Level::Calm, |(level, _)| level);
        (level != self.level).then(|| {
            self.level = level;
            level
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { short: 10, full: 4 };

    fn room(permille: u64) -> Room {
        Room { free: permille, all: 1000 }
    }

    #[test]
    fn a_level_is_entered_at_its_limit_and_left_with_half_more() {
        let mut gauge = Gauge::default();
        let mut read = |permille| gauge.read(room(permille), LIMITS, u64::MAX);
        for (permille, level) in [
            (100, None),
            (99, Some(Level::Short)),
            (149, None),
            (150, Some(Level::Calm)),
            (39, Some(Level::Full)),
            (59, None),
            (60, Some(Level::Short)),
            (40, None),
            (1000, Some(Level::Calm)),
        ] {
            assert_eq!(read(permille), level, "{permille}");
        }
    }

    #[test]
    fn a_small_share_of_much_is_enough_and_what_has_no_size_is_never_short() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.read(Room { free: 50, all: 10_000 }, LIMITS, 50), None);
        assert_eq!(gauge.read(Room { free: 0, all: 0 }, LIMITS, 50), None);
        assert_eq!(gauge.read(Room::PLENTY, LIMITS, 50), None);
        assert_eq!(gauge.read(Room { free: 49, all: 10_000 }, LIMITS, 50), Some(Level::Full));
        assert_eq!(gauge.read(Room { free: 50, all: 10_000 }, LIMITS, 50), Some(Level::Calm));
    }

    proptest! {
        #[test]
        fn whatever_is_free_a_change_is_told_once_and_is_a_change(
            short in 2_u8..=90, full in 1_u8..=89, all in 0_u64.., reads in proptest::collection::vec(any::<u64>(), 1..20)
        ) {
            let limits = Limits { short: short.max(full + 1), full };
            let mut gauge = Gauge::default();
            let mut level = Level::Calm;
            for free in reads {
                let room = Room { free: free % all.max(1), all };
                if let Some(next) = gauge.read(room, limits, u64::MAX) {
                    prop_assert_ne!(next, level);
                    level = next;
                }
                prop_assert_eq!(gauge.read(room, limits, u64::MAX), None);
            }
        }
    }
}
