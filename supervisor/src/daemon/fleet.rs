//! What the fleet wants of the loop.
//!
//! Duty: its desired state and its commands, as if a person had changed a file or asked. Not here: whether it may
//! (`hearth-fleet`).
//! Invariant: every order is answered once; what cannot be taken whole changes nothing.

use hearth_core::{Event, Request};
use hearth_fleet::tree::{Desired, News, Operation, Order, Outcome};

use super::Daemon;
use crate::fleet::{Fleet, share};

/// Faults that are told.
const MAX_FAULTS: usize = 32;

impl Daemon {
    pub(super) fn show_fleet(&mut self) {
        let now = self.now();
        if let Some(fleet) = &mut self.fleet {
            fleet.show(&self.core, now, &self.events, &self.setup);
        }
    }

    pub(super) fn fleet_wants(&mut self, order: Order) {
        let news = match order {
            Order::Desired(desired) => {
                Some(News::Desired { version: desired.version(), outcome: self.take_in(&desired) })
            }
            Order::Run { id, operation } => {
                self.run_for_fleet(operation).map(|outcome| News::Ended { id, outcome })
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

    /// `None`: the daemon ends with it, and the next one sees what became of it.
    fn run_for_fleet(&mut self, operation: Operation) -> Option<Outcome> {
        if self.asked_to_stop {
            return Some(Outcome::Failed("the box is stopping".to_owned()));
        }
        let ends_it = operation.ends_the_daemon();
        let of = |name: &str| self.core.id_of(name).ok_or_else(|| format!("there is no workload {name}"));
        let request = match operation {
            Operation::Reboot => Ok(Request::Reboot),
            Operation::RestartWorkload { workload } => of(&workload).map(Request::Restart),
            Operation::Rollback { workload } => of(&workload).map(Request::UndoRollout),
            Operation::Snapshot { .. }
            | Operation::SetLogLevel(_)
            | Operation::Cancel { .. }
            | Operation::Stream(_) => Err("it is not supported".to_owned()),
        };
        match request {
            Ok(request) => {
                self.apply(Event::Ask(request));
                (!ends_it).then_some(Outcome::Done)
            }
            Err(reason) => Some(Outcome::Failed(reason)),
        }
    }

    pub(super) async fn next_order(fleet: Option<&Fleet>) -> Order {
        match fleet {
            Some(fleet) => fleet.next_order().await,
            None => smol::future::pending().await,
        }
    }
}
