use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, AsArray, BinaryArray, Float64Array, ListArray, StringViewArray, TimestampMicrosecondArray,
    },
    datatypes::Int64Type,
    ipc::reader::StreamReader,
};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::*;

fn rows() -> RecordBatch {
    let times = TimestampMicrosecondArray::from(vec![1_790_000_000_000_000, 1_790_000_000_000_001])
        .with_timezone("UTC");
    RecordBatch::try_from_iter_with_nullable([
        ("device", Arc::new(StringViewArray::from(vec![Some("p,1"), None])) as ArrayRef, true),
        ("time", Arc::new(times) as ArrayRef, false),
        ("power_w", Arc::new(Float64Array::from(vec![1.5, f64::NAN])) as ArrayRef, true),
        ("payload", Arc::new(BinaryArray::from(vec![&[0xff, 0x00][..], &[]])) as ArrayRef, true),
    ])
    .unwrap()
}

fn encoded(form: Form, batches: &[RecordBatch], columns: &SchemaRef) -> Vec<u8> {
    let mut encoder = form.encoder(columns).unwrap();
    let mut bytes = Vec::new();
    for rows in batches {
        encoder.write(rows).unwrap();
        bytes.extend(encoder.take());
    }
    encoder.finish().unwrap();
    bytes.extend(encoder.take());
    bytes
}

fn text(form: Form, batches: &[RecordBatch]) -> String {
    String::from_utf8(encoded(form, batches, &rows().schema())).unwrap()
}

#[test]
fn json_has_columns_then_rows_with_nulls_and_times_in_utc() {
    let json: serde_json::Value = serde_json::from_str(&text(Form::Json, &[rows(), rows()])).unwrap();
    let columns = serde_json::json!([
        { "name": "device", "type": "text" },
        { "name": "time", "type": "timestamp with time zone" },
        { "name": "power_w", "type": "double precision" },
        { "name": "payload", "type": "bytea" },
    ]);
    assert_eq!(json["columns"], columns);
    assert_eq!(json["rows"].as_array().unwrap().len(), 4);
    assert_eq!(json["rows"][0], serde_json::json!(["p,1", "2026-09-21T14:13:20Z", 1.5, "ff00"]));
    assert_eq!(json["rows"][1], serde_json::json!([null, "2026-09-21T14:13:20.000001Z", null, ""]));
    let none: serde_json::Value = serde_json::from_str(&text(Form::Json, &[])).unwrap();
    assert_eq!(none["rows"], serde_json::json!([]));
}

#[test]
fn ndjson_has_a_line_for_each_row() {
    let lines = text(Form::Ndjson, &[rows(), rows()]);
    assert_eq!(lines.lines().count(), 4);
    let second: serde_json::Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
    assert_eq!(second["device"], serde_json::Value::Null);
    assert!(second.as_object().unwrap().contains_key("device"));
}

#[test]
fn csv_has_one_header_even_without_rows() {
    let lines = text(Form::Csv, &[rows(), rows()]);
    assert_eq!(lines.lines().count(), 5);
    assert!(
        lines.starts_with("device,time,power_w,payload\n\"p,1\",2026-09-21T14:13:20Z,1.5,ff00\n"),
        "{lines}"
    );
    assert_eq!(text(Form::Csv, &[]), "device,time,power_w,payload\n");
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]);
    let lists = RecordBatch::try_from_iter([("lists", Arc::new(lists) as ArrayRef)]).unwrap();
    let refused = Form::Csv.encoder(&lists.schema()).err().unwrap();
    assert!(refused.to_string().contains("`lists`"), "{refused}");
    assert!(
        String::from_utf8(encoded(Form::Json, std::slice::from_ref(&lists), &lists.schema()))
            .unwrap()
            .contains("[[[1]]]")
    );
}

#[test]
fn arrow_and_parquet_are_read_by_those_who_know_no_views() {
    let bytes = encoded(Form::Arrow, &[rows(), rows()], &rows().schema());
    let read: Vec<RecordBatch> =
        StreamReader::try_new(&bytes[..], None).unwrap().map(Result::unwrap).collect();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
    assert_eq!(read[0].column(0).as_string::<i32>().value(0), "p,1");
    let bytes = Bytes::from(encoded(Form::Parquet, &[rows(), rows()], &rows().schema()));
    let read: Vec<RecordBatch> =
        ParquetRecordBatchReader::try_new(bytes, 1_024).unwrap().map(Result::unwrap).collect();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
    assert_eq!(read[0].column(0).as_string::<i32>().value(0), "p,1");
}
