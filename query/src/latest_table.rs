//! `fleet_latest`: the newest reading of each device, as a table of its own.
//!
//! What is committed is kept in memory, one row for each device; what the tail has is looked through for each
//! question. So the answer costs as much as there are devices, however long they have been publishing.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::{SortOptions, concat_batches, filter_record_batch},
    datatypes::SchemaRef,
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::Result,
    datasource::{memory::MemorySourceConfig, source::DataSourceExec},
    logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType},
    physical_expr::{LexOrdering, PhysicalSortExpr, expressions::col},
    physical_plan::ExecutionPlan,
    scalar::ScalarValue,
};
use zeugma_lake::{
    latest::{folded, newest},
    layout,
};

use crate::{
    Error, Grant,
    catalog::{LATEST, Meeting},
    scan::{DomainScan, Label},
    table::{DomainTable, external},
};

const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: false };

/// The newest readings of a domain for one question of somebody with a grant.
#[derive(Debug)]
pub struct LatestTable {
    /// The domain.
    pub domain: DomainTable,
}

#[async_trait]
impl TableProvider for LatestTable {
    fn schema(&self) -> SchemaRef {
        self.domain.schema()
    }

    fn table_type(&self) -> TableType {
        self.domain.table_type()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| pushed_down(filter)).collect())
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let meeting = self.domain.meet().await.map_err(external)?;
        let tenants = self.tenants(filters);
        let rows = self.newest(&meeting, tenants.as_ref()).await.map_err(external)?;
        let source = MemorySourceConfig::try_new(&[vec![rows]], self.schema(), projection.cloned())?
            .try_with_sort_information(orders(&self.schema(), tenants.as_ref())?)?;
        let inner = DataSourceExec::from_data_source(source);
        let name = format!("{}{LATEST}", self.domain.table.name());
        let label = Label { table: name, ..self.domain.label(&meeting) };
        Ok(Arc::new(DomainScan::new(label, inner, Vec::new())))
    }
}

impl LatestTable {
    /// The tenants whose rows are wanted and granted; none for all of them.
    fn tenants(&self, filters: &[Expr]) -> Option<BTreeSet<String>> {
        let granted = match &self.domain.of.grant {
            Grant::All => None,
            Grant::Tenants(tenants) => Some(tenants.clone()),
        };
        filters.iter().filter_map(tenants_of).fold(granted, |tenants, wanted| match tenants {
            Some(tenants) => Some(&tenants & &wanted),
            None => Some(wanted),
        })
    }

    async fn newest(
        &self,
        meeting: &Meeting,
        tenants: Option<&BTreeSet<String>>,
    ) -> std::result::Result<RecordBatch, Error> {
        let columns = self.schema();
        let mut rows = self.committed(meeting, tenants).await?;
        for sealed in &meeting.tail.sealed {
            rows = folded(&sealed.store(), rows, sealed.files(), &columns).await?;
        }
        let in_memory = meeting.tail.rows.iter().map(|rows| layout::conform(rows, &columns));
        let rows = newest(&rows, &in_memory.collect::<std::result::Result<Vec<_>, _>>()?)?;
        match tenants {
            Some(tenants) => of_tenants(&rows, tenants),
            None => Ok(rows),
        }
    }

    async fn committed(
        &self,
        meeting: &Meeting,
        tenants: Option<&BTreeSet<String>>,
    ) -> std::result::Result<RecordBatch, Error> {
        let columns = self.schema();
        let Some(snapshot) = &meeting.snapshot else { return Ok(RecordBatch::new_empty(columns)) };
        let latest = match self.domain.of.version {
            Some(_) => self.domain.table.latest_at(snapshot).await?,
            None => self.domain.table.latest(snapshot).await?,
        };
        let Some(tenants) = tenants else { return Ok(latest.rows().clone()) };
        let rows = tenants.iter().map(|tenant| latest.of_tenant(tenant));
        Ok(concat_batches(&columns, &rows.collect::<std::result::Result<Vec<_>, _>>()?)?)
    }
}

/// Whether the rows of a scan need this filter once more.
fn pushed_down(filter: &Expr) -> TableProviderFilterPushDown {
    match (filter, tenants_of(filter)) {
        // Nothing else becomes of it before it comes to the scan; a list may become a chain of them.
        (Expr::BinaryExpr(_), Some(_)) => TableProviderFilterPushDown::Exact,
        _ => TableProviderFilterPushDown::Inexact,
    }
}

/// How the rows of these tenants are sorted.
fn orders(columns: &SchemaRef, tenants: Option<&BTreeSet<String>>) -> Result<Vec<LexOrdering>> {
    let [tenant, device] = [col("tenant", columns)?, col("device", columns)?]
        .map(|column| PhysicalSortExpr::new(column, ASCENDING));
    let of_one = tenants.is_some_and(|tenants| tenants.len() == 1).then(|| vec![device.clone()]);
    let orders = [Some(vec![tenant, device]), of_one];
    Ok(orders.into_iter().flatten().filter_map(LexOrdering::new).collect())
}

/// The tenants that a filter lets through, where it is about nothing else: `tenant = 'a'`, `tenant IN (…)`.
fn tenants_of(filter: &Expr) -> Option<BTreeSet<String>> {
    let is_tenant = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == "tenant");
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_tenant(left) => {
            Some(BTreeSet::from([text(right)?]))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_tenant(right) => {
            Some(BTreeSet::from([text(left)?]))
        }
        Expr::InList(list) if !list.negated && is_tenant(&list.expr) => list.list.iter().map(text).collect(),
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) => ScalarValue::try_as_str(value).flatten().map(str::to_owned),
        _ => None,
    }
}

fn of_tenants(rows: &RecordBatch, tenants: &BTreeSet<String>) -> std::result::Result<RecordBatch, Error> {
    let column = rows.column_by_name("tenant").and_then(|column| column.as_string_view_opt());
    let column = column.ok_or_else(|| Error::Internal("rows without tenants".into()))?;
    let kept: BooleanArray =
        column.iter().map(|tenant| tenant.map(|tenant| tenants.contains(tenant))).collect();
    Ok(filter_record_batch(rows, &kept)?)
}
