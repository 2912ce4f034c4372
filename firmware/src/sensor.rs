//! What a sensor answers: a value, or the reason there is none; never a guess.

use zeugma_schemas::domains::Measurement;

use crate::clock::Moment;

/// One thing that can be measured.
pub trait Sensor {
    /// What it measures; its domain is part of the type.
    type Reading: Measurement;

    /// Looks at what it measures; `None` where there is nothing to report at this moment.
    fn sample(&mut self, now: &Moment) -> Result<Option<Self::Reading>, Missing>;

    /// What it has counted so far and nobody else knows: pulses' energy, millimetres. It is kept with each reading.
    fn counter(&self) -> Option<u64> {
        None
    }

    /// Goes on from what it had counted at the last reading before a loss of power, whatever it was made with: to count
    /// anew, as for another vehicle, the flash has to be erased.
    fn resume(&mut self, _counter: u64) {}
}

/// Why there is no reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The sensor cannot measure without knowing the time.
    #[error("the clock was never set")]
    ClockUnset,
    /// The sensor did not answer or was out of its range.
    #[error("the sensor gave no valid value")]
    NoValue,
    /// The moment to measure passed while the device was busy; it is not made up for.
    #[error("the moment to measure had passed")]
    Late,
    /// The encoded reading is larger than a record of the outbox.
    #[error("the reading is larger than a record")]
    TooLarge,
}

/// What only the board can tell of the device's own state; what it cannot tell is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Vitals {
    /// Voltage of the battery.
    pub battery_v: Option<f64>,
    /// Strength of the received radio signal.
    pub rssi_dbm: Option<i32>,
}
