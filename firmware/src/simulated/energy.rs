//! The meter of an office building: nights, days and weekends, and an import counter that only rises.

use zeugma_schemas::domains::Energy;

use super::profile::{Local, Week, fraction, noise, rounded};
use crate::{
    clock::Moment,
    sensor::{Missing, Sensor},
};

/// Share of the greatest load, by the hour.
const OFFICE: Week = Week {
    workday: [
        0.18, 0.17, 0.17, 0.17, 0.18, 0.22, 0.35, 0.62, 0.86, 0.97, 1.0, 0.98, 0.9, 0.94, 0.97, 0.93, 0.82,
        0.64, 0.47, 0.36, 0.29, 0.24, 0.21, 0.19,
    ],
    weekend: [
        0.17, 0.16, 0.16, 0.16, 0.16, 0.17, 0.18, 0.2, 0.23, 0.26, 0.27, 0.27, 0.26, 0.25, 0.25, 0.24, 0.23,
        0.22, 0.21, 0.2, 0.19, 0.18, 0.18, 0.17,
    ],
};

/// One meter; small buildings have one phase, larger ones three.
#[derive(Debug, Clone)]
pub struct Meter {
    seed: u64,
    load_max_w: f64,
    power_factor: f64,
    import_wh: f64,
}

impl Meter {
    /// The meter that follows from `seed`, of a building of 3 to 60 kW.
    pub fn new(seed: u64) -> Meter {
        let size = fraction(seed);
        Meter {
            seed,
            load_max_w: 3_000.0 + 57_000.0 * size * size,
            power_factor: 0.9 + 0.08 * fraction(seed ^ 1),
            import_wh: 0.0,
        }
    }

    fn volts(&self, phase: u64, load: f64, time_us: i64) -> f64 {
        230.0 + 2.5 * noise(self.seed ^ 7, 900, time_us) + 0.8 * noise(self.seed ^ (8 + phase), 60, time_us)
            - 1.5 * load
    }
}

impl Sensor for Meter {
    type Reading = Energy;

    fn sample(&mut self, now: &Moment) -> Result<Option<Energy>, Missing> {
        let time_us = now.time_us.ok_or(Missing::ClockUnset)?;
        let local = Local::at(time_us, now.utc_offset_s);
        let load = OFFICE.value(local)
            * (1.0 + 0.06 * noise(self.seed ^ 2, 300, time_us) + 0.03 * noise(self.seed ^ 3, 20, time_us));
        let power_w = self.load_max_w * load;
        // When local clocks are set back an hour the counter waits for them.
        self.import_wh = self.import_wh.max(OFFICE.hours_since_zero(local) * self.load_max_w);
        let factor = self.power_factor + 0.01 * noise(self.seed ^ 4, 120, time_us);
        let mut reading = Energy {
            active_power_w: Some(rounded(power_w, 10.0)),
            reactive_power_var: Some(rounded(power_w * libm::sqrt(1.0 / (factor * factor) - 1.0), 10.0)),
            energy_import_wh: Some(rounded(self.import_wh, 10.0)),
            power_factor: Some(rounded(factor, 1000.0)),
            frequency_hz: Some(rounded(50.0 + 0.02 * noise(0, 30, time_us), 1000.0)),
            ..Energy::default()
        };
        let volts = |phase| rounded(self.volts(phase, load, time_us), 10.0);
        let amperes = |phase, share| Some(rounded(power_w * share / (volts(phase) * factor), 100.0));
        if self.load_max_w < 9_000.0 {
            reading.voltage_v = Some(volts(0));
            reading.current_a = amperes(0, 1.0);
        } else {
            let lean = 0.02 * noise(self.seed ^ 5, 600, time_us);
            [reading.voltage_l1_v, reading.voltage_l2_v, reading.voltage_l3_v] =
                [0, 1, 2].map(|p| Some(volts(p)));
            reading.current_l1_a = amperes(0, 0.36 + lean);
            reading.current_l2_a = amperes(1, 0.33);
            reading.current_l3_a = amperes(2, 0.31 - lean);
        }
        Ok(Some(reading))
    }
}
