//! One step in the making.
//!
//! Duty: the time, the dice, the policy, and what is to be done so far. Not here: what is decided.
//! Invariant: without an action nothing is allocated.

use crate::action::{Action, Actions, Announcement, Order};
use crate::boot::Phase;
use crate::deadlines::StopTimes;
use crate::dice::Dice;
use crate::id::Vm;
use crate::maintenance::Window;
use crate::moment::Moment;
use crate::policy::RecoveryPolicy;
use crate::spec::Needs;

pub(crate) struct Turn<'s> {
    pub(crate) now: Moment,
    pub(crate) phase: Phase,
    pub(crate) stop: StopTimes,
    pub(crate) disk_has_room: bool,
    pub(crate) window: Window,
    /// What is left for a machine that a snapshot is made of. None: one is being made, or memory is short.
    pub(crate) room_to_snap: Option<Needs>,
    pub(crate) dice: &'s mut Dice,
    pub(crate) policy: &'s dyn RecoveryPolicy,
    pub(crate) actions: Actions,
    /// Something moved: what waits for it has to be looked at.
    pub(crate) moved: bool,
}

impl Turn<'_> {
    pub(crate) fn tell(&mut self, announcement: Announcement) {
        self.actions.push(Action::Announce(announcement));
    }

    pub(crate) fn order(&mut self, vm: Vm, order: Order) {
        self.actions.push(Action::Vm { vm, order });
    }
}
