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

/// A means that somebody may want to be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealMeans {
    RestartInGuest,
    Restore,
    ColdStart,
    RollBack,
}

/// How it is healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heal {
    pub order: HealOrder,
    /// What is done without asking anybody.
    pub automatic: Vec<HealMeans>,
}

const ORDERS: [(&str, HealOrder); 3] =
    [("learnt", HealOrder::Learnt), ("cost", HealOrder::Cost), ("strength", HealOrder::Strength)];

const MEANS: [(&str, HealMeans); 4] = [
    ("restart-in-guest", HealMeans::RestartInGuest),
    ("restore", HealMeans::Restore),
    ("cold-start", HealMeans::ColdStart),
    ("roll-back", HealMeans::RollBack),
];

pub(super) fn heal(table: &mut Table<'_>) -> Heal {
    let order = table.entry("order").choice(&ORDERS).unwrap_or_default();
    let entry = table.entry("automatic");
    let Some(items) = entry.items("an array of means, such as [\"restore\"]", MEANS.len()) else {
        return Heal { order, automatic: MEANS.iter().map(|(_, means)| *means).collect() };
    };
    let mut automatic = Vec::new();
    for item in items {
        match item.choice(&MEANS) {
            Some(means) if automatic.contains(&means) => item.fault("expected each means once"),
            Some(means) => automatic.push(means),
            None => {}
        }
    }
    Heal { order, automatic }
}
