//! What was learnt, as bytes.
//!
//! ```text
//! magic | frames, each: length of the name: u8 | name, empty for the host | metric: u8 | a series
//! ```
//!
//! Duty: all series into one file's bytes, and back. Not here: the file.
//! Invariant: bytes that are not whole, or of another version or pace, are refused as a whole, and change nothing.

use std::fmt;

use hearth_disk::frame::{self, Magic};
use hearth_predictor::state::{self, Memory, StateFault};

use crate::foresight::Foresight;
use crate::metric::Metric;
use crate::watched::{Model, Seen};

/// The digit is the version: to be raised when the layout above changes. A series has a version of its own.
const MAGIC: &Magic = b"HRTHFOR1";
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

impl Foresight {
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let mut buffer = [0; <Model as Memory>::LARGEST];
        let workloads = self.workloads.iter().map(|(name, one)| (name.as_str(), &one.watched));
        for (name, watched) in std::iter::once(("", &self.host)).chain(workloads) {
            let Ok(length) = u8::try_from(name.len()) else { continue };
            for (metric, seen) in &watched.series {
                let Ok(model) = state::save(&*seen.model, &mut buffer) else { continue };
                let mut payload = vec![length];
                payload.extend_from_slice(name.as_bytes());
                payload.push(metric.number());
                payload.extend_from_slice(model);
                // It fits: the frame is as large as the longest name and the largest series.
                let _ = frame::push(&mut bytes, &payload, MAX_FRAME);
            }
        }
        bytes
    }

    /// For the workloads that are configured by now. How many series are known again.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<usize, MemoryFault> {
        let (payloads, torn) = frame::until_damage(MAGIC, bytes, MAX_FRAME).ok_or(MemoryFault::Foreign)?;
        if torn > 0 {
            return Err(MemoryFault::Damaged);
        }
        let mut read = Vec::with_capacity(payloads.len());
        for payload in payloads {
            let (name, metric, model) = parts(payload).ok_or(MemoryFault::Damaged)?;
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
        Ok(known)
    }
}

fn parts(payload: &[u8]) -> Option<(&str, Metric, &[u8])> {
    let (length, rest) = payload.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (metric, model) = rest.split_first()?;
    Some((std::str::from_utf8(name).ok()?, Metric::of_number(*metric)?, model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foresight::{Event, Measured};
    use crate::metric::Reading;
    use crate::wish::Wish;
    use hearth_predictor::Seconds;

    fn configured(tick_s: u32) -> Foresight {
        let wish = Wish { name: "web".to_owned(), rests_on: Vec::new(), scaling: None, memory_mib: 64 };
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
        let measured = Measured { workload: "web".to_owned(), reading: host, serving: 1 };
        let at = Seconds(u64::from(tick) * 10);
        let _ = foresight.step(Event::Measured { at, host, workloads: vec![measured] });
    }

    #[test]
    fn what_was_learnt_goes_on_after_a_restart() {
        let mut before = fed();
        let mut after = configured(10);
        assert_eq!(after.restore(&before.save()), Ok(3), "of the host, cpu; of the workload, restarts too");
        for tick in 120..180 {
            feed(&mut before, tick);
            feed(&mut after, tick);
        }
        let models = |foresight: &Foresight| foresight.save();
        assert_eq!(models(&before), models(&after));
    }

    #[test]
    fn what_is_not_whole_or_of_another_pace_is_refused_and_changes_nothing() {
        let saved = fed().save();
        let mut other = configured(10);
        let empty = other.save();
        assert_eq!(other.restore(&saved[..saved.len() - 1]), Err(MemoryFault::Damaged));
        assert_eq!(other.restore(b"nonsense and more of it"), Err(MemoryFault::Foreign));
        assert_eq!(other.save(), empty);
        assert_eq!(configured(5).restore(&saved), Err(MemoryFault::Pace));
    }
}
