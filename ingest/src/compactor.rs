//! The compactor: chooses what of a table is merged, and has it merged.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;
use uuid::Uuid;
use zeugma_lake::{
    Error, Lake, Lease, Snapshot, Table,
    compact::{Compacted, Compaction, FILE_ROWS_MAX, Job, Progress, Wanted, plan},
};
use zeugma_schemas::{batch::date_of, dead_letter};

use crate::{
    Clock, Metrics,
    accept::{Known, Tables},
    maintenance::keep_lease,
    metrics::of,
};

/// Compacts the tables of a lake that is held.
pub struct Compactor {
    /// The tables.
    pub known: watch::Receiver<Known>,
    /// The right to write.
    pub lease: Lease,
    /// The time, for dates of files.
    pub clock: Clock,
    /// How many compactions there have been.
    pub count: AtomicU64,
    /// Counters, where somebody looks at them.
    pub metrics: Option<Arc<Metrics>>,
}

impl std::fmt::Debug for Compactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compactor").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Compactor {
    /// Merges what is worth it in a table, until nothing is or somebody wants it to end.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the table changed meanwhile: the next call plans anew.
    pub async fn compact(&self, table: &Table, ends: impl Fn() -> bool) -> Result<(), Error> {
        let snapshot = table.load().await?;
        let today = date_of((self.clock)());
        for job in plan(snapshot.files(), Wanted::Worthwhile { today }) {
            if ends() {
                return Ok(());
            }
            self.run(table, &job, |_| {}).await?;
        }
        Ok(())
    }

    /// Merges all runs of each span of dates of a table, or of all tables, into one: those that are there when its
    /// turn comes. What is committed meanwhile is left alone, or a span that takes longer to write than the next
    /// commit takes to come would be written again without end.
    ///
    /// # Errors
    /// [`Error::NoTable`] where there is no such table; else as [`Compaction::run`].
    pub async fn compact_to_one_run(
        &self,
        only: Option<&str>,
        mut report: impl FnMut(&Progress),
    ) -> Result<Progress, Error> {
        let mut progress = Progress::default();
        for table in self.chosen(only)? {
            progress.table = table.name().to_owned();
            let mut files = paths(&*table.load().await?);
            loop {
                let snapshot = table.load().await?;
                let there = snapshot.files().iter().filter(|file| files.contains(&file.path));
                let jobs = plan(&there.cloned().collect::<Vec<_>>(), Wanted::OneRun);
                if jobs.is_empty() {
                    break;
                }
                progress.rows_planned = progress.rows + jobs.iter().map(Job::rows).sum::<u64>();
                for job in jobs {
                    let written = |rows: usize| {
                        progress.rows += rows as u64;
                        report(&progress);
                    };
                    let merged = self.run(&table, &job, written).await?.files;
                    progress.files_before += job.files() as u64;
                    progress.files_after += merged.len() as u64;
                    files.extend(merged);
                }
            }
        }
        progress.done = true;
        Ok(progress)
    }

    /// Keeps the newest reading of each device in the lake, so that a start reads only what came after; of tables
    /// that are about devices.
    pub async fn keep_latest(&self, table: &Table) -> Result<(), Error> {
        let columns = self.known.borrow().columns_of_readings(table.name());
        let Some(columns) = columns else { return Ok(()) };
        let latest = table.latest(&*table.load().await?, &columns, None).await?;
        table.keep_latest(&latest).await
    }

    fn chosen(&self, only: Option<&str>) -> Result<Vec<Table>, Error> {
        let tables = self.known.borrow().tables.clone();
        match only {
            None => Ok(tables.values().cloned().collect()),
            Some(name) => match tables.get(name) {
                Some(table) => Ok(vec![table.clone()]),
                None => Err(Error::NoTable { table: name.to_owned() }),
            },
        }
    }

    async fn run(&self, table: &Table, job: &Job, progress: impl FnMut(usize)) -> Result<Compacted, Error> {
        let columns = self.known.borrow().columns(table.name());
        let compaction = Compaction {
            table: table.clone(),
            columns,
            lease: self.lease.clone(),
            file_rows_max: FILE_ROWS_MAX,
            number: self.count.fetch_add(1, Ordering::Relaxed),
        };
        let compacted = compaction.run(job, || (self.clock)() / 1_000, progress).await?;
        let (table, dates, files, rows) = (table.name(), &job.dates, job.files(), job.rows());
        tracing::debug!(table, ?dates, files, rows, "compacted");
        if let Some(metrics) = &self.metrics {
            metrics.compacted.get_or_create(&of(table)).inc_by(rows);
        }
        Ok(compacted)
    }
}

/// Paths of all files of a table.
fn paths(snapshot: &Snapshot) -> HashSet<String> {
    snapshot.files().iter().map(|file| file.path.clone()).collect()
}

/// Compacts the tables of a lake on which no writer runs.
///
/// # Errors
/// [`Error::Held`] where one does: ask that one.
pub async fn compact_alone(
    lake: &Lake,
    only: Option<&str>,
    clock: Clock,
    report: impl FnMut(&Progress),
) -> Result<Progress, Error> {
    let source = format!("compact-{}", Uuid::new_v4());
    let lease = Lease::take(lake.store(), &source, clock() / 1_000).await?;
    // Merged with what came later, files of an erasure could not be told apart any more.
    if lake.open_erasures().await?.iter().any(|erasure| erasure.rows_gone_at.is_none()) {
        lease.release().await?;
        return Err(Error::Erasing { url: lake.store().url().to_string() });
    }
    // Should another process take the lake meanwhile, the next commit finds out.
    let keeper = tokio::spawn(keep_lease(lease.clone(), clock.clone(), watch::Sender::default()));
    let result = compact_held(lake, &lease, only, clock, report).await;
    keeper.abort();
    lease.release().await?;
    result
}

async fn compact_held(
    lake: &Lake,
    lease: &Lease,
    only: Option<&str>,
    clock: Clock,
    report: impl FnMut(&Progress),
) -> Result<Progress, Error> {
    let domains = lake.domains().await?;
    let mut tables = Tables::new();
    for name in domains.iter().map(|domain| domain.name()).chain([dead_letter::TABLE]) {
        let table = lake.table(name);
        match table.fence(lease).await {
            Ok(_) => drop(tables.insert(name.to_owned(), table)),
            Err(Error::NoTable { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let (_teller, known) = watch::channel(Known { domains: Arc::new(domains), tables: Arc::new(tables) });
    let compactor = Compactor { known, lease: lease.clone(), clock, count: AtomicU64::new(0), metrics: None };
    compactor.compact_to_one_run(only, report).await
}

#[cfg(test)]
mod tests;
