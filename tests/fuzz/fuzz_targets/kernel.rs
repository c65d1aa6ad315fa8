#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("kernel"), |data: &[u8]| hearth_fuzz::run("kernel", data));
