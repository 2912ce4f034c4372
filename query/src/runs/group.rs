//! Grouping by runs: rows that lie one after the other and have the same keys become one before anything is looked up.
//!
//! The files are sorted by tenant, date, device and time, so where a question groups by what they are sorted by, many
//! rows in a row belong to one group, and the engine (DataFusion 55) hashes and compares the keys of each. Here the
//! rows of a run are folded into states of its aggregates, as the engine's first stage would have made for a group;
//! a group that has several runs has several states, which the engine's last stage puts together anyway:
//!
//! ```text
//! AggregateExec: mode=FinalPartitioned              AggregateExec: mode=FinalPartitioned
//!   RepartitionExec                                   RepartitionExec
//!     AggregateExec: mode=Partial       becomes         RunAggregate
//!       input                                             input
//! ```
//!
//! Where the first rows have no runs, the engine aggregates all of them as it would have. A filter below is part of it
//! ([`sieve`](super::sieve)): most rows that it lets through are not copied out of their columns first.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array},
    compute::{concat, not, nullif, partition, take},
    datatypes::SchemaRef,
};
use datafusion::{
    common::{DataFusionError, Result, ScalarValue, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::{
        PhysicalExpr,
        aggregate::AggregateFunctionExpr,
        expressions::{Column, Literal},
    },
    physical_expr_common::utils::evaluate_expressions_to_arrays,
    physical_plan::{
        DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan, ExecutionPlanProperties,
        PlanProperties, ReplaceChildrenOptions,
        aggregates::{AggregateExec, AggregateMode, aggregate_expressions, evaluate_group_by},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput},
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use futures::{StreamExt, TryStreamExt, future, stream, stream::BoxStream};

use super::sieve::{Sieve, Sifted};
use crate::rule::{ANEW, Rule};

/// Rows that a run has on average, for it to be worth while: with fewer the engine groups about as quickly by itself.
const RUN_ROWS_MIN: usize = 4;

/// Rows that the runs of a batch have on average, for each to be aggregated as one piece: the engine's aggregates of
/// whole columns are quicker than those that look at the group of each row, once they make up for a state a run.
const LONG_RUN_ROWS_MIN: usize = 1_024;

/// Runs that are handed on at once, where there are as many: a batch of the engine's usual size, and at most as many
/// more as a batch has rows.
const RUNS_AT_ONCE: usize = 8_192;

/// Bytes of states that are handed on before there are as many runs: a median, for one, keeps all values.
const STATES_BYTES_MAX: usize = 4 << 20;

/// Puts [`RunAggregate`] in the place of the engine's first stage.
pub const GROUP: Rule = Rule { name: "group_by_runs", instead };

fn instead(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let rows = plan.downcast_ref::<AggregateExec>().filter(|rows| can_be_by_runs(rows));
    Ok(rows.map(|rows| Arc::new(RunAggregate::new(rows.clone())) as _))
}

fn can_be_by_runs(rows: &AggregateExec) -> bool {
    *rows.mode() == AggregateMode::Partial
        && rows.group_expr().is_single()
        && !rows.group_expr().is_true_no_grouping()
        && rows.limit_options().is_none()
        && rows.dynamic_expressions_produced().is_empty()
        && rows.aggr_expr().iter().all(|aggregate| aggregate.groups_accumulator_supported())
}

/// Folds the rows of each run into states of aggregates.
#[derive(Debug)]
pub struct RunAggregate {
    /// What the engine would do with the rows.
    rows: Arc<AggregateExec>,
    /// Which rows these are.
    sieve: Sieve,
    metrics: ExecutionPlanMetricsSet,
}

impl RunAggregate {
    fn new(rows: AggregateExec) -> RunAggregate {
        let sieve =
            if is_safe_for_any_row(&rows) { Sieve::of(rows.input()) } else { Sieve::none(rows.input()) };
        RunAggregate { rows: Arc::new(rows), sieve, metrics: ExecutionPlanMetricsSet::new() }
    }
}

/// Whether keys and arguments can be had of rows, too, that a filter does not let through: computing one may fail.
fn is_safe_for_any_row(rows: &AggregateExec) -> bool {
    let is_safe = |value: &Arc<dyn PhysicalExpr>| value.is::<Column>() || value.is::<Literal>();
    let keys = rows.group_expr().expr().iter().map(|(key, _)| key);
    let arguments = aggregate_expressions(rows.aggr_expr(), rows.mode(), 0).unwrap_or_default();
    rows.filter_expr().iter().all(Option::is_none) && keys.chain(arguments.iter().flatten()).all(is_safe)
}

impl DisplayAs for RunAggregate {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.rows.group_expr().expr().iter().map(|(_, name)| name.as_str());
        write!(f, "RunAggregate: gby=[{}]{}", keys.collect::<Vec<_>>().join(", "), self.sieve)
    }
}

impl ExecutionPlan for RunAggregate {
    fn name(&self) -> &str {
        "RunAggregate"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        // The same keys in the same order, only more often.
        self.rows.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![self.sieve.input()]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.rows.apply_expressions(visit)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = self.sieve.over(children, options)?;
        let rows = self.rows.clone().replace_children(vec![input], options)?;
        match rows.downcast_ref::<AggregateExec>() {
            Some(rows) => Ok(Arc::new(RunAggregate::new(rows.clone()))),
            None => Err(DataFusionError::Internal("an aggregate became something else".into())),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ANEW)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.sieve.input().execute(partition, context.clone())?;
        let sieve = self.sieve.clone();
        let input = input.and_then(move |batch| future::ready(sieve.sift(batch)));
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let states = aggregate(self.rows.clone(), Box::pin(input), context, metrics);
        let states = stream::once(states).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), states)))
    }
}

/// States of the rows of a stream: by runs, where its first rows have some.
async fn aggregate(
    rows: Arc<AggregateExec>,
    input: BoxStream<'static, Result<Sifted>>,
    context: Arc<TaskContext>,
    metrics: BaselineMetrics,
) -> Result<SendableRecordBatchStream> {
    let states = rows.schema();
    let mut input = input.try_filter(|sifted| future::ready(sifted.batch.num_rows() > 0));
    let Some(first) = input.try_next().await? else {
        return Ok(Box::pin(EmptyRecordBatchStream::new(states)));
    };
    let runs = partition(&keys(&rows, &first.batch)?)?.len();
    let is_worthwhile = runs * RUN_ROWS_MIN <= first.batch.num_rows();
    let input = stream::iter([Ok(first)]).chain(input);
    if !is_worthwhile {
        let wanted = input.and_then(|sifted| future::ready(sifted.wanted()));
        let wanted = RecordBatchStreamAdapter::new(rows.input().schema(), wanted);
        return by_engine(rows, Box::pin(wanted), context);
    }
    let folding = (Folding::new(rows)?, Box::pin(input.fuse()));
    let folded = stream::try_unfold(folding, move |(mut folding, mut input)| {
        let metrics = metrics.clone();
        async move {
            while folding.runs < RUNS_AT_ONCE && folding.bytes() < STATES_BYTES_MAX {
                let Some(sifted) = input.try_next().await? else { break };
                let _timer = metrics.elapsed_compute().timer();
                folding.fold(&sifted)?;
            }
            let states = folding.states()?.map(|states| states.record_output(&metrics));
            Ok::<_, DataFusionError>(states.map(|states| (states, (folding, input))))
        }
    });
    Ok(Box::pin(RecordBatchStreamAdapter::new(states, folded)))
}

/// What the engine makes of rows.
fn by_engine(
    rows: Arc<AggregateExec>,
    input: SendableRecordBatchStream,
    context: Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let columns = input.schema();
    let rest = Arc::new(Rest { columns: columns.clone(), rows: Mutex::new(Some(input)) });
    let order = rows.input().output_ordering().cloned();
    let rest = StreamingTableExec::try_new(columns, vec![rest], None, order, false, None)?;
    rows.replace_children(vec![Arc::new(rest)], ANEW)?.execute(0, context)
}

/// A stream as the engine wants to have it; it is taken once.
struct Rest {
    columns: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

impl PartitionStream for Rest {
    fn schema(&self) -> &SchemaRef {
        &self.columns
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).take();
        rows.unwrap_or_else(|| Box::pin(EmptyRecordBatchStream::new(self.columns.clone())))
    }
}

fn keys(rows: &AggregateExec, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    // One set of keys: there are no grouping sets.
    Ok(evaluate_group_by(rows.group_expr(), batch)?.pop().unwrap_or_default())
}

/// Folds one batch after the other.
struct Folding {
    rows: Arc<AggregateExec>,
    /// Arguments of each aggregate.
    arguments: Vec<Vec<Arc<dyn PhysicalExpr>>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// How many runs they have.
    runs: usize,
    /// The keys of these, by batch.
    keys: Vec<Vec<ArrayRef>>,
    /// The number of its run, for each row of a batch.
    run_of_row: Vec<usize>,
}

impl Folding {
    fn new(rows: Arc<AggregateExec>) -> Result<Folding> {
        let accumulators = rows.aggr_expr().iter().map(|aggregate| aggregate.create_groups_accumulator());
        let accumulators = accumulators.collect::<Result<_>>()?;
        let arguments = aggregate_expressions(rows.aggr_expr(), rows.mode(), 0)?;
        let (keys, run_of_row) = (Vec::new(), Vec::new());
        Ok(Folding { rows, arguments, accumulators, runs: 0, keys, run_of_row })
    }

    /// Takes up the runs of some rows.
    fn fold(&mut self, Sifted { batch, wanted }: &Sifted) -> Result<()> {
        let keys = keys(&self.rows, batch)?;
        let mut runs = partition(&keys)?.ranges();
        // A group of which no row is wanted is none.
        runs.retain(|rows| wanted.as_ref().is_none_or(|wanted| has_any(wanted, rows)));
        let Some(last) = runs.last_mut() else { return Ok(()) };
        // Of the rows between those that are left, and behind them, none is wanted: they may count as of any.
        last.end = batch.num_rows();
        let first_rows = UInt32Array::from_iter_values(runs.iter().map(|rows| rows.start as u32));
        self.keys.push(keys.iter().map(|key| take(key, &first_rows, None)).collect::<Result<_, _>>()?);
        let (first_run, are_long) = (self.runs, runs.len() * LONG_RUN_ROWS_MIN <= batch.num_rows());
        let unwanted = wanted.as_ref().map(not).transpose()?;
        self.runs += runs.len();
        self.run_of_row.clear();
        for (number, accumulator) in self.accumulators.iter_mut().enumerate() {
            let (aggregate, filter) = (&self.rows.aggr_expr()[number], &self.rows.filter_expr()[number]);
            let arguments = evaluate_expressions_to_arrays(&self.arguments[number], batch)?;
            if are_long && filter.is_none() && is_by_run(aggregate) {
                let values = arguments.iter().map(|argument| match &unwanted {
                    Some(unwanted) => nullif(argument, unwanted),
                    None => Ok(argument.clone()),
                });
                let values = values.collect::<Result<Vec<_>, _>>()?;
                if have_values(&values, &runs) {
                    let numbers: Vec<usize> = (first_run..self.runs).collect();
                    accumulator.merge_batch(&states_of(aggregate, &values, &runs)?, &numbers, self.runs)?;
                    continue;
                }
            }
            if self.run_of_row.is_empty() {
                for (run, rows) in runs.iter().enumerate() {
                    self.run_of_row.resize(rows.end, first_run + run);
                }
            }
            let filter = filter.as_ref().map(|filter| filter.evaluate(batch)?.into_array(batch.num_rows()));
            let filter = filter.transpose()?;
            // Where an aggregate has a filter of its own, rows were taken out before.
            let filter = filter.as_ref().map(|filter| filter.as_boolean()).or(wanted.as_ref());
            accumulator.update_batch(&arguments, &self.run_of_row, filter, self.runs)?;
        }
        Ok(())
    }

    /// What the states take.
    fn bytes(&self) -> usize {
        self.accumulators.iter().map(|accumulator| accumulator.size()).sum()
    }

    /// A row for each run so far, its keys and the states of its aggregates; begins anew.
    fn states(&mut self) -> Result<Option<RecordBatch>> {
        if self.runs == 0 {
            return Ok(None);
        }
        let of_key = |key: usize| {
            let parts: Vec<&dyn Array> = self.keys.iter().map(|keys| keys[key].as_ref()).collect();
            concat(&parts)
        };
        let keys = (0..self.keys[0].len()).map(of_key);
        let mut columns = keys.collect::<Result<Vec<_>, _>>()?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        (self.runs, self.keys) = (0, Vec::new());
        Ok(Some(RecordBatch::try_new(self.rows.schema(), columns)?))
    }
}

/// Whether any of these rows is wanted.
fn has_any(wanted: &BooleanArray, rows: &Range<usize>) -> bool {
    wanted.values().slice(rows.start, rows.len()).count_set_bits() > 0
}

/// Whether an aggregate of each run as a whole has the state that it has row by row, where each has a value. The engine
/// does not promise it: that of a mean of nothing, for one, is another.
fn is_by_run(aggregate: &AggregateFunctionExpr) -> bool {
    ["avg", "count", "max", "min", "sum"].contains(&aggregate.fun().name()) && !aggregate.is_distinct()
}

/// Whether the argument has a value in each run.
fn have_values(arguments: &[ArrayRef], runs: &[Range<usize>]) -> bool {
    let [argument] = arguments else { return false };
    runs.iter().all(|rows| argument.slice(rows.start, rows.len()).null_count() < rows.len())
}

/// The states of an aggregate of some runs.
fn states_of(
    aggregate: &AggregateFunctionExpr,
    arguments: &[ArrayRef],
    runs: &[Range<usize>],
) -> Result<Vec<ArrayRef>> {
    let state_of = |rows: &Range<usize>| {
        let mut accumulator = aggregate.create_accumulator()?;
        let arguments = arguments.iter().map(|argument| argument.slice(rows.start, rows.len()));
        accumulator.update_batch(&arguments.collect::<Vec<_>>())?;
        accumulator.state()
    };
    let states = runs.iter().map(state_of).collect::<Result<Vec<_>>>()?;
    let field = |at: usize| ScalarValue::iter_to_array(states.iter().map(|state| state[at].clone()));
    (0..states[0].len()).map(field).collect()
}

#[cfg(test)]
mod tests;
