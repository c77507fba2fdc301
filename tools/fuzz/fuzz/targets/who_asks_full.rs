#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hostchat_fuzz::who_asks::run_with_floods(bytes));
