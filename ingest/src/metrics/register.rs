//! The names of all metrics, and what each is good for; what is shown but not counted is here too.

use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicI64};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        MetricType,
        counter::ConstCounter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};
use zeugma_schemas::dead_letter::Reason;

use super::{Metrics, because, lags::Lags, machine::Process, seconds};
use crate::{Clock, credible_clock::CredibleClock};

/// A sync of a good disk takes a fifth of a millisecond, one of a bad day seconds.
const SYNC_SECONDS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];
/// From one payload to what 64 MiB can hold of usual size.
const SYNC_PAYLOADS: [f64; 10] = [1.0, 4.0, 16.0, 64.0, 256.0, 1e3, 4e3, 16e3, 64e3, 256e3];
/// From a payload to the 64 MiB that may wait for one sync.
const SYNC_BYTES: [f64; 8] = [1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 8388608.0, 67108864.0];
/// Milliseconds as it should be, minutes and hours while the lake is away.
const LAG_SECONDS: [f64; 12] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];
/// A small commit takes 0.1 s on a local disk, 200,000 rows to an object store a few seconds.
const COMMIT_SECONDS: [f64; 10] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0];

impl Metrics {
    /// Nothing counted yet; times come from this clock.
    pub fn new(clock: Clock) -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::default(),
            clock,
            progress: Default::default(),
            lags: Default::default(),
            credible: Mutex::new(CredibleClock::new()),
            troubles: Default::default(),
            folder: Default::default(),
            sync_begun_us: AtomicI64::new(0),
            connections: Gauge::default(),
            turned_away: Default::default(),
            slowed: Default::default(),
            broker_away: Gauge::default(),
            clock_doubted: Gauge::default(),
            disk_refuses: Gauge::default(),
            received: Default::default(),
            received_bytes: Default::default(),
            synced: Default::default(),
            acknowledged: Default::default(),
            refused: Default::default(),
            sync_seconds: Histogram::new(SYNC_SECONDS),
            sync_payloads: Histogram::new(SYNC_PAYLOADS),
            sync_bytes: Histogram::new(SYNC_BYTES),
            accepted: Family::default(),
            repeated: Family::default(),
            late: Family::default(),
            untimed: Family::default(),
            extra: Family::default(),
            rejected: Family::default(),
            undecided: Gauge::default(),
            visible: Family::default(),
            visible_lag_seconds: Histogram::new(LAG_SECONDS),
            tail_rows: Family::default(),
            tail_bytes: Family::default(),
            committed: Family::default(),
            compacted: Family::default(),
            expired: Family::default(),
            erasures_waiting: Gauge::default(),
            commit_failures: Family::default(),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
        };
        Reason::ALL.iter().for_each(|reason| drop(metrics.rejected.get_or_create(&because(*reason))));
        let mut registry = Registry::default();
        metrics.register(registry.sub_registry_with_prefix("zeugma"));
        registry.register_collector(Box::new(Process));
        metrics.registry = registry;
        metrics
    }

    fn register(&self, to: &mut Registry) {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        to.register("build", "the program that runs", build);
        self.register_door(to);
        self.register_journal(to);
        self.register_acceptance(to);
        self.register_lake(to);
        let (lags, clock) = (self.lags.clone(), self.clock.clone());
        to.register_collector(Box::new(Tenants { lags, clock }));
        to.register_collector(Box::new(self.folder.clone()));
    }

    fn register_door(&self, to: &mut Registry) {
        let help = "MQTT connections that are open at the door; a sudden fall is a network that is gone";
        to.register("connections", help, self.connections.clone());
        let help = "connections refused or ended because there were too many: raise the limit, or find who opens them";
        to.register("turned_away", help, self.turned_away.clone());
        let help = "times a limit kept a connection from being read; its readings come later";
        to.register("slowed", help, self.slowed.clone());
        let help = "1 while the broker of --broker is away; what it keeps comes when it is back";
        to.register("broker_away", help, self.broker_away.clone());
        let help =
            "1 while the clock of this machine is not credible and nothing is acknowledged: set the clock";
        to.register("clock_doubted", help, self.clock_doubted.clone());
        let help = "payloads taken from the network; one holds one reading or many";
        to.register("received", help, self.received.clone());
        let help = "bytes of the payloads taken; the journal grows by them and 60 bytes each";
        to.register_with_unit("received", help, Unit::Bytes, self.received_bytes.clone());
        let help =
            "payloads refused before the journal, for their topic, their size or the rights of a session";
        to.register("refused", help, self.refused.clone());
        let help = "payloads whose senders were told that they are on disk; falls behind received when the disk is slow";
        to.register("acknowledged", help, self.acknowledged.clone());
    }

    fn register_journal(&self, to: &mut Registry) {
        to.register("synced", "payloads that are on disk", self.synced.clone());
        let help = "time to write and sync one block; devices wait as long for their acknowledgement";
        to.register_with_unit("sync", help, Unit::Seconds, self.sync_seconds.clone());
        let help = "payloads that shared one sync; grows with load, and with a slow disk";
        to.register("sync_payloads", help, self.sync_payloads.clone());
        let help = "bytes that shared one sync";
        to.register_with_unit("sync", help, Unit::Bytes, self.sync_bytes.clone());
        let help = "1 while the disk takes nothing, as a full one, and nothing is acknowledged: make room";
        to.register("disk_refuses", help, self.disk_refuses.clone());
    }

    fn register_acceptance(&self, to: &mut Registry) {
        to.register("accepted", "readings new and whole", self.accepted.clone());
        let help = "readings delivered again with equal fields, and dropped; many mean acknowledgements that get lost";
        to.register("repeated", help, self.repeated.clone());
        let help = "readings at or before the newest of their device, which cost a look-up in the lake";
        to.register("late", help, self.late.clone());
        let help = "readings without a time of their own, which can appear twice: let the device send one";
        to.register("untimed", help, self.untimed.clone());
        let help = "readings with fields that no schema knows: give a newer schema to --schemas";
        to.register("extra", help, self.extra.clone());
        let help = "what went to the dead letters: ask SELECT reason, topic, detail FROM dead_letters";
        to.register("rejected", help, self.rejected.clone());
        let help = "late readings that wait for the lake to be decided; acknowledged, and not visible yet";
        to.register("undecided", help, self.undecided.clone());
        to.register("visible", "rows that queries see, dead letters among them", self.visible.clone());
        let help = "time from the acknowledgement of the oldest reading of each block until queries see it";
        to.register_with_unit("visible_lag", help, Unit::Seconds, self.visible_lag_seconds.clone());
    }

    fn register_lake(&self, to: &mut Registry) {
        let help = "rows that are not in the lake yet; it should fall to little with each commit";
        to.register("tail_rows", help, self.tail_rows.clone());
        let help = "memory of those rows that are not sealed into files; acceptance waits while it is 256 MiB in all";
        to.register_with_unit("tail", help, Unit::Bytes, self.tail_bytes.clone());
        to.register("committed", "rows committed to the lake", self.committed.clone());
        let help = "rows that compactions wrote again; some times as many as were committed";
        to.register("compacted", help, self.compacted.clone());
        let help = "rows that have gone because they were older than their tenant and table keep them";
        to.register("expired", help, self.expired.clone());
        let help = "erasures of which not all rows have gone; the log says why, zeugma erasures which";
        to.register("erasures_waiting", help, self.erasures_waiting.clone());
        let help = "attempts to commit that failed and are made again; the log says why";
        to.register("commit_failures", help, self.commit_failures.clone());
        let help = "time to bring the files of one commit to the lake and to commit them";
        to.register_with_unit("commit", help, Unit::Seconds, self.commit_seconds.clone());
    }
}

/// What each tenant waits for, worked out at each scrape.
struct Tenants {
    lags: Arc<Mutex<Lags>>,
    clock: Clock,
}

impl std::fmt::Debug for Tenants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenants").finish_non_exhaustive()
    }
}

impl Collector for Tenants {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let now_us = (self.clock)();
        let (tenants, undecided_since_us) = {
            let lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
            (lags.tenants(now_us), lags.undecided_since_us())
        };
        let help = "age of the oldest reading that waits for the lake to be decided";
        let age = undecided_since_us.map_or(0, |since_us| now_us.saturating_sub(since_us));
        let undecided =
            encoder.encode_descriptor("undecided", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(seconds(age)).encode(undecided)?;

        let help = "rows of a tenant that became visible; the label (others) holds tenants beyond 1,000";
        let mut family = encoder.encode_descriptor("tenant_visible", help, None, MetricType::Counter)?;
        for lag in &tenants {
            let label = [("tenant", lag.tenant.as_ref())];
            ConstCounter::new(lag.visible).encode(family.encode_family(&label)?)?;
        }
        let help = "longest wait from acknowledgement to sight of the last half minute, or of a reading that still waits";
        let seconds_of = Some(&Unit::Seconds);
        let mut family =
            encoder.encode_descriptor("tenant_visible_lag", help, seconds_of, MetricType::Gauge)?;
        for lag in &tenants {
            let label = [("tenant", lag.tenant.as_ref())];
            ConstGauge::new(seconds(lag.visible_lag_us)).encode(family.encode_family(&label)?)?;
        }
        let help =
            "age of the oldest reading that is not in the lake; at most the commit interval, as it should be";
        let mut family =
            encoder.encode_descriptor("tenant_uncommitted", help, seconds_of, MetricType::Gauge)?;
        for lag in &tenants {
            let label = [("tenant", lag.tenant.as_ref())];
            ConstGauge::new(seconds(lag.uncommitted_us)).encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}
