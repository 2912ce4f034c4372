//! From the sensor to the answer.

use serde_json::json;
use tokio_util::sync::CancellationToken;
use zeugma::simulate;
use zeugma_tests::City;

const BUS: &str = "city/v1/lamia/fleet/bus-1";

#[tokio::test(flavor = "multi_thread")]
async fn reading_published_over_mqtt_is_answered_by_sql() {
    let city = City::start().await;
    city.publish(BUS, r#"{"time":"2026-01-02T03:04:05.678901+02:00","latitude":38.9,"longitude":22.4}"#)
        .await;
    city.until("SELECT count(*) FROM fleet", 1).await;
    let row = city.sql("SELECT tenant, device, time, latitude, speed_kmh, date FROM fleet").await;
    assert_eq!(
        row,
        [[
            json!("lamia"),
            json!("bus-1"),
            json!("2026-01-02T01:04:05.678901Z"),
            json!(38.9),
            json!(null),
            json!("2026-01-02")
        ]]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_is_the_same_before_and_after_the_commit() {
    let mut city = City::start().await;
    let mut device = city.device().await;
    for minute in 10..40 {
        let payload = format!(r#"{{"time":"2026-01-01T23:{minute}:00Z","occupied_spaces":{minute}}}"#);
        device.publish("city/v1/lamia/parking/p1", payload).await.unwrap();
        let payload = format!(r#"{{"time":"2026-01-02T00:{minute}:00Z","occupied_spaces":{minute}}}"#);
        device.publish("city/v1/szeged/parking/p1", payload).await.unwrap();
    }
    let question = "SELECT tenant, date, count(*), sum(occupied_spaces), min(time), max(time) FROM parking \
                    GROUP BY tenant, date ORDER BY tenant";
    city.until("SELECT count(*) FROM parking", 60).await;
    let from_tail = city.sql(question).await;
    city.restart().await;
    assert_eq!(city.sql(question).await, from_tail);
    assert_eq!(city.metric("zeugma_tail_rows{domain=\"parking\"}").await, 0.0);
    // More comes, and is joined to what the lake has.
    city.publish("city/v1/lamia/parking/p1", r#"{"time":"2026-01-02T05:00:00Z","occupied_spaces":1}"#).await;
    city.until("SELECT count(*) FROM parking", 61).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_country_fills_all_five_domains() {
    let city = City::start().await;
    let args = simulate::Args {
        tenants: 3,
        devices: 24,
        rate: Some(0.0),
        count: Some(2_000),
        mqtt: city.mqtt().to_string(),
        seed: 7,
        format: simulate::Format::Avro,
    };
    let summary = simulate::run(&args, CancellationToken::new()).await.unwrap();
    assert_eq!((summary.acknowledged, summary.refused, summary.dropped), (2_000, 0, 0));
    let all = "SELECT (SELECT count(*) FROM energy) + (SELECT count(*) FROM parking) + (SELECT count(*) FROM fleet) \
               + (SELECT count(*) FROM connectivity) + (SELECT count(*) FROM device_health)";
    city.until(all, 2_000).await;
    assert_eq!(city.dead_letters().await, []);
    for domain in ["energy", "parking", "fleet", "connectivity", "device_health"] {
        let tenants = city.sql(&format!("SELECT DISTINCT tenant FROM {domain} ORDER BY tenant")).await;
        assert_eq!(tenants, [[json!("lamia")], [json!("ostrava")], [json!("szeged")]], "{domain}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_speak_json_are_understood_as_well() {
    let city = City::start().await;
    let args = simulate::Args {
        tenants: 2,
        devices: 8,
        rate: Some(0.0),
        count: Some(200),
        mqtt: city.mqtt().to_string(),
        seed: 1,
        format: simulate::Format::Json,
    };
    let summary = simulate::run(&args, CancellationToken::new()).await.unwrap();
    assert_eq!(summary.acknowledged, 200);
    assert_eq!(city.dead_letters().await, []);
    let (_, metrics) = city.get("/metrics").await;
    let untimed: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("zeugma_untimed_total{")).collect();
    assert!(untimed.iter().all(|line| line.ends_with(" 0")), "every reading has a time: {untimed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_schema_makes_a_table_without_a_restart_and_a_changed_unit_is_refused() {
    let schemas = tempfile::tempdir().unwrap();
    let city = City::with(|args| args.ingest.schemas = Some(schemas.path().to_owned())).await;
    let topic = "city/v1/lamia/noise/mic-1";
    city.publish(topic, r#"{"time":"2026-01-01T00:00:00Z","level_db":61.5}"#).await;
    city.until("SELECT count(*) FROM dead_letters WHERE reason = 'unknown_domain'", 1).await;
    let schema = |unit: &str, more: &str| {
        format!(
            r#"{{"type":"record","name":"noise","namespace":"city.v1","fields":[
                {{"name":"time","type":{{"type":"long","logicalType":"timestamp-micros"}}}},
                {{"name":"level_db","type":"double","unit":"{unit}"}}{more}]}}"#
        )
    };
    std::fs::write(schemas.path().join("noise.avsc"), schema("dB", "")).unwrap();
    city.until_column("noise", "level_db").await;
    publish_until_accepted(&city, topic, r#"{"time":"2026-01-01T00:01:00Z","level_db":62.5}"#, 1.0).await;
    city.until("SELECT max(level_db) FROM noise", 62.5).await;
    // A field is added: the table widens, older rows have none.
    let more = r#",{"name":"peak_db","type":["null","double"],"default":null,"unit":"dB"}"#;
    std::fs::write(schemas.path().join("noise.avsc"), schema("dB", more)).unwrap();
    city.until_column("noise", "peak_db").await;
    city.until("SELECT count(*) FROM noise WHERE peak_db IS NULL", 1).await;
    // Acceptance takes the version up a moment after the table shows it; until then the field is an extra.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    city.publish(topic, r#"{"time":"2026-01-01T00:02:00Z","level_db":60,"peak_db":80}"#).await;
    city.until("SELECT max(peak_db) FROM noise", 80.0).await;
    // A changed unit changes nothing.
    std::fs::write(schemas.path().join("noise.avsc"), schema("Np", more)).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert!(city.get("/api/v1/domains/noise").await.1.contains("\"dB\""));
}

/// The lake shows a new table a moment before acceptance knows it; until then readings are dead letters.
async fn publish_until_accepted(city: &City, topic: &str, payload: &str, wanted: f64) {
    let deadline = tokio::time::Instant::now() + zeugma_tests::city::PATIENCE;
    while city.metric("zeugma_accepted_total{domain=\"noise\"}").await < wanted {
        assert!(tokio::time::Instant::now() < deadline, "the new domain is not accepted");
        city.publish(topic, payload).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_readings_and_pages_of_readings_have_paths_of_their_own() {
    let city = City::start().await;
    for (device, minute) in [("bus-1", 1), ("bus-1", 2), ("bus-2", 1)] {
        let payload =
            format!(r#"{{"time":"2026-01-01T00:0{minute}:00Z","latitude":{minute},"longitude":3}}"#);
        city.publish(&format!("city/v1/lamia/fleet/{device}"), payload).await;
    }
    city.until("SELECT count(*) FROM fleet", 3).await;
    let (status, latest) = city.get("/api/v1/fleet/latest?tenant=lamia").await;
    assert_eq!(status, 200, "{latest}");
    assert_eq!(latest.matches("2026-01-01T00:02:00").count(), 1, "{latest}");
    let (status, readings) = city.get("/api/v1/fleet/readings?tenant=lamia&device=bus-1&limit=1").await;
    assert_eq!(status, 200, "{readings}");
    let page: serde_json::Value = serde_json::from_str(&readings).unwrap();
    assert_eq!(page["rows"].as_array().unwrap().len(), 1);
    let next = format!(
        "/api/v1/fleet/readings?tenant=lamia&device=bus-1&limit=1&cursor={}",
        page["next"].as_str().unwrap()
    );
    assert!(city.get(&next).await.1.contains("2026-01-01T00:02:00"));
    assert_eq!(city.get("/healthz").await.0, 200);
    assert_eq!(city.get("/readyz").await.0, 200);
    assert!(city.get("/").await.1.contains("<html"));
}
