#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("net"), |data: &[u8]| hearth_fuzz::run("net", data));
