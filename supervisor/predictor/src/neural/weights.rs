//! Weights as a file.
//!
//! Duty: bytes from weights and weights from bytes. Not here: the file system. Invariant: weights of another network, a
//! damaged file, and numbers that are none are errors.
//!
//! ```text
//! | "HRTW" | version: u8 | network: u8 | CRC-32C of the rest: u32 | weights: f32 ... |     all little endian
//! ```

use crc::{CRC_32_ISCSI, Crc, Table};
use thiserror::Error;

const MARK: &[u8; 4] = b"HRTW";
const VERSION: u8 = 1;
const HEADER: usize = 10;
const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WeightsFault {
    #[error("no file of weights: expected it to begin with HRTW and version {VERSION}")]
    Mark,
    #[error("weights of another network (kind {0})")]
    Kind(u8),
    #[error("{0} bytes of weights, expected {1}")]
    Length(usize, usize),
    #[error("damaged weights: the checksum is not that of the bytes")]
    Checksum,
    #[error("a weight that is no number")]
    Number,
}

/// Bytes of a file with so many weights.
pub const fn file_size(weights: usize) -> usize {
    HEADER.saturating_add(weights.saturating_mul(4))
}

pub fn read<const N: usize>(kind: u8, bytes: &[u8]) -> Result<[f32; N], WeightsFault> {
    let (header, body) = bytes.split_first_chunk::<HEADER>().ok_or(WeightsFault::Mark)?;
    let [a, b, c, d, version, own_kind, checksum @ ..] = *header;
    if [a, b, c, d] != *MARK || version != VERSION {
        return Err(WeightsFault::Mark);
    }
    if own_kind != kind {
        return Err(WeightsFault::Kind(own_kind));
    }
    if bytes.len() != file_size(N) {
        return Err(WeightsFault::Length(bytes.len(), file_size(N)));
    }
    if CRC.checksum(body) != u32::from_le_bytes(checksum) {
        return Err(WeightsFault::Checksum);
    }
    let mut weights = [0.0; N];
    for (weight, bytes) in weights.iter_mut().zip(body.as_chunks::<4>().0) {
        *weight = f32::from_le_bytes(*bytes);
        if !weight.is_finite() {
            return Err(WeightsFault::Number);
        }
    }
    Ok(weights)
}

/// Writes the file into `buffer`, which has to be of its size.
pub fn write(kind: u8, weights: &[f32], buffer: &mut [u8]) -> Result<(), WeightsFault> {
    let size = file_size(weights.len());
    let given = buffer.len();
    let (header, body) = buffer.split_first_chunk_mut::<HEADER>().ok_or(WeightsFault::Length(given, size))?;
    if given != size {
        return Err(WeightsFault::Length(given, size));
    }
    for (bytes, weight) in body.as_chunks_mut::<4>().0.iter_mut().zip(weights) {
        *bytes = weight.to_le_bytes();
    }
    let [a, b, c, d] = *MARK;
    let [e, f, g, h] = CRC.checksum(body).to_le_bytes();
    *header = [a, b, c, d, VERSION, kind, e, f, g, h];
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> [u8; file_size(3)] {
        let mut file = [0; file_size(3)];
        write(7, &[1.0, -2.5, 1e-3], &mut file).expect("room");
        file
    }

    #[test]
    fn weights_come_back_as_they_were() {
        assert_eq!(read(7, &file()), Ok([1.0, -2.5, 1e-3]));
    }

    #[test]
    fn any_flipped_bit_any_cut_and_another_network_s_weights_are_refused() {
        let mut file = file();
        assert_eq!(read::<3>(8, &file), Err(WeightsFault::Kind(7)));
        assert_eq!(read::<4>(7, &file), Err(WeightsFault::Length(22, 26)));
        for at in 0..file.len() {
            assert!(read::<3>(7, &file[..at]).is_err(), "cut at {at}");
            file[at] ^= 4;
            assert!(read::<3>(7, &file).is_err(), "byte {at}");
            file[at] ^= 4;
        }
    }

    #[test]
    fn a_weight_that_is_no_number_is_refused() {
        let mut file = [0; file_size(1)];
        write(7, &[f32::NAN], &mut file).expect("room");
        assert_eq!(read::<1>(7, &file), Err(WeightsFault::Number));
    }
}
