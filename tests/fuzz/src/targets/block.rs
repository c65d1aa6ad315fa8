//! The block device on a disk in memory that answers now, later, in any order, or with an error.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hearth_vmm::rate::Limit;
use hearth_vmm::virtio::block::{BlockDevice, Disk, Space, Started, Tag, Work};

use crate::guest::{self, Guest, Piece, Play};
use crate::wild::Wild;

/// Bytes of the disk: small, so that its end is near.
const DISK: usize = 96 * 512;

/// What the host knows of its disk.
#[derive(Debug, Default)]
struct Desk {
    /// Whether the next requests are answered later, and whether they fail: a bit for each, in turn.
    later: u64,
    fails: u64,
    pending: VecDeque<(Tag, bool)>,
    /// How many of the pending may end.
    may_end: usize,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Desk>>);

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Memory {
    bytes: Vec<u8>,
    desk: Shared,
}

impl Memory {
    /// The part of the disk that a request names: the device has promised that there is one.
    fn part(&mut self, offset: u64, bytes: u64) -> &mut [u8] {
        assert!(bytes > 0, "no request is empty");
        let start = usize::try_from(offset).expect("within the disk");
        let end =
            start.checked_add(usize::try_from(bytes).expect("within the disk")).expect("within the disk");
        self.bytes.get_mut(start..end).expect("requests lie within the disk")
    }

    fn result(fails: bool) -> io::Result<()> {
        if fails { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
    }
}

impl Disk for Memory {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn space(&self) -> Space {
        Space { discard: Some(4096), zero: true }
    }

    fn start(&mut self, tag: Tag, work: Work<'_>) -> Started {
        match work {
            Work::Read { offset, mut into } => {
                let room = into.remaining();
                let part = self.part(offset, room as u64);
                assert_eq!(into.write(part), room);
            }
            Work::Write { offset, mut from, .. } => {
                let length = from.remaining();
                let part = self.part(offset, length as u64);
                assert_eq!(from.read(part), length);
            }
            Work::Flush => {}
            Work::Discard { offset, bytes } => self.part(offset, bytes).fill(0xdd),
            Work::Zero { offset, bytes, .. } => self.part(offset, bytes).fill(0),
        }
        let mut desk = self.desk.desk();
        (desk.later, desk.fails) = (desk.later.rotate_left(1), desk.fails.rotate_left(1));
        let fails = desk.fails & 1 != 0;
        if desk.later & 1 == 0 {
            return Started::Done(Self::result(fails));
        }
        assert!(desk.pending.iter().all(|(other, _)| *other != tag), "a tag names one request");
        desk.pending.push_back((tag, fails));
        Started::Pending
    }

    fn submit(&mut self) {}

    fn finished(&mut self) -> Option<(Tag, io::Result<()>)> {
        let mut desk = self.desk.desk();
        desk.may_end = desk.may_end.checked_sub(1)?;
        // From either end, so in no order.
        let one = if desk.later & 2 == 0 { desk.pending.pop_front() } else { desk.pending.pop_back() };
        one.map(|(tag, fails)| (tag, Self::result(fails)))
    }

    fn pending(&self) -> usize {
        self.desk.desk().pending.len()
    }

    fn wait(&mut self) {
        self.desk.desk().may_end += 1;
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("pending", self.pending() as u64);
    }
}

struct Block {
    desk: Shared,
    read_only: bool,
    limit: Limit,
}

impl Play for Block {
    type Model = BlockDevice<Memory>;

    fn model(&mut self) -> Self::Model {
        let disk = Memory { bytes: vec![7; DISK], desk: self.desk.clone() };
        self.desk.desk().pending.clear();
        BlockDevice::new(disk, "fuzz", self.read_only, self.limit.clone())
    }

    fn request(&mut self, _queue: usize, wild: &mut Wild<'_>) -> Vec<Piece> {
        let kind = if wild.one_in(30) { wild.odd32() } else { wild.pick(&[0, 1, 4, 8, 11, 13]) };
        let sector = if wild.one_in(12) { wild.odd() } else { wild.below(100) };
        let mut header = kind.to_le_bytes().to_vec();
        header.extend(wild.odd32().to_le_bytes());
        header.extend(sector.to_le_bytes());
        let sectors = 1 + wild.below(12);
        let length = if wild.one_in(12) { wild.odd() & 0xffff } else { sectors * 512 };
        let room = u32::try_from(length).unwrap_or(0);
        let mut pieces = vec![Piece::Out(header)];
        match kind {
            0 => pieces.push(Piece::In(room)),
            1 => pieces.push(Piece::Out(vec![wild.byte(); usize::try_from(length).unwrap_or(0)])),
            8 => pieces.push(Piece::In(if wild.one_in(4) { wild.odd32() & 0xff } else { 20 })),
            11 | 13 => {
                let mut range = sector.to_le_bytes().to_vec();
                range.extend(u32::try_from(sectors).unwrap_or(0).to_le_bytes());
                range.extend((wild.byte() as u32 & u32::from(kind == 13)).to_le_bytes());
                if wild.one_in(8) {
                    range = wild.bytes(40);
                }
                pieces.push(Piece::Out(range));
            }
            _ => {}
        }
        if !wild.one_in(24) {
            pieces.push(Piece::In(1));
        }
        pieces
    }

    fn host(&mut self, guest: &mut Guest<Self::Model>, wild: &mut Wild<'_>) {
        {
            let mut desk = self.desk.desk();
            match wild.byte() % 4 {
                0 => desk.later = wild.odd(),
                1 => desk.fails = wild.odd() & wild.odd(),
                _ => desk.may_end += wild.index(9),
            }
        }
        guest.transport.settle(BlockDevice::settle);
    }

    fn before_reset(&mut self) {
        let mut desk = self.desk.desk();
        desk.may_end = desk.pending.len();
    }

    fn prove(&mut self, guest: &mut Guest<Self::Model>) {
        *self.desk.desk() = Desk::default();
        assert!(guest.set_up(guest.offered_features()));
        let header = |kind: u32| [&kind.to_le_bytes()[..], &[0; 4], &3u64.to_le_bytes()].concat();
        let written = Piece::Out(vec![0x5a; 512]);
        let write = guest.offer(0, &[Piece::Out(header(1)), written, Piece::In(1)]);
        let read = guest.offer(0, &[Piece::Out(header(0)), Piece::In(512), Piece::In(1)]);
        guest.turn(0);
        while guest.used(0).is_empty() {
            // A limit of a byte a second.
            guest.now += std::time::Duration::from_secs(1 << 20);
            guest.turn(0);
        }
        assert_eq!(guest.get(write, 1), [u8::from(self.read_only)], "the answer to a write");
        guest.now += std::time::Duration::from_secs(1 << 20);
        guest.turn(0);
        assert_eq!(guest.get(read + 512, 1), [0], "the answer to a read");
        assert!(self.read_only || guest.get(read, 512) == [0x5a; 512], "what was written is read");
    }
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    let desk = Shared::default();
    desk.desk().later = wild.odd();
    let play = Block { desk, read_only: wild.one_in(5), limit: guest::limit(&mut wild) };
    guest::play(play, &mut wild);
}
