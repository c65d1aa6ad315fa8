//! MQTT 3.1.1 as it is on the wire, as far as an observer needs it.

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect(Connect),
    Publish(Publish),
    Subscribe(Vec<(String, u8)>),
    Disconnect,
    /// Its type.
    Other(u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub clean_session: bool,
    pub keep_alive_s: u16,
    pub client_id: String,
    pub will: Option<Publish>,
    pub has_credentials: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
}

impl Packet {
    /// The first packet of `bytes`, which it leaves, and how long it was; `None` if it is not whole yet.
    pub fn take(bytes: &mut Vec<u8>) -> Option<(Packet, usize)> {
        let (packet, length) = Packet::first(bytes)?;
        bytes.drain(..length);
        Some((packet, length))
    }

    /// Likewise, and `bytes` stay as they are.
    pub fn first(bytes: &[u8]) -> Option<(Packet, usize)> {
        let (mut length, mut shift, mut at) = (0_usize, 0, 1);
        loop {
            let byte = *bytes.get(at)?;
            at += 1;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 || shift > 21 {
                break;
            }
        }
        if bytes.len() < at + length {
            return None;
        }
        let first = bytes[0];
        let packet = read(first, Cursor(&bytes[at..at + length])).unwrap_or(Packet::Other(first >> 4));
        Some((packet, at + length))
    }
}

struct Cursor<'b>(&'b [u8]);

impl Cursor<'_> {
    fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken.to_vec())
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(2)?.try_into().ok()?))
    }

    fn block(&mut self) -> Option<Vec<u8>> {
        let length = self.number()?;
        self.bytes(usize::from(length))
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.block()?).ok()
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.bytes(1)?[0])
    }
}

fn read(first: u8, mut body: Cursor<'_>) -> Option<Packet> {
    match first >> 4 {
        1 => {
            let (_protocol, _level, flags) = (body.text()?, body.byte()?, body.byte()?);
            let (keep_alive_s, client_id) = (body.number()?, body.text()?);
            let will = if flags & 0x04 != 0 {
                let (topic, payload) = (body.text()?, body.block()?);
                Some(Publish { topic, payload, qos: flags >> 3 & 3, retain: flags & 0x20 != 0 })
            } else {
                None
            };
            let clean_session = flags & 0x02 != 0;
            let has_credentials = flags & 0xc0 != 0;
            Some(Packet::Connect(Connect { clean_session, keep_alive_s, client_id, will, has_credentials }))
        }
        3 => {
            let qos = first >> 1 & 3;
            let topic = body.text()?;
            if qos > 0 {
                body.number()?;
            }
            Some(Packet::Publish(Publish { topic, payload: body.0.to_vec(), qos, retain: first & 1 != 0 }))
        }
        8 => {
            body.number()?;
            let mut filters = Vec::new();
            while !body.0.is_empty() {
                filters.push((body.text()?, body.byte()?));
            }
            Some(Packet::Subscribe(filters))
        }
        14 => Some(Packet::Disconnect),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_taken_one_by_one_when_they_are_whole() {
        let mut bytes = vec![0x32, 7, 0, 1, b'a', 0, 9, b'x', b'y', 0xe0, 0];
        let last = bytes.split_off(5);
        assert_eq!(Packet::take(&mut bytes), None);
        bytes.extend(last);
        let publish = Publish { topic: "a".to_owned(), payload: b"xy".to_vec(), qos: 1, retain: false };
        assert_eq!(Packet::take(&mut bytes), Some((Packet::Publish(publish), 9)));
        assert_eq!(Packet::take(&mut bytes), Some((Packet::Disconnect, 2)));
        assert_eq!(Packet::take(&mut bytes), None);
    }
}
