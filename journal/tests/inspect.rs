//! What an inspection says of files that are torn, damaged, missing or newer.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use zeugma_journal::{
    Batch, Journal, Payload, Position, Record,
    inspect::{Fault, Segment, inspect},
};

/// Bytes of a segment's header, and of a block of one empty record here.
const HEAD: usize = 40;
const BLOCK: usize = 28 + 4 + 19 + 1;

/// A folder with a segment for each number, of so many blocks of one record.
fn folder(segments: &[u64]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut batch = Batch::default();
    batch.push(&Record { tenant: None, topic: "t", received_at_us: 0, payload: Payload::Whole(b"") });
    for blocks in segments {
        let segment_bytes_max = HEAD as u64 + 1;
        // A full one turns at the next append.
        let (mut journal, _) = Journal::open_with(folder.path(), segment_bytes_max).unwrap();
        journal.append(&batch).unwrap();
        drop(journal);
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        (1..*blocks).for_each(|_| assert!(journal.append(&batch).is_ok()));
    }
    folder
}

fn file(folder: &Path, first: Position) -> std::path::PathBuf {
    folder.join(format!("{first:020}.journal"))
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn positions(folder: &Path) -> (Vec<Position>, Vec<Segment>) {
    let mut positions = Vec::new();
    let segments = inspect(folder, |block| {
        positions.extend(block.records().map(|(position, _)| position));
        true
    });
    (positions, segments.unwrap())
}

#[test]
fn whole_journal_has_segments_without_faults() {
    let folder = folder(&[2, 1, 3]);
    let (found, segments) = positions(folder.path());
    assert_eq!(found, [1, 2, 3, 4, 5, 6]);
    let shapes: Vec<_> = segments.iter().map(|it| (it.first, it.next, it.records, it.format)).collect();
    assert_eq!(shapes, [(1, 3, 2, Some(3)), (3, 4, 1, Some(3)), (4, 7, 3, Some(3))]);
    assert!(segments.iter().all(|segment| segment.faults.is_empty()));
    assert_eq!(segments[2].bytes, (HEAD + 3 * BLOCK) as u64);
}

#[test]
fn damage_is_passed_over_to_the_next_block() {
    let folder = folder(&[4]);
    change(&file(folder.path(), 1), |bytes| bytes[HEAD + BLOCK + 12] ^= 4);
    let (found, segments) = positions(folder.path());
    assert_eq!(found, [1, 3, 4]);
    let fault = Fault {
        at: (HEAD + BLOCK) as u64,
        bytes: BLOCK as u64,
        problem: "a block's checksum does not fit",
        damage: true,
        records_lost: 1,
    };
    assert_eq!(segments[0].faults, [fault]);
}

#[test]
fn torn_end_is_damage_where_the_next_segment_goes_on_elsewhere() {
    let folder = folder(&[2, 2]);
    for first in [1, 3] {
        change(&file(folder.path(), first), |bytes| bytes.truncate(HEAD + BLOCK + 5));
    }
    let (found, segments) = positions(folder.path());
    assert_eq!(found, [1, 3]);
    let ends: Vec<_> = segments.iter().map(|segment| segment.faults.clone()).collect();
    let end = |damage, records_lost| {
        let problem = "a block is cut off";
        vec![Fault { at: (HEAD + BLOCK) as u64, bytes: 5, problem, damage, records_lost }]
    };
    assert_eq!(ends, [end(true, 1), end(false, 0)]);
    // What a full disk left in part was cut off without a sync, and a new segment begun.
    let folder = self::folder(&[1, 1]);
    change(&file(folder.path(), 1), |bytes| bytes.extend(b"part"));
    let (found, segments) = positions(folder.path());
    assert_eq!((found, segments[0].faults[0].damage), (vec![1, 2], false));
    assert!(Journal::open(folder.path()).is_ok());
}

#[test]
fn missing_segment_is_told_with_the_records_it_had() {
    let folder = folder(&[1, 5, 1]);
    fs::remove_file(file(folder.path(), 2)).unwrap();
    let (found, segments) = positions(folder.path());
    assert_eq!(found, [1, 7]);
    let fault = Fault {
        at: (HEAD + BLOCK) as u64,
        bytes: 0,
        problem: "records are missing after it",
        damage: true,
        records_lost: 5,
    };
    assert_eq!((&segments[0].faults, &segments[1].faults), (&vec![fault], &vec![]));
}

#[test]
fn segment_without_a_whole_header_is_read_by_its_name() {
    let folder = folder(&[2, 1]);
    change(&file(folder.path(), 1), |bytes| bytes[3] ^= 1);
    let (found, segments) = positions(folder.path());
    assert_eq!((found, segments[0].format), (vec![1, 2, 3], None));
    assert_eq!((segments[0].faults[0].at, segments[0].faults[0].damage), (0, true));
    change(&file(folder.path(), 3), |bytes| bytes.truncate(HEAD - 1));
    let (found, segments) = positions(folder.path());
    assert_eq!(
        (found, segments[1].faults[0].damage),
        (vec![1, 2], false),
        "a crash leaves such a newest one"
    );
}

#[test]
fn format_of_another_program_is_told_and_not_read() {
    let folder = folder(&[1]);
    change(&file(folder.path(), 1), |bytes| {
        bytes[8] = 9;
        let checksum = crc32c::crc32c(&bytes[..HEAD - 4]);
        bytes[HEAD - 4..HEAD].copy_from_slice(&checksum.to_le_bytes());
    });
    let (found, segments) = positions(folder.path());
    assert_eq!((found.len(), segments[0].format, segments[0].faults.len()), (0, Some(9), 1));
}

#[test]
fn inspection_ends_when_enough_was_seen() {
    let folder = folder(&[2, 2]);
    let mut seen = 0;
    let segments = inspect(folder.path(), |_| {
        seen += 1;
        false
    });
    assert_eq!((seen, segments.unwrap().len()), (1, 1));
}

#[test]
fn inspection_needs_no_lock_and_changes_nothing() {
    let folder = folder(&[1]);
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    let before = fs::read(file(folder.path(), 1)).unwrap();
    assert_eq!(positions(folder.path()).0, [1]);
    assert_eq!(fs::read(file(folder.path(), 1)).unwrap(), before);
    let mut batch = Batch::default();
    batch.push(&Record { tenant: None, topic: "t", received_at_us: 0, payload: Payload::Whole(b"") });
    journal.append(&batch).unwrap();
    assert_eq!(positions(folder.path()).0, [1, 2]);
}
