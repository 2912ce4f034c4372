//! Retention: rows older than their tenant and table keep them go, day by day.
//!
//! In: the rules that the lake notes. Out: tables without such rows; older versions have them for a while yet. A
//! day ends at midnight UTC, so that a file is written anew once a day at most. What goes from the lake is not in the
//! journal any more: a replay would find that it is missing.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Mutex, watch};
use zeugma_lake::{
    Error as LakeError, Lake, Table,
    gone::{Expiry, Gone},
    remove::FILES_A_COMMIT,
    retention::{Rule, Rules},
};
use zeugma_schemas::batch::date_of;

use crate::{Clock, Error, Metrics, accept::Known, metrics::of, parting::Parting, removals::Removals};

/// Lets rows go that are too old.
pub struct Retention {
    /// Begins removals.
    pub removals: Removals,
    /// What is not in the lake yet.
    pub parting: Parting,
    /// The tables.
    pub known: watch::Receiver<Known>,
    /// The rules.
    pub rules: RuleBook,
    /// The time, which says what day it is.
    pub clock: Clock,
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
    /// The rules in force today; none where the clock cannot be right.
    ///
    /// # Errors
    /// Where the lake does not tell them.
    pub async fn rules(&self) -> Result<Rules, Error> {
        let (rules, today) = (self.rules.all().await?, self.today());
        if rules.believes(today) {
            return Ok(rules);
        }
        tracing::error!(
            "the clock is weeks ahead of when rows went the last time, so none go: if it is right, set a rule of \
             retention again"
        );
        Ok(Rules::default())
    }

    /// Lets rows of a table go, where a day or another rule has come since the last time.
    ///
    /// # Errors
    /// [`Error::NotErased`] where the lake is behind, a conflict where the table changed meanwhile: the next call
    /// begins anew.
    pub async fn apply(&mut self, rules: &Rules, table: &Table) -> Result<(), Error> {
        let expiry = rules.expiry(table.name(), self.today());
        if self.done.get(table.name()) == Some(&expiry) {
            return Ok(());
        }
        if expiry != Expiry::never() {
            self.remove(&Gone::Before(expiry.clone()), table).await?;
            self.rules.applied(self.today()).await?;
        }
        self.done.insert(table.name().to_owned(), expiry);
        Ok(())
    }

    async fn remove(&self, gone: &Gone, table: &Table) -> Result<(), Error> {
        let before = table.load().await?;
        let (mut rows, mut parted) = (0, false);
        for files in before.files().chunks(FILES_A_COMMIT) {
            let removal = self.removals.next(table);
            let rewritten = removal.write(gone, files.to_vec()).await?;
            if rewritten.replaced.is_empty() {
                continue;
            }
            if !parted {
                self.parting.delete_all().await?;
                parted = true;
            }
            removal.commit(&rewritten, false, (self.clock)() / 1_000).await?;
            rows += rewritten.rows;
            self.metrics.expired.get_or_create(&of(before.table())).inc_by(rewritten.rows);
        }
        let after = table.load().await?;
        let columns = self.known.borrow().columns_of_readings(table.name());
        if let Some(columns) = columns {
            match rows {
                // Unless a stop came between the last time and this.
                0 => table.keep_latest_since_gone(&columns).await?,
                _ => table.keep_latest_without(gone, Some(&*before), &after, &columns).await?,
            }
        }
        if rows > 0 {
            self.parting.tail.gone_by(table.name(), after.rows_gone_in());
            tracing::info!(table = table.name(), rows, "rows older than is kept have gone");
        }
        Ok(())
    }

    fn today(&self) -> i32 {
        date_of((self.clock)())
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

    /// All rules.
    pub async fn all(&self) -> Result<Rules, LakeError> {
        self.lake.retention().await
    }

    /// Notes that rows have gone by this date.
    async fn applied(&self, today: i32) -> Result<(), LakeError> {
        if self.all().await?.applied == Some(today) {
            return Ok(());
        }
        self.change(|rules| rules.applied = Some(today)).await
    }

    /// Sets a rule, instead of one for the same tenant and table.
    pub async fn set(&self, rule: Rule) -> Result<(), LakeError> {
        self.change(|rules| rules.set(rule)).await
    }

    /// Drops the rule for exactly this tenant and table; says whether there was one.
    pub async fn unset(&self, tenant: Option<&str>, table: Option<&str>) -> Result<bool, LakeError> {
        self.change(|rules| rules.unset(tenant, table)).await
    }

    async fn change<T>(&self, change: impl FnOnce(&mut Rules) -> T) -> Result<T, LakeError> {
        let _alone = self.changing.lock().await;
        let mut rules = self.lake.retention().await?;
        let changed = change(&mut rules);
        self.lake.keep_retention(&rules).await?;
        Ok(changed)
    }
}
