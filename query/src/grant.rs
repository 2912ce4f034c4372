//! Whose readings a question may see.

use std::collections::BTreeSet;

/// The tenants that whoever asks may see; the filter that follows from it sits in the scan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Grant {
    /// Every tenant, and what belongs to none: the operator.
    All,
    /// These tenants alone.
    Tenants(BTreeSet<String>),
}

impl Grant {
    /// The given tenants alone.
    pub fn tenants<T: Into<String>>(tenants: impl IntoIterator<Item = T>) -> Grant {
        Grant::Tenants(tenants.into_iter().map(Into::into).collect())
    }

    /// Whether readings of this tenant may be seen.
    pub fn allows(&self, tenant: &str) -> bool {
        match self {
            Grant::All => true,
            Grant::Tenants(tenants) => tenants.contains(tenant),
        }
    }
}
