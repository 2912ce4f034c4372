//! The whole city in one process: journeys that read as sentences, and the peers it must get on with.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod boards;
mod brokers;
mod commands;
mod dead_letters;
mod erase;
mod fuzz_seeds;
mod golden;
mod invariants;
mod journal;
mod journeys;
mod late_data;
mod live;
mod operators;
mod real_data;
mod simulation;
mod sql_files;
mod storms;
mod upkeep;
mod with_peers;
