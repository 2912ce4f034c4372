mod again;

use std::sync::Arc;

use zeugma_journal::Batch;
use zeugma_lake::{Lake, Lease, Shelf, seam::Tail as _};

use super::*;
use crate::{blocks::blocks, metrics::of, tail::Reach};

const NOW_US: i64 = 1_790_000_000_000_000;
const SOURCE: &str = "source-a";

/// Acceptance over a real lake in a temporary folder.
struct Bench {
    folder: tempfile::TempDir,
    tail: Tail,
    metrics: Arc<Metrics>,
    known: watch::Sender<Known>,
    lease: Lease,
    shelf: Shelf,
    next: Position,
    erasing: Vec<Subject>,
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path().to_str().unwrap()).await.unwrap();
        let lease = Lease::take(lake.store(), SOURCE, 0).await.unwrap();
        let domains = Domains::builtin();
        let metrics = Arc::new(Metrics::default());
        let tail = Tail::new(SOURCE, metrics.clone());
        let mut tables = Tables::new();
        for (name, columns) in [
            ("parking", domains.get("parking").unwrap().columns().clone()),
            (dead_letter::TABLE, dead_letter::columns()),
        ] {
            let table = lake.table(name);
            table.ensure(&columns).await.unwrap();
            table.fence(&lease).await.unwrap();
            tail.ensure(name, &columns, 0);
            tables.insert(name.to_owned(), table);
        }
        let (known, _) = watch::channel(Known { domains: Arc::new(domains), tables: Arc::new(tables) });
        let shelf = Shelf::open(&folder.path().join("sealed"), &lease).unwrap();
        Bench { folder, tail, metrics, known, lease, shelf, next: 1, erasing: Vec::new() }
    }

    /// Accepts payloads for one device, each a record of its own, and waits until all are decided.
    async fn accept(&mut self, watermarks: Watermarks, payloads: &[String]) {
        let mut batch = Batch::default();
        for payload in payloads {
            let payload = Payload::Whole(payload.as_bytes());
            let topic = "city/v1/lamia/parking/p1";
            batch.push(&Record { tenant: None, topic, received_at_us: NOW_US, payload });
        }
        let block = Synced { first: self.next, batch };
        self.next = block.last() + 1;
        let (handed, blocks) = blocks();
        let acceptor = Acceptor::new(
            SOURCE,
            self.known.subscribe(),
            self.tail.clone(),
            self.metrics.clone(),
            watermarks,
            BTreeMap::new(),
            0,
        );
        assert!(handed.hand_over(block));
        drop(handed);
        acceptor.run(blocks).await.unwrap();
    }

    async fn commit(&self, through: Position) {
        let table = self.known.borrow().tables["parking"].clone();
        let cut = self.tail.seal("parking", Reach::Decided).unwrap();
        let sealed = self.shelf.seal("parking", cut.positions, cut.columns, cut.rows, 0).await.unwrap();
        self.tail.seal_done("parking", Some(sealed));
        let due = self.tail.due("parking").unwrap();
        assert_eq!(due.through, through);
        table.commit(&due.rows, &self.lease, through).await.unwrap();
        self.tail.release("parking", through);
    }

    async fn rows(&self, table: &str) -> usize {
        let view = self.tail.view(table).await.unwrap();
        let in_memory: usize = view.batches.iter().map(|batch| batch.rows.num_rows()).sum();
        in_memory + view.sealed.iter().map(|sealed| sealed.rows()).sum::<usize>()
    }

    /// Seals what is in memory, and keeps it in the tail.
    async fn seal(&self, reach: Reach) {
        let cut = self.tail.seal("parking", reach).unwrap();
        let sealed = self.shelf.seal("parking", cut.positions, cut.columns, cut.rows, 0).await.unwrap();
        self.tail.seal_done("parking", Some(sealed));
    }

    fn count(
        &self,
        family: &prometheus_client::metrics::family::Family<
            crate::metrics::ByDomain,
            prometheus_client::metrics::counter::Counter,
        >,
    ) -> u64 {
        family.get_or_create(&of("parking")).get()
    }
}

fn reading(second: i64, occupied: i64) -> String {
    format!(r#"{{"time":{},"occupied_spaces":{occupied}}}"#, NOW_US - 1_000_000_000 + second * 1_000_000)
}

/// Watermarks as a start rebuilds them: the device's newest reading lies at this second.
fn newest(second: i64) -> Watermarks {
    let mut watermarks = Watermarks::default();
    *watermarks.of("parking", "lamia", "p1") = NOW_US - 1_000_000_000 + second * 1_000_000;
    watermarks
}

#[tokio::test]
async fn late_reading_is_new_where_nobody_has_its_time() {
    let mut bench = Bench::new().await;
    bench.accept(Watermarks::default(), &[reading(5, 1), reading(3, 1), reading(4, 1), reading(6, 1)]).await;
    assert_eq!(bench.rows("parking").await, 4);
    assert_eq!((bench.count(&bench.metrics.late), bench.count(&bench.metrics.repeated)), (2, 0));
}

#[tokio::test]
async fn repeat_and_conflict_are_told_apart_in_the_tail() {
    let mut bench = Bench::new().await;
    let payloads = [reading(5, 1), reading(5, 1), reading(5, 2), reading(3, 7), reading(3, 7), reading(3, 8)];
    bench.accept(Watermarks::default(), &payloads).await;
    assert_eq!((bench.rows("parking").await, bench.rows(dead_letter::TABLE).await), (2, 2));
    assert_eq!(bench.count(&bench.metrics.repeated), 2);
}

#[tokio::test]
async fn repeat_and_conflict_are_told_apart_in_the_lake() {
    let mut bench = Bench::new().await;
    bench.accept(Watermarks::default(), &[reading(5, 1), reading(6, 1)]).await;
    bench.commit(2).await;
    assert_eq!(bench.rows("parking").await, 0);
    bench.accept(newest(6), &[reading(5, 1), reading(6, 2), reading(7, 1)]).await;
    assert_eq!((bench.rows("parking").await, bench.rows(dead_letter::TABLE).await), (1, 1));
    assert_eq!(bench.count(&bench.metrics.repeated), 1);
}

#[tokio::test]
async fn commit_takes_only_the_decided_prefix() {
    let bench = Bench::new().await;
    let mut acceptor = Acceptor::new(
        SOURCE,
        bench.known.subscribe(),
        bench.tail.clone(),
        bench.metrics.clone(),
        Watermarks::default(),
        BTreeMap::new(),
        0,
    );
    let mut batch = Batch::default();
    for payload in [reading(5, 1), reading(3, 1), reading(6, 1)] {
        let payload = Payload::Whole(payload.as_bytes());
        batch.push(&Record {
            tenant: None,
            topic: "city/v1/lamia/parking/p1",
            received_at_us: NOW_US,
            payload,
        });
    }
    acceptor.accept(&Synced { first: 1, batch }).unwrap();
    // The second is late and undecided: a commit ends before it, and the journal keeps it.
    bench.seal(Reach::Decided).await;
    let due = bench.tail.due("parking").unwrap();
    assert_eq!((due.through, due.rows.iter().map(|sealed| sealed.rows()).sum::<usize>()), (1, 1));
    assert_eq!(bench.tail.safe_through(), 0);
    bench.tail.release("parking", 1);
    assert_eq!(bench.tail.safe_through(), 1);
}

#[tokio::test]
async fn repeat_and_conflict_are_told_apart_in_sealed_rows() {
    let mut bench = Bench::new().await;
    bench.accept(Watermarks::default(), &[reading(5, 1), reading(6, 1)]).await;
    bench.seal(Reach::Decided).await;
    bench.accept(newest(6), &[reading(5, 1), reading(6, 2), reading(7, 1)]).await;
    assert_eq!((bench.rows("parking").await, bench.rows(dead_letter::TABLE).await), (3, 1));
    assert_eq!(bench.count(&bench.metrics.repeated), 1);
}

#[tokio::test]
async fn replay_of_what_is_committed_makes_no_second_row_and_no_second_dead_letter() {
    let mut bench = Bench::new().await;
    let payloads = [reading(5, 1), "nonsense".to_owned(), reading(5, 2)];
    bench.accept(Watermarks::default(), &payloads).await;
    assert_eq!(bench.rows(dead_letter::TABLE).await, 2);
    bench.commit(3).await;
    // A kill: tail and watermarks are gone, the journal is replayed from its beginning.
    bench.next = 1;
    let fresh = Tail::new(SOURCE, bench.metrics.clone());
    fresh.ensure("parking", bench.known.borrow().domains.get("parking").unwrap().columns(), 3);
    fresh.ensure(dead_letter::TABLE, &dead_letter::columns(), 0);
    bench.tail = fresh;
    bench.accept(newest(5), &payloads).await;
    assert_eq!((bench.rows("parking").await, bench.rows(dead_letter::TABLE).await), (0, 2));
    assert!(bench.folder.path().exists());
}
