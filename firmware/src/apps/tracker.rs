//! A vehicle's tracker: sentences of a satellite receiver (NMEA 0183) become positions.
//!
//! A position is reported when the vehicle has gone far enough, has turned, has been switched on or off, or has
//! not been heard of for long enough: few readings of a straight road, many of a town.

use embassy_time::{Duration, Instant};
use zeugma_schemas::domains::Fleet;

use super::sentence::{Position, Receiver, Said};
use crate::{
    clock::{Clock, Moment},
    sensor::{Missing, Sensor},
    serial::Serial,
};

/// Metres of a degree of latitude, on a sphere of the earth's mean radius (IUGG).
const METRES_PER_DEGREE: f64 = 111_195.08;

/// A fix older than this is no position any more.
const FIX_HOLDS: Duration = Duration::from_secs(3);

/// Slower than this a receiver shows its own noise: neither distance nor heading mean anything.
const MOVING_KMH_MIN: f64 = 3.0;

/// When a position is worth a report.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// After so many metres.
    pub distance_m: f64,
    /// After a turn by so many degrees.
    pub turn_deg: f64,
    /// After so long, moving or not.
    pub every: Duration,
}

impl Rules {
    /// For a bus in a town: a street's length, a corner, and whatever the installer wants of a standing one.
    pub const fn town(every: Duration) -> Rules {
        Rules { distance_m: 150.0, turn_deg: 30.0, every }
    }
}

/// A vehicle whose receiver speaks over `P`, and whose ignition `I` knows.
pub struct Tracker<'c, P, I> {
    port: P,
    ignition: I,
    clock: &'c Clock,
    rules: Rules,
    receiver: Receiver,
    fix: Option<Fix>,
    /// From the sentence that tells a fix's quality.
    satellites: Option<i32>,
    odometer_m: f64,
    reported: Option<Reported>,
}

/// Where the vehicle was, and when we heard of it.
#[derive(Debug, Clone, Copy)]
struct Fix {
    at: Instant,
    position: Position,
}

impl Fix {
    fn is_moving(&self) -> bool {
        self.position.speed_kmh >= MOVING_KMH_MIN
    }
}

/// What was reported last.
#[derive(Debug, Clone, Copy)]
struct Reported {
    at: Instant,
    odometer_m: f64,
    heading_deg: Option<f64>,
    ignition: Option<bool>,
}

impl<'c, P: Serial, I: FnMut() -> Option<bool>> Tracker<'c, P, I> {
    /// Goes on from what the vehicle's odometer shows, later from the last reading before a loss of power; sets `clock`
    /// by the satellites.
    pub fn new(port: P, ignition: I, clock: &'c Clock, rules: Rules, odometer_m: f64) -> Self {
        Tracker {
            port,
            ignition,
            clock,
            rules,
            receiver: Receiver::default(),
            fix: None,
            satellites: None,
            odometer_m,
            reported: None,
        }
    }

    fn listen(&mut self, now: &Moment) {
        while let Some(byte) = self.port.next() {
            match self.receiver.hear(byte) {
                Some(Said::Fix { position, time_us }) => {
                    self.clock.set(now.at, time_us);
                    self.move_to(Fix { at: now.at, position });
                }
                Some(Said::Satellites(count)) => self.satellites = count,
                None => {}
            }
        }
    }

    fn move_to(&mut self, fix: Fix) {
        if let Some(before) = self.fix.filter(|_| fix.is_moving()) {
            self.odometer_m += distance_m(&before.position, &fix.position);
        }
        self.fix = Some(fix);
    }

    fn is_worth_a_report(&self, fix: &Fix, ignition: Option<bool>) -> bool {
        let Some(last) = &self.reported else { return true };
        let has_turned = fix.is_moving()
            && last
                .heading_deg
                .zip(fix.position.heading_deg)
                .is_some_and(|(from, to)| turn_deg(from, to) >= self.rules.turn_deg);
        ignition != last.ignition
            || has_turned
            || self.odometer_m - last.odometer_m >= self.rules.distance_m
            || fix.at.saturating_duration_since(last.at) >= self.rules.every
    }

    fn report(&mut self, fix: &Fix, ignition: Option<bool>) -> Fleet {
        let Position { latitude, longitude, speed_kmh, heading_deg } = fix.position;
        let heading_deg = heading_deg.filter(|_| fix.is_moving());
        // A standing vehicle keeps the heading it came with, so that its next turn is known for one.
        let kept = self.reported.and_then(|last| last.heading_deg);
        let last_heading_deg = heading_deg.or(kept);
        self.reported = Some(Reported {
            at: fix.at,
            odometer_m: self.odometer_m,
            heading_deg: last_heading_deg,
            ignition,
        });
        Fleet {
            latitude,
            longitude,
            speed_kmh: Some(speed_kmh),
            heading_deg,
            ignition,
            odometer_m: Some(self.odometer_m),
            // Height and dilution of precision would make a fix larger by a sixth, and a town asks for neither.
            satellites: self.satellites,
            ..Fleet::default()
        }
    }
}

impl<P: Serial, I: FnMut() -> Option<bool>> Sensor for Tracker<'_, P, I> {
    type Reading = Fleet;

    fn sample(&mut self, now: &Moment) -> Result<Option<Fleet>, Missing> {
        self.listen(now);
        let ignition = (self.ignition)();
        let fresh = self.fix.filter(|fix| now.at.saturating_duration_since(fix.at) < FIX_HOLDS);
        match fresh {
            Some(fix) if self.is_worth_a_report(&fix, ignition) => Ok(Some(self.report(&fix, ignition))),
            Some(_) => Ok(None),
            // Under a roof: told once for each time a report would have been due.
            None => {
                let last = self
                    .reported
                    .as_mut()
                    .filter(|last| now.at.saturating_duration_since(last.at) >= self.rules.every);
                match last {
                    Some(last) => {
                        last.at = now.at;
                        Err(Missing::NoValue)
                    }
                    None => Ok(None),
                }
            }
        }
    }

    /// In millimetres.
    fn counter(&self) -> Option<u64> {
        Some(libm::round(self.odometer_m * 1_000.0) as u64)
    }

    fn resume(&mut self, counter: u64) {
        self.odometer_m = counter as f64 / 1_000.0;
    }
}

/// Distance of two places that are near each other: the earth is flat between them.
fn distance_m(from: &Position, to: &Position) -> f64 {
    let north = to.latitude - from.latitude;
    let east = (to.longitude - from.longitude) * cos_of_latitude(to.latitude);
    libm::sqrt(north * north + east * east) * METRES_PER_DEGREE
}

/// The cosine of -90 to 90 degrees, to a millionth: 1 - 2 sin^2(x/2), with four terms of the sine's series. That of the
/// library, which takes any angle, needs 4 KB of flash for it.
fn cos_of_latitude(degrees: f64) -> f64 {
    let half = degrees.to_radians() / 2.0;
    let square = half * half;
    let sine = half * (1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0)));
    1.0 - 2.0 * sine * sine
}

/// By how much one has turned from one heading to another, both of 0 to 360 degrees: 0 to 180.
fn turn_deg(from: f64, to: f64) -> f64 {
    let turn = libm::fabs(to - from);
    if turn > 180.0 { 360.0 - turn } else { turn }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_of_every_latitude_is_right_to_a_millionth() {
        for tenths in -900..=900 {
            let latitude = f64::from(tenths) / 10.0;
            let error = cos_of_latitude(latitude) - libm::cos(latitude.to_radians());
            assert!(libm::fabs(error) < 1e-6, "{latitude}: {error}");
        }
    }
}
