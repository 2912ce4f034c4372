//! Real vehicles, car parks and meters go in over MQTT; SQL must answer what an independent program says.
//!
//! The files are not part of the project. Where they are not beside it, the tests say so and end: set
//! `ZEUGMA_REAL_DATA` to their folder to run them.

use std::path::PathBuf;

use serde_json::Value;
use zeugma::replay;
pub(super) use zeugma_tests::real_data::texts;
use zeugma_tests::{
    City, peers,
    real_data::{self, AUSTIN, AUSTIN_FLAGS, SWISS, SWISS_FLAGS},
};

/// The files below a folder of the real data, by name.
pub(super) fn files(folder: &str) -> Option<Vec<PathBuf>> {
    let files = real_data::files(folder).unwrap();
    if files.is_none() {
        eprintln!("skipped: the real data is not here; set ZEUGMA_REAL_DATA to its folder");
    }
    files
}

pub(super) fn expected(set: &str, files: &[PathBuf]) -> Value {
    let files = texts(files);
    let args: Vec<&str> = [set].into_iter().chain(files.iter().map(String::as_str)).collect();
    serde_json::from_str(&peers::python("expected.py", &args)).unwrap()
}

/// `zeugma replay` with these flags.
pub(super) async fn replay(city: &City, files: &[PathBuf], flags: &[&str]) -> replay::Summary {
    real_data::replay(city.mqtt(), files, flags).await.unwrap()
}

/// Everything that the independent program counted, against our SQL.
pub(super) async fn compare(city: &City, expected: &Value, summary: replay::Summary) {
    let (tenant, domain) = (expected["tenant"].as_str().unwrap(), expected["domain"].as_str().unwrap());
    assert_eq!((summary.sent, summary.acknowledged), (expected["sent"].as_u64().unwrap(), summary.sent));
    let count = format!("SELECT count(*) FROM {domain} WHERE tenant = '{tenant}'");
    city.until(&count, expected["accepted"].clone()).await;
    for (reason, wanted) in
        expected["rejected"].as_object().unwrap().iter().filter(|(reason, _)| *reason != "total")
    {
        let letters =
            format!("SELECT count(*) FROM dead_letters WHERE tenant = '{tenant}' AND reason = '{reason}'");
        city.until(&letters, wanted.clone()).await;
    }
    let repeated = city.metric(&format!("zeugma_repeated_total{{domain=\"{domain}\"}}")).await;
    assert_eq!(repeated, expected["repeated"].as_f64().unwrap(), "repeated");
    let devices =
        city.value(&format!("SELECT count(DISTINCT device) FROM {domain} WHERE tenant = '{tenant}'")).await;
    assert_eq!(devices, expected["devices"]);
    let fields: Vec<&String> = expected["sums"].as_object().unwrap().keys().collect();
    for field in &fields {
        let rows = city
            .sql(&format!("SELECT sum({field}), count({field}) FROM {domain} WHERE tenant = '{tenant}'"))
            .await;
        close(&rows[0][0], &expected["sums"][field.as_str()], field);
        assert_eq!(rows[0][1], expected["counts"][field.as_str()], "{field}");
    }
    let averages: Vec<String> = fields.iter().map(|field| format!("avg({field})")).collect();
    let by_day = city
        .sql(&format!(
            "SELECT date, count(*), {} FROM {domain} WHERE tenant = '{tenant}' GROUP BY date ORDER BY date",
            averages.join(", ")
        ))
        .await;
    let wanted = expected["averages_by_day"].as_object().unwrap();
    assert_eq!(by_day.len(), wanted.len());
    for row in by_day {
        let day = &wanted[row[0].as_str().unwrap()];
        assert_eq!(row[1], day["rows"], "{}", row[0]);
        for (place, field) in fields.iter().enumerate() {
            close(&row[place + 2], &day[field.as_str()], field);
        }
    }
}

/// Sums of doubles differ in their last digits by the order of adding.
fn close(found: &Value, wanted: &Value, what: &str) {
    let (found, wanted) = (found.as_f64().unwrap(), wanted.as_f64().unwrap());
    assert!((found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{what}: {found}, wanted {wanted}");
}

pub(super) const LONDON: [&str; 4] = ["--time-format", "%Y-%m-%d %H:%M:%S", "--time-zone", "Europe/London"];
pub(super) const SPACES: [&str; 4] = ["--map", "occupied_spaces=Occupancy", "--map", "total_spaces=Capacity"];

#[tokio::test(flavor = "multi_thread")]
async fn buses_of_austin_answer_as_their_files_say() {
    let Some(files) = files(AUSTIN) else { return };
    let city = City::start().await;
    let summary = replay(&city, &files, &AUSTIN_FLAGS.split_whitespace().collect::<Vec<_>>()).await;
    let expected = expected("austin", &files);
    compare(&city, &expected, summary).await;
    let newest = city
        .sql(
            "SELECT device, latitude, longitude FROM (SELECT *, row_number() OVER (PARTITION BY device ORDER BY \
             time DESC) AS place FROM fleet WHERE tenant = 'austin') newest WHERE place = 1",
        )
        .await;
    let wanted = expected["newest"].as_object().unwrap();
    assert_eq!(newest.len(), wanted.len());
    for row in newest {
        let position = &wanted[row[0].as_str().unwrap()];
        assert_eq!((&row[1], &row[2]), (&position["latitude"], &position["longitude"]), "{}", row[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn car_parks_of_bath_and_birmingham_answer_as_their_files_say() {
    let (Some(bath), Some(birmingham)) = (files("parking/bath_carparks"), files("parking/birmingham_uci"))
    else {
        return;
    };
    let mut city = City::start().await;
    let flags =
        ["--tenant", "bath", "--domain", "parking", "--device-column", "Name", "--time-column", "LastUpdate"];
    let summary = replay(&city, &bath, &[&flags[..], &LONDON, &SPACES].concat()).await;
    compare(&city, &expected("bath", &bath), summary).await;
    // Committed: what comes now is decided against the lake.
    city.restart().await;
    let flags = "--tenant birmingham --domain parking --device-column SystemCodeNumber --time-column LastUpdated \
                 --no-header --columns SystemCodeNumber,Capacity,Occupancy,LastUpdated";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let flags = [&flags[..], &LONDON, &SPACES].concat();
    let summary = replay(&city, &birmingham, &flags).await;
    let wanted = expected("birmingham", &birmingham);
    compare(&city, &wanted, summary).await;
    // Once more: every row is a repeat, and the table stays as it is.
    city.restart().await;
    replay(&city, &birmingham, &flags).await;
    let sent = wanted["sent"].as_f64().unwrap();
    let deadline = tokio::time::Instant::now() + 3 * zeugma_tests::city::PATIENCE;
    while city.metric("zeugma_repeated_total{domain=\"parking\"}").await < sent {
        assert!(tokio::time::Instant::now() < deadline, "repeats are not decided");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    city.until("SELECT count(*) FROM parking WHERE tenant = 'birmingham'", wanted["accepted"].clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_of_switzerland_answer_as_their_files_say() {
    let Some(files) = files(SWISS) else { return };
    let city = City::start().await;
    let prepared = [real_data::prepare_swiss(&files, city.folder().join("swiss.csv"))];
    let summary = replay(&city, &prepared, &SWISS_FLAGS.split_whitespace().collect::<Vec<_>>()).await;
    compare(&city, &expected("swiss", &prepared), summary).await;
}
