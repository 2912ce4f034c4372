//! Dead letters that come again, and readings that were refused before their schema was mended.

use zeugma_lake::Position;

use super::{
    super::{again::Note, *},
    Bench, NOW_US, SOURCE, newest, reading,
};
use crate::blocks::blocks;

const TOPIC: &str = "city/v1/lamia/parking/p1";

/// The letter that a record of another journal became.
fn note(position: i64, reason: Reason) -> String {
    Note { replayed_at_us: NOW_US, source: "source-b".into(), position, index: 0, reason }.to_string()
}

impl Bench {
    /// Accepts records from a position on, with what the lake holds and the watermarks that follow from it.
    async fn accept_at(
        &mut self,
        first: Position,
        payloads: &[Payload<'_>],
        watermarks: Watermarks,
        committed_through: &[(&str, Position)],
    ) {
        let mut batch = zeugma_journal::Batch::default();
        for payload in payloads {
            batch.push(&Record {
                tenant: Some("lamia"),
                topic: TOPIC,
                received_at_us: NOW_US,
                payload: *payload,
            });
        }
        let committed = committed_through.iter().map(|(name, through)| ((*name).to_owned(), *through));
        let (known, tail, metrics) = (self.known.subscribe(), self.tail.clone(), self.metrics.clone());
        let acceptor = Acceptor::new(SOURCE, known, tail, metrics, watermarks, committed.collect(), 0);
        let acceptor = acceptor.erasing(self.erasing.clone());
        let (handed, blocks) = blocks();
        assert!(handed.hand_over(Synced { first, batch }));
        drop(handed);
        acceptor.run(blocks).await.unwrap();
    }

    async fn letters(&self) -> Vec<DeadLetter> {
        use zeugma_lake::seam::Tail as _;
        let view = self.tail.view(dead_letter::TABLE).await.unwrap();
        view.batches.iter().flat_map(|batch| dead_letter::from_batch(&batch.rows).unwrap()).collect()
    }
}

#[tokio::test]
async fn letter_replayed_twice_makes_one_row() {
    let mut bench = Bench::new().await;
    let (note, text) = (note(7, Reason::UnknownDomain), reading(5, 1));
    let letter = Payload::Again { note: &note, bytes: text.as_bytes() };
    bench.accept_at(1, &[letter, letter], Watermarks::default(), &[]).await;
    assert_eq!((bench.rows("parking").await, bench.count(&bench.metrics.repeated)), (1, 1));
    let settled = |letter: &DeadLetter| (letter.source.clone(), letter.position, letter.reason);
    let letters: Vec<_> = bench.letters().await.iter().map(settled).collect();
    assert_eq!(letters, vec![("source-b".to_owned(), 7, Reason::Replayed); 2]);
}

#[tokio::test]
async fn letter_that_is_refused_for_the_same_reason_leaves_no_trace() {
    let mut bench = Bench::new().await;
    let note = note(7, Reason::Content);
    let letter = Payload::Again { note: &note, bytes: b"nonsense" };
    bench.accept_at(1, &[letter, letter], Watermarks::default(), &[]).await;
    assert_eq!(bench.letters().await, []);
}

#[tokio::test]
async fn letter_that_is_refused_for_another_reason_is_settled_and_follows_as_itself() {
    let mut bench = Bench::new().await;
    let note = note(7, Reason::UnknownDomain);
    let (first, other) = (reading(5, 1), reading(5, 2));
    let letter = Payload::Again { note: &note, bytes: other.as_bytes() };
    bench.accept_at(1, &[Payload::Whole(first.as_bytes()), letter], Watermarks::default(), &[]).await;
    let letters = bench.letters().await;
    assert_eq!((letters[0].reason, letters[0].position), (Reason::Replayed, 7));
    assert_eq!((letters[1].reason, letters[1].position), (Reason::Conflict, 2));
    assert_eq!((letters[1].source.as_str(), letters[1].payload.as_slice()), (SOURCE, other.as_bytes()));
    assert_eq!(letters.len(), 2);
}

#[tokio::test]
async fn settlement_lost_with_a_kill_is_made_again() {
    let mut bench = Bench::new().await;
    let (note, text) = (note(7, Reason::UnknownDomain), reading(5, 1));
    let letter = Payload::Again { note: &note, bytes: text.as_bytes() };
    bench.accept_at(1, &[letter], Watermarks::default(), &[]).await;
    bench.commit(1).await;
    let fresh = Tail::new(SOURCE, bench.metrics.clone());
    fresh.ensure("parking", bench.known.borrow().domains.get("parking").unwrap().columns(), 1);
    fresh.ensure(dead_letter::TABLE, &dead_letter::columns(), 0);
    bench.tail = fresh;
    bench.accept_at(1, &[letter], newest(5), &[("parking", 1)]).await;
    assert_eq!(bench.rows("parking").await, 0);
    assert_eq!(
        bench.letters().await.iter().map(|letter| letter.reason).collect::<Vec<_>>(),
        [Reason::Replayed]
    );
}

#[tokio::test]
async fn reading_refused_before_its_schema_was_mended_is_not_lost_with_its_letter() {
    // Position 2 was refused when it came, its table went on to 3, and the letter was not committed.
    for (time, committed_letters, kept) in [(7, 0, 1), (4, 0, 1), (7, 2, 0), (4, 2, 0)] {
        let mut bench = Bench::new().await;
        let text = reading(time, 1);
        let committed = [("parking", 3), (dead_letter::TABLE, committed_letters)];
        bench.accept_at(2, &[Payload::Whole(text.as_bytes())], newest(5), &committed).await;
        let letters = bench.letters().await;
        assert_eq!((bench.rows("parking").await, letters.len()), (0, kept), "{time} {committed_letters}");
        assert!(letters.iter().all(|letter| letter.payload == text.as_bytes()));
    }
}

#[tokio::test]
async fn repeat_of_what_is_erased_meanwhile_does_not_come_back_as_a_letter_after_a_restart() {
    // The device's newest reading is known to be another, or it has none any more.
    for watermarks in [Watermarks::default, || newest(9)] {
        for (device, letters) in [("p1", 0), ("p2", 1)] {
            let mut bench = Bench::new().await;
            bench.erasing = vec![Subject { tenant: "lamia".into(), device: Some(device.into()) }];
            let payload = reading(5, 1);
            let payload = Payload::Whole(payload.as_bytes());
            bench.accept_at(1, &[payload], watermarks(), &[("parking", 3)]).await;
            assert_eq!(bench.rows("parking").await, 0);
            assert_eq!(bench.letters().await.len(), letters, "where {device} is erased");
        }
    }
}
