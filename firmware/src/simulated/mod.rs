//! Sensors that play a city: plausible readings that follow from a seed and the time alone.
//!
//! Every value is a function of time, so a device that is started again goes on where its counters were.
//!
//! - [`profile`]: a day and a week by the hour, their integral for counters, and smooth noise
//! - [`energy`]: an office building's meter
//! - [`parking`]: a car park
//! - [`fleet`]: a vehicle on its round
//! - [`connectivity`]: a public hotspot
//! - [`health`]: the board's own state

pub mod connectivity;
pub mod energy;
pub mod fleet;
pub mod health;
pub mod parking;
pub mod profile;
