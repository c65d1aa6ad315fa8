//! Snapshots of the machine that runs: what is asked of which part, and what goes on beside the machine.
//!
//! Duty: gather the state of a machine that rests, have its memory copied, and finish the folder on a thread of its
//! own, since storage takes as long as it likes. Not its duty: bringing the machine to rest (`life.rs`), files
//! (`crate::snapshot`).
//!
//! ```text
//!            take (machine rests)              the thread has finished
//!   Idle ─────────────────────────▶ Finishing ─────────────────────────▶ Idle, answered
//!     └── refused, answered at once
//! ```
//!
//! Order: what interrupt controllers hold is read before what vCPUs hold, so that an interrupt that passes from one to
//! the other in between is with the vCPU, and not lost.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_config::vm::VmConfig;
use hearth_wire::control::{Refusal, SnapshotKind, SnapshotName};
use kvm_ioctls::{Kvm, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::crew::Crew;
use super::template::Place;
use super::writer::{self, Copied, Task, Writer};
use crate::arch::{self, Chipset, SavedError};
use crate::control::Ticket;
use crate::jail::outside;
use crate::memory::{self, Backed, GuestRam};
use crate::snapshot::state::{ARCHITECTURE, About, DiskState, Id, MachineState};
use crate::snapshot::{Base, Part, TakeError};
use crate::virtio::block::Block;
use crate::virtio::mmio::Transport;

/// What a client asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) name: SnapshotName,
    pub(super) kind: SnapshotKind,
}

/// What is to be written, and where to.
pub(super) struct Wished {
    pub(super) folder: PathBuf,
    pub(super) name: String,
    pub(super) kind: SnapshotKind,
    /// A template's, which replaces the one before.
    pub(super) key: Option<String>,
    /// Memory is mapped from it afterwards.
    pub(super) rebase: bool,
}

/// A snapshot that is being finished.
struct Finishing {
    ticket: Ticket,
    id: Id,
}

/// A machine as far as it can be written down.
pub(super) struct Snapshots {
    pub(super) kvm: Kvm,
    pub(super) vm: VmFd,
    pub(super) chipset: Chipset,
    pub(super) parts: Vec<Arc<dyn Part>>,
    pub(super) disks: Vec<Arc<Transport<Block>>>,
    pub(super) config: VmConfig,
    /// What the machine's memory is mapped from.
    pub(super) base: Option<Base>,
    /// Kernel and initial RAM disk, where memory is mapped from those.
    boot_files: Vec<Backed>,
    /// Whether it is to become one.
    pub(super) becomes_template: bool,
    /// Asked for, and the machine does not rest yet.
    wished: Option<(Ticket, Wished)>,
    finishing: Option<Finishing>,
    /// There from the first snapshot on, in a jail from the start.
    writer: Option<Writer>,
    done: Arc<EventFd>,
}

/// What became of a snapshot.
pub(super) type Finished = (Ticket, Result<PathBuf, TakeError>);

impl Snapshots {
    pub(super) fn new(
        kvm: Kvm,
        vm: VmFd,
        chipset: Chipset,
        parts: Vec<Arc<dyn Part>>,
        disks: Vec<Arc<Transport<Block>>>,
        config: VmConfig,
        base: Option<Base>,
    ) -> io::Result<Self> {
        let done = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        Ok(Self {
            kvm,
            vm,
            chipset,
            parts,
            disks,
            config,
            base,
            boot_files: Vec::new(),
            becomes_template: false,
            wished: None,
            finishing: None,
            writer: None,
            done,
        })
    }

    /// Starts what cannot be started later, behind the filters of a jail.
    pub(super) fn prepare(&mut self) -> io::Result<()> {
        if !outside::is_jailed() {
            return Ok(());
        }
        if self.config.snapshot.is_some() || self.becomes_template {
            self.writer = Some(Writer::start(self.done.clone())?);
        }
        self.disks.iter().try_for_each(|disk| disk.model(|model| model.disk_mut().start_helper()))
    }

    /// With what of memory was mapped from boot files.
    pub(super) fn with_boot_files(self, boot_files: Vec<Backed>) -> Self {
        Self { boot_files, ..self }
    }

    /// Bytes of RAM that take room on the host for this machine alone.
    pub(super) fn memory_in_use(&self, ram: &GuestRam) -> io::Result<u64> {
        match &self.base {
            // What is in the host's cache of the file is everybody's.
            Some(_) => Ok(memory::written(ram)?.iter().map(|run| run.bytes).sum()),
            None => memory::in_use(ram),
        }
    }

    /// Readable when a snapshot was finished.
    pub(super) const fn done(&self) -> &Arc<EventFd> {
        &self.done
    }

    /// Notes what is asked for, or says why it cannot be had.
    pub(super) fn wish(&mut self, ticket: Ticket, order: Order) -> Result<(), (Refusal, &'static str)> {
        let Some(settings) = &self.config.snapshot else {
            return Err((Refusal::Unsupported, "the machine's configuration has no [snapshot]"));
        };
        if self.wished.is_some() || self.finishing.is_some() {
            return Err((Refusal::Busy, "another snapshot is being taken"));
        }
        let wished = Wished {
            folder: settings.folder.clone(),
            name: order.name.as_str().to_owned(),
            kind: order.kind,
            key: None,
            rebase: settings.rebase && order.kind == SnapshotKind::Full,
        };
        self.wished = Some((ticket, wished));
        Ok(())
    }

    /// Notes that the machine is to become a template, whatever a client asked for.
    pub(super) fn wish_template(&mut self, ticket: Ticket, place: &Place) {
        let Place { parent, name, key } = place.clone();
        let kind = SnapshotKind::Full;
        self.wished = Some((ticket, Wished { folder: parent, name, kind, key: Some(key), rebase: false }));
    }

    /// What was asked for with this ticket will not be.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.wished.take_if(|(wished, _)| *wished == ticket);
    }

    /// Writes down the machine, which rests. The answer follows, unless this fails.
    pub(super) fn take(
        &mut self,
        ticket: Ticket,
        crew: &Crew,
        ran: Duration,
        ram: &GuestRam,
    ) -> Result<(), TakeError> {
        let Some((_, wished)) = self.wished.take() else {
            return Err(TakeError::State(SavedError::Unlike("nobody asked for it".into())));
        };
        let state = self.state(crew, ran)?;
        let failed = |source| TakeError::Files { path: wished.folder.clone(), source };
        let base = match &self.base {
            Some(Base { file, id }) => Some(Base { file: file.try_clone().map_err(failed)?, id: *id }),
            None => None,
        };
        let task = Task {
            config: self.config.clone(),
            base,
            boot_files: self.boot_files.clone(),
            ram: ram.clone(),
            state,
            wished,
        };
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => Writer::start(self.done.clone())
                .map_err(|source| TakeError::Files { path: task.wished.folder.clone(), source })?,
        };
        let folder = task.wished.folder.clone();
        let copied = writer.copy(task);
        self.writer = Some(writer);
        let Copied { id, rebase } = copied?;
        self.finishing = Some(Finishing { ticket, id });
        if let Some(file) = rebase {
            // Memory is mapped from it now. It has a name when the folder has.
            memory::map_over(ram, &file).map_err(|source| TakeError::Files { path: folder, source })?;
            self.base = Some(Base { file, id: None });
        }
        Ok(())
    }

    fn state(&self, crew: &Crew, ran: Duration) -> Result<MachineState, TakeError> {
        arch::can_be_saved(&self.vm)?;
        let twins = crew
            .twins(&self.vm)
            .map_err(|error| SavedError::Unlike(format!("its vCPUs cannot be reached: {error}")))?;
        let chipset = self.chipset.save(&self.vm, &twins)?;
        let vcpus: Result<Vec<_>, SavedError> =
            twins.iter().map(|vcpu| arch::save_vcpu(&self.kvm, &self.vm, vcpu)).collect();
        let vcpus = vcpus?;
        let parts = self.parts.iter().map(|part| (part.name().to_owned(), part.save())).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let about = About {
            architecture: ARCHITECTURE.to_owned(),
            // Drawn by who writes it.
            id: Id::default(),
            base: None,
            program: concat!("hearth-vmm ", env!("CARGO_PKG_VERSION")).to_owned(),
            taken_at: now.as_secs(),
            vcpus: self.config.machine.vcpus,
            processor: vcpus.first().map_or(0, arch::digest),
            // What is known when memory was copied.
            memory_bytes: 0,
            memory_sum: 0,
            disks: disks(&self.config, &self.disks)?,
        };
        Ok(MachineState { about, ran, chipset, vcpus, parts, runs: Vec::new() })
    }

    /// A snapshot that was finished since the last look.
    pub(super) fn finished(&mut self) -> Option<Finished> {
        self.finishing.as_ref()?;
        // A thread that says so has nothing left to do but to end.
        self.done.read().ok().and_then(|_| self.wait())
    }

    /// The snapshot that is being finished, when it is.
    pub(super) fn wait(&mut self) -> Option<Finished> {
        let Finishing { ticket, id } = self.finishing.take()?;
        let result = self.writer.as_ref().map_or_else(writer::gone, Writer::finished);
        if let (Ok(_), Some(base)) = (&result, &mut self.base)
            && base.id.is_none()
        {
            base.id = Some(id);
        }
        Some((ticket, result))
    }
}

/// What a program is told of a failure.
pub(super) const fn refusal(error: &TakeError) -> Refusal {
    match error {
        TakeError::Taken(_) => Refusal::BadValue,
        TakeError::NoBase | TakeError::Config(_) => Refusal::Unsupported,
        TakeError::State(_) | TakeError::Files { .. } | TakeError::Disk { .. } | TakeError::Random(_) => {
            Refusal::Failed
        }
    }
}

/// Which disks a machine has, as far as they can be told from others.
pub(super) fn disks(config: &VmConfig, disks: &[Arc<Transport<Block>>]) -> Result<Vec<DiskState>, TakeError> {
    let described = config.block.iter().zip(disks).map(|(disk, transport)| {
        let (bytes, sum) = transport
            .model(|model| model.disk().identity())
            .map_err(|source| TakeError::Disk { id: disk.id.clone(), source })?;
        Ok(DiskState { id: disk.id.clone(), bytes, read_only: disk.read_only, sum })
    });
    described.collect()
}
