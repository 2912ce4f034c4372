//! `lag` by runs: of rows in the order of a window, the row before is the one ahead, but for the first of a partition.
//!
//! The engine (DataFusion 55) answers `lag` row by row, each value on its own, from copies of the rows of each
//! partition. Here a batch's column moves on by one row, with the last value of the batch before at its head, and is
//! null where the keys of the partition are others than those of the row ahead:
//!
//! ```text
//! BoundedWindowAggExec: lag(x) OVER (PARTITION BY k ORDER BY t)     becomes     RunLag
//!   SortExec: k, t                                                               SortExec: k, t
//! ```

use std::{fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch, new_null_array},
    compute::{
        concat,
        kernels::{boolean::or, cmp::distinct, nullif::nullif},
    },
};
use datafusion::{
    common::{DataFusionError, Result, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{PhysicalExpr, window::StandardWindowExpr},
    physical_expr_common::utils::evaluate_expressions_to_arrays,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, InputOrderMode, PlanProperties, ReplaceChildrenOptions,
        WindowExpr,
        stream::RecordBatchStreamAdapter,
        windows::{BoundedWindowAggExec, WindowUDFExpr},
    },
};
use futures::{StreamExt, future};

use super::are_compared;
use crate::rule::{ANEW, Rule};

/// Puts [`RunLag`] in the place of windows that only look one row back.
pub const LAG: Rule = Rule { name: "lag_by_runs", instead };

fn instead(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    match plan.downcast_ref::<BoundedWindowAggExec>() {
        Some(window) if can_be_by_runs(window)? => Ok(Some(Arc::new(RunLag::new(window.clone())))),
        _ => Ok(None),
    }
}

fn can_be_by_runs(window: &BoundedWindowAggExec) -> Result<bool> {
    if window.input_order_mode != InputOrderMode::Sorted {
        return Ok(false);
    }
    for lag in window.window_expr() {
        if !is_lag_by_one(lag.as_ref())? {
            return Ok(false);
        }
    }
    let [first, ..] = window.window_expr() else { return Ok(false) };
    are_compared(first.partition_by(), &window.input().schema())
}

/// Whether it is the value of the row ahead, null where there is none.
fn is_lag_by_one(window: &dyn WindowExpr) -> Result<bool> {
    let Some(window) = window.as_any().downcast_ref::<StandardWindowExpr>() else { return Ok(false) };
    let function = window.get_standard_func_expr();
    let Some(lag) = function.as_any().downcast_ref::<WindowUDFExpr>() else { return Ok(false) };
    if lag.fun().name() != "lag" || lag.args().len() > 2 {
        return Ok(false);
    }
    // The rows that it needs for the last of three say how far it looks, which way, and whether nulls count.
    Ok(function.create_evaluator()?.get_range(2, 3)? == (1..3))
}

/// Gives each row values of the row ahead of it.
#[derive(Debug)]
pub struct RunLag {
    /// What the engine would do with the rows.
    window: BoundedWindowAggExec,
}

impl RunLag {
    fn new(window: BoundedWindowAggExec) -> RunLag {
        RunLag { window }
    }
}

impl DisplayAs for RunLag {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lags = self.window.window_expr().iter().map(|lag| lag.name());
        write!(f, "RunLag: [{}]", lags.collect::<Vec<_>>().join(", "))
    }
}

impl ExecutionPlan for RunLag {
    fn name(&self) -> &str {
        "RunLag"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.window.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![self.window.input()]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.window.apply_expressions(visit)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let window = Arc::new(self.window.clone()).replace_children(children, options)?;
        match window.downcast_ref::<BoundedWindowAggExec>() {
            Some(window) => Ok(Arc::new(RunLag::new(window.clone()))),
            None => Err(DataFusionError::Internal("a window became something else".into())),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ANEW)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.window.input().execute(partition, context)?;
        let mut lag = Lag { window: self.window.clone(), ahead: None };
        let rows = rows
            .filter(|batch| future::ready(batch.as_ref().map_or(true, |batch| batch.num_rows() > 0)))
            .map(move |batch| lag.of(&batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// Goes from one batch to the next.
struct Lag {
    window: BoundedWindowAggExec,
    /// What the last row so far has: the keys of the partition, then the values.
    ahead: Option<Vec<ArrayRef>>,
}

impl Lag {
    /// The rows, and behind their columns the values of the rows ahead.
    fn of(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let keys = self.window.window_expr()[0].partition_by();
        let values = self.window.window_expr().iter().flat_map(|lag| lag.expressions());
        let all: Vec<_> = keys.iter().cloned().chain(values).collect();
        let here = evaluate_expressions_to_arrays(&all, batch)?;
        let ahead = self.moved(&here)?;
        let begins = begins(&here[..keys.len()], &ahead[..keys.len()])?;
        let mut columns = batch.columns().to_vec();
        for values in &ahead[keys.len()..] {
            columns.push(match &begins {
                Some(begins) => nullif(values, begins)?,
                None => values.clone(),
            });
        }
        self.ahead = Some(here.iter().map(|column| column.slice(column.len() - 1, 1)).collect());
        Ok(RecordBatch::try_new(self.window.schema(), columns)?)
    }

    /// Columns, each moved on by one row.
    fn moved(&self, here: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let moved = |(number, column): (usize, &ArrayRef)| {
            let ahead = match &self.ahead {
                Some(ahead) => ahead[number].clone(),
                None => new_null_array(column.data_type(), 1),
            };
            Ok(concat(&[ahead.as_ref(), column.slice(0, column.len() - 1).as_ref()])?)
        };
        here.iter().enumerate().map(moved).collect()
    }
}

/// The rows whose keys are not those of the row ahead; none where there are no keys.
fn begins(here: &[ArrayRef], ahead: &[ArrayRef]) -> Result<Option<BooleanArray>> {
    let mut begins = None;
    for (here, ahead) in here.iter().zip(ahead) {
        let differs = distinct(here, ahead)?;
        begins = Some(match begins {
            Some(begins) => or(&begins, &differs)?,
            None => differs,
        });
    }
    Ok(begins)
}

#[cfg(test)]
mod tests;
