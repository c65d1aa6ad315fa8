//! A transport that was saved, in another process: one that a driver knows, and ones that somebody made up.

use proptest::prelude::*;

use super::*;
use crate::virtio::state::{ModelState, PhaseState, RingState, SetupState, TransportState};

impl Driver {
    /// The same guest, with a device of another process.
    fn moved(self, state: &TransportState) -> Result<Self, crate::snapshot::Unfit> {
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let line = interrupt.try_clone().unwrap();
        let ram = self.transport.memory.clone();
        let transport = Transport::new("probe", Probe::default(), ram, line);
        transport.restore(state)?;
        Ok(Self { transport, interrupt, queue: self.queue })
    }
}

#[test]
fn a_driver_that_runs_sees_nothing_of_a_move() {
    let mut driver = Driver::new();
    driver.start();
    driver.queue.offer(&[testing::Buffer::readable(0x2_0000, 16)]);
    assert_eq!(driver.kick(), Backlog::Done);
    // Offered, and nobody came to it before the move.
    driver.queue.offer(&[testing::Buffer::readable(0x2_0000, 16)]);
    driver.write(reg::QUEUE_SEL, 1);
    let state = driver.transport.save();
    let mut driver = driver.moved(&state).unwrap();
    assert_eq!(driver.transport.save(), state);
    assert_eq!((driver.read(reg::STATUS), driver.read(reg::QUEUE_READY)), (RUNNING, 0));
    driver.write(reg::QUEUE_SEL, 0);
    assert_eq!(driver.read(reg::QUEUE_READY), 1);
    assert_eq!(driver.kick(), Backlog::Done);
    assert_eq!(driver.queue.used().len(), 2);
    assert!(driver.interrupt.read().is_err(), "there was nothing to tell");
}

#[test]
fn a_move_rings_for_every_queue() {
    let driver = Driver::new();
    driver.start();
    let state = driver.transport.save();
    let transport = Transport::new(
        "probe",
        Probe::default(),
        driver.transport.memory.clone(),
        EventFd::new(EFD_NONBLOCK).unwrap(),
    );
    let bells: Arc<[EventFd]> =
        [EventFd::new(EFD_NONBLOCK).unwrap(), EventFd::new(EFD_NONBLOCK).unwrap()].into();
    transport.ring_when_active(bells.clone());
    transport.restore(&state).unwrap();
    assert!(bells.iter().all(|bell| bell.read().is_ok()), "a notification may have been under way");
}

#[test]
fn what_a_driver_has_not_acknowledged_is_told_again() {
    let driver = Driver::new();
    driver.start();
    driver.transport.line.config_changed();
    let state = driver.transport.save();
    let driver = driver.moved(&state).unwrap();
    assert_eq!(driver.interrupt.read().unwrap(), 1);
    assert_eq!((driver.read(reg::INTERRUPT_STATUS), driver.read(reg::CONFIG_GENERATION)), (2, 1));
}

#[test]
fn a_driver_that_is_half_way_goes_on_from_there() {
    let driver = Driver::new();
    driver.accept(feature::VERSION_1);
    let state = driver.transport.save();
    let driver = driver.moved(&state).unwrap();
    driver.set_up_queue();
    let state = driver.transport.save();
    let mut driver = driver.moved(&state).unwrap();
    driver.write(reg::STATUS, RUNNING);
    driver.queue.offer(&[testing::Buffer::readable(0x2_0000, 16)]);
    assert_eq!(driver.kick(), Backlog::Done);
    assert_eq!(driver.queue.used().len(), 1);
    // And from before it agreed on anything.
    let driver = Driver::new();
    driver.write(reg::STATUS, status::ACKNOWLEDGE);
    let state = driver.transport.save();
    assert_eq!(driver.moved(&state).unwrap().read(reg::STATUS), status::ACKNOWLEDGE);
}

#[test]
fn a_device_that_needs_a_reset_still_does() {
    let mut driver = Driver::new();
    driver.start();
    driver.queue.set_available_index(500);
    let _ = driver.kick();
    let state = driver.transport.save();
    assert_eq!(state.phase, PhaseState::NeedsReset);
    let driver = driver.moved(&state).unwrap();
    assert_ne!(driver.read(reg::STATUS) & status::DEVICE_NEEDS_RESET, 0);
    driver.write(reg::STATUS, 0);
    driver.start();
    assert_eq!(driver.activations(), 1);
}

/// The state of a device that runs, bent.
fn refusal(bend: impl FnOnce(&mut TransportState, &mut RingState)) -> Option<&'static str> {
    let driver = Driver::new();
    driver.start();
    let mut state = driver.transport.save();
    let PhaseState::Active { rings, .. } = &mut state.phase else { panic!() };
    let mut ring = rings[0].unwrap();
    bend(&mut state, &mut ring);
    if let PhaseState::Active { rings, .. } = &mut state.phase {
        rings[0] = Some(ring);
    }
    driver.moved(&state).err().map(|unfit| unfit.0)
}

#[test]
fn what_no_driver_could_have_brought_about_is_refused() {
    const RING: Option<&str> = Some("a ring is not where its driver could have put it");
    const STATUS: Option<&str> = Some("its status contradicts how far its driver has come");
    const FEATURES: Option<&str> = Some("its driver accepted features that this device does not offer");
    assert_eq!(refusal(|_, _| {}), None);
    assert_eq!(refusal(|state, _| state.device_type = 1), Some("it is another kind of device"));
    assert_eq!(refusal(|state, _| state.reasons = 4), Some("its interrupt has reasons that there are not"));
    assert_eq!(refusal(|state, _| state.status |= 1 << 8), STATUS);
    assert_eq!(refusal(|state, _| state.status &= !status::DRIVER_OK), STATUS);
    assert_eq!(refusal(|state, _| state.status |= status::DEVICE_NEEDS_RESET), STATUS);
    assert_eq!(refusal(|state, _| state.phase = PhaseState::NeedsReset), STATUS);
    for accepted in [0, 1 << 3, feature::VERSION_1 | 1 << 4, u64::MAX] {
        let bent = refusal(|state, ring| {
            state.phase = PhaseState::Active { accepted, rings: [Some(*ring)].into_iter().collect() };
        });
        assert_eq!(bent, FEATURES);
    }
    let three = |ring: &RingState| [Some(*ring); 3].into_iter().collect();
    assert_eq!(
        refusal(|state, ring| {
            state.phase = PhaseState::Active { accepted: feature::VERSION_1, rings: three(ring) };
        }),
        Some("it has another number of queues")
    );
    for size in [0, 3, 32, u16::MAX] {
        assert_eq!(refusal(|_, ring| ring.size = size), RING, "{size}");
    }
    for part in 0..3 {
        for address in [1, 0x1_0001, testing::HOLE, testing::END, u64::MAX, u64::MAX - 15] {
            assert_eq!(refusal(|_, ring| ring.parts[part] = address), RING, "{part} {address:#x}");
        }
    }
    assert_eq!(refusal(|_, ring| ring.parts[1] = ring.parts[0]), RING, "overlap");
    for position in [1, 8, u16::MAX] {
        assert_eq!(refusal(|_, ring| ring.position = position), RING, "{position}");
    }
    assert_eq!(
        refusal(|state, _| state.model = ModelState::Balloon { actual: 1 }),
        Some("what it keeps is another device's")
    );
}

#[test]
fn a_driver_that_runs_ahead_is_refused_before_a_ring_is_made() {
    let mut driver = Driver::new();
    driver.start();
    driver.queue.set_available_index(9);
    let state = driver.transport.save();
    assert!(driver.moved(&state).is_err());
}

fn any_ring() -> impl Strategy<Value = RingState> {
    let address =
        || prop_oneof![0u64..0x2_0000, Just(0x1_0000), Just(0x1_4000), Just(0x1_5000), any::<u64>()];
    let size = prop_oneof![Just(8u16), Just(16), any::<u16>()];
    (size, [address(), address(), address()], prop_oneof![Just(0u16), any::<u16>()])
        .prop_map(|(size, parts, position)| RingState { size, parts, position })
}

fn any_phase() -> impl Strategy<Value = PhaseState> {
    let accepted = || prop_oneof![Just(feature::VERSION_1), any::<u64>()];
    let setup = any_ring().prop_map(|ring| SetupState {
        size: ring.size.into(),
        ready: ring.position == 0,
        parts: ring.parts,
    });
    prop_oneof![
        accepted().prop_map(|accepted| PhaseState::Negotiating { accepted }),
        (accepted(), prop::collection::vec(setup, 0..4)).prop_map(|(accepted, queues)| {
            PhaseState::Configuring { accepted, queues: queues.into_iter().collect() }
        }),
        (accepted(), prop::collection::vec(prop::option::of(any_ring()), 0..4)).prop_map(
            |(accepted, rings)| { PhaseState::Active { accepted, rings: rings.into_iter().collect() } }
        ),
        Just(PhaseState::NeedsReset),
    ]
}

proptest! {
    #[test]
    fn whatever_is_restored_can_be_driven_reset_and_started(
        phase in any_phase(),
        status in prop_oneof![Just(RUNNING), Just(NEGOTIATED), any::<u32>()],
        selected in any::<[u32; 3]>(),
        reasons in 0u32..8,
    ) {
        let driver = Driver::new();
        let model = ModelState::Plain;
        let state =
            TransportState { device_type: 42, status, selected, reasons, generation: 7, phase, model };
        if let Ok(mut driver) = driver.moved(&state) {
            for offset in (0..0x110).step_by(4) {
                driver.read(offset);
            }
            let _ = driver.kick();
            driver.write(reg::STATUS, 0);
            driver.start();
            driver.queue.offer(&[testing::Buffer::readable(0x2_0000, 16)]);
            prop_assert_eq!(driver.kick(), Backlog::Done);
        }
    }
}
