//! One commit: sealed files become a version of the table, with the position it reaches.
//!
//! A commit is one attempt. The Rust Delta libraries record a `txn` and do not refuse it twice, and a
//! blind retry after a lost answer writes twice (delta-rs#2580, #3821). So the position is compared
//! with the newest snapshot before the attempt and after any error, and only then is it decided anew.

use std::sync::Arc;

use deltalake_core::{
    DeltaTable,
    kernel::{
        Action, Transaction,
        transaction::{CommitBuilder, CommitProperties},
    },
    protocol::{DeltaOperation, SaveMode},
};

use crate::{
    Error, Lease, Position, Snapshot, Table,
    sealed::Sealed,
    snapshot::{LEASE_APP, source_app},
};

impl Table {
    /// Puts sealed rows into the lake and makes them part of the table, which says from now on that it
    /// holds everything of the lease's source through `through`. What it holds already is left out; where
    /// it says so already, nothing is done.
    ///
    /// # Errors
    /// [`Error::Fenced`] where another process has taken the lake; any other error leaves it open whether
    /// the commit happened: call again, with the same rows or with more.
    pub async fn commit(
        &self,
        rows: &[Arc<Sealed>],
        lease: &Lease,
        through: Position,
    ) -> Result<Arc<Snapshot>, Error> {
        for sealed in rows {
            sealed.put(self.store()).await?;
        }
        let done = self.exclusively(async |delta, snapshot| {
            check_fence(snapshot, lease)?;
            let held = snapshot.committed_through(lease.source());
            if held >= through {
                return Ok(());
            }
            let missing = beyond(held, rows)?;
            let adds = missing.flat_map(|sealed| sealed.adds()).map(Action::Add).collect();
            self.attempt(delta, positions(lease, through)?, append(), adds).await
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
            self.attempt(delta, positions(lease, through)?, append(), Vec::new()).await
        });
        done.await?;
        self.load().await
    }

    /// One attempt at the version after the state's. The log's checkpoints are made [elsewhere](crate::upkeep).
    pub(crate) async fn attempt(
        &self,
        delta: &mut DeltaTable,
        transactions: Vec<Transaction>,
        operation: DeltaOperation,
        actions: Vec<Action>,
    ) -> Result<(), Error> {
        let properties = CommitProperties::default()
            .with_max_retries(0)
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false));
        let properties =
            transactions.into_iter().fold(properties, CommitProperties::with_application_transaction);
        let commit = CommitBuilder::from(properties).with_actions(actions);
        let commit = commit.build(Some(delta.snapshot()?), delta.log_store(), operation).await?;
        self.sync_version(commit.version()).await
    }
}

/// What a commit says of who made it, and of what the table holds from now on.
fn positions(lease: &Lease, through: Position) -> Result<Vec<Transaction>, Error> {
    let through = i64::try_from(through).map_err(|_| Error::Internal("a position beyond 63 bits".into()))?;
    let source = Transaction::new(source_app(lease.source()), through);
    Ok(vec![Transaction::new(LEASE_APP, lease.epoch()), source])
}

fn append() -> DeltaOperation {
    DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None }
}

/// Whoever finds a higher epoch than its own has lost the lake.
pub(crate) fn check_fence(snapshot: &Snapshot, lease: &Lease) -> Result<(), Error> {
    let (found, ours) = (snapshot.epoch(), lease.epoch());
    if found > ours { Err(Error::Fenced { found, ours }) } else { Ok(()) }
}

/// Those of some sealed rows that lie beyond what a table holds.
///
/// # Errors
/// Where only a part of one does: no commit ever ends within sealed rows.
fn beyond(held: Position, rows: &[Arc<Sealed>]) -> Result<impl Iterator<Item = &Arc<Sealed>>, Error> {
    match rows.iter().find(|sealed| sealed.is_parted_by(held)) {
        Some(cut) => {
            let positions = cut.positions();
            Err(Error::Internal(format!("a commit ended at {held}, within the rows of {positions:?}")))
        }
        None => Ok(rows.iter().filter(move |sealed| sealed.lies_beyond(held))),
    }
}

#[cfg(test)]
mod tests;
