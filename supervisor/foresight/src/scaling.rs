//! How many replicas a workload should have.
//!
//! ```text
//!   silent --first report--> heard --no report for SILENCE ticks--> silent
//! ```
//!
//! Duty: reports of requests into loads, tick by tick. Not here: the reckoning (`hearth-predictor`), bounds that hold
//! (`hearth-core`).
//! Invariants: nothing is advised before anybody reported, nor once nobody does any more; in its first ticks, when it
//! knows no past, it advises no fewer than there are.

use hearth_predictor::sizing::{Advice, Load, Objective, ScalePolicy, Scaler};

use crate::wish::ScaleWish;

/// Ticks without a report after which requests are unknown, not none.
const SILENCE: u32 = 6;
/// Seconds over which arrivals are averaged; and over which a burst shows.
const WINDOW_S: u32 = 60;
const BURST_S: u32 = 20;
/// Ticks that a scaler remembers.
const MOST_TICKS: u32 = 64;
/// How much the newest mean time of a request counts.
const NEWEST: f32 = 0.3;

/// What whoever passes requests on says of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Served {
    /// Since the last time.
    pub requests: u32,
    /// Milliseconds of work in all of them.
    pub busy_ms: u64,
    /// Those that wait for a replica now.
    pub waiting: u32,
}

/// Requests of one workload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    since: Served,
    /// None: nobody ever reported.
    silent_ticks: Option<u32>,
    /// Seconds of work in one.
    service: Option<f32>,
}

/// What a tick makes of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrivals {
    pub(crate) arrived: f32,
    pub(crate) waiting: f32,
    /// Seconds, of those that arrived.
    pub(crate) took: Option<f32>,
}

impl Requests {
    pub(crate) fn hear(&mut self, served: Served) {
        self.silent_ticks = Some(0);
        self.since.requests = self.since.requests.saturating_add(served.requests);
        self.since.busy_ms = self.since.busy_ms.saturating_add(served.busy_ms);
        self.since.waiting = served.waiting;
    }

    pub(crate) fn tick(&mut self) -> Option<Arrivals> {
        let silent = self.silent_ticks.as_mut()?;
        *silent = silent.saturating_add(1);
        if *silent > SILENCE {
            *self = Requests { service: self.service, ..Requests::default() };
            return None;
        }
        let Served { requests, busy_ms, waiting } = self.since;
        self.since = Served { waiting, ..Served::default() };
        let took = (requests > 0 && busy_ms > 0).then(|| ms(busy_ms) / 1000.0 / count(requests));
        if let Some(took) = took {
            self.service = Some(self.service.map_or(took, |usual| usual + NEWEST * (took - usual)));
        }
        Some(Arrivals { arrived: count(requests), waiting: count(waiting), took })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Scaling {
    pub(crate) wish: ScaleWish,
    scaler: Scaler,
    /// Ticks before its past counts.
    young: u32,
    pub(crate) advice: Option<Advice>,
    /// What was last told.
    pub(crate) told: Option<u16>,
}

impl Scaling {
    pub(crate) fn new(wish: ScaleWish, tick_s: u32) -> Scaling {
        let ticks = |seconds: u32| (seconds / tick_s.max(1)).clamp(1, MOST_TICKS);
        let small = |ticks: u32| u8::try_from(ticks).unwrap_or(u8::MAX);
        let young = ticks(wish.patience_s);
        let scaler = Scaler::new(ScalePolicy {
            least: wish.least,
            most: wish.most,
            wait: wish.wait_s,
            late_share: wish.late_share,
            patience: small(young),
            tick: count(tick_s),
            window: small(ticks(WINDOW_S)),
            burst_window: small(ticks(BURST_S)),
            objective: Objective { late_request: wish.late_worth_s, ..Objective::default() },
        });
        Scaling { wish, scaler, young, advice: None, told: None }
    }

    /// `ahead`: requests per second when a replica that is started now would serve: expected, and at most. What is news.
    pub(crate) fn tick(
        &mut self,
        requests: &Requests,
        arrivals: Arrivals,
        ahead: Option<(f32, f32)>,
        serving: u16,
    ) -> Option<Advice> {
        let Arrivals { arrived, waiting, .. } = arrivals;
        let service = requests.service.unwrap_or(self.wish.service_s);
        let mut advice = self.scaler.tick(Load { arrived, waiting, service, ahead, serving });
        if self.young > 0 {
            self.young -= 1;
            advice.replicas = advice.replicas.max(serving.min(self.wish.most));
        }
        self.advice = Some(advice);
        let news = self.told != Some(advice.replicas);
        self.told = Some(advice.replicas);
        news.then_some(advice)
    }

    pub(crate) fn unknown(&mut self) {
        (self.advice, self.told) = (None, None);
    }
}

#[expect(clippy::cast_precision_loss, reason = "what counts has three digits")]
pub(crate) fn count(number: u32) -> f32 {
    number as f32
}

#[expect(clippy::cast_precision_loss, reason = "what counts has three digits")]
fn ms(number: u64) -> f32 {
    number as f32
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const WISH: ScaleWish = ScaleWish {
        least: 1,
        most: 4,
        wait_s: 0.1,
        late_worth_s: 20.0,
        late_share: 0.01,
        patience_s: 60,
        service_s: 0.1,
        automatic: true,
    };

    fn told(scaling: &mut Scaling, requests: &mut Requests, served: u32, serving: u16) -> Option<u16> {
        requests.hear(Served { requests: served, busy_ms: u64::from(served) * 100, waiting: 0 });
        let arrivals = requests.tick().expect("a report");
        scaling.tick(requests, arrivals, None, serving).map(|advice| advice.replicas)
    }

    #[test]
    fn load_brings_replicas_at_once_and_its_end_takes_them_after_patience() {
        let (mut scaling, mut requests) = (Scaling::new(WISH, 10), Requests::default());
        for _ in 0..6 {
            let _ = told(&mut scaling, &mut requests, 2, 1);
        }
        assert_eq!(scaling.told, Some(1), "one request in five seconds, of a tenth of a second");
        for _ in 0..3 {
            let _ = told(&mut scaling, &mut requests, 400, 1);
        }
        assert_eq!(scaling.told, Some(4));
        let mut ticks = 0;
        while scaling.told == Some(4) {
            let _ = told(&mut scaling, &mut requests, 0, 4);
            ticks += 1;
        }
        assert!((6..20).contains(&ticks), "{ticks} ticks");
    }

    #[test]
    fn one_that_has_just_begun_advises_no_fewer_than_there_are() {
        let (mut scaling, mut requests) = (Scaling::new(WISH, 10), Requests::default());
        assert_eq!(told(&mut scaling, &mut requests, 0, 3), Some(3));
        for _ in 0..12 {
            let _ = told(&mut scaling, &mut requests, 0, 3);
        }
        assert_eq!(scaling.told, Some(1));
    }

    #[test]
    fn who_stops_reporting_is_unknown_and_not_idle() {
        let mut requests = Requests::default();
        assert!(requests.tick().is_none(), "nobody ever reported");
        requests.hear(Served { requests: 5, busy_ms: 1000, waiting: 2 });
        let first = requests.tick().expect("a report");
        assert_eq!((first.arrived, first.waiting, first.took), (5.0, 2.0, Some(0.2)));
        for _ in 1..SILENCE {
            assert_eq!(requests.tick().map(|arrivals| arrivals.arrived), Some(0.0));
        }
        assert!(requests.tick().is_none());
        assert_eq!(requests.service, Some(0.2), "what one takes stays known");
    }
}
