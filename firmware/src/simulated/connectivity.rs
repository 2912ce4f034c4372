//! A public hotspot: people by the hour, byte counters that rise, and now and then a short outage.

use zeugma_schemas::domains::Connectivity;

use super::profile::{Local, Week, fraction, noise, rounded};
use crate::{
    clock::Moment,
    random::mixed,
    sensor::{Missing, Sensor},
};

/// Share of the busiest hour's guests.
const SQUARE: Week = Week {
    workday: [
        0.06, 0.04, 0.03, 0.02, 0.03, 0.06, 0.15, 0.3, 0.42, 0.48, 0.55, 0.65, 0.78, 0.74, 0.68, 0.7, 0.8,
        0.93, 1.0, 0.95, 0.78, 0.52, 0.3, 0.14,
    ],
    weekend: [
        0.12, 0.08, 0.05, 0.03, 0.03, 0.04, 0.07, 0.13, 0.24, 0.4, 0.58, 0.72, 0.82, 0.86, 0.88, 0.88, 0.9,
        0.95, 1.0, 0.97, 0.85, 0.62, 0.42, 0.24,
    ],
};

/// Bytes received from a guest in an hour, and sent to one.
const RX_BYTES_PER_HOUR: f64 = 9.0e6;
const TX_BYTES_PER_HOUR: f64 = 55.0e6;

/// One hour in so many has an outage.
const HOURS_PER_OUTAGE: u64 = 8;

/// One hotspot.
#[derive(Debug, Clone)]
pub struct Hotspot {
    seed: u64,
    guests_max: f64,
    guest_hours: f64,
}

impl Hotspot {
    /// The hotspot that follows from `seed`, of 15 to 120 guests in the busiest hour.
    pub fn new(seed: u64) -> Hotspot {
        Hotspot { seed, guests_max: 15.0 + 105.0 * fraction(seed), guest_hours: 0.0 }
    }

    /// Two to five minutes somewhere in an hour that has an outage.
    fn is_up(&self, time_us: i64) -> bool {
        let hour = time_us.div_euclid(3_600_000_000);
        let minute = time_us.rem_euclid(3_600_000_000) as f64 / 60.0e6;
        let draw = mixed(self.seed ^ mixed(hour as u64));
        let start = 50.0 * fraction(draw);
        let minutes = 2.0 + 3.0 * fraction(draw ^ 1);
        !draw.is_multiple_of(HOURS_PER_OUTAGE) || minute < start || minute >= start + minutes
    }
}

impl Sensor for Hotspot {
    type Reading = Connectivity;

    fn sample(&mut self, now: &Moment) -> Result<Option<Connectivity>, Missing> {
        let time_us = now.time_us.ok_or(Missing::ClockUnset)?;
        if !self.is_up(time_us) {
            // A link that is down answers no question but this one.
            return Ok(Some(Connectivity { up: false, loss_pct: Some(100.0), ..Connectivity::default() }));
        }
        let local = Local::at(time_us, now.utc_offset_s);
        let share = SQUARE.value(local) * (1.0 + 0.15 * noise(self.seed ^ 1, 240, time_us));
        // When local clocks are set back an hour the counters wait for them.
        self.guest_hours = self.guest_hours.max(SQUARE.hours_since_zero(local) * self.guests_max);
        let latency_ms = 9.0 + 22.0 * share + 4.0 * noise(self.seed ^ 2, 15, time_us);
        let loss_pct = (0.6 * noise(self.seed ^ 3, 45, time_us)).max(0.0);
        Ok(Some(Connectivity {
            up: true,
            clients: Some(libm::round(share * self.guests_max) as i32),
            rx_bytes: Some((self.guest_hours * RX_BYTES_PER_HOUR) as i64),
            tx_bytes: Some((self.guest_hours * TX_BYTES_PER_HOUR) as i64),
            latency_ms: Some(rounded(latency_ms, 10.0)),
            loss_pct: Some(rounded(loss_pct, 10.0)),
        }))
    }
}
