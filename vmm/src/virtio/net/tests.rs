//! A guest and a network around the card, in memory.

mod interface;
mod model;
mod receive;
mod saved;
mod send;

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use hearth_config::vm::Mac;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::GuestRam;
use crate::rate::Limit;
use crate::virtio::device::{Activation, Backlog, VirtioDevice};
use crate::virtio::feature;
use crate::virtio::rings::{GuestSlice, RingFault};
use crate::virtio::testing::{self, Buffer, GuestQueue, Interrupts};

const HEADER: usize = 12;
const MRG_RXBUF: u64 = 1 << 15;
/// What Linux accepts.
const LINUX: u64 = offload::ALWAYS | MRG_RXBUF | feature::VERSION_1 | feature::EVENT_IDX;
/// Where the guest keeps what it sends.
const SENT_AT: u64 = 0x10_0000;
/// Where its receive buffers are.
const ROOM_AT: u64 = testing::UPPER;

/// The network: frames with their headers.
#[derive(Debug, Default)]
struct Wire {
    to_guest: VecDeque<Vec<u8>>,
    from_guest: Vec<Vec<u8>>,
    /// How often the card tried to read.
    reads: usize,
    full: bool,
    broken: bool,
    agreed: Option<Offloads>,
    /// How often the card told what was agreed on.
    settings: usize,
}

#[derive(Debug, Clone, Default)]
struct FakePort(Arc<Mutex<Wire>>);

impl FakePort {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }
}

impl Port for FakePort {
    fn offers(&self) -> u64 {
        offload::ALWAYS | offload::UDP
    }

    fn mtu(&self) -> Option<u16> {
        Some(1500)
    }

    fn agree(&mut self, offloads: Offloads) -> io::Result<()> {
        let mut wire = self.wire();
        wire.agreed = Some(offloads);
        wire.settings += 1;
        Ok(())
    }

    fn send(&mut self, pieces: &Pieces<'_>) -> io::Result<usize> {
        let mut wire = self.wire();
        if wire.broken {
            return Err(io::Error::from_raw_os_error(5));
        }
        if wire.full {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut frame = Vec::new();
        for piece in pieces {
            let mut bytes = vec![0; piece.len()];
            piece.copy_to(&mut bytes);
            frame.extend(bytes);
        }
        wire.from_guest.push(frame);
        Ok(wire.from_guest.last().unwrap().len())
    }

    /// As a TAP does: one frame, and what does not fit is lost without a word, unless it is the header.
    fn receive(&mut self, pieces: &Pieces<'_>) -> io::Result<usize> {
        let mut wire = self.wire();
        wire.reads += 1;
        if wire.broken {
            return Err(io::Error::from_raw_os_error(77));
        }
        let frame = wire.to_guest.pop_front().ok_or(ErrorKind::WouldBlock)?;
        if pieces.iter().map(GuestSlice::len).sum::<usize>() < HEADER {
            return Err(ErrorKind::InvalidInput.into());
        }
        let mut left = &frame[..];
        for piece in pieces {
            let (here, rest) = left.split_at(left.len().min(piece.len()));
            piece.copy_from(here);
            left = rest;
        }
        Ok(frame.len() - left.len())
    }
}

/// The guest's side of both queues.
struct Driver {
    ram: GuestRam,
    receive: GuestQueue,
    send: GuestQueue,
    /// The buffers of each chain in the receive queue, by its head.
    rooms: HashMap<u16, Vec<Buffer>>,
    next_room: u64,
}

/// A guest and its network.
struct Guest {
    driver: Driver,
    wire: FakePort,
    card: NetDevice<FakePort>,
    interrupts: Arc<Interrupts>,
    now: Instant,
}

/// A frame as the guest got it.
#[derive(Debug, PartialEq, Eq)]
struct Received {
    bytes: Vec<u8>,
    chains: u16,
}

impl Driver {
    fn new(size: u16) -> Self {
        let ram = testing::ram();
        Self {
            receive: GuestQueue::new(&ram, GuestAddress(0x1_0000), size),
            send: GuestQueue::new(&ram, GuestAddress(0x2_0000), size),
            rooms: HashMap::new(),
            next_room: ROOM_AT,
            ram,
        }
    }

    /// Offers a chain of buffers of these sizes, each next to the last.
    fn offer(&mut self, sizes: &[u32]) {
        let buffers: Vec<_> = sizes
            .iter()
            .map(|&bytes| {
                if self.next_room + u64::from(bytes) > testing::END {
                    self.next_room = ROOM_AT;
                }
                let buffer = Buffer::writable(self.next_room, bytes);
                self.next_room += u64::from(bytes);
                buffer
            })
            .collect();
        let head = self.receive.offer(&buffers);
        self.rooms.insert(head, buffers);
    }

    fn content(&mut self, head: u16, written: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for buffer in self.rooms.remove(&head).unwrap() {
            let mut part = vec![0; buffer.bytes as usize];
            self.ram.read_slice(&mut part, GuestAddress(buffer.address)).unwrap();
            bytes.extend(part);
        }
        bytes.truncate(written as usize);
        bytes
    }

    /// What the guest finds in its receive queue, put together by the headers.
    fn received(&mut self) -> Vec<Received> {
        let mut frames = Vec::new();
        let mut used = VecDeque::from(self.receive.used());
        while let Some(first) = used.pop_front() {
            let mut bytes = self.content(first.head, first.written);
            if bytes.is_empty() {
                continue;
            }
            let chains = u16::from_le_bytes([bytes[10], bytes[11]]);
            bytes[10..12].fill(0);
            for _ in 1..chains {
                let next = used.pop_front().expect("a frame's chains come together");
                bytes.extend(self.content(next.head, next.written));
            }
            frames.push(Received { bytes, chains });
        }
        frames
    }

    /// Offers a frame for sending, from buffers of these sizes.
    fn queue(&mut self, frame: &[u8], sizes: &[usize]) {
        let at = SENT_AT + self.send.free() as u64 * 0x1000;
        self.ram.write_slice(frame, GuestAddress(at)).unwrap();
        let mut from = at;
        let buffers: Vec<_> = sizes
            .iter()
            .map(|&bytes| {
                let buffer = Buffer::readable(from, u32::try_from(bytes).unwrap());
                from += bytes as u64;
                buffer
            })
            .collect();
        assert_eq!(from, at + frame.len() as u64);
        self.send.offer(&buffers);
    }
}

impl std::ops::Deref for Guest {
    type Target = Driver;
    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl std::ops::DerefMut for Guest {
    fn deref_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

impl Guest {
    fn with(features: u64, size: u16, limits: (Limit, Limit)) -> Self {
        let wire = FakePort::default();
        let card = Card { mac: Mac([2, 0, 0, 0, 0, 7]), receive: limits.0, send: limits.1 };
        let mut guest = Self {
            driver: Driver::new(size),
            card: NetDevice::new(wire.clone(), card),
            wire,
            interrupts: Arc::default(),
            now: Instant::now(),
        };
        guest.activate(features);
        assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done, "the first turn looks for old frames");
        guest.wire.wire().reads = 0;
        guest
    }

    fn new() -> Self {
        Self::with(LINUX, 64, Default::default())
    }

    fn activate(&mut self, features: u64) {
        self.card.activate(Activation {
            memory: self.ram.clone(),
            rings: vec![Some(self.receive.ring(features).unwrap()), Some(self.send.ring(features).unwrap())],
            features,
            interrupt: self.interrupts.clone(),
        });
    }

    fn try_ring(&mut self, queue: usize) -> Result<Backlog, RingFault> {
        self.card.notify(queue, self.now)
    }

    fn ring(&mut self, queue: usize) -> Backlog {
        self.try_ring(queue).unwrap()
    }

    /// Rings until nothing is left to do.
    fn ring_out(&mut self, queue: usize) {
        while self.ring(queue) == Backlog::More {}
    }

    fn counter(&self, name: &str) -> u64 {
        let mut found = None;
        self.card.counters(&mut |counter, value| {
            if counter == name {
                assert_eq!(found.replace(value), None, "a name twice");
            }
        });
        found.unwrap()
    }
}

/// A frame of `bytes` bytes after an empty header, different for each `seed`.
fn frame(seed: usize, bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend((0..bytes).map(|place| u8::try_from((place * 7 + place / 251 + seed * 31) % 256).unwrap()));
    frame
}

#[test]
fn the_configuration_space_has_address_and_mtu_and_an_end() {
    let guest = Guest::new();
    let mut all = [0xaa; 16];
    guest.card.read_config(0, &mut all);
    assert_eq!(all, [2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0xdc, 5, 0xaa, 0xaa, 0xaa, 0xaa]);
    for offset in [12, 1000, u64::MAX] {
        let mut byte = [0xaa];
        guest.card.read_config(offset, &mut byte);
        assert_eq!(byte, [0xaa]);
    }
    assert_eq!(guest.card.features(), offload::ALWAYS | offload::UDP | MRG_RXBUF | 1 << 5 | 1 << 3);
}

#[test]
fn the_interface_is_told_what_the_guest_agreed_to() {
    let guest = Guest::with(offload::GUEST_CSUM | offload::GUEST_TSO4, 8, Default::default());
    assert_eq!(guest.wire.wire().agreed, Some(Offloads::agreed(offload::GUEST_CSUM | offload::GUEST_TSO4)));
}

#[test]
fn drivers_that_come_and_go_set_the_interface_anew_only_for_something_else_and_at_a_pace() {
    let mut guest = Guest::new();
    let starts = |guest: &mut Guest, features: u64| {
        guest.card.reset();
        guest.activate(features);
        let turn = guest.ring(RECEIVE_QUEUE);
        assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done, "what is sent waits for nothing");
        turn
    };
    for _ in 0..100 {
        assert_eq!(starts(&mut guest, LINUX), Backlog::Done);
        assert_eq!(starts(&mut guest, LINUX & !offload::HOST_TSO4), Backlog::Done, "none of its business");
    }
    assert_eq!(guest.wire.wire().settings, 1);
    let mut turn = Backlog::Done;
    for round in 0..100 {
        turn = starts(&mut guest, if round % 2 == 0 { LINUX & !offload::GUEST_TSO4 } else { LINUX });
    }
    assert_eq!(guest.wire.wire().settings, 8, "at once");
    let Backlog::Until(time) = turn else { panic!("{turn:?}") };
    // The last driver agreed to all, and what stands is what another one did.
    guest.wire.wire().to_guest.push_back(frame(1, 60));
    guest.offer(&[1526]);
    assert_eq!(guest.ring(RECEIVE_QUEUE), turn);
    assert!(guest.received().is_empty());
    guest.now = time;
    let linux_s = Offloads::agreed(LINUX).left_to_guest();
    let before = guest.wire.wire().agreed;
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!((before == Some(linux_s), guest.wire.wire().agreed), (false, Some(linux_s)));
    guest.wire.wire().to_guest.push_back(frame(2, 60));
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(
        guest.received(),
        [Received { bytes: frame(2, 60), chains: 1 }],
        "the one before was another's"
    );
}

#[test]
fn a_ring_that_breaks_is_reported_and_gone() {
    for queue in [RECEIVE_QUEUE, SEND_QUEUE] {
        let mut guest = Guest::new();
        guest.wire.wire().to_guest.push_back(frame(0, 60));
        if queue == SEND_QUEUE { &mut guest.send } else { &mut guest.receive }.make_available(99);
        assert_eq!(guest.try_ring(queue), Err(RingFault::HeadOutOfRange));
        assert_eq!(guest.ring(queue), Backlog::Done, "nothing left to work on");
    }
}

#[test]
fn a_full_interface_and_a_guest_without_buffers_at_once_stop_neither_way_for_good() {
    let mut guest = Guest::new();
    guest.wire.wire().full = true;
    guest.wire.wire().to_guest.extend([frame(1, 60), frame(2, 60)]);
    guest.queue(&frame(3, 60), &[HEADER + 60]);
    for _ in 0..3 {
        assert_eq!(guest.ring(SEND_QUEUE), Backlog::HostFull);
        assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    }
    guest.offer(&[1526]);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), [Received { bytes: frame(1, 60), chains: 1 }], "while nothing can leave");
    guest.wire.wire().full = false;
    assert_eq!(guest.ring(SEND_QUEUE), Backlog::Done);
    assert_eq!(guest.wire.wire().from_guest, [frame(3, 60)]);
    guest.offer(&[1526]);
    assert_eq!(guest.ring(RECEIVE_QUEUE), Backlog::Done);
    assert_eq!(guest.received(), [Received { bytes: frame(2, 60), chains: 1 }]);
}

#[test]
fn a_card_whose_driver_left_a_queue_out_has_no_turns_for_it() {
    let mut guest = Guest::new();
    let interrupt = guest.interrupts.clone();
    let rings = vec![None, None];
    guest.card.activate(Activation { memory: guest.ram.clone(), rings, features: LINUX, interrupt });
    for queue in [RECEIVE_QUEUE, SEND_QUEUE, 7] {
        assert_eq!(guest.ring(queue), Backlog::Done);
    }
}
