//! `zeugma demo`: a server on a temporary folder, and a simulated country that publishes to it.

use std::path::PathBuf;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use zeugma_lake::upkeep::KEEP_DEFAULT;

use crate::{
    limits::LimitArgs,
    say,
    server::{self, PlaceArgs, Server, Settings, UpArgs, WriterArgs, address},
    simulate,
};

/// A running city to look at.
///
/// Meters, car parks, buses and hotspots of three towns, each a virtual device that runs the firmware.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder to keep the data in [default: a temporary one, deleted at the end]
    // No variable: that of a city of one's own would put these towns into it.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where devices publish
    #[arg(long, env = "ZEUGMA_MQTT", value_name = "ADDR", default_value = "127.0.0.1:1883", value_parser = address)]
    pub mqtt: std::net::SocketAddr,
    /// Where questions are asked
    #[arg(long, env = "ZEUGMA_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    pub http: std::net::SocketAddr,
    /// How many virtual devices
    #[arg(long, env = "ZEUGMA_DEVICES", value_name = "N", default_value_t = 60)]
    pub devices: usize,
    /// Readings per second in all
    #[arg(long, env = "ZEUGMA_RATE", value_name = "R", default_value_t = 30.0)]
    pub rate: f64,
    /// Another number makes another city
    #[arg(long, env = "ZEUGMA_SEED", value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Runs until the shutdown.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let temporary =
        tempfile::Builder::new().prefix("zeugma-demo-").tempdir().context("no temporary folder")?;
    let data = args.data.clone().unwrap_or_else(|| temporary.path().to_owned());
    let settings = Settings::up(&UpArgs {
        place: PlaceArgs { data: data.clone(), lake: None },
        ingest: WriterArgs {
            mqtt: args.mqtt,
            broker: None,
            schemas: None,
            commit_interval: std::time::Duration::from_secs(10),
            keep_versions: KEEP_DEFAULT,
            trust_clock: false,
            limits: LimitArgs::default(),
        },
        http: args.http,
    })?;
    let server = Server::start(settings).await?;
    let mqtt = server.mqtt.context("a demo has an MQTT listener")?;
    let city = simulate::Args {
        tenants: 3,
        devices: args.devices,
        rate: Some(args.rate),
        count: None,
        mqtt: mqtt.to_string(),
        seed: args.seed,
        format: simulate::Format::Avro,
    };
    say::text(&welcome(&server, &data, args.data.is_none()))?;
    let devices = shutdown.child_token();
    let simulated = tokio::spawn({
        let devices = devices.clone();
        async move { simulate::run(&city, devices).await }
    });
    // Devices go first, so that what they published is still acknowledged.
    let stop = CancellationToken::new();
    tokio::spawn({
        let (shutdown, stop) = (shutdown.clone(), stop.clone());
        async move {
            shutdown.cancelled().await;
            devices.cancel();
            match simulated.await {
                Ok(Ok(summary)) => drop(say::line(&format!("\nThe devices: {summary}."))),
                Ok(Err(error)) => tracing::warn!("the devices ended: {error:#}"),
                Err(error) => tracing::warn!("the devices ended: {error}"),
            }
            stop.cancel();
        }
    });
    server::wait(server, stop).await
}

fn welcome(server: &Server, data: &std::path::Path, temporary: bool) -> String {
    let (http, mqtt) = (server.http, server.mqtt.map(|mqtt| mqtt.to_string()).unwrap_or_default());
    let fate = if temporary { ", deleted at the end" } else { "" };
    format!(
        "Zeugma is running: Lamia, Ostrava and Szeged, with meters, car parks, buses and hotspots.

  page      http://{http}/
  MQTT      {mqtt}    topic city/v1/{{tenant}}/{{domain}}/{{device}}
  data      {}{fate}

Ask it, from another terminal:

  curl -s 'http://{http}/api/v1/sql' -H 'Accept: text/csv' \\
    -d '{{\"sql\": \"SELECT tenant, count(*) AS readings FROM energy GROUP BY tenant ORDER BY tenant\"}}'
  target/release/zeugma sql --url http://{http} \"SELECT * FROM fleet ORDER BY time DESC LIMIT 5\"

Ctrl-C ends it.
",
        data.display()
    )
}
