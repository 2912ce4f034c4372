//! The journal against a list of what was synced: crashes at any byte, bits that flip, segments that turn.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::{prelude::*, sample::Index};
use zeugma_journal::{Batch, Error, Journal, Payload, Position, Record, inspect::inspect};

/// Bytes before a segment's first block.
const SEGMENT_HEAD: u64 = 40;

fn batch(payloads: &[Vec<u8>]) -> Batch {
    let mut batch = Batch::default();
    for payload in payloads {
        batch.push(&Record {
            tenant: Some("lamia"),
            topic: "city/v1/lamia/fleet/bus-1",
            received_at_us: payload.len() as i64,
            payload: Payload::Whole(payload),
        });
    }
    batch
}

fn kept(journal: &Journal, beyond: Position) -> Vec<(Position, Vec<u8>)> {
    let mut kept = Vec::new();
    for block in journal.replay(beyond) {
        for (position, record) in block.expect("a readable block").records() {
            let Payload::Whole(payload) = record.payload else { panic!("nothing was cut") };
            kept.push((position, payload.to_vec()));
        }
    }
    kept.retain(|(position, _)| *position > beyond);
    kept
}

/// The segments' files, oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "journal")).collect();
    files.sort();
    files
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).expect("a file").len()
}

fn cut(path: &Path, len: u64) {
    fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(len)).expect("a cut file");
}

/// What happens to a journal.
#[derive(Debug, Clone)]
enum Step {
    /// Records are appended, and synced.
    Append(Vec<Vec<u8>>),
    /// All but the newest few may go.
    Truncate { keep: u64 },
    /// The program ends, and starts again.
    Reopen,
    /// The program is killed while it appends: the file ends anywhere within what it wrote.
    Tear { lost: Vec<Vec<u8>>, at: Index },
    /// The power goes while it appends: the file is as long as it would be, and its end holds zeros from somewhere
    /// on.
    Blank { lost: Vec<Vec<u8>>, from: Index },
    /// The program is killed while it begins a segment: the file of the next name holds part of a header.
    TearTurn { header_bytes: Index },
}

fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => payloads().prop_map(Step::Append),
        1 => (0u64..8).prop_map(|keep| Step::Truncate { keep }),
        1 => Just(Step::Reopen),
        2 => (payloads(), any::<Index>()).prop_map(|(lost, at)| Step::Tear { lost, at }),
        1 => (payloads(), any::<Index>()).prop_map(|(lost, from)| Step::Blank { lost, from }),
        1 => any::<Index>().prop_map(|header_bytes| Step::TearTurn { header_bytes }),
    ]
}

/// A journal, and what must be in it.
struct Model {
    folder: tempfile::TempDir,
    segment_bytes_max: u64,
    journal: Option<Journal>,
    /// Everything synced, from position 1.
    synced: Vec<Vec<u8>>,
    /// What may be gone.
    truncated_through: Position,
}

impl Model {
    fn new(segment_bytes_max: u64) -> Model {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut model =
            Model { folder, segment_bytes_max, journal: None, synced: Vec::new(), truncated_through: 0 };
        model.open(0);
        model
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().expect("it is open")
    }

    /// Opens, where a crash has left this many bytes behind the last whole block.
    fn open(&mut self, torn_bytes: u64) {
        let (journal, recovery) =
            Journal::open_with(self.folder.path(), self.segment_bytes_max).expect("it opens");
        assert_eq!(recovery.torn_bytes, torn_bytes);
        self.journal = Some(journal);
    }

    fn append(&mut self, payloads: &[Vec<u8>]) {
        let first = self.journal().append(&batch(payloads)).expect("it appends");
        assert_eq!(first, self.synced.len() as u64 + 1);
        self.synced.extend_from_slice(payloads);
    }

    /// Appends what a crash will take away again; answers the file, where the block begins there and where it ends.
    fn append_and_end(&mut self, lost: &[Vec<u8>]) -> (PathBuf, u64, u64) {
        let before: Vec<_> = files(self.folder.path()).into_iter().map(|path| (len(&path), path)).collect();
        self.journal().append(&batch(lost)).expect("it appends");
        self.journal = None;
        let path = files(self.folder.path()).pop().expect("a segment");
        let begin = before.iter().find(|(_, known)| *known == path).map_or(SEGMENT_HEAD, |(len, _)| *len);
        let end = len(&path);
        (path, begin, end)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Append(payloads) => self.append(&payloads),
            Step::Truncate { keep } => {
                let through = (self.synced.len() as u64).saturating_sub(keep).max(self.truncated_through);
                self.journal().truncate(through).expect("it truncates");
                self.truncated_through = through;
            }
            Step::Reopen => {
                self.journal = None;
                self.open(0);
            }
            Step::Tear { lost, at } => {
                let (path, begin, end) = self.append_and_end(&lost);
                let torn_bytes = at.index((end - begin) as usize) as u64;
                cut(&path, begin + torn_bytes);
                self.open(torn_bytes);
            }
            Step::Blank { lost, from } => {
                let (path, begin, end) = self.append_and_end(&lost);
                let mut bytes = fs::read(&path).expect("a segment");
                let from = begin as usize + from.index((end - begin) as usize);
                let was = bytes.clone();
                bytes[from..].fill(0);
                if bytes == was {
                    // It ended in zeros, so all of it is there.
                    self.synced.extend(lost);
                    return self.open(0);
                }
                fs::write(&path, bytes).expect("a blanked segment");
                self.open(end - begin);
            }
            Step::TearTurn { header_bytes } => {
                let next = self.journal().next();
                self.journal = None;
                let path = self.folder.path().join(format!("{next:020}.journal"));
                if !path.exists() {
                    let header = &fs::read(&files(self.folder.path())[0]).expect("a segment")
                        [..header_bytes.index(SEGMENT_HEAD as usize)];
                    fs::write(path, header).expect("part of a segment");
                }
                self.open(0);
            }
        }
    }

    /// Exactly what was synced is there, but for what was let go.
    fn check(&mut self) {
        let through = self.truncated_through;
        let wanted: Vec<_> = (1..).zip(self.synced.iter().cloned()).skip(through as usize).collect();
        let next = self.synced.len() as u64 + 1;
        assert_eq!(self.journal().next(), next);
        assert_eq!(kept(self.journal(), through), wanted);
        let found = inspect(self.folder.path(), |_| true).expect("it can be read");
        assert!(found.iter().all(|segment| segment.faults.is_empty()), "{found:?}");
        assert_eq!(found.last().map(|segment| segment.next), Some(next));
        let all: Vec<_> = kept(self.journal(), 0);
        assert_eq!(found.iter().map(|segment| segment.records).sum::<u64>(), all.len() as u64);
        assert!(all.iter().all(|(position, payload)| self.synced[*position as usize - 1] == *payload));
    }
}

/// A journal of these blocks, closed; answers its folder and where the newest segment's last block begins.
fn written(blocks: &[Vec<Vec<u8>>], segment_bytes_max: u64) -> (tempfile::TempDir, u64) {
    let mut model = Model::new(segment_bytes_max);
    blocks.iter().for_each(|block| model.append(block));
    let last = blocks.last().expect("a block");
    let bytes = 28 + last.iter().map(|payload| 4 + 19 + 5 + 25 + payload.len() as u64).sum::<u64>();
    let newest = files(model.folder.path()).pop().expect("a segment");
    (model.folder, len(&newest) - bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn exactly_what_was_synced_survives_any_sequence_of_crashes(
        steps in prop::collection::vec(step(), 1..25),
        segment_bytes_max in 1u64..600,
    ) {
        let mut model = Model::new(segment_bytes_max);
        for step in steps {
            model.take(step);
            model.check();
        }
    }

    /// What was synced before something else that was synced cannot be a torn end.
    #[test]
    fn bit_flipped_before_a_good_block_is_damage_and_nothing_is_touched(
        blocks in prop::collection::vec(payloads(), 2..8),
        segment_bytes_max in 1u64..600,
        place in any::<Index>(),
        bit in 0u8..8,
    ) {
        let (folder, last_block) = written(&blocks, segment_bytes_max);
        let files = files(folder.path());
        let mut contents: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
        let (newest, older) = contents.split_last().unwrap();
        prop_assert!(newest.len() as u64 > last_block);
        let place = place.index(older.iter().map(Vec::len).sum::<usize>() + last_block as usize);
        let (mut file, mut at) = (0, place);
        while at >= contents[file].len() {
            at -= contents[file].len();
            file += 1;
        }
        contents[file][at] ^= 1 << bit;
        fs::write(&files[file], &contents[file]).unwrap();
        let found = inspect(folder.path(), |_| true).unwrap();
        let fault = found[file].faults.iter().find(|fault| fault.damage).expect("a fault");
        prop_assert!((fault.at..fault.at + fault.bytes).contains(&(at as u64)), "{fault:?}");
        match Journal::open_with(folder.path(), segment_bytes_max) {
            Err(Error::Damaged { path, at, .. }) => prop_assert_eq!((&path, at), (&files[file], fault.at)),
            other => prop_assert!(false, "{:?}", other),
        }
        for (path, bytes) in files.iter().zip(&contents) {
            prop_assert_eq!(&fs::read(path).unwrap(), bytes);
        }
    }

    #[test]
    fn segments_turn_between_blocks_and_are_named_after_their_first_record(
        blocks in prop::collection::vec(payloads(), 1..12),
        segment_bytes_max in 1u64..400,
    ) {
        let (folder, _) = written(&blocks, segment_bytes_max);
        let found = inspect(folder.path(), |_| true).unwrap();
        let mut next = 1;
        for (index, segment) in found.iter().enumerate() {
            prop_assert_eq!(segment.first, next);
            prop_assert_eq!(&segment.path, &folder.path().join(format!("{next:020}.journal")));
            prop_assert!(segment.records > 0);
            let full = segment.bytes >= segment_bytes_max;
            prop_assert!(full || index + 1 == found.len(), "a segment turned before it was full");
            next = segment.next;
        }
        prop_assert_eq!(next - 1, blocks.iter().map(|block| block.len() as u64).sum::<u64>());
    }
}

#[test]
fn empty_segments_carry_positions_on() {
    let mut model = Model::new(100);
    for round in 1..=20u64 {
        model.append(&[vec![0; 30]]);
        model.take(Step::Truncate { keep: 0 });
        model.take(Step::Reopen);
        assert_eq!((model.journal().next(), kept(model.journal(), 0)), (round + 1, vec![]));
        let names = files(model.folder.path());
        assert_eq!(names, [model.folder.path().join(format!("{:020}.journal", round + 1))]);
    }
}

#[test]
fn segment_without_a_record_never_turns() {
    let mut model = Model::new(1);
    for payload in [b"a", b"b", b"c"] {
        model.take(Step::Append(vec![payload.to_vec()]));
        model.take(Step::Truncate { keep: 0 });
        model.check();
    }
}

/// A file's header that only a forger writes, as its checksum is right.
fn header(first: Position) -> Vec<u8> {
    let mut head = b"ZEUGMAJ\n\x03\0\0\0".to_vec();
    head.extend([first, first, 7].map(u64::to_le_bytes).concat());
    head.extend(crc32c::crc32c(&head).to_le_bytes());
    head
}

#[test]
fn impossible_position_in_a_header_is_damage() {
    for first in [0, u64::MAX, (1 << 62) + 1] {
        let folder = tempfile::tempdir().unwrap();
        for name in [1, first] {
            let file = folder.path().join(format!("{name:020}.journal"));
            fs::write(&file, header(first)).unwrap();
            let error = Journal::open(folder.path()).unwrap_err();
            assert!(matches!(error, Error::Damaged { at: 0, .. }), "{error}");
            assert!(inspect(folder.path(), |_| true).unwrap()[0].faults[0].damage);
            fs::remove_file(file).unwrap();
        }
    }
}

/// A device may publish bytes that are a whole block of a later position. Where a crash tears the block around
/// them, they must not stand for something synced behind it, or whoever publishes can keep the journal shut.
#[test]
fn payload_that_holds_a_block_is_no_block() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(folder.path()).unwrap();
    let mut inner = [7, 1_000u64].map(u64::to_le_bytes).concat();
    inner.extend(1u32.to_le_bytes());
    let checksum = crc32c::crc32c(&inner).to_le_bytes();
    let block = [&(inner.len() as u32).to_le_bytes(), &checksum, &inner[..]].concat();
    journal.append(&batch(&[block, b"more".to_vec()])).unwrap();
    drop(journal);
    let path = files(folder.path()).pop().unwrap();
    cut(&path, len(&path) - 1);
    let (journal, recovery) = Journal::open(folder.path()).expect("nothing synced is damaged");
    assert_eq!((journal.next(), recovery.records), (1, 0));
}
