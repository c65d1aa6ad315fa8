//! Hostile input for everything that reads what others wrote.
//!
//! | where | what |
//! |---|---|
//! | [`TARGETS`] | every target with its name and the inputs that it starts from |
//! | [`targets`] | what each drives, and what has to hold |
//! | [`guest`] | the guest of the virtio targets: registers, rings, buffers, and an honest driver at the end |
//! | [`wild`] | a fuzzer's bytes as choices |
//! | `fuzz_targets/` | the same as programs of libFuzzer (feature `libfuzzer`) |
//!
//! Duty: turn bytes into what an attacker or a fault could bring about, mostly well formed so that readers are entered,
//! and assert what is promised. Not its duty: where the bytes are from. A test runs every target over its seeds and some
//! hundred made-up inputs with plain Rust; `cargo xtask fuzz` has libFuzzer look for new ones.
//!
//! Invariant: a target is a function of its input: no network, no clock that matters, no file but in memory or in a
//! folder of its own. One input never takes a second.

#![forbid(unsafe_code)]

mod frames;
pub mod guest;
pub mod targets;
pub mod wild;

use std::path::Path;
use std::{env, fs};

use targets::{
    balloon, block, config, console, control, kernel, mmio, mqtt, net, platform, rng, state, vsock, wire,
};

/// Where a fuzzer wants its first inputs, if it wants any.
const SEEDS_VARIABLE: &str = "HEARTH_FUZZ_SEEDS";

/// Something that can be fuzzed.
#[derive(Debug)]
pub struct Target {
    /// What its program is called.
    pub name: &'static str,
    /// Plays one input; panics where a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

/// All of them. The quick readers come first.
pub const TARGETS: [Target; 15] = [
    target("wire", wire::run, wire::seeds),
    target("mmio", mmio::run, plain),
    target("platform", platform::run, plain),
    target("rng", rng::run, plain),
    target("console", console::run, plain),
    target("balloon", balloon::run, plain),
    target("block", block::run, plain),
    target("net", net::run, plain),
    target("vsock", vsock::run, plain),
    target("toml", config::run_toml, config::toml_seeds),
    target("json", config::run_json, plain),
    target("state", state::run, plain),
    target("mqtt", mqtt::run, plain),
    target("kernel", kernel::run, plain),
    target("control", control::run, plain),
];

/// Inputs for a target that reads choices: none at all, and some noise.
fn plain() -> Vec<Vec<u8>> {
    noises(8, 600)
}

/// Nothing, and `count` pieces of noise, the last of them `longest` bytes long.
fn noises(count: usize, longest: usize) -> Vec<Vec<u8>> {
    let noise = |number: usize| wild::noise(number as u64, longest * number / count.max(1));
    (0..=count).map(noise).collect()
}

/// The target of this name.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn find(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}"))
}

/// Plays one input; what programs of libFuzzer do.
pub fn run(name: &str, data: &[u8]) {
    (find(name).run)(data);
}

/// Writes the target's seeds where `HEARTH_FUZZ_SEEDS` says, if it says anything; what those programs do first.
///
/// # Panics
/// Where they cannot be written.
pub fn sow(name: &str) {
    let Some(folder) = env::var_os(SEEDS_VARIABLE) else { return };
    let folder = Path::new(&folder);
    for (number, seed) in (find(name).seeds)().iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).expect("seeds can be written");
    }
}
