//! The shell: a TAP interface of the host.
//!
//! Duty: attach to the interface, hand frames to it and take them from it, say which offloads its kernel can do.
//! Not its duty: bridges, addresses, routes, firewalls; they belong to whoever owns the interface.
//!
//! An interface that exists is attached to, left as it is, and left behind. One that does not exist is created,
//! which takes CAP_NET_ADMIN, brought up, since nobody else could know that it is there, and vanishes with the
//! process. With the process and not with the machine: a guest that reboots in it finds its interface in the bridge
//! and with the addresses that somebody gave it meanwhile.
//!
//! Invariant: no call here waits, and an interface that is taken away makes reads and writes fail, not spin.

mod control;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;

use self::control::{Interface, Name};
use super::header::HEADER_BYTES;
use super::{Offloads, Port, RECEIVE_QUEUE, SEND_QUEUE, offload};
use crate::virtio::mmio::HostEnd;
use crate::virtio::vectored::{self, Pieces};

/// The device that interfaces are attached through.
const TUN: &str = "/dev/net/tun";

/// What a TAP does for TCP, by its kernel's names.
const TCP_OFFLOADS: libc::c_uint =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// The same for UDP; both or neither.
const UDP_OFFLOADS: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The kernel has no TAP interfaces.
    #[error("{TUN} is not there; load the `tun` module")]
    NoDriver,
    /// The device that interfaces are attached through may not be opened.
    #[error("{TUN} may not be opened by this user")]
    Closed,
    /// The interface is another user's, or is not there and may not be created.
    #[error(
        "`{name}` may not be used; expected a TAP interface of this user (ip tuntap add {name} mode tap user ...), \
         or CAP_NET_ADMIN"
    )]
    NotAllowed {
        /// The interface.
        name: String,
    },
    /// Another program is attached to it.
    #[error("`{name}` is in use by another program")]
    Busy {
        /// The interface.
        name: String,
    },
    /// It is something else.
    #[error("`{name}` is no TAP interface with one queue")]
    NotTap {
        /// The interface.
        name: String,
    },
    /// The name is longer than the kernel's names of interfaces.
    #[error("`{name}` is too long for an interface, expected at most {} bytes", Name::LONGEST)]
    TooLong {
        /// The name.
        name: String,
    },
    /// Anything else that the host refused.
    #[error("cannot {what} `{name}`")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The interface.
        name: String,
        /// What the host said.
        source: io::Error,
    },
}

/// The interfaces that a process is attached to, from machine to machine.
#[derive(Debug, Default)]
pub struct Attached(BTreeMap<String, Tap>);

impl Attached {
    /// The interface `name`, as an earlier machine left it or newly attached to, without any offload in force.
    pub fn tap(&mut self, name: &str) -> Result<Tap, TapError> {
        if let Some(tap) = self.0.get_mut(name) {
            if control::set_offloads(tap.descriptor.as_fd(), 0).is_ok() {
                return Ok(tap.share());
            }
            // It was taken away meanwhile; perhaps there is a new one.
            self.0.remove(name);
        }
        let tap = Tap::attach(name)?;
        self.0.insert(name.to_owned(), tap.share());
        Ok(tap)
    }
}

/// An attached TAP interface.
#[derive(Debug)]
pub struct Tap {
    descriptor: Arc<OwnedFd>,
    udp: bool,
    mtu: Option<u16>,
}

impl Tap {
    /// Attaches to the interface `name`, or creates it.
    pub fn attach(name: &str) -> Result<Self, TapError> {
        let short = Name::new(name).ok_or_else(|| TapError::TooLong { name: name.to_owned() })?;
        let refused = |what| move |source| TapError::Refused { what, name: name.to_owned(), source };
        let descriptor = open_tun(name)?;
        let tap = descriptor.as_fd();
        control::attach(tap, short).map_err(|error| {
            let name = name.to_owned();
            match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                Errno::EPERM | Errno::EACCES => TapError::NotAllowed { name },
                Errno::EBUSY => TapError::Busy { name },
                Errno::EINVAL => TapError::NotTap { name },
                _ => TapError::Refused { what: "attach to", name, source: error },
            }
        })?;
        control::set_header_bytes(tap, HEADER_BYTES).map_err(refused("set up headers of"))?;
        // What it can do is asked for by trying, and in force only once a driver agreed to it.
        let udp = control::set_offloads(tap, TCP_OFFLOADS | UDP_OFFLOADS).is_ok();
        control::set_offloads(tap, TCP_OFFLOADS)
            .and_then(|()| control::set_offloads(tap, 0))
            .map_err(refused("set up offloads of"))?;
        let interface = Interface::new(short).map_err(refused("look at"))?;
        if control::is_persistent(tap).map_err(refused("look at"))? {
            if !interface.is_up().map_err(refused("look at"))? {
                log::warn!(
                    "net: `{name}` is down; no frame passes before it is set up (ip link set {name} up)"
                );
            }
        } else {
            interface.set_up().map_err(refused("set up"))?;
        }
        let mtu = interface.mtu().map_err(refused("look at"))?;
        Ok(Self { descriptor: Arc::new(descriptor), udp, mtu: u16::try_from(mtu).ok() })
    }

    /// Whether the interface `name` could be attached to or created, as far as that can be told without doing it.
    pub fn examine(name: &str) -> Result<(), TapError> {
        let short = Name::new(name).ok_or_else(|| TapError::TooLong { name: name.to_owned() })?;
        drop(open_tun(name)?);
        let there = Interface::new(short).is_ok_and(|interface| interface.is_up().is_ok());
        if !there {
            let allowed = has_net_admin(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
            return if allowed { Ok(()) } else { Err(TapError::NotAllowed { name: name.to_owned() }) };
        }
        match Found::of(name) {
            Some(Found::Other) => Err(TapError::NotTap { name: name.to_owned() }),
            Some(Found::Attached) => Err(TapError::Busy { name: name.to_owned() }),
            Some(Found::Free) | None => Ok(()),
        }
    }

    fn share(&self) -> Self {
        Self { descriptor: self.descriptor.clone(), udp: self.udp, mtu: self.mtu }
    }

    /// What the event loop listens to.
    #[must_use]
    pub fn host_end(&self) -> HostEnd {
        HostEnd { descriptor: self.descriptor.clone(), readable: RECEIVE_QUEUE, writable: SEND_QUEUE }
    }
}

fn open_tun(name: &str) -> Result<OwnedFd, TapError> {
    let file = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN);
    file.map(OwnedFd::from).map_err(|error| match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => TapError::NoDriver,
        Errno::EACCES | Errno::EPERM => TapError::Closed,
        _ => TapError::Refused { what: "open /dev/net/tun for", name: name.to_owned(), source: error },
    })
}

/// What an interface is, by the kernel's files about it.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// No TAP interface with one queue.
    Other,
    /// A program is attached.
    Attached,
    Free,
}

impl Found {
    /// `None` where the files tell nothing: they may be those of another network namespace.
    fn of(name: &str) -> Option<Self> {
        let read = |what: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/{what}"));
        let index = read("ifindex").ok()?.trim().parse().ok()?;
        if nix::net::if_::if_nametoindex(name) != Ok(index) {
            return None;
        }
        let flags = read("tun_flags").ok();
        let flags = flags.and_then(|text| i32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok());
        Some(Self::from_files(flags, read("carrier").is_ok_and(|carrier| carrier.trim() == "1")))
    }

    fn from_files(flags: Option<i32>, carrier: bool) -> Self {
        match flags {
            Some(flags) if flags & libc::IFF_TAP != 0 && flags & libc::IFF_MULTI_QUEUE == 0 => {
                // Who is attached switches the carrier on.
                if carrier { Self::Attached } else { Self::Free }
            }
            _ => Self::Other,
        }
    }
}

/// Whether interfaces may be made, by `/proc/<pid>/status`.
fn has_net_admin(status: &str) -> bool {
    /// Of linux/capability.h.
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    // Where nothing tells, the attempt will.
    mask.is_none_or(|mask| mask & CAP_NET_ADMIN != 0)
}

impl Port for Tap {
    fn offers(&self) -> u64 {
        offload::ALWAYS | if self.udp { offload::UDP } else { 0 }
    }

    fn mtu(&self) -> Option<u16> {
        self.mtu
    }

    fn agree(&mut self, offloads: Offloads) -> io::Result<()> {
        let table = [
            (offload::GUEST_CSUM, libc::TUN_F_CSUM),
            (offload::GUEST_TSO4, libc::TUN_F_TSO4),
            (offload::GUEST_TSO6, libc::TUN_F_TSO6),
            (offload::GUEST_ECN, libc::TUN_F_TSO_ECN),
        ];
        let mut flags = 0;
        for (feature, flag) in table {
            if offloads.has(feature) {
                flags |= flag;
            }
        }
        // The kernel takes these two together only.
        if offloads.has(offload::GUEST_USO4) && offloads.has(offload::GUEST_USO6) {
            flags |= UDP_OFFLOADS;
        }
        control::set_offloads(self.descriptor.as_fd(), flags)
    }

    fn send(&mut self, frame: &Pieces<'_>) -> io::Result<usize> {
        vectored::write(self.descriptor.as_fd(), frame)
    }

    fn receive(&mut self, room: &Pieces<'_>) -> io::Result<usize> {
        vectored::read(self.descriptor.as_fd(), room)
    }
}

/// The host's side of a test.
#[cfg(test)]
impl Tap {
    pub(super) fn give_host_address(name: &str, address: std::net::Ipv4Addr) {
        Interface::new(Name::new(name).unwrap()).unwrap().set_address(address).unwrap();
    }

    /// Whether the interface is up, if it is there.
    pub(super) fn is_up_for_tests(name: &str) -> Option<bool> {
        Interface::new(Name::new(name).unwrap()).unwrap().is_up().ok()
    }

    /// Makes an interface as a user's script would: it stays when nobody is attached.
    pub(super) fn leave_behind_for_tests(name: &str) {
        let tun: OwnedFd = File::options().read(true).write(true).open(TUN).unwrap().into();
        control::attach(tun.as_fd(), Name::new(name).unwrap()).unwrap();
        control::set_persistent(tun.as_fd()).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_told_by_the_kernel_s_files() {
        let tap = libc::IFF_TAP | libc::IFF_NO_PI;
        assert_eq!(Found::from_files(Some(tap), false), Found::Free);
        assert_eq!(Found::from_files(Some(tap), true), Found::Attached);
        assert_eq!(Found::from_files(Some(tap | libc::IFF_MULTI_QUEUE), false), Found::Other);
        assert_eq!(Found::from_files(Some(libc::IFF_TUN), false), Found::Other);
        assert_eq!(Found::from_files(None, true), Found::Other, "a card of iron");
        assert!(has_net_admin("CapEff:\t0000000000001000\n") && has_net_admin(""));
        assert!(!has_net_admin("CapPrm:\t0000000000001000\nCapEff:\t0000000000000fff\n"));
    }
}
