//! Any bytes as JSON readings of each domain.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zeugma_fuzz::json(bytes));
