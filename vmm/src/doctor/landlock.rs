//! Asks the kernel which Landlock it has: the only answer is a system call that no library wraps safely.
#![allow(unsafe_code, reason = "one system call without a safe wrapper")]

use nix::libc;

/// The Landlock ABI, or `None` where the kernel has none or has it switched off.
pub(crate) fn abi() -> Option<i64> {
    const CREATE_RULESET_VERSION: libc::c_ulong = 1;
    // SAFETY: with this flag the call takes no pointer and makes nothing; it returns a number or an error.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0 as libc::size_t,
            CREATE_RULESET_VERSION,
        )
    };
    (abi > 0).then_some(abi)
}
