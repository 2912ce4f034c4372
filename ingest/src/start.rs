//! How a writer begins: journal and lake are opened, and made sure to fit together.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tokio::sync::watch;
use zeugma_journal::{Journal, Synced};
use zeugma_lake::{
    Error as LakeError, Lake, Lease, Position, Snapshot, Table, erasure::Erasure, gone::Subject,
};
use zeugma_schemas::{
    dead_letter,
    domain::{BUILTIN, Domains},
};

use crate::{
    Clock, Error, Metrics,
    accept::{Acceptor, Known, Tables},
    eraser::cut_of,
    schema_files::SchemaFiles,
    source,
    tail::{End, Tail},
    watermarks::Watermarks,
};

/// A journal and a lake that fit together, held by us.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// Whose positions it counts.
    pub source: String,
    /// The right to write to the lake.
    pub lease: Lease,
    domains: Domains,
    snapshots: BTreeMap<String, (Table, Arc<Snapshot>)>,
    /// Erasures that are begun and not finished.
    pub erasures: Vec<Erasure>,
}

/// The steps that readings pass between journal and lake, before the first of them has.
pub struct Steps {
    /// Decides what is new.
    pub acceptor: Acceptor,
    /// Shows it.
    pub tail: Tail,
    /// Domains and tables; whoever takes up a schema replaces them.
    pub known: watch::Sender<Known>,
}

impl Opened {
    /// Takes the lake for the source of a data folder, whose journal is open. Where the lake knows more of
    /// it than the journal does, a new source is begun.
    ///
    /// # Errors
    /// Where the lake cannot be used, or belongs to another running process.
    pub async fn open(
        journal: Journal,
        data: &Path,
        lake: &Lake,
        schema_files: Option<&mut SchemaFiles>,
        clock: &Clock,
    ) -> Result<Opened, Error> {
        let mut source = source::of(data)?;
        let mut lease = Lease::take(lake.store(), &source, clock() / 1_000).await?;
        lake.store().delete_unfinished().await?;
        let domains = domains(lake, schema_files).await?;
        let mut snapshots = open_tables(lake, &domains, &lease).await?;
        let known = snapshots.values().map(|(_, snapshot)| snapshot.committed_through(&source)).max();
        if known.is_some_and(|known| known >= journal.next()) {
            tracing::warn!(
                source,
                "the lake knows more of this source than the journal does: a new source is begun"
            );
            lease.release().await?;
            source = source::renew(data)?;
            lease = Lease::take(lake.store(), &source, clock() / 1_000).await?;
            snapshots = open_tables(lake, &domains, &lease).await?;
        }
        let erasures = lake.open_erasures().await?;
        Ok(Opened { journal, source, lease, domains, snapshots, erasures })
    }

    /// The steps as they stand at the lake's snapshots.
    pub async fn steps(&self, metrics: &Arc<Metrics>) -> Result<Steps, Error> {
        let tail = Tail::new(&self.source, metrics.clone());
        tail.end_commits(self.end());
        let known = watch::Sender::new(make_known(&self.domains, &self.snapshots, &tail, &self.source));
        let watermarks = rebuild_watermarks(&self.domains, &self.snapshots).await?;
        let acceptor = Acceptor::new(
            &self.source,
            known.subscribe(),
            tail.clone(),
            metrics.clone(),
            watermarks,
            self.committed_through(),
            self.settled_through(),
        );
        let acceptor = acceptor.erasing(self.erasing());
        Ok(Steps { acceptor, tail, known })
    }

    /// What the journal holds beyond what every table has.
    pub fn replay(&self) -> impl Iterator<Item = Result<Synced, zeugma_journal::Error>> + use<> {
        self.journal.replay(self.settled_through())
    }

    /// Whose rows are going, or have just gone.
    fn erasing(&self) -> Vec<Subject> {
        let going = self.erasures.iter().filter(|erasure| erasure.rows_gone_at.is_none());
        going.map(|erasure| erasure.subject.clone()).collect()
    }

    /// Where commits end until an erasure has gone on whose tables are not noted.
    fn end(&self) -> End {
        let begun = self.erasures.iter().find(|erasure| erasure.tables.is_empty());
        begun.map_or(End::Decided, |erasure| End::At(cut_of(erasure, &self.source)))
    }

    /// Through which position every table has what it needs: it was committed, or let go by the journal.
    fn settled_through(&self) -> Position {
        let committed = self.committed_through().values().min().copied().unwrap_or(0);
        committed.max(self.journal.first() - 1)
    }

    fn committed_through(&self) -> BTreeMap<String, Position> {
        let through = self.snapshots.iter();
        through
            .map(|(name, (_, snapshot))| (name.clone(), snapshot.committed_through(&self.source)))
            .collect()
    }
}

/// Every schema there is: those the lake keeps, ours, and those of the operator's folder.
async fn domains(lake: &Lake, schema_files: Option<&mut SchemaFiles>) -> Result<Domains, Error> {
    let mut domains = lake.domains().await?;
    for text in BUILTIN {
        domains.add(text).map_err(LakeError::from)?;
    }
    if let Some(grown) = schema_files.and_then(|files| files.look(&domains)) {
        domains = grown;
    }
    lake.keep_schemas(&domains).await?;
    Ok(domains)
}

async fn open_tables(
    lake: &Lake,
    domains: &Domains,
    lease: &Lease,
) -> Result<BTreeMap<String, (Table, Arc<Snapshot>)>, Error> {
    let columns = domains.iter().map(|domain| (domain.name().to_owned(), domain.columns().clone()));
    let columns = columns.chain([(dead_letter::TABLE.to_owned(), dead_letter::columns())]);
    let mut tables = BTreeMap::new();
    for (name, columns) in columns {
        let table = lake.table(&name);
        table.ensure(&columns).await?;
        let snapshot = table.fence(lease).await?;
        tables.insert(name, (table, snapshot));
    }
    Ok(tables)
}

fn make_known(
    domains: &Domains,
    snapshots: &BTreeMap<String, (Table, Arc<Snapshot>)>,
    tail: &Tail,
    source: &str,
) -> Known {
    let tables: Tables = snapshots.iter().map(|(name, (table, _))| (name.clone(), table.clone())).collect();
    let known = Known { domains: Arc::new(domains.clone()), tables: Arc::new(tables) };
    for (name, (_, snapshot)) in snapshots {
        tail.ensure(name, &known.columns(name), snapshot.committed_through(source));
        tail.gone_by(name, snapshot.readable_from());
    }
    known
}

/// The newest time of every device, from the lake.
async fn rebuild_watermarks(
    domains: &Domains,
    snapshots: &BTreeMap<String, (Table, Arc<Snapshot>)>,
) -> Result<Watermarks, Error> {
    let mut watermarks = Watermarks::default();
    for (name, (table, snapshot)) in snapshots {
        let Some(domain) = domains.get(name) else { continue };
        let latest = table.latest(snapshot, domain.columns(), None).await?;
        watermarks.raise(name, latest.rows());
    }
    Ok(watermarks)
}
