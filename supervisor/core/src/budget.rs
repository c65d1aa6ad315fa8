//! How much of something a workload may use within a time.
//!
//! Duty: restarts in a sliding window, log bytes per minute. Not here: what follows when it is used up (`state`).
//! Invariant: in no window of the given length were more than the budget granted; this is what keeps one failing
//! workload from taking the box's time from the others.

use alloc::collections::VecDeque;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// Restarts that were granted, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts(VecDeque<Moment>);

impl Restarts {
    /// Grants one more, if the budget has it.
    #[must_use = "a refused restart must not happen"]
    pub(crate) fn grant(&mut self, now: Moment, budget: u16, window: Duration) -> bool {
        let granted = self.left(now, budget, window) > 0;
        if granted {
            self.0.push_back(now);
        }
        granted
    }

    /// How many more would be granted.
    pub(crate) fn left(&mut self, now: Moment, budget: u16, window: Duration) -> u16 {
        while self.0.front().is_some_and(|at| now.since(*at) >= window) {
            self.0.pop_front();
        }
        budget.saturating_sub(self.count())
    }

    pub(crate) fn count(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }

    pub(crate) fn last(&self) -> Option<Moment> {
        self.0.back().copied()
    }

    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Log bytes, minute by minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogMinute {
    since: Option<Moment>,
    bytes: u64,
    told: bool,
}

/// A minute.
pub const LOG_WINDOW: Duration = Duration::from_secs(60);

impl LogMinute {
    /// Counts; tells until when the workload's logs are to be dropped, once for each minute that has too many.
    #[must_use = "logs that nobody holds back fill the disk"]
    pub(crate) fn count(&mut self, now: Moment, bytes: u64, limit: u32) -> Option<Moment> {
        let since = self.since.filter(|since| now.since(*since) < LOG_WINDOW).unwrap_or_else(|| {
            (self.bytes, self.told) = (0, false);
            now
        });
        self.since = Some(since);
        self.bytes = self.bytes.saturating_add(bytes);
        let over = self.bytes > u64::from(limit) && !self.told;
        self.told |= over;
        over.then(|| since.after(LOG_WINDOW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn no_window_has_more_than_the_budget_wherever_it_begins() {
        let mut restarts = Restarts::default();
        let mut granted = Vec::new();
        for second in 0..600 {
            let now = Moment::from_millis(second * 1000);
            if restarts.grant(now, 3, WINDOW) {
                granted.push(now);
            }
        }
        for first in &granted {
            let within = granted.iter().filter(|at| **at >= *first && at.since(*first) < WINDOW).count();
            assert!(within <= 3, "{within} from {first:?}");
        }
        assert_eq!(granted.len(), 30, "and what a window frees is granted again");
    }

    #[test]
    fn too_many_log_bytes_are_told_once_a_minute() {
        let mut minute = LogMinute::default();
        let at = |second: u64| Moment::from_millis(second * 1000);
        assert_eq!(minute.count(at(0), 60, 100), None);
        assert_eq!(minute.count(at(10), 60, 100), Some(at(60)));
        assert_eq!(minute.count(at(20), 60, 100), None);
        assert_eq!(minute.count(at(60), 60, 100), None);
        assert_eq!(minute.count(at(61), 60, 100), Some(at(120)));
    }
}
