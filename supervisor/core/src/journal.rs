//! What happened, so that it can happen again.
//!
//! Duty: the entry of a journal, and its replay. Not here: files, checksums, torn tails (the shell's store).
//! Invariant: replaying all entries of a daemon's life gives its state to the last bit, and at each step the actions
//! that it took.

use serde::{Deserialize, Serialize};

use crate::action::Actions;
use crate::event::Event;
use crate::moment::Moment;
use crate::policy::{FixedLadder, RecoveryPolicy};
use crate::state::State;

/// Written down before it is applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Moment,
    pub event: Event,
}

/// Steps through a journal from its beginning. `seen` gets every entry with the actions that followed, and the state
/// after it.
#[must_use]
pub fn replay(
    seed: u64,
    entries: impl IntoIterator<Item = Entry>,
    seen: impl FnMut(&Entry, &Actions, &State),
) -> State {
    replay_from(State::new(seed), &FixedLadder, entries, seen)
}

/// Likewise from a state that was kept on the way, so that a journal need not reach back for ever, and with the policy
/// that was in force, which has to answer as it did.
#[must_use]
pub fn replay_from(
    mut state: State,
    policy: &dyn RecoveryPolicy,
    entries: impl IntoIterator<Item = Entry>,
    mut seen: impl FnMut(&Entry, &Actions, &State),
) -> State {
    for entry in entries {
        let actions = state.step_by(policy, entry.at, entry.event.clone());
        seen(&entry, &actions, &state);
    }
    state
}
