//! What a driver may ask of a block device, parsed and checked.
//!
//! Invariant: a [`Request`] that exists lies within the disk and within its chain; the device does no
//! arithmetic on a guest's numbers.

use super::SECTOR;
use crate::virtio::rings::Chain;

/// Bytes before the data: type, reserved, sector (5.2.6).
pub(super) const HEADER: usize = 16;

/// Bytes of one request: Linux asks for 1.3 MB at most. With buffers that overlap a guest could ask for 4 GiB.
const MAX_BYTES: u64 = 16 << 20;

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Read { offset: u64, bytes: usize },
    Write { offset: u64, bytes: usize },
    Flush,
    GetId,
}

/// Why a request is answered without being carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// VIRTIO_BLK_S_UNSUPP: a type this device does not know.
    Unsupported,
    /// VIRTIO_BLK_S_IOERR: outside the disk, not whole sectors, too many of them, or no room where it is needed.
    Invalid,
}

impl Request {
    /// Understands a request on a disk of `capacity` bytes, of which the first 16 readable bytes are
    /// `header`. The last writable byte of the chain is the status and counts as no data.
    pub(super) fn parse(header: [u8; HEADER], chain: &Chain, capacity: u64) -> Result<Self, Rejection> {
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        let span = |bytes: usize| {
            let length = u64::try_from(bytes)
                .ok()
                .filter(|length| length.is_multiple_of(SECTOR) && *length <= MAX_BYTES)?;
            let offset = sector.checked_mul(SECTOR)?;
            let end = offset.checked_add(length)?;
            (end <= capacity).then_some((offset, bytes))
        };
        match u32::from_le_bytes([t0, t1, t2, t3]) {
            TYPE_IN => span(chain.writable_bytes().saturating_sub(1))
                .map(|(offset, bytes)| Self::Read { offset, bytes })
                .ok_or(Rejection::Invalid),
            TYPE_OUT => span(chain.readable_bytes().saturating_sub(HEADER))
                .map(|(offset, bytes)| Self::Write { offset, bytes })
                .ok_or(Rejection::Invalid),
            TYPE_FLUSH => Ok(Self::Flush),
            TYPE_GET_ID => Ok(Self::GetId),
            _ => Err(Rejection::Unsupported),
        }
    }
}
