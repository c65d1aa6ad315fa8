//! A machine as files, and files as a machine.
//!
//! | file | what |
//! |---|---|
//! | `part.rs` | what a part with a state of its own owes a snapshot |
//! | `bytes.rs` | bytes within a state |
//! | `state.rs` | the file `state`: all but memory, versioned and checked |
//! | `filling.rs` | who fills it: this process, or in a jail the one outside |
//! | `folder.rs` | the folder: written beside its place, made durable, renamed into it |
//! | `anchored.rs` | what a machine ran with, with paths that mean the same anywhere |
//! | `manifest.rs` | the file `manifest.toml`: the same facts for people and fleets |
//! | `copy.rs`, `sum.rs` | RAM into a sparse file, and a sum of it |
//! | `take.rs` | a snapshot from the machine's rest to the folder's name |
//! | `key.rs` | what a template was made of |
//! | `open.rs`, `seal.rs` | a folder that was checked, ready to be a machine again |
//! | `merge.rs` | a difference and its base as one |
//!
//! Not here: when (`machine/life.rs`), and the order in which a machine is put together again (`machine/restored.rs`).
//!
//! ```text
//! NAME/   manifest.toml  for people; says what `state` says, and is compared with it
//!         state          vCPUs, interrupt controllers, devices
//!         memory         RAM, sparse; of a difference, the pages that differ
//!         vm.toml        what the machine ran with, with absolute paths; to be edited for a clone
//!         key            of a template: what it was made of
//!         seal           which file `memory` was when it was last read whole, on this host
//! ```
//!
//! Invariants: a folder with a snapshot's name is a whole snapshot, whatever crashed when. Nothing of a folder is
//! trusted: every length, index and address of it is checked before it is used, and a machine that cannot be restored
//! whole is not restored at all.

mod anchored;
mod bytes;
mod copy;
mod filling;
mod folder;
mod key;
mod manifest;
mod merge;
mod open;
mod part;
mod seal;
pub mod state;
pub mod sum;
mod take;

pub use self::anchored::anchored;
pub use self::bytes::Bytes;
pub use self::folder::{Existing, Unfinished as Folder};
pub use self::key::{KeyError, has_key, key};
pub use self::merge::{MergeError, merge};
pub use self::open::{Opened, Refusal, open};
pub use self::part::{Part, PartState, Unfit};
pub use self::take::{Base, Draft, TakeError, Wish, copy_in_pause};
