//! Whatever the shapes of chains: frames in are frames out, in order.

use proptest::prelude::*;

use super::*;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    /// The network has a frame of so many bytes.
    Arrives(usize),
    /// The driver offers a receive chain of these buffers and rings.
    Offers(Vec<u32>),
    /// The driver sends a frame of so many bytes in so many pieces and rings.
    Sends(usize, usize),
    /// The interface is full, or no longer.
    Full(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop_oneof![14usize..2000, 14usize..65_500].prop_map(Event::Arrives),
        8 => proptest::collection::vec(prop_oneof![1u32..40, 500u32..5000], 1..4)
            .prop_filter("room for a header", |sizes| sizes.iter().sum::<u32>() >= 12)
            .prop_map(Event::Offers),
        3 => (14usize..9000, 1usize..8).prop_map(|(bytes, pieces)| Event::Sends(bytes, pieces)),
        1 => any::<bool>().prop_map(Event::Full),
    ]
}

proptest! {
    #[test]
    fn frames_in_are_frames_out(
        events in proptest::collection::vec(event(), 1..80),
        mergeable in any::<bool>(),
    ) {
        let features = if mergeable { LINUX } else { LINUX & !MRG_RXBUF };
        let mut guest = Guest::with(features, 256, Default::default());
        let (mut arrived, mut received) = (Vec::new(), Vec::new());
        let (mut sent, mut seed) = (Vec::new(), 0);
        for event in events {
            seed += 1;
            match event {
                Event::Arrives(bytes) => {
                    arrived.push(frame(seed, bytes));
                    guest.wire.wire().to_guest.push_back(frame(seed, bytes));
                    guest.ring_out(RECEIVE_QUEUE);
                }
                Event::Offers(sizes) if guest.receive.free() >= sizes.len() => {
                    guest.offer(&sizes);
                    guest.ring_out(RECEIVE_QUEUE);
                }
                Event::Sends(bytes, pieces) if guest.send.free() >= pieces => {
                    let whole = frame(seed, bytes);
                    let piece = whole.len() / pieces;
                    let mut sizes = vec![piece; pieces];
                    sizes[0] += whole.len() - piece * pieces;
                    // Past the places of earlier frames, which may not have left yet.
                    let at = 0x20_0000 + (seed as u64 % 80) * 0x3000;
                    guest.ram.write_slice(&whole, GuestAddress(at)).unwrap();
                    let mut from = at;
                    let buffers: Vec<_> = sizes.iter().map(|&bytes| {
                        from += bytes as u64;
                        Buffer::readable(from - bytes as u64, u32::try_from(bytes).unwrap())
                    }).collect();
                    guest.send.offer(&buffers);
                    sent.push(whole);
                }
                Event::Full(full) => guest.wire.wire().full = full,
                Event::Offers(_) | Event::Sends(..) => {}
            }
            guest.ring_out(SEND_QUEUE);
            guest.send.used();
            received.extend(guest.received().into_iter().map(|frame| frame.bytes));
        }
        guest.wire.wire().full = false;
        guest.ring_out(SEND_QUEUE);
        prop_assert!(guest.wire.wire().from_guest == sent, "what was sent left, in order");
        // Buffers without end: all arrives that was not dropped for want of them.
        let dropped = |guest: &Guest| usize::try_from(guest.counter("receive_dropped")).unwrap();
        for _ in 0..200 {
            if received.len() + dropped(&guest) == arrived.len() {
                break;
            }
            while guest.receive.free() > 0 {
                guest.offer(&[4000]);
            }
            guest.ring_out(RECEIVE_QUEUE);
            received.extend(guest.received().into_iter().map(|frame| frame.bytes));
        }
        prop_assert_eq!(received.len() + dropped(&guest), arrived.len());
        // In order, and none that was not sent.
        let mut rest = arrived.iter();
        prop_assert!(received.iter().all(|frame| rest.any(|other| other == frame)));
        // So few events that the device never holds the whole ring, which would be a reason to drop.
        if mergeable {
            prop_assert_eq!(dropped(&guest), 0);
        }
    }
}
