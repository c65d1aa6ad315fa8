//! What was learnt, across restarts.
//!
//! Duty: bytes from a model and a model from bytes. Not here: files. Invariants: what is read back is checked as
//! if a stranger had written it, and a model that cannot be believed is an error, not a worse model; bytes of
//! another version or of another model are refused by name, so that the caller starts anew and says so.
//!
//! ```text
//! | version: u8 | model: u8 | CRC-32C of the rest: u32, little endian | postcard |
//! ```

use crc::{CRC_32_ISCSI, Crc, Table};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{pool::Pool, recovery::Cures, series::Series, sizing::Usage};

/// Raised when the meaning of any byte changes: old memories are forgotten then.
pub const VERSION: u8 = 1;

const HEADER: usize = 6;
const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StateFault {
    #[error("a predictor's memory of version {0}, expected {VERSION}")]
    Version(u8),
    #[error("the memory of another model (kind {0})")]
    Kind(u8),
    #[error("a predictor's memory that is damaged: its checksum is not that of its bytes")]
    Checksum,
    #[error("a predictor's memory that is cut short or of another shape")]
    Shape,
    #[error("a predictor's memory with impossible numbers")]
    Numbers,
    #[error("no room for a predictor's memory: {0} bytes are not enough")]
    NoRoom(usize),
}

/// A model that survives a restart.
pub trait Memory: Serialize + DeserializeOwned {
    /// Tells the models apart.
    const KIND: u8;
    /// Bytes that are always enough to save one into: postcard writes no number longer than half of it more than it
    /// is.
    const LARGEST: usize = HEADER + size_of::<Self>() * 3 / 2;

    /// Whether its numbers are ones that it could have come to.
    fn is_sound(&self) -> bool;
}

impl<const H: usize> Memory for Series<H> {
    const KIND: u8 = 1;

    fn is_sound(&self) -> bool {
        Series::is_sound(self)
    }
}

impl Memory for Usage {
    const KIND: u8 = 2;

    fn is_sound(&self) -> bool {
        Usage::is_sound(self)
    }
}

impl<const CLONES: usize> Memory for Pool<CLONES> {
    const KIND: u8 = 3;

    fn is_sound(&self) -> bool {
        Pool::is_sound(self)
    }
}

impl<const C: usize, const R: usize> Memory for Cures<C, R> {
    const KIND: u8 = 4;

    fn is_sound(&self) -> bool {
        Cures::is_sound(self)
    }
}

/// Writes a model into the start of `buffer`; gives the bytes written.
pub fn save<'a, M: Memory>(model: &M, buffer: &'a mut [u8]) -> Result<&'a [u8], StateFault> {
    let room = buffer.len();
    let (header, rest) = buffer.split_at_mut_checked(HEADER).ok_or(StateFault::NoRoom(room))?;
    let length = postcard::to_slice(model, rest).map_err(|_| StateFault::NoRoom(room))?.len();
    let body = rest.get(..length).ok_or(StateFault::NoRoom(room))?;
    let [a, b, c, d] = CRC.checksum(body).to_le_bytes();
    header.copy_from_slice(&[VERSION, M::KIND, a, b, c, d]);
    buffer.get(..HEADER.saturating_add(length)).ok_or(StateFault::NoRoom(room))
}

pub fn restore<M: Memory>(bytes: &[u8]) -> Result<M, StateFault> {
    let (&[version, kind], rest) = bytes.split_first_chunk::<2>().ok_or(StateFault::Shape)?;
    if version != VERSION {
        return Err(StateFault::Version(version));
    }
    if kind != M::KIND {
        return Err(StateFault::Kind(kind));
    }
    let (checksum, body) = rest.split_first_chunk::<4>().ok_or(StateFault::Shape)?;
    if CRC.checksum(body) != u32::from_le_bytes(*checksum) {
        return Err(StateFault::Checksum);
    }
    let (model, left) = postcard::take_from_bytes::<M>(body).map_err(|_| StateFault::Shape)?;
    match left {
        [] if model.is_sound() => Ok(model),
        [] => Err(StateFault::Numbers),
        _ => Err(StateFault::Shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        recovery::Outcome,
        time::{Cadence, Seconds},
    };
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
        let mut buffer = [0; <Series<3> as Memory>::LARGEST];
        let mut after = restore::<Series<3>>(save(&before, &mut buffer).expect("room")).expect("sound");
        for sample in 900..1000 {
            let at = Seconds(sample * 300);
            assert_eq!(before.observe(at, 7.0), after.observe(at, 7.0));
        }
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut buffer = [0; <Series<3> as Memory>::LARGEST];
        let length = save(&fed(10), &mut buffer).expect("room").len();
        buffer[0] = 9;
        assert_eq!(restore::<Series<3>>(&buffer[..length]), Err(StateFault::Version(9)));
    }

    #[test]
    fn the_memory_of_another_model_is_refused_by_name() {
        let mut buffer = [0; <Series<3> as Memory>::LARGEST];
        let saved = save(&fed(10), &mut buffer).expect("room");
        assert_eq!(restore::<Usage>(saved), Err(StateFault::Kind(1)));
    }

    #[test]
    fn pools_uses_and_cures_come_back_as_they_were() {
        let mut usage = Usage::new(4096.0, 3600.0);
        let mut pool = Pool::<4>::new(600.0);
        let mut cures = Cures::<3, 5>::default();
        for step in 0..500u16 {
            let at = Seconds(u64::from(step) * 40);
            usage.observe(at, f32::from(step));
            pool.taken(at, step % 3);
            pool.released(at.after(9), step % 3);
            let outcome = if step % 4 == 0 { Outcome::Failed } else { Outcome::Cured };
            cures.tried(usize::from(step % 3), usize::from(step % 5), outcome, f32::from(step % 7));
        }
        let mut buffer = [0; <Pool<4> as Memory>::LARGEST];
        assert_eq!(restore(save(&usage, &mut buffer).expect("room")), Ok(usage));
        assert_eq!(restore(save(&cures, &mut buffer).expect("room")), Ok(cures));
        assert_eq!(restore(save(&pool, &mut buffer).expect("room")), Ok(pool));
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let mut buffer = [0; <Series<3> as Memory>::LARGEST];
        let length = save(&fed(300), &mut buffer).expect("room").len();
        for at in (0..length).step_by(7) {
            buffer[at] ^= 0x10;
            assert!(restore::<Series<3>>(&buffer[..length]).is_err(), "byte {at}");
            buffer[at] ^= 0x10;
            assert!(restore::<Series<3>>(&buffer[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn too_little_room_is_an_error() {
        assert_eq!(save(&fed(10), &mut [0; 64]), Err(StateFault::NoRoom(64)));
    }

    #[test]
    fn numbers_that_cannot_be_are_refused_even_with_a_right_checksum() {
        let mut buffer = [0; <Series<3> as Memory>::LARGEST];
        let length = save(&fed(300), &mut buffer).expect("room").len();
        // The ring begins behind the cadence; its first sample becomes NaN.
        let sample = HEADER + 2;
        buffer[sample..sample + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        let checksum = CRC.checksum(&buffer[HEADER..length]).to_le_bytes();
        buffer[2..HEADER].copy_from_slice(&checksum);
        assert_eq!(restore::<Series<3>>(&buffer[..length]), Err(StateFault::Numbers));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_is_accepted_works(
            noise in proptest::collection::vec((0usize..6000, any::<u8>()), 1..40),
            sample in any::<f32>(),
        ) {
            let mut buffer = [0; <Series<3> as Memory>::LARGEST];
            let length = save(&fed(300), &mut buffer).expect("room").len();
            for (at, byte) in noise {
                buffer[HEADER + at % (length - HEADER)] = byte;
            }
            let checksum = CRC.checksum(&buffer[HEADER..length]).to_le_bytes();
            buffer[2..HEADER].copy_from_slice(&checksum);
            if let Ok(mut series) = restore::<Series<3>>(&buffer[..length]) {
                for step in 0..20 {
                    let _ = series.observe(Seconds(90_000 + step * 300), sample);
                }
            }
        }
    }
}
