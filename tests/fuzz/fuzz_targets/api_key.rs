//! Feeds any bytes to [`ffrtmp_tests::fuzz::api_key`]. Seeds: `tests/data/fuzz/api_key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ffrtmp_tests::fuzz::api_key(bytes));
