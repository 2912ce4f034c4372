use std::collections::BTreeSet;

use arrow::array::{AsArray, RecordBatch};
use futures::TryStreamExt;
use zeugma_schemas::batch::DAY_US;

use super::*;
use crate::{
    find::{self, Key},
    fixture::{NOW_US, rows, seal, shelf, table},
};

#[tokio::test]
async fn commit_carries_its_position_and_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    let rows = rows(&domains, "p1", 0..2_000);
    let written = seal(&shelf, vec![rows], 1..=41).await;
    let first = table.commit(&written, &lease, 41).await.unwrap();
    assert_eq!(first.committed_through("source-a"), 41);
    // Its answer lost, the same commit is asked for again.
    let again = table.commit(&written, &lease, 41).await.unwrap();
    assert_eq!(again.version(), first.version());
    // A stranger who has loaded nothing yet sees the same.
    let stranger = lake.table("parking").load().await.unwrap();
    assert_eq!(stranger.committed_through("source-a"), 41);
    assert_eq!(stranger.files().iter().map(|file| file.rows.unwrap()).sum::<u64>(), 2_000);
    // 2,000 minutes touch two or three dates, each of them a file.
    assert!(stranger.files().len() >= 2);
}

#[tokio::test]
async fn commit_that_is_asked_again_with_more_takes_only_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (_lake, table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    let mut sealed = seal(&shelf, vec![rows(&domains, "p1", 0..10)], 1..=4).await;
    table.commit(&sealed, &lease, 4).await.unwrap();
    sealed.extend(seal(&shelf, vec![rows(&domains, "p2", 0..5)], 5..=9).await);
    let snapshot = table.commit(&sealed, &lease, 9).await.unwrap();
    assert_eq!(snapshot.files().iter().map(|file| file.rows.unwrap()).sum::<u64>(), 15);
    let names: BTreeSet<_> = snapshot.files().iter().map(|file| &file.path).collect();
    assert_eq!(names.len(), snapshot.files().len());
}

#[tokio::test]
async fn sealed_files_go_when_nobody_holds_them() {
    let folder = tempfile::tempdir().unwrap();
    let (_lake, _table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    let rows = rows(&domains, "p1", 0..10);
    let sealed = shelf.seal("parking", 1..=1, rows.schema(), vec![rows.clone()], 0).await.unwrap();
    let file = folder.path().join("shelf").join(&sealed.files().next().unwrap().path);
    assert!(file.exists());
    let (data, columns) = (sealed.files().next().unwrap().clone(), rows.schema());
    let read: Vec<RecordBatch> =
        find::read(&sealed.store(), &data, &columns).await.unwrap().try_collect().await.unwrap();
    assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
    drop(sealed);
    while file.exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn holder_of_an_older_epoch_cannot_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, table, old, domains) = table(&folder).await;
    let shelf = shelf(&folder, &old);
    let new = Lease::take(lake.store(), "source-b", crate::lease::LEASE_MS).await.unwrap();
    let others = lake.table("parking");
    others.fence(&new).await.unwrap();
    let rows = rows(&domains, "p1", 0..3);
    let written = seal(&shelf, vec![rows], 1..=1).await;
    let refused = table.commit(&written, &old, 1).await.unwrap_err();
    assert!(matches!(refused, Error::Fenced { .. }), "{refused}");
    assert_eq!(others.load().await.unwrap().files(), []);
}

#[tokio::test]
async fn rows_are_found_by_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (_lake, table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    let batches = vec![rows(&domains, "p1", 0..500), rows(&domains, "p2", 0..500)];
    let written = seal(&shelf, batches, 1..=1).await;
    let snapshot = table.commit(&written, &lease, 1).await.unwrap();
    let time_us = NOW_US - 7 * 60_000_000;
    let sought = |keys: &[Key]| Arc::new(keys.iter().cloned().collect());
    let key = |device: &str, time_us| Key { tenant: "lamia".into(), device: device.into(), time_us };
    let columns = domains.get("parking").unwrap().columns();
    let keys = [key("p2", time_us), key("p2", time_us + 1), key("p3", time_us)];
    let found = table.find(&snapshot, columns, &sought(&keys)).await.unwrap();
    assert_eq!(found.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    assert_eq!(found[0].schema_ref(), columns);
    assert_eq!(found[0].column_by_name("device").unwrap().as_string_view().value(0), "p2");
    let long_after = [key("p2", time_us + 40 * DAY_US)];
    let none = table.find(&snapshot, columns, &sought(&long_after)).await.unwrap();
    assert!(none.is_empty());
}

#[tokio::test]
async fn new_field_widens_the_table_and_old_rows_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, table, lease, mut domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    let old = rows(&domains, "p1", 0..3);
    let written = seal(&shelf, vec![old], 1..=1).await;
    table.commit(&written, &lease, 1).await.unwrap();
    let grown = domains.get("parking").unwrap().newest().text.replace(
        r#"{"name": "temperature_c""#,
        r#"{"name": "barrier_open", "type": ["null", "boolean"], "default": null}, {"name": "temperature_c""#,
    );
    let domain = domains.add(&grown).unwrap().expect("it has grown");
    table.ensure(domain.columns()).await.unwrap();
    let new = rows(&domains, "p2", 0..3);
    let written = seal(&shelf, vec![new], 2..=2).await;
    let snapshot = table.commit(&written, &lease, 2).await.unwrap();
    let key = Key { tenant: "lamia".into(), device: "p1".into(), time_us: NOW_US };
    let sought = Arc::new([key].into_iter().collect());
    let found = lake.table("parking").find(&snapshot, domain.columns(), &sought).await.unwrap();
    assert!(found[0].column_by_name("barrier_open").unwrap().is_null(0));
}
