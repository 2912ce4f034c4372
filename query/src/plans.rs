//! What questions mean that were asked before: a dashboard asks the same ones over and over, for each of its viewers.
//!
//! Kept is what a text comes to before anything is known of files, rows or the time of day, all of which each question
//! looks up for itself; where there is no `now()` in it, it is kept optimised. It is for those who may see the same
//! tenants, and holds as long as the lake has the same tables.

use std::sync::Arc;

use datafusion::{common::tree_node::TreeNodeRecursion, logical_expr::LogicalPlan};
use quick_cache::{Weighter, sync::Cache};

use crate::{Grant, Rows, catalog::Known, session::Meaning};

/// Memory of all that is kept: some 1,300 questions.
const BYTES_MAX: u64 = 32 << 20;

/// What a question of a dashboard counts for; it takes about half of that.
const BYTES_OF_ONE: u64 = 24 << 10;

/// Memory of a column of a part of a plan: its name, its type and how it comes about.
const COLUMN_BYTES: u64 = 256;

/// Memory of what the text says, for each of its bytes: of a list of numbers it is 45.
const TEXT_BYTES: u64 = 64;

/// What is known of questions.
#[derive(Debug)]
pub struct Plans(Cache<Asked, Arc<Kept>, Weights>);

/// Who asks what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The text.
    pub sql: String,
    /// Who may see what.
    pub grant: Grant,
    /// Which rows it is about.
    pub rows: Rows,
}

#[derive(Debug)]
struct Kept {
    known: Arc<Known>,
    meaning: Meaning,
}

#[derive(Debug, Clone)]
struct Weights;

impl Weighter<Asked, Arc<Kept>> for Weights {
    fn weight(&self, asked: &Asked, kept: &Arc<Kept>) -> u64 {
        columns(kept.meaning.plan()) * COLUMN_BYTES + asked.sql.len() as u64 * TEXT_BYTES
    }
}

/// The columns of all parts of a plan together.
fn columns(plan: &LogicalPlan) -> u64 {
    let mut columns = 0;
    let _ = plan.apply_with_subqueries(|part| {
        columns += part.schema().fields().len() as u64;
        Ok(TreeNodeRecursion::Continue)
    });
    columns
}

impl Plans {
    /// Nothing is known yet.
    pub fn new() -> Plans {
        Plans(Cache::with_weighter((BYTES_MAX / BYTES_OF_ONE) as usize, BYTES_MAX, Weights))
    }

    /// What a question means, where it is known of these tables.
    pub fn get(&self, asked: &Asked, known: &Arc<Known>) -> Option<Meaning> {
        let kept = self.0.get(asked)?;
        Arc::ptr_eq(&kept.known, known).then(|| kept.meaning.clone())
    }

    /// Keeps what a question means, in the place of what has not been asked for longer.
    pub fn keep(&self, asked: Asked, known: &Arc<Known>, meaning: &Meaning) {
        self.0.insert(asked, Arc::new(Kept { known: known.clone(), meaning: meaning.clone() }));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use datafusion::logical_expr::LogicalPlanBuilder;
    use zeugma_schemas::domain::Domains;

    use super::*;

    fn known() -> Arc<Known> {
        let (domains, tables, names) = (Domains::builtin(), BTreeMap::new(), BTreeSet::new());
        Arc::new(Known { domains, tables, names })
    }

    fn nothing() -> Meaning {
        Meaning::Lasting(LogicalPlanBuilder::empty(true).build().unwrap())
    }

    #[test]
    fn plan_is_for_the_same_text_grant_rows_and_tables() {
        let (plans, tables, plan) = (Plans::new(), known(), nothing());
        let asked = |sql: &str, grant: Grant, rows: Rows| Asked { sql: sql.into(), grant, rows };
        let lamia = || Grant::tenants(["lamia"]);
        plans.keep(asked("a", lamia(), Rows::Version(1)), &tables, &plan);
        let is_known = |asked: &Asked, known: &Arc<Known>| plans.get(asked, known).is_some();
        assert!(is_known(&asked("a", lamia(), Rows::Version(1)), &tables));
        assert!(!is_known(&asked("b", lamia(), Rows::Version(1)), &tables));
        assert!(!is_known(&asked("a", Grant::All, Rows::Version(1)), &tables));
        assert!(!is_known(&asked("a", Grant::tenants(["lamia", "volos"]), Rows::Version(1)), &tables));
        assert!(!is_known(&asked("a", lamia(), Rows::Version(2)), &tables));
        assert!(!is_known(&asked("a", lamia(), Rows::Lake), &tables));
        // Looked up again, and something has changed.
        assert!(!is_known(&asked("a", lamia(), Rows::Version(1)), &known()));
    }

    #[test]
    fn no_more_is_kept_than_there_may_be() {
        let (plans, tables, plan) = (Plans::new(), known(), nothing());
        let asked = |n: usize, spaces: usize| Asked {
            sql: " ".repeat(spaces) + &n.to_string(),
            grant: Grant::All,
            rows: Rows::default(),
        };
        for n in 0..10_000 {
            plans.keep(asked(n, 100), &tables, &plan);
            assert!(plans.0.weight() <= BYTES_MAX);
        }
        assert!(plans.get(&asked(9_999, 100), &tables).is_some());
        plans.keep(asked(0, 1 << 20), &tables, &plan);
        assert!(plans.get(&asked(0, 1 << 20), &tables).is_none(), "it is larger than all may be");
        assert!(plans.get(&asked(9_999, 100), &tables).is_some(), "and takes the place of none");
    }
}
