//! What operators see: a counter for each step of a reading's life, and how much waits between them.
//!
//! - `tally` - what acceptance counts of one block, without a lock for each reading
//! - [`lags`] - how long each tenant's readings wait to be seen, and to be in the lake
//! - `steps` - what each step says when it has come further
//! - `register` - the names and what they are good for
//! - `machine` - the journal's files, the disk, memory and open files
//!
//! Payloads are counted as they come, until one is taken apart; from acceptance on, readings are.

pub mod lags;
mod machine;
mod register;
mod steps;
mod tally;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicI64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use zeugma_schemas::dead_letter::{self, Reason};

pub use self::tally::{Counts, Tally};
use self::{lags::Lags, machine::Folder};
use crate::{Clock, credible_clock::CredibleClock, progress::Progress};

/// The counters of one ingest; each process, and each test, has its own.
pub struct Metrics {
    registry: Registry,
    clock: Clock,
    /// Whether journal and acceptance get on.
    pub progress: Progress,
    lags: Arc<Mutex<Lags>>,
    credible: Mutex<CredibleClock>,
    troubles: Mutex<BTreeMap<&'static str, String>>,
    folder: Arc<Folder>,
    /// When the sync that runs now began.
    sync_begun_us: AtomicI64,
    /// MQTT connections that are open at the door.
    pub connections: Gauge,
    /// Connections refused, or ended, because there were too many.
    pub turned_away: Counter,
    /// Times a connection was not read further because of a limit.
    pub slowed: Counter,
    /// 1 while the broker that we subscribe to is away.
    pub broker_away: Gauge,
    /// 1 while the clock is not credible.
    pub clock_doubted: Gauge,
    /// 1 while the disk takes nothing.
    pub disk_refuses: Gauge,
    /// Payloads taken from the network.
    pub received: Counter,
    /// Bytes of those payloads.
    pub received_bytes: Counter,
    /// Payloads that are on disk.
    pub synced: Counter,
    /// Payloads whose senders were told so.
    pub acknowledged: Counter,
    /// Payloads refused before the journal: no right to the topic, blocked, malformed, too large.
    pub refused: Counter,
    /// Seconds that one sync took, the write before it included.
    pub sync_seconds: Histogram,
    /// Payloads that shared one sync.
    pub sync_payloads: Histogram,
    /// Bytes that shared one sync.
    pub sync_bytes: Histogram,
    /// Readings new and whole, by domain.
    pub accepted: Family<ByDomain, Counter>,
    /// Readings delivered again with equal fields, by domain.
    pub repeated: Family<ByDomain, Counter>,
    /// Readings at or before their device's watermark, by domain.
    pub late: Family<ByDomain, Counter>,
    /// Readings without a time of their own, by domain.
    pub untimed: Family<ByDomain, Counter>,
    /// Readings with fields that the schema does not know, by domain.
    pub extra: Family<ByDomain, Counter>,
    /// What went to the dead letters, by reason.
    pub rejected: Family<ByReason, Counter>,
    /// Readings that wait for the lake to be decided.
    pub undecided: Gauge,
    /// Rows that queries see, by table.
    pub visible: Family<ByDomain, Counter>,
    /// Seconds from the acknowledgement of a block's oldest reading until queries see it.
    pub visible_lag_seconds: Histogram,
    /// Rows in the tail, by table.
    pub tail_rows: Family<ByDomain, Gauge>,
    /// Bytes in the tail, by table.
    pub tail_bytes: Family<ByDomain, Gauge>,
    /// Rows committed to the lake, by table.
    pub committed: Family<ByDomain, Counter>,
    /// Rows written again by compactions, by table.
    pub compacted: Family<ByDomain, Counter>,
    /// Rows that were too old and have gone, by table.
    pub expired: Family<ByDomain, Counter>,
    /// Erasures of which not all rows have gone.
    pub erasures_waiting: Gauge,
    /// Attempts to commit that failed, by table.
    pub commit_failures: Family<ByDomain, Counter>,
    /// Seconds that one commit took, the writing of its files included.
    pub commit_seconds: Histogram,
}

/// Which domain, or other table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByDomain {
    domain: String,
}

/// Which reason of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByReason {
    reason: String,
}

/// The label of a domain or other table.
pub fn of(domain: &str) -> ByDomain {
    ByDomain { domain: domain.to_owned() }
}

/// The label of a reason.
pub fn because(reason: Reason) -> ByReason {
    ByReason { reason: reason.as_str().to_owned() }
}

impl Default for Metrics {
    /// For whoever looks at no times: a clock that stands still.
    fn default() -> Metrics {
        Metrics::new(Arc::new(|| 0))
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// All of it in the text format of OpenMetrics, which Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# metrics cannot be written: {error}\n"),
        }
    }

    /// Where journal and sealed files lie.
    pub fn watch_folder(&self, data: &Path) {
        // Whoever says it a second time says the same.
        let _ = self.folder.data.set(data.to_owned());
    }

    /// A table is there: its lines are shown from now on, so that the first thing counted is a rise.
    pub fn table(&self, name: &str) {
        let label = of(name);
        let of_readings = [&self.accepted, &self.repeated, &self.late, &self.untimed, &self.extra];
        for family in of_readings.into_iter().filter(|_| name != dead_letter::TABLE) {
            drop(family.get_or_create(&label));
        }
        for family in [&self.visible, &self.committed, &self.commit_failures] {
            drop(family.get_or_create(&label));
        }
        for family in [&self.tail_rows, &self.tail_bytes] {
            drop(family.get_or_create(&label));
        }
    }

    /// Says what keeps the writer from its work, or that this does not any more.
    pub fn trouble(&self, what: &'static str, trouble: Option<String>) {
        let mut troubles = lock(&self.troubles);
        match trouble {
            Some(trouble) => drop(troubles.insert(what, trouble)),
            None => drop(troubles.remove(what)),
        }
    }

    /// What keeps the writer from its work.
    pub fn troubles(&self) -> Vec<String> {
        lock(&self.troubles).values().cloned().collect()
    }

    /// What is known about the machine's clock.
    pub(crate) fn credible(&self) -> MutexGuard<'_, CredibleClock> {
        lock(&self.credible)
    }

    fn lags(&self) -> MutexGuard<'_, Lags> {
        lock(&self.lags)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A step of a clock that was set back is no negative time.
fn seconds(us: i64) -> f64 {
    us.max(0) as f64 / 1e6
}

#[cfg(test)]
mod tests;
