//! What was learnt, as bytes.
//!
//! ```text
//! magic | frames, each: length of the name: u8 | name, empty for the host | metric: u8 | a series
//!                                                                     | CURES: u8  | what cured which faults
//!                                                                     | RESTS: u8  | rests between calls
//!                                                                     | NEEDS: u8  | memory that was needed
//! ```
//!
//! Duty: a copy of all that was learnt, that copy as one file's bytes, and back. Not here: the file, whose thread.
//! Invariant: bytes that are not whole, or of another version or pace, are refused as a whole, and change nothing.

use std::fmt;

use hearth_disk::frame::{self, Magic};
use hearth_predictor::sizing::Usage;
use hearth_predictor::state::{self, Memory, StateFault};

use crate::foresight::Foresight;
use crate::healing;
use crate::keeping::Rests;
use crate::metric::Metric;
use crate::watched::{Model, Seen};

/// The digit is the version: to be raised when the layout above changes. A series has a version of its own.
const MAGIC: &Magic = b"HRTHFOR1";
/// In place of a metric: what cured which faults of a workload. Metrics count up from 0.
const CURES: u8 = 200;
/// Likewise: a function's rests.
const RESTS: u8 = 201;
/// Likewise what its guests needed of their memory.
const NEEDS: u8 = 202;
/// Bytes of one frame: the longest name, and a series.
const MAX_FRAME: usize = 512 + <Model as Memory>::LARGEST;

/// Why bytes are no memory of this foresight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFault {
    Foreign,
    Damaged,
    /// Samples were further apart, or closer together.
    Pace,
    Model(StateFault),
}

impl fmt::Display for MemoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryFault::Foreign => f.write_str("expected what this version of hearthd foresees by"),
            MemoryFault::Damaged => f.write_str("it is damaged"),
            MemoryFault::Pace => f.write_str("it was measured at another pace"),
            MemoryFault::Model(fault) => fmt::Display::fmt(fault, f),
        }
    }
}

/// A copy, which another thread may make bytes of: the models go on learning meanwhile.
#[derive(Clone, Debug)]
pub struct Learnt(Vec<(String, u8, Kind)>);

#[derive(Clone, Debug)]
enum Kind {
    Series(Box<Model>),
    Rests(Box<Rests>),
    Needs(Box<Usage>),
    Cures(Box<healing::Model>),
}

impl Learnt {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut buffer = [0; <Model as Memory>::LARGEST];
        for (name, number, kind) in &self.0 {
            let saved = match kind {
                Kind::Series(model) => state::save(&**model, &mut buffer),
                Kind::Rests(rests) => state::save(&**rests, &mut buffer),
                Kind::Needs(needs) => state::save(&**needs, &mut buffer),
                Kind::Cures(cures) => state::save(&**cures, &mut buffer),
            };
            if let (Ok(length), Ok(model)) = (u8::try_from(name.len()), saved) {
                push(&mut bytes, length, name, *number, model);
            }
        }
        bytes
    }
}

impl Foresight {
    pub fn learnt(&self) -> Learnt {
        let workloads = self.workloads.iter().map(|(name, one)| (name.as_str(), &one.watched));
        let mut learnt = Vec::new();
        for (name, watched) in std::iter::once(("", &self.host)).chain(workloads) {
            for (metric, seen) in &watched.series {
                learnt.push((name.to_owned(), metric.number(), Kind::Series(seen.model.clone())));
            }
        }
        for (name, one) in &self.workloads {
            if one.healing.knows() {
                learnt.push((name.clone(), CURES, Kind::Cures(Box::new(one.healing.cures.clone()))));
            }
            if let Some(keeping) = one.keeping.as_ref().filter(|keeping| keeping.called) {
                learnt.push((name.clone(), RESTS, Kind::Rests(Box::new(keeping.rests.clone()))));
            }
            if let Some(lending) = one.lending.as_ref().filter(|lending| lending.is_settled()) {
                learnt.push((name.clone(), NEEDS, Kind::Needs(Box::new(lending.usage.clone()))));
            }
        }
        Learnt(learnt)
    }

    /// For the workloads that are configured by now. How many series are known again.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<usize, MemoryFault> {
        let (payloads, torn) = frame::until_damage(MAGIC, bytes, MAX_FRAME).ok_or(MemoryFault::Foreign)?;
        if torn > 0 {
            return Err(MemoryFault::Damaged);
        }
        let mut read = Vec::with_capacity(payloads.len());
        let (mut rested, mut needed, mut cures) = (Vec::new(), Vec::new(), Vec::new());
        for payload in payloads {
            let (name, number, model) = parts(payload).ok_or(MemoryFault::Damaged)?;
            if number == CURES {
                cures.push((name, state::restore::<healing::Model>(model).map_err(MemoryFault::Model)?));
                continue;
            }
            if number == RESTS {
                rested.push((name, state::restore::<Rests>(model).map_err(MemoryFault::Model)?));
                continue;
            }
            if number == NEEDS {
                needed.push((name, state::restore::<Usage>(model).map_err(MemoryFault::Model)?));
                continue;
            }
            let metric = Metric::of_number(number).ok_or(MemoryFault::Damaged)?;
            let model = state::restore::<Model>(model).map_err(MemoryFault::Model)?;
            if model.forecaster().cadence().seconds() != self.sample_s() {
                return Err(MemoryFault::Pace);
            }
            read.push((name, metric, model));
        }
        let mut known = 0;
        for (name, metric, model) in read {
            let watched = match name {
                "" => Some(&mut self.host),
                name => self.workloads.get_mut(name).map(|one| &mut one.watched),
            };
            if let Some(watched) = watched {
                watched.series.insert(metric, Seen::new(model));
                known += 1;
            }
        }
        for (name, model) in cures {
            if let Some(one) = self.workloads.get_mut(name) {
                one.healing.take_up(model);
                known += 1;
            }
        }
        for (name, usage) in needed {
            let one = self.workloads.get_mut(name);
            if let Some(lending) = one.and_then(|one| one.lending.as_mut()) {
                lending.restore(usage);
                known += 1;
            }
        }
        for (name, rests) in rested {
            let one = self.workloads.get_mut(name);
            if let Some(keeping) = one.and_then(|one| one.keeping.as_mut()) {
                (keeping.rests, keeping.called) = (rests, true);
                keeping.rests.revalue(keeping.wish.worth_s);
                known += 1;
            }
        }
        Ok(known)
    }
}

fn push(bytes: &mut Vec<u8>, length: u8, name: &str, number: u8, model: &[u8]) {
    let mut payload = vec![length];
    payload.extend_from_slice(name.as_bytes());
    payload.push(number);
    payload.extend_from_slice(model);
    // It fits: the frame is as large as the longest name and the largest model.
    let _ = frame::push(bytes, &payload, MAX_FRAME);
}

fn parts(payload: &[u8]) -> Option<(&str, u8, &[u8])> {
    let (length, rest) = payload.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (number, model) = rest.split_first()?;
    Some((std::str::from_utf8(name).ok()?, *number, model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foresight::{Event, Measured};
    use crate::metric::Reading;
    use crate::wish::Wish;
    use crate::{keeping, lending};
    use hearth_predictor::Seconds;

    fn configured(tick_s: u32) -> Foresight {
        let wish = Wish {
            name: "web".to_owned(),
            rests_on: Vec::new(),
            scaling: None,
            keeping: Some(keeping::tests::WISH),
            balloon: Some(lending::tests::WISH),
            memory_mib: 64,
            healing: healing::tests::wish(),
            rollout: crate::judging::tests::WISH,
        };
        let mut foresight = Foresight::new(tick_s);
        let _ = foresight.step(Event::Configured { tick_s, wishes: vec![wish] });
        foresight
    }

    fn fed() -> Foresight {
        let mut foresight = configured(10);
        for tick in 0..120 {
            feed(&mut foresight, tick);
        }
        foresight
    }

    fn feed(foresight: &mut Foresight, tick: u16) {
        let cpu = Some(f32::from(tick % 7));
        let host = Reading::NOTHING.with(Metric::Cpu, cpu);
        let measured = Measured { workload: "web".to_owned(), reading: host, spare_mib: None, serving: 1 };
        let at = Seconds(u64::from(tick) * 10);
        let _ = foresight.step(Event::Measured { at, host, workloads: vec![measured] });
    }

    #[test]
    fn what_was_learnt_goes_on_after_a_restart() {
        let mut before = fed();
        let mut after = configured(10);
        assert_eq!(
            after.restore(&before.learnt().bytes()),
            Ok(3),
            "of the host, cpu; of the workload, restarts too"
        );
        for tick in 120..180 {
            feed(&mut before, tick);
            feed(&mut after, tick);
        }
        let models = |foresight: &Foresight| foresight.learnt().bytes();
        assert_eq!(models(&before), models(&after));
    }

    #[test]
    fn what_was_learnt_of_calls_goes_on_after_a_restart() {
        let call = |foresight: &mut Foresight, at, in_use| {
            foresight.step(Event::Called { at: Seconds(at), workload: "web".to_owned(), in_use })
        };
        let mut before = configured(10);
        for minute in 1..40 {
            let _ = call(&mut before, minute * 60, 1);
            let _ = call(&mut before, minute * 60 + 1, 0);
        }
        let mut after = configured(10);
        assert_eq!(after.restore(&before.learnt().bytes()), Ok(1));
        assert_eq!(call(&mut after, 2400, 1), call(&mut before, 2400, 1));
        assert_eq!(call(&mut after, 2401, 0), call(&mut before, 2401, 0));
    }

    #[test]
    fn what_guests_needed_is_known_after_a_restart() {
        let word = |foresight: &mut Foresight, minute: u64| {
            let web = Measured {
                workload: "web".to_owned(),
                reading: Reading::NOTHING,
                spare_mib: Some(0.0),
                serving: 1,
            };
            let (at, host) = (Seconds(minute * 60), Reading::NOTHING);
            let _ = foresight.step(Event::Measured { at, host, workloads: vec![web] });
        };
        let needs = |foresight: &Foresight| {
            let lending =
                foresight.workloads.get("web").and_then(|one| one.lending.clone()).expect("wished for");
            (lending.usage.quantile(0.5), lending.is_settled())
        };
        let mut before = configured(10);
        word(&mut before, 1);
        assert_eq!(configured(10).restore(&before.learnt().bytes()), Ok(1), "only how often it restarted");
        (2..=40).for_each(|minute| word(&mut before, minute));
        let mut after = configured(10);
        assert_eq!(after.restore(&before.learnt().bytes()), Ok(2));
        assert_eq!(needs(&after), needs(&before));
        assert!(matches!(needs(&after), (Some(63.0..65.0), true)));
    }

    #[test]
    fn what_is_not_whole_or_of_another_pace_is_refused_and_changes_nothing() {
        let saved = fed().learnt().bytes();
        let mut other = configured(10);
        let empty = other.learnt().bytes();
        assert_eq!(other.restore(&saved[..saved.len() - 1]), Err(MemoryFault::Damaged));
        assert_eq!(other.restore(b"nonsense and more of it"), Err(MemoryFault::Foreign));
        assert_eq!(other.learnt().bytes(), empty);
        assert_eq!(configured(5).restore(&saved), Err(MemoryFault::Pace));
    }
}
