//! The jail: what a machine's process may still do once its guest runs.
//!
//! ```text
//!  hearth-vmm ── opens nothing for the guest, keeps the paths, answers errands (porter.rs, errand.rs)
//!     └─ the machine's process ── opens all that it needs ── close() ── filters ── first guest instruction
//! ```
//!
//! | file | what |
//! |---|---|
//! | `porter.rs` | the process that whoever started us knows: signals, exit status, errands |
//! | `errand.rs`, `outside.rs` | what the machine may ask of it, and how |
//! | `clone.rs` | the second process |
//! | `spaces.rs` | namespaces and the empty root |
//! | `privileges.rs` | user, capabilities, Landlock |
//! | `heap.rs` | one heap for all threads |
//! | `streams.rs` | standard input, output and errors |
//! | `limits.rs`, `cgroup.rs` | how much of the host it may use |
//! | `filter/` | system calls, per thread |
//!
//! Duty: bring that about before the first instruction of the guest, and say which layers this host lacks. Not its
//! duty: deciding what a machine opens; whatever it does not hold when the jail closes it can only have by an errand,
//! and an errand names no path.
//!
//! Invariant: a layer that is not there is told by name. What the host has is used, or no guest runs.

mod cgroup;
mod clone;
mod errand;
pub mod filter;
mod heap;
mod limits;
pub(crate) mod outside;
mod porter;
mod privileges;
mod spaces;
mod streams;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use hearth_config::vm::VmConfig;

pub use self::outside::Printer;
pub(crate) use self::porter::{Household, enter};

/// Whether a machine is jailed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Containment {
    /// As far as the host can.
    Jailed {
        /// A network namespace with nothing in it, for many machines: one for each takes the kernel as long as half of
        /// the rest of a start. `None`: one of its own.
        network: Option<PathBuf>,
    },
    /// Not at all: for whoever looks for a fault with a debugger.
    Open,
}

/// What a machine in a jail is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run.
    Machine,
    /// To go on from a snapshot, as another one.
    Copy,
    /// To be written down once it is warm.
    Template,
}

/// One wall of the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Processes outside are not there.
    PidNamespace,
    /// Root inside is nobody outside.
    UserNamespace,
    /// Mounts are its own.
    MountNamespace,
    /// No network interface.
    NetworkNamespace,
    /// No shared memory or queues of others.
    IpcNamespace,
    /// A host's name of its own.
    UtsNamespace,
    /// Control groups outside are not there.
    CgroupNamespace,
    /// An empty root folder.
    EmptyRoot,
    /// Nothing that root may.
    Capabilities,
    /// No file that makes anybody root.
    NoNewPrivileges,
    /// Bounds of the process.
    ResourceLimits,
    /// Bounds of all its threads together.
    ControlGroups,
    /// No file at all, in the eyes of a second judge.
    Landlock,
    /// System calls.
    Seccomp,
}

impl Layer {
    /// What people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PidNamespace => "pid namespace",
            Self::UserNamespace => "user namespace",
            Self::MountNamespace => "mount namespace",
            Self::NetworkNamespace => "network namespace",
            Self::IpcNamespace => "ipc namespace",
            Self::UtsNamespace => "uts namespace",
            Self::CgroupNamespace => "cgroup namespace",
            Self::EmptyRoot => "empty root",
            Self::Capabilities => "no capabilities",
            Self::NoNewPrivileges => "no new privileges",
            Self::ResourceLimits => "resource limits",
            Self::ControlGroups => "control groups",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }
}

/// The layers that this host did not give, each with what it said.
#[derive(Debug, Default, Clone)]
pub struct Lacks(Vec<(Layer, String)>);

impl Lacks {
    pub(crate) fn note(&mut self, layer: Layer, why: impl fmt::Display) {
        self.0.push((layer, why.to_string()));
    }

    /// Notes the layer if it did not come about.
    fn unless<T, E: fmt::Display>(&mut self, layer: Layer, done: Result<T, E>) -> Option<T> {
        done.map_err(|error| self.note(layer, error)).ok()
    }

    /// Whether the layer is missing.
    #[must_use]
    pub fn has(&self, layer: Layer) -> bool {
        self.0.iter().any(|(lacking, _)| *lacking == layer)
    }

    /// All of them, with reasons.
    #[must_use]
    pub fn layers(&self) -> &[(Layer, String)] {
        &self.0
    }

    /// Their names, with commas between.
    #[must_use]
    pub fn names(&self) -> String {
        self.0.iter().map(|(layer, _)| layer.name()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (layer, why)) in self.0.iter().enumerate() {
            write!(f, "{}{} ({why})", if index == 0 { "" } else { ", " }, layer.name())?;
        }
        Ok(())
    }
}

/// Ends this process with `status`, if it is behind a filter: what a program does at its end takes calls of its own.
pub fn leave_if_inside(status: u8) {
    if filter::is_on() {
        clone::leave(status);
    }
}

/// Closes the jail around this process, which has one thread and all that it needs; in the namespace `network`, or one
/// of its own. What follows is the filters.
pub(crate) fn close(
    config: &VmConfig,
    purpose: Purpose,
    network: Option<File>,
    mut lacks: Lacks,
) -> io::Result<Lacks> {
    let (who, bounds) = (privileges::Who::ami(), limits::Bounds::of(config));
    let kept = privileges::without_administration(crate::memory::keep_page_map);
    if lacks.unless(Layer::Capabilities, kept).is_none() {
        crate::memory::keep_page_map();
    }
    crate::logger::be_ready();
    spaces::leave(network, &mut lacks);
    lacks.unless(Layer::NoNewPrivileges, nix::sys::prctl::set_no_new_privs());
    privileges::become_nobody(who, &mut lacks)?;
    bounds.set(who, &mut lacks);
    lacks.unless(Layer::Landlock, privileges::forbid_files());
    // Last: whoever becomes somebody else is no longer told of its parent's end.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    match filter::prepare(config, purpose) {
        Ok(()) => {}
        Err(error @ filter::FilterError::Kernel(_)) => {
            lacks.note(Layer::Seccomp, crate::logger::chain(&error));
        }
        // The host has them, and the fault is here: no guest runs so.
        Err(error) => return Err(io::Error::other(error)),
    }
    // And if it has ended before that line, there is nobody who answers.
    for group in outside::closed()? {
        lacks.note(Layer::ControlGroups, group);
    }
    Ok(lacks)
}

/// The jail around something else than a machine: what the tests of it put in the place of a monitor that a guest took
/// over. Returns in the jailed process, as a machine's run does, with what `payload` says; behind the filter of `role`,
/// or with every wall but that one; in the network namespace `network`, or one of its own.
#[doc(hidden)]
pub fn rehearse(
    config: &VmConfig,
    role: Option<filter::Role>,
    network: Option<File>,
    payload: impl FnOnce(&Lacks) -> u8,
) -> io::Result<u8> {
    let stops = nix::sys::signal::SigSet::empty();
    let life = enter(&Household { config, template: None, stops })?;
    let lacks = close(config, Purpose::Machine, network, life.lacks)?;
    if let Some(role) = role {
        filter::enter(role);
    }
    Ok(payload(&lacks))
}
