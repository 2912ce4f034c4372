//! A sieve: the filter below an operator that can say of its rows which are wanted, in place of having them cut out.
//!
//! The engine (DataFusion 55) copies what a filter lets through out of all columns. Where that is most rows, and they are
//! only added up, the copying is what takes the time.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch},
    compute::{filter_record_batch, prep_null_mask_filter},
};
use datafusion::{
    common::Result,
    physical_plan::{ExecutionPlan, ReplaceChildrenOptions, filter::FilterExec},
};

/// Where a filter lets through less than one row in so many, copying them is less work than to go over all.
const CUT_OUT_BELOW: usize = 2;

/// What is below an operator: rows, or a filter and its rows.
#[derive(Debug, Clone)]
pub struct Sieve {
    /// Without its filter.
    input: Arc<dyn ExecutionPlan>,
    filter: Option<Arc<FilterExec>>,
}

/// Rows, and which of them are wanted.
#[derive(Debug)]
pub struct Sifted {
    /// With the columns that the filter hands on.
    pub batch: RecordBatch,
    /// A true for each row that is wanted, and no nulls; none for all.
    pub wanted: Option<BooleanArray>,
}

impl Sieve {
    /// Of a node, which may be a filter.
    pub fn of(node: &Arc<dyn ExecutionPlan>) -> Sieve {
        match node.downcast_ref::<FilterExec>().filter(|filter| filter.fetch().is_none()) {
            Some(filter) => Sieve { input: filter.input().clone(), filter: Some(Arc::new(filter.clone())) },
            None => Sieve::none(node),
        }
    }

    /// Which lets every row of a node through.
    pub fn none(node: &Arc<dyn ExecutionPlan>) -> Sieve {
        Sieve { input: node.clone(), filter: None }
    }

    /// Where the rows come from.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// The same filter, as a node, over other rows; these themselves where there is none.
    pub fn over(
        &self,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match &self.filter {
            Some(filter) => filter.clone().replace_children(children, options),
            None => Ok(children.swap_remove(0)),
        }
    }

    /// Looks at the rows of a batch.
    pub fn sift(&self, batch: RecordBatch) -> Result<Sifted> {
        let Some(filter) = &self.filter else { return Ok(Sifted { batch, wanted: None }) };
        let wanted = filter.predicate().evaluate(&batch)?.into_array(batch.num_rows())?;
        let wanted = match wanted.as_boolean() {
            wanted if wanted.null_count() > 0 => prep_null_mask_filter(wanted),
            wanted => wanted.clone(),
        };
        let batch = match filter.projection() {
            Some(columns) => batch.project(columns)?,
            None => batch,
        };
        let wanted_rows = wanted.true_count();
        if wanted_rows == batch.num_rows() {
            return Ok(Sifted { batch, wanted: None });
        }
        let sifted = Sifted { batch, wanted: Some(wanted) };
        if wanted_rows * CUT_OUT_BELOW < sifted.batch.num_rows() {
            return Ok(Sifted { batch: sifted.wanted()?, wanted: None });
        }
        Ok(sifted)
    }
}

impl Sifted {
    /// The wanted rows alone.
    pub fn wanted(self) -> Result<RecordBatch> {
        match self.wanted {
            Some(wanted) => Ok(filter_record_batch(&self.batch, &wanted)?),
            None => Ok(self.batch),
        }
    }
}

/// As a part of a line of a plan.
impl fmt::Display for Sieve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.filter {
            Some(filter) => write!(f, ", filter=[{}]", filter.predicate()),
            None => Ok(()),
        }
    }
}
