#![no_main]
libfuzzer_sys::fuzz_target!(init: hearth_fuzz::sow("vsock"), |data: &[u8]| hearth_fuzz::run("vsock", data));
