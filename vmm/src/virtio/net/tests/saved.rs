//! A guest that goes on with a card of another process.

use super::*;

impl Guest {
    fn moved(mut self) -> Self {
        let rings = self.card.rings();
        let wire = FakePort::default();
        let limits = Card { mac: Mac([2, 0, 0, 0, 0, 9]), receive: Limit::default(), send: Limit::default() };
        let mut card = NetDevice::new(wire.clone(), limits);
        card.activate(Activation {
            memory: self.ram.clone(),
            rings: vec![
                Some(self.receive.moved(LINUX, rings[0].as_ref())),
                Some(self.send.moved(LINUX, rings[1].as_ref())),
            ],
            features: LINUX,
            interrupt: self.interrupts.clone(),
        });
        card.restore(&self.card.save()).unwrap();
        (self.card, self.wire) = (card, wire);
        self
    }
}

#[test]
fn buffers_that_were_taken_ahead_are_there_for_the_next_frame() {
    let mut guest = Guest::new();
    // A large frame has the card gather several buffers for the next one.
    for _ in 0..6 {
        guest.offer(&[512]);
    }
    guest.wire.wire().to_guest.push_back(frame(1, 1200));
    guest.ring_out(RECEIVE_QUEUE);
    assert_eq!(guest.received().len(), 1);
    let mut guest = guest.moved();
    guest.interrupts.take_changes();
    guest.card.relocated();
    assert_eq!(guest.interrupts.take_changes(), 1, "its address may be another one");
    // It came before the card's first turn, for this guest and nobody else.
    guest.wire.wire().to_guest.push_back(frame(2, 1200));
    guest.ring_out(RECEIVE_QUEUE);
    let frames = guest.received();
    assert_eq!(frames.iter().map(|frame| frame.bytes.len()).collect::<Vec<_>>(), [1212]);
    assert_eq!(guest.receive.free(), 64, "no buffer was lost or used twice");
    let mut address = [0; 6];
    guest.card.read_config(0, &mut address);
    assert_eq!(address, [2, 0, 0, 0, 0, 9]);
}

#[test]
fn what_was_queued_for_sending_is_sent_once() {
    let mut guest = Guest::new();
    guest.queue(&frame(1, 60), &[72]);
    guest.ring_out(SEND_QUEUE);
    guest.wire.wire().full = true;
    guest.queue(&frame(2, 60), &[72]);
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::HostFull);
    let mut guest = guest.moved();
    guest.ring_out(SEND_QUEUE);
    assert_eq!(guest.wire.wire().from_guest, [frame(2, 60)]);
    assert_eq!(guest.send.used().len(), 2);
}
