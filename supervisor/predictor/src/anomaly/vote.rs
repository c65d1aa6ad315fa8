//! Several series at once.
//!
//! Duty: one verdict about a workload from the findings about its series. Not here: which series belong together.
//! Invariant: a series that has no opinion yet neither supports nor opposes.

use super::detector::Verdict;

/// What one series says, and how much it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ballot {
    pub verdict: Verdict,
    pub score: f32,
    /// 1 is one series like any other.
    pub weight: f32,
}

/// How findings become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jury {
    /// Of all weight that has an opinion, the share that has to be beyond its record without any call of its own.
    pub quorum: f32,
}

impl Default for Jury {
    fn default() -> Self {
        Jury { quorum: 0.5 }
    }
}

/// The verdict, and the weighted mean of the scores. One call is a call; so are enough oddities at one time, which
/// none of the series would call alone.
pub fn vote(jury: Jury, ballots: &[Ballot]) -> (Verdict, f32) {
    let mut weight = 0.0;
    let mut scores = 0.0;
    let mut odd = 0.0;
    let mut odd_count = 0u32;
    let mut called = false;
    for ballot in ballots {
        let counts = ballot.weight.is_finite() && ballot.weight > 0.0 && ballot.score.is_finite();
        if !counts || ballot.verdict == Verdict::Settling {
            continue;
        }
        weight += ballot.weight;
        scores += ballot.weight * ballot.score;
        called |= ballot.verdict == Verdict::Anomaly;
        if ballot.verdict != Verdict::Normal {
            odd += ballot.weight;
            odd_count = odd_count.saturating_add(1);
        }
    }
    if weight <= 0.0 {
        return (Verdict::Settling, 0.0);
    }
    let verdict = if called || (odd_count >= 2 && odd >= jury.quorum * weight) {
        Verdict::Anomaly
    } else if odd_count > 0 {
        Verdict::Odd
    } else {
        Verdict::Normal
    };
    (verdict, scores / weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballots(verdicts: &[Verdict]) -> Vec<Ballot> {
        verdicts.iter().map(|&verdict| Ballot { verdict, score: 0.4, weight: 1.0 }).collect()
    }

    #[test]
    fn one_call_is_a_call_and_so_are_oddities_together() {
        use Verdict::{Anomaly, Normal, Odd, Settling};
        let verdict = |verdicts: &[Verdict]| vote(Jury::default(), &ballots(verdicts)).0;
        assert_eq!(verdict(&[Normal, Normal, Anomaly]), Anomaly);
        assert_eq!(verdict(&[Odd, Odd, Normal]), Anomaly);
        assert_eq!(verdict(&[Odd, Normal, Normal]), Odd);
        assert_eq!(verdict(&[Odd, Settling]), Odd, "one oddity is no majority of itself");
        assert_eq!(verdict(&[Settling]), Settling);
        assert_eq!(verdict(&[]), Settling);
    }

    #[test]
    fn a_weight_that_is_no_number_has_no_vote() {
        let mut all = ballots(&[Verdict::Anomaly, Verdict::Normal]);
        all[0].weight = f32::NAN;
        assert_eq!(vote(Jury::default(), &all).0, Verdict::Normal);
    }
}
