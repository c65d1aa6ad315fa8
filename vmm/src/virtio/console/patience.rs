//! How long a guest waits for whoever reads its console.
//!
//! Linux prints to this device with a lock held and interrupts off, and spins until its buffer comes back. So
//! output cannot simply wait for its reader: a guest whose terminal was stopped with Ctrl-S would hang. Nor may it
//! simply be dropped: a guest fills the buffer in less time than any reader takes for its next turn.
//! Hence: while the buffer is full the guest waits, for as long as something leaves the buffer every
//! [`PATIENCE`]. When that passes without a byte, everything that does not fit is dropped at once, until
//! something leaves again.
//!
//! Invariant: a reader that never reads costs the guest one [`PATIENCE`] in all.

use std::time::{Duration, Instant};

/// What a guest may spin without progress: enough for a reader that is being scheduled, far less than what a
/// kernel calls a lock-up.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// How often is looked whether something left.
pub(super) const LOOK: Duration = Duration::from_millis(1);

/// The wait of one guest.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// How much had left the buffer, and until when more is waited for.
    waiting: Option<(u64, Instant)>,
}

impl Patience {
    /// The buffer is too full at `now`, and `taken` bytes have left it so far. When to look again, or `None` to
    /// go on without room.
    pub(super) fn look_again(&mut self, taken: u64, now: Instant) -> Option<Instant> {
        let end = match self.waiting {
            Some((before, end)) if before == taken => end,
            _ => now.checked_add(PATIENCE).unwrap_or(now),
        };
        self.waiting = Some((taken, end));
        (now < end).then(|| now.checked_add(LOOK).unwrap_or(end).min(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_never_reads_is_waited_for_once() {
        let start = Instant::now();
        let mut patience = Patience::default();
        let mut now = start;
        while let Some(next) = patience.look_again(0, now) {
            assert!(next > now);
            now = next;
        }
        assert_eq!(now, start + PATIENCE);
        assert_eq!(patience.look_again(0, now + PATIENCE * 10), None, "not again");
    }

    #[test]
    fn progress_renews_it() {
        let start = Instant::now();
        let mut patience = Patience::default();
        assert!(patience.look_again(0, start).is_some());
        assert!(patience.look_again(1, start + PATIENCE - LOOK).is_some());
        assert!(patience.look_again(1, start + PATIENCE).is_some());
        assert_eq!(patience.look_again(1, start + PATIENCE * 2), None);
        assert!(patience.look_again(2, start + PATIENCE * 2).is_some());
    }
}
