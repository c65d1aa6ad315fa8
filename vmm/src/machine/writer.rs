//! Who writes a machine down: a thread with the files of snapshots, beside the event loop.
//!
//! ```text
//!   event loop:  copy ── waits, the machine rests ──▶ Copied        … goes on …         ──▶ finished
//!   writer:        └─ copies memory ────────────────────┘└─ finishes, as long as storage takes ──┘
//! ```
//!
//! Duty: the calls that take files, behind a filter of system calls that the event loop need not have. Not its duty:
//! what is written (`crate::snapshot`), when (`snapshots.rs`).

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::{io, thread};

use hearth_config::vm::VmConfig;
use vmm_sys_util::eventfd::EventFd;

use super::snapshots::Wished;
use crate::arch::SavedError;
use crate::jail::filter::{self, Role};
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::memory::{self, Backed, GuestRam};
use crate::snapshot::state::{Id, MachineState};
use crate::snapshot::{Base, Draft, Existing, TakeError, Wish, copy_in_pause};

/// A machine that rests, and what is wanted of it.
pub(super) struct Task {
    pub(super) wished: Wished,
    pub(super) config: VmConfig,
    pub(super) base: Option<Base>,
    /// What memory was mapped from, where it was from no snapshot.
    pub(super) boot_files: Vec<Backed>,
    pub(super) ram: GuestRam,
    pub(super) state: MachineState,
}

/// What the machine need not rest for any longer.
pub(super) struct Copied {
    pub(super) id: Id,
    /// What memory is to be mapped from.
    pub(super) rebase: Option<File>,
}

/// The thread, from this side. It ends when this is dropped, with what it does.
pub(super) struct Writer {
    tasks: Sender<Task>,
    copied: Receiver<Result<Copied, TakeError>>,
    finished: Receiver<Result<PathBuf, TakeError>>,
}

impl Writer {
    /// Starts it; `done` is rung for each snapshot that is finished.
    pub(super) fn start(done: Arc<EventFd>) -> io::Result<Self> {
        let (tasks, todo) = mailbox::<Task>();
        let (tell_copied, copied) = mailbox();
        let (tell_finished, finished) = mailbox();
        thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            filter::enter(Role::Writer);
            while let Some(task) = todo.take() {
                let draft = match copy(task) {
                    Ok((draft, copied)) => {
                        tell_copied.send(Ok(copied));
                        draft
                    }
                    Err(error) => {
                        tell_copied.send(Err(error));
                        continue;
                    }
                };
                tell_finished.send(draft.finish());
                // Fails only when the counter is full, and then it is readable already.
                let _ = done.write(1);
            }
        })?;
        Ok(Self { tasks, copied, finished })
    }

    /// Copies what a snapshot needs of a machine that rests; the rest follows by itself.
    pub(super) fn copy(&self, task: Task) -> Result<Copied, TakeError> {
        let sent = self.tasks.send(task);
        self.copied.take().filter(|_| sent).unwrap_or_else(gone)
    }

    /// What became of the one that was copied; waits for it.
    pub(super) fn finished(&self) -> Result<PathBuf, TakeError> {
        self.finished.take().unwrap_or_else(gone)
    }
}

/// What is said of a writer that is not there any more.
pub(super) fn gone<T>() -> Result<T, TakeError> {
    Err(TakeError::State(SavedError::Unlike("the thread that wrote it ended by a panic".into())))
}

fn copy(task: Task) -> Result<(Draft, Copied), TakeError> {
    let Task { wished, config, base, boot_files, ram, mut state } = task;
    let failed = |source| TakeError::Files { path: wished.folder.clone(), source };
    let of_base = base.as_ref().map(|base| memory::backed_by(&base.file)).transpose().map_err(failed)?;
    state.about.id = Id::draw().map_err(TakeError::Random)?;
    let wish = Wish {
        folder: &wished.folder,
        name: &wished.name,
        kind: wished.kind,
        config: &config,
        base: base.as_ref(),
        backed: of_base.as_ref().map_or(&boot_files, std::slice::from_ref),
        existing: if wished.key.is_some() { Existing::Replaced } else { Existing::Kept },
        key: wished.key.as_deref(),
    };
    let mut draft = copy_in_pause(&wish, &ram, state)?;
    let mut rebase = None;
    if wished.rebase {
        // Memory is about to be mapped from it.
        draft.complete()?;
        rebase = Some(draft.memory_for_reading().map_err(failed)?);
    }
    let id = draft.id();
    Ok((draft, Copied { id, rebase }))
}
