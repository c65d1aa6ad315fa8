//! `[remote]`: who of the fleet may look into the workload, and do something in it.
//!
//! Duty: keys and defaults. Not here: whose keys there are (`[fleet.trust]` of the box), what is done.
//! Invariant: what no key allows is off.

use crate::reader::Table;

/// Whose signatures an operation takes: a role of `[fleet.trust]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signers {
    Operate,
    Release,
}

/// `None`: nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// Run programs in its guests.
    pub exec: Option<Signers>,
    /// See what its guests' consoles show.
    pub console: Option<Signers>,
    /// Read its log.
    pub fetch_logs: Option<Signers>,
}

const SIGNERS: [(&str, Option<Signers>); 3] =
    [("nobody", None), ("operate", Some(Signers::Operate)), ("release", Some(Signers::Release))];

pub(super) fn remote(table: &mut Table<'_>) -> Remote {
    let mut signers = |key| table.entry(key).choice(&SIGNERS).flatten();
    Remote { exec: signers("exec"), console: signers("console"), fetch_logs: signers("fetch_logs") }
}
