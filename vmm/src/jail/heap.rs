//! The C library's heap, told to ask the kernel in one way only.
//!
//! Every thread would set aside 64 MiB of addresses for a heap of its own and grow it by `mprotect`; large pieces would
//! be mapped, moved (`mremap`) and unmapped one by one: a list of the runs of pages of a large guest is such a piece. With
//! one heap for all, growing is `brk`, and the filters of system calls are shorter. A guest's threads allocate next to
//! nothing, so nobody waits for that heap's lock.
#![allow(unsafe_code, reason = "mallopt has no safe wrapper")]

use nix::libc;

/// Pieces that are mapped on their own.
const MAPPED: libc::c_int = 0;

/// For a process with one thread, before it has others.
pub(super) fn keep_to_one() {
    for (what, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_MAX, MAPPED)] {
        // SAFETY: changes a number of the allocator, and no other thread is there to use it meanwhile.
        unsafe { libc::mallopt(what, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of the heap that are mapped on their own now.
    fn mapped() -> usize {
        // SAFETY: reads numbers of the allocator, under its lock.
        unsafe { libc::mallinfo2() }.hblks
    }

    #[test]
    fn no_piece_is_mapped_on_its_own_however_large_it_grows() {
        keep_to_one();
        let before = mapped();
        // This thread has a heap of its own already; the next one gets the first.
        let grown = std::thread::spawn(|| {
            let mut large: Vec<u8> = Vec::with_capacity(33 << 20);
            large.push(1);
            large.reserve_exact(80 << 20);
            (large, mapped())
        });
        let (large, after) = grown.join().unwrap();
        assert_eq!((large.first(), after), (Some(&1), before));
    }
}
