//! Runs the contenders in turns and holds the stopwatch.

pub(crate) mod entrant;
pub(crate) mod memory;
pub(crate) mod plan;

use std::path::Path;
use std::time::{Duration, Instant};

use hearth_wire::control::Order;
use nix::time::{ClockId, clock_gettime};

use self::entrant::{Entrant, Silence};
use self::plan::{Contender, Plan, PlanError};
use crate::trials::client::Client;

/// What the workload (`tests/ready.rs`) prints.
const READY: &str = "READY";
/// Counted time without a line after which a guest stands still. The slowest takes a quarter of a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// Starts of one run, of which all but the last may stand still.
pub(crate) const STARTS: u32 = 5;

pub(crate) fn run(plan: &Plan) -> Result<(), PlanError> {
    // The first round pays for reading files into the page cache and is not told.
    for round in 0..=plan.rounds {
        for contender in &plan.contenders {
            let failed = |what: String| PlanError::Contender { name: contender.name.clone(), what };
            let start = again_if_it_stands_still(&contender.name, || once(contender, plan.guest_mib))
                .map_err(|silence| failed(silence.to_string()))?;
            if round > 0 {
                println!("run {} {} {}", contender.name, start.ready_ns, start.private_kib);
                if let Some(nanoseconds) = start.entry_ns {
                    println!("entry {} {nanoseconds}", contender.name);
                }
            }
        }
    }
    Ok(())
}

/// Gives a guest that stands still another start (`entrant` says why), and tells of it.
pub(crate) fn again_if_it_stands_still<T>(
    name: &str,
    mut attempt: impl FnMut() -> Result<T, Silence>,
) -> Result<T, Silence> {
    for _ in 1..STARTS {
        match attempt() {
            Err(Silence::StandsStill { tail }) => {
                println!("{name}: stands still after `{tail}`; another start");
            }
            other => return other,
        }
    }
    attempt()
}

/// One start.
struct Start {
    /// From exec to READY.
    ready_ns: u128,
    /// From exec to the first instruction of the guest, where the monitor tells of it.
    entry_ns: Option<u128>,
    /// Private memory that is not the guest's.
    private_kib: u64,
}

fn once(contender: &Contender, guest_mib: u64) -> Result<Start, Silence> {
    let began_monotonic = monotonic_ns()?;
    let began = Instant::now();
    let mut entrant = Entrant::start(contender)?;
    while entrant.line(PATIENCE)? != READY {}
    let ready_ns = began.elapsed().as_nanos();
    let private_kib = memory::private_kib(entrant.pid(), guest_mib)?;
    let entry_ns = match &contender.control {
        Some(socket) => Some(first_entry_ns(socket)?.saturating_sub(began_monotonic)),
        None => None,
    };
    Ok(Start { ready_ns, entry_ns, private_kib })
}

/// When the first vCPU of the monitor behind `socket` entered its guest, by the monotonic clock.
fn first_entry_ns(socket: &Path) -> Result<u128, Silence> {
    let figures = Client::at(socket).and_then(|mut client| client.figures(Order::Statistics));
    let figures = figures.map_err(|failure| Silence::Control { why: failure.to_string() })?;
    Ok(figures.get("vcpu0.first_entry_monotonic_ns").copied().unwrap_or(0).into())
}

fn monotonic_ns() -> std::io::Result<u128> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(Duration::from(now).as_nanos())
}
