//! What is to become of a new version, by what it serves.
//!
//! Duty: what it served beside the one before into advice, and when that is news. Not here: the weighing
//! (`hearth-predictor`), what follows (`hearth-core`).
//! Invariant: with fewer requests than its file asks for nothing is said of a version, nor is it said to be worse than
//! one before that served fewer.

use hearth_core::{Advice, Compared, Judged};
use hearth_predictor::recovery::rollout::{Stakes, Step, Trials, judge};

use crate::wish::RolloutWish;

#[derive(Clone, Debug)]
pub(crate) struct Judging {
    pub(crate) wish: RolloutWish,
    told: Option<Judged>,
}

impl Judging {
    pub(crate) fn new(wish: RolloutWish) -> Judging {
        Judging { wish, told: None }
    }

    /// None: it is no news.
    pub(crate) fn weigh(&mut self, compared: Compared) -> Option<Judged> {
        // It is compared anew: what was said of it was said of another try. Either version may be the first to serve in it.
        let Compared { old, new, .. } = compared;
        self.told = self.told.filter(|Judged { compared: told, .. }| {
            old.requests >= told.old.requests && new.requests >= told.new.requests
        });
        if compared.new.requests < self.wish.requests {
            self.told = None;
            return None;
        }
        let trials = |of: hearth_core::Trials| Trials { all: of.requests, failed: of.errors };
        let stakes = Stakes { margin: self.wish.margin, ..Stakes::default() };
        let judgement = judge(trials(compared.old), trials(compared.new), stakes);
        let advice = match judgement.step {
            Step::GoOn => Advice::GoOn,
            Step::Wait => Advice::Wait,
            // Without it, the one before is only thought to be as good as any.
            Step::RollBack if compared.old.requests < self.wish.requests => Advice::Wait,
            Step::RollBack => Advice::RollBack,
        };
        let judged = Judged { compared, advice, worse_milli: milli(judgement.worse) };
        let before = self.told.filter(|told| told.compared.version == compared.version);
        if before.map_or(Advice::Wait, |told| told.advice) == advice {
            return None;
        }
        self.told = Some(judged);
        Some(judged)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is held to what fits before")]
fn milli(share: f32) -> u16 {
    if share.is_finite() { (share.clamp(0.0, 1.0) * 1000.0).round() as u16 } else { 1000 }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hearth_core::{Trials, Version};

    pub(crate) const WISH: RolloutWish = RolloutWish { requests: 20, margin: 0.02 };

    fn compared(version: u64, old: (u32, u32), new: (u32, u32)) -> Compared {
        let trials = |(requests, errors)| Trials { requests, errors };
        Compared { version: Version(version), old: trials(old), new: trials(new) }
    }

    fn advice(judged: Option<Judged>) -> Option<Advice> {
        judged.map(|judged| judged.advice)
    }

    #[test]
    fn what_is_sure_is_told_once_and_what_is_not_is_waited_for() {
        let mut judging = Judging::new(WISH);
        assert_eq!(judging.weigh(compared(2, (900, 9), (10, 10))), None, "too few to say");
        assert_eq!(judging.weigh(compared(2, (900, 9), (20, 1))), None, "one may be chance");
        let told = judging.weigh(compared(2, (900, 9), (40, 12)));
        assert_eq!(advice(told), Some(Advice::RollBack));
        assert!(told.is_some_and(|judged| judged.worse_milli > 950), "{told:?}");
        assert_eq!(judging.weigh(compared(2, (950, 9), (50, 15))), None, "it is no news");
        assert_eq!(
            advice(judging.weigh(compared(3, (900, 9), (400, 4)))),
            Some(Advice::GoOn),
            "another version"
        );
    }

    #[test]
    fn a_version_that_is_tried_again_is_judged_again() {
        let mut judging = Judging::new(WISH);
        let bad = |judging: &mut Judging, new| advice(judging.weigh(compared(2, (900, 9), (new, new / 2))));
        assert_eq!(bad(&mut judging, 200), Some(Advice::RollBack));
        assert_eq!(bad(&mut judging, 0), None);
        assert_eq!(bad(&mut judging, 300), Some(Advice::RollBack), "its first requests are none");
        assert_eq!(bad(&mut judging, 100), Some(Advice::RollBack), "nobody looked at its first requests");
        assert_eq!(judging.weigh(compared(2, (0, 0), (150, 75))), None, "it is the first to serve");
        assert_eq!(bad(&mut judging, 150), Some(Advice::RollBack));
    }

    #[test]
    fn nothing_is_worse_than_what_hardly_served() {
        let mut judging = Judging::new(WISH);
        assert_eq!(judging.weigh(compared(2, (0, 0), (400, 200))), None);
        assert_eq!(judging.weigh(compared(2, (19, 0), (400, 200))), None);
        assert_eq!(advice(judging.weigh(compared(2, (20, 0), (400, 200)))), Some(Advice::RollBack));
    }

    #[test]
    fn what_was_fine_and_is_not_sure_any_more_is_taken_back() {
        let mut judging = Judging::new(WISH);
        assert_eq!(advice(judging.weigh(compared(2, (900, 9), (400, 4)))), Some(Advice::GoOn));
        let told = judging.weigh(compared(2, (900, 9), (400, 14)));
        assert_eq!(advice(told), Some(Advice::Wait), "{told:?}");
    }
}
