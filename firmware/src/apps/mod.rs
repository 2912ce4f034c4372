//! The devices a city buys most, each over raw input that a board gives.

pub mod bay;
pub mod meter;
pub mod pulses;
pub mod sentence;
pub mod telegram;
pub mod tracker;
