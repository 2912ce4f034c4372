use tokio::runtime::Handle;
use zeugma_lake::Shelf;
use zeugma_schemas::{
    batch::{Builder, Origin},
    domain::Domains,
    payload::readings,
};

use super::*;

const NOW_US: i64 = 1_790_000_000_000_000;

/// A table of parking readings, and what writes to it.
struct Bench {
    shelf: Shelf,
    lease: Lease,
    table: Table,
    compactor: Compactor,
    known: watch::Sender<Known>,
}

impl Bench {
    async fn new() -> Bench {
        let lake = Lake::open("memory:///").await.unwrap();
        let lease = Lease::take(lake.store(), "source-a", 0).await.unwrap();
        let (domains, table) = (Domains::builtin(), lake.table("parking"));
        table.ensure(domains.get("parking").unwrap().columns()).await.unwrap();
        table.fence(&lease).await.unwrap();
        let tables = Tables::from([("parking".to_owned(), table.clone())]);
        let (known, knows) = watch::channel(Known { domains: Arc::new(domains), tables: Arc::new(tables) });
        let shelf = Shelf::with_store(Lake::open("memory:///").await.unwrap().store().root(), &lease);
        let compactor = Compactor {
            known: knows,
            lease: lease.clone(),
            clock: Arc::new(|| NOW_US),
            count: AtomicU64::new(0),
            metrics: None,
        };
        Bench { shelf, lease, table, compactor, known }
    }

    /// Commits one row.
    async fn commit(&self, n: u64) {
        let domain = self.known.borrow().domains.get("parking").unwrap().clone();
        let mut builder = Builder::new(domain.clone());
        let payload = format!(r#"{{"time":{},"occupied_spaces":1}}"#, NOW_US - 1_000_000 * n as i64);
        let origin = Origin { tenant: "lamia", device: "p1", received_at_us: NOW_US };
        for reading in readings(&domain, payload.as_bytes(), NOW_US) {
            builder.push(origin, &reading.unwrap());
        }
        let rows = builder.finish().unwrap();
        let sealed = self.shelf.seal("parking", n..=n, rows.schema(), vec![rows], 0).await.unwrap();
        self.table.commit(&[Arc::new(sealed)], &self.lease, n).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_of_all_ends_with_what_was_there_when_it_began_though_commits_go_on() {
    let bench = Bench::new().await;
    // More than are merged at once.
    for n in 1..=20 {
        bench.commit(n).await;
    }
    let mut next = 21;
    let commit_beside = |_: &Progress| {
        // An end, in case that it has none.
        if next <= 40 {
            tokio::task::block_in_place(|| Handle::current().block_on(bench.commit(next)));
            next += 1;
        }
    };
    let done = bench.compactor.compact_to_one_run(None, commit_beside).await.unwrap();
    // Sixteen became one, then that and the other four.
    assert_eq!((done.files_before, done.files_after, done.rows), (16 + 5, 2, 16 + 20));
    let files = bench.table.load().await.unwrap().files().len() as u64;
    assert!(next > 21 && files == 1 + (next - 21), "{files} files after {} commits", next - 1);
    // Whoever asks again has those, too.
    let again = bench.compactor.compact_to_one_run(None, |_| {}).await.unwrap();
    assert_eq!(again.files_before, files);
    assert_eq!(bench.table.load().await.unwrap().files().len(), 1);
}
