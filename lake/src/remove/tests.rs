use std::{collections::BTreeMap, time::Duration};

use arrow::util::pretty::pretty_format_batches;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use zeugma_schemas::{batch::date_of, domain::Domains};

use super::*;
use crate::{
    Error, ErrorKind, Lake, Shelf,
    compact::{Compaction, FILE_ROWS_MAX, Wanted, plan},
    fixture::{NOW_US, rows, seal, shelf, table},
    gone::{Expiry, Subject},
    upkeep::KEEP_ERASED,
};

const NOW_MS: i64 = NOW_US / 1_000;

/// A table with a run of three devices, and a commit of each behind it.
struct Scene {
    lake: Lake,
    table: Table,
    lease: Lease,
    shelf: Shelf,
    domains: Domains,
    columns: SchemaRef,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let (lake, table, lease, domains) = table(&folder).await;
        let shelf = shelf(&folder, &lease);
        let columns = domains.get("parking").unwrap().columns().clone();
        let scene = Scene { lake, table, lease, shelf, domains, columns, _folder: folder };
        for n in 1..=3 {
            scene.commit(&["p1", "p2", "p3"], n, n as i64 * 100..n as i64 * 100 + 50).await;
        }
        let job = plan(scene.table.load().await.unwrap().files(), Wanted::OneRun).pop().unwrap();
        let compaction = Compaction {
            table: scene.table.clone(),
            columns: scene.columns.clone(),
            lease: scene.lease.clone(),
            file_rows_max: FILE_ROWS_MAX,
            number: 0,
        };
        compaction.run(&job, || NOW_MS, drop).await.unwrap();
        scene
    }

    async fn commit(&self, devices: &[&str], n: u64, minutes: std::ops::Range<i64>) {
        let rows = devices.iter().map(|device| rows(&self.domains, device, minutes.clone()));
        let sealed = seal(&self.shelf, rows.collect(), n..=n).await;
        self.table.commit(&sealed, &self.lease, n).await.unwrap();
    }

    fn removal(&self) -> Removal {
        let (table, columns, lease) = (self.table.clone(), self.columns.clone(), self.lease.clone());
        Removal { table, columns, lease, number: 7 }
    }

    /// Rows of each device, as whoever knows nothing but the lake reads them.
    async fn counts(&self) -> BTreeMap<String, usize> {
        let snapshot = self.lake.table("parking").load().await.unwrap();
        let mut counts = BTreeMap::new();
        for file in snapshot.files() {
            let mut batches =
                std::pin::pin!(find::read(&self.table.store().root(), file, &self.columns).await.unwrap());
            while let Some(rows) = batches.try_next().await.unwrap() {
                use arrow::array::AsArray;
                let devices = rows.column_by_name("device").unwrap().as_string_view().clone();
                devices
                    .iter()
                    .flatten()
                    .for_each(|device| *counts.entry(device.to_owned()).or_default() += 1);
            }
        }
        counts
    }
}

fn p2() -> Gone {
    Gone::Of(Subject { tenant: "lamia".into(), device: Some("p2".into()) })
}

fn counts<const N: usize>(wanted: [(&str, usize); N]) -> BTreeMap<String, usize> {
    wanted.into_iter().map(|(device, rows)| (device.to_owned(), rows)).collect()
}

#[tokio::test]
async fn erased_rows_are_in_no_version_that_can_be_read_and_all_others_stay() {
    let scene = Scene::new().await;
    scene.commit(&["p2"], 4, 0..10).await;
    let before = scene.table.load().await.unwrap();
    // What comes after the snapshot is not touched, whoever it is from.
    scene.commit(&["p2", "p3"], 5, 20..23).await;
    let removal = scene.removal();
    let rewritten = removal.write(&p2(), before.files().to_vec()).await.unwrap();
    assert_eq!((rewritten.rows, rewritten.replaced.len()), (160, before.files().len()));
    assert_eq!(scene.counts().await, counts([("p1", 150), ("p2", 163), ("p3", 153)]));
    let removed = removal.commit(&rewritten, true, NOW_MS).await.unwrap();
    assert_eq!(scene.counts().await, counts([("p1", 150), ("p2", 3), ("p3", 153)]));
    let erased = removed.version();
    let reader = scene.lake.table("parking");
    assert_eq!(reader.load().await.unwrap().readable_from(), erased);
    assert_eq!(reader.at(erased).await.unwrap().version(), erased);
    for version in [before.version(), erased - 1] {
        let refused = reader.at(version).await.unwrap_err();
        assert!(matches!(refused, Error::Erased { from, .. } if from == erased), "{refused}");
        assert_eq!(refused.kind(), ErrorKind::Gone);
    }
    // The file keeps its place: what was one run is one run still.
    let runs: Vec<_> = reader.load().await.unwrap().files().to_vec();
    assert!(runs.iter().any(|file| file.path.ends_with("run-000001-000000-00000.000001.000007.parquet")));
    // Nothing is left to do, and whoever asks again finds no rows.
    assert_eq!(removal.write(&p2(), before.files()[..0].to_vec()).await.unwrap().rows, 0);
}

#[tokio::test]
async fn newest_readings_are_told_without_erased_ones_and_without_reading_everything_again() {
    let scene = Scene::new().await;
    let latest = async || {
        let table = scene.lake.table("parking");
        let snapshot = table.load().await.unwrap();
        let latest = table.latest(&snapshot, &scene.columns, None).await.unwrap();
        (
            latest.version() == snapshot.version(),
            pretty_format_batches(&[latest.rows().clone()]).unwrap().to_string(),
        )
    };
    scene.commit(&["p2"], 4, 0..10).await;
    let before = scene.table.load().await.unwrap();
    scene.commit(&["p2", "p1"], 5, 20..23).await;
    let removal = scene.removal();
    let rewritten = removal.write(&p2(), before.files().to_vec()).await.unwrap();
    let removed = removal.commit(&rewritten, true, NOW_MS).await.unwrap();
    let worked_out = latest().await;
    scene.table.keep_latest_without(&p2(), Some(&before), &removed, &scene.columns).await.unwrap();
    assert_eq!(latest().await, worked_out);
    // Later commits go on from what is kept: the files of before are not needed.
    for file in removed.files() {
        let below = file.path.rsplit('/').next().unwrap();
        scene.lake.store().delete(&format!("parking/{below}")).await.unwrap();
    }
    assert_eq!(latest().await, worked_out);
}

#[tokio::test]
async fn purge_leaves_nothing_that_tells_of_the_erased() {
    let scene = Scene::new().await;
    let before = scene.table.load().await.unwrap();
    let latest = scene.table.latest(&before, &scene.columns, None).await.unwrap();
    scene.table.keep_latest(&latest).await.unwrap();
    let removal = scene.removal();
    let gone = Gone::Of(Subject { tenant: "lamia".into(), device: Some("p3".into()) });
    let rewritten = removal.write(&gone, before.files().to_vec()).await.unwrap();
    let now_ms = chrono::Utc::now().timestamp_millis();
    let removed = removal.commit(&rewritten, true, now_ms).await.unwrap();
    scene.table.keep_latest_without(&gone, Some(&before), &removed, &scene.columns).await.unwrap();
    assert!(tells_of(&scene.lake, "p3").await > 3, "a test that finds nothing would prove nothing");
    let later_ms = now_ms + KEEP_ERASED.as_millis() as i64;
    let erased = removed.version();
    let (files, entries) = scene.table.purge(&scene.lease, erased, now_ms, later_ms).await.unwrap();
    // Three commits' files, which a compaction had replaced, and its run.
    assert_eq!(files, 4);
    assert_eq!(entries as u64, erased);
    assert_eq!(tells_of(&scene.lake, "p3").await, 0);
    // Whoever knows an old version goes on, and so does whoever begins; commits go on.
    scene.commit(&["p1"], 9, 0..2).await;
    assert_eq!(scene.counts().await, counts([("p1", 152), ("p2", 150)]));
    assert_eq!(scene.lake.table("parking").load().await.unwrap().readable_from(), erased);
    let gone = scene.lake.table("parking").at(before.version()).await.unwrap_err();
    assert!(matches!(gone, Error::Erased { .. }), "{gone}");
    assert_eq!(scene.table.vacuum(&scene.lease, Duration::ZERO, later_ms).await.unwrap(), 0);
}

#[tokio::test]
async fn purge_has_nothing_left_to_do_after_a_later_one_of_the_same_table() {
    let scene = Scene::new().await;
    let now_ms = chrono::Utc::now().timestamp_millis();
    let mut versions = Vec::new();
    for (device, number) in [("p2", 7), ("p3", 8)] {
        let gone = Gone::Of(Subject { tenant: "lamia".into(), device: Some(device.into()) });
        let removal = Removal { number, ..scene.removal() };
        let files = scene.table.load().await.unwrap().files().to_vec();
        let rewritten = removal.write(&gone, files).await.unwrap();
        versions.push(removal.commit(&rewritten, true, now_ms).await.unwrap().version());
    }
    let later_ms = now_ms + KEEP_ERASED.as_millis() as i64;
    let purge = async |version: u64| scene.table.purge(&scene.lease, version, now_ms, later_ms).await;
    assert!(purge(versions[1]).await.unwrap().1 > 0);
    assert_eq!(purge(versions[0]).await.unwrap(), (0, 0));
    assert_eq!(scene.counts().await, counts([("p1", 150)]));
}

/// How many objects of a lake have a text, in columns of Parquet files or as they are.
async fn tells_of(lake: &Lake, text: &str) -> usize {
    let mut found = 0;
    for path in lake.store().list("").await.unwrap() {
        let bytes = lake.store().get(&path).await.unwrap().unwrap();
        let tells = if path.ends_with(".parquet") {
            let batches = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
            let batches: Vec<_> = batches.map(Result::unwrap).collect();
            pretty_format_batches(&batches).unwrap().to_string().contains(text)
        } else {
            String::from_utf8_lossy(&bytes).contains(text)
        };
        found += usize::from(tells && !path.contains("shelf"));
    }
    found
}

#[tokio::test]
async fn rows_older_than_is_kept_go_and_can_be_read_in_older_versions_for_a_while() {
    let scene = Scene::new().await;
    // Three days before the others: a file of which nothing is left.
    scene.commit(&["p1"], 4, 4_320..4_330).await;
    let before = scene.table.load().await.unwrap();
    let since_us = NOW_US - 250 * 60_000_000;
    let gone = Gone::Before(Expiry { tenants: [("lamia".to_owned(), since_us)].into(), others: i64::MIN });
    let removal = scene.removal();
    let rewritten = removal.write(&gone, before.files().to_vec()).await.unwrap();
    // Of each device those 300 to 350 minutes old.
    assert_eq!(rewritten.rows, 150 + 10);
    let removed = removal.commit(&rewritten, false, NOW_MS).await.unwrap();
    assert_eq!(scene.counts().await, counts([("p1", 100), ("p2", 100), ("p3", 100)]));
    assert_eq!(removed.readable_from(), 0);
    assert_eq!(scene.table.at(before.version()).await.unwrap().files(), before.files());
    let first = removed.files().iter().map(|file| *file.dates.start()).min();
    assert!(first >= Some(date_of(since_us)));
    let none = Gone::Before(Expiry::never());
    assert!(removal.write(&none, removed.files().to_vec()).await.unwrap().replaced.is_empty());
}
