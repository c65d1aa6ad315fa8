//! A series' memory across restarts.
//!
//! Duty: bytes from a series and a series from bytes. Not here: files. Invariants: what is read back is checked as
//! if a stranger had written it, and a series that cannot be believed is an error, not a worse series; bytes of
//! another version are refused by name, so that the caller starts anew and says so.
//!
//! ```text
//! | version: u8 | CRC-32C of the rest: u32, little endian | postcard |
//! ```

use crc::{CRC_32_ISCSI, Crc, Table};
use thiserror::Error;

use crate::series::Series;

/// Raised when the meaning of any byte changes: old memories are forgotten then.
pub const VERSION: u8 = 1;

const HEADER: usize = 5;
const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StateFault {
    #[error("a predictor's memory of version {0}, expected {VERSION}")]
    Version(u8),
    #[error("a predictor's memory that is damaged: its checksum is not that of its bytes")]
    Checksum,
    #[error("a predictor's memory that is cut short or of another shape")]
    Shape,
    #[error("a predictor's memory with impossible numbers")]
    Numbers,
    #[error("no room for a predictor's memory: {0} bytes are not enough")]
    NoRoom(usize),
}

impl<const H: usize> Series<H> {
    /// Bytes that are always enough to save one into: postcard writes no number longer than a byte more than it is.
    pub const LARGEST_STATE: usize = HEADER + size_of::<Series<H>>() * 3 / 2;

    /// Writes the series into the start of `buffer`; gives the bytes written.
    pub fn save<'a>(&self, buffer: &'a mut [u8]) -> Result<&'a [u8], StateFault> {
        let room = buffer.len();
        let (header, rest) = buffer.split_at_mut_checked(HEADER).ok_or(StateFault::NoRoom(room))?;
        let length = postcard::to_slice(self, rest).map_err(|_| StateFault::NoRoom(room))?.len();
        let body = rest.get(..length).ok_or(StateFault::NoRoom(room))?;
        let [a, b, c, d] = CRC.checksum(body).to_le_bytes();
        header.copy_from_slice(&[VERSION, a, b, c, d]);
        buffer.get(..HEADER.saturating_add(length)).ok_or(StateFault::NoRoom(room))
    }

    pub fn restore(bytes: &[u8]) -> Result<Self, StateFault> {
        let (&version, rest) = bytes.split_first().ok_or(StateFault::Shape)?;
        if version != VERSION {
            return Err(StateFault::Version(version));
        }
        let (checksum, body) = rest.split_first_chunk::<4>().ok_or(StateFault::Shape)?;
        if CRC.checksum(body) != u32::from_le_bytes(*checksum) {
            return Err(StateFault::Checksum);
        }
        let (series, left) = postcard::take_from_bytes::<Series<H>>(body).map_err(|_| StateFault::Shape)?;
        match left {
            [] if series.is_sound() => Ok(series),
            [] => Err(StateFault::Numbers),
            _ => Err(StateFault::Shape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Cadence, Seconds};
    use proptest::prelude::*;

    fn fed(samples: u64) -> Series<3> {
        let mut series = Series::new(Cadence::every(300), [1, 3, 12]);
        for sample in 0..samples {
            let value = f32::from(u16::try_from(sample % 288).unwrap()) * 0.5 + 3.0;
            let _ = series.observe(Seconds(sample * 300), value);
        }
        series
    }

    #[test]
    fn a_series_goes_on_as_if_nothing_had_been() {
        let mut before = fed(900);
        let mut buffer = [0; Series::<3>::LARGEST_STATE];
        let mut after = Series::<3>::restore(before.save(&mut buffer).expect("room")).expect("sound");
        for sample in 900..1000 {
            let at = Seconds(sample * 300);
            assert_eq!(before.observe(at, 7.0), after.observe(at, 7.0));
        }
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut buffer = [0; Series::<3>::LARGEST_STATE];
        let length = fed(10).save(&mut buffer).expect("room").len();
        buffer[0] = 9;
        assert_eq!(Series::<3>::restore(&buffer[..length]), Err(StateFault::Version(9)));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let mut buffer = [0; Series::<3>::LARGEST_STATE];
        let length = fed(300).save(&mut buffer).expect("room").len();
        for at in (0..length).step_by(7) {
            buffer[at] ^= 0x10;
            assert!(Series::<3>::restore(&buffer[..length]).is_err(), "byte {at}");
            buffer[at] ^= 0x10;
            assert!(Series::<3>::restore(&buffer[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn too_little_room_is_an_error() {
        assert_eq!(fed(10).save(&mut [0; 64]), Err(StateFault::NoRoom(64)));
    }

    #[test]
    fn numbers_that_cannot_be_are_refused_even_with_a_right_checksum() {
        let mut buffer = [0; Series::<3>::LARGEST_STATE];
        let length = fed(300).save(&mut buffer).expect("room").len();
        // The ring begins behind the cadence; its first sample becomes NaN.
        let sample = HEADER + 2;
        buffer[sample..sample + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        let checksum = CRC.checksum(&buffer[HEADER..length]).to_le_bytes();
        buffer[1..HEADER].copy_from_slice(&checksum);
        assert_eq!(Series::<3>::restore(&buffer[..length]), Err(StateFault::Numbers));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_is_accepted_works(
            noise in proptest::collection::vec((0usize..6000, any::<u8>()), 1..40),
            sample in any::<f32>(),
        ) {
            let mut buffer = [0; Series::<3>::LARGEST_STATE];
            let length = fed(300).save(&mut buffer).expect("room").len();
            for (at, byte) in noise {
                buffer[HEADER + at % (length - HEADER)] = byte;
            }
            let checksum = CRC.checksum(&buffer[HEADER..length]).to_le_bytes();
            buffer[1..HEADER].copy_from_slice(&checksum);
            if let Ok(mut series) = Series::<3>::restore(&buffer[..length]) {
                for step in 0..20 {
                    let _ = series.observe(Seconds(90_000 + step * 300), sample);
                }
            }
        }
    }
}
