//! A guest that is brought up to become a template: warm, still, and written down.
//!
//! Duty: which step follows which, and what stands in its way. Not its duty: the agent's words (`warm_up.rs`), the
//! steps themselves (`conductor.rs`).
//!
//! ```text
//!   Warming ──still──▶ Pausing ──paused──▶ Saving ──on stable storage──▶ Over(its folder)
//!      └── not warm in time, warm-up failed, cannot rest, cannot be written ──▶ Over(why)
//! ```
//!
//! Invariant: once it is over, the machine is ended; nothing of it runs beside its copies.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::conductor::lock;
use super::life::Verdict;
use super::warm_up::{WarmUp, Warmth};
use crate::control::Ticket;

/// Where a template goes, and what it is of.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder that it becomes a folder of.
    pub parent: PathBuf,
    /// Its name there. What has the name is replaced.
    pub name: String,
    /// What it was made of.
    pub key: String,
}

/// Nobody on the control socket has this one.
pub(super) const TICKET: Ticket = Ticket { client: u32::MAX, request: 0 };

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Warming,
    Pausing,
    Paused,
    Saving,
    Over(Result<PathBuf, String>),
}

/// What the machine is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    Pause,
    Save,
    End,
}

/// The way to one template.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) place: Place,
    warm_up: Arc<Mutex<WarmUp>>,
    within: Duration,
    until: Option<Instant>,
    stage: Stage,
    ended: bool,
}

impl Template {
    pub(super) const fn new(place: Place, warm_up: Arc<Mutex<WarmUp>>, within: Duration) -> Self {
        Self { place, warm_up, within, until: None, stage: Stage::Warming, ended: false }
    }

    /// When the guest must be warm.
    pub(super) fn due(&self) -> Option<Instant> {
        self.until.filter(|_| self.stage == Stage::Warming)
    }

    /// Looks at what has become of the guest. Each step is told once.
    pub(super) fn attend(&mut self, now: Instant) -> Next {
        let until = *self.until.get_or_insert(now + self.within);
        if self.stage == Stage::Warming {
            let warmth = lock(&self.warm_up).warmth().clone();
            match warmth {
                Warmth::Still => {
                    self.stage = Stage::Pausing;
                    return Next::Pause;
                }
                Warmth::Failed(why) => self.fail(why),
                Warmth::Cold | Warmth::Warm if now >= until => {
                    let seconds = self.within.as_secs();
                    self.fail(format!("the guest's agent did not say that it is warm within {seconds} s"));
                }
                Warmth::Cold | Warmth::Warm => {}
            }
        }
        match self.stage {
            Stage::Paused => {
                self.stage = Stage::Saving;
                Next::Save
            }
            Stage::Over(_) if !self.ended => {
                self.ended = true;
                Next::End
            }
            _ => Next::Wait,
        }
    }

    fn fail(&mut self, why: String) {
        self.stage = Stage::Over(Err(why));
    }

    /// What became of the step that was asked for.
    pub(super) fn answered(&mut self, verdict: Verdict) {
        match (&self.stage, verdict) {
            (Stage::Pausing, Verdict::Done) => self.stage = Stage::Paused,
            (Stage::Pausing | Stage::Saving, _) => self.fail("the machine did not come to rest".to_owned()),
            _ => {}
        }
    }

    /// What became of the snapshot.
    pub(super) fn written(&mut self, result: Result<PathBuf, String>) {
        self.stage = Stage::Over(result);
    }

    /// What came of it all.
    pub(super) fn outcome(self) -> Result<PathBuf, String> {
        match self.stage {
            Stage::Over(result) => result,
            _ => Err("the guest ended before it was a template".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(warmth: Warmth) -> Template {
        let place = Place { parent: "t".into(), name: "web".into(), key: String::new() };
        Template::new(place, Arc::new(Mutex::new(WarmUp::of(warmth))), Duration::from_secs(60))
    }

    #[test]
    fn a_still_guest_is_paused_written_down_and_ended() {
        let now = Instant::now();
        let mut template = template(Warmth::Still);
        assert_eq!(template.attend(now), Next::Pause);
        assert_eq!(template.attend(now + Duration::from_secs(600)), Next::Wait, "what is warm has time");
        template.answered(Verdict::Done);
        assert_eq!((template.attend(now), template.attend(now)), (Next::Save, Next::Wait));
        template.written(Ok("t/web".into()));
        assert_eq!((template.attend(now), template.attend(now)), (Next::End, Next::Wait));
        assert_eq!(template.outcome(), Ok("t/web".into()));
    }

    #[test]
    fn what_stands_in_its_way_is_told() {
        let now = Instant::now();
        let mut late = template(Warmth::Cold);
        assert_eq!(late.attend(now), Next::Wait);
        assert_eq!(late.due(), Some(now + Duration::from_secs(60)));
        assert_eq!(late.attend(now + Duration::from_secs(60)), Next::End);
        assert!(late.outcome().unwrap_err().contains("within 60 s"));
        let mut failed = template(Warmth::Failed("its warm-up failed".into()));
        assert_eq!(failed.attend(now), Next::End);
        assert_eq!(failed.outcome(), Err("its warm-up failed".into()));
        let mut restless = template(Warmth::Still);
        assert_eq!(restless.attend(now), Next::Pause);
        restless.answered(Verdict::Refused(hearth_wire::control::Refusal::TooLate));
        assert_eq!(restless.attend(now), Next::End);
        assert!(restless.outcome().unwrap_err().contains("rest"));
        assert!(template(Warmth::Warm).outcome().unwrap_err().contains("ended before"));
    }
}
