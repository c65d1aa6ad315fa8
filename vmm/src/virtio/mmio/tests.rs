//! A driver against the registers, honest and not.

mod saved;

use std::time::Instant;

use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;
use crate::virtio::rings::Ring;
use crate::virtio::state::Rings;
use crate::virtio::testing::{self, GuestQueue};

/// A device with two queues that remembers what happened to it.
#[derive(Default)]
struct Probe {
    rings: Option<Vec<Option<Ring>>>,
    activations: u32,
    resets: u32,
}

impl VirtioDevice for Probe {
    fn device_type(&self) -> u32 {
        42
    }
    fn features(&self) -> u64 {
        1 << 3
    }
    fn queue_max_sizes(&self) -> &'static [u16] {
        &[16, 8]
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        if offset == 0 {
            data.fill(0x5a);
        }
    }
    fn activate(&mut self, activation: Activation) {
        self.activations += 1;
        self.rings = Some(activation.rings);
    }
    fn notify(&mut self, queue: usize, _now: Instant) -> Result<Backlog, RingFault> {
        let Some(ring) = self.rings.as_mut().and_then(|rings| rings.get_mut(queue)?.as_mut()) else {
            return Ok(Backlog::Done);
        };
        while let Some(chain) = ring.pop()? {
            ring.complete(chain, 0)?;
        }
        Ok(Backlog::Done)
    }
    fn rings(&self) -> Rings {
        let rings = self.rings.iter().flatten();
        rings.map(|ring| ring.as_ref().map(Ring::save)).collect()
    }

    fn reset(&mut self) {
        self.resets += 1;
        self.rings = None;
    }
    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("resets", self.resets.into());
    }
}

struct Driver {
    transport: Transport<Probe>,
    interrupt: EventFd,
    queue: GuestQueue,
}

const NEGOTIATED: u32 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
const RUNNING: u32 = NEGOTIATED | status::DRIVER_OK;

impl Driver {
    fn new() -> Self {
        let ram = testing::ram();
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let queue = GuestQueue::new(&ram, GuestAddress(0x1_0000), 8);
        let line = interrupt.try_clone().unwrap();
        Self { transport: Transport::new("probe", Probe::default(), ram, line), interrupt, queue }
    }

    fn read(&self, offset: u64) -> u32 {
        let mut word = [0xff; 4];
        self.transport.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn write(&self, offset: u64, value: u32) {
        self.transport.write(offset, &value.to_le_bytes());
    }

    fn accept(&self, features: u64) {
        self.write(reg::STATUS, status::ACKNOWLEDGE);
        self.write(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        for select in [0, 1] {
            self.write(reg::DRIVER_FEATURES_SEL, select);
            self.write(reg::DRIVER_FEATURES, half(features, select));
        }
        self.write(reg::STATUS, NEGOTIATED);
    }

    #[expect(clippy::cast_possible_truncation, reason = "the queue lies below 4 GiB")]
    fn set_up_queue(&self) {
        self.write(reg::QUEUE_SEL, 0);
        self.write(reg::QUEUE_SIZE, 8);
        self.write(reg::QUEUE_DESC.0, self.queue.descriptors().0 as u32);
        self.write(reg::QUEUE_DRIVER.0, self.queue.available().0 as u32);
        self.write(reg::QUEUE_DEVICE.0, self.queue.used_ring().0 as u32);
        self.write(reg::QUEUE_READY, 1);
    }

    fn start(&self) {
        self.accept(feature::VERSION_1);
        self.set_up_queue();
        self.write(reg::STATUS, RUNNING);
    }

    fn activations(&self) -> u32 {
        self.transport.model(|probe| probe.activations)
    }

    fn kick(&self) -> Backlog {
        self.transport.work(|probe| probe.notify(0, Instant::now()))
    }
}

#[test]
fn an_honest_driver_reaches_its_device() {
    let mut driver = Driver::new();
    assert_eq!(driver.read(reg::MAGIC), 0x7472_6976);
    assert_eq!(driver.read(reg::VERSION), 2);
    assert_eq!(driver.read(reg::DEVICE_ID), 42);
    driver.write(reg::DEVICE_FEATURES_SEL, 0);
    assert_eq!(driver.read(reg::DEVICE_FEATURES), (1 << 3) | (1 << 28) | (1 << 29));
    driver.write(reg::DEVICE_FEATURES_SEL, 1);
    assert_eq!(driver.read(reg::DEVICE_FEATURES), 1);
    assert_eq!((driver.read(reg::QUEUE_SIZE_MAX), driver.read(reg::CONFIG)), (16, 0x5a5a_5a5a));
    driver.start();
    assert_eq!(driver.read(reg::STATUS), RUNNING);
    assert_eq!(driver.read(reg::QUEUE_READY), 1);
    driver.queue.offer(&[testing::Buffer::readable(0x2_0000, 16)]);
    assert_eq!(driver.kick(), Backlog::Done);
    assert_eq!(driver.queue.used().len(), 1);
}

#[test]
fn nothing_rewrites_a_queue_after_activation() {
    let mut driver = Driver::new();
    driver.start();
    driver.write(reg::QUEUE_DESC.0, 0x20_0000);
    driver.write(reg::QUEUE_DEVICE.0, 0x20_1000);
    driver.write(reg::QUEUE_SIZE, 2);
    driver.write(reg::QUEUE_READY, 0);
    driver.write(reg::STATUS, RUNNING);
    assert_eq!(driver.activations(), 1);
    driver.queue.offer(&[testing::Buffer::readable(0x2_0000, 16)]);
    let _ = driver.kick();
    assert_eq!(driver.queue.used().len(), 1, "the ring is where it was at activation");
}

#[test]
fn a_broken_ring_needs_reset_and_works_again_after_it() {
    let mut driver = Driver::new();
    driver.start();
    driver.queue.make_available(99);
    assert_eq!(driver.kick(), Backlog::Done);
    assert_eq!(driver.read(reg::STATUS), RUNNING | status::DEVICE_NEEDS_RESET);
    assert_eq!(driver.read(reg::INTERRUPT_STATUS), reg::interrupt::CONFIG);
    assert_eq!(driver.interrupt.read().unwrap(), 1);
    // The device has no turn, and no ring, until the driver resets it.
    assert_eq!(driver.transport.work(|_| panic!("a stopped device has no turn")), Backlog::Done);

    driver.write(reg::STATUS, 0);
    assert_eq!((driver.read(reg::STATUS), driver.read(reg::INTERRUPT_STATUS)), (0, 0));
    driver.queue = GuestQueue::new(&driver.transport.memory, GuestAddress(0x1_0000), 8);
    driver.start();
    driver.queue.offer(&[testing::Buffer::readable(0x2_0000, 16)]);
    let _ = driver.kick();
    assert_eq!(driver.queue.used().len(), 1);
}

#[test]
fn features_that_were_not_offered_are_refused() {
    for features in [0, feature::VERSION_1 | 1, feature::VERSION_1 | 1 << 63] {
        let driver = Driver::new();
        driver.accept(features);
        assert_eq!(driver.read(reg::STATUS) & status::FEATURES_OK, 0, "{features:#x}");
        driver.set_up_queue();
        driver.write(reg::STATUS, RUNNING);
        assert_eq!(driver.activations(), 0);
    }
}

#[test]
fn features_cannot_change_after_features_ok() {
    let driver = Driver::new();
    driver.accept(feature::VERSION_1);
    driver.write(reg::DRIVER_FEATURES_SEL, 0);
    driver.write(reg::DRIVER_FEATURES, 1);
    driver.set_up_queue();
    driver.write(reg::STATUS, RUNNING);
    assert_eq!(driver.activations(), 1);
}

#[test]
fn skipping_steps_of_the_dance_leads_nowhere() {
    let driver = Driver::new();
    driver.set_up_queue();
    driver.write(reg::STATUS, status::DRIVER_OK);
    assert_eq!(driver.read(reg::STATUS), 0);
    driver.write(reg::STATUS, status::DRIVER | status::FEATURES_OK);
    assert_eq!(driver.read(reg::STATUS), 0);
    driver.write(reg::STATUS, RUNNING);
    assert_eq!(driver.read(reg::STATUS) & status::DRIVER_OK, 0, "no features were accepted");
    assert_eq!(driver.activations(), 0);
}

#[test]
fn status_bits_cannot_be_taken_back_one_by_one() {
    let driver = Driver::new();
    driver.start();
    driver.write(reg::STATUS, status::ACKNOWLEDGE);
    assert_eq!(driver.read(reg::STATUS), RUNNING);
}

#[test]
fn a_queue_that_cannot_be_stops_the_device_not_the_monitor() {
    type Bend = fn(&Driver);
    let bad: [(&str, Bend); 6] = [
        ("no power of two", |d| d.write(reg::QUEUE_SIZE, 7)),
        ("size zero", |d| d.write(reg::QUEUE_SIZE, 0)),
        ("above the maximum", |d| d.write(reg::QUEUE_SIZE, 32)),
        ("misaligned", |d| d.write(reg::QUEUE_DESC.0, 0x1_0001)),
        ("outside RAM", |d| d.write(reg::QUEUE_DEVICE.1, 0xffff_ffff)),
        ("without addresses", |d| {
            d.write(reg::QUEUE_DESC.0, 0);
            d.write(reg::QUEUE_DRIVER.0, 0);
            d.write(reg::QUEUE_DEVICE.0, 0);
        }),
    ];
    for (what, bend) in bad {
        let driver = Driver::new();
        driver.accept(feature::VERSION_1);
        driver.set_up_queue();
        driver.write(reg::QUEUE_READY, 0);
        bend(&driver);
        driver.write(reg::QUEUE_READY, 1);
        driver.write(reg::STATUS, RUNNING);
        assert_ne!(driver.read(reg::STATUS) & status::DEVICE_NEEDS_RESET, 0, "{what}");
        assert_eq!(driver.activations(), 0, "{what}");
    }
}

#[test]
fn a_reset_takes_the_rings_away_at_once() {
    let driver = Driver::new();
    driver.start();
    driver.write(reg::STATUS, 0);
    assert!(driver.transport.model(|probe| probe.rings.is_none()));
    assert_eq!(driver.transport.work(|_| panic!("a device that was reset has no turn")), Backlog::Done);
    driver.start();
    assert_eq!(driver.activations(), 2);
}

#[test]
fn a_kick_before_the_driver_is_ready_gives_no_turn_and_what_was_offered_is_served_once_it_is() {
    let mut driver = Driver::new();
    let no_turn = |driver: &Driver| {
        assert_eq!(driver.transport.work(|_| panic!("a device without a driver has no turn")), Backlog::Done);
    };
    no_turn(&driver);
    driver.accept(feature::VERSION_1);
    driver.set_up_queue();
    let head = driver.queue.offer(&[testing::Buffer::readable(0x10_0000, 8)]);
    no_turn(&driver);
    driver.write(reg::STATUS, RUNNING);
    assert_eq!(driver.kick(), Backlog::Done);
    assert_eq!(driver.queue.used(), [testing::Used { head, written: 0 }]);
}

#[test]
fn odd_accesses_do_nothing() {
    let driver = Driver::new();
    let mut byte = [0xff];
    driver.transport.read(reg::MAGIC, &mut byte);
    assert_eq!(byte, [0]);
    let mut eight = [0xff; 8];
    driver.transport.read(reg::MAGIC, &mut eight);
    assert_eq!(eight, [0; 8]);
    assert_eq!(driver.read(reg::MAGIC + 2), 0);
    driver.transport.write(reg::STATUS, &[1]);
    driver.transport.write(reg::STATUS + 1, &[1, 0, 0, 0]);
    driver.write(reg::MAGIC, 7);
    driver.write(reg::QUEUE_SEL, u32::MAX);
    assert_eq!((driver.read(reg::QUEUE_SIZE_MAX), driver.read(reg::STATUS)), (0, 0));
    driver.write(reg::QUEUE_READY, 1);
    assert_eq!(driver.read(reg::MAGIC), reg::MAGIC_VALUE);
}
