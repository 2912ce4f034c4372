//! Runs: rows in a row that belong together, which the engine does not know of.
//!
//! The files are sorted by tenant, date, device and time. So rows of one group lie one after the other, and rows that
//! are wanted in an order by device and time come in pieces that have it. Two rules of the plan make use of that; each
//! looks at the rows themselves, and leaves them to the engine where they have no runs.

mod group;
mod sort;

pub use group::GroupByRuns;
pub use sort::SortByRuns;

use datafusion::physical_plan::{ReplaceChildrenOptions, execution_plan::ChildrenPropertiesMode};

/// A node with other children is planned anew.
const ANEW: ReplaceChildrenOptions = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);

#[cfg(test)]
mod tests;
