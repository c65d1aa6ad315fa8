//! A driver that asks for entropy, honestly and not, of sources in memory and of the host.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::device::{CHAIN_BYTES, TURN_BYTES};
use super::*;
use crate::memory::GuestRam;
use crate::rate::{Bucket, Limit};
use crate::virtio::device::{Activation, Backlog, VirtioDevice};
use crate::virtio::feature;
use crate::virtio::rings::{RingFault, Writer};
use crate::virtio::testing::{self, Buffer, GuestQueue, Interrupts, UPPER, Used};

const DATA_AT: u64 = 0x10_0000;
/// What the driver's memory holds before; the sources below never give it.
const UNTOUCHED: u8 = 0;

/// Ones for as long as it lasts; then what `end` says.
struct Ones {
    left: usize,
    end: io::ErrorKind,
}

impl Ones {
    const fn without_end() -> Self {
        Self { left: usize::MAX, end: io::ErrorKind::WouldBlock }
    }
}

impl Entropy for Ones {
    fn fill(&mut self, into: &mut Writer<'_>, max: usize) -> io::Result<usize> {
        let count = max.min(self.left);
        if count == 0 && max > 0 {
            return Err(self.end.into());
        }
        self.left -= count;
        Ok(into.write(&vec![1; count]))
    }
}

struct Rig<E> {
    ram: GuestRam,
    queue: GuestQueue,
    device: RngDevice<E>,
    interrupts: Arc<Interrupts>,
}

impl<E: Entropy> Rig<E> {
    fn new(source: E, limit: Limit) -> Self {
        let ram = testing::ram();
        let queue = GuestQueue::new(&ram, GuestAddress(0x1_0000), 16);
        let interrupts = Arc::new(Interrupts::default());
        let mut device = RngDevice::new(source, limit);
        device.activate(Activation {
            memory: ram.clone(),
            rings: vec![Some(queue.ring(feature::VERSION_1).unwrap())],
            features: feature::VERSION_1,
            interrupt: interrupts.clone(),
        });
        Self { ram, queue, device, interrupts }
    }

    fn ask(&mut self, bytes: u32) -> u16 {
        self.queue.offer(&[Buffer::writable(DATA_AT, bytes)])
    }

    fn count(&self, name: &str) -> u64 {
        let mut found = None;
        self.device.counters(&mut |counter, value| found = (counter == name).then_some(value).or(found));
        found.unwrap()
    }
}

#[test]
fn a_driver_gets_what_it_asks_for_and_one_interrupt() {
    let mut rig = Rig::new(Ones::without_end(), Limit::default());
    let head = rig.queue.offer(&[Buffer::writable(DATA_AT, 10), Buffer::writable(UPPER, 6)]);
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
    assert_eq!(rig.queue.used(), [Used { head, written: 16 }]);
    assert_eq!(rig.interrupts.take(), [0]);
    assert_eq!(
        rig.ram.read_obj::<[u8; 11]>(GuestAddress(DATA_AT)).unwrap(),
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]
    );
    assert_eq!(rig.ram.read_obj::<[u8; 7]>(GuestAddress(UPPER)).unwrap(), [1, 1, 1, 1, 1, 1, 0]);
    assert_eq!((rig.count("requests"), rig.count("bytes"), rig.count("failed")), (1, 16, 0));
}

#[test]
fn the_host_s_generator_fills_all_of_it_and_never_twice_the_same() {
    let mut rig = Rig::new(HostEntropy::open().unwrap(), Limit::default());
    let mut seen: Vec<[u8; 32]> = Vec::new();
    for _ in 0..4 {
        rig.ask(32);
        while rig.device.notify(0, Instant::now()) != Ok(Backlog::Done) {}
        assert_eq!(rig.queue.used()[0].written, 32);
        let bytes = rig.ram.read_obj(GuestAddress(DATA_AT)).unwrap();
        assert!(!seen.contains(&bytes) && bytes != [UNTOUCHED; 32]);
        seen.push(bytes);
    }
}

#[test]
fn a_request_of_megabytes_gets_64_kib_and_is_told_so() {
    for limit in [Limit::default(), Limit::new(Some(Bucket::new(1 << 30, 1 << 30)), None)] {
        let mut rig = Rig::new(Ones::without_end(), limit);
        let head = rig.ask(2 << 20);
        assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
        assert_eq!(rig.queue.used(), [Used { head, written: 65536 }]);
        assert_eq!(rig.ram.read_obj::<u8>(GuestAddress(DATA_AT + 65536)).unwrap(), UNTOUCHED);
    }
}

#[test]
fn a_turn_is_bounded_however_many_chains_overlap() {
    let mut rig = Rig::new(Ones::without_end(), Limit::default());
    for _ in 0..16 {
        rig.ask(1 << 20);
    }
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::More));
    assert_eq!(rig.queue.used().len(), TURN_BYTES / CHAIN_BYTES);
}

#[test]
fn a_chain_without_room_goes_back_empty() {
    let mut rig = Rig::new(Ones::without_end(), Limit::default());
    let head = rig.queue.offer(&[Buffer::readable(DATA_AT, 64)]);
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
    assert_eq!(rig.queue.used(), [Used { head, written: 0 }]);
}

#[test]
fn a_limit_holds_a_request_back_until_its_time_and_loses_nothing_of_it() {
    let start = Instant::now();
    let mut rig = Rig::new(Ones::without_end(), Limit::new(Some(Bucket::new(1000, 100)), None));
    for _ in 0..3 {
        rig.ask(100);
    }
    let Ok(Backlog::Until(time)) = rig.device.notify(0, start) else { panic!("not held") };
    assert_eq!(time, start + Duration::from_millis(100));
    assert_eq!((rig.queue.used().len(), rig.interrupts.take().len()), (1, 1));
    assert!(matches!(rig.device.notify(0, time), Ok(Backlog::Until(_))));
    assert_eq!(rig.queue.used().len(), 1);
}

#[test]
fn a_request_beyond_the_burst_is_answered_short() {
    let mut rig = Rig::new(Ones::without_end(), Limit::new(Some(Bucket::new(1000, 100)), None));
    let head = rig.ask(5000);
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
    assert_eq!(rig.queue.used(), [Used { head, written: 100 }]);
}

#[test]
fn a_host_without_entropy_keeps_the_guest_waiting_and_no_longer() {
    let now = Instant::now();
    let mut rig = Rig::new(Ones { left: 0, end: io::ErrorKind::WouldBlock }, Limit::default());
    let head = rig.ask(16);
    assert_eq!(rig.device.notify(0, now), Ok(Backlog::Until(now + WAIT_FOR_SEED)));
    assert_eq!(rig.queue.used(), []);
    rig.device.source_for_tests().left = 16;
    assert_eq!(rig.device.notify(0, now), Ok(Backlog::Done));
    assert_eq!(rig.queue.used(), [Used { head, written: 16 }]);
}

#[test]
fn a_host_that_fails_gives_nothing_and_is_counted() {
    let mut rig = Rig::new(Ones { left: 0, end: io::ErrorKind::PermissionDenied }, Limit::default());
    let head = rig.ask(16);
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
    assert_eq!(rig.queue.used(), [Used { head, written: 0 }]);
    assert_eq!(rig.count("failed"), 1);
}

#[test]
fn a_broken_ring_is_told_and_the_device_rests_until_it_is_activated_again() {
    let mut rig = Rig::new(Ones::without_end(), Limit::default());
    rig.queue.set_available_index(100);
    assert_eq!(rig.device.notify(0, Instant::now()), Err(RingFault::AvailableIndex));
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
}

#[test]
fn queues_that_do_not_exist_and_configuration_that_is_not_there_do_nothing() {
    let mut rig = Rig::new(Ones::without_end(), Limit::default());
    for queue in [1, usize::MAX] {
        assert_eq!(rig.device.notify(queue, Instant::now()), Ok(Backlog::Done));
    }
    let mut byte = [0xaa];
    rig.device.read_config(0, &mut byte);
    rig.device.write_config(0, &byte);
    assert_eq!(byte, [0xaa]);
    rig.device.reset();
    rig.ask(16);
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
    assert_eq!(rig.queue.used(), [], "reset");
}

proptest! {
    /// Whatever chains: each is answered once, with no more than its room and the cap, and the count is true.
    #[test]
    fn any_chain_is_answered_once_within_its_bounds(
        chains in prop::collection::vec(
            prop::collection::vec((0u64..0x1000, 1u32..40_000, any::<bool>()), 1..4), 1..5
        )
    ) {
        let mut rig = Rig::new(Ones::without_end(), Limit::default());
        let mut expected = 0;
        for buffers in &chains {
            let (mut all, writable): (Vec<_>, Vec<_>) = buffers
                .iter()
                .map(|&(at, bytes, write)| Buffer { address: DATA_AT + at, bytes, writable: write })
                .partition(|buffer| !buffer.writable);
            let room: u64 = writable.iter().map(|buffer| u64::from(buffer.bytes)).sum();
            expected += room.min(CHAIN_BYTES as u64);
            all.extend(writable);
            rig.queue.offer(&all);
        }
        while rig.device.notify(0, Instant::now()) == Ok(Backlog::More) {}
        let used = rig.queue.used();
        prop_assert_eq!(used.len(), chains.len());
        prop_assert_eq!(used.iter().map(|used| u64::from(used.written)).sum::<u64>(), expected);
        prop_assert_eq!(rig.count("bytes"), expected);
    }
}
