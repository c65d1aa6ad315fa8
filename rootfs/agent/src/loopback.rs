//! The loopback interface.
//!
//! Duty: bring it up; the kernel then gives it 127.0.0.1 and ::1 by itself.
//! Not its duty: any other interface.
//! Invariant: by a netlink message (rtnetlink(7)) and not by ioctl, because that needs no unsafe code.

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
    },
};
use std::os::fd::AsRawFd;

/// Always this in a fresh network namespace: the kernel makes it first.
const LOOPBACK_INDEX: i32 = 1;

const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const IFF_UP: u32 = 1;

const HEADER_LEN: usize = 16;
const LINK_LEN: usize = 16;
const REQUEST_LEN: usize = HEADER_LEN + LINK_LEN;

pub(crate) fn bring_up() -> Result<(), Errno> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &request(), &kernel, MsgFlags::empty())?;
    // Done before `sendto` returns, so the answer is there.
    let mut answer = [0; 256];
    let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    verdict(answer.get(..len).unwrap_or_default())
}

/// "Set the flag UP of interface 1, leave its other flags alone, and say how it went."
fn request() -> [u8; REQUEST_LEN] {
    let mut bytes = [0; REQUEST_LEN];
    let mut rest = bytes.as_mut_slice();
    let mut put = |field: &[u8]| {
        let (place, tail) = std::mem::take(&mut rest).split_at_mut(field.len());
        place.copy_from_slice(field);
        rest = tail;
    };
    // struct nlmsghdr: length, type, flags, sequence, port
    put(&u32::try_from(REQUEST_LEN).unwrap_or(0).to_ne_bytes());
    put(&RTM_NEWLINK.to_ne_bytes());
    put(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    put(&1_u32.to_ne_bytes());
    put(&0_u32.to_ne_bytes());
    // struct ifinfomsg: family and padding, device type, index, flags, mask of the flags to change
    put(&[0, 0]);
    put(&0_u16.to_ne_bytes());
    put(&LOOPBACK_INDEX.to_ne_bytes());
    put(&IFF_UP.to_ne_bytes());
    put(&IFF_UP.to_ne_bytes());
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
    fn the_request_is_laid_out_as_the_kernel_reads_it() {
        let expected = [
            32, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, // header
            0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, // link
        ];
        assert_eq!(request(), expected);
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
