//! The scan of a domain: one leaf of the plan, which shows nothing of what lies below it.
//!
//! Files, tail and the filter on tenants are plans of their own inside. The engine cannot look in, so it
//! can neither move the filter nor count rows past it, and EXPLAIN shows no paths and no numbers of others. It is told
//! how rows are sorted, and no more.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{Result, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
        ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType, reset_plan_states},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::StreamExt;
use zeugma_lake::Sealed;

/// What EXPLAIN may say about a scan.
#[derive(Debug, Clone)]
pub struct Label {
    /// The table.
    pub table: String,
    /// Version of its snapshot; none where nothing was ever committed.
    pub version: Option<u64>,
    /// How many tenants are granted; none for all.
    pub tenants: Option<usize>,
}

/// A scan of a domain.
pub struct DomainScan {
    label: Label,
    inner: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    /// Held, so that their files stay as long as somebody reads.
    sealed: Vec<Arc<Sealed>>,
}

impl DomainScan {
    /// Hides a plan, which may read sealed files, behind a label.
    pub fn new(label: Label, inner: Arc<dyn ExecutionPlan>, sealed: Vec<Arc<Sealed>>) -> DomainScan {
        let partitions = inner.output_partitioning().partition_count();
        let orders = inner.equivalence_properties().oeq_class().iter().cloned();
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(inner.schema(), orders),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        DomainScan { label, inner, properties: Arc::new(properties), sealed }
    }
}

impl fmt::Debug for DomainScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainScan").field("label", &self.label).finish_non_exhaustive()
    }
}

impl DisplayAs for DomainScan {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Label { table, version, tenants } = &self.label;
        write!(f, "DomainScan: table={table}")?;
        version.map_or(Ok(()), |version| write!(f, ", version={version}"))?;
        match tenants {
            Some(tenants) => write!(f, ", tenants={tenants}"),
            None => write!(f, ", tenants=all"),
        }
    }
}

impl ExecutionPlan for DomainScan {
    fn name(&self) -> &str {
        "DomainScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        // Its files are dealt to cores as it is executed, once: for the next step of a recursion they are dealt again.
        let inner = reset_plan_states(self.inner.clone())?;
        Ok(Arc::new(DomainScan::new(self.label.clone(), inner, self.sealed.clone())))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.inner.execute(partition, context)?;
        let (columns, sealed) = (rows.schema(), self.sealed.clone());
        let rows = rows.inspect(move |_| {
            let _held = &sealed;
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(columns, rows)))
    }
}
