//! The event-loop side of a disk that answers later: what has come out of io_uring gets the model a turn.

use std::io;
use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use super::Block;
use crate::virtio::mmio::Transport;

/// Listens for completions.
#[derive(Debug)]
pub struct Completions {
    transport: Arc<Transport<Block>>,
    event: EventFd,
}

impl Completions {
    /// What listens for this device; `None` where its disk answers everything at once.
    pub fn of(transport: &Arc<Transport<Block>>) -> io::Result<Option<Self>> {
        let event = transport.model(|model| model.disk().event().map(EventFd::try_clone));
        Ok(event.transpose()?.map(|event| Self { transport: transport.clone(), event }))
    }
}

impl MutEventSubscriber for Completions {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        // Emptied before the work: a completion during the work must be heard.
        let _ = self.event.read();
        self.transport.settle(Block::settle);
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(&self.event, EventSet::IN)) {
            log::error!("{}: its disk will not be heard: {error}", self.transport.name());
        }
    }
}
