//! The device: senses, keeps, publishes. `no_std`, no allocation, for a board or for a host that plays one.
//!
//! ```text
//!   sensor --a value, or why none--> clock --time fixed--> outbox --batch--> publisher --> broker
//!      ^                                                     |  ^                |
//!   schedule (what is due)            oldest dropped when full  +--accepted------+
//!                                                               +--refused, lost: waits again
//! ```
//!
//! - [`board`]: what a device stands on, given from outside: time, a network, somebody to tell
//! - [`sensor`], [`schedule`], [`clock`]: what is measured, when, and at which time
//! - [`outbox`], [`batch`]: readings kept until acknowledged, and several of them in one payload
//! - [`publisher`], [`backoff`], [`random`]: MQTT 5 at QoS 1, and how to be patient
//! - [`device`]: the loop around all this
//! - [`simulated`]: sensors that play a city

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod backoff;
pub mod batch;
pub mod board;
pub mod clock;
pub mod device;
mod link;
mod name;
pub mod outbox;
pub mod publisher;
pub mod random;
pub mod schedule;
mod sense;
pub mod sensor;
pub mod simulated;
mod wait;
