//! A car park that fills in the morning and empties in the evening.

use zeugma_schemas::domains::Parking;

use super::profile::{Local, Week, fraction, noise, rounded};
use crate::{
    clock::Moment,
    sensor::{Missing, Sensor},
};

/// Share of the spaces taken, by the hour.
const TOWN: Week = Week {
    workday: [
        0.09, 0.08, 0.07, 0.07, 0.07, 0.09, 0.18, 0.42, 0.7, 0.86, 0.92, 0.93, 0.9, 0.88, 0.87, 0.82, 0.7,
        0.55, 0.42, 0.33, 0.25, 0.19, 0.14, 0.11,
    ],
    weekend: [
        0.12, 0.1, 0.08, 0.07, 0.07, 0.07, 0.08, 0.12, 0.22, 0.38, 0.55, 0.64, 0.66, 0.62, 0.58, 0.55, 0.5,
        0.44, 0.4, 0.38, 0.33, 0.26, 0.2, 0.15,
    ],
};

/// One car park that counts its spaces.
#[derive(Debug, Clone)]
pub struct CarPark {
    seed: u64,
    total_spaces: i32,
}

impl CarPark {
    /// The car park that follows from `seed`, of 40 to 600 spaces.
    pub fn new(seed: u64) -> CarPark {
        CarPark { seed, total_spaces: 40 + (56.0 * fraction(seed)) as i32 * 10 }
    }
}

impl Sensor for CarPark {
    type Reading = Parking;

    fn sample(&mut self, now: &Moment) -> Result<Option<Parking>, Missing> {
        let time_us = now.time_us.ok_or(Missing::ClockUnset)?;
        let local = Local::at(time_us, now.utc_offset_s);
        let share = TOWN.value(local)
            * (0.97 + 0.08 * noise(self.seed ^ 1, 1_800, time_us) + 0.02 * noise(self.seed ^ 2, 60, time_us));
        let occupied = libm::round(share * f64::from(self.total_spaces)) as i32;
        // Warmest at three in the afternoon.
        let daily = libm::cos((local.hour - 15.0) / 24.0 * core::f64::consts::TAU);
        let temperature_c = 14.0 + 5.0 * daily + 2.0 * noise(self.seed ^ 3, 7_200, time_us);
        Ok(Some(Parking {
            occupied_spaces: occupied.clamp(0, self.total_spaces),
            total_spaces: Some(self.total_spaces),
            temperature_c: Some(rounded(temperature_c, 10.0)),
        }))
    }
}
