#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("mqtt"), |data: &[u8]| hearth_fuzz::run("mqtt", data));
