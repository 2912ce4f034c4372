//! The whole city in one process: journeys that read as sentences, and the peers it must get on with.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod brokers;
mod commands;
mod dead_letters;
mod golden;
mod invariants;
mod journeys;
mod late_data;
mod real_data;
mod sql_files;
mod with_peers;
