//! One frame: its header, its checksum, its payload.
//!
//! Duty: turn a message into the bytes of a frame, and the bytes of a whole frame back into a message.
//! Not its duty: where a frame begins in a stream (see `decoder`).
//! Invariant: a length is checked against `MAX_PAYLOAD` before anything is done with it, and the checksum
//! before the payload is looked at.

use crate::message::Message;
use crc::{CRC_32_ISCSI, Crc, Table};
use serde::Serialize;

/// Bytes of payload in one frame, at most: four times the largest message of today, and what a peer can make
/// the other side hold.
pub const MAX_PAYLOAD: usize = 4096;

/// Bytes before the payload.
pub const HEADER_LEN: usize = LEN_BYTES + CRC_BYTES;

/// Bytes of the largest frame; a buffer of this size takes any message.
pub const MAX_FRAME: usize = HEADER_LEN + MAX_PAYLOAD;

const LEN_BYTES: usize = 2;
const CRC_BYTES: usize = 4;

/// CRC-32C finds every single error of up to 32 bits in a row, and every pattern of up to five flipped bits in
/// frames this short. One lookup table (1 KiB) and not sixteen: frames are few and small, and 16 KiB of tables
/// would push the workload out of a small core's first-level cache for speed that nobody would notice.
const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// Why the bytes of a stream are not the frames they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    #[error("frame announces {0} bytes of payload, at most {MAX_PAYLOAD} are allowed")]
    TooLong(usize),
    #[error("frame checksum does not match its bytes")]
    BadCrc,
    #[error("frame payload is not a message that this side knows")]
    BadPayload,
    #[error("stream ended in the middle of a frame")]
    UnexpectedEof,
}

/// The message does not fit the buffer or a frame. Cannot happen with a buffer of `MAX_FRAME` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message does not fit the frame buffer")]
pub struct TooBig;

/// Writes `message` as one frame to the front of `buf` and returns that part of it.
pub fn encode<'b, M: Message>(message: &M, buf: &'b mut [u8]) -> Result<&'b [u8], TooBig> {
    encode_payload(message, buf)
}

/// The same for anything that serialises.
pub(crate) fn encode_payload<'b, T: Serialize>(message: &T, buf: &'b mut [u8]) -> Result<&'b [u8], TooBig> {
    let usable = buf.len().min(MAX_FRAME);
    let (header, room) = buf[..usable].split_at_mut_checked(HEADER_LEN).ok_or(TooBig)?;
    let payload = postcard::to_slice(message, room).map_err(|_| TooBig)?;
    let len = u16::try_from(payload.len()).map_err(|_| TooBig)?.to_le_bytes();
    let crc = checksum(len, payload).to_le_bytes();
    let frame = HEADER_LEN + payload.len();
    header[..LEN_BYTES].copy_from_slice(&len);
    header[LEN_BYTES..].copy_from_slice(&crc);
    Ok(&buf[..frame])
}

/// How many bytes the frame at the front of `bytes` has in all, once enough of it is there to tell.
pub(crate) fn frame_len(bytes: &[u8]) -> Result<Option<usize>, FrameFault> {
    let Some(len) = bytes.first_chunk::<LEN_BYTES>() else { return Ok(None) };
    let len = usize::from(u16::from_le_bytes(*len));
    if len > MAX_PAYLOAD { Err(FrameFault::TooLong(len)) } else { Ok(Some(HEADER_LEN + len)) }
}

/// The message in `frame`, which is as long as `frame_len` said.
pub(crate) fn decode<M: Message>(frame: &[u8]) -> Result<M, FrameFault> {
    match postcard::take_from_bytes(payload(frame)?) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(FrameFault::BadPayload),
    }
}

/// The payload of `frame`, which is as long as `frame_len` said, once its checksum is seen to be right.
pub(crate) fn payload(frame: &[u8]) -> Result<&[u8], FrameFault> {
    let (len, rest) = frame.split_first_chunk::<LEN_BYTES>().ok_or(FrameFault::UnexpectedEof)?;
    let (crc, payload) = rest.split_first_chunk::<CRC_BYTES>().ok_or(FrameFault::UnexpectedEof)?;
    if checksum(*len, payload) != u32::from_le_bytes(*crc) {
        return Err(FrameFault::BadCrc);
    }
    Ok(payload)
}

fn checksum(len: [u8; LEN_BYTES], payload: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&len);
    digest.update(payload);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FromAgent, ToAgent};

    #[test]
    fn checksum_is_the_castagnoli_one() {
        // The check value that every catalogue of CRCs gives for "123456789".
        assert_eq!(checksum(*b"12", b"3456789"), 0xe306_9283);
    }

    #[test]
    fn a_buffer_too_small_is_refused_at_every_size() {
        let message = ToAgent::Shutdown { grace_ms: 1000 };
        let mut whole = [0; MAX_FRAME];
        let need = encode(&message, &mut whole).expect("fits").len();
        for size in 0..need {
            assert_eq!(encode(&message, &mut whole[..size]), Err(TooBig));
        }
        assert!(encode(&message, &mut whole[..need]).is_ok());
    }

    #[test]
    fn payload_with_bytes_left_over_is_refused() {
        let mut buf = [0; MAX_FRAME];
        let payload = [1, 2, 99];
        let len = 3_u16.to_le_bytes();
        buf[..2].copy_from_slice(&len);
        buf[2..6].copy_from_slice(&checksum(len, &payload).to_le_bytes());
        buf[6..9].copy_from_slice(&payload);
        assert_eq!(decode::<ToAgent>(&buf[..9]), Err(FrameFault::BadPayload));
    }

    #[test]
    fn output_longer_than_its_bound_is_refused() {
        let mut payload = [0; 3 + 2 + 1025];
        payload[..4].copy_from_slice(&[3, 0, 0x81, 0x08]); // Output, Stdout, 1025 bytes
        let payload = &payload[..4 + 1025];
        let len = u16::try_from(payload.len()).expect("small").to_le_bytes();
        let mut frame = std::vec::Vec::from(len);
        frame.extend_from_slice(&checksum(len, payload).to_le_bytes());
        frame.extend_from_slice(payload);
        assert_eq!(decode::<FromAgent>(&frame), Err(FrameFault::BadPayload));
    }
}
