//! The binary as people call it: exit codes, one clear line, and the halves apart.

use std::{process::Stdio, time::Duration};

use zeugma_tests::{City, Device, Program, program};

fn fails(args: &[&str], code: i32, says: &str) {
    let output = program::run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    let line = stderr.lines().find(|line| line.starts_with("zeugma: ")).unwrap_or_default();
    assert!(line.contains(says), "{args:?}: {stderr}");
}

#[test]
fn wrong_use_ends_with_64_before_any_port_opens() {
    fails(&["up", "--http", "0.0.0.0:8080"], 64, "tokens");
    fails(&["up", "--mqtt", "192.168.1.5:1883"], 64, "127.0.0.1:1883");
    fails(&["up", "--nonsense"], 64, "--nonsense");
    fails(&["up", "--broker", "http://x"], 64, "--broker");
    fails(&["up", "--http", "8090"], 64, "127.0.0.1:8080");
    fails(&["sql", "SELECT", "1"], 64, "quotes");
    fails(&["sql", "SELECT 1", "--url", "127.0.0.1:8080"], 64, "http://127.0.0.1:8080");
    fails(&["simulate", "--devices", "0"], 64, "--devices");
    fails(
        &[
            "replay",
            "/nowhere.csv",
            "--tenant",
            "a",
            "--domain",
            "fleet",
            "--device",
            "d",
            "--time-column",
            "t",
            "--map",
            "x=y",
        ],
        64,
        "nowhere.csv",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn second_program_on_one_data_folder_is_refused() {
    let city = City::start().await;
    let data = city.folder().join("data").display().to_string();
    fails(
        &["up", "--data", &data, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"],
        1,
        "in use by another process",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn port_in_use_says_which_flag_changes_it() {
    let city = City::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (data, taken) = (folder.path().display().to_string(), city.mqtt().to_string());
    fails(&["up", "--data", &data, "--mqtt", &taken, "--http", "127.0.0.1:0"], 1, "--mqtt");
}

#[test]
fn folder_that_cannot_be_written_is_named() {
    // Root may write anywhere but below a file.
    let file = tempfile::NamedTempFile::new().unwrap();
    let data = file.path().join("data").display().to_string();
    fails(&["up", "--data", &data, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"], 1, &data);
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_prints_a_table_and_a_mistake_ends_with_1() {
    let city = City::start().await;
    city.publish("city/v1/lamia/parking/p1", r#"{"time":"2026-01-01T00:00:00Z","occupied_spaces":12}"#).await;
    city.until("SELECT count(*) FROM parking", 1).await;
    let url = city.url("");
    let output = program::run(&["sql", "SELECT device, occupied_spaces FROM parking", "--url", &url]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("| p1 ") && text.contains("1 row"), "{text}");
    let csv = program::run(&["sql", "SELECT device FROM parking", "--url", &url, "--format", "csv"]);
    assert_eq!(String::from_utf8_lossy(&csv.stdout), "device\np1\n");
    let none = program::run(&["sql", "SELECT device FROM parking WHERE device = 'p2'", "--url", &url]);
    let text = String::from_utf8_lossy(&none.stdout);
    assert!(text.contains("| device |") && text.contains("0 rows"), "{text}");
    fails(&["sql", "SELECT x FROM parking", "--url", &url], 1, "x");
    fails(
        &["sql", "SELECT device FROM parkings", "--url", &url],
        1,
        "there is no table `parkings`; there are",
    );
    fails(
        &["sql", "SELECT 1 FROM parking WHERE device = \"p-1\"", "--url", &url],
        1,
        "A text stands in single quotes",
    );
    fails(&["sql", "SELECT device FROM", "--url", &url], 1, "Expected");
    fails(&["sql", "SELECT 1", "--url", "http://127.0.0.1:9"], 1, "zeugma up");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_may_leave_before_the_end() {
    let city = City::start().await;
    // More than a pipe holds, so that it is written to after its reader has left.
    let sql = "SELECT repeat('a long answer ', 1000) AS text FROM generate_series(1, 100)";
    let mut asking = std::process::Command::new(program::binary());
    asking.args(["sql", sql, "--url", &city.url("")]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut asking = asking.spawn().unwrap();
    drop(asking.stdout.take());
    let output = asking.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_and_query_apart_answer_from_tail_and_lake() {
    let folder = tempfile::tempdir().unwrap();
    let [mqtt, inside, http] = [program::free_port(), program::free_port(), program::free_port()];
    let data = folder.path().display().to_string();
    let (mqtt_text, inside_text, http_text) = (mqtt.to_string(), inside.to_string(), http.to_string());
    let writer = [
        "ingest",
        "--data",
        &data,
        "--mqtt",
        &mqtt_text,
        "--http",
        &inside_text,
        "--commit-interval",
        "500ms",
    ];
    let ingest = Program::start(&writer, inside);
    let tail = format!("http://{inside}");
    let query = Program::start(&["query", "--data", &data, "--http", &http_text, "--tail", &tail], http);
    let mut device = Device::connect(mqtt).await;
    assert_eq!(reqwest::get(format!("http://{http}/readyz")).await.unwrap().status().as_u16(), 200);
    let url = format!("http://{http}/api/v1/sql?q=SELECT%20count(*)%20AS%20n%20FROM%20energy");
    let mut live = reqwest::get(format!("http://{http}/api/v1/live?domain=energy")).await.unwrap();
    for round in 1..=6i64 {
        let payload = format!(r#"{{"time":{},"active_power_w":5}}"#, 1_700_000_000_000_000 + round);
        device.publish("city/v1/lamia/energy/m1", payload).await.unwrap();
        let wanted = format!("[[{round}]]");
        let deadline = tokio::time::Instant::now() + zeugma_tests::city::PATIENCE;
        loop {
            let answer = reqwest::get(&url).await.unwrap().text().await.unwrap();
            if answer.replace(' ', "").contains(&wanted) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{answer}, wanted {wanted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Commits go on between the rounds, so that both halves of the answer change.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let mut told = String::new();
    while told.matches("event: reading").count() < 6 {
        let chunk = tokio::time::timeout(zeugma_tests::city::PATIENCE, live.chunk()).await;
        told.push_str(&String::from_utf8_lossy(&chunk.expect("news in time").unwrap().unwrap()));
    }
    assert_eq!(told.matches("\"device\":\"m1\"").count(), 6, "{told}");
    drop(ingest);
    let status = reqwest::get(&url).await.unwrap().status();
    assert_eq!(status.as_u16(), 503, "without its tail a query must not answer half of the truth");
    let ready = format!("http://{http}/readyz");
    let deadline = tokio::time::Instant::now() + zeugma_tests::city::PATIENCE;
    loop {
        let answer = reqwest::get(&ready).await.unwrap();
        if answer.status().as_u16() == 503 {
            let text = answer.text().await.unwrap();
            assert!(text.contains("zeugma ingest") && text.contains("--tail"), "{text}");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it looks every few seconds");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let alone = reqwest::get(format!("{url}&tail=off")).await.unwrap().status();
    assert_eq!(alone.as_u16(), 200);
    assert!(query.interrupt().success());
}
