//! Any text as a broker's URL: never a panic, and never a password in what is shown.
#![no_main]

// The file alone, as its crate would link the lake.
#[path = "../../ingest/src/subscriber/config.rs"]
mod config;

const PASSWORD: &str = "Ne-montrez-pas-7";

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(config) = config::Config::parse(text) {
        assert!(!config.host.is_empty() && config.address().len() > config.host.len());
        config.trusts(text);
    }
    let secret = format!("mqtt://city:{PASSWORD}{text}");
    let shown = match config::Config::parse(&secret) {
        Ok(config) => format!("{config:?}"),
        Err(problem) => problem,
    };
    assert!(!shown.contains(PASSWORD) || text.contains(PASSWORD), "{shown}");
});
