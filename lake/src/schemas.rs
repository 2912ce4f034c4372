//! Every version of every schema that was ever used, kept in the lake beside the tables.
//!
//! `_schemas/{domain}/{number}.avsc`, oldest first. A version is written before the first row of it, so
//! whoever can read the table knows its columns.

use zeugma_schemas::domain::Domains;

use crate::{Error, Lake};

const FOLDER: &str = "_schemas";

impl Lake {
    /// All domains that the lake has schemas of.
    ///
    /// # Errors
    /// [`Error::Schema`] where a file in the lake is not what was once written there.
    pub async fn domains(&self) -> Result<Domains, Error> {
        let mut domains = Domains::default();
        for path in self.store().list(FOLDER).await? {
            if let Some(bytes) = self.store().get(&path).await? {
                domains.add(&String::from_utf8_lossy(&bytes))?;
            }
        }
        Ok(domains)
    }

    /// Whether it has a schema of any domain.
    pub async fn has_schemas(&self) -> Result<bool, Error> {
        Ok(!self.store().list(FOLDER).await?.is_empty())
    }

    /// Keeps the newest versions of domains that the lake does not know yet.
    pub async fn keep_schemas(&self, domains: &Domains) -> Result<(), Error> {
        for domain in domains.iter() {
            for (number, schema) in domain.versions().iter().enumerate() {
                let path = format!("{FOLDER}/{}/{:04}.avsc", domain.name(), number + 1);
                if self.store().get(&path).await?.is_none() {
                    self.store().create(&path, schema.text.clone().into_bytes()).await?;
                }
            }
        }
        Ok(())
    }
}
