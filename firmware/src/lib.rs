//! The device: senses, keeps, publishes. `no_std`, no allocation, for a board or for a host that plays one.
//!
//! ```text
//!   sensor --a value, or why none--> outbox, time fixed, on flash --batch--> publisher --> broker
//!      ^                                                     |  ^                |
//!   schedule (what is due)            oldest dropped when full  +--accepted------+
//!                                                               +--refused, lost: waits again
//! ```
//!
//! - [`board`], [`serial`], [`settings`]: what a device stands on, given from outside: time, a network, somebody to
//!   tell, a wire to the sensor, and what an installer says
//! - [`apps`]: electricity meters, parking bays and vehicles; [`simulated`]: sensors that play a city
//! - [`sensor`], [`schedule`], [`clock`]: what is measured, when, and at which time
//! - [`outbox`]: readings kept until acknowledged: a [`ring`] in RAM, and behind it [`flash`] with [`record`]s, their
//!   time ([`anchor`]) and the device's [`memory`]; [`batch`]: several of them in one payload
//! - [`publisher`], [`backoff`], [`random`]: MQTT 5 at QoS 1, and how to be patient; `tls`: under whose cover
//! - [`device`]: the loop around all this

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod anchor;
pub mod apps;
pub mod backoff;
pub mod batch;
pub mod board;
pub mod clock;
pub mod device;
pub mod flash;
mod link;
pub mod memory;
mod name;
pub mod outbox;
pub mod publisher;
pub mod random;
pub mod record;
pub mod ring;
pub mod schedule;
mod sense;
pub mod sensor;
pub mod serial;
pub mod settings;
pub mod simulated;
#[cfg(feature = "tls")]
pub mod tls;
mod wait;
#[cfg(any(feature = "tls", test))]
mod whole;
