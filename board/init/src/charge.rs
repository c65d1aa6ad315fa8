//! The one process that this box is about: `hearthd`, or a program from the kernel command line.
//!
//! ```text
//!          +------ delay over ------+
//!          v                        |
//! start -> Running --daemon died--> Waiting
//!          |  \                     |
//!          |   +--program ended, or the daemon wants a reboot--> Off
//!          | power off              | power off     ^
//!          v                        +---------------+
//!        Stopping --it ended------------------------+
//!          | too slow                               |
//!          v                                        |
//!        Killing --it ended, or too slow------------+
//! ```
//!
//! Duty: decide. Pure: time comes in, actions go out. Not here: processes, signals, clocks.
//! Invariant: once power-off is wanted the charge is never started again, and `Off` is reached.

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use hearth_core::Moment;

use crate::again::Ends;

/// `hearthd` has deadlines of its own for every workload; this one only ends a hang of `hearthd` itself.
pub(crate) const STOP: Duration = Duration::from_secs(180);
/// Somebody asked twice.
pub(crate) const STOP_IN_A_HURRY: Duration = Duration::from_secs(15);
/// After SIGKILL; only a process stuck in the kernel takes that long.
pub(crate) const KILL: Duration = Duration::from_secs(5);
/// The status of a daemon that has stopped everything and wants the box to boot again.
pub(crate) const REBOOT: i32 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Kept alive; a program beside it runs once, and its end is the box's.
    Daemon { daemon: Vec<OsString>, beside: Option<Vec<OsString>> },
    /// Run once.
    Program(Vec<OsString>),
}

impl Command {
    pub(crate) fn words(&self) -> &[OsString] {
        match self {
            Command::Daemon { daemon: words, .. } | Command::Program(words) => words,
        }
    }

    pub(crate) fn beside(&self) -> Option<&[OsString]> {
        match self {
            Command::Daemon { beside, .. } => beside.as_deref(),
            Command::Program(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
    /// One that has a number only.
    NamelessSignal,
    /// It could not be started.
    NotStarted,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Code(code) => write!(f, "exit {code}"),
            Ended::Signal(signal) => write!(f, "signal {signal}"),
            Ended::NamelessSignal => f.write_str("a real-time signal"),
            Ended::NotStarted => f.write_str("not started"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time passed.
    Tick,
    Ended(Ended),
    /// A person or a signal wants the box off.
    PowerOff,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Terminate,
    Kill,
    Say(String),
    /// Sync and switch off. The last.
    SwitchOff,
    /// Sync and boot again. The last.
    BootAgain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running { since: Moment },
    Waiting { until: Moment },
    Stopping { deadline: Moment },
    Killing { deadline: Moment },
    Off,
}

#[derive(Debug)]
pub(crate) struct Charge {
    once: bool,
    phase: Phase,
    ends: Ends,
}

impl Charge {
    /// The first step, [`Event::Tick`], starts it.
    pub(crate) fn new(command: &Command) -> Charge {
        let once = matches!(command, Command::Program(_));
        Charge { once, phase: Phase::Waiting { until: Moment::START }, ends: Ends::default() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Stopping { deadline } | Phase::Killing { deadline } => Some(deadline),
            Phase::Running { .. } | Phase::Off => None,
        }
    }

    #[must_use = "actions that nobody carries out leave this behind the world"]
    pub(crate) fn step(&mut self, now: Moment, event: Event) -> Vec<Action> {
        match (event, self.phase) {
            (Event::Ended(ended), Phase::Running { since }) => self.ended(now, since, ended),
            (Event::Ended(_), Phase::Stopping { .. } | Phase::Killing { .. }) => self.off(),
            (Event::PowerOff, Phase::Running { .. }) => {
                self.phase = Phase::Stopping { deadline: now.after(STOP) };
                vec![Action::Say("powering off".into()), Action::Terminate]
            }
            // The second signal tells hearthd to kill its workloads.
            (Event::PowerOff, Phase::Stopping { deadline }) => {
                self.phase = Phase::Stopping { deadline: deadline.min(now.after(STOP_IN_A_HURRY)) };
                vec![Action::Terminate]
            }
            (Event::PowerOff, Phase::Waiting { .. }) => self.off(),
            (Event::Tick, Phase::Waiting { until }) if until <= now => {
                self.phase = Phase::Running { since: now };
                vec![Action::Start]
            }
            (Event::Tick, Phase::Stopping { deadline }) if deadline <= now => {
                self.phase = Phase::Killing { deadline: now.after(KILL) };
                vec![Action::Say("it does not stop, SIGKILL follows".into()), Action::Kill]
            }
            (Event::Tick, Phase::Killing { deadline }) if deadline <= now => self.off(),
            (Event::Tick | Event::Ended(_) | Event::PowerOff, _) => Vec::new(),
        }
    }

    fn ended(&mut self, now: Moment, since: Moment, ended: Ended) -> Vec<Action> {
        if self.once {
            let mut actions = vec![Action::Say(format!("program ended: {ended}"))];
            actions.extend(self.off());
            return actions;
        }
        if ended == Ended::Code(REBOOT) {
            self.phase = Phase::Off;
            return vec![Action::Say("hearthd wants the box to boot again".into()), Action::BootAgain];
        }
        // One that ran well is missed at once: nobody looks after its workloads.
        let wait = self.ends.wait_after(now.since(since));
        self.phase = Phase::Waiting { until: now.after(wait) };
        vec![Action::Say(format!("hearthd ended: {ended}; again in {:.1} s", wait.as_secs_f64()))]
    }

    fn off(&mut self) -> Vec<Action> {
        self.phase = Phase::Off;
        vec![Action::SwitchOff]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::since_start(Duration::from_millis(millis))
    }

    fn daemon() -> Charge {
        let mut charge = Charge::new(&Command::Daemon { daemon: vec![], beside: None });
        assert_eq!(charge.step(at(0), Event::Tick), [Action::Start]);
        charge
    }

    fn say(text: &str) -> Action {
        Action::Say(text.into())
    }

    #[test]
    fn a_daemon_that_dies_is_started_again_after_a_wait_that_doubles_up_to_its_limit() {
        let mut charge = daemon();
        let mut now = 0;
        for (wait, shown) in [
            (500, "0.5"),
            (1000, "1.0"),
            (2000, "2.0"),
            (4000, "4.0"),
            (8000, "8.0"),
            (16000, "16.0"),
            (30000, "30.0"),
            (30000, "30.0"),
        ] {
            let told = charge.step(at(now), Event::Ended(Ended::Signal(11)));
            assert_eq!(told, [say(&format!("hearthd ended: signal 11; again in {shown} s"))]);
            assert_eq!(charge.next_deadline(), Some(at(now + wait)));
            assert_eq!(charge.step(at(now + wait - 1), Event::Tick), []);
            assert_eq!(charge.step(at(now + wait), Event::Tick), [Action::Start]);
            now += wait;
        }
        now += 60_000;
        let told = charge.step(at(now), Event::Ended(Ended::Code(0)));
        assert_eq!(
            told,
            [say("hearthd ended: exit 0; again in 0.0 s")],
            "after a steady run it is missed at once"
        );
        assert_eq!(charge.step(at(now), Event::Tick), [Action::Start]);
        let told = charge.step(at(now), Event::Ended(Ended::Code(1)));
        assert_eq!(told, [say("hearthd ended: exit 1; again in 0.5 s")], "and then the waits begin anew");
    }

    #[test]
    fn a_program_runs_once_and_its_end_switches_the_box_off() {
        let mut charge = Charge::new(&Command::Program(vec![]));
        assert_eq!(charge.step(at(0), Event::Tick), [Action::Start]);
        let told = charge.step(at(9), Event::Ended(Ended::Code(7)));
        assert_eq!(told, [say("program ended: exit 7"), Action::SwitchOff]);
        assert_eq!(charge.next_deadline(), None);
    }

    #[test]
    fn a_daemon_that_wants_a_reboot_gets_it_unless_somebody_wants_the_box_off() {
        let mut charge = daemon();
        let told = charge.step(at(1), Event::Ended(Ended::Code(REBOOT)));
        assert_eq!(told, [say("hearthd wants the box to boot again"), Action::BootAgain]);
        assert_eq!(charge.next_deadline(), None);
        let mut charge = daemon();
        let _ = charge.step(at(1), Event::PowerOff);
        assert_eq!(charge.step(at(2), Event::Ended(Ended::Code(REBOOT))), [Action::SwitchOff]);
        let mut program = Charge::new(&Command::Program(vec![]));
        let _ = program.step(at(0), Event::Tick);
        let told = program.step(at(9), Event::Ended(Ended::Code(REBOOT)));
        assert_eq!(told[1], Action::SwitchOff, "a program's status is its own");
    }

    #[test]
    fn power_off_asks_and_then_switches_off() {
        let mut charge = daemon();
        assert_eq!(charge.step(at(1), Event::PowerOff), [say("powering off"), Action::Terminate]);
        assert_eq!(charge.step(at(2), Event::Ended(Ended::Code(0))), [Action::SwitchOff]);
        assert_eq!(charge.step(at(3), Event::PowerOff), []);
    }

    #[test]
    fn a_daemon_that_hangs_is_killed_and_the_box_goes_off_in_any_case() {
        let mut charge = daemon();
        let _ = charge.step(at(0), Event::PowerOff);
        let stop = at(0).after(STOP);
        assert_eq!(charge.next_deadline(), Some(stop));
        assert_eq!(charge.step(stop, Event::Tick), [say("it does not stop, SIGKILL follows"), Action::Kill]);
        assert_eq!(charge.step(stop.after(KILL), Event::Tick), [Action::SwitchOff]);
    }

    #[test]
    fn asking_twice_asks_the_daemon_twice_and_waits_less() {
        let mut charge = daemon();
        let _ = charge.step(at(0), Event::PowerOff);
        assert_eq!(charge.step(at(5), Event::PowerOff), [Action::Terminate]);
        assert_eq!(charge.next_deadline(), Some(at(5).after(STOP_IN_A_HURRY)));
    }

    #[test]
    fn power_off_between_two_starts_is_at_once() {
        let mut charge = daemon();
        let _ = charge.step(at(0), Event::Ended(Ended::NotStarted));
        assert_eq!(charge.step(at(1), Event::PowerOff), [Action::SwitchOff]);
        assert_eq!(charge.step(at(9999), Event::Tick), [], "nothing starts any more");
    }
}
