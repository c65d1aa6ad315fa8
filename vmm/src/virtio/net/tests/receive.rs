//! Frames for the guest.

use std::time::Duration;

use super::*;
use crate::rate::Bucket;

fn offer_many(guest: &mut Guest, count: usize, bytes: u32) {
    for _ in 0..count {
        guest.offer(&[bytes]);
    }
}

#[test]
fn a_short_frame_takes_one_read_and_one_buffer() {
    let mut guest = Guest::new();
    offer_many(&mut guest, 8, 1526);
    for seed in 0..3 {
        guest.wire.wire().to_guest.push_back(frame(seed, 60));
    }
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    let expected: Vec<_> = (0..3).map(|seed| Received { bytes: frame(seed, 60), chains: 1 }).collect();
    assert_eq!(guest.received(), expected);
    assert_eq!(guest.wire.wire().reads, 4, "one each, and one that found nothing");
    assert_eq!(guest.interrupts.take(), [RECEIVE_QUEUE], "one for all");
    assert_eq!((guest.counter("received_frames"), guest.counter("received_bytes")), (3, 180));
}

#[test]
fn a_long_frame_lies_over_several_chains_and_the_next_one_is_not_copied() {
    let mut guest = Guest::new();
    for _ in 0..10 {
        guest.offer(&[1000, 3000]);
    }
    guest.wire.wire().to_guest.extend([frame(1, 10_000), frame(2, 10_000)]);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    let expected = [1, 2].map(|seed| Received { bytes: frame(seed, 10_000), chains: 3 });
    assert_eq!(guest.received(), expected);
    assert_eq!(guest.counter("received_bytes_copied"), 10_012 - 4000, "of the first, which nobody expected");
}

#[test]
fn without_mergeable_buffers_a_frame_too_long_for_its_buffer_is_dropped_and_the_next_passes() {
    let mut guest = Guest::with(LINUX & !MRG_RXBUF, 64, Default::default());
    offer_many(&mut guest, 4, 1526);
    guest.wire.wire().to_guest.extend([frame(1, 1515), frame(2, 1514)]);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), [Received { bytes: frame(2, 1514), chains: 1 }]);
    assert_eq!(guest.receive.free(), 61, "three buffers are still the device's");
    assert_eq!(guest.counter("receive_dropped"), 1);
}

#[test]
fn a_guest_without_buffers_leaves_frames_where_they_are_and_its_doorbell_goes_on() {
    let mut guest = Guest::new();
    // The interface's queue is as full as the ring is empty.
    guest.wire.wire().to_guest.extend((0..1000).map(|seed| frame(seed, 900)));
    for _ in 0..5 {
        assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    }
    assert_eq!(guest.wire.wire().reads, 0, "left alone");
    let mut seeds = 0..1000;
    while !guest.wire.wire().to_guest.is_empty() {
        offer_many(&mut guest, 60, 1526);
        guest.ring_out(RECEIVE_QUEUE);
        for received in guest.received() {
            assert_eq!(received.bytes, frame(seeds.next().unwrap(), 900));
        }
    }
    assert_eq!(seeds.next(), None);
    assert_eq!(guest.counter("receive_dropped"), 0);
}

#[test]
fn a_frame_waits_for_the_rest_of_its_buffers() {
    let mut guest = Guest::new();
    offer_many(&mut guest, 2, 1000);
    guest.wire.wire().to_guest.extend([frame(1, 4500), frame(2, 100)]);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    offer_many(&mut guest, 1, 1000);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), [], "none of it is shown before all of it is there");
    assert!(guest.interrupts.take().is_empty());
    offer_many(&mut guest, 3, 1000);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    let expected =
        [Received { bytes: frame(1, 4500), chains: 5 }, Received { bytes: frame(2, 100), chains: 1 }];
    assert_eq!(guest.received(), expected);
    assert_eq!(guest.counter("receive_dropped"), 0);
}

#[test]
fn a_frame_longer_than_the_whole_ring_is_dropped_and_receiving_recovers() {
    let mut guest = Guest::with(LINUX, 8, Default::default());
    for _ in 0..4 {
        guest.offer(&[500, 500]);
    }
    guest.wire.wire().to_guest.extend([frame(1, 4000), frame(2, 3000), frame(3, 60)]);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), [Received { bytes: frame(2, 3000), chains: 4 }]);
    assert_eq!(guest.counter("receive_dropped"), 1);
    guest.offer(&[500, 500]);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), [Received { bytes: frame(3, 60), chains: 1 }]);
}

#[test]
fn a_driver_that_never_gives_the_rest_loses_one_frame_and_not_the_others() {
    let mut guest = Guest::new();
    offer_many(&mut guest, 2, 1000);
    guest.wire.wire().to_guest.extend([frame(1, 4500), frame(2, 100)]);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    guest.now += Duration::from_millis(999);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), []);
    guest.now += Duration::from_millis(1);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), [Received { bytes: frame(2, 100), chains: 1 }]);
    assert_eq!(guest.counter("receive_dropped"), 1);
}

#[test]
fn buffers_that_are_none_are_given_back_empty_and_the_frame_goes_to_the_next() {
    let mut guest = Guest::new();
    guest.receive.offer(&[Buffer::readable(SENT_AT, 2000)]);
    guest.receive.offer(&[Buffer::readable(SENT_AT, 20), Buffer::writable(ROOM_AT, 2000)]);
    guest.receive.offer(&[Buffer::writable(ROOM_AT, 11)]);
    guest.offer(&[12]);
    guest.receive.offer(&[Buffer::writable(ROOM_AT, 11)]);
    guest.offer(&[5, 7, 2000]);
    guest.wire.wire().to_guest.push_back(frame(1, 600));
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    let used = guest.receive.used();
    assert_eq!(used.iter().map(|entry| entry.written).collect::<Vec<_>>(), [0, 0, 0, 0, 12, 600]);
    let mut bytes = guest.content(used[4].head, 12);
    assert_eq!(bytes[10..12], [2, 0]);
    bytes.extend(guest.content(used[5].head, 600));
    assert_eq!(bytes[12..], frame(1, 600)[12..]);
    assert_eq!(guest.counter("receive_refused"), 4);
}

#[test]
fn a_frame_longer_than_any_is_dropped_and_counted() {
    let mut guest = Guest::new();
    offer_many(&mut guest, 60, 4096);
    let longest = 65_535 + 14 + 8;
    guest.wire.wire().to_guest.extend([frame(1, 200_000), frame(2, longest), frame(3, 60)]);
    guest.ring_out(RECEIVE_QUEUE);
    let received = guest.received();
    assert_eq!(received.len(), 2);
    assert!(received[0].bytes == frame(2, longest), "the longest arrives as it is");
    assert_eq!(received[1].bytes, frame(3, 60));
    assert_eq!(guest.counter("receive_dropped"), 1);
}

#[test]
fn frames_from_before_the_driver_are_not_for_it() {
    let mut guest = Guest::new();
    guest.wire.wire().to_guest.extend((0..300).map(|seed| frame(seed, 60)));
    guest.card.reset();
    guest.receive = GuestQueue::new(&guest.ram, GuestAddress(0x1_0000), 64);
    guest.send = GuestQueue::new(&guest.ram, GuestAddress(0x2_0000), 64);
    guest.activate(LINUX);
    offer_many(&mut guest, 4, 1526);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::More, "a turn is bounded");
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), []);
    assert_eq!(guest.counter("receive_dropped"), 300);
    guest.wire.wire().to_guest.push_back(frame(7, 60));
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), [Received { bytes: frame(7, 60), chains: 1 }]);
}

#[test]
fn a_reset_forgets_a_frame_that_waited() {
    let mut guest = Guest::new();
    offer_many(&mut guest, 1, 1000);
    guest.wire.wire().to_guest.push_back(frame(1, 3000));
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    guest.card.reset();
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    guest.receive = GuestQueue::new(&guest.ram, GuestAddress(0x1_0000), 64);
    guest.activate(LINUX);
    offer_many(&mut guest, 8, 1000);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), []);
}

#[test]
fn a_guest_that_knows_no_flags_sees_none() {
    for (features, flags) in [(LINUX, 2), (LINUX & !offload::GUEST_CSUM, 0)] {
        let mut guest = Guest::with(features, 8, Default::default());
        guest.offer(&[2000]);
        let mut valid = frame(1, 60);
        valid[0] = 2;
        guest.wire.wire().to_guest.push_back(valid);
        assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
        assert_eq!(guest.received()[0].bytes[0], flags);
    }
}

#[test]
fn a_limit_holds_one_frame_and_leaves_the_others_to_the_host() {
    let limit = Limit::new(Some(Bucket::new(1000, 1000)), None);
    let mut guest = Guest::with(LINUX, 64, (limit, Limit::default()));
    offer_many(&mut guest, 8, 2000);
    guest.wire.wire().to_guest.extend((0..4).map(|seed| frame(seed, 500)));
    let start = guest.now;
    let half = Duration::from_millis(500);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Until(start + half));
    assert_eq!(guest.received().len(), 2);
    assert_eq!(guest.interrupts.take(), [RECEIVE_QUEUE], "what passed is told");
    assert_eq!(guest.wire.wire().to_guest.len(), 1, "the third is in hand");
    guest.now = start + half;
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Until(start + 2 * half));
    assert_eq!(guest.received(), [Received { bytes: frame(2, 500), chains: 1 }]);
    guest.now = start + 2 * half;
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), [Received { bytes: frame(3, 500), chains: 1 }]);
    assert_eq!(guest.counter("receive_dropped"), 0);
}

#[test]
fn an_interface_that_fails_is_counted_and_not_asked_again_in_the_same_turn() {
    let mut guest = Guest::new();
    offer_many(&mut guest, 8, 2000);
    guest.wire.wire().broken = true;
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.wire.wire().reads, 1);
    assert_eq!(guest.counter("receive_errors"), 1);
    guest.wire.wire().broken = false;
    guest.wire.wire().to_guest.push_back(frame(1, 60));
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received().len(), 1);
}

#[test]
fn a_flood_is_taken_in_turns() {
    let mut guest = Guest::new();
    for _ in 0..60 {
        guest.offer(&[60_000]);
    }
    guest.wire.wire().to_guest.extend((0..40).map(|seed| frame(seed, 59_000)));
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::More);
    let first = guest.received().len();
    assert!(first * 59_000 <= (1 << 20) + 59_000, "{first} frames");
    guest.ring_out(RECEIVE_QUEUE);
    assert_eq!(first + guest.received().len(), 40);
}
