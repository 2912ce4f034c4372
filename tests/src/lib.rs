//! What tests of the whole city stand on.
//!
//! - [`city`] - everything in one process, on free ports, in a temporary folder
//! - [`device`] - an MQTT client that publishes and waits for its acknowledgement
//! - [`load`] - very many readings over MQTT, at little cost
//! - [`check`] - whether what it sent is found, each once
//! - [`ask`] - questions to a server of another process, from code that is not asynchronous
//! - [`process`] - what a process has used
//! - [`program`] - the real binary as a child process, which can be killed
//! - [`fake_broker`] - a broker that breaks connections on purpose, and writes down what it hears
//! - [`wire`] - a connection that can be cut or frozen
//! - [`storm`] - thousands of devices at once, and bad guests
//! - [`board`] - the real firmware on an emulated board
//! - [`peers`] - other people's programs: mosquitto, and Python with fastavro and DuckDB
//! - [`real_data`] - real vehicles, car parks and meters, where the machine has them
//! - [`simulation`] - every failure we know of, from a seed

pub mod ask;
pub mod board;
pub mod check;
pub mod city;
pub mod device;
pub mod fake_broker;
pub mod load;
pub mod peers;
pub mod process;
pub mod program;
pub mod real_data;
#[path = "../simulation/mod.rs"]
pub mod simulation;
pub mod storm;
pub mod wire;

pub use city::City;
pub use device::Device;
pub use fake_broker::FakeBroker;
pub use program::Program;
pub use wire::Wire;
