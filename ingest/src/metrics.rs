//! What operators see: a counter for each step of a reading's life, and how much waits between them.
//!
//! - `tally` - what acceptance counts of one block, without a lock for each reading
//! - [`lags`] - how long each tenant's readings wait to be seen, and to be in the lake
//! - `register` - the names and what they are good for
//! - `machine` - the journal's files, the disk, memory and open files
//!
//! Payloads are counted as they come, until one is taken apart; from acceptance on, readings are.

pub mod lags;
mod machine;
mod register;
mod tally;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use zeugma_journal::Step;
use zeugma_lake::Position;
use zeugma_schemas::dead_letter::Reason;

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
    /// Payloads refused before the journal: no right to the topic, malformed, too large.
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

    /// Where the journal's files lie.
    pub fn watch_folder(&self, journal: &Path) {
        // Whoever says it a second time says the same.
        let _ = self.folder.path.set(journal.to_owned());
    }

    /// A table is there: its lines are shown from now on, so that the first thing counted is a rise.
    pub fn table(&self, name: &str) {
        let label = of(name);
        for family in [&self.accepted, &self.repeated, &self.late, &self.untimed, &self.extra] {
            drop(family.get_or_create(&label));
        }
        for family in [&self.visible, &self.committed, &self.commit_failures] {
            drop(family.get_or_create(&label));
        }
        for family in [&self.tail_rows, &self.tail_bytes] {
            drop(family.get_or_create(&label));
        }
    }

    /// The journal's thread has come this far; called by that thread.
    pub fn journal_step(&self, step: &Step<'_>) {
        match step {
            Step::Begins { records, bytes } => {
                self.progress.journal.begin();
                self.sync_begun_us.store((self.clock)(), Ordering::Relaxed);
                self.sync_payloads.observe(*records as f64);
                self.sync_bytes.observe(*bytes as f64);
            }
            Step::Refused(error) => {
                self.progress.journal.waits(true);
                self.disk_refuses.set(1);
                self.trouble(
                    "disk",
                    Some(format!("the disk takes nothing, so nothing is acknowledged: {}", why(error))),
                );
            }
            Step::Synced => {
                let took_us = (self.clock)().saturating_sub(self.sync_begun_us.load(Ordering::Relaxed));
                self.sync_seconds.observe(seconds(took_us));
                self.progress.journal.done();
                if self.disk_refuses.set(0) != 0 {
                    self.progress.journal.waits(false);
                    self.trouble("disk", None);
                    tracing::info!("the disk takes the journal again");
                }
            }
            Step::Failed(_) => {}
        }
    }

    /// A block through this position is synced and acknowledged, and goes to acceptance.
    pub fn handed_over(&self, through: Position) {
        self.progress.acceptance.begin();
        self.lags().acknowledged(through, (self.clock)());
    }

    /// A block that an earlier process acknowledged goes to acceptance.
    pub fn handed_over_again(&self) {
        self.progress.acceptance.begin();
    }

    /// Acceptance is through with the block that ends at this position, and its rows are visible.
    pub fn accepted_block(&self, through: Position, tally: &mut Tally) {
        let acknowledged_at = self.lags().acknowledged_at(through);
        self.tell(tally, acknowledged_at);
        self.progress.acceptance.done();
    }

    /// Late readings are decided, and those that are new are visible.
    pub fn decided(&self, tally: &mut Tally) {
        self.lags().decided();
        self.tell(tally, None);
    }

    /// All late readings that wait are being looked up.
    pub fn lookup_begins(&self) {
        self.lags().lookup_begins();
    }

    fn tell(&self, tally: &mut Tally, acknowledged_at: Option<i64>) {
        let now_us = (self.clock)();
        let (mut lags, mut credible) = (self.lags(), lock(&self.credible));
        let mut longest_us = None;
        tally.drain(self, |counts, counters| {
            counters.accepted.inc_by(counts.accepted);
            counters.repeated.inc_by(counts.repeated);
            counters.late.inc_by(counts.late);
            counters.untimed.inc_by(counts.untimed);
            counters.extra.inc_by(counts.extra);
            counters.visible.inc_by(counts.rows);
            // What an earlier process acknowledged, or had to be looked up, counts from its arrival.
            let since_us = acknowledged_at.unwrap_or(counts.first_us);
            if counts.rows > 0 {
                lags.visible(&counts.domain, &counts.tenant, counts.rows, counts.last, since_us, now_us);
                longest_us = longest_us.max(Some(now_us.saturating_sub(since_us)));
            }
            if counts.late > 0 {
                lags.late(&counts.tenant, since_us);
            }
            credible.hear(&counts.tenant, counts.heard, counts.ahead, now_us);
        });
        if let Some(longest_us) = longest_us {
            self.visible_lag_seconds.observe(seconds(longest_us));
        }
    }

    /// A device's reading lies ahead of its arrival.
    pub fn ahead(&self, tenant: &str, device: &str) {
        lock(&self.credible).hear_ahead(tenant, device);
    }

    /// The lake holds everything of a table through this position, by a commit that began then.
    pub fn committed(&self, table: &str, rows: usize, through: Position, begun_us: i64) {
        self.committed.get_or_create(&of(table)).inc_by(rows as u64);
        self.commit_seconds.observe(seconds((self.clock)().saturating_sub(begun_us)));
        self.lags().committed(table, through);
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

/// An error and what is behind it, in one line.
pub(crate) fn why(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
