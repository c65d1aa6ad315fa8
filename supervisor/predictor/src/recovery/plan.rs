//! The decision: a process whose states are sets of rungs that were tried.
//!
//! Duty: the least expected cost from every state, and the choice it makes in one. Not here: where chances come from.
//! Invariants: a rung is tried once in an incident, so states never repeat and one sweep from "all tried" to "none
//! tried" is the whole of value iteration; with equal chances the choice is the cheapest rung that is left; it departs
//! from that only if it is better with chances moved against it by a deviation.
//!
//! ```text
//!   {} --rung a fails--> {a} --rung b fails--> {a, b} ... --all failed--> escalated
//!    |                    |                      |
//!    +------ cured <------+---------<------------+
//! ```

use core::fmt;

use serde::{Deserialize, Serialize};

/// Rungs of a ladder, at most: there are two to this many states.
pub const MOST_RUNGS: usize = 6;
const STATES: usize = 1 << MOST_RUNGS;

/// One cure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rung {
    /// How long a try takes, to the point where it is known to have worked or not.
    pub seconds: f32,
    /// What a try may break, in seconds.
    pub risk: f32,
}

impl Rung {
    fn cost(self) -> f32 {
        let known = |seconds: f32| if seconds.is_finite() { seconds.clamp(0.0, 1e6) } else { 1e6 };
        known(self.seconds) + known(self.risk)
    }
}

/// All cures there are for a workload, and what it costs to call a person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ladder<const R: usize> {
    pub rungs: [Rung; R],
    /// What being down until a person comes costs, in seconds.
    pub escalation: f32,
}

/// The chance that a rung cures, and how far it may be off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Chance {
    pub(crate) mean: f32,
    pub(crate) deviation: f32,
}

/// What a choice rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Basis {
    /// The ladder, cheapest first: there is too little evidence for anything else, or it says the same.
    Ladder,
    /// What cured such faults before.
    Evidence,
}

/// What to try, and what is expected of it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The rung, by its place in the ladder; `None` is to call a person.
    pub rung: Option<usize>,
    /// What comes after, if it does not work.
    pub then: Option<usize>,
    /// Expected cost until cured or escalated, in seconds.
    pub expected: f32,
    pub chance: f32,
    pub seconds: f32,
    pub basis: Basis,
}

impl<const R: usize> Ladder<R> {
    const FITS: () = assert!(R >= 1 && R <= MOST_RUNGS, "a ladder has one to MOST_RUNGS rungs");

    /// What to do when the rungs in `tried` (a bit each) did not work, and `usual` would be next without evidence.
    pub(crate) fn choose(&self, usual: Option<usize>, tried: u8, chances: &[Chance; R]) -> Choice {
        let () = Self::FITS;
        let values = self.values(chances);
        let (expected, best) = self.best(tried, chances, &values);
        let Some(best) = best else {
            let (chance, seconds) = (0.0, 0.0);
            return Choice { rung: None, then: None, expected, chance, seconds, basis: Basis::Ladder };
        };
        let usual = usual.unwrap_or(best);
        let convinced = best != usual && self.holds_against_doubt(best, usual, tried, chances);
        let (rung, basis) = if convinced { (best, Basis::Evidence) } else { (usual, Basis::Ladder) };
        let chance = chances.get(rung).map_or(0.0, |chance| chance.mean);
        let after = tried | bit(rung);
        Choice {
            rung: Some(rung),
            then: self.best(after, chances, &values).1,
            expected: self.cost_of(rung, tried, chance, &values),
            chance,
            seconds: self.rungs.get(rung).map_or(0.0, |rung| rung.seconds),
            basis,
        }
    }

    /// Whether `best` is the better one even if it cures a deviation less often than thought, and `usual` one more
    /// often. The doubt goes into all states, so what comes after both have failed weighs the same on either side.
    fn holds_against_doubt(&self, best: usize, usual: usize, tried: u8, chances: &[Chance; R]) -> bool {
        let mut doubted = *chances;
        for (rung, chance) in doubted.iter_mut().enumerate() {
            let deviations = match rung {
                rung if rung == best => -1.0,
                rung if rung == usual => 1.0,
                _ => 0.0,
            };
            chance.mean = (chance.mean + deviations * chance.deviation).clamp(0.0, 1.0);
        }
        let values = self.values(&doubted);
        let cost = |rung: usize| {
            let chance = doubted.get(rung).map_or(0.0, |chance| chance.mean);
            self.cost_of(rung, tried, chance, &values)
        };
        cost(best) < cost(usual)
    }

    /// The least expected cost of every state. A state has more bits than those it comes from, so going down through
    /// the numbers meets every state after all that follow it.
    fn values(&self, chances: &[Chance; R]) -> [f32; STATES] {
        let mut values = [self.escalation_cost(); STATES];
        let states = u8::try_from((1u32 << R).saturating_sub(1)).unwrap_or(u8::MAX);
        for state in (0..states).rev() {
            let (value, _) = self.best(state, chances, &values);
            if let Some(slot) = values.get_mut(usize::from(state)) {
                *slot = value;
            }
        }
        values
    }

    fn best(&self, state: u8, chances: &[Chance; R], values: &[f32; STATES]) -> (f32, Option<usize>) {
        let mut best = (self.escalation_cost(), None);
        for (rung, chance) in chances.iter().enumerate() {
            if state & bit(rung) == 0 {
                let cost = self.cost_of(rung, state, chance.mean, values);
                if cost < best.0 {
                    best = (cost, Some(rung));
                }
            }
        }
        best
    }

    fn cost_of(&self, rung: usize, state: u8, chance: f32, values: &[f32; STATES]) -> f32 {
        let own = self.rungs.get(rung).map_or(0.0, |rung| rung.cost());
        let next = values.get(usize::from(state | bit(rung))).copied().unwrap_or(self.escalation_cost());
        own + (1.0 - chance) * next
    }

    pub(crate) fn cheapest_left(&self, tried: u8) -> Option<usize> {
        let left = self.rungs.iter().enumerate().filter(|&(rung, _)| tried & bit(rung) == 0);
        left.min_by(|left, right| left.1.cost().total_cmp(&right.1.cost())).map(|(rung, _)| rung)
    }

    fn escalation_cost(&self) -> f32 {
        if self.escalation.is_finite() { self.escalation.clamp(0.0, 1e9) } else { 1e9 }
    }
}

fn bit(rung: usize) -> u8 {
    u32::try_from(rung).ok().and_then(|rung| 1u8.checked_shl(rung)).unwrap_or(0)
}

/// A choice with the names of its rungs, as a sentence.
#[derive(Clone, Copy, Debug)]
pub struct Explained<'a> {
    pub choice: &'a Choice,
    pub names: &'a [&'a str],
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let name = |rung: Option<usize>| rung.map_or("a person", |rung| self.names.get(rung).unwrap_or(&"?"));
        let Choice { rung, then, expected, chance, seconds, basis } = self.choice;
        if rung.is_none() {
            return write!(formatter, "call a person: nothing is left that is worth its cost");
        }
        let (rung, then, percent) = (name(*rung), name(*then), 100.0 * chance);
        write!(formatter, "expected {expected:.1} s: {rung} {percent:.0} % x {seconds:.1} s, else {then}")?;
        formatter.write_str(match basis {
            Basis::Ladder => " (cheapest first)",
            Basis::Evidence => " (by what cured before)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LADDER: Ladder<4> = Ladder {
        rungs: [
            Rung { seconds: 1.0, risk: 0.0 },
            Rung { seconds: 0.2, risk: 0.0 },
            Rung { seconds: 3.0, risk: 0.0 },
            Rung { seconds: 40.0, risk: 20.0 },
        ],
        escalation: 600.0,
    };

    fn sure(mean: f32) -> Chance {
        Chance { mean, deviation: 0.0 }
    }

    #[test]
    fn equal_chances_are_tried_cheapest_first() {
        let mut tried = 0;
        let mut order = Vec::new();
        while let Some(rung) = LADDER.choose(LADDER.cheapest_left(tried), tried, &[sure(0.5); 4]).rung {
            order.push(rung);
            tried |= bit(rung);
        }
        assert_eq!(order, [1, 0, 2, 3]);
    }

    #[test]
    fn a_cure_that_is_known_to_work_goes_first_and_a_guess_does_not() {
        let chances = [sure(0.02), sure(0.01), Chance { mean: 0.95, deviation: 0.02 }, sure(0.5)];
        let choice = LADDER.choose(LADDER.cheapest_left(0), 0, &chances);
        assert_eq!((choice.rung, choice.basis), (Some(2), Basis::Evidence));
        let ladder = Ladder { rungs: [Rung { seconds: 2.9, risk: 0.0 }; 4], ..LADDER };
        let unsure = [
            Chance { mean: 0.5, deviation: 0.3 },
            Chance { mean: 0.6, deviation: 0.3 },
            sure(0.5),
            sure(0.5),
        ];
        assert_eq!(ladder.choose(ladder.cheapest_left(0), 0, &unsure).basis, Basis::Ladder);
    }

    #[test]
    fn what_is_not_worth_its_cost_is_left_to_a_person() {
        let ladder = Ladder { escalation: 10.0, ..LADDER };
        assert_eq!(ladder.choose(ladder.cheapest_left(0b0111), 0b0111, &[sure(0.1); 4]).rung, None);
        assert_eq!(LADDER.choose(LADDER.cheapest_left(0b0111), 0b0111, &[sure(0.2); 4]).rung, Some(3));
    }

    #[test]
    fn a_choice_explains_itself() {
        let chances = [sure(0.5), sure(0.92), sure(0.5), sure(0.5)];
        let choice = LADDER.choose(LADDER.cheapest_left(0), 0, &chances);
        let names = ["restart", "restore", "cold start", "reboot"];
        let text = Explained { choice: &choice, names: &names }.to_string();
        assert!(text.starts_with("expected 7.6 "), "{text}");
        assert!(text.ends_with(" s: restore 92 % x 0.2 s, else restart (cheapest first)"), "{text}");
    }

    /// The expected cost of an order, by hand.
    fn cost_of_order(order: &[usize], chances: &[f32]) -> f32 {
        let tail = order
            .iter()
            .rev()
            .fold(LADDER.escalation, |rest, &rung| LADDER.rungs[rung].cost() + (1.0 - chances[rung]) * rest);
        tail.min(LADDER.escalation)
    }

    fn orders() -> Vec<Vec<usize>> {
        let mut all: Vec<Vec<usize>> = vec![vec![]];
        for _ in 0..4 {
            let longer = |order: &Vec<usize>| {
                let left = (0..4).filter(|rung| !order.contains(rung)).collect::<Vec<_>>();
                left.into_iter().map(|rung| [order.as_slice(), &[rung]].concat()).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        all
    }

    proptest! {
        #[test]
        fn no_order_of_all_rungs_is_cheaper_than_the_value(chances in proptest::array::uniform4(0.0f32..1.0)) {
            let known = chances.map(sure);
            let value = LADDER.values(&known)[0];
            let best = orders().iter().map(|order| cost_of_order(order, &chances)).fold(f32::MAX, f32::min);
            prop_assert!(value <= best * 1.0001, "{value} against {best}");
        }

        #[test]
        fn any_costs_and_chances_give_a_choice(
            seconds in any::<[f32; 6]>(), risk in any::<f32>(), escalation in any::<f32>(),
            means in proptest::array::uniform6(0.0f32..=1.0), tried in any::<u8>(),
        ) {
            let ladder = Ladder { rungs: seconds.map(|seconds| Rung { seconds, risk }), escalation };
            let choice = ladder.choose(ladder.cheapest_left(tried), tried, &means.map(|mean| Chance { mean, deviation: 0.1 }));
            prop_assert!(choice.rung.is_none_or(|rung| rung < 6 && tried & bit(rung) == 0));
            prop_assert!(choice.expected.is_finite());
        }
    }
}
