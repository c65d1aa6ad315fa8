//! What a person wants of foresight.
//!
//! Duty: the types of it. Not here: the files that say so (`hearth-config`).

use hearth_core::Rungs;

/// One workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    pub name: String,
    /// Whom it asks for something.
    pub rests_on: Vec<String>,
    /// None: nobody wants to know how many replicas would do.
    pub scaling: Option<ScaleWish>,
    /// None: nobody wants to know how many of its machines should wait for the next call.
    pub keeping: Option<KeepWish>,
    /// None: its machines have no balloon, or nobody wants to know what it could hold.
    pub balloon: Option<BalloonWish>,
    /// What one of its machines has.
    pub memory_mib: u32,
    pub healing: HealWish,
    pub rollout: RolloutWish,
}

/// How a new version is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolloutWish {
    /// Fewer say nothing of it.
    pub requests: u32,
    /// Of all requests: one that fails by so much more often is worse.
    pub margin: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HealWish {
    /// What may be done for it without asking anybody.
    pub means: Rungs,
    /// How much a second without service counts, and one of risk, each against the other.
    pub availability: f32,
    pub risk: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaleWish {
    pub least: u16,
    pub most: u16,
    /// Seconds that a request may wait for a replica.
    pub wait_s: f32,
    /// Seconds of a replica that one request which waits for longer is worth.
    pub late_worth_s: f32,
    /// Of all requests, those that may wait for longer whatever a replica costs.
    pub late_share: f32,
    /// Seconds for which fewer have to do before there are fewer.
    pub patience_s: u32,
    /// Seconds of work in one request while nobody told any.
    pub service_s: f32,
    /// The box follows it; otherwise it is shown.
    pub automatic: bool,
}

/// Of a function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeepWish {
    /// Machines that wait for the next call; [`MOST_KEPT`](crate::MOST_KEPT) are the most that are learnt of.
    pub most: u16,
    /// Seconds of a machine that waits which one call without a warm machine is worth.
    pub worth_s: f32,
    /// The box follows it; otherwise it is shown.
    pub automatic: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalloonWish {
    /// So much is left to a machine.
    pub least_mib: u32,
    /// The box follows it; otherwise it is shown.
    pub automatic: bool,
}
