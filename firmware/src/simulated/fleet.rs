//! A vehicle that drives a closed round about a town's centre from stop to stop, and charges at night.

use core::f64::consts::TAU;

use zeugma_schemas::domains::Fleet;

use super::profile::{Local, fraction, noise, rounded};
use crate::{
    clock::Moment,
    sensor::{Missing, Sensor},
};

/// Stops of a round.
const STOPS: usize = 12;
/// A vehicle stands this long at each.
const DWELL_S: f64 = 20.0;
/// Mean speed between stops, 27 km/h.
const SPEED_M_S: f64 = 7.5;
/// In service from five in the morning to eleven at night.
const SERVICE_H: core::ops::Range<f64> = 5.0..23.0;
/// Metres along a meridian for each degree.
const METRES_PER_DEGREE: f64 = 111_320.0;

/// A place on the map, in WGS 84 degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// North positive.
    pub latitude: f64,
    /// East positive.
    pub longitude: f64,
}

/// One vehicle and its round.
#[derive(Debug, Clone)]
pub struct Vehicle {
    seed: u64,
    centre: Place,
    /// Metres east and north of the centre.
    stops: [(f64, f64); STOPS],
    /// Metres from each stop to the next.
    legs_m: [f64; STOPS],
    altitude_m: f64,
    odometer_m: f64,
}

/// Where on its round a vehicle is.
struct Spot {
    leg: usize,
    /// Share of the leg driven.
    part: f64,
    speed_m_s: f64,
    /// Metres since the day began.
    driven_m: f64,
}

impl Vehicle {
    /// The vehicle that follows from `seed`, on a round 1 to 3 km about `centre`.
    pub fn new(seed: u64, centre: Place) -> Vehicle {
        let radius_m = 1_000.0 + 2_000.0 * fraction(seed);
        let turn = TAU * fraction(seed ^ 1);
        let mut stops = [(0.0, 0.0); STOPS];
        for (i, stop) in stops.iter_mut().enumerate() {
            let angle = turn + TAU * i as f64 / STOPS as f64;
            // No street is a circle.
            let metres = radius_m * (0.75 + 0.5 * fraction(seed ^ (16 + i as u64)));
            *stop = (metres * libm::cos(angle), metres * libm::sin(angle));
        }
        let mut legs_m = [0.0; STOPS];
        for (i, leg_m) in legs_m.iter_mut().enumerate() {
            let (from, to) = (stops[i], stops[(i + 1) % STOPS]);
            *leg_m = libm::hypot(to.0 - from.0, to.1 - from.1);
        }
        Vehicle {
            seed,
            centre,
            stops,
            legs_m,
            altitude_m: 60.0 + 200.0 * fraction(seed ^ 2),
            odometer_m: 0.0,
        }
    }

    fn round_m(&self) -> f64 {
        self.legs_m.iter().sum()
    }

    fn round_s(&self) -> f64 {
        self.legs_m.iter().map(|leg_m| DWELL_S + leg_m / SPEED_M_S).sum()
    }

    /// Whole rounds of a day: the vehicle is back at its first stop when the service ends.
    fn rounds_of_a_day(&self) -> f64 {
        libm::floor((SERVICE_H.end - SERVICE_H.start) * 3_600.0 / self.round_s())
    }

    fn spot(&self, hour: f64) -> Spot {
        let service_s = ((hour - SERVICE_H.start) * 3_600.0).max(0.0);
        let rounds = libm::floor(service_s / self.round_s());
        if service_s == 0.0 || rounds >= self.rounds_of_a_day() {
            let driven_m = if service_s == 0.0 { 0.0 } else { self.rounds_of_a_day() * self.round_m() };
            return Spot { leg: 0, part: 0.0, speed_m_s: 0.0, driven_m };
        }
        let mut left_s = service_s - rounds * self.round_s();
        let mut driven_m = rounds * self.round_m();
        for (leg, leg_m) in self.legs_m.iter().enumerate() {
            let drive_s = leg_m / SPEED_M_S;
            if left_s < DWELL_S + drive_s {
                let share = ((left_s - DWELL_S) / drive_s).max(0.0);
                // From standstill to standstill: 3s² - 2s³, and its slope.
                let part = share * share * (3.0 - 2.0 * share);
                let speed_m_s = 6.0 * share * (1.0 - share) * SPEED_M_S;
                return Spot { leg, part, speed_m_s, driven_m: driven_m + part * leg_m };
            }
            left_s -= DWELL_S + drive_s;
            driven_m += leg_m;
        }
        Spot { leg: 0, part: 0.0, speed_m_s: 0.0, driven_m }
    }
}

impl Sensor for Vehicle {
    type Reading = Fleet;

    fn sample(&mut self, now: &Moment) -> Result<Option<Fleet>, Missing> {
        let time_us = now.time_us.ok_or(Missing::ClockUnset)?;
        let local = Local::at(time_us, now.utc_offset_s);
        let spot = self.spot(local.hour);
        let (from, to) = (self.stops[spot.leg], self.stops[(spot.leg + 1) % STOPS]);
        let (east, north) = (to.0 - from.0, to.1 - from.1);
        let day_m = self.rounds_of_a_day() * self.round_m();
        self.odometer_m = self.odometer_m.max((local.day - 18_267) as f64 * day_m + spot.driven_m);
        let jitter = |salt| 1.5 * noise(self.seed ^ salt, 15, time_us);
        let (x, y) = (from.0 + east * spot.part + jitter(3), from.1 + north * spot.part + jitter(4));
        let per_degree_east = METRES_PER_DEGREE * libm::cos(self.centre.latitude.to_radians());
        let in_service = SERVICE_H.contains(&local.hour) && spot.driven_m < day_m;
        // Six hours of the night fill what the day took.
        let spent = if local.hour < SERVICE_H.start { 1.0 - local.hour / 5.0 } else { spot.driven_m / day_m };
        Ok(Some(Fleet {
            latitude: rounded(self.centre.latitude + y / METRES_PER_DEGREE, 1e6),
            longitude: rounded(self.centre.longitude + x / per_degree_east, 1e6),
            altitude_m: Some(rounded(self.altitude_m + 3.0 * noise(self.seed ^ 5, 60, time_us), 10.0)),
            speed_kmh: Some(rounded(spot.speed_m_s * 3.6, 10.0)),
            heading_deg: Some(rounded(
                libm::fmod(libm::atan2(east, north).to_degrees() + 360.0, 360.0),
                10.0,
            )),
            ignition: Some(in_service),
            odometer_m: Some(rounded(self.odometer_m, 10.0)),
            fuel_pct: None,
            soc_pct: Some(rounded(96.0 - 70.0 * spent, 10.0)),
            satellites: Some(11 + libm::round(3.0 * noise(self.seed ^ 6, 120, time_us)) as i32),
            hdop: Some(rounded(0.9 + 0.2 * noise(self.seed ^ 6, 120, time_us), 100.0)),
        }))
    }
}
