//! What `zeugma query` answers from: a lake, and the tail of an ingest process elsewhere.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use zeugma_lake::Lake;
use zeugma_query::{Components, RemoteTail};

use crate::Usage;

/// How often it is looked whether questions could be answered.
const LOOK: Duration = Duration::from_secs(5);

/// The parts that answer; whether lake and tail do is looked at until the shutdown, the first time now.
pub async fn components(lake: Lake, tail: &str, shutdown: CancellationToken) -> Result<Components, Usage> {
    let tail = RemoteTail::new(tail).map_err(|error| Usage(format!("cannot use --tail: {error}")))?;
    let troubles = Arc::new(Mutex::new(look(&lake, &tail).await));
    let seen = troubles.clone();
    let (looked_at, asked) = (lake.clone(), tail.clone());
    tokio::spawn(shutdown.run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let found = look(&looked_at, &asked).await;
            let mut known = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *known != found {
                found.iter().for_each(|trouble| tracing::warn!("{trouble}"));
                *known = found;
            }
        }
    }));
    Ok(Components {
        lake,
        tail: Some(Arc::new(tail)),
        metrics: Arc::new(|| "# EOF\n".to_owned()),
        ready: Arc::new(move || troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        serves_tail: false,
        writer: None,
    })
}

/// Why questions would have no answer; a start does not wait for it longer than this, whatever hangs.
async fn look(lake: &Lake, tail: &RemoteTail) -> Vec<String> {
    let looked =
        async { [trouble_of(lake).await, tail.answers().await.err().map(|error| error.to_string())] };
    match tokio::time::timeout(LOOK, looked).await {
        Ok(found) => found.into_iter().flatten().collect(),
        Err(_) => vec![format!("lake and ingest have not answered within {} s", LOOK.as_secs())],
    }
}

async fn trouble_of(lake: &Lake) -> Option<String> {
    match lake.has_schemas().await {
        Ok(true) => None,
        Ok(false) => Some(
            "the lake has no tables: is it (--lake, --data) the one that `zeugma ingest` writes?".to_owned(),
        ),
        Err(error) => Some(format!("the lake does not answer: {error}")),
    }
}
