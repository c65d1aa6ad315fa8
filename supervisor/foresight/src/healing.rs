//! Which means of healing cured which faults of a workload.
//!
//! Duty: outcomes into evidence, evidence into an order of means for each source of faults. Not here: the reckoning
//! (`hearth-predictor`), what may be tried at all (`hearth-core`).
//! Invariants: only means that lose nothing are put in order, and only those that the workload's file allows; an order
//! that is the ladder's own is none; it is told when it changes.

use hearth_core::{Expectation, Rung, Source};
use hearth_predictor::recovery::{Cures, Ladder, Outcome, Rung as Means};

use crate::wish::HealWish;

/// What the ladder has that loses nothing, cheapest first.
const RUNGS: [Rung; 4] = [Rung::Retry, Rung::RestartProcess, Rung::Restore, Rung::ColdRestart];
/// Seconds of risk in each of them: what was in the memory of a process, or of a whole guest, is gone.
const RISKS_S: [f32; RUNGS.len()] = [0.0, 0.1, 0.2, 0.3];
/// Seconds that it costs when none of them helps: what comes then takes people, or loses something.
const ESCALATION_S: f32 = 900.0;

/// Tries against faults from one source, at least, before their order can be another one than the ladder's; old ones
/// count a little less.
const ENOUGH_TRIES: f32 = 3.9;
const RESTART: usize = 1;

pub(crate) type Model = Cures<{ Source::ALL.len() }, { RUNGS.len() }>;

#[derive(Clone, Debug)]
pub(crate) struct Healing {
    pub(crate) wish: HealWish,
    pub(crate) cures: Model,
    /// What was last told of each source.
    told: [Vec<Expectation>; Source::ALL.len()],
    /// Something changed since.
    stale: bool,
}

impl Healing {
    pub(crate) fn new(wish: HealWish) -> Healing {
        Healing { wish, cures: Model::default(), told: Default::default(), stale: false }
    }

    pub(crate) fn follow(&mut self, wish: HealWish) {
        self.stale |= self.wish != wish;
        self.wish = wish;
    }

    /// Whether there is anything to remember.
    pub(crate) fn knows(&self) -> bool {
        self.cures != Model::default()
    }

    /// What was learnt by an earlier daemon, or nothing.
    pub(crate) fn take_up(&mut self, cures: Model) {
        self.cures = cures;
        self.stale = true;
    }

    pub(crate) fn tried(&mut self, source: Source, rung: Rung, cured: bool, seconds: f32) {
        let Some(place) = RUNGS.iter().position(|known| *known == rung) else { return };
        let outcome = if cured { Outcome::Cured } else { Outcome::Failed };
        self.cures.tried(source as usize, place, outcome, seconds);
        self.stale = true;
    }

    /// The orders that are other ones than those that were told.
    pub(crate) fn news(&mut self) -> Vec<(Source, Vec<Expectation>)> {
        let mut news = Vec::new();
        if !std::mem::take(&mut self.stale) {
            return news;
        }
        for source in Source::ALL {
            let order = self.order(source);
            if let Some(told) = self.told.get_mut(source as usize).filter(|told| **told != order) {
                told.clone_from(&order);
                news.push((source, order));
            }
        }
        news
    }

    /// Best first; empty where it is the ladder's own.
    fn order(&self, source: Source) -> Vec<Expectation> {
        if self.cures.tries(source as usize) < ENOUGH_TRIES {
            return Vec::new();
        }
        let ladder = self.ladder();
        let usable = |rung: Rung| {
            // Nothing but a monitor that could not be started is tried the same way once more.
            let retried = rung != Rung::Retry || source == Source::Supervisor;
            retried && rung.reaches(source) && (rung == Rung::Retry || self.wish.means.has(rung))
        };
        let usual: Vec<Rung> = RUNGS.into_iter().filter(|rung| usable(*rung)).collect();
        let mut tried = (0..)
            .zip(RUNGS)
            .filter(|(_, rung)| !usable(*rung))
            .fold(0, |bits, (place, _)| bits | 1_u8 << place);
        let mut order = Vec::new();
        loop {
            let choice = self.cures.choose(&ladder, source as usize, tried);
            let Some((place, rung)) = choice.rung.and_then(|place| Some((place, *RUNGS.get(place)?))) else {
                break;
            };
            tried |= 1 << place;
            order.push(Expectation {
                rung,
                chance_milli: u16::try_from(rounded(choice.chance * 1000.0)).unwrap_or(1000),
                takes_ms: rounded(choice.seconds * 1000.0),
                expected_ms: rounded(choice.expected * 1000.0),
            });
        }
        if order.iter().map(|step| step.rung).eq(usual) { Vec::new() } else { order }
    }

    fn ladder(&self) -> Ladder<{ RUNGS.len() }> {
        let HealWish { availability, risk, .. } = self.wish;
        let mut rungs = [Means { seconds: 0.0, risk: 0.0 }; RUNGS.len()];
        for (place, (means, rung)) in rungs.iter_mut().zip(RUNGS).enumerate() {
            // A machine from nothing starts the process as well.
            let with = if rung == Rung::ColdRestart { self.cures.takes(RESTART) } else { None };
            means.seconds = seconds(rung.cost_ms()) + with.unwrap_or(0.0);
            means.risk = RISKS_S[place] * risk / availability.max(f32::MIN_POSITIVE);
        }
        Ladder { rungs, escalation: ESCALATION_S }
    }
}

fn seconds(ms: u64) -> f32 {
    // Those that are put in order take seconds.
    u32::try_from(ms).map_or(f32::MAX, |ms| crate::scaling::count(ms) / 1000.0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is held to what fits before")]
fn rounded(number: f32) -> u32 {
    // The largest number of both kinds.
    const MOST: f32 = 4_294_967_040.0;
    if number.is_finite() { number.round().clamp(0.0, MOST) as u32 } else { u32::MAX }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hearth_core::Rungs;

    pub(crate) fn wish() -> HealWish {
        let means = Rungs::of(&[Rung::RestartProcess, Rung::Restore, Rung::ColdRestart]);
        HealWish { means, availability: 1.0, risk: 1.0 }
    }

    fn rungs(order: &[Expectation]) -> Vec<Rung> {
        order.iter().map(|step| step.rung).collect()
    }

    /// A process that is only helped by a machine from nothing.
    fn taught(times: usize) -> Healing {
        let mut healing = Healing::new(wish());
        for _ in 0..times {
            healing.tried(Source::Workload, Rung::RestartProcess, false, 30.0);
            healing.tried(Source::Workload, Rung::Restore, false, 20.0);
            healing.tried(Source::Workload, Rung::ColdRestart, true, 3.0);
        }
        healing
    }

    #[test]
    fn what_never_helps_is_tried_last_and_that_is_told_once() {
        let mut healing = taught(12);
        let news = healing.news();
        assert_eq!(news.len(), 1, "{news:?}");
        let (source, order) = &news[0];
        assert_eq!(*source, Source::Workload);
        assert_eq!(rungs(order)[0], Rung::ColdRestart);
        assert!((900..=950).contains(&order[0].chance_milli), "{order:?}");
        assert_eq!(order[0].takes_ms, 3000);
        assert_eq!(healing.news(), []);
        healing.follow(wish());
        assert_eq!(healing.news(), []);
    }

    #[test]
    fn with_little_evidence_the_ladder_stays_as_it_is() {
        let mut healing = Healing::new(wish());
        healing.tried(Source::Workload, Rung::RestartProcess, true, 0.06);
        healing.tried(Source::GuestKernel, Rung::ColdRestart, true, 1.4);
        assert_eq!(healing.news(), []);
    }

    #[test]
    fn an_order_names_only_what_the_file_allows_and_what_can_help() {
        let mut healing = taught(12);
        let means = Rungs::of(&[Rung::RestartProcess, Rung::ColdRestart]);
        healing.follow(HealWish { means, ..wish() });
        let news = healing.news();
        assert_eq!(rungs(&news[0].1), [Rung::ColdRestart, Rung::RestartProcess]);
        healing.tried(Source::Data, Rung::ColdRestart, false, 3.0);
        assert_eq!(healing.news(), [], "one means has no order");
    }

    #[test]
    fn what_is_forgotten_is_taken_back() {
        let mut healing = taught(12);
        let _ = healing.news();
        healing.take_up(Model::default());
        assert_eq!(healing.news(), [(Source::Workload, Vec::new())]);
    }

    #[test]
    fn who_shuns_risk_more_than_time_keeps_to_the_gentler_means() {
        let mut healing = Healing::new(wish());
        for _ in 0..30 {
            healing.tried(Source::Workload, Rung::RestartProcess, true, 2.0);
            healing.tried(Source::Workload, Rung::Restore, true, 0.2);
            healing.tried(Source::Workload, Rung::ColdRestart, true, 4.0);
        }
        assert_eq!(rungs(&healing.news()[0].1)[0], Rung::Restore);
        healing.follow(HealWish { risk: 50.0, ..wish() });
        assert_eq!(healing.news(), [(Source::Workload, Vec::new())], "as the ladder has it");
    }
}
