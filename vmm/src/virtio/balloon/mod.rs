//! The memory balloon (virtio 1.2, section 5.5): RAM that a guest lends back to its host.
//!
//! | file | what |
//! |---|---|
//! | `device.rs` | the model: configuration space, target, queues and whose turn it is |
//! | `lanes.rs` | the queues after activation, and how far the device is in each |
//! | `ledger.rs` | which RAM goes back: sorted, merged, clipped to what there is, whole pages of the host |
//! | `statistics.rs` | the guest's own numbers |
//! | `lend.rs` | the host's end: a trait, and the guest's RAM behind it |
//!
//! A guest lends in two ways. It inflates: the host says how much it wants, the guest puts pages aside and names
//! them. And it reports: whatever its allocator has free in large blocks, unasked, as long as nobody uses it. Neither
//! needs a word to the host before the guest uses such pages again: they are private memory, and come back, empty,
//! when they are touched.
//!
//! What a page holds when it comes back is for nobody to rely on: we offer no VIRTIO_BALLOON_F_PAGE_POISON, and a
//! Linux guest whose free pages have to keep a content does not report them then. Today that is zeroes, or the
//! file's bytes where a kernel image is mapped as RAM.
//!
//! Pages are named in units of 4 KiB. Where the host's pages are larger, one goes back only if a request names all of
//! it: guests with pages as large always do, reports of blocks of megabytes do, and nothing is remembered between
//! requests, as a part may be in use again by then. Huge pages do not go back at all
//! ([`Lender::granule`](crate::memory::Lender::granule) says why).
//!
//! Queues are numbered as every driver and monitor numbers them: those whose feature was not accepted are left out.
//! Section 5.5.2 gives the reporting queue the number 4, which nobody has followed.

mod device;
mod lanes;
mod ledger;
mod lend;
mod statistics;

pub use self::device::{Asked, BalloonDevice, News, Settings, TooMuch};
pub use self::lend::Lend;
pub use self::statistics::Statistics;
use crate::memory::Lender;

/// The balloon of a machine.
pub type Balloon = BalloonDevice<Lender>;

#[cfg(test)]
mod tests;
