//! How often what a guest can do at will is told to whoever listens.
//!
//! Invariant: at most once in [`INTERVAL`], the first time at once, and never lost: what happens in between is told as
//! one when the interval is over. Listeners write events down; a guest must not fill their disks.

use std::time::{Duration, Instant};

/// Between two events of one kind, about one device.
const INTERVAL: Duration = Duration::from_secs(1);

/// The pace of one kind of event.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waits: bool,
    told: Option<Instant>,
}

impl Pace {
    /// It happened. Says whether nothing of the kind was waiting to be told.
    pub(super) const fn note(&mut self) -> bool {
        !std::mem::replace(&mut self.waits, true)
    }

    /// When it can be told, if there is something to tell; `now` where it can be at once.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.waits.then(|| self.told.map_or(now, |told| told + INTERVAL))
    }

    /// Whether it is to be told now.
    #[must_use]
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let ready = self.due(now).is_some_and(|due| due <= now);
        if ready {
            *self = Self { waits: false, told: Some(now) };
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_as_one_when_the_interval_is_over() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!((pace.due(start), pace.take(start)), (None, false));
        assert!(pace.note() && pace.take(start));
        assert!(pace.note());
        assert!((0..100).all(|_| !pace.note() && !pace.take(start + INTERVAL / 2)));
        assert_eq!(pace.due(start), Some(start + INTERVAL));
        assert!(pace.take(start + INTERVAL) && !pace.take(start + INTERVAL * 9));
    }
}
