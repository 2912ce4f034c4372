//! Other people's programs: mosquitto before and against us, DuckDB over our files.

use std::time::Duration;

use serde_json::json;
use zeugma_tests::{City, Device, peers};

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_pub_is_understood_in_both_protocol_versions() {
    let city = City::start().await;
    for (version, second) in [("mqttv311", 1), ("mqttv5", 2)] {
        let payload = format!(r#"{{"time":"2026-01-01T00:00:0{second}Z","up":true}}"#);
        peers::mosquitto_pub(city.mqtt(), version, "city/v1/lamia/connectivity/h1", &payload);
    }
    city.until("SELECT count(*) FROM connectivity", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_at_a_broker_arrive_also_those_published_while_we_were_away() {
    let mut broker = peers::Mosquitto::start();
    let url = broker.url();
    let mut city = City::with(|args| args.ingest.broker = Some(url)).await;
    ready(&city).await;
    let mut device = Device::connect(broker.addr()).await;
    let payload = |second: i64| format!(r#"{{"time":{},"up":true}}"#, 1_700_000_000_000_000 + second);
    for second in 0..100 {
        device.publish("city/v1/lamia/connectivity/h1", payload(second)).await.unwrap();
    }
    city.until("SELECT count(*) FROM connectivity", 100).await;
    city.stop().await;
    for second in 100..150 {
        device.publish("city/v1/lamia/connectivity/h1", payload(second)).await.unwrap();
    }
    city.restart().await;
    city.until("SELECT count(*) FROM connectivity", 150).await;
    broker.kill_and_restart();
    ready(&city).await;
    let mut device = Device::connect(broker.addr()).await;
    device.publish("city/v1/lamia/connectivity/h1", payload(150)).await.unwrap();
    city.until("SELECT count(*) FROM connectivity", 151).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payload_of_300_kib_through_a_broker_is_a_dead_letter_and_no_reconnect() {
    let broker = peers::Mosquitto::start();
    let url = broker.url();
    let city = City::with(|args| args.ingest.broker = Some(url)).await;
    ready(&city).await;
    let mut device = Device::connect(broker.addr()).await;
    device.publish("city/v1/lamia/connectivity/h1", vec![b'x'; 300 * 1024]).await.unwrap();
    device
        .publish("city/v1/lamia/connectivity/h1", r#"{"time":"2026-01-01T00:00:00Z","up":true}"#)
        .await
        .unwrap();
    city.until("SELECT count(*) FROM connectivity", 1).await;
    assert_eq!(city.dead_letters().await, [("too_large".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn duckdb_sees_the_same_rows_as_our_sql() {
    let mut city = City::start().await;
    let mut device = city.device().await;
    for minute in 0..300i64 {
        let time_us = 1_700_000_000_000_000 + minute * 600_000_000;
        let payload = format!(
            r#"{{"time":{time_us},"latitude":{}.25,"longitude":22.5,"speed_kmh":{minute}}}"#,
            minute % 90
        );
        let tenant = if minute % 2 == 0 { "lamia" } else { "szeged" };
        device.publish(&format!("city/v1/{tenant}/fleet/bus-{}", minute % 7), payload).await.unwrap();
    }
    city.until("SELECT count(*) FROM fleet", 300).await;
    city.restart().await;
    let question = "SELECT tenant, device, count(*) AS n, sum(speed_kmh) AS speed, sum(latitude) AS lat, \
                    CAST(max(date) AS VARCHAR) AS last FROM fleet GROUP BY tenant, device ORDER BY tenant, device";
    let ours = city.sql(question).await;
    let theirs: Vec<Vec<_>> = peers::duckdb(&city.lake(), "fleet", question)
        .into_iter()
        .map(|row| ["tenant", "device", "n", "speed", "lat", "last"].map(|key| row[key].clone()).to_vec())
        .collect();
    assert_eq!(ours.len(), 14);
    assert_eq!(ours, theirs);
    let all = peers::duckdb(&city.lake(), "fleet", "SELECT count(*) AS n FROM fleet WHERE extra IS NULL");
    assert_eq!(all, [json!({ "n": 300 })]);
}

/// Waits until the broker's client is connected.
pub(super) async fn ready(city: &City) {
    let deadline = tokio::time::Instant::now() + zeugma_tests::city::PATIENCE;
    while city.get("/readyz").await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the broker's client does not connect");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
