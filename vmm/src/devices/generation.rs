//! The generation ID: 128 bits that tell a guest whether it is still the same run of itself.
//!
//! Two machines from one snapshot would draw the same random numbers. The guest's kernel reads these bits when
//! it starts and after each interrupt of this device; when they changed, it stirs them into its generator and
//! throws old keys away (Microsoft's "Virtual Machine Generation ID"; Linux `drivers/virt/vmgenid.c`).
//!
//! Duty: keep the bits in guest memory, where the firmware tables say. Not its duty: where they come from.
//! Invariant: the new bits are in memory before the interrupt.
//!
//! The page is RAM that the memory map leaves out. On ARM64 Linux maps it as device memory, past the caches; KVM
//! cleans a page when a guest first touches it, so an ID written before that (a fresh machine, a restored
//! one) is always seen. A change in a guest that runs is seen at once only where the host's processor keeps
//! such mappings coherent (FEAT_S2FWB, ARMv8.4).

use std::io;

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use crate::memory::GuestRam;

/// Bytes of an ID.
pub const LENGTH: usize = 16;

/// An ID that no other run of any machine has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Generation([u8; LENGTH]);

impl std::fmt::Debug for Generation {
    /// Redacted: the guest's generator is fed with it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Generation(..)")
    }
}

impl Generation {
    /// Draws one from the host's generator.
    pub fn draw() -> io::Result<Self> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// These very bits.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }
}

/// The ID of one machine, in its memory.
#[derive(Debug)]
pub struct GenerationId {
    memory: GuestRam,
    place: GuestAddress,
    interrupt: EventFd,
}

impl GenerationId {
    /// An ID at `place`, zero until the first [`set`](Self::set).
    #[must_use]
    pub const fn new(memory: GuestRam, place: GuestAddress, interrupt: EventFd) -> Self {
        Self { memory, place, interrupt }
    }

    /// Puts the ID there before the guest runs: nobody is told.
    pub fn set(&self, generation: Generation) -> io::Result<()> {
        self.memory.write_slice(&generation.0, self.place).map_err(io::Error::other)
    }

    /// Changes the ID of a guest that goes on as another one, and tells it.
    pub fn change(&self, generation: Generation) -> io::Result<()> {
        self.set(generation)?;
        self.interrupt.write(1)
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    const PLACE: GuestAddress = GuestAddress(0x1000);

    fn device() -> (GenerationId, GuestRam, EventFd) {
        let memory = crate::memory::allocate(&[(GuestAddress(0), 0x10000)]).unwrap();
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let device = GenerationId::new(memory.clone(), PLACE, interrupt.try_clone().unwrap());
        (device, memory, interrupt)
    }

    #[test]
    fn the_guest_is_told_of_a_change_and_finds_the_new_id() {
        let (device, memory, interrupt) = device();
        device.set(Generation::from_bytes([1; LENGTH])).unwrap();
        assert!(interrupt.read().is_err(), "nobody runs yet");
        assert_eq!(memory.read_obj::<[u8; LENGTH]>(PLACE).unwrap(), [1; LENGTH]);
        device.change(Generation::from_bytes([2; LENGTH])).unwrap();
        assert_eq!(interrupt.read().unwrap(), 1);
        assert_eq!(memory.read_obj::<[u8; LENGTH]>(PLACE).unwrap(), [2; LENGTH]);
    }

    #[test]
    fn no_two_draws_are_alike_and_none_is_printed() {
        let drawn = Generation::draw().unwrap();
        assert!(drawn != Generation::draw().unwrap());
        assert_eq!(format!("{drawn:?}"), "Generation(..)");
    }
}
