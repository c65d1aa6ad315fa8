//! The network card between a guest whose headers lie and a network that is full, broken, or talks without end.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_config::vm::Mac;
use hearth_vmm::rate::Limit;
use hearth_vmm::virtio::net::{Card, NetDevice, Offloads, Port, offload};
use hearth_vmm::virtio::rings::GuestSlice;
use hearth_vmm::virtio::vectored::Pieces;

use crate::guest::{self, Guest, Piece, Play};
use crate::wild::Wild;

const RECEIVE: usize = 0;
const SEND: usize = 1;
/// Bytes of the header before each frame.
const HEADER: usize = 12;
/// Bytes of the longest frame: an IP packet, Ethernet, two VLAN tags.
const LONGEST: usize = 65_535 + 14 + 8;
/// Frames that wait in the host's queue, at most: a TAP drops the others.
const QUEUED: usize = 64;

#[derive(Debug, Default)]
struct Wire {
    to_guest: VecDeque<Vec<u8>>,
    sent: usize,
    full: bool,
    broken: bool,
}

#[derive(Debug, Clone, Default)]
struct Tap(Arc<Mutex<Wire>>);

impl Tap {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel would take at its word.
fn check_header(header: &[u8], frame: usize) {
    let word = |at: usize| usize::from(header[at]) | usize::from(header[at + 1]) << 8;
    let [flags, gso] = [header[0], header[1]];
    assert!(flags & !1 == 0 && word(10) == 0, "no bit of a header means nothing");
    if flags == 0 {
        assert_eq!(header, [0; HEADER], "a frame that asks for nothing has an empty header");
    } else {
        assert!(word(6) + word(8) + 2 <= frame, "the checksum is in the frame");
    }
    if gso != 0 {
        assert!(flags == 1 && word(4) > 0 && word(2) <= frame, "segments can be");
    }
}

impl Port for Tap {
    fn offers(&self) -> u64 {
        offload::ALWAYS | offload::UDP
    }

    fn mtu(&self) -> Option<u16> {
        Some(1500)
    }

    fn agree(&mut self, _offloads: Offloads) -> io::Result<()> {
        if self.wire().broken { Err(io::Error::from_raw_os_error(77)) } else { Ok(()) }
    }

    fn send(&mut self, frame: &Pieces<'_>) -> io::Result<usize> {
        let mut bytes = Vec::new();
        for piece in frame {
            let mut part = vec![0; piece.len()];
            piece.copy_to(&mut part[..]);
            bytes.extend(part);
        }
        let length = bytes.len().checked_sub(HEADER).expect("every frame has a header");
        assert!((14..=LONGEST).contains(&length), "frames are as long as frames are");
        check_header(&bytes[..HEADER], length);
        let mut wire = self.wire();
        if wire.broken {
            return Err(io::Error::from_raw_os_error(5));
        }
        if wire.full {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.sent += 1;
        Ok(bytes.len())
    }

    fn receive(&mut self, room: &Pieces<'_>) -> io::Result<usize> {
        assert!(room.iter().map(GuestSlice::len).sum::<usize>() >= HEADER, "there is room for a header");
        let mut wire = self.wire();
        if wire.broken {
            return Err(io::Error::from_raw_os_error(77));
        }
        let frame = wire.to_guest.pop_front().ok_or(ErrorKind::WouldBlock)?;
        let mut left = &frame[..];
        for piece in room {
            let (here, rest) = left.split_at(left.len().min(piece.len()));
            piece.copy_from(here);
            left = rest;
        }
        Ok(frame.len() - left.len())
    }
}

struct Net {
    tap: Tap,
    limits: [Limit; 2],
}

impl Play for Net {
    type Model = NetDevice<Tap>;

    fn model(&mut self) -> Self::Model {
        let [receive, send] = self.limits.clone();
        NetDevice::new(self.tap.clone(), Card { mac: Mac([2, 0, 0, 0, 0, 1]), receive, send })
    }

    fn request(&mut self, queue: usize, wild: &mut Wild<'_>) -> Vec<Piece> {
        if queue == RECEIVE {
            let room = match wild.byte() % 8 {
                0 => wild.odd32() & 0x1_ffff,
                1 | 2 => 65_562,
                3 => 12,
                _ => 1526,
            };
            return vec![Piece::In(room.max(1))];
        }
        let mut header = vec![0; HEADER];
        if wild.one_in(2) {
            header[0] = wild.byte() & 3;
            header[1] = wild.pick(&[0, 1, 4, 5, 0x81, 0x84, 3]);
            for field in header[2..].chunks_exact_mut(2) {
                let value = if wild.one_in(4) { wild.odd16() } else { u16::from(wild.byte()) };
                field.copy_from_slice(&value.to_le_bytes());
            }
        }
        if wild.one_in(20) {
            header.truncate(wild.index(HEADER));
        }
        let frame = match wild.byte() % 8 {
            0 => wild.index(16),
            1 => wild.index(LONGEST + 20),
            _ => 60 + wild.index(1455),
        };
        vec![Piece::Out(header), Piece::Out(vec![0xf7; frame])]
    }

    fn host(&mut self, guest: &mut Guest<Self::Model>, wild: &mut Wild<'_>) {
        let what = wild.byte() % 8;
        match what {
            0 => self.tap.wire().full = wild.one_in(2),
            1 => self.tap.wire().broken = wild.one_in(2),
            _ => {
                let length = if wild.one_in(6) { wild.index(LONGEST + 40) } else { wild.index(1600) };
                let mut wire = self.tap.wire();
                if wire.to_guest.len() < QUEUED {
                    wire.to_guest.push_back(vec![0x3c; HEADER + length]);
                }
            }
        }
        guest.turn(if what == 0 { SEND } else { RECEIVE });
    }

    fn prove(&mut self, guest: &mut Guest<Self::Model>) {
        *self.tap.wire() = Wire::default();
        let later = std::time::Duration::from_secs(1 << 20);
        guest.now += later;
        assert!(guest.set_up(guest.offered_features()));
        guest.offer(SEND, &[Piece::Out(vec![0; HEADER]), Piece::Out(vec![1; 60])]);
        guest.turn(SEND);
        assert_eq!((guest.used(SEND).len(), self.tap.wire().sent), (1, 1), "a frame is sent");
        let room = guest.offer(RECEIVE, &[Piece::In(1526)]);
        self.tap.wire().to_guest.push_back([vec![0; HEADER], vec![9; 60]].concat());
        guest.now += later;
        guest.turn(RECEIVE);
        assert_eq!(guest.used(RECEIVE), [72], "a frame arrives");
        assert_eq!(guest.get(room + 12, 60), [9; 60]);
    }
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    let limits = [guest::limit(&mut wild), guest::limit(&mut wild)];
    guest::play(Net { tap: Tap::default(), limits }, &mut wild);
}
