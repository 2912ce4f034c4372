//! An electricity meter that only blinks: each pulse of its S0 output (IEC 62053-31) is a share of a kilowatt hour.

use embassy_time::{Duration, Instant};
use zeugma_schemas::domains::Energy;

use crate::{
    clock::Moment,
    schedule::beat_after,
    sensor::{Missing, Sensor},
};

/// A counter of pulses; it wraps.
pub trait Pulses {
    /// How many there were.
    fn count(&mut self) -> u32;
}

/// A meter whose pulses `P` counts.
pub struct PulseMeter<P> {
    pulses: P,
    pulses_per_kwh: u32,
    report_every: Duration,
    next_report: Option<Instant>,
    last_count: u32,
    /// Since the meter was made, as its display says.
    import_wh: f64,
    /// At the last report.
    reported: Option<(Instant, f64)>,
}

impl<P: Pulses> PulseMeter<P> {
    /// Goes on from what the meter's display showed, as the pulses say nothing of the past; later from what was counted
    /// until the last reading before a loss of power.
    pub fn new(mut pulses: P, pulses_per_kwh: u32, import_wh: f64, report_every: Duration) -> Self {
        let (last_count, pulses_per_kwh) = (pulses.count(), pulses_per_kwh.max(1));
        PulseMeter {
            pulses,
            pulses_per_kwh,
            report_every,
            next_report: None,
            last_count,
            import_wh,
            reported: None,
        }
    }

    fn wh(&self, pulses: u32) -> f64 {
        f64::from(pulses) * 1_000.0 / f64::from(self.pulses_per_kwh)
    }
}

impl<P: Pulses> Sensor for PulseMeter<P> {
    type Reading = Energy;

    fn sample(&mut self, now: &Moment) -> Result<Option<Energy>, Missing> {
        let count = self.pulses.count();
        self.import_wh += self.wh(count.wrapping_sub(self.last_count));
        self.last_count = count;
        let due = self.next_report.unwrap_or(now.at);
        if now.at < due {
            return Ok(None);
        }
        self.next_report = Some(beat_after(due, self.report_every, now.at).0);
        // Power is the mean since the last report: pulses say no more.
        let active_power_w = self.reported.and_then(|(at, wh)| {
            let hours = (now.at - at).as_micros() as f64 / 3.6e9;
            (hours > 0.0).then(|| (self.import_wh - wh) / hours)
        });
        self.reported = Some((now.at, self.import_wh));
        Ok(Some(Energy { active_power_w, energy_import_wh: Some(self.import_wh), ..Energy::default() }))
    }

    /// In thousandths of a watt hour.
    fn counter(&self) -> Option<u64> {
        Some(libm::round(self.import_wh * 1_000.0) as u64)
    }

    fn resume(&mut self, counter: u64) {
        self.import_wh = counter as f64 / 1_000.0;
    }
}
