use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};

use super::*;
use crate::{
    avro::Writer,
    domain::Domains,
    domains::{Fields, Measurement, Parking},
    payload::readings,
};

const NOW_US: i64 = 1_790_000_000_000_000;

fn push(builder: &mut Builder, device: &str, payload: &[u8]) {
    let origin = Origin { tenant: "lamia", device, received_at_us: NOW_US };
    for reading in readings(&builder.domain().clone(), payload, NOW_US) {
        builder.push(origin, &reading.unwrap());
    }
}

fn avro(seq: i64) -> Vec<u8> {
    let mut buf = [0; 128];
    let reading = Parking { occupied_spaces: 3, total_spaces: None, temperature_c: Some(1.5) };
    let len = reading.encode_avro(NOW_US - seq, seq, &mut buf).unwrap();
    buf[..len].to_vec()
}

#[test]
fn avro_and_json_rows_come_out_in_the_order_in_which_they_went_in() {
    let domains = Domains::builtin();
    let mut builder = Builder::new(domains.get("parking").unwrap().clone());
    let json = |seq: i64| {
        format!(r#"{{"time":{},"seq":{seq},"occupied_spaces":4,"x":1}}"#, NOW_US - seq).into_bytes()
    };
    // A builder that was finished has forgotten everything.
    push(&mut builder, "p0", &avro(8));
    push(&mut builder, "p0", &json(9));
    assert_eq!(builder.finish().unwrap().num_rows(), 2);
    for (seq, payload) in [(1, avro(1)), (2, json(2)), (3, avro(3)), (4, json(4)), (5, avro(5))] {
        push(&mut builder, &format!("p{seq}"), &payload);
    }
    let rows = builder.finish().unwrap();
    assert_eq!(rows.schema_ref(), domains.get("parking").unwrap().columns());
    let seq = rows.column_by_name("seq").unwrap().as_primitive::<Int64Type>();
    assert_eq!(seq.values(), &[1, 2, 3, 4, 5]);
    let devices: Vec<_> = rows.column_by_name("device").unwrap().as_string_view().iter().flatten().collect();
    assert_eq!(devices, ["p1", "p2", "p3", "p4", "p5"]);
    let extra: Vec<_> = rows.column_by_name("extra").unwrap().as_string_view().iter().collect();
    assert_eq!(extra, [None, Some(r#"{"x":1}"#), None, Some(r#"{"x":1}"#), None]);
    let temperature = rows.column_by_name("temperature_c").unwrap().as_primitive::<Float64Type>();
    assert_eq!(temperature.iter().collect::<Vec<_>>(), [Some(1.5), None, Some(1.5), None, Some(1.5)]);
    assert!(builder.is_empty() && builder.finish().unwrap().num_rows() == 0);
}

#[test]
fn reading_of_an_older_version_has_nulls_in_newer_columns() {
    let mut domains = Domains::builtin();
    let grown = domains.get("parking").unwrap().newest().text.replace(
        r#"{"name": "temperature_c""#,
        r#"{"name": "barrier_open", "type": ["null", "boolean"], "default": null}, {"name": "temperature_c""#,
    );
    let domain = domains.add(&grown).unwrap().unwrap();
    let mut builder = Builder::new(domain);
    push(&mut builder, "p1", &avro(1));
    let rows = builder.finish().unwrap();
    assert!(rows.column_by_name("barrier_open").unwrap().is_null(0));
    assert_eq!(rows.column_by_name("temperature_c").unwrap().as_primitive::<Float64Type>().value(0), 1.5);
}

#[test]
fn decoder_needs_nothing_of_a_schema_file_but_what_was_understood() {
    // JSON lets a key stand twice, and the last one counts; Avro lets other programs add what they like.
    for oddity in
        [r#""doc": "a", "doc": "b""#, r#""default": {"no": "number"}"#, r#""aliases": 7"#, r#""order": "up""#]
    {
        let text = format!(
            r#"{{"type": "record", "name": "tides", "namespace": "city.v1", "aliases": ["waves"], "fields": [
                {{"name": "time", "type": {{"type": "long", "logicalType": "timestamp-micros"}}}},
                {{"name": "level_m", "type": "double", {oddity}}}]}}"#
        );
        let schema = Schema::parse(&text).unwrap_or_else(|error| panic!("{oddity}: {error}"));
        let mut buf = [0; 32];
        let mut frame = Writer::frame(&mut buf, schema.fingerprint);
        frame.long("time", NOW_US);
        frame.double("level_m", 2.5);
        let len = frame.finish().unwrap();
        let mut builder = Builder::new(Arc::new(Domain::new(schema)));
        push(&mut builder, "d1", &buf[..len]);
        let rows = builder.finish().unwrap_or_else(|error| panic!("{oddity}: {error}"));
        assert_eq!(rows.column_by_name("level_m").unwrap().as_primitive::<Float64Type>().value(0), 2.5);
    }
}

#[test]
fn more_rows_than_one_decoder_gathers_are_one_batch() {
    let mut builder = Builder::new(Domains::builtin().get("parking").unwrap().clone());
    let rows = DECODER_ROWS as i64 * 2 + 5;
    (0..rows).for_each(|seq| push(&mut builder, "p1", &avro(seq)));
    let batch = builder.finish().unwrap();
    let seq = batch.column_by_name("seq").unwrap().as_primitive::<Int64Type>();
    assert!(seq.values().iter().copied().eq(0..rows));
}

#[test]
fn date_is_that_of_utc() {
    assert_eq!(date_of(0), 0);
    assert_eq!(date_of(DAY_US - 1), 0);
    assert_eq!(date_of(DAY_US), 1);
    assert_eq!(date_of(-1), -1);
}
