#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("json"), |data: &[u8]| hearth_fuzz::run("json", data));
