//! An address for a while, as it may be put on an interface.
//!
//! Duty: what a server said, made sure of. Not here: getting it (`client`), putting it there (`station`).
//! Invariant: a [`Lease`] has an address that a host can have in its network, waits that do not become a storm, and
//! nothing but addresses of others as gateway and name servers; it comes out of [`Lease::of`] only.

use std::net::Ipv4Addr;
use std::time::Duration;

use thiserror::Error;

use super::message::Answer;

/// A shorter lease is traffic, not an address.
pub(crate) const LEAST: Duration = Duration::from_secs(30);
/// Until it is renewed; for servers that would have it all the time.
const LEAST_RENEWAL: Duration = Duration::from_secs(10);
/// How servers say "for ever" (RFC 2131, 3.3).
const FOR_EVER: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum LeaseFault {
    #[error("no host can have the address {0}")]
    Address(Ipv4Addr),
    #[error("{0} is not the mask of a network")]
    Mask(Ipv4Addr),
    #[error("there is no mask")]
    NoMask,
    #[error("it does not say which server it is from")]
    NoServer,
    #[error("it says no time")]
    NoTime,
    #[error("{} s is less than {} s", .0.as_secs(), LEAST.as_secs())]
    Short(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) name_servers: Vec<Ipv4Addr>,
    pub(crate) domain: Option<String>,
    pub(crate) server: Ipv4Addr,
    /// None: for ever.
    pub(crate) times: Option<Times>,
}

/// Counted from when it was asked for. Each is shorter than the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) renew: Duration,
    pub(crate) rebind: Duration,
    pub(crate) end: Duration,
}

impl Lease {
    pub(crate) fn of(answer: &Answer) -> Result<Lease, LeaseFault> {
        let address = answer.address;
        let mask = answer.mask.ok_or(LeaseFault::NoMask)?;
        let prefix = prefix(mask).ok_or(LeaseFault::Mask(mask))?;
        if !is_host(address) || !is_inside(address, mask, prefix) {
            return Err(LeaseFault::Address(address));
        }
        let server = answer.server.filter(|server| is_host(*server)).ok_or(LeaseFault::NoServer)?;
        let other = |host: &Ipv4Addr| is_host(*host) && *host != address;
        Ok(Lease {
            address,
            prefix,
            gateway: answer.router.filter(other),
            name_servers: answer.name_servers.iter().copied().filter(other).collect(),
            domain: answer.domain.clone(),
            server,
            times: times(answer)?,
        })
    }
}

fn times(answer: &Answer) -> Result<Option<Times>, LeaseFault> {
    let seconds = answer.lease.ok_or(LeaseFault::NoTime)?;
    if seconds == FOR_EVER {
        return Ok(None);
    }
    let end = Duration::from_secs(seconds.into());
    if end < LEAST {
        return Err(LeaseFault::Short(end));
    }
    let said = |seconds: Option<u32>| seconds.map(|seconds| Duration::from_secs(seconds.into()));
    // What is not said follows from RFC 2131, 4.4.5.
    let rebind = said(answer.rebind).filter(|rebind| LEAST_RENEWAL < *rebind && *rebind < end);
    let rebind = rebind.unwrap_or(end / 8 * 7);
    let renew = said(answer.renew).filter(|renew| (LEAST_RENEWAL..rebind).contains(renew));
    let half = if end / 2 < rebind { end / 2 } else { rebind / 2 };
    let renew = renew.unwrap_or(half.max(LEAST_RENEWAL));
    Ok(Some(Times { renew, rebind, end }))
}

/// Of a mask that is ones and then zeroes, and not one of them alone.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    (ones > 0 && bits.count_ones() == ones).then(|| u8::try_from(ones).ok())?
}

/// An address that one host can have somewhere.
pub(crate) fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 224 && !address.is_loopback() && !address.is_link_local()
}

/// Neither the network's own address nor that of all of its hosts; of two or one (RFC 3021) each is a host.
fn is_inside(address: Ipv4Addr, mask: Ipv4Addr, prefix: u8) -> bool {
    let host = address.to_bits() & !mask.to_bits();
    prefix >= 31 || (host != 0 && host != !mask.to_bits())
}

#[cfg(test)]
mod tests {
    use super::super::message::Said;
    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn answer() -> Answer {
        Answer {
            said: Said::Offer,
            number: 0,
            mac: [0; 6],
            address: ip("192.168.7.9"),
            server: Some(ip("192.168.7.1")),
            mask: Some(ip("255.255.255.0")),
            router: Some(ip("192.168.7.1")),
            name_servers: vec![ip("192.168.7.1"), ip("9.9.9.9")],
            domain: None,
            lease: Some(3600),
            renew: None,
            rebind: None,
        }
    }

    fn seconds(answer: &Answer) -> [u64; 3] {
        let Times { renew, rebind, end } = Lease::of(answer).unwrap().times.unwrap();
        [renew, rebind, end].map(|duration| duration.as_secs())
    }

    #[test]
    fn a_good_answer_is_a_lease_with_the_times_of_the_standard() {
        let lease = Lease::of(&answer()).unwrap();
        assert_eq!((lease.prefix, lease.gateway), (24, Some(ip("192.168.7.1"))));
        assert_eq!(seconds(&answer()), [1800, 3150, 3600]);
        assert_eq!(seconds(&Answer { renew: Some(60), rebind: Some(120), ..answer() }), [60, 120, 3600]);
        let for_ever = Answer { lease: Some(u32::MAX), ..answer() };
        assert_eq!(Lease::of(&for_ever).unwrap().times, None);
    }

    #[test]
    fn times_that_contradict_each_other_or_would_be_a_storm_are_replaced() {
        assert_eq!(seconds(&Answer { renew: Some(0), rebind: Some(0), ..answer() }), [1800, 3150, 3600]);
        assert_eq!(seconds(&Answer { renew: Some(1), rebind: Some(2), ..answer() }), [1800, 3150, 3600]);
        assert_eq!(seconds(&Answer { renew: Some(9000), rebind: Some(100), ..answer() }), [50, 100, 3600]);
        assert_eq!(seconds(&Answer { lease: Some(30), rebind: Some(11), ..answer() }), [10, 11, 30]);
        let short = Answer { lease: Some(1), ..answer() };
        assert_eq!(Lease::of(&short), Err(LeaseFault::Short(Duration::from_secs(1))));
        assert_eq!(Lease::of(&Answer { lease: None, ..answer() }), Err(LeaseFault::NoTime));
    }

    #[test]
    fn addresses_that_no_host_can_have_are_refused() {
        for address in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "169.254.1.1", "0.1.2.3"] {
            let address = ip(address);
            assert_eq!(Lease::of(&Answer { address, ..answer() }), Err(LeaseFault::Address(address)));
        }
        for address in ["192.168.7.0", "192.168.7.255"].map(ip) {
            assert_eq!(Lease::of(&Answer { address, ..answer() }), Err(LeaseFault::Address(address)));
            let two = Answer { address, mask: Some(ip("255.255.255.254")), ..answer() };
            assert!(Lease::of(&two).is_ok());
        }
    }

    #[test]
    fn masks_have_no_holes() {
        for mask in ["0.0.0.0", "255.0.255.0", "0.0.0.255"] {
            let refused = Lease::of(&Answer { mask: Some(ip(mask)), ..answer() });
            assert_eq!(refused, Err(LeaseFault::Mask(ip(mask))));
        }
        assert_eq!(Lease::of(&Answer { mask: None, ..answer() }), Err(LeaseFault::NoMask));
    }

    #[test]
    fn a_gateway_or_name_server_that_is_nobody_or_oneself_is_left_out() {
        let answer = Answer {
            router: Some(answer().address),
            name_servers: vec![ip("0.0.0.0"), ip("127.0.0.1"), ip("9.9.9.9")],
            ..answer()
        };
        let lease = Lease::of(&answer).unwrap();
        assert_eq!((lease.gateway, lease.name_servers), (None, vec![ip("9.9.9.9")]));
        assert_eq!(Lease::of(&Answer { server: None, ..answer }), Err(LeaseFault::NoServer));
    }
}
