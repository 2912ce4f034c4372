//! Acceptance: each journaled payload is decoded, checked, and each reading decided exactly once.
//!
//! In: synced blocks of the journal, in order. Out: rows and dead letters in the tail. Promise: a reading
//! whose identity (tenant, domain, device, time) is new becomes one row; the same again is a repeat and is
//! counted; another under the same identity is a conflict and goes to the dead letters; nothing is dropped
//! silently. Decisions use only what stands in the record, never the clock, so a replay decides the same.
//!
//! Newer than its device's watermark, a reading is new by definition: the fast path. The others are
//! [`late`]: they are gathered and compared with tail and lake, while newer ones go on.

mod late;

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};
use zeugma_journal::{Payload, Record, Synced};
use zeugma_lake::{Error as LakeError, Position, Table};
use zeugma_schemas::{
    batch::{Builder, Origin},
    dead_letter::{self, DeadLetter, Reason},
    domain::{Domain, Domains},
    payload::{Content, Reading, Rejected, readings},
    topic::Topic,
};

use crate::{
    metrics::{Metrics, because, of},
    tail::Tail,
    watermarks::Watermarks,
};
use late::Late;
pub use late::{Undecided, Verdicts};

/// Late readings that may wait for the lake: at about 300 bytes each, 150 MB. Beyond it acceptance waits.
const UNDECIDED_MAX: usize = 500_000;

/// How long a failed look-up in the lake waits before it is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The tables of the lake, by name, that look-ups go to.
pub type Tables = BTreeMap<String, Table>;

/// What acceptance knows of the city; replaced as a whole when a schema comes.
#[derive(Debug, Clone)]
pub struct Known {
    /// Domains and their schemas.
    pub domains: Arc<Domains>,
    /// Their tables, and that of the dead letters.
    pub tables: Arc<Tables>,
}

/// Decides every reading of a source.
pub struct Acceptor {
    source: Arc<str>,
    known: watch::Receiver<Known>,
    tail: Tail,
    metrics: Arc<Metrics>,
    watermarks: Watermarks,
    accepted_through: Position,
    /// Late readings that no look-up has taken up yet, in journal order.
    waiting: Vec<Late>,
    /// Late readings that a look-up is deciding now: the lowest position of each table.
    deciding: BTreeMap<String, Position>,
    /// Through which position each table held everything when we began: what a replay finds at or before
    /// it has been decided once, and is in the lake.
    committed_through: BTreeMap<String, Position>,
}

/// A look-up that runs beside acceptance.
pub type Lookup = Pin<Box<dyn Future<Output = Result<Verdicts, Undecided>> + Send>>;

/// What one block adds to the tail.
#[derive(Default)]
struct Gathered {
    /// By domain and number of its versions: late readings may be of an older one.
    builders: BTreeMap<(String, usize), (Builder, Vec<Position>)>,
    letters: Vec<DeadLetter>,
}

impl Acceptor {
    /// Begins with the watermarks of everything that each table holds through the given positions.
    pub fn new(
        source: &str,
        known: watch::Receiver<Known>,
        tail: Tail,
        metrics: Arc<Metrics>,
        watermarks: Watermarks,
        committed_through: BTreeMap<String, Position>,
    ) -> Acceptor {
        Acceptor {
            source: source.into(),
            known,
            tail,
            metrics,
            watermarks,
            accepted_through: 0,
            waiting: Vec::new(),
            deciding: BTreeMap::new(),
            committed_through,
        }
    }

    /// Accepts blocks until there are no more and nothing is undecided.
    ///
    /// # Errors
    /// Only where rows do not fit their own columns, which would be a mistake of ours. An unreachable
    /// lake is waited for.
    pub async fn run(mut self, mut blocks: mpsc::Receiver<Synced>) -> Result<(), LakeError> {
        let mut lookup: Option<Lookup> = None;
        let mut open = true;
        while open || lookup.is_some() || !self.waiting.is_empty() {
            if lookup.is_none() && !self.waiting.is_empty() {
                lookup = Some(self.look_up(Duration::ZERO));
            }
            tokio::select! {
                verdicts = async { lookup.as_mut().expect("guarded").await }, if lookup.is_some() => {
                    let decided = self.take_verdicts(verdicts)?;
                    lookup = (!decided).then(|| self.look_up(RETRY));
                }
                block = blocks.recv(), if open && self.waiting.len() < UNDECIDED_MAX => match block {
                    Some(block) => {
                        self.tail.room().await;
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
        let mut gathered = Gathered::default();
        for (position, record) in block.records() {
            if position > self.accepted_through {
                self.accept_record(&known.domains, position, &record, &mut gathered);
            }
        }
        self.accepted_through = self.accepted_through.max(block.last());
        self.put(gathered)?;
        self.tell_decided();
        Ok(())
    }

    fn accept_record(
        &mut self,
        domains: &Domains,
        position: Position,
        record: &Record<'_>,
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
                    ..letter.whole(Reason::TooLarge, detail, kept)
                };
                return self.reject(into, letter);
            }
            (Payload::Whole(payload), None) => {
                let detail = "the topic is not city/v1/{tenant}/{domain}/{device}".to_owned();
                return self.reject(into, letter.whole(Reason::Topic, detail, payload));
            }
            (Payload::Whole(payload), Some(_)) => payload,
        };
        let topic = topic.expect("matched above");
        let Some(domain) = domains.get(topic.domain) else {
            let detail =
                format!("there is no schema for domain `{}`: give its .avsc file to --schemas", topic.domain);
            return self.reject(into, letter.whole(Reason::UnknownDomain, detail, payload));
        };
        for reading in readings(domain, payload, record.received_at_us) {
            match reading {
                Ok(reading) => self.accept_reading(domain, topic, position, record, &reading, into),
                Err(rejected) => self.reject(into, letter.of(rejected)),
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
        let label = of(topic.domain);
        if !reading.timed {
            self.metrics.untimed.get_or_create(&label).inc();
        }
        if matches!(&reading.content, Content::Json { extra: Some(_), .. }) {
            self.metrics.extra.get_or_create(&label).inc();
        }
        let watermark = self.watermarks.of(topic.domain, topic.tenant, topic.device);
        if watermark.is_some_and(|watermark| reading.time_us <= watermark) {
            self.metrics.late.get_or_create(&label).inc();
            self.metrics.undecided.inc();
            self.waiting.push(Late::new(domain, topic, position, record, reading));
            return;
        }
        if self.is_committed(topic.domain, position) {
            // It was refused when it came, and its schema has been mended since: its dead letter is kept.
            return;
        }
        self.watermarks.raise(topic.domain, topic.tenant, topic.device, reading.time_us);
        let origin =
            Origin { tenant: topic.tenant, device: topic.device, received_at_us: record.received_at_us };
        into.row(domain, origin, reading, position);
        self.metrics.accepted.get_or_create(&label).inc();
    }

    fn is_committed(&self, table: &str, position: Position) -> bool {
        self.committed_through.get(table).is_some_and(|through| position <= *through)
    }

    fn reject(&self, into: &mut Gathered, letter: DeadLetter) {
        // A dead letter's identity is its position.
        if !self.is_committed(dead_letter::TABLE, letter.position as Position) {
            self.metrics.rejected.get_or_create(&because(letter.reason)).inc();
            into.letters.push(letter);
        }
    }

    fn put(&self, gathered: Gathered) -> Result<(), LakeError> {
        for ((domain, _), (mut builder, positions)) in gathered.builders {
            self.tail.append(&domain, builder.finish()?, positions)?;
        }
        let positions = gathered.letters.iter().map(|letter| letter.position as Position).collect();
        self.tail.append(dead_letter::TABLE, dead_letter::to_batch(&gathered.letters)?, positions)
    }

    /// Tells the tail which prefix of each table is decided. A late reading may yet become a row of its
    /// domain's table or a dead letter, so it holds back both.
    fn tell_decided(&self) {
        let mut undecided = self.deciding.clone();
        for late in &self.waiting {
            late::lower(&mut undecided, late.domain.name(), late.position);
        }
        if let Some(first) = undecided.values().min().copied() {
            undecided.insert(dead_letter::TABLE.to_owned(), first);
        }
        self.tail.decided(self.accepted_through, &undecided);
    }

    /// How many late readings wait for a look-up.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Begins to decide all that waits; [`Acceptor::take_verdicts`] must follow before the next.
    pub fn look_up(&mut self, after: Duration) -> Lookup {
        let waiting = std::mem::take(&mut self.waiting);
        self.deciding.clear();
        for late in &waiting {
            late::lower(&mut self.deciding, late.domain.name(), late.position);
        }
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
            Err(Undecided { mut readings, error }) => {
                tracing::warn!(%error, readings = readings.len(), "late readings wait: the lake does not answer");
                readings.append(&mut self.waiting);
                self.waiting = readings;
                return Ok(false);
            }
        };
        self.deciding.clear();
        let mut gathered = Gathered::default();
        self.metrics
            .undecided
            .dec_by((verdicts.new.len() + verdicts.repeats.len() + verdicts.conflicts.len()) as i64);
        for late in verdicts.new {
            if self.is_committed(late.domain.name(), late.position) {
                continue;
            }
            self.metrics.accepted.get_or_create(&of(late.domain.name())).inc();
            gathered.row(&late.domain, late.origin(), &late.reading(), late.position);
        }
        for late in verdicts.repeats {
            if self.is_committed(late.domain.name(), late.position) {
                continue;
            }
            self.metrics.repeated.get_or_create(&of(late.domain.name())).inc();
        }
        for late in verdicts.conflicts {
            self.reject(&mut gathered, late.conflict(&self.source));
        }
        self.put(gathered)?;
        self.tell_decided();
        Ok(true)
    }
}

impl Gathered {
    fn row(&mut self, domain: &Arc<Domain>, origin: Origin<'_>, reading: &Reading<'_>, position: Position) {
        let entry = self.builders.entry((domain.name().to_owned(), domain.versions().len()));
        let (builder, positions) = entry.or_insert_with(|| (Builder::new(domain.clone()), Vec::new()));
        builder.push(origin, reading);
        positions.push(position);
    }
}

/// What a dead letter takes from the record it stands in.
struct Letter<'a> {
    source: Arc<str>,
    position: Position,
    record: &'a Record<'a>,
}

impl Letter<'_> {
    fn whole(&self, reason: Reason, detail: String, bytes: &[u8]) -> DeadLetter {
        self.of(Rejected { index: 0, reason, detail, bytes })
    }

    fn of(&self, rejected: Rejected<'_>) -> DeadLetter {
        let named = Topic::parse(self.record.topic).map(|topic| topic.tenant);
        DeadLetter {
            tenant: self.record.tenant.or(named).map(str::to_owned),
            topic: self.record.topic.to_owned(),
            received_at_us: self.record.received_at_us,
            reason: rejected.reason,
            detail: rejected.detail,
            payload: rejected.bytes.to_vec(),
            payload_bytes: rejected.bytes.len() as i64,
            source: self.source.to_string(),
            position: self.position as i64,
            index: rejected.index.into(),
        }
    }
}

#[cfg(test)]
mod tests;
