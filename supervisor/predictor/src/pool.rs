//! How many warm clones to hold, and for how long.
//!
//! Duty: learn how long a workload rests between uses, and plan from it when a clone is worth its memory. Not here:
//! making clones. Invariants: a plan has the least expected cost for the rests that were seen, of all plans that
//! decide bucket by bucket; with little evidence it is close to that of a heavy tail, which is a short time-to-live.
//!
//! The policy is one number: how many seconds of a warm clone a cold start is worth.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{array, number, time::Seconds};

/// Buckets of rests, each a fifth longer than the one before: one second to a day.
const BUCKETS: usize = 64;
const GROWTH: f32 = 1.195;
/// Evidence fades by half in so many rests.
const HALF_LIFE: f32 = 100.0;
/// Rests that were never seen but are thought of, spread evenly over all buckets.
const THOUGHT_OF: f32 = 1.0;
/// Rests after which a plan is made anew. A plan costs about a microsecond.
const STALE: u8 = 4;
/// Bringing a clone back costs this share of a cold start: it takes a processor, but nobody waits.
const RETURN_COST: f32 = 0.05;

/// What to do with the clone of a workload that rests.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Hold {
    /// Keep it warm for so many seconds, then ask again.
    Warm(f32),
    /// Let it go, and bring it back after so many seconds.
    Return(f32),
    /// Let it go until somebody needs it.
    Cold,
}

impl fmt::Display for Hold {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Hold::Warm(seconds) => write!(formatter, "warm for {seconds:.0} s more"),
            Hold::Return(seconds) => write!(formatter, "cold, warm again in {seconds:.0} s"),
            Hold::Cold => formatter.write_str("cold until it is needed"),
        }
    }
}

/// The rests of one clone, and what they are worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeepAlive {
    #[serde(with = "array")]
    weights: [f32; BUCKETS],
    /// Rests longer than the last bucket.
    longer: f32,
    worth: f32,
    /// One bit for each bucket: warm.
    plan: u64,
    stale: u8,
}

impl Default for KeepAlive {
    fn default() -> Self {
        KeepAlive::new(600.0)
    }
}

impl KeepAlive {
    /// `worth` seconds of a warm clone are as bad as one cold start.
    pub fn new(worth: f32) -> KeepAlive {
        let worth = if worth.is_nan() { 600.0 } else { worth.clamp(0.0, 1e7) };
        let mut keep = KeepAlive { weights: [0.0; BUCKETS], longer: 0.0, worth, plan: 0, stale: 0 };
        keep.solve();
        keep
    }

    /// A rest is over: it took so many seconds.
    pub fn rested(&mut self, seconds: f32) {
        if seconds.is_nan() || seconds < 0.0 {
            return;
        }
        let fade = 1.0 - core::f32::consts::LN_2 / HALF_LIFE;
        for weight in &mut self.weights {
            *weight *= fade;
        }
        self.longer *= fade;
        match self.weights.get_mut(number::index(bucket_of(seconds))) {
            Some(weight) => *weight += 1.0,
            None => self.longer += 1.0,
        }
        self.stale = self.stale.saturating_add(1);
        if self.stale >= STALE {
            self.solve();
        }
    }

    /// What to do after a rest of so many seconds that is not over.
    pub fn hold(&self, resting: f32) -> Hold {
        let resting = if resting.is_nan() { 0.0 } else { resting.max(0.0) };
        let now = bucket_of(resting);
        let warm = |bucket: u32| bucket < 64 && (self.plan >> bucket) & 1 == 1;
        let mut bucket = now;
        let mut edge = lower_edge(now);
        while bucket < 64 && warm(bucket) == warm(now) {
            bucket = bucket.saturating_add(1);
            edge = if bucket == 1 { 1.0 } else { edge * GROWTH };
        }
        let left = (edge - resting).max(0.0);
        match (warm(now), bucket < 64) {
            (true, _) => Hold::Warm(left),
            (false, true) => Hold::Return(left),
            (false, false) => Hold::Cold,
        }
    }

    /// How likely a rest that is not over after so many seconds ends within so many `more`.
    pub fn chance(&self, resting: f32, more: f32) -> f32 {
        let tame = |seconds: f32| if seconds.is_nan() { 0.0 } else { seconds.max(0.0) };
        let now = bucket_of(tame(resting));
        let then = bucket_of(tame(resting) + tame(more)).max(now.saturating_add(1));
        let thought = THOUGHT_OF / 65.0;
        let (mut within, mut all) = (0.0, self.longer + thought);
        for (bucket, weight) in (0..64u32).zip(&self.weights).skip(number::index(now)) {
            all += weight + thought;
            if bucket < then {
                within += weight + thought;
            }
        }
        within / all
    }

    /// For another policy: what was seen stays.
    pub fn revalue(&mut self, worth: f32) {
        self.worth = KeepAlive::new(worth).worth;
        self.solve();
    }

    /// The cheapest of all plans: costs from the longest rest back to the shortest, then the decisions along the way
    /// of a clone that has just been used and so is warm.
    fn solve(&mut self) {
        self.stale = 0;
        let thought = THOUGHT_OF / 65.0;
        let mut alive = self.longer + thought;
        let (mut stays, mut returns) = (0u64, 0u64);
        // Cost from here on of a clone that is warm and of one that is not. Rests beyond the last bucket end in a cold
        // start either way.
        let (mut if_warm, mut if_cold) = (0.0f32, 0.0f32);
        let mut upper = lower_edge(64);
        for bucket in (0..64u32).rev() {
            let lower = if bucket == 0 { 0.0 } else { (upper / GROWTH).max(1.0) };
            let ends = self.weights.get(number::index(bucket)).copied().unwrap_or(0.0) + thought;
            // Those who go on resting are held for all of the bucket, the others for half of it.
            let warm = (upper - lower) * (alive + ends * 0.5) + if_warm;
            let cold = self.worth * ends + if_cold;
            alive += ends;
            let come_back = warm + RETURN_COST * self.worth * alive;
            stays |= u64::from(warm <= cold) << bucket;
            returns |= u64::from(come_back < cold) << bucket;
            if_warm = warm.min(cold);
            if_cold = come_back.min(cold);
            upper = lower;
        }
        let mut is_warm = true;
        self.plan = 0;
        for bucket in 0..64u32 {
            let decisions = if is_warm { stays } else { returns };
            is_warm = (decisions >> bucket) & 1 == 1;
            self.plan |= u64::from(is_warm) << bucket;
        }
    }

    fn is_sound(&self) -> bool {
        self.weights.iter().chain([&self.longer]).all(|weight| (0.0..=1e6).contains(weight))
            && (0.0..=1e7).contains(&self.worth)
    }
}

/// Clones of one workload: the first is needed whenever the workload is, the second when the first is in use, and so
/// on. Each rests in its own way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool<const CLONES: usize> {
    #[serde(with = "array")]
    clones: [Clone; CLONES],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Clone {
    keep: KeepAlive,
    released: Option<Seconds>,
}

/// How many clones are to be warm beside those in use.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    pub warm: u16,
    /// Seconds after which to ask again, at the latest.
    pub again: f32,
    /// How likely the first of them is needed within its time.
    pub chance: f32,
}

impl<const CLONES: usize> Pool<CLONES> {
    pub fn new(worth: f32) -> Self {
        Pool { clones: [Clone { keep: KeepAlive::new(worth), released: None }; CLONES] }
    }

    /// For another policy: what was seen stays.
    pub fn revalue(&mut self, worth: f32) {
        for clone in &mut self.clones {
            clone.keep.revalue(worth);
        }
    }

    /// One more clone is taken into use while `in_use` others are.
    pub fn taken(&mut self, now: Seconds, in_use: u16) {
        let Some(clone) = self.clones.get_mut(usize::from(in_use)) else { return };
        if let Some(released) = clone.released.take() {
            clone.keep.rested(seconds_since(released, now));
        }
    }

    /// One clone is free again; `in_use` others still are.
    pub fn released(&mut self, now: Seconds, in_use: u16) {
        if let Some(clone) = self.clones.get_mut(usize::from(in_use)) {
            clone.released = Some(now);
        }
    }

    /// Whether a restored pool can be believed.
    pub(crate) fn is_sound(&self) -> bool {
        self.clones.iter().all(|clone| clone.keep.is_sound())
    }

    /// Clones that rest and should be warm.
    pub fn wanted(&self, now: Seconds) -> Wanted {
        let mut wanted = Wanted { warm: 0, again: f32::MAX, chance: 0.0 };
        for clone in &self.clones {
            let Some(released) = clone.released else { continue };
            let resting = seconds_since(released, now);
            match clone.keep.hold(resting) {
                Hold::Warm(left) => {
                    if wanted.warm == 0 {
                        wanted.chance = clone.keep.chance(resting, left);
                    }
                    wanted.warm = wanted.warm.saturating_add(1);
                    wanted.again = wanted.again.min(left);
                }
                Hold::Return(left) => wanted.again = wanted.again.min(left),
                Hold::Cold => {}
            }
        }
        wanted
    }
}

fn seconds_since(earlier: Seconds, now: Seconds) -> f32 {
    number::real(u32::try_from(now.0.saturating_sub(earlier.0)).unwrap_or(u32::MAX))
}

/// Bucket 0 is below a second; 64 is beyond all of them.
fn bucket_of(seconds: f32) -> u32 {
    if seconds < 1.0 {
        return 0;
    }
    let steps = libm::logf(seconds) * (1.0 / LN_GROWTH);
    number::whole(steps, 63).saturating_add(1)
}

const LN_GROWTH: f32 = 0.178_146_19;

fn lower_edge(bucket: u32) -> f32 {
    match bucket {
        0 => 0.0,
        bucket => libm::expf(LN_GROWTH * number::real(bucket.min(64).saturating_sub(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taught(worth: f32, rests: impl Iterator<Item = f32>) -> KeepAlive {
        let mut keep = KeepAlive::new(worth);
        rests.for_each(|rest| keep.rested(rest));
        keep
    }

    /// Cold starts and seconds held over the same rests again.
    fn cost(keep: &KeepAlive, rest: f32) -> (bool, f32) {
        let (mut at, mut held) = (0.0, 0.0);
        for _ in 0..200 {
            match keep.hold(at) {
                Hold::Warm(left) if at + left.max(1e-3) >= rest => return (false, held + rest - at),
                Hold::Warm(left) => {
                    held += left;
                    at += left.max(1e-3) * 1.0001;
                }
                Hold::Return(left) if at + left < rest => at += left.max(1e-3) * 1.0001,
                Hold::Return(_) | Hold::Cold => return (true, held),
            }
        }
        (true, held)
    }

    #[test]
    fn a_timer_s_clone_goes_and_comes_back_just_in_time() {
        let keep = taught(600.0, std::iter::repeat_n(3600.0, 60));
        let (cold, held) = cost(&keep, 3600.0);
        assert!(!cold);
        assert!(held < 3600.0 * 0.25, "held for {held} s");
        assert!(matches!(keep.hold(30.0), Hold::Return(_)));
    }

    #[test]
    fn a_busy_clone_stays_and_a_clone_that_nobody_needs_goes() {
        let busy = taught(600.0, (0u16..60).map(|rest| f32::from(rest % 7) + 3.0));
        assert!(!cost(&busy, 9.0).0);
        assert!(matches!(busy.hold(40_000.0), Hold::Cold));
        let rare = taught(600.0, (0u16..60).map(|rest| 30_000.0 + 500.0 * f32::from(rest)));
        assert!(cost(&rare, 45_000.0).1 < 600.0);
    }

    #[test]
    fn a_dearer_cold_start_holds_longer() {
        let held = |worth: f32| {
            let keep = taught(worth, (1u16..200).map(|rest| f32::from(rest * 37 % 1000) * 3.0));
            (1u16..200).map(|rest| cost(&keep, f32::from(rest) * 15.0).1).sum::<f32>()
        };
        assert!(held(10.0) < held(300.0) && held(300.0) < held(10_000.0));
    }

    #[test]
    fn a_pool_holds_as_many_as_are_usually_needed_together() {
        let mut pool = Pool::<4>::new(600.0);
        let mut now = 0;
        for _ in 0..50 {
            // Every half a minute two at once, for a second.
            now += 30;
            pool.taken(Seconds(now), 0);
            pool.taken(Seconds(now), 1);
            pool.released(Seconds(now + 1), 1);
            pool.released(Seconds(now + 1), 0);
        }
        assert_eq!(pool.wanted(Seconds(now + 5)).warm, 2);
        assert_eq!(pool.wanted(Seconds(now + 80_000)).warm, 0);
    }

    #[test]
    fn the_chance_of_a_call_is_how_often_one_came() {
        let rests = (0u16..40).map(|rest| if rest % 4 == 0 { 5000.0 } else { 60.0 });
        let keep = taught(600.0, rests);
        let soon = keep.chance(0.0, 100.0);
        assert!((0.65..0.8).contains(&soon), "{soon}");
        assert!(keep.chance(200.0, 1000.0) < 0.1, "nobody came then");
        assert!(keep.chance(f32::NAN, f32::INFINITY) > 0.9);
    }

    #[test]
    fn another_worth_is_another_plan_from_the_same_rests() {
        let mut pool = Pool::<1>::new(10_000.0);
        for call in 0..50u64 {
            pool.taken(Seconds(call * 1000), 0);
            pool.released(Seconds(call * 1000 + 1), 0);
        }
        let warm = |pool: &Pool<1>| pool.wanted(Seconds(49_980)).warm;
        assert_eq!(warm(&pool), 1);
        pool.revalue(1.0);
        assert_eq!(warm(&pool), 0);
        pool.revalue(10_000.0);
        assert_eq!(warm(&pool), 1);
    }

    #[test]
    fn buckets_and_edges_agree() {
        for bucket in 1..64 {
            let edge = lower_edge(bucket);
            assert_eq!(bucket_of(edge * 1.01), bucket);
            assert_eq!(bucket_of(edge * 0.99), bucket - 1);
        }
        assert_eq!(bucket_of(f32::INFINITY), 64);
    }

    proptest! {
        #[test]
        fn any_rests_leave_a_plan(
            worth in any::<f32>(), rests in proptest::collection::vec(any::<f32>(), 0..200), resting in any::<f32>(),
        ) {
            let keep = taught(worth, rests.into_iter());
            prop_assert!(keep.is_sound());
            if let Hold::Warm(left) | Hold::Return(left) = keep.hold(resting) {
                prop_assert!(left.is_finite() && left >= 0.0);
            }
        }
    }
}
