//! The committer: what is decided becomes part of the lake, table by table.
//!
//! In: the tail's rows. Out: sealed files, and one Delta commit of them for each table that has some,
//! carrying the position it reaches; then the tail lets go of them, and the journal of what no table needs
//! any more. Promise: a row leaves tail and journal only after the commit that holds it is known.
//!
//! Sealing goes on while a commit waits for the lake, so that memory stays small however long that takes.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use zeugma_lake::{Error, ErrorKind, Lease, Position, Shelf, layout};

use crate::{
    Clock,
    accept::{Known, Tables},
    metrics::{Metrics, of},
    tail::{Reach, Tail},
};

/// After a failed commit or sealing the next attempt waits this long.
const RETRY: Duration = Duration::from_secs(2);

/// A table is committed before its time when it was sealed so often: about a million vehicle rows, in a
/// commit of some 20 MB.
const SEALINGS_MAX: usize = 6;

/// Commits the tails of one source.
pub struct Committer {
    /// The tails.
    pub tail: Tail,
    /// Where their tables are.
    pub known: watch::Receiver<Known>,
    /// Where rows are sealed.
    pub shelf: Arc<Shelf>,
    /// Told through which position the journal may forget what it has.
    pub forget: Arc<dyn Fn(Position) + Send + Sync>,
    /// The right to write.
    pub lease: Lease,
    /// How long rows may wait for a commit.
    pub interval: Duration,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The time, for file dates.
    pub clock: Clock,
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
    pub async fn run(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut next = Instant::now() + self.interval;
        // Attempts that failed in a row.
        let mut failed = 0_u64;
        let mut committing: Option<BoxFuture<'_, Result<(), Error>>> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                result = async { committing.as_mut().expect("guarded").await }, if committing.is_some() => {
                    committing = None;
                    match waits_for_lake(result)? {
                        None if failed > 0 => {
                            tracing::info!(attempts = failed, "the lake is back: what waited is committed");
                            failed = 0;
                        }
                        None => {}
                        Some(error) => {
                            failed += 1;
                            let error = &error as &dyn std::error::Error;
                            tracing::warn!(error, attempts = failed, "a commit failed and will be tried again");
                            next = next.min(Instant::now() + RETRY);
                        }
                    }
                }
                () = tokio::time::sleep_until(next), if committing.is_none() => {
                    next = Instant::now() + self.interval;
                    match self.seal_all(failed > 0).await {
                        Ok(()) => committing = Some(Box::pin(self.commit_all())),
                        Err(error) => {
                            not_sealed(&error);
                            next = next.min(Instant::now() + RETRY);
                        }
                    }
                }
                () = self.tail.wanted() => next = Instant::now(),
                () = self.tail.full() => match self.seal_large().await {
                    // While the lake is away there are always many.
                    Ok(many) if many && failed == 0 => next = Instant::now(),
                    Ok(_) => {}
                    Err(error) => {
                        not_sealed(&error);
                        tokio::time::sleep(RETRY).await;
                    }
                },
            }
        }
        // What is under way comes to its end; whoever stops us says how long that may take, and tries again.
        match committing {
            Some(committing) => waits_for_lake(committing.await).map(drop),
            None => Ok(()),
        }
    }

    /// Seals and commits everything that is decided.
    pub async fn commit_now(&self) -> Result<(), Error> {
        self.seal_all(false).await?;
        self.commit_all().await
    }

    /// Seals what is decided of all tables; after a failed commit only of those that have nothing sealed,
    /// as many attempts would make many small files.
    async fn seal_all(&self, again: bool) -> Result<(), Error> {
        let accepted_through = self.tail.accepted_through();
        for table in self.tail.tables() {
            if !again || self.tail.sealings(&table) == 0 {
                // What comes meanwhile is left to the next commit, or there would be no end.
                while self.seal(&table, Reach::Decided).await?.is_some_and(|last| last < accepted_through) {}
            }
        }
        Ok(())
    }

    /// Seals what has grown large; says whether a commit is worth it.
    async fn seal_large(&self) -> Result<bool, Error> {
        let mut many = false;
        for table in self.tail.large_tables() {
            self.seal(&table, Reach::Accepted).await?;
            many |= self.tail.sealings(&table) >= SEALINGS_MAX;
        }
        Ok(many)
    }

    /// Seals what a table has in memory, as far as this; of more than one sealing takes, the first rows, and says
    /// through which position.
    pub async fn seal(&self, table: &str, reach: Reach) -> Result<Option<Position>, Error> {
        let Some(cut) = self.tail.seal(table, reach) else { return Ok(None) };
        let left_after = cut.more.then_some(*cut.positions.end());
        let rows = cut.rows.iter().map(|rows| layout::conform(rows, &cut.columns));
        let sealed = match rows.collect::<Result<Vec<_>, _>>() {
            Ok(rows) => {
                let now_ms = (self.clock)() / 1_000;
                self.shelf.seal(table, cut.positions, cut.columns, rows, now_ms).await
            }
            Err(error) => Err(error),
        };
        match sealed {
            Ok(sealed) => {
                self.tail.seal_done(table, Some(sealed));
                Ok(left_after)
            }
            Err(error) => {
                self.tail.seal_done(table, None);
                Err(error)
            }
        }
    }

    /// Commits what is sealed of all tables, as far as it is decided. The first error ends it: the lake
    /// would not answer for the others either.
    async fn commit_all(&self) -> Result<(), Error> {
        let tables = self.known.borrow().tables.clone();
        let mut result = Ok(());
        for name in self.tail.tables() {
            result = self.commit(&tables, &name).await;
            if result.is_err() {
                self.metrics.commit_failures.get_or_create(&of(&name)).inc();
                break;
            }
        }
        (self.forget)(self.tail.safe_through());
        result
    }

    async fn commit(&self, tables: &Tables, name: &str) -> Result<(), Error> {
        let begun_us = (self.clock)();
        let Some(due) = self.tail.due(name) else { return Ok(()) };
        let table = tables.get(name).ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
        let snapshot = table.commit(&due.rows, &self.lease, due.through).await?;
        let rows: usize = due.rows.iter().map(|sealed| sealed.rows()).sum();
        let (version, through) = (snapshot.version(), due.through);
        tracing::debug!(table = name, version, rows, through, "committed");
        self.metrics.committed(name, rows, through, begun_us);
        self.tail.release(name, due.through);
        Ok(())
    }
}

/// The failure of a commit, if it is one that can be waited for.
///
/// # Errors
/// The failure after which there is nothing to wait for.
fn waits_for_lake(result: Result<(), Error>) -> Result<Option<Error>, Error> {
    match result {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == ErrorKind::Fenced => Err(error),
        Err(error) => Ok(Some(error)),
    }
}

fn not_sealed(error: &Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "rows cannot be sealed; trying again");
}
