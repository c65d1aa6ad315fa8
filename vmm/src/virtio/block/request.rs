//! What a driver may ask of a block device, parsed and checked.
//!
//! Invariant: a [`Request`] that exists lies within the disk and within its chain, and is one that the driver
//! may make; the device does no arithmetic on a guest's numbers.

use super::SECTOR;
use super::feature;
use crate::virtio::rings::{Chain, Reader};

/// Bytes before the data: type, reserved, sector (5.2.6).
pub(super) const HEADER: usize = 16;
/// Bytes of one range to discard or to zero: sector, sectors, flags (5.2.6). A request has exactly one: Linux
/// then merges neighbours only, and one range is one call to the host.
const RANGE: usize = 16;
/// The one flag of a range: a range to zero may be deallocated.
const FLAG_UNMAP: u32 = 1;

/// Bytes of one request: Linux asks for 1.3 MB at most. With buffers that overlap a guest could ask for 4 GiB.
const MAX_BYTES: u64 = 16 << 20;
/// Bytes that one request may zero: what a turn may move, as some hosts can only write them.
pub(super) const MAX_ZEROED: u64 = 4 << 20;
/// Bytes that one request may discard. The host's work grows with the number of extents in it.
pub(super) const MAX_DISCARDED: u64 = 128 << 20;
/// What a call weighs, in bytes moved, that deallocates or waits for stable storage: whatever its length, a transaction
/// of a file system.
const CALL_WEIGHT: u64 = 1 << 20;

const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const TYPE_DISCARD: u32 = 11;
const TYPE_WRITE_ZEROES: u32 = 13;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Read { offset: u64, bytes: u64 },
    Write { offset: u64, bytes: u64 },
    Flush,
    GetId,
    Discard { offset: u64, bytes: u64 },
    Zero { offset: u64, bytes: u64, unmap: bool },
}

/// Why a request is answered without being carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// VIRTIO_BLK_S_UNSUPP: a type or a flag that this device does not know, or did not agree on.
    Unsupported,
    /// VIRTIO_BLK_S_IOERR: outside the disk, not whole sectors, too many of them, no room where it is needed, or
    /// a write to a disk that is read only.
    Invalid,
}

/// What requests are held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Bytes of the disk.
    pub(super) capacity: u64,
    pub(super) read_only: bool,
    /// The features that both sides agreed on.
    pub(super) features: u64,
}

impl Request {
    /// Understands the request that starts at `reader`, which is left at its data. The last writable byte of
    /// the chain is the status and counts as no data.
    pub(super) fn parse(chain: &Chain, reader: &mut Reader<'_>, terms: Terms) -> Result<Self, Rejection> {
        let header: [u8; HEADER] = reader.read_array().ok_or(Rejection::Invalid)?;
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let sector = u64::from_le_bytes(sector);
        match u32::from_le_bytes([t0, t1, t2, t3]) {
            TYPE_IN => {
                let (offset, bytes) = terms.data(sector, chain.writable_bytes().saturating_sub(1))?;
                Ok(Self::Read { offset, bytes })
            }
            TYPE_OUT if terms.read_only => Err(Rejection::Invalid),
            TYPE_OUT => {
                let (offset, bytes) = terms.data(sector, reader.remaining())?;
                Ok(Self::Write { offset, bytes })
            }
            TYPE_FLUSH => Ok(Self::Flush),
            TYPE_GET_ID => Ok(Self::GetId),
            TYPE_DISCARD if terms.features & feature::DISCARD != 0 => {
                let range = Range::read(reader)?;
                if range.flags != 0 {
                    return Err(Rejection::Unsupported);
                }
                let (offset, bytes) = terms.span(range.sector, range.bytes, MAX_DISCARDED)?;
                Ok(Self::Discard { offset, bytes })
            }
            TYPE_WRITE_ZEROES if terms.features & feature::WRITE_ZEROES != 0 => {
                let range = Range::read(reader)?;
                if range.flags & !FLAG_UNMAP != 0 {
                    return Err(Rejection::Unsupported);
                }
                let (offset, bytes) = terms.span(range.sector, range.bytes, MAX_ZEROED)?;
                Ok(Self::Zero { offset, bytes, unmap: range.flags & FLAG_UNMAP != 0 })
            }
            _ => Err(Rejection::Unsupported),
        }
    }

    /// Bytes that count against a rate limit. What is zeroed counts, as the host may have to write it.
    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::Read { bytes, .. } | Self::Write { bytes, .. } | Self::Zero { bytes, .. } => bytes,
            Self::Flush | Self::GetId | Self::Discard { .. } => 0,
        }
    }

    /// What it weighs in a turn, in bytes moved, besides its chain; with `durable` writes it is over when it is on stable
    /// storage.
    pub(super) const fn weight(self, durable: bool) -> u64 {
        match self {
            Self::Zero { bytes, .. } if bytes > CALL_WEIGHT => bytes,
            Self::Zero { .. } | Self::Discard { .. } | Self::Flush => CALL_WEIGHT,
            Self::Write { .. } if durable => CALL_WEIGHT,
            Self::Read { .. } | Self::Write { .. } | Self::GetId => 0,
        }
    }

    /// What it counts while it is under way, in bytes.
    pub(super) fn load(self, durable: bool) -> u64 {
        self.bytes().max(self.weight(durable))
    }

    /// Whether a flush that comes after it must cover it.
    pub(super) const fn modifies(self) -> bool {
        matches!(self, Self::Write { .. } | Self::Discard { .. } | Self::Zero { .. })
    }
}

impl Terms {
    /// Whether each write is durable: without FLUSH the driver has no other way to stable storage (5.2.6.2).
    pub(super) const fn durable(self) -> bool {
        self.features & feature::FLUSH == 0
    }

    fn data(self, sector: u64, bytes: usize) -> Result<(u64, u64), Rejection> {
        let bytes = u64::try_from(bytes).ok().filter(|bytes| bytes.is_multiple_of(SECTOR));
        self.span(sector, bytes.ok_or(Rejection::Invalid)?, MAX_BYTES)
    }

    /// Offset and length of a range that is wholly on the disk.
    fn span(self, sector: u64, bytes: u64, max: u64) -> Result<(u64, u64), Rejection> {
        let offset = sector.checked_mul(SECTOR).ok_or(Rejection::Invalid)?;
        let end = offset.checked_add(bytes).ok_or(Rejection::Invalid)?;
        if bytes > max || end > self.capacity {
            return Err(Rejection::Invalid);
        }
        Ok((offset, bytes))
    }
}

/// `virtio_blk_discard_write_zeroes` (5.2.6).
struct Range {
    sector: u64,
    bytes: u64,
    flags: u32,
}

impl Range {
    /// The one range that is all there is at `reader`.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Rejection> {
        if reader.remaining() != RANGE {
            return Err(Rejection::Invalid);
        }
        let range: [u8; RANGE] = reader.read_array().ok_or(Rejection::Invalid)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = range;
        Ok(Self {
            sector: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            bytes: u64::from(u32::from_le_bytes([n0, n1, n2, n3])).saturating_mul(SECTOR),
            flags: u32::from_le_bytes(flags),
        })
    }
}
