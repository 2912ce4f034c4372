//! A small lake of parking readings, for tests.

use std::{ops::RangeInclusive, sync::Arc};

use arrow::array::RecordBatch;
use zeugma_schemas::{
    batch::{Builder, Origin},
    domain::Domains,
    payload::readings,
};

use crate::{Lake, Lease, Position, Sealed, Shelf, Table};

pub const NOW_US: i64 = 1_790_000_000_000_000;

/// Parking readings of some devices, a minute apart, as they come out of acceptance.
pub fn rows(domains: &Domains, device: &str, minutes: std::ops::Range<i64>) -> RecordBatch {
    let domain = domains.get("parking").unwrap();
    let mut builder = Builder::new(domain.clone());
    for minute in minutes {
        let time_us = NOW_US - minute * 60_000_000;
        let payload = format!(r#"{{"time":{time_us},"occupied_spaces":{minute}}}"#);
        let origin = Origin { tenant: "lamia", device, received_at_us: NOW_US };
        for reading in readings(domain, payload.as_bytes(), NOW_US) {
            builder.push(origin, &reading.unwrap());
        }
    }
    builder.finish().unwrap()
}

pub async fn seal(
    shelf: &Shelf,
    batches: Vec<RecordBatch>,
    positions: RangeInclusive<Position>,
) -> Vec<Arc<Sealed>> {
    vec![Arc::new(shelf.seal("parking", positions, batches[0].schema(), batches, 0).await.unwrap())]
}

pub fn shelf(folder: &tempfile::TempDir, lease: &Lease) -> Shelf {
    Shelf::open(&folder.path().join("shelf"), lease).unwrap()
}

pub async fn table(folder: &tempfile::TempDir) -> (Lake, Table, Lease, Domains) {
    let lake = Lake::open(folder.path().to_str().unwrap()).await.unwrap();
    let domains = Domains::builtin();
    let table = lake.table("parking");
    table.ensure(domains.get("parking").unwrap().columns()).await.unwrap();
    let lease = Lease::take(lake.store(), "source-a", 0).await.unwrap();
    table.fence(&lease).await.unwrap();
    (lake, table, lease, domains)
}
