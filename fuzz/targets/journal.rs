//! A journal that is written to, damaged and opened again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zeugma_fuzz::journal(bytes));
