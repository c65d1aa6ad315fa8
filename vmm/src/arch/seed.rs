//! Random bytes that a guest starts with: its generator is seeded before it has any device, and its kernel can choose
//! where it lies.
//!
//! Invariant: they are the host's, of a generator that is seeded, or there are none: the guest counts them as entropy.

use std::fs::File;
use std::io::{self, Read};

use crate::virtio::rng::HostEntropy;

/// Bytes for a kernel's generator: two of its blocks.
const SEED: usize = 64;

/// What one start of a guest gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seed {
    /// For its generator.
    pub(super) generator: [u8; SEED],
    /// For the place of its kernel, where the loader has a say in that.
    pub(super) place: u64,
}

impl Seed {
    /// Of the host; `None` where that is not seeded itself.
    #[must_use]
    pub(super) fn of_host() -> Option<Self> {
        let read = HostEntropy::open().and_then(|host| host.into_seeded().map(Self::read).transpose());
        if let Err(error) = &read {
            log::warn!("the guest starts without random numbers, the host has none: {error}");
        }
        read.ok().flatten()
    }

    fn read(mut host: File) -> io::Result<Self> {
        let (mut generator, mut place) = ([0; SEED], [0; 8]);
        host.read_exact(&mut generator)?;
        host.read_exact(&mut place)?;
        Ok(Self { generator, place: u64::from_le_bytes(place) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_has_numbers_of_its_own() {
        let (first, second) = (Seed::of_host().unwrap(), Seed::of_host().unwrap());
        assert!(first.generator != second.generator && first.place != second.place);
        assert_ne!(first.generator[..32], first.generator[32..]);
    }
}
