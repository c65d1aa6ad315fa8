//! The workload's life inside the guest, and so the guest's own.
//!
//! Duty: decide when to start, stop, kill and restart the workload, and when the guest ends.
//! Not its duty: carrying any of it out, or reading a clock.
//! Invariant: at most one action per event, and `Finished` is final.
//!
//! ```text
//! Fresh --Boot--> Starting --Started--> Running --StopAsked--> Stopping --late--> Killing
//!                  ^    |                  |                      |                  |
//!                  |    +------Ended-------+                    Ended           Ended or late
//!                  |             |                                |                  |
//!                  |             +--when_done poweroff, reboot----+------------------+---> Finished
//!                  |             +--when_done stay--> Staying --StopAsked------------^
//!  Running --RestartAsked--> Replacing --Ended--> Starting      Replacing --StopAsked--> Stopping
//!  Resting, Staying --RestartAsked--> Starting
//!                  +----due--- Resting <--when_done restart--+    Resting --StopAsked--^
//! ```

use crate::clock::Uptime;
use hearth_config::guest::WhenDone;
use std::time::Duration;

/// From one end to the next start, at least: a workload that ends at once would otherwise keep the CPU busy
/// with starting it. Doubles with every quick end in a row.
const REST_FLOOR: Duration = Duration::from_secs(1);

/// And at most, so that a workload that was only waiting for something gets its chance soon.
const REST_CEILING: Duration = Duration::from_secs(30);

/// A workload that ran this long was all right; its end is not counted as a quick one.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// From SIGKILL to giving up. A process in the middle of an uninterruptible read survives it; the guest's end
/// must not wait for that.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Longest grace that is granted: a host that asks for more means "for ever", and that is no shutdown.
const MAX_GRACE: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Boot,
    Started,
    /// Also when it could not be started.
    Ended,
    StopAsked {
        grace: Duration,
    },
    /// The host wants the workload to begin anew.
    RestartAsked {
        grace: Duration,
    },
    Tick,
}

/// What the shell has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Answer with `Started` or `Ended`.
    Start,
    AskToStop,
    Kill,
    Finish(Ending),
}

/// How the guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    PowerOff,
    Reboot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Starting,
    Running {
        since: Uptime,
    },
    Resting {
        until: Uptime,
    },
    Staying,
    /// Asked to end; `None` once it was killed, too.
    Replacing {
        kill_at: Option<Uptime>,
    },
    Stopping {
        kill_at: Uptime,
    },
    Killing {
        give_up_at: Uptime,
    },
    Finished,
}

#[derive(Debug)]
pub(crate) struct Lifecycle {
    state: State,
    when_done: WhenDone,
    /// In a row.
    quick_ends: u32,
}

impl Lifecycle {
    pub(crate) const fn new(when_done: WhenDone) -> Self {
        Self { state: State::Fresh, when_done, quick_ends: 0 }
    }

    /// When a `Tick` is due.
    pub(crate) const fn deadline(&self) -> Option<Uptime> {
        match self.state {
            State::Resting { until } => Some(until),
            State::Replacing { kill_at } => kill_at,
            State::Stopping { kill_at } => Some(kill_at),
            State::Killing { give_up_at } => Some(give_up_at),
            State::Fresh | State::Starting | State::Running { .. } | State::Staying | State::Finished => None,
        }
    }

    #[must_use = "an action that is not carried out leaves the guest hanging"]
    pub(crate) fn step(&mut self, now: Uptime, event: Event) -> Option<Action> {
        match (self.state, event) {
            (State::Fresh, Event::Boot) => self.start(),
            (State::Starting, Event::Started) => {
                self.state = State::Running { since: now };
                None
            }
            (State::Starting, Event::Ended) => self.ended(now, now),
            (State::Running { since }, Event::Ended) => self.ended(now, since),
            (State::Running { .. }, Event::StopAsked { grace }) => {
                self.state = State::Stopping { kill_at: now.after(grace.min(MAX_GRACE)) };
                Some(Action::AskToStop)
            }
            (State::Running { .. }, Event::RestartAsked { grace }) => {
                self.state = State::Replacing { kill_at: Some(now.after(grace.min(MAX_GRACE))) };
                Some(Action::AskToStop)
            }
            (State::Resting { .. } | State::Staying, Event::RestartAsked { .. })
            | (State::Replacing { .. }, Event::Ended) => self.start(),
            (State::Replacing { kill_at: Some(kill_at) }, Event::Tick) if now >= kill_at => {
                self.state = State::Replacing { kill_at: None };
                Some(Action::Kill)
            }
            (State::Replacing { .. }, Event::StopAsked { grace }) => {
                self.state = State::Stopping { kill_at: now.after(grace.min(MAX_GRACE)) };
                Some(Action::AskToStop)
            }
            (State::Stopping { kill_at }, Event::StopAsked { grace }) => {
                // Asking again may hurry it, never delay it.
                self.state = State::Stopping { kill_at: kill_at.min(now.after(grace)) };
                None
            }
            (State::Stopping { kill_at }, Event::Tick) if now >= kill_at => {
                self.state = State::Killing { give_up_at: now.after(KILL_PATIENCE) };
                Some(Action::Kill)
            }
            (State::Resting { until }, Event::Tick) if now >= until => self.start(),
            (State::Killing { give_up_at }, Event::Tick) if now >= give_up_at => {
                self.finish(Ending::PowerOff)
            }
            (State::Stopping { .. } | State::Killing { .. }, Event::Ended)
            | (
                State::Fresh | State::Starting | State::Resting { .. } | State::Staying,
                Event::StopAsked { .. },
            ) => self.finish(Ending::PowerOff),
            _ => None,
        }
    }

    fn start(&mut self) -> Option<Action> {
        self.state = State::Starting;
        Some(Action::Start)
    }

    fn finish(&mut self, ending: Ending) -> Option<Action> {
        self.state = State::Finished;
        Some(Action::Finish(ending))
    }

    fn ended(&mut self, now: Uptime, since: Uptime) -> Option<Action> {
        match self.when_done {
            WhenDone::PowerOff => self.finish(Ending::PowerOff),
            WhenDone::Reboot => self.finish(Ending::Reboot),
            WhenDone::Stay => {
                self.state = State::Staying;
                None
            }
            WhenDone::Restart => {
                if since.until(now) >= SETTLED_AFTER {
                    self.quick_ends = 0;
                }
                let rest = REST_FLOOR.saturating_mul(2_u32.saturating_pow(self.quick_ends)).min(REST_CEILING);
                self.quick_ends = self.quick_ends.saturating_add(1);
                self.state = State::Resting { until: now.after(rest) };
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: fn(u64) -> Uptime = Uptime::at_millis;

    fn stop(grace_ms: u64) -> Event {
        Event::StopAsked { grace: Duration::from_millis(grace_ms) }
    }

    fn running(when_done: WhenDone) -> Lifecycle {
        let mut life = Lifecycle::new(when_done);
        assert_eq!(life.step(AT(0), Event::Boot), Some(Action::Start));
        assert_eq!(life.step(AT(0), Event::Started), None);
        life
    }

    #[test]
    fn the_end_of_the_workload_ends_the_guest_as_asked() {
        for (when_done, ending) in
            [(WhenDone::PowerOff, Ending::PowerOff), (WhenDone::Reboot, Ending::Reboot)]
        {
            let mut life = running(when_done);
            assert_eq!(life.step(AT(5), Event::Ended), Some(Action::Finish(ending)));
            assert_eq!(life.step(AT(6), stop(0)), None, "finished is final");
        }
    }

    #[test]
    fn the_host_may_have_the_workload_begin_anew_whatever_its_end_would_mean() {
        let restart = Event::RestartAsked { grace: Duration::from_millis(5) };
        let mut life = running(WhenDone::PowerOff);
        assert_eq!(life.step(AT(10), restart), Some(Action::AskToStop));
        assert_eq!(life.step(AT(11), restart), None, "once is enough");
        assert_eq!(life.deadline(), Some(AT(15)));
        assert_eq!(life.step(AT(15), Event::Tick), Some(Action::Kill));
        assert_eq!((life.deadline(), life.step(AT(16), Event::Tick)), (None, None));
        assert_eq!(life.step(AT(17), Event::Ended), Some(Action::Start));
        assert_eq!(life.step(AT(17), Event::Started), None);
        assert_eq!(life.step(AT(20), restart), Some(Action::AskToStop));
        assert_eq!(life.step(AT(21), stop(100)), Some(Action::AskToStop));
        assert_eq!(life.step(AT(22), Event::Ended), Some(Action::Finish(Ending::PowerOff)));
        let mut ended = running(WhenDone::Stay);
        assert_eq!(ended.step(AT(5), Event::Ended), None);
        assert_eq!(ended.step(AT(6), restart), Some(Action::Start));
    }

    #[test]
    fn a_workload_that_cannot_start_has_ended() {
        let mut life = Lifecycle::new(WhenDone::PowerOff);
        assert_eq!(life.step(AT(0), Event::Boot), Some(Action::Start));
        assert_eq!(life.step(AT(0), Event::Ended), Some(Action::Finish(Ending::PowerOff)));
    }

    #[test]
    fn a_guest_that_stays_waits_to_be_stopped() {
        let mut life = running(WhenDone::Stay);
        assert_eq!(life.step(AT(5), Event::Ended), None);
        assert_eq!(life.deadline(), None);
        assert_eq!(life.step(AT(9), stop(10)), Some(Action::Finish(Ending::PowerOff)));
    }

    #[test]
    fn quick_ends_make_rests_longer_up_to_a_ceiling_and_a_long_run_resets_them() {
        let mut life = running(WhenDone::Restart);
        let mut now = 0;
        let mut rests = Vec::new();
        for _ in 0..7 {
            assert_eq!(life.step(AT(now), Event::Ended), None);
            let until = life.deadline().expect("rests");
            let rest = until.as_millis() - now;
            assert_eq!(life.step(AT(now + rest - 1), Event::Tick), None, "not before its time");
            assert_eq!(life.step(until, Event::Tick), Some(Action::Start));
            assert_eq!(life.step(until, Event::Started), None);
            rests.push(rest / 1000);
            now += rest;
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30]);
        now += 10_000;
        assert_eq!(life.step(AT(now), Event::Ended), None);
        assert_eq!(life.deadline(), Some(AT(now + 1000)));
        assert_eq!(
            life.step(AT(now), stop(0)),
            Some(Action::Finish(Ending::PowerOff)),
            "stopped while resting"
        );
    }

    #[test]
    fn stop_is_a_signal_then_a_kill_then_the_end_without_it() {
        let mut life = running(WhenDone::Restart);
        assert_eq!(life.step(AT(0), stop(500)), Some(Action::AskToStop));
        assert_eq!(life.step(AT(499), Event::Tick), None);
        assert_eq!(life.step(AT(500), Event::Tick), Some(Action::Kill));
        assert_eq!(life.step(AT(2499), Event::Tick), None);
        assert_eq!(life.step(AT(2500), Event::Tick), Some(Action::Finish(Ending::PowerOff)));
    }

    #[test]
    fn an_end_after_the_stop_signal_powers_off_whatever_the_policy() {
        for when_done in [WhenDone::Restart, WhenDone::Reboot, WhenDone::Stay] {
            let mut life = running(when_done);
            assert_eq!(life.step(AT(0), stop(500)), Some(Action::AskToStop));
            assert_eq!(life.step(AT(9), Event::Ended), Some(Action::Finish(Ending::PowerOff)));
        }
    }

    #[test]
    fn asking_again_can_only_hurry() {
        let mut life = running(WhenDone::PowerOff);
        assert_eq!(life.step(AT(0), stop(5000)), Some(Action::AskToStop));
        assert_eq!(life.step(AT(1), stop(9000)), None);
        assert_eq!(life.deadline(), Some(AT(5000)));
        assert_eq!(life.step(AT(2), stop(8)), None);
        assert_eq!(life.deadline(), Some(AT(10)));
    }

    #[test]
    fn an_endless_grace_ends() {
        let mut life = running(WhenDone::PowerOff);
        assert_eq!(life.step(AT(0), stop(u64::MAX)), Some(Action::AskToStop));
        assert_eq!(life.deadline(), Some(AT(3_600_000)));
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            Just(Event::Started),
            Just(Event::Ended),
            Just(Event::Tick),
            (0..5000_u64).prop_map(stop)
        ];
        proptest::collection::vec(event, 0..40)
    }

    proptest! {
        #[test]
        fn after_a_stop_deadlines_alone_lead_to_the_end(
            before in events(),
            when_done in prop_oneof![
                Just(WhenDone::PowerOff), Just(WhenDone::Reboot), Just(WhenDone::Restart), Just(WhenDone::Stay)
            ],
        ) {
            let mut life = Lifecycle::new(when_done);
            let mut finished = 0;
            let mut count = |action| finished += u32::from(matches!(action, Some(Action::Finish(_))));
            count(life.step(AT(0), Event::Boot));
            let mut now = AT(0);
            for event in before {
                now = now.after(Duration::from_millis(700));
                count(life.step(now, event));
            }
            count(life.step(now, stop(100)));
            for _ in 0..3 {
                let Some(deadline) = life.deadline() else { break };
                now = now.max(deadline);
                count(life.step(now, Event::Tick));
            }
            prop_assert_eq!(finished, 1);
        }
    }
}
