//! Dead letters that come again: what becomes of each, and what its table says of it afterwards.
//!
//! In: records with a note of the letter they were, at positions of their own, judged like all others. Out:
//! nothing where nothing changed, as the letter stays what it was; otherwise its settlement, and a letter of
//! its own for each reading that is refused still. Decided by the record alone, so a replay of the journal
//! decides the same.

use std::{collections::BTreeMap, fmt};

use zeugma_journal::{Payload, Record};
use zeugma_lake::Position;
use zeugma_schemas::{
    dead_letter::{DeadLetter, Reason, Replayed},
    payload::Judged,
};

use crate::replays::Replays;

/// Which letter a record was, and when it was replayed; this is what the journal keeps beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub replayed_at_us: i64,
    pub source: String,
    pub position: i64,
    pub index: i64,
    pub reason: Reason,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Note { replayed_at_us, source, position, index, reason } = self;
        write!(f, "{replayed_at_us} {position} {index} {} {source}", reason.as_str())
    }
}

impl Note {
    fn parse(text: &str) -> Option<Note> {
        let mut parts = text.splitn(5, ' ');
        let mut number = || parts.next()?.parse::<i64>().ok();
        let (replayed_at_us, position, index) = (number()?, number()?, number()?);
        let reason = Reason::parse(parts.next()?)?;
        Some(Note { replayed_at_us, source: parts.next()?.to_owned(), position, index, reason })
    }
}

/// The letters that have come again and are not settled; at most those of a few replays, as each waits for
/// the end of one batch before it hands in the next.
#[derive(Debug, Default)]
pub(super) struct Again {
    open: BTreeMap<Position, Open>,
    /// Settled, and not told yet.
    settled: Vec<(Position, Replayed)>,
    replays: Replays,
}

/// What has become of one letter so far.
#[derive(Debug)]
struct Open {
    note: Note,
    tenant: Option<String>,
    topic: String,
    received_at_us: i64,
    bytes: usize,
    /// Readings that wait for the lake.
    waiting: usize,
    accepted: u64,
    repeated: u64,
    rejected: Vec<DeadLetter>,
}

impl Again {
    pub(super) fn new(replays: Replays) -> Again {
        Again { replays, ..Again::default() }
    }

    /// By which moment a record is judged; one that comes again is open from here on.
    pub(super) fn begin(&mut self, position: Position, record: &Record<'_>) -> Judged {
        let received_at_us = record.received_at_us;
        let first_time = Judged { received_at_us, judged_at_us: received_at_us, first_index: 0 };
        let Payload::Again { note, bytes } = record.payload else { return first_time };
        // A note that nobody of ours wrote: judged as if it came for the first time.
        let Some(note) = Note::parse(note) else { return first_time };
        let judged = Judged {
            judged_at_us: note.replayed_at_us,
            first_index: note.index.try_into().unwrap_or_default(),
            ..first_time
        };
        let (tenant, topic) = (record.tenant.map(str::to_owned), record.topic.to_owned());
        let (waiting, accepted, repeated, rejected) = Default::default();
        let bytes = bytes.len();
        let open = Open { note, tenant, topic, received_at_us, bytes, waiting, accepted, repeated, rejected };
        self.open.insert(position, open);
        judged
    }

    fn with(&mut self, position: Position, change: impl FnOnce(&mut Open)) {
        // Nearly always nothing is open, and then this costs next to nothing.
        if !self.open.is_empty()
            && let Some(open) = self.open.get_mut(&position)
        {
            change(open);
        }
    }

    /// When a record came, for what operators see: one that comes again does so at its replay.
    pub(super) fn came_us(&self, position: Position, received_at_us: i64) -> i64 {
        if self.open.is_empty() {
            return received_at_us;
        }
        self.open.get(&position).map_or(received_at_us, |open| open.note.replayed_at_us)
    }

    pub(super) fn accepted(&mut self, position: Position) {
        self.with(position, |open| open.accepted += 1);
    }

    pub(super) fn repeated(&mut self, position: Position) {
        self.with(position, |open| open.repeated += 1);
    }

    /// One of its readings waits for the lake.
    pub(super) fn waits(&mut self, position: Position) {
        self.with(position, |open| open.waiting += 1);
    }

    /// The lake has answered for one of them.
    pub(super) fn answered(&mut self, position: Position) {
        self.with(position, |open| open.waiting = open.waiting.saturating_sub(1));
    }

    /// Keeps a rejection until the letter is settled; gives back one of a record that came for the first time.
    pub(super) fn rejected(&mut self, letter: DeadLetter) -> Option<DeadLetter> {
        match self.open.get_mut(&(letter.position as Position)) {
            Some(open) => {
                open.rejected.push(letter);
                None
            }
            None => Some(letter),
        }
    }

    /// What the table gets of the letters of which all is decided, with the positions and moments they came
    /// again by.
    pub(super) fn settle(&mut self) -> Vec<(Position, i64, DeadLetter)> {
        let mut rows = Vec::new();
        let decided = self.open.extract_if(.., |_, open| open.waiting == 0);
        for (position, open) in decided {
            self.settled.push((position, open.replayed()));
            if !open.is_unchanged() {
                let came_us = open.note.replayed_at_us;
                rows.push((position, came_us, open.settlement()));
                rows.extend(open.rejected.into_iter().map(|letter| (position, came_us, letter)));
            }
        }
        rows
    }

    /// Tells whoever waits what became of the settled; to be called once all of it can be seen.
    pub(super) fn tell(&mut self) {
        for (position, replayed) in self.settled.drain(..) {
            self.replays.tell(position, &replayed);
        }
    }
}

impl Open {
    /// Whether it is refused for the reason for which it was, as a whole.
    fn is_unchanged(&self) -> bool {
        let same = |letter: &DeadLetter| {
            letter.reason == self.note.reason && letter.payload_bytes == self.bytes as i64
        };
        self.accepted + self.repeated == 0 && self.rejected.iter().all(same)
    }

    fn replayed(&self) -> Replayed {
        let mut rejected = BTreeMap::new();
        for letter in &self.rejected {
            *rejected.entry(letter.reason.as_str()).or_default() += 1;
        }
        let unchanged = self.is_unchanged().into();
        Replayed { letters: 1, unchanged, accepted: self.accepted, repeated: self.repeated, rejected }
    }

    fn settlement(&self) -> DeadLetter {
        let detail = format!(
            "replayed: {} accepted, {} repeated, {} refused again",
            self.accepted,
            self.repeated,
            self.rejected.len()
        );
        DeadLetter {
            tenant: self.tenant.clone(),
            topic: self.topic.clone(),
            received_at_us: self.received_at_us,
            reason: Reason::Replayed,
            detail,
            payload: Vec::new(),
            payload_bytes: 0,
            source: self.note.source.clone(),
            position: self.note.position,
            index: self.note.index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_is_read_as_it_was_written() {
        let note = Note {
            replayed_at_us: 1_790_000_000_000_000,
            source: "a source".into(),
            position: 7,
            index: 2,
            reason: Reason::UnknownDomain,
        };
        assert_eq!(Note::parse(&note.to_string()), Some(note));
        assert_eq!(Note::parse(""), None);
        assert_eq!(Note::parse("1 2 3 nonsense a"), None);
    }
}
