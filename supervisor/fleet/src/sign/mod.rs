//! Who may tell a box what to do: signatures in minisign's format, over the exact bytes.
//!
//! | file | what |
//! |---|---|
//! | `envelope.rs` | documents with their signatures, and what they become when those are good |
//! | `keyring.rs` | whose signatures count, for what |
//! | `rotation.rs` | other keys, named by those of before |
//!
//! ```text
//! bytes --read--> Envelope --verify(role)--> Verified --as what it says it is--> Desired | Command | Keyring
//! ```
//!
//! Duty: from bytes to [`Verified`], and nothing else makes one. Not here: what documents mean (`tree`), secret keys
//! (`hearthctl`).
//! Invariants: a broker, and whoever else passes a document on, can neither change it, nor give it to a box or to a use
//! that it does not name. Two roles share nothing: a key counts for the role under which it stands.

mod envelope;
mod keyring;
mod rotation;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use envelope::{Envelope, MAX_ENVELOPE, Refusal, Use, Verified};
pub use keyring::{KeyFault, Keyring, Role, RoleKeys};
pub use rotation::rotate;
