#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("toml"), |data: &[u8]| hearth_fuzz::run("toml", data));
