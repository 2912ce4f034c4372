//! The whole city in one process: journeys that read as sentences, and the peers it must get on with.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod commands;
mod fuzz_seeds;
mod golden;
mod invariants;
mod journal;
mod journeys;
mod real_data;
mod simulation;
mod sql_files;
mod with_peers;
