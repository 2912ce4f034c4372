//! A journal that is written to, let go, opened again, and then damaged.
//!
//! The bytes are a play: the size of its segments, what happens, and then what breaks.

use std::{fs, path::Path};

use fastrand::Rng;
use zeugma_journal::{Batch, Journal, Payload, Position, Record, inspect::inspect, mend::mend};

use super::{
    model::{self, Kept},
    segment::folder,
};

/// What happens at most before something breaks.
const STEPS_MAX: usize = 24;

/// Bits that flip at most: CRC-32C sees any three of them in a block of these sizes.
const FLIPS_MAX: usize = 3;

/// Plays a journal, and holds it against what was synced, and against [`model`] once it is damaged.
pub fn journal(bytes: &[u8]) {
    let mut play = Play { bytes };
    let segment_bytes_max = 1 + play.number() % 600;
    let folder = folder();
    let mut synced = Vec::new();
    let mut truncated_through = 0;
    let mut journal = open(folder.path(), segment_bytes_max);
    for _ in 0..STEPS_MAX {
        match play.byte() % 8 {
            0 => break,
            1 => {
                drop(journal);
                journal = open(folder.path(), segment_bytes_max);
            }
            2 => {
                let through = (journal.next() - 1).saturating_sub(play.number() % 8).max(truncated_through);
                journal.truncate(through).expect("it truncates");
                truncated_through = through;
            }
            records => append(&mut journal, &mut play, records, &mut synced),
        }
        let kept = model::records(&journal);
        assert!(kept.iter().all(|record| synced[record.0 as usize - 1] == *record), "not what was written");
        let missing = synced.len() - kept.len();
        assert!(missing as Position <= truncated_through, "a record is lost");
        assert_eq!(journal.next(), synced.len() as Position + 1);
    }
    drop(journal);
    damage(folder.path(), &mut play);
    let found = inspect(folder.path(), |_| true).expect("it can be read");
    let damaged = found.iter().flat_map(|segment| &segment.faults).any(|fault| fault.damage);
    let journal = model::open_and_compare(folder.path(), segment_bytes_max).unwrap_or_else(|| {
        assert!(damaged, "{found:?}");
        mend(folder.path(), &mut Rng::with_seed(7)).expect("it can be mended");
        model::open_and_compare(folder.path(), segment_bytes_max).expect("it was mended")
    });
    for record in model::records(&journal) {
        assert_eq!(synced[record.0 as usize - 1], record, "not what was written");
    }
}

fn open(folder: &Path, segment_bytes_max: u64) -> Journal {
    let journal = model::open_and_compare(folder, segment_bytes_max).expect("nothing is damaged yet");
    let found = inspect(folder, |_| true).expect("it can be read");
    assert!(found.iter().all(|segment| segment.faults.is_empty()), "{found:?}");
    journal
}

fn append(journal: &mut Journal, play: &mut Play<'_>, records: u8, synced: &mut Vec<Kept>) {
    let mut batch = Batch::default();
    for _ in 2..records {
        let (topic_len, kept_len) = (play.byte() % 40, play.byte());
        let topic = String::from_utf8_lossy(play.take(topic_len.into())).into_owned();
        let kept = play.take(kept_len.into());
        let payload = match kept.len() % 7 {
            5 => Payload::Again { note: &topic, bytes: kept },
            6 => Payload::Cut { kept, bytes: 1 + play.number(), sha256: [kept_len; 32] },
            _ => Payload::Whole(kept),
        };
        let tenant = topic.get(..3).filter(|_| kept_len % 2 == 0);
        let record = Record { tenant, topic: &topic, received_at_us: play.number() as i64 - 500, payload };
        batch.push(&record);
        synced.push((synced.len() as Position + 1, model::flat(&record)));
    }
    let first = journal.append(&batch).expect("it appends");
    assert_eq!(first + batch.len() as Position, synced.len() as Position + 1);
}

/// Flips bits, and cuts files, as the play says.
fn damage(folder: &Path, play: &mut Play<'_>) {
    let files = model::files(folder);
    for _ in 0..FLIPS_MAX {
        let (named, _) = &files[play.byte() as usize % files.len()];
        let path = folder.join(format!("{named:020}.journal"));
        let mut bytes = fs::read(&path).expect("a segment");
        let (what, at) = (play.byte(), play.number() as usize % (bytes.len() + 1));
        match what % 16 {
            0..8 if at < bytes.len() => bytes[at] ^= 1 << (what % 8),
            8..10 => bytes.truncate(at),
            10 => bytes.extend(std::iter::repeat_n(0, at)),
            11 => bytes[at..].fill(0),
            _ => {}
        }
        fs::write(&path, bytes).expect("a damaged segment");
    }
}

/// What is still to be played; zeros once it is over.
struct Play<'a> {
    bytes: &'a [u8],
}

impl<'a> Play<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// A number of two bytes.
    fn number(&mut self) -> u64 {
        u64::from(self.byte()) | u64::from(self.byte()) << 8
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }
}
