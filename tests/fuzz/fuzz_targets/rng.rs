#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("rng"), |data: &[u8]| hearth_fuzz::run("rng", data));
