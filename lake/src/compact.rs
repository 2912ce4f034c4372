//! Compaction: the many small files of commits become few large ones, sorted and without gaps.
//!
//! In: files of one span of dates. Out: one commit that replaces them by others with the same rows. Promise: whoever
//! reads sees each row once, before and after; commits go on meanwhile, as only the last step, the commit,
//! needs the table for itself. If the files have changed by then, the work is thrown away; what a kill
//! leaves behind are files that no version has, which [vacuum](crate::upkeep) deletes.

mod merge;
mod plan;

use std::{collections::HashSet, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use deltalake_core::{
    kernel::{Action, Add},
    protocol::DeltaOperation,
};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStore, buffered::BufWriter, path::Path};
use parquet::arrow::AsyncArrowWriter;
use serde::Serialize;
use tokio::sync::mpsc;

use self::merge::{Merge, Run};
pub use self::plan::{Job, Wanted, plan};
use crate::{
    Error, Lease, Snapshot, Store, Table,
    append::check_fence,
    find,
    layout::{self, Lasting, ROW_GROUP_ROWS, Statistics},
    priority::{Elsewhere, Priority},
    sealed,
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

/// A file that a compaction has written and no version has yet.
struct Written {
    /// Its place below the table.
    path: String,
    statistics: Statistics,
    bytes: u64,
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
    /// Whether nothing is left to do.
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
    /// How many they are.
    pub files: usize,
}

impl Compaction {
    /// Makes one run of the runs of a job; `progress` is told of rows as they are written.
    ///
    /// # Errors
    /// [`Error::Conflict`] where some of the files are not there any more, or the table has more columns: plan
    /// anew. [`Error::Fenced`] where another process has taken the lake.
    pub async fn run(&self, job: &Job, now_ms: i64, progress: impl FnMut(usize)) -> Result<Compacted, Error> {
        let written = self.write_aside(job, progress).await?;
        let store = self.table.store();
        let paths: Vec<String> =
            written.iter().map(|file| format!("{}/{}", self.table.name(), file.path)).collect();
        store.sync(&paths).await?;
        let adds: Vec<Add> = written.iter().map(|file| file.add(now_ms)).collect();
        match self.replace(job, adds, now_ms).await {
            Ok(()) => Ok(Compacted { snapshot: self.table.load().await?, files: paths.len() }),
            Err(error) => match self.table.load().await {
                // The answer was lost, not the commit.
                Ok(snapshot) if has(&snapshot, store, &paths) => {
                    Ok(Compacted { snapshot, files: paths.len() })
                }
                Ok(_) => {
                    discard(store, &paths).await;
                    Err(error)
                }
                // Whether the commit happened is open, so the files stay.
                Err(_) => Err(error),
            },
        }
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
        let (mut written, mut open) = (Vec::new(), None);
        while let Some(rows) = merge.next().await? {
            let mut file = match open.take() {
                Some(file) => file,
                None => {
                    let name = format!("{run}-{:05}.parquet", written.len());
                    File::create(store.clone(), &self.table, name, &rows)?
                }
            };
            file.write(&rows).await?;
            let nobody = |_| Error::Internal("nobody waits for this compaction any more".into());
            told.send(rows.num_rows()).map_err(nobody)?;
            if file.statistics.rows() < self.file_rows_max {
                open = Some(file);
            } else {
                written.push(file.finish().await?);
            }
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

    /// The commit: those files go, these come, no row changes.
    async fn replace(&self, job: &Job, adds: Vec<Add>, now_ms: i64) -> Result<(), Error> {
        let table = &self.table;
        let gone: HashSet<&str> = job.runs.iter().flatten().map(|file| file.path.as_str()).collect();
        let replaced = table.exclusively(async |delta, snapshot| {
            check_fence(snapshot, &self.lease)?;
            let state = delta.snapshot()?;
            // A column that came meanwhile may have values in the files that were read.
            let known = |name: &str| self.columns.column_with_name(name).is_some();
            if !state.schema().fields().all(|field| known(field.name())) {
                return Err(Error::Conflict { table: table.name().to_owned() });
            }
            let mut actions = Vec::with_capacity(gone.len() + adds.len());
            for view in state.log_data().iter() {
                if gone.contains(table.path(view.path().as_ref()).as_str()) {
                    let mut remove = view.remove_action(false);
                    remove.deletion_timestamp = Some(now_ms);
                    actions.push(Action::Remove(remove));
                }
            }
            if actions.len() != gone.len() {
                return Err(Error::Conflict { table: table.name().to_owned() });
            }
            actions.extend(adds.into_iter().map(Action::Add));
            let operation =
                DeltaOperation::Optimize { predicate: None, target_size: self.file_rows_max as i64 };
            table.attempt(delta, Vec::new(), operation, actions).await
        });
        replaced.await
    }
}

/// A file as it is written.
struct File {
    path: String,
    statistics: Statistics,
    writer: AsyncArrowWriter<BufWriter>,
}

impl File {
    fn create(
        store: Arc<dyn ObjectStore>,
        table: &Table,
        path: String,
        rows: &RecordBatch,
    ) -> Result<File, Error> {
        let columns = rows.schema();
        let place = Path::from(table.path(&path));
        let object = BufWriter::new(store, place);
        let properties = layout::properties(&columns, Lasting::Years);
        let writer = AsyncArrowWriter::try_new(object, columns, Some(properties))?;
        Ok(File { path, statistics: Statistics::default(), writer })
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.statistics.add(rows);
        Ok(self.writer.write(rows).await?)
    }

    async fn finish(mut self) -> Result<Written, Error> {
        self.writer.finish().await?;
        let bytes = self.writer.bytes_written() as u64;
        Ok(Written { path: self.path, statistics: self.statistics, bytes })
    }
}

impl Written {
    fn add(&self, now_ms: i64) -> Add {
        let add = sealed::add(self.path.clone(), self.bytes, &self.statistics.to_json(), now_ms);
        Add { data_change: false, ..add }
    }
}

/// Whether a snapshot has all of these files.
fn has(snapshot: &Snapshot, store: &Store, paths: &[String]) -> bool {
    let known: HashSet<&str> = snapshot.files().iter().map(|file| file.path.as_str()).collect();
    paths.iter().all(|path| known.contains(store.path(path).as_ref()))
}

/// Deletes files that no version has; what cannot be deleted now goes with a vacuum.
async fn discard(store: &Store, paths: &[String]) {
    for path in paths {
        if let Err(error) = store.delete(path).await {
            tracing::debug!(%path, %error, "a file that nobody needs stays for now");
        }
    }
}

#[cfg(test)]
mod tests;
