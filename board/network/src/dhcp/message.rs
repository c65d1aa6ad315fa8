//! What clients and servers of DHCP send each other (RFC 2131, RFC 2132), as far as this box says and hears it.
//!
//! ```text
//! op htype hlen hops | xid | secs flags | ciaddr | yiaddr | siaddr | giaddr | chaddr (16) | sname (64) | file (128)
//! 63 82 53 63 | code length value ... | 255
//! ```
//!
//! Duty: a question into bytes, bytes into an answer. Not here: whether an answer makes sense (`lease`).
//! Invariant: whatever the bytes are, reading ends, takes bounded memory, and what it gives is to this box's own
//! question. Options that run over their end, or are as long as they must not be, are as if they were not there.
//!
//! By hand, because it is three dozen fields: crates for it know all of DHCP and bring a resolver along.

use std::net::Ipv4Addr;

pub(crate) const CLIENT_PORT: u16 = 68;
pub(crate) const SERVER_PORT: u16 = 67;
/// No answer that this box asks for is longer than a frame on any wire.
pub(crate) const MAX_BYTES: usize = 1500;
/// What old relays take for the least.
const LEAST_BYTES: usize = 300;
/// Name servers that are kept of an answer: the C library asks no more (resolv.conf(5)).
pub(crate) const MAX_NAME_SERVERS: usize = 3;
/// Letters of a domain (RFC 1035).
const MAX_DOMAIN_BYTES: usize = 253;

const QUESTION: u8 = 1;
const ANSWER: u8 = 2;
const ETHERNET: u8 = 1;
/// "Answer to all: I have no address that you could answer to."
const TO_ALL: u16 = 0x8000;
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// Where the cookie is.
const FIXED: usize = 236;

mod option {
    pub(super) const PAD: u8 = 0;
    pub(super) const MASK: u8 = 1;
    pub(super) const ROUTERS: u8 = 3;
    pub(super) const NAME_SERVERS: u8 = 6;
    pub(super) const HOST_NAME: u8 = 12;
    pub(super) const DOMAIN: u8 = 15;
    pub(super) const REQUESTED: u8 = 50;
    pub(super) const LEASE: u8 = 51;
    pub(super) const KIND: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const WANTED: u8 = 55;
    pub(super) const RENEW: u8 = 58;
    pub(super) const REBIND: u8 = 59;
    pub(super) const CLIENT: u8 = 61;
    pub(super) const END: u8 = 255;
}

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Discover,
    Request,
}

/// What this box asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) asked: Asked,
    /// Who answers says it again.
    pub(crate) number: u32,
    /// Since the box began to ask.
    pub(crate) seconds: u16,
    pub(crate) mac: Mac,
    /// The address that it has already, and may be answered at.
    pub(crate) own: Option<Ipv4Addr>,
    /// The address that it would like.
    pub(crate) wanted: Option<Ipv4Addr>,
    /// The one server that is meant.
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) host_name: Option<String>,
}

impl Question {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let flags = if self.own.is_some() { 0 } else { TO_ALL };
        let mut bytes = vec![QUESTION, ETHERNET, 6, 0];
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.seconds.to_be_bytes());
        bytes.extend(flags.to_be_bytes());
        bytes.extend(self.own.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
        bytes.resize(28, 0);
        bytes.extend(self.mac);
        bytes.resize(FIXED, 0);
        bytes.extend(COOKIE);
        let kind = match self.asked {
            Asked::Discover => 1,
            Asked::Request => 3,
        };
        let mut add = |code: u8, value: &[u8]| {
            // Every value here is some bytes long; the longest is a host's name.
            if let Ok(length) = u8::try_from(value.len()) {
                bytes.extend([code, length]);
                bytes.extend(value);
            }
        };
        add(option::KIND, &[kind]);
        add(option::CLIENT, &[&[ETHERNET], self.mac.as_slice()].concat());
        if let Some(address) = self.wanted {
            add(option::REQUESTED, &address.octets());
        }
        if let Some(address) = self.server {
            add(option::SERVER, &address.octets());
        }
        if let Some(name) = &self.host_name {
            add(option::HOST_NAME, name.as_bytes());
        }
        let wanted = [option::MASK, option::ROUTERS, option::NAME_SERVERS, option::DOMAIN];
        let times = [option::LEASE, option::SERVER, option::RENEW, option::REBIND];
        add(option::WANTED, &[wanted, times].concat());
        bytes.push(option::END);
        bytes.resize(bytes.len().max(LEAST_BYTES), option::PAD);
        bytes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Offer,
    Granted,
    Refused,
}

/// What a server answered, as it said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) said: Said,
    pub(crate) number: u32,
    pub(crate) mac: Mac,
    pub(crate) address: Ipv4Addr,
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) mask: Option<Ipv4Addr>,
    /// The first of them.
    pub(crate) router: Option<Ipv4Addr>,
    pub(crate) name_servers: Vec<Ipv4Addr>,
    pub(crate) domain: Option<String>,
    /// Seconds.
    pub(crate) lease: Option<u32>,
    pub(crate) renew: Option<u32>,
    pub(crate) rebind: Option<u32>,
}

/// `None` for what is no answer of a server.
pub(crate) fn read(bytes: &[u8]) -> Option<Answer> {
    if bytes.get(..3)? != [ANSWER, ETHERNET, 6] || bytes.get(FIXED..FIXED + 4)? != COOKIE {
        return None;
    }
    let options = Options(bytes.get(FIXED + 4..)?);
    let said = match options.value(option::KIND)? {
        [2] => Said::Offer,
        [5] => Said::Granted,
        [6] => Said::Refused,
        _ => return None,
    };
    Some(Answer {
        said,
        number: u32::from_be_bytes(array(bytes.get(4..8)?)?),
        mac: array(bytes.get(28..34)?)?,
        address: Ipv4Addr::from(array::<4>(bytes.get(16..20)?)?),
        server: options.address(option::SERVER),
        mask: options.address(option::MASK),
        router: options.addresses(option::ROUTERS).next(),
        name_servers: options.addresses(option::NAME_SERVERS).take(MAX_NAME_SERVERS).collect(),
        domain: options.value(option::DOMAIN).and_then(domain),
        lease: options.seconds(option::LEASE),
        renew: options.seconds(option::RENEW),
        rebind: options.seconds(option::REBIND),
    })
}

struct Options<'b>(&'b [u8]);

impl<'b> Options<'b> {
    /// The first one that is whole.
    fn value(&self, wanted: u8) -> Option<&'b [u8]> {
        let mut rest = self.0;
        loop {
            match rest {
                [option::PAD, more @ ..] => rest = more,
                [] | [option::END, ..] | [_] => return None,
                [code, length, more @ ..] => {
                    let (value, more) = more.split_at_checked(usize::from(*length))?;
                    if *code == wanted {
                        return Some(value);
                    }
                    rest = more;
                }
            }
        }
    }

    fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.value(code).and_then(array::<4>).map(Ipv4Addr::from)
    }

    fn addresses(&self, code: u8) -> impl Iterator<Item = Ipv4Addr> {
        let value = self.value(code).filter(|value| value.len() % 4 == 0).unwrap_or_default();
        value.chunks_exact(4).filter_map(array::<4>).map(Ipv4Addr::from)
    }

    fn seconds(&self, code: u8) -> Option<u32> {
        self.value(code).and_then(array).map(u32::from_be_bytes)
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// It ends up in a file that programs read: what is not letters, digits, dashes and dots is not taken.
fn domain(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches(['\0', '.']);
    let good = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    (text.len() <= MAX_DOMAIN_BYTES && text.split('.').all(good)).then(|| text.to_owned())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// An answer as a server would put it into bytes, with more options behind its own.
    pub(crate) fn bytes(answer: &Answer, more: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![ANSWER, ETHERNET, 6, 0];
        bytes.extend(answer.number.to_be_bytes());
        bytes.resize(16, 0);
        bytes.extend(answer.address.octets());
        bytes.resize(28, 0);
        bytes.extend(answer.mac);
        bytes.resize(FIXED, 0);
        bytes.extend(COOKIE);
        let kind = match answer.said {
            Said::Offer => 2,
            Said::Granted => 5,
            Said::Refused => 6,
        };
        let mut options: Vec<(u8, Vec<u8>)> = vec![(option::KIND, vec![kind])];
        let addresses =
            [(option::SERVER, answer.server), (option::MASK, answer.mask), (option::ROUTERS, answer.router)];
        options.extend(addresses.into_iter().filter_map(|(code, a)| Some((code, a?.octets().to_vec()))));
        let times =
            [(option::LEASE, answer.lease), (option::RENEW, answer.renew), (option::REBIND, answer.rebind)];
        options.extend(times.into_iter().filter_map(|(code, t)| Some((code, t?.to_be_bytes().to_vec()))));
        if !answer.name_servers.is_empty() {
            let all = answer.name_servers.iter().flat_map(Ipv4Addr::octets).collect();
            options.push((option::NAME_SERVERS, all));
        }
        options.extend(answer.domain.iter().map(|name| (option::DOMAIN, name.as_bytes().to_vec())));
        options.extend(more.iter().map(|(code, value)| (*code, value.to_vec())));
        for (code, value) in options {
            bytes.extend([code, u8::try_from(value.len()).unwrap()]);
            bytes.extend(value);
        }
        bytes.push(option::END);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: Mac = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    fn answer() -> Answer {
        Answer {
            said: Said::Offer,
            number: 7,
            mac: MAC,
            address: Ipv4Addr::new(10, 0, 2, 15),
            server: Some(Ipv4Addr::new(10, 0, 2, 2)),
            mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            router: Some(Ipv4Addr::new(10, 0, 2, 2)),
            name_servers: vec![Ipv4Addr::new(10, 0, 2, 3)],
            domain: Some("box.example".to_owned()),
            lease: Some(86400),
            renew: None,
            rebind: None,
        }
    }

    #[test]
    fn a_question_says_what_it_must_where_it_must() {
        let question = Question {
            asked: Asked::Request,
            number: 0x0102_0304,
            seconds: 5,
            mac: MAC,
            own: None,
            wanted: Some(Ipv4Addr::new(10, 0, 2, 15)),
            server: Some(Ipv4Addr::new(10, 0, 2, 2)),
            host_name: Some("till".to_owned()),
        };
        let bytes = question.bytes();
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 5, 0x80, 0]);
        assert_eq!(bytes[28..34], MAC);
        assert_eq!(bytes[FIXED..FIXED + 4], COOKIE);
        let options = Options(&bytes[FIXED + 4..]);
        assert_eq!(options.value(option::KIND), Some(&[3][..]));
        assert_eq!(options.address(option::REQUESTED), question.wanted);
        assert_eq!(options.value(option::HOST_NAME), Some(&b"till"[..]));
        assert!(bytes.len() >= LEAST_BYTES);
        let own = Question { own: question.wanted, ..question }.bytes();
        assert_eq!(
            (&own[10..12], &own[12..16]),
            (&[0, 0][..], &[10, 0, 2, 15][..]),
            "it can be reached there"
        );
    }

    #[test]
    fn an_answer_reads_back_as_it_was_said() {
        assert_eq!(read(&testing::bytes(&answer(), &[])), Some(answer()));
    }

    #[test]
    fn what_is_not_whole_is_not_there_and_nothing_is_read_past_the_end() {
        let whole = testing::bytes(&answer(), &[]);
        for length in 0..whole.len() {
            if let Some(read) = read(&whole[..length]) {
                assert_eq!((read.address, read.number), (answer().address, 7));
            }
        }
        let odd = Answer { mask: None, name_servers: vec![], lease: None, ..answer() };
        let bytes = testing::bytes(&odd, &[(option::MASK, &[255; 3]), (option::NAME_SERVERS, &[1; 7])]);
        assert_eq!(read(&bytes), Some(odd.clone()), "options of a length that they cannot have");
        let mut question = testing::bytes(&odd, &[]);
        question[0] = QUESTION;
        assert_eq!(read(&question), None);
    }

    #[test]
    fn a_domain_that_would_be_more_than_a_domain_is_not_taken() {
        assert_eq!(domain(b"example.com\0"), Some("example.com".to_owned()));
        for bad in [&b"a b"[..], b"a\nnameserver 6.6.6.6", b"", b"a..b", b"\xff"] {
            assert_eq!(domain(bad), None, "{bad:?}");
        }
        assert_eq!(domain(&[b'a'; 254]), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_to_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut framed = testing::bytes(&answer(), &[]);
            framed.truncate(FIXED + 4 + 3);
            framed.extend(&bytes);
            for bytes in [bytes, framed] {
                if let Some(answer) = read(&bytes) {
                    prop_assert!(answer.name_servers.len() <= MAX_NAME_SERVERS);
                    prop_assert!(answer.domain.is_none_or(|name| name.len() <= MAX_DOMAIN_BYTES));
                }
            }
        }
    }
}
