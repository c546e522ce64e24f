#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| upg_fuzz::read::run(data));
