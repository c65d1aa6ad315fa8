//! The way to the host: found, kept, lost and found again.
//!
//! Duty: connect without waiting, give up on a silent host, try again with a bounded back-off, hang up in an
//! orderly way at the guest's end.
//! Not its duty: what is said (`session`), which socket it is (`Dial`).
//! Invariant: the workload never waits for the host. Its output is held only until the first try has been
//! decided, which has a deadline.
//!
//! ```text
//!           +--no such way--> Absent
//! Waiting --due--> Connecting --writable--> Talking(greeting) --Welcome--> Talking(open) --flushed, leaving--+
//!    ^                 |                        |                             |                              v
//!    +-----refused-----+-----fault or late------+------------fault------------+             HalfClosed --hung up--> Closed
//! ```

use crate::{
    clock::Uptime,
    outbox::Outbox,
    session::{Session, SessionFault, Wishes},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    error::Error,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

/// To connect, and again to be welcomed: a host on the same machine answers in well under a millisecond, but a
/// box under full load may take its time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two tries, doubling: soon enough to find a supervisor that restarts, seldom enough to cost nothing
/// where nobody ever listens.
const RETRY_FLOOR: Duration = Duration::from_millis(100);
const RETRY_CEILING: Duration = Duration::from_secs(5);

/// How to get a stream to the host.
pub(crate) trait Dial {
    type Stream: Read + Write + AsFd;

    /// A non-blocking stream that is connected or about to be.
    fn dial(&mut self) -> Result<Self::Stream, DialFault>;
    /// Once the stream is writable: did it connect?
    fn outcome(&self, stream: &Self::Stream) -> io::Result<()>;
    /// Tells the host that nothing more will come.
    fn half_close(&self, stream: &Self::Stream) -> io::Result<()>;
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialFault {
    /// This guest has no way to a host at all.
    #[error("there is no way to a host")]
    Absent,
    #[error("the host does not answer")]
    Refused(#[source] io::Error),
}

/// Where output goes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Host,
    Console,
    /// Nobody yet: the first try is not decided.
    Held,
}

/// What a turn brought.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// A host listens now and knows nothing yet.
    pub(crate) welcomed: bool,
    pub(crate) wishes: Wishes,
    /// The host that was there is not any more.
    pub(crate) lost: bool,
    /// Something a person may want to know.
    pub(crate) note: Option<String>,
}

#[derive(Debug)]
enum State<S> {
    Absent,
    Waiting { until: Uptime },
    Connecting { stream: S, give_up_at: Uptime },
    Talking { session: Box<Session<S>>, give_up_at: Uptime },
    HalfClosed { session: Box<Session<S>> },
    Closed,
}

#[derive(Debug)]
pub(crate) struct Link<D: Dial> {
    dial: D,
    state: State<D::Stream>,
    /// Tries in a row that led to no welcome.
    failures: u32,
    /// Whether the first try has come to an end, good or bad.
    decided: bool,
    leaving: bool,
}

impl<D: Dial> Link<D> {
    pub(crate) fn new(dial: D, now: Uptime) -> Self {
        Self { dial, state: State::Waiting { until: now }, failures: 0, decided: false, leaving: false }
    }

    pub(crate) fn route(&self) -> Route {
        match &self.state {
            State::Talking { session, .. } if session.is_open() => Route::Host,
            State::HalfClosed { .. } => Route::Host,
            _ if self.decided => Route::Console,
            _ => Route::Held,
        }
    }

    /// Whoever waits for the next try does not, this once.
    pub(crate) fn hurry(&mut self, now: Uptime) {
        if let State::Waiting { until } = &mut self.state {
            *until = now;
        }
    }

    /// Says goodbye as soon as the outbox is empty.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Hangs up at once.
    pub(crate) fn abandon(&mut self) {
        self.state = State::Closed;
        self.decided = true;
    }

    /// Nothing will come or go any more.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, State::Absent | State::Closed)
    }

    pub(crate) fn interest(&self, outbox: &Outbox) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.state {
            State::Connecting { stream, .. } => Some((stream.as_fd(), PollFlags::POLLOUT)),
            State::Talking { session, .. } => {
                let mut flags = PollFlags::POLLIN;
                flags.set(PollFlags::POLLOUT, session.wants_write(outbox));
                Some((session.stream().as_fd(), flags))
            }
            State::HalfClosed { session } => Some((session.stream().as_fd(), PollFlags::POLLIN)),
            State::Absent | State::Waiting { .. } | State::Closed => None,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Uptime> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Connecting { give_up_at, .. } => Some(*give_up_at),
            State::Talking { session, give_up_at } => session.next_beat().or(Some(*give_up_at)),
            State::Absent | State::HalfClosed { .. } | State::Closed => None,
        }
    }

    /// Does what can be done at once.
    pub(crate) fn turn(&mut self, now: Uptime, outbox: &mut Outbox) -> News {
        let mut news = News::default();
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            // Nobody would hear the rest. But the first try is always made: a workload that ends at once has
            // a status to report.
            State::Waiting { .. } if self.leaving && self.decided => State::Closed,
            State::Waiting { until } if now >= until => self.connect(now),
            State::Connecting { stream, give_up_at } => match settled(&stream) {
                Ok(false) if now < give_up_at => State::Connecting { stream, give_up_at },
                Ok(true) if self.dial.outcome(&stream).is_ok() => {
                    let session = Box::new(Session::new(stream, now));
                    self.talk(now, session, now.after(PATIENCE), outbox, &mut news)
                }
                _ => self.failed(now),
            },
            State::Talking { session, give_up_at } => self.talk(now, session, give_up_at, outbox, &mut news),
            State::HalfClosed { mut session } => match session.turn(now, outbox) {
                Ok(_) => State::HalfClosed { session },
                Err(_) => State::Closed,
            },
            same @ (State::Absent | State::Waiting { .. } | State::Closed) => same,
        };
        news
    }

    fn connect(&mut self, now: Uptime) -> State<D::Stream> {
        match self.dial.dial() {
            Ok(stream) => State::Connecting { stream, give_up_at: now.after(PATIENCE) },
            Err(DialFault::Refused(_)) => self.failed(now),
            Err(DialFault::Absent) => {
                self.decided = true;
                State::Absent
            }
        }
    }

    fn talk(
        &mut self,
        now: Uptime,
        mut session: Box<Session<D::Stream>>,
        give_up_at: Uptime,
        outbox: &mut Outbox,
        news: &mut News,
    ) -> State<D::Stream> {
        match session.turn(now, outbox) {
            Ok(heard) => {
                news.welcomed = heard.welcomed;
                news.wishes = heard.wishes;
            }
            Err(fault) => {
                news.lost = session.is_open();
                // A host that hangs up before it welcomed anybody is just not ready yet.
                if session.is_open() || matches!(fault, SessionFault::Protocol { .. }) {
                    news.note = Some(lost(&fault));
                }
                return self.failed(now);
            }
        }
        if !session.is_open() {
            return if now < give_up_at { State::Talking { session, give_up_at } } else { self.failed(now) };
        }
        self.decided = true;
        self.failures = 0;
        if self.leaving && !news.welcomed && outbox.is_empty() && !session.wants_write(outbox) {
            return match self.dial.half_close(session.stream()) {
                Ok(()) => State::HalfClosed { session },
                Err(_) => State::Closed,
            };
        }
        State::Talking { session, give_up_at }
    }

    fn failed(&mut self, now: Uptime) -> State<D::Stream> {
        self.decided = true;
        let wait = RETRY_FLOOR.saturating_mul(2_u32.saturating_pow(self.failures)).min(RETRY_CEILING);
        self.failures = self.failures.saturating_add(1);
        State::Waiting { until: now.after(wait) }
    }
}

/// Whether the attempt to connect has come to an end.
fn settled(stream: &impl AsFd) -> nix::Result<bool> {
    poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO).map(|ready| ready > 0)
}

fn lost(fault: &SessionFault) -> String {
    let mut text = format!("lost the host: {fault}");
    if let Some(cause) = fault.source() {
        text = format!("{text}: {cause}");
    }
    text
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
