//! `[heal]`: how a workload is healed.
//!
//! Duty: keys and defaults. Not here: what is tried when (`hearth-core`), what was learnt (`hearth-foresight`).

use crate::reader::Table;

/// Which means come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealOrder {
    /// What cured such faults before, once enough is known; until then as [`HealOrder::Cost`].
    #[default]
    Learnt,
    /// The cheapest, always.
    Cost,
    /// What undoes least, always.
    Strength,
}

/// How it is healed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heal {
    pub order: HealOrder,
}

const ORDERS: [(&str, HealOrder); 3] =
    [("learnt", HealOrder::Learnt), ("cost", HealOrder::Cost), ("strength", HealOrder::Strength)];

pub(super) fn heal(table: &mut Table<'_>) -> Heal {
    Heal { order: table.entry("order").choice(&ORDERS).unwrap_or_default() }
}
