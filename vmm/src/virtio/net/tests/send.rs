//! Frames from the guest.

use std::time::Duration;

use super::*;
use crate::rate::Bucket;
use crate::virtio::testing::Used;

#[test]
fn a_frame_in_pieces_is_one_write() {
    let mut guest = Guest::new();
    guest.queue(&frame(1, 1000), &[1012]);
    guest.queue(&frame(2, 1000), &[12, 14, 986]);
    guest.queue(&frame(3, 1000), &[5, 9, 998]);
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    assert_eq!(guest.wire.wire().from_guest, [frame(1, 1000), frame(2, 1000), frame(3, 1000)]);
    assert_eq!(guest.send.used().len(), 3);
    assert_eq!(guest.interrupts.take(), [SEND_QUEUE], "one for all");
    assert_eq!((guest.counter("sent_frames"), guest.counter("sent_bytes")), (3, 3000));
}

#[test]
fn the_header_that_leaves_is_the_checked_one() {
    let mut guest = Guest::new();
    let mut large = frame(1, 5000);
    large[..12].copy_from_slice(&[0xff, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0xff, 0xff]);
    guest.queue(&large, &[12, 5000]);
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    large[..12].copy_from_slice(&[1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0]);
    assert_eq!(guest.wire.wire().from_guest, [large]);
}

#[test]
fn what_is_no_frame_is_given_back_and_counted_and_the_next_goes_out() {
    let mut guest = Guest::new();
    guest.queue(&[0; 11], &[11]);
    guest.queue(&[0; 12], &[12]);
    guest.queue(&frame(0, 13), &[25]);
    guest.send.offer(&[Buffer::readable(SENT_AT, 100), Buffer::writable(ROOM_AT, 100)]);
    guest.send.offer(&[Buffer::writable(ROOM_AT, 100)]);
    guest.send.offer(&[Buffer::readable(0x20_0000, 12 + 65_535 + 14 + 8 + 1)]);
    // Nearly 4 GiB, all of it the same two megabytes.
    guest.send.offer(&[Buffer::readable(0x20_0000, 2 << 20); 30]);
    let mut lie = frame(0, 100);
    lie[0] = 1;
    lie[6] = 99;
    guest.queue(&lie, &[112]);
    guest.queue(&frame(1, 14), &[26]);
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    assert_eq!(guest.wire.wire().from_guest, [frame(1, 14)]);
    assert!(guest.send.used().iter().all(|&Used { written, .. }| written == 0));
    assert_eq!(guest.send.free(), 64, "all of them");
    assert_eq!(guest.counter("send_refused"), 8);
}

#[test]
fn a_full_interface_keeps_the_frame_in_the_ring_until_it_has_room() {
    // A limit that the second frame would break if the first were counted twice.
    let limit = Limit::new(None, Some(Bucket::new(1, 2)));
    let mut guest = Guest::with(LINUX, 64, (Limit::default(), limit));
    guest.queue(&frame(1, 60), &[72]);
    guest.queue(&frame(2, 60), &[72]);
    guest.wire.wire().full = true;
    for _ in 0..3 {
        assert_eq!(guest.ring(SEND_QUEUE), Backlog::HostFull);
    }
    assert_eq!(guest.send.used(), []);
    assert!(guest.interrupts.take().is_empty());
    guest.wire.wire().full = false;
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    assert_eq!(guest.wire.wire().from_guest, [frame(1, 60), frame(2, 60)]);
    assert_eq!(guest.send.used().len(), 2);
}

#[test]
fn a_frame_that_the_host_refuses_is_lost_and_counted() {
    let mut guest = Guest::new();
    guest.queue(&frame(1, 60), &[72]);
    guest.wire.wire().broken = true;
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    guest.wire.wire().broken = false;
    guest.queue(&frame(2, 60), &[72]);
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    assert_eq!(guest.wire.wire().from_guest, [frame(2, 60)]);
    assert_eq!((guest.counter("send_errors"), guest.counter("sent_frames")), (1, 1));
    assert_eq!(guest.send.used().len(), 2);
}

#[test]
fn a_driver_that_never_stops_is_served_in_turns() {
    let mut guest = Guest::new();
    for seed in 0..64 {
        guest.queue(&frame(seed, 60), &[72]);
    }
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::More, "as many chains as the ring has");
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    assert_eq!(guest.send.used().len(), 64);
    // The longest frames, all in the same place: bytes are bounded, too.
    for _ in 0..30 {
        guest.send.offer(&[Buffer::readable(0x20_0000, 12), Buffer::readable(0x20_1000, 65_000)]);
    }
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::More);
    assert_eq!(guest.send.used().len(), 17, "a mebibyte and the rest of a frame");
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    assert_eq!(guest.send.used().len(), 13);
}

#[test]
fn limits_of_bytes_and_of_frames_hold_and_outlive_a_reset() {
    for limit in [Limit::new(Some(Bucket::new(1000, 1000)), None), Limit::new(None, Some(Bucket::new(2, 2)))]
    {
        let mut guest = Guest::with(LINUX, 64, (Limit::default(), limit));
        for seed in 0..3 {
            guest.queue(&frame(seed, 500), &[512]);
        }
        let half = Duration::from_millis(500);
        assert_eq!(guest.ring(SEND_QUEUE), Backlog::Until(guest.now + half));
        assert_eq!(guest.interrupts.take(), [SEND_QUEUE], "what passed is told");
        assert_eq!(guest.send.used().len(), 2);
        guest.card.reset();
        guest.send = GuestQueue::new(&guest.ram, GuestAddress(0x2_0000), 64);
        guest.activate(LINUX);
        guest.queue(&frame(2, 500), &[512]);
        assert_eq!(guest.ring(SEND_QUEUE), Backlog::Until(guest.now + half));
        guest.now += half;
        assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
        assert_eq!(guest.wire.wire().from_guest.len(), 3);
    }
}

#[test]
fn a_chain_as_long_as_the_longest_queue_is_one_frame() {
    let mut guest = Guest::with(LINUX, 256, Default::default());
    let sizes = [&[12][..], &[4; 255]].concat();
    let large = frame(3, 4 * 255);
    guest.ram.write_slice(&large, GuestAddress(SENT_AT)).unwrap();
    guest.queue(&large, &sizes);
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    assert_eq!(guest.wire.wire().from_guest, [large]);
}

#[test]
fn more_pieces_than_a_call_takes_are_refused_both_ways() {
    let mut guest = Guest::with(LINUX, 256, Default::default());
    // Every buffer lies across the seam between two regions and is two pieces.
    let mut buffers = vec![Buffer::readable(testing::SEAM - 20, 40); 200];
    guest.send.offer(&buffers);
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    assert_eq!((guest.send.used().len(), guest.counter("send_errors")), (1, 1));
    for buffer in &mut buffers {
        buffer.writable = true;
    }
    guest.receive.offer(&buffers);
    guest.wire.wire().to_guest.push_back(frame(1, 60));
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!((guest.receive.used().len(), guest.counter("receive_refused")), (1, 1));
    guest.offer(&[2000]);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received().len(), 1);
}
