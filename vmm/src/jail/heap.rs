//! The C library's heap, told to ask the kernel in one way only.
//!
//! Every thread would set aside 64 MiB of addresses for a heap of its own and grow it by `mprotect`; large pieces would
//! be mapped, moved and unmapped one by one. With one heap for all, growing is `brk`, and the filters of system calls
//! are shorter. A guest's threads allocate next to nothing, so nobody waits for that heap's lock.
#![allow(unsafe_code, reason = "mallopt has no safe wrapper")]

use nix::libc;

/// Bytes from which on a piece is mapped on its own: the most that the library takes.
const LARGE: libc::c_int = 32 << 20;

/// For a process with one thread, before it has others.
pub(super) fn keep_to_one() {
    for (what, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE)] {
        // SAFETY: changes a number of the allocator, and no other thread is there to use it meanwhile.
        unsafe { libc::mallopt(what, value) };
    }
}
