//! A transport across a snapshot.
//!
//! Duty: write down how far the driver has come, and get there again with a device of another process. Not its duty:
//! what a device keeps ([`VirtioDevice::save`]), and files.
//!
//! Invariant: whatever is restored, the transport is in a state that a driver could have brought it to: features that
//! this device offers, a status that goes with its phase, rings that pass the same constructor. One that was refused
//! is not used.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::device::VirtioDevice;
use super::super::feature;
use super::super::state::{PhaseState, TransportState};
use super::registers::{interrupt, status};
use super::setup::QueueSetup;
use super::{Phase, State, Transport};
use crate::snapshot::{Part, PartState, Unfit};

/// Every bit of the status register.
const STATUS: u32 = status::ACKNOWLEDGE
    | status::DRIVER
    | status::DRIVER_OK
    | status::FEATURES_OK
    | status::DEVICE_NEEDS_RESET
    | status::FAILED;

impl<D: VirtioDevice + ?Sized> Transport<D> {
    /// The device as it is while the machine rests.
    pub fn save(&self) -> TransportState {
        let state = self.lock();
        TransportState {
            device_type: state.model.device_type(),
            status: if matches!(state.phase, Phase::Draining) { 0 } else { state.status },
            selected: [state.device_features_select, state.driver_features_select, state.queue_select],
            reasons: self.line.reasons.load(Ordering::SeqCst),
            generation: self.line.generation.load(Ordering::SeqCst),
            phase: match &state.phase {
                Phase::Negotiating { accepted } => PhaseState::Negotiating { accepted: *accepted },
                Phase::Configuring { accepted, queues } => PhaseState::Configuring {
                    accepted: *accepted,
                    queues: queues.iter().map(QueueSetup::save).collect(),
                },
                Phase::Active { accepted, .. } => {
                    PhaseState::Active { accepted: *accepted, rings: state.model.rings() }
                }
                Phase::NeedsReset => PhaseState::NeedsReset,
                // A machine that rests has drained what there was, whether or not its driver has looked.
                Phase::Draining => PhaseState::Negotiating { accepted: 0 },
            },
            model: state.model.save(),
        }
    }

    /// Goes on where a device like this one was saved. Interrupt controllers are to be restored before: what the
    /// driver has not acknowledged is told again, which it takes for what it is, nothing new.
    pub fn restore(&self, saved: &TransportState) -> Result<(), Unfit> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if saved.device_type != state.model.device_type() {
            return Err(Unfit("it is another kind of device"));
        }
        if saved.reasons & !(interrupt::USED | interrupt::CONFIG) != 0 {
            return Err(Unfit("its interrupt has reasons that there are not"));
        }
        check_status(saved)?;
        state.phase = self.phase(state, &saved.phase)?;
        state.status = saved.status;
        [state.device_features_select, state.driver_features_select, state.queue_select] = saved.selected;
        state.model.restore(&saved.model)?;
        self.line.reasons.store(saved.reasons, Ordering::SeqCst);
        self.line.generation.store(saved.generation, Ordering::SeqCst);
        if matches!(state.phase, Phase::Active { .. }) {
            state.model.relocated();
            self.ring_all();
        }
        if saved.reasons != 0 {
            self.line.raise(0);
        }
        Ok(())
    }

    fn phase(&self, state: &mut State<D>, saved: &PhaseState) -> Result<Phase, Unfit> {
        let sizes = state.model.queue_max_sizes();
        let foreign = Unfit("its driver accepted features that this device does not offer");
        let agreed = |accepted: u64| {
            let right = accepted & !Self::offered(state) == 0 && accepted & feature::VERSION_1 != 0;
            right.then_some(accepted).ok_or(foreign)
        };
        Ok(match saved {
            // Anything may be written here, it is looked at with FEATURES_OK.
            PhaseState::Negotiating { accepted } => Phase::Negotiating { accepted: *accepted },
            PhaseState::Configuring { accepted, queues } => {
                if queues.len() != sizes.len() {
                    return Err(Unfit("it has another number of queues"));
                }
                let queues = sizes.iter().zip(queues).map(|(max, queue)| QueueSetup::saved(*max, queue));
                Phase::Configuring { accepted: agreed(*accepted)?, queues: queues.collect() }
            }
            PhaseState::Active { accepted, rings } => {
                let accepted = agreed(*accepted)?;
                if rings.len() > sizes.len() {
                    return Err(Unfit("it has another number of queues"));
                }
                let ready = rings.iter().map(Option::is_some).chain(std::iter::repeat(false));
                let ready = ready.take(sizes.len()).collect();
                let made: Result<Vec<_>, _> = sizes
                    .iter()
                    .zip(rings)
                    .map(|(max, ring)| {
                        let ring = ring.as_ref();
                        ring.map(|ring| QueueSetup::saved_ring(*max, ring, &self.memory, accepted))
                            .transpose()
                    })
                    .collect();
                let rings = made.map_err(|_| Unfit("a ring is not where its driver could have put it"))?;
                self.hand_over(state, rings, accepted);
                Phase::Active { accepted, ready }
            }
            PhaseState::NeedsReset => Phase::NeedsReset,
        })
    }
}

impl Part for Arc<Transport<dyn VirtioDevice>> {
    fn name(&self) -> &str {
        Transport::name(self)
    }

    fn save(&self) -> PartState {
        PartState::Virtio(Transport::save(self))
    }

    fn restore(&self, state: &PartState) -> Result<(), Unfit> {
        match state {
            PartState::Virtio(state) => Transport::restore(self, state),
            _ => Err(Unfit::KIND),
        }
    }
}

/// Whether the status register shows what the phase is.
fn check_status(saved: &TransportState) -> Result<(), Unfit> {
    let bits = match saved.phase {
        PhaseState::Negotiating { .. } => 0,
        PhaseState::Configuring { .. } => status::FEATURES_OK,
        PhaseState::Active { .. } => status::FEATURES_OK | status::DRIVER_OK,
        PhaseState::NeedsReset => status::FEATURES_OK | status::DRIVER_OK | status::DEVICE_NEEDS_RESET,
    };
    let mask = status::FEATURES_OK | status::DRIVER_OK | status::DEVICE_NEEDS_RESET;
    if saved.status & !STATUS == 0 && saved.status & mask == bits {
        Ok(())
    } else {
        Err(Unfit("its status contradicts how far its driver has come"))
    }
}
