//! The default detector: a call is a record of strangeness.
//!
//! Duty: turn a sample into distances, distances into a score, scores into calls that are not repeated.
//! Not here: records themselves. Invariants: a call needs a record in some kind by a margin; after a call there is
//! silence that grows with the length of the history, as rare events are rare in proportion; what happens in the
//! silence still sets records, so a long incident is one call.
//!
//! ```text
//!   settling --WARM_UP samples--> watching --record by the margin--> called
//!                                    ^                                  |
//!                                    +------ silence is over -----------+
//! ```

use core::fmt;

use serde::{Deserialize, Serialize};

use super::records::{Distances, Kind, Records};
use crate::{number, season::Season, time::Seconds};

/// Samples without a call at the start.
const WARM_UP: u32 = 100;
/// Samples that are "some".
const SHORT_SPAN: f32 = 6.0;
/// Silence after a call has at least so many samples.
const SILENCE: f32 = 10.0;

/// What a person may want to turn. All series of a box can share one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Ratio to the record from which on a sample is a call.
    pub margin: f32,
    /// Samples that the level and the deviation cover.
    pub level_span: f32,
    /// Samples that are "many".
    pub long_span: f32,
    /// Added to both sides of a comparison with a record, in standard deviations: beyond a record of nearly nothing, a
    /// little more than nothing is no news.
    pub slack: f32,
    /// Silence after a call, as a share of all samples so far.
    pub silence: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings::USUAL
    }
}

impl Settings {
    pub const USUAL: Settings =
        Settings { margin: 1.045, level_span: 700.0, long_span: 40.0, slack: 0.3, silence: 0.025 };

    /// What is no number, or out of all bounds, is as usual.
    fn tamed(&self) -> Settings {
        let within = |value: f32, least: f32, most: f32, usual: f32| {
            if (least..=most).contains(&value) { value } else { usual }
        };
        let usual = Settings::USUAL;
        Settings {
            margin: within(self.margin, 1.0, 1e3, usual.margin),
            level_span: within(self.level_span, 1.0, 1e6, usual.level_span),
            long_span: within(self.long_span, 1.0, 1e6, usual.long_span),
            slack: within(self.slack, 0.0, 1e3, usual.slack),
            silence: within(self.silence, 0.0, 1.0, usual.silence),
        }
    }
}

/// What a sample is.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Too little is known yet.
    Settling,
    Normal,
    /// A record, but within the margin, or in the silence after a call.
    Odd,
    /// Worth a call.
    Anomaly,
}

/// Why a sample is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    pub kind: Kind,
    pub value: f32,
    /// What was usual, in the unit of the series: the level, or the time's own.
    pub usual: f32,
    /// Ratio to the furthest that it ever was.
    pub ratio: f32,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Reason { kind, value, usual, ratio } = self;
        write!(formatter, "{value:.4} is {kind} ({usual:.4}), {ratio:.2} times its record")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// 0 is nowhere near a record, 0.5 equals it, 1 is infinitely far beyond.
    pub score: f32,
    pub verdict: Verdict,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Detector {
    level: f32,
    variance: f32,
    short: f32,
    long: f32,
    long_off_season: f32,
    records: Records,
    seen: u32,
    /// Samples since the last call.
    since_call: u32,
}

impl Default for Detector {
    fn default() -> Self {
        Detector {
            level: 0.0,
            variance: 0.0,
            short: 0.0,
            long: 0.0,
            long_off_season: 0.0,
            records: Records::default(),
            seen: 0,
            since_call: u32::MAX,
        }
    }
}

impl Detector {
    /// Takes a sample in, before the season learns it. A sample that is no number is none.
    pub(crate) fn observe(
        &mut self,
        settings: &Settings,
        season: &Season,
        at: Seconds,
        value: f32,
    ) -> Option<Finding> {
        let value = number::tame(value)?;
        let settings = settings.tamed();
        let Settings { level_span, long_span, slack, .. } = settings;
        let root = number::signed_root(value);
        if self.seen == 0 {
            (self.level, self.short, self.long) = (root, root, root);
        }
        let usual = usual_at(season, at, root);
        let off_season = usual.map_or(root - self.short, |usual| root - usual);
        self.short = number::blend(self.short, root, self.seen, SHORT_SPAN);
        self.long = number::blend(self.long, root, self.seen, long_span);
        self.long_off_season = number::blend(self.long_off_season, off_season, self.seen, long_span);
        let distances: Distances = [
            root - self.level,
            self.level - root,
            self.short - self.level,
            self.long - self.level,
            self.level - self.long,
            off_season.abs(),
            self.long_off_season.abs(),
        ];
        let (kind, ratio) = self.records.take(&distances, slack * libm::sqrtf(self.variance));
        let about = match kind {
            Kind::OffSeason | Kind::OffSeasonForLong => usual.unwrap_or(self.level),
            _ => self.level,
        };
        let reason = Reason { kind, value, usual: about * about.abs(), ratio };
        let verdict = self.judge(&settings, ratio);
        let away = root - self.level;
        self.level += away * number::rate(self.seen, level_span);
        self.variance = number::blend(self.variance, away * away, self.seen, level_span);
        self.seen = self.seen.saturating_add(1);
        Some(Finding { score: ratio / (1.0 + ratio), verdict, reason })
    }

    fn judge(&mut self, settings: &Settings, ratio: f32) -> Verdict {
        self.since_call = self.since_call.saturating_add(1);
        if self.seen < WARM_UP {
            return Verdict::Settling;
        }
        if ratio <= 1.0 {
            return Verdict::Normal;
        }
        let silence = SILENCE + settings.silence * number::real(self.seen);
        if ratio <= settings.margin || number::real(self.since_call) <= silence {
            return Verdict::Odd;
        }
        self.since_call = 0;
        Verdict::Anomaly
    }

    pub(crate) fn is_sound(&self) -> bool {
        let numbers = [self.level, self.variance, self.short, self.long, self.long_off_season];
        numbers.iter().all(|number| number.is_finite()) && self.variance >= 0.0 && self.records.is_sound()
    }
}

/// What is usual at a time, as a root: the hour of the week where it is known, else the nearest of the slots of the
/// day around it, as a pattern that shifts by a slot is no anomaly.
fn usual_at(season: &Season, at: Seconds, root: f32) -> Option<f32> {
    if let Some(usual) = season.weekly(at) {
        return Some(number::signed_root(usual));
    }
    let mut nearest: Option<f32> = None;
    for usual in season.around(at).into_iter().flatten().map(number::signed_root) {
        if nearest.is_none_or(|nearest| (usual - root).abs() < (nearest - root).abs()) {
            nearest = Some(usual);
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Cadence;

    /// A day of samples in five minutes, high from 9 to 17 o'clock, with a little noise that repeats in no day.
    fn workday(sample: u32) -> f32 {
        let hour = (sample / 12) % 24;
        let noise = (sample.wrapping_mul(2_654_435_761) >> 16) % 100;
        (if (9..17).contains(&hour) { 80.0 } else { 20.0 }) + number::real(noise) * 0.02
    }

    fn run(samples: impl Iterator<Item = f32>) -> Vec<(u32, Finding)> {
        let mut season = Season::new(Cadence::every(300));
        let mut detector = Detector::default();
        let mut findings = Vec::new();
        for (index, value) in samples.enumerate() {
            let index = number::count(index);
            let at = Seconds(u64::from(index) * 300);
            if let Some(finding) = detector.observe(&Settings::USUAL, &season, at, value) {
                findings.push((index, finding));
            }
            season.learn(at, value);
        }
        findings
    }

    fn calls(findings: &[(u32, Finding)]) -> Vec<u32> {
        let called = |finding: &&(u32, Finding)| finding.1.verdict == Verdict::Anomaly;
        findings.iter().filter(called).map(|finding| finding.0).collect()
    }

    #[test]
    fn a_daily_pattern_is_no_anomaly_once_it_was_seen() {
        let calls = calls(&run((0..288 * 14).map(workday)));
        assert!(calls.iter().all(|&call| call < 288 * 2), "{calls:?}");
    }

    #[test]
    fn a_spike_is_called_at_once_and_once() {
        let findings = run((0..288 * 10).map(|sample| match sample {
            2000..2030 => 500.0,
            sample => workday(sample),
        }));
        let late: Vec<u32> = calls(&findings).into_iter().filter(|&call| call > 600).collect();
        assert_eq!(late, [2000]);
        let reason = findings[2000].1.reason;
        assert_eq!(reason.value, 500.0);
        assert!(reason.ratio > 2.0);
    }

    #[test]
    fn a_usual_value_at_an_unusual_time_is_called() {
        let day = 7 * 288;
        let findings = run((0..288 * 9).map(|sample| match sample {
            // A workday's load in the middle of the night.
            sample if (day + 24..day + 60).contains(&sample) => 80.0,
            sample => workday(sample),
        }));
        let late: Vec<u32> = calls(&findings).into_iter().filter(|&call| call > 600).collect();
        assert_eq!(late.len(), 1, "{late:?}");
        let finding = findings[number::index(late[0])].1;
        assert!(matches!(finding.reason.kind, Kind::OffSeason | Kind::OffSeasonForLong), "{finding:?}");
    }

    #[test]
    fn what_is_no_number_changes_nothing() {
        let clean = run((0..1000).map(workday));
        let dirty = (0..1000).flat_map(|sample| [f32::NAN, f32::INFINITY, workday(sample)]);
        let mut season = Season::new(Cadence::every(300));
        let mut detector = Detector::default();
        let mut findings = Vec::new();
        for (index, value) in dirty.enumerate() {
            let at = Seconds(u64::try_from(index / 3).unwrap() * 300);
            if let Some(finding) = detector.observe(&Settings::USUAL, &season, at, value) {
                findings.push(finding);
                season.learn(at, value);
            }
        }
        assert_eq!(findings, clean.into_iter().map(|finding| finding.1).collect::<Vec<_>>());
    }

    #[test]
    fn settings_that_are_no_numbers_are_as_usual() {
        let wild = Settings {
            margin: f32::NAN,
            level_span: 0.0,
            long_span: f32::INFINITY,
            slack: -1.0,
            silence: f32::NAN,
        };
        assert_eq!(wild.tamed(), Settings::USUAL);
        let other = Settings { margin: 2.0, level_span: 50.0, long_span: 10.0, slack: 1.0, silence: 0.0 };
        assert_eq!(other.tamed(), other);
    }

    #[test]
    fn a_reason_reads_like_a_sentence() {
        let reason = Reason { kind: Kind::High, value: 93.0, usual: 40.0, ratio: 1.314 };
        assert_eq!(reason.to_string(), "93.0000 is above its level (40.0000), 1.31 times its record");
    }
}
