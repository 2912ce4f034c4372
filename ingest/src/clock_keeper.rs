//! Keeps everybody unacknowledged while the clock of this machine is not credible.
//!
//! The journal is held, so nothing is synced and nobody is told; the doors read no further. What waits is
//! judged again and again by the present clock, and goes on when the clock is right.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use zeugma_journal::{Group, Payload, Record};
use zeugma_schemas::{payload::readings, topic::Topic};

use crate::{Clock, Metrics, accept::Known};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Records that are judged at each look, and their bytes: enough to know, and some milliseconds' work.
const RECORDS_MAX: usize = 1_000;
const JUDGED_BYTES_MAX: usize = 1 << 20;

/// Looks at the clock, and holds the journal.
pub(crate) struct ClockKeeper {
    pub clock: Clock,
    pub journal: Group,
    pub metrics: Arc<Metrics>,
    pub known: watch::Receiver<Known>,
    pub holds: bool,
}

impl ClockKeeper {
    /// Looks every second.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }

    /// Holds the journal, or lets it go on.
    pub fn look(&mut self) {
        let now_us = (self.clock)();
        let waiting = self.holds.then(|| self.judge_waiting(now_us));
        let doubt = {
            let mut credible = self.metrics.credible();
            if let Some((heard, ahead)) = waiting {
                credible.judge_waiting(heard, ahead);
            }
            credible.look(now_us)
        };
        match (&doubt, self.holds) {
            (Some(doubt), false) => {
                self.journal.hold();
                tracing::error!(clock_us = now_us, "{doubt}");
            }
            (None, true) => {
                self.journal.release(now_us);
                tracing::info!(clock_us = now_us, "the clock is credible; acknowledgements go on");
            }
            _ => {}
        }
        self.holds = doubt.is_some();
        self.metrics.clock_doubted.set(self.holds.into());
        self.metrics.trouble("clock", doubt.map(|doubt| doubt.to_string()));
    }

    /// How many of the readings that wait are ahead of the clock.
    fn judge_waiting(&self, now_us: i64) -> (u64, u64) {
        let domains = self.known.borrow().domains.clone();
        let (mut heard, mut ahead, mut judged_bytes) = (0, 0, 0);
        self.journal.look_at_waiting(RECORDS_MAX, |Record { topic, payload, .. }| {
            let domain = Topic::parse(topic).and_then(|topic| domains.get(topic.domain));
            let (Some(domain), Payload::Whole(bytes)) = (domain, payload) else { return };
            if judged_bytes > JUDGED_BYTES_MAX {
                return;
            }
            judged_bytes += bytes.len();
            for reading in readings(domain, bytes, now_us) {
                heard += 1;
                ahead += u64::from(reading.is_err_and(|rejected| rejected.is_ahead()));
            }
        });
        (heard, ahead)
    }
}
