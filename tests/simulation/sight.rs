//! What a question sees, and what the lake alone holds; rows become a map by their identity.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Int64Type, TimestampMicrosecondType},
};
use futures::TryStreamExt;
use zeugma_lake::{
    Error as LakeError, Lake, Position, Snapshot, find,
    seam::{self, Tail as _},
};

use super::{
    devices::{OFTEN, SELDOM},
    oracle::Rows,
    process::Running,
};

/// The tables that devices report to.
pub(super) const TABLES: [&str; 2] = [OFTEN, SELDOM];

const DEAD_LETTERS: &str = "dead_letters";

/// How often a reader tries to bring snapshot and tail together.
const MEETINGS_MAX: usize = 4;

/// What a question sees: snapshot and tail at their seam. The outer error is the store's.
pub(super) async fn visible(
    running: &Running,
    name: &str,
    fresh: bool,
) -> Result<Result<Rows, String>, LakeError> {
    let table = running.reader.table(name);
    let mut snapshot = table.load().await?;
    if !fresh {
        // An older one, as a cache may hold.
        snapshot = running.committer.known.borrow().tables[name].known().unwrap_or(snapshot);
    }
    for _ in 0..MEETINGS_MAX {
        let view = running.tail.view(name).await?;
        let through = snapshot.committed_through(&view.source);
        if let Some(beyond) = seam::join(snapshot.version(), through, &view) {
            let mut batches = beyond.rows;
            batches.extend(snapshot_rows(&running.reader, &snapshot).await?);
            for sealed in &beyond.sealed {
                for file in sealed.files() {
                    let rows = find::read(&sealed.store(), file, sealed.columns()).await?;
                    batches.extend(rows.try_collect::<Vec<_>>().await?);
                }
            }
            return Ok(rows_of(name, &batches));
        }
        snapshot = table.load().await?;
    }
    Ok(Err(format!("{name}: snapshot and tail do not meet")))
}

async fn snapshot_rows(lake: &Lake, snapshot: &Snapshot) -> Result<Vec<RecordBatch>, LakeError> {
    let domains = zeugma_schemas::domain::Domains::builtin();
    let columns = domains.get(snapshot.table()).map(|domain| domain.columns().clone());
    let columns = columns.unwrap_or_else(zeugma_schemas::dead_letter::columns);
    let mut batches = Vec::new();
    for file in snapshot.files() {
        let rows = find::read(&lake.store().root(), file, &columns).await?;
        batches.extend(rows.try_collect::<Vec<_>>().await?);
    }
    Ok(batches)
}

/// Rows by their identity; one that is there twice is wrong.
fn rows_of(name: &str, batches: &[RecordBatch]) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for batch in batches {
        let value = if name == OFTEN { "odometer_m" } else { "rx_bytes" };
        let values = cast(&batch[value], &DataType::Int64).map_err(|error| error.to_string())?;
        let (devices, times) =
            (batch["device"].as_string_view(), batch["time"].as_primitive::<TimestampMicrosecondType>());
        for row in 0..batch.num_rows() {
            let device =
                devices.value(row).trim_start_matches('d').parse().map_err(|_| "a strange device")?;
            let identity = (device, times.value(row));
            if rows.insert(identity, values.as_primitive::<Int64Type>().value(row)).is_some() {
                return Err(format!("{name}: {identity:?} is there twice"));
            }
        }
    }
    Ok(rows)
}

/// All rows of the lake alone.
pub(super) async fn lake_rows(lake: &Lake) -> Result<BTreeMap<&'static str, Rows>, String> {
    let mut all = BTreeMap::new();
    for name in TABLES {
        let snapshot = lake.table(name).load().await.map_err(|error| error.to_string())?;
        let batches = snapshot_rows(lake, &snapshot).await.map_err(|error| error.to_string())?;
        all.insert(name, rows_of(name, &batches)?);
    }
    Ok(all)
}

/// Positions of a source that have a dead letter; none may have the same one twice.
pub(super) async fn dead_letters(lake: &Lake, source: &str) -> Result<Vec<Position>, String> {
    let snapshot = lake.table(DEAD_LETTERS).load().await.map_err(|error| error.to_string())?;
    let batches = snapshot_rows(lake, &snapshot).await.map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for batch in &batches {
        let sources = batch["source"].as_string_view();
        let positions = batch["position"].as_primitive::<Int64Type>();
        let indexes = cast(&batch["index"], &DataType::Int64).map_err(|error| error.to_string())?;
        for row in (0..batch.num_rows()).filter(|row| sources.value(*row) == source) {
            found.push((positions.value(row) as Position, indexes.as_primitive::<Int64Type>().value(row)));
        }
    }
    let all = found.len();
    found.sort_unstable();
    found.dedup();
    if found.len() < all {
        return Err("a dead letter is there twice".into());
    }
    Ok(found.into_iter().map(|(position, _)| position).collect())
}
