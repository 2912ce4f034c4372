//! What is known of the city: its domains, and their tables.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::SchemaRef;
use zeugma_lake::Table;
use zeugma_schemas::{dead_letter, domain::Domains};

/// The tables of the lake, by name, that look-ups go to.
pub type Tables = BTreeMap<String, Table>;

/// What acceptance knows of the city; replaced as a whole when a schema comes.
#[derive(Debug, Clone)]
pub struct Known {
    /// Domains and their schemas.
    pub domains: Arc<Domains>,
    /// Their tables, and that of the dead letters.
    pub tables: Arc<Tables>,
}

impl Known {
    /// The columns of a table.
    pub fn columns(&self, table: &str) -> SchemaRef {
        self.columns_of_readings(table).unwrap_or_else(dead_letter::columns)
    }

    /// The columns of a table of readings; none for that of the dead letters.
    pub fn columns_of_readings(&self, table: &str) -> Option<SchemaRef> {
        Some(self.domains.get(table)?.columns().clone())
    }
}
