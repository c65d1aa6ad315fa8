//! All that is watched: events in, insights out.
//!
//! ```text
//!   reading, reading, ... TICKS_PER_SAMPLE of them = one sample -> forecasts, oddities, causes
//!      each of them -> replicas
//!   call, time -> how many wait for the next call
//! ```
//!
//! Duty: the order of what follows from a reading; who is the likeliest cause. Not here: single workloads (`watched`).
//! Invariant: a sample of all is taken at the same tick, so that onsets can be compared.

use std::collections::BTreeMap;

use hearth_core::{Compared, Expectation, Judged, Rung, Source};
use hearth_predictor::Seconds;
use hearth_predictor::cause::{MOST_PARTS, Part, Parts, rank};

use crate::healing::{self, Healing};
use crate::judging::Judging;
use crate::keeping::Keeping;
use crate::lending::Lending;
use crate::metric::{Metric, Reading};
use crate::scaling::{Scaling, Served, count};
use crate::suspects::{self, Failed, Layer};
use crate::view::{self, View};
use crate::watched::Watched;
use crate::wish::Wish;

/// Readings whose mean is a sample: readings for quick replicas, samples for a past of hours.
pub const TICKS_PER_SAMPLE: u32 = 6;
const SECONDS_PER_HOUR: f32 = 3600.0;

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What is wanted from now on.
    Configured { tick_s: u32, wishes: Vec<Wish> },
    /// Everything was measured once.
    Measured { at: Seconds, host: Reading, workloads: Vec<Measured> },
    /// Somebody passed requests on.
    Served { workload: String, served: Served },
    /// A machine failed, and another one is on its way.
    Restarted { workload: String },
    /// How it was before anybody looked here: samples at this pace, of the time that begins `from`.
    Taught { workload: String, metric: Metric, from: Seconds, values: Vec<f32> },
    /// So many machines of a function are in use from now on.
    Called { at: Seconds, workload: String, in_use: u16 },
    /// It is [`Foresight::due`].
    Passed { at: Seconds },
    /// Something is wrong with it.
    Failed { workload: String, source: Source, at: Seconds },
    /// What a new version served beside the one before.
    Compared { workload: String, compared: Compared },
    /// A means of healing was used, and helped or did not.
    Tried { workload: String, source: Source, rung: Rung, cured: bool, seconds: f32 },
    /// What was learnt of a workload was wrong; none: of the host.
    Reset { workload: Option<String> },
}

/// All machines of one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    pub workload: String,
    pub reading: Reading,
    /// MiB that the machine with the least to spare can do without: what its balloon holds and its guest calls available.
    pub spare_mib: Option<f32>,
    /// Replicas that serve.
    pub serving: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insight {
    /// So many replicas would do. Worth a step of the box only where `automatic`.
    Replicas { workload: String, replicas: u16, why: String, automatic: bool },
    /// So many machines of a function are to wait for the next call. Worth a step of the box only where `automatic`.
    Warm { workload: String, idle: u16, lasts_s: u32, why: String, automatic: bool },
    /// So much memory would do for each machine of it. Worth a step of the box only where `automatic`.
    Memory { workload: String, mib: u32, why: String, automatic: bool },
    /// It is as it never was; none: the host is.
    Odd { workload: Option<String>, what: String },
    /// What to try first against faults from there; empty: as the ladder has it.
    Ranked { workload: String, source: Source, order: Vec<Expectation> },
    /// Who else most likely began what is wrong with it.
    Suspected { workload: String, whom: String },
    /// What is to become of a new version.
    Judged { workload: String, judged: Judged },
}

#[derive(Debug)]
pub struct Foresight {
    pub(crate) tick_s: u32,
    ticks: u32,
    pub(crate) host: Watched,
    pub(crate) workloads: BTreeMap<String, One>,
}

#[derive(Debug)]
pub(crate) struct One {
    pub(crate) watched: Watched,
    pub(crate) scaling: Option<Scaling>,
    pub(crate) keeping: Option<Keeping>,
    pub(crate) lending: Option<Lending>,
    pub(crate) healing: Healing,
    pub(crate) judging: Judging,
    /// The last time, lately.
    pub(crate) failed: Option<Failed>,
    pub(crate) rests_on: Vec<String>,
}

impl Foresight {
    /// A reading is expected every `tick_s` seconds.
    pub fn new(tick_s: u32) -> Foresight {
        Foresight { tick_s: tick_s.max(1), ticks: 0, host: Watched::new(None), workloads: BTreeMap::new() }
    }

    #[must_use = "an insight that nobody hears of was in vain"]
    pub fn step(&mut self, event: Event) -> Vec<Insight> {
        match event {
            Event::Configured { tick_s, wishes } => self.configure(tick_s.max(1), wishes),
            Event::Measured { at, host, workloads } => return self.measured(at, &host, workloads),
            Event::Served { workload, served } => {
                if let Some(one) = self.workloads.get_mut(&workload) {
                    one.watched.requests.hear(served);
                }
            }
            Event::Restarted { workload } => {
                if let Some(one) = self.workloads.get_mut(&workload) {
                    one.watched.restarts = one.watched.restarts.saturating_add(1);
                }
            }
            Event::Taught { workload, metric, from, values } => {
                let sample_s = self.sample_s();
                if let Some(one) = self.workloads.get_mut(&workload) {
                    one.watched.teach(metric, from, &values, sample_s);
                }
            }
            Event::Called { at, workload, in_use } => {
                let one = self.workloads.get_mut(&workload);
                if let Some(keeping) = one.and_then(|one| one.keeping.as_mut()) {
                    keeping.called(at, in_use);
                }
                return self.passed(at);
            }
            Event::Passed { at } => return self.passed(at),
            Event::Failed { workload, source, at } => {
                let Some(one) = self.workloads.get_mut(&workload) else { return Vec::new() };
                one.failed = Some(Failed { at, layer: Layer::of_fault(source) });
                let whom = suspects::of(&self.host, &self.workloads, &workload, at);
                return whom.map(|whom| Insight::Suspected { workload, whom }).into_iter().collect();
            }
            Event::Compared { workload, compared } => {
                let judged = self.workloads.get_mut(&workload).and_then(|one| one.judging.weigh(compared));
                return judged.map(|judged| Insight::Judged { workload, judged }).into_iter().collect();
            }
            Event::Tried { workload, source, rung, cured, seconds } => {
                let Some(one) = self.workloads.get_mut(&workload) else { return Vec::new() };
                one.healing.tried(source, rung, cured, seconds);
                return one.ranked(&workload);
            }
            Event::Reset { workload: None } => self.host = Watched::new(None),
            Event::Reset { workload: Some(name) } => {
                if let Some(one) = self.workloads.get_mut(&name) {
                    one.watched = Watched::new(one.watched.memory_mib);
                    one.scaling = one.scaling.take().map(|old| Scaling::new(old.wish, self.tick_s));
                    one.keeping = one.keeping.take().map(|old| Keeping::new(old.wish));
                    let has_mib = one.watched.memory_mib.unwrap_or(0);
                    one.lending = one.lending.take().map(|old| Lending::new(old.wish, has_mib));
                    one.healing.take_up(healing::Model::default());
                }
            }
        }
        Vec::new()
    }

    /// Seconds from one sample to the next.
    pub fn sample_s(&self) -> u32 {
        self.tick_s.saturating_mul(TICKS_PER_SAMPLE)
    }

    /// When time alone changes something.
    pub fn due(&self) -> Option<Seconds> {
        self.workloads.values().filter_map(|one| one.keeping.as_ref()?.due()).min_by_key(|due| due.0)
    }

    fn passed(&mut self, at: Seconds) -> Vec<Insight> {
        let each = self.workloads.iter_mut().filter_map(|(workload, one)| {
            let keeping = one.keeping.as_mut()?;
            let kept = keeping.ask(at)?;
            Some(Insight::Warm {
                workload: workload.clone(),
                idle: kept.idle,
                lasts_s: kept.lasts_s,
                why: kept.why,
                automatic: keeping.wish.automatic,
            })
        });
        each.collect()
    }

    /// How a workload looks; none: the host.
    pub fn view(&self, workload: Option<&str>) -> Option<View> {
        let Some(name) = workload else { return Some(view::of("", self, &self.host, None, None, None)) };
        let one = self.workloads.get(name)?;
        Some(view::of(
            name,
            self,
            &one.watched,
            one.scaling.as_ref(),
            one.keeping.as_ref(),
            one.lending.as_ref(),
        ))
    }

    fn configure(&mut self, tick_s: u32, wishes: Vec<Wish>) {
        if tick_s != self.tick_s {
            // What was learnt at another pace says nothing about this one.
            *self = Foresight::new(tick_s);
        }
        let mut before = std::mem::take(&mut self.workloads);
        for wish in wishes {
            let known = before.remove(&wish.name);
            let new = || Watched::new(Some(wish.memory_mib));
            let failed = known.as_ref().and_then(|one| one.failed);
            let (watched, scaling, keeping, lending, mut healing, mut judging) = match known {
                Some(One { watched, scaling, keeping, lending, healing, judging, .. }) => {
                    let same = watched.memory_mib == Some(wish.memory_mib);
                    let (watched, lending) = if same { (watched, lending) } else { (new(), None) };
                    (watched, scaling, keeping, lending, healing, judging)
                }
                None => {
                    let (healing, judging) = (Healing::new(wish.healing), Judging::new(wish.rollout));
                    (new(), None, None, None, healing, judging)
                }
            };
            healing.follow(wish.healing);
            judging.wish = wish.rollout;
            let lending = wish.balloon.map(|wanted| {
                let mut lending = lending.unwrap_or_else(|| Lending::new(wanted, wish.memory_mib));
                lending.wish(wanted);
                lending
            });
            let keeping = wish.keeping.map(|wanted| {
                let mut keeping = keeping.unwrap_or_else(|| Keeping::new(wanted));
                keeping.wish(wanted);
                keeping
            });
            let scaling = match (wish.scaling, scaling) {
                (None, _) => None,
                (Some(wanted), Some(old)) if old.wish == wanted => Some(old),
                (Some(wanted), _) => Some(Scaling::new(wanted, tick_s)),
            };
            let rests_on = wish.rests_on;
            let one = One { watched, scaling, keeping, lending, healing, judging, failed, rests_on };
            self.workloads.insert(wish.name, one);
        }
    }

    fn measured(&mut self, at: Seconds, host: &Reading, workloads: Vec<Measured>) -> Vec<Insight> {
        let (sample_s, mut insights) = (self.sample_s(), Vec::new());
        self.ticks += 1;
        let sampled = self.ticks == TICKS_PER_SAMPLE;
        let mut calls = Vec::new();
        self.host.tick(host, sample_s);
        if sampled {
            self.ticks = 0;
            calls.extend(self.host.sample(at, 0).map(|what| (None, what)));
        }
        for Measured { workload, reading, spare_mib, serving } in workloads {
            let Some(One { watched, scaling, lending, .. }) = self.workloads.get_mut(&workload) else {
                continue;
            };
            let arrivals = watched.requests.tick();
            let tick_s = count(self.tick_s);
            let restarts = count(std::mem::take(&mut watched.restarts)) * SECONDS_PER_HOUR / tick_s;
            let reading = reading
                .with(Metric::Restarts, Some(restarts))
                .with(Metric::Requests, arrivals.map(|arrivals| arrivals.arrived / tick_s))
                .with(Metric::Latency, arrivals.and_then(|arrivals| arrivals.took).map(|took| took * 1000.0));
            watched.tick(&reading, sample_s);
            if sampled {
                calls.extend(watched.sample(at, serving).map(|what| (Some(workload.clone()), what)));
            }
            if let (Some(lending), Some(spare)) = (lending, spare_mib)
                && let Some(left) = lending.spare(at, spare)
            {
                let (workload, automatic) = (workload.clone(), lending.wish.automatic);
                insights.push(Insight::Memory { workload, mib: left.mib, why: left.why, automatic });
            }
            match (scaling, arrivals) {
                (Some(scaling), Some(arrivals)) => {
                    let ahead = watched.requests_ahead();
                    if let Some(advice) = scaling.tick(&watched.requests, arrivals, ahead, serving) {
                        insights.push(Insight::Replicas {
                            workload,
                            replicas: advice.replicas,
                            why: advice.why.to_string(),
                            automatic: scaling.wish.automatic,
                        });
                    }
                }
                (Some(scaling), None) => scaling.unknown(),
                (None, _) => {}
            }
        }
        for (workload, what) in calls {
            let cause = self.likeliest(workload.as_deref()).map(|cause| format!("; {cause}"));
            let what = format!("{what}{}", cause.unwrap_or_default());
            insights.push(Insight::Odd { workload, what });
        }
        for (name, one) in &mut self.workloads {
            insights.extend(one.ranked(name));
        }
        insights
    }

    /// Who most likely began what is strange now, if that is somebody else.
    fn likeliest(&self, called: Option<&str>) -> Option<String> {
        // The host is the first part, as all rest on it.
        let names: Vec<&String> = self.workloads.keys().take(MOST_PARTS - 1).collect();
        let place = |name: &str| names.iter().position(|known| *known == name).map(|place| place + 1);
        let mut parts =
            vec![Part { rests_on: Parts::default(), onset: self.host.onset, distance: self.host.distance }];
        for One { watched, rests_on, .. } in self.workloads.values().take(MOST_PARTS - 1) {
            let on = rests_on.iter().filter_map(|name| place(name));
            let rests_on = on.fold(Parts::default().with(0), Parts::with);
            parts.push(Part { rests_on, onset: watched.onset, distance: watched.distance });
        }
        let suspects = rank(&parts);
        let first = suspects.first().filter(|first| Some(first.part) != called.map_or(Some(0), place))?;
        let name = first.part.checked_sub(1).and_then(|place| names.get(place));
        let name = name.map_or("the host", |name| name.as_str());
        Some(format!("it most likely began with {name} ({first})"))
    }
}

impl One {
    fn ranked(&mut self, name: &str) -> Vec<Insight> {
        let told = |(source, order)| Insight::Ranked { workload: name.to_owned(), source, order };
        self.healing.news().into_iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::tests::WISH;
    use crate::{keeping, lending};

    fn wish(name: &str, rests_on: &[&str]) -> Wish {
        Wish {
            name: name.to_owned(),
            rests_on: rests_on.iter().map(|name| (*name).to_owned()).collect(),
            scaling: Some(WISH),
            keeping: Some(keeping::tests::WISH),
            balloon: Some(lending::tests::WISH),
            memory_mib: 256,
            healing: crate::healing::tests::wish(),
            rollout: crate::judging::tests::WISH,
        }
    }

    fn configured(wishes: Vec<Wish>) -> Foresight {
        let mut foresight = Foresight::new(10);
        let _ = foresight.step(Event::Configured { tick_s: 10, wishes });
        foresight
    }

    /// A little noise that is the same in each run.
    fn noise(tick: u64) -> f32 {
        f32::from(u8::try_from(tick.wrapping_mul(2_654_435_761) >> 7 & 0x7).unwrap_or(0)) * 0.1
    }

    fn measure(foresight: &mut Foresight, tick: u64, cpu: &[(&str, f32)], serving: u16) -> Vec<Insight> {
        let reading = |cpu: f32| Reading::NOTHING.with(Metric::Cpu, Some(cpu + noise(tick)));
        let workloads = cpu.iter().map(|(name, cpu)| Measured {
            workload: (*name).to_owned(),
            reading: reading(*cpu).with(Metric::Memory, Some(80.0)),
            spare_mib: None,
            serving,
        });
        let workloads = workloads.collect();
        foresight.step(Event::Measured { at: Seconds(tick * 10), host: reading(20.0), workloads })
    }

    fn odd(insights: &[Insight]) -> Vec<(Option<&str>, &str)> {
        let odd = insights.iter().filter_map(|insight| match insight {
            Insight::Odd { workload, what } => Some((workload.as_deref(), what.as_str())),
            _ => None,
        });
        odd.collect()
    }

    /// Two quiet hours.
    const QUIET_TICKS: u64 = 720;

    fn quiet(wishes: Vec<Wish>, names: &[&str]) -> Foresight {
        let mut foresight = configured(wishes);
        let cpu: Vec<_> = names.iter().map(|name| (*name, 10.0)).collect();
        for tick in 1..=QUIET_TICKS {
            let insights = measure(&mut foresight, tick, &cpu, 1);
            assert_eq!(odd(&insights), [], "tick {tick}");
        }
        foresight
    }

    #[test]
    fn what_never_was_is_called_once_and_says_what_it_is() {
        let mut foresight = quiet(vec![wish("web", &[])], &["web"]);
        let mut calls = Vec::new();
        for tick in QUIET_TICKS + 1..=QUIET_TICKS + 36 {
            let insights = measure(&mut foresight, tick, &[("web", 95.0)], 1);
            calls.extend(
                odd(&insights).into_iter().map(|(who, what)| (who.map(str::to_owned), what.to_owned())),
            );
        }
        assert_eq!(calls.len(), 1, "{calls:?}");
        assert_eq!(calls[0].0.as_deref(), Some("web"));
        assert!(calls[0].1.starts_with("cpu in %: 95"), "{calls:?}");
    }

    #[test]
    fn who_rests_on_what_was_strange_before_names_it() {
        let mut foresight = quiet(vec![wish("db", &[]), wish("web", &["db"])], &["db", "web"]);
        let mut calls = Vec::new();
        for tick in QUIET_TICKS + 1..=QUIET_TICKS + 24 {
            let web = if tick > QUIET_TICKS + 12 { 95.0 } else { 10.0 };
            let insights = measure(&mut foresight, tick, &[("db", 95.0), ("web", web)], 1);
            calls.extend(
                odd(&insights).into_iter().map(|(who, what)| (who.map(str::to_owned), what.to_owned())),
            );
        }
        let of =
            |name: &str| calls.iter().find(|(who, _)| who.as_deref() == Some(name)).map(|(_, what)| what);
        assert!(of("db").is_some_and(|what| !what.contains("began with")), "{calls:?}");
        assert!(of("web").is_some_and(|what| what.contains("most likely began with db (")), "{calls:?}");
    }

    #[test]
    fn of_two_that_are_strange_at_once_the_one_that_the_other_rests_on_is_named() {
        let mut foresight = quiet(vec![wish("db", &[]), wish("web", &["db"])], &["db", "web"]);
        let mut named = Vec::new();
        for tick in QUIET_TICKS + 1..=QUIET_TICKS + 6 {
            let insights = measure(&mut foresight, tick, &[("db", 40.0), ("web", 95.0)], 1);
            named.extend(odd(&insights).into_iter().map(|(_, what)| what.contains("began with db (")));
        }
        assert_eq!(named, [false, true], "db does not name itself");
    }

    fn failed(foresight: &mut Foresight, workload: &str, source: Source, tick: u64) -> Option<String> {
        let event = Event::Failed { workload: workload.to_owned(), source, at: Seconds(tick * 10) };
        foresight.step(event).into_iter().find_map(|insight| match insight {
            Insight::Suspected { whom, .. } => Some(whom),
            _ => None,
        })
    }

    #[test]
    fn who_fails_behind_one_that_failed_or_was_strange_before_names_it() {
        let wishes = || vec![wish("db", &[]), wish("web", &["db"]), wish("else", &[])];
        let names = ["db", "else", "web"];
        let mut foresight = quiet(wishes(), &names);
        assert_eq!(failed(&mut foresight, "web", Source::Workload, QUIET_TICKS), None, "all else is well");
        let tick = QUIET_TICKS + 100;
        assert_eq!(failed(&mut foresight, "db", Source::GuestKernel, tick), None);
        let whom = failed(&mut foresight, "web", Source::Workload, tick + 2).expect("a suspect");
        assert!(whom.starts_with("the guest of db ("), "{whom}");
        assert_eq!(failed(&mut foresight, "else", Source::Workload, tick + 2), None, "it rests on nobody");

        let mut foresight = quiet(wishes(), &names);
        for tick in QUIET_TICKS + 1..=QUIET_TICKS + 12 {
            let _ = measure(&mut foresight, tick, &[("db", 95.0), ("else", 10.0), ("web", 10.0)], 1);
        }
        let whom = failed(&mut foresight, "web", Source::Workload, QUIET_TICKS + 14).expect("a suspect");
        assert!(whom.starts_with("the machine of db ("), "{whom}");
    }

    #[test]
    fn an_incident_that_shows_in_one_metric_after_the_other_is_one_call() {
        let mut foresight = quiet(vec![wish("web", &[])], &["web"]);
        let mut calls = 0;
        for tick in QUIET_TICKS + 1..=QUIET_TICKS + 36 {
            let late = if tick > QUIET_TICKS + 18 { 200.0 } else { 80.0 };
            let reading =
                Reading::NOTHING.with(Metric::Cpu, Some(95.0 + noise(tick))).with(Metric::Memory, Some(late));
            let web = Measured { workload: "web".to_owned(), reading, spare_mib: None, serving: 1 };
            let at = Seconds(tick * 10);
            let host = Reading::NOTHING;
            calls += odd(&foresight.step(Event::Measured { at, host, workloads: vec![web] })).len();
        }
        assert_eq!(calls, 1);
    }

    #[test]
    fn replicas_are_advised_when_requests_are_known_and_not_before() {
        let mut foresight = configured(vec![wish("web", &[])]);
        for tick in 1..10 {
            assert_eq!(measure(&mut foresight, tick, &[("web", 1.0)], 1), []);
        }
        let mut told = Vec::new();
        for tick in 10..30 {
            let served = Served { requests: 250, busy_ms: 25_000, waiting: 0 };
            let _ = foresight.step(Event::Served { workload: "web".to_owned(), served });
            told.extend(measure(&mut foresight, tick, &[("web", 1.0)], 1));
        }
        let last = told.last().expect("advice");
        assert!(matches!(last, Insight::Replicas { replicas: 4, automatic: true, .. }), "{told:?}");
    }

    /// From 0 to 1, each time another number, in each run the same.
    fn chance(state: &mut u64) -> f32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from(u16::try_from(*state >> 48).unwrap_or(0)) / 65_536.0
    }

    #[test]
    fn what_was_measured_before_is_foreseen_from_the_first_morning_on() {
        let mut foresight = configured(vec![wish("web", &[])]);
        let mut state = 1;
        let mut rate =
            |minute: u64| (if minute % 1440 < 480 { 1.0 } else { 40.0 }) * (0.5 + chance(&mut state));
        let values: Vec<f32> = (0..7 * 1440).map(&mut rate).collect();
        let taught =
            Event::Taught { workload: "web".to_owned(), metric: Metric::Requests, from: Seconds(0), values };
        assert_eq!(foresight.step(taught), []);
        // The last half hour of a night.
        for minute in 7 * 1440 + 450..7 * 1440 + 479 {
            let served = Served { requests: 10 + u32::from(minute % 7 == 0), busy_ms: 1000, waiting: 0 };
            for tick in 0..6 {
                let _ = foresight.step(Event::Served { workload: "web".to_owned(), served });
                let _ = measure(&mut foresight, minute * 6 + tick, &[("web", 1.0)], 1);
            }
        }
        let view = foresight.view(Some("web")).expect("it is there");
        let requests =
            view.metrics.iter().find(|metric| metric.metric == "requests").expect("they were told");
        let ahead: Vec<f32> = requests.forecasts.iter().map(|forecast| forecast.upper).collect();
        assert!(ahead[1] > 20.0 && ahead[2] > 20.0, "{:?}", requests.forecasts);
    }

    #[test]
    fn what_is_not_wanted_any_more_is_forgotten_and_a_reset_begins_anew() {
        let mut foresight = quiet(vec![wish("db", &[]), wish("web", &[])], &["db", "web"]);
        let _ = foresight.step(Event::Configured { tick_s: 10, wishes: vec![wish("web", &[])] });
        assert!(foresight.view(Some("db")).is_none());
        let known = |foresight: &Foresight| foresight.view(Some("web")).map(|view| view.metrics.len());
        assert_eq!(known(&foresight), Some(3), "cpu, memory and restarts");
        let _ = foresight.step(Event::Reset { workload: Some("web".to_owned()) });
        assert_eq!(known(&foresight), Some(0));
    }

    #[test]
    fn a_call_is_answered_at_once_and_its_end_when_it_is_time() {
        let mut foresight = configured(vec![wish("resize", &[]), wish("web", &[])]);
        assert_eq!(foresight.due(), None);
        let mut call = |at, in_use| {
            foresight.step(Event::Called { at: Seconds(at), workload: "resize".to_owned(), in_use })
        };
        for minute in 1..40 {
            let _ = call(minute * 60, 1);
            let told = call(minute * 60 + 1, 0);
            assert!(
                matches!(&told[..], [Insight::Warm { workload, automatic: true, .. }] if workload == "resize")
            );
        }
        let due = foresight.due().expect("it does not wait for ever");
        assert_eq!(foresight.step(Event::Passed { at: Seconds(due.0 - 1) }), []);
        assert!(matches!(&foresight.step(Event::Passed { at: due })[..], [Insight::Warm { .. }]));
        let view = foresight.view(Some("resize")).and_then(|view| view.keep_warm).expect("a view");
        assert_eq!((view.most, view.automatic), (2, true));
        let _ = foresight.step(Event::Reset { workload: Some("resize".to_owned()) });
        assert_eq!(foresight.due(), None);
    }

    #[test]
    fn what_a_guest_can_do_without_is_told_and_shown() {
        let mut foresight = configured(vec![wish("web", &[])]);
        let mut told = Vec::new();
        for tick in 0..60 {
            let web = Measured {
                workload: "web".to_owned(),
                reading: Reading::NOTHING,
                spare_mib: (tick > 10).then_some(150.0),
                serving: 1,
            };
            let (at, host) = (Seconds(tick * 60), Reading::NOTHING);
            told.extend(foresight.step(Event::Measured { at, host, workloads: vec![web] }));
        }
        assert!(
            matches!(&told[..], [Insight::Memory { workload, mib: 132..150, automatic: true, .. }] if workload == "web"),
            "{told:?}"
        );
        let view = foresight.view(Some("web")).and_then(|view| view.balloon).expect("a view");
        assert!(
            (132..150).contains(&view.left_mib) && view.why.starts_with("a machine needs 106 MiB now"),
            "{view:?}"
        );
    }

    #[test]
    fn what_cured_is_learnt_told_forgotten_and_taken_back() {
        let mut foresight = quiet(vec![wish("web", &[])], &["web"]);
        let mut told = Vec::new();
        for _ in 0..12 {
            for (rung, cured) in [(Rung::RestartProcess, false), (Rung::Restore, true)] {
                let (workload, source) = ("web".to_owned(), Source::Workload);
                told.extend(foresight.step(Event::Tried { workload, source, rung, cured, seconds: 2.0 }));
            }
        }
        let first = |insight: &Insight| match insight {
            Insight::Ranked { order, .. } => order.first().map(|step| step.rung),
            _ => None,
        };
        assert_eq!(told.last().and_then(first), Some(Rung::Restore), "{told:?}");
        let mut after = configured(vec![wish("web", &[])]);
        after.restore(&foresight.learnt().bytes()).expect("whole");
        let told = measure(&mut after, 1, &[("web", 10.0)], 1);
        assert_eq!(told.iter().find_map(first), Some(Rung::Restore), "by the next daemon: {told:?}");
        let _ = after.step(Event::Reset { workload: Some("web".to_owned()) });
        let told = measure(&mut after, 2, &[("web", 10.0)], 1);
        let (workload, source) = ("web".to_owned(), Source::Workload);
        assert_eq!(told, [Insight::Ranked { workload, source, order: Vec::new() }]);
    }

    #[test]
    fn the_same_events_give_the_same_insights() {
        let run = || {
            let mut foresight = quiet(vec![wish("web", &[])], &["web"]);
            measure(&mut foresight, QUIET_TICKS + 1, &[("web", 50.0)], 1);
            format!("{:?}", foresight.view(Some("web")))
        };
        assert_eq!(run(), run());
    }
}
