//! The lake: one Delta table for each domain, on a folder or an object store.
//!
//! The only room that knows Delta Lake and object storage. In the order in which readings pass:
//!
//! - [`store`] - where the lake lies, and how bytes get there for good
//! - [`schemas`] - every version of every schema that was ever used, kept beside the tables
//! - [`lease`] - one ingest process at a time; its epoch fences every commit
//! - [`table`] - a Delta table: opened, created, widened
//! - [`layout`] - how rows lie in files: sorted, encoded, with statistics
//! - [`sealed`] - rows laid into local files, which a commit puts into the lake
//! - [`append`] - one commit, carrying the position through which it reaches
//! - `replace` - files of a table make room for others
//! - [`compact`] - many small files become few large ones
//! - [`gone`] - which rows go, as they are too old or erased
//! - [`remove`] - files without them
//! - [`erasure`] - what is erased: the lake's own note, and the proof of it
//! - [`retention`] - how long rows are kept
//! - [`blocked`] - devices from which nothing is taken any more
//! - [`upkeep`] - checkpoints, and files that nobody needs any more
//! - [`snapshot`] - a table at a version: its files, and what is committed through where
//! - [`find`] - rows looked up by their keys
//! - [`priority`] - work that nobody waits for gives way
//! - [`latest`] - the newest reading of each device
//! - [`seam`] - where a snapshot and a tail meet; pure

pub mod append;
pub mod blocked;
pub mod compact;
pub mod erasure;
pub mod find;
#[cfg(test)]
mod fixture;
pub mod gone;
pub mod latest;
pub mod layout;
pub mod lease;
pub mod priority;
pub mod remove;
mod replace;
pub mod retention;
pub mod schemas;
pub mod sealed;
pub mod seam;
pub mod snapshot;
pub mod store;
pub mod table;
pub mod upkeep;

use std::sync::Arc;

pub use latest::Latest;
pub use lease::Lease;
pub use sealed::{Sealed, Shelf};
pub use seam::Position;
pub use snapshot::Snapshot;
pub use store::Store;
pub use table::Table;

/// A lake: a place that holds tables, their schemas and the lease.
#[derive(Debug, Clone)]
pub struct Lake {
    store: Arc<Store>,
}

impl Lake {
    /// Opens the lake at this URL or path, which may still be empty.
    ///
    /// # Errors
    /// [`Error::Location`] where the URL names no place we can reach, [`Error::Format`] where another
    /// version of the program has written the lake.
    pub async fn open(url: &str) -> Result<Lake, Error> {
        Lake::open_in(Store::open(url)?).await
    }

    /// Opens the lake in a store of any kind.
    pub async fn open_in(store: Store) -> Result<Lake, Error> {
        let lake = Lake { store: Arc::new(store) };
        lake.store.check_format().await?;
        Ok(lake)
    }

    /// The store below.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// A handle of the table of this name, which may not exist yet.
    pub fn table(&self, name: &str) -> Table {
        Table::new(self.store.clone(), name)
    }
}

/// What can go wrong with a lake.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lake's URL or path cannot be used.
    #[error("cannot use `{url}` as a lake: {problem}")]
    Location {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another version of the program has written here; what is older than the first release is not read.
    #[error(
        "the lake at `{url}` has format {found}, this program reads {known}: use the program that wrote it"
    )]
    Format {
        /// The lake.
        url: String,
        /// Its format.
        found: u32,
        /// The format that this program reads.
        known: u32,
    },
    /// Another ingest process holds the lake.
    #[error(
        "the lake at `{url}` is held by another ingest process (source {holder}) for {left_s} s more; stop it, or wait"
    )]
    Held {
        /// The lake.
        url: String,
        /// Source that holds it.
        holder: String,
        /// Seconds until its lease runs out.
        left_s: i64,
    },
    /// Another ingest process has taken the lake over; this one must not write any more.
    #[error(
        "another ingest process has taken the lake over (epoch {found} after ours, {ours}); this one stops writing"
    )]
    Fenced {
        /// Epoch found in the table.
        found: i64,
        /// Our epoch.
        ours: i64,
    },
    /// Somebody else committed first; load the snapshot again and decide anew.
    #[error("table `{table}` has changed since its snapshot was read")]
    Conflict {
        /// The table.
        table: String,
    },
    /// The table does not exist.
    #[error("there is no table `{table}`")]
    NoTable {
        /// The table.
        table: String,
    },
    /// The table never had this version.
    #[error("`{table}` has no version {version}; its newest is {newest}")]
    NoVersion {
        /// The table.
        table: String,
        /// What was asked for.
        version: u64,
        /// The newest there is.
        newest: u64,
    },
    /// The version was there, and its files are deleted.
    #[error(
        "version {version} of `{table}` can be read no more: versions are kept for a while only (--keep-versions)"
    )]
    Gone {
        /// The table.
        table: String,
        /// What was asked for.
        version: u64,
    },
    /// The version was there, and rows that it had were erased since.
    #[error(
        "version {version} of `{table}` can be read no more: rows that it had were erased; ask for {from} or a later one"
    )]
    Erased {
        /// The table.
        table: String,
        /// What was asked for.
        version: u64,
        /// The first one that can be read.
        from: u64,
    },
    /// An erasure is begun that only the writer of the data folder can go on with.
    #[error(
        "something is being erased from the lake at `{url}`, which `zeugma up` or `zeugma ingest` must finish: start it, or ask again later"
    )]
    Erasing {
        /// The lake.
        url: String,
    },
    /// A snapshot and a tail that do not meet; load the snapshot again.
    #[error(
        "snapshot of `{table}` reaches to {committed_through}, the tail has released up to {released_through}"
    )]
    Behind {
        /// The table.
        table: String,
        /// How far the snapshot reaches.
        committed_through: Position,
        /// What the tail no longer has.
        released_through: Position,
    },
    /// The tail could not be asked.
    #[error("the tail does not answer: {0}")]
    Tail(String),
    /// A schema in the lake cannot be used.
    #[error(transparent)]
    Schema(#[from] zeugma_schemas::schema::Error),
    /// The object store does not do what it was asked.
    #[error("the lake's store failed")]
    Store(#[from] object_store::Error),
    /// A file of a local lake could not be synced.
    #[error("could not sync `{path}`")]
    Sync {
        /// The file or folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Delta Lake refuses.
    #[error("the table's log failed")]
    Delta(#[from] deltalake_core::DeltaTableError),
    /// Parquet refuses.
    #[error("a Parquet file failed")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Arrow refuses.
    #[error("rows do not fit their columns")]
    Arrow(#[from] arrow::error::ArrowError),
    /// Something of ours is not as we left it.
    #[error("internal: {0}")]
    Internal(String),
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Change what was asked for.
    Invalid,
    /// Ask for something that exists.
    NotFound,
    /// Ask for something newer.
    Gone,
    /// Try again later.
    Unavailable,
    /// Load again and decide anew.
    Conflict,
    /// Stop writing; somebody else does.
    Fenced,
    /// A mistake of ours, or damaged data: keep the evidence.
    Internal,
}

impl Error {
    /// Whether a file that should be read is not there.
    pub(crate) fn is_of_missing_file(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        std::iter::from_fn(|| {
            let error = cause?;
            cause = error.source();
            Some(error)
        })
        .any(|error| matches!(error.downcast_ref(), Some(object_store::Error::NotFound { .. })))
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Location { .. } | Error::Format { .. } | Error::Schema(_) => ErrorKind::Invalid,
            Error::NoTable { .. } | Error::NoVersion { .. } => ErrorKind::NotFound,
            Error::Gone { .. } | Error::Erased { .. } => ErrorKind::Gone,
            Error::Conflict { .. } | Error::Behind { .. } => ErrorKind::Conflict,
            Error::Held { .. } | Error::Fenced { .. } | Error::Erasing { .. } => ErrorKind::Fenced,
            Error::Tail(_) | Error::Store(_) | Error::Delta(_) | Error::Sync { .. } => ErrorKind::Unavailable,
            Error::Parquet(_) | Error::Arrow(_) | Error::Internal(_) => ErrorKind::Internal,
        }
    }
}
