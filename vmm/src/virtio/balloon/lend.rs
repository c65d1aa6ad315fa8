//! Who takes memory back.

use std::io;

use vm_memory::GuestAddress;

use crate::memory::Lender;

/// The host, as far as RAM of a guest can be given back to it.
pub trait Lend: Send {
    /// RAM goes back in multiples of so many bytes, at such addresses; `None` where none does.
    fn granule(&self) -> Option<u64>;

    /// Takes `bytes` of RAM from `start` on, which lie in one region.
    fn give_back(&self, start: GuestAddress, bytes: u64) -> io::Result<()>;
}

impl Lend for Lender {
    fn granule(&self) -> Option<u64> {
        Self::granule(self)
    }

    fn give_back(&self, start: GuestAddress, bytes: u64) -> io::Result<()> {
        Self::give_back(self, start, bytes)
    }
}
