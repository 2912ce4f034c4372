//! Devices and tenants from which nothing is taken any more, as the lake notes them: `_zeugma/blocked.json`.

use std::collections::BTreeSet;

use crate::{Error, Lake, gone::Subject};

const FILE: &str = "_zeugma/blocked.json";

impl Lake {
    /// Who is blocked.
    pub async fn blocked(&self) -> Result<BTreeSet<Subject>, Error> {
        self.store().get_json(FILE).await.map(Option::unwrap_or_default)
    }

    /// Notes who is blocked, instead of what was noted before.
    pub async fn keep_blocked(&self, blocked: &BTreeSet<Subject>) -> Result<(), Error> {
        self.store().put_json(FILE, blocked).await
    }
}
