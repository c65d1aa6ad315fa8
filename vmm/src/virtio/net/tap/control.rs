//! Settings of a TAP interface, one `ioctl` each.
//!
//! Duty: give each its argument in the shape that the kernel wants. Not here: which are set, and when.
#![allow(unsafe_code, reason = "ioctl has no types; each function here pairs one request with its argument")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use nix::libc::{self, c_char, c_int, c_short, c_uint, c_ulong, ifreq};

/// IFF_PERSIST of linux/if_tun.h: the interface stays when nobody is attached.
const IFF_PERSIST: c_int = 0x0800;

/// The name of an interface, in the shape that the kernel wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name([c_char; libc::IFNAMSIZ]);

impl Name {
    /// Bytes of the longest name: the kernel's has a final zero.
    pub(super) const LONGEST: usize = libc::IFNAMSIZ - 1;

    pub(super) fn new(name: &str) -> Option<Self> {
        let mut array = [0; libc::IFNAMSIZ];
        if name.len() > Self::LONGEST {
            return None;
        }
        for (to, from) in array.iter_mut().zip(name.bytes()) {
            *to = c_char::from_ne_bytes([from]);
        }
        Some(Self(array))
    }

    const fn request(self, flags: c_int) -> ifreq {
        ifreq { ifr_name: self.0, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: short(flags) } }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "flags of an interface are kept in 16 bits")]
const fn short(flags: c_int) -> c_short {
    flags as c_short
}

/// Attaches `tap`, which is /dev/net/tun just opened, to the interface, or creates it.
pub(super) fn attach(tap: BorrowedFd<'_>, name: Name) -> io::Result<()> {
    let mut request = name.request(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR);
    // SAFETY: TUNSETIFF reads and writes an `ifreq`, which lives here; the kernel checks its name.
    call(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// Whether the interface stays when nobody is attached.
pub(super) fn is_persistent(tap: BorrowedFd<'_>) -> io::Result<bool> {
    let mut request = Name([0; libc::IFNAMSIZ]).request(0);
    // SAFETY: TUNGETIFF writes an `ifreq`, which lives here.
    call(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    Ok(flags(&request) & IFF_PERSIST != 0)
}

/// Makes the interface stay when nobody is attached.
#[cfg(test)]
pub(super) fn set_persistent(tap: BorrowedFd<'_>) -> io::Result<()> {
    let persist: c_ulong = 1;
    // SAFETY: TUNSETPERSIST takes its argument itself and touches no memory of ours.
    call(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETPERSIST, persist) })
}

/// How long the header before each frame is.
pub(super) fn set_header_bytes(tap: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let bytes = c_int::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: TUNSETVNETHDRSZ reads an `int`, which lives here.
    call(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const bytes) })
}

/// Which offloads frames that come from the interface may have.
pub(super) fn set_offloads(tap: BorrowedFd<'_>, offloads: c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its flags as the argument itself and touches no memory of ours.
    call(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(offloads)) })
}

fn flags(request: &ifreq) -> c_int {
    // SAFETY: every field of the union is plain old data and as initialised as the request.
    c_int::from(unsafe { request.ifr_ifru.ifru_flags })
}

fn call(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An interface as any program sees it, attached or not.
#[derive(Debug)]
pub(super) struct Interface {
    name: Name,
    /// Any socket does: the kernel takes requests about interfaces on each.
    socket: UnixDatagram,
}

impl Interface {
    pub(super) fn new(name: Name) -> io::Result<Self> {
        Ok(Self { name, socket: UnixDatagram::unbound()? })
    }

    /// # Safety
    /// `request` must be one that reads or writes an `ifreq` and nothing that it points to.
    unsafe fn ask(&self, request: c_ulong, argument: &mut ifreq) -> io::Result<()> {
        let request = request as libc::Ioctl;
        // SAFETY: the argument lives for the call, and the caller vouches for the request.
        call(unsafe { libc::ioctl(self.socket.as_raw_fd(), request, &raw mut *argument) })
    }

    fn flags(&self) -> io::Result<c_int> {
        let mut argument = self.name.request(0);
        // SAFETY: SIOCGIFFLAGS reads the name and writes the flags.
        unsafe { self.ask(libc::SIOCGIFFLAGS, &mut argument) }?;
        Ok(flags(&argument))
    }

    pub(super) fn is_up(&self) -> io::Result<bool> {
        Ok(self.flags()? & libc::IFF_UP != 0)
    }

    pub(super) fn set_up(&self) -> io::Result<()> {
        let mut argument = self.name.request(self.flags()? | libc::IFF_UP);
        // SAFETY: SIOCSIFFLAGS reads name and flags.
        unsafe { self.ask(libc::SIOCSIFFLAGS, &mut argument) }
    }

    /// The largest packet, without its Ethernet header.
    pub(super) fn mtu(&self) -> io::Result<c_int> {
        let mut argument = self.name.request(0);
        // SAFETY: SIOCGIFMTU reads the name and writes the MTU.
        unsafe { self.ask(libc::SIOCGIFMTU, &mut argument) }?;
        // SAFETY: every field of the union is plain old data and as initialised as the request.
        Ok(unsafe { argument.ifr_ifru.ifru_mtu })
    }

    /// Gives the host an address on the interface, in the network that its class implies.
    #[cfg(test)]
    pub(super) fn set_address(&self, address: std::net::Ipv4Addr) -> io::Result<()> {
        let mut argument = self.name.request(0);
        let family = libc::sa_family_t::try_from(libc::AF_INET).unwrap();
        let mut data = [0; 14];
        for (to, from) in data[2..].iter_mut().zip(address.octets()) {
            *to = c_char::from_ne_bytes([from]);
        }
        argument.ifr_ifru.ifru_addr = libc::sockaddr { sa_family: family, sa_data: data };
        // Addresses of this kind are set through sockets of their kind.
        let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
        // SAFETY: SIOCSIFADDR reads name and address, which live here.
        call(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw mut argument) })
    }
}
