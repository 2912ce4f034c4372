//! Rows go: files that have some are replaced by files without them.
//!
//! In: which rows go, and the files in which they may be. Out: the same files without them, in one commit; a file
//! of which nothing is left is replaced by none. A file keeps its place in its run, so that what was sorted and
//! merged stays so.

use std::sync::Arc;

use arrow::{
    array::BooleanArray,
    compute::{filter_record_batch, not},
    datatypes::{Schema, SchemaRef},
};
use futures::TryStreamExt;
use object_store::ObjectStore;

use crate::{
    Error, Lease, Snapshot, Table, find,
    gone::Gone,
    priority::{Elsewhere, Priority},
    replace::{NewFile, Replacement, Rows, Written},
    snapshot::DataFile,
};

/// Files that are written anew for one commit, some two minutes' work: a stop loses no more.
pub const FILES_A_COMMIT: usize = 16;

/// A removal of rows from one table by the holder of the lake.
#[derive(Debug, Clone)]
pub struct Removal {
    /// The table.
    pub table: Table,
    /// All columns that it has.
    pub columns: SchemaRef,
    /// The right to write.
    pub lease: Lease,
    /// With the lease's epoch, which is never given twice, it names the new files.
    pub number: u64,
}

/// Files without the rows that go, written and not yet part of the table.
#[derive(Debug, Default)]
pub struct Rewritten {
    /// Paths, from the root of the store, of the files that had some.
    pub replaced: Vec<String>,
    /// How many rows go.
    pub rows: u64,
    written: Vec<Written>,
}

impl Removal {
    /// Writes those of some files that have rows that go, without them, on a thread that gives way.
    pub async fn write(&self, gone: &Gone, files: Vec<DataFile>) -> Result<Rewritten, Error> {
        let (removal, gone) = (self.clone(), gone.clone());
        let store = Elsewhere::of(self.table.store().root());
        // Held here as long as somebody waits.
        let waiting = Arc::new(());
        let waited_for = Arc::downgrade(&waiting);
        let work = move || async move {
            let mut rewritten = Rewritten::default();
            for file in files.iter().filter(|file| gone.may_be_in(file)) {
                if waited_for.strong_count() == 0 {
                    return Err(Error::Internal("nobody waits for this removal any more".into()));
                }
                removal.write_file(store.clone(), &gone, file, &mut rewritten).await?;
            }
            Ok(rewritten)
        };
        let rewritten = Priority::Later.run("remove", work).await;
        drop(waiting);
        rewritten
    }

    async fn write_file(
        &self,
        store: Arc<dyn ObjectStore>,
        gone: &Gone,
        file: &DataFile,
        into: &mut Rewritten,
    ) -> Result<(), Error> {
        // Most files that may have some have none, and a few columns tell.
        if self.count(&store, gone, file).await? == 0 {
            return Ok(());
        }
        let mut new: Option<NewFile> = None;
        let mut batches = std::pin::pin!(find::read(&store, file, &self.columns).await?);
        while let Some(rows) = batches.try_next().await? {
            let going: BooleanArray = gone.of(&rows)?;
            into.rows += going.true_count() as u64;
            let rows = filter_record_batch(&rows, &not(&going)?)?;
            if rows.num_rows() == 0 {
                continue;
            }
            let file = match &mut new {
                Some(file) => file,
                None => new.insert(NewFile::create(
                    store.clone(),
                    &self.table,
                    self.name(&file.path),
                    rows.schema_ref(),
                )?),
            };
            file.write(&rows).await?;
        }
        into.replaced.push(file.path.clone());
        if let Some(new) = new {
            into.written.push(new.finish().await?);
        }
        Ok(())
    }

    async fn count(
        &self,
        store: &Arc<dyn ObjectStore>,
        gone: &Gone,
        file: &DataFile,
    ) -> Result<usize, Error> {
        let fields =
            gone.columns(&self.columns).into_iter().map(|name| self.columns.field_with_name(name).cloned());
        let columns = Arc::new(Schema::new(fields.collect::<Result<Vec<_>, _>>()?));
        let batches = find::read(store, file, &columns).await?;
        batches.try_fold(0, |count, rows| async move { Ok(count + gone.of(&rows)?.true_count()) }).await
    }

    /// The name of what is written instead of a file: another one, in the same place of the same run.
    fn name(&self, path: &str) -> String {
        let name = path.rsplit('/').next().unwrap_or(path);
        let stem = name.split('.').next().unwrap_or(name);
        format!("{stem}.{:06}.{:06}.parquet", self.lease.epoch(), self.number)
    }

    /// Makes what was written part of the table, which has become this; `for_ever` where older versions must not be
    /// read any more either.
    ///
    /// # Errors
    /// As [`Compaction::run`](crate::compact::Compaction::run).
    pub async fn commit(
        &self,
        rewritten: &Rewritten,
        for_ever: bool,
        now_ms: i64,
    ) -> Result<Arc<Snapshot>, Error> {
        let replacement = Replacement {
            table: &self.table,
            lease: &self.lease,
            columns: &self.columns,
            gone: rewritten.replaced.iter().map(String::as_str).collect(),
            written: &rewritten.written,
            rows: if for_ever { Rows::Erased } else { Rows::Gone },
        };
        replacement.commit(now_ms).await
    }
}

#[cfg(test)]
mod tests;
