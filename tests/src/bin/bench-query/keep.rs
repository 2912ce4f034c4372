//! A lake of generated rows, made once and kept: committed and compacted as ingest does it.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use arrow::array::RecordBatch;
use zeugma_ingest::compact_alone;
use zeugma_lake::{Error, Lake, Lease, Shelf, Table, upkeep::KEEP_MIN};
use zeugma_schemas::domain::{Domain, Domains};

/// The journal that the rows would have come by.
pub const SOURCE: &str = "bench";

/// Commits after which the log is asked whether a checkpoint is due.
const COMMITS_A_CHECK: u64 = 100;

/// Makes the lake in a folder, unless it is there; `fill` gives its rows to the writer.
pub async fn lake(
    folder: &Path,
    domains: &Domains,
    fill: impl AsyncFnOnce(&mut Writer) -> anyhow::Result<()>,
) -> anyhow::Result<Lake> {
    let (root, done) = (folder.join("lake"), folder.join("lake-done"));
    if !done.exists() {
        println!("making {}", folder.display());
        empty(folder)?;
        let started = Instant::now();
        let mut writer = Writer::new(&root, &folder.join("sealed"), domains).await?;
        fill(&mut writer).await?;
        let committed = started.elapsed();
        compact(&Lake::open(&root.display().to_string()).await?).await?;
        println!(
            "{} rows committed in {:.0} s, compacted in {:.0} s",
            writer.rows,
            committed.as_secs_f64(),
            (started.elapsed() - committed).as_secs_f64()
        );
        std::fs::write(done, "")?;
    }
    Ok(Lake::open(&root.display().to_string()).await?)
}

/// Commits rows to a new lake.
pub struct Writer {
    tables: BTreeMap<String, Table>,
    lease: Lease,
    shelf: Shelf,
    commits: u64,
    rows: usize,
}

impl Writer {
    async fn new(root: &Path, sealed: &Path, domains: &Domains) -> anyhow::Result<Writer> {
        let lake = Lake::open(&root.display().to_string()).await?;
        lake.keep_schemas(domains).await?;
        let lease = Lease::take(lake.store(), SOURCE, 0).await?;
        let mut tables = BTreeMap::new();
        for domain in domains.iter() {
            let table = lake.table(domain.name());
            table.ensure(domain.columns()).await?;
            table.fence(&lease).await?;
            tables.insert(domain.name().to_owned(), table);
        }
        let shelf = Shelf::open(sealed, &lease)?;
        Ok(Writer { tables, lease, shelf, commits: 0, rows: 0 })
    }

    /// One commit.
    pub async fn commit(&mut self, domain: &Domain, rows: RecordBatch) -> anyhow::Result<()> {
        self.commits += 1;
        self.rows += rows.num_rows();
        let table = &self.tables[domain.name()];
        let columns = domain.columns().clone();
        let through = self.commits;
        let sealed = self.shelf.seal(domain.name(), through..=through, columns, vec![rows], 0).await?;
        table.commit(&[Arc::new(sealed)], &self.lease, through).await?;
        if through.is_multiple_of(COMMITS_A_CHECK) {
            table.checkpoint(KEEP_MIN, 0).await?;
        }
        Ok(())
    }
}

/// A folder with an empty lake in it, whatever there was.
pub fn empty(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(std::fs::create_dir_all(folder.join("lake"))?)
}

/// Compacts all tables of a lake on which no writer runs any more, and keeps the newest reading of each device.
pub async fn compact(lake: &Lake) -> anyhow::Result<()> {
    compact_alone(lake, None, zeugma::server::clock(), |_| {}).await?;
    for domain in lake.domains().await?.iter() {
        let table = lake.table(domain.name());
        match table.load().await {
            Ok(snapshot) => {
                table.checkpoint(KEEP_MIN, 0).await?;
                table.keep_latest(&table.latest(&snapshot, domain.columns(), None).await?).await?;
            }
            // Nobody has sent any.
            Err(Error::NoTable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
