#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("mmio"), |data: &[u8]| hearth_fuzz::run("mmio", data));
