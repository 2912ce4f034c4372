//! What questions mean that were asked before: a dashboard asks the same ones over and over, for each of its viewers.
//!
//! Kept is what a text comes to before anything is known of files, rows or the time of day, all of which each question
//! looks up for itself; where there is no `now()` in it, it is kept optimised. It is for those who may see the same
//! tenants, and holds as long as the lake has the same tables.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    logical_expr::{Expr, LogicalPlan},
};
use quick_cache::{Weighter, unsync::Cache};

use crate::{Grant, Rows, catalog::Known, session::Meaning};

/// Memory of all that is kept: of a thousand questions, if each counts for as much as is expected.
const BYTES_MAX: u64 = 32 << 20;

/// What a question of a dashboard is expected to count for; those measured took 10 to 15 kB.
const BYTES_OF_ONE: u64 = 32 << 10;

/// Memory of a column of a part of a plan, and of a part of an expression besides what it holds.
const COLUMN_BYTES: u64 = 256;
const EXPRESSION_BYTES: u64 = 320;

/// Memory of a tenant of a grant besides its name.
const TENANT_BYTES: u64 = 48;

/// What is known of questions.
#[derive(Debug)]
pub struct Plans(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// The tables of all that is kept.
    known: Option<Arc<Known>>,
    kept: Cache<Asked, Kept, Weights>,
}

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

#[derive(Debug, Clone)]
struct Kept {
    meaning: Arc<Meaning>,
    bytes: u64,
}

#[derive(Debug, Clone)]
struct Weights;

impl Weighter<Asked, Kept> for Weights {
    fn weight(&self, _asked: &Asked, kept: &Kept) -> u64 {
        kept.bytes
    }
}

impl Plans {
    /// Nothing is known yet.
    pub fn new() -> Plans {
        let kept = Cache::with_weighter((BYTES_MAX / BYTES_OF_ONE) as usize, BYTES_MAX, Weights);
        Plans(Mutex::new(Inner { known: None, kept }))
    }

    /// What a question means, where it is known of these tables.
    pub fn get(&self, asked: &Asked, known: &Arc<Known>) -> Option<Arc<Meaning>> {
        let inner = self.lock();
        inner.kept.get(asked).filter(|_| inner.is_of(known)).map(|kept| kept.meaning.clone())
    }

    /// Keeps what a question means, in the place of what has not been asked for longer, and of all that is of tables as
    /// they were before.
    pub fn keep(&self, asked: Asked, known: &Arc<Known>, meaning: &Arc<Meaning>) {
        let kept = Kept { meaning: meaning.clone(), bytes: bytes(&asked, meaning.plan()) };
        let mut inner = self.lock();
        if !inner.is_of(known) {
            inner.kept.clear();
            inner.known = Some(known.clone());
        }
        inner.kept.insert(asked, kept);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_of(&self, known: &Arc<Known>) -> bool {
        self.known.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, known))
    }
}

/// About the memory of a question's text, grant and plan: rather too much than too little.
fn bytes(asked: &Asked, plan: &LogicalPlan) -> u64 {
    let (mut tables, mut columns, mut expressions, mut literals) = (0, 0, 0, 0);
    let _ = plan.apply_with_subqueries(|part| {
        tables += u64::from(matches!(part, LogicalPlan::TableScan(_)));
        columns += part.schema().fields().len() as u64;
        part.apply_expressions(|expr| {
            expr.apply(|expr| {
                expressions += 1;
                if let Expr::Literal(value, _) = expr {
                    literals += value.size() as u64;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    let grant = match &asked.grant {
        Grant::All => 0,
        Grant::Tenants(tenants) => tenants.iter().map(|tenant| tenant.len() as u64 + TENANT_BYTES).sum(),
    };
    let text = asked.sql.len() as u64;
    text + (1 + tables) * grant + columns * COLUMN_BYTES + expressions * EXPRESSION_BYTES + literals
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use datafusion::logical_expr::{LogicalPlanBuilder, lit};
    use zeugma_schemas::domain::Domains;

    use super::*;

    fn known() -> Arc<Known> {
        let (domains, tables, names) = (Domains::builtin(), BTreeMap::new(), BTreeSet::new());
        Arc::new(Known { domains, tables, names })
    }

    fn nothing() -> Arc<Meaning> {
        Arc::new(Meaning::Lasting(LogicalPlanBuilder::empty(true).build().unwrap()))
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
        // Looked up again, and something has changed: nothing of the tables before is kept.
        let grown = known();
        assert!(!is_known(&asked("a", lamia(), Rows::Version(1)), &grown));
        plans.keep(asked("b", lamia(), Rows::Lake), &grown, &plan);
        assert!(!is_known(&asked("a", lamia(), Rows::Version(1)), &tables));
        assert_eq!((Arc::strong_count(&tables), plans.lock().kept.len()), (1, 1));
    }

    #[test]
    fn no_more_is_kept_than_there_may_be() {
        let (plans, tables) = (Plans::new(), known());
        let asked = |n: usize, grant: Grant| Asked { sql: n.to_string(), grant, rows: Rows::default() };
        let with_text = |length: usize| {
            let text = lit("a".repeat(length));
            let plan = LogicalPlanBuilder::empty(true).project([text]).unwrap().build().unwrap();
            Arc::new(Meaning::Lasting(plan))
        };
        for n in 0..10_000 {
            plans.keep(asked(n, Grant::All), &tables, &with_text(10_000));
            assert!(plans.lock().kept.weight() <= BYTES_MAX);
        }
        let count = plans.lock().kept.len();
        assert!((2_000..3_355).contains(&count), "{count}");
        // What is larger than all may be is not kept, and takes the place of none.
        let many = Grant::tenants((0..1_000_000).map(|n| n.to_string()));
        for (grant, length) in [(Grant::All, 40 << 20), (many, 1)] {
            plans.keep(asked(10_000, grant.clone()), &tables, &with_text(length));
            assert!(plans.get(&asked(10_000, grant), &tables).is_none());
            assert_eq!(plans.lock().kept.len(), count);
        }
    }
}
