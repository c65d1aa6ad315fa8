//! The whole way: registers, doorbell, event loop, io_uring, interrupt.

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;
use crate::machine::BusDevice;
use crate::virtio::feature::VERSION_1;
use crate::virtio::mmio::registers::{self as reg, status};
use crate::virtio::mmio::{Doorbells, Transport};

/// Milliseconds after which a test has failed.
const DEADLINE: i32 = 10_000;

const NEGOTIATED: u32 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
const RUNNING: u32 = NEGOTIATED | status::DRIVER_OK;

/// What a driver does up to DRIVER_OK, with a new queue.
fn start_driver<D: Disk>(transport: &Transport<BlockDevice<D>>, ram: &GuestRam) -> GuestQueue {
    let queue = GuestQueue::new(ram, GuestAddress(0x1_0000), 64);
    let address = |place: GuestAddress| u32::try_from(place.0).unwrap();
    for (offset, value) in [
        (reg::STATUS, status::ACKNOWLEDGE),
        (reg::STATUS, status::ACKNOWLEDGE | status::DRIVER),
        (reg::DRIVER_FEATURES_SEL, 0),
        (reg::DRIVER_FEATURES, 1 << 9),
        (reg::DRIVER_FEATURES_SEL, 1),
        (reg::DRIVER_FEATURES, u32::try_from(VERSION_1 >> 32).unwrap()),
        (reg::STATUS, NEGOTIATED),
        (reg::QUEUE_SIZE, 64),
        (reg::QUEUE_DESC.0, address(queue.descriptors())),
        (reg::QUEUE_DRIVER.0, address(queue.available())),
        (reg::QUEUE_DEVICE.0, address(queue.used_ring())),
        (reg::QUEUE_READY, 1),
        (reg::STATUS, RUNNING),
    ] {
        transport.write(offset, &value.to_le_bytes());
    }
    queue
}

struct Machine {
    ram: GuestRam,
    queue: GuestQueue,
    transport: Arc<Transport<Block>>,
    bell: EventFd,
    interrupt: EventFd,
    events: EventManager<Box<dyn MutEventSubscriber>>,
}

impl Machine {
    /// A machine that has started its driver; `None` where there is no io_uring.
    fn new(path: &Path) -> Option<Self> {
        let mut disk = FileDisk::open(path, false).unwrap();
        disk.take_a_detour();
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let (bell, interrupt) = (event(), event());
        let ram = testing::ram();
        let model = BlockDevice::new(disk, "root", false, Limit::default());
        let transport = Arc::new(Transport::new("disk", model, ram.clone(), interrupt.try_clone().unwrap()));
        let mut events = EventManager::<Box<dyn MutEventSubscriber>>::new().unwrap();
        let bells = vec![bell.try_clone().unwrap()];
        events.add_subscriber(Box::new(Doorbells::new(transport.clone(), bells).unwrap()));
        let Some(completions) = Completions::of(&transport).unwrap() else {
            eprintln!("skipped: no io_uring");
            return None;
        };
        events.add_subscriber(Box::new(completions));
        let queue = GuestQueue::new(&ram, GuestAddress(0x1_0000), 64);
        let mut machine = Self { ram, queue, transport, bell, interrupt, events };
        machine.start_driver();
        Some(machine)
    }

    fn start_driver(&mut self) {
        self.queue = start_driver(&self.transport, &self.ram);
    }

    fn offer(&mut self, kind: u32, sector: u32, data: Option<Buffer>) {
        let header: [u32; 4] = [kind, 0, sector, 0];
        // Each has its own, as a header is read when its chain is popped.
        let place = HEADER_AT + 16 * u64::from(self.queue.next_free());
        self.ram.write_obj(header, GuestAddress(place)).unwrap();
        let mut buffers = vec![Buffer::readable(place, 16)];
        buffers.extend(data);
        buffers.push(Buffer::writable(STATUS_AT, 1));
        self.queue.offer(&buffers);
        self.bell.write(1).unwrap();
    }

    /// Turns the event loop until the guest is interrupted.
    fn until_interrupted(&mut self) {
        while self.interrupt.read().is_err() {
            assert!(self.events.run_with_timeout(DEADLINE).unwrap() > 0, "nothing happens any more");
        }
    }
}

#[test]
fn what_io_uring_ends_interrupts_the_guest() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [5; 8 * 512]).unwrap();
    let Some(mut machine) = Machine::new(file.path()) else { return };
    for (kind, data) in [
        (IN, Some(Buffer::writable(DATA_AT, 1024))),
        (OUT, Some(Buffer::readable(DATA_AT, 512))),
        (FLUSH, None),
    ] {
        machine.offer(kind, 1, data);
        machine.until_interrupted();
        assert_eq!(machine.queue.used().len(), 1);
        assert_eq!(machine.ram.read_obj::<u8>(GuestAddress(STATUS_AT)).unwrap(), OK);
    }
    assert_eq!(machine.ram.read_obj::<[u8; 2]>(GuestAddress(DATA_AT + 1022)).unwrap(), [5, 5]);
}

#[test]
fn a_driver_that_resets_in_the_middle_starts_anew() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [5; 8 * 512]).unwrap();
    let Some(mut machine) = Machine::new(file.path()) else { return };
    for _ in 0..20 {
        for _ in 0..10 {
            machine.offer(OUT, 1, Some(Buffer::readable(DATA_AT, 512)));
        }
        machine.offer(FLUSH, 0, None);
        machine.events.run_with_timeout(DEADLINE).unwrap();
        machine.transport.write(reg::STATUS, &0u32.to_le_bytes());
        assert_eq!(machine.transport.model(|model| model.disk().pending()), 0);
        machine.start_driver();
        while machine.events.run_with_timeout(0).unwrap() > 0 {}
        assert_eq!(machine.queue.used().len(), 0, "nothing of before is answered");
        let _ = machine.interrupt.read();
    }
    machine.offer(IN, 1, Some(Buffer::writable(DATA_AT, 512)));
    machine.until_interrupted();
    assert_eq!(machine.queue.used().len(), 1);
}

#[test]
fn a_machine_that_pauses_has_nothing_under_way() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [5; 8 * 512]).unwrap();
    let Some(mut machine) = Machine::new(file.path()) else { return };
    for _ in 0..10 {
        machine.offer(OUT, 1, Some(Buffer::readable(DATA_AT, 512)));
    }
    machine.offer(FLUSH, 0, None);
    machine.events.run_with_timeout(DEADLINE).unwrap();
    machine.transport.quiesce();
    assert_eq!(machine.transport.model(|model| model.in_flight()), 0);
    assert_eq!(machine.queue.used().len(), 11);
}

/// A driver that asked a slow disk for something.
struct Slow {
    ram: GuestRam,
    queue: GuestQueue,
    transport: Arc<Transport<BlockDevice<MemoryDisk>>>,
}

impl Slow {
    fn new() -> Self {
        let ram = testing::ram();
        let model = BlockDevice::new(MemoryDisk::later(16), "root", false, Limit::default());
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let transport = Arc::new(Transport::new("disk", model, ram.clone(), interrupt));
        let queue = start_driver(&transport, &ram);
        let mut slow = Self { ram, queue, transport };
        slow.ask();
        slow
    }

    fn ask(&mut self) {
        self.ram.write_obj([IN, 0, 0, 0], GuestAddress(HEADER_AT)).unwrap();
        let (header, data) = (Buffer::readable(HEADER_AT, 16), Buffer::writable(DATA_AT, 512));
        self.queue.offer(&[header, data, Buffer::writable(STATUS_AT, 1)]);
        self.turn();
    }

    fn turn(&self) {
        let _ = self.transport.work(|model| model.notify(0, Instant::now()));
    }

    fn status(&self) -> u32 {
        let mut word = [0; 4];
        self.transport.read(reg::STATUS, &mut word);
        u32::from_le_bytes(word)
    }

    fn finish(&self) {
        self.transport.model(|model| model.disk_mut().finish(0));
    }
}

#[test]
fn a_reset_waits_for_the_disk_on_the_vcpu_that_asked_for_it_and_holds_nobody_else() {
    let mut slow = Slow::new();
    let vcpu = {
        let transport = slow.transport.clone();
        std::thread::spawn(move || transport.write(reg::STATUS, &0u32.to_le_bytes()))
    };
    while slow.transport.model(|model| model.in_flight()) > 0 {
        std::thread::yield_now();
    }
    // This thread is the event loop, and another vCPU.
    slow.transport.counters(&mut |_, _| ());
    slow.transport.settle(BlockDevice::settle);
    assert_eq!(slow.transport.model(|model| model.under_way()), 1);
    assert_eq!(slow.status(), RUNNING, "the reset is not over");
    slow.transport.write(reg::STATUS, &status::ACKNOWLEDGE.to_le_bytes());
    assert_eq!(slow.status(), RUNNING, "and nothing starts before it is");
    assert!(!vcpu.is_finished());
    slow.finish();
    vcpu.join().unwrap();
    assert_eq!((slow.status(), slow.queue.used().len()), (0, 0));
    slow.queue = start_driver(&slow.transport, &slow.ram);
    slow.ask();
    slow.finish();
    slow.transport.settle(BlockDevice::settle);
    assert_eq!(slow.queue.used().len(), 1);
}

#[test]
fn a_ring_that_breaks_needs_reset_at_once_however_slow_the_disk_is() {
    let mut slow = Slow::new();
    slow.queue.make_available(99);
    slow.turn();
    assert_eq!(slow.status(), RUNNING | status::DEVICE_NEEDS_RESET);
    assert_eq!(slow.transport.model(|model| model.under_way()), 1);
    slow.finish();
    slow.transport.settle(BlockDevice::settle);
    assert_eq!(slow.transport.model(|model| model.under_way()), 0, "a pause need not wait for a driver");
    slow.transport.write(reg::STATUS, &0u32.to_le_bytes());
    assert_eq!((slow.status(), slow.queue.used().len()), (0, 0));
}
