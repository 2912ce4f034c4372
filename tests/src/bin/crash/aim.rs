//! What a kill aims at, and how the moment is seen from outside: in the files of the data folder.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::victim::Place;

/// How long an aim is waited for; after that the kill is one at a random moment.
const PATIENCE: Duration = Duration::from_secs(6);

/// A segment turns at this size.
const SEGMENT_BYTES: u64 = 64 << 20;

/// What a reading takes in the journal, about; to guess when a segment turns.
const RECORD_BYTES: f64 = 110.0;

/// What a kill aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// Nothing: some moment while it serves.
    Random,
    /// Before the journal has been read.
    Start,
    /// The journal's readings are with acceptance, the door opens.
    Replay,
    /// A block has just been written and is being synced.
    Sync,
    /// A new segment has just appeared.
    Turn,
    /// A file of the table is being written.
    File,
    /// A version has just appeared: committed, and neither released nor truncated.
    Commit,
    /// A segment has just been deleted.
    Truncate,
    /// A compaction is writing a file, or its commit follows.
    Compact,
}

impl Aim {
    /// Chosen by chance, but for what is possible only now and then.
    pub fn choose(chance: &mut Rng, place: &Place, rate: f64) -> Aim {
        let segments = segments(&place.journal());
        let open_bytes = segments.iter().max().map_or(0, |newest| bytes(newest));
        let soon = rate * RECORD_BYTES * PATIENCE.as_secs_f64() * 0.8;
        let (turns, truncates) = (open_bytes as f64 + soon > SEGMENT_BYTES as f64, segments.len() > 1);
        match chance.u8(0..100) {
            0..70 if truncates => Aim::Truncate,
            0..70 if turns => Aim::Turn,
            0..30 => Aim::Random,
            30..40 => Aim::Start,
            40..53 => Aim::Replay,
            53..65 => Aim::Sync,
            65..75 => Aim::File,
            75..85 => Aim::Compact,
            _ => Aim::Commit,
        }
    }

    /// Waits for the moment while the victim serves; answers what it was in the end.
    pub fn wait(self, chance: &mut Rng, place: &Place) -> Aim {
        let after = match self {
            Aim::Random => Duration::from_secs(3),
            _ => Duration::from_secs(1),
        };
        std::thread::sleep(below(chance, after));
        let journal = place.journal();
        let come = match self {
            Aim::Random | Aim::Start | Aim::Replay => true,
            Aim::Sync => {
                let newest = segments(&journal).into_iter().max().unwrap_or_default();
                let before = bytes(&newest);
                watch(Duration::from_micros(20), || bytes(&newest) > before)
            }
            Aim::Turn => {
                let before = segments(&journal).len();
                watch(Duration::from_micros(200), || segments(&journal).len() > before)
            }
            Aim::Truncate => {
                // A turn may come first.
                let mut most = segments(&journal).len();
                watch(Duration::from_micros(200), || {
                    let now = segments(&journal).len();
                    most = most.max(now);
                    now < most
                })
            }
            Aim::File => {
                let before = changed(&place.table());
                watch(Duration::from_micros(200), || changed(&place.table()) != before)
            }
            Aim::Compact => {
                let before = compacted(&place.table());
                watch(Duration::from_micros(500), || compacted(&place.table()) > before)
            }
            Aim::Commit => {
                let next = next_version(&place.table().join("_delta_log"));
                watch(Duration::from_micros(100), || next.exists())
            }
        };
        if !come {
            return Aim::Random;
        }
        std::thread::sleep(self.jitter(chance));
        self
    }

    /// Half of the kills hit at once, the others somewhat later.
    fn jitter(self, chance: &mut Rng) -> Duration {
        let at_most = match self {
            Aim::Random | Aim::Start | Aim::Sync => return Duration::ZERO,
            Aim::File | Aim::Compact => Duration::from_millis(150),
            Aim::Turn | Aim::Truncate | Aim::Commit | Aim::Replay => Duration::from_millis(20),
        };
        if chance.bool() { Duration::ZERO } else { below(chance, at_most) }
    }

    /// The moment after [`Aim::Replay`]'s word at which it hits.
    pub fn after_replay(chance: &mut Rng) -> Duration {
        Aim::Replay.jitter(chance)
    }
}

fn watch(every: Duration, mut has_come: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if has_come() {
            return true;
        }
        std::thread::sleep(every);
    }
    false
}

fn segments(journal: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(journal).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "journal")).collect()
}

/// Files that compactions have written or begun.
fn compacted(table: &Path) -> usize {
    let names = std::fs::read_dir(table).into_iter().flatten().flatten();
    names.filter(|entry| entry.file_name().to_string_lossy().starts_with("run-")).count()
}

/// Where the next version of a table will appear.
fn next_version(log: &Path) -> PathBuf {
    let entries = std::fs::read_dir(log).into_iter().flatten().flatten().map(|entry| entry.path());
    let versions = entries.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let number = |path: PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    let next = versions.filter_map(number).max().map_or(0, |newest| newest + 1);
    log.join(format!("{next:020}.json"))
}

fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// A time below this one, by chance.
pub fn below(chance: &mut Rng, time: Duration) -> Duration {
    time.mul_f64(chance.f64())
}
