use crc::{CRC_16_ARC, Crc};
use embassy_time::{Duration, Instant};
use proptest::prelude::*;
use zeugma_firmware::{
    apps::{
        meter::Meter,
        pulses::{PulseMeter, Pulses},
        telegram::{Collector, Told},
    },
    clock::Clock,
    sensor::{Missing, Sensor},
};
use zeugma_schemas::domains::Energy;

use super::{NOON_US, Wire, moment};

/// A three-phase meter of DSMR 5; at noon UTC it is 13:00 winter time where it hangs.
const THREE_PHASES: &str = "/ISK5\\2M550T-1012\r\n\r\n1-3:0.2.8(50)\r\n0-0:1.0.0(261123130000W)\r\n\
     0-0:96.1.1(4530303434303037313331363530363138)\r\n1-0:1.8.1(001073.079*kWh)\r\n1-0:1.8.2(001263.199*kWh)\r\n\
     1-0:2.8.1(000012.500*kWh)\r\n1-0:2.8.2(000000.250*kWh)\r\n0-0:96.14.0(0002)\r\n1-0:1.7.0(00.143*kW)\r\n\
     1-0:2.7.0(01.000*kW)\r\n1-0:32.7.0(230.1*V)\r\n1-0:52.7.0(231.0*V)\r\n1-0:72.7.0(229.9*V)\r\n\
     1-0:31.7.0(001*A)\r\n1-0:51.7.0(002*A)\r\n1-0:71.7.0(003*A)\r\n!";

/// What `../shared/data/payloads/dsmr_p1` has of a Kaifa meter of DSMR 4.2, without its masked number.
const ONE_PHASE: &str = "/KFM5KAIFA-METER\r\n\r\n1-3:0.2.8(42)\r\n0-0:1.0.0(160303164347W)\r\n\
     1-0:1.8.1(001073.079*kWh)\r\n1-0:1.8.2(001263.199*kWh)\r\n1-0:2.8.1(000000.000*kWh)\r\n\
     1-0:2.8.2(000000.000*kWh)\r\n1-0:1.7.0(00.143*kW)\r\n1-0:2.7.0(00.000*kW)\r\n1-0:31.7.0(000*A)\r\n!";

/// With its checksum.
fn telegram(text: &str) -> Vec<u8> {
    let checksum = Crc::<u16>::new(&CRC_16_ARC).checksum(text.as_bytes());
    format!("{text}{checksum:04X}\r\n").into_bytes()
}

fn collect(bytes: &[u8]) -> Vec<Option<Told>> {
    let mut collector = Collector::new();
    let mut read = Vec::new();
    for byte in bytes {
        if collector.push(*byte) {
            read.push(collector.read());
        }
    }
    read
}

#[test]
fn telegram_of_three_phases_is_read_whole() {
    let told = collect(&telegram(THREE_PHASES))[0].expect("a good telegram");
    let energy = Energy {
        active_power_w: Some(-857.0),
        energy_import_wh: Some(2_336_278.0),
        energy_export_wh: Some(12_750.0),
        voltage_l1_v: Some(230.1),
        voltage_l2_v: Some(231.0),
        voltage_l3_v: Some(229.9),
        current_l1_a: Some(1.0),
        current_l2_a: Some(2.0),
        current_l3_a: Some(3.0),
        ..Energy::default()
    };
    assert_eq!(told.energy, energy);
    assert_eq!(told.local_time, Some((NOON_US / 1_000_000 + 3_600, false)));
}

#[test]
fn meter_of_one_phase_fills_the_fields_of_one() {
    let told = collect(&telegram(ONE_PHASE))[0].expect("a good telegram");
    assert_eq!((told.energy.current_a, told.energy.current_l1_a), (Some(0.0), None));
    assert_eq!((told.energy.voltage_v, told.energy.active_power_w), (None, Some(143.0)));
}

#[test]
fn telegrams_are_found_in_noise_and_those_with_a_wrong_checksum_are_not_taken() {
    let good = telegram(THREE_PHASES);
    let mut bad = good.clone();
    bad[150] ^= 1;
    let half = &good[..good.len() / 2];
    let bytes = [b"noise!1234", &good[..], half, &good, &bad, &[b'x'; 5_000], &good].concat();
    let read: Vec<bool> = collect(&bytes).iter().map(Option::is_some).collect();
    assert_eq!(read, [true, true, false, true]);
}

#[test]
fn meter_reports_its_newest_telegram_at_equal_distances_and_says_when_there_is_none() {
    let (wire, clock, mut collector) = (Wire::default(), Clock::new(), Collector::new());
    let mut meter = Meter::new(&wire, &mut collector, Some(&clock), Duration::from_secs(10));
    assert_eq!(meter.sample(&moment(0)), Ok(None));
    let mut reports = Vec::new();
    for tenth in 1..=250 {
        // A telegram a second, until the meter falls silent.
        if tenth % 10 == 0 && tenth <= 150 {
            wire.say(&telegram(THREE_PHASES));
        }
        match meter.sample(&moment(tenth * 100)) {
            Ok(None) => {}
            report => reports.push((tenth, report.map(|report| report.is_some()))),
        }
    }
    assert_eq!(reports, [(10, Ok(true)), (110, Ok(true)), (210, Ok(true))]);
    assert_eq!(meter.sample(&moment(31_000)), Err(Missing::NoValue));
    // The meter's own clock, as there was no other: it said noon at every telegram, last at 15 s.
    assert_eq!(clock.time_us(Instant::from_secs(16)), Some(NOON_US + 1_000_000));
}

/// A counter of pulses.
struct Load(std::cell::Cell<u32>);

impl Pulses for &Load {
    fn count(&mut self) -> u32 {
        self.0.get()
    }
}

#[test]
fn pulses_are_counted_across_the_counters_end_and_tell_the_mean_power() {
    let load = Load((u32::MAX - 30).into());
    let mut meter = PulseMeter::new(&load, 1_000, 5_000.0, Duration::from_secs(60));
    let mut reports = Vec::new();
    for second in 0..=180 {
        reports.extend(meter.sample(&moment(second * 1_000)).expect("it counts"));
        load.0.set(load.0.get().wrapping_add(1));
    }
    let import: Vec<f64> = reports.iter().filter_map(|report| report.energy_import_wh).collect();
    assert_eq!(import, [5_000.0, 5_060.0, 5_120.0, 5_180.0]);
    // A pulse of 1 Wh a second.
    assert_eq!(reports[0].active_power_w, None);
    for report in &reports[1..] {
        assert!((report.active_power_w.expect("power") - 3_600.0).abs() < 1e-6, "{report:?}");
    }
}

#[test]
fn pulses_go_on_after_a_loss_of_power_from_what_was_counted() {
    let load = Load(0.into());
    let start = || PulseMeter::new(&load, 750, 1_000.0, Duration::from_secs(60));
    let mut meter = start();
    load.0.set(750);
    let before = meter.sample(&moment(0)).expect("it counts").expect("the first is reported");
    let counter = meter.counter().expect("pulses are counted");
    // The counter in the chip begins anew.
    load.0.set(0);
    let mut later = start();
    later.resume(counter);
    load.0.set(75);
    let after = later.sample(&moment(0)).expect("it counts").expect("the first is reported");
    let wh = [before, after].map(|report| report.energy_import_wh.expect("an import"));
    assert!((wh[0] - 2_000.0).abs() < 0.01 && (wh[1] - 2_100.0).abs() < 0.01, "{wh:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..3_000)) {
        collect(&bytes);
    }

    /// A checksum that is right over anything at all.
    #[test]
    fn any_text_with_a_right_checksum_is_survived(lines in prop::collection::vec("[ -~]{0,30}|1-0:[0-9.]{5}\\(.{0,12}\\)|0-0:1.0.0\\(.{0,14}", 0..20)) {
        let text = format!("/ABC5x\r\n\r\n{}\r\n!", lines.join("\r\n"));
        collect(&telegram(&text));
    }
}
