//! How many replicas.
//!
//! Duty: weigh what replicas cost against what waiting costs, now and when a replica that is started now would be
//! ready; go up at once, down with patience. Not here: forecasts, and starting anything.
//! Invariants: advice stays within the policy's bounds whatever comes in; while a burst lasts and for
//! [`ScalePolicy::patience`] after it, advice does not fall; it falls to the most that any moment within the patience
//! wanted, never below.
//!
//! ```text
//!            newest arrivals need more than is serving
//!   steady ------------------------------------------> burst
//!     ^                                                  |
//!     +--------------------------------------------------+
//!            patience without such arrivals
//! ```

use core::fmt;

use serde::{Deserialize, Serialize};

use super::erlang::{MOST_SERVERS, Traffic};
use crate::number;

/// Ticks that are remembered, for rates and for patience.
const TICKS: usize = 64;

/// What a replica and a late request cost, in any one unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// One replica for one second.
    pub vm_second: f32,
    /// One joule, where the board counts them; with [`Objective::watts`] of a replica.
    pub joule: f32,
    pub watts: f32,
    /// One request that waits for longer than the target.
    pub late_request: f32,
}

impl Default for Objective {
    fn default() -> Self {
        // A late request is worth twenty seconds of a VM.
        Objective { vm_second: 1.0, joule: 0.0, watts: 0.0, late_request: 20.0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScalePolicy {
    pub least: u16,
    pub most: u16,
    /// A request should not wait for longer, in seconds.
    pub wait: f32,
    /// No more than this share of requests, expected, whatever they cost.
    pub late_share: f32,
    /// Ticks over which advice does not fall below what any of them wanted.
    pub patience: u8,
    /// Seconds between ticks.
    pub tick: f32,
    /// Ticks that arrivals are averaged over; and for a burst.
    pub window: u8,
    pub burst_window: u8,
    pub objective: Objective,
}

impl Default for ScalePolicy {
    fn default() -> Self {
        ScalePolicy {
            least: 1,
            most: 16,
            wait: 0.1,
            late_share: 0.01,
            patience: 30,
            tick: 2.0,
            window: 15,
            burst_window: 3,
            objective: Objective::default(),
        }
    }
}

/// What is known at a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests since the tick before.
    pub arrived: f32,
    /// Requests that wait now.
    pub waiting: f32,
    /// Mean seconds of work in one request.
    pub service: f32,
    /// Requests per second when a replica that is started now would be ready: expected, and the P95 bound.
    pub ahead: Option<(f32, f32)>,
    /// Replicas that serve now.
    pub serving: u16,
}

/// What was decisive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Why {
    /// Requests of now, per second.
    Arrivals(f32),
    /// Requests to come, per second: expected, and the bound.
    Forecast { expected: f32, upper: f32 },
    /// Requests of the last few ticks, per second, that the serving replicas cannot keep up with.
    Burst(f32),
    /// Requests that wait.
    Waiting(f32),
    /// Fewer would do, but not for long enough yet.
    Patience { wanted: u16 },
    /// The policy's bound; without it, it would be this.
    Bound { wanted: u16 },
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Why::Arrivals(rate) => write!(formatter, "{rate:.1} requests per second now"),
            Why::Forecast { expected, upper } => {
                write!(formatter, "{expected:.1} requests per second foreseen, {upper:.1} at most")
            }
            Why::Burst(rate) => write!(formatter, "a burst of {rate:.1} requests per second"),
            Why::Waiting(count) => write!(formatter, "{count:.0} requests wait"),
            Why::Patience { wanted } => write!(formatter, "{wanted} would do, but not for long enough yet"),
            Why::Bound { wanted } => write!(formatter, "the policy's bound, else {wanted}"),
        }
    }
}

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    pub replicas: u16,
    pub why: Why,
}

#[derive(Clone, Debug)]
pub struct Scaler {
    policy: ScalePolicy,
    /// Requests per second of the newest ticks, and replicas that each tick wanted; the newest first.
    rates: [f32; TICKS],
    wanted: [u16; TICKS],
    ticks: u32,
}

impl Scaler {
    pub fn new(policy: ScalePolicy) -> Scaler {
        Scaler { policy, rates: [0.0; TICKS], wanted: [0; TICKS], ticks: 0 }
    }

    pub fn tick(&mut self, load: Load) -> Advice {
        let tick = if self.policy.tick > 0.0 { self.policy.tick } else { 1.0 };
        let rate = number::tame(load.arrived).unwrap_or(0.0).max(0.0) / tick;
        self.rates.rotate_right(1);
        if let Some(newest) = self.rates.first_mut() {
            *newest = rate;
        }
        self.ticks = self.ticks.saturating_add(1);
        let (mut replicas, mut why) = self.wanted(&load);
        self.wanted.rotate_right(1);
        if let Some(newest) = self.wanted.first_mut() {
            *newest = replicas;
        }
        let patience = usize::from(self.policy.patience).clamp(1, TICKS);
        let recent = self.wanted.iter().take(patience).copied().max().unwrap_or(replicas);
        if recent > replicas {
            why = Why::Patience { wanted: replicas };
            replicas = recent;
        }
        let most = self.policy.most.clamp(1, MOST_SERVERS);
        let least = self.policy.least.min(most);
        let bounded = replicas.clamp(least, most);
        if bounded != replicas {
            why = Why::Bound { wanted: replicas };
        }
        Advice { replicas: bounded, why }
    }

    /// What this moment wants, before patience and bounds.
    fn wanted(&self, load: &Load) -> (u16, Why) {
        let service = number::tame(load.service).unwrap_or(0.0).max(0.0);
        let now = self.mean_rate(self.policy.window);
        let traffic = |arrivals: f32| Traffic { arrivals, service };
        let mut best = (self.cheapest(&[(traffic(now), 1.0)]), Why::Arrivals(now));
        let mut consider = |replicas: u16, why: Why| {
            if replicas > best.0 {
                best = (replicas, why);
            }
        };
        if let Some((expected, upper)) = load.ahead.filter(|(expected, upper)| (expected + upper).is_finite())
        {
            // Nineteen of twenty times below the bound, with the expected in the middle of them.
            let upper = upper.max(expected);
            let between = expected + (upper - expected) * 0.5;
            let cases = [(traffic(expected), 0.6), (traffic(between), 0.3), (traffic(upper), 0.1)];
            consider(self.cheapest(&cases), Why::Forecast { expected, upper });
        }
        let newest = self.mean_rate(self.policy.burst_window);
        let serving = f32::from(load.serving);
        if newest * service > serving * BURST_LOAD && self.ticks > u32::from(self.policy.burst_window) {
            let enough = traffic(newest).servers(self.policy.wait, self.policy.late_share);
            consider(enough, Why::Burst(newest));
        }
        // Who waits is to be served within a few targets, on top of what arrives.
        let waiting = number::tame(load.waiting).unwrap_or(0.0).max(0.0);
        if waiting > serving.max(1.0) {
            let more = waiting * service / (self.policy.wait.max(self.policy.tick) * BACKLOG_PATIENCE);
            let replicas = now * service + more;
            consider(
                u16::try_from(number::whole(libm::ceilf(replicas), u32::from(MOST_SERVERS)))
                    .unwrap_or(MOST_SERVERS),
                Why::Waiting(waiting),
            );
        }
        best
    }

    /// The number of replicas with the least cost over cases and their chances, of those that keep the share of late
    /// requests in the first case.
    fn cheapest(&self, cases: &[(Traffic, f32)]) -> u16 {
        let Objective { vm_second, joule, watts, late_request } = self.policy.objective;
        let replica = (vm_second + joule * watts).max(f32::MIN_POSITIVE);
        let wait = self.policy.wait;
        let Some(&(first, _)) = cases.first() else { return self.policy.least };
        let least = first.servers(wait, self.policy.late_share.clamp(1e-4, 1.0)).max(self.policy.least);
        let most = self.policy.most.clamp(1, MOST_SERVERS);
        let mut best = (least, f32::MAX);
        for replicas in least..=most.max(least) {
            let late: f32 = cases
                .iter()
                .map(|&(traffic, chance)| chance * traffic.arrivals.max(0.0) * traffic.late(replicas, wait))
                .sum();
            let cost = replica * f32::from(replicas) + late_request * late;
            if cost < best.1 {
                best = (replicas, cost);
            }
            // More only cost more from here on.
            if late * late_request < replica {
                break;
            }
        }
        best.0
    }

    fn mean_rate(&self, window: u8) -> f32 {
        let window = usize::from(window).clamp(1, TICKS).min(number::index(self.ticks.max(1)));
        self.rates.iter().take(window).sum::<f32>() / number::real(number::count(window))
    }
}

/// Load of the serving replicas above which the newest ticks are a burst.
const BURST_LOAD: f32 = 0.9;
/// Who waits is served within so many target waits.
const BACKLOG_PATIENCE: f32 = 5.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(arrived: f32, serving: u16) -> Load {
        Load { arrived, waiting: 0.0, service: 0.1, ahead: None, serving }
    }

    #[test]
    fn steady_traffic_gets_the_cheapest_number_that_keeps_the_target() {
        let mut scaler = Scaler::new(ScalePolicy::default());
        let mut advice = scaler.tick(load(100.0, 5));
        for _ in 0..50 {
            advice = scaler.tick(load(100.0, 9));
        }
        // Fifty per second, a tenth of a second each: five busy.
        let traffic = Traffic { arrivals: 50.0, service: 0.1 };
        assert!(traffic.late(advice.replicas, 0.1) <= 0.01);
        assert!((7..=10).contains(&advice.replicas), "{advice:?}");
    }

    #[test]
    fn a_forecast_raises_before_the_load_is_there() {
        let mut scaler = Scaler::new(ScalePolicy::default());
        let before = scaler.tick(load(20.0, 3));
        let advice = scaler.tick(Load { ahead: Some((60.0, 80.0)), ..load(20.0, 3) });
        assert!(advice.replicas > before.replicas);
        assert!(matches!(advice.why, Why::Forecast { .. }));
    }

    #[test]
    fn a_burst_is_answered_at_once_and_left_with_patience() {
        let mut scaler = Scaler::new(ScalePolicy::default());
        for _ in 0..20 {
            let _ = scaler.tick(load(20.0, 3));
        }
        let mut risen = 0;
        for _ in 0..3 {
            risen = scaler.tick(load(200.0, 3)).replicas;
        }
        assert!(risen >= 7, "{risen}");
        let patience = ScalePolicy::default().patience;
        for tick in 1..patience {
            let advice = scaler.tick(load(20.0, risen));
            assert!(advice.replicas >= risen, "tick {tick}: {advice:?}");
        }
        let later = (0..40).map(|_| scaler.tick(load(20.0, risen)).replicas).last().unwrap_or(risen);
        assert!(later < risen);
    }

    #[test]
    fn dearer_energy_means_fewer_replicas() {
        let with = |joule: f32| {
            let objective = Objective { joule, watts: 5.0, late_request: 1000.0, ..Objective::default() };
            let mut scaler =
                Scaler::new(ScalePolicy { late_share: 0.2, objective, ..ScalePolicy::default() });
            (0..20).map(|_| scaler.tick(load(100.0, 9)).replicas).last().unwrap_or(0)
        };
        assert!(with(50.0) < with(0.0));
    }

    proptest! {
        #[test]
        fn advice_stays_within_bounds_whatever_comes_in(
            least in any::<u16>(), most in any::<u16>(), tick in any::<f32>(), wait in any::<f32>(),
            cost in any::<f32>(), late in any::<f32>(),
            loads in proptest::collection::vec(
                (any::<f32>(), any::<f32>(), any::<f32>(), any::<Option<(f32, f32)>>(), any::<u16>()), 1..30),
        ) {
            let objective = Objective { vm_second: cost, late_request: late, ..Objective::default() };
            let policy = ScalePolicy { least, most, tick, wait, objective, ..ScalePolicy::default() };
            let mut scaler = Scaler::new(policy);
            for (arrived, waiting, service, ahead, serving) in loads {
                let advice = scaler.tick(Load { arrived, waiting, service, ahead, serving });
                let most = most.clamp(1, MOST_SERVERS);
                prop_assert!((least.min(most)..=most).contains(&advice.replicas));
            }
        }
    }
}
