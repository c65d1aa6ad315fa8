//! How often a guest may reboot before it is told from one that cannot boot.
//!
//! Invariant: at most [`MANY`] reboots in any [`SPAN`]. A guest that reboots faster gets nowhere, and would keep a
//! core busy with it: then the reboot is an end like any other, and whoever started the monitor decides.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Reboots that are nobody's business in a span: an update or two, and a watchdog.
const MANY: usize = 5;
/// The fastest Linux guests take a quarter of a second from start to start, slow ones some seconds.
const SPAN: Duration = Duration::from_secs(30);

/// The reboots of one process.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reboots {
    recent: VecDeque<Instant>,
    count: u32,
}

impl Reboots {
    /// The guest reboots now. Whether it is to be started again.
    #[must_use]
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        while self.recent.front().is_some_and(|first| now.saturating_duration_since(*first) >= SPAN) {
            self.recent.pop_front();
        }
        if self.recent.len() >= MANY {
            return false;
        }
        self.recent.push_back(now);
        self.count = self.count.saturating_add(1);
        true
    }

    /// How many there were.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_ends_and_a_seldom_reboot_never_does() {
        let start = Instant::now();
        let mut storm = Reboots::default();
        assert_eq!((0..100).filter(|_| storm.allow(start)).count(), MANY);
        assert!(!storm.allow(start + SPAN - Duration::from_nanos(1)));
        assert!(storm.allow(start + SPAN));

        let mut seldom = Reboots::default();
        assert!((0..100).all(|day| seldom.allow(start + SPAN * day)));
        assert_eq!(seldom.count(), 100);
    }
}
