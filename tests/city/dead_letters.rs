//! Dead letters come back once what refused them is mended, exactly once, and keep what they were.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use zeugma_schemas::schema::Schema;
use zeugma_tests::{City, city::PATIENCE, peers, program};

const TIDES: &str = "city/v1/lamia/tides/t1";

fn schema(more: &str) -> String {
    format!(
        r#"{{"type":"record","name":"tides","namespace":"city.v1","fields":[
            {{"name":"time","type":{{"type":"long","logicalType":"timestamp-micros"}}}},
            {{"name":"level_m","type":"double","unit":"m"}}{more}]}}"#
    )
}

const PEAK: &str = r#",{"name":"peak_m","type":["null","double"],"default":null,"unit":"m"}"#;

/// Two readings of the wider schema, as an Avro encoder of somebody else's writes them.
fn wide_frames(time_us: i64) -> Vec<u8> {
    let fingerprint = Schema::parse(&schema(PEAK)).unwrap().fingerprint;
    let mut payload = Vec::new();
    for number in 0..2 {
        payload.extend([0xc3, 0x01]);
        payload.extend(fingerprint.to_le_bytes());
        let mut zigzag = ((time_us + number) << 1) as u64;
        while zigzag >= 0x80 {
            payload.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        payload.push(zigzag as u8);
        payload.extend(1.5f64.to_le_bytes());
        payload.push(2);
        payload.extend(2.5f64.to_le_bytes());
    }
    payload
}

/// What `zeugma dead-letters replay` prints.
fn replay(city: &City, condition: &str) -> String {
    let url = city.url("");
    let output = program::run(&["dead-letters", "replay", "--where", condition, "--url", &url]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Replays until something was accepted: the lake shows a new schema a moment before acceptance knows it.
/// A replay that changes nothing writes nothing, so it may be tried as often as one likes.
async fn replay_until_accepted(city: &City, condition: &str) -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let said = replay(city, condition);
        if !said.contains(": 0 readings accepted") {
            return said;
        }
        assert!(tokio::time::Instant::now() < deadline, "{said}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn city_with_schemas(schemas: &Path) -> City {
    let schemas = schemas.to_owned();
    City::with(|args| args.ingest.schemas = Some(schemas)).await
}

async fn open_letters(city: &City) -> Vec<Vec<Value>> {
    let output = program::run(&["dead-letters", "list", "--url", &city.url(""), "--format", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = answer["rows"].as_array().unwrap().iter();
    rows.map(|row| row.as_array().unwrap()[..3].to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_domain_is_replayed_exactly_once_when_its_schema_has_come() {
    let schemas = tempfile::tempdir().unwrap();
    let mut city = city_with_schemas(schemas.path()).await;
    for payload in [
        r#"{"time":"2026-01-01T00:00:00Z","level_m":1.5}"#,
        r#"[{"level_m":2},{"level_m":3}]"#,
        r#"[{"time":"2026-01-01T00:00:10Z","level_m":4},{"time":"2026-01-01T00:00:20Z","level_m":"high"}]"#,
    ] {
        city.publish(TIDES, payload).await;
    }
    city.publish("city/v1/szeged/tides/t1", r#"{"time":"2026-01-01T00:00:00Z","level_m":9}"#).await;
    city.until("SELECT count(*) FROM dead_letters", 4).await;
    let ours = "reason = 'unknown_domain' AND tenant = 'lamia'";
    let said = replay(&city, ours);
    assert_eq!(
        said,
        "replayed 3 of 3 letters: 0 readings accepted, 0 repeated, 3 refused again (unknown_domain 3); 3 unchanged"
    );
    assert_eq!(city.dead_letters().await, [("unknown_domain".to_owned(), 4)]);
    // The letters are in the lake, the way back goes through it.
    city.restart().await;
    std::fs::write(schemas.path().join("tides.avsc"), schema("")).unwrap();
    let said = replay_until_accepted(&city, ours).await;
    assert_eq!(said, "replayed 3 of 3 letters: 4 readings accepted, 0 repeated, 1 refused again (content 1)");
    let question = "SELECT level_m FROM tides WHERE received_at IN (SELECT received_at FROM dead_letters \
                    WHERE reason = 'unknown_domain') ORDER BY level_m";
    let rows = city.sql(question).await;
    assert_eq!(rows, [1.5, 2.0, 3.0, 4.0].map(|level| vec![json!(level)]));
    // Readings without a time have the one that they would have had.
    let untimed = "SELECT count(*) FROM tides a JOIN tides b ON a.level_m = 2 AND b.level_m = 3 \
                   AND a.time = a.received_at AND b.time = a.time + INTERVAL '1 microsecond'";
    assert_eq!(city.value(untimed).await, 1);
    for round in 0..2 {
        let said = replay(&city, ours);
        assert!(
            said.starts_with("replayed 0 of 0 letters") && said.ends_with("; 3 settled before"),
            "{said}"
        );
        assert_eq!(city.value("SELECT count(*) FROM tides").await, 4, "round {round}");
        city.restart().await;
    }
    let counted = [("content", 1), ("replayed", 3), ("unknown_domain", 4)];
    assert_eq!(city.dead_letters().await, counted.map(|(reason, count)| (reason.to_owned(), count)));
    // What is open is what is still refused, each for the reason of today.
    let open = open_letters(&city).await;
    assert_eq!(
        open,
        [[json!("lamia"), json!("content"), json!(1)], [json!("szeged"), json!("unknown_domain"), json!(1)]]
    );
    let payload =
        city.value("SELECT encode(payload, 'hex') FROM dead_letters WHERE reason = 'content'").await;
    let text = r#"{"time":"2026-01-01T00:00:20Z","level_m":"high"}"#;
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(payload, json!(hex));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fingerprint_is_replayed_when_its_version_has_come() {
    let schemas = tempfile::tempdir().unwrap();
    std::fs::write(schemas.path().join("tides.1.avsc"), schema("")).unwrap();
    let city = city_with_schemas(schemas.path()).await;
    city.publish(TIDES, wide_frames(1_790_000_000_000_000)).await;
    city.until("SELECT count(*) FROM dead_letters WHERE reason = 'unknown_fingerprint'", 1).await;
    std::fs::write(schemas.path().join("tides.2.avsc"), schema(PEAK)).unwrap();
    let said = replay_until_accepted(&city, "reason = 'unknown_fingerprint'").await;
    assert_eq!(said, "replayed 1 of 1 letters: 2 readings accepted, 0 repeated, 0 refused again");
    // Questions know a new column a moment after acceptance does.
    city.until_column("tides", "peak_m").await;
    assert_eq!(city.sql("SELECT level_m, peak_m FROM tides").await, [[1.5, 2.5], [1.5, 2.5]]);
    // The device sends it again: it is there.
    city.publish(TIDES, wide_frames(1_790_000_000_000_000)).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while city.metric("zeugma_repeated_total{domain=\"tides\"}").await < 2.0 {
        assert!(tokio::time::Instant::now() < deadline, "the repeats are not decided");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(city.value("SELECT count(*) FROM tides").await, 2);
    assert_eq!(open_letters(&city).await, Vec::<Vec<Value>>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn conflict_stays_a_conflict() {
    let city = City::start().await;
    let topic = "city/v1/lamia/parking/p1";
    for occupied in [1, 2, 3] {
        let payload = format!(r#"{{"time":"2026-01-01T00:00:00Z","occupied_spaces":{occupied}}}"#);
        city.publish(topic, payload).await;
    }
    city.until("SELECT count(*) FROM dead_letters", 2).await;
    let said = replay(&city, "reason = 'conflict' OR reason LIKE 'clo%'");
    assert_eq!(
        said,
        "replayed 2 of 2 letters: 0 readings accepted, 0 repeated, 2 refused again (conflict 2); 2 unchanged"
    );
    assert_eq!(city.dead_letters().await, [("conflict".to_owned(), 2)]);
    assert_eq!(city.sql("SELECT occupied_spaces FROM parking").await, [[1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_is_judged_at_the_moment_of_the_replay() {
    let city = City::start().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    // Three seconds beyond the five minutes that are allowed.
    let time_us = now.as_micros() as i64 + 303_000_000;
    let payload = format!(r#"{{"time":{time_us},"occupied_spaces":5}}"#);
    city.publish("city/v1/lamia/parking/p1", payload).await;
    city.until("SELECT count(*) FROM dead_letters WHERE reason = 'clock'", 1).await;
    replay_until_accepted(&city, "reason = 'clock'").await;
    let same = "SELECT count(*) FROM parking p JOIN dead_letters d ON p.received_at = d.received_at";
    assert_eq!(city.value(&format!("{same} AND d.reason = 'clock'")).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn payload_that_was_cut_is_counted_and_left() {
    let city = City::start().await;
    let file = city.folder().join("large");
    std::fs::write(&file, "x".repeat(300 * 1024)).unwrap();
    peers::mosquitto_pub_file(city.mqtt(), "mqttv311", "city/v1/lamia/fleet/bus-1", &file);
    city.until("SELECT count(*) FROM dead_letters WHERE reason = 'too_large'", 1).await;
    let said = replay(&city, "true");
    assert!(said.starts_with("replayed 0 of 0 letters") && said.contains("; 1 too large"), "{said}");
    assert_eq!(city.dead_letters().await, [("too_large".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_of_many_letters_goes_page_by_page_in_their_order() {
    let schemas = tempfile::tempdir().unwrap();
    let city = city_with_schemas(schemas.path()).await;
    let mut device = city.device().await;
    let payload = |number: u64| {
        // Every moment comes twice with other fields: the first of each must stay.
        let time_us = 1_790_000_000_000_000 + number / 2;
        format!(r#"{{"time":{time_us},"level_m":{}}}"#, number % 2).into_bytes()
    };
    device.publish_all(TIDES, (0..10_000).map(payload).collect()).await.unwrap();
    city.until("SELECT count(*) FROM dead_letters", 10_000).await;
    std::fs::write(schemas.path().join("tides.avsc"), schema("")).unwrap();
    // No page may be replayed before acceptance knows the schema, so that the numbers are whole.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while city.metric("zeugma_accepted_total{domain=\"tides\"}").await < 1.0 {
        assert!(tokio::time::Instant::now() < deadline, "the schema is not taken up");
        city.publish("city/v1/szeged/tides/probe", r#"{"time":"2026-01-01T00:00:00Z","level_m":0}"#).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let said = replay(&city, "tenant = 'lamia'");
    assert_eq!(
        said,
        "replayed 10000 of 10000 letters: 5000 readings accepted, 0 repeated, 5000 refused again (conflict 5000)"
    );
    let rows = city.sql("SELECT count(*), sum(level_m) FROM tides WHERE tenant = 'lamia'").await;
    assert_eq!(rows, [[json!(5_000), json!(0.0)]]);
    let open = open_letters(&city).await;
    assert_eq!(open[0], [json!("lamia"), json!("conflict"), json!(5_000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_says_what_is_wrong_with_the_call() {
    let city = City::start().await;
    let path = city.url("/internal/v1/dead-letters/replay");
    let client = reqwest::Client::new();
    for (media_type, body, status, says) in [
        ("text/plain", r#"{"where":"true"}"#, 400, "application/json"),
        ("application/json", "true", 400, "where"),
        ("application/json", r#"{"where":"wind = 3"}"#, 400, "wind"),
        ("application/json", r#"{"where":"true) OR (true"}"#, 400, ")"),
        ("application/json", r#"{"where":"true; SELECT 1"}"#, 400, ";"),
        ("application/json", r#"{"where":"tenant"}"#, 400, "tenant"),
    ] {
        let request = client.post(&path).header("content-type", media_type).body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body}");
        let problem = answer.text().await.unwrap();
        assert!(problem.contains(says), "{body}: {problem}");
    }
    let nobody = program::run(&["dead-letters", "replay", "--where", "true", "--url", "http://127.0.0.1:9"]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("zeugma up"));
    assert!(replay(&city, "true").contains("dead-letters list"));
}
