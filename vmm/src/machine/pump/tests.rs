//! A driver that answers, or does not, and clients that ask.

use std::io;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::machine::BusDevice;
use crate::memory::GuestRam;
use crate::virtio::balloon::Settings;
use crate::virtio::device::VirtioDevice;
use crate::virtio::mmio::registers as reg;
use crate::virtio::testing::{self, Buffer, GuestQueue, QUEUE_BYTES};

const STATISTICS: u32 = 2;
const LIST_AT: u64 = 0x10_0000;

struct Nowhere;

impl Lend for Nowhere {
    fn granule(&self) -> Option<u64> {
        None
    }
    fn give_back(&self, _start: GuestAddress, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

struct House {
    ram: GuestRam,
    transport: Arc<Transport<BalloonDevice<Nowhere>>>,
    queue: GuestQueue,
    pump: Pump<Nowhere>,
}

impl House {
    fn new() -> Self {
        let ram = testing::ram();
        let settings = Settings { memory_mib: 6, target_mib: 1, deflate_on_oom: false, reporting: false };
        let model = BalloonDevice::new(Nowhere, settings).unwrap();
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let transport = Arc::new(Transport::new("balloon", model, ram.clone(), line));
        let queue = GuestQueue::new(&ram, GuestAddress(0x1_0000 + u64::from(STATISTICS) * QUEUE_BYTES), 16);
        let pump = Pump::new(transport.clone()).unwrap();
        Self { ram, transport, queue, pump }
    }

    fn write(&self, register: u64, value: u32) {
        self.transport.write(register, &value.to_le_bytes());
    }

    /// The dance of a driver that knows of statistics.
    fn start_driver(&self) {
        for status in [1, 3] {
            self.write(reg::STATUS, status);
        }
        for (half, features) in [(0, 1 << 1), (1, 1)] {
            self.write(reg::DRIVER_FEATURES_SEL, half);
            self.write(reg::DRIVER_FEATURES, features);
        }
        self.write(reg::STATUS, 11);
        self.write(reg::QUEUE_SEL, STATISTICS);
        self.write(reg::QUEUE_SIZE, 16);
        let places = [
            (reg::QUEUE_DESC.0, self.queue.descriptors()),
            (reg::QUEUE_DRIVER.0, self.queue.available()),
            (reg::QUEUE_DEVICE.0, self.queue.used_ring()),
        ];
        for (register, place) in places {
            self.write(register, u32::try_from(place.0).unwrap());
        }
        self.write(reg::QUEUE_READY, 1);
        self.write(reg::STATUS, 15);
    }

    /// The driver says how much it has free.
    fn say(&mut self, free: u64) {
        let list = [&4u16.to_le_bytes()[..], &free.to_le_bytes()].concat();
        self.ram.write_slice(&list, GuestAddress(LIST_AT)).unwrap();
        self.queue.offer(&[Buffer::readable(LIST_AT, 10)]);
        let backlog = self.transport.work(|model| model.notify(STATISTICS as usize, Instant::now()));
        assert_eq!(backlog, Backlog::Done);
    }

    fn figure(&self, name: &str) -> Option<u64> {
        let mut found = None;
        self.pump.figures(Instant::now(), &mut |figure, value| {
            found = (figure == name).then_some(value).or(found);
        });
        found
    }
}

fn ticket(request: u32) -> Ticket {
    Ticket { client: 1, request }
}

#[test]
fn who_asks_waits_for_the_guest_and_no_longer() {
    let mut house = House::new();
    house.start_driver();
    house.say(100);
    let now = Instant::now();
    assert_eq!(house.pump.attend(now), Told::default(), "nobody asked");
    assert!(house.pump.ask(ticket(1), now) && house.pump.ask(ticket(2), now + GUEST_PATIENCE / 2));
    assert_eq!(house.pump.deadline(now), Some(now + GUEST_PATIENCE));
    assert_eq!(house.pump.attend(now), Told::default());
    assert_eq!(house.queue.used().len(), 1);
    house.say(200);
    assert!(house.pump.doings().event().read().is_ok());
    assert_eq!(house.pump.attend(now).answered, [ticket(1), ticket(2)]);
    assert_eq!((house.figure("free_bytes"), house.pump.deadline(now)), (Some(200), None));
    assert_eq!(house.pump.attend(now), Told::default(), "once");

    assert!(house.pump.ask(ticket(3), now));
    let late = now + GUEST_PATIENCE;
    assert_eq!(house.pump.attend(late - Duration::from_nanos(1)), Told::default());
    assert_eq!(house.pump.attend(late).answered, [ticket(3)]);
    assert_eq!((house.figure("free_bytes"), house.figure("target_bytes")), (Some(200), Some(1 << 20)));
    assert!(house.figure("age_ms").is_some());
}

#[test]
fn without_a_driver_there_is_nothing_to_wait_for() {
    let mut house = House::new();
    assert!(!house.pump.ask(ticket(1), Instant::now()));
    house.start_driver();
    house.say(1);
    house.queue.set_available_index(100);
    assert!(!house.pump.ask(ticket(2), Instant::now()), "the driver broke its ring");
    assert_eq!((house.pump.deadline(Instant::now()), house.figure("free_bytes")), (None, None));
    assert_eq!(house.figure("size_bytes"), Some(0));
}

#[test]
fn a_crowd_that_asks_is_bounded_and_all_of_it_is_answered() {
    let mut house = House::new();
    house.start_driver();
    house.say(1);
    let now = Instant::now();
    let waiting = (0..100).filter(|&request| house.pump.ask(ticket(request), now)).count();
    assert_eq!((waiting, house.queue.used().len()), (MAX_WAITING, 1));
    assert_eq!(house.pump.give_up().len(), MAX_WAITING);
    assert_eq!((house.pump.deadline(now), house.pump.give_up().len()), (None, 0));
}

#[test]
fn a_balloon_that_changes_all_the_time_is_told_of_now_and_then() {
    let mut house = House::new();
    let now = Instant::now();
    for pages in 0..1000u32 {
        house.transport.write(reg::CONFIG + 4, &pages.to_le_bytes());
    }
    assert_eq!(house.pump.attend(now), Told { answered: vec![], size_mib: Some(999 / 256) });
    for pages in [0u32, 300] {
        house.transport.write(reg::CONFIG + 4, &pages.to_le_bytes());
        assert_eq!(house.pump.attend(now), Told::default(), "it was told just now");
    }
    let due = house.pump.deadline(now).unwrap();
    assert_eq!(house.pump.attend(due).size_mib, Some(300 / 256), "as it is by then");
    // Less than a MiB makes no difference.
    house.transport.write(reg::CONFIG + 4, &400u32.to_le_bytes());
    assert_eq!(house.pump.attend(due + GUEST_PATIENCE * 2), Told::default());
}

#[test]
fn a_target_beyond_the_machine_is_refused_in_words() {
    let house = House::new();
    assert_eq!(house.pump.set_target(5), Ok(()));
    let words = house.pump.set_target(6).unwrap_err().to_string();
    assert_eq!(words, "expected less than the machine's 6 MiB, found 6");
    assert_eq!(house.figure("target_bytes"), Some(5 << 20));
}
