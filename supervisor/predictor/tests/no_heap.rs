//! The predictor runs on an allocator that ends the program.

#![expect(unsafe_code, reason = "an allocator is an unsafe trait; this one passes on or aborts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    process,
};

use hearth_predictor::{Cadence, Seconds, Series};

thread_local! {
    static LOCKED: Cell<bool> = const { Cell::new(false) };
}

struct Lockable;

// SAFETY: passes every call on to the system's allocator, or does not come back.
unsafe impl GlobalAlloc for Lockable {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if LOCKED.try_with(Cell::get).unwrap_or(false) {
            process::abort();
        }
        // SAFETY: the caller's promises about the layout are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Lockable = Lockable;

/// Runs with the allocator locked for this thread.
fn without_heap<T>(work: impl FnOnce() -> T) -> T {
    LOCKED.with(|locked| locked.set(true));
    let result = work();
    LOCKED.with(|locked| locked.set(false));
    result
}

#[test]
fn a_series_lives_and_is_saved_and_restored_without_a_heap() {
    let restored = without_heap(|| {
        let mut series = Series::new(Cadence::every(300), [1, 3, 12]);
        for sample in 0..3000u16 {
            let _ = series.observe(Seconds(u64::from(sample) * 300), f32::from(sample % 288));
        }
        let mut buffer = [0; Series::<3>::LARGEST_STATE];
        let saved = series.save(&mut buffer).map(Series::<3>::restore);
        saved == Ok(Ok(series))
    });
    assert!(restored);
}

#[test]
fn a_series_with_three_distances_fits_four_kibibytes() {
    assert!(size_of::<Series<3>>() <= 4096, "{}", size_of::<Series<3>>());
}
