//! How much of its memory a machine can do without.
//!
//! Duty: what guests say that they need into what a balloon should leave them, with the reason. Not here: quantiles
//! (`hearth-predictor`), bounds that hold, orders (`hearth-core`).
//! Invariants: nothing is advised before a guest was looked at for long enough, and nothing of a guest that does not tell;
//! memory that is needed now is given back at once, whatever was needed before.

use hearth_predictor::Seconds;
use hearth_predictor::sizing::{Usage, VerticalPolicy};

use crate::scaling::count;
use crate::wish::BalloonWish;

/// Half of what is known is of the last day.
const HALF_LIFE_S: f32 = 86_400.0;
/// What was needed for more than this share of the time is to fit, with so much on top for the guest's own cache.
const SHARE: f32 = 0.98;
const MARGIN: f32 = 1.25;
/// With less than this on top of what is needed now, a guest has to get more at once.
const TIGHT: f32 = 1.1;
/// Words of a guest, one a minute, before anything is advised.
const SETTLED: u32 = 30;
/// Words after which advice that stays as it is, is given again: who follows it may have begun anew.
const AGAIN: u32 = 60;

#[derive(Clone, Debug)]
pub(crate) struct Lending {
    pub(crate) wish: BalloonWish,
    has_mib: u32,
    pub(crate) usage: Usage,
    pub(crate) heard: u32,
    since_told: u32,
    pub(crate) told: Option<Left>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) mib: u32,
    pub(crate) why: String,
}

impl Lending {
    pub(crate) fn new(wish: BalloonWish, has_mib: u32) -> Lending {
        let usage = Usage::new(count(has_mib), HALF_LIFE_S);
        Lending { wish, has_mib, usage, heard: 0, since_told: 0, told: None }
    }

    /// The same past, with another wish.
    pub(crate) fn wish(&mut self, wish: BalloonWish) {
        if wish != self.wish {
            (self.wish, self.told) = (wish, None);
        }
    }

    /// Whether what is known is worth keeping.
    pub(crate) fn is_settled(&self) -> bool {
        self.heard >= SETTLED
    }

    /// What another daemon learnt.
    pub(crate) fn restore(&mut self, usage: Usage) {
        (self.usage, self.heard) = (usage, SETTLED);
    }

    /// The guest with the least to spare can do without so many MiB. What is to be told.
    pub(crate) fn spare(&mut self, at: Seconds, spare_mib: f32) -> Option<Left> {
        let has = count(self.has_mib);
        if !spare_mib.is_finite() {
            return None;
        }
        let needs = (has - spare_mib).clamp(0.0, has);
        self.usage.observe(at, needs);
        self.heard = self.heard.saturating_add(1);
        if self.heard < SETTLED {
            return None;
        }
        let now = self.told.as_ref().map_or(has, |left| count(left.mib));
        let policy =
            VerticalPolicy { least: count(self.wish.least_mib), most: has, share: SHARE, margin: MARGIN };
        let usual = policy.advise(&self.usage, now)?;
        let amount = usual.amount.max(needs * MARGIN).min(has);
        let is_tight = needs * TIGHT > now && amount > now;
        let moves = (usual.moves && amount <= usual.amount) || is_tight;
        self.since_told = self.since_told.saturating_add(1);
        if !moves && (self.told.is_none() || self.since_told < AGAIN) {
            return None;
        }
        self.since_told = 0;
        let mib = if moves { whole(amount).min(self.has_mib) } else { whole(now) };
        let why =
            format!("a machine needs {needs:.0} MiB now, and {:.0} for all but 2 % of the time", usual.used);
        self.told = Some(Left { mib, why });
        self.told.clone()
    }
}

fn whole(mib: f32) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies between 0 and a file's number"
    )]
    let whole = mib.ceil().max(0.0) as u32;
    whole
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const WISH: BalloonWish = BalloonWish { least_mib: 64, automatic: true };

    /// Says each minute that so much is needed, for so many minutes; what was told last, and how often.
    fn needs(lending: &mut Lending, from: u64, minutes: u64, mib: f32) -> (Option<u32>, u32) {
        let mut told = (None, 0);
        for minute in from..from + minutes {
            if let Some(left) = lending.spare(Seconds(minute * 60), 256.0 - mib) {
                told = (Some(left.mib), told.1 + 1);
            }
        }
        told
    }

    #[test]
    fn what_a_guest_never_needs_is_spare_once_that_is_known_and_told_again_each_hour() {
        let mut lending = Lending::new(WISH, 256);
        assert_eq!(needs(&mut lending, 0, u64::from(SETTLED) - 1, 80.0), (None, 0));
        let (left, times) = needs(&mut lending, 100, 1, 80.0);
        assert!(left.is_some_and(|left| (100..=115).contains(&left)) && times == 1, "{left:?}");
        let again = needs(&mut lending, 200, 120, 80.0);
        assert_eq!(again, (left, 2));
        let mut tiny = Lending::new(WISH, 256);
        assert_eq!(needs(&mut tiny, 0, 60, 10.0).0, Some(64), "no less than the file says");
    }

    #[test]
    fn memory_that_is_needed_now_is_given_back_at_once() {
        let mut lending = Lending::new(WISH, 256);
        let _ = needs(&mut lending, 0, 600, 80.0);
        let (left, _) = needs(&mut lending, 600, 1, 150.0);
        assert!(left.is_some_and(|left| left >= 187), "{left:?}");
        let (left, _) = needs(&mut lending, 601, 1, 250.0);
        assert_eq!(left, Some(256));
    }

    #[test]
    fn another_least_counts_with_the_next_word_and_what_was_learnt_outlives_a_daemon() {
        let mut lending = Lending::new(WISH, 256);
        let _ = needs(&mut lending, 0, 60, 40.0);
        lending.wish(BalloonWish { least_mib: 128, ..WISH });
        assert_eq!(needs(&mut lending, 60, 1, 40.0), (Some(128), 1));
        let mut next = Lending::new(WISH, 256);
        next.restore(lending.usage.clone());
        assert_eq!(needs(&mut next, 61, 1, 40.0), (Some(64), 1));
    }

    #[test]
    fn nonsense_of_a_guest_is_bounded() {
        let mut lending = Lending::new(WISH, 256);
        for minute in 0..100 {
            for spare in [f32::NAN, f32::INFINITY, -1e9, 1e9] {
                let told = lending.spare(Seconds(minute), spare);
                assert!(told.is_none_or(|left| (64..=256).contains(&left.mib)));
            }
        }
    }
}
