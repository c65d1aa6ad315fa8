//! What wakes the event loop although nobody serves it: the conductor looks for itself.

use std::sync::Arc;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::EventFd;

use super::alarm::Alarm;
use super::gate::Gate;
use super::pump::Doings;

/// Wakes the loop for what it looks at itself.
pub(super) struct Bell(pub(super) BellOf);

pub(super) enum BellOf {
    Gate(Arc<Gate>),
    Alarm(Arc<Alarm>),
    Pump(Arc<Doings>),
    Snapshots(Arc<EventFd>),
}

impl MutEventSubscriber for Bell {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        if let BellOf::Gate(gate) = &self.0 {
            let _ = gate.full().read();
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let event = match &self.0 {
            BellOf::Gate(gate) => gate.full(),
            BellOf::Alarm(alarm) => alarm.event(),
            BellOf::Pump(doings) => doings.event(),
            BellOf::Snapshots(done) => done,
        };
        if let Err(error) = ops.add(Events::new(event, EventSet::IN)) {
            log::error!("the event loop lacks an ear: {error}");
        }
    }
}
