//! Frames in a file that is only appended to.
//!
//! ```text
//! <magic, 8 bytes> { <length u32> <CRC-32C of length and payload u32> <payload> }*      (all little-endian)
//! ```
//!
//! Duty: frames in and out of bytes, and what of a damaged file is still good. Pure.
//! Not here: files (`disk`), what payloads mean.
//! Invariant: a payload comes out only as it went in. What a power cut tore at the end is told apart from damage
//! before the end, and frames behind such damage are found again.

use crc::{CRC_32_ISCSI, Crc};

/// Names a format and its version.
pub type Magic = [u8; 8];

/// Bytes of a frame before its payload.
pub const HEADER: usize = 8;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What a look through a file found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan<'b> {
    /// Of every good frame.
    pub payloads: Vec<&'b [u8]>,
    /// Up to here the file is good.
    pub good: usize,
    /// Bytes that belong to no good frame, with good ones after them.
    pub holes: usize,
    /// Bytes after the last good frame.
    pub torn: usize,
}

/// Appends a frame to `out`. Says whether it fits: payloads have at most `most` bytes.
#[must_use]
pub fn push(out: &mut Vec<u8>, payload: &[u8], most: usize) -> bool {
    let Some(length) = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= most) else {
        return false;
    };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&check(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
    true
}

/// The payloads up to the first damage, and the bytes from there on. `None`: the file is not of this format.
pub fn until_damage<'b>(magic: &Magic, bytes: &'b [u8], most: usize) -> Option<(Vec<&'b [u8]>, usize)> {
    let mut rest = bytes.strip_prefix(magic)?;
    let mut payloads = Vec::new();
    while let Some(payload) = frame_at(rest, 0, most) {
        payloads.push(payload);
        rest = &rest[HEADER + payload.len()..];
    }
    Some((payloads, rest.len()))
}

/// All payloads, those behind damage included. `None`: the file is not of this format. Every byte of damage costs a
/// checksum over at most `most` bytes, so this is for files of small payloads.
pub fn scan<'b>(magic: &Magic, bytes: &'b [u8], most: usize) -> Option<Scan<'b>> {
    let mut scan = Scan { good: magic.len(), ..Scan::default() };
    if !bytes.starts_with(magic) {
        return None;
    }
    let mut at = magic.len();
    let mut end_of_last = at;
    while at < bytes.len() {
        if let Some(payload) = frame_at(bytes, at, most) {
            scan.holes += at - end_of_last;
            scan.payloads.push(payload);
            at += HEADER + payload.len();
            end_of_last = at;
            if scan.holes == 0 {
                scan.good = at;
            }
        } else {
            at += 1;
        }
    }
    scan.torn = bytes.len() - end_of_last;
    Some(scan)
}

/// The payload of the frame that begins `at` so many bytes.
pub fn frame_at(bytes: &[u8], at: usize, most: usize) -> Option<&[u8]> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let payload = rest.get(..usize::try_from(length).ok().filter(|length| *length <= most)?)?;
    (u32::from_le_bytes(*sum) == check(length, payload)).then_some(payload)
}

/// With the length, so that a run of zeros, which file systems leave behind after a power cut, is no frame.
fn check(length: u32, payload: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&length.to_le_bytes());
    digest.update(payload);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAGIC: &Magic = b"HRTHTST1";
    const MOST: usize = 64;

    fn file(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for payload in payloads {
            assert!(push(&mut bytes, payload, MOST));
        }
        bytes
    }

    fn whole(payloads: &[Vec<u8>], bytes: &[u8]) -> bool {
        scan(MAGIC, bytes, MOST).is_some_and(|scan| scan.payloads == payloads && scan.holes + scan.torn == 0)
    }

    #[test]
    fn a_run_of_zeros_is_no_frame() {
        let mut bytes = file(&[b"one".to_vec()]);
        let good = bytes.len();
        bytes.extend_from_slice(&[0; 64]);
        let scan = scan(MAGIC, &bytes, MOST).unwrap();
        assert_eq!((scan.payloads.len(), scan.good, scan.torn, scan.holes), (1, good, 64, 0));
    }

    #[test]
    fn a_file_of_another_format_or_version_is_refused_whole() {
        assert_eq!(scan(MAGIC, b"HRTHTST2", MOST), None);
        assert_eq!(scan(MAGIC, b"HRTH", MOST), None);
        assert_eq!(scan(MAGIC, b"", MOST), None);
    }

    #[test]
    fn a_payload_beyond_the_bound_is_not_written() {
        let mut out = Vec::new();
        assert!(!push(&mut out, &[0; MOST + 1], MOST));
        assert!(out.is_empty());
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(payloads in payloads()) {
            prop_assert!(whole(&payloads, &file(&payloads)));
        }

        #[test]
        fn a_torn_file_gives_every_frame_that_is_whole(payloads in payloads(), cut in any::<prop::sample::Index>()) {
            let bytes = file(&payloads);
            let cut = MAGIC.len() + cut.index(bytes.len() - MAGIC.len() + 1);
            let scan = scan(MAGIC, &bytes[..cut], MOST).unwrap();
            let mut end = MAGIC.len();
            let expected: Vec<_> = payloads.iter().take_while(|payload| {
                end += HEADER + payload.len();
                end <= cut
            }).collect();
            prop_assert_eq!(&scan.payloads, &expected);
            prop_assert_eq!((scan.good + scan.torn, scan.holes), (cut, 0));
            prop_assert_eq!(until_damage(MAGIC, &bytes[..cut], MOST), Some((scan.payloads, scan.torn)));
        }

        #[test]
        fn one_damaged_byte_costs_one_frame(payloads in payloads(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let mut bytes = file(&payloads);
            prop_assume!(bytes.len() > MAGIC.len());
            let at = MAGIC.len() + at.index(bytes.len() - MAGIC.len());
            bytes[at] ^= flip;
            let scan = scan(MAGIC, &bytes, MOST).unwrap();
            let mut end = MAGIC.len();
            let mut hit = None;
            for (place, payload) in payloads.iter().enumerate() {
                end += HEADER + payload.len();
                if at < end && hit.is_none() {
                    hit = Some(place);
                }
            }
            let expected: Vec<_> = payloads.iter().enumerate()
                .filter(|(place, _)| Some(*place) != hit).map(|(_, payload)| payload).collect();
            prop_assert_eq!(&scan.payloads, &expected);
            prop_assert!(scan.holes + scan.torn > 0);
            let (before, _) = until_damage(MAGIC, &bytes, MOST).unwrap();
            prop_assert_eq!(Some(before.len()), hit);
        }

        #[test]
        fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut file = MAGIC.to_vec();
            file.extend_from_slice(&bytes);
            let scan = scan(MAGIC, &file, MOST).unwrap();
            let frames: usize = scan.payloads.iter().map(|payload| HEADER + payload.len()).sum();
            prop_assert_eq!(MAGIC.len() + frames + scan.holes + scan.torn, file.len());
        }
    }
}
