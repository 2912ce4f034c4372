//! Upkeep of a table: checkpoints keep opening it quick, and what nobody can need any more is deleted.
//!
//! A **checkpoint** is the table's state in one file, so that a reader needs not read every commit since the
//! first. A **vacuum** deletes files that no version of the last while has: those that a compaction has
//! replaced, and those that a kill left behind before any version had them. How long versions are kept decides
//! both how far back a table can be [asked](Table::at_for_question) and how much longer replaced files take room; what
//! is deleted is older than that by the longest question, so that none loses its files.

use std::{collections::HashSet, sync::Arc, time::Duration};

use deltalake_core::{
    DeltaTable,
    checkpoints::{cleanup_expired_logs_for, create_checkpoint},
    operations::vacuum::{Clock, VacuumMode},
};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, path::Path};
use serde::{Deserialize, Serialize};

use crate::{Error, Lake, Lease, Snapshot, Table};

/// A checkpoint follows so many versions after the last one: opening a table reads at most so many commits.
const CHECKPOINT_VERSIONS: u64 = 100;

/// No question runs, and no snapshot is used, longer than this.
pub const QUESTION_MAX: Duration = Duration::from_secs(15 * 60);

/// Versions can be asked for four times as long as the longest question, whatever is wanted.
pub const KEEP_MIN: Duration = Duration::from_secs(3_600);

/// A checkpoint forgets after seven days which files were replaced. A file that is forgotten goes by when it was
/// written, too early, or is taken for one that waits for its commit, and stays. So all must be deleted before, also
/// where the lake is away for most of a day.
pub const KEEP_MAX: Duration = Duration::from_secs(6 * 24 * 3_600);

/// Files that were replaced because rows of them were erased stay for the longest question, and no longer.
pub const KEEP_ERASED: Duration = QUESTION_MAX;

/// Replaced files are kept for a day: long enough to ask again about what was answered yesterday, while the
/// files of a busy day, written a few times over, take no more than a few days' room.
pub const KEEP_DEFAULT: Duration = Duration::from_secs(24 * 3_600);

/// Where the Delta log says which checkpoint is the newest (Delta protocol, "Last Checkpoint File").
const LAST_CHECKPOINT: &str = "_delta_log/_last_checkpoint";

/// The lake's note of how long versions can be asked for, which the writer is told and whoever asks must know.
const FILE: &str = "_zeugma/versions.json";

#[derive(Serialize, Deserialize)]
struct Versions {
    keep_ms: i64,
}

#[derive(Deserialize)]
struct LastCheckpoint {
    version: u64,
}

/// The time of a vacuum, milliseconds since 1970.
#[derive(Debug)]
struct At(i64);

impl Clock for At {
    fn current_timestamp_millis(&self) -> i64 {
        self.0
    }
}

impl Lake {
    /// Notes how long versions can be asked for after they were replaced.
    pub async fn keep_versions(&self, keep: Duration) -> Result<(), Error> {
        self.store().put_json(FILE, &Versions { keep_ms: millis(limited(keep)) }).await
    }
}

impl Table {
    /// As [`Table::at`], for a question that begins now: only versions whose files outlast it.
    ///
    /// # Errors
    /// As [`Table::at`]; [`Error::Gone`] also where the version was replaced longer ago than versions are kept.
    pub async fn at_for_question(&self, version: u64, now_ms: i64) -> Result<Arc<Snapshot>, Error> {
        let snapshot = self.at(version).await?;
        // A lake that a program of before has written last says nothing.
        let Some(Versions { keep_ms }) = self.store().get_json(FILE).await? else { return Ok(snapshot) };
        match self.committed_ms(version + 1).await? {
            Some(replaced_ms) if now_ms - replaced_ms > keep_ms => {
                Err(Error::Gone { table: self.name().to_owned(), version })
            }
            _ => Ok(snapshot),
        }
    }

    /// Writes a checkpoint where enough versions have come since the last one, and deletes what of the log
    /// only older versions than `keep` need. Says whether it did.
    pub async fn checkpoint(&self, keep: Duration, now_ms: i64) -> Result<bool, Error> {
        let delta = self.delta().await?;
        let version = delta.version().unwrap_or_default();
        if version < self.last_checkpoint().await?.unwrap_or(0) + CHECKPOINT_VERSIONS {
            return Ok(false);
        }
        self.write_checkpoint(&delta).await?;
        let deleted = self.delete_log_replaced_by(&delta, now_ms - millis(stays(keep))).await?;
        if deleted > 0 {
            // What is loaded knows files of the log that are gone by now.
            self.forget().await;
        }
        tracing::debug!(table = self.name(), version, deleted, "checkpoint written");
        Ok(true)
    }

    /// Deletes the log of versions that were replaced at a moment or before it, as far as a checkpoint does without
    /// it; answers how many entries went.
    async fn delete_log_replaced_by(&self, delta: &DeltaTable, at_ms: i64) -> Result<usize, Error> {
        // The newest version of then was replaced later, however old it was.
        let Some(first) = self.newest_at(at_ms).await? else { return Ok(0) };
        Ok(cleanup_expired_logs_for(first, delta.log_store().as_ref(), at_ms, None).await?)
    }

    /// The version that was the newest at a moment; `None` where the log does not go back so far.
    async fn newest_at(&self, at_ms: i64) -> Result<Option<u64>, Error> {
        let folder = Path::from(self.path("_delta_log"));
        let entries: Vec<ObjectMeta> = self.store().root().list(Some(&folder)).try_collect().await?;
        let of_then = entries.iter().filter(|entry| entry.last_modified.timestamp_millis() <= at_ms);
        Ok(of_then.filter_map(|entry| version_of(entry.location.as_ref())).max())
    }

    /// Writes a checkpoint of a version that is loaded.
    async fn write_checkpoint(&self, delta: &DeltaTable) -> Result<(), Error> {
        create_checkpoint(delta, None).await?;
        let version = delta.version().unwrap_or_default();
        let files = [format!("_delta_log/{version:020}.checkpoint.parquet"), LAST_CHECKPOINT.to_owned()];
        self.store().sync(&files.map(|file| format!("{}/{file}", self.name()))).await
    }

    async fn last_checkpoint(&self) -> Result<Option<u64>, Error> {
        let found = self.store().get(&format!("{}/{LAST_CHECKPOINT}", self.name())).await?;
        // A hint that cannot be read is none, says the protocol.
        let hint = found.and_then(|bytes| serde_json::from_slice::<LastCheckpoint>(&bytes).ok());
        Ok(hint.map(|hint| hint.version))
    }

    /// Deletes files that no version has which was the newest within `keep` and the longest question; answers how
    /// many. Compactions of the table must not run meanwhile.
    ///
    /// Files that the lake's present holder has brought and not committed yet stay, however old.
    pub async fn vacuum(&self, lease: &Lease, keep: Duration, now_ms: i64) -> Result<usize, Error> {
        self.delete_stale(lease, stays(keep), now_ms).await
    }

    async fn delete_stale(&self, lease: &Lease, keep: Duration, now_ms: i64) -> Result<usize, Error> {
        let keep = chrono::Duration::milliseconds(millis(keep));
        let delta = self.delta().await?;
        let replaced = stale(&delta, VacuumMode::Lite, keep, now_ms).await?;
        let ours = format!("{:06}-", lease.epoch());
        let mut gone = stale(&delta, VacuumMode::Full, keep, now_ms).await?;
        // What a removal has written instead of such a file has more behind its name.
        let is_waiting = |path: &String| path.starts_with(&ours) && path.matches('.').count() == 1;
        gone.retain(|path| replaced.contains(path) || !is_waiting(path));
        let gone: Vec<_> = gone.iter().map(|path| Ok(Path::from(self.path(path)))).collect();
        let mut deleted = 0;
        let mut answers = self.store().root().delete_stream(futures::stream::iter(gone).boxed());
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(_) => deleted += 1,
                // A vacuum before this one has deleted it; the log still tells of it.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(deleted)
    }

    /// Deletes everything that tells of rows that were [erased](crate::erasure) by a version: files that were
    /// replaced until they had gone, the log before it, and what is kept of the newest readings of before. To be
    /// called once no question can read that any more; answers how many files and entries of the log went.
    ///
    /// # Errors
    /// What is left goes with the next call.
    pub async fn purge(
        &self,
        lease: &Lease,
        version: u64,
        rows_gone_ms: i64,
        now_ms: i64,
    ) -> Result<(usize, usize), Error> {
        // Files whose replacement is as old as the erasure, to the millisecond.
        let keep = Duration::from_millis(u64::try_from(now_ms - rows_gone_ms - 1).unwrap_or_default());
        let files = self.delete_stale(lease, keep, now_ms).await?;
        // Without a checkpoint of this version those behind it could not be told without the log before. Where
        // that is deleted, by a later purge or as it was old, nobody may read what lies between it and the newest.
        if !self.has_checkpoint(version).await? {
            self.write_checkpoint(&self.delta().await?).await?;
        }
        let entries = self.delete_log_before(version).await?;
        self.forget().await;
        self.forget_latest_before(version).await?;
        Ok((files, entries))
    }

    /// Writes a checkpoint of a version, where there is none.
    pub async fn checkpoint_at(&self, version: u64) -> Result<(), Error> {
        if self.has_checkpoint(version).await? {
            return Ok(());
        }
        let mut delta = DeltaTable::new(self.log_store()?);
        delta.load_version(version).await?;
        self.write_checkpoint(&delta).await
    }

    async fn has_checkpoint(&self, version: u64) -> Result<bool, Error> {
        let path = format!("{}/_delta_log/{version:020}.checkpoint.parquet", self.name());
        Ok(self.store().get(&path).await?.is_some())
    }

    async fn delete_log_before(&self, version: u64) -> Result<usize, Error> {
        let of_before = |path: &String| version_of(path).is_some_and(|number| number < version);
        let mut paths = self.store().list(&format!("{}/_delta_log", self.name())).await?;
        paths.retain(of_before);
        for path in &paths {
            self.store().delete(path).await?;
        }
        Ok(paths.len())
    }

    /// Delta's state at the newest version, to work on beside commits.
    async fn delta(&self) -> Result<DeltaTable, Error> {
        self.exclusively(async |delta, _| Ok(delta.clone())).await
    }
}

/// Files below a table that no young version has: those that were replaced, or all of them.
async fn stale(
    delta: &DeltaTable,
    mode: VacuumMode,
    keep: chrono::Duration,
    now_ms: i64,
) -> Result<HashSet<String>, Error> {
    let plan = delta.clone().vacuum();
    let plan = plan.with_mode(mode).with_retention_period(keep).with_enforce_retention_duration(false);
    // The library's own way to delete them writes two commits, which would be in the way of ours.
    let (_, found) = plan.with_clock(Arc::new(At(now_ms))).with_dry_run(true).await?;
    Ok(found.files_deleted.into_iter().collect())
}

/// The version that an entry of the log, or a checkpoint, is of.
fn version_of(path: &str) -> Option<u64> {
    path.rsplit('/').next()?.split('.').next()?.parse().ok()
}

/// How long versions can be asked for, where this is wanted.
fn limited(keep: Duration) -> Duration {
    keep.clamp(KEEP_MIN, KEEP_MAX)
}

/// How long what was replaced stays: whoever has asked for it at the last moment must find it to the end.
fn stays(keep: Duration) -> Duration {
    limited(keep) + QUESTION_MAX
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
