//! A storm: thousands of devices that come back at once and flush what they kept, among guests that behave
//! badly in every way, and a few devices that go on as if nothing were.
//!
//! - [`wire`] - MQTT as bytes, so that a connection costs little
//! - [`crowd`] - those who come back
//! - [`guests`] - those who behave badly
//! - [`steady`] - those who go on, and how long they wait
//! - [`found`] - what SQL answers afterwards, key by key

pub mod crowd;
pub mod found;
pub mod guests;
pub mod steady;
pub mod wire;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{found::Check, guests::Visits};

/// How long before the storm everybody else is there.
const LEAD: Duration = Duration::from_secs(2);

/// How large a storm.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where devices publish.
    pub mqtt: SocketAddr,
    /// Devices that come back at once.
    pub connections: usize,
    /// Readings that each has kept.
    pub each: usize,
    /// Tenants among whom they are spread.
    pub tenants: usize,
    /// Bad guests of each kind.
    pub guests: usize,
    /// Devices that go on.
    pub steady: usize,
    /// How long the storm may last.
    pub at_most: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Readings acknowledged, by device.
    pub check: Check,
    /// Readings that those who came back wanted to deliver, and did.
    pub stored: usize,
    /// See `stored`.
    pub delivered: usize,
    /// Dials, and those that were refused or broke before everything was delivered.
    pub dials: u64,
    /// See `dials`.
    pub broken: u64,
    /// How long the last device took.
    pub took: Duration,
    /// What the bad guests saw.
    pub visits: Arc<Visits>,
    /// How long the steady ones waited.
    pub waits: steady::Waits,
}

/// Lets it come, and waits until it is over.
pub async fn run(config: &Config) -> anyhow::Result<Outcome> {
    let over = CancellationToken::new();
    let visits = Arc::new(Visits::default());
    let guests = guests::come(config, &visits, &over);
    let steady = steady::start(config, &over);
    tokio::time::sleep(LEAD).await;
    let began = Instant::now();
    let crowd = crowd::come_back(config).await?;
    let took = began.elapsed();
    over.cancel();
    let mut check = crowd.check;
    let waits = steady::stop(steady, &mut check).await?;
    for guest in guests {
        guest.await?;
    }
    Ok(Outcome {
        delivered: crowd.delivered,
        stored: config.connections * config.each,
        dials: crowd.tally.dials.load(Relaxed),
        broken: crowd.tally.broken.load(Relaxed),
        check,
        took,
        visits,
        waits,
    })
}
