//! The event-loop side of a transport: one doorbell descriptor per queue.

use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use super::super::device::{Backlog, VirtioDevice};
use super::Transport;

/// Listens for the driver's notifications and gives the device its turn.
#[derive(Debug)]
pub struct Doorbells<D> {
    transport: Arc<Transport<D>>,
    bells: Vec<EventFd>,
}

impl<D: VirtioDevice> Doorbells<D> {
    /// `bells[n]` is what KVM signals when the driver notifies queue `n`.
    pub fn new(transport: Arc<Transport<D>>, bells: Vec<EventFd>) -> Self {
        Self { transport, bells }
    }
}

impl<D: VirtioDevice> MutEventSubscriber for Doorbells<D> {
    fn process(&mut self, events: Events, _ops: &mut EventOps<'_>) {
        let queue = events.data() as usize;
        let Some(bell) = self.bells.get(queue) else { return };
        // Emptied before the work: a notification during the work must ring again.
        let _ = bell.read();
        match self.transport.work(|model| model.notify(queue)) {
            Backlog::Done => {}
            // Back to the end of the line, behind the other devices.
            Backlog::More => {
                if let Err(error) = bell.write(1) {
                    log::error!("{}: cannot ring its own doorbell: {error}", self.transport.name());
                }
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        for (queue, bell) in (0u32..).zip(&self.bells) {
            if let Err(error) = ops.add(Events::with_data(bell, queue, EventSet::IN)) {
                log::error!("{}: queue {queue} has no doorbell: {error}", self.transport.name());
            }
        }
    }
}
