//! The balloon's queues once the driver is ready, and how far the device is in each.
//!
//! Duty: which queue does what, and a bounded piece of work at a time. Invariant: one chain is under way per queue;
//! what is left of it waits in its lane for the next turn, so that neither a long list of pages nor a report of
//! gigabytes, or of a thousand crumbs, holds the event loop.

use super::device::feature;
use super::ledger::Ledger;
use super::lend::Lend;
use crate::memory::GuestRam;
use crate::virtio::device::Backlog;
use crate::virtio::rings::{Chain, Ring, RingFault};

/// Page numbers that are looked at in one turn. Where no two are neighbours, each is a request to the host: together
/// about a millisecond. Linux sends 256 at a time.
pub(super) const TURN_PAGES: u64 = 1024;
/// Page numbers of one chain that are looked at, in turns. No driver lists as many; a chain of overlapping buffers
/// can hold a thousand million, and inflating is an offer that need not be taken.
pub(super) const CHAIN_PAGES: u64 = 16 * TURN_PAGES;
/// Reported bytes that go back in one turn: some milliseconds of the host's where they were all in use. Linux reports
/// up to 128 MiB at a time.
pub(super) const TURN_BYTES: u64 = 64 << 20;
/// What a block weighs in a turn at least, in bytes: each may be a request to the host, and a turn has as many of those
/// as one that inflates. Linux reports blocks of 2 MiB and more.
const BLOCK_WEIGHT: u64 = TURN_BYTES / TURN_PAGES;
/// Bytes of a page number: 32 bits.
const NUMBER: usize = 4;

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Pages that the guest puts aside.
    Inflate,
    /// Pages that it takes back.
    Deflate,
    /// Numbers about its memory.
    Statistics,
    /// Blocks that its allocator has free.
    Reporting,
}

/// The queues in their order: those whose feature was not accepted are not counted.
fn roles(features: u64) -> impl Iterator<Item = Role> {
    let optional =
        [(feature::STATISTICS, Role::Statistics), (feature::REPORTING, Role::Reporting)].into_iter();
    let accepted = optional.filter(move |(bit, _)| features & bit != 0).map(|(_, role)| role);
    [Role::Inflate, Role::Deflate].into_iter().chain(accepted)
}

/// A chain that the device is working on. Counted in page numbers where it lists pages, in bytes where it is blocks.
#[derive(Debug)]
struct Begun {
    chain: Chain,
    done: u64,
    all: u64,
}

/// What drivers named, and what of it nobody looked at.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Named {
    /// Pages put aside.
    pub(super) inflated: u64,
    /// Pages taken back.
    pub(super) deflated: u64,
    /// Bytes of blocks that were free.
    pub(super) reported: u64,
    /// Pages beyond what a chain may list.
    pub(super) ignored: u64,
}

/// One queue.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) role: Role,
    pub(super) ring: Ring,
    begun: Option<Begun>,
}

impl Lane {
    /// The lane of each ring, in queue order.
    pub(super) fn all(rings: Vec<Option<Ring>>, features: u64) -> Vec<Option<Self>> {
        let lane = |(role, ring): (Role, Option<Ring>)| ring.map(|ring| Self { role, ring, begun: None });
        roles(features).zip(rings).map(lane).collect()
    }

    /// Gives back what the driver can spare, as much as one turn may have.
    ///
    /// All of a chain goes back before the driver gets the chain: from then on it may use those pages.
    pub(super) fn turn(
        &mut self,
        memory: &GuestRam,
        lender: &impl Lend,
        ledger: &mut Ledger,
        named: &mut Named,
    ) -> Result<Backlog, RingFault> {
        let mut left = match self.role {
            Role::Inflate => TURN_PAGES,
            Role::Reporting => TURN_BYTES,
            Role::Deflate | Role::Statistics => u64::MAX,
        };
        for _ in 0..self.ring.size() {
            let mut begun = match self.begun.take() {
                Some(begun) => begun,
                None => match self.ring.pop()? {
                    Some(chain) => self.begin(chain, named),
                    None => return Ok(Backlog::Done),
                },
            };
            let step = match self.role {
                Role::Inflate => {
                    let step = begun.all.saturating_sub(begun.done).min(left);
                    inflate(&begun, step, memory, ledger);
                    left = left.saturating_sub(step);
                    step
                }
                Role::Reporting => report(&begun, &mut left, ledger),
                // Nothing to do for the host: such pages come back when they are touched.
                Role::Deflate | Role::Statistics => 0,
            };
            ledger.settle(memory, lender);
            begun.done = begun.done.saturating_add(step);
            if begun.done < begun.all {
                self.begun = Some(begun);
                break;
            }
            self.ring.complete(begun.chain, 0)?;
            if left == 0 {
                break;
            }
        }
        Ok(Backlog::More)
    }

    fn begin(&self, chain: Chain, named: &mut Named) -> Begun {
        let numbers = (chain.readable_bytes() / NUMBER) as u64;
        let all = match self.role {
            Role::Inflate => {
                let all = numbers.min(CHAIN_PAGES);
                named.inflated = named.inflated.saturating_add(all);
                named.ignored = named.ignored.saturating_add(numbers.saturating_sub(all));
                all
            }
            Role::Deflate => {
                named.deflated = named.deflated.saturating_add(numbers);
                0
            }
            Role::Reporting => {
                let all = chain.writable_bytes() as u64;
                named.reported = named.reported.saturating_add(all);
                all
            }
            Role::Statistics => 0,
        };
        Begun { chain, done: 0, all }
    }
}

/// The next `count` page numbers of a chain.
fn inflate(begun: &Begun, count: u64, memory: &GuestRam, ledger: &mut Ledger) {
    let mut list = begun.chain.reader(memory);
    let number = |pages: u64| usize::try_from(pages).unwrap_or(usize::MAX).saturating_mul(NUMBER);
    list.skip(number(begun.done));
    list.limit(number(count));
    let mut block = [0u8; 64 * NUMBER];
    loop {
        let got = list.read(&mut block);
        let (numbers, _) = block.split_at_checked(got).unwrap_or_default();
        for number in numbers.as_chunks::<NUMBER>().0 {
            ledger.add_page(u32::from_le_bytes(*number));
        }
        if got < block.len() {
            break;
        }
    }
}

/// The next bytes of a chain's blocks, and how many: as many as weigh what is `left` of the turn.
fn report(begun: &Begun, left: &mut u64, ledger: &mut Ledger) -> u64 {
    let (mut behind, mut done) = (begun.done, 0u64);
    for (place, bytes) in begun.chain.writable() {
        let bytes = u64::from(bytes);
        let skipped = bytes.min(behind);
        behind = behind.saturating_sub(skipped);
        let taken = bytes.saturating_sub(skipped).min(*left);
        if taken > 0 {
            ledger.add(place.0.saturating_add(skipped), taken);
            *left = left.saturating_sub(taken.max(BLOCK_WEIGHT));
            done = done.saturating_add(taken);
        }
    }
    done
}
