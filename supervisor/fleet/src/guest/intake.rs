//! Packets out of a guest's bytes.
//!
//! Duty: hold bytes until they are a packet. Not here: what packets mean (`session`), the codec (`rumqttc`).
//! Invariants: it holds a packet and a read at most. A packet that only a broker sends never reaches the codec.

use prost::bytes::{Buf, BytesMut};
use rumqttc::Packet;
use rumqttc::mqttbytes::Error as CodecError;

/// Bytes of one packet: the largest message that a workload may be allowed, and some, so that one that is a little too
/// large is refused with a word and not with the connection.
pub const MAX_PACKET: usize = 48 << 10;
/// Bytes of a fixed header.
const HEADER: usize = 5;
/// The kinds of packet that a client sends and that make sense here, by the number in their first byte: CONNECT,
/// PUBLISH, PUBACK, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT.
const KNOWN: [u8; 7] = [1, 3, 4, 8, 10, 12, 14];

/// What a guest sent is no MQTT, or none that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonsense;

#[derive(Debug, Default)]
pub struct Intake {
    bytes: BytesMut,
}

impl Intake {
    /// Bytes that may be pushed now.
    pub fn room(&self) -> usize {
        (MAX_PACKET + HEADER).saturating_sub(self.bytes.len())
    }

    /// No more than there is room for.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole packet.
    pub fn take(&mut self) -> Result<Option<Packet>, Nonsense> {
        let Some(first) = self.bytes.first() else { return Ok(None) };
        if !KNOWN.contains(&(first >> 4)) {
            return Err(Nonsense);
        }
        match Packet::read(&mut self.bytes, MAX_PACKET) {
            Ok(packet) => {
                if self.bytes.is_empty() {
                    // A quiet client costs nothing.
                    self.bytes = BytesMut::new();
                }
                Ok(Some(packet))
            }
            Err(CodecError::InsufficientBytes(_)) => Ok(None),
            Err(_) => {
                self.bytes.advance(self.bytes.len());
                Err(Nonsense)
            }
        }
    }
}
