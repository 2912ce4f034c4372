//! A city: everything in one process, on free ports, in a temporary folder.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use zeugma::{
    limits::LimitArgs,
    server::{PlaceArgs, Server, Settings, UpArgs, WriterArgs},
};
use zeugma_ingest::{Clock, Status};
use zeugma_lake::upkeep::KEEP_DEFAULT;

use crate::Device;

/// How long a test waits for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The machine's clock, and by how much a test moves it, microseconds.
pub fn moved_clock(by_us: i64) -> (Clock, Arc<AtomicI64>) {
    let (real, moved) = (zeugma::server::clock(), Arc::new(AtomicI64::new(by_us)));
    let by_us = moved.clone();
    (Arc::new(move || real() + moved.load(Ordering::SeqCst)), by_us)
}

/// A running city. Each test has its own.
pub struct City {
    folder: TempDir,
    server: Option<Server>,
    args: UpArgs,
    clock: Clock,
    http: reqwest::Client,
}

impl City {
    /// A city that commits only when it stops, so that a test sees the tail until it asks for more.
    pub async fn start() -> City {
        Self::with(|_| {}).await
    }

    /// A city with other settings.
    pub async fn with(change: impl FnOnce(&mut UpArgs)) -> City {
        Self::with_clock(zeugma::server::clock(), change).await
    }

    /// A city with other settings, by another clock.
    pub async fn with_clock(clock: Clock, change: impl FnOnce(&mut UpArgs)) -> City {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut args = UpArgs {
            place: PlaceArgs { data: folder.path().join("data"), lake: None },
            ingest: WriterArgs {
                mqtt: any,
                broker: None,
                schemas: None,
                commit_interval: Duration::from_secs(3_600),
                keep_versions: KEEP_DEFAULT,
                trust_clock: false,
                limits: LimitArgs::default(),
            },
            http: any,
        };
        change(&mut args);
        let settings = Settings::up(&args).expect("settings");
        let server = Server::start_with(settings, clock.clone()).await.expect("a city starts");
        City { folder, server: Some(server), args, clock, http: reqwest::Client::new() }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the city runs")
    }

    /// The city's temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its lake lies.
    pub fn lake(&self) -> String {
        let inside = self.args.place.data.join("lake").display().to_string();
        self.args.place.lake.clone().unwrap_or(inside)
    }

    /// How its writing half fares.
    pub fn status(&self) -> Status {
        self.server().status().expect("a writing half")
    }

    /// Where devices publish.
    pub fn mqtt(&self) -> SocketAddr {
        self.server().mqtt.expect("an MQTT listener")
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server().http)
    }

    /// A device with a connection of its own, MQTT 5.
    pub async fn device(&self) -> Device {
        Device::connect(self.mqtt()).await
    }

    /// Publishes one payload and waits for its acknowledgement.
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        let mut device = self.device().await;
        let reason = device.publish(topic, payload).await.expect("an acknowledgement");
        assert_eq!(reason, rumqttc::v5::mqttbytes::v5::PubAckReason::Success, "{topic}");
    }

    /// The rows that SQL answers.
    pub async fn sql(&self, sql: &str) -> Vec<Vec<Value>> {
        let (status, body) = self.post_sql(sql).await;
        assert_eq!(status, 200, "{sql}: {body}");
        let rows = body["rows"].as_array().cloned().unwrap_or_default();
        rows.into_iter().map(|row| row.as_array().cloned().unwrap_or_default()).collect()
    }

    /// The one value that SQL answers.
    pub async fn value(&self, sql: &str) -> Value {
        let rows = self.sql(sql).await;
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}: {rows:?}");
        rows[0][0].clone()
    }

    /// Status and body of a question.
    pub async fn post_sql(&self, sql: &str) -> (u16, Value) {
        let body = serde_json::json!({ "sql": sql }).to_string();
        let request = self.http.post(self.url("/api/v1/sql")).header("content-type", "application/json");
        let answer = request.body(body).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.expect("a whole answer")).unwrap_or_default())
    }

    /// Status and text of a path.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(self.url(path)).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a whole answer"))
    }

    /// Waits until SQL answers this value.
    pub async fn until(&self, sql: &str, wanted: impl Into<Value>) {
        let wanted = wanted.into();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = self.value(sql).await;
            if found == wanted {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{sql}: {found}, wanted {wanted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until questions know a column.
    pub async fn until_column(&self, table: &str, column: &str) {
        let question = format!(
            "SELECT count(*) FROM information_schema.columns WHERE table_name = '{table}' AND column_name = '{column}'"
        );
        self.until(&question, 1).await;
    }

    /// The value of a metric's line that begins like this; 0 where there is none.
    pub async fn metric(&self, line: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let found = text.lines().find_map(|candidate| candidate.strip_prefix(line));
        found.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0.0)
    }

    /// Reasons and counts of the dead letters.
    pub async fn dead_letters(&self) -> Vec<(String, i64)> {
        let rows =
            self.sql("SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason").await;
        let pair =
            |row: Vec<Value>| (row[0].as_str().unwrap_or_default().to_owned(), row[1].as_i64().unwrap_or(-1));
        rows.into_iter().map(pair).collect()
    }

    /// Stops in order, which commits everything.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await.expect("a city stops in order");
        }
    }

    /// Stops and starts again on the same folder.
    pub async fn restart(&mut self) {
        self.stop().await;
        let settings = Settings::up(&self.args).expect("settings");
        let server = Server::start_with(settings, self.clock.clone()).await;
        self.server = Some(server.expect("the city starts again"));
    }
}
