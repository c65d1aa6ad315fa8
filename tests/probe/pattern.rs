//! Bytes that both ends of a test can make: a stream that looks random and is known.
//!
//! Invariant: the same seed gives the same bytes, whatever the pieces they are asked for in.

use std::io::{self, Read, Write};

use crc::{CRC_64_XZ, Crc, Table};

const CRC: Crc<u64, Table<1>> = Crc::<u64, Table<1>>::new(&CRC_64_XZ);
/// Bytes per read and write of a stream.
const PIECE: usize = 64 * 1024;

/// A xorshift generator's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    state: u64,
    left: [u8; 8],
    used: usize,
}

impl Pattern {
    pub(crate) const fn new(seed: u64) -> Self {
        // Zero would stay zero for ever.
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, left: [0; 8], used: 8 }
    }

    /// The next number, for choices.
    pub(crate) const fn number(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.left.len() {
                self.left = self.number().to_le_bytes();
                self.used = 0;
            }
            *byte = self.left[self.used];
            self.used += 1;
        }
    }
}

/// A sum of all numbers so far, after one more.
pub(crate) fn add(sum: u64, number: u64) -> u64 {
    let mut digest = CRC.digest();
    digest.update(&sum.to_le_bytes());
    digest.update(&number.to_le_bytes());
    digest.finalize()
}

/// Writes `bytes` bytes of the pattern; returns their checksum.
pub(crate) fn send(into: &mut impl Write, seed: u64, bytes: u64) -> io::Result<u64> {
    let (mut pattern, mut digest, mut piece) = (Pattern::new(seed), CRC.digest(), vec![0; PIECE]);
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        pattern.fill(&mut piece[..now]);
        digest.update(&piece[..now]);
        into.write_all(&piece[..now])?;
        left -= now as u64;
    }
    into.flush()?;
    Ok(digest.finalize())
}

/// Reads `bytes` bytes; returns their checksum.
pub(crate) fn receive(from: &mut impl Read, bytes: u64) -> io::Result<u64> {
    let (mut digest, mut piece) = (CRC.digest(), vec![0; PIECE]);
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let count = from.read(&mut piece[..now])?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{left} of {bytes} bytes are missing"),
            ));
        }
        digest.update(&piece[..count]);
        left -= count as u64;
    }
    Ok(digest.finalize())
}

/// The checksum of `bytes` bytes of the pattern.
pub(crate) fn checksum(seed: u64, bytes: u64) -> u64 {
    send(&mut io::sink(), seed, bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_do_not_matter_and_a_changed_byte_is_noticed() {
        let mut whole = vec![0; 100_001];
        Pattern::new(7).fill(&mut whole);
        let mut sent = Vec::new();
        let sum = send(&mut sent, 7, 100_001).unwrap();
        assert!(sent == whole);
        assert_eq!(receive(&mut sent.as_slice(), 100_001).unwrap(), sum);
        assert_eq!(checksum(7, 100_001), sum);
        sent[70_000] ^= 1;
        assert_ne!(receive(&mut sent.as_slice(), 100_001).unwrap(), sum);
        assert!(receive(&mut sent.as_slice(), 100_002).is_err());
    }
}
