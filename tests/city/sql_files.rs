//! Questions and answers in `sql/*.slt` (sqllogictest), over one small city.

use std::path::Path;

use serde_json::Value;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use zeugma_tests::City;

/// What the files ask: a few readings of two tenants.
const READINGS: [(&str, &str); 6] = [
    (
        "lamia/fleet/bus-1",
        r#"{"time":"2026-03-29T00:30:00Z","latitude":38.9,"longitude":22.43,"speed_kmh":20,"seq":1}"#,
    ),
    (
        "lamia/fleet/bus-1",
        r#"{"time":"2026-03-29T01:30:00Z","latitude":38.91,"longitude":22.44,"speed_kmh":40,"seq":2}"#,
    ),
    (
        "lamia/fleet/bus-2",
        r#"{"time":"2026-03-30T00:30:00Z","latitude":38.92,"longitude":22.45,"ignition":false}"#,
    ),
    (
        "szeged/fleet/bus-1",
        r#"{"time":"2026-03-29T00:30:00Z","latitude":46.25,"longitude":20.14,"speed_kmh":33.5}"#,
    ),
    (
        "szeged/parking/p1",
        r#"{"time":"2026-03-29T00:30:00Z","occupied_spaces":7,"total_spaces":10,"note":"x"}"#,
    ),
    ("szeged/parking/p1", r#"{"time":"2026-03-29T00:40:00Z","occupied_spaces":"many"}"#),
];

struct Asked<'a>(&'a City);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

#[async_trait::async_trait]
impl AsyncDB for Asked<'_> {
    type Error = Refused;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refused> {
        let (status, body) = self.0.post_sql(sql).await;
        if status != 200 {
            return Err(Refused(body["detail"].as_str().unwrap_or_default().to_owned()));
        }
        let columns = body["columns"].as_array().map_or(0, Vec::len);
        let cell = |value: &Value| match value {
            Value::Null => "NULL".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let rows = body["rows"].as_array().cloned().unwrap_or_default();
        let rows = rows.iter().map(|row| row.as_array().map_or(vec![], |row| row.iter().map(cell).collect()));
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows: rows.collect() })
    }

    async fn shutdown(&mut self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_questions_have_their_answers() {
    let city = City::start().await;
    for (topic, payload) in READINGS {
        city.publish(&format!("city/v1/{topic}"), payload).await;
    }
    city.until("SELECT count(*) FROM dead_letters", 1).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("city/sql");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let mut runner = Runner::new(async || Ok(Asked(&city)));
        runner.run_file_async(entry.unwrap().path()).await.unwrap();
        files += 1;
    }
    assert!(files >= 2);
}
