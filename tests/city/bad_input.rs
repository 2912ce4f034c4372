//! Bad input of every kind: none panics, none loses a neighbour, each says what to do.

use std::{io::Read, io::Write, net::TcpStream, time::Duration};

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use serde_json::json;
use zeugma_schemas::domains::{Fleet, Measurement};
use zeugma_tests::{City, peers};

const BUS: &str = "city/v1/lamia/fleet/bus-1";
const GOOD: &str = r#"{"time":"2026-01-01T00:00:00Z","latitude":1,"longitude":2}"#;

fn avro(time_us: i64) -> Vec<u8> {
    let mut buf = [0; 256];
    let reading = Fleet { latitude: 1.5, longitude: 2.5, ..Fleet::default() };
    let len = reading.encode_avro(time_us, 1, &mut buf).unwrap();
    buf[..len].to_vec()
}

/// Publishes a payload that must not be accepted, and a good one after it.
async fn refuses(payload: impl Into<Vec<u8>>, reason: &str) -> City {
    let city = City::start().await;
    city.publish(BUS, payload).await;
    city.until("SELECT count(*) FROM dead_letters", 1).await;
    assert_eq!(city.dead_letters().await, [(reason.to_owned(), 1)]);
    city.publish(BUS, GOOD).await;
    city.until("SELECT count(*) FROM fleet", 1).await;
    city
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_of_another_shape_is_refused_in_mqtt_5_and_the_connection_stays() {
    let city = City::start().await;
    let mut device = city.device().await;
    let long = format!("city/v1/lamia/fleet/{}", "x".repeat(65));
    for topic in
        ["city/v1/lamia/fleet", "city/v1/lamia/fleet/bus/1", "elsewhere", "city/v1/la mia/fleet/b", &long]
    {
        assert_eq!(device.publish(topic, GOOD).await.unwrap(), PubAckReason::TopicNameInvalid, "{topic}");
    }
    assert_eq!(device.publish(BUS, GOOD).await.unwrap(), PubAckReason::Success);
    city.until("SELECT count(*) FROM fleet", 1).await;
    assert_eq!(city.dead_letters().await, []);
    assert_eq!(city.metric("zeugma_refused_total").await, 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_of_another_shape_is_a_dead_letter_in_mqtt_3() {
    let city = City::start().await;
    peers::mosquitto_pub(city.mqtt(), "mqttv311", "city/v1/lamia/fleet", GOOD);
    city.until(
        "SELECT count(*) FROM dead_letters WHERE reason = 'topic' AND topic = 'city/v1/lamia/fleet'",
        1,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_domain_is_kept_with_its_bytes() {
    let city = City::start().await;
    city.publish("city/v1/lamia/tides/t1", "whatever").await;
    city.until("SELECT count(*) FROM dead_letters WHERE reason = 'unknown_domain' AND tenant = 'lamia'", 1)
        .await;
    let payload = city.value("SELECT encode(payload, 'hex') FROM dead_letters").await;
    assert_eq!(payload, json!("7768617465766572"));
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_payload_is_content() {
    refuses("", "content").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fingerprint_is_kept() {
    let mut payload = avro(1_700_000_000_000_000);
    payload[4] ^= 0xff;
    refuses(payload, "unknown_fingerprint").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_of_another_domain_is_an_unknown_fingerprint() {
    let mut buf = [0; 256];
    let parking = zeugma_schemas::domains::Parking::default();
    let len = parking.encode_avro(1_700_000_000_000_000, 1, &mut buf).unwrap();
    refuses(&buf[..len], "unknown_fingerprint").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_avro_loses_only_what_was_cut() {
    let city = City::start().await;
    let mut payload = avro(1_700_000_000_000_000);
    let whole = payload.len();
    payload.extend(&avro(1_700_000_001_000_000)[..whole - 3]);
    city.publish(BUS, payload).await;
    city.until("SELECT count(*) FROM fleet", 1).await;
    assert_eq!(city.dead_letters().await, [("content".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_the_last_frame_are_one_rejection() {
    let city = City::start().await;
    let mut payload = avro(1_700_000_000_000_000);
    payload.extend(b"trailing");
    city.publish(BUS, payload).await;
    city.until("SELECT count(*) FROM fleet", 1).await;
    city.until("SELECT count(*) FROM dead_letters WHERE payload_bytes = 8", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_no_object_is_content() {
    refuses("17", "content").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_for_a_number_is_content_and_says_which_field() {
    let city =
        refuses(r#"{"time":"2026-01-01T00:00:00Z","latitude":"north","longitude":2}"#, "content").await;
    let detail = city.value("SELECT detail FROM dead_letters").await;
    assert!(detail.as_str().unwrap().contains("latitude"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nan_is_no_json() {
    refuses(r#"{"time":"2026-01-01T00:00:00Z","latitude":NaN,"longitude":2}"#, "content").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nan_in_avro_is_content() {
    let mut buf = [0; 256];
    let reading = Fleet { latitude: f64::NAN, longitude: 2.5, ..Fleet::default() };
    let len = reading.encode_avro(1_700_000_000_000_000, 1, &mut buf).unwrap();
    refuses(&buf[..len], "content").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_extras_are_kept_as_json_text() {
    let city = City::start().await;
    let payload =
        r#"{"time":"2026-01-01T00:00:00Z","latitude":1,"longitude":2,"driver":{"badge":[1,{"x":null}]}}"#;
    city.publish(BUS, payload).await;
    city.until("SELECT count(*) FROM fleet", 1).await;
    assert_eq!(city.value("SELECT extra FROM fleet").await, json!(r#"{"driver":{"badge":[1,{"x":null}]}}"#));
    assert_eq!(city.metric("zeugma_extra_total{domain=\"fleet\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_in_1970_is_clock() {
    refuses(r#"{"time":"1970-01-01T00:00:10Z","latitude":1,"longitude":2}"#, "clock").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_next_year_is_clock() {
    refuses(r#"{"time":"2099-01-01T00:00:00Z","latitude":1,"longitude":2}"#, "clock").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_without_time_gets_the_moment_of_its_arrival() {
    let city = City::start().await;
    city.publish(BUS, r#"{"latitude":1,"longitude":2}"#).await;
    city.until("SELECT count(*) FROM fleet WHERE time = received_at", 1).await;
    assert_eq!(city.metric("zeugma_untimed_total{domain=\"fleet\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn array_of_ten_readings_without_time_is_ten_rows() {
    let city = City::start().await;
    let payload = serde_json::Value::from(vec![json!({"latitude": 1, "longitude": 2}); 10]).to_string();
    city.publish(BUS, payload).await;
    city.until("SELECT count(DISTINCT time) FROM fleet", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_without_time_that_come_together_are_a_row_each() {
    let city = City::start().await;
    let one = json!({"latitude": 1, "longitude": 2});
    let payloads = (0..500).map(|index| match index % 5 {
        0 => json!([one, one, one]).to_string().into_bytes(),
        _ => one.to_string().into_bytes(),
    });
    city.device().await.publish_all(BUS, payloads.collect()).await.unwrap();
    city.until("SELECT count(*) FROM fleet", 700).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_of_an_array_stand_alone() {
    let city = City::start().await;
    let payload =
        format!(r#"[{GOOD}, 7, {{"latitude":true,"longitude":1}}, {}]"#, GOOD.replace(":00Z", ":01Z"));
    city.publish(BUS, payload).await;
    city.until("SELECT count(*) FROM fleet", 2).await;
    assert_eq!(city.dead_letters().await, [("content".to_owned(), 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn same_message_twice_and_again_after_a_restart_is_one_row() {
    let mut city = City::start().await;
    city.publish(BUS, GOOD).await;
    city.publish(BUS, GOOD).await;
    city.publish(BUS, format!("[{GOOD},{GOOD}]")).await;
    city.until("SELECT count(*) FROM fleet", 1).await;
    city.restart().await;
    city.publish(BUS, GOOD).await;
    // Another device of the same name elsewhere is another device.
    city.publish("city/v1/szeged/fleet/bus-1", GOOD).await;
    city.until("SELECT count(*) FROM fleet", 2).await;
    assert_eq!(city.dead_letters().await, []);
    assert_eq!(city.metric("zeugma_repeated_total{domain=\"fleet\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_readings_of_one_time_are_a_conflict_in_tail_and_lake() {
    let mut city = City::start().await;
    let other = GOOD.replace("\"latitude\":1", "\"latitude\":9");
    city.publish(BUS, GOOD).await;
    city.publish(BUS, other.clone()).await;
    city.until("SELECT count(*) FROM dead_letters WHERE reason = 'conflict'", 1).await;
    city.restart().await;
    city.publish(BUS, other).await;
    city.until("SELECT count(*) FROM dead_letters WHERE reason = 'conflict'", 2).await;
    assert_eq!(city.sql("SELECT latitude FROM fleet").await, [[json!(1.0)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn payload_of_300_kib_is_refused_in_mqtt_5_and_kept_cut_in_mqtt_3() {
    let city = City::start().await;
    let large = "x".repeat(300 * 1024);
    let mut device = city.device().await;
    let refused = device.publish(BUS, large.clone()).await;
    assert!(!matches!(refused, Ok(PubAckReason::Success)), "{refused:?}");
    let file = city.folder().join("large");
    std::fs::write(&file, &large).unwrap();
    let port = city.mqtt().port().to_string();
    let status = std::process::Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv311", "-q", "1", "-t", BUS, "-f"])
        .arg(&file)
        .status()
        .expect("mosquitto_pub: apt-get install -y mosquitto-clients");
    assert!(status.success());
    let question = "SELECT count(*) FROM dead_letters WHERE reason = 'too_large' AND payload_bytes = 307200 \
                    AND length(encode(payload, 'hex')) = 8192";
    city.until(question, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_sends_garbage_or_nothing_harms_nobody() {
    let city = City::start().await;
    let mut garbage = TcpStream::connect(city.mqtt()).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let _silent = TcpStream::connect(city.mqtt()).unwrap();
    garbage.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(matches!(garbage.read(&mut [0; 16]), Ok(0) | Err(_)), "garbage gets no answer");
    city.publish(BUS, GOOD).await;
    city.until("SELECT count(*) FROM fleet", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_is_refused_and_the_connection_stays() {
    let city = City::start().await;
    let mut device = city.device().await;
    let codes = device.subscribe("city/v1/#").await.unwrap();
    assert!(
        !codes.iter().any(|code| matches!(code, rumqttc::v5::mqttbytes::v5::SubscribeReasonCode::Success(_))),
        "{codes:?}"
    );
    assert_eq!(device.publish(BUS, GOOD).await.unwrap(), PubAckReason::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_sql_says_what_is_wrong() {
    let city = City::start().await;
    for (sql, status, says) in [
        ("SELEKT 1", 400, "SELEKT"),
        ("SELECT wind FROM fleet", 400, "wind"),
        ("SELECT * FROM '/etc/passwd'", 400, "passwd"),
        ("SELECT * FROM nowhere", 400, "nowhere"),
        ("CREATE TABLE x AS SELECT 1", 403, "only SELECT"),
        ("COPY fleet TO '/tmp/x.csv'", 403, "only SELECT"),
        ("INSERT INTO fleet SELECT * FROM fleet", 403, "only SELECT"),
        ("SET datafusion.execution.batch_size = 1", 403, "only SELECT"),
        ("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'", 403, "only SELECT"),
    ] {
        let (found, problem) = city.post_sql(sql).await;
        assert_eq!(found, status, "{sql}: {problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(says) && !detail.is_empty(), "{sql}: {problem}");
        assert!(problem["type"].is_string() && problem["title"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn question_of_ten_megabytes_hears_why_it_is_refused() {
    let city = City::start().await;
    let question = format!("SELECT '{}'", "x".repeat(10 << 20));
    // More than once: an answer that overtakes the question is lost only sometimes.
    for _ in 0..20 {
        let (status, problem) = city.post_sql(&question).await;
        assert_eq!(status, 413);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("1048576")), "{problem}");
    }
    city.until("SELECT 1", 1).await;
}
