//! Files of a table replaced by others in one commit: what compaction, retention and erasure have in common.
//!
//! New files are written where nobody knows them yet; only the commit, one attempt, needs the table for itself.
//! If the files to be replaced have gone by then, the work is thrown away. What a kill leaves behind are files
//! that no version has, and what a commit without an answer leaves are files that one may have yet; where none has,
//! [vacuum](crate::upkeep) deletes them.

use std::{collections::HashSet, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use deltalake_core::{
    DeltaTableError,
    kernel::{Action, Add, Transaction, transaction::TransactionError},
    protocol::DeltaOperation,
};
use object_store::{ObjectStore, buffered::BufWriter, path::Path};
use parquet::arrow::AsyncArrowWriter;

use crate::{
    Error, Lease, Snapshot, Store, Table,
    append::check_fence,
    layout::{self, Lasting, Statistics},
    sealed,
    snapshot::{GONE_APP, READABLE_APP},
};

/// What the log says a compaction aims at: bytes of the largest files, of vehicle positions.
const FILE_BYTES: i64 = 80 << 20;

/// A file that is written and that no version has yet.
#[derive(Debug)]
pub(crate) struct Written {
    /// Its place below the table.
    path: String,
    statistics: Statistics,
    bytes: u64,
}

/// What becomes of the rows of files that are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// All of them are in the new files.
    Same,
    /// Some of them go, and can be read in older versions for a while.
    Gone,
    /// Some of them go, and with them every version that had them.
    Erased,
}

/// Some files of a table go, others come.
pub(crate) struct Replacement<'a> {
    pub table: &'a Table,
    /// The right to write.
    pub lease: &'a Lease,
    /// All columns that were read of the files that go.
    pub columns: &'a SchemaRef,
    /// Paths, from the root of the store, of the files that go.
    pub gone: Vec<&'a str>,
    pub written: &'a [Written],
    pub rows: Rows,
}

impl Replacement<'_> {
    /// Makes it a version of the table, which has become this.
    ///
    /// # Errors
    /// [`Error::Conflict`] where some of the files are not there any more, or the table has more columns: begin
    /// anew. [`Error::Fenced`] where another process has taken the lake.
    pub async fn commit(&self, now_ms: i64) -> Result<Arc<Snapshot>, Error> {
        let (table, store) = (self.table, self.table.store());
        let paths: Vec<String> =
            self.written.iter().map(|file| format!("{}/{}", table.name(), file.path)).collect();
        store.sync(&paths).await?;
        let readable_from = table.known().map_or(0, |snapshot| snapshot.readable_from());
        let failed = match self.attempt(now_ms).await {
            Ok(()) => return table.load().await,
            Err(error) => error,
        };
        match table.load().await {
            // The answer was lost, not the commit.
            Ok(snapshot) if self.is_done_in(&snapshot, &paths, readable_from) => Ok(snapshot),
            Ok(_) if is_refused(&failed) => {
                discard(store, &paths).await;
                Err(failed)
            }
            // Whether the commit happened, or happens yet, is open, so the files stay.
            _ => Err(failed),
        }
    }

    async fn attempt(&self, now_ms: i64) -> Result<(), Error> {
        let table = self.table;
        let gone: HashSet<&str> = self.gone.iter().copied().collect();
        let data_change = self.rows != Rows::Same;
        let replaced = table.exclusively(async |delta, snapshot| {
            check_fence(snapshot, self.lease)?;
            let state = delta.snapshot()?;
            // A column that came meanwhile may have values in the files that were read.
            let known = |name: &str| self.columns.column_with_name(name).is_some();
            if !state.schema().fields().all(|field| known(field.name())) {
                return Err(Error::Conflict { table: table.name().to_owned() });
            }
            let mut actions = Vec::with_capacity(gone.len() + self.written.len());
            for view in state.log_data().iter() {
                if gone.contains(table.path(view.path().as_ref()).as_str()) {
                    let mut remove = view.remove_action(data_change);
                    remove.deletion_timestamp = Some(now_ms);
                    actions.push(Action::Remove(remove));
                }
            }
            if actions.len() != gone.len() {
                return Err(Error::Conflict { table: table.name().to_owned() });
            }
            let adds = self.written.iter().map(|file| Add { data_change, ..file.add(now_ms) });
            actions.extend(adds.map(Action::Add));
            let version = state.version() as i64 + 1;
            let apps: &[&str] = match self.rows {
                Rows::Same => &[],
                Rows::Gone => &[GONE_APP],
                Rows::Erased => &[GONE_APP, READABLE_APP],
            };
            let transactions = apps.iter().map(|app| Transaction::new(*app, version)).collect();
            table.attempt(delta, transactions, self.operation(), actions).await
        });
        replaced.await
    }

    fn operation(&self) -> DeltaOperation {
        match self.rows {
            Rows::Same => DeltaOperation::Optimize { predicate: None, target_size: FILE_BYTES },
            Rows::Gone | Rows::Erased => DeltaOperation::Delete { predicate: None },
        }
    }

    /// Whether a snapshot has the new files and none of the old, and older versions are as readable as they should.
    fn is_done_in(&self, snapshot: &Snapshot, paths: &[String], was_readable_from: u64) -> bool {
        let store = self.table.store();
        let is_erased = self.rows != Rows::Erased || snapshot.readable_from() > was_readable_from;
        let known: HashSet<&str> = snapshot.files().iter().map(|file| file.path.as_str()).collect();
        is_erased
            && paths.iter().all(|path| known.contains(store.path(path).as_ref()))
            && !self.gone.iter().any(|path| known.contains(path))
    }
}

/// A file as it is written.
pub(crate) struct NewFile {
    path: String,
    statistics: Statistics,
    writer: AsyncArrowWriter<BufWriter>,
}

impl NewFile {
    /// Begins a file of a table, for rows in these columns.
    pub fn create(
        store: Arc<dyn ObjectStore>,
        table: &Table,
        path: String,
        columns: &SchemaRef,
    ) -> Result<NewFile, Error> {
        let object = BufWriter::new(store, Path::from(table.path(&path)));
        let properties = layout::properties(columns, Lasting::Years);
        let writer = AsyncArrowWriter::try_new(object, columns.clone(), Some(properties))?;
        Ok(NewFile { path, statistics: Statistics::default(), writer })
    }

    pub async fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.statistics.add(rows);
        Ok(self.writer.write(rows).await?)
    }

    /// How many rows it has so far.
    pub fn rows(&self) -> usize {
        self.statistics.rows()
    }

    pub async fn finish(mut self) -> Result<Written, Error> {
        self.writer.finish().await?;
        let bytes = self.writer.bytes_written() as u64;
        Ok(Written { path: self.path, statistics: self.statistics, bytes })
    }
}

impl Written {
    /// Its path from the root of the store.
    pub fn path(&self, table: &Table) -> String {
        table.path(&self.path)
    }

    fn add(&self, now_ms: i64) -> Add {
        sealed::add(self.path.clone(), self.bytes, &self.statistics.to_json(), now_ms)
    }
}

/// Whether a commit has not happened and never will: it was not tried, or another version has its place. A store
/// that did not answer may still be at work on it.
fn is_refused(error: &Error) -> bool {
    match error {
        Error::Fenced { .. } | Error::Conflict { .. } => true,
        Error::Delta(DeltaTableError::Transaction { source }) => {
            matches!(source, TransactionError::MaxCommitAttempts(_))
        }
        _ => false,
    }
}

/// Deletes files that no version has; what cannot be deleted now goes with a vacuum.
async fn discard(store: &Store, paths: &[String]) {
    for path in paths {
        if let Err(error) = store.delete(path).await {
            tracing::debug!(%path, %error, "a file that nobody needs stays for now");
        }
    }
}
