#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("state"), |data: &[u8]| hearth_fuzz::run("state", data));
