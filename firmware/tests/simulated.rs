//! A simulated city looks like a city: nights are quiet, counters only rise, vehicles stay on their round.

use embassy_time::Instant;
use zeugma_firmware::{
    clock::Moment,
    record::FIELDS_BYTES_MAX,
    sensor::Sensor,
    simulated::{
        connectivity::Hotspot,
        energy::Meter,
        fleet::{Place, Vehicle},
        health::vitals,
        parking::CarPark,
    },
};
use zeugma_schemas::domains::{Connectivity, Energy, Fleet, Measurement, Parking};

/// 2026-11-23, a Monday, midnight UTC.
const MONDAY_S: i64 = 1_795_392_000;
const SEEDS: std::ops::Range<u64> = 0..40;

/// Readings of a day, each minute, at an offset of an hour.
fn day<S: Sensor>(mut sensor: S, days: i64) -> Vec<S::Reading> {
    let local_midnight_s = MONDAY_S + days * 86_400 - 3_600;
    let mut sample = |minute: i64| sensor.sample(&moment((local_midnight_s + minute * 60) * 1_000_000));
    (0..1_440).map(|minute| sample(minute).ok().flatten().expect("simulated sensors always answer")).collect()
}

/// An hour east of Greenwich.
fn moment(time_us: i64) -> Moment {
    Moment { at: Instant::MIN, time_us: Some(time_us), utc_offset_s: 3_600 }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn office_works_by_day_and_its_counter_follows_its_power() {
    for seed in SEEDS {
        let monday = day(Meter::new(seed), 0);
        let power = |r: &Energy| r.active_power_w.expect("power");
        let import = |r: &Energy| r.energy_import_wh.expect("import");
        let night = mean(monday[60..240].iter().map(power));
        let noon = mean(monday[600..720].iter().map(power));
        assert!(noon > 3.0 * night, "{seed}: {noon} {night}");
        assert!(noon > 2.5 * mean(day(Meter::new(seed), 6)[600..720].iter().map(power)));
        assert!(monday.windows(2).all(|pair| import(&pair[0]) <= import(&pair[1])));
        let (counted, integral) =
            (import(&monday[1_439]) - import(&monday[0]), monday.iter().map(power).sum::<f64>() / 60.0);
        assert!((counted / integral - 1.0).abs() < 0.05, "{seed}: {counted} {integral}");
        for r in &monday {
            let volts = r.voltage_v.or(r.voltage_l2_v).expect("a voltage");
            assert!((220.0..240.0).contains(&volts), "{volts}");
        }
    }
}

#[test]
fn car_park_fills_in_the_morning_and_never_overflows() {
    for seed in SEEDS {
        let monday = day(CarPark::new(seed), 0);
        let taken = |r: &Parking| f64::from(r.occupied_spaces) / f64::from(r.total_spaces.expect("total"));
        assert!(taken(&monday[660]) > taken(&monday[360]) + 0.4);
        assert!(monday.iter().all(|r| (0.0..=1.0).contains(&taken(r))));
    }
}

#[test]
fn vehicle_drives_its_round_by_day_and_rests_at_night() {
    let centre = Place { latitude: 49.835, longitude: 18.292 };
    for seed in SEEDS {
        let monday = day(Vehicle::new(seed, centre), 0);
        let odometer = |r: &Fleet| r.odometer_m.expect("odometer");
        let speed = |r: &Fleet| r.speed_kmh.expect("speed");
        assert!(monday[..290].iter().all(|r| speed(r) == 0.0 && r.ignition == Some(false)));
        assert!((10.0..35.0).contains(&mean(monday[400..1_200].iter().map(speed))));
        assert!(monday.iter().all(|r| (r.latitude - centre.latitude).abs() < 0.05));
        assert!(monday.iter().all(|r| (r.longitude - centre.longitude).abs() < 0.08));
        for pair in monday.windows(2) {
            let driven_m = odometer(&pair[1]) - odometer(&pair[0]);
            let north_m = (pair[1].latitude - pair[0].latitude) * 111_320.0;
            let east_m = (pair[1].longitude - pair[0].longitude) * 111_320.0 * 0.645;
            assert!(driven_m >= 0.0);
            // The receiver's own error comes on top of what was driven.
            assert!(north_m.hypot(east_m) <= driven_m + 10.0, "{seed}: {north_m} {east_m} {driven_m}");
            assert!((0.0..360.0).contains(&pair[0].heading_deg.expect("heading")));
            assert!((20.0..=100.0).contains(&pair[0].soc_pct.expect("soc")));
        }
        let tuesday = day(Vehicle::new(seed, centre), 1);
        assert!(odometer(&tuesday[0]) >= odometer(&monday[1_439]));
    }
}

#[test]
fn hotspot_counts_up_and_is_seldom_down() {
    let mut down = 0;
    for seed in SEEDS {
        let monday = day(Hotspot::new(seed), 0);
        down += monday.iter().filter(|r| !r.up).count();
        let up: Vec<&Connectivity> = monday.iter().filter(|r| r.up).collect();
        assert!(
            up.windows(2)
                .all(|pair| pair[0].rx_bytes <= pair[1].rx_bytes && pair[0].tx_bytes <= pair[1].tx_bytes)
        );
        assert!(up.iter().all(|r| r.clients >= Some(0) && r.latency_ms > Some(0.0)));
        assert!(monday.iter().filter(|r| !r.up).all(|r| r.clients.is_none()));
    }
    let share = down as f64 / (1_440 * SEEDS.count()) as f64;
    assert!((0.001..0.02).contains(&share), "{share}");
}

#[test]
fn restarted_sensor_goes_on_where_it_was() {
    let time_us = MONDAY_S * 1_000_000 + 36_000_000_000;
    let mut old = Meter::new(5);
    for minute in 0..600 {
        old.sample(&moment(MONDAY_S * 1_000_000 + minute * 60_000_000)).expect("answers");
    }
    assert_eq!(old.sample(&moment(time_us)), Meter::new(5).sample(&moment(time_us)));
}

/// The longest JSON of a day of `sensor`.
fn longest<S: Sensor>(sensor: S) -> usize {
    let mut buf = [0; FIELDS_BYTES_MAX];
    let lengths = day(sensor, 0)
        .into_iter()
        .map(|reading| reading.encode_json(i64::MAX, i64::MAX, &mut buf).expect("a reading fits a record"));
    lengths.max().expect("a day has readings")
}

#[test]
fn readings_of_every_kind_fit_a_record() {
    let centre = Place { latitude: -49.835, longitude: -178.292 };
    for seed in SEEDS {
        let longest = [
            longest(Meter::new(seed)),
            longest(CarPark::new(seed)),
            longest(Vehicle::new(seed, centre)),
            longest(Hotspot::new(seed)),
        ];
        assert!(longest.iter().all(|len| *len < FIELDS_BYTES_MAX / 2), "{longest:?}");
    }
}

#[test]
fn vitals_are_those_of_a_battery_and_a_radio() {
    for seed in SEEDS {
        let vitals = vitals(seed, MONDAY_S * 1_000_000);
        assert!((3.3..4.0).contains(&vitals.battery_v.expect("battery")));
        assert!((-100..-40).contains(&vitals.rssi_dbm.expect("radio")));
    }
}
