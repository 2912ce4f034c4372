//! The tables that one question may name, as the engine looks them up.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::{SchemaProvider, TableProvider},
    common::Result,
};

use crate::{
    catalog::{Known, LATEST},
    latest_table::LatestTable,
    table::{DomainTable, Tables},
};

/// The known tables, and the newest readings of each domain.
#[derive(Debug)]
pub struct Schema {
    /// What the tables of the question have in common.
    pub of: Tables,
    /// The tables there are.
    pub known: Arc<Known>,
}

impl Schema {
    fn domain(&self, name: &str) -> Option<DomainTable> {
        let table = self.known.tables.get(name)?.clone();
        Some(DomainTable { of: self.of.clone(), table })
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.known.names.iter().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = self.domain(name) {
            return Ok(Some(Arc::new(table)));
        }
        let domain = name.strip_suffix(LATEST).filter(|_| self.table_exist(name));
        let latest = domain.and_then(|domain| self.domain(domain)).map(|domain| LatestTable { domain });
        Ok(latest.map(|latest| Arc::new(latest) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.known.names.contains(name)
    }
}
