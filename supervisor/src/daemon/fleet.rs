//! What the fleet wants of the loop.
//!
//! Duty: its desired state and its commands, as if a person had changed a file or asked. Not here: whether it may
//! (`hearth-fleet`).
//! Invariant: every order is answered once; what cannot be taken whole changes nothing.

use hearth_config::device::LogLevel;
use hearth_core::{Event, Request};
use hearth_fleet::sign::Role;
use hearth_fleet::tree::{self, Desired, News, Operation, Order, Outcome, Stream};

use super::Daemon;
use crate::fleet::{Fleet, remote, share, take_snapshot};

/// Faults that are told.
const MAX_FAULTS: usize = 32;

impl Daemon {
    pub(super) fn show_fleet(&mut self) {
        let now = self.now();
        if let Some(fleet) = &mut self.fleet {
            fleet.show(&self.core, now, &self.events, &self.setup, &self.lookout.outlooks());
        }
    }

    pub(super) fn fleet_wants(&mut self, order: Order) {
        let news = match order {
            Order::Desired(desired) => {
                Some(News::Desired { version: desired.version(), outcome: self.take_in(&desired) })
            }
            Order::Run { id, operation } => {
                self.run_for_fleet(&id, operation).map(|outcome| News::Ended { id, outcome })
            }
        };
        if let (Some(news), Some(fleet)) = (news, &self.fleet) {
            // First how things stand now: an answer beside what stood before would be about something else.
            fleet.look(&self.core, &self.setup);
            fleet.tell(news);
        }
    }

    fn take_in(&mut self, desired: &Desired) -> Result<Vec<String>, Vec<String>> {
        if self.asked_to_stop {
            return Err(vec!["the box is stopping".to_owned()]);
        }
        let lines = |text: String| text.lines().take(MAX_FAULTS).map(str::to_owned).collect::<Vec<_>>();
        let mut new = self
            .setup
            .sharing(share(desired, &self.setup.device))
            .map_err(|faults| lines(faults.to_string()))?;
        new.look_at_images(&mut self.contents);
        let conflicts = new.conflicts.clone();
        self.console.say(&format!("fleet: version {} of its desired state is followed", desired.version()));
        self.follow(new);
        Ok(conflicts)
    }

    /// `None`: it takes its time and tells of its end itself, or the daemon ends with it and the next one sees what
    /// became of it.
    fn run_for_fleet(&mut self, id: &str, operation: Operation) -> Option<Outcome> {
        if self.asked_to_stop {
            return Some(Outcome::Failed("the box is stopping".to_owned()));
        }
        let ends_it = operation.ends_the_daemon();
        let of = |name: &str| self.core.id_of(name).ok_or_else(|| format!("there is no workload {name}"));
        let request = match operation {
            Operation::Reboot => Ok(Request::Reboot),
            Operation::RestartWorkload { workload } => of(&workload).map(Request::Restart),
            Operation::Rollback { workload } => of(&workload).map(Request::UndoRollout),
            Operation::SetLogLevel(level) => return Some(self.set_log_level(level)),
            Operation::Cancel { of } => return self.fleet.as_ref().map(|fleet| fleet.streams.cancel(&of)),
            Operation::Stream(stream) => return self.stream_for_fleet(id, *stream),
            Operation::Snapshot { workload, name } => {
                let (fleet, door) = self.fleet.as_ref().zip(self.door.clone())?;
                let id = id.to_owned();
                take_snapshot(&self.executor, door, fleet.speaker(), id, workload, name);
                return None;
            }
        };
        match request {
            Ok(request) => {
                self.apply(Event::Ask(request));
                (!ends_it).then_some(Outcome::Done)
            }
            Err(reason) => Some(Outcome::Failed(reason)),
        }
    }

    /// Its file may say something else by now than when the command came in.
    fn stream_for_fleet(&self, id: &str, stream: Stream) -> Option<Outcome> {
        let (fleet, door) = self.fleet.as_ref().zip(self.door.clone())?;
        let name = stream.workload();
        let Some(workload) = self.setup.workload(name) else {
            return Some(Outcome::Rejected(format!("there is no workload {name}")));
        };
        let signed: Vec<Role> = stream.role.into_iter().collect();
        if let Err(reason) = remote(workload).admit(stream.kind(), name, &signed) {
            return Some(Outcome::Rejected(reason));
        }
        fleet.streams.begin(&self.executor, door, fleet.speaker(), id.to_owned(), stream)
    }

    fn set_log_level(&self, level: tree::LogLevel) -> Outcome {
        let (level, name) = match level {
            tree::LogLevel::Output => (LogLevel::Output, "output"),
            tree::LogLevel::Info => (LogLevel::Info, "info"),
            tree::LogLevel::Alarm => (LogLevel::Alarm, "alarm"),
        };
        // Before: afterwards it may be of no interest.
        self.console.say(&format!("fleet: from here on {name} and what matters more is printed"));
        self.console.set_level(level);
        Outcome::Done
    }

    pub(super) async fn next_order(fleet: Option<&Fleet>) -> Order {
        match fleet {
            Some(fleet) => fleet.next_order().await,
            None => smol::future::pending().await,
        }
    }
}
