//! The invariants of ARCHITECTURE.md, one test each; what a crate can show alone is tested there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use zeugma_lake::{Lake, Lease};
use zeugma_query::Grant;
use zeugma_tests::{City, Program, program};

const BUS: &str = "city/v1/lamia/fleet/bus-1";

fn payload(second: usize) -> Vec<u8> {
    format!(r#"{{"time":{},"latitude":1,"longitude":2}}"#, 1_700_000_000_000_000 + second * 1_000_000)
        .into_bytes()
}

/// 1, 2: a PUBACK means that it is on disk, and what is there is answered once, whatever happens.
#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_reading_survives_a_kill_and_is_answered_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mqtt, http) = (program::free_port(), program::free_port());
    let data = folder.path().display().to_string();
    let (mqtt_text, http_text) = (mqtt.to_string(), http.to_string());
    let args =
        ["up", "--data", &data, "--mqtt", &mqtt_text, "--http", &http_text, "--commit-interval", "300ms"];
    let mut sent = 0;
    for _ in 0..4 {
        let server = Program::start(&args, http);
        let mut device = zeugma_tests::Device::connect(mqtt).await;
        let batch: Vec<_> = (sent..sent + 500).map(payload).collect();
        device.publish_all(BUS, batch.clone()).await.unwrap();
        sent += 500;
        // Delivered again, as after a lost acknowledgement.
        device.publish_all(BUS, batch[400..].to_vec()).await.unwrap();
        server.kill();
    }
    let server = Program::start(&args, http);
    let url =
        format!("http://{http}/api/v1/sql?q=SELECT%20count(*),%20count(DISTINCT%20time)%20FROM%20fleet");
    let answer = async || reqwest::get(&url).await.unwrap().text().await.unwrap();
    let wanted = format!("[{sent},{sent}]");
    let deadline = std::time::Instant::now() + zeugma_tests::city::PATIENCE;
    while !answer().await.replace(' ', "").contains(&wanted) {
        assert!(std::time::Instant::now() < deadline, "{}", answer().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(server.interrupt().success());
}

/// 2: a query returns a durable reading exactly once at every instant, while commits go on beside it.
#[tokio::test(flavor = "multi_thread")]
async fn every_query_sees_each_reading_exactly_once_while_commits_go_on() {
    let city = Arc::new(City::with(|args| args.ingest.commit_interval = Duration::from_millis(50)).await);
    let mut device = city.device().await;
    let (done, mut is_done) = tokio::sync::watch::channel(0);
    let asked = Arc::new(AtomicUsize::new(0));
    let asking = tokio::spawn({
        let (city, asked) = (city.clone(), asked.clone());
        async move {
            let mut seen = 0;
            loop {
                let acknowledged = *is_done.borrow_and_update();
                let rows = city.sql("SELECT count(*), count(DISTINCT time) FROM fleet").await;
                let (count, distinct) = (rows[0][0].as_i64().unwrap(), rows[0][1].as_i64().unwrap());
                assert_eq!(count, distinct, "a reading was answered twice");
                asked.fetch_add(1, Ordering::Relaxed);
                if acknowledged == usize::MAX {
                    return;
                }
                assert!(count >= seen, "{seen} readings were visible, now {count}");
                seen = count;
            }
        }
    });
    // For as long as some questions take.
    let mut sent = 0;
    while (sent < 4_000 || asked.load(Ordering::Relaxed) < 4) && !asking.is_finished() {
        device.publish_all(BUS, (sent..sent + 100).map(payload).collect()).await.unwrap();
        sent += 100;
        done.send_replace(sent);
    }
    done.send_replace(usize::MAX);
    asking.await.unwrap();
    city.until("SELECT count(*) FROM fleet", sent as i64).await;
    assert!(city.metric("zeugma_committed_total{domain=\"fleet\"}").await > 0.0);
}

/// 3: one writer for each lake; a second is refused in a sentence, and one that lost the lake stops.
#[tokio::test(flavor = "multi_thread")]
async fn second_writer_of_a_lake_is_refused_and_a_fenced_one_fails() {
    let folder = tempfile::tempdir().unwrap();
    let mut city = City::with(|args| args.place.data = folder.path().join("data")).await;
    let lake = Lake::open(&city.lake()).await.unwrap();
    let now_ms = (zeugma::server::clock())() / 1_000;
    let refused = Lease::take(lake.store(), "another", now_ms).await.unwrap_err();
    assert!(refused.to_string().contains("held by another ingest process"), "{refused}");
    // A day later the holder has not renewed: it may be taken over, and the old one cannot commit any more.
    let usurper = Lease::take(lake.store(), "another", now_ms + 86_400_000).await.unwrap();
    lake.table("fleet").fence(&usurper).await.unwrap();
    city.publish(BUS, payload(1)).await;
    city.until("SELECT count(*) FROM fleet", 1).await;
    let stopped = tokio::spawn(async move { city.stop().await }).await;
    assert!(stopped.is_err(), "a fenced writer must not say that it committed");
    assert_eq!(lake.table("fleet").load().await.unwrap().files(), []);
}

/// 4: a session reaches granted tenants only, whatever the SQL.
#[tokio::test(flavor = "multi_thread")]
async fn grant_holds_whatever_the_sql() {
    let mut city = City::start().await;
    for (tenant, latitude) in [("lamia", 1), ("szeged", 2)] {
        let payload = format!(r#"{{"time":"2026-01-01T00:00:00Z","latitude":{latitude},"longitude":2}}"#);
        city.publish(&format!("city/v1/{tenant}/fleet/bus-1"), payload).await;
    }
    city.until("SELECT count(*) FROM fleet", 2).await;
    city.stop().await;
    let lake = Lake::open(&city.lake()).await.unwrap();
    let query = zeugma_query::Query::new(lake, None, zeugma_query::Config::default()).unwrap();
    let grant = Grant::tenants(["lamia"]);
    for sql in [
        "SELECT * FROM fleet",
        "SELECT * FROM fleet WHERE tenant = 'szeged' OR true",
        "SELECT a.* FROM fleet a JOIN fleet b ON a.tenant <> b.tenant OR true",
        "WITH f AS (SELECT * FROM fleet) SELECT * FROM f UNION ALL SELECT * FROM fleet",
        "SELECT * FROM fleet WHERE latitude IN (SELECT latitude FROM fleet)",
        "SELECT max(tenant), min(tenant) FROM fleet",
        "EXPLAIN SELECT * FROM fleet",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM fleet",
        "SELECT * FROM information_schema.tables",
    ] {
        let rows = query.sql(&grant, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let text = arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
        assert!(!text.contains("szeged") && !text.contains(".parquet"), "{sql}: {text}");
    }
    let counted = query.sql(&grant, "SELECT count(*) FROM fleet").await.unwrap();
    assert!(arrow::util::pretty::pretty_format_batches(&counted).unwrap().to_string().contains("| 1 "));
}

/// A replaced disk: the lake knows more of a source than its journal, so a new source is begun.
#[tokio::test(flavor = "multi_thread")]
async fn restored_data_folder_begins_a_new_source_and_loses_nothing() {
    let mut city = City::start().await;
    for second in 0..5 {
        city.publish(BUS, payload(second)).await;
    }
    city.until("SELECT count(*) FROM fleet", 5).await;
    city.stop().await;
    let journal = city.folder().join("data/journal");
    std::fs::remove_dir_all(&journal).unwrap();
    city.restart().await;
    for second in 3..8 {
        city.publish(BUS, payload(second)).await;
    }
    city.until("SELECT count(*) FROM fleet", 8).await;
    city.restart().await;
    city.until("SELECT count(*) FROM fleet", 8).await;
}
