//! What guest and host leave to each other: checksums and the cutting of large packets.
//!
//! Duty: the feature bits (5.1.3) and what follows from the driver's choice among them. Not here: what the
//! host's interface calls the same things.

/// VIRTIO_NET_F_CSUM: the guest may leave checksums to us.
pub const CSUM: u64 = 1 << 0;
/// VIRTIO_NET_F_GUEST_CSUM: we may leave checksums to the guest.
pub const GUEST_CSUM: u64 = 1 << 1;
/// VIRTIO_NET_F_GUEST_TSO4.
pub const GUEST_TSO4: u64 = 1 << 7;
/// VIRTIO_NET_F_GUEST_TSO6.
pub const GUEST_TSO6: u64 = 1 << 8;
/// VIRTIO_NET_F_GUEST_ECN.
pub const GUEST_ECN: u64 = 1 << 9;
/// VIRTIO_NET_F_HOST_TSO4.
pub const HOST_TSO4: u64 = 1 << 11;
/// VIRTIO_NET_F_HOST_TSO6.
pub const HOST_TSO6: u64 = 1 << 12;
/// VIRTIO_NET_F_HOST_ECN.
pub const HOST_ECN: u64 = 1 << 13;
/// VIRTIO_NET_F_GUEST_USO4.
pub const GUEST_USO4: u64 = 1 << 54;
/// VIRTIO_NET_F_GUEST_USO6.
pub const GUEST_USO6: u64 = 1 << 55;
/// VIRTIO_NET_F_HOST_USO.
pub const HOST_USO: u64 = 1 << 56;

/// What every host interface can do that we can use at all.
pub const ALWAYS: u64 =
    CSUM | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | HOST_TSO4 | HOST_TSO6 | HOST_ECN;
/// The same for UDP, where the host's kernel is new enough (6.2).
pub const UDP: u64 = GUEST_USO4 | GUEST_USO6 | HOST_USO;

/// What the guest lets us leave to it: all that the host's interface has to know.
const LEFT_TO_GUEST: u64 = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | GUEST_USO4 | GUEST_USO6;

/// Features that mean nothing unless one of others was accepted too (5.1.3.1), in the order of their dependence.
const CONDITIONS: [(u64, u64); 4] = [
    (GUEST_TSO4 | GUEST_TSO6 | GUEST_USO4 | GUEST_USO6, GUEST_CSUM),
    (HOST_TSO4 | HOST_TSO6 | HOST_USO, CSUM),
    (GUEST_ECN, GUEST_TSO4 | GUEST_TSO6),
    (HOST_ECN, HOST_TSO4 | HOST_TSO6),
];

/// The offloads in force, none of them without what it needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads(u64);

impl Offloads {
    /// What follows from the features that the driver accepted.
    #[must_use]
    pub fn agreed(features: u64) -> Self {
        let mut agreed = features & (ALWAYS | UDP);
        for (dependent, condition) in CONDITIONS {
            if agreed & condition == 0 {
                agreed &= !dependent;
            }
        }
        Self(agreed)
    }

    /// Those of frames for the guest.
    #[must_use]
    pub const fn left_to_guest(self) -> Self {
        Self(self.0 & LEFT_TO_GUEST)
    }

    /// Whether `feature` is in force.
    #[must_use]
    pub const fn has(self, feature: u64) -> bool {
        self.0 & feature != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offload_without_what_it_needs_is_not_in_force() {
        assert_eq!(Offloads::agreed(ALWAYS | UDP), Offloads(ALWAYS | UDP));
        assert_eq!(Offloads::agreed((ALWAYS | UDP) & !CSUM & !GUEST_CSUM), Offloads(0));
        assert_eq!(Offloads::agreed(CSUM | HOST_ECN | GUEST_CSUM | GUEST_ECN), Offloads(CSUM | GUEST_CSUM));
        assert_eq!(Offloads::agreed(u64::MAX), Offloads(ALWAYS | UDP));
    }
}
