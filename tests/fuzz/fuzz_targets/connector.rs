//! Feeds any bytes to [`ffrtmp_tests::fuzz::connector`]. Seeds: `tests/data/fuzz/connector`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ffrtmp_tests::fuzz::connector(bytes));
