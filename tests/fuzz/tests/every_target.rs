//! Every target over its seeds and over inputs that look random and are the same every time: with plain Rust, so that
//! targets cannot rot between two campaigns of the fuzzer.

use std::fs;
use std::path::Path;

use hearth_fuzz::{TARGETS, Target, find, targets, wild};

/// Made-up inputs for each target.
const INPUTS: usize = 400;
/// Bytes of the longest.
const LONGEST: usize = 1500;

fn play(target: &Target) {
    for seed in (target.seeds)() {
        (target.run)(&seed);
    }
    for number in 0..INPUTS {
        // Other noise than the seeds'.
        let input = wild::noise(1000 + number as u64, number * number % LONGEST);
        (target.run)(&input);
    }
}

macro_rules! played {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                play(find(stringify!($name)));
            }
        )*

        const PLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

played!(
    wire, mmio, platform, rng, console, balloon, block, net, vsock, toml, json, state, mqtt, kernel, control
);

#[test]
fn every_target_has_a_program_and_a_test() {
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let mut played = PLAYED.to_vec();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut programs: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    played.sort_unstable();
    programs.sort_unstable();
    assert_eq!(names, programs);
    assert_eq!(names, played);
}

#[test]
fn a_state_without_faults_is_read_so_the_target_gets_behind_its_checksum() {
    assert!(targets::state::reads_its_own());
}
