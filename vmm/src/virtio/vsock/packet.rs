//! The header of a vsock packet (virtio 1.2, 5.10.6).
//!
//! The `virtio-vsock` crate does not fit: it takes chains from an iterator that hides broken ones, wants the
//! payload in one descriptor (Linux spreads large ones over many), and hands it out as one slice that must
//! not cross memory regions. What is left of it, 44 bytes of little-endian fields, is here.

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 44;

/// The host's context ID.
pub(super) const HOST_CID: u64 = 2;

/// VIRTIO_VSOCK_TYPE_STREAM: the only type offered.
pub(super) const TYPE_STREAM: u16 = 1;

/// The sender of a SHUTDOWN will not receive any more.
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
/// The sender of a SHUTDOWN will not send any more.
pub(super) const SHUTDOWN_SEND: u32 = 2;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
    /// A number that means nothing; kept out of every other arm.
    Unknown(u16),
}

impl Operation {
    const fn from_wire(number: u16) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            other => Self::Unknown(other),
        }
    }

    const fn to_wire(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
            Self::Unknown(other) => other,
        }
    }
}

/// The two ports that name a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

/// A header as it crosses the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source_cid: u64,
    pub(super) destination_cid: u64,
    pub(super) source_port: u32,
    pub(super) destination_port: u32,
    /// Bytes of payload that follow.
    pub(super) bytes: u32,
    pub(super) kind: u16,
    pub(super) operation: Operation,
    pub(super) flags: u32,
    /// Size of the sender's receive buffer.
    pub(super) buffer: u32,
    /// How many bytes the sender has taken out of it, ever, modulo 2^32.
    pub(super) forwarded: u32,
}

impl Header {
    pub(super) fn parse(wire: [u8; HEADER_BYTES]) -> Self {
        let mut rest = wire.as_slice();
        Self {
            source_cid: u64::from_le_bytes(take(&mut rest)),
            destination_cid: u64::from_le_bytes(take(&mut rest)),
            source_port: u32::from_le_bytes(take(&mut rest)),
            destination_port: u32::from_le_bytes(take(&mut rest)),
            bytes: u32::from_le_bytes(take(&mut rest)),
            kind: u16::from_le_bytes(take(&mut rest)),
            operation: Operation::from_wire(u16::from_le_bytes(take(&mut rest))),
            flags: u32::from_le_bytes(take(&mut rest)),
            buffer: u32::from_le_bytes(take(&mut rest)),
            forwarded: u32::from_le_bytes(take(&mut rest)),
        }
    }

    pub(super) fn to_wire(self) -> [u8; HEADER_BYTES] {
        let mut wire = [0; HEADER_BYTES];
        let mut rest = wire.as_mut_slice();
        put(&mut rest, self.source_cid.to_le_bytes());
        put(&mut rest, self.destination_cid.to_le_bytes());
        put(&mut rest, self.source_port.to_le_bytes());
        put(&mut rest, self.destination_port.to_le_bytes());
        put(&mut rest, self.bytes.to_le_bytes());
        put(&mut rest, self.kind.to_le_bytes());
        put(&mut rest, self.operation.to_wire().to_le_bytes());
        put(&mut rest, self.flags.to_le_bytes());
        put(&mut rest, self.buffer.to_le_bytes());
        put(&mut rest, self.forwarded.to_le_bytes());
        wire
    }

    /// A packet from the host to guest `cid`, without payload, flags or credit.
    pub(super) const fn to_guest(cid: u64, ports: Ports, operation: Operation) -> Self {
        Self {
            source_cid: HOST_CID,
            destination_cid: cid,
            source_port: ports.host,
            destination_port: ports.guest,
            bytes: 0,
            kind: TYPE_STREAM,
            operation,
            flags: 0,
            buffer: 0,
            forwarded: 0,
        }
    }

    /// The RST that answers this packet: it comes from where this one went, in its type (5.10.6.4.1).
    pub(super) const fn refusal(&self) -> Self {
        Self {
            source_cid: self.destination_cid,
            destination_cid: self.source_cid,
            kind: self.kind,
            ..Self::to_guest(self.source_cid, self.ports(), Operation::Reset)
        }
    }

    /// The connection that a packet from the guest speaks of.
    pub(super) const fn ports(&self) -> Ports {
        Ports { host: self.destination_port, guest: self.source_port }
    }
}

/// The next `N` bytes. Both arrays here are as long as their fields, so there always are enough.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    rest.split_off(..N).and_then(|field| field.try_into().ok()).unwrap_or([0; N])
}

fn put<const N: usize>(rest: &mut &mut [u8], field: [u8; N]) {
    if let Some(place) = rest.split_off_mut(..N) {
        place.copy_from_slice(&field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_specification_puts_them() {
        let mut wire = [0; HEADER_BYTES];
        for (place, byte) in wire.iter_mut().zip(1u8..) {
            *place = byte;
        }
        let header = Header::parse(wire);
        assert_eq!(header.source_cid, 0x0807_0605_0403_0201);
        assert_eq!(header.destination_cid, 0x100f_0e0d_0c0b_0a09);
        assert_eq!((header.source_port, header.destination_port), (0x1413_1211, 0x1817_1615));
        assert_eq!((header.bytes, header.kind), (0x1c1b_1a19, 0x1e1d));
        assert_eq!(header.operation, Operation::Unknown(0x201f));
        assert_eq!(header.flags, 0x2423_2221);
        assert_eq!((header.buffer, header.forwarded), (0x2827_2625, 0x2c2b_2a29));
        assert_eq!(header.to_wire(), wire);
    }

    #[test]
    fn every_operation_number_survives_the_round_trip() {
        for number in 0..=u16::MAX {
            assert_eq!(Operation::from_wire(number).to_wire(), number);
        }
        assert_eq!(Operation::from_wire(0), Operation::Unknown(0));
        assert_eq!(Operation::from_wire(5), Operation::Data);
    }
}
