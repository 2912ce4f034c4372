//! A damaged journal that is mended opens again, with every record that could be read, at its position.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use proptest::{prelude::*, sample::Index};
use zeugma_journal::{
    Batch, Error, Journal, Payload, Position, Record,
    inspect::inspect,
    mend::{Mended, mend},
};

fn batch(payload: u8) -> Batch {
    let mut batch = Batch::default();
    let record =
        Record { tenant: None, topic: "t", received_at_us: 0, payload: Payload::Whole(&[payload; 9]) };
    batch.push(&record);
    batch
}

/// A folder with these numbers of blocks in its segments, of one record each.
fn folder(segments: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    for blocks in segments {
        // A full one turns at the next append; one that was opened with room does not.
        let mut journal = Journal::open_with(folder.path(), 41).unwrap().0;
        for block in 0..*blocks {
            number += 1;
            journal.append(&batch(number)).unwrap();
            if block == 0 {
                drop(journal);
                journal = Journal::open(folder.path()).unwrap().0;
            }
        }
    }
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "journal"));
    files.sort();
    files
}

/// What can be read of a folder, by position.
fn readable(folder: &Path) -> BTreeMap<Position, Vec<u8>> {
    let mut found = BTreeMap::new();
    let segments = inspect(folder, |block| {
        for (position, record) in block.records() {
            let Payload::Whole(payload) = record.payload else { panic!("nothing was cut") };
            assert!(found.insert(position, payload.to_vec()).is_none(), "{position} is there twice");
        }
        true
    });
    segments.map(|_| found).unwrap()
}

fn mended(folder: &Path) -> Mended {
    mend(folder, &mut Rng::with_seed(1)).unwrap()
}

fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn what_can_be_read_survives_a_mending_and_the_journal_goes_on(
        segments in prop::collection::vec(1u8..5, 1..5),
        harm in prop::collection::vec((any::<Index>(), any::<Index>(), 0u8..3), 1..4),
    ) {
        let folder = folder(&segments);
        for (file, at, what) in harm {
            let files = files(folder.path());
            damage(&files[file.index(files.len())], |bytes| {
                let at = at.index(bytes.len() + 1);
                match what {
                    0 => bytes.truncate(at),
                    1 => bytes[at..].fill(0),
                    _ => bytes[at..].iter_mut().take(1).for_each(|byte| *byte ^= 1),
                }
            });
        }
        let before = readable(folder.path());
        mended(folder.path());
        prop_assert_eq!(&readable(folder.path()), &before);
        prop_assert_eq!(mended(folder.path()), Mended::default(), "once is enough");
        let (mut journal, recovery) = Journal::open(folder.path()).unwrap();
        prop_assert_eq!(recovery.records, before.len() as u64);
        let next = journal.append(&batch(99)).unwrap();
        prop_assert!(before.keys().all(|position| *position < next));
        drop(journal);
        prop_assert_eq!(Journal::open(folder.path()).unwrap().1.records, before.len() as u64 + 1);
    }
}

#[test]
fn mending_says_what_is_lost_and_keeps_the_damaged_file_aside() {
    let folder = folder(&[5, 1]);
    let file = files(folder.path()).remove(0);
    let block = (fs::metadata(&file).unwrap().len() as usize - 40) / 5;
    // The second and the third.
    damage(&file, |bytes| bytes[40 + block..40 + 3 * block].fill(0xff));
    let damaged = fs::read(&file).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(Error::Damaged { .. })));
    let found = mended(folder.path());
    assert_eq!(found.lost, [(2, 3)]);
    assert_eq!(fs::read(&found.kept_aside[0]).unwrap(), damaged);
    assert_eq!(readable(folder.path()).into_keys().collect::<Vec<_>>(), [1, 4, 5, 6]);
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    let positions = |journal: &Journal, beyond| -> Vec<_> {
        journal.replay(beyond).map(|block| block.unwrap().first).collect()
    };
    assert_eq!((positions(&journal, 0), positions(&journal, 2)), (vec![1, 4, 5, 6], vec![4, 5, 6]));
    journal.truncate(3).unwrap();
    assert_eq!(positions(&journal, 0), [4, 5, 6]);
}

#[test]
fn missing_segment_is_given_up() {
    let folder = folder(&[1, 5, 2]);
    fs::remove_file(&files(folder.path())[1]).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(Error::Damaged { .. })));
    assert_eq!(mended(folder.path()).lost, [(2, 6)]);
    assert_eq!(Journal::open(folder.path()).unwrap().0.next(), 9);
}

#[test]
fn mending_that_was_cut_short_is_finished_by_the_next() {
    let whole = folder(&[4]);
    let file = files(whole.path()).remove(0);
    let block = (fs::metadata(&file).unwrap().len() as usize - 40) / 4;
    damage(&file, |bytes| bytes[40 + block + 20] ^= 1);
    let damaged = fs::read(&file).unwrap();
    mended(whole.path());
    // The last step of it, which replaces the damaged file, did not happen.
    fs::write(&file, damaged).unwrap();
    assert_eq!(mended(whole.path()).lost, [(2, 2)]);
    assert_eq!(readable(whole.path()).into_keys().collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(Journal::open(whole.path()).unwrap().1.records, 3);
}

#[test]
fn journal_in_use_is_not_mended() {
    let folder = folder(&[1]);
    let _journal = Journal::open(folder.path()).unwrap();
    assert!(matches!(mend(folder.path(), &mut Rng::with_seed(1)), Err(Error::Locked { .. })));
}
