//! Which system calls a thread may make once the guest runs: allow-lists, with looks at arguments, and death for
//! everything else.
//!
//! | file | what |
//! |---|---|
//! | `rules.rs` | what one line of a list says |
//! | `dispatch.rs` | the line that a call is on |
//! | `lists.rs` | the lists: vCPU, event loop, and its helpers |
//!
//! Duty: make the lists into programs before the jail is closed, and put a thread behind its own. Not here: what a
//! call may reach; that is what the rest of the jail has taken away.
//!
//! A list follows the configuration: what a machine does not have, its threads cannot call for. No list has a call that
//! opens, connects, executes, makes a process or a thread, or makes memory executable.
//!
//! Invariant: who is behind a filter stays there, and what it starts inherits it.

mod dispatch;
mod lists;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use hearth_config::vm::VmConfig;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

pub use self::lists::Needs;
pub use self::rules::{Call, Rule};
use super::Purpose;

/// A kind of thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Enters the guest, and serves what it touches.
    Vcpu,
    /// Everything between the guest and the host.
    EventLoop,
    /// Writes snapshots.
    Writer,
    /// Discards blocks of a device.
    Discarder,
}

impl Role {
    /// Every role, for tables.
    pub const ALL: [Self; 4] = [Self::Vcpu, Self::EventLoop, Self::Writer, Self::Discarder];
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Not for this processor.
    #[error("no filters for this processor")]
    Processor(#[source] seccompiler::BackendError),
    /// The list cannot be made into a program.
    #[error("a list of system calls makes no program")]
    Program(#[source] seccompiler::BackendError),
    /// A number that no call has, or too many of them.
    #[error("a list of system calls has no head")]
    Head,
    /// The kernel has none, or refuses this one.
    #[error("the kernel takes no filter")]
    Kernel(#[source] std::io::Error),
}

/// The programs of this process, by the place of their role in [`Role::ALL`].
static PROGRAMS: OnceLock<Vec<BpfProgram>> = OnceLock::new();

/// What the thread of `role` in a machine of `config` may call.
#[must_use]
pub fn list(role: Role, needs: &Needs) -> Vec<Call> {
    lists::of(role, needs)
}

/// The program for it.
pub fn program(role: Role, needs: &Needs) -> Result<BpfProgram, FilterError> {
    let processor = TargetArch::try_from(std::env::consts::ARCH).map_err(FilterError::Processor)?;
    let calls = list(role, needs);
    let verdicts = calls.iter().map(Call::verdict).collect::<Option<Vec<_>>>().ok_or(FilterError::Head)?;
    let rules = rules::of_arguments(calls).map_err(FilterError::Program)?;
    let judge: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, processor)
            .and_then(TryInto::try_into)
            .map_err(FilterError::Program)?;
    dispatch::with_head(verdicts, judge).ok_or(FilterError::Head)
}

/// Makes the programs for a machine of `config`, and finds out whether the kernel has filters.
pub(super) fn prepare(config: &VmConfig, purpose: Purpose) -> Result<(), FilterError> {
    let needs = Needs::of(config, purpose);
    let programs = Role::ALL.iter().map(|role| program(*role, &needs)).collect::<Result<Vec<_>, _>>()?;
    // Known before the guest runs. Where a thread cannot go behind its own all the same, the process ends.
    super::privileges::filters_are_there().map_err(FilterError::Kernel)?;
    let _ = PROGRAMS.set(programs);
    Ok(())
}

/// Whether threads of this process go behind filters.
pub(crate) fn is_on() -> bool {
    PROGRAMS.get().is_some()
}

/// Puts this thread behind the filter of its role, if the process is in a jail that has filters.
pub(crate) fn enter(role: Role) {
    let program = PROGRAMS.get().and_then(|programs| programs.get(role as usize));
    let Some(program) = program else { return };
    if let Err(error) = seccompiler::apply_filter(program) {
        // The kernel took one of this process before, so there is something very wrong: no guest runs so.
        log::error!("a thread cannot be put behind its filter of system calls: {error}");
        std::process::abort();
    }
}
