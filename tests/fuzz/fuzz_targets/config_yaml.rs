//! Feeds any bytes to [`ffrtmp_tests::fuzz::config_yaml`]. Seeds: `tests/data/fuzz/config_yaml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ffrtmp_tests::fuzz::config_yaml(bytes));
