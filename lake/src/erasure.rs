//! Erasures: what was asked for, how far it is, and at last the proof.
//!
//! The note, `_zeugma/erasing/{id}.json`, is written before the first step and after each, so that a start goes on
//! where a kill has ended it; once all is done it is the proof, `_zeugma/erasures/{id}.json`.
//!
//! 1. the **cut**: a position of the journal; what is at or before it goes
//! 2. everything through the cut is committed, so the tables at these versions, and no other place, have it
//! 3. the journal's records through the cut are deleted
//! 4. each table's files are replaced by files without the rows; versions before that can be read no more; the journal
//!    lets go of repeats of them, which have come meanwhile
//! 5. once no question can still read the old files, they and the log that tells of them are deleted

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};

use crate::{Error, Lake, Position, gone::Subject};

/// Notes of what is not finished.
const OPEN: &str = "_zeugma/erasing";

/// Proofs.
const FINISHED: &str = "_zeugma/erasures";

/// What no program can erase for whoever asks; each proof names it.
pub const OUTSIDE: [&str; 7] = [
    "backups of the lake and of the data folder",
    "older versions of objects, and unfinished uploads, where the bucket keeps them",
    "what a broker still has: retained messages, and queues of sessions",
    "what the device itself still has in its outbox",
    "answers and exports that others took before",
    "journal segments put aside by `zeugma journal mend`, and what a disk keeps of deleted files",
    "dead letters whose topic does not say whose they are",
];

/// One erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Its name, in the order of time.
    pub id: String,
    /// Whose rows go.
    #[serde(flatten)]
    pub subject: Subject,
    /// When it was asked for, RFC 3339.
    pub asked_at: String,
    /// Whether nothing is taken from them any more.
    pub blocked: bool,
    /// What came at or before this goes.
    pub cut: Cut,
    /// The tables as they were at the cut; none before everything through it is committed.
    pub tables: Vec<ErasedTable>,
    /// Whether the journal's records through the cut are deleted.
    pub journal_deleted: bool,
    /// When the rows had gone from all tables; the old files and versions go after the longest question.
    pub rows_gone_at: Option<String>,
    /// When all of it was done.
    pub finished_at: Option<String>,
    /// What is outside, and was not erased.
    pub outside: Vec<String>,
}

/// How far an erasure is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erasing {
    /// This is being done.
    Step(String),
    /// No question finds any of it; what is left is in the note.
    Done(Box<Erasure>),
}

/// A place in a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Whose journal.
    pub source: String,
    /// The last record that goes.
    pub position: Position,
}

/// What becomes of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedTable {
    /// The table.
    pub table: String,
    /// Its version at the cut.
    pub version_at_cut: u64,
    /// The files of that version that may have had rows.
    pub files_looked_through: Vec<String>,
    /// Commits by which rows went.
    pub removals: Vec<Removal>,
    /// The first version that can still be read: that of the last removal, or that of the cut where it had nothing.
    pub version: Option<u64>,
    /// Files deleted, these and others that no readable version has.
    pub files_deleted: usize,
    /// Entries of the log deleted, whose statistics told of the rows.
    pub log_entries_deleted: usize,
}

/// One commit by which rows went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// How many rows.
    pub rows: u64,
    /// The files that had them.
    pub files_replaced: Vec<String>,
    /// The version without them; none before that is known.
    pub version: Option<u64>,
}

impl Erasure {
    /// One that nothing was done for yet; its name is of its time and `random`.
    pub fn new(subject: Subject, blocked: bool, cut: Cut, now_ms: i64, random: u32) -> Erasure {
        Erasure {
            id: format!("{}-{random:08x}", time_text(now_ms).replace([':', '.'], "-")),
            subject,
            asked_at: time_text(now_ms),
            blocked,
            cut,
            tables: Vec::new(),
            journal_deleted: false,
            rows_gone_at: None,
            finished_at: None,
            outside: OUTSIDE.map(str::to_owned).to_vec(),
        }
    }

    /// When the rows had gone from all tables, milliseconds since 1970.
    pub fn rows_gone_at_ms(&self) -> Option<i64> {
        let at = DateTime::parse_from_rfc3339(self.rows_gone_at.as_deref()?).ok()?;
        Some(at.timestamp_millis())
    }

    /// How many rows went, of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().flat_map(|table| &table.removals).map(|removal| removal.rows).sum()
    }
}

/// A moment as people and programs read it, RFC 3339.
pub fn time_text(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

impl Lake {
    /// All erasures, the finished ones first, each in the order of time.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, Error> {
        let mut erasures = self.notes(FINISHED).await?;
        let open = self.open_erasures().await?;
        erasures.extend(open.into_iter().filter(|erasure| erasure.finished_at.is_none()));
        Ok(erasures)
    }

    /// Those that are not finished, the oldest first.
    pub async fn open_erasures(&self) -> Result<Vec<Erasure>, Error> {
        self.notes(OPEN).await
    }

    /// Notes how far one is.
    pub async fn keep_erasure(&self, erasure: &Erasure) -> Result<(), Error> {
        let open = format!("{OPEN}/{}.json", erasure.id);
        if erasure.finished_at.is_none() {
            return self.store().put_json(&open, erasure).await;
        }
        self.store().put_json(&format!("{FINISHED}/{}.json", erasure.id), erasure).await?;
        self.store().delete(&open).await
    }

    async fn notes(&self, folder: &str) -> Result<Vec<Erasure>, Error> {
        let mut erasures = Vec::new();
        for path in self.store().list(folder).await? {
            erasures.extend(self.store().get_json(&path).await?);
        }
        Ok(erasures)
    }
}
