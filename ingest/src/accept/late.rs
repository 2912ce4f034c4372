//! Late readings: at or before their device's watermark, so only a comparison tells whether they are new.
//!
//! They are decided in batches and in journal order: the tail is asked first, then a snapshot that reaches
//! at least as far as the tail had released at that moment, one scan of key columns for each table. So a
//! reading that is in either is found, whatever commits meanwhile.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    row::{OwnedRow, RowConverter, SortField},
};
use zeugma_journal::Record;
use zeugma_lake::{
    Error, Position, Snapshot, Table,
    find::{self, Key},
    gone::Subject,
    layout,
};
use zeugma_schemas::{
    batch::{Builder, Origin},
    dead_letter::{DeadLetter, Reason},
    domain::Domain,
    payload::{Content, Reading},
    topic::Topic,
};

use super::{Tables, Tail};

/// A late reading, with all that its decision needs.
#[derive(Debug, Clone)]
pub struct Late {
    pub(super) domain: Arc<Domain>,
    pub(super) position: Position,
    key: Key,
    topic: String,
    session_tenant: Option<String>,
    received_at_us: i64,
    index: u32,
    timed: bool,
    bytes: Vec<u8>,
    content: Content,
}

/// What became of late readings, each in journal order.
#[derive(Debug, Default)]
pub struct Verdicts {
    pub(super) new: Vec<Late>,
    pub(super) repeats: Vec<Late>,
    pub(super) conflicts: Vec<Late>,
}

/// Late readings that could not be decided, and why.
#[derive(Debug)]
pub struct Undecided {
    pub(super) readings: Vec<Late>,
    pub(super) error: Error,
}

impl Late {
    pub(super) fn new(
        domain: &Arc<Domain>,
        topic: Topic<'_>,
        position: Position,
        record: &Record<'_>,
        reading: &Reading<'_>,
    ) -> Late {
        Late {
            domain: domain.clone(),
            position,
            key: Key {
                tenant: topic.tenant.to_owned(),
                device: topic.device.to_owned(),
                time_us: reading.time_us,
            },
            topic: record.topic.to_owned(),
            session_tenant: record.tenant.map(str::to_owned),
            received_at_us: record.received_at_us,
            index: reading.index,
            timed: reading.timed,
            bytes: reading.bytes.to_vec(),
            content: reading.content.clone(),
        }
    }

    pub(super) fn origin(&self) -> Origin<'_> {
        Origin { tenant: &self.key.tenant, device: &self.key.device, received_at_us: self.received_at_us }
    }

    pub(super) fn reading(&self) -> Reading<'_> {
        Reading {
            index: self.index,
            time_us: self.key.time_us,
            timed: self.timed,
            bytes: &self.bytes,
            content: self.content.clone(),
        }
    }

    pub(super) fn is_of(&self, subject: &Subject) -> bool {
        Topic::parse(&self.topic).is_some_and(|topic| subject.has(&topic))
    }

    pub(super) fn conflict(&self, source: &str) -> DeadLetter {
        let detail = "another reading of this device with this time, but other fields, came first";
        self.letter(source, Reason::Conflict, detail)
    }

    /// A reading that was refused when it came, as its table went on without it, and whose schema has been
    /// mended before its dead letter was committed.
    pub(super) fn missed(&self, source: &str) -> DeadLetter {
        let detail = "it was refused before a restart, and fits its schema since: replay it";
        self.letter(source, Reason::Content, detail)
    }

    fn letter(&self, source: &str, reason: Reason, detail: &str) -> DeadLetter {
        DeadLetter {
            tenant: Some(self.session_tenant.clone().unwrap_or_else(|| self.key.tenant.clone())),
            topic: self.topic.clone(),
            received_at_us: self.received_at_us,
            reason,
            detail: detail.to_owned(),
            payload: self.bytes.clone(),
            payload_bytes: self.bytes.len() as i64,
            source: source.to_owned(),
            position: self.position as i64,
            index: self.index.into(),
        }
    }
}

/// Decides late readings; on an error gives all of them back.
pub(super) async fn decide(readings: Vec<Late>, tail: &Tail, tables: &Tables) -> Result<Verdicts, Undecided> {
    let mut by_domain: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, late) in readings.iter().enumerate() {
        by_domain.entry(late.domain.name().to_owned()).or_default().push(index);
    }
    let mut outcomes = vec![Outcome::New; readings.len()];
    for (domain, indexes) in by_domain {
        let of_domain: Vec<&Late> = indexes.iter().map(|index| &readings[*index]).collect();
        match decide_domain(&of_domain, &domain, tail, tables).await {
            Ok(decided) => {
                indexes.into_iter().zip(decided).for_each(|(index, outcome)| outcomes[index] = outcome)
            }
            Err(error) => return Err(Undecided { readings, error }),
        }
    }
    let mut verdicts = Verdicts::default();
    for (late, outcome) in readings.into_iter().zip(outcomes) {
        match outcome {
            Outcome::New => verdicts.new.push(late),
            Outcome::Repeat => verdicts.repeats.push(late),
            Outcome::Conflict => verdicts.conflicts.push(late),
        }
    }
    Ok(verdicts)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    New,
    Repeat,
    Conflict,
}

async fn decide_domain(
    readings: &[&Late],
    domain: &str,
    tail: &Tail,
    tables: &Tables,
) -> Result<Vec<Outcome>, Error> {
    let table = tables.get(domain).ok_or_else(|| Error::NoTable { table: domain.to_owned() })?;
    // A schema may have come since some of them were taken up: the newest columns hold the others.
    let columns = readings
        .iter()
        .map(|late| late.domain.columns())
        .max_by_key(|columns| columns.fields().len())
        .cloned()
        .ok_or_else(|| Error::Internal("nothing to decide".into()))?;
    let fields = Fields::of(&columns)?;
    let mut first: HashMap<Key, OwnedRow> = HashMap::new();
    for rows in existing(readings, domain, tail, table, &columns).await? {
        let rows = layout::conform(&rows, &columns)?;
        for (key, row) in find::keys(&rows)?.into_iter().zip(fields.rows(&rows)?) {
            first.entry(key).or_insert(row);
        }
    }
    let mut outcomes = Vec::with_capacity(readings.len());
    for (late, row) in readings.iter().zip(decoded(readings, &columns, &fields)?) {
        outcomes.push(match first.get(&late.key) {
            Some(known) if *known == row => Outcome::Repeat,
            Some(_) => Outcome::Conflict,
            None => {
                first.insert(late.key.clone(), row);
                Outcome::New
            }
        });
    }
    Ok(outcomes)
}

/// Rows of tail and lake that have the identity of one of these readings.
async fn existing(
    readings: &[&Late],
    domain: &str,
    tail: &Tail,
    table: &Table,
    columns: &SchemaRef,
) -> Result<Vec<RecordBatch>, Error> {
    let mut missing: HashSet<Key> = readings.iter().map(|late| late.key.clone()).collect();
    let found = tail.find(domain, &Arc::new(missing.iter().cloned().collect())).await?;
    let mut rows = found.rows;
    for found in &rows {
        for key in find::keys(found)? {
            missing.remove(&key);
        }
    }
    if missing.is_empty() {
        return Ok(rows);
    }
    let snapshot = reaching(table, tail.source(), found.released_through).await?;
    rows.extend(table.find(&snapshot, columns, &Arc::new(missing.into_iter().collect())).await?);
    Ok(rows)
}

/// A snapshot that holds everything of a source through a position.
async fn reaching(table: &Table, source: &str, through: Position) -> Result<Arc<Snapshot>, Error> {
    if let Some(known) = table.known().filter(|known| known.committed_through(source) >= through) {
        return Ok(known);
    }
    let snapshot = table.load().await?;
    let committed_through = snapshot.committed_through(source);
    if committed_through < through {
        return Err(Error::Behind {
            table: table.name().to_owned(),
            committed_through,
            released_through: through,
        });
    }
    Ok(snapshot)
}

/// The readings' own fields, decoded, in their order.
fn decoded(readings: &[&Late], columns: &SchemaRef, fields: &Fields) -> Result<Vec<OwnedRow>, Error> {
    let mut rows = Vec::with_capacity(readings.len());
    for of_version in readings.chunk_by(|one, other| Arc::ptr_eq(&one.domain, &other.domain)) {
        let mut builder = Builder::new(of_version[0].domain.clone());
        of_version.iter().for_each(|late| builder.push(late.origin(), &late.reading()));
        rows.extend(fields.rows(&layout::conform(&builder.finish()?, columns)?)?);
    }
    Ok(rows)
}

/// The columns that make two readings of one identity equal: all but when they arrived.
struct Fields {
    places: Vec<usize>,
    converter: RowConverter,
}

impl Fields {
    fn of(columns: &SchemaRef) -> Result<Fields, Error> {
        let places: Vec<usize> = (0..columns.fields().len())
            .filter(|place| columns.field(*place).name() != "received_at")
            .collect();
        let types = places.iter().map(|place| SortField::new(columns.field(*place).data_type().clone()));
        let converter = RowConverter::new(types.collect())?;
        Ok(Fields { places, converter })
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Vec<OwnedRow>, Error> {
        let columns: Vec<_> = self.places.iter().map(|place| batch.column(*place).clone()).collect();
        let rows = self.converter.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| row.owned()).collect())
    }
}
