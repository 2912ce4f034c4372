//! Retention: rows older than their tenant and table keep them go, day by day.
//!
//! In: the rules that the lake notes. Out: tables without such rows; older versions have them for a while yet. A
//! day ends at midnight UTC, so that a file is written anew once a day at most.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex, watch};
use zeugma_lake::{
    Error, Lake, Lease, Table,
    gone::{Expiry, Gone},
    remove::Removal,
    retention::{Rule, Rules},
};
use zeugma_schemas::{batch::date_of, dead_letter};

use crate::{Clock, Metrics, accept::Known, metrics::of, tail::Tail};

/// Lets rows go that are too old.
pub struct Retention {
    /// The right to write.
    pub lease: Lease,
    /// Told by which versions rows have gone.
    pub tail: Tail,
    /// The tables.
    pub known: watch::Receiver<Known>,
    /// The time, which says what day it is.
    pub clock: Clock,
    /// How many removals there have been, of all kinds.
    pub count: Arc<AtomicU64>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Since when rows of each table were kept the last time.
    pub done: BTreeMap<String, Expiry>,
}

impl std::fmt::Debug for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retention").field("done", &self.done).finish_non_exhaustive()
    }
}

impl Retention {
    /// Lets rows of a table go, where a day or another rule has come since the last time.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the table changed meanwhile: the next call begins anew.
    pub async fn apply(&mut self, rules: &Rules, table: &Table) -> Result<(), Error> {
        let expiry = rules.expiry(table.name(), date_of((self.clock)()));
        if self.done.get(table.name()) == Some(&expiry) {
            return Ok(());
        }
        if expiry != Expiry::never() {
            self.remove(&Gone::Before(expiry.clone()), table).await?;
        }
        self.done.insert(table.name().to_owned(), expiry);
        Ok(())
    }

    async fn remove(&self, gone: &Gone, table: &Table) -> Result<(), Error> {
        let before = table.load().await?;
        let columns = self.known.borrow().columns(table.name());
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let removal = Removal { table: table.clone(), columns, lease: self.lease.clone(), number };
        let rewritten = removal.write(gone, before.files().to_vec()).await?;
        if rewritten.replaced.is_empty() {
            return Ok(());
        }
        let removed = removal.commit(&rewritten, false, (self.clock)() / 1_000).await?;
        self.tail.gone_by(table.name(), removed.snapshot.version());
        if table.name() != dead_letter::TABLE {
            table.keep_latest_without(gone, Some(&*before), &removed, &removal.columns).await?;
        }
        self.metrics.expired.get_or_create(&of(table.name())).inc_by(rewritten.rows);
        let (table, files, rows) = (table.name(), rewritten.replaced.len(), rewritten.rows);
        tracing::info!(table, files, rows, "rows older than is kept have gone");
        Ok(())
    }
}

/// Changes the rules; clones are the same.
#[derive(Debug, Clone)]
pub struct RuleBook {
    lake: Lake,
    /// Two changes at once would lose one.
    changing: Arc<Mutex<()>>,
}

impl RuleBook {
    pub(crate) fn new(lake: Lake) -> RuleBook {
        RuleBook { lake, changing: Arc::default() }
    }

    /// Sets a rule, instead of one for the same tenant and table.
    pub async fn set(&self, rule: Rule) -> Result<(), Error> {
        self.change(|rules| rules.set(rule)).await
    }

    /// Drops the rule for exactly this tenant and table; says whether there was one.
    pub async fn unset(&self, tenant: Option<&str>, table: Option<&str>) -> Result<bool, Error> {
        self.change(|rules| rules.unset(tenant, table)).await
    }

    async fn change<T>(&self, change: impl FnOnce(&mut Rules) -> T) -> Result<T, Error> {
        let _alone = self.changing.lock().await;
        let mut rules = self.lake.retention().await?;
        let changed = change(&mut rules);
        self.lake.keep_retention(&rules).await?;
        Ok(changed)
    }
}
