//! The predictor runs on an allocator that ends the program.

#![expect(unsafe_code, reason = "an allocator is an unsafe trait; this one passes on or aborts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fmt::Write,
    process,
};

use hearth_predictor::{
    Cadence, Seconds, Series,
    anomaly::{self, Ballot, Jury, Verdict},
    cause::{self, MOST_PARTS, Part},
    pool::{KeepAlive, Pool},
    recovery::{
        Cures, Explained, Ladder, Outcome, Rung,
        rollout::{self, Stakes, Trials},
    },
    sizing::{Load, ScalePolicy, Scaler, Usage},
    state::{self, Memory},
};

type Text = heapless::String<256>;

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
        let mut text = Text::new();
        for sample in 0..3000u16 {
            let at = Seconds(u64::from(sample) * 300);
            let finding = series.observe(at, f32::from(sample % 288)).finding;
            text.clear();
            let told = finding.map(|finding| write!(text, "{}; {}", finding.reason, series.health()));
            assert_eq!(told, Some(Ok(())));
        }
        let mut buffer = [0; <Series<3> as Memory>::LARGEST];
        let saved = state::save(&series, &mut buffer).map(state::restore::<Series<3>>);
        saved == Ok(Ok(series))
    });
    assert!(restored);
}

#[test]
fn advice_of_every_kind_is_given_and_explained_without_a_heap() {
    let told = without_heap(|| {
        let mut text = Text::new();
        let advice = Scaler::new(ScalePolicy::default()).tick(Load {
            arrived: 40.0,
            waiting: 3.0,
            service: 0.5,
            ahead: Some((30.0, 60.0)),
            serving: 2,
        });
        let _ = write!(text, "{} {}; ", advice.replicas, advice.why);
        let mut usage = Usage::new(4096.0, 3600.0);
        usage.observe(Seconds(1), 700.0);
        let _ = write!(text, "{:?}; ", usage.quantile(0.95));
        let mut pool = Pool::<4>::new(600.0);
        let mut keep = KeepAlive::new(600.0);
        for use_of in 0..40 {
            pool.taken(Seconds(use_of * 60), 0);
            pool.released(Seconds(use_of * 60 + 1), 0);
            keep.rested(59.0);
        }
        let _ = write!(text, "{:?} {}; ", pool.wanted(Seconds(2400)), keep.hold(5.0));
        let mut cures = Cures::<2, 3>::default();
        cures.tried(0, 1, Outcome::Cured, 0.4);
        let rung = Rung { seconds: 1.0, risk: 0.0 };
        let choice = cures.choose(&Ladder { rungs: [rung; 3], escalation: 600.0 }, 0, 0);
        let _ = write!(text, "{}; ", Explained { choice: &choice, names: &["a", "b", "c"] });
        let trials = Trials { all: 100, failed: 3 };
        let _ = write!(text, "{}; ", rollout::judge(trials, trials, Stakes::default()));
        let part = Part { onset: Some(Seconds(5)), distance: 4.0, ..Part::default() };
        for suspect in cause::rank(&[part; MOST_PARTS]) {
            text.clear();
            let _ = write!(text, "{suspect} {}", cause::robust_distance(&[1.0, 2.0, 3.0], 9.0));
        }
        let ballot = Ballot { verdict: Verdict::Odd, score: 0.5, weight: 1.0 };
        anomaly::vote(Jury::default(), &[ballot; 3]).0 == Verdict::Anomaly && !text.is_empty()
    });
    assert!(told);
}

#[test]
fn a_series_with_three_distances_fits_four_kibibytes() {
    assert!(size_of::<Series<3>>() <= 4096, "{}", size_of::<Series<3>>());
}
