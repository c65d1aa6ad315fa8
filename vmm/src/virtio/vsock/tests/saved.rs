//! A guest that goes on with a device of another process.

use super::*;
use crate::virtio::state::ModelState;

const EVENTS_AT: u64 = 0x3_0000;
const EVENT_AT: u64 = 0x4_0000;

impl World {
    /// The same guest on another host. It has so many buffers for events.
    fn moved(mut self, host: FakeHost, events: &mut GuestQueue, buffers: usize) -> Self {
        let features = feature::VERSION_1 | feature::EVENT_IDX | feature::INDIRECT_DESC;
        for _ in 0..buffers {
            events.offer(&[Buffer::writable(EVENT_AT, 4)]);
        }
        let (rings, kept) = (self.device.rings(), self.device.save());
        let mut device = Vsock::new(CID, host);
        device.activate(Activation {
            memory: self.ram.clone(),
            rings: vec![
                Some(self.receive.moved(features, rings[0].as_ref())),
                Some(self.transmit.moved(features, rings[1].as_ref())),
                Some(events.ring(features).unwrap()),
            ],
            features,
            interrupt: self.interrupts.clone(),
        });
        device.restore(&kept).unwrap();
        device.relocated();
        self.device = device;
        self
    }
}

#[test]
fn a_guest_that_moved_hears_that_its_connections_are_gone_and_opens_new_ones() {
    const PORTS: Ports = Ports { guest: 50, host: 1024 };
    let (mut world, host) = World::with_host();
    host.0.lock().unwrap().listening.insert(1024);
    world.say(PORTS, Operation::Request);
    world.expect(Operation::Response);
    world.data(PORTS, b"before");
    let mut events = GuestQueue::new(&world.ram, GuestAddress(EVENTS_AT), 8);
    let other = FakeHost::default();
    other.0.lock().unwrap().listening.insert(1024);
    world.ram.write_obj(u32::MAX, GuestAddress(EVENT_AT)).unwrap();
    let mut world = world.moved(other.clone(), &mut events, 8);
    assert_eq!(world.device.connections(), 0);
    world.interrupts.take();
    world.notify(2);
    assert_eq!(events.used().iter().map(|used| used.written).collect::<Vec<_>>(), [4]);
    assert_eq!(world.ram.read_obj::<u32>(GuestAddress(EVENT_AT)).unwrap(), 0, "TRANSPORT_RESET");
    assert_eq!(world.interrupts.take(), [2]);
    assert!(world.device.resets(), "the driver may not have looked");
    world.notify(2);
    assert!(events.used().is_empty(), "told once");
    assert!(!world.device.resets(), "it gave the buffer back");
    // What it still says on the old connection is answered, and a new one carries bytes.
    world.data(PORTS, b"on a connection that is gone");
    world.expect(Operation::Reset);
    world.say(PORTS, Operation::Request);
    world.expect(Operation::Response);
    world.data(PORTS, b"after");
    let (_, program) = other.0.lock().unwrap().connected[0].clone();
    assert_eq!(program.read(100), b"after");
}

#[test]
fn a_driver_without_a_buffer_for_it_is_told_when_it_has_one() {
    let (world, _) = World::with_host();
    let mut events = GuestQueue::new(&world.ram, GuestAddress(EVENTS_AT), 8);
    let mut world = world.moved(FakeHost::default(), &mut events, 0);
    world.notify(2);
    assert!(events.used().is_empty());
    events.offer(&[Buffer::writable(EVENT_AT, 4)]);
    world.notify(2);
    assert_eq!(events.used().len(), 1);
    // A driver that starts anew has no connections to lose.
    world.device.relocated();
    world.device.reset();
    world.start();
    events.offer(&[Buffer::writable(EVENT_AT, 4)]);
    world.notify(2);
    assert!(events.used().is_empty());
}

#[test]
fn ports_of_the_host_are_not_given_again_soon_and_none_that_cannot_be() {
    let mut device = Vsock::new(CID, FakeHost::default());
    let kept = |port| ModelState::Vsock { next_port: port };
    device.restore(&kept((1 << 30) + 7)).unwrap();
    assert_eq!(device.save(), kept((1 << 30) + 7));
    for port in [0, 1024, u32::MAX] {
        device.restore(&kept(port)).unwrap();
        assert_eq!(device.save(), kept(1 << 30));
    }
    assert!(device.restore(&ModelState::Plain).is_err());
}
