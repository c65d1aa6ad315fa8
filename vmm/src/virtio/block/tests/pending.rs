//! Disks that answer later, in any order, and drivers that do not wait for it.

use proptest::prelude::*;

use super::*;
use crate::virtio::testing::QUEUE_BYTES;

#[test]
fn requests_are_answered_as_the_disk_ends_them() {
    let mut rig = Rig::new(MemoryDisk::later(16), false);
    let heads = [rig.begin(IN, 0, 512), rig.begin(IN, 1, 512), rig.begin(IN, 2, 512)];
    assert!(rig.heads().is_empty());
    assert_eq!((rig.device.in_flight(), rig.interrupts.take().len()), (3, 0));
    rig.finish(1);
    assert_eq!(rig.heads(), [heads[1]]);
    rig.finish(1);
    assert_eq!(rig.heads(), [heads[2]]);
    rig.finish(0);
    assert_eq!(rig.heads(), [heads[0]]);
    assert_eq!((rig.device.in_flight(), rig.interrupts.take().len()), (0, 3));
    assert_eq!((rig.counter("reads"), rig.counter("in_flight_peak")), (3, 3));
}

#[test]
fn a_flush_waits_for_the_changes_before_it_and_nothing_waits_for_a_flush() {
    let mut rig = Rig::new(MemoryDisk::later(16), false);
    let heads =
        [(OUT, 512), (IN, 512), (FLUSH, 0), (OUT, 512)].map(|(kind, bytes)| rig.begin(kind, 0, bytes));
    assert!(!rig.disk().asked.contains(&Asked::Flush));
    assert_eq!(rig.device.disk().pending(), 3, "the write after the flush is under way");
    rig.finish(0);
    assert_eq!(rig.disk().asked.last(), Some(&Asked::Flush));
    assert_eq!(rig.heads(), [heads[0]]);
    rig.finish(2);
    assert_eq!(rig.heads(), [heads[2]], "neither the read nor the later write held it back");
    rig.device.quiesce().unwrap();
    assert_eq!(rig.heads(), [heads[1], heads[3]]);
}

#[test]
fn flushes_wait_each_for_what_came_before_them() {
    let mut rig = Rig::new(MemoryDisk::later(16), false);
    let heads = [OUT, FLUSH, OUT, FLUSH].map(|kind| rig.begin(kind, 0, if kind == OUT { 512 } else { 0 }));
    rig.finish(1);
    assert_eq!(rig.heads(), [heads[2]]);
    assert!(!rig.disk().asked.contains(&Asked::Flush), "the first write holds both back");
    rig.finish(0);
    assert_eq!(rig.device.disk().pending(), 2);
    rig.device.quiesce().unwrap();
    assert_eq!(rig.heads(), [heads[0], heads[1], heads[3]]);
}

#[test]
fn a_reset_answers_nothing_and_says_what_is_still_under_way() {
    let mut rig = Rig::new(MemoryDisk::later(16), false);
    for sector in 0..5 {
        rig.begin(OUT, sector, 512);
    }
    rig.begin(FLUSH, 0, 0);
    rig.device.reset();
    assert_eq!((rig.device.in_flight(), rig.device.under_way()), (0, 5));
    for left in (0..5).rev() {
        rig.device.disk_mut().wait();
        rig.device.drain(Thread::Vcpu);
        assert_eq!(rig.device.under_way(), left);
    }
    assert_eq!((rig.heads().len(), rig.interrupts.take().len()), (0, 0));
}

/// Bytes of the largest request.
const LARGEST: u32 = 16 << 20;

#[test]
fn the_queue_waits_while_too_many_bytes_are_under_way() {
    let mut rig = Rig::new(MemoryDisk::later(LARGEST as usize / 512), false);
    rig.queue = GuestQueue::new(&rig.ram, GuestAddress(0x1_0000), 256);
    let rings = vec![Some(rig.queue.ring(0).unwrap())];
    let (memory, interrupt) = (rig.ram.clone(), rig.interrupts.clone());
    rig.device.activate(Activation { memory, rings, features: 0, interrupt });
    rig.header(IN, 0);
    // Into the same memory over and over, as no honest driver does.
    let piece = Buffer::writable(1 << 20, LARGEST / 16);
    let mut buffers = vec![Buffer::readable(HEADER_AT, 16)];
    buffers.extend([piece; 16]);
    buffers.push(Buffer::writable(STATUS_AT, 1));
    for _ in 0..9 {
        rig.queue.offer(&buffers);
    }
    while rig.notify() == Backlog::More {}
    assert_eq!(rig.device.under_way(), 4, "64 MiB");
    assert_eq!(rig.notify(), Backlog::Done, "whoever rings");
    assert_eq!(rig.device.settle().unwrap(), Backlog::Done, "nothing is over");
    rig.device.disk_mut().finish(0);
    assert_eq!(rig.device.settle().unwrap(), Backlog::More, "there is room, and somebody who waits for it");
    while rig.notify() == Backlog::More {}
    assert_eq!(rig.device.under_way(), 4);
    // What is over when a turn ends leaves room, too.
    rig.device.disk_mut().finish(0);
    assert_eq!(rig.notify(), Backlog::More);
    while rig.notify() == Backlog::More {}
    assert_eq!((rig.device.under_way(), rig.heads().len()), (4, 2));
    for _ in 0..3 {
        rig.device.quiesce().unwrap();
        while rig.notify() == Backlog::More {}
    }
    assert_eq!((rig.device.under_way(), rig.heads().len()), (0, 7));
}

/// A rig with a queue of the largest size.
fn roomy() -> Rig<MemoryDisk> {
    let mut rig = Rig::new(MemoryDisk::later(16), false);
    rig.queue = GuestQueue::new(&rig.ram, GuestAddress(0x1_0000), 256);
    let features = rig.device.features();
    let rings = vec![Some(rig.queue.ring(features).unwrap())];
    let (memory, interrupt) = (rig.ram.clone(), rig.interrupts.clone());
    rig.device.activate(Activation { memory, rings, features, interrupt });
    rig
}

/// Everything that is offered, to its end.
fn to_the_end(rig: &mut Rig<MemoryDisk>) {
    while rig.device.in_flight() > 0 {
        rig.device.quiesce().unwrap();
        while rig.notify() == Backlog::More {}
    }
}

#[test]
fn the_queue_waits_while_too_much_is_under_way_that_moves_no_bytes() {
    for kind in [FLUSH, DISCARD] {
        let mut rig = roomy();
        rig.header(kind, 0);
        let range: [u32; 4] = [0, 0, 8, 0];
        rig.ram.write_obj(range, GuestAddress(RANGE_AT)).unwrap();
        let mut buffers = vec![Buffer::readable(HEADER_AT, 16), Buffer::writable(STATUS_AT, 1)];
        if kind == DISCARD {
            buffers.insert(1, Buffer::readable(RANGE_AT, 16));
        }
        for _ in 0..80 {
            rig.queue.offer(&buffers);
        }
        while rig.notify() == Backlog::More {}
        assert_eq!((rig.device.under_way(), rig.heads().len()), (64, 0), "{kind}");
        rig.device.disk_mut().finish(0);
        assert_eq!(rig.device.settle().unwrap(), Backlog::More, "{kind}");
        while rig.notify() == Backlog::More {}
        assert_eq!((rig.device.under_way(), rig.heads().len()), (64, 1), "{kind}");
        to_the_end(&mut rig);
        assert_eq!(rig.heads().len(), 79, "{kind}");
    }
}

#[test]
fn flushes_that_are_held_back_count_too() {
    let mut rig = roomy();
    rig.begin(OUT, 0, 512);
    rig.header(FLUSH, 0);
    for _ in 0..80 {
        rig.queue.offer(&[Buffer::readable(HEADER_AT, 16), Buffer::writable(STATUS_AT, 1)]);
    }
    while rig.notify() == Backlog::More {}
    assert_eq!((rig.device.under_way(), rig.device.in_flight()), (1, 65), "64 MiB and a sector");
    rig.finish(0);
    assert_eq!(rig.device.under_way(), 64, "they are let go");
    to_the_end(&mut rig);
    assert_eq!(rig.heads().len(), 81);
}

#[test]
fn a_ring_that_breaks_takes_what_is_under_way_with_it() {
    let mut rig = Rig::new(MemoryDisk::later(16), false);
    rig.begin(IN, 0, 512);
    rig.queue.make_available(99);
    assert!(rig.device.notify(0, Instant::now()).is_err());
    rig.device.reset();
    rig.device.disk_mut().wait();
    rig.device.drain(Thread::Vcpu);
    assert_eq!(rig.device.under_way(), 0);
    rig.activate(u64::MAX);
    assert!(rig.heads().is_empty());
}

#[test]
fn what_ends_after_a_reset_answers_nobody() {
    let mut rig = Rig::new(MemoryDisk::later(16), false);
    let old = rig.begin(IN, 0, 512);
    let late = rig.device.disk_mut().pending.remove(0);
    rig.device.reset();
    rig.activate(u64::MAX);
    let new = rig.begin(IN, 1, 512);
    assert_eq!(old, new, "the new request stands where the old one stood");
    rig.device.disk_mut().finished.push_back(late);
    let _ = rig.device.settle().unwrap();
    assert!(rig.heads().is_empty());
    assert_eq!(rig.status(), UNTOUCHED);
    rig.finish(0);
    assert_eq!((rig.heads(), rig.status()), (vec![new], OK));
}

#[test]
fn a_pause_can_wait_for_everything_that_is_under_way() {
    let mut rig = Rig::new(MemoryDisk::later(16), false);
    let heads = [OUT, FLUSH, IN].map(|kind| rig.begin(kind, 0, if kind == FLUSH { 0 } else { 512 }));
    rig.device.quiesce().unwrap();
    assert_eq!(rig.device.in_flight(), 0);
    let mut used = rig.heads();
    used.sort_unstable();
    assert_eq!(used, heads);
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// A chain, sensible or not.
    Offer {
        kind: u32,
        sector: u64,
        buffers: Vec<(u64, u32, bool)>,
    },
    /// A request that the disk takes.
    Sensible {
        kind: u32,
        sector: u64,
    },
    Turn,
    /// One of the pending requests ends, well or not.
    Finish {
        which: usize,
        fails: bool,
    },
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![0u32..16, any::<u32>()];
    let sector = prop_oneof![0u64..20, any::<u64>()];
    let buffers = proptest::collection::vec((0u64..0x1000, 1u32..3000, any::<bool>()), 1..8);
    let sensible = (proptest::sample::select(vec![IN, OUT, FLUSH]), 0u64..16);
    proptest::collection::vec(
        prop_oneof![
            3 => (kind, sector, buffers)
                .prop_map(|(kind, sector, buffers)| Step::Offer { kind, sector, buffers }),
            4 => sensible.prop_map(|(kind, sector)| Step::Sensible { kind, sector }),
            4 => Just(Step::Turn),
            4 => (any::<usize>(), any::<bool>()).prop_map(|(which, fails)| Step::Finish { which, fails }),
            1 => Just(Step::Reset),
        ],
        1..60,
    )
}

/// Each header has its own place, as a header is read when its chain is popped.
fn place(offered: usize) -> u64 {
    0x10_0000 + (offered as u64 % 64) * 64
}

proptest! {
    /// Whatever requests, whatever chains, whenever they end, whenever the driver resets the device: each one
    /// offered since has one answer in the end, the others none, and nothing panics.
    #[test]
    fn any_request_gets_one_answer(steps in steps(), later in any::<bool>()) {
        let mut rig = Rig::new(MemoryDisk { later, ..MemoryDisk::new(16) }, false);
        let mut offered = Vec::new();
        let mut answered = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Offer { kind, sector, buffers } if rig.queue.free() >= 9 => {
                    rig.header(kind, sector);
                    let header: [u8; 16] = rig.ram.read_obj(GuestAddress(HEADER_AT)).unwrap();
                    rig.ram.write_obj(header, GuestAddress(place(number))).unwrap();
                    let (mut readable, writable): (Vec<_>, Vec<_>) = buffers
                        .iter()
                        .map(|&(at, bytes, writable)| Buffer { address: DATA_AT + at, bytes, writable })
                        .partition(|buffer| !buffer.writable);
                    readable.insert(0, Buffer::readable(place(number), 16));
                    readable.extend(writable);
                    offered.push(rig.queue.offer(&readable));
                }
                Step::Sensible { kind, sector } if rig.queue.free() >= 9 => {
                    let mut buffers = rig.buffers(kind, sector, if kind == FLUSH { 0 } else { 512 });
                    let header: [u8; 16] = rig.ram.read_obj(GuestAddress(HEADER_AT)).unwrap();
                    rig.ram.write_obj(header, GuestAddress(place(number))).unwrap();
                    buffers[0].address = place(number);
                    offered.push(rig.queue.offer(&buffers));
                }
                Step::Offer { .. } | Step::Sensible { .. } | Step::Turn => {
                    let _ = rig.notify();
                }
                Step::Finish { which, fails } => {
                    let pending = rig.disk().pending.len();
                    if pending > 0 {
                        let which = which % pending;
                        if fails {
                            rig.device.disk_mut().pending[which].1 = Err(io::ErrorKind::Other.into());
                        }
                        rig.finish(which);
                    }
                }
                Step::Reset => {
                    rig.device.reset();
                    while rig.device.under_way() > 0 {
                        rig.device.disk_mut().wait();
                        rig.device.drain(Thread::Vcpu);
                    }
                    let before = rig.queue.used().len();
                    prop_assert!(answered.len() + before <= offered.len());
                    offered.clear();
                    answered.clear();
                    rig.activate(u64::MAX);
                }
            }
            answered.extend(rig.heads());
        }
        while rig.notify() == Backlog::More {}
        rig.device.quiesce().unwrap();
        answered.extend(rig.heads());
        prop_assert_eq!(rig.device.in_flight(), 0);
        offered.sort_unstable();
        answered.sort_unstable();
        prop_assert_eq!(answered, offered);
    }
}

const _: () = assert!(0x1_0000 + QUEUE_BYTES <= HEADER_AT, "the queue and the headers do not overlap");
