//! Takes what the guest printed to where the configuration sends it.
//!
//! Duty: move bytes from an [`Output`] to its [`Target`] as fast as the rate limit lets them, without ever waiting
//! for a reader. Each device that prints has a sink of its own: what two of them write to the same place is cut
//! where chunks end, and nowhere else.
//! Not its duty: bounding what waits (the buffer does), and knowing what prints.
//!
//! Invariant: a turn is bounded by what one full buffer holds, however fast the guest fills it again.

mod target;

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use hearth_config::vm::Output as Destination;
use vmm_sys_util::timerfd::TimerFd;

use self::target::Target;
use crate::jail::Printer;
use crate::output::{OUTPUT_BUFFER, Output};
use crate::rate::{Limit, Verdict};
use crate::stdio::IN_ONE_PIECE;

/// Bytes that are written at once.
const CHUNK: usize = IN_ONE_PIECE;
/// The least that a timer is set to: zero would disarm it.
const SOON: Duration = Duration::from_micros(10);

/// How long what a guest printed last may keep the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastWords {
    /// It waits for a reader that does not read, or for its rate limit.
    wait: Duration,
    /// It takes to a reader that reads slowly.
    in_all: Duration,
}

impl LastWords {
    /// A full buffer at the pace of an old serial line.
    pub(super) const IN_PEACE: Self = Self { wait: Duration::from_secs(1), in_all: Duration::from_secs(6) };
    /// What a reader takes that is there, and has something else to do for a moment.
    pub(super) const AFTER_KILL: Self =
        Self { wait: Duration::from_millis(100), in_all: Duration::from_millis(500) };
}

/// What a sink waits for after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The guest's next byte.
    Filling,
    /// The reader.
    Room,
    /// Its rate limit.
    Time(Instant),
    /// The other devices' turns.
    Again,
}

/// Drains one device's output.
#[derive(Debug)]
pub(super) struct Sink {
    /// What prints, for messages.
    name: &'static str,
    output: Output,
    target: Target,
    limit: Limit,
    /// The target failed: everything is swallowed. It stays open until the loop no longer watches it; a closed
    /// descriptor would be watched on for as long as standard output shares its description.
    broken: bool,
    /// Bytes that are taken from the buffer at once.
    chunk: usize,
    /// Taken from the buffer, paid for, and not written yet; at most [`CHUNK`].
    pending: Vec<u8>,
    waiting_for_room: bool,
    /// There where there is a limit: later nobody makes one, the jail is closed.
    timer: Option<TimerFd>,
}

impl Sink {
    /// Opens the destination.
    pub(super) fn open(
        printer: Printer,
        destination: &Destination,
        limit: Limit,
        output: Output,
    ) -> io::Result<Self> {
        Self::new(printer.name(), Target::open(printer, destination)?, limit, output)
    }

    fn new(name: &'static str, target: Target, limit: Limit, output: Output) -> io::Result<Self> {
        let timer = limit.is_limited().then(TimerFd::new).transpose()?;
        // More than the burst would pass as a debt, and the first second would see more than the limit says.
        let burst = limit.burst_bytes().map_or(CHUNK, |burst| usize::try_from(burst).unwrap_or(CHUNK));
        Ok(Self {
            name,
            output,
            target,
            limit,
            broken: false,
            chunk: CHUNK.min(burst),
            pending: Vec::with_capacity(CHUNK),
            waiting_for_room: false,
            timer,
        })
    }

    /// Writes what still waits, as far as the reader and the limit take it, and tells what was lost.
    pub(super) fn finish(&mut self, patience: LastWords) {
        let start = Instant::now();
        while start.elapsed() < patience.in_all {
            match self.drain(Instant::now()) {
                Next::Filling => break,
                Next::Again => {}
                Next::Room if self.target.has_room(patience.wait) => {}
                Next::Time(time) if time.saturating_duration_since(start) <= patience.wait => {
                    std::thread::sleep(time.saturating_duration_since(Instant::now()));
                }
                Next::Room | Next::Time(_) => break,
            }
        }
        self.output.lose(self.pending.len() + self.output.waiting());
        let dropped = self.output.account().dropped;
        if dropped > 0 {
            log::warn!(
                "{}: {dropped} bytes were dropped, the guest printed faster than they were taken",
                self.name
            );
        }
    }

    /// One turn.
    fn drain(&mut self, now: Instant) -> Next {
        let mut written = 0;
        loop {
            if self.pending.is_empty() {
                let chunk = self.output.waiting().min(self.chunk);
                if chunk == 0 {
                    return Next::Filling;
                }
                if written >= OUTPUT_BUFFER {
                    return Next::Again;
                }
                if let Verdict::Wait(time) = self.limit.take(chunk as u64, now) {
                    return Next::Time(time);
                }
                self.output.take(chunk, &mut self.pending);
            }
            if !self.broken && !self.target.has_room(Duration::ZERO) {
                return Next::Room;
            }
            match if self.broken { Ok(self.pending.len()) } else { self.target.write(&self.pending) } {
                Ok(0) => return Next::Room,
                Ok(count) => {
                    self.pending.drain(..count.min(self.pending.len()));
                    written += count;
                }
                Err(error) => {
                    log::warn!("{}: its output is gone ({error}); the rest is swallowed", self.name);
                    self.broken = true;
                }
            }
        }
    }

    fn turn(&mut self, ops: &mut EventOps<'_>) {
        let next = self.drain(Instant::now());
        self.wait_for_room(ops, next == Next::Room);
        match next {
            Next::Filling | Next::Room => {}
            Next::Again => self.output.ring(),
            Next::Time(time) => self.wait_for_time(time),
        }
    }

    fn wait_for_room(&mut self, ops: &mut EventOps<'_>, wait: bool) {
        if wait == self.waiting_for_room {
            return;
        }
        self.waiting_for_room = wait;
        let Some(file) = self.target.file() else { return };
        let interest = Events::new(file, EventSet::OUT);
        let changed = if wait { ops.add(interest) } else { ops.remove(interest) };
        if let Err(error) = changed {
            log::warn!("{}: cannot watch its output: {error}", self.name);
        }
    }

    fn wait_for_time(&mut self, time: Instant) {
        let delay = time.saturating_duration_since(Instant::now()).max(SOON);
        let timer = self.timer.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        let armed = timer.and_then(|timer| timer.reset(delay, None).map_err(io::Error::from));
        if let Err(error) = armed {
            log::error!("{}: its rate limit cannot be kept, its output is swallowed: {error}", self.name);
            self.broken = true;
            self.limit = Limit::default();
            self.output.ring();
        }
    }
}

impl MutEventSubscriber for Sink {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        match &mut self.timer {
            // Disarmed and not read: it may have been set anew since the event, and a read would wait for that.
            Some(timer) if events.fd() == timer.as_raw_fd() => drop(timer.clear()),
            _ if events.fd() == self.output.filled().as_raw_fd() => drop(self.output.filled().read()),
            _ => {}
        }
        self.turn(ops);
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        // Again after a pause: what was waited for is still waited for.
        let room = self.target.file().filter(|_| self.waiting_for_room);
        let all = [
            Some(Events::new(self.output.filled(), EventSet::IN)),
            room.map(|file| Events::new(file, EventSet::OUT)),
            self.timer.as_ref().map(|timer| Events::new(timer, EventSet::IN)),
        ];
        for interest in all.into_iter().flatten() {
            if let Err(error) = ops.add(interest) {
                log::error!("{}: its output cannot be watched: {error}", self.name);
            }
        }
    }
}

pub(crate) use self::target::put_aside;

/// Whether what a guest prints could go there.
pub(crate) fn examine(destination: &Destination) -> io::Result<()> {
    Target::examine(destination)
}

#[cfg(test)]
mod tests;
