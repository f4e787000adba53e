//! Feeds any bytes to [`ffrtmp_tests::fuzz::cursor`]. Seeds: `tests/data/fuzz/cursor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ffrtmp_tests::fuzz::cursor(bytes));
