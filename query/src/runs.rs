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
use datafusion::{common::Result, physical_expr::PhysicalExpr};

use crate::rule::Rule;

/// The rules, in the order in which they look at a plan.
pub const RULES: [Rule; 3] = [group::GROUP, sort::SORT, lag::LAG];

/// Whether values of all these can be compared by arrow's kernels.
fn are_compared(keys: &[Arc<dyn PhysicalExpr>], columns: &Schema) -> Result<bool> {
    let types = keys.iter().map(|key| key.data_type(columns));
    let types = types.collect::<Result<Vec<_>>>()?;
    Ok(types.iter().all(|key| !key.is_nested() && *key != DataType::Null))
}

#[cfg(test)]
mod tests;
