use std::sync::Arc;

use proptest::prelude::*;
use zeugma_lake::{Lake, Lease, Shelf, find::Key};
use zeugma_schemas::{
    batch::{Builder, Origin},
    domain::Domains,
    payload::readings,
};

use super::*;

const NOW_US: i64 = 1_790_000_000_000_000;

fn tail() -> Tail {
    let tail = Tail::new("s", Arc::new(Metrics::default()));
    tail.ensure("parking", Domains::builtin().get("parking").unwrap().columns(), 0);
    tail
}

fn put(tail: &Tail, positions: &[Position]) {
    let domain = Domains::builtin().get("parking").unwrap().clone();
    let mut builder = Builder::new(domain.clone());
    for position in positions {
        let payload = format!(r#"{{"time":{},"occupied_spaces":1}}"#, NOW_US + *position as i64);
        let origin = Origin { tenant: "t", device: "d", received_at_us: NOW_US };
        readings(&domain, payload.as_bytes(), NOW_US)
            .iter()
            .flatten()
            .for_each(|found| builder.push(origin, found));
    }
    tail.append("parking", builder.finish().unwrap(), positions.to_vec()).unwrap();
}

async fn shelf() -> Shelf {
    let lake = Lake::open("memory:///").await.unwrap();
    let lease = Lease::take(lake.store(), "s", 0).await.unwrap();
    Shelf::with_store(lake.store().root(), &lease)
}

async fn seal(tail: &Tail, shelf: &Shelf, reach: Reach) {
    let cut = tail.seal("parking", reach).unwrap();
    let sealed = shelf.seal("parking", cut.positions, cut.columns, cut.rows, 0).await.unwrap();
    tail.seal_done("parking", Some(sealed));
}

fn left(tail: &Tail) -> Vec<Position> {
    let state = tail.state();
    state.tables["parking"].in_memory().flat_map(|batch| batch.positions.to_vec()).collect()
}

#[test]
fn small_batches_are_joined_and_late_ones_stay_by_themselves() {
    let tail = tail();
    (10..110).for_each(|position| put(&tail, &[position]));
    assert!(tail.state().tables["parking"].batches.len() <= 8);
    put(&tail, &[5]);
    assert_eq!(left(&tail).last(), Some(&5));
    assert_eq!(left(&tail).len(), 101);
}

#[tokio::test]
async fn rows_are_found_by_their_keys_until_they_are_released() {
    let tail = tail();
    put(&tail, &[1, 2, 3]);
    let key = |position: i64| Key { tenant: "t".into(), device: "d".into(), time_us: NOW_US + position };
    let sought: Arc<Sought> = Arc::new([key(2), key(9)].into_iter().collect());
    let shelf = shelf().await;
    for sealed in [false, true] {
        if sealed {
            tail.decided(3, &BTreeMap::new());
            seal(&tail, &shelf, Reach::Decided).await;
        }
        let found = tail.find("parking", &sought).await.unwrap();
        assert_eq!(found.rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    }
    tail.release("parking", 3);
    let found = tail.find("parking", &sought).await.unwrap();
    assert_eq!((found.rows.len(), found.released_through), (0, 3));
}

#[tokio::test]
async fn sealing_under_pressure_passes_what_is_undecided_and_the_commit_does_not() {
    let (tail, shelf) = (tail(), shelf().await);
    put(&tail, &[1, 2, 4, 5]);
    tail.decided(5, &BTreeMap::from([("parking".to_owned(), 3)]));
    seal(&tail, &shelf, Reach::Accepted).await;
    // Everything is in one file, so that nothing can be committed before the third is decided.
    assert!(tail.due("parking").is_none());
    put(&tail, &[3]);
    tail.decided(5, &BTreeMap::new());
    assert!(tail.due("parking").is_none(), "the third is not sealed yet");
    seal(&tail, &shelf, Reach::Decided).await;
    let due = tail.due("parking").unwrap();
    assert_eq!((due.through, due.rows.len()), (5, 2));
}

#[tokio::test]
async fn rows_whose_sealing_failed_are_in_memory_again() {
    let (tail, shelf) = (tail(), shelf().await);
    put(&tail, &[1, 2]);
    tail.decided(2, &BTreeMap::new());
    let cut = tail.seal("parking", Reach::Decided).unwrap();
    assert!(tail.seal("parking", Reach::Decided).is_none(), "one sealing at a time");
    put(&tail, &[3]);
    assert_eq!((cut.positions, left(&tail)), (1..=2, vec![1, 2, 3]));
    tail.seal_done("parking", None);
    assert_eq!(left(&tail), [1, 2, 3]);
    tail.decided(3, &BTreeMap::new());
    seal(&tail, &shelf, Reach::Decided).await;
    assert_eq!(tail.due("parking").unwrap().through, 3);
}

#[tokio::test]
async fn followers_have_come_no_further_than_all_is_decided() {
    use futures::StreamExt;
    use zeugma_lake::seam::{News, Tail as _};

    let tail = tail();
    put(&tail, &[1, 2, 3]);
    tail.decided(3, &BTreeMap::from([("parking".to_owned(), 3)]));
    let mut feed = tail.follow(&["parking".to_owned(), "fleet".to_owned()]).await.unwrap();
    // The sixth is late; then it is decided, and so is the third.
    tail.undecided(&BTreeMap::from([("parking".to_owned(), 6)]));
    put(&tail, &[4, 5, 7]);
    tail.decided(7, &BTreeMap::from([("parking".to_owned(), 6)]));
    put(&tail, &[6]);
    tail.decided(7, &BTreeMap::new());
    put(&tail, &[8]);
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(match feed.next().await.unwrap().unwrap() {
            News::Begin { table, through, .. } => (table, Vec::new(), through),
            News::Rows { table, batch, through, .. } => (table, batch.positions.to_vec(), through),
            News::Missed => panic!("nothing is missed"),
        });
    }
    let parking = |positions: &[Position], through| ("parking".to_owned(), positions.to_vec(), through);
    let begin = [parking(&[], 2), ("fleet".to_owned(), Vec::new(), 3)];
    assert_eq!(told[..2], begin);
    assert_eq!(told[2..], [parking(&[4, 5, 7], 2), parking(&[6], 5), parking(&[8], 8)]);
}

#[test]
fn table_with_nothing_to_commit_releases_nothing() {
    let tail = tail();
    tail.decided(7, &BTreeMap::new());
    assert!(tail.seal("parking", Reach::Decided).is_none() && tail.due("parking").is_none());
    assert_eq!(tail.safe_through(), 7);
}

proptest! {
    /// Whatever is put, cut and released in between: each row leaves in exactly one cut.
    #[test]
    fn every_row_is_in_exactly_one_cut(steps in prop::collection::vec((1u64..4, any::<bool>()), 1..40)) {
        let tail = tail();
        let (mut next, mut committed, mut all) = (1, 0, 0);
        for (count, commit) in steps {
            let positions: Vec<Position> = (0..count).map(|index| next + index / 2).collect();
            next = positions[positions.len() - 1] + 1;
            all += positions.len();
            put(&tail, &positions);
            tail.decided(next - 1, &BTreeMap::new());
            if commit && let Some(cut) = tail.seal("parking", Reach::Decided) {
                committed += cut.rows.iter().map(RecordBatch::num_rows).sum::<usize>();
                tail.state().tables.get_mut("parking").unwrap().sealing.clear();
                tail.release("parking", *cut.positions.end());
            }
        }
        prop_assert_eq!(committed + left(&tail).len(), all);
    }
}
