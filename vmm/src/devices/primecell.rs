//! How ARM's PrimeCell peripherals tell what they are: eight bytes at the end of their page.

/// Where the bytes begin, one in every word.
const IDENTITY: u64 = 0xfe0;
/// "This is a PrimeCell" (PL031 TRM, 3.3.10).
const CELL: [u8; 4] = [0x0d, 0xf0, 0x05, 0xb1];
/// Bytes of registers of one peripheral.
pub const LENGTH: u64 = 0x1000;

/// What a peripheral is: part number, designer and revision, as the device tree writes them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(pub u32);

impl Identity {
    /// The identification register at `offset`, if one is there.
    #[must_use]
    pub fn register(self, offset: u64) -> Option<u32> {
        let word = offset.checked_sub(IDENTITY)?;
        let index = usize::try_from(word / 4).ok().filter(|_| word.is_multiple_of(4))?;
        self.0.to_le_bytes().into_iter().chain(CELL).nth(index).map(u32::from)
    }
}

/// The value of a write, if it is one of a whole register: PrimeCells know no other.
#[must_use]
pub fn word(data: &[u8]) -> Option<u32> {
    data.try_into().ok().map(u32::from_le_bytes)
}

/// Answers a read with `value`, cut to its width.
pub fn answer(data: &mut [u8], value: u32) {
    data.fill(0);
    for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
        *byte = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bytes_identify_a_peripheral() {
        let bytes: Vec<_> =
            (0xfe0..0x1000).step_by(4).map(|offset| Identity(0x0004_1031).register(offset)).collect();
        assert_eq!(bytes, [0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1].map(Some));
        for offset in [0, 0xfdc, 0xfe1, 0x1000, u64::MAX] {
            assert_eq!(Identity(0).register(offset), None, "{offset:#x}");
        }
    }

    #[test]
    fn registers_are_words_and_reads_are_cut_to_their_width() {
        assert_eq!(word(&[1, 2, 0, 0]), Some(0x201));
        assert_eq!(word(&[1, 2]), None);
        let mut wide = [0xff; 8];
        answer(&mut wide, 0x0403_0201);
        assert_eq!(wide, [1, 2, 3, 4, 0, 0, 0, 0]);
        let mut narrow = [0xff; 1];
        answer(&mut narrow, 0x0403_0201);
        assert_eq!(narrow, [1]);
    }
}
