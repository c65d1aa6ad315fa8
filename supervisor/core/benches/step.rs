//! What a step of the core costs: `cargo bench -p hearth-core`.
//!
//! Nanoseconds of this machine, the least of several rounds; they say how steps compare, not whether a test passes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use hearth_core::{
    Boot, Build, Config, DeviceRecord, Event, Kind, Moment, Needs, Run, Said, Slot, Spec, State, Version, Vm,
    VmEnd, WorkloadId,
};

const ROUNDS: usize = 15;
const STEPS: u32 = 20_000;

/// A box with so many workloads that all run, each after the one before.
fn running(workloads: u32) -> (State, Moment) {
    let mut state = State::new(1);
    let now = Moment::START;
    let build = Build { version: Version(1), needs: Needs { memory_mib: 64, cpu_milli: 100 } };
    let specs = (0..workloads).map(|number| {
        let mut spec = Spec::new(&format!("w{number}"), Kind::Service { replicas: 1 }, build);
        spec.restart.budget = 64;
        spec.restart.window = Duration::from_millis(1);
        if number > 0 {
            spec.after.push(format!("w{}", number - 1));
        }
        spec
    });
    let config = Config { workloads: specs.collect(), ..Config::default() };
    let boot = Boot { first_daemon: true, ..Boot::default() };
    let _ = state.step(now, Event::Begin { boot, device: DeviceRecord::default(), records: Vec::new() });
    let _ = state.step(now, Event::Configured(Box::new(config)));
    let _ = state.step(now, Event::Surveyed);
    for number in 0..workloads {
        let vm = vm(number, 1);
        let _ = state.step(now, Event::Vm { vm, said: Said::AgentConnected });
        let _ = state.step(now, Event::Vm { vm, said: Said::WorkloadStarted });
    }
    (state, now)
}

fn vm(workload: u32, run: u32) -> Vm {
    WorkloadId::from_number(workload).replica(Slot::FIRST).run(Run(run))
}

/// The least time that one of the steps took on average.
fn measure(what: &str, workloads: u32, mut step: impl FnMut(&mut State, Moment, u32)) {
    let mut least = f64::MAX;
    for _ in 0..ROUNDS {
        let (mut state, now) = running(workloads);
        let began = Instant::now();
        for number in 0..STEPS {
            step(&mut state, now, number);
        }
        least = least.min(began.elapsed().as_secs_f64() * 1e9 / f64::from(STEPS));
        black_box(&state);
    }
    println!("{least:>9.0} ns  {what}, {workloads} workloads");
}

fn main() {
    for workloads in [1, 10, 64] {
        measure("heartbeat", workloads, |state, now, number| {
            let vm = vm(number % workloads, 1);
            black_box(state.step(now, Event::Vm { vm, said: Said::Heartbeat }));
        });
        measure("tick with nothing due", workloads, |state, now, _| {
            black_box(state.step(now, Event::Tick));
        });
        measure("tick at each deadline, all beating", workloads, |state, _, number| {
            let now = state.next_deadline().unwrap_or(Moment::START);
            let vm = vm(number % workloads, 1);
            black_box(state.step(now, Event::Vm { vm, said: Said::Heartbeat }));
            let now = now.after(Duration::from_millis(1));
            black_box(state.step(now, Event::Tick));
        });
        // A whole life: it ends, waits, starts, connects, runs.
        measure("a fifth of a crash and a restart", workloads, |state, _, number| {
            let run = number / 5 + 1;
            let last = workloads - 1;
            let now = Moment::from_millis(u64::from(run) * 1_000_000);
            let (vm, next) = (vm(last, run), vm(last, run + 1));
            let actions = match number % 5 {
                0 => state.step(now, Event::Vm { vm, said: Said::Ended(VmEnd::Panicked) }),
                1 => state.step(now.after(Duration::from_secs(1)), Event::Tick),
                2 => state.step(
                    now.after(Duration::from_secs(1)),
                    Event::Vm { vm: next, said: Said::AgentConnected },
                ),
                3 => state.step(
                    now.after(Duration::from_secs(1)),
                    Event::Vm { vm: next, said: Said::WorkloadStarted },
                ),
                _ => state.step(now.after(Duration::from_secs(2)), Event::Tick),
            };
            black_box(actions);
        });
    }
}
