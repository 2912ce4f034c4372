//! The tables that there are: the lake's domains and the dead letters, looked up again from time to time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use arrow::datatypes::SchemaRef;
use chrono::Utc;
use zeugma_lake::{
    Lake, Latest, Snapshot, Table,
    seam::{self, Beyond, Tail},
};
use zeugma_schemas::{dead_letter, domain::Domains};

use crate::Error;

/// New domains are seen at least this quickly, at the price of one listing of the lake's schemas.
const REFRESH: Duration = Duration::from_secs(5);

/// A table or column that is not found makes us look again, but not more often than this.
pub(crate) const REFRESH_AT_MOST: Duration = Duration::from_secs(1);

/// A snapshot is used this long at most, however little has happened: files that a compaction has
/// replaced stay for an hour, so a question of a minute on a snapshot of a minute still finds its own.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(60);

/// Snapshot and tail meet at the second try, unless commits follow each other faster than loads.
const TRIES_MAX: usize = 8;

/// What follows the name of a domain in the name of its newest readings.
pub const LATEST: &str = "_latest";

/// The tables that questions may name.
#[derive(Debug)]
pub struct Catalog {
    lake: Lake,
    known: RwLock<Option<(Instant, Arc<Known>)>>,
    refreshing: tokio::sync::Mutex<()>,
}

/// The domains and tables as they were when last looked up.
#[derive(Debug)]
pub struct Known {
    /// The lake's domains.
    pub domains: Domains,
    /// All tables by name, the dead letters among them.
    pub tables: BTreeMap<String, Arc<LakeTable>>,
    /// The names that SQL knows: the tables, and the newest readings of each domain.
    pub names: BTreeSet<String>,
}

/// One table's columns, and what is known of its newest snapshot.
#[derive(Debug)]
pub struct LakeTable {
    /// The columns, `date` last.
    pub columns: SchemaRef,
    table: Table,
    loaded: RwLock<Option<Instant>>,
    /// The newest reading of each device, as far as anybody has asked for it.
    latest: tokio::sync::Mutex<Option<Arc<Latest>>>,
}

/// A table's rows as a question sees them: the files of a snapshot, and what the tail has beyond.
#[derive(Debug, Default)]
pub struct Meeting {
    /// The snapshot; none where nothing was ever committed.
    pub snapshot: Option<Arc<Snapshot>>,
    /// What no file of it holds.
    pub tail: Beyond,
}

impl Catalog {
    /// A catalog of which nothing is looked up yet.
    pub fn new(lake: Lake) -> Catalog {
        Catalog { lake, known: RwLock::default(), refreshing: tokio::sync::Mutex::default() }
    }

    /// The lake.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The tables, looked up anew where that is due.
    pub async fn tables(&self) -> Result<Arc<Known>, Error> {
        self.younger_than(REFRESH).await
    }

    /// The tables, looked up anew because something that was named is not among them.
    pub async fn tables_again(&self) -> Result<Arc<Known>, Error> {
        self.younger_than(REFRESH_AT_MOST).await
    }

    async fn younger_than(&self, age: Duration) -> Result<Arc<Known>, Error> {
        let fresh = |found: &Option<(Instant, Arc<Known>)>| match found {
            Some((at, known)) if at.elapsed() < age => Some(known.clone()),
            _ => None,
        };
        if let Some(known) = fresh(&self.found()) {
            return Ok(known);
        }
        let _alone = self.refreshing.lock().await;
        let before = self.found();
        if let Some(known) = fresh(&before) {
            return Ok(known);
        }
        let before = before.map(|(_, known)| known);
        let known = match (self.lake.domains().await, before) {
            // What hangs on it, as plans do, is still good.
            (Ok(domains), Some(before)) if before.domains == domains => before,
            (Ok(domains), before) => Arc::new(self.known_of(domains, before.as_deref())),
            // Questions about known tables still have answers from files that are cached below us.
            (Err(error), Some(before)) => {
                tracing::warn!(%error, "the lake's schemas cannot be read; going on with those known");
                before
            }
            (Err(error), None) => return Err(error.into()),
        };
        *self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Some((Instant::now(), known.clone()));
        Ok(known)
    }

    fn found(&self) -> Option<(Instant, Arc<Known>)> {
        self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    fn known_of(&self, domains: Domains, before: Option<&Known>) -> Known {
        let columns = domains.iter().map(|domain| (domain.name().to_owned(), domain.columns().clone()));
        let columns = columns.chain([(dead_letter::TABLE.to_owned(), dead_letter::columns())]);
        let tables = columns.map(|(name, columns)| {
            let old = before.and_then(|before| before.tables.get(&name));
            let table = match old {
                Some(old) if old.columns == columns => old.clone(),
                Some(old) => Arc::new(LakeTable::new(old.table.clone(), columns)),
                None => Arc::new(LakeTable::new(self.lake.table(&name), columns)),
            };
            (name, table)
        });
        let tables: BTreeMap<String, Arc<LakeTable>> = tables.collect();
        let latest = domains.iter().map(|domain| format!("{}{LATEST}", domain.name()));
        let names = tables.keys().cloned().chain(latest).collect();
        Known { domains, tables, names }
    }
}

impl LakeTable {
    fn new(table: Table, columns: SchemaRef) -> LakeTable {
        LakeTable { columns, table, loaded: RwLock::default(), latest: Default::default() }
    }

    /// The table's name.
    pub fn name(&self) -> &str {
        self.table.name()
    }

    /// The newest version that was seen here.
    pub fn version(&self) -> Option<u64> {
        self.table.known().map(|snapshot| snapshot.version())
    }

    /// Brings the newest snapshot and, where there is one, the tail together.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the lake or the tail does not answer, or they keep missing each other.
    pub async fn meet(&self, tail: Option<&dyn Tail>) -> Result<Meeting, Error> {
        let Some(tail) = tail else {
            return self.meet_nobody().await;
        };
        let mut snapshot = match self.young() {
            Some(snapshot) => Some(snapshot),
            None => self.load().await?,
        };
        for _ in 0..TRIES_MAX {
            let view = match tail.view(self.name()).await {
                Ok(view) => view,
                // Ingest has accepted nothing for this table since it was started.
                Err(zeugma_lake::Error::NoTable { .. }) => return self.meet_nobody().await,
                Err(error) => return Err(error.into()),
            };
            let version = snapshot.as_ref().map_or(0, |snapshot| snapshot.version());
            let through = snapshot.as_ref().map_or(0, |snapshot| snapshot.committed_through(&view.source));
            if let Some(tail) = seam::join(version, through, &view) {
                return Ok(Meeting { snapshot, tail });
            }
            snapshot = self.load().await?;
        }
        let message = format!("snapshot and tail of `{}` keep missing each other; ask again", self.name());
        Err(Error::Unavailable { message })
    }

    /// The table as it was at a version.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it never had this version, [`Error::Gone`] where that is kept no more.
    pub async fn at(&self, version: u64) -> Result<Meeting, Error> {
        let snapshot = self.table.at_for_question(version, Utc::now().timestamp_millis()).await?;
        Ok(Meeting { snapshot: Some(snapshot), tail: Beyond::default() })
    }

    /// The newest reading of each device, of a snapshot or of a later one.
    pub async fn latest(&self, snapshot: &Snapshot) -> Result<Arc<Latest>, Error> {
        let mut known = self.latest.lock().await;
        if let Some(latest) = known.as_ref().filter(|latest| latest.version() >= snapshot.version()) {
            return Ok(latest.clone());
        }
        let latest = Arc::new(self.table.latest(snapshot, &self.columns, known.as_deref()).await?);
        *known = Some(latest.clone());
        Ok(latest)
    }

    /// The newest reading of each device as it was at a snapshot.
    pub async fn latest_at(&self, snapshot: &Snapshot) -> Result<Arc<Latest>, Error> {
        Ok(Arc::new(self.table.latest(snapshot, &self.columns, None).await?))
    }

    /// What is committed by now, alone.
    async fn meet_nobody(&self) -> Result<Meeting, Error> {
        Ok(Meeting { snapshot: self.load().await?, tail: Beyond::default() })
    }

    fn young(&self) -> Option<Arc<Snapshot>> {
        let loaded = *self.loaded.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        loaded.filter(|at| at.elapsed() < SNAPSHOT_AGE_MAX).and_then(|_| self.table.known())
    }

    async fn load(&self) -> Result<Option<Arc<Snapshot>>, Error> {
        match self.table.load().await {
            Ok(snapshot) => {
                *self.loaded.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Instant::now());
                Ok(Some(snapshot))
            }
            Err(zeugma_lake::Error::NoTable { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
