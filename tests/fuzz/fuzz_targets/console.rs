#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("console"), |data: &[u8]| hearth_fuzz::run("console", data));
