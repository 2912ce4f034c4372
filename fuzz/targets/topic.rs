//! Any text is a topic of ours, or none.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zeugma_fuzz::topic(bytes));
