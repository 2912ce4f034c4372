use embassy_time::Duration;
use proptest::prelude::*;
use zeugma_firmware::{
    apps::tracker::{Rules, Tracker},
    clock::Clock,
    sensor::{Missing, Sensor},
};
use zeugma_schemas::domains::Fleet;

use super::{NOON_US, Wire, moment};

/// A sentence with its checksum (NMEA 0183).
fn sentence(body: &str) -> String {
    format!("${body}*{:02X}\r\n", body.bytes().fold(0, |sum, byte| sum ^ byte))
}

/// Degrees as degrees and minutes.
fn dm(degrees: f64, width: usize) -> String {
    let (whole, minutes) = (degrees.abs().trunc(), degrees.abs().fract() * 60.0);
    format!("{whole:0width$}{minutes:08.5}")
}

/// What a receiver says `second` seconds after noon.
fn fix(second: u64, latitude: f64, longitude: f64, knots: f64, course: f64) -> String {
    let time = format!("12{:02}{:02}.00", second / 60, second % 60);
    let place = format!("{},N,{},E", dm(latitude, 2), dm(longitude, 3));
    sentence(&format!("GNGGA,{time},{place},1,09,0.9,52.0,M,34.0,M,,"))
        + &sentence(&format!("GNRMC,{time},A,{place},{knots:.1},{course:.1},231126,,,A"))
}

/// Lamia.
const LATITUDE: f64 = 38.9;
const LONGITUDE: f64 = 22.4;

/// Metres of a degree: of latitude, and of longitude there.
const NORTH_M: f64 = 111_195.0;
const EAST_M: f64 = 86_535.0;

struct Drive {
    wire: Wire,
    clock: Clock,
}

impl Drive {
    /// The reports of a drive: each second where (metres north and east), how fast (m/s) and which way.
    fn reports(
        &self,
        every_s: u64,
        drive: impl Fn(u64) -> Option<(f64, f64, f64, f64)>,
        seconds: u64,
    ) -> Vec<(u64, Fleet)> {
        let ignition_on_at = 5;
        let second = std::cell::Cell::new(0);
        let ignition = || Some(second.get() >= ignition_on_at);
        let rules = Rules::town(Duration::from_secs(every_s));
        let mut tracker = Tracker::new(&self.wire, ignition, &self.clock, rules, 10_000.0);
        let mut reports = Vec::new();
        for now in 0..seconds {
            second.set(now);
            if let Some((north, east, speed, course)) = drive(now) {
                let place = (LATITUDE + north / NORTH_M, LONGITUDE + east / EAST_M);
                self.wire.say(fix(now, place.0, place.1, speed * 3.6 / 1.852, course).as_bytes());
            }
            if let Ok(Some(report)) = tracker.sample(&moment(now * 1_000)) {
                reports.push((now, report));
            }
        }
        reports
    }
}

fn drive() -> Drive {
    Drive { wire: Wire::default(), clock: Clock::new() }
}

#[test]
fn standing_vehicle_reports_its_ignition_and_its_heartbeat_only() {
    let drive = drive();
    let reports = drive.reports(60, |_| Some((0.0, 0.0, 0.1, 10.0)), 200);
    let told: Vec<(u64, Option<bool>)> = reports.iter().map(|(at, report)| (*at, report.ignition)).collect();
    let (off, on) = (Some(false), Some(true));
    assert_eq!(told, [(0, off), (5, on), (65, on), (125, on), (185, on)]);
    let (_, report) = &reports[4];
    assert_eq!((report.satellites, report.odometer_m), (Some(9), Some(10_000.0)));
    assert_eq!(report.heading_deg, None, "a standing receiver shows noise for a heading");
    // The satellites set the clock.
    assert_eq!(drive.clock.time_us(moment(200_000).at), Some(NOON_US + 200_000_000));
}

#[test]
fn moving_vehicle_reports_by_distance_and_at_turns_and_counts_its_metres() {
    // 10.2 m/s north for 60 s, then as long to the east.
    let way = |second: u64| {
        let (north, east) = (second.min(60) as f64 * 10.2, second.saturating_sub(60) as f64 * 10.2);
        Some((north, east, 10.2, if second <= 60 { 0.0 } else { 90.0 }))
    };
    let reports = drive().reports(600, way, 121);
    let at: Vec<u64> = reports.iter().map(|(at, _)| *at).collect();
    // First, ignition, every 150 m from there, and the corner.
    assert_eq!(at, [0, 5, 20, 35, 50, 61, 76, 91, 106]);
    let (_, last) = reports.last().expect("a report");
    assert!((last.odometer_m.expect("an odometer") - 11_081.2).abs() < 3.0, "{last:?}");
    assert!(
        (last.speed_kmh.expect("a speed") - 36.7).abs() < 0.2 && last.heading_deg == Some(90.0),
        "{last:?}"
    );
    assert!((last.latitude - (LATITUDE + 612.0 / NORTH_M)).abs() < 1e-6, "{last:?}");
}

#[test]
fn odometer_goes_on_after_a_loss_of_power() {
    let (wire, clock) = (Wire::default(), Clock::new());
    let start = || Tracker::new(&wire, || None, &clock, Rules::town(Duration::from_secs(30)), 0.0);
    let mut tracker = start();
    for second in 0..30 {
        wire.say(fix(second, LATITUDE + second as f64 * 10.0 / NORTH_M, LONGITUDE, 20.0, 0.0).as_bytes());
        tracker.sample(&moment(second * 1_000)).expect("a fix");
    }
    let mut later = start();
    later.resume(tracker.counter().expect("metres are counted"));
    wire.say(fix(60, LATITUDE, LONGITUDE, 0.0, 0.0).as_bytes());
    let report = later.sample(&moment(60_000)).expect("a fix").expect("the first is reported");
    let odometer_m = report.odometer_m.expect("an odometer");
    assert!((odometer_m - 290.0).abs() < 0.5, "{odometer_m}");
}

#[test]
fn vehicle_under_a_roof_says_that_it_has_no_position() {
    let (wire, clock) = (Wire::default(), Clock::new());
    let mut tracker = Tracker::new(&wire, || None, &clock, Rules::town(Duration::from_secs(30)), 0.0);
    wire.say(fix(0, LATITUDE, LONGITUDE, 0.0, 0.0).as_bytes());
    assert!(tracker.sample(&moment(0)).expect("a fix").is_some());
    wire.say(sentence("GNRMC,120010.00,V,,,,,,,231126,,,N").as_bytes());
    assert_eq!(tracker.sample(&moment(10_000)), Ok(None));
    assert_eq!(tracker.sample(&moment(30_000)), Err(Missing::NoValue));
    assert_eq!(tracker.sample(&moment(31_000)), Ok(None));
    assert_eq!(tracker.sample(&moment(60_000)), Err(Missing::NoValue));
}

/// The first report of a vehicle whose receiver says this.
fn reported(text: &str) -> Option<Fleet> {
    let (wire, clock) = (Wire::default(), Clock::new());
    let mut tracker = Tracker::new(&wire, || None, &clock, Rules::town(Duration::from_secs(30)), 0.0);
    wire.say(text.as_bytes());
    tracker.sample(&moment(0)).expect("nothing is missing yet")
}

#[test]
fn places_are_as_exact_as_the_sentence_in_all_quarters_of_the_earth() {
    let told = |place: &str| {
        let body = format!("GNRMC,120000.123,A,{place},000.0,,231126,,,A");
        reported(&sentence(&body)).map(|fleet| (fleet.latitude, fleet.longitude))
    };
    let (latitude, longitude) = (38.0 + 54.123_456_7 / 60.0, 22.0 + 26.5 / 60.0);
    for (place, expected) in [
        ("3854.1234567,N,02226.5,E", Some((latitude, longitude))),
        ("3854.1234567,S,02226.5,W", Some((-latitude, -longitude))),
        ("9000,N,18000.000,W", Some((90.0, -180.0))),
        ("9000.1,N,02226.5,E", None),
        ("3854.1,E,02226.5,E", None),
        (".,N,02226.5,E", None),
        (",,,", None),
        ("99999999999999999999.1,N,02226.5,E", None),
    ] {
        let told = told(place);
        let is_right = match (told, expected) {
            (Some(told), Some(expected)) => {
                (told.0 - expected.0).abs() < 1e-12 && (told.1 - expected.1).abs() < 1e-12
            }
            (told, expected) => told == expected,
        };
        assert!(is_right, "{place}: {told:?}, expected {expected:?}");
    }
}

#[test]
fn sentences_with_impossible_times_are_not_taken() {
    for (time, date, is_taken) in [
        ("120000", "231126", true),
        ("235960.00", "311226", true),
        ("240000.00", "231126", false),
        ("126000.00", "231126", false),
        ("120000.00", "321126", false),
        ("120000.00", "231326", false),
        ("1200", "231126", false),
        ("120000.00", "", false),
    ] {
        let body = format!("GPRMC,{time},A,3854.0,N,02226.5,E,0.0,,{date},,,A");
        assert_eq!(reported(&sentence(&body)).is_some(), is_taken, "{body}");
    }
}

#[test]
fn sentences_that_are_damaged_are_not_taken() {
    let (wire, clock) = (Wire::default(), Clock::new());
    let mut tracker = Tracker::new(&wire, || None, &clock, Rules::town(Duration::from_secs(30)), 0.0);
    let damaged = fix(0, LATITUDE, LONGITUDE, 0.0, 0.0).replace("38", "39");
    wire.say(damaged.as_bytes());
    wire.say(&[b'$'; 300]);
    assert_eq!(tracker.sample(&moment(0)), Ok(None));
    wire.say(fix(1, LATITUDE, LONGITUDE, 0.0, 0.0).as_bytes());
    assert!(tracker.sample(&moment(1_000)).expect("a fix").is_some());
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..500), text in "(GPRMC|GNGGA),[ -~]{0,60}") {
        let (wire, clock) = (Wire::default(), Clock::new());
        let mut tracker = Tracker::new(&wire, || None, &clock, Rules::town(Duration::from_secs(30)), 0.0);
        wire.say(&bytes);
        wire.say(sentence(&text).as_bytes());
        let _ = tracker.sample(&moment(0));
    }
}
