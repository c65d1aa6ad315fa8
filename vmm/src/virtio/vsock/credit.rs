//! Flow control of one connection (virtio 1.2, 5.10.6.3): who may send how much.
//!
//! Duty: the counters of both directions, modulo 2^32 as on the wire. Invariant: the bytes of the guest that
//! we hold never exceed `BUFFER`, and the bytes that we have sent without the guest having taken them
//! never exceed the buffer that it announced.

use super::packet::Header;

/// Bytes per connection that the guest may have on the way to a host that does not read. Protects the
/// monitor's memory: times [`MAX_CONNECTIONS`](super::MAX_CONNECTIONS) it is 16 MiB at the very worst. As large
/// as one packet of Linux, so that a packet is never split for it.
pub(super) const BUFFER: u32 = 64 << 10;

/// Bytes of credit that are worth a packet of their own. Smaller debts travel with data.
const WORTH_TELLING: u32 = BUFFER / 4;

/// Half of the circle of 32-bit counters: what is further ahead than this is behind.
const HALF: u32 = 1 << 31;

/// The guest broke the rules of flow control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overdrawn;

#[derive(Debug, Default)]
pub(super) struct Credit {
    /// Bytes that the guest has sent.
    received: u32,
    /// Of those, bytes that the host took.
    forwarded: u32,
    /// The value of `forwarded` that the guest knows.
    told: u32,
    /// Bytes that we have sent.
    sent: u32,
    /// Of those, bytes that the guest says it took.
    guest_forwarded: u32,
    /// What the guest says its buffer holds.
    guest_buffer: u32,
}

impl Credit {
    /// Takes the guest's account from a packet.
    ///
    /// An account that is older than one before it is normal: Linux fills in headers and queues packets
    /// under different locks. One that says more was taken than was sent is a lie.
    pub(super) const fn learn(&mut self, header: &Header) -> Result<(), Overdrawn> {
        self.guest_buffer = header.buffer;
        let advance = header.forwarded.wrapping_sub(self.guest_forwarded);
        if advance <= self.in_flight() {
            self.guest_forwarded = header.forwarded;
        } else if header.forwarded.wrapping_sub(self.sent) < HALF {
            return Err(Overdrawn);
        }
        Ok(())
    }

    const fn in_flight(&self) -> u32 {
        self.sent.wrapping_sub(self.guest_forwarded)
    }

    /// How many bytes we may send. A guest may shrink its buffer below what is in flight.
    pub(super) const fn room_at_guest(&self) -> u32 {
        self.guest_buffer.saturating_sub(self.in_flight())
    }

    /// We sent `bytes`, which were no more than [`room_at_guest`](Self::room_at_guest).
    pub(super) const fn sent(&mut self, bytes: u32) {
        self.sent = self.sent.wrapping_add(bytes);
    }

    /// The guest sent `bytes`: a fault where it had no credit for them.
    pub(super) const fn received(&mut self, bytes: u32) -> Result<(), Overdrawn> {
        if bytes > BUFFER.saturating_sub(self.received.wrapping_sub(self.forwarded)) {
            return Err(Overdrawn);
        }
        self.received = self.received.wrapping_add(bytes);
        Ok(())
    }

    /// The host took `bytes`, or nobody ever will.
    pub(super) fn forwarded(&mut self, bytes: usize) {
        let held = self.received.wrapping_sub(self.forwarded);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(held);
        self.forwarded = self.forwarded.wrapping_add(bytes);
    }

    /// Whether the guest should hear of its credit even if there is nothing else to tell it.
    pub(super) const fn worth_telling(&self) -> bool {
        self.forwarded.wrapping_sub(self.told) >= WORTH_TELLING
    }

    /// Puts our account into a packet.
    pub(super) const fn tell(&mut self, header: &mut Header) {
        header.buffer = BUFFER;
        header.forwarded = self.forwarded;
        self.told = self.forwarded;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::{Operation, Ports};
    use super::*;

    fn account(buffer: u32, forwarded: u32) -> Header {
        let header = Header::to_guest(3, Ports { host: 1, guest: 2 }, Operation::CreditUpdate);
        Header { buffer, forwarded, ..header }
    }

    #[test]
    fn an_old_account_is_ignored_and_a_false_one_is_a_fault() {
        let mut credit = Credit::default();
        credit.learn(&account(100, 0)).unwrap();
        credit.sent(100);
        assert_eq!(credit.room_at_guest(), 0);
        credit.learn(&account(100, 60)).unwrap();
        credit.learn(&account(100, 40)).unwrap();
        assert_eq!(credit.room_at_guest(), 60);
        assert_eq!(credit.learn(&account(100, 101)), Err(Overdrawn));
        assert_eq!(credit.learn(&account(100, HALF)), Err(Overdrawn));
    }

    #[test]
    fn a_buffer_that_shrinks_below_what_is_in_flight_leaves_no_room() {
        let mut credit = Credit::default();
        credit.learn(&account(1000, 0)).unwrap();
        credit.sent(800);
        credit.learn(&account(500, 0)).unwrap();
        assert_eq!(credit.room_at_guest(), 0);
    }

    #[test]
    fn the_guest_may_fill_the_buffer_and_not_a_byte_more() {
        let mut credit = Credit::default();
        credit.received(BUFFER).unwrap();
        assert_eq!(credit.received(1), Err(Overdrawn));
        credit.forwarded(1);
        credit.received(1).unwrap();
        assert_eq!(credit.received(u32::MAX), Err(Overdrawn));
    }

    #[test]
    fn what_was_told_is_not_worth_telling_again() {
        let mut credit = Credit::default();
        credit.received(BUFFER).unwrap();
        credit.forwarded(WORTH_TELLING as usize - 1);
        assert!(!credit.worth_telling());
        credit.forwarded(1);
        assert!(credit.worth_telling());
        let mut header = account(0, 0);
        credit.tell(&mut header);
        assert_eq!((header.buffer, header.forwarded), (BUFFER, WORTH_TELLING));
        assert!(!credit.worth_telling());
    }

    proptest! {
        /// Round the 32-bit circle several times: the held bytes are what a plain 64-bit account says.
        #[test]
        fn counters_wrap_without_losing_a_byte(
            start in any::<u32>(),
            steps in prop::collection::vec((0u32..=BUFFER, 0usize..=BUFFER as usize), 1..200),
        ) {
            let mut credit = Credit { received: start, forwarded: start, told: start, ..Credit::default() };
            let mut held = 0u64;
            for (arrive, leave) in steps {
                let fits = held + u64::from(arrive) <= u64::from(BUFFER);
                prop_assert_eq!(credit.received(arrive).is_ok(), fits);
                held += if fits { u64::from(arrive) } else { 0 };
                credit.forwarded(leave);
                held -= held.min(leave as u64);
            }
            let all = u32::try_from(u64::from(BUFFER) - held).unwrap();
            prop_assert!(credit.received(all).is_ok());
        }
    }
}
