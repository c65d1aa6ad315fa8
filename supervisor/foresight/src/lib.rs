//! What a box makes of its measurements, workload by workload.
//!
//! | file | what |
//! |---|---|
//! | `metric.rs` | what is measured, and readings of it |
//! | `wish.rs` | what a person wants of it |
//! | `watched.rs` | one workload, or the host |
//! | `scaling.rs` | how many replicas it should have |
//! | `keeping.rs` | how many of its machines should wait for the next call |
//! | `lending.rs` | how much memory they can do without |
//! | `healing.rs` | which means cured which faults of it |
//! | `judging.rs` | what is to become of a new version of it |
//! | `suspects.rs` | who began what is wrong with it |
//! | `foresight.rs` | all of them: events in, insights out |
//! | `memory.rs` | what was learnt, as bytes |
//! | `outlook.rs` | what is foreseen as bare numbers |
//! | `view.rs` | the same for people and programs |
//!
//! Duty: which numbers go to which model of `hearth-predictor`, and what is worth telling. Not here: measuring, clocks,
//! files, what the box does about an insight (`hearth-core`).
//! Invariant: the same events give the same insights; memory grows with workloads and what can be measured of them, never
//! with time.

#![forbid(unsafe_code)]

mod foresight;
mod healing;
mod judging;
mod keeping;
mod lending;
mod memory;
mod metric;
mod outlook;
mod scaling;
mod suspects;
mod view;
mod watched;
mod wish;

pub use foresight::{Event, Foresight, Insight, Measured, TICKS_PER_SAMPLE};
pub use hearth_predictor::Seconds;
pub use keeping::MOST_KEPT;
pub use memory::{Learnt, MemoryFault};
pub use metric::{Metric, Reading};
pub use outlook::{Ahead, Outlook, SeriesOutlook};
pub use scaling::Served;
pub use view::{AdviceView, BalloonView, ForecastView, KeepView, MemoryView, MetricView, View};
pub use wish::{BalloonWish, HealWish, KeepWish, RolloutWish, ScaleWish, Wish};
