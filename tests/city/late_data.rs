//! Late data: whatever the order of arrival, and however often, the table is the same but for conflicts.
//!
//! What must be found an independent program says, by the rule of identity in order of arrival.

use std::path::{Path, PathBuf};

use serde_json::Value;
use zeugma_tests::{City, city::PATIENCE, peers};

use super::real_data::{LONDON, SPACES, compare, expected, files, replay, texts};

/// Bath's rows in an order of arrival, as a file of their own.
fn arrange(folder: &Path, order: &str, more: &[&str], files: &[PathBuf]) -> PathBuf {
    let out = folder.join(format!("{order}.csv"));
    let (inputs, out_text) = (texts(files), out.display().to_string());
    let args = [order, "--out", &out_text].into_iter().chain(more.iter().copied());
    let args: Vec<&str> = args.chain(inputs.iter().map(String::as_str)).collect();
    peers::python("arrange.py", &args);
    out
}

async fn replay_bath(city: &City, file: &Path) -> zeugma::replay::Summary {
    let flags =
        ["--tenant", "bath", "--domain", "parking", "--device-column", "Name", "--time-column", "LastUpdate"];
    replay(city, &[file.to_owned()], &[&flags[..], &LONDON, &SPACES].concat()).await
}

async fn repeated(city: &City) -> f64 {
    city.metric("zeugma_repeated_total{domain=\"parking\"}").await
}

async fn late(city: &City, domain: &str) -> f64 {
    city.metric(&format!("zeugma_late_total{{domain=\"{domain}\"}}")).await
}

/// Waits until this many readings were found to be repeats.
async fn until_repeated(city: &City, wanted: &Value) {
    let wanted = wanted.as_f64().unwrap();
    let deadline = tokio::time::Instant::now() + 6 * PATIENCE;
    while repeated(city).await < wanted {
        assert!(tokio::time::Instant::now() < deadline, "{} of {wanted} repeats", repeated(city).await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn table(city: &City) -> Vec<Vec<Value>> {
    city.sql("SELECT device, time, occupied_spaces, total_spaces FROM parking ORDER BY device, time").await
}

/// The same file once more, on top of what the lake has: the table stays as it is.
async fn replay_on_top(city: &mut City, file: &Path, once: &Value, before: &[Vec<Value>]) {
    city.restart().await;
    let summary = replay_bath(city, file).await;
    let twice = expected("bath", &[file.to_owned(), file.to_owned()]);
    assert_eq!(summary.acknowledged, once["sent"].as_u64().unwrap());
    let again = twice["repeated"].as_u64().unwrap() - once["repeated"].as_u64().unwrap();
    until_repeated(city, &again.into()).await;
    let conflicts = "SELECT count(*) FROM dead_letters WHERE reason = 'conflict'";
    city.until(conflicts, twice["rejected"]["conflict"].clone()).await;
    assert_eq!(repeated(city).await, again as f64);
    assert!(table(city).await == before, "the table has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn car_parks_are_the_same_table_in_any_order_of_arrival_and_once_more_on_top() {
    let Some(files) = files("parking/bath_carparks") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut tables = Vec::new();
    for order in ["uploaded", "newest-first"] {
        let file = arrange(folder.path(), order, &[], &files);
        let mut city = City::start().await;
        let summary = replay_bath(&city, &file).await;
        let once = expected("bath", std::slice::from_ref(&file));
        compare(&city, &once, summary).await;
        let found = table(&city).await;
        // As they arrived at the time, none was late; in the other order each but a car park's first is.
        let devices = once["devices"].as_f64().unwrap();
        let wanted = if order == "uploaded" { 0.0 } else { once["sent"].as_f64().unwrap() - devices };
        assert_eq!(late(&city, "parking").await, wanted, "{order}");
        replay_on_top(&mut city, &file, &once, &found).await;
        tables.push(found);
    }
    assert!(tables[0] == tables[1], "the orders make different tables");
}

#[tokio::test(flavor = "multi_thread")]
async fn order_of_arrival_says_which_of_two_readings_of_one_moment_stays() {
    let Some(files) = files("parking/bath_carparks") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut moments = Vec::new();
    for order in ["uploaded", "shuffled", "newest-first"] {
        let file = arrange(folder.path(), order, &["--coarse"], &files[1..2]);
        let mut city = City::start().await;
        let summary = replay_bath(&city, &file).await;
        let once = expected("bath", std::slice::from_ref(&file));
        until_repeated(&city, &once["repeated"]).await;
        compare(&city, &once, summary).await;
        let found = table(&city).await;
        replay_on_top(&mut city, &file, &once, &found).await;
        moments.push(found.into_iter().map(|row| row[..2].to_vec()).collect::<Vec<_>>());
    }
    assert!(moments[0] == moments[1] && moments[1] == moments[2], "the orders keep different moments");
}

#[tokio::test(flavor = "multi_thread")]
async fn device_that_was_offline_for_a_week_stays_on_the_fast_path() {
    let mut city = City::start().await;
    let start_us = 1_790_000_000_000_000i64;
    let payload = |minute: i64| {
        format!(r#"{{"time":{},"active_power_w":{minute}}}"#, start_us + minute * 60_000_000).into_bytes()
    };
    let (week, total) = (7 * 24 * 60, 7 * 24 * 60 + 20);
    let mut device = city.device().await;
    device.publish_all("city/v1/lamia/energy/offline", (0..10).map(payload).collect()).await.unwrap();
    // The others go on, and what they sent is in the lake when it comes back.
    let mut other = city.device().await;
    other.publish_all("city/v1/lamia/energy/online", (0..total).map(payload).collect()).await.unwrap();
    city.until("SELECT count(*) FROM energy", 10 + total).await;
    city.restart().await;
    let mut device = city.device().await;
    for day in 0..7 {
        let minutes = day * 24 * 60 + 10..(day + 1) * 24 * 60 + 10;
        device.publish_all("city/v1/lamia/energy/offline", minutes.map(payload).collect()).await.unwrap();
    }
    city.until("SELECT count(*) FROM energy WHERE device = 'offline'", week + 10).await;
    assert_eq!(late(&city, "energy").await, 0.0);
    assert_eq!(city.dead_letters().await, []);
}
