//! A vehicle's tracker: sentences of a satellite receiver (NMEA 0183) become positions.
//!
//! A position is reported when the vehicle has gone far enough, has turned, has been switched on or off, or has
//! not been heard of for long enough: few readings of a straight road, many of a town.

use embassy_time::{Duration, Instant};
use nmea0183::{ParseResult, Parser, RMC, Sentence};
use zeugma_schemas::domains::Fleet;

use super::telegram::days_since_1970;
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
    sentences: Parser,
    fix: Option<Fix>,
    /// From the sentence that tells a fix's quality.
    satellites: Option<i32>,
    odometer_m: f64,
    reported: Option<Reported>,
}

/// Where the vehicle is.
#[derive(Debug, Clone, Copy)]
struct Fix {
    at: Instant,
    latitude: f64,
    longitude: f64,
    speed_kmh: f64,
    heading_deg: Option<f64>,
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
    /// Goes on from what the vehicle's odometer shows; sets `clock` by the satellites.
    pub fn new(port: P, ignition: I, clock: &'c Clock, rules: Rules, odometer_m: f64) -> Self {
        let sentences = Parser::new().sentence_filter(Sentence::RMC | Sentence::GGA);
        Tracker {
            port,
            ignition,
            clock,
            rules,
            sentences,
            fix: None,
            satellites: None,
            odometer_m,
            reported: None,
        }
    }

    fn listen(&mut self, now: &Moment) {
        while let Some(byte) = self.port.next() {
            match self.sentences.parse_from_byte(byte) {
                Some(Ok(ParseResult::RMC(Some(rmc)))) => self.move_to(now, &rmc),
                Some(Ok(ParseResult::GGA(gga))) => self.satellites = gga.map(|gga| gga.sat_in_use.into()),
                // Not a whole sentence yet, one without a position, or noise.
                _ => {}
            }
        }
    }

    fn move_to(&mut self, now: &Moment, rmc: &RMC) {
        self.clock.set(now.at, time_us(rmc));
        let fix = Fix {
            at: now.at,
            latitude: rmc.latitude.as_f64(),
            longitude: rmc.longitude.as_f64(),
            speed_kmh: rmc.speed.as_kph().into(),
            heading_deg: rmc.course.as_ref().map(|course| course.degrees.into()),
        };
        if let Some(before) = self.fix.filter(|_| fix.speed_kmh >= MOVING_KMH_MIN) {
            self.odometer_m += distance_m(&before, &fix);
        }
        self.fix = Some(fix);
    }

    fn is_worth_a_report(&self, fix: &Fix, ignition: Option<bool>) -> bool {
        let Some(last) = &self.reported else { return true };
        let has_turned = fix.speed_kmh >= MOVING_KMH_MIN
            && last
                .heading_deg
                .zip(fix.heading_deg)
                .is_some_and(|(from, to)| turn_deg(from, to) >= self.rules.turn_deg);
        ignition != last.ignition
            || has_turned
            || self.odometer_m - last.odometer_m >= self.rules.distance_m
            || fix.at.saturating_duration_since(last.at) >= self.rules.every
    }

    fn report(&mut self, fix: &Fix, ignition: Option<bool>) -> Fleet {
        let is_moving = fix.speed_kmh >= MOVING_KMH_MIN;
        let heading_deg = fix.heading_deg.filter(|_| is_moving);
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
            latitude: fix.latitude,
            longitude: fix.longitude,
            speed_kmh: Some(fix.speed_kmh),
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
}

/// When the fix was true, in microseconds since 1970 UTC.
fn time_us(rmc: &RMC) -> i64 {
    let (date, time) = (&rmc.datetime.date, &rmc.datetime.time);
    let days = days_since_1970(date.year.into(), date.month.into(), date.day.into());
    let minutes = (days * 24 + i64::from(time.hours)) * 60 + i64::from(time.minutes);
    minutes * 60_000_000 + (time.seconds * 1_000.0) as i64 * 1_000
}

/// Distance of two places that are near each other: the earth is flat between them.
fn distance_m(from: &Fix, to: &Fix) -> f64 {
    let north = to.latitude - from.latitude;
    let shrunk = f64::from(libm::cosf(to.latitude.to_radians() as f32));
    let east = (to.longitude - from.longitude) * shrunk;
    libm::sqrt(north * north + east * east) * METRES_PER_DEGREE
}

/// By how much one has turned from one heading to another: 0 to 180 degrees.
fn turn_deg(from: f64, to: f64) -> f64 {
    let turn = libm::fabs(to - from) % 360.0;
    if turn > 180.0 { 360.0 - turn } else { turn }
}
