//! `table_at('fleet', 17)` in SQL: a table as it was at a version, as the lake keeps it for a while.

use std::sync::Arc;

use datafusion::{
    catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{DataFusionError, Result},
    logical_expr::Expr,
    scalar::ScalarValue,
};

use crate::{
    catalog::Known,
    table::{DomainTable, Tables},
};

/// The function's name.
pub const TABLE_AT: &str = "table_at";

/// The function, for one question.
#[derive(Debug)]
pub struct TableAt {
    /// What the tables of the question have in common.
    pub of: Tables,
    /// The tables there are.
    pub known: Arc<Known>,
}

impl TableFunctionImpl for TableAt {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let wanted = || {
            let example = "table_at takes a table and a version: table_at('fleet', 17)";
            DataFusionError::Plan(example.to_owned())
        };
        let (name, version) = match args.exprs() {
            [Expr::Literal(name, _), Expr::Literal(version, _)] => {
                (text(name).ok_or_else(wanted)?, number(version).ok_or_else(wanted)?)
            }
            _ => return Err(wanted()),
        };
        let Some(table) = self.known.tables.get(name) else {
            let names: Vec<&str> = self.known.tables.keys().map(String::as_str).collect();
            let message = format!("there is no table `{name}`; there are {}", names.join(", "));
            return Err(DataFusionError::Plan(message));
        };
        let of = Tables { tail: None, version: Some(version), ..self.of.clone() };
        Ok(Arc::new(DomainTable { of, table: table.clone() }))
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

fn number(value: &ScalarValue) -> Option<u64> {
    match value {
        ScalarValue::Int64(Some(number)) => u64::try_from(*number).ok(),
        ScalarValue::UInt64(Some(number)) => Some(*number),
        _ => None,
    }
}
