//! Acceptance: each journaled payload is decoded, checked, and each reading decided exactly once.
//!
//! In: synced blocks of the journal, in order. Out: rows and dead letters in the tail. Promise: a reading
//! whose identity (tenant, domain, device, time) is new becomes one row; the same again is a repeat and is
//! counted; another under the same identity is a conflict and goes to the dead letters; nothing is dropped
//! silently. Decisions use only what stands in the record, never the clock, so a replay decides the same.
//!
//! Newer than its device's watermark, a reading is new by definition: the fast path. The others are
//! [`late`]: they are gathered and compared with tail and lake, while newer ones go on. Dead letters that
//! are replayed are judged in the same way, [`again`].

pub(crate) mod again;
mod gathered;
mod known;
mod late;
mod letter;
mod waiting;

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::watch;
use zeugma_journal::{Payload, Record, Synced};
use zeugma_lake::{Error as LakeError, Position, gone::Subject};
use zeugma_schemas::{
    batch::Origin,
    dead_letter::{self, DeadLetter, Reason},
    domain::{Domain, Domains},
    payload::{Content, Judged, Reading, readings_again},
    topic::Topic,
};

use crate::{
    blocks::Blocks,
    metrics::{Metrics, Tally, because, lags::NOBODY},
    replays::Replays,
    tail::Tail,
    watermarks::Watermarks,
};
use again::Again;
use gathered::Gathered;
pub use known::{Known, Tables};
use late::Late;
pub use late::{Undecided, Verdicts};
use letter::Letter;
use waiting::Waiting;

/// Late readings that may wait for the lake: at about 300 bytes each, 150 MB. Beyond it acceptance waits.
const UNDECIDED_MAX: usize = 500_000;

/// How long a failed look-up in the lake waits before it is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Decides every reading of a source.
pub struct Acceptor {
    source: Arc<str>,
    known: watch::Receiver<Known>,
    tail: Tail,
    metrics: Arc<Metrics>,
    tally: Tally,
    watermarks: Watermarks,
    accepted_through: Position,
    /// Late readings.
    waiting: Waiting,
    /// Through which position each table held everything when we began: what a replay finds at or before
    /// it has been decided once, and is in the lake.
    committed_through: BTreeMap<String, Position>,
    /// Whose rows were being erased when we began: what a replay does not find any more may be a repeat of one.
    erasing: Vec<Subject>,
    /// Dead letters that came again.
    again: Again,
    /// Empty between two blocks.
    gathered: Gathered,
}

/// A look-up that runs beside acceptance.
pub type Lookup = Pin<Box<dyn Future<Output = Result<Verdicts, Undecided>> + Send>>;

impl Acceptor {
    /// Begins with the watermarks of everything that each table holds through the given positions; through
    /// `settled_through` no table needs anything any more.
    pub fn new(
        source: &str,
        known: watch::Receiver<Known>,
        tail: Tail,
        metrics: Arc<Metrics>,
        watermarks: Watermarks,
        committed_through: BTreeMap<String, Position>,
        settled_through: Position,
    ) -> Acceptor {
        tail.decided(settled_through, &BTreeMap::new());
        Acceptor {
            source: source.into(),
            known,
            tail,
            metrics,
            tally: Tally::default(),
            watermarks,
            accepted_through: settled_through,
            waiting: Waiting::default(),
            committed_through,
            erasing: Vec::new(),
            again: Again::default(),
            gathered: Gathered::default(),
        }
    }

    /// The same, telling those who wait what became of replayed dead letters.
    pub fn telling(self, replays: Replays) -> Acceptor {
        Acceptor { again: Again::new(replays), ..self }
    }

    /// The same, where rows of these are being erased.
    pub fn erasing(self, erasing: Vec<Subject>) -> Acceptor {
        Acceptor { erasing, ..self }
    }

    /// Accepts blocks until there are no more and nothing is undecided.
    ///
    /// # Errors
    /// Only where rows do not fit their own columns, which would be a mistake of ours. An unreachable
    /// lake is waited for.
    pub async fn run(mut self, mut blocks: Blocks) -> Result<(), LakeError> {
        let mut lookup: Option<Lookup> = None;
        let mut open = true;
        while open || lookup.is_some() || !self.waiting.is_empty() {
            if lookup.is_none() && !self.waiting.is_empty() {
                lookup = Some(self.look_up(Duration::ZERO));
            }
            self.metrics.progress.acceptance.waits(self.waiting.len() >= UNDECIDED_MAX);
            tokio::select! {
                verdicts = async { lookup.as_mut().expect("guarded").await }, if lookup.is_some() => {
                    let decided = self.take_verdicts(verdicts)?;
                    lookup = (!decided).then(|| self.look_up(RETRY));
                }
                block = blocks.next(), if open && self.waiting.len() < UNDECIDED_MAX => match block {
                    Some(block) => {
                        self.metrics.progress.acceptance.waits(true);
                        self.tail.room().await;
                        self.metrics.progress.acceptance.waits(false);
                        self.accept(&block)?;
                    }
                    None => open = false,
                },
            }
        }
        Ok(())
    }

    /// One block: every reading of it is a row, a dead letter, or waits as late.
    pub fn accept(&mut self, block: &Synced) -> Result<(), LakeError> {
        let known = self.known.borrow().clone();
        let mut gathered = self.gather(&known.domains);
        for (position, record) in block.records() {
            if position > self.accepted_through {
                let judged = self.again.begin(position, &record);
                self.accept_record(&known.domains, position, &record, judged, &mut gathered);
            }
        }
        self.accepted_through = self.accepted_through.max(block.last());
        self.settle(&mut gathered);
        self.tail.undecided(&self.waiting.undecided());
        self.put(gathered)?;
        self.tell_decided();
        self.metrics.accepted_block(block.last(), &mut self.tally);
        Ok(())
    }

    fn accept_record(
        &mut self,
        domains: &Domains,
        position: Position,
        record: &Record<'_>,
        judged: Judged,
        into: &mut Gathered,
    ) {
        let letter = Letter { source: self.source.clone(), position, record };
        let topic = Topic::parse(record.topic);
        let payload = match (record.payload, topic) {
            (Payload::Cut { kept, bytes, sha256 }, _) => {
                let sha256 = sha256.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let detail =
                    format!("the payload has {bytes} bytes, more than are accepted; its SHA-256 is {sha256}");
                let letter = DeadLetter {
                    payload_bytes: bytes as i64,
                    ..letter.whole(Reason::TooLarge, detail, kept, 0)
                };
                return self.reject(into, letter);
            }
            (Payload::Whole(payload) | Payload::Again { bytes: payload, .. }, None) => {
                let detail = "the topic is not city/v1/{tenant}/{domain}/{device}".to_owned();
                return self.reject(into, letter.whole(Reason::Topic, detail, payload, judged.first_index));
            }
            (Payload::Whole(payload) | Payload::Again { bytes: payload, .. }, Some(_)) => payload,
        };
        let topic = topic.expect("matched above");
        let Some(domain) = domains.get(topic.domain) else {
            let detail =
                format!("there is no schema for domain `{}`: give its .avsc file to --schemas", topic.domain);
            let letter = letter.whole(Reason::UnknownDomain, detail, payload, judged.first_index);
            return self.reject(into, letter);
        };
        // What comes again says nothing about our clock of today.
        let first_time = !matches!(record.payload, Payload::Again { .. });
        let readings = readings_again(domain, payload, judged);
        if first_time {
            self.tally.of(topic.domain, topic.tenant).heard += readings.len() as u64;
        }
        for reading in readings {
            match reading {
                Ok(reading) => self.accept_reading(domain, topic, position, record, &reading, into),
                Err(rejected) => {
                    if first_time && rejected.is_ahead() {
                        self.tally.of(topic.domain, topic.tenant).ahead += 1;
                        self.metrics.ahead(topic.tenant, topic.device);
                    }
                    self.reject(into, letter.of(rejected));
                }
            }
        }
    }

    fn accept_reading(
        &mut self,
        domain: &Arc<Domain>,
        topic: Topic<'_>,
        position: Position,
        record: &Record<'_>,
        reading: &Reading<'_>,
        into: &mut Gathered,
    ) {
        let came_us = self.again.came_us(position, record.received_at_us);
        let is_committed = self.is_committed(topic.domain, position);
        let counts = self.tally.of(topic.domain, topic.tenant);
        counts.untimed += u64::from(!reading.timed);
        counts.extra += u64::from(matches!(&reading.content, Content::Json { extra: Some(_), .. }));
        let watermark_us = self.watermarks.of(topic.domain, topic.tenant, topic.device);
        if reading.time_us <= *watermark_us {
            counts.wait(came_us);
            self.metrics.undecided.inc();
            self.again.waits(position);
            self.waiting.push(Late::new(domain, topic, position, record, reading));
            return;
        }
        if is_committed {
            let late = Late::new(domain, topic, position, record, reading);
            return self.missed(into, &late);
        }
        *watermark_us = reading.time_us;
        let origin =
            Origin { tenant: topic.tenant, device: topic.device, received_at_us: record.received_at_us };
        into.row(domain, origin, reading, position);
        self.again.accepted(position);
        counts.accepted += 1;
        counts.row(position, came_us);
    }

    fn is_committed(&self, table: &str, position: Position) -> bool {
        self.committed_through.get(table).is_some_and(|through| position <= *through)
    }

    /// A reading that its table has gone on past, and has not: it was refused when it came, unless it repeated one
    /// that is being erased and has gone since.
    fn missed(&mut self, into: &mut Gathered, late: &Late) {
        if self.erasing.iter().any(|subject| late.is_of(subject)) {
            self.again.repeated(late.position);
        } else {
            self.reject(into, late.missed(&self.source));
        }
    }

    fn reject(&mut self, into: &mut Gathered, letter: DeadLetter) {
        if let Some(letter) = self.again.rejected(letter) {
            self.keep(into, letter.position as Position, letter.received_at_us, letter);
        }
    }

    fn keep(&mut self, into: &mut Gathered, position: Position, came_us: i64, letter: DeadLetter) {
        // A dead letter's identity is its position.
        if self.is_committed(dead_letter::TABLE, position) {
            return;
        }
        if letter.reason != Reason::Replayed {
            self.metrics.rejected.get_or_create(&because(letter.reason)).inc();
        }
        let tenant = letter.tenant.as_deref().unwrap_or(NOBODY);
        self.tally.of(dead_letter::TABLE, tenant).row(position, came_us);
        into.letters.push((position, letter));
    }

    fn settle(&mut self, into: &mut Gathered) {
        for (position, came_us, letter) in self.again.settle() {
            self.keep(into, position, came_us, letter);
        }
    }

    /// What the next block is gathered in.
    fn gather(&mut self, domains: &Arc<Domains>) -> Gathered {
        std::mem::take(&mut self.gathered).of(domains)
    }

    fn put(&mut self, mut gathered: Gathered) -> Result<(), LakeError> {
        gathered.take(|table, rows, positions| self.tail.append(table, rows, positions))?;
        self.gathered = gathered;
        Ok(())
    }

    /// Tells the tail which prefix of each table is decided.
    fn tell_decided(&mut self) {
        self.tail.decided(self.accepted_through, &self.waiting.undecided());
        self.again.tell();
    }

    /// How many late readings wait for a look-up.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Begins to decide all that waits; [`Acceptor::take_verdicts`] must follow before the next.
    pub fn look_up(&mut self, after: Duration) -> Lookup {
        let waiting = self.waiting.take();
        self.metrics.lookup_begins();
        let (tail, tables) = (self.tail.clone(), self.known.borrow().tables.clone());
        Box::pin(async move {
            tokio::time::sleep(after).await;
            late::decide(waiting, &tail, &tables).await
        })
    }

    /// Puts what was decided into the tail; says `false` where nothing was, and all of it waits again.
    pub fn take_verdicts(&mut self, verdicts: Result<Verdicts, Undecided>) -> Result<bool, LakeError> {
        let verdicts = match verdicts {
            Ok(verdicts) => verdicts,
            Err(Undecided { readings, error }) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, readings = readings.len(), "late readings wait for the lake");
                self.waiting.give_back(readings);
                return Ok(false);
            }
        };
        self.waiting.decided();
        let domains = self.known.borrow().domains.clone();
        let mut gathered = self.gather(&domains);
        self.metrics
            .undecided
            .dec_by((verdicts.new.len() + verdicts.repeats.len() + verdicts.conflicts.len()) as i64);
        for late in verdicts.new {
            self.again.answered(late.position);
            if self.is_committed(late.domain.name(), late.position) {
                self.missed(&mut gathered, &late);
                continue;
            }
            let came_us = self.again.came_us(late.position, late.origin().received_at_us);
            self.again.accepted(late.position);
            let counts = self.tally.of(late.domain.name(), late.origin().tenant);
            counts.accepted += 1;
            counts.row(late.position, came_us);
            gathered.row(&late.domain, late.origin(), &late.reading(), late.position);
        }
        for late in verdicts.repeats {
            self.again.answered(late.position);
            self.again.repeated(late.position);
            if self.is_committed(late.domain.name(), late.position) {
                continue;
            }
            self.tally.of(late.domain.name(), late.origin().tenant).repeated += 1;
        }
        for late in verdicts.conflicts {
            self.again.answered(late.position);
            self.reject(&mut gathered, late.conflict(&self.source));
        }
        self.settle(&mut gathered);
        self.put(gathered)?;
        self.tell_decided();
        self.metrics.decided(&mut self.tally);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
