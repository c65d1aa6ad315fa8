#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("balloon"), |data: &[u8]| hearth_fuzz::run("balloon", data));
