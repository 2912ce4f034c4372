use std::collections::HashSet;

use arrow::{compute::concat_batches, util::pretty::pretty_format_batches};

use super::*;
use crate::{
    Lake,
    fixture::{rows, seal, shelf, table},
};

fn compaction(table: &Table, lease: &Lease, columns: &SchemaRef) -> Compaction {
    Compaction {
        table: table.clone(),
        columns: columns.clone(),
        lease: lease.clone(),
        file_rows_max: FILE_ROWS_MAX,
        number: 0,
    }
}

/// All rows of a snapshot as lines, in an order of their own.
async fn lines(table: &Table, snapshot: &Snapshot, columns: &SchemaRef) -> Vec<String> {
    let mut batches = Vec::new();
    for file in snapshot.files() {
        let rows = find::read(&table.store().root(), file, columns).await.unwrap();
        batches.extend(rows.try_collect::<Vec<_>>().await.unwrap());
    }
    let all = concat_batches(columns, &batches).unwrap();
    let text = pretty_format_batches(&[all]).unwrap().to_string();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn compacted_table_has_the_same_rows_in_one_run_a_span() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, table, lease, mut domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    for n in 0..10_i64 {
        let rows = ["p1", "p2", "p0"].map(|device| rows(&domains, device, n * 300..n * 300 + 300));
        let written = seal(&shelf, rows.to_vec(), (n as u64 + 1)..=(n as u64 + 1)).await;
        table.commit(&written, &lease, n as u64 + 1).await.unwrap();
    }
    // Old files lack a column that the table has by now.
    let grown = domains.get("parking").unwrap().newest().text.replace(
        r#"{"name": "temperature_c""#,
        r#"{"name": "barrier_open", "type": ["null", "boolean"], "default": null}, {"name": "temperature_c""#,
    );
    let columns = domains.add(&grown).unwrap().expect("it has grown").columns().clone();
    let before = table.ensure(&columns).await.unwrap();
    let wanted = lines(&table, &before, &columns).await;
    assert!(before.files().len() > 10);
    let jobs = plan(before.files(), Wanted::OneRun);
    for (number, job) in (0..).zip(&jobs) {
        let compaction = Compaction { number, ..compaction(&table, &lease, &columns) };
        let mut written = 0;
        compaction.run(job, || 0, |rows| written += rows as u64).await.unwrap();
        assert_eq!(written, job.rows());
    }
    // Somebody else, who reads nothing but the log.
    let after = lake.table("parking").load().await.unwrap();
    let spans: HashSet<i32> = after.files().iter().map(|file| file.dates.start() / 64).collect();
    assert_eq!(after.files().len(), spans.len());
    assert_eq!(lines(&table, &after, &columns).await, wanted);
    assert_eq!(after.committed_through("source-a"), 10);
    assert_eq!(plan(after.files(), Wanted::OneRun), []);
    // Who still reads the version before finds its files.
    assert_eq!(lines(&table, &before, &columns).await, wanted);
    for file in after.files() {
        assert_eq!(file.devices, Some(("p0".into(), "p2".into())));
    }
}

#[tokio::test]
async fn long_run_is_cut_into_files_that_are_still_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let (_lake, table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    let columns = domains.get("parking").unwrap().columns().clone();
    for n in 1..=2 {
        let rows = (0..10).map(|device| rows(&domains, &format!("p{}", device * 2 + n), 0..800));
        table.commit(&seal(&shelf, rows.collect(), n..=n).await, &lease, n).await.unwrap();
    }
    let before = table.load().await.unwrap();
    let compaction = Compaction { file_rows_max: 1_000, ..compaction(&table, &lease, &columns) };
    let job = plan(before.files(), Wanted::OneRun).pop().unwrap();
    let after = compaction.run(&job, || 0, drop).await.unwrap().snapshot;
    // A file ends with the page that makes it full.
    let rows: Vec<u64> = after.files().iter().map(|file| file.rows.unwrap()).collect();
    assert!(rows.len() == 2 && rows.iter().sum::<u64>() == 16_000, "{rows:?}");
    assert_eq!(plan(after.files(), Wanted::OneRun), []);
    assert_eq!(lines(&table, &after, &columns).await, lines(&table, &before, &columns).await);
}

/// A table with two files, and the job that makes one of them.
async fn two_commits(folder: &tempfile::TempDir) -> (Lake, Compaction, Job) {
    let (lake, table, lease, domains) = table(folder).await;
    let shelf = shelf(folder, &lease);
    for n in 1..=2 {
        let rows = rows(&domains, &format!("p{n}"), 0..5);
        table.commit(&seal(&shelf, vec![rows], n..=n).await, &lease, n).await.unwrap();
    }
    let job = plan(table.load().await.unwrap().files(), Wanted::OneRun).pop().unwrap();
    (lake, compaction(&table, &lease, domains.get("parking").unwrap().columns()), job)
}

#[tokio::test]
async fn compaction_gives_way_where_its_files_have_gone_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, compaction, job) = two_commits(&folder).await;
    let first = compaction.run(&job, || 0, drop).await.unwrap().snapshot;
    let files = lake.store().list("parking").await.unwrap();
    let again = Compaction { number: 1, ..compaction };
    let refused = again.run(&job, || 0, drop).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { .. }), "{refused}");
    assert_eq!(lake.store().list("parking").await.unwrap(), files);
    assert_eq!(again.table.load().await.unwrap().version(), first.version());
}

#[tokio::test]
async fn compaction_of_who_has_lost_the_lake_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, compaction, job) = two_commits(&folder).await;
    compaction.lease.release().await.unwrap();
    let other = Lease::take(lake.store(), "source-b", 0).await.unwrap();
    lake.table("parking").fence(&other).await.unwrap();
    let refused = compaction.run(&job, || 0, drop).await.unwrap_err();
    assert!(matches!(refused, Error::Fenced { .. }), "{refused}");
}
