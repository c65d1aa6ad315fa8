//! The monitor does not ask where its stacks are.
//!
//! Rust's runtime asks the C library at every thread's start, so that it can say "stack overflow" where the kernel
//! says only "segmentation fault". The C library answers by opening and parsing `/proc/self/maps`, and brings along
//! for that all of its formatted input, wide characters and locales: 100 KiB of a static program, and system calls
//! before `main`. So the answer here is that nobody knows, which the runtime takes. The guard pages stay.
#![allow(unsafe_code, reason = "takes the place of a function of the C library")]

use nix::libc;

/// See the module. The error is the one for a system without this function.
// SAFETY: the C library's own is a member of an archive that is left out when the name is taken; the signature is
// its, nothing is read or written, and a caller that gets an error does not look at `_attributes`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn pthread_getattr_np(
    _thread: libc::pthread_t,
    _attributes: *mut libc::pthread_attr_t,
) -> libc::c_int {
    libc::ENOSYS
}
