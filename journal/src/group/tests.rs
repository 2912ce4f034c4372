use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use super::*;
use crate::Payload;

/// Long enough for a thread to do what it must not do.
const A_MOMENT: Duration = Duration::from_millis(100);

const PATIENCE: Duration = Duration::from_secs(10);

fn batch(arrivals_us: &[i64]) -> Batch {
    let mut batch = Batch::default();
    for &received_at_us in arrivals_us {
        let payload = Payload::Whole(b"{}");
        batch.push(&Record { tenant: None, topic: "city/v1/a/fleet/b", received_at_us, payload });
    }
    batch
}

fn submit(group: &Group, arrivals_us: &[i64], tell: &Sender<bool>) {
    let tell = tell.clone();
    let told = Box::new(move |result: Result<Position, Error>| tell.send(result.is_ok()).unwrap_or(()));
    group.submit(batch(arrivals_us), told);
}

fn arrivals(blocks: &Receiver<Synced>) -> Vec<i64> {
    let block = blocks.recv_timeout(PATIENCE).unwrap();
    block.records().map(|(_, record)| record.received_at_us).collect()
}

#[test]
fn held_group_tells_nobody_and_arrivals_move_with_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let (out, blocks) = channel();
    let (group, _thread) = Group::start(journal, move |block| out.send(block).is_ok()).unwrap();
    let (tell, told) = channel();
    group.hold();
    submit(&group, &[1_000, 1_200], &tell);
    assert!(!group.has_room(), "whoever asks first waits");
    assert_eq!(told.recv_timeout(A_MOMENT), Err(RecvTimeoutError::Timeout));
    let mut seen = Vec::new();
    group.look_at_waiting(1, |record| seen.push(record.received_at_us));
    assert_eq!(seen, [1_000]);
    group.release(5_000);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
    assert_eq!(arrivals(&blocks), [4_800, 5_000]);
    // A clock that did not move, or went back, moves nothing.
    group.hold();
    submit(&group, &[7_000], &tell);
    group.release(6_000);
    assert_eq!(arrivals(&blocks), [7_000]);
}

#[test]
fn record_that_comes_again_keeps_its_arrival() {
    let mut again = batch(&[1_000]);
    let payload = Payload::Again { note: "n", bytes: b"{}" };
    again.push(&Record { tenant: None, topic: "city/v1/a/fleet/b", received_at_us: 5, payload });
    assert_eq!(again.newest_arrival_us(), Some(1_000));
    again.move_arrivals(500);
    assert_eq!(again.records().map(|record| record.received_at_us).collect::<Vec<_>>(), [1_500, 5]);
}

#[test]
fn held_records_are_refused_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let (group, thread) = Group::start(journal, |_| true).unwrap();
    let (tell, told) = channel();
    group.hold();
    submit(&group, &[1], &tell);
    group.close();
    assert_eq!(told.recv_timeout(PATIENCE), Ok(false));
    assert_eq!(thread.join().unwrap().unwrap().next(), 1, "nothing was written");
}

#[test]
fn every_step_is_heard_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let (hear, heard) = channel();
    let watch = move |step: Step<'_>| hear.send(format!("{step:?}")).unwrap_or(());
    let (group, thread) = Group::start_watched(journal, |_| false, watch).unwrap();
    assert!(group.append(batch(&[1, 2])).is_ok());
    thread.join().unwrap().unwrap_err();
    let bytes = batch(&[1, 2]).bytes();
    let expected =
        [format!("Begins {{ records: 2, bytes: {bytes} }}"), "Synced".into(), "Failed(Closed)".into()];
    assert_eq!(heard.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn truncated_segments_are_deleted_beside_the_thread_and_before_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    // Every record begins a segment.
    let (journal, _) = Journal::open_with(folder.path(), 1).unwrap();
    let (group, thread) = Group::start(journal, |_| true).unwrap();
    (1..=5).for_each(|arrival_us| assert_eq!(group.append(batch(&[arrival_us])).unwrap(), arrival_us as u64));
    group.truncate(3);
    group.truncate(4);
    group.close();
    let journal = thread.join().unwrap().unwrap();
    assert_eq!(journal.first(), 5);
    let names = crate::disk::names(folder.path()).unwrap();
    assert_eq!(crate::segment::firsts(names), [5]);
}

#[test]
fn turn_parts_what_can_be_deleted_from_what_comes_after_however_much_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(folder.path()).unwrap();
    let (group, thread) = Group::start(journal, |_| true).unwrap();
    let turn = |group: &Group| {
        let (tell, told) = channel();
        group.turn(Box::new(move |last| tell.send(last.ok()).unwrap_or(())));
        told.recv_timeout(PATIENCE).unwrap()
    };
    assert_eq!(turn(&group), Some(0), "nothing came before");
    group.append(batch(&[1, 2, 3])).unwrap();
    assert_eq!(turn(&group), Some(3));
    group.append(batch(&[4])).unwrap();
    let delete = |through: Position| {
        let (tell, told) = channel();
        group.truncate_surely(through, Box::new(move |deleted| tell.send(deleted).unwrap_or(())));
        told.recv_timeout(PATIENCE).unwrap()
    };
    assert!(delete(3));
    assert_eq!(crate::segment::firsts(crate::disk::names(folder.path()).unwrap()), [4]);
    group.append(batch(&[5, 6])).unwrap();
    assert!(!delete(5), "what lies in one segment with a later record stays");
    group.close();
    assert_eq!(thread.join().unwrap().unwrap().first(), 4);
    assert_eq!(turn(&group), None, "a closed journal turns no more");
}
