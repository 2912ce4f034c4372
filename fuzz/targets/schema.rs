//! Any text as an .avsc file; one that is taken must be usable.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| zeugma_fuzz::schema(bytes));
