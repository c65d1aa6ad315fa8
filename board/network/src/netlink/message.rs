//! Messages of rtnetlink, as far as this program sends and understands them.
//!
//! ```text
//! length type flags sequence port | the family's own header | length kind value, padded to 4 | ...
//! ```
//!
//! Duty: bytes. Not here: sending them (`socket`).
//! Invariant: what is read is never read past its end; what is not understood is left out.

use std::net::Ipv4Addr;

use crate::dhcp::message::Mac;

/// Bytes of a message's own header.
const HEADER: usize = 16;
/// Bytes of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Bytes of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;

// linux/rtnetlink.h, linux/netlink.h
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
/// All of them.
const DUMP: u16 = 0x300;

/// `AF_INET`
const INET: u8 = 2;
/// `ARPHRD_ETHER`, `ARPHRD_LOOPBACK`
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;
// linux/if.h
const FLAG_UP: u32 = 1;
/// The link is there, as far as anybody knows.
const FLAG_RUNNING: u32 = 0x40;

const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_BROADCAST: u16 = 4;
const ADDRESS_TIMES: u16 = 6;
const ROUTE_LINK: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_PRIORITY: u16 = 6;
const ROUTE_SOURCE: u16 = 7;

/// The table that is asked first, "somebody configured it", to everywhere, to other hosts.
const MAIN_TABLE: u8 = 254;
const STATIC: u8 = 4;
const UNIVERSE: u8 = 0;
const UNICAST: u8 = 1;
/// The gateway is on the link, even if it is in no network of it.
const ON_LINK: u32 = 4;

/// What the kernel is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Links,
    Addresses,
    Up {
        link: u32,
    },
    /// Changes it if it is there. After so many seconds the kernel takes it away by itself; none: never.
    Address {
        link: u32,
        address: Ipv4Addr,
        prefix: u8,
        seconds: Option<u32>,
    },
    NoAddress {
        link: u32,
        address: Ipv4Addr,
        prefix: u8,
    },
    /// To everywhere. The kernel takes it away with the address.
    Default {
        link: u32,
        gateway: Ipv4Addr,
        source: Ipv4Addr,
        priority: u32,
    },
}

impl Request {
    pub(crate) fn bytes(&self, sequence: u32) -> Vec<u8> {
        let (kind, flags) = match self {
            Request::Links => (GET_LINK, DUMP),
            Request::Addresses => (GET_ADDRESS, DUMP),
            Request::Up { .. } => (NEW_LINK, ACKNOWLEDGE),
            Request::NoAddress { .. } => (DELETE_ADDRESS, ACKNOWLEDGE),
            Request::Address { .. } => (NEW_ADDRESS, ACKNOWLEDGE | CREATE | REPLACE),
            Request::Default { .. } => (NEW_ROUTE, ACKNOWLEDGE | CREATE | REPLACE),
        };
        let mut message = Message(vec![0; 4]);
        message.0.extend(kind.to_ne_bytes());
        message.0.extend((REQUEST | flags).to_ne_bytes());
        message.0.extend(sequence.to_ne_bytes());
        message.0.extend([0; 4]);
        self.body(&mut message);
        message.finished()
    }

    fn body(&self, message: &mut Message) {
        match *self {
            Request::Links => message.link(0, 0, 0),
            Request::Addresses => message.address(0, 0),
            Request::Up { link } => message.link(link, FLAG_UP, FLAG_UP),
            Request::NoAddress { link, address, prefix } => {
                message.address(link, prefix);
                message.attribute(ADDRESS_LOCAL, &address.octets());
            }
            Request::Address { link, address, prefix, seconds } => {
                message.address(link, prefix);
                message.attribute(ADDRESS_LOCAL, &address.octets());
                message.attribute(LINK_ADDRESS, &address.octets());
                let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                if prefix < 31 {
                    let all = Ipv4Addr::from_bits(address.to_bits() | hosts);
                    message.attribute(ADDRESS_BROADCAST, &all.octets());
                }
                // Preferred, valid; when it was made and changed is the kernel's.
                let seconds = seconds.unwrap_or(u32::MAX);
                let times = [seconds, seconds, 0, 0].map(u32::to_ne_bytes).concat();
                message.attribute(ADDRESS_TIMES, &times);
            }
            Request::Default { link, gateway, source, priority } => {
                message.0.extend([INET, 0, 0, 0, MAIN_TABLE, STATIC, UNIVERSE, UNICAST]);
                message.0.extend(ON_LINK.to_ne_bytes());
                message.attribute(ROUTE_LINK, &link.to_ne_bytes());
                message.attribute(ROUTE_GATEWAY, &gateway.octets());
                message.attribute(ROUTE_SOURCE, &source.octets());
                message.attribute(ROUTE_PRIORITY, &priority.to_ne_bytes());
            }
        }
    }
}

struct Message(Vec<u8>);

impl Message {
    fn link(&mut self, link: u32, flags: u32, change: u32) {
        self.0.extend([0; 4]);
        for word in [link, flags, change] {
            self.0.extend(word.to_ne_bytes());
        }
    }

    fn address(&mut self, link: u32, prefix: u8) {
        self.0.extend([INET, prefix, 0, UNIVERSE]);
        self.0.extend(link.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(4);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finished(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_ne_bytes();
        self.0.splice(..4, length);
        self.0
    }
}

/// An interface, as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) number: u32,
    pub(crate) name: String,
    /// Of Ethernet and its like.
    pub(crate) mac: Option<Mac>,
    pub(crate) is_loopback: bool,
    /// A bridge, one half of a pair, and what else has no hardware of its own.
    pub(crate) is_software: bool,
    pub(crate) is_up: bool,
    pub(crate) has_link: bool,
}

/// What the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Link(Link),
    LinkGone(u32),
    Address {
        link: u32,
        address: Ipv4Addr,
        prefix: u8,
    },
    /// To the request with this sequence: 0, or the number of an error.
    Answer {
        sequence: u32,
        errno: i32,
    },
    /// The end of a list.
    Done {
        sequence: u32,
    },
}

/// All that is understood of what came at once.
pub(crate) fn read(bytes: &[u8]) -> Vec<Told> {
    let mut told = Vec::new();
    let mut rest = bytes;
    while let Some(length) = word(rest, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = rest.get(..length).filter(|_| length >= HEADER) else { break };
        told.extend(one(message));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    told
}

fn one(message: &[u8]) -> Option<Told> {
    let sequence = word(message, 8)?;
    let body = message.get(HEADER..)?;
    match half(message, 4)? {
        NEW_LINK => link(body).map(Told::Link),
        DELETE_LINK => word(body, 4).map(Told::LinkGone),
        NEW_ADDRESS if *body.first()? == INET => {
            let local = attribute(body.get(ADDRESS_HEADER..)?, ADDRESS_LOCAL)?;
            let address = Ipv4Addr::from(<[u8; 4]>::try_from(local).ok()?);
            Some(Told::Address { link: word(body, 4)?, address, prefix: *body.get(1)? })
        }
        ERROR => {
            let errno = word(body, 0)?.cast_signed().checked_neg().unwrap_or(i32::MAX);
            Some(Told::Answer { sequence, errno })
        }
        DONE => Some(Told::Done { sequence }),
        _ => None,
    }
}

fn link(body: &[u8]) -> Option<Link> {
    let kind = half(body, 2)?;
    let flags = word(body, 8)?;
    let attributes = body.get(LINK_HEADER..)?;
    let name = attribute(attributes, LINK_NAME)?.split(|byte| *byte == 0).next()?;
    let mac = attribute(attributes, LINK_ADDRESS).and_then(|mac| mac.try_into().ok());
    Some(Link {
        number: word(body, 4)?,
        name: String::from_utf8_lossy(name).into_owned(),
        mac: mac.filter(|_| kind == ETHERNET),
        is_loopback: kind == LOOPBACK,
        is_software: attribute(attributes, LINK_INFO).is_some(),
        is_up: flags & FLAG_UP != 0,
        has_link: flags & FLAG_UP != 0 && flags & FLAG_RUNNING != 0,
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        let length = usize::from(half(rest, 0)?);
        let value = rest.get(4..length)?;
        // Some have flags in their highest bits.
        if half(rest, 2)? & 0x3fff == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

    /// A link as the kernel would tell of it.
    fn told(kind: u16, flags: u32, info: bool) -> Vec<u8> {
        let mut message = Message(vec![0; 4]);
        message.0.extend(NEW_LINK.to_ne_bytes());
        message.0.extend([0; 10]);
        message.0.extend([0, 0]);
        message.0.extend(kind.to_ne_bytes());
        for word in [3, flags, 0] {
            message.0.extend(u32::to_ne_bytes(word));
        }
        message.attribute(LINK_NAME, b"eth0\0");
        message.attribute(LINK_ADDRESS, &[2, 0, 0, 0, 0, 1]);
        if info {
            message.attribute(LINK_INFO, &[]);
        }
        message.finished()
    }

    #[test]
    fn a_link_is_read_with_what_decides_about_it() {
        let bytes = told(ETHERNET, FLAG_UP | FLAG_RUNNING, false);
        let link = Link {
            number: 3,
            name: "eth0".to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            is_loopback: false,
            is_software: false,
            is_up: true,
            has_link: true,
        };
        assert_eq!(read(&bytes), [Told::Link(link.clone())]);
        let both = [bytes, told(LOOPBACK, FLAG_RUNNING, true)].concat();
        let other = Link {
            mac: None,
            is_loopback: true,
            is_software: true,
            is_up: false,
            has_link: false,
            ..link.clone()
        };
        assert_eq!(read(&both), [Told::Link(link), Told::Link(other)], "one after the other");
    }

    #[test]
    fn requests_have_their_length_and_their_values_where_the_kernel_looks_for_them() {
        let request = Request::Address { link: 3, address: ADDRESS, prefix: 24, seconds: Some(3600) };
        let bytes = request.bytes(9);
        assert_eq!(word(&bytes, 0).map(|length| length as usize), Some(bytes.len()));
        assert_eq!((half(&bytes, 4), word(&bytes, 8)), (Some(NEW_ADDRESS), Some(9)));
        assert_eq!(bytes[HEADER..HEADER + 4], [INET, 24, 0, 0]);
        let attributes = &bytes[HEADER + ADDRESS_HEADER..];
        assert_eq!(attribute(attributes, ADDRESS_BROADCAST), Some(&[10, 0, 2, 255][..]));
        let times = attribute(attributes, ADDRESS_TIMES).unwrap();
        assert_eq!((word(times, 0), word(times, 4)), (Some(3600), Some(3600)));
        assert_eq!(read(&bytes), [Told::Address { link: 3, address: ADDRESS, prefix: 24 }]);
        for prefix in [31, 32] {
            let point = Request::Address { link: 3, address: ADDRESS, prefix, seconds: None }.bytes(1);
            assert_eq!(attribute(&point[HEADER + ADDRESS_HEADER..], ADDRESS_BROADCAST), None);
        }
    }

    #[test]
    fn a_refusal_has_the_number_of_its_request_and_its_reason() {
        let mut message = Message(vec![0; 4]);
        message.0.extend(ERROR.to_ne_bytes());
        message.0.extend([0, 0]);
        message.0.extend(7_u32.to_ne_bytes());
        message.0.extend([0; 4]);
        message.0.extend((-17_i32).to_ne_bytes());
        assert_eq!(read(&message.finished()), [Told::Answer { sequence: 7, errno: 17 }]);
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_past_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..60) {
            let _ = read(&bytes);
            let whole = told(ETHERNET, FLAG_UP, true);
            let _ = read(&whole[..cut.min(whole.len())]);
            let mut odd = whole;
            let body = HEADER + LINK_HEADER;
            for (at, byte) in bytes.iter().enumerate().take(odd.len() - body) {
                odd[body + at] = *byte;
            }
            let _ = read(&odd);
        }
    }
}
