//! How a writer fares, for whoever does not own it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::Metrics;

/// A handle that does not keep the writer alive.
#[derive(Debug, Clone)]
pub struct Status {
    metrics: Arc<Metrics>,
    failed: watch::Receiver<Option<String>>,
}

impl Status {
    pub(crate) fn new(metrics: Arc<Metrics>, failed: watch::Receiver<Option<String>>) -> Status {
        Status { metrics, failed }
    }

    /// What keeps the writer from doing its work; empty when it does it.
    pub fn troubles(&self) -> Vec<String> {
        let away = (self.metrics.broker_away.get() > 0).then(|| "the broker is not connected".to_owned());
        away.into_iter().chain(self.metrics.troubles()).chain(self.failed.borrow().clone()).collect()
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
