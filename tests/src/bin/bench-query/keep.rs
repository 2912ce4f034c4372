//! A lake of generated rows, made once and kept: committed and compacted as ingest does it.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use arrow::array::RecordBatch;
use zeugma_lake::{
    Lake, Lease, Shelf, Table,
    compact::{Compaction, FILE_ROWS_MAX, Wanted, plan},
    upkeep::KEEP_MIN,
};
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
        std::fs::remove_dir_all(folder).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        std::fs::create_dir_all(&root)?;
        let started = Instant::now();
        let mut writer = Writer::new(&root, &folder.join("sealed"), domains).await?;
        fill(&mut writer).await?;
        let committed = started.elapsed();
        writer.compact(domains).await?;
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

    async fn compact(&self, domains: &Domains) -> anyhow::Result<()> {
        for domain in domains.iter() {
            compact(&self.tables[domain.name()], domain, &self.lease).await?;
        }
        Ok(())
    }
}

/// Compacts a table, and keeps the newest reading of each device.
pub async fn compact(table: &Table, domain: &Domain, lease: &Lease) -> anyhow::Result<()> {
    let mut number = 0;
    loop {
        let jobs = plan(table.load().await?.files(), Wanted::OneRun);
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            let compaction = Compaction {
                table: table.clone(),
                columns: domain.columns().clone(),
                lease: lease.clone(),
                file_rows_max: FILE_ROWS_MAX,
                number,
            };
            compaction.run(&job, 0, |_| ()).await?;
            number += 1;
        }
    }
    table.checkpoint(KEEP_MIN, 0).await?;
    let latest = table.latest(&*table.load().await?, domain.columns(), None).await?;
    Ok(table.keep_latest(&latest).await?)
}
