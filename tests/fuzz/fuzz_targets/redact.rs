//! Feeds any bytes to [`ffrtmp_tests::fuzz::redact`]. Seeds: `tests/data/fuzz/redact`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ffrtmp_tests::fuzz::redact(bytes));
