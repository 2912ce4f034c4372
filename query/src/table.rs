//! A domain as the engine sees it: a table whose rows lie in the files of a snapshot and in the tail.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DFSchema, DataFusionError, Result, config::TableParquetOptions},
    datasource::{
        listing::PartitionedFile,
        memory::MemorySourceConfig,
        physical_plan::{FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType, col, lit, utils::conjunction},
    physical_expr::PhysicalExpr,
    physical_plan::{ExecutionPlan, filter::FilterExecBuilder, union::UnionExec},
    scalar::ScalarValue,
};
use object_store::{ObjectMeta, ObjectStore, path::Path};
use zeugma_lake::{Lake, layout, seam::Tail, snapshot::DataFile};

use crate::{
    Error, Grant,
    catalog::{LakeTable, Meeting},
    files::Files,
    pieces::{PIECES_OF_A_CORE, PIECES_OF_A_CORE_FOR_ONE_TENANT, deal},
    prune::prune,
    reach::{Reach, is_of_time},
    scan::{DomainScan, Label},
};

/// What the tables of one question have in common.
#[derive(Debug, Clone)]
pub struct Tables {
    /// The lake whose files are read.
    pub lake: Lake,
    /// The tail; none to ask the lake alone.
    pub tail: Option<Arc<dyn Tail>>,
    /// The version that is asked, without the tail; none for the newest.
    pub version: Option<u64>,
    /// Whose readings may be seen.
    pub grant: Grant,
}

/// A table of the lake for one question of somebody with a grant.
#[derive(Debug)]
pub struct DomainTable {
    /// What it shares with the others.
    pub of: Tables,
    /// The table.
    pub table: Arc<LakeTable>,
}

/// Which columns and rows one scan is about.
struct Wanted<'a> {
    /// Columns to read, by number.
    columns: Option<Vec<usize>>,
    /// What decides which files and pages can hold any of its rows; the engine filters what is read.
    predicate: Option<Arc<dyn PhysicalExpr>>,
    /// Rows that suffice, where nothing has to be filtered out first.
    limit: Option<usize>,
    /// How little of the files it is about.
    reach: Reach,
    session: &'a dyn Session,
}

/// The URL under which the engine knows the lake's store.
pub fn store_url(lake: &Lake) -> Result<ObjectStoreUrl> {
    ObjectStoreUrl::parse(&lake.store().url()[..url::Position::BeforePath])
}

#[async_trait]
impl TableProvider for DomainTable {
    fn schema(&self) -> SchemaRef {
        self.table.columns.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let meeting = self.meet().await.map_err(external)?;
        let files = meeting.snapshot.as_ref().map(|snapshot| snapshot.files()).unwrap_or_default();
        let granted = self.granted();
        let reach = Reach::of(filters.iter().chain(&granted));
        let predicate = self.predicate(session, granted.as_ref(), filters)?;
        let free_limit = limit.filter(|_| predicate.is_none());
        let columns = self.columns_read(projection, granted.is_some())?;
        let wanted = Wanted { columns, predicate, limit: free_limit, reach, session };
        let mut parts = Vec::new();
        parts.extend(self.scan_files(&wanted, self.of.lake.store().root(), files.iter())?);
        if let Some(any) = meeting.tail.sealed.first() {
            // All that a tail has sealed stands on one shelf.
            let files = meeting.tail.sealed.iter().flat_map(|sealed| sealed.files());
            parts.extend(self.scan_files(&wanted, any.store(), files)?);
        }
        // A part of a plan costs time even where it has no rows.
        if !meeting.tail.rows.is_empty() || parts.is_empty() {
            parts.push(self.scan_tail(&wanted, &meeting.tail.rows)?);
        }
        let mut inner = UnionExec::try_new(parts)?;
        if let Some(granted) = granted {
            inner = self.keep_granted(session, inner, granted, projection, limit)?;
        }
        let label = self.label(&meeting);
        Ok(Arc::new(DomainScan::new(label, inner, meeting.tail.sealed)))
    }
}

impl DomainTable {
    /// The rows that the question is about.
    pub async fn meet(&self) -> std::result::Result<Meeting, Error> {
        match self.of.version {
            Some(version) => self.table.at(version).await,
            None => self.table.meet(self.of.tail.as_deref()).await,
        }
    }

    /// What EXPLAIN may say of its scan.
    pub fn label(&self, meeting: &Meeting) -> Label {
        let tenants = match &self.of.grant {
            Grant::All => None,
            Grant::Tenants(tenants) => Some(tenants.len()),
        };
        let version = meeting.snapshot.as_ref().map(|snapshot| snapshot.version());
        Label { table: self.table.name().to_owned(), version, tenants }
    }

    /// The filter that holds whatever the SQL says.
    fn granted(&self) -> Option<Expr> {
        let Grant::Tenants(tenants) = &self.of.grant else { return None };
        let tenants = tenants.iter().map(|tenant| lit(ScalarValue::Utf8View(Some(tenant.clone()))));
        Some(col("tenant").in_list(tenants.collect(), false))
    }

    /// All filters in the order in which rows meet them while they are decoded: times first, as the rows of others are
    /// not even read then; the grant before anything of the question's that could fail for a row.
    fn predicate(
        &self,
        session: &dyn Session,
        granted: Option<&Expr>,
        filters: &[Expr],
    ) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let (times, others): (Vec<&Expr>, Vec<&Expr>) = filters.iter().partition(|filter| is_of_time(filter));
        let filters = times.into_iter().chain(granted).chain(others).cloned();
        conjunction(filters).map(|filter| self.physical(session, filter)).transpose()
    }

    fn physical(&self, session: &dyn Session, filter: Expr) -> Result<Arc<dyn PhysicalExpr>> {
        session.create_physical_expr(filter, &DFSchema::try_from(self.table.columns.clone())?)
    }

    /// The columns asked for, and `tenant` behind them where the filter needs it.
    fn columns_read(&self, projection: Option<&Vec<usize>>, filtered: bool) -> Result<Option<Vec<usize>>> {
        let Some(projection) = projection else { return Ok(None) };
        let mut columns = projection.clone();
        if filtered {
            let tenant = self.table.columns.index_of("tenant")?;
            if !columns.contains(&tenant) {
                columns.push(tenant);
            }
        }
        Ok(Some(columns))
    }

    /// Lets only rows of granted tenants through, and only the columns that were asked for.
    fn keep_granted(
        &self,
        session: &dyn Session,
        inner: Arc<dyn ExecutionPlan>,
        granted: Expr,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = DFSchema::try_from(inner.schema())?;
        let granted = session.create_physical_expr(granted, &columns)?;
        let asked = projection.map(|projection| (0..projection.len()).collect());
        let filter = FilterExecBuilder::new(granted, inner).apply_projection(asked)?;
        Ok(Arc::new(filter.with_fetch(limit).build()?))
    }

    fn scan_tail(&self, wanted: &Wanted<'_>, tail: &[RecordBatch]) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = &self.table.columns;
        let rows = tail.iter().map(|rows| layout::conform(rows, columns));
        let rows =
            rows.collect::<std::result::Result<Vec<_>, _>>().map_err(|error| external(error.into()))?;
        let source = MemorySourceConfig::try_new(&[rows], columns.clone(), wanted.columns.clone())?;
        Ok(DataSourceExec::from_data_source(source.with_limit(wanted.limit)))
    }

    /// Reads files of a store: the lake's, or sealed ones.
    fn scan_files<'a>(
        &self,
        wanted: &Wanted<'_>,
        store: Arc<dyn ObjectStore>,
        files: impl Iterator<Item = &'a DataFile>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let columns = &self.table.columns;
        let files: Vec<&DataFile> = files.collect();
        let files = match &wanted.predicate {
            Some(predicate) => prune(files, columns, predicate),
            None => files,
        };
        if files.is_empty() {
            return Ok(None);
        }
        let options = wanted.session.config_options();
        let source = self.parquet(wanted, store, wanted.reach.is_short(&files));
        let cores = match wanted.reach.is_for_one_core(&files) {
            true => 1,
            false => options.execution.target_partitions,
        };
        let pieces = match wanted.reach.is_of_one_tenant {
            true => cores * PIECES_OF_A_CORE_FOR_ONE_TENANT,
            false => cores * PIECES_OF_A_CORE,
        };
        let files = files.into_iter().map(partitioned).collect::<Result<Vec<_>>>()?;
        let scan = FileScanConfigBuilder::new(store_url(&self.of.lake)?, source)
            .with_file_groups(deal(files, cores, pieces, options))
            .with_projection_indices(wanted.columns.clone())?
            .with_limit(wanted.limit)
            .build();
        Ok(Some(DataSourceExec::from_data_source(scan)))
    }

    /// How files are read. They are sorted so that most pages are skipped; of those that are read, whole columns are
    /// decoded, as to decode what a filter lets through takes longer, unless that is little of each page.
    fn parquet(
        &self,
        wanted: &Wanted<'_>,
        store: Arc<dyn ObjectStore>,
        while_decoding: bool,
    ) -> Arc<ParquetSource> {
        let columns = TableSchema::from(self.table.columns.clone());
        let mut options = TableParquetOptions {
            global: wanted.session.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        options.global.pushdown_filters = while_decoding;
        let cache = wanted.session.runtime_env().cache_manager.get_file_metadata_cache();
        let reader = Files { store, cache };
        let source = ParquetSource::new(columns)
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(reader));
        Arc::new(match &wanted.predicate {
            Some(predicate) => source.with_predicate(predicate.clone()),
            None => source,
        })
    }
}

/// A file of the lake as the engine opens it. Files never change, so their date of change is of no use.
fn partitioned(file: &DataFile) -> Result<PartitionedFile> {
    let meta = ObjectMeta {
        location: Path::parse(&file.path).map_err(|error| DataFusionError::External(Box::new(error)))?,
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: file.size,
        e_tag: None,
        version: None,
    };
    Ok(PartitionedFile::new_from_meta(meta))
}

/// An error of ours on its way through the engine.
pub fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
