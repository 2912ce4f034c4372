//! Tables stay few files and a short log, while readings come and questions are asked.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use zeugma_lake::{
    Lake, Lease, Shelf, Snapshot, Store, Table,
    compact::{Compaction, FILE_ROWS_MAX, Wanted, plan},
    find,
    upkeep::{KEEP_DEFAULT, KEEP_MIN},
};
use zeugma_schemas::{
    batch::{Builder, Origin},
    domain::{Domain, Domains},
    payload::readings,
};
use zeugma_tests::{
    City, peers, program,
    simulation::store::{SimStore, StoreFault},
};

const BUS: &str = "city/v1/lamia/fleet/bus-1";

/// 2026-09-21T14:13:20Z and some seconds.
fn payload(second: usize) -> Vec<u8> {
    let time_us = (1_790_000_000 + second) * 1_000_000;
    format!(r#"{{"time":{time_us},"latitude":38.9,"longitude":22.4}}"#).into_bytes()
}

async fn fleet(city: &City) -> Arc<Snapshot> {
    Lake::open(&city.lake()).await.unwrap().table("fleet").load().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_sees_each_reading_exactly_once_while_compactions_go_on() {
    let city = Arc::new(City::with(|args| args.ingest.commit_interval = Duration::from_millis(20)).await);
    let (done, is_done) = tokio::sync::watch::channel(false);
    let asking = tokio::spawn({
        let city = city.clone();
        async move {
            let mut seen = 0;
            while !*is_done.borrow() {
                let rows = city.sql("SELECT count(*), count(DISTINCT time) FROM fleet").await;
                let (count, distinct) = (rows[0][0].as_i64().unwrap(), rows[0][1].as_i64().unwrap());
                assert_eq!(count, distinct, "a reading was answered twice");
                assert!(count >= seen, "{seen} readings were visible, now {count}");
                seen = count;
            }
        }
    });
    let mut device = city.device().await;
    let (mut sent, deadline) = (0, tokio::time::Instant::now() + zeugma_tests::city::PATIENCE);
    while city.metric("zeugma_compacted_total{domain=\"fleet\"}").await < 500.0 {
        assert!(tokio::time::Instant::now() < deadline, "nothing was compacted");
        device.publish_all(BUS, (sent..sent + 10).map(payload).collect()).await.unwrap();
        sent += 10;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    done.send_replace(true);
    asking.await.unwrap();
    city.until("SELECT count(*) FROM fleet", sent).await;
    city.until("SELECT count(DISTINCT time) FROM fleet", sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compact_makes_one_file_of_dates_that_belong_together_and_says_so() {
    let mut city = City::start().await;
    for second in 0..4 {
        city.publish(BUS, payload(second)).await;
        city.publish(BUS, payload(second + 86_400 * 30)).await;
        // To stop is to commit.
        city.restart().await;
    }
    assert_eq!(fleet(&city).await.files().len(), 8);
    let url = city.url("");
    let compact = async |args: &[&str]| program::says(&[&["compact"], args].concat()).await;
    // The dates lie in two spans of 64.
    let (code, says, error) = compact(&["fleet", "--url", &url]).await;
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(says, "8 files became 2, of 8 rows");
    assert_eq!(fleet(&city).await.files().len(), 2);
    city.until("SELECT count(*) FROM fleet", 8).await;
    let (_, says, _) = compact(&["--url", &url]).await;
    assert_eq!(says, "nothing to do: all dates that belong together are one run already");
    let (code, _, error) = compact(&["nonsense", "--url", &url]).await;
    assert!(code == Some(1) && error.contains("there is no table `nonsense`"), "{error}");
    // Beside a writer nobody else writes; without one, the command holds the lake itself.
    let lake = city.lake();
    let (code, _, error) = compact(&["--idle-lake", &lake]).await;
    assert!(code == Some(1) && error.contains("held by another ingest process"), "{error}");
    city.publish(BUS, payload(10)).await;
    city.stop().await;
    assert_eq!(fleet(&city).await.files().len(), 3);
    let (code, says, error) = compact(&["--idle-lake", &lake]).await;
    assert_eq!((code, says.as_str()), (Some(0), "2 files became 1, of 5 rows"), "{error}");
    city.restart().await;
    city.until("SELECT count(*) FROM fleet", 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_engines_see_the_same_rows_of_a_compacted_table() {
    let mut city = City::with(|args| args.ingest.commit_interval = Duration::from_millis(10)).await;
    let mut device = city.device().await;
    let (checkpoint, mut sent) = (format!("{}/fleet/_delta_log/_last_checkpoint", city.lake()), 0);
    let deadline = tokio::time::Instant::now() + 2 * zeugma_tests::city::PATIENCE;
    while !std::path::Path::new(&checkpoint).exists() {
        assert!(tokio::time::Instant::now() < deadline, "no checkpoint after {sent} readings");
        let speed = if sent % 3 == 0 { "null".to_owned() } else { format!("{sent}.5") };
        let time_us = (1_790_000_000 + sent * 600) * 1_000_000_i64;
        let payload = format!(r#"{{"time":{time_us},"latitude":38.9,"longitude":22.4,"speed_kmh":{speed}}}"#);
        device.publish_all(BUS, vec![payload.into_bytes()]).await.unwrap();
        sent += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    city.until("SELECT count(*) FROM fleet", sent).await;
    let (code, _, error) = program::says(&["compact", "fleet", "--url", &city.url("")]).await;
    assert_eq!(code, Some(0), "{error}");
    assert!(city.metric("zeugma_compacted_total{domain=\"fleet\"}").await > 0.0);
    let ours = city
        .sql(
            "SELECT device, CAST(time AS BIGINT) AS time_us, speed_kmh, ignition FROM fleet ORDER BY time_us",
        )
        .await;
    // What came after the compaction is in the lake, too.
    city.stop().await;
    let lake = city.lake();
    let read =
        move || peers::python("engines.py", &[&lake, "fleet", "device", "time", "speed_kmh", "ignition"]);
    let theirs: serde_json::Value =
        serde_json::from_str(&tokio::task::spawn_blocking(read).await.unwrap()).unwrap();
    for engine in ["deltalake", "polars", "duckdb"] {
        assert_eq!(theirs[engine], serde_json::json!(ours), "{engine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn version_that_was_replaced_too_long_ago_cannot_be_asked_though_its_files_are_there() {
    let mut city = City::start().await;
    for second in 0..2 {
        city.publish(BUS, payload(second)).await;
        city.restart().await;
    }
    let newest = fleet(&city).await;
    let version = (1..newest.version()).rev().find(|version| {
        let next = format!("{}/fleet/_delta_log/{:020}.json", city.lake(), version + 1);
        std::fs::read_to_string(next).unwrap().contains(r#""add""#)
    });
    let version = version.expect("the second reading's commit has replaced a version");
    let sql = format!("SELECT count(*) FROM table_at('fleet', {version})");
    assert_eq!(city.value(&sql).await, 1);
    let next = format!("{}/fleet/_delta_log/{:020}.json", city.lake(), version + 1);
    let days_ago = std::time::SystemTime::now() - 2 * KEEP_DEFAULT;
    std::fs::File::options().write(true).open(next).unwrap().set_modified(days_ago).unwrap();
    let (status, problem) = city.post_sql(&sql).await;
    assert!(status == 410 && problem.to_string().contains("--keep-versions"), "{problem}");
}

/// A table of three commits of a row each, over a store that fails.
struct Scene {
    store: Arc<SimStore>,
    shelf: Shelf,
    lease: Lease,
    table: Table,
    domain: Arc<Domain>,
}

impl Scene {
    async fn new() -> Scene {
        let store = Arc::<SimStore>::default();
        let url = "memory:///".parse().unwrap();
        let lake = Lake::open_in(Store::with_root(store.clone(), url).unwrap()).await.unwrap();
        let lease = Lease::take(lake.store(), "source-a", 0).await.unwrap();
        let domain = Domains::builtin().get("fleet").unwrap().clone();
        let table = lake.table("fleet");
        table.ensure(domain.columns()).await.unwrap();
        table.fence(&lease).await.unwrap();
        let shelf = Shelf::with_store(Arc::<SimStore>::default(), &lease);
        let scene = Scene { store, shelf, lease, table, domain };
        for n in 1..=3 {
            scene.commit(n).await;
        }
        scene
    }

    async fn commit(&self, n: u64) {
        let mut builder = Builder::new(self.domain.clone());
        let origin = Origin { tenant: "lamia", device: "bus-1", received_at_us: 1_790_000_100_000_000 };
        for reading in readings(&self.domain, &payload(n as usize), origin.received_at_us) {
            builder.push(origin, &reading.unwrap());
        }
        let rows = builder.finish().unwrap();
        let sealed = self.shelf.seal("fleet", n..=n, rows.schema(), vec![rows], 0).await.unwrap();
        self.table.commit(&[Arc::new(sealed)], &self.lease, n).await.unwrap();
    }

    /// Compacts; the store says nothing of its commit, and has not done it when it is looked for.
    async fn compact_unanswered(&self) {
        let compaction = Compaction {
            table: self.table.clone(),
            columns: self.domain.columns().clone(),
            lease: self.lease.clone(),
            file_rows_max: FILE_ROWS_MAX,
            number: 0,
        };
        let job = plan(self.table.load().await.unwrap().files(), Wanted::OneRun).pop().unwrap();
        self.store.arm(StoreFault::Late, 0);
        assert!(compaction.run(&job, || 0, drop).await.is_err());
    }

    /// How many files and rows the table has.
    async fn count(&self) -> (usize, usize) {
        let snapshot = self.table.load().await.unwrap();
        let mut rows = 0;
        for file in snapshot.files() {
            let read = find::read(&self.table.store().root(), file, self.domain.columns()).await.unwrap();
            let batches: Vec<_> = read.try_collect().await.expect("the file is there");
            rows += batches.iter().map(|batch| batch.num_rows()).sum::<usize>();
        }
        (snapshot.files().len(), rows)
    }

    /// How many data files lie in the store.
    async fn files(&self) -> usize {
        let paths = self.table.store().list("fleet").await.unwrap();
        paths.iter().filter(|path| !path.contains("_delta_log")).count()
    }
}

#[tokio::test]
async fn compaction_whose_commit_lands_late_loses_no_rows() {
    let scene = Scene::new().await;
    scene.compact_unanswered().await;
    scene.store.land().await;
    assert_eq!(scene.count().await, (1, 3));
}

#[tokio::test]
async fn files_of_a_compaction_whose_commit_never_landed_go_with_a_vacuum() {
    let scene = Scene::new().await;
    scene.compact_unanswered().await;
    // Another commit has its place when it arrives.
    scene.commit(4).await;
    scene.store.land().await;
    assert_eq!(scene.count().await, (4, 4));
    let now_ms = chrono::Utc::now().timestamp_millis();
    assert_eq!(scene.table.vacuum(&scene.lease, KEEP_MIN, now_ms).await.unwrap(), 0);
    assert_eq!(scene.files().await, 4 + 1);
    let later_ms = now_ms + 2 * KEEP_MIN.as_millis() as i64;
    assert_eq!(scene.table.vacuum(&scene.lease, KEEP_MIN, later_ms).await.unwrap(), 1);
    assert_eq!(scene.count().await, (4, 4));
}
