//! One commit: rows become files, files become a version of the table, with the position it reaches.
//!
//! A commit is one attempt. The Rust Delta libraries record a `txn` and do not refuse it twice, and a
//! blind retry after a lost answer writes twice (delta-rs#2580, #3821). So the position is compared
//! with the newest snapshot before the attempt and after any error, and only then is it decided anew.

use std::{collections::HashMap, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use deltalake_core::{
    DeltaTable,
    kernel::{
        Action, Add, Transaction,
        transaction::{CommitBuilder, CommitProperties},
    },
    protocol::{DeltaOperation, SaveMode},
};
use object_store::{ObjectStoreExt, PutPayload};
use uuid::Uuid;

use crate::{
    Error, Lease, Position, Snapshot, Table, layout,
    snapshot::{LEASE_APP, source_app},
    table::PARTITION,
};

/// Files that are durable in the store and belong to no version yet.
#[derive(Debug, Clone)]
pub struct Written {
    files: Vec<Add>,
    rows: usize,
}

impl Written {
    /// How many rows the files hold.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl Table {
    /// Writes rows into new files, which become part of the table only by [`Table::commit`].
    pub async fn write(
        &self,
        columns: SchemaRef,
        batches: Vec<RecordBatch>,
        now_ms: i64,
    ) -> Result<Written, Error> {
        let encoded = tokio::task::spawn_blocking(move || layout::encode(&columns, &batches));
        let encoded = encoded.await.map_err(|error| Error::Internal(error.to_string()))??;
        let (mut files, mut paths) = (Vec::new(), Vec::new());
        for file in &encoded {
            let path = format!("{PARTITION}={}/{}.parquet", file.date, Uuid::new_v4());
            let below = format!("{}/{path}", self.name());
            self.store().root().put(&self.store().path(&below), PutPayload::from(file.bytes.clone())).await?;
            paths.push(below);
            files.push(add(path, file, now_ms));
        }
        self.store().sync(&paths).await?;
        Ok(Written { files, rows: encoded.iter().map(|file| file.rows).sum() })
    }

    /// Makes files part of the table, and says that it now holds everything of the lease's source
    /// through `through`. Where the table says so already, nothing is done.
    ///
    /// # Errors
    /// [`Error::Fenced`] where another process has taken the lake; any other error leaves it open whether
    /// the commit happened: call again with the same position.
    pub async fn commit(
        &self,
        written: &Written,
        lease: &Lease,
        through: Position,
    ) -> Result<Arc<Snapshot>, Error> {
        let done = self.exclusively(async |delta, snapshot| {
            check_fence(snapshot, lease)?;
            if snapshot.committed_through(lease.source()) >= through {
                return Ok(());
            }
            let adds = written.files.iter().cloned().map(Action::Add).collect();
            self.attempt(delta, lease, through, adds).await
        });
        match done.await {
            Ok(()) => self.load().await,
            Err(error @ Error::Fenced { .. }) => Err(error),
            Err(error) => match self.load().await {
                // The answer was lost, not the commit.
                Ok(snapshot) if snapshot.committed_through(lease.source()) >= through => Ok(snapshot),
                _ => Err(error),
            },
        }
    }

    /// Records the lease's epoch in the table, so that no commit of an earlier holder can follow.
    pub async fn fence(&self, lease: &Lease) -> Result<Arc<Snapshot>, Error> {
        let done = self.exclusively(async |delta, snapshot| {
            check_fence(snapshot, lease)?;
            if snapshot.epoch() == lease.epoch() {
                return Ok(());
            }
            let (state, log) = (delta.snapshot()?, delta.log_store());
            let through = state.transaction_version(log.as_ref(), source_app(lease.source())).await?;
            let through = through.unwrap_or(0).max(0) as Position;
            self.attempt(delta, lease, through, Vec::new()).await
        });
        done.await?;
        self.load().await
    }

    /// One attempt at the version after the state's.
    async fn attempt(
        &self,
        delta: &mut DeltaTable,
        lease: &Lease,
        through: Position,
        actions: Vec<Action>,
    ) -> Result<(), Error> {
        let through =
            i64::try_from(through).map_err(|_| Error::Internal("a position beyond 63 bits".into()))?;
        let properties = CommitProperties::default()
            .with_max_retries(0)
            .with_cleanup_expired_logs(Some(false))
            .with_application_transaction(Transaction::new(LEASE_APP, lease.epoch()))
            .with_application_transaction(Transaction::new(source_app(lease.source()), through));
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![PARTITION.to_owned()]),
            predicate: None,
        };
        let commit = CommitBuilder::from(properties).with_actions(actions);
        let commit = commit.build(Some(delta.snapshot()?), delta.log_store(), operation).await?;
        self.sync_version(commit.version()).await
    }
}

fn check_fence(snapshot: &Snapshot, lease: &Lease) -> Result<(), Error> {
    let (found, ours) = (snapshot.epoch(), lease.epoch());
    if found > ours { Err(Error::Fenced { found, ours }) } else { Ok(()) }
}

fn add(path: String, file: &layout::Encoded, now_ms: i64) -> Add {
    Add {
        path,
        partition_values: HashMap::from([(PARTITION.to_owned(), Some(file.date.clone()))]),
        size: file.bytes.len() as i64,
        modification_time: now_ms,
        data_change: true,
        stats: Some(file.stats.to_string()),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    }
}

#[cfg(test)]
mod tests;
