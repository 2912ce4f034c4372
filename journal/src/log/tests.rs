use std::{
    fs, io,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use fastrand::Rng;
use proptest::prelude::*;

use super::*;
use crate::{Payload, Record};

fn batch(payloads: &[&[u8]]) -> Batch {
    let mut batch = Batch::default();
    for (index, payload) in payloads.iter().enumerate() {
        batch.push(&Record {
            tenant: (index % 2 == 0).then_some("lamia"),
            topic: "city/v1/lamia/fleet/bus-1",
            received_at_us: index as i64,
            payload: Payload::Whole(payload),
        });
    }
    batch
}

fn payloads(journal: &Journal, beyond: Position) -> Vec<(Position, Vec<u8>)> {
    let mut found = Vec::new();
    for block in journal.replay(beyond) {
        for (position, record) in block.unwrap().records().filter(|(position, _)| *position > beyond) {
            let Payload::Whole(payload) = record.payload else { panic!("cut") };
            found.push((position, payload.to_vec()));
        }
    }
    found
}

fn newest_segment(folder: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "journal"));
    files.sort();
    files.pop().unwrap()
}

#[test]
fn records_come_back_in_order_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, recovery) = Journal::open(folder.path()).unwrap();
    assert_eq!(recovery, Recovery::default());
    assert_eq!(journal.append(&batch(&[b"a", b"", b"c"])).unwrap(), 1);
    assert_eq!(journal.append(&batch(&[b"d"])).unwrap(), 4);
    drop(journal);
    let (journal, recovery) = Journal::open(folder.path()).unwrap();
    assert_eq!((recovery.records, recovery.torn_bytes, journal.next()), (4, 0, 5));
    let all = [(1, b"a".to_vec()), (2, vec![]), (3, b"c".to_vec()), (4, b"d".to_vec())];
    assert_eq!(payloads(&journal, 0), all);
    assert_eq!(payloads(&journal, 2), all[2..]);
}

#[test]
fn cut_payload_remembers_how_long_it_was() {
    let mut batch = Batch::default();
    let record = Record {
        tenant: None,
        topic: "what/ever",
        received_at_us: -1,
        payload: Payload::Cut { kept: b"beginning", bytes: 300_000, sha256: [7; 32] },
    };
    batch.push(&record);
    let synced = Synced { first: 9, batch };
    assert_eq!(synced.records().collect::<Vec<_>>(), [(9, record)]);
}

#[test]
fn second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Journal::open(folder.path()).unwrap();
    let refused = Journal::open(folder.path()).unwrap_err();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
}

#[test]
fn positions_never_start_again_after_truncation() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open_with(folder.path(), 64).unwrap();
    for _ in 0..5 {
        journal.append(&batch(&[b"0123456789012345678901234567890123456789"])).unwrap();
    }
    let before = journal.segments();
    journal.truncate(3).unwrap();
    assert!(journal.segments() < before);
    assert_eq!(payloads(&journal, 0).first().map(|(position, _)| *position), Some(4));
    journal.truncate(5).unwrap();
    assert_eq!((journal.segments(), payloads(&journal, 0)), (1, vec![]));
    drop(journal);
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    assert_eq!(journal.append(&batch(&[b"x"])).unwrap(), 6);
}

#[test]
fn damage_before_a_synced_block_is_reported_and_nothing_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.append(&batch(&[b"first"])).unwrap();
    journal.append(&batch(&[b"second"])).unwrap();
    drop(journal);
    let path = newest_segment(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[segment::HEAD + 25] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = Journal::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Damaged { at, .. } if at == segment::HEAD as u64), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn missing_segment_and_a_shortened_one_are_damage_and_a_torn_end_that_goes_on_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open_with(folder.path(), 64).unwrap();
    for _ in 0..3 {
        journal.append(&batch(&[b"0123456789012345678901234567890123456789"])).unwrap();
    }
    drop(journal);
    let middle = folder.path().join(segment::name(2));
    let bytes = fs::read(&middle).unwrap();
    // Written in part on a full disk, cut off without a sync, and a new segment begun.
    fs::write(&middle, [&bytes[..], b"torn"].concat()).unwrap();
    let (journal, recovery) = Journal::open(folder.path()).unwrap();
    assert_eq!((recovery.records, payloads(&journal, 0).len()), (3, 3));
    drop(journal);
    fs::write(&middle, &bytes[..bytes.len() - 1]).unwrap();
    let error = Journal::open(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Damaged { path, .. } if *path == middle), "{error}");
    fs::remove_file(&middle).unwrap();
    let error = Journal::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("records are missing"), "{error}");
}

/// A disk that takes this many bytes more, and may fail to sync names.
#[derive(Debug)]
struct SmallDisk {
    folder: Folder,
    room: AtomicUsize,
    refuses_names: AtomicBool,
    names_synced: AtomicUsize,
}

impl Disk for SmallDisk {
    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let room = self.room.load(SeqCst);
        self.folder.append(name, &bytes[..bytes.len().min(room)])?;
        if bytes.len() > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.room.fetch_sub(bytes.len(), SeqCst);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.folder.list()
    }
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.folder.read(name)
    }
    fn create(&self, name: &str) -> io::Result<()> {
        if self.room.load(SeqCst) == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.folder.create(name)
    }
    fn cut(&self, name: &str, bytes: u64) -> io::Result<()> {
        self.folder.cut(name, bytes)
    }
    fn sync(&self, name: &str) -> io::Result<()> {
        self.folder.sync(name)
    }
    fn sync_names(&self) -> io::Result<()> {
        if self.refuses_names.load(SeqCst) {
            return Err(io::ErrorKind::Other.into());
        }
        self.names_synced.fetch_add(1, SeqCst);
        self.folder.sync_names()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.folder.rename(from, to)
    }
    fn delete(&self, name: &str) -> io::Result<()> {
        self.folder.delete(name)
    }
    fn place(&self, name: &str) -> PathBuf {
        self.folder.place(name)
    }
}

/// A journal with one record on such a disk.
fn on_a_small_disk(folder: &tempfile::TempDir) -> (Arc<SmallDisk>, Journal) {
    let folder = Folder::open(folder.path()).unwrap();
    let (room, refuses_names, names_synced) =
        (AtomicUsize::new(300), AtomicBool::new(false), AtomicUsize::new(0));
    let disk = Arc::new(SmallDisk { folder, room, refuses_names, names_synced });
    let (mut journal, _) = Journal::open_on(disk.clone(), 1_000, Rng::with_seed(1)).unwrap();
    journal.append(&batch(&[b"a"])).unwrap();
    (disk, journal)
}

#[test]
fn segment_that_could_not_be_begun_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, mut journal) = on_a_small_disk(&folder);
    disk.room.store(17, SeqCst);
    // Everything is committed, and there is no room for a whole header of the next segment.
    assert!(matches!(journal.truncate(1), Err(Error::Disk { .. })));
    disk.room.store(1_000, SeqCst);
    assert_eq!(journal.append(&batch(&[b"b"])).unwrap(), 2);
    drop((journal, disk));
    let (journal, _) = Journal::open(folder.path()).unwrap();
    assert_eq!(payloads(&journal, 1), [(2, b"b".to_vec())]);
}

#[test]
fn segment_for_which_there_is_not_even_a_name_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, mut journal) = on_a_small_disk(&folder);
    disk.room.store(0, SeqCst);
    assert!(matches!(journal.truncate(1), Err(Error::Disk { .. })));
    disk.room.store(1_000, SeqCst);
    journal.truncate(1).expect("nothing failed that could not be tried again");
    assert_eq!((journal.first(), journal.append(&batch(&[b"b"])).unwrap()), (2, 2));
}

#[test]
fn deletion_whose_sync_failed_is_synced_when_it_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, _journal) = on_a_small_disk(&folder);
    disk.refuses_names.store(true, SeqCst);
    assert!(matches!(segment::delete(&*disk, 1), Err(Error::Disk { .. })));
    disk.refuses_names.store(false, SeqCst);
    let before = disk.names_synced.load(SeqCst);
    segment::delete(&*disk, 1).unwrap();
    assert_eq!(disk.names_synced.load(SeqCst), before + 1);
}

#[test]
fn beginning_of_a_segment_that_was_left_over_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    journal.append(&batch(&[b"a", b"b", b"c"])).unwrap();
    drop(journal);
    let left_over = folder.path().join("00000000000000000002.journal");
    fs::write(&left_over, b"ZEUGMAJ").unwrap();
    let found = crate::inspect::inspect(folder.path(), |_| true).unwrap();
    assert!(found.iter().flat_map(|segment| &segment.faults).all(|fault| !fault.damage), "{found:?}");
    let mended = crate::mend::mend(folder.path(), &mut Rng::with_seed(1)).unwrap();
    assert_eq!(mended, crate::mend::Mended::default());
    let (journal, _) = Journal::open(folder.path()).unwrap();
    assert_eq!((journal.next(), payloads(&journal, 0).len(), left_over.exists()), (4, 3, false));
    drop(journal);
    // One that begins later says that records are missing.
    fs::write(folder.path().join("00000000000000000006.journal"), b"ZEUGMAJ").unwrap();
    let error = Journal::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("records are missing"), "{error}");
}

#[test]
fn format_of_another_program_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    drop(Journal::open(folder.path()).unwrap());
    let path = newest_segment(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    let check_at = segment::HEAD - 4;
    let checksum = crc32c::crc32c(&bytes[..check_at]);
    bytes[check_at..].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = Journal::open(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("use the program that wrote it"), "{error}");
}

proptest! {
    /// A crash leaves the file at any length: what was synced before is whole, the rest is cut off.
    #[test]
    fn torn_end_is_cut_off_wherever_it_tears(
        blocks in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..4), 1..6),
        tear in any::<prop::sample::Index>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        let mut ends = vec![(segment::HEAD as u64, 1)];
        for block in &blocks {
            let payloads: Vec<&[u8]> = block.iter().map(Vec::as_slice).collect();
            journal.append(&batch(&payloads)).unwrap();
            ends.push((journal.open_bytes, journal.next()));
        }
        drop(journal);
        let path = newest_segment(folder.path());
        let bytes = fs::metadata(&path).unwrap().len();
        let len = segment::HEAD as u64 + tear.index((bytes as usize - segment::HEAD) + 1) as u64;
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
        let (good, next) = *ends.iter().rfind(|(end, _)| *end <= len).unwrap();
        let (mut journal, recovery) = Journal::open(folder.path()).unwrap();
        prop_assert_eq!(recovery.torn_bytes, len - good);
        prop_assert_eq!(journal.next(), next);
        prop_assert_eq!(journal.append(&batch(&[b"after"])).unwrap(), next);
        prop_assert_eq!(payloads(&journal, 0).len() as u64, next);
    }

    #[test]
    fn any_bytes_in_a_segment_are_an_error_or_cut_off_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(segment::name(1)), &bytes).unwrap();
        drop(Journal::open(folder.path()));
        let (mut journal, _) = Journal::open(&folder.path().join("other")).unwrap();
        journal.append(&batch(&[b"x"])).unwrap();
        let path = newest_segment(&folder.path().join("other"));
        drop(journal);
        let mut all = fs::read(&path).unwrap();
        all.extend(&bytes);
        fs::write(&path, all).unwrap();
        drop(Journal::open(&folder.path().join("other")));
    }
}
