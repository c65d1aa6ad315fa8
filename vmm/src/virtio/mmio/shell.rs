//! The event-loop side of a transport: one doorbell descriptor per queue, a timer for queues that wait and, where
//! a device has one, the host's end that its queues lead to.
//!
//! Any queue may come to wait: for a rate limit, for a reader, for a host without entropy. So the timer is there from
//! the start; once the jail is closed nobody makes another descriptor.
//!
//! The host's end is watched edge by edge: a device that leaves it unread, because the guest has no buffers, costs
//! nothing and cannot spin the loop; the driver's next notification lets it go on. Whether it has room is asked
//! only after a device found it full.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use super::super::device::{Backlog, VirtioDevice};
use super::Transport;

/// What the event loop calls the timer; queues are called by their numbers.
const TIMER: u32 = u32::MAX;
/// What it calls the host's end.
const HOST: u32 = u32::MAX - 1;
/// The least that a timer is set to: zero would disarm it.
const SOON: Duration = Duration::from_micros(10);

/// A descriptor of the host whose readiness gives queues their turns, as the driver's notifications do.
#[derive(Debug)]
pub struct HostEnd {
    /// The descriptor, which the model reads and writes.
    pub descriptor: Arc<OwnedFd>,
    /// The queue whose turn it is when there is something to read.
    pub readable: usize,
    /// The queue whose turn it is when there is room again.
    pub writable: usize,
}

impl AsRawFd for HostEnd {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

/// Listens for the driver's notifications and gives the device its turn.
#[derive(Debug)]
pub struct Doorbells {
    transport: Arc<Transport<dyn VirtioDevice>>,
    bells: Arc<[EventFd]>,
    timer: TimerFd,
    /// Queues that wait for their time.
    held: Vec<Option<Instant>>,
    host: Option<HostEnd>,
    /// The host's end was full.
    waits_for_room: bool,
}

impl Doorbells {
    /// `bells[n]` is what KVM signals when the driver notifies queue `n`.
    pub fn new(transport: Arc<Transport<dyn VirtioDevice>>, bells: Vec<EventFd>) -> io::Result<Self> {
        let timer = TimerFd::new()?;
        let held = vec![None; bells.len()];
        let bells: Arc<[EventFd]> = bells.into();
        transport.ring_when_active(bells.clone());
        Ok(Self { transport, bells, timer, held, host: None, waits_for_room: false })
    }

    /// Gives queues their turns when `host` is ready, too.
    #[must_use]
    pub fn with_host_end(mut self, host: HostEnd) -> Self {
        self.host = Some(host);
        self
    }

    /// A queue that is held back has its turn when its time comes, however often anybody rings.
    fn answer(&mut self, queue: usize, ops: &mut EventOps<'_>) {
        if self.held.get(queue).is_some_and(Option::is_none) {
            self.turn(queue, ops);
        }
    }

    fn turn(&mut self, queue: usize, ops: &mut EventOps<'_>) {
        let now = Instant::now();
        match self.transport.work(|model| model.notify(queue, now)) {
            Backlog::Done => {}
            // Back to the end of the line, behind the other devices.
            Backlog::More => self.ring(queue),
            Backlog::Until(time) => {
                if let Some(held) = self.held.get_mut(queue) {
                    *held = Some(time);
                }
                self.arm();
            }
            Backlog::HostFull => self.wait_for_room(true, ops),
        }
    }

    /// Changes what is heard of the host's end. Asking anew tells at once what is there already.
    fn wait_for_room(&mut self, wait: bool, ops: &EventOps<'_>) {
        self.waits_for_room = wait;
        if let Some(host) = &self.host
            && let Err(error) = ops.modify(Events::with_data(host, HOST, self.host_interest()))
        {
            log::error!("{}: the host's end cannot be watched: {error}", self.transport.name());
        }
    }

    fn host_interest(&self) -> EventSet {
        let room = if self.waits_for_room { EventSet::OUT } else { EventSet::empty() };
        EventSet::IN | EventSet::EDGE_TRIGGERED | room
    }

    fn host_is_ready(&mut self, what: EventSet, ops: &mut EventOps<'_>) {
        let Some(&HostEnd { readable, writable, .. }) = self.host.as_ref() else { return };
        if self.waits_for_room && what.intersects(EventSet::OUT | EventSet::ERROR | EventSet::HANG_UP) {
            self.wait_for_room(false, ops);
            self.answer(writable, ops);
        }
        if what != EventSet::OUT {
            self.answer(readable, ops);
        }
    }

    fn ring(&self, queue: usize) {
        if let Some(bell) = self.bells.get(queue)
            && let Err(error) = bell.write(1)
        {
            log::error!("{}: cannot ring its own doorbell: {error}", self.transport.name());
        }
    }

    /// Sets the timer to the first time that a queue waits for.
    fn arm(&mut self) {
        let Some(first) = self.held.iter().flatten().min().copied() else { return };
        let delay = first.saturating_duration_since(Instant::now()).max(SOON);
        if let Err(error) = self.timer.reset(delay, None) {
            log::error!("{}: a queue cannot wait for its time: {error}", self.transport.name());
            self.release(None);
        }
    }

    /// Rings for every queue whose time has come; without a time, for all that wait.
    fn release(&mut self, now: Option<Instant>) {
        for queue in 0..self.held.len() {
            if let Some(held) = self.held.get_mut(queue)
                && held.is_some_and(|time| now.is_none_or(|now| time <= now))
            {
                *held = None;
                self.ring(queue);
            }
        }
    }
}

impl MutEventSubscriber for Doorbells {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        if events.data() == TIMER {
            // Disarmed and not read: a doorbell may have set it anew since the event came, and a read would
            // hold the event loop until then.
            let _ = self.timer.clear();
            self.release(Some(Instant::now()));
            self.arm();
            return;
        }
        if events.data() == HOST {
            self.host_is_ready(events.event_set(), ops);
            return;
        }
        let queue = events.data() as usize;
        let Some(bell) = self.bells.get(queue) else { return };
        // Emptied before the work: a notification during the work must ring again.
        let _ = bell.read();
        self.answer(queue, ops);
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        for (queue, bell) in (0u32..).zip(self.bells.iter()) {
            if let Err(error) = ops.add(Events::with_data(bell, queue, EventSet::IN)) {
                log::error!("{}: queue {queue} has no doorbell: {error}", self.transport.name());
            }
        }
        // Back on the loop after a pause: what was held is still held.
        if let Err(error) = ops.add(Events::with_data(&self.timer, TIMER, EventSet::IN)) {
            log::error!("{}: its timer cannot be watched: {error}", self.transport.name());
        }
        if let Some(host) = &self.host
            && let Err(error) = ops.add(Events::with_data(host, HOST, self.host_interest()))
        {
            log::error!("{}: the host's end cannot be watched: {error}", self.transport.name());
        }
    }
}

#[cfg(test)]
mod tests;
