//! What operators see and do: metrics, alarms, systemd, signals, a wrong clock, logs.

mod clock;
mod files;
mod signals;
mod systemd;

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use zeugma_tests::{Program, city::PATIENCE, program};

/// A real `zeugma up` on a folder of its own.
struct Place {
    folder: tempfile::TempDir,
    mqtt: SocketAddr,
    http: SocketAddr,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        Place { folder, mqtt: program::free_port(), http: program::free_port() }
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn up(&self, more: &[&str], change: impl FnOnce(&mut std::process::Command)) -> Program {
        let (data, mqtt, http) = (self.data(), self.mqtt.to_string(), self.http.to_string());
        let args = ["up", "--data", &data, "--mqtt", &mqtt, "--http", &http];
        let log = self.folder.path().join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        Program::start_with(&[&args, more].concat(), self.http, |command| {
            command.stderr(log);
            change(command);
        })
    }

    async fn get(&self, path: &str) -> String {
        reqwest::get(format!("http://{}{path}", self.http)).await.unwrap().text().await.unwrap()
    }

    /// How many readings of buses there are, and how many different ones.
    async fn buses(&self) -> (i64, i64) {
        let path = "/api/v1/sql?q=SELECT%20count(*),%20count(DISTINCT%20time)%20FROM%20fleet";
        let answer: Value = serde_json::from_str(&self.get(path).await).unwrap();
        let row = &answer["rows"][0];
        (row[0].as_i64().unwrap_or(-1), row[1].as_i64().unwrap_or(-1))
    }

    /// Waits until there are at least so many readings of buses, each once.
    async fn until_buses(&self, at_least: i64) -> i64 {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (count, distinct) = self.buses().await;
            assert_eq!(count, distinct, "a reading is there twice");
            if count >= at_least {
                return count;
            }
            assert!(tokio::time::Instant::now() < deadline, "{count} readings, {at_least} were acknowledged");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

const BUS: &str = "city/v1/lamia/fleet/bus-1";

/// The reading of a bus at a second.
fn bus_at(second: i64) -> Vec<u8> {
    format!(r#"{{"time":{},"latitude":1,"longitude":2}}"#, 1_700_000_000_000_000 + second * 1_000_000)
        .into_bytes()
}
