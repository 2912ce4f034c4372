//! The state of a simulated board: a battery that ages a little and a radio that fades; all else is real.

use super::profile::{fraction, noise, rounded};
use crate::sensor::Vitals;

/// What the board with this seed tells at this time.
pub fn vitals(seed: u64, time_us: i64) -> Vitals {
    Vitals {
        battery_v: Some(rounded(
            3.45 + 0.3 * fraction(seed) + 0.02 * noise(seed ^ 1, 3_600, time_us),
            1000.0,
        )),
        rssi_dbm: Some((-62.0 - 20.0 * fraction(seed ^ 2) + 5.0 * noise(seed ^ 3, 60, time_us)) as i32),
    }
}
