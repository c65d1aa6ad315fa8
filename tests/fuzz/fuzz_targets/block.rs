#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("block"), |data: &[u8]| hearth_fuzz::run("block", data));
