//! The newest reading of each device of a table, at a version.
//!
//! In: what commits have added since the last time. Out: one row for each device, sorted by tenant and device.
//! Now and then it is kept in the lake, `_zeugma/latest/{table}/{version}.parquet`, so that whoever begins reads
//! that and the few commits after it, and not a year. It covers all rows of its version and no others, so it
//! needs no other proof that it can be trusted; where it is missing it is worked out from all files.

mod fold;

use arrow::{
    array::{Array, RecordBatch},
    compute::{filter_record_batch, not},
    datatypes::SchemaRef,
};
use bytes::Bytes;
use deltalake_core::{kernel::Action, logstore::get_actions};
use parquet::arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder};

use crate::{
    Error, Snapshot, Table,
    gone::Gone,
    layout::{self, Lasting},
    snapshot::{DataFile, GONE_APP},
};
use fold::Devices;
pub use fold::{folded, newest};

/// The newest reading of each device.
#[derive(Debug, Clone)]
pub struct Latest {
    version: u64,
    rows: RecordBatch,
}

impl Latest {
    /// The version whose rows it is about.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One row for each device, sorted by tenant and device.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Its rows of one tenant.
    pub fn of_tenant(&self, tenant: &str) -> Result<RecordBatch, Error> {
        let tenants = Devices::of(&self.rows)?.tenants;
        let (mut from, mut to) = (0, tenants.len());
        while from < to {
            let middle = from + (to - from) / 2;
            if tenants.value(middle) < tenant { from = middle + 1 } else { to = middle }
        }
        let count = (from..tenants.len()).take_while(|row| tenants.value(*row) == tenant).count();
        Ok(self.rows.slice(from, count))
    }
}

/// What a commit means by which rows have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removals {
    /// The log alone does not tell the newest readings any more.
    Stop,
    /// Nothing: what has gone is known.
    Pass,
}

impl Table {
    /// The newest reading of each device at a snapshot, in these columns. What is `known` of an earlier version
    /// is gone on from; otherwise what is kept in the lake.
    pub async fn latest(
        &self,
        snapshot: &Snapshot,
        columns: &SchemaRef,
        known: Option<&Latest>,
    ) -> Result<Latest, Error> {
        let usable =
            |latest: &&Latest| latest.version <= snapshot.version() && latest.rows.schema_ref() == columns;
        if let Some(known) = known.filter(usable)
            && let Some(latest) = self.grown(known, snapshot, columns).await?
        {
            return Ok(latest);
        }
        if let Some(kept) = self.kept_latest(snapshot, columns).await?
            && let Some(latest) = self.grown(&kept, snapshot, columns).await?
        {
            return Ok(latest);
        }
        tracing::debug!(
            table = self.name(),
            files = snapshot.files().len(),
            "looking for the newest readings in all files"
        );
        let rows =
            folded(&self.store().root(), RecordBatch::new_empty(columns.clone()), snapshot.files(), columns)
                .await?;
        Ok(Latest { version: snapshot.version(), rows })
    }

    /// What has become of the newest readings of an earlier version; none where the log alone cannot tell.
    async fn grown(
        &self,
        begin: &Latest,
        snapshot: &Snapshot,
        columns: &SchemaRef,
    ) -> Result<Option<Latest>, Error> {
        let version = snapshot.version();
        if begin.version == version {
            return Ok(Some(begin.clone()));
        }
        let Some(files) = self.appended(begin.version, version, Removals::Stop).await? else {
            return Ok(None);
        };
        match folded(&self.store().root(), begin.rows.clone(), &files, columns).await {
            Ok(rows) => Ok(Some(Latest { version, rows })),
            // Replaced by a compaction so long ago that a vacuum has deleted it.
            Err(error) if error.is_of_missing_file() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the newest readings in the lake as they are once rows have gone, which nobody could tell from the log:
    /// `before` is the snapshot of whose rows some have gone, where it can still be read, `after` one without them.
    pub async fn keep_latest_without(
        &self,
        gone: &Gone,
        before: Option<&Snapshot>,
        after: &Snapshot,
        columns: &SchemaRef,
    ) -> Result<(), Error> {
        let told = match before {
            Some(before) => self.latest_without(gone, before, after, columns).await?,
            None => None,
        };
        let latest = match told {
            Some(latest) => latest,
            None => self.latest(after, columns, None).await?,
        };
        self.keep_latest(&latest).await
    }

    async fn latest_without(
        &self,
        gone: &Gone,
        before: &Snapshot,
        after: &Snapshot,
        columns: &SchemaRef,
    ) -> Result<Option<Latest>, Error> {
        let (was, version) = (self.latest(before, columns, None).await?, after.version());
        let left = filter_record_batch(&was.rows, &not(&gone.of(&was.rows)?)?)?;
        // Between the two nothing has gone but this.
        let Some(files) = self.appended(before.version(), version, Removals::Pass).await? else {
            return Ok(None);
        };
        Ok(Some(Latest { version, rows: folded(&self.store().root(), left, &files, columns).await? }))
    }

    /// Keeps the newest readings, where what is kept is of before rows have gone.
    pub async fn keep_latest_since_gone(&self, columns: &SchemaRef) -> Result<(), Error> {
        let snapshot = self.load().await?;
        let kept = self.store().list(&self.latest_folder()).await?;
        if kept.iter().filter_map(|path| version_of(path)).max().unwrap_or(0) >= snapshot.rows_gone_in() {
            return Ok(());
        }
        self.keep_latest(&self.latest(&snapshot, columns, None).await?).await
    }

    /// The files that commits after a version, to another, have brought new rows in; none where that cannot be told
    /// from the log alone, because it is gone or rows were deleted.
    async fn appended(
        &self,
        version: u64,
        to: u64,
        removals: Removals,
    ) -> Result<Option<Vec<DataFile>>, Error> {
        let log = self.log_store()?;
        let mut files = Vec::new();
        for version in version + 1..=to {
            let Some(bytes) = log.read_commit_entry(version).await? else { return Ok(None) };
            let actions = get_actions(version, &bytes)?;
            let is_removal = |action: &Action| matches!(action, Action::Txn(txn) if txn.app_id == GONE_APP);
            if removals == Removals::Pass && actions.iter().any(is_removal) {
                continue;
            }
            for action in actions {
                match action {
                    Action::Add(add) if add.data_change => files.push(DataFile::added(self, &add)),
                    Action::Remove(remove) if remove.data_change => return Ok(None),
                    _ => {}
                }
            }
        }
        Ok(Some(files))
    }

    /// What is kept in the lake of this version or one before it.
    async fn kept_latest(&self, snapshot: &Snapshot, columns: &SchemaRef) -> Result<Option<Latest>, Error> {
        let kept = self.store().list(&self.latest_folder()).await?;
        let usable = kept.iter().rev().find_map(|path| {
            let version = version_of(path).filter(|version| *version <= snapshot.version())?;
            Some((version, path))
        });
        let Some((version, path)) = usable else { return Ok(None) };
        let Some(bytes) = self.store().get(path).await? else { return Ok(None) };
        match read(bytes, columns) {
            Ok(rows) => Ok(Some(Latest { version, rows })),
            Err(error) => {
                tracing::warn!(path, %error, "what is kept of the newest readings cannot be read; working it out");
                Ok(None)
            }
        }
    }

    /// Keeps the newest readings in the lake, instead of those of older versions; who has just found the last of
    /// these can still read it.
    pub async fn keep_latest(&self, latest: &Latest) -> Result<(), Error> {
        let columns = latest.rows.schema();
        let mut writer = ArrowWriter::try_new(
            Vec::new(),
            columns.clone(),
            Some(layout::properties(&columns, Lasting::Soon)),
        )?;
        writer.write(&latest.rows)?;
        let folder = self.latest_folder();
        let path = format!("{folder}/{:020}.parquet", latest.version);
        self.store().put(&path, writer.into_inner()?).await?;
        let kept = self.store().list(&folder).await?;
        let older =
            kept.iter().filter(|path| version_of(path).is_some_and(|version| version < latest.version));
        let older: Vec<&String> = older.collect();
        for path in older.iter().rev().skip(1) {
            self.store().delete(path).await?;
        }
        Ok(())
    }

    /// Deletes what is kept of versions before this one.
    pub(crate) async fn forget_latest_before(&self, version: u64) -> Result<(), Error> {
        for path in self.store().list(&self.latest_folder()).await? {
            if version_of(&path).is_some_and(|kept| kept < version) {
                self.store().delete(&path).await?;
            }
        }
        Ok(())
    }

    fn latest_folder(&self) -> String {
        format!("_zeugma/latest/{}", self.name())
    }
}

fn version_of(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.strip_suffix(".parquet")?.parse().ok()
}

fn read(bytes: Bytes, columns: &SchemaRef) -> Result<RecordBatch, Error> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()?;
    let batches = reader.map(|batch| layout::conform(&batch?, columns)).collect::<Result<Vec<_>, Error>>()?;
    Ok(arrow::compute::concat_batches(columns, &batches)?)
}

#[cfg(test)]
mod tests;
