//! Sizing: the web site's arrivals in a simulated queue.
//!
//! Duty: replay arrivals through servers that come and go as a scaler says, and count what waits and what runs.
//! Not here: the scalers' reasons. Invariants: every scaler sees the same arrivals with the same service times; a
//! server that was asked for serves only after its start; one that is to go finishes its request; nobody sees a
//! minute's sum before the minute is over.

use std::{cmp::Reverse, collections::BinaryHeap, collections::VecDeque};

use hearth_predictor::{
    Cadence, Series,
    sizing::{Load, Objective, ScalePolicy, Scaler},
};

use crate::{
    anomalies::narrow,
    dataset::Row,
    dice::Dice,
    table::{self, Table, Wanted},
};

/// Of the site's requests, one in so many goes to the box: the busiest minute then needs some thirty servers.
const THINNED: f64 = 60.0;
/// Mean seconds of work in a request, with an exponential spread.
const SERVICE: f64 = 0.5;
/// A request should not wait for longer, in seconds.
const WAIT: f64 = 0.5;
/// Seconds from asking for a server to its first request: a VM that boots, and one whose workload warms up.
const STARTS: [f64; 2] = [4.0, 30.0];
/// Seconds between decisions, as of the rival.
const TICK: f64 = 2.0;
const MOST: u16 = 64;
/// The first days are for learning and are not counted. All of the rest is.
const LEARNING_DAYS: f64 = 7.0;

/// Somebody who decides how many servers there are to be.
trait Decider {
    /// Requests since the last tick, requests that wait, requests in service, servers that serve.
    fn decide(&mut self, arrived: f64, waiting: usize, busy: usize, serving: usize) -> usize;
    /// A minute is over.
    fn minute(&mut self, _row: Row) {}
}

#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    requests: f64,
    late: f64,
    /// Minutes whose slowest hundredth waited for too long.
    bad_minutes: f64,
    minutes: f64,
    vm_seconds: f64,
}

pub(crate) fn run(minutes: &[Row]) {
    println!("## Sizing: WC98 thinned to 1 in {THINNED}, {SERVICE} s of work, wait target {WAIT} s\n");
    for start in STARTS {
        let rival = simulate(minutes, start, &mut Windows::default());
        let ours = simulate(minutes, start, &mut Ours::new(true));
        let blind = simulate(minutes, start, &mut Ours::new(false));
        let fixed = simulate(minutes, start, &mut Fixed(36));
        let heading = format!("scaler; a start takes {start} s");
        let mut table =
            Table::new(&[&heading, "late %", "minutes with p99 late %", "VM-seconds", "of autoscaler"]);
        for (name, outcome) in [
            ("60 s / 6 s windows, 70 % target", rival),
            ("predictor", ours),
            ("predictor without forecasts", blind),
            ("always 36", fixed),
        ] {
            table.row([
                name.to_owned(),
                format!("{:.3}", 100.0 * outcome.late / outcome.requests),
                format!("{:.2}", 100.0 * outcome.bad_minutes / outcome.minutes),
                format!("{:.0}", outcome.vm_seconds),
                format!("{:.3}", outcome.vm_seconds / rival.vm_seconds),
            ]);
        }
        println!("{table}");
        let violations = ours.bad_minutes / rival.bad_minutes.max(1.0);
        let what = format!("minutes with a late p99 beside the autoscaler's, start {start} s");
        table::target(&what, violations, 3, Wanted::AtMost(1.0));
        let what = format!("VM-seconds beside the autoscaler's, start {start} s");
        table::target(&what, ours.vm_seconds / rival.vm_seconds, 3, Wanted::AtMost(0.85));
        println!();
    }
}

/// A request that arrived, and how much work it is.
#[derive(Clone, Copy, Debug)]
struct Request {
    at: f64,
    work: f64,
}

fn simulate(minutes: &[Row], start: f64, decider: &mut dyn Decider) -> Outcome {
    let mut dice = Dice::new(98);
    let mut outcome = Outcome::default();
    let mut servers = Servers { start, ..Servers::default() };
    let mut waiting: VecDeque<Request> = VecDeque::new();
    let mut next_tick = 0.0;
    let mut arrived = 0.0;
    let mut waits: Vec<f64> = Vec::new();
    servers.target(1, -start);
    for (index, row) in minutes.iter().enumerate() {
        let begin = f64::from(u32::try_from(index).unwrap_or(u32::MAX)) * 60.0;
        let counted = begin >= LEARNING_DAYS * 86_400.0;
        let mut times = arrivals(row.value / THINNED, begin, &mut dice);
        times.push(Request { at: begin + 60.0, work: f64::NAN });
        waits.clear();
        for request in times {
            // Ticks before this request; and between ticks, servers that become free.
            while next_tick <= request.at {
                servers.serve(&mut waiting, next_tick, &mut waits);
                let serving = servers.serving();
                let target = decider.decide(arrived, waiting.len(), servers.busy(next_tick), serving);
                arrived = 0.0;
                servers.target(target.clamp(1, usize::from(MOST)), next_tick);
                if counted {
                    outcome.vm_seconds += TICK * f64::from(u32::try_from(servers.paid()).unwrap_or(0));
                }
                next_tick += TICK;
            }
            if request.work.is_nan() {
                break;
            }
            waiting.push_back(request);
            arrived += 1.0;
            servers.serve(&mut waiting, request.at, &mut waits);
        }
        decider.minute(Row { at: row.at, value: row.value / THINNED });
        if counted && !waits.is_empty() {
            let late = waits.iter().filter(|&&wait| wait > WAIT).count();
            let (late, all) = (count(late), count(waits.len()));
            outcome.late += late;
            outcome.requests += all;
            outcome.bad_minutes += f64::from(u8::from(late > 0.01 * all));
            outcome.minutes += 1.0;
        }
    }
    outcome
}

/// Requests of one minute, at even times, in order.
fn arrivals(mean: f64, begin: f64, dice: &mut Dice) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut at = begin;
    if mean <= 0.0 {
        return requests;
    }
    loop {
        at += dice.exponential(60.0 / mean);
        if at >= begin + 60.0 {
            break;
        }
        requests.push(Request { at, work: dice.exponential(SERVICE) });
    }
    requests
}

/// Servers by the time at which each is free, in milliseconds of the simulation.
#[derive(Debug, Default)]
struct Servers {
    free_at: BinaryHeap<Reverse<u64>>,
    /// Seconds that a start takes.
    start: f64,
    /// Servers that were asked for, by the time at which they serve.
    starting: VecDeque<f64>,
    /// Servers to take away as soon as they are free.
    leaving: usize,
}

impl Servers {
    /// The newest moment at which each of `waiting` can be served, up to `now`.
    fn serve(&mut self, waiting: &mut VecDeque<Request>, now: f64, waits: &mut Vec<f64>) {
        while self.starting.front().is_some_and(|&ready| ready <= now) {
            let ready = self.starting.pop_front().unwrap_or(now);
            self.free_at.push(Reverse(micros(ready)));
        }
        while self.leaving > 0 && self.free_at.peek().is_some_and(|free| free.0 <= micros(now)) {
            self.free_at.pop();
            self.leaving -= 1;
        }
        while let Some(&request) = waiting.front() {
            let Some(&Reverse(free)) = self.free_at.peek() else { break };
            if free > micros(now) {
                break;
            }
            self.free_at.pop();
            waiting.pop_front();
            let begins = seconds(free).max(request.at);
            waits.push(begins - request.at);
            self.free_at.push(Reverse(micros(begins + request.work)));
        }
    }

    fn target(&mut self, target: usize, now: f64) {
        let have = self.free_at.len() + self.starting.len() - self.leaving;
        if target > have {
            let mut more = target - have;
            let kept = more.min(self.leaving);
            self.leaving -= kept;
            more -= kept;
            self.starting.extend(std::iter::repeat_n(now + self.start, more));
        } else {
            let mut fewer = have - target;
            while fewer > 0 && self.starting.pop_back().is_some() {
                fewer -= 1;
            }
            self.leaving += fewer;
        }
    }

    fn serving(&self) -> usize {
        self.free_at.len() - self.leaving
    }

    fn busy(&self, now: f64) -> usize {
        self.free_at.iter().filter(|free| free.0 > micros(now)).count()
    }

    /// Servers that run, whether they serve, start or are about to leave.
    fn paid(&self) -> usize {
        self.free_at.len() + self.starting.len()
    }
}

/// Requests in progress over two windows, as a well-known serverless autoscaler does it.
#[derive(Debug, Default)]
struct Windows {
    busy: VecDeque<f64>,
    panic_until: f64,
    panic_most: f64,
    now: f64,
}

impl Decider for Windows {
    fn decide(&mut self, _arrived: f64, waiting: usize, busy: usize, serving: usize) -> usize {
        /// Requests in progress that one server is to have on average.
        const TARGET: f64 = 0.7;
        const STABLE: usize = 30;
        const PANIC: usize = 3;
        self.now += TICK;
        self.busy.push_front(count(waiting + busy));
        self.busy.truncate(STABLE);
        let mean = |ticks: usize| {
            let ticks = ticks.min(self.busy.len()).max(1);
            self.busy.iter().take(ticks).sum::<f64>() / count(ticks)
        };
        let stable = (mean(STABLE) / TARGET).ceil();
        let panic = (mean(PANIC) / TARGET).ceil();
        if panic >= 2.0 * count(serving.max(1)) {
            if self.now >= self.panic_until {
                self.panic_most = 0.0;
            }
            self.panic_until = self.now + 60.0;
        }
        let wanted = if self.now < self.panic_until {
            // In a panic it never falls.
            self.panic_most = self.panic_most.max(panic).max(stable);
            self.panic_most
        } else {
            stable
        };
        whole(wanted)
    }
}

struct Ours {
    scaler: Scaler,
    series: Option<Series<2>>,
    ahead: Option<(f32, f32)>,
    ticks: u32,
}

impl Ours {
    fn new(foresees: bool) -> Ours {
        let policy = ScalePolicy {
            least: 1,
            most: MOST,
            wait: narrow(WAIT),
            late_share: 0.03,
            tick: narrow(TICK),
            patience: 30,
            window: 15,
            burst_window: 3,
            objective: Objective { late_request: 3.0, ..Objective::default() },
        };
        let series = foresees.then(|| Series::new(Cadence::every(60), [1, 2]));
        Ours { scaler: Scaler::new(policy), series, ahead: None, ticks: 0 }
    }
}

impl Decider for Ours {
    fn decide(&mut self, arrived: f64, waiting: usize, _busy: usize, serving: usize) -> usize {
        self.ticks += 1;
        let load = Load {
            arrived: narrow(arrived),
            waiting: narrow(count(waiting)),
            service: narrow(SERVICE),
            ahead: self.ahead,
            serving: u16::try_from(serving).unwrap_or(u16::MAX),
        };
        usize::from(self.scaler.tick(load).replicas)
    }

    fn minute(&mut self, row: Row) {
        let Some(series) = &mut self.series else { return };
        let forecasts = series.observe(row.at, narrow(row.value)).forecasts;
        // The minute that begins now, in requests per second.
        self.ahead = forecasts[0].map(|forecast| (forecast.expected / 60.0, forecast.upper / 60.0));
    }
}

struct Fixed(usize);

impl Decider for Fixed {
    fn decide(&mut self, _: f64, _: usize, _: usize, _: usize) -> usize {
        self.0
    }
}

fn count(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred servers at most")]
fn whole(number: f64) -> usize {
    number as usize
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "months in microseconds fit")]
fn micros(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1e6) as u64
}

#[expect(clippy::cast_precision_loss, reason = "months in microseconds are below 2^53")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_predictor::{Seconds, sizing::erlang::Traffic};

    #[test]
    fn the_simulated_queue_waits_as_the_formula_says() {
        // Eight days of six requests per second for five servers of half a second each; one day counts.
        let minutes: Vec<Row> =
            (0..8 * 1440).map(|minute| Row { at: Seconds(minute * 60), value: 360.0 * THINNED }).collect();
        let outcome = simulate(&minutes, 4.0, &mut Fixed(5));
        let late = Traffic { arrivals: 6.0, service: narrow(SERVICE) }.late(5, narrow(WAIT));
        let measured = outcome.late / outcome.requests;
        assert!((measured / f64::from(late) - 1.0).abs() < 0.05, "{measured} should be {late}");
        assert!((outcome.vm_seconds / (86_400.0 * 5.0) - 1.0).abs() < 0.01);
    }
}
