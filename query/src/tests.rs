//! Questions on a lake in a folder and a tail from a script.

mod again;
mod latest;
mod limits;
mod planning;
mod plans;
mod read_only;
mod seam;
mod tenants;
mod versions;

use std::sync::{Arc, Mutex};

use arrow::{array::RecordBatch, util::pretty::pretty_format_batches};
use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt},
};
use zeugma_lake::{
    Lake, Lease, Position, Shelf, Store,
    seam::{Feed, News, Tail, TailBatch, TailView},
};
use zeugma_schemas::{
    batch::{Builder, Origin},
    dead_letter,
    domain::Domains,
    payload::readings,
};

use crate::{Config, Error, Grant, Query, Rows};

/// 2026-09-21T14:13:20Z.
pub const NOW_US: i64 = 1_790_000_000_000_000;
const MINUTE_US: i64 = 60_000_000;
pub const SOURCE: &str = "source-a";

/// A lake with a schema of each domain, and whoever may write to it.
pub struct City {
    _folder: tempfile::TempDir,
    pub lake: Lake,
    pub lease: Lease,
    pub shelf: Shelf,
    pub tail: Arc<Script>,
}

/// A tail that says what it was told, and what should happen before it says so.
#[derive(Debug, Default)]
pub struct Script {
    pub views: Mutex<Vec<TailView>>,
}

impl Tail for Script {
    fn view<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<TailView, zeugma_lake::Error>> {
        let mut views = self.views.lock().unwrap();
        let empty = TailView { source: SOURCE.into(), ..TailView::default() };
        let next =
            if views.len() > 1 { views.remove(0) } else { views.first().cloned().unwrap_or(empty.clone()) };
        // Everything in a script is about parking; of energy it has never heard.
        let view = match table {
            "parking" => Ok(next),
            "energy" => Err(zeugma_lake::Error::NoTable { table: table.to_owned() }),
            _ => Ok(empty),
        };
        async move { view }.boxed()
    }

    fn follow<'a>(&'a self, tables: &'a [String]) -> BoxFuture<'a, Result<Feed, zeugma_lake::Error>> {
        let begin =
            |table: &String| Ok(News::Begin { table: table.clone(), source: SOURCE.into(), through: 0 });
        let begin: Vec<_> = tables.iter().map(begin).collect();
        async { Ok(futures::stream::iter(begin).chain(futures::stream::pending()).boxed()) }.boxed()
    }
}

impl City {
    pub async fn new() -> City {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().to_str().unwrap()).unwrap();
        City::in_store(store, folder).await
    }

    /// The same in any store; what is sealed lies in a folder.
    pub async fn in_store(store: Store, folder: tempfile::TempDir) -> City {
        let lake = Lake::open_in(store).await.unwrap();
        lake.keep_schemas(&Domains::builtin()).await.unwrap();
        let lease = Lease::take(lake.store(), SOURCE, 0).await.unwrap();
        let shelf = Shelf::open(&folder.path().join("sealed"), &lease).unwrap();
        City { _folder: folder, lake, lease, shelf, tail: Arc::default() }
    }

    /// Commits rows of a domain, through a position.
    pub async fn commit(&self, domain: &str, rows: Vec<RecordBatch>, through: Position) {
        let table = self.lake.table(domain);
        let columns = rows[0].schema();
        table.ensure(&columns).await.unwrap();
        table.fence(&self.lease).await.unwrap();
        let sealed = self.shelf.seal(domain, through..=through, columns, rows, 0).await.unwrap();
        table.commit(&[Arc::new(sealed)], &self.lease, through).await.unwrap();
    }

    pub fn query(&self) -> Query {
        Query::new(self.lake.clone(), Some(self.tail.clone()), Config::default()).unwrap()
    }

    /// What the tail says from now on.
    pub fn tail_holds(&self, released_through: Position, rows: Vec<(RecordBatch, Vec<Position>)>) {
        *self.tail.views.lock().unwrap() = vec![view(released_through, rows)];
    }
}

pub fn view(released_through: Position, rows: Vec<(RecordBatch, Vec<Position>)>) -> TailView {
    let batches = rows.into_iter().map(|(rows, positions)| TailBatch { rows, positions: positions.into() });
    TailView { source: SOURCE.into(), released_through, batches: batches.collect(), ..TailView::default() }
}

/// Parking readings of a device, a minute apart, the newest first; as many spaces are taken as minutes passed.
pub fn parking(tenant: &str, device: &str, minutes: std::ops::Range<i64>) -> RecordBatch {
    rows("parking", tenant, device, minutes, |minute| format!(r#""occupied_spaces":{minute}"#))
}

/// Positions of a vehicle that goes east.
pub fn fleet(tenant: &str, device: &str, minutes: std::ops::Range<i64>) -> RecordBatch {
    rows("fleet", tenant, device, minutes, |minute| {
        format!(r#""latitude":38.5,"longitude":{},"speed_kmh":{}"#, 22.0 + minute as f64 / 100.0, minute)
    })
}

fn rows(
    domain: &str,
    tenant: &str,
    device: &str,
    minutes: std::ops::Range<i64>,
    fields: impl Fn(i64) -> String,
) -> RecordBatch {
    let domains = Domains::builtin();
    let domain = domains.get(domain).unwrap();
    let mut builder = Builder::new(domain.clone());
    for minute in minutes {
        let payload = format!(r#"{{"time":{},{}}}"#, NOW_US - minute * MINUTE_US, fields(minute));
        for reading in readings(domain, payload.as_bytes(), NOW_US) {
            builder.push(Origin { tenant, device, received_at_us: NOW_US }, &reading.unwrap());
        }
    }
    builder.finish().unwrap()
}

/// A dead letter of a tenant, or of nobody.
pub fn dead_letter(tenant: Option<&str>, position: i64) -> RecordBatch {
    let letter = dead_letter::DeadLetter {
        tenant: tenant.map(str::to_owned),
        topic: "city/v1/lamia/nonsense/p1".into(),
        received_at_us: NOW_US,
        reason: dead_letter::Reason::UnknownDomain,
        detail: "there is no schema `nonsense`".into(),
        payload: vec![0xff, 0x00],
        payload_bytes: 2,
        source: SOURCE.into(),
        position,
        index: 0,
    };
    dead_letter::to_batch(&[letter]).unwrap()
}

/// Asks, and shows the answer as text.
pub async fn text(query: &Query, grant: &Grant, sql: &str) -> String {
    let rows = query.sql(grant, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    pretty_format_batches(&rows).unwrap().to_string()
}

/// Asks for one whole number.
pub async fn number(query: &Query, grant: &Grant, sql: &str) -> i64 {
    use arrow::{array::AsArray, datatypes::Int64Type};
    let rows = query.sql(grant, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap();
    assert_eq!(rows.num_rows(), 1, "{sql}");
    rows.column(0).as_primitive::<Int64Type>().value(0)
}

/// Asks for what must be refused.
pub async fn refused(query: &Query, grant: &Grant, sql: &str) -> Error {
    match query.sql(grant, sql).await {
        Ok(rows) => panic!("`{sql}` was answered:\n{}", pretty_format_batches(&rows).unwrap()),
        Err(error) => error,
    }
}
