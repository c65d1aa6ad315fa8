#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("control"), |data: &[u8]| hearth_fuzz::run("control", data));
