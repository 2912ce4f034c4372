//! What the device stands on: time, its own state, a network, and somebody who is told what happens.

use embedded_io_async::{Read, Write};

use crate::{
    clock::Moment,
    schedule::Channel,
    sensor::{Missing, Vitals},
};

/// The hardware, or what plays it.
pub trait Board {
    /// The present moment.
    fn now(&self) -> Moment;

    /// What the board can tell of the device's state.
    fn vitals(&mut self) -> Vitals {
        Vitals::default()
    }

    /// Hears what happens: for a log, a lamp, a tally.
    fn note(&mut self, _event: Event) {}
}

/// How the device reaches its broker.
pub trait Dial {
    /// A byte stream to the broker. Its futures may be dropped at any moment, and then have done nothing.
    type Io<'a>: Read + Write
    where
        Self: 'a;

    /// Opens a new stream. May take long: the device gives up after [`crate::publisher::OPEN_MAX`].
    fn dial(&mut self) -> impl Future<Output = Result<Self::Io<'_>, Lost>>;
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A reading was taken and kept.
    Taken(Channel),
    /// So many readings were not taken.
    Missing {
        /// Why.
        reason: Missing,
        /// How many.
        count: u64,
    },
    /// So many of the oldest readings were dropped: the outbox was full, their time will never be known, or the flash does
    /// not hold them any more.
    Dropped(u64),
    /// The flash did not do as it was told; what could not be kept on it is in RAM as long as there is room.
    FlashFailed,
    /// The broker answered.
    Connected,
    /// The broker was not reached, or the connection ended.
    Lost(Lost),
    /// The broker accepted so many readings.
    Acknowledged(usize),
    /// The broker refused so many readings; they are kept and tried again after a pause.
    Refused(usize),
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The network gave no stream.
    #[error("the broker cannot be reached")]
    Unreachable,
    /// The broker did not prove that it holds the device's key.
    #[error("the broker and this device do not hold the same key")]
    Untrusted,
    /// The broker said no, with this MQTT reason code.
    #[error("the broker refused the connection with reason {0:#04x}")]
    Refused(u8),
    /// No answer in time.
    #[error("the broker did not answer in time")]
    TimedOut,
    /// The stream ended or broke.
    #[error("the connection broke")]
    Closed,
    /// What came was not the MQTT or TLS that the device speaks, or no QoS 1 is to be had.
    #[error("the broker broke the protocol, or speaks it in a way that this device does not know")]
    Protocol,
}
