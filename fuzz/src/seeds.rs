//! What the targets begin with: a few well-formed inputs of each kind, so that little time goes into finding the
//! form.
//!
//! The files in `seeds/` are made from this by a test of the city, which also lets fastavro write some.

use std::{fs, sync::Arc};

use fastrand::Rng;
use zeugma_journal::{Batch, Folder, Journal, Payload, Record, log::SEGMENT_BYTES_MAX};
use zeugma_schemas::domains::{Connectivity, DeviceHealth, Energy, Fleet, Measurement, Parking};

use super::{
    model::{self, SEGMENT_HEAD},
    payload::NOW_US,
    segment::folder,
};

/// An input, and the name of its file.
pub type Seed = (String, Vec<u8>);

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Seed> {
    match target {
        "topic" => numbered(TOPICS.map(|text| text.as_bytes().to_vec())),
        "avro" => numbered(frames()),
        "json" => numbered(JSON.map(|text| text.as_bytes().to_vec())),
        "schema" => numbered(SCHEMAS.map(|text| text.as_bytes().to_vec())),
        "segment" => numbered(segments()),
        "journal" => numbered(PLAYS.map(|play| play.to_vec())),
        "broker" => numbered(BROKERS.map(|text| text.as_bytes().to_vec())),
        _ => Vec::new(),
    }
}

fn numbered(inputs: impl IntoIterator<Item = Vec<u8>>) -> Vec<Seed> {
    inputs.into_iter().enumerate().map(|(index, input)| (format!("own-{index}"), input)).collect()
}

const TOPICS: [&str; 5] = [
    "city/v1/lamia/fleet/bus-1",
    "city/v1/S.t_o-9/device_health/A",
    "city/v1/a/b/c/d",
    "city/v1/lamia/Fleet/bus-1",
    "$SYS/broker/uptime",
];

const JSON: [&str; 9] = [
    r#"{"time":"2026-01-01T00:00:00.5+02:00","seq":1,"latitude":38.9,"longitude":22.4,"ignition":true}"#,
    r#"[{"time":1767225600000000,"occupied_spaces":12.0,"total_spaces":null},{"occupied_spaces":7e2}]"#,
    r#"{"time":1767225600000001,"active_power_w":-1.5e3,"energy_import_wh":0.1,"power_factor":1}"#,
    r#" [ {"up":false,"rx_bytes":9223372036854775807} , 7, "x", {"up":1} ] "#,
    r#"{"firmware":"1.0 \u00e9\ud83d\ude8c","uptime_s":5,"driver":{"badge":[1,{"x":null}]}}"#,
    r#"{"time":"1999-12-31T23:59:59Z","up":true}"#,
    r#"[[{"up":true}],{"up":true,"up":false},{}]"#,
    r#"{"time":true,"latitude":"north","longitude":1e999}"#,
    "[",
];

const SCHEMAS: [&str; 3] = [
    r#"{"type":"record","name":"tides","fields":[
{"name":"time","type":{"type":"long","logicalType":"timestamp-micros"}},
{"name":"level_m","type":"double","unit":"m","doc":"over the gauge's zero"}]}"#,
    r#"{"type":"record","name":"bins","namespace":"city.v1","doc":"waste","fields":[
{"name":"seq","type":["null","long"],"default":null},
{"name":"time","type":{"type":"long","logicalType":"timestamp-micros"},"unit":"us"},
{"name":"full","type":["null","boolean"],"default":null},
{"name":"lid","type":["null","string"],"default":null},
{"name":"emptied","type":["null","int"],"default":null,"counter":true},
{"name":"kg","type":"float","unit":"kg"},
{"name":"seen","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null}]}"#,
    r#"{"type":"record","name":"parking","fields":[{"name":"time","type":"long"}]}"#,
];

const BROKERS: [&str; 4] = [
    "mqtt://localhost",
    "mqtts://city%40x:p%2Fw@broker.example:8884/?tenants=lamia,volos",
    "mqtt://[::1]:1/",
    "@broker.example/?tenants=a",
];

/// Segment size in two bytes; steps: 1 opens again, 2 lets go, 3 and more append; 0 ends them; then what breaks.
const PLAYS: [&[u8]; 4] = [
    b"\xff\x01\x03\x19\x05city/v1/lamia/fleet/bus-1hello\x05\x00\x01\x03\x00\x02hi\x00\x00\x00",
    b"\x20\x00\x05\x02\x03ttabc\x01\x00\x01\x01xy\x02\x00\x00\x00\x03\x00\x03\x01\x01tz\x09\x00\x02\x02\x00\x01\x00\x00\x03\x20\x00",
    b"\x40\x00\x03\x00\x04wxyz\x00\x00\x03\x00\x04wxyz\x00\x00\x03\x00\x04wxyz\x00\x00\x00\x01\x08\x30\x00\x00\x02\x10\x00",
    b"\x00\x02\x04\x03\x0dabcsixsevensixse\x07\x00\x00\x00\x00\x00\x02\x00\x00\x01\x00\x00\x00\x0b\x30\x00",
];

fn frames() -> Vec<Vec<u8>> {
    let fleet = Fleet { latitude: 38.9, longitude: 22.4, ignition: Some(true), ..Fleet::default() };
    let parking = Parking { occupied_spaces: -3, total_spaces: Some(60), temperature_c: Some(1.5) };
    let energy = Energy { active_power_w: Some(5.5), energy_import_wh: Some(1e9), ..Energy::default() };
    let link = Connectivity { up: true, rx_bytes: Some(i64::MAX), ..Connectivity::default() };
    let health = DeviceHealth { firmware: Some("1.0"), rssi_dbm: Some(-70), ..DeviceHealth::default() };
    let mut frames =
        vec![frame(&fleet, 1), frame(&parking, 2), frame(&energy, 3), frame(&link, 4), frame(&health, 5)];
    let several = [frame(&parking, 6), frame(&parking, 7), b"\xc3\x01trailing".to_vec()].concat();
    frames.push(several);
    frames
}

fn frame(reading: &impl Measurement, seq: i64) -> Vec<u8> {
    let mut buf = [0; 256];
    let len = reading.encode_avro(NOW_US - seq, seq, &mut buf).expect("it fits");
    buf[..len].to_vec()
}

/// Segments: empty, of one block and of three; torn, damaged, and of a newer format.
fn segments() -> Vec<Vec<u8>> {
    let (empty, one, three) = (segment_of(0), segment_of(1), segment_of(3));
    let torn = three[..three.len() - 3].to_vec();
    let mut damaged = three.clone();
    damaged[SEGMENT_HEAD + 30] ^= 1;
    let mut newer = empty.clone();
    newer[8] = 9;
    let checksum = model::crc32c(&newer[..SEGMENT_HEAD - 4]).to_le_bytes();
    newer[SEGMENT_HEAD - 4..].copy_from_slice(&checksum);
    vec![empty, one, three, torn, damaged, newer]
}

fn segment_of(blocks: u8) -> Vec<u8> {
    let folder = folder();
    // Its mark too comes from a seed, so that the same files are made each time.
    let disk = Arc::new(Folder::open(folder.path()).expect("a new folder"));
    let (mut journal, _) =
        Journal::open_on(disk, SEGMENT_BYTES_MAX, Rng::with_seed(7)).expect("a new journal");
    for block in 0..blocks {
        let mut batch = Batch::default();
        for payload in 0..=block {
            batch.push(&Record {
                tenant: (payload == 0).then_some("lamia"),
                topic: "city/v1/lamia/fleet/bus-1",
                received_at_us: NOW_US,
                payload: Payload::Whole(&[payload; 9]),
            });
        }
        journal.append(&batch).expect("it appends");
    }
    drop(journal);
    fs::read(folder.path().join(format!("{:020}.journal", 1))).expect("a segment")
}
