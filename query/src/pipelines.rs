//! Pipelines: what a plan computes in one go, between one exchange of rows and the next, moves as one.
//!
//! The engine takes rows over from one task to another where it spreads them or brings them together. What lies
//! between is a pipeline; each is asked for its rows through a node that can take it elsewhere in the middle of its
//! work. It would not be enough to move scans: what groups and sorts their rows would go on in everybody's way.
//!
//! ```text
//!                                    Pipeline
//! SortPreservingMergeExec              SortPreservingMergeExec
//!   SortExec                             Pipeline
//!     RepartitionExec       becomes        SortExec
//!       RunAggregate                         RepartitionExec
//!         DomainScan                           Pipeline
//!                                                RunAggregate
//!                                                  DomainScan
//! ```
//!
//! What stays is the exchange itself, which finds out for each row where it goes.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{
        Result,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
        execution_plan::EvaluationType, stream::RecordBatchStreamAdapter,
    },
};

use crate::{
    effort::Effort,
    rule::{ALIKE, ANEW},
};

/// The same plan, whose pipelines go elsewhere when their question has become long.
pub fn movable(plan: Arc<dyn ExecutionPlan>, effort: &Arc<Effort>) -> Result<Arc<dyn ExecutionPlan>> {
    let pipeline = |input: Arc<dyn ExecutionPlan>| -> Arc<dyn ExecutionPlan> {
        Arc::new(Pipeline { input, effort: effort.clone() })
    };
    let below = |plan: Arc<dyn ExecutionPlan>| {
        if plan.properties().evaluation_type != EvaluationType::Eager {
            return Ok(Transformed::no(plan));
        }
        let inputs = plan.children().into_iter().map(|input| pipeline(input.clone())).collect();
        Ok(Transformed::yes(plan.replace_children(inputs, ALIKE)?))
    };
    Ok(pipeline(plan.transform_up(below).data()?))
}

/// The end of a pipeline.
struct Pipeline {
    input: Arc<dyn ExecutionPlan>,
    effort: Arc<Effort>,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for Pipeline {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipeline")
    }
}

impl ExecutionPlan for Pipeline {
    fn name(&self) -> &str {
        "Pipeline"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| self.input.clone());
        Ok(Arc::new(Pipeline { input, effort: self.effort.clone() }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ANEW)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let columns = rows.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(columns, self.effort.clone().spent_on(rows))))
    }
}

#[cfg(test)]
mod tests;
