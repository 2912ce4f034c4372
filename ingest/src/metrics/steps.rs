//! What each step says when it has come further; once for a block, a sync or a commit, never for a reading.

use std::sync::atomic::Ordering;

use zeugma_journal::Step;
use zeugma_lake::Position;

use super::{Metrics, Tally, lock, of, seconds};
use crate::sentence;

impl Metrics {
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
                    Some(format!("the disk takes nothing, so nothing is acknowledged: {}", sentence(error))),
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
        self.progress.acceptance.begin_through(through);
        self.lags().acknowledged(through, (self.clock)());
    }

    /// A block through this position that an earlier process acknowledged goes to acceptance.
    pub fn handed_over_again(&self, through: Position) {
        self.progress.acceptance.begin_through(through);
    }

    /// Acceptance is through with all blocks to this position, and their rows are visible.
    pub fn accepted_block(&self, through: Position, tally: &mut Tally) {
        let acknowledged_at = self.lags().acknowledged_at(through);
        self.tell(tally, acknowledged_at);
        self.progress.acceptance.done_through(through);
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
}
