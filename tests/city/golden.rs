//! Bytes that another implementation of Avro wrote, against our encoder, our check and our decoder.

use std::sync::Arc;

use arrow::{array::RecordBatch, json::ArrayWriter};
use serde_json::{Map, Value};
use zeugma_schemas::{
    batch::{Builder, Origin},
    domain::{Domain, Domains},
    domains::{Connectivity, DeviceHealth, Energy, Fleet, Measurement, Parking},
    payload::readings,
};
use zeugma_tests::peers;

/// Later than any time in the golden readings.
const RECEIVED_AT_US: i64 = i64::MAX / 2;

struct Golden {
    domain: Arc<Domain>,
    fingerprint: String,
    values: Map<String, Value>,
    bytes: Vec<u8>,
}

fn golden() -> Vec<Golden> {
    let domains = Domains::builtin();
    let lines = peers::python("golden.py", &[&peers::root().join("schemas").display().to_string()]);
    let parse = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        let hex = entry["hex"].as_str().unwrap();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        Golden {
            domain: domains.get(entry["domain"].as_str().unwrap()).unwrap().clone(),
            fingerprint: entry["fingerprint"].as_str().unwrap().to_owned(),
            values: entry["values"].as_object().unwrap().clone(),
            bytes: (0..hex.len()).step_by(2).map(byte).collect(),
        }
    };
    lines.lines().map(parse).collect()
}

fn decode(golden: &Golden) -> RecordBatch {
    let mut builder = Builder::new(golden.domain.clone());
    let origin = Origin { tenant: "t", device: "d", received_at_us: RECEIVED_AT_US };
    for reading in readings(&golden.domain, &golden.bytes, RECEIVED_AT_US) {
        builder.push(origin, &reading.unwrap());
    }
    builder.finish().unwrap()
}

#[test]
fn what_fastavro_wrote_is_read_as_it_was_meant() {
    let all = golden();
    assert!(all.len() >= 25);
    for golden in &all {
        let batch = decode(golden);
        let names: Vec<_> = (0..batch.num_columns())
            .filter(|place| {
                let schema = batch.schema();
                let name = schema.field(*place).name().clone();
                name != "time" && golden.values.contains_key(&name)
            })
            .collect();
        assert_eq!(names.len() + 1, golden.values.len(), "{}", golden.domain.name());
        let mut writer = ArrayWriter::new(Vec::new());
        writer.write(&batch.project(&names).unwrap()).unwrap();
        writer.finish().unwrap();
        let rows: Vec<Map<String, Value>> = serde_json::from_slice(&writer.into_inner()).unwrap();
        for (name, wanted) in golden.values.iter().filter(|(name, value)| *name != "time" && !value.is_null())
        {
            let found = rows[0].get(name).unwrap_or(&Value::Null);
            let same = match (found.as_f64(), wanted.as_f64()) {
                (Some(found), Some(wanted)) => found == wanted,
                _ => found == wanted,
            };
            assert!(same, "{}.{name}: {found}, wanted {wanted}", golden.domain.name());
        }
    }
}

#[test]
fn device_encoder_writes_the_same_bytes_as_fastavro() {
    let mut compared = 0;
    for golden in golden() {
        let values = &golden.values;
        let (Some(time_us), Some(seq)) = (values["time"].as_i64(), values["seq"].as_i64()) else { continue };
        let double = |name: &str| values[name].as_f64();
        let long = |name: &str| values[name].as_i64();
        let int = |name: &str| long(name).map(|value| value as i32);
        let mut buf = [0; 1_024];
        let len = match golden.domain.name() {
            "energy" => Energy {
                active_power_w: double("active_power_w"),
                reactive_power_var: double("reactive_power_var"),
                energy_import_wh: double("energy_import_wh"),
                energy_export_wh: double("energy_export_wh"),
                voltage_v: double("voltage_v"),
                current_a: double("current_a"),
                voltage_l1_v: double("voltage_l1_v"),
                voltage_l2_v: double("voltage_l2_v"),
                voltage_l3_v: double("voltage_l3_v"),
                current_l1_a: double("current_l1_a"),
                current_l2_a: double("current_l2_a"),
                current_l3_a: double("current_l3_a"),
                power_factor: double("power_factor"),
                frequency_hz: double("frequency_hz"),
            }
            .encode_avro(time_us, seq, &mut buf),
            "parking" => Parking {
                occupied_spaces: int("occupied_spaces").unwrap(),
                total_spaces: int("total_spaces"),
                temperature_c: double("temperature_c"),
            }
            .encode_avro(time_us, seq, &mut buf),
            "fleet" => Fleet {
                latitude: double("latitude").unwrap(),
                longitude: double("longitude").unwrap(),
                altitude_m: double("altitude_m"),
                speed_kmh: double("speed_kmh"),
                heading_deg: double("heading_deg"),
                ignition: values["ignition"].as_bool(),
                odometer_m: double("odometer_m"),
                fuel_pct: double("fuel_pct"),
                soc_pct: double("soc_pct"),
                satellites: int("satellites"),
                hdop: double("hdop"),
            }
            .encode_avro(time_us, seq, &mut buf),
            "connectivity" => Connectivity {
                up: values["up"].as_bool().unwrap(),
                clients: int("clients"),
                rx_bytes: long("rx_bytes"),
                tx_bytes: long("tx_bytes"),
                latency_ms: double("latency_ms"),
                loss_pct: double("loss_pct"),
            }
            .encode_avro(time_us, seq, &mut buf),
            "device_health" => DeviceHealth {
                boot: long("boot"),
                uptime_s: long("uptime_s"),
                battery_v: double("battery_v"),
                rssi_dbm: int("rssi_dbm"),
                firmware: values["firmware"].as_str().map(|text| &*text.to_owned().leak()),
                outbox_len: int("outbox_len"),
                dropped: long("dropped"),
            }
            .encode_avro(time_us, seq, &mut buf),
            other => panic!("no device of ours publishes `{other}`"),
        };
        assert_eq!(&buf[..len.unwrap()], golden.bytes, "{}", golden.domain.name());
        compared += 1;
    }
    assert!(compared >= 15, "{compared}");
}

#[test]
fn fingerprints_are_those_that_fastavro_computes() {
    for golden in golden() {
        let ours = golden.domain.newest().fingerprint;
        assert!(golden.bytes[2..10] == ours.to_le_bytes(), "{}", golden.domain.name());
        let theirs = golden.fingerprint.to_lowercase();
        let either = [format!("{ours:016x}"), format!("{:016x}", ours.swap_bytes())];
        assert!(either.contains(&theirs), "{theirs} {either:?}");
    }
    let constants = [
        (Energy::DOMAIN, Energy::FINGERPRINT),
        (Parking::DOMAIN, Parking::FINGERPRINT),
        (Fleet::DOMAIN, Fleet::FINGERPRINT),
        (Connectivity::DOMAIN, Connectivity::FINGERPRINT),
        (DeviceHealth::DOMAIN, DeviceHealth::FINGERPRINT),
    ];
    for (domain, constant) in constants {
        assert_eq!(Domains::builtin().get(domain).unwrap().newest().fingerprint, constant, "{domain}");
    }
}
