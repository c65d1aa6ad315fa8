//! The entropy device on a host that gives much, little, nothing yet, or an error.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hearth_vmm::rate::Limit;
use hearth_vmm::virtio::rings::Writer;
use hearth_vmm::virtio::rng::{Entropy, RngDevice};

use crate::guest::{self, Guest, Piece, Play};
use crate::wild::Wild;

/// What one chain gets at most, whatever it asks for.
const MOST: usize = 64 << 10;

struct Source(Arc<AtomicU8>);

impl Entropy for Source {
    fn fill(&mut self, into: &mut Writer<'_>, max: usize) -> io::Result<usize> {
        assert!(max <= MOST, "an answer is bounded");
        match self.0.load(Ordering::Relaxed) % 5 {
            0 | 1 => Ok(into.write(&vec![0x42; max])),
            2 => Ok(into.write(&vec![0x42; max / 2])),
            3 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Err(io::Error::from_raw_os_error(5)),
        }
    }
}

struct Rng {
    mood: Arc<AtomicU8>,
    limit: Limit,
}

impl Play for Rng {
    type Model = RngDevice<Source>;

    fn model(&mut self) -> Self::Model {
        RngDevice::new(Source(self.mood.clone()), self.limit.clone())
    }

    fn request(&mut self, _queue: usize, wild: &mut Wild<'_>) -> Vec<Piece> {
        let room = if wild.one_in(6) { wild.odd32() & 0x3f_ffff } else { 1 + u32::from(wild.byte()) };
        vec![Piece::In(room)]
    }

    fn host(&mut self, _guest: &mut Guest<Self::Model>, wild: &mut Wild<'_>) {
        self.mood.store(wild.byte(), Ordering::Relaxed);
    }

    fn prove(&mut self, guest: &mut Guest<Self::Model>) {
        self.mood.store(0, Ordering::Relaxed);
        assert!(guest.set_up(guest.offered_features()));
        let room = guest.offer(0, &[Piece::In(64)]);
        guest.turn(0);
        let mut used = guest.used(0);
        if used.is_empty() {
            guest.now += std::time::Duration::from_secs(1 << 20);
            guest.turn(0);
            used = guest.used(0);
        }
        let written = used.first().copied().and_then(|written| usize::try_from(written).ok()).unwrap_or(0);
        assert!((1..=64).contains(&written), "random bytes come");
        assert_eq!(guest.get(room, written), vec![0x42; written]);
    }
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    let play = Rng { mood: Arc::new(AtomicU8::new(wild.byte())), limit: guest::limit(&mut wild) };
    guest::play(play, &mut wild);
}
