//! Rows read from small files of each kind.

use std::{io::Write, sync::Arc};

use ::parquet::{
    data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type},
    file::writer::SerializedFileWriter,
    schema::parser::parse_message_type,
};
use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use super::*;

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a writable folder");
    path
}

fn names(columns: &[&str]) -> Vec<String> {
    columns.iter().map(ToString::to_string).collect()
}

fn read(source: &Source, wanted: &[&str]) -> Vec<Vec<Cell>> {
    let rows = source.rows(&names(wanted)).expect("a readable file");
    rows.map(|row| row.expect("a readable row").cells).collect()
}

fn raw(text: &str) -> Cell {
    Cell::Raw(text.to_owned())
}

#[test]
fn csv_gives_wanted_cells_in_the_order_wanted() {
    let folder = TempDir::new().expect("a temporary folder");
    let text = b"\xef\xbb\xbfa,b,c\n1,\"x, \"\"y\"\"\",\n\n2\n3,\xff, 4 ,5\n";
    let source = Source::new(&file(&folder, "x.CSV", text), None).expect("a CSV file");
    assert_eq!(source.columns().expect("a header"), ["a", "b", "c"]);
    assert_eq!(
        read(&source, &["c", "a", "b"]),
        [
            [Cell::Empty, raw("1"), raw("x, \"y\"")],
            [Cell::Empty, raw("2"), Cell::Empty],
            [raw(" 4 "), raw("3"), raw("\u{fffd}")],
        ]
    );
    let lines: Vec<u64> =
        source.rows(&names(&["a"])).expect("readable").map(|row| row.expect("readable").line).collect();
    // The second row stands on line 4; the empty line before it counts as its beginning.
    assert_eq!(lines, [2, 3, 5]);
}

#[test]
fn csv_without_header_takes_the_given_names() {
    let folder = TempDir::new().expect("a temporary folder");
    let header = names(&["a", "b"]);
    let source = Source::new(&file(&folder, "x.csv", b"1,2\n3,4\n"), Some(&header)).expect("a CSV file");
    assert_eq!(source.columns().expect("given"), ["a", "b"]);
    assert_eq!(read(&source, &["b"]), [[raw("2")], [raw("4")]]);
}

#[test]
fn gzip_of_several_members_is_read_to_its_end() {
    let folder = TempDir::new().expect("a temporary folder");
    let member = |text: &str| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text.as_bytes()).expect("memory");
        gzip.finish().expect("memory")
    };
    let bytes = [member("a\n1\n"), member("2\n")].concat();
    let source = Source::new(&file(&folder, "x.csv.gz", &bytes), None).expect("a CSV file");
    assert_eq!(read(&source, &["a"]), [[raw("1")], [raw("2")]]);
    let cut = Source::new(&file(&folder, "cut.csv.gz", &bytes[..bytes.len() - 6]), None).expect("a CSV file");
    assert!(
        cut.rows(&names(&["a"])).expect("begins well").any(|row| row.is_err()),
        "a cut file must not pass"
    );
}

#[test]
fn ndjson_keeps_types_and_the_spelling_of_numbers() {
    let folder = TempDir::new().expect("a temporary folder");
    let text =
        "{\"a\": 0.10, \"b\": \"é\\n\", \"c\": null}\r\n\n{\"a\": true, \"d\": {\"x\": [1]}, \"b\": \"\"}";
    let source = Source::new(&file(&folder, "x.jsonl", text.as_bytes()), None).expect("an NDJSON file");
    assert_eq!(source.columns().expect("readable"), ["a", "b", "c", "d"]);
    assert_eq!(
        read(&source, &["a", "b", "c", "d"]),
        [
            [Cell::Number("0.10".into()), Cell::Text("é\n".into()), Cell::Empty, Cell::Empty],
            [Cell::Boolean(true), Cell::Text(String::new()), Cell::Empty, Cell::Json("{\"x\": [1]}".into())],
        ]
    );
    let bad = Source::new(&file(&folder, "bad.ndjson", b"{\"a\":1}\n[1]\n"), None).expect("an NDJSON file");
    let fault = format!("{:#}", bad.columns().expect_err("no object"));
    assert!(fault.contains("bad.ndjson") && fault.contains("line 2"), "{fault}");
}

#[test]
fn parquet_keeps_types_and_tells_utc_from_local_times() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("x.parquet");
    let schema = parse_message_type(
        "message m {
            optional binary name (UTF8);
            required int64 utc_ms (TIMESTAMP(MILLIS, true));
            required int64 local_ns (TIMESTAMP(NANOS, false));
            optional double value;
            required boolean up;
            required int64 count;
        }",
    )
    .expect("a schema");
    let out = File::create(&path).expect("a writable folder");
    let mut writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a row group");
    macro_rules! column {
        ($kind:ty, $values:expr, $levels:expr) => {{
            let mut column = group.next_column().expect("no error").expect("one more column");
            column.typed::<$kind>().write_batch($values, $levels, None).expect("written");
            column.close().expect("closed");
        }};
    }
    column!(ByteArrayType, &[ByteArray::from("bus")], Some(&[1, 0]));
    column!(Int64Type, &[1_479_945_600_123, -1], None);
    column!(Int64Type, &[1_479_945_600_123_456_789, -1], None);
    column!(DoubleType, &[12.0, f64::NAN], Some(&[1, 1]));
    column!(BoolType, &[true, false], None);
    column!(Int64Type, &[i64::MAX, -7], None);
    group.close().expect("closed");
    writer.close().expect("closed");

    let source = Source::new(&path, None).expect("a Parquet file");
    assert_eq!(source.columns().expect("a schema"), ["name", "utc_ms", "local_ns", "value", "up", "count"]);
    assert_eq!(
        read(&source, &["count", "up", "value", "local_ns", "utc_ms", "name"]),
        [
            [
                Cell::Number("9223372036854775807".into()),
                Cell::Boolean(true),
                Cell::Number("12.0".into()),
                Cell::Local(1_479_945_600_123_456),
                Cell::Instant(1_479_945_600_123_000),
                Cell::Text("bus".into()),
            ],
            [
                Cell::Number("-7".into()),
                Cell::Boolean(false),
                Cell::Text("NaN".into()),
                Cell::Local(-1),
                Cell::Instant(-1000),
                Cell::Empty,
            ],
        ]
    );
}

#[test]
fn file_of_another_kind_is_refused() {
    let folder = TempDir::new().expect("a temporary folder");
    for name in ["x.txt", "x", "x.parquet.gz", "csv"] {
        assert!(Source::new(&file(&folder, name, b"a\n"), None).is_err(), "{name}");
    }
    assert!(Source::new(&folder.path().join("absent.csv"), None).is_err());
    assert!(Source::new(&file(&folder, "x.jsonl", b""), Some(&names(&["a"]))).is_err());
}
