//! The balloon, whose guest names pages, and a host that checks what it is asked to take.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use hearth_vmm::virtio::balloon::{BalloonDevice, Lend, Settings};
use vm_memory::GuestAddress;

use crate::guest::{self, END, Guest, HOLE, Piece, Play, UPPER};
use crate::wild::Wild;

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATISTICS: usize = 2;
const REPORTING: usize = 3;

/// From where to where RAM was taken back, last.
type Taken = Arc<Mutex<Option<(u64, u64)>>>;

#[derive(Debug)]
struct Host {
    granule: Option<u64>,
    fails: bool,
    taken: Taken,
}

impl Lend for Host {
    fn granule(&self) -> Option<u64> {
        self.granule
    }

    fn give_back(&self, start: GuestAddress, bytes: u64) -> io::Result<()> {
        let granule = self.granule.expect("nothing is taken by a host that takes nothing");
        let end = start.0.checked_add(bytes).expect("no range wraps around");
        assert!(bytes > 0 && start.0.is_multiple_of(granule) && bytes.is_multiple_of(granule), "whole pages");
        assert!(end <= HOLE || (start.0 >= UPPER && end <= END), "{start:?}+{bytes:#x} is no RAM");
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some((start.0, end));
        if self.fails { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(()) }
    }
}

struct Balloon {
    granule: Option<u64>,
    fails: bool,
    taken: Taken,
    settings: Settings,
}

/// A list of page numbers: neighbours, strangers, and some that are none.
fn pages(wild: &mut Wild<'_>) -> Vec<u8> {
    let mut list = Vec::new();
    let mut page = u32::try_from(wild.below(END >> 12)).unwrap_or(0);
    for _ in 0..wild.index(64) {
        list.extend(page.to_le_bytes());
        page = match wild.byte() {
            0..=9 => wild.odd32(),
            10..=40 => u32::try_from(wild.below(END >> 12)).unwrap_or(0),
            41..=60 => page.wrapping_sub(1),
            _ => page.wrapping_add(1),
        };
    }
    if wild.one_in(8) {
        list.pop();
    }
    list
}

impl Play for Balloon {
    type Model = BalloonDevice<Host>;

    fn model(&mut self) -> Self::Model {
        let host = Host { granule: self.granule, fails: self.fails, taken: self.taken.clone() };
        BalloonDevice::new(host, self.settings).expect("the target is less than there is")
    }

    fn request(&mut self, queue: usize, wild: &mut Wild<'_>) -> Vec<Piece> {
        match queue {
            INFLATE | DEFLATE => vec![Piece::Out(pages(wild))],
            STATISTICS => {
                let mut list = Vec::new();
                for _ in 0..wild.index(20) {
                    list.extend((wild.odd16() & if wild.one_in(5) { 0xffff } else { 15 }).to_le_bytes());
                    list.extend(wild.odd().to_le_bytes());
                }
                vec![Piece::Out(list)]
            }
            _ => (0..=wild.index(6)).map(|_| Piece::In(4096 << wild.below(8))).collect(),
        }
    }

    fn host(&mut self, guest: &mut Guest<Self::Model>, wild: &mut Wild<'_>) {
        if wild.one_in(2) {
            let now = guest.now;
            let asked = |balloon: &mut Self::Model| {
                balloon.ask_statistics(now).map(|_| hearth_vmm::virtio::device::Backlog::Done)
            };
            let _ = guest.transport.work(asked);
        } else {
            let target = wild.odd32() & 15;
            guest.transport.model(|balloon| {
                let _ = balloon.set_target(target);
                assert!(balloon.actual_bytes() <= u64::from(self.settings.memory_mib) << 20);
                let _ = balloon.statistics();
            });
        }
    }

    fn prove(&mut self, guest: &mut Guest<Self::Model>) {
        assert!(guest.set_up(guest.offered_features()));
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // A whole block of 64 KiB: as large as the host's page may be.
        let list = (0x300..0x310u32).flat_map(u32::to_le_bytes).collect();
        guest.offer(INFLATE, &[Piece::Out(list)]);
        guest.turn(INFLATE);
        assert_eq!(guest.used(INFLATE).len(), 1);
        let taken = *self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(taken.is_some(), self.granule.is_some(), "what the guest lends is taken");
        guest.offer(STATISTICS, &[Piece::Out([&4u16.to_le_bytes()[..], &77u64.to_le_bytes()].concat())]);
        guest.turn(STATISTICS);
        assert!(guest.transport.model(|balloon| balloon.statistics().is_some()));
        if self.settings.reporting && self.granule.is_some() {
            guest.offer(REPORTING, &[Piece::In(4096)]);
            guest.turn(REPORTING);
            assert_eq!(guest.used(REPORTING).len(), 1);
        }
    }
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    let play = Balloon {
        granule: wild.pick(&[Some(4096), Some(16384), Some(65536), None]),
        fails: wild.one_in(8),
        taken: Taken::default(),
        settings: Settings {
            memory_mib: 6,
            target_mib: u32::try_from(wild.below(6)).unwrap_or(0),
            deflate_on_oom: wild.one_in(2),
            reporting: !wild.one_in(4),
        },
    };
    guest::play(play, &mut wild);
}
