//! What operators see: a counter for each step of a reading's life, and how much waits between them.
//!
//! `zeugma_readings_received_total` counts payloads; all later steps count readings.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use zeugma_schemas::dead_letter::Reason;

/// The counters of one ingest; each process, and each test, has its own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// MQTT connections that are open at the door.
    pub connections: Gauge,
    /// Connections refused, or ended, because there were too many.
    pub turned_away: Counter,
    /// Times a connection was not read further because of a limit.
    pub slowed: Counter,
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
    /// Rows in the tail, by table.
    pub tail_rows: Family<ByDomain, Gauge>,
    /// Rows committed to the lake, by table.
    pub committed: Family<ByDomain, Counter>,
    /// Attempts to commit that failed, by table.
    pub commit_failures: Family<ByDomain, Counter>,
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
    fn default() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("zeugma"),
            connections: Gauge::default(),
            turned_away: Counter::default(),
            slowed: Counter::default(),
            received: Counter::default(),
            received_bytes: Counter::default(),
            synced: Counter::default(),
            acknowledged: Counter::default(),
            refused: Counter::default(),
            accepted: Family::default(),
            repeated: Family::default(),
            late: Family::default(),
            untimed: Family::default(),
            extra: Family::default(),
            rejected: Family::default(),
            undecided: Gauge::default(),
            tail_rows: Family::default(),
            committed: Family::default(),
            commit_failures: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("connections", "MQTT connections that are open", self.connections.clone());
        registry.register("turned_away", "connections too many, refused or ended", self.turned_away.clone());
        registry.register("slowed", "times a limit kept a connection from being read", self.slowed.clone());
        registry.register("received", "payloads taken from the network", self.received.clone());
        let bytes = self.received_bytes.clone();
        registry.register_with_unit("received", "bytes of the payloads taken", Unit::Bytes, bytes);
        registry.register("synced", "payloads that are on disk", self.synced.clone());
        registry.register("acknowledged", "payloads whose senders were told so", self.acknowledged.clone());
        registry.register("refused", "payloads refused before the journal", self.refused.clone());
        registry.register("accepted", "readings new and whole", self.accepted.clone());
        registry.register("repeated", "readings delivered again with equal fields", self.repeated.clone());
        registry.register("late", "readings at or before their device's watermark", self.late.clone());
        registry.register("untimed", "readings without a time of their own", self.untimed.clone());
        registry.register("extra", "readings with fields that no schema knows", self.extra.clone());
        registry.register("rejected", "what went to the dead letters", self.rejected.clone());
        registry.register("undecided", "readings that wait for the lake", self.undecided.clone());
        registry.register("tail_rows", "rows that are not in the lake yet", self.tail_rows.clone());
        registry.register("committed", "rows committed to the lake", self.committed.clone());
        let failures = self.commit_failures.clone();
        registry.register("commit_failures", "attempts to commit that failed", failures);
    }

    /// All of it in the text format of OpenMetrics, which Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# metrics cannot be written: {error}\n"),
        }
    }
}
