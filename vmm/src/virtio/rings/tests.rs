use proptest::prelude::*;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::super::feature;
use super::super::testing::{self, Buffer, GuestQueue, INDIRECT, NEXT, Used, WRITE};
use super::*;
use crate::memory;

const BASE: GuestAddress = GuestAddress(0x1_0000);
const DATA: u64 = 0x10_0000;
const SIZE: u16 = 8;

fn setup(features: u64) -> (GuestRam, GuestQueue, Ring) {
    let ram = testing::ram();
    let queue = GuestQueue::new(&ram, BASE, SIZE);
    let ring = queue.ring(features).unwrap();
    (ram, queue, ring)
}

/// What the device says to one chain that starts at descriptor 0, written by `write`.
fn verdict(features: u64, write: impl FnOnce(&GuestQueue)) -> Result<Option<Chain>, RingFault> {
    let (_ram, mut queue, mut ring) = setup(features);
    write(&queue);
    queue.make_available(0);
    ring.pop()
}

fn fault(write: impl FnOnce(&GuestQueue)) -> RingFault {
    verdict(feature::INDIRECT_DESC, write).unwrap_err()
}

fn raw_queue(size: u16, descriptors: u64, available: u64, used: u64) -> Result<Ring, RingFault> {
    let mut queue = Queue::new(256).unwrap();
    queue.set_size(size);
    queue.set_desc_table_address(Some(low(descriptors)), Some(high(descriptors)));
    queue.set_avail_ring_address(Some(low(available)), Some(high(available)));
    queue.set_used_ring_address(Some(low(used)), Some(high(used)));
    queue.set_ready(true);
    Ring::new(queue, &testing::ram(), 0)
}

fn low(address: u64) -> u32 {
    u32::try_from(address & 0xffff_ffff).unwrap()
}

fn high(address: u64) -> u32 {
    u32::try_from(address >> 32).unwrap()
}

#[test]
fn bytes_cross_buffers_in_both_directions() {
    let (ram, mut queue, mut ring) = setup(0);
    ram.write_slice(b"hello, ", GuestAddress(DATA)).unwrap();
    ram.write_slice(b"device", GuestAddress(DATA + 0x1000)).unwrap();
    let head = queue.offer(&[
        Buffer::readable(DATA, 7),
        Buffer::readable(DATA + 0x1000, 6),
        Buffer::writable(DATA + 0x2000, 3),
        Buffer::writable(DATA + 0x3000, 20),
    ]);
    let chain = ring.pop().unwrap().unwrap();
    assert_eq!((chain.readable_bytes(), chain.writable_bytes()), (13, 23));
    let mut reader = chain.reader(&ram);
    assert_eq!(reader.read_array::<9>().unwrap(), *b"hello, de");
    let mut rest = [0; 10];
    assert_eq!(reader.read(&mut rest), 4);
    assert_eq!(&rest[..4], b"vice");
    assert_eq!(reader.remaining(), 0);
    let mut writer = chain.writer(&ram);
    assert_eq!(writer.write(b"answer"), 6);
    assert_eq!(writer.remaining(), 17);
    ring.complete(chain, 6).unwrap();
    assert_eq!(queue.used(), [Used { head, written: 6 }]);
    let mut answer = [0; 3];
    ram.read_slice(&mut answer, GuestAddress(DATA + 0x2000)).unwrap();
    assert_eq!(&answer, b"ans");
    ram.read_slice(&mut answer, GuestAddress(DATA + 0x3000)).unwrap();
    assert_eq!(&answer, b"wer");
}

#[test]
fn a_read_of_more_than_there_is_reads_nothing() {
    let (ram, mut queue, mut ring) = setup(0);
    queue.offer(&[Buffer::readable(DATA, 3)]);
    let chain = ring.pop().unwrap().unwrap();
    let mut reader = chain.reader(&ram);
    assert_eq!(reader.read_array::<4>(), None);
    assert_eq!(reader.remaining(), 3);
    assert_eq!(chain.writer(&ram).write(b"x"), 0);
    ring.put_back(chain);
}

#[test]
fn a_limit_and_a_skip_cut_a_part_out() {
    let (ram, mut queue, mut ring) = setup(0);
    queue.offer(&[
        Buffer::writable(DATA, 4),
        Buffer::writable(DATA + 0x100, 600),
        Buffer::writable(DATA + 8, 1),
    ]);
    let chain = ring.pop().unwrap().unwrap();
    let mut status = chain.writer(&ram);
    let mut data = status.clone();
    assert_eq!(status.skip(604), 604);
    data.limit(604);
    assert_eq!(status.write(&[7, 7]), 1);
    assert_eq!(data.write(&[1; 604]), 604);
    assert_eq!(data.write(&[1]), 0);
    assert_eq!(ram.read_obj::<u8>(GuestAddress(DATA + 8)).unwrap(), 7, "the limit holds in memory too");
    assert_eq!(chain.writer(&ram).write_zeroes(10_000), 605);
    assert_eq!(ram.read_obj::<u8>(GuestAddress(DATA + 8)).unwrap(), 0);
    assert_eq!(ram.read_obj::<u32>(GuestAddress(DATA + 0x100 + 596)).unwrap(), 0);
    ring.put_back(chain);
}

#[test]
fn a_buffer_across_the_seam_of_two_regions_is_one_buffer() {
    let (ram, mut queue, mut ring) = setup(0);
    queue.offer(&[Buffer::writable(testing::SEAM - 3, 6)]);
    let chain = ring.pop().unwrap().unwrap();
    assert_eq!(chain.writer(&ram).write(b"abcdef"), 6);
    let mut seen = [0; 6];
    ram.read_slice(&mut seen, GuestAddress(testing::SEAM - 3)).unwrap();
    assert_eq!(&seen, b"abcdef");
    ring.put_back(chain);
}

#[test]
fn a_chain_put_back_comes_again() {
    let (_ram, mut queue, mut ring) = setup(feature::EVENT_IDX);
    let first = queue.offer(&[Buffer::writable(DATA, 4)]);
    let second = queue.offer(&[Buffer::writable(DATA, 4)]);
    let chain = ring.pop().unwrap().unwrap();
    ring.put_back(chain);
    for head in [first, second] {
        let chain = ring.pop().unwrap().unwrap();
        assert_eq!(chain.head(), head);
        ring.complete(chain, 0).unwrap();
    }
    assert!(ring.pop().unwrap().is_none());
}

#[test]
fn the_used_length_never_exceeds_the_writable_part() {
    let (_ram, mut queue, mut ring) = setup(0);
    let head = queue.offer(&[Buffer::writable(DATA, 4)]);
    let chain = ring.pop().unwrap().unwrap();
    ring.complete(chain, 1 << 40).unwrap();
    assert_eq!(queue.used(), [Used { head, written: 4 }]);
}

#[test]
fn an_empty_ring_asks_for_a_notification() {
    let (_ram, mut queue, mut ring) = setup(feature::EVENT_IDX);
    for round in 1..=20 {
        queue.offer(&[Buffer::readable(DATA, 4)]);
        let chain = ring.pop().unwrap().unwrap();
        ring.complete(chain, 0).unwrap();
        assert!(ring.pop().unwrap().is_none());
        assert_eq!(queue.available_event(), round);
        queue.used();
    }
}

#[test]
fn interrupts_follow_the_drivers_wish() {
    let (_ram, mut queue, mut ring) = setup(feature::EVENT_IDX);
    let mut turn = |queue: &mut GuestQueue| {
        queue.offer(&[Buffer::readable(DATA, 4)]);
        let chain = ring.pop().unwrap().unwrap();
        ring.complete(chain, 0).unwrap();
        queue.used();
        let wanted = ring.wants_interrupt().unwrap();
        assert!(!ring.wants_interrupt().unwrap(), "told once");
        wanted
    };
    queue.set_used_event(1);
    assert!(!turn(&mut queue));
    assert!(turn(&mut queue));
    assert!(!turn(&mut queue));

    let (_ram, mut queue, mut ring) = setup(0);
    assert!(!ring.wants_interrupt().unwrap());
    for (flags, wanted) in [(0, true), (1, false)] {
        queue.set_available_flags(flags);
        queue.offer(&[Buffer::readable(DATA, 4)]);
        let chain = ring.pop().unwrap().unwrap();
        ring.complete(chain, 0).unwrap();
        assert_eq!(ring.wants_interrupt().unwrap(), wanted);
    }
}

#[test]
fn chains_completed_together_are_seen_together_and_interrupt_once() {
    let (ram, mut queue, mut ring) = setup(feature::EVENT_IDX);
    let used_index = GuestAddress(queue.used_ring().0 + 2);
    let seen = || u16::from_le(ram.read_obj(used_index).unwrap());
    // Five rounds of three on eight entries: the used ring wraps between entries of one round.
    for round in 0..5u16 {
        queue.set_used_event(round * 3);
        let heads: Vec<_> = (0..3).map(|_| queue.offer(&[Buffer::writable(DATA, 100)])).collect();
        for written in [10, 20] {
            let chain = ring.pop().unwrap().unwrap();
            ring.complete_with_next(chain, written).unwrap();
            assert_eq!(seen(), round * 3, "nothing before the last");
        }
        let chain = ring.pop().unwrap().unwrap();
        ring.complete(chain, 30).unwrap();
        let expected: Vec<_> =
            heads.iter().zip([10, 20, 30]).map(|(&head, written)| Used { head, written }).collect();
        assert_eq!(queue.used(), expected);
        assert!(ring.wants_interrupt().unwrap(), "the first of them is what the driver waits for");
        assert!(!ring.wants_interrupt().unwrap());
    }
}

#[test]
fn chain_loop_needs_reset() {
    let looped = fault(|queue| {
        queue.set_descriptor(0, DATA, 4, NEXT, 1);
        queue.set_descriptor(1, DATA, 4, NEXT, 0);
    });
    assert_eq!(looped, RingFault::TooManyBuffers);
    assert_eq!(fault(|queue| queue.set_descriptor(0, DATA, 4, NEXT, 0)), RingFault::TooManyBuffers);
}

#[test]
fn chain_as_long_as_the_queue_passes_and_one_longer_needs_reset() {
    let table = DATA + 0x1000;
    let chain_of = |length: u16| {
        verdict(feature::INDIRECT_DESC, |queue| {
            for index in 0..length {
                let flags = if index + 1 == length { 0 } else { NEXT };
                queue.set_indirect(table, index, DATA, 1, flags, index + 1);
            }
            queue.set_descriptor(0, table, u32::from(length) * 16, INDIRECT, 0);
        })
    };
    assert_eq!(chain_of(SIZE).unwrap().unwrap().readable_bytes(), usize::from(SIZE));
    assert_eq!(chain_of(SIZE + 1).unwrap_err(), RingFault::TooManyBuffers);
}

#[test]
fn next_index_out_of_range_needs_reset() {
    for next in [SIZE, 0x7fff, 0xffff] {
        assert_eq!(fault(|queue| queue.set_descriptor(0, DATA, 4, NEXT, next)), RingFault::NextOutOfRange);
    }
}

#[test]
fn head_index_out_of_range_needs_reset() {
    for head in [SIZE, 0xffff] {
        let (_ram, mut queue, mut ring) = setup(0);
        queue.make_available(head);
        assert_eq!(ring.pop().unwrap_err(), RingFault::HeadOutOfRange);
    }
}

#[test]
fn address_beyond_ram_in_a_hole_or_overflowing_needs_reset() {
    let wrong = [
        (testing::END, 1),
        (testing::END - 1, 2),
        (testing::HOLE, 16),
        (testing::HOLE - 8, 16),
        (testing::UPPER - 8, 16),
        // From RAM over the hole into RAM.
        (testing::HOLE - 8, 5 << 20),
        (u64::MAX, 1),
        (u64::MAX - 7, 16),
        (1 << 63, 0xffff_ffff),
    ];
    for (address, bytes) in wrong {
        for flags in [0, WRITE] {
            let found = fault(|queue| queue.set_descriptor(0, address, bytes, flags, 0));
            assert_eq!(found, RingFault::OutsideRam, "{address:#x}+{bytes:#x}");
        }
    }
}

#[test]
fn buffer_inside_the_ring_itself_needs_reset() {
    let (_ram, queue, _ring) = setup(0);
    for part in [queue.descriptors(), queue.available(), queue.used_ring()] {
        for flags in [0, WRITE] {
            let found = fault(|queue| queue.set_descriptor(0, part.0 - 4, 5, flags, 0));
            assert_eq!(found, RingFault::InsideRing);
        }
        assert!(verdict(0, |queue| queue.set_descriptor(0, part.0 - 4, 4, 0, 0)).is_ok());
    }
}

#[test]
fn empty_and_huge_buffers_need_reset() {
    assert_eq!(fault(|queue| queue.set_descriptor(0, DATA, 0, 0, 0)), RingFault::EmptyBuffer);
    assert_eq!(fault(|queue| queue.set_descriptor(0, DATA, u32::MAX, 0, 0)), RingFault::OutsideRam);
}

#[test]
fn chain_of_more_than_four_gib_needs_reset() {
    // Only address space: RAM is not reserved until it is touched.
    let ram = memory::allocate(&[(GuestAddress(0), 5 << 30)]).unwrap();
    let mut queue = GuestQueue::new(&ram, BASE, SIZE);
    let mut ring = queue.ring(0).unwrap();
    queue.offer(&[Buffer::readable(DATA, 0xffff_ffff), Buffer::writable(DATA, 1)]);
    assert_eq!(ring.pop().unwrap_err(), RingFault::TooManyBytes);
}

#[test]
fn readable_after_writable_needs_reset() {
    let found = fault(|queue| {
        queue.set_descriptor(0, DATA, 4, WRITE | NEXT, 1);
        queue.set_descriptor(1, DATA, 4, 0, 0);
    });
    assert_eq!(found, RingFault::WrongOrder);
}

#[test]
fn indirect_chain_reads_like_a_direct_one() {
    let (ram, mut queue, mut ring) = setup(feature::INDIRECT_DESC);
    ram.write_slice(b"abc", GuestAddress(DATA)).unwrap();
    // At an odd address: no alignment is asked of indirect tables.
    let head =
        queue.offer_indirect(DATA + 0x1001, &[Buffer::readable(DATA, 3), Buffer::writable(DATA + 0x100, 9)]);
    let chain = ring.pop().unwrap().unwrap();
    assert_eq!(chain.reader(&ram).read_array::<3>().unwrap(), *b"abc");
    ring.complete(chain, 9).unwrap();
    assert_eq!(queue.used(), [Used { head, written: 9 }]);
}

#[test]
fn indirect_without_the_feature_needs_reset() {
    let found = verdict(feature::EVENT_IDX, |queue| {
        queue.set_indirect(DATA, 0, DATA + 0x100, 4, 0, 0);
        queue.set_descriptor(0, DATA, 16, INDIRECT, 0);
    });
    assert_eq!(found.unwrap_err(), RingFault::IndirectRefused);
}

#[test]
fn nested_indirect_needs_reset() {
    let found = fault(|queue| {
        queue.set_indirect(DATA, 0, DATA, 16, INDIRECT, 0);
        queue.set_descriptor(0, DATA, 16, INDIRECT, 0);
    });
    assert_eq!(found, RingFault::IndirectNested);
}

#[test]
fn malformed_indirect_tables_need_reset() {
    let table = |address, bytes, flags| fault(|queue| queue.set_descriptor(0, address, bytes, flags, 1));
    assert_eq!(table(DATA, 0, INDIRECT), RingFault::IndirectTable);
    assert_eq!(table(DATA, 15, INDIRECT), RingFault::IndirectTable);
    assert_eq!(table(DATA, 24, INDIRECT), RingFault::IndirectTable);
    assert_eq!(table(DATA, 16, INDIRECT | NEXT), RingFault::IndirectTable);
    assert_eq!(table(DATA, 0xffff_fff0, INDIRECT), RingFault::OutsideRam);
    assert_eq!(table(testing::HOLE, 16, INDIRECT), RingFault::OutsideRam);
    assert_eq!(table(u64::MAX - 15, 16, INDIRECT), RingFault::OutsideRam);
    assert_eq!(table(BASE.0, 16, INDIRECT), RingFault::InsideRing);
}

#[test]
fn next_beyond_an_indirect_table_needs_reset() {
    let found = fault(|queue| {
        queue.set_indirect(DATA, 0, DATA + 0x100, 4, NEXT, 1);
        queue.set_indirect(DATA, 1, DATA + 0x100, 4, 0, 0);
        queue.set_descriptor(0, DATA, 16, INDIRECT, 0);
    });
    assert_eq!(found, RingFault::NextOutOfRange);
}

#[test]
fn available_index_that_jumps_or_goes_back_needs_reset() {
    for index in [SIZE + 1, 0x8000, 0xffff] {
        let (_ram, mut queue, mut ring) = setup(feature::EVENT_IDX);
        queue.set_available_index(index);
        assert_eq!(ring.pop().unwrap_err(), RingFault::AvailableIndex, "{index}");
    }
    let (_ram, mut queue, mut ring) = setup(0);
    queue.offer(&[Buffer::readable(DATA, 4)]);
    let chain = ring.pop().unwrap().unwrap();
    ring.complete(chain, 0).unwrap();
    queue.set_available_index(0);
    assert_eq!(ring.pop().unwrap_err(), RingFault::AvailableIndex);
}

#[test]
fn head_offered_twice_at_once_needs_reset() {
    let (_ram, mut queue, mut ring) = setup(0);
    let head = queue.offer(&[Buffer::readable(DATA, 4)]);
    queue.make_available(head);
    let _held = ring.pop().unwrap().unwrap();
    assert_eq!(ring.pop().unwrap_err(), RingFault::DuplicateHead);
}

#[test]
fn descriptors_rewritten_after_the_pop_change_nothing() {
    let (ram, mut queue, mut ring) = setup(0);
    let head = queue.offer(&[Buffer::writable(DATA, 4)]);
    let chain = ring.pop().unwrap().unwrap();
    queue.set_descriptor(head, testing::HOLE, 0xffff_ffff, 0, 0);
    assert_eq!(chain.writer(&ram).write(b"same"), 4);
    assert_eq!(ram.read_obj::<[u8; 4]>(GuestAddress(DATA)).unwrap(), *b"same");
    ring.put_back(chain);
}

#[test]
fn overlapping_buffers_cost_a_list_entry_each_and_no_more() {
    let (ram, mut queue, mut ring) = setup(0);
    let whole = u32::try_from(testing::HOLE - DATA).unwrap();
    queue.offer(&[Buffer::writable(DATA, whole); SIZE as usize]);
    let chain = ring.pop().unwrap().unwrap();
    assert_eq!(chain.writable_bytes(), whole as usize * usize::from(SIZE));
    // Nothing was copied or allocated for them: the pieces are those of guest memory.
    assert_eq!(chain.writer(&ram).slice(usize::MAX).unwrap().len(), whole as usize);
    assert_eq!(chain.into_segments().len(), usize::from(SIZE));
}

#[test]
fn queue_sizes_and_places_that_cannot_be_are_refused() {
    assert!(raw_queue(8, 0x1000, 0x2000, 0x3000).is_ok());
    for (descriptors, available, used) in [
        // Never set.
        (0, 0, 0),
        (0x1000, 0, 0x3000),
        // On top of each other, wholly or by a byte's worth.
        (0x1000, 0x1000, 0x3000),
        (0x1000, 0x2000, 0x2010),
        (0x1000, 0x1000 + 8 * 16 - 2, 0x3000),
        (0x2000 - 8 * 16 + 16, 0x2000, 0x3000),
        // Not wholly RAM.
        (testing::HOLE - 16, 0x2000, 0x3000),
        (0x1000, testing::END - 4, 0x3000),
        (0x1000, 0x2000, testing::HOLE),
        (u64::MAX - 15, 0x2000, 0x3000),
        // Across the seam of two regions.
        (testing::SEAM - 16, 0x2000, 0x3000),
    ] {
        let found = raw_queue(8, descriptors, available, used).unwrap_err();
        assert_eq!(found, RingFault::Setup, "{descriptors:#x} {available:#x} {used:#x}");
    }
    let touching = raw_queue(8, 0x1000, 0x1000 + 8 * 16, 0x3000);
    assert!(touching.is_ok(), "parts may touch");
}

#[test]
fn a_queue_that_is_not_ready_is_refused() {
    let mut queue = Queue::new(8).unwrap();
    queue.set_avail_ring_address(Some(0x2000), None);
    queue.set_used_ring_address(Some(0x3000), None);
    assert_eq!(Ring::new(queue, &testing::ram(), 0).unwrap_err(), RingFault::Setup);
}

proptest! {
    /// Whatever lies in the descriptor table, the rings and the buffers: an answer, in bounded work.
    #[test]
    fn noise_in_the_ring_is_a_chain_or_a_fault(
        noise in prop::collection::vec(any::<(u64, u32, u16, u16)>(), usize::from(SIZE)),
        tame in any::<bool>(),
        heads in prop::collection::vec(0..SIZE + 1, 1..20),
    ) {
        let (ram, mut queue, mut ring) = setup(feature::INDIRECT_DESC | feature::EVENT_IDX);
        for (index, &(address, bytes, flags, next)) in (0u16..).zip(&noise) {
            let (address, bytes, next) =
                if tame { (DATA + address % 64, bytes % 512, next % (SIZE + 1)) } else { (address, bytes, next) };
            queue.set_descriptor(index, address, bytes, flags & 7, next);
            queue.set_indirect(DATA, index, address, bytes, flags & 3, next);
        }
        for head in heads {
            queue.make_available(head);
            match ring.pop() {
                Ok(None) => prop_assert!(false, "a chain was offered"),
                Ok(Some(chain)) => {
                    let (readable, writable) = (chain.readable_bytes(), chain.writable_bytes());
                    prop_assert!(readable + writable > 0);
                    let mut sink = vec![0; readable.min(1 << 16)];
                    prop_assert_eq!(chain.reader(&ram).read(&mut sink), sink.len());
                    prop_assert_eq!(chain.writer(&ram).skip(usize::MAX), writable);
                    ring.complete(chain, 0).unwrap();
                }
                Err(_) => break,
            }
            ring.wants_interrupt().unwrap();
        }
    }

    /// Bytes are the same whatever the shapes of the buffers they pass through.
    #[test]
    fn any_split_of_buffers_carries_the_same_bytes(
        pieces in prop::collection::vec(1u32..700, 1..usize::from(SIZE)),
        steps in prop::collection::vec(1usize..900, 1..30),
    ) {
        let (ram, mut queue, mut ring) = setup(0);
        let mut place = testing::SEAM - 1000;
        let buffers: Vec<Buffer> = pieces
            .iter()
            .map(|&bytes| {
                let buffer = Buffer::writable(place, bytes);
                place += u64::from(bytes) + 5;
                buffer
            })
            .collect();
        queue.offer(&buffers);
        let chain = ring.pop().unwrap().unwrap();
        let total = chain.writable_bytes();
        let message: Vec<u8> = (0..total).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let mut writer = chain.writer(&ram);
        let mut sent = 0;
        for step in steps.into_iter().chain([usize::MAX]) {
            let end = sent + step.min(total - sent);
            prop_assert_eq!(writer.write(&message[sent..end]), end - sent);
            sent = end;
        }
        ring.put_back(chain);
        let mut seen = Vec::new();
        for buffer in buffers {
            let mut bytes = vec![0; buffer.bytes as usize];
            ram.read_slice(&mut bytes, GuestAddress(buffer.address)).unwrap();
            seen.append(&mut bytes);
        }
        prop_assert_eq!(seen, message);
    }
}
