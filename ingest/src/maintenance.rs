//! What goes on beside the readings: the lease is renewed, and schemas that come are taken up.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use zeugma_lake::{Error as LakeError, Lake, Lease, lease::RENEW_MS};
use zeugma_schemas::domain::Domains;

use crate::{
    Clock,
    accept::{Known, Tables},
    schema_files::SchemaFiles,
    tail::Tail,
};

/// How often the folder of schemas is looked at.
const SCHEMAS_EVERY: Duration = Duration::from_secs(5);

/// Renews the lease; once another process holds the lake, the writer has failed.
pub(crate) async fn keep_lease(lease: Lease, clock: Clock, fail: watch::Sender<Option<String>>) {
    loop {
        tokio::time::sleep(Duration::from_millis(RENEW_MS as u64)).await;
        match lease.renew(clock() / 1_000).await {
            Ok(()) => {}
            Err(error @ LakeError::Fenced { .. }) => {
                fail.send_replace(Some(error.to_string()));
                return;
            }
            Err(error) => tracing::warn!(%error, "the lake's lease could not be renewed; trying again"),
        }
    }
}

/// Takes up schemas that come while we run: first the lake keeps them, then the table has their columns,
/// and only then acceptance knows them.
pub(crate) async fn watch_schemas(
    mut files: SchemaFiles,
    lake: Lake,
    lease: Lease,
    tail: Tail,
    known: watch::Sender<Known>,
) {
    loop {
        tokio::time::sleep(SCHEMAS_EVERY).await;
        let now = known.borrow().clone();
        let Some(domains) = files.look(&now.domains) else { continue };
        match take_up(&lake, &lease, &tail, &now, domains).await {
            Ok(new) => drop(known.send_replace(new)),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "schemas could not be taken up; trying again"
                );
                files.forget();
            }
        }
    }
}

async fn take_up(
    lake: &Lake,
    lease: &Lease,
    tail: &Tail,
    now: &Known,
    domains: Domains,
) -> Result<Known, LakeError> {
    lake.keep_schemas(&domains).await?;
    let mut tables = Tables::clone(&now.tables);
    for domain in domains.iter() {
        let table = tables.entry(domain.name().to_owned()).or_insert_with(|| lake.table(domain.name()));
        table.ensure(domain.columns()).await?;
        let snapshot = table.fence(lease).await?;
        tail.ensure(domain.name(), domain.columns(), snapshot.committed_through(lease.source()));
    }
    Ok(Known { domains: Arc::new(domains), tables: Arc::new(tables) })
}
