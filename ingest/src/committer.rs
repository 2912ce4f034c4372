//! The committer: what is decided becomes part of the lake, table by table.
//!
//! In: the tail's decided rows. Out: one Delta commit for each table that has some, carrying the position
//! it reaches; then the tail lets go of them, and the journal of what no table needs any more. Promise: a
//! row leaves tail and journal only after the commit that holds it is known.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use zeugma_journal::Group;
use zeugma_lake::{Error, ErrorKind, Lease, Position, append::Written, layout};

use crate::{
    Clock,
    accept::Known,
    metrics::{Metrics, of},
    tail::{COMMIT_BYTES, Tail},
};

/// After a failed commit the next attempt waits this long.
const RETRY: Duration = Duration::from_secs(2);

/// Commits the tails of one source.
pub struct Committer {
    /// The tails.
    pub tail: Tail,
    /// Where their tables are.
    pub known: watch::Receiver<Known>,
    /// What may be forgotten once the lake has it.
    pub journal: Group,
    /// The right to write.
    pub lease: Lease,
    /// How long rows may wait for a commit.
    pub interval: Duration,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The time, for file dates.
    pub clock: Clock,
    /// Files that were written for a commit whose outcome is not known yet.
    pub written: BTreeMap<String, (Written, Position)>,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl Committer {
    /// Commits every interval, or sooner where a tail has grown large, until told to stop.
    ///
    /// # Errors
    /// [`Error::Fenced`] once another process holds the lake. All other errors are waited for.
    pub async fn run(&mut self, stop: CancellationToken) -> Result<(), Error> {
        let mut next = Instant::now() + self.interval;
        let mut failed_in_a_row = 0_u64;
        loop {
            let all = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(next) => true,
                () = self.tail.full() => false,
            };
            let result = self.commit_tables(all).await;
            if all {
                next = Instant::now() + self.interval;
            }
            match result {
                Ok(()) => {
                    if failed_in_a_row > 0 {
                        tracing::info!(
                            attempts = failed_in_a_row,
                            "the lake is back: what waited is committed"
                        );
                    }
                    failed_in_a_row = 0;
                }
                Err(error) if error.kind() == ErrorKind::Fenced => return Err(error),
                Err(error) => {
                    failed_in_a_row += 1;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        attempts = failed_in_a_row,
                        "a commit failed and will be tried again"
                    );
                    next = next.min(Instant::now() + RETRY);
                }
            }
        }
    }

    /// Commits all tables, or only those whose tail has grown large; answers the first error.
    pub async fn commit_tables(&mut self, all: bool) -> Result<(), Error> {
        let mut first_error = Ok(());
        for table in self.tail.tables() {
            if all || self.tail.bytes(&table) >= COMMIT_BYTES {
                let result = self.commit(&table).await;
                if result.is_err() {
                    self.metrics.commit_failures.get_or_create(&of(&table)).inc();
                }
                first_error = first_error.and(result);
            }
        }
        self.journal.truncate(self.tail.safe_through());
        first_error
    }

    async fn commit(&mut self, name: &str) -> Result<(), Error> {
        let begun_us = (self.clock)();
        let table = self.known.borrow().tables.get(name).cloned();
        let table = table.ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
        if !self.written.contains_key(name) {
            let Some(cut) = self.tail.cut(name) else { return Ok(()) };
            let rows = cut.rows.iter().map(|rows| layout::conform(rows, &cut.columns));
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let written = table.write(cut.columns, rows, (self.clock)() / 1_000).await?;
            self.written.insert(name.to_owned(), (written, cut.through));
        }
        // An attempt with an unknown outcome is repeated with the same files and the same position.
        let Some((written, through)) = self.written.get(name) else { return Ok(()) };
        let snapshot = table.commit(written, &self.lease, *through).await?;
        let (version, rows) = (snapshot.version(), written.rows());
        tracing::debug!(table = name, version, rows, through, "committed");
        self.metrics.committed(name, rows, *through, begun_us);
        self.tail.release(name, *through);
        self.written.remove(name);
        Ok(())
    }
}
