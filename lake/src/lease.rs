//! The lease: one ingest process writes to a lake at a time.
//!
//! Each holder has an epoch, one higher than the holder's before it: the object
//! `_zeugma/lease/{epoch}.json`, which only one process can create. The holder renews it; once it has
//! run out, or where the new process has the same source (and so the lock on the same data folder), the
//! next epoch may be taken. What makes this safe against a holder that sleeps and wakes is the fence:
//! a table's first commit in an epoch records it as a Delta `txn`, and whoever finds a higher epoch than
//! its own in the snapshot it is about to commit on has lost the lake.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Store};

/// A holder that does not renew loses the lake after this time.
pub const LEASE_MS: i64 = 30_000;

/// How often a holder renews: two renewals may fail before the lease runs out.
pub const RENEW_MS: i64 = 10_000;

const FOLDER: &str = "_zeugma/lease";

/// Holds the lake for one source.
#[derive(Debug, Clone)]
pub struct Lease {
    store: Arc<Store>,
    epoch: i64,
    source: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    source: String,
    /// Milliseconds since 1970 until which nobody else may take the lake.
    expires_ms: i64,
}

impl Lease {
    /// Takes the lake for a source.
    ///
    /// # Errors
    /// [`Error::Held`] while another source's lease has not run out.
    pub async fn take(store: &Arc<Store>, source: &str, now_ms: i64) -> Result<Lease, Error> {
        loop {
            let newest = newest(store).await?;
            if let Some((_, record)) = &newest
                && record.source != source
                && record.expires_ms > now_ms
            {
                let left_s = (record.expires_ms - now_ms + 999) / 1000;
                return Err(Error::Held {
                    url: store.url().to_string(),
                    holder: record.source.clone(),
                    left_s,
                });
            }
            let epoch = newest.map_or(0, |(epoch, _)| epoch) + 1;
            let lease = Lease { store: store.clone(), epoch, source: source.to_owned() };
            if store.create(&path(epoch), lease.record(now_ms + LEASE_MS)).await? {
                return Ok(lease);
            }
            // Somebody was quicker by a moment: look again at what they wrote.
        }
    }

    /// The epoch that fences commits of earlier holders.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The source that holds the lake.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Keeps the lake for another [`LEASE_MS`].
    pub async fn renew(&self, now_ms: i64) -> Result<(), Error> {
        if let Some((found, _)) = newest(&self.store).await?
            && found > self.epoch
        {
            return Err(Error::Fenced { found, ours: self.epoch });
        }
        self.store.put(&path(self.epoch), self.record(now_ms + LEASE_MS)).await
    }

    /// Gives the lake up, so that the next holder need not wait.
    pub async fn release(&self) -> Result<(), Error> {
        self.store.put(&path(self.epoch), self.record(0)).await
    }

    fn record(&self, expires_ms: i64) -> Vec<u8> {
        let record = Record { source: self.source.clone(), expires_ms };
        serde_json::to_vec(&record).expect("a record of a text and a number is JSON")
    }
}

fn path(epoch: i64) -> String {
    format!("{FOLDER}/{epoch:020}.json")
}

/// The source that holds the lake, or held it last.
pub(crate) async fn holder(store: &Store) -> Result<Option<String>, Error> {
    Ok(newest(store).await?.map(|(_, record)| record.source))
}

async fn newest(store: &Store) -> Result<Option<(i64, Record)>, Error> {
    let Some(path) = store.list(FOLDER).await?.pop() else { return Ok(None) };
    let damaged = || Error::Internal(format!("the lake's lease `{path}` cannot be read"));
    let epoch = path.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
    let epoch = epoch.and_then(|epoch| epoch.parse().ok()).ok_or_else(damaged)?;
    let bytes = store.get(&path).await?.ok_or_else(damaged)?;
    let record = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    Ok(Some((epoch, record)))
}

#[cfg(test)]
mod tests;
