//! What is foreseen as bare numbers, for whoever draws or keeps them elsewhere.
//!
//! Duty: the newest forecasts, scores and advice of all. Not here: the past and the reasons (`view`), names and units of
//! other systems. Invariant: it looks and changes nothing, and copies no past.

use crate::foresight::Foresight;
use crate::metric::Metric;
use crate::watched::{AHEAD, Seen, Watched};

/// Of one workload, or of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// None: the host.
    pub workload: Option<String>,
    pub series: Vec<SeriesOutlook>,
    /// Replicas that would do, where that is asked for and known.
    pub replicas: Option<u16>,
    /// Machines of a function that should wait for its next call, likewise.
    pub idle: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SeriesOutlook {
    pub metric: Metric,
    /// The newest sample.
    pub now: Option<f32>,
    /// The nearest first.
    pub ahead: Vec<Ahead>,
    /// How odd the newest sample is, from 0 to 1.
    pub score: Option<f32>,
    /// Its forecasts were worse than the last value for so long that this stands in for them.
    pub benched: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ahead {
    pub seconds: u32,
    pub expected: f32,
    /// 95 of 100 samples lie at or below.
    pub upper: f32,
}

impl Foresight {
    /// The host first.
    pub fn outlooks(&self) -> Vec<Outlook> {
        let host = Outlook { workload: None, series: self.series(&self.host), replicas: None, idle: None };
        let workloads = self.workloads.iter().map(|(name, one)| Outlook {
            workload: Some(name.clone()),
            series: self.series(&one.watched),
            replicas: one.scaling.as_ref().and_then(|scaling| Some(scaling.advice?.replicas)),
            idle: one.keeping.as_ref().and_then(|keeping| Some(keeping.told.as_ref()?.idle)),
        });
        std::iter::once(host).chain(workloads).collect()
    }

    fn series(&self, watched: &Watched) -> Vec<SeriesOutlook> {
        let sample_s = self.sample_s();
        let ahead = |seen: &Seen, which| {
            let forecast = seen.forecast(which)?;
            let seconds = u32::from(forecast.ahead).saturating_mul(sample_s);
            Some(Ahead { seconds, expected: forecast.expected, upper: forecast.upper })
        };
        let series = watched.series.iter().map(|(metric, seen)| SeriesOutlook {
            metric: *metric,
            now: seen.model.forecaster().sample(0),
            ahead: (0..AHEAD.len()).filter_map(|which| ahead(seen, which)).collect(),
            score: seen.finding.map(|finding| finding.score),
            benched: seen.model.health().benched,
        });
        series.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foresight::{Event, Measured, TICKS_PER_SAMPLE};
    use crate::keeping;
    use crate::metric::Reading;
    use crate::scaling::{Served, tests::WISH};
    use crate::wish::Wish;
    use hearth_predictor::Seconds;

    #[test]
    fn all_that_is_measured_has_its_newest_value_and_what_is_to_come() {
        let web = Wish {
            name: "web".to_owned(),
            rests_on: Vec::new(),
            scaling: Some(WISH),
            keeping: Some(keeping::tests::WISH),
            balloon: None,
            memory_mib: 64,
            healing: crate::healing::tests::wish(),
            rollout: crate::judging::tests::WISH,
        };
        let mut foresight = Foresight::new(10);
        let _ = foresight.step(Event::Configured { tick_s: 10, wishes: vec![web] });
        let known = |foresight: &Foresight| {
            let all = foresight.outlooks();
            all.into_iter().map(|one| (one.series.len(), one.replicas, one.idle)).collect::<Vec<_>>()
        };
        assert_eq!(known(&foresight), [(0, None, None), (0, None, None)]);
        let _ = foresight.step(Event::Called { at: Seconds(1), workload: "web".to_owned(), in_use: 1 });
        for tick in 1..=u64::from(TICKS_PER_SAMPLE) * 30 {
            let served = Served { requests: 10, busy_ms: 100, waiting: 0 };
            let _ = foresight.step(Event::Served { workload: "web".to_owned(), served });
            let reading = Reading::NOTHING.with(Metric::Cpu, Some(30.0));
            let web = Measured { workload: "web".to_owned(), reading, spare_mib: None, serving: 1 };
            let (at, host) = (Seconds(tick * 10), Reading::NOTHING.with(Metric::Memory, Some(500.0)));
            let _ = foresight.step(Event::Measured { at, host, workloads: vec![web] });
        }
        assert_eq!(known(&foresight), [(1, None, None), (4, Some(1), Some(0))]);
        let all = foresight.outlooks();
        let cpu = all[1].series.iter().find(|series| series.metric == Metric::Cpu).expect("measured");
        assert_eq!(cpu.now, Some(30.0));
        let seconds: Vec<u32> = cpu.ahead.iter().map(|ahead| ahead.seconds).collect();
        assert_eq!(seconds, [60, 300, 900]);
        assert!(
            cpu.ahead
                .iter()
                .all(|ahead| (ahead.expected - 30.0).abs() < 1.0 && ahead.upper >= ahead.expected)
        );
        assert!(cpu.score.is_none_or(|score| (0.0..=1.0).contains(&score)) && !cpu.benched);
    }
}
