//! A record's bytes: the payload of one frame.
//!
//! ```text
//! <number, from the file's first, varint> <time, from the file's, signed varint> <trusted, 1 byte> <body>
//! ```
//!
//! Duty: in and out. Pure. Invariant: what comes out went in; what does not is none.

use serde::{Deserialize, Serialize};

use super::kinds::Stamp;

/// Bytes of what a record says. Larger things are sent in pieces.
pub(super) const MAX_BODY: usize = 32 << 10;
/// Bytes of its frame's payload.
pub(super) const MAX_PAYLOAD: usize = MAX_BODY + 32;

#[derive(Serialize, Deserialize)]
struct Head {
    number: u64,
    at: i64,
    trusted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'b> {
    pub(super) number: u64,
    pub(super) stamp: Stamp,
    pub(super) body: &'b [u8],
}

/// What a file's records count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) number: u64,
    pub(super) unix_ms: u64,
}

impl Record<'_> {
    pub(super) fn encode(&self, origin: Origin, out: Vec<u8>) -> Option<Vec<u8>> {
        let head = Head {
            number: self.number.checked_sub(origin.number)?,
            at: self.stamp.unix_ms.wrapping_sub(origin.unix_ms).cast_signed(),
            trusted: self.stamp.trusted,
        };
        let mut out = postcard::to_extend(&head, out).ok()?;
        out.extend_from_slice(self.body);
        Some(out)
    }

    pub(super) fn decode(origin: Origin, payload: &[u8]) -> Option<Record<'_>> {
        let (head, body) = postcard::take_from_bytes::<Head>(payload).ok()?;
        let stamp =
            Stamp { unix_ms: origin.unix_ms.wrapping_add(head.at.cast_unsigned()), trusted: head.trusted };
        Some(Record { number: origin.number.checked_add(head.number)?, stamp, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            first in any::<u64>(), ahead in 0_u64..1 << 40, from in any::<u64>(), unix_ms in any::<u64>(),
            trusted in any::<bool>(), body in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let origin = Origin { number: first, unix_ms: from };
            let number = first.saturating_add(ahead);
            let record = Record { number, stamp: Stamp { unix_ms, trusted }, body: &body };
            let bytes = record.encode(origin, Vec::new()).unwrap();
            prop_assert_eq!(Record::decode(origin, &bytes), Some(record));
        }

        #[test]
        fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Record::decode(Origin { number: u64::MAX, unix_ms: 0 }, &bytes);
        }
    }
}
