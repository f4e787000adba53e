//! Feeds any bytes to [`ffrtmp_tests::fuzz::record_decode`]. Seeds: `tests/data/fuzz/record_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ffrtmp_tests::fuzz::record_decode(bytes));
