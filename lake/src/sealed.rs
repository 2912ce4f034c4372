//! Sealed rows: laid into files of the table's layout beside the journal, not in the lake yet.
//!
//! In: rows of the tail. Out: files that queries can read and that a commit puts into the lake as they
//! are. So memory stays small while the lake is away, and a commit that is tried again writes the same
//! files under the same names. They need no sync: what they hold is in the journal until it is committed,
//! and a start begins with an empty shelf.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use deltalake_core::kernel::Add;
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, local::LocalFileSystem, path::Path};
use serde_json::Value;

use crate::{Error, Lease, Position, Store, layout, priority::Priority, snapshot::DataFile};

/// Files that are put into the lake at once.
const PUTS_AT_ONCE: usize = 8;

/// Where the sealed files of one holder of the lake stand.
#[derive(Debug)]
pub struct Shelf {
    store: Arc<dyn ObjectStore>,
    epoch: i64,
    /// How many sealings there have been; with the epoch, which is never given twice, it names each.
    sealings: AtomicU64,
}

/// Some rows of one table, sealed; its files go when nobody holds it any more.
#[derive(Debug)]
pub struct Sealed {
    table: String,
    columns: SchemaRef,
    positions: RangeInclusive<Position>,
    store: Arc<dyn ObjectStore>,
    files: Vec<SealedFile>,
    rows: usize,
}

#[derive(Debug)]
struct SealedFile {
    /// The file, as the shelf has it.
    data: DataFile,
    /// The file, as the table's log will have it.
    add: Add,
    /// Whether the lake has its bytes, though no version may have it yet.
    put: AtomicBool,
}

impl Shelf {
    /// A shelf in a folder of this machine; what an earlier process left there is deleted.
    ///
    /// # Errors
    /// [`Error::Location`] where the folder cannot be used.
    pub fn open(folder: &std::path::Path, lease: &Lease) -> Result<Shelf, Error> {
        let fail = |problem: String| Error::Location { url: folder.display().to_string(), problem };
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(fail(error.to_string()));
            }
            _ => {}
        }
        std::fs::create_dir_all(folder).map_err(|error| fail(error.to_string()))?;
        Ok(Shelf::with_store(Arc::new(LocalFileSystem::new_with_prefix(folder)?), lease))
    }

    /// A shelf in any object store.
    pub fn with_store(store: Arc<dyn ObjectStore>, lease: &Lease) -> Shelf {
        Shelf { store, epoch: lease.epoch(), sealings: AtomicU64::new(0) }
    }

    /// Seals rows of a table that came by these positions: one file a date.
    pub async fn seal(
        &self,
        table: &str,
        positions: RangeInclusive<Position>,
        columns: SchemaRef,
        batches: Vec<RecordBatch>,
        now_ms: i64,
    ) -> Result<Sealed, Error> {
        // A device waits for its acknowledgement, nobody waits for a file.
        let lay = {
            let columns = columns.clone();
            move || async move { layout::encode(&columns, &batches) }
        };
        let encoded = Priority::Soon.run("seal", lay).await?;
        let name = format!("{:06}-{:06}", self.epoch, self.sealings.fetch_add(1, Ordering::Relaxed));
        let (table, store) = (table.to_owned(), self.store.clone());
        let mut sealed = Sealed { table, columns, positions, store, files: Vec::new(), rows: 0 };
        for file in encoded {
            let path = format!("{name}-{}.parquet", layout::date_text(file.date));
            let place = Path::from(format!("{}/{path}", sealed.table));
            self.store.put(&place, PutPayload::from(file.bytes.clone())).await?;
            sealed.rows += file.rows;
            sealed.files.push(SealedFile {
                data: DataFile::of(place.to_string(), file.bytes.len() as u64, &file.stats),
                add: add(path, file.bytes.len() as u64, &file.stats, now_ms),
                put: AtomicBool::new(false),
            });
        }
        Ok(sealed)
    }
}

impl Sealed {
    /// The columns of its rows.
    pub fn columns(&self) -> &SchemaRef {
        &self.columns
    }

    /// The lowest and the highest position of its rows; a commit takes all of them or none.
    pub fn positions(&self) -> &RangeInclusive<Position> {
        &self.positions
    }

    /// Whether this position parts its rows: some came by it or before, others after. No commit ends there.
    pub fn is_parted_by(&self, position: Position) -> bool {
        *self.positions.start() <= position && position < *self.positions.end()
    }

    /// Whether all of its rows came after a position.
    pub fn lies_beyond(&self, position: Position) -> bool {
        *self.positions.start() > position
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many bytes its files take.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.data.size).sum()
    }

    /// Its files, with paths from the root of its [store](Sealed::store).
    pub fn files(&self) -> impl Iterator<Item = &DataFile> {
        self.files.iter().map(|file| &file.data)
    }

    /// The store its files lie in.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    /// Nothing but positions, for tests of what needs no files.
    #[cfg(test)]
    pub(crate) fn without_files(positions: RangeInclusive<Position>) -> Sealed {
        let store = Arc::new(object_store::memory::InMemory::new());
        let columns = Arc::new(arrow::datatypes::Schema::empty());
        Sealed { table: String::new(), columns, positions, store, files: Vec::new(), rows: 0 }
    }

    /// What a commit tells of its files.
    pub(crate) fn adds(&self) -> impl Iterator<Item = Add> {
        self.files.iter().map(|file| file.add.clone())
    }

    /// Puts its files into the lake, where no version has them yet; those that are there are left.
    pub(crate) async fn put(&self, lake: &Store) -> Result<(), Error> {
        let missing = self.files.iter().filter(|file| !file.put.load(Ordering::Relaxed));
        // Boxed, as the compiler cannot see through the lifetimes of a closure's futures.
        let puts: Vec<BoxFuture<'_, _>> = missing.map(|file| self.put_file(file, lake).boxed()).collect();
        stream::iter(puts).buffer_unordered(PUTS_AT_ONCE).try_collect().await
    }

    async fn put_file(&self, file: &SealedFile, lake: &Store) -> Result<(), Error> {
        let bytes = self.store.get(&Path::from(file.data.path.as_str())).await?.bytes().await?;
        lake.put(&format!("{}/{}", self.table, file.add.path), bytes).await?;
        file.put.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// A file of these bytes as the log of its table has it.
pub(crate) fn add(path: String, bytes: u64, stats: &Value, now_ms: i64) -> Add {
    Add {
        path,
        partition_values: HashMap::new(),
        size: bytes as i64,
        modification_time: now_ms,
        data_change: true,
        stats: Some(stats.to_string()),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        let store = self.store.clone();
        let paths: Vec<Path> = self.files.iter().map(|file| Path::from(file.data.path.as_str())).collect();
        // Without a runtime everything ends, and the next start begins with an empty shelf.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for path in paths {
                    if let Err(error) = store.delete(&path).await {
                        tracing::warn!(%path, %error, "a sealed file stays until the next start");
                    }
                }
            });
        }
    }
}
