//! Bytes that are written and read as a whole.
//!
//! A list of bytes is one element after the other to serde, some twenty instructions each; a machine's state is mostly
//! such lists, and reading it stands between a restore and the guest's first instruction. In a file both are the same.

use std::fmt;
use std::ops::Deref;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that somebody else knows the meaning of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes(Vec<u8>);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;

        impl Visitor<'_> for Whole {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }

        deserializer.deserialize_bytes(Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_look_like_a_list_in_a_file() {
        for length in [0, 1, 127, 128, 5000] {
            let list = vec![0xa5_u8; length];
            let file = postcard::to_extend(&list, Vec::new()).unwrap();
            assert_eq!(postcard::to_extend(&Bytes::from(list.clone()), Vec::new()).unwrap(), file);
            assert_eq!(&*postcard::from_bytes::<Bytes>(&file).unwrap(), list);
            let cut = file.split_last().map_or(&[][..], |(_, rest)| rest);
            assert!(length == 0 || postcard::from_bytes::<Bytes>(cut).is_err());
        }
    }
}
