//! The balloon as the control socket sees it: a target goes in, the guest's numbers come out.
//!
//! Duty: answer every wish for statistics, with the guest's newest numbers if it gives them in time. Not its duty: the
//! device (`virtio/balloon/`), and what a client does with numbers that the guest may have made up.
//!
//! ```text
//!            asked, while the machine runs             the guest answers, or GUEST_PATIENCE is over,
//!   idle ───────────────────────────────▶ waiting ──────────────────────────────────▶ idle
//!                                          ▲   │ asked       or the machine ends
//!                                          └───┘
//! ```
//!
//! Invariant: who asks is answered once, no later than the deadline that stands when it asks; a guest that answers
//! never, or all the time, changes nothing about that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::pace::Pace;
use crate::control::Ticket;
use crate::memory::Lender;
use crate::virtio::balloon::{Asked, BalloonDevice, Lend, News, TooMuch};
use crate::virtio::device::Backlog;
use crate::virtio::mmio::Transport;

/// How long a guest may take to gather its numbers, before the ones it gave last must do. Linux takes a millisecond.
const GUEST_PATIENCE: Duration = Duration::from_secs(1);
/// Who may wait at the same time; more are answered at once, with what there is.
const MAX_WAITING: usize = 16;

/// What the guest did since the event loop looked last: one place for each, however often it does it.
#[derive(Debug)]
pub(super) struct Doings {
    statistics: AtomicBool,
    size: AtomicBool,
    event: EventFd,
}

impl Doings {
    /// From any thread.
    fn note(&self, news: News) {
        let what = match news {
            News::Statistics => &self.statistics,
            News::Size => &self.size,
        };
        what.store(true, Ordering::SeqCst);
        // Fails only when the counter is full, and then it is readable already.
        let _ = self.event.write(1);
    }

    /// Readable when there is something new.
    pub(super) const fn event(&self) -> &EventFd {
        &self.event
    }
}

/// A balloon and who waits for it.
pub(super) struct Pump<L = Lender> {
    device: Arc<Transport<BalloonDevice<L>>>,
    doings: Arc<Doings>,
    waiting: Vec<Ticket>,
    deadline: Option<Instant>,
    /// The size that was told last, in MiB.
    size_mib: u32,
    size_news: Pace,
}

/// What is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// These have their answer now.
    pub(super) answered: Vec<Ticket>,
    /// The balloon has so many MiB now, and had not before.
    pub(super) size_mib: Option<u32>,
}

impl<L: Lend + 'static> Pump<L> {
    pub(super) fn new(device: Arc<Transport<BalloonDevice<L>>>) -> io::Result<Self> {
        let doings = Arc::new(Doings {
            statistics: AtomicBool::new(false),
            size: AtomicBool::new(false),
            event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        });
        let ear = doings.clone();
        device.model(|balloon| balloon.listen(move |news| ear.note(news)));
        Ok(Self {
            device,
            doings,
            waiting: Vec::new(),
            deadline: None,
            size_mib: 0,
            size_news: Pace::default(),
        })
    }

    pub(super) const fn doings(&self) -> &Arc<Doings> {
        &self.doings
    }

    /// When somebody's patience ends, or a new size can be told.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.deadline.into_iter().chain(self.size_news.due(now)).min()
    }

    pub(super) fn set_target(&self, mib: u32) -> Result<(), TooMuch> {
        self.device.model(|balloon| balloon.set_target(mib))
    }

    /// Wishes for the guest's numbers. Says whether there is something to wait for; if not, what there is must do.
    pub(super) fn ask(&mut self, ticket: Ticket, now: Instant) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        let mut asked = Asked::Nobody;
        // A device without a driver, or with one that breaks its ring here, has nobody to ask.
        let Backlog::Done = self.device.work(|balloon| {
            asked = balloon.ask_statistics(now)?;
            Ok(Backlog::Done)
        }) else {
            return false;
        };
        if asked == Asked::Nobody {
            return false;
        }
        self.waiting.push(ticket);
        self.deadline.get_or_insert(now + GUEST_PATIENCE);
        true
    }

    /// Looks at what the guest did, and at the time.
    pub(super) fn attend(&mut self, now: Instant) -> Told {
        let _ = self.doings.event.read();
        let mut told = Told::default();
        let answered = self.doings.statistics.swap(false, Ordering::SeqCst);
        if answered || self.deadline.is_some_and(|deadline| deadline <= now) {
            told.answered = self.give_up();
        }
        if self.doings.size.swap(false, Ordering::SeqCst) {
            self.size_news.note();
        }
        if self.size_news.take(now) {
            let bytes = self.device.model(|balloon| balloon.actual_bytes());
            let mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
            told.size_mib = (std::mem::replace(&mut self.size_mib, mib) != mib).then_some(mib);
        }
        told
    }

    /// Nobody waits any more: these are to be answered with what there is.
    pub(super) fn give_up(&mut self) -> Vec<Ticket> {
        self.deadline = None;
        std::mem::take(&mut self.waiting)
    }

    /// What the balloon is and what the guest said last, with the age of that in milliseconds.
    pub(super) fn figures(&self, now: Instant, report: &mut dyn FnMut(&'static str, u64)) {
        self.device.model(|balloon| {
            report("target_bytes", u64::from(balloon.target_mib()) << 20);
            report("size_bytes", balloon.actual_bytes());
            if let Some(statistics) = balloon.statistics() {
                let age = now.saturating_duration_since(statistics.at);
                report("age_ms", u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                statistics.report(report);
            }
        });
    }
}

#[cfg(test)]
mod tests;
