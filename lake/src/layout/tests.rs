use std::sync::Arc;

use arrow::array::{Date32Array, Float64Array, StringViewArray, TimestampMicrosecondArray};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::*;

fn rows(entries: &[(&str, i64, f64)]) -> RecordBatch {
    let times: Vec<i64> = entries.iter().map(|(_, time_us, _)| *time_us).collect();
    let dates: Vec<i32> = times.iter().map(|time_us| time_us.div_euclid(86_400_000_000) as i32).collect();
    RecordBatch::try_from_iter(vec![
        ("tenant", Arc::new(StringViewArray::from(vec!["t"; entries.len()])) as _),
        (
            "device",
            Arc::new(StringViewArray::from_iter_values(entries.iter().map(|(device, ..)| device))) as _,
        ),
        ("time", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as _),
        ("value", Arc::new(Float64Array::from_iter_values(entries.iter().map(|(.., value)| *value))) as _),
        ("date", Arc::new(Date32Array::from(dates)) as _),
    ])
    .unwrap()
}

#[test]
fn rows_lie_sorted_in_one_file_a_date_with_statistics() {
    let day = 86_400_000_000;
    let rows = rows(&[("b", day + 2, 1.0), ("a", 3, 2.0), ("a", day + 1, 3.0), ("b", day, 4.0)]);
    let files = encode(&rows.schema(), &[rows]).unwrap();
    let dates: Vec<_> = files.iter().map(|file| (file.date.as_str(), file.rows)).collect();
    assert_eq!(dates, [("1970-01-01", 1), ("1970-01-02", 3)]);
    let stats = &files[1].stats;
    assert_eq!((&stats["minValues"]["device"], &stats["maxValues"]["device"]), (&"a".into(), &"b".into()));
    assert_eq!(stats["maxValues"]["time"], "1970-01-02T00:00:00.000002Z");
    let file = SerializedFileReader::new(files[1].bytes.clone()).unwrap();
    let order: Vec<String> = file
        .get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().get_column_iter().nth(1).unwrap().1.to_string())
        .collect();
    assert_eq!(order, ["\"a\"", "\"b\"", "\"b\""]);
    let columns = file.metadata().row_group(0).columns();
    assert!(columns.iter().all(|column| column.compression() == Compression::ZSTD(ZstdLevel::default())));
    assert!(columns[2].encodings().any(|encoding| encoding == Encoding::DELTA_BINARY_PACKED));
    assert!(columns[3].encodings().any(|encoding| encoding == Encoding::BYTE_STREAM_SPLIT));
    assert!(columns.len() == 4, "the partition column is not stored");
}
