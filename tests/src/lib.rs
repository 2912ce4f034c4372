//! What tests of the whole city stand on.
//!
//! - [`city`] - everything in one process, on free ports, in a temporary folder
//! - [`device`] - an MQTT client that publishes and waits for its acknowledgement
//! - [`program`] - the real binary as a child process, which can be killed
//! - [`peers`] - other people's programs: mosquitto, and Python with fastavro and DuckDB
//! - [`simulation`] - every failure we know of, from a seed

pub mod city;
pub mod device;
pub mod peers;
pub mod program;
#[path = "../simulation/mod.rs"]
pub mod simulation;

pub use city::City;
pub use device::Device;
pub use program::Program;
