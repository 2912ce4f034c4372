use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::{
    compact::{Compaction, FILE_ROWS_MAX, Wanted, plan},
    fixture::{rows, seal, shelf, table},
};

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Long after everything here was written.
fn later_ms() -> i64 {
    now_ms() + millis(KEEP_DEFAULT) + 3_600_000
}

async fn commit(
    table: &Table,
    shelf: &crate::Shelf,
    lease: &Lease,
    domains: &zeugma_schemas::domain::Domains,
    n: u64,
) {
    let rows = rows(domains, &format!("p{n}"), 0..3);
    table.commit(&seal(shelf, vec![rows], n..=n).await, lease, n).await.unwrap();
}

async fn log_files(table: &Table) -> usize {
    table.store().list(&format!("{}/_delta_log", table.name())).await.unwrap().len()
}

fn compaction(table: &Table, lease: &Lease, domains: &zeugma_schemas::domain::Domains) -> Compaction {
    Compaction {
        table: table.clone(),
        columns: domains.get("parking").unwrap().columns().clone(),
        lease: lease.clone(),
        file_rows_max: FILE_ROWS_MAX,
        number: 0,
    }
}

/// Three commits, then a compaction of them; answers the version before it.
async fn three_commits_that_become_one(
    table: &Table,
    shelf: &crate::Shelf,
    lease: &Lease,
    domains: &zeugma_schemas::domain::Domains,
) -> Arc<crate::Snapshot> {
    for n in 1..=3 {
        commit(table, shelf, lease, domains, n).await;
    }
    let before = table.load().await.unwrap();
    let compaction = compaction(table, lease, domains);
    let job = plan(before.files(), Wanted::OneRun).pop().unwrap();
    compaction.run(&job, now_ms, drop).await.unwrap();
    before
}

#[tokio::test]
async fn checkpoint_comes_every_hundred_versions_and_spares_readers_the_log_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    // A reader who knows the beginning, and looks again only when that is gone.
    let idle = lake.table("parking");
    idle.load().await.unwrap();
    for n in 1..=110 {
        commit(&table, &shelf, &lease, &domains, n).await;
        let written = table.checkpoint(KEEP_DEFAULT, now_ms()).await.unwrap();
        // Creating the table was version 0, fencing it version 1.
        assert_eq!(written, n == 99, "after commit {n}");
    }
    assert!(log_files(&table).await > 110, "the log is kept as long as its versions are");
    for n in 111..=210 {
        commit(&table, &shelf, &lease, &domains, n).await;
    }
    assert!(table.checkpoint(KEEP_DEFAULT, later_ms()).await.unwrap());
    let left = log_files(&table).await;
    assert!(left < 20, "{left} files of the log are left");
    commit(&table, &shelf, &lease, &domains, 211).await;
    for reader in [idle, lake.table("parking")] {
        let snapshot = reader.load().await.unwrap();
        assert_eq!(snapshot.committed_through("source-a"), 211);
        assert_eq!(snapshot.epoch(), lease.epoch());
        assert_eq!(snapshot.files().len(), 211);
    }
}

#[tokio::test]
async fn vacuum_deletes_what_was_replaced_once_nobody_can_need_it() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    let now_ms = now_ms();
    three_commits_that_become_one(&table, &shelf, &lease, &domains).await;
    // What a kill leaves behind; what the holder of the lake has brought and not committed yet.
    let orphan = "parking/run-0-00000.parquet".to_owned();
    let waiting = format!("parking/{:06}-000099-2026-09-21.parquet", lease.epoch());
    for path in [&orphan, &waiting] {
        lake.store().put(path, b"rows".to_vec()).await.unwrap();
    }
    let data = || async {
        let mut paths = lake.store().list("parking").await.unwrap();
        paths.retain(|path| !path.contains("_delta_log"));
        paths
    };
    assert_eq!(data().await.len(), 3 + 1 + 2);
    // A shorter time than an hour is not taken.
    assert_eq!(table.vacuum(&lease, Duration::ZERO, now_ms + 1_800_000).await.unwrap(), 0);
    assert_eq!(data().await.len(), 3 + 1 + 2);
    assert_eq!(table.vacuum(&lease, KEEP_DEFAULT, later_ms()).await.unwrap(), 3 + 1);
    assert!(data().await.contains(&waiting));
    // Another holder does not wait for what this one has not committed.
    lease.release().await.unwrap();
    let next = Lease::take(lake.store(), "source-b", 0).await.unwrap();
    table.fence(&next).await.unwrap();
    assert_eq!(table.vacuum(&next, KEEP_DEFAULT, later_ms()).await.unwrap(), 1);
    let files: Vec<String> =
        table.load().await.unwrap().files().iter().map(|file| file.path.clone()).collect();
    let left: Vec<String> = data().await.iter().map(|path| lake.store().path(path).to_string()).collect();
    assert_eq!(left, files);
}

#[tokio::test]
async fn newest_version_can_be_read_once_more_when_it_is_replaced_however_old_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (_lake, table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    for n in 1..=98 {
        commit(&table, &shelf, &lease, &domains, n).await;
    }
    // Nothing came for two nights.
    let old = std::time::SystemTime::now() - 2 * KEEP_DEFAULT;
    for entry in std::fs::read_dir(folder.path().join("parking/_delta_log")).unwrap() {
        let file = std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(old).unwrap();
    }
    let newest = table.load().await.unwrap();
    commit(&table, &shelf, &lease, &domains, 99).await;
    assert!(table.checkpoint(KEEP_DEFAULT, now_ms()).await.unwrap());
    assert_eq!(table.at(newest.version()).await.unwrap().files(), newest.files());
}

#[tokio::test]
async fn files_outlast_the_longest_question_about_a_version_that_can_just_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (lake, table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    let idle = Lake::open(folder.path().to_str().unwrap()).await.unwrap().table("parking");
    idle.load().await.unwrap();
    let before = three_commits_that_become_one(&table, &shelf, &lease, &domains).await;
    lake.keep_versions(KEEP_DEFAULT).await.unwrap();
    let version = before.version();
    let last_asked_ms = now_ms() + millis(KEEP_DEFAULT) - 60_000;
    let asked = table.at_for_question(version, last_asked_ms).await.unwrap();
    assert_eq!(asked.files(), before.files());
    let answered_ms = last_asked_ms + millis(QUESTION_MAX);
    assert_eq!(table.vacuum(&lease, KEEP_DEFAULT, answered_ms).await.unwrap(), 0);
    // Its files are there, and may be deleted before a question that begins now has read them.
    let refused = table.at_for_question(version, answered_ms).await.unwrap_err();
    assert!(matches!(refused, Error::Gone { .. }), "{refused}");
    assert!(table.at(version).await.is_ok());
    let newest = table.load().await.unwrap();
    // Also by somebody who has not looked since it came.
    assert!(idle.at_for_question(newest.version(), answered_ms).await.is_ok());
    assert_eq!(table.vacuum(&lease, KEEP_DEFAULT, later_ms()).await.unwrap(), 3);
}

#[tokio::test]
async fn replaced_files_stay_from_the_commit_on_however_long_the_merge_took() {
    let folder = tempfile::tempdir().unwrap();
    let (_lake, table, lease, domains) = table(&folder).await;
    let shelf = shelf(&folder, &lease);
    for n in 1..=3 {
        commit(&table, &shelf, &lease, &domains, n).await;
    }
    let compaction = compaction(&table, &lease, &domains);
    let job = plan(table.load().await.unwrap().files(), Wanted::OneRun).pop().unwrap();
    let (begun_ms, hour_ms) = (now_ms(), 3_600_000);
    let clock_ms = AtomicI64::new(begun_ms);
    let takes_an_hour = |_| clock_ms.store(begun_ms + hour_ms, Ordering::SeqCst);
    compaction.run(&job, || clock_ms.load(Ordering::SeqCst), takes_an_hour).await.unwrap();
    let from_begin_ms = begun_ms + millis(stays(KEEP_DEFAULT)) + 60_000;
    assert_eq!(table.vacuum(&lease, KEEP_DEFAULT, from_begin_ms).await.unwrap(), 0);
    assert_eq!(table.vacuum(&lease, KEEP_DEFAULT, from_begin_ms + hour_ms).await.unwrap(), 3);
}
