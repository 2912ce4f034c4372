//! Compaction: the many small files of commits become few large ones, sorted and without gaps.
//!
//! In: files of one span of dates. Out: one commit that replaces them by others with the same rows. Promise: whoever
//! reads sees each row once, before and after; commits go on meanwhile, until the last step
//! [replaces](crate::replace) the files.

mod merge;
mod plan;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use serde::Serialize;
use tokio::sync::mpsc;

use self::merge::{Merge, Run};
pub use self::plan::{Job, Wanted, plan};
use crate::{
    Error, Lease, Snapshot, Table, find,
    layout::ROW_GROUP_ROWS,
    priority::{Elsewhere, Priority, Rests},
    replace::{NewFile, Replacement, Rows, Written},
    snapshot::DataFile,
};

/// Rows of a file: 16 row groups, some 80 MB of vehicle positions. Larger ones would not be read faster, and a
/// run is cut so that none grows without end.
pub const FILE_ROWS_MAX: usize = 16 * ROW_GROUP_ROWS;

/// The name of a compaction's files begins so; its number and its part follow.
const RUN: &str = "run-";

/// The run that a file belongs to.
fn run_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('-') {
        Some((run, _part)) if name.starts_with(RUN) => run,
        _ => name,
    }
}

/// How far a compaction of some tables has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The table that is compacted now, or was last.
    pub table: String,
    /// Rows written.
    pub rows: u64,
    /// Rows to be written in all, as far as is known by now.
    pub rows_planned: u64,
    /// Files read and replaced.
    pub files_before: u64,
    /// Files written instead.
    pub files_after: u64,
    /// Whether all is merged that was there when it began.
    pub done: bool,
}

/// Compactions of one table by the holder of the lake.
#[derive(Debug, Clone)]
pub struct Compaction {
    /// The table.
    pub table: Table,
    /// All columns that it has.
    pub columns: SchemaRef,
    /// The right to write.
    pub lease: Lease,
    /// Rows after which a file of a run ends and the next one begins.
    pub file_rows_max: usize,
    /// With the lease's epoch, which is never given twice, it names the run.
    pub number: u64,
}

/// What a compaction has done.
#[derive(Debug)]
pub struct Compacted {
    /// The table with the new files.
    pub snapshot: Arc<Snapshot>,
    /// Their paths, from the root of the store.
    pub files: Vec<String>,
}

impl Compaction {
    /// Makes one run of the runs of a job; `progress` is told of rows as they are written. The clock is asked when
    /// they all are, as from then on the files of before stay for a while.
    ///
    /// # Errors
    /// [`Error::Conflict`] where some of the files are not there any more, or the table has more columns: plan
    /// anew. [`Error::Fenced`] where another process has taken the lake.
    pub async fn run(
        &self,
        job: &Job,
        now_ms: impl Fn() -> i64,
        progress: impl FnMut(usize),
    ) -> Result<Compacted, Error> {
        let written = self.write_aside(job, progress).await?;
        let replacement = Replacement {
            table: &self.table,
            lease: &self.lease,
            columns: &self.columns,
            gone: job.runs.iter().flatten().map(|file| file.path.as_str()).collect(),
            written: &written,
            rows: Rows::Same,
        };
        let snapshot = replacement.commit(now_ms()).await?;
        let files = written.iter().map(|file| file.path(&self.table)).collect();
        Ok(Compacted { snapshot, files })
    }

    /// Writes the merged rows on a thread that gives way; ends soon after nobody waits for it any more.
    async fn write_aside(&self, job: &Job, mut progress: impl FnMut(usize)) -> Result<Vec<Written>, Error> {
        let (told, mut tell) = mpsc::unbounded_channel();
        let (compaction, job) = (self.clone(), job.clone());
        let store = Elsewhere::of(self.table.store().root());
        let work = move || async move { compaction.write(store, &job, told).await };
        let mut written = std::pin::pin!(Priority::Sometime.run("compact", work));
        loop {
            tokio::select! {
                Some(rows) = tell.recv() => progress(rows),
                written = &mut written => {
                    while let Ok(rows) = tell.try_recv() {
                        progress(rows);
                    }
                    return written;
                }
            }
        }
    }

    /// Writes the merged rows into files that nobody knows yet.
    async fn write(
        &self,
        store: Arc<dyn ObjectStore>,
        job: &Job,
        told: mpsc::UnboundedSender<usize>,
    ) -> Result<Vec<Written>, Error> {
        let runs = job.runs.iter().map(|run| self.read(store.clone(), run.clone()));
        let mut merge = Merge::of(&self.columns, runs.collect()).await?;
        let run = format!("{RUN}{:06}-{:06}", self.lease.epoch(), self.number);
        let (mut written, mut open, mut rests) = (Vec::new(), None, Rests::begin());
        while let Some(rows) = merge.next().await? {
            let mut file = match open.take() {
                Some(file) => file,
                None => {
                    let name = format!("{run}-{:05}.parquet", written.len());
                    NewFile::create(store.clone(), &self.table, name, rows.schema_ref())?
                }
            };
            file.write(&rows).await?;
            let nobody = |_| Error::Internal("nobody waits for this compaction any more".into());
            told.send(rows.num_rows()).map_err(nobody)?;
            if file.rows() < self.file_rows_max {
                open = Some(file);
            } else {
                written.push(file.finish().await?);
            }
            rests.rest();
        }
        if let Some(file) = open {
            written.push(file.finish().await?);
        }
        Ok(written)
    }

    /// The rows of a run, file after file, each opened when the one before it is read.
    fn read(&self, store: Arc<dyn ObjectStore>, run: Vec<DataFile>) -> Run {
        let columns = self.columns.clone();
        let files = stream::iter(run).then(move |file| {
            let (store, columns) = (store.clone(), columns.clone());
            async move { find::read(&store, &file, &columns).await }
        });
        files.try_flatten().boxed()
    }
}

#[cfg(test)]
mod tests;
