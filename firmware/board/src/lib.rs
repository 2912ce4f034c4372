//! The device on a board: QEMU's `lm3s6965evb`, whose Cortex-M3 has 256 KB of flash, 64 KB of RAM and Ethernet.
//!
//! - [`life`]: what each application does with the board: settings, clock, network, and the device's life
//! - [`broker`], [`time_server`]: whom the device speaks to; `guessable`: numbers for TLS
//! - [`ethernet`], [`uart`], [`time`], [`sleep`]: the hardware, and how the processor waits for it
//! - [`host`]: what stands in for hardware that the emulator lacks: arguments, flash, the end of the program
//! - [`magnetometer`]: samples over a wire, in the place of a bus
//! - [`stack`]: how much of the stack was ever used
//!
//! All `unsafe` of the device is in this crate, each with its reason.

#![no_std]

pub mod broker;
pub mod ethernet;
#[cfg(feature = "tls")]
pub mod guessable;
pub mod host;
mod interrupts;
pub mod life;
pub mod magnetometer;
mod registers;
pub mod sleep;
pub mod stack;
pub mod time;
pub mod time_server;
pub mod uart;
