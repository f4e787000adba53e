//! Feeds any bytes to [`ffrtmp_tests::fuzz::filter`]. Seeds: `tests/data/fuzz/filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ffrtmp_tests::fuzz::filter(bytes));
