//! The supervisor's core in a world that goes wrong, under virtual time.
//!
//! | file | what |
//! |---|---|
//! | `world.rs`, `queue.rs` | time, and steps of the core |
//! | `deeds.rs` | what the core wants done |
//! | `lives.rs` | lives of the daemon and the box |
//! | `machines.rs` | what machines do, by themselves and when told |
//! | `weather.rs` | what goes wrong, and the seasons |
//! | `wishes.rs` | the person |
//! | `guest.rs` | one fake machine |
//! | `daemon.rs` | one life of the daemon: the real core and its journal |
//! | `checks/`, `trouble.rs` | what must never happen |
//! | `tamper.rs` | cores that are wrong, for the checks' own sake |
//!
//! Duty: many hours of bad luck in seconds, each from a seed, each checked at every step. Not here: the daemon's real
//! shell, real machines (boards do that).
//! Invariant: a seed and a length are all there is: the same hours pass the same way wherever they run.

#![forbid(unsafe_code)]

mod chance;
mod checks;
mod daemon;
mod deeds;
mod guest;
mod lives;
mod machines;
mod queue;
mod tamper;
mod trouble;
mod weather;
mod wishes;
mod world;

use std::time::Duration;

use hearth_core::{Event, Moment};

pub use tamper::Tamper;
pub use trouble::{Found, Trouble};

use weather::Season;
use world::World;

/// What happened in some simulated hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub steps: u64,
    pub faults: u64,
    pub edits: u64,
    pub starts: u64,
    pub seasons: u64,
    pub lives: u64,
    pub adopted: usize,
    pub freezes: u64,
    pub resets: u64,
    pub reexecs: u64,
    pub torn: u64,
    pub clock_steps: u64,
    pub words_lost: u64,
    pub words_late: u64,
    pub silences: u64,
    pub healed: u64,
    pub quarantines: u64,
    pub rollouts: u64,
    pub rollbacks: u64,
    pub lost: u64,
    pub safe_modes: u64,
    pub twins: u64,
    pub regrets: u64,
    pub power_cuts: u64,
    pub collections: u64,
    pub snapshots: u64,
    pub snapshots_gone: u64,
    pub healing_reboots: u64,
    pub broken_parts: u64,
    pub insights: u64,
    /// Means of healing that somebody had to agree to.
    pub proposals: u64,
    pub learnt_choices: u64,
    pub outcomes: u64,
    pub windows: u64,
    pub held_back: u64,
}

impl Stats {
    /// Each figure with its name.
    pub fn figures(&self) -> [(&'static str, u64); 35] {
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        [
            ("steps", self.steps),
            ("faults", self.faults),
            ("edits", self.edits),
            ("starts", self.starts),
            ("seasons", self.seasons),
            ("lives of the daemon", self.lives),
            ("machines adopted", count(self.adopted)),
            ("freezes", self.freezes),
            ("resets by the watchdog", self.resets),
            ("daemons started again", self.reexecs),
            ("torn records", self.torn),
            ("clock steps", self.clock_steps),
            ("words lost", self.words_lost),
            ("words late", self.words_late),
            ("silences", self.silences),
            ("healed", self.healed),
            ("quarantines", self.quarantines),
            ("rollouts", self.rollouts),
            ("rollbacks", self.rollbacks),
            ("lost machines", self.lost),
            ("safe modes", self.safe_modes),
            ("machines found twice", self.twins),
            ("second thoughts", self.regrets),
            ("power cuts", self.power_cuts),
            ("collections of images", self.collections),
            ("snapshots wanted", self.snapshots),
            ("snapshots gone", self.snapshots_gone),
            ("reboots that heal", self.healing_reboots),
            ("parts that stay broken", self.broken_parts),
            ("insights", self.insights),
            ("proposals", self.proposals),
            ("choices that were learnt", self.learnt_choices),
            ("outcomes to learn from", self.outcomes),
            ("windows of maintenance", self.windows),
            ("versions that waited for one", self.held_back),
        ]
    }

    pub fn add(&mut self, other: &Stats) {
        self.steps += other.steps;
        self.faults += other.faults;
        self.edits += other.edits;
        self.starts += other.starts;
        self.seasons += other.seasons;
        self.lives += other.lives;
        self.adopted += other.adopted;
        self.freezes += other.freezes;
        self.resets += other.resets;
        self.reexecs += other.reexecs;
        self.torn += other.torn;
        self.clock_steps += other.clock_steps;
        self.words_lost += other.words_lost;
        self.words_late += other.words_late;
        self.silences += other.silences;
        self.healed += other.healed;
        self.quarantines += other.quarantines;
        self.rollouts += other.rollouts;
        self.rollbacks += other.rollbacks;
        self.lost += other.lost;
        self.safe_modes += other.safe_modes;
        self.twins += other.twins;
        self.regrets += other.regrets;
        self.power_cuts += other.power_cuts;
        self.collections += other.collections;
        self.snapshots += other.snapshots;
        self.snapshots_gone += other.snapshots_gone;
        self.healing_reboots += other.healing_reboots;
        self.broken_parts += other.broken_parts;
        self.insights += other.insights;
        self.proposals += other.proposals;
        self.learnt_choices += other.learnt_choices;
        self.outcomes += other.outcomes;
        self.windows += other.windows;
        self.held_back += other.held_back;
    }
}

/// Down takes each workload through every means, one after the other along a chain.
const DOWN: Duration = Duration::from_secs(10 * 60);

/// Lives through `hours` from a seed, and stops the box in the end.
pub fn run(seed: u64, hours: u64) -> Result<Stats, Box<Found>> {
    run_with(seed, hours, Tamper::None)
}

/// Likewise, with a core that is wrong in some way.
pub fn run_with(seed: u64, hours: u64, tamper: Tamper) -> Result<Stats, Box<Found>> {
    let mut world = World::new(seed, hours, tamper);
    let end = Moment::START.after(Duration::from_secs(3600 * hours));
    world.run(end)?;
    world.season = Season::Mended;
    world.broken_until = [world.now; wishes::SUBSYSTEMS.len()];
    world.closing = true;
    // A daemon that is away or frozen is back by then.
    world.run(world.now.after(Duration::from_secs(120)))?;
    world.hear(Event::Stop);
    let down = world.now.after(DOWN);
    world.run(down)?;
    // Those that outlive a kill are written off.
    let left = world.guests.values().filter(|guest| !guest.stuck).count();
    if !world.finished || left > 0 {
        world.found(Trouble::DoesNotStop { left });
        world.finished = false;
        world.run(world.now.after(Duration::from_millis(1)))?;
    }
    world.end_life();
    world.finished = false;
    world.run(world.now.after(Duration::from_millis(1)))?;
    Ok(world.stats)
}
