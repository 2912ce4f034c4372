//! Runs: rows in a row that belong together, which the engine does not know of.
//!
//! The files are sorted by tenant, date, device and time. So rows of one group lie one after the other, and rows that
//! are wanted in an order by device and time come in pieces that have it. Two rules of the plan make use of that; each
//! looks at the rows themselves, and leaves them to the engine where they have no runs. A third one goes from row to
//! row where they are in order.

mod group;
mod lag;
mod sieve;
mod sort;

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::{
    common::{
        Result,
        config::ConfigOptions,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    physical_expr::PhysicalExpr,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{ExecutionPlan, ReplaceChildrenOptions, execution_plan::ChildrenPropertiesMode},
};

/// The rules, in the order in which they look at a plan.
pub const RULES: [ByRuns; 3] = [group::GROUP, sort::SORT, lag::LAG];

/// What stands in the place of a node; none to leave it.
type Instead = fn(&Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>>;

/// A rule of the plan that puts something else in the place of some nodes.
#[derive(Debug, Clone, Copy)]
pub struct ByRuns {
    name: &'static str,
    instead: Instead,
}

impl PhysicalOptimizerRule for ByRuns {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let instead = |plan: Arc<dyn ExecutionPlan>| match (self.instead)(&plan)? {
            Some(other) => Ok(Transformed::yes(other)),
            None => Ok(Transformed::no(plan)),
        };
        plan.transform_up(instead).data()
    }

    fn name(&self) -> &str {
        self.name
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A node with other children is planned anew.
const ANEW: ReplaceChildrenOptions = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);

/// Whether values of all these can be compared by arrow's kernels.
fn are_compared(keys: &[Arc<dyn PhysicalExpr>], columns: &Schema) -> Result<bool> {
    let types = keys.iter().map(|key| key.data_type(columns));
    let types = types.collect::<Result<Vec<_>>>()?;
    Ok(types.iter().all(|key| !key.is_nested() && *key != DataType::Null))
}

#[cfg(test)]
mod tests;
