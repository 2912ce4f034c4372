use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{ArrayRef, AsArray, Int64Array, StringViewArray, TimestampMicrosecondArray};
use proptest::prelude::*;

use super::*;
use crate::{
    Lake,
    compact::{Compaction, FILE_ROWS_MAX, Wanted, plan},
    fixture::{NOW_US, rows, seal, shelf, table},
    upkeep::KEEP_DEFAULT,
};

/// Tenant, device, time, a number.
type Row = (String, String, i64, i64);

fn batch(rows: &[Row]) -> RecordBatch {
    let text = |of: &dyn Fn(&Row) -> &String| {
        Arc::new(StringViewArray::from_iter_values(rows.iter().map(of))) as ArrayRef
    };
    let times =
        TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.2)).with_timezone("UTC");
    RecordBatch::try_from_iter(vec![
        ("tenant", text(&|row| &row.0)),
        ("device", text(&|row| &row.1)),
        ("time", Arc::new(times) as ArrayRef),
        ("number", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.3))) as ArrayRef),
    ])
    .unwrap()
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let devices = Devices::of(batch).unwrap();
    let numbers = batch.column(3).as_primitive::<arrow::datatypes::Int64Type>();
    let row = |row: usize| {
        let (tenant, device) = devices.device(row);
        (tenant.to_owned(), device.to_owned(), devices.time_us(row), numbers.value(row))
    };
    (0..batch.num_rows()).map(row).collect()
}

fn row() -> impl Strategy<Value = (String, String, i64)> {
    ("[ab]", "[a-e][f-g]?", 0..40_i64)
}

proptest! {
    #[test]
    fn newest_of_each_device_is_found_however_rows_come(
        parts in prop::collection::vec(prop::collection::vec(row(), 0..60), 1..6),
    ) {
        let mut number = 0;
        let mut model: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
        let mut sorted = batch(&[]);
        let mut seen = std::collections::HashSet::new();
        for part in parts {
            // A device never has two readings of one time.
            let part: Vec<Row> = part.into_iter().filter(|row| seen.insert(row.clone())).map(|(tenant, device, time_us)| {
                number += 1;
                (tenant, device, time_us, number)
            }).collect();
            for (tenant, device, time_us, number) in &part {
                let known = model.entry((tenant.clone(), device.clone())).or_insert((*time_us, *number));
                *known = (*known).max((*time_us, *number));
            }
            let (one, other) = part.split_at(part.len() / 2);
            sorted = newest(&sorted, &[batch(one), batch(other)]).unwrap();
            let wanted: Vec<Row> = model.iter().map(|((tenant, device), (time_us, number))| {
                (tenant.clone(), device.clone(), *time_us, *number)
            }).collect();
            prop_assert_eq!(rows_of(&sorted), wanted);
        }
        let latest = Latest { version: 1, rows: sorted };
        for tenant in ["", "a", "b", "c"] {
            let found = rows_of(&latest.of_tenant(tenant).unwrap());
            let wanted: Vec<Row> = rows_of(latest.rows()).into_iter().filter(|row| row.0 == tenant).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}

fn newest_times(latest: &Latest) -> Vec<(String, i64)> {
    let devices = Devices::of(latest.rows()).unwrap();
    (0..devices.len()).map(|row| (devices.device(row).1.to_owned(), devices.time_us(row))).collect()
}

#[tokio::test]
async fn latest_goes_on_from_what_is_kept_through_compaction_and_vacuum() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    let columns = domains.get("parking").unwrap().columns().clone();
    let commit = async |n: u64, device: &str, minutes: std::ops::Range<i64>| {
        let written = seal(&shelf, vec![rows(&domains, device, minutes)], n..=n).await;
        table.commit(&written, &lease, n).await.unwrap()
    };
    // Minutes count backwards from now.
    commit(1, "p1", 100..2_000).await;
    let snapshot = commit(2, "p2", 50..60).await;
    let minute = |minute: i64| NOW_US - minute * 60_000_000;
    let first = table.latest(&snapshot, &columns, None).await.unwrap();
    assert_eq!(newest_times(&first), [("p1".into(), minute(100)), ("p2".into(), minute(50))]);
    table.keep_latest(&first).await.unwrap();
    // A late reading changes nothing, a newer one does, a new device comes.
    commit(3, "p2", 70..80).await;
    commit(4, "p1", 40..41).await;
    let snapshot = commit(5, "p0", 90..91).await;
    let wanted = [("p0".into(), minute(90)), ("p1".into(), minute(40)), ("p2".into(), minute(50))];
    let gone_on = table.latest(&snapshot, &columns, Some(&first)).await.unwrap();
    assert_eq!((gone_on.version(), newest_times(&gone_on)), (snapshot.version(), wanted.to_vec()));
    // Compacted and vacuumed: the files that the commits brought are gone.
    let now_ms = chrono::Utc::now().timestamp_millis();
    for (number, job) in (0..).zip(plan(snapshot.files(), Wanted::OneRun)) {
        let (table, columns, lease) = (table.clone(), columns.clone(), lease.clone());
        let compaction = Compaction { table, columns, lease, file_rows_max: FILE_ROWS_MAX, number };
        compaction.run(&job, || now_ms, drop).await.unwrap();
    }
    let stranger = Lake::open(folder.path().to_str().unwrap()).await.unwrap().table("parking");
    let snapshot = stranger.load().await.unwrap();
    assert_eq!(newest_times(&stranger.latest(&snapshot, &columns, None).await.unwrap()), wanted);
    let later_ms = now_ms + 2 * KEEP_DEFAULT.as_millis() as i64;
    assert!(table.vacuum(&lease, KEEP_DEFAULT, later_ms).await.unwrap() > 3);
    assert_eq!(newest_times(&stranger.latest(&snapshot, &columns, None).await.unwrap()), wanted);
    // What is kept is the last two, and what cannot be read is worked out again.
    for latest in [&gone_on, &stranger.latest(&snapshot, &columns, None).await.unwrap()] {
        table.keep_latest(latest).await.unwrap();
    }
    let kept = lake.store().list("_zeugma/latest/parking").await.unwrap();
    assert_eq!(kept.len(), 2);
    lake.store().put(kept.last().unwrap(), b"nonsense".to_vec()).await.unwrap();
    assert_eq!(newest_times(&stranger.latest(&snapshot, &columns, None).await.unwrap()), wanted);
}
