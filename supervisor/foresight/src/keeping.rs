//! How many machines of a function are worth their memory while nobody uses them.
//!
//! ```text
//!   called --> ask at once --> told --its time--> ask again
//! ```
//!
//! Duty: calls into rests, rests into advice with its reason. Not here: the reckoning (`hearth-predictor`), what the box
//! keeps in any case and at most (`hearth-core`).
//! Invariants: nothing is advised before anybody called; after a call the advice is told whatever it is, since what is in use
//! has changed.

use hearth_predictor::Seconds;
use hearth_predictor::pool::{Pool, Wanted};

use crate::wish::KeepWish;

/// Machines whose rests are learnt: those behind them are needed at the same time so seldom that nothing is learnt.
pub const MOST_KEPT: u16 = 8;
/// Who would be back this soon stays: ending a machine and starting the next takes its time, too.
const ABSENCE_S: u32 = 60;
/// Advice is given for a day at most.
const LONGEST_S: u32 = 86_400;

pub(crate) type Rests = Pool<{ MOST_KEPT as usize }>;

#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    pub(crate) wish: KeepWish,
    pub(crate) rests: Rests,
    in_use: u16,
    /// Somebody called, now or before a restart.
    pub(crate) called: bool,
    /// None: what is in use has changed since.
    pub(crate) told: Option<Kept>,
}

/// Advice, until it has to be given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) idle: u16,
    pub(crate) until: Seconds,
    pub(crate) lasts_s: u32,
    pub(crate) why: String,
}

impl Keeping {
    pub(crate) fn new(wish: KeepWish) -> Keeping {
        Keeping { wish, rests: Rests::new(wish.worth_s), in_use: 0, called: false, told: None }
    }

    /// The same past, with another wish.
    pub(crate) fn wish(&mut self, wish: KeepWish) {
        if wish != self.wish {
            self.rests.revalue(wish.worth_s);
            (self.wish, self.told) = (wish, None);
        }
    }

    /// So many are in use from now on.
    pub(crate) fn called(&mut self, at: Seconds, in_use: u16) {
        while self.in_use < in_use {
            self.rests.taken(at, self.in_use);
            self.in_use += 1;
        }
        while self.in_use > in_use {
            self.in_use -= 1;
            self.rests.released(at, self.in_use);
        }
        (self.called, self.told) = (true, None);
    }

    /// When it has to be asked.
    pub(crate) fn due(&self) -> Option<Seconds> {
        let due = self.told.as_ref().map_or(Seconds(0), |told| told.until);
        self.called.then_some(due)
    }

    /// What is to be told now, if it is time.
    pub(crate) fn ask(&mut self, at: Seconds) -> Option<Kept> {
        if self.due()?.0 > at.0 {
            return None;
        }
        let (now, soon) = (self.rests.wanted(at), self.rests.wanted(later(at, ABSENCE_S)));
        let lasts_s = seconds(now.again);
        let (wanted, within) = if soon.warm > now.warm {
            (soon, ABSENCE_S.saturating_add(seconds(soon.again)))
        } else {
            (now, lasts_s)
        };
        let kept = Kept {
            idle: wanted.warm.min(self.wish.most),
            until: later(at, lasts_s),
            lasts_s,
            why: self.why(&wanted, within),
        };
        // None is kept, and none was: that is no news.
        let news = kept.idle > 0 || self.told.as_ref().is_none_or(|told| told.idle > 0);
        self.told = Some(kept.clone());
        news.then_some(kept)
    }

    fn why(&self, wanted: &Wanted, within_s: u32) -> String {
        let worth = format!("a cold start is worth {} of a warm one", span(self.wish.worth_s));
        if wanted.warm > 0 {
            let percent = wanted.chance * 100.0;
            return format!("a call comes within {} by {percent:.0} %, and {worth}", span(real(within_s)));
        }
        if within_s < LONGEST_S {
            return format!("no call is likely for {}, and {worth}", span(real(within_s)));
        }
        format!("no call is likely enough, and {worth}")
    }
}

fn later(at: Seconds, seconds: u32) -> Seconds {
    Seconds(at.0.saturating_add(seconds.into()))
}

/// Whole seconds, none of them of nothing: whoever asks again at once would do nothing else.
fn seconds(again: f32) -> u32 {
    let again = again.ceil().clamp(1.0, real(LONGEST_S));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it lies between 1 and a day"
    )]
    let whole = again as u32;
    whole
}

#[expect(clippy::cast_precision_loss, reason = "a day of seconds has fewer digits than it holds")]
fn real(seconds: u32) -> f32 {
    seconds as f32
}

fn span(seconds: f32) -> String {
    match seconds {
        short if short < 120.0 => format!("{short:.0} s"),
        minutes if minutes < 7200.0 => format!("{:.0} min", minutes / 60.0),
        hours => format!("{:.1} h", hours / 3600.0),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const WISH: KeepWish = KeepWish { most: 2, worth_s: 600.0, automatic: true };

    /// One call of a second each `period` seconds; what is told after the last one.
    fn called(keeping: &mut Keeping, period: u64, calls: u64) -> (Seconds, Kept) {
        let mut last = None;
        for call in 1..=calls {
            let at = call * period;
            keeping.called(Seconds(at), 1);
            let _ = keeping.ask(Seconds(at));
            keeping.called(Seconds(at + 1), 0);
            last = keeping.ask(Seconds(at + 1)).map(|kept| (Seconds(at + 1), kept));
        }
        last.expect("after a call all is told")
    }

    #[test]
    fn a_busy_function_keeps_one_and_lets_it_go_when_nobody_comes_any_more() {
        let mut keeping = Keeping::new(WISH);
        assert_eq!((keeping.due(), keeping.ask(Seconds(5))), (None, None), "nobody called yet");
        let (mut at, kept) = called(&mut keeping, 60, 40);
        assert_eq!(kept.idle, 1);
        assert!(
            kept.lasts_s < 600 && kept.why.ends_with("%, and a cold start is worth 10 min of a warm one"),
            "{kept:?}"
        );
        let mut asked = 0;
        loop {
            let due = keeping.due().expect("it is asked again");
            assert_eq!(keeping.ask(Seconds(due.0 - 1)), None, "not before its time");
            assert!(due.0 > at.0);
            (at, asked) = (due, asked + 1);
            if keeping.ask(at).is_some_and(|kept| kept.idle == 0) {
                break;
            }
            assert!(asked < 10);
        }
        assert!(at.0 < 40 * 60 + 1200, "not for longer than it is worth: {at:?}");
        let due = keeping.due().expect("it is asked again");
        assert_eq!(keeping.ask(due), None, "none is kept as before");
    }

    #[test]
    fn a_timer_s_function_goes_and_is_warm_again_before_the_next_call() {
        let mut keeping = Keeping::new(WISH);
        let (_, first) = called(&mut keeping, 3600, 50);
        let mut kept = Some(first);
        let mut back = None;
        while let Some(due) = keeping.due().filter(|due| due.0 < 51 * 3600) {
            kept = keeping.ask(due).or(kept);
            if kept.as_ref().is_some_and(|kept| kept.idle == 1) {
                back = Some(due.0);
            }
        }
        let before = 51 * 3600 - back.expect("it comes back");
        assert!((1..900).contains(&before), "{before} s before the call");
    }

    #[test]
    fn no_more_are_kept_than_the_file_allows_and_a_new_wish_counts_at_once() {
        let mut keeping = Keeping::new(WISH);
        let mut kept = None;
        for call in 1..=40 {
            keeping.called(Seconds(call * 60), 4);
            keeping.called(Seconds(call * 60 + 1), 0);
            kept = keeping.ask(Seconds(call * 60 + 1));
        }
        assert_eq!(kept.map(|kept| kept.idle), Some(2));
        keeping.wish(KeepWish { most: 3, ..WISH });
        assert_eq!(keeping.ask(Seconds(40 * 60 + 2)).map(|kept| kept.idle), Some(3));
        keeping.wish(KeepWish { worth_s: 1.0, most: 3, automatic: true });
        assert_eq!(keeping.ask(Seconds(40 * 60 + 3)).map(|kept| kept.idle), Some(0));
    }
}
