//! One Delta table: opened, created, widened; its newest snapshot, shared by everybody who reads it.

use std::{
    collections::HashSet,
    sync::{Arc, RwLock},
};

use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema};
use deltalake_core::{
    DeltaTable, DeltaTableError,
    kernel::{
        Action, DataType, MetadataExt, MetadataValue, StructField, StructType,
        transaction::{CommitBuilder, CommitProperties},
    },
    logstore::LogStoreRef,
    operations::create::CreateBuilder,
    protocol::DeltaOperation,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use tokio::sync::Mutex;

use crate::{Error, Snapshot, Store};

/// The UTC date of a row's time: the last column of every table.
pub const DATE: &str = "date";

/// Files of an older version that are looked for at once.
const LOOKS_AT_ONCE: usize = 16;

/// A table of the lake; clones share what they know of it.
#[derive(Debug, Clone)]
pub struct Table {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    store: Arc<Store>,
    /// The newest snapshot that anybody here has loaded.
    newest: RwLock<Option<Arc<Snapshot>>>,
    /// Delta's own state, which loads and commits go through, one at a time.
    delta: Mutex<Option<DeltaTable>>,
}

impl Table {
    pub(crate) fn new(store: Arc<Store>, name: &str) -> Table {
        let shared =
            Shared { name: name.to_owned(), store, newest: RwLock::default(), delta: Mutex::default() };
        Table { shared: Arc::new(shared) }
    }

    /// The table's name: a domain, or `dead_letters`.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The store the table lies in.
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    /// The path, from the store's root, of what lies below the table.
    pub(crate) fn path(&self, below: &str) -> String {
        self.store().path(&format!("{}/{below}", self.name())).to_string()
    }

    /// The newest snapshot loaded so far, without any I/O.
    pub fn known(&self) -> Option<Arc<Snapshot>> {
        self.shared.newest.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Loads what has been committed since, and answers the newest snapshot.
    ///
    /// # Errors
    /// [`Error::NoTable`] where nobody has created it.
    pub async fn load(&self) -> Result<Arc<Snapshot>, Error> {
        let mut delta = self.shared.delta.lock().await;
        self.load_locked(&mut delta).await
    }

    async fn load_locked(&self, delta: &mut Option<DeltaTable>) -> Result<Arc<Snapshot>, Error> {
        if let Some(table) = delta
            && let Err(error) = table.update_state().await
        {
            // What we know may lie before what is left of the log; who begins anew does not need it.
            tracing::debug!(table = self.name(), %error, "loaded anew");
            *delta = None;
        }
        let table = match delta {
            Some(table) => table,
            None => delta.insert(self.open().await?),
        };
        let known = self.known();
        let state = table.snapshot()?;
        if let Some(known) = known.as_ref().filter(|known| known.version() == state.version()) {
            return Ok(known.clone());
        }
        let snapshot = Snapshot::of(self, state, table.log_store().as_ref(), known.as_deref()).await?;
        let snapshot = Arc::new(snapshot);
        self.remember(&snapshot);
        Ok(snapshot)
    }

    /// The table as it was at a version, which may be any of the last [while](crate::upkeep).
    ///
    /// # Errors
    /// [`Error::NoVersion`] where there never was one of this number, [`Error::Gone`] or [`Error::Erased`] where it
    /// can be read no more.
    pub async fn at(&self, version: u64) -> Result<Arc<Snapshot>, Error> {
        let newest = self.load().await?;
        if version == newest.version() {
            return Ok(newest);
        }
        if version > newest.version() {
            return Err(Error::NoVersion {
                table: self.name().to_owned(),
                version,
                newest: newest.version(),
            });
        }
        if version < newest.readable_from() {
            let (table, from) = (self.name().to_owned(), newest.readable_from());
            return Err(Error::Erased { table, version, from });
        }
        self.at_even_erased(version).await
    }

    /// As [`Table::at`], also where rows of it were erased since: for nobody but who has erased them.
    pub async fn at_even_erased(&self, version: u64) -> Result<Arc<Snapshot>, Error> {
        let newest = self.load().await?;
        let gone = || Error::Gone { table: self.name().to_owned(), version };
        if self.committed_ms(version).await?.is_none() {
            return Err(gone());
        }
        let mut delta = DeltaTable::new(self.log_store()?);
        delta.load_version(version).await?;
        let snapshot = Snapshot::of(self, delta.snapshot()?, delta.log_store().as_ref(), None).await?;
        // Files that the newest version has are there; of the others a vacuum may have been quicker.
        let kept: HashSet<&str> = newest.files().iter().map(|file| file.path.as_str()).collect();
        let replaced = snapshot.files().iter().filter(|file| !kept.contains(file.path.as_str()));
        let root = self.store().root();
        let asked: Vec<BoxFuture<'_, _>> = replaced
            .map(|file| {
                let (root, path) = (root.clone(), Path::from(file.path.as_str()));
                async move { modified_ms(&root, &path).await }.boxed()
            })
            .collect();
        let mut answers = stream::iter(asked).buffer_unordered(LOOKS_AT_ONCE);
        while let Some(there) = answers.next().await {
            if there?.is_none() {
                return Err(gone());
            }
        }
        drop(answers);
        Ok(Arc::new(snapshot))
    }

    async fn open(&self) -> Result<DeltaTable, Error> {
        let mut table = DeltaTable::new(self.log_store()?);
        if !table.verify_deltatable_existence().await? {
            return Err(self.no_table());
        }
        table.load().await?;
        Ok(table)
    }

    /// Lets go of Delta's state, so that whoever needs it next loads it anew.
    pub(crate) async fn forget(&self) {
        *self.shared.delta.lock().await = None;
    }

    fn remember(&self, snapshot: &Arc<Snapshot>) {
        let mut newest = self.shared.newest.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if newest.as_ref().is_none_or(|known| known.version() < snapshot.version()) {
            *newest = Some(snapshot.clone());
        }
    }

    /// Makes the table hold these columns: creates it, or adds the columns that it lacks.
    pub async fn ensure(&self, columns: &ArrowSchema) -> Result<Arc<Snapshot>, Error> {
        let mut delta = self.shared.delta.lock().await;
        match self.load_locked(&mut delta).await {
            Ok(_) => {}
            Err(Error::NoTable { .. }) => *delta = Some(self.create(columns).await?),
            Err(error) => return Err(error),
        }
        self.widen(&mut delta, columns).await?;
        self.load_locked(&mut delta).await
    }

    async fn create(&self, columns: &ArrowSchema) -> Result<DeltaTable, Error> {
        let columns =
            columns.fields().iter().map(|field| delta_field(field)).collect::<Result<Vec<_>, _>>()?;
        let table = CreateBuilder::new()
            .with_log_store(self.log_store()?)
            .with_table_name(self.name())
            .with_columns(columns)
            .await?;
        self.sync_version(table.version().unwrap_or_default()).await?;
        Ok(table)
    }

    async fn widen(&self, delta: &mut Option<DeltaTable>, columns: &ArrowSchema) -> Result<(), Error> {
        let table = delta.as_mut().ok_or_else(|| self.no_table())?;
        let state = table.snapshot()?;
        let known = state.schema();
        let lacking = columns.fields().iter().filter(|field| known.field(field.name()).is_none());
        let lacking = lacking.map(|field| delta_field(field)).collect::<Result<Vec<_>, _>>()?;
        if lacking.is_empty() {
            return Ok(());
        }
        let all = known.fields().cloned().chain(lacking.iter().cloned());
        let all = StructType::try_new(all).map_err(DeltaTableError::from)?;
        let metadata = state.metadata().clone().with_schema(&all).map_err(DeltaTableError::from)?;
        let commit = CommitBuilder::from(CommitProperties::default().with_max_retries(0))
            .with_actions(vec![Action::Metadata(metadata)])
            .build(Some(state), table.log_store(), DeltaOperation::AddColumn { fields: lacking })
            .await?;
        self.sync_version(commit.version()).await?;
        table.update_state().await?;
        Ok(())
    }

    /// Runs `work` on Delta's state and the snapshot that belongs to it, alone.
    pub(crate) async fn exclusively<T>(
        &self,
        work: impl AsyncFnOnce(&mut DeltaTable, &Arc<Snapshot>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut delta = self.shared.delta.lock().await;
        let snapshot = self.load_locked(&mut delta).await?;
        let table = delta.as_mut().ok_or_else(|| self.no_table())?;
        work(table, &snapshot).await
    }

    /// When a version was committed, by the store's clock; `None` where the log has none, or none any more.
    pub(crate) async fn committed_ms(&self, version: u64) -> Result<Option<i64>, Error> {
        let entry = Path::from(self.path(&format!("_delta_log/{version:020}.json")));
        modified_ms(&self.store().root(), &entry).await
    }

    /// Makes a version of a local table's log durable.
    pub(crate) async fn sync_version(&self, version: u64) -> Result<(), Error> {
        self.store().sync(&[format!("{}/_delta_log/{version:020}.json", self.name())]).await
    }

    pub(crate) fn log_store(&self) -> Result<LogStoreRef, Error> {
        self.shared.store.log_store(self.name())
    }

    fn no_table(&self) -> Error {
        Error::NoTable { table: self.name().to_owned() }
    }
}

/// When an object was written; `None` where there is none.
async fn modified_ms(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Option<i64>, Error> {
    match store.head(path).await {
        Ok(object) => Ok(Some(object.last_modified.timestamp_millis())),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A column as Delta Lake declares it, with our documentation as its comment.
fn delta_field(field: &ArrowField) -> Result<StructField, Error> {
    let data_type = match field.data_type() {
        ArrowType::Boolean => DataType::BOOLEAN,
        ArrowType::Int32 => DataType::INTEGER,
        ArrowType::Int64 => DataType::LONG,
        ArrowType::Float32 => DataType::FLOAT,
        ArrowType::Float64 => DataType::DOUBLE,
        ArrowType::Utf8View => DataType::STRING,
        ArrowType::Binary => DataType::BINARY,
        ArrowType::Date32 => DataType::DATE,
        ArrowType::Timestamp(_, Some(_)) => DataType::TIMESTAMP,
        other => return Err(Error::Internal(format!("no table of ours has a column of type {other}"))),
    };
    let text = |key: &str| field.metadata().get(key).cloned().unwrap_or_default();
    let metadata = [("comment", text("doc")), ("unit", text("unit"))];
    let metadata = metadata.into_iter().filter(|(_, value)| !value.is_empty());
    Ok(StructField::new(field.name(), data_type, field.is_nullable())
        .with_metadata(metadata.map(|(key, value)| (key, MetadataValue::String(value)))))
}
