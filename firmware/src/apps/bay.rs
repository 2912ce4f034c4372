//! A parking bay's magnetometer: a vehicle above bends the earth's field.
//!
//! ```text
//!   samples ▶ calibration ▶ how far from the free field ▶ above / below, with hysteresis ▶ for long enough ▶ state
//!                 ▲                                              │
//!                 └────── drift is followed while the bay is free ┘
//! ```

use embassy_time::{Duration, Instant};
use zeugma_schemas::domains::Parking;

use crate::{
    clock::Moment,
    sensor::{Missing, Sensor},
};

/// The field in three directions, in nanotesla.
pub type Field = [f32; 3];

/// A magnetometer and its thermometer.
pub trait Magnetometer {
    /// The field now, and the temperature if it is known; `None` if the chip does not answer.
    fn read(&mut self) -> Option<(Field, Option<f32>)>;
}

/// When a bay counts as taken.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    /// Farther from the free field than this: something is above.
    pub taken_nt: f32,
    /// Nearer than this share of what it bent the field by: it has gone. Between the two nothing changes.
    ///
    /// A share, as the free field is not seen while a car stands there, and may have drifted for hours.
    pub gone_share: f32,
    /// For so long, so that a lorry that passes is none that parks.
    pub for_at_least: Duration,
    /// How quickly the free field follows drift: its share of the difference each second.
    pub drift_per_s: f32,
}

impl Default for Thresholds {
    /// A car bends the field of a bay by 4,000 nT and more, a lorry on the next lane by some 2,000 for seconds;
    /// temperature and ageing move the sensor's zero by some 30 nT a minute at most.
    fn default() -> Self {
        Thresholds {
            taken_nt: 2_500.0,
            gone_share: 0.5,
            for_at_least: Duration::from_secs(8),
            drift_per_s: 0.002,
        }
    }
}

/// How quickly the strength follows: slow beside a lorry that passes, quick beside the drift.
const STRENGTH_PER_S: f32 = 0.02;

/// How many samples make the first idea of the free field.
const CALIBRATION: u32 = 16;

/// What a bay's samples say; knows no chip.
#[derive(Debug, Clone)]
pub struct Detector {
    thresholds: Thresholds,
    samples: u32,
    free_field: Field,
    is_taken: bool,
    /// How far what is above bends the field.
    strength_nt: f32,
    /// Since when the samples have said otherwise.
    otherwise_since: Option<Instant>,
    last: Option<Instant>,
}

impl Detector {
    /// Of a bay that is free while it is calibrated.
    pub fn new(thresholds: Thresholds) -> Detector {
        Detector {
            thresholds,
            samples: 0,
            free_field: [0.0; 3],
            is_taken: false,
            strength_nt: 0.0,
            otherwise_since: None,
            last: None,
        }
    }

    /// Takes a sample; answers whether the bay is taken, and `None` while it is calibrated.
    pub fn push(&mut self, at: Instant, field: Field) -> Option<bool> {
        let elapsed = at.saturating_duration_since(self.last.unwrap_or(at));
        self.last = Some(at);
        if self.samples < CALIBRATION {
            self.samples += 1;
            let share = 1.0 / self.samples as f32;
            self.follow(field, share);
            return (self.samples == CALIBRATION).then_some(self.is_taken);
        }
        let distance_nt = distance(field, self.free_field);
        let threshold_nt = if self.is_taken {
            self.strength_nt * self.thresholds.gone_share
        } else {
            self.thresholds.taken_nt
        };
        let says_taken = distance_nt > threshold_nt;
        if says_taken == self.is_taken {
            self.otherwise_since = None;
        } else {
            let since = *self.otherwise_since.get_or_insert(at);
            if at.saturating_duration_since(since) >= self.thresholds.for_at_least {
                (self.is_taken, self.otherwise_since) = (says_taken, None);
                self.strength_nt = distance_nt;
            }
        }
        let seconds = elapsed.as_micros() as f32 / 1e6;
        match (self.is_taken, self.otherwise_since) {
            (false, None) => self.follow(field, (self.thresholds.drift_per_s * seconds).min(1.0)),
            (true, None) => {
                let share = (STRENGTH_PER_S * seconds).min(1.0);
                self.strength_nt += (distance_nt - self.strength_nt) * share;
            }
            _ => {}
        }
        Some(self.is_taken)
    }

    fn follow(&mut self, field: Field, share: f32) {
        for (free, now) in self.free_field.iter_mut().zip(field) {
            *free += (now - *free) * share;
        }
    }
}

fn distance(one: Field, other: Field) -> f32 {
    libm::sqrtf(one.iter().zip(other).map(|(one, other)| (one - other) * (one - other)).sum())
}

/// A bay over `M`; it reports when it changes, and now and then that it has not.
pub struct Bay<M> {
    magnetometer: M,
    detector: Detector,
    report_every: Duration,
    reported: Option<(Instant, bool)>,
}

impl<M: Magnetometer> Bay<M> {
    /// A bay that is free now.
    pub fn new(magnetometer: M, thresholds: Thresholds, report_every: Duration) -> Bay<M> {
        Bay { magnetometer, detector: Detector::new(thresholds), report_every, reported: None }
    }
}

impl<M: Magnetometer> Sensor for Bay<M> {
    type Reading = Parking;

    fn sample(&mut self, now: &Moment) -> Result<Option<Parking>, Missing> {
        let (field, temperature_c) = self.magnetometer.read().ok_or(Missing::NoValue)?;
        let Some(is_taken) = self.detector.push(now.at, field) else { return Ok(None) };
        let is_news = self.reported.is_none_or(|(at, was_taken)| {
            was_taken != is_taken || now.at.saturating_duration_since(at) >= self.report_every
        });
        if !is_news {
            return Ok(None);
        }
        self.reported = Some((now.at, is_taken));
        Ok(Some(Parking {
            occupied_spaces: i32::from(is_taken),
            total_spaces: Some(1),
            temperature_c: temperature_c.map(f64::from),
        }))
    }
}
