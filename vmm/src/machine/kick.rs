//! Gets a vCPU out of the guest, from another thread, and loses no race doing so.
//!
//! Duty: the one byte of a vCPU's run page that says "leave at once" (`immediate_exit`, Linux
//! `Documentation/virt/kvm/api.rst`, 5), and the signal that interrupts a guest that runs already.
//! Not its duty: why, and what the vCPU does then.
//!
//! A signal alone has a gap: it may come between the vCPU's last look at what is wanted and its entry into
//! the guest, and is then spent. So the byte is set first. Whoever enters after that comes straight back, and
//! whoever is in is interrupted by the signal that follows. An entry that finds the byte set still completes
//! the device access that the last exit was about, so a vCPU that was kicked stands between two
//! instructions.
//!
//! The other way, `KVM_SET_SIGNAL_MASK`, costs two changes of the signal mask under a lock of the whole
//! process at every entry; this one costs an entry nothing.
//!
//! Invariant: the byte is written through a mapping that only this module has, as an atomic; the kernel is
//! the only reader.
#![allow(unsafe_code, reason = "maps a vCPU's run page a second time, for the one byte that kicks it out")]

use std::io;
use std::mem::offset_of;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::{VcpuFd, VmFd};
use nix::libc::{self, c_int, c_void, siginfo_t};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

/// Bytes of the run page that matter here; the kernel rounds up to its page.
const LENGTH: NonZeroUsize = NonZeroUsize::new(size_of::<kvm_run>()).expect("the structure has fields");

/// The byte by which one vCPU is kicked out of the guest. Any thread may hold it.
#[derive(Debug)]
pub(super) struct Kick {
    page: NonNull<c_void>,
    /// Whose thread it is.
    process: u32,
}

// SAFETY: the mapping belongs to no thread, and all access to it is one atomic byte.
unsafe impl Send for Kick {}
// SAFETY: as above.
unsafe impl Sync for Kick {}

impl Kick {
    /// The byte of `vcpu`.
    pub(super) fn of(vcpu: &VcpuFd) -> io::Result<Self> {
        // SAFETY: the descriptor is open for as long as `vcpu` is borrowed, which is longer than the call.
        let descriptor = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
        let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
        // SAFETY: a new mapping at an address that the kernel chooses touches nothing that exists. It keeps
        // the vCPU's page alive by itself.
        let page = unsafe { mmap(None, LENGTH, protection, flags, descriptor, 0) }?;
        Ok(Self { page, process: std::process::id() })
    }

    /// Makes the vCPU come out of the guest, or not go in, at its next chance; see [`interrupt`].
    fn set(&self) {
        self.byte().store(1, Ordering::SeqCst);
    }

    /// Lets the vCPU go in again. To be called by its own thread, before it looks at what is wanted: a kick
    /// that comes later then finds it at the door again.
    pub(super) fn clear(&self) {
        // A swap, and not a store, so that what was wanted before the kick is seen after it.
        self.byte().swap(0, Ordering::SeqCst);
    }

    fn byte(&self) -> &AtomicU8 {
        let byte = self.page.as_ptr().cast::<u8>().wrapping_add(offset_of!(kvm_run, immediate_exit));
        // SAFETY: the byte lies inside of the mapping that this structure owns and has no alignment, and
        // nothing writes it other than through this reference. The borrow ends before the mapping.
        unsafe { AtomicU8::from_ptr(byte) }
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`.
        if let Err(errno) = unsafe { munmap(self.page, LENGTH.get()) } {
            log::error!("cannot unmap a vCPU's run page: {errno}");
        }
    }
}

/// A second descriptor of `vcpu`, for whoever asks KVM about it while its thread rests.
pub(super) fn duplicate(vcpu: &VcpuFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open for as long as `vcpu` is borrowed, which is longer than the call.
    let descriptor = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
    descriptor.try_clone_to_owned()
}

/// A vCPU of `vm` by another of its descriptors.
pub(super) fn twin(vm: &VmFd, descriptor: &OwnedFd) -> io::Result<VcpuFd> {
    let descriptor = descriptor.try_clone()?.into_raw_fd();
    // SAFETY: the descriptor is one of our own, just made, which nobody else has, and it is of a vCPU of `vm`. The run
    // page that comes with it is looked at by nobody here: KVM is only asked for registers.
    unsafe { vm.create_vcpu_from_rawfd(descriptor) }.map_err(Into::into)
}

/// Gives the signal that [`interrupt`] sends a handler, without which it would end the process. Before the
/// first kick.
pub(super) fn prepare() -> io::Result<()> {
    register_signal_handler(SIGRTMIN(), heard).map_err(Into::into)
}

/// Interrupting is all that the signal is for.
extern "C" fn heard(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

/// Kicks the vCPU that `thread` of this process runs out of the guest. `None`: it does not run yet, and will find the
/// byte.
pub(super) fn interrupt(kick: &Kick, thread: Option<i32>) {
    kick.set();
    if let Some(thread) = thread {
        // The C library's way takes three system calls; one is all that the jail permits.
        // SAFETY: takes numbers. A thread that has ended needs no signal, and if another one of this process has its
        // number, the handler does nothing to it.
        unsafe { libc::syscall(libc::SYS_tgkill, kick.process, thread, SIGRTMIN()) };
    }
}
