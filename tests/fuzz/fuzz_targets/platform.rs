#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("platform"), |data: &[u8]| hearth_fuzz::run("platform", data));
