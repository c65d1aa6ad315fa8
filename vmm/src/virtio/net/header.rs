//! The header that stands before every frame (5.1.6), and what of a guest's own may reach the host's kernel.
//!
//! Duty: check a header against the frame it describes and the features agreed on. The kernel checks again when
//! it parses the packet; what is refused here is what it would take at its word, or do too much work for.
//!
//! Invariant: a checked header has no bit and no field that means nothing in it.

use super::offload::{self, Offloads};

/// Bytes of the header, which has `num_buffers` in every packet since virtio 1.0.
pub(super) const HEADER_BYTES: usize = 12;
/// Where `num_buffers` stands.
pub(super) const NUM_BUFFERS_AT: usize = 10;
/// Bytes of the shortest frame: an Ethernet header.
pub(super) const MIN_FRAME_BYTES: usize = 14;
/// Bytes of the longest frame: the longest IP packet, an Ethernet header and two VLAN tags.
pub(super) const MAX_FRAME_BYTES: usize = 65_535 + 14 + 8;
/// Packets that one frame may ask to be cut into: the longest frame at the least segment size that Linux
/// sends (TCP_MIN_SND_MSS, 48 bytes). Protects the host from a frame that becomes 65,535 packets of a byte each.
const MAX_SEGMENTS: usize = MAX_FRAME_BYTES / 48 + 1;

const FLAG_NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Why a header is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// Shorter than an Ethernet header, or longer than any packet.
    #[error("a frame of an impossible length")]
    Length,
    /// Buffers to write where the device only reads.
    #[error("a frame in buffers of the wrong direction")]
    Direction,
    /// An offload that was not agreed on, or that does not exist.
    #[error("an offload that was not agreed on")]
    Offload,
    /// A checksum outside the frame, or missing where the packet is to be cut.
    #[error("a checksum that is not in the frame")]
    Checksum,
    /// Segments of no bytes, or too many of them, or headers longer than the frame.
    #[error("segments that cannot be")]
    Segments,
}

/// The header as the kernel may see it, for a frame of `frame` bytes.
pub(super) fn checked(
    header: [u8; HEADER_BYTES],
    frame: usize,
    offloads: Offloads,
) -> Result<[u8; HEADER_BYTES], Lie> {
    let [flags, gso, h0, h1, s0, s1, c0, c1, o0, o1, _, _] = header;
    if !(MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(&frame) {
        return Err(Lie::Length);
    }
    // Bits of the flags that we do not know are to be ignored (5.1.6.2.1).
    let flags = flags & FLAG_NEEDS_CSUM;
    if flags == 0 && gso == GSO_NONE {
        return Ok([0; HEADER_BYTES]);
    }
    if flags == 0 {
        // Cut packets need new checksums, and the driver must ask for them (5.1.6.2.1).
        return Err(Lie::Checksum);
    }
    if !offloads.has(offload::CSUM) {
        return Err(Lie::Offload);
    }
    let start = usize::from(u16::from_le_bytes([c0, c1]));
    let end = start.saturating_add(usize::from(u16::from_le_bytes([o0, o1]))).saturating_add(2);
    if end > frame {
        return Err(Lie::Checksum);
    }
    if gso == GSO_NONE {
        return Ok([flags, GSO_NONE, 0, 0, 0, 0, c0, c1, o0, o1, 0, 0]);
    }
    let agreed = match gso & !GSO_ECN {
        GSO_TCPV4 => offloads.has(offload::HOST_TSO4),
        GSO_TCPV6 => offloads.has(offload::HOST_TSO6),
        GSO_UDP_L4 => gso & GSO_ECN == 0 && offloads.has(offload::HOST_USO),
        _ => false,
    };
    if !agreed || (gso & GSO_ECN != 0 && !offloads.has(offload::HOST_ECN)) {
        return Err(Lie::Offload);
    }
    let headers = usize::from(u16::from_le_bytes([h0, h1]));
    let segment = usize::from(u16::from_le_bytes([s0, s1]));
    let segments = frame.checked_div(segment).ok_or(Lie::Segments)?;
    if segments > MAX_SEGMENTS || headers > frame {
        return Err(Lie::Segments);
    }
    Ok([flags, gso, h0, h1, s0, s1, c0, c1, o0, o1, 0, 0])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> Offloads {
        Offloads::agreed(u64::MAX)
    }

    fn header(flags: u8, gso: u8, headers: u16, segment: u16, start: u16, offset: u16) -> [u8; HEADER_BYTES] {
        let mut header = [flags, gso, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9];
        for (place, field) in header[2..10].chunks_exact_mut(2).zip([headers, segment, start, offset]) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        header
    }

    #[test]
    fn what_a_driver_really_sends_passes_as_it_is() {
        assert_eq!(checked([0; 12], 60, Offloads::default()), Ok([0; 12]));
        for (gso, start) in [(1, 34), (4, 54), (0x81, 34), (5, 34)] {
            let large = header(1, gso, 66, 1448, start, 16);
            let mut expected = large;
            expected[10..].fill(0);
            assert_eq!(checked(large, 65_000, all()), Ok(expected), "{gso}");
        }
        assert_eq!(
            checked(header(1, 0, 66, 7, 34, 16), 60, all()),
            Ok(checked(header(1, 0, 0, 0, 34, 16), 60, all()).unwrap())
        );
    }

    #[test]
    fn unknown_flags_are_ignored_and_unknown_segmentation_is_refused() {
        assert_eq!(checked(header(0xfe, 0, 0, 0, 0, 0), 60, all()), Ok([0; 12]));
        for gso in [2, 3, 6, 0x7f, 0x80, 0x85, 0xff] {
            assert_eq!(checked(header(1, gso, 54, 1000, 34, 16), 5000, all()), Err(Lie::Offload), "{gso}");
        }
    }

    #[test]
    fn fields_that_lie_are_refused() {
        assert_eq!(checked(header(1, 0, 0, 0, 59, 0), 60, all()), Err(Lie::Checksum));
        assert_eq!(checked(header(1, 0, 0, 0, u16::MAX, u16::MAX), 60, all()), Err(Lie::Checksum));
        assert_eq!(checked(header(0, 1, 54, 1448, 34, 16), 5000, all()), Err(Lie::Checksum));
        assert_eq!(checked(header(1, 1, 54, 0, 34, 16), 5000, all()), Err(Lie::Segments));
        assert_eq!(checked(header(1, 1, 54, 1, 34, 16), 65_000, all()), Err(Lie::Segments));
        assert_eq!(checked(header(1, 1, 5001, 1448, 34, 16), 5000, all()), Err(Lie::Segments));
        assert_eq!(checked([0; 12], 13, all()), Err(Lie::Length));
        assert_eq!(checked([0; 12], MAX_FRAME_BYTES, all()), Ok([0; 12]));
        assert_eq!(checked([0; 12], MAX_FRAME_BYTES + 1, all()), Err(Lie::Length));
    }

    #[test]
    fn nothing_passes_that_was_not_agreed_on() {
        let none = Offloads::default();
        assert_eq!(checked(header(1, 0, 0, 0, 34, 16), 60, none), Err(Lie::Offload));
        let only_v6 = Offloads::agreed(offload::CSUM | offload::HOST_TSO6);
        assert_eq!(checked(header(1, 1, 54, 1448, 34, 16), 5000, only_v6), Err(Lie::Offload));
        assert!(checked(header(1, 4, 54, 1448, 34, 16), 5000, only_v6).is_ok());
        assert_eq!(checked(header(1, 0x84, 54, 1448, 34, 16), 5000, only_v6), Err(Lie::Offload));
        assert_eq!(checked(header(1, 5, 54, 1448, 34, 16), 5000, only_v6), Err(Lie::Offload));
    }

    proptest! {
        /// Whatever the guest writes: what passes holds for the frame, and stays as it is when checked again.
        #[test]
        fn any_header_is_refused_or_made_true(raw in any::<[u8; 12]>(), frame in 0usize..70_000, features in any::<u64>()) {
            let offloads = Offloads::agreed(features);
            if let Ok(header) = checked(raw, frame, offloads) {
                prop_assert_eq!(checked(header, frame, offloads), Ok(header));
                let word = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
                prop_assert!(header[0] == 0 || word(6) + word(8) + 2 <= frame);
                prop_assert!(header[1] == 0 || frame / word(4) <= MAX_SEGMENTS);
            }
        }
    }
}
