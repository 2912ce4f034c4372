//! The client of any broker: takes what is published there into the journal, and acknowledges it after the sync.
//!
//! ```text
//! broker ─▶ publishes that lie ready ─▶ one batch ─▶ journal (append, sync) ─▶ PUBACKs, in order of receipt
//! ```
//!
//! The broker keeps our session, so what is published while we are away waits there, as far as the broker's own
//! limits and its persistence go. What was not acknowledged comes again at the next connection; acknowledgements
//! that belong to an earlier connection are thrown away, as the broker may have given their packet ids to others.
//!
//! - [`config`] - where the broker is, and for which tenants it is trusted
//! - `options` - what the client library is told
//! - `gather` - publishes into batches, acknowledgements out of them
//! - `reception` - the one task in which all happens
//! - `backoff` - how long to wait for a broker that is away

mod backoff;
pub mod config;
mod gather;
mod options;
mod reception;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rumqttc::v5::AsyncClient;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeugma_journal::Group;

pub use self::config::Config;
use self::{
    gather::Gather,
    reception::{Reception, State},
};
use crate::{Clock, Metrics, blocked::Blocked};

/// Why a subscriber ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal has failed; nothing more can be acknowledged.
    #[error("what the broker sends cannot be journaled")]
    Journal(#[from] zeugma_journal::Error),
    /// An encrypted connection cannot be prepared.
    #[error("no encrypted connection to the broker is possible: {0}")]
    Tls(String),
    /// A mistake of ours ended the task.
    #[error("the broker's client ended without a reason")]
    Ended,
}

/// A handle of the task that takes what a broker has.
#[derive(Debug)]
pub struct Subscriber {
    connected: Arc<AtomicBool>,
    task: JoinHandle<Result<(), Error>>,
}

impl Subscriber {
    /// Starts the task; it lives until `shutdown`, whether the broker is there or not, or until the journal fails.
    ///
    /// `source` is the UUID of the journal's data folder: by it the broker knows us again.
    pub fn start(
        config: Config,
        source: &str,
        group: Group,
        metrics: Arc<Metrics>,
        clock: Clock,
        blocked: Blocked,
        shutdown: CancellationToken,
    ) -> Subscriber {
        let connected = Arc::new(AtomicBool::new(false));
        metrics.broker_away.set(1);
        let (seen, seen_to_end, source) = (connected.clone(), metrics.clone(), source.to_owned());
        let gather = Gather::new(config.clone(), group, metrics.clone(), clock, blocked);
        let task = tokio::spawn(async move {
            let result = run(config, source, gather, metrics, shutdown, seen).await;
            if let Err(error) = &result {
                tracing::error!(error = error as &dyn std::error::Error, "the broker's client has ended");
                seen_to_end.broker_away.set(1);
            }
            result
        });
        Subscriber { connected, task }
    }

    /// Whether the broker is there and sends us what is published.
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed) && !self.task.is_finished()
    }

    /// Waits for the end, which after a shutdown comes within five seconds: what the journal has is acknowledged,
    /// then the connection is closed and the broker keeps the session.
    ///
    /// # Errors
    /// Why the task ended, if not by the shutdown.
    pub async fn stopped(self) -> Result<(), Error> {
        self.task.await.unwrap_or(Err(Error::Ended))
    }
}

async fn run(
    config: Config,
    source: String,
    gather: Gather,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    connected: Arc<AtomicBool>,
) -> Result<(), Error> {
    let (client, eventloop) = AsyncClient::new(options::options(&config, &source)?, options::REQUESTS_MAX);
    let address = config.address();
    let state = State::default();
    let reception = Reception { client, gather, metrics, shutdown, connected, address, source, state };
    reception::run(eventloop, reception).await
}

#[cfg(test)]
mod tests;
