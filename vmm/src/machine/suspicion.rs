//! A guest that computes a lot when it has only just started: is this KVM one that interprets?
//!
//! Duty: say once when a look at KVM's speed is worth its cost: when the first vCPU has computed for longer than any
//! Linux takes to boot on a processor. Not its duty: measuring (`doctor/`), and guests that work hard later on.
//!
//! Measuring every KVM at the start would cost each start what only few need to hear. Counted is CPU time, so that a
//! host with other things to do makes nobody suspicious.

use std::time::{Duration, Instant};

/// Computed by then: many times what a Linux guest needs for its boot, on an emulated processor, too.
const MUCH: Duration = Duration::from_secs(3);
/// Between two looks at it.
const EVERY: Duration = Duration::from_secs(1);
/// From the start. What computes much later has come up, and is not asked any more.
const YOUTH: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Suspicion {
    began: Instant,
    due: Option<Instant>,
}

impl Suspicion {
    pub(super) fn since(began: Instant) -> Self {
        Self { began, due: began.checked_add(MUCH) }
    }

    /// When to look.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the first vCPU, which tells its CPU time, has computed much. True once at most.
    #[must_use]
    pub(super) fn look(&mut self, now: Instant, computed: impl FnOnce() -> Option<Duration>) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        let suspected = computed().is_some_and(|computed| computed >= MUCH);
        let goes_on = !suspected && now.saturating_duration_since(self.began) < YOUTH;
        self.due = now.checked_add(EVERY).filter(|_| goes_on);
        suspected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_computes_much_is_suspected_once_while_it_is_young() {
        let start = Instant::now();
        let mut suspicion = Suspicion::since(start);
        assert!(!suspicion.look(start + MUCH / 2, || unreachable!("not yet")));
        assert_eq!(suspicion.due(), Some(start + MUCH));
        let little = || Some(MUCH - Duration::from_millis(1));
        assert!(!suspicion.look(start + MUCH, little));
        assert_eq!(suspicion.due(), Some(start + MUCH + EVERY));
        assert!(suspicion.look(start + MUCH + EVERY, || Some(MUCH)));
        assert_eq!(suspicion.due(), None);
        assert!(!suspicion.look(start + MUCH * 9, || unreachable!("never again")));

        let mut calm = Suspicion::since(start);
        assert!(!calm.look(start + YOUTH, little));
        assert_eq!(calm.due(), None, "it has come up");
    }
}
