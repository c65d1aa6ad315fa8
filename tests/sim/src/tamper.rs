//! A core that is wrong in one way, to see that the checks see it.
//!
//! Duty: change what the core decides on its way into the world. Not here: the checks.
//! Invariant: without a fault chosen nothing is changed.

use hearth_core::{Action, Actions, Announcement, Order};

use crate::chance::Chance;
use crate::daemon::Daemon;
use crate::trouble::Trouble;

/// One way to be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tamper {
    #[default]
    None,
    /// Sends a second start for some identities.
    StartsTwice,
    /// Ends machines for no reason.
    TouchesHealthy,
    /// Orders more restarts than were granted.
    Storms,
    /// Never says that something is quarantined.
    HidesQuarantine,
    /// Pets whenever it does anything.
    PetsAlways,
    /// Forgets some pets.
    Starves,
    /// Forgets that starts were decided.
    ForgetsStarts,
    /// Writes a journal that is not what happened.
    LosesJournal,
    /// Never says that all is down.
    IgnoresShutdown,
    /// Starts machines that are larger than what was admitted.
    Overbooks,
}

impl Tamper {
    pub(crate) fn change(self, actions: Actions, chance: &mut Chance) -> Actions {
        let starts = |action: &Action| matches!(action, Action::Vm { order: Order::Start { .. }, .. });
        let mut changed = Actions::new();
        for mut action in actions {
            if let Action::Vm { order: Order::Start { build, .. }, .. } = &mut action
                && self == Tamper::Overbooks
            {
                build.needs.memory_mib *= 8;
            }
            let dropped = match self {
                Tamper::HidesQuarantine => {
                    matches!(action, Action::Announce(Announcement::Quarantined { .. }))
                }
                Tamper::Starves => action == Action::Pet && chance.percent(50),
                Tamper::ForgetsStarts => starts(&action) && chance.percent(5),
                Tamper::IgnoresShutdown => action == Action::Finish,
                _ => false,
            };
            if dropped {
                continue;
            }
            let twin = match &action {
                Action::Vm { vm, order: Order::Start { build, how } } if self == Tamper::StartsTwice => {
                    let mut twin = *vm;
                    twin.run.0 += 1000;
                    Some(Action::Vm { vm: twin, order: Order::Start { build: *build, how: *how } })
                }
                Action::Vm { vm, order: Order::Probe { .. } } if self == Tamper::TouchesHealthy => {
                    chance.percent(2).then_some(Action::Vm { vm: *vm, order: Order::Terminate })
                }
                Action::Vm { vm, order: Order::Traffic { open: false } } if self == Tamper::Storms => {
                    Some(Action::Vm { vm: *vm, order: Order::RestartProcess })
                }
                _ if self == Tamper::PetsAlways => Some(Action::Pet),
                _ => None,
            };
            changed.push(action);
            changed.extend(twin);
        }
        changed
    }

    pub(crate) fn replay(self, daemon: &Daemon) -> Result<(), Trouble> {
        match self {
            Tamper::None => daemon.replays(),
            Tamper::LosesJournal => daemon.replays_without_last(),
            // The others change what follows the core, not the core.
            _ => Ok(()),
        }
    }
}
