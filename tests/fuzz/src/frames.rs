//! Frames whose checksum is right, whatever is in them: without it no reader would look at what it is given.

use crc::{CRC_32_ISCSI, Crc};

use crate::wild::Wild;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A frame around `payload`; its length is cut to what the field holds, not to what is allowed.
#[must_use]
pub(crate) fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_le_bytes();
    let mut digest = CRC.digest();
    digest.update(&length);
    digest.update(payload);
    [&length[..], &digest.finalize().to_le_bytes(), payload].concat()
}

/// Changes a byte, or cuts the end.
pub(crate) fn damage(stream: &mut Vec<u8>, wild: &mut Wild<'_>) {
    let at = wild.index(stream.len());
    if wild.one_in(3) {
        stream.truncate(at);
    } else if let Some(byte) = stream.get_mut(at) {
        *byte ^= wild.byte();
    }
}
