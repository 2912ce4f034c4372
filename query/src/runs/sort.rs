//! Sorting by runs: pieces that are in order already are put in order as pieces, before the engine sorts the rows.
//!
//! The engine (DataFusion 55) compares rows, 15 to 20 times each, and sees at once where all are in order. So some of
//! its input is gathered, cut into pieces of one device whose times rise, and these are merged; as the days of a device
//! follow one another, that mostly is to find out which piece is next. As the engine sorts in any case, nothing here
//! has to be right, only quick.

use std::{cmp::Ordering, collections::BinaryHeap, fmt, ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, UInt32Array},
    compute::{
        LexicographicalComparator, SortColumn, concat, concat_batches,
        kernels::{
            boolean::or,
            cmp::{distinct, gt, lt},
        },
        take_record_batch,
    },
};
use datafusion::{
    common::{DataFusionError, Result, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{LexOrdering, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        ReplaceChildrenOptions, sorts::sort::SortExec, stream::RecordBatchStreamAdapter,
    },
};
use futures::{TryStreamExt, stream};

use super::are_compared;
use crate::rule::{ANEW, Rule};

/// Bytes that are gathered before they are laid out, which takes twice as much again, for each part of a plan.
const GATHERED_BYTES_MAX: usize = 4 << 20;

/// Rows that a run has on average, for it to be worth while: with fewer the engine is about as quick with the rows.
const RUN_ROWS_MIN: usize = 16;

/// Puts [`RunSort`] before the engine's sorting.
pub const SORT: Rule = Rule { name: "sort_by_runs", instead };

fn instead(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    match plan.downcast_ref::<SortExec>() {
        Some(sort) if can_be_by_runs(sort)? => {
            let runs = Arc::new(RunSort::new(sort.expr().clone(), sort.input().clone()));
            plan.clone().replace_children(vec![runs], ANEW).map(Some)
        }
        _ => Ok(None),
    }
}

fn can_be_by_runs(sort: &SortExec) -> Result<bool> {
    let keys: Vec<_> = sort.expr().iter().map(|key| key.expr.clone()).collect();
    Ok(sort.fetch().is_none() && are_compared(&keys, &sort.input().schema())?)
}

/// Lays out rows by runs of an order.
#[derive(Debug)]
pub struct RunSort {
    order: LexOrdering,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl RunSort {
    fn new(order: LexOrdering, input: Arc<dyn ExecutionPlan>) -> RunSort {
        let mut known = input.equivalence_properties().clone();
        known.clear_orderings();
        let partitioning = input.output_partitioning().clone();
        let properties =
            PlanProperties::new(known, partitioning, input.pipeline_behavior(), input.boundedness());
        RunSort { order, input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for RunSort {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunSort: expr=[{}]", self.order)
    }
}

impl ExecutionPlan for RunSort {
    fn name(&self) -> &str {
        "RunSort"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.order.iter().try_fold(TreeNodeRecursion::Continue, |_, key| visit(&key.expr))
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| self.input.clone());
        Ok(Arc::new(RunSort::new(self.order.clone(), input)))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ANEW)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (input, order) = (self.input.execute(partition, context)?, self.order.clone());
        let laid_out = stream::try_unfold(input, move |mut input| {
            let order = order.clone();
            async move {
                let gathered = gather(&mut input).await?;
                let more = if gathered.is_empty() { None } else { Some((lay_out(gathered, &order)?, input)) };
                Ok::<_, DataFusionError>(more)
            }
        });
        let batches = laid_out.map_ok(|batches| stream::iter(batches.into_iter().map(Ok))).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

async fn gather(input: &mut SendableRecordBatchStream) -> Result<Vec<RecordBatch>> {
    let (mut gathered, mut bytes) = (Vec::new(), 0);
    while bytes < GATHERED_BYTES_MAX {
        let Some(batch) = input.try_next().await? else { break };
        if batch.num_rows() > 0 {
            bytes += batch.get_array_memory_size();
            gathered.push(batch);
        }
    }
    Ok(gathered)
}

/// The same rows, in one batch and in order where that takes few pieces.
fn lay_out(batches: Vec<RecordBatch>, order: &LexOrdering) -> Result<Vec<RecordBatch>> {
    let keys = order.iter().map(|key| values(&key.expr, &batches)).collect::<Result<Vec<_>>>()?;
    let (starts, rows) = (starts(&keys, order)?, batches.iter().map(RecordBatch::num_rows).sum());
    if starts.len() == 1 || starts.len() * RUN_ROWS_MIN > rows {
        return Ok(batches);
    }
    let keys = keys.into_iter().zip(order.iter());
    let keys = keys.map(|(values, key)| SortColumn { values, options: Some(key.options) });
    let compared = LexicographicalComparator::try_new(&keys.collect::<Vec<_>>())?;
    let Some(order) = merge(&starts, rows, &compared) else { return Ok(batches) };
    let rows = concat_batches(batches[0].schema_ref(), &batches)?;
    Ok(vec![take_record_batch(&rows, &UInt32Array::from(order))?])
}

/// What an expression is in all rows.
fn values(of: &Arc<dyn PhysicalExpr>, batches: &[RecordBatch]) -> Result<ArrayRef> {
    let parts = batches.iter().map(|batch| of.evaluate(batch)?.into_array(batch.num_rows()));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    Ok(concat(&parts.iter().map(|part| part.as_ref()).collect::<Vec<_>>())?)
}

/// The numbers of all rows in order, given where runs begin; none where it takes many pieces.
fn merge(starts: &[usize], rows: usize, compared: &LexicographicalComparator) -> Option<Vec<u32>> {
    let ends = starts.iter().skip(1).copied().chain([rows]);
    let runs = starts.iter().zip(ends).map(|(start, end)| Run { rows: *start..end, compared });
    let (mut runs, mut pieces) = (runs.collect::<BinaryHeap<_>>(), 0);
    let mut order = Vec::with_capacity(rows);
    while let Some(Run { rows: run, .. }) = runs.pop() {
        // All of it that comes before the next run, mostly the whole.
        let is_before = |row: usize, next: usize| compared.compare(row, next) != Ordering::Greater;
        let end = match runs.peek() {
            Some(next) if !is_before(run.end - 1, next.rows.start) => {
                let (mut low, mut high) = (run.start + 1, run.end - 1);
                while low < high {
                    let middle = low + (high - low) / 2;
                    if is_before(middle, next.rows.start) { low = middle + 1 } else { high = middle }
                }
                low
            }
            _ => run.end,
        };
        order.extend(run.start as u32..end as u32);
        if end < run.end {
            runs.push(Run { rows: end..run.end, compared });
        }
        pieces += 1;
        if pieces * RUN_ROWS_MIN > rows {
            return None;
        }
    }
    Some(order)
}

/// Rows that are in order; the greatest is the one that comes first.
struct Run<'a> {
    rows: Range<usize>,
    compared: &'a LexicographicalComparator,
}

impl Ord for Run<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compared.compare(other.rows.start, self.rows.start)
    }
}

impl PartialOrd for Run<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Run<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Run<'_> {}

/// Where runs begin: at the first row, where an earlier key changes, and where the last comes before the one ahead.
fn starts(keys: &[ArrayRef], order: &LexOrdering) -> Result<Vec<usize>> {
    let (Some((last, earlier)), Some(key)) = (keys.split_last(), order.last()) else { return Ok(vec![0]) };
    let shifted = |key: &ArrayRef| (key.slice(0, key.len() - 1), key.slice(1, key.len() - 1));
    let (ahead, row) = shifted(last);
    let mut begins = if key.options.descending { gt(&row, &ahead)? } else { lt(&row, &ahead)? };
    for key in earlier {
        let (ahead, row) = shifted(key);
        begins = or(&begins, &distinct(&row, &ahead)?)?;
    }
    let begins = begins.values().set_indices().map(|row| row + 1);
    Ok([0].into_iter().chain(begins).collect())
}

#[cfg(test)]
mod tests;
