#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("wire"), |data: &[u8]| hearth_fuzz::run("wire", data));
