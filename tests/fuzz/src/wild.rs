//! Bytes of a fuzzer as choices: mostly sensible ones, some that nobody sensible makes.
//!
//! Invariant: bytes that have run out choose the first and the plainest, so every input is a finite story.

use arbitrary::Unstructured;

/// Numbers near which things go wrong.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    3,
    7,
    0x7f,
    0xff,
    0x100,
    0x1ff,
    0x200,
    0xfff,
    0x1000,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 63,
    u64::MAX,
];

/// What is left of an input.
#[derive(Debug)]
pub struct Wild<'a>(Unstructured<'a>);

impl<'a> Wild<'a> {
    /// All of an input.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// Whether nothing is left to choose by.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.0.is_empty()
    }

    /// True once in `n` times, and never when the bytes have run out.
    pub fn one_in(&mut self, n: u8) -> bool {
        let byte = self.byte();
        byte != 0 && byte.is_multiple_of(n.max(1))
    }

    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.int_in_range(0..=end.saturating_sub(1)).unwrap_or(0)
    }

    /// An index into something of `length`.
    pub fn index(&mut self, length: usize) -> usize {
        self.0.int_in_range(0..=length.saturating_sub(1)).unwrap_or(0)
    }

    /// One of several; the first when the bytes have run out.
    ///
    /// # Panics
    /// Where there are none.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// A number that is near an edge, or any.
    pub fn odd(&mut self) -> u64 {
        match self.byte() {
            0..=3 => self.0.arbitrary().unwrap_or(0),
            choice if choice.is_multiple_of(2) => EDGES[self.index(EDGES.len())],
            _ => {
                let edge = EDGES[self.index(EDGES.len())];
                edge.wrapping_add(self.below(17)).wrapping_sub(8)
            }
        }
    }

    /// The lower half of [`odd`](Self::odd).
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
    pub fn odd32(&mut self) -> u32 {
        self.odd() as u32
    }

    /// The lowest quarter of [`odd`](Self::odd).
    #[expect(clippy::cast_possible_truncation, reason = "the lowest quarter is what is asked for")]
    pub fn odd16(&mut self) -> u16 {
        self.odd() as u16
    }

    /// Up to `most` bytes.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.index(most.saturating_add(1)).min(self.0.len());
        self.0.bytes(length).unwrap_or_default().to_vec()
    }

    /// Exactly `length` bytes; zeroes where the input has no more.
    pub fn filled(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        // It pads with zeroes, and has no other way to fail.
        let _ = self.0.fill_buffer(&mut bytes);
        bytes
    }

    /// Everything that is left, as it is.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }
}

/// Bytes that look random and are the same every time.
#[must_use]
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}
