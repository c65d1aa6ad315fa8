//! Network interfaces, as far as they are the agent's.
//!
//! Duty: bring the loopback interface up, which the kernel then gives 127.0.0.1 and ::1 by itself; give the network
//! cards of a copy their own addresses. Not its duty: IP addresses, routes.
//! Invariant: by netlink messages (rtnetlink(7)) and not by ioctl, because that needs no unsafe code.

use crate::mounts::errno;

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
    },
};
use std::{fs, os::fd::AsRawFd};

/// Always this in a fresh network namespace: the kernel makes it first.
const LOOPBACK_INDEX: i32 = 1;

const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFF_UP: u32 = 1;

const HEADER_LEN: usize = 16;
const LINK_LEN: usize = 16;
const IFLA_ADDRESS: u16 = 1;
/// Of the attribute with an address, and with its padding.
const RTATTR_LEN: u16 = 10;
const ADDRESS_LEN: usize = 12;

/// Brings the loopback interface up.
pub(crate) fn bring_loopback_up() -> Result<(), Errno> {
    ask(&request(LOOPBACK_INDEX, IFF_UP, None))
}

/// Gives the network card `number` the address `mac`. Linux's virtio driver takes it while the card is in use.
pub(crate) fn set_address(number: usize, mac: [u8; 6]) -> Result<(), Errno> {
    let index =
        fs::read_to_string(format!("/sys/class/net/eth{number}/ifindex")).map_err(|error| errno(&error))?;
    ask(&request(index.trim().parse().map_err(|_| Errno::EBADMSG)?, 0, Some(mac)))
}

fn ask(request: &[u8]) -> Result<(), Errno> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), request, &kernel, MsgFlags::empty())?;
    // Done before `sendto` returns, so the answer is there.
    let mut answer = [0; 256];
    let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    verdict(answer.get(..len).unwrap_or_default())
}

/// "Set these flags of interface `index`, leave the others alone, give it this address, and say how it went."
fn request(index: i32, flags: u32, address: Option<[u8; 6]>) -> Vec<u8> {
    let address_len = address.map_or(0, |_| ADDRESS_LEN);
    let mut bytes = Vec::with_capacity(HEADER_LEN + LINK_LEN + address_len);
    // struct nlmsghdr: length, type, flags, sequence, port
    bytes.extend(u32::try_from(HEADER_LEN + LINK_LEN + address_len).unwrap_or(0).to_ne_bytes());
    bytes.extend(RTM_NEWLINK.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend(1_u32.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    // struct ifinfomsg: family and padding, device type, index, flags, mask of the flags to change
    bytes.extend([0, 0]);
    bytes.extend(0_u16.to_ne_bytes());
    bytes.extend(index.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    if let Some(address) = address {
        // struct rtattr: length without the padding behind it, type
        bytes.extend(RTATTR_LEN.to_ne_bytes());
        bytes.extend(IFLA_ADDRESS.to_ne_bytes());
        bytes.extend(address);
        bytes.extend([0, 0]);
    }
    bytes
}

/// The answer is an error message, with error 0 for "done".
fn verdict(answer: &[u8]) -> Result<(), Errno> {
    let kind = answer.get(4..).and_then(<[u8]>::first_chunk).copied().map(u16::from_ne_bytes);
    let error = answer.get(HEADER_LEN..).and_then(<[u8]>::first_chunk).copied().map(i32::from_ne_bytes);
    match (kind, error) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) => Err(Errno::from_raw(error.saturating_neg())),
        _ => Err(Errno::EBADMSG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn requests_are_laid_out_as_the_kernel_reads_them() {
        let expected = [
            32, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, // header
            0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, // link
        ];
        assert_eq!(request(1, IFF_UP, None), expected);
        let expected = [
            44, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, // header
            0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // link
            10, 0, 1, 0, 2, 0xab, 3, 4, 5, 6, 0, 0, // address
        ];
        assert_eq!(request(3, 0, Some([2, 0xab, 3, 4, 5, 6])), expected);
    }

    #[test]
    fn the_kernels_verdict_is_read() {
        let mut answer = [0; 36];
        answer[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        assert_eq!(verdict(&answer), Ok(()));
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(verdict(&answer), Err(Errno::EPERM));
        answer[16..20].copy_from_slice(&i32::MIN.to_ne_bytes());
        assert!(verdict(&answer).is_err());
        for len in 0..20 {
            assert_eq!(verdict(&answer[..len]), Err(Errno::EBADMSG));
        }
        assert_eq!(verdict(&[0; 36]), Err(Errno::EBADMSG));
    }
}
