//! Which device answers at which address.
//!
//! Duty: find the device of an access, or answer for the void: reads of nothing see all ones, writes to
//! nothing are lost, as on real buses. Invariant: ranges never overlap, and never change once vCPUs run.

use std::sync::Arc;

/// A device that a vCPU reaches by an address. Called from vCPU threads.
pub trait BusDevice: Send + Sync {
    /// Reads at `offset` into the device's range.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Writes at `offset` into the device's range.
    fn write(&self, offset: u64, data: &[u8]);
}

/// Two devices want the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bus range {start:#x}+{length:#x} overlaps another or is empty")]
pub struct Overlap {
    start: u64,
    length: u64,
}

struct Claim {
    start: u64,
    length: u64,
    device: Arc<dyn BusDevice>,
}

/// One address space: port I/O or memory-mapped I/O.
#[derive(Default)]
pub struct Bus {
    /// Sorted by start.
    claims: Vec<Claim>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.claims.iter().map(|c| (c.start, c.length))).finish()
    }
}

impl Bus {
    /// Gives `device` the range of `length` addresses from `start`.
    pub fn claim(&mut self, start: u64, length: u64, device: Arc<dyn BusDevice>) -> Result<(), Overlap> {
        let refusal = Overlap { start, length };
        let end = start.checked_add(length).filter(|_| length > 0).ok_or(refusal)?;
        let position = self.claims.partition_point(|claim| claim.start < start);
        let before_is_clear =
            position == 0 || self.claims.get(position - 1).is_none_or(|c| c.start + c.length <= start);
        let after_is_clear = self.claims.get(position).is_none_or(|c| end <= c.start);
        if !(before_is_clear && after_is_clear) {
            return Err(refusal);
        }
        self.claims.insert(position, Claim { start, length, device });
        Ok(())
    }

    /// A vCPU reads `data.len()` bytes at `address`.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// A vCPU writes `data` at `address`.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.find(address, data.len()) {
            device.write(offset, data);
        }
    }

    fn find(&self, address: u64, length: usize) -> Option<(&dyn BusDevice, u64)> {
        let candidates = self.claims.partition_point(|claim| claim.start <= address);
        let claim = self.claims.get(candidates.checked_sub(1)?)?;
        let offset = address - claim.start;
        let fits = offset.checked_add(length as u64).is_some_and(|end| end <= claim.length);
        fits.then_some((claim.device.as_ref(), offset))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<(u64, Vec<u8>)>>);

    impl BusDevice for Recorder {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    #[test]
    fn an_access_reaches_the_device_that_claims_all_of_it() {
        let (mut bus, device) = (Bus::default(), Arc::new(Recorder::default()));
        bus.claim(0x100, 0x10, device.clone()).unwrap();
        bus.write(0x104, &[1, 2]);
        bus.write(0x10f, &[1, 2]); // straddles the end: nobody's
        bus.write(0xff, &[1]);
        assert_eq!(*device.0.lock().unwrap(), vec![(4, vec![1, 2])]);
        let mut data = [0; 2];
        bus.read(0x10e, &mut data);
        assert_eq!(data, [0xe, 0xe]);
        bus.read(0x10f, &mut data);
        assert_eq!(data, [0xff, 0xff]);
        bus.read(u64::MAX, &mut data);
        assert_eq!(data, [0xff, 0xff]);
    }

    #[test]
    fn overlapping_claims_are_refused() {
        let mut bus = Bus::default();
        bus.claim(0x100, 0x10, Arc::new(Recorder::default())).unwrap();
        for (start, length) in [(0x100, 1), (0xff, 2), (0x10f, 1), (0, 0x1000), (0x200, 0), (u64::MAX, 2)] {
            assert!(bus.claim(start, length, Arc::new(Recorder::default())).is_err(), "{start:#x}+{length}");
        }
        bus.claim(0x110, 1, Arc::new(Recorder::default())).unwrap();
        bus.claim(0xff, 1, Arc::new(Recorder::default())).unwrap();
    }
}
