//! The left side of a join without equal keys, which the engine executes again where its rows do not fit into memory.
//!
//! The engine (DataFusion 55) keeps these rows in memory, and where they become too many begins once more and puts
//! them on the disk. But a plan that was executed has given some of its rows away, so it is made anew for that. Of a
//! join that also answers rows without a partner the second way has wrong rows (apache/datafusion#22641 and #24745), so
//! there is none.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use datafusion::{
    common::{DataFusionError, JoinType, Result, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
        execution_plan::reset_plan_states, joins::NestedLoopJoinExec,
    },
};

use crate::rule::{ALIKE, ANEW, Rule};

/// Puts a [`LeftSide`] into each join without equal keys.
pub const LEFT_SIDES: Rule = Rule { name: "left_sides", instead };

fn instead(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() else { return Ok(None) };
    let left = LeftSide::of(join.left().clone(), *join.join_type() == JoinType::Inner);
    plan.clone().replace_children(vec![Arc::new(left), join.right().clone()], ALIKE).map(Some)
}

/// Rows that are executed once, and again where the join may go to the disk.
struct LeftSide {
    input: Arc<dyn ExecutionPlan>,
    may_go_to_disk: bool,
    was_executed: AtomicBool,
}

impl LeftSide {
    fn of(input: Arc<dyn ExecutionPlan>, may_go_to_disk: bool) -> LeftSide {
        LeftSide { input, may_go_to_disk, was_executed: AtomicBool::new(false) }
    }
}

impl fmt::Debug for LeftSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeftSide").field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for LeftSide {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeftSide: may_go_to_disk={}", self.may_go_to_disk)
    }
}

impl ExecutionPlan for LeftSide {
    fn name(&self) -> &str {
        "LeftSide"
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
        Ok(Arc::new(LeftSide::of(children.swap_remove(0), self.may_go_to_disk)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ANEW)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if !self.was_executed.swap(true, Ordering::Relaxed) {
            return self.input.execute(partition, context);
        }
        if !self.may_go_to_disk {
            return Err(DataFusionError::ResourcesExhausted(
                "an outer join, EXISTS or NOT EXISTS without `=` keeps all rows of one side; \
                 compare columns with `=`, or ask for fewer rows"
                    .into(),
            ));
        }
        reset_plan_states(self.input.clone())?.execute(partition, context)
    }
}
