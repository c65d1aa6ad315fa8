//! How long the end of a machine may take.
//!
//! Duty: when what is left of a machine that has ended (requests at its disks, the last words of its guest, threads) is
//! not gone in time, end the process all the same. Not its duty: giving anything back in an orderly way; that is what
//! did not come about.
//!
//! Invariant: from a decided end to the end of the process there is a bound, whatever the host's disks and readers do.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use hearth_wire::control::Step;

use super::life::End;
use super::sink::LastWords;
use crate::jail::outside;
use crate::keyboard;
use crate::listener;

/// How much patience an end has with the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) last_words: LastWords,
    /// From the end until the process is gone.
    in_all: Duration,
}

/// Two printers with their last words, and a disk that has megabytes to write at the pace of an SD card.
const IN_PEACE: Patience = Patience { last_words: LastWords::IN_PEACE, in_all: Duration::from_secs(30) };
/// Whoever does not ask the guest any more does not want to wait for its readers either.
const AFTER_KILL: Patience = Patience { last_words: LastWords::AFTER_KILL, in_all: Duration::from_secs(5) };

impl Patience {
    pub(super) const fn of(end: End) -> Self {
        match end.how {
            Some(Step::Kill) => AFTER_KILL,
            _ => IN_PEACE,
        }
    }
}

/// Runs from its making to its drop.
#[derive(Debug)]
pub(super) struct Farewell {
    /// Nobody where the porter watches.
    _still_here: Option<Sender<()>>,
}

impl Farewell {
    /// Of a machine that ended by `end`.
    pub(super) fn of(end: End) -> io::Result<Self> {
        let (limit, status) = (Patience::of(end).in_all, end.outcome.status());
        if outside::ends_within(status, limit) {
            return Ok(Self { _still_here: None });
        }
        Self::begin(limit, move || {
            log::error!("the host does not let go of the machine in time; the process ends without it");
            listener::give_all_back();
            keyboard::give_terminal_back();
            std::process::exit(end.outcome.status().into());
        })
    }

    fn begin(limit: Duration, give_up: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (still_here, watch) = mpsc::channel::<()>();
        std::thread::Builder::new().name("farewell".to_owned()).spawn(move || {
            if watch.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                give_up();
            }
        })?;
        Ok(Self { _still_here: Some(still_here) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_does_not_come_about_is_given_up_and_one_that_does_is_not() {
        let (gave_up, told) = mpsc::channel();
        let again = gave_up.clone();
        let farewell = Farewell::begin(Duration::ZERO, move || gave_up.send("late").unwrap()).unwrap();
        assert_eq!(told.recv(), Ok("late"));
        drop(farewell);
        drop(Farewell::begin(Duration::from_secs(3600), move || again.send("early").unwrap()).unwrap());
        assert!(told.recv().is_err(), "the other is gone without a word");
    }
}
