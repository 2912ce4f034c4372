use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, StringViewArray, TimestampMicrosecondArray};
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
    let dates: Vec<_> = files.iter().map(|file| (file.date, file.rows)).collect();
    assert_eq!(dates, [(0, 1), (1, 3)]);
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
    assert_eq!(
        (&stats["minValues"]["date"], &stats["maxValues"]["date"]),
        (&"1970-01-02".into(), &"1970-01-02".into())
    );
}

#[test]
fn measured_values_that_are_few_become_a_dictionary_where_files_last() {
    let columns = |counter: bool| {
        let rows = rows(&[("a", 1, 0.5), ("a", 2, 0.5)]);
        let mut fields: Vec<Field> =
            rows.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        if counter {
            fields[3].metadata_mut().insert("counter".into(), "true".into());
        }
        Arc::new(Schema::new(fields))
    };
    let encodings = |columns: SchemaRef, values: Vec<f64>, lasting: Lasting| {
        let entries: Vec<_> = values.iter().enumerate().map(|(n, value)| ("a", n as i64, *value)).collect();
        let rows = rows(&entries).with_schema(columns.clone()).unwrap();
        let properties = Some(properties(&columns, lasting));
        let mut writer = ArrowWriter::try_new(Vec::new(), columns, properties).unwrap();
        writer.write(&rows).unwrap();
        let file = SerializedFileReader::new(Bytes::from(writer.into_inner().unwrap())).unwrap();
        let found: Vec<Encoding> = file.metadata().row_group(0).column(3).encodings().collect();
        (found.contains(&Encoding::RLE_DICTIONARY), found.contains(&Encoding::BYTE_STREAM_SPLIT))
    };
    let few = || (0..50_000).map(|n| f64::from(n % 100) / 2.0).collect::<Vec<_>>();
    let many = || (0..50_000).map(f64::from).collect::<Vec<_>>();
    assert_eq!(encodings(columns(false), few(), Lasting::Years), (true, false));
    assert_eq!(encodings(columns(false), many(), Lasting::Years), (true, true));
    assert_eq!(encodings(columns(true), few(), Lasting::Years), (false, true));
    assert_eq!(encodings(columns(false), few(), Lasting::Soon), (false, true));
}

#[test]
fn order_is_that_of_the_columns_one_after_the_other() {
    let names = [None, Some("a"), Some("b"), Some("ba"), Some("a device with a long name")];
    let entries: Vec<_> =
        (0..500usize).map(|n| (names[n * 7 % 5], names[n * 3 % 4], n as i64 * 37 % 11)).collect();
    let text = |values: Vec<Option<&str>>| Arc::new(StringViewArray::from(values)) as ArrayRef;
    let time = |values: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(values)) as ArrayRef;
    let tenant = text(entries.iter().map(|entry| entry.0).collect());
    let topic = text(entries.iter().map(|entry| entry.1).collect());
    let received = time(entries.iter().map(|entry| entry.2).collect());
    let columns = [("tenant", tenant), ("received_at", received), ("topic", topic)];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true)));
    let mut wanted: Vec<u32> = (0..500).collect();
    wanted.sort_by_key(|row| entries[*row as usize]);
    assert_eq!(order(&rows.unwrap()), wanted);
}
